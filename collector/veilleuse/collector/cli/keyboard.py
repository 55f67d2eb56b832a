# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads single keys of a terminal, and notices when its size changes."""

from __future__ import annotations

import codecs
import os
import re
import select
import signal
import sys
import termios
import tty
from contextlib import suppress
from types import FrameType
from typing import Any, Final, Self

UP, DOWN, PAGE_UP, PAGE_DOWN, HOME, END = "up", "down", "page up", "page down", "home", "end"
ENTER, ESCAPE, BACKSPACE, SUSPEND = "enter", "escape", "backspace", "suspend"
"""Names of keys; another key is its character."""
_SEQUENCES: Final = {
    "\x1b[A": UP,
    "\x1bOA": UP,
    "\x1b[B": DOWN,
    "\x1bOB": DOWN,
    "\x1b[5~": PAGE_UP,
    "\x1b[6~": PAGE_DOWN,
    "\x1b[H": HOME,
    "\x1bOH": HOME,
    "\x1b[1~": HOME,
    "\x1b[F": END,
    "\x1bOF": END,
    "\x1b[4~": END,
    "\r": ENTER,
    "\n": ENTER,
    "\x1b": ESCAPE,
    "\x7f": BACKSPACE,
    "\x08": BACKSPACE,
}
"""Source: xterm's control sequences, and those of Linux's console."""
_KEY: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Z]|.", re.DOTALL)
_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


class Keyboard:
    """Gives the keys of standard input one by one, without echo, while the block runs.

    The terminal is as before after the block, also after an error, Ctrl-C, SIGTERM and SIGHUP. Without a
    terminal no key comes, and `wait` only waits.
    """

    def __enter__(self) -> Self:
        """Take the terminal and the signals."""
        self._input = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup_before = signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        self._handlers_before: dict[int, Any] = {
            number: signal.signal(number, handler)
            for number, handler in (
                (signal.SIGWINCH, _do_nothing),
                (signal.SIGTSTP, _do_nothing),
                *((number, _end) for number in _ENDING),
            )
        }
        self._before = termios.tcgetattr(self._input) if self._input is not None else None
        self._take()
        return self

    def __exit__(self, *_: object) -> None:
        """Give everything back."""
        self._give_back()
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._woken)
        os.close(self._waker)

    def wait(self, seconds: float) -> list[str]:
        """Wait for keys; return none of them when the time is over or the terminal has another size."""
        inputs = [self._woken] + ([self._input] if self._input is not None else [])
        ready, _, _ = select.select(inputs, [], [], max(0.0, seconds))
        keys: list[str] = []
        if self._woken in ready:
            with suppress(BlockingIOError):
                keys += [SUSPEND] * (signal.SIGTSTP in os.read(self._woken, 1024))
        if self._input in ready and self._input is not None:
            received = os.read(self._input, 1024)
            if not received:
                self._input = None  # the terminal is gone
            keys += [_SEQUENCES.get(key, key) for key in _KEY.findall(self._decoder.decode(received))]
        return keys

    def suspend(self) -> None:
        """Stop this process, as Ctrl-Z does, with the terminal as before; return when it goes on."""
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()

    def _take(self) -> None:
        if self._input is not None:
            tty.setcbreak(self._input)

    def _give_back(self) -> None:
        if self._input is not None and self._before is not None:
            with suppress(termios.error):  # the terminal may be gone
                termios.tcsetattr(self._input, termios.TCSADRAIN, self._before)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """Let the signal wake `wait`."""


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
