# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The real table of calls (platforms/macos/api.py), by ctypes alone. Never run on a Mac: docs/macos.md.

Imported on macOS only. Sources: sysctlbyname(3); gethostuuid(2); Apple's documentation of IORegisterForSystemPower,
IOAllowPowerChange, IODeregisterForSystemPower, IONotificationPortSetDispatchQueue; dispatch_queue_create(3).
"""

from __future__ import annotations

import ctypes
import uuid
from collections.abc import Callable
from ctypes import byref, c_char_p, c_int, c_long, c_size_t, c_uint32, c_void_p
from typing import Any, Final, Protocol

CAN_SLEEP: Final = 0xE0000270
"""kIOMessageCanSystemSleep: may the machine sleep, nobody having used it?"""
WILL_SLEEP: Final = 0xE0000280
"""kIOMessageSystemWillSleep: it is about to. Source: IOKit/IOMessage.h, 0xE0000000 being IOKit's own messages."""


class MacosCallError(Exception):
    """One call did not succeed. Translated at once by whoever asked."""


class MacosCallTable(Protocol):
    """All of them raise CallFailed."""

    def sysctl(self, name: str) -> bytes:
        """The value as the kernel keeps it: a text with its NUL, or a number in the order of bytes of the machine."""

    def host_uuid(self) -> str:
        """The hardware's UUID, `8-4-4-4-12` in upper case. Stays on the machine: it tells a copy, and names a file."""

    def on_power_event(self, told: Callable[[int], None]) -> Callable[[], None]:
        """Call `told` with each message of the root power domain, in a thread of the system's.

        What wants an answer is answered with yes when `told` comes back, whatever happened in it. Gives what ends it.
        """


def text(calls: MacosCallTable, name: str) -> str:
    """A text of sysctl's; empty where there is none."""
    try:
        return calls.sysctl(name).partition(b"\0")[0].decode("utf-8", "replace").strip()
    except MacosCallError:
        return ""


def number(calls: MacosCallTable, name: str) -> int | None:
    """A number of sysctl's, of 4 or 8 bytes (Macs are little-endian); None where there is none."""
    try:
        value = calls.sysctl(name)
    except MacosCallError:
        return None
    return int.from_bytes(value, "little", signed=True) if len(value) in (4, 8) else None


SYSTEM: Final = "/usr/lib/libSystem.B.dylib"
IOKIT: Final = "/System/Library/Frameworks/IOKit.framework/IOKit"
"""Both lie in the cache of the dynamic loader, not on the disk, since macOS 11: they are loaded by these names all the same."""
_LARGEST_BYTES: Final = 4_096
_TRIES: Final = 3
"""A text may grow between the question for its size and the text."""
_UUID_WAIT_SECONDS: Final = 5
_ANSWERED: Final = (CAN_SLEEP, WILL_SLEEP)
"""Apple: these MUST be answered, else the sleep waits for 30 s; the others must not be."""
_QUEUE: Final = b"fr.grandlyon.veilleuse-agent.power"
_called_back: Final[list[object]] = []
"""What the system calls must not be collected, whatever becomes of the table and of what ends it: that would be a crash."""
_INTEREST: Final = ctypes.CFUNCTYPE(None, c_void_p, c_uint32, c_uint32, c_void_p)
"""IOServiceInterestCallback: our pointer, service, message, its argument."""


class _Timespec(ctypes.Structure):
    """struct timespec of a 64-bit process."""

    _fields_ = (("seconds", c_long), ("nanoseconds", c_long))


class MacosCalls:
    """`macos_calls.Calls` on this very system."""

    def __init__(self) -> None:
        self._libraries: dict[str, Any] = {}

    def _function(self, library: str, name: str, *arguments: object, result: object = c_int) -> Any:
        """A function, its library loaded once. Raises CallFailed where it is not."""
        try:
            if library not in self._libraries:
                self._libraries[library] = ctypes.CDLL(library, use_errno=True)
            function = getattr(self._libraries[library], name)
        except (OSError, AttributeError) as error:
            raise MacosCallError(f"there is no {name} in {library}") from error
        function.argtypes, function.restype = arguments, result
        return function

    def sysctl(self, name: str) -> bytes:
        """`Calls.sysctl`."""
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
        """`Calls.host_uuid`."""
        found, wait = (ctypes.c_ubyte * 16)(), _Timespec(_UUID_WAIT_SECONDS, 0)
        if self._function(SYSTEM, "gethostuuid", c_void_p, c_void_p)(found, byref(wait)):
            raise MacosCallError(f"gethostuuid: error {ctypes.get_errno()}")
        return str(uuid.UUID(bytes=bytes(found))).upper()

    def on_power_event(self, told: Callable[[int], None]) -> Callable[[], None]:
        """`Calls.on_power_event`: on a queue of our own, so that no loop of events runs in this process."""
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

        def called(_pointer: object, _service: int, message: int, argument: int | None) -> None:
            try:
                told(message)
            finally:  # also when we have a defect, which Python then prints: no machine is held awake
                if message in _ANSWERED:
                    allow(root, argument or 0)

        routine = _INTEREST(called)
        queue = queue_of(_QUEUE, None)
        root.value = register(None, byref(port), routine, byref(notifier))
        if not root.value or not queue:
            raise MacosCallError("IORegisterForSystemPower gives no connection")
        _called_back.append(routine)
        set_queue(port, queue)  # only now messages are delivered: `root` is known by then

        def undo() -> None:
            end(byref(notifier))
            shut(root)
            destroy(port)

        return undo
