# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Effect of Ctrl-C on a process that still imports its modules. It imports next to nothing.

Before its import, Ctrl-C shows a traceback.
"""

from __future__ import annotations

import os
import signal

EXIT_INTERRUPTED = 130


def end_on_interrupt() -> None:
    """Let Ctrl-C end the process at once and silently; Python's handler would raise KeyboardInterrupt.

    A parent may have blocked it until now, as `make run` does.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def raise_on_interrupt() -> bool:
    """Let Ctrl-C raise KeyboardInterrupt again, so that a command can clean up.

    Return whether it ended the process.
    """
    if signal.getsignal(signal.SIGINT) is not _end:
        return False
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return True


def _end(*_: object) -> None:
    os._exit(EXIT_INTERRUPTED)
