# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What ends the service: SIGTERM, SIGINT, or the service itself."""

from __future__ import annotations

import signal
import socket
from contextlib import suppress
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """A context manager, in the main thread: while it is open, signals set it. A second SIGINT ends at once, as people expect.

    Not a threading.Event: after SIGCONT the kernel may give a signal to any thread, and the main one, which runs the handlers, would
    sleep on in `Event.wait`. It reads a socket, into which Python writes for whichever thread a signal comes to.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)

    def __enter__(self) -> Stop:
        self._fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._handlers = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd)
        self._reader.close()
        self._writer.close()

    def set(self) -> None:
        """End `wait`; from any thread."""
        self._is_set = True
        with suppress(OSError):  # full of what wakes, or closed by now
            self._writer.send(b"\0")

    def wait(self) -> None:
        """Returns once it is set."""
        while not self._is_set:
            self._reader.recv(64)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_set and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.set()
