# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What Ctrl-C does to a process that still imports its modules. Imports next to nothing: until it has, a traceback is shown."""

from __future__ import annotations

import os
import signal

EXIT_INTERRUPTED = 130


def end_on_interrupt() -> None:
    """Let Ctrl-C end the process at once and in silence, where Python's own handler would raise KeyboardInterrupt."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def raise_on_interrupt() -> bool:
    """Let Ctrl-C raise KeyboardInterrupt again, so that a command puts its things in order; whether it did end the process."""
    if signal.getsignal(signal.SIGINT) is not _end:
        return False
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return True


def _end(*_: object) -> None:
    os._exit(EXIT_INTERRUPTED)
