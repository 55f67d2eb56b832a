# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`python -m veilleuse.collector.grid`: one poll of what is due, beside `veilleuse serve`, which starts it. Exit codes 0, 1, 2, 3.

A process of its own: whatever an answer from outside is like, it delays no acknowledgement and takes no memory of the collector's.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import time
from functools import partial
from typing import Final

from veilleuse.collector.grid.poll import LedgerBeside, due, enabled, poll
from veilleuse.collector.ipc.unix_socket import ask
from veilleuse.collector.logs import configure
from veilleuse.collector.settings import CollectorSettings, read_settings
from veilleuse.wire.process import finish
from veilleuse.wire.units import NANOSECONDS_PER_MILLISECOND

log = logging.getLogger("veilleuse.collector.grid")

_NICE: Final = 10
_ASK_SECONDS: Final = 60.0
EXIT_WARNINGS: Final = 3


def main() -> int:
    """0 = done, or nothing is due; 3 = a connector failed; 1 = the collector could not be asked; 2 = wrong configuration."""
    return finish("veilleuse intensity", _main)


def _main() -> int:
    settings = read_settings(None)
    configure(settings)
    os.nice(_NICE)
    return _poll(settings)


def _poll(settings: CollectorSettings) -> int:
    ledger = LedgerBeside(partial(ask, settings.data_dir, timeout_seconds=_ASK_SECONDS))
    known = {state.connector: state for state in ledger.polls()}
    minutes = settings.intensity.poll_minutes
    wanted = [
        name
        for name in enabled(settings.intensity)
        if due(known.get(name), name, minutes, _now(), random.random())  # no secret: it spreads collectors
    ]
    failed = 0
    for done in poll(settings.intensity, ledger, wanted, _now):
        failed += done.outcome != "done"
        log.info(
            "intensity polled",
            extra={
                "connector": done.connector,
                "outcome": done.outcome,
                "new": done.stored.new,
                "replacing": done.stored.replacing,
                "missing": done.left["missing"],
            },
        )
    return EXIT_WARNINGS if failed else 0


def _now() -> int:
    return time.time_ns() // NANOSECONDS_PER_MILLISECOND


if __name__ == "__main__":
    sys.exit(main())
