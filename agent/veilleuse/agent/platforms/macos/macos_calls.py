# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What the agent asks of macOS: one table of calls, so that all the rest is plain bytes and runs anywhere.

`MacosCalls` in macos_ctypes.py is the real one; tests/fakes/macos.py holds another that answers with written bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

CAN_SLEEP: Final = 0xE0000270
"""kIOMessageCanSystemSleep: may the machine sleep, nobody having used it?"""
WILL_SLEEP: Final = 0xE0000280
"""kIOMessageSystemWillSleep: it is about to. Source: IOKit/IOMessage.h, 0xE0000000 being IOKit's own messages."""


class CallFailed(Exception):
    """One call did not succeed. Translated at once by whoever asked."""


class Calls(Protocol):
    """All of them raise CallFailed."""

    def sysctl(self, name: str) -> bytes:
        """The value as the kernel keeps it: a text with its NUL, or a number in the order of bytes of the machine."""

    def host_uuid(self) -> str:
        """The hardware's UUID, `8-4-4-4-12` in upper case. Stays on the machine: it tells a copy, and names a file."""

    def on_power_event(self, told: Callable[[int], None]) -> Callable[[], None]:
        """Call `told` with each message of the root power domain, in a thread of the system's.

        What wants an answer is answered with yes when `told` comes back, whatever happened in it. Gives what ends it.
        """


def text(calls: Calls, name: str) -> str:
    """A text of sysctl's; empty where there is none."""
    try:
        return calls.sysctl(name).partition(b"\0")[0].decode("utf-8", "replace").strip()
    except CallFailed:
        return ""


def number(calls: Calls, name: str) -> int | None:
    """A number of sysctl's, of 4 or 8 bytes (Macs are little-endian); None where there is none."""
    try:
        value = calls.sysctl(name)
    except CallFailed:
        return None
    return int.from_bytes(value, "little", signed=True) if len(value) in (4, 8) else None
