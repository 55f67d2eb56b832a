# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A fake table of macOS calls (macos_calls.Calls): values as the kernel keeps them, power messages that a
test sends."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from veilleuse.agent.platforms.macos import MacosCallError

HOST_UUID = "564D7A1B-0C2D-4E3F-8A9B-CDEF01234567"


def kept(value: str | int) -> bytes:
    """A text with its NUL; a number in 4 bytes, or in 8 where it takes them."""
    if isinstance(value, str):
        return value.encode() + b"\0"
    return value.to_bytes(4 if value < 2**31 else 8, "little", signed=True)


class FakeMacos:
    """`macos_calls.Calls`."""

    def __init__(self, values: Mapping[str, str | int] | None = None, host_uuid: str = HOST_UUID) -> None:
        self.values = {name: kept(value) for name, value in (values or {}).items()}
        self._host_uuid = host_uuid
        self.refuses_events = False
        self.told: Callable[[int], None] | None = None

    def sysctl(self, name: str) -> bytes:
        """Raises CallFailed on a name that is not there."""
        if name not in self.values:
            raise MacosCallError(f"sysctl {name}: error 2")
        return self.values[name]

    def host_uuid(self) -> str:
        """Raises CallFailed when there is none."""
        if not self._host_uuid:
            raise MacosCallError("gethostuuid: error 35")
        return self._host_uuid

    def on_power_event(self, callback: Callable[[int], None]) -> Callable[[], None]:
        """`callback` gets what a test sends, until it is undone."""
        if self.refuses_events:
            raise MacosCallError("IORegisterForSystemPower gives no connection")
        self.told = callback

        def undo() -> None:
            self.told = None

        return undo
