# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Fake the table of macOS calls (MacosCallTable): values as the kernel stores them, and power messages that a
test sends."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from veilleuse.agent.platforms.macos import MacosCallError

HOST_UUID = "564D7A1B-0C2D-4E3F-8A9B-CDEF01234567"


def kept(value: str | int) -> bytes:
    """Return the kernel's bytes: a text with its NUL; a number in 4 bytes, or in 8 if it is too large."""
    if isinstance(value, str):
        return value.encode() + b"\0"
    return value.to_bytes(4 if value < 2**31 else 8, "little", signed=True)


class FakeMacos:
    """Implements `MacosCallTable` of platforms/macos/api.py."""

    def __init__(self, values: Mapping[str, str | int] | None = None, host_uuid: str = HOST_UUID) -> None:
        self.values = {name: kept(value) for name, value in (values or {}).items()}
        self._host_uuid = host_uuid
        self.refuses_events = False
        self.told: Callable[[int], None] | None = None

    def sysctl(self, name: str) -> bytes:
        """Return a value. Raises MacosCallError for an unknown name."""
        if name not in self.values:
            raise MacosCallError(f"sysctl {name}: error 2")
        return self.values[name]

    def host_uuid(self) -> str:
        """Return the host's UUID. Raises MacosCallError if it has none."""
        if not self._host_uuid:
            raise MacosCallError("gethostuuid: error 35")
        return self._host_uuid

    def on_power_event(self, callback: Callable[[int], None]) -> Callable[[], None]:
        """Keep `callback` as `told`, for the test to call; the returned function removes it."""
        if self.refuses_events:
            raise MacosCallError("IORegisterForSystemPower gives no connection")
        self.told = callback

        def undo() -> None:
            self.told = None

        return undo
