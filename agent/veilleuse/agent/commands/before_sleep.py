# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse-agent before-sleep`: makes the service write its sign of life before the machine sleeps.

For deploy/systemd/veilleuse-agent-sleep.service: it signals the running service and waits until it has
written, for a limited time. It cannot stop the machine from sleeping. docs/states.md.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from veilleuse.agent.errors import SpoolError
from veilleuse.agent.platforms import here, instant_now
from veilleuse.agent.platforms.locks import RUN_LOCK, lock_holder
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.resident.state import WHY_SUSPEND, LastSign
from veilleuse.agent.settings import AgentSettings
from veilleuse.agent.spool.database import FILE_NAME, open_read_only

DEFAULT_TIMEOUT_SECONDS: Final = 3.0
"""Longest wait. A step and a durable write take some tens of milliseconds, seconds on a slow disk."""
_LONGEST_TIMEOUT_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.02


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --timeout."""
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=DEFAULT_TIMEOUT_SECONDS,
        metavar="SECONDS",
        help=f"longest wait until it is written (default: {DEFAULT_TIMEOUT_SECONDS:g})",
    )


def run(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    """Return 0 when the sign is written or no service runs;

    1 after the timeout, when the machine sleeps anyway.
    """
    asked = instant_now()
    number = lock_holder(settings.paths.state, RUN_LOCK)
    if number is None:
        print("no service runs here: nothing to write")
        return 0
    try:
        here.tell_sleep_ahead(number)
    except OSError as error:
        print(f"veilleuse-agent: cannot signal process {number}: {error.strerror}", file=sys.stderr)
        return 1
    path = settings.paths.state / FILE_NAME
    until = time.monotonic() + parsed.timeout
    while not _is_written(path, asked.boottime_milliseconds):
        if time.monotonic() >= until:
            print(f"veilleuse-agent: not written within {parsed.timeout:g} s", file=sys.stderr)
            return 1
        time.sleep(_POLL_SECONDS)
    return 0


def _is_written(path: Path, since_boottime_milliseconds: int) -> bool:
    """Return True when the sign of life has the reason suspend and is recent enough."""
    try:
        with closing(open_read_only(path, 0.2)) as db:
            row = db.execute("SELECT value FROM control WHERE key = ?", (ControlKey.LAST_SIGN,)).fetchone()
        sign = LastSign.from_json("" if row is None else str(row[0]))
    except (sqlite3.Error, SpoolError, ValueError):
        return False  # being written, or damaged: the timeout limits the wait
    return sign.why == WHY_SUSPEND and sign.instant.boottime_milliseconds >= since_boottime_milliseconds


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= _LONGEST_TIMEOUT_SECONDS:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {_LONGEST_TIMEOUT_SECONDS:g}")
    return value
