# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""One resident and one sender per state directory: two advisory locks, released when their process ends."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from veilleuse.agent.errors import AgentError, AlreadyRunning
from veilleuse.agent.platforms import here
from veilleuse.wire.files import read_owned

POLL_LOCK: Final = "poll.lock"

RUN_LOCK: Final = "run.lock"
SEND_LOCK: Final = "send.lock"


class ProcessLock:
    """Lock on a file of the state directory, held until `release` or the end of the process."""

    def __init__(self, state: Path, name: str, *, what: str) -> None:
        """Take the lock. `what` names the process in the message, e.g. `veilleuse-agent run`.

        Raises AlreadyRunning when another process holds it, AgentError when the file cannot be written.
        """
        self.path = state / name
        try:
            self._descriptor = here.lock(self.path)
        except BlockingIOError as error:
            raise AlreadyRunning(
                f"{what} is already running here (process {_text(self.path) or 'unknown'} holds "
                f"{self.path}): "
                "stop it first, or give this one another paths.state"
            ) from error
        except OSError as error:
            raise AgentError(
                f"cannot write {self.path}: {error.strerror}; check that paths.state exists and belongs to "
                "the agent"
            ) from error
        with suppress(OSError):  # on a full disk only the process number is missing
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, f"{os.getpid()}\n".encode("ascii"))

    def release(self) -> None:
        """Release the lock; may be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> ProcessLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def lock_holder(state: Path, name: str) -> int | None:
    """Return the number of the last process that took the lock; None if there is none, or it has ended.

    The lock itself is not tried: holding it for a moment could stop a service that is just starting.
    """
    try:
        number = int(_text(state / name))
    except ValueError:
        return None
    return number if here.is_running(number) else None


def _text(path: Path) -> str:
    """Return the text of the lock file; empty when it cannot be read."""
    try:
        return read_owned(path, 4096).decode("ascii", "replace").strip()
    except OSError:
        return ""
