# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Runs one poll of the connectors that are due: `python -m veilleuse.collector.grid`. Exit codes 0, 1, 2, 3.

`veilleuse serve` starts it in its own process, so that no outside answer delays an acknowledgement or uses
the collector's memory.
"""

from __future__ import annotations

import logging
import random
import sys
from functools import partial
from typing import Final

from veilleuse.collector import clock
from veilleuse.collector.grid.poll import RemoteLedger, enabled_connectors, is_due, poll
from veilleuse.collector.ipc import ask
from veilleuse.collector.logs import configure
from veilleuse.collector.settings import CollectorSettings, read_settings
from veilleuse.wire.process import finish, lower_priority

log = logging.getLogger("veilleuse.collector.grid")

_NICE: Final = 10
_ASK_SECONDS: Final = 60.0
EXIT_WARNINGS: Final = 3


def main() -> int:
    """Return 0 = done, or nothing is due; 3 = a connector failed; 1 = the collector did not answer.

    2 = wrong configuration.
    """
    return finish("veilleuse intensity", _main)


def _main() -> int:
    settings = read_settings(None)
    configure(settings)
    lower_priority(_NICE)
    return _poll(settings)


def _poll(settings: CollectorSettings) -> int:
    ledger = RemoteLedger(partial(ask, settings.data_dir, timeout_seconds=_ASK_SECONDS))
    known = {state.connector: state for state in ledger.polls()}
    minutes = settings.intensity.poll_minutes
    wanted = [
        name
        for name in enabled_connectors(settings.intensity)
        # not for security: spreads the polls of collectors
        if is_due(known.get(name), name, minutes, clock.unix_milliseconds(), random.random())
    ]
    failed = 0
    for done in poll(settings.intensity, ledger, wanted, clock.unix_milliseconds):
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


if __name__ == "__main__":
    sys.exit(main())
