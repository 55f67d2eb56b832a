# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Table of the macOS calls, through ctypes only. Never run on a Mac: docs/macos.md.

Imported on macOS only. Sources: sysctlbyname(3); gethostuuid(2); dispatch_queue_create(3); Apple's
documentation of IORegisterForSystemPower, IOAllowPowerChange, IODeregisterForSystemPower and
IONotificationPortSetDispatchQueue.
"""

from __future__ import annotations

import ctypes
import uuid
from collections.abc import Callable
from ctypes import byref, c_char_p, c_int, c_long, c_size_t, c_uint32, c_void_p
from typing import Any, Final, Protocol

CAN_SLEEP: Final = 0xE0000270
"""kIOMessageCanSystemSleep: asks whether the idle machine may sleep."""
WILL_SLEEP: Final = 0xE0000280
"""kIOMessageSystemWillSleep: the machine is about to sleep.

Source: IOKit/IOMessage.h; 0xE0000000 is the base of IOKit's own messages.
"""


class MacosCallError(Exception):
    """Reports one failed call; the caller translates it at once."""


class MacosCallTable(Protocol):
    """Calls of macOS. Each raises MacosCallError."""

    def sysctl(self, name: str) -> bytes:
        """Return the raw value from the kernel: a text with its NUL, or a number in native byte order."""

    def host_uuid(self) -> str:
        """Return the UUID of the hardware, `8-4-4-4-12` in upper case.

        It stays on the machine: it detects a clone, and names a file.
        """

    def on_power_event(self, callback: Callable[[int], None]) -> Callable[[], None]:
        """Call `callback` with each message of the root power domain, in a thread of the system.

        A message that needs an answer is allowed when `callback` returns, even after an exception. Returns a
        function that ends the calls.
        """


def text(calls: MacosCallTable, name: str) -> str:
    """Return a text value of sysctl; empty where there is none."""
    try:
        return calls.sysctl(name).partition(b"\0")[0].decode("utf-8", "replace").strip()
    except MacosCallError:
        return ""


def number(calls: MacosCallTable, name: str) -> int | None:
    """Return a number of sysctl, 4 or 8 bytes (Macs are little-endian); None where there is none."""
    try:
        value = calls.sysctl(name)
    except MacosCallError:
        return None
    return int.from_bytes(value, "little", signed=True) if len(value) in (4, 8) else None


SYSTEM: Final = "/usr/lib/libSystem.B.dylib"
IOKIT: Final = "/System/Library/Frameworks/IOKit.framework/IOKit"
"""Library names. Since macOS 11 they lie in the loader's cache, not on disk, but load by these names."""
_LARGEST_BYTES: Final = 4_096
_TRIES: Final = 3
"""Number of attempts: a text may grow between the call for its size and the call for the text."""
_UUID_WAIT_SECONDS: Final = 5
_ANSWERED: Final = (CAN_SLEEP, WILL_SLEEP)
"""Messages that MUST be answered, else the sleep waits for 30 s; no others. Source: Apple."""
_QUEUE: Final = b"fr.grandlyon.veilleuse-agent.power"
_called_back: Final[list[object]] = []
"""Callbacks of the system. They must never be garbage-collected: that would crash the process."""
_INTEREST: Final = ctypes.CFUNCTYPE(None, c_void_p, c_uint32, c_uint32, c_void_p)
"""IOServiceInterestCallback(our pointer, service, message, its argument)."""


class _Timespec(ctypes.Structure):
    """struct timespec of a 64-bit process."""

    _fields_ = (("seconds", c_long), ("nanoseconds", c_long))


class MacosCalls:
    """Implements `MacosCallTable` on the running system."""

    def __init__(self) -> None:
        self._libraries: dict[str, Any] = {}

    def _function(self, library: str, name: str, *arguments: object, result: object = c_int) -> Any:
        """Return a function; its library is loaded once. Raises MacosCallError where it is missing."""
        try:
            if library not in self._libraries:
                self._libraries[library] = ctypes.CDLL(library, use_errno=True)
            function = getattr(self._libraries[library], name)
        except (OSError, AttributeError) as error:
            raise MacosCallError(f"there is no {name} in {library}") from error
        function.argtypes, function.restype = arguments, result
        return function

    def sysctl(self, name: str) -> bytes:
        """See MacosCallTable."""
        ask = self._function(SYSTEM, "sysctlbyname", c_char_p, c_void_p, c_void_p, c_void_p, c_size_t)
        size = c_size_t()
        for _ in range(_TRIES):
            if ask(name.encode("ascii"), None, byref(size), None, 0) or not 0 < size.value <= _LARGEST_BYTES:
                break
            buffer = ctypes.create_string_buffer(size.value)
            if ask(name.encode("ascii"), buffer, byref(size), None, 0) == 0:
                return buffer.raw[: size.value]
        raise MacosCallError(f"sysctl {name}: error {ctypes.get_errno()}")

    def host_uuid(self) -> str:
        """See MacosCallTable."""
        found, wait = (ctypes.c_ubyte * 16)(), _Timespec(_UUID_WAIT_SECONDS, 0)
        if self._function(SYSTEM, "gethostuuid", c_void_p, c_void_p)(found, byref(wait)):
            raise MacosCallError(f"gethostuuid: error {ctypes.get_errno()}")
        return str(uuid.UUID(bytes=bytes(found))).upper()

    def on_power_event(self, callback: Callable[[int], None]) -> Callable[[], None]:
        """See MacosCallTable. It uses its own dispatch queue, so this process needs no event loop."""
        register = self._function(
            IOKIT, "IORegisterForSystemPower", c_void_p, c_void_p, _INTEREST, c_void_p, result=c_uint32
        )
        allow = self._function(IOKIT, "IOAllowPowerChange", c_uint32, c_long)
        queue_of = self._function(SYSTEM, "dispatch_queue_create", c_char_p, c_void_p, result=c_void_p)
        set_queue = self._function(
            IOKIT, "IONotificationPortSetDispatchQueue", c_void_p, c_void_p, result=None
        )
        end = self._function(IOKIT, "IODeregisterForSystemPower", c_void_p)
        shut = self._function(IOKIT, "IOServiceClose", c_uint32)
        destroy = self._function(IOKIT, "IONotificationPortDestroy", c_void_p, result=None)
        root, port, notifier = c_uint32(), c_void_p(), c_uint32()

        def call_back(_pointer: object, _service: int, message: int, argument: int | None) -> None:
            try:
                callback(message)
            finally:  # also after a defect of ours, which Python prints: never keep a machine awake
                if message in _ANSWERED:
                    allow(root, argument or 0)

        routine = _INTEREST(call_back)
        queue = queue_of(_QUEUE, None)
        root.value = register(None, byref(port), routine, byref(notifier))
        if not root.value or not queue:
            raise MacosCallError("IORegisterForSystemPower gives no connection")
        _called_back.append(routine)
        set_queue(port, queue)  # delivery of messages starts here, once `root` is known

        def undo() -> None:
            end(byref(notifier))
            shut(root)
            destroy(port)

        return undo
