# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the real table of calls (platforms/macos.py) through ctypes over fake libraries of C functions."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from ctypes import CFUNCTYPE, c_char_p, c_int, c_long, c_size_t, c_uint32, c_void_p
from typing import Any

import pytest

from veilleuse.agent.platforms.macos import (
    CAN_SLEEP,
    IOKIT,
    LIBSYSTEM,
    WILL_SLEEP,
    MacosCallError,
    MacosCalls,
    sysctl_number,
    sysctl_text,
)

QUEUE, PORT, ROOT, NOTIFIER = 0x7100, 0x7200, 0x1307, 0x2B03
ARGUMENT = 0x7FFF_0123_4567
WILL_POWER_ON = 0xE0000320


class Library:
    """Holds the functions of a dynamic library as attributes."""


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> dict[str, Library]:
    """Replace the libraries that ctypes loads by name."""
    found: dict[str, Library] = {LIBSYSTEM: Library(), IOKIT: Library()}

    def load(name: str, *, use_errno: bool) -> Library:
        assert use_errno
        if name not in found:
            raise OSError(f"no {name}")
        return found[name]

    monkeypatch.setattr(ctypes, "CDLL", load)
    return found


def put(library: Library, name: str, prototype: Any, body: Callable[..., Any]) -> None:
    """Add a C function to a library."""
    setattr(library, name, prototype(body))


def kernel(
    values: dict[bytes, bytes], *, grows: bool = False, code: int = 2
) -> tuple[Any, Callable[..., int]]:
    """Return a fake sysctlbyname; `grows`: each value is longer than the size asked for."""
    asked = [0]

    def sysctlbyname(name: bytes, old: int | None, length: int, new: int | None, new_length: int) -> int:
        assert (new, new_length) == (None, 0)
        size = c_size_t.from_address(length)
        value = values.get(name)
        asked[0] += 1
        if value is None:
            ctypes.set_errno(code)
            return -1
        if old is None:
            size.value = len(value)
            return 0
        if grows or size.value < len(value):
            ctypes.set_errno(12)
            return -1
        ctypes.memmove(old, value, len(value))
        size.value = len(value)
        return 0

    return CFUNCTYPE(c_int, c_char_p, c_void_p, c_void_p, c_void_p, c_size_t, use_errno=True), sysctlbyname


def test_values_of_the_kernel(libraries):
    """Texts and numbers come with their own length; a missing name raises MacosCallError."""
    values = {
        b"hw.model": b"Mac14,2\0",
        b"hw.memsize": (2**34).to_bytes(8, "little"),
        b"kern.willshutdown": b"\1\0\0\0",
    }
    put(libraries[LIBSYSTEM], "sysctlbyname", *kernel(values))
    calls = MacosCalls()
    assert calls.sysctl("hw.model") == b"Mac14,2\0"
    assert sysctl_text(calls, "hw.model") == "Mac14,2"
    assert (sysctl_number(calls, "hw.memsize"), sysctl_number(calls, "kern.willshutdown")) == (2**34, 1)
    assert (
        sysctl_text(calls, "hw.none"),
        sysctl_number(calls, "hw.none"),
        sysctl_number(calls, "hw.model"),
    ) == (
        "",
        None,
        int.from_bytes(b"Mac14,2\0", "little"),
    )
    with pytest.raises(MacosCallError, match=r"sysctl hw.none"):
        calls.sysctl("hw.none")


@pytest.mark.parametrize("value", [b"", b"x" * 4_097])
def test_an_absurd_size_is_not_asked_for(libraries, value):
    """An empty value and one above 4 KiB are refused."""
    put(libraries[LIBSYSTEM], "sysctlbyname", *kernel({b"hw.model": value}))
    with pytest.raises(MacosCallError):
        MacosCalls().sysctl("hw.model")


def test_a_value_that_always_grows(libraries):
    """The call raises MacosCallError after some tries."""
    put(libraries[LIBSYSTEM], "sysctlbyname", *kernel({b"hw.model": b"Mac"}, grows=True))
    with pytest.raises(MacosCallError):
        MacosCalls().sysctl("hw.model")


def test_the_hardware_has_a_uuid(libraries):
    """The 16 bytes are written as ioreg writes them; the call waits 5 s at most."""
    waits: list[tuple[int, int]] = []

    def gethostuuid(found: int, wait: int) -> int:
        waits.append(((c_long * 2).from_address(wait)[0], (c_long * 2).from_address(wait)[1]))
        ctypes.memmove(found, bytes.fromhex("564d7a1b0c2d4e3f8a9bcdef01234567"), 16)
        return 0

    put(libraries[LIBSYSTEM], "gethostuuid", CFUNCTYPE(c_int, c_void_p, c_void_p), gethostuuid)
    assert MacosCalls().host_uuid() == "564D7A1B-0C2D-4E3F-8A9B-CDEF01234567"
    assert waits == [(5, 0)]
    put(libraries[LIBSYSTEM], "gethostuuid", CFUNCTYPE(c_int, c_void_p, c_void_p), lambda _found, _wait: -1)
    with pytest.raises(MacosCallError):
        MacosCalls().host_uuid()


class Domain:
    """Replaces the root power domain: sends messages and records answers and released objects."""

    def __init__(self, libraries: dict[str, Library], root: int = ROOT) -> None:
        """`root` is the result of the registration; 0 = it fails."""
        self.done: list[object] = []
        self._routine: Any = None
        self._root = root
        interest = CFUNCTYPE(None, c_void_p, c_uint32, c_uint32, c_void_p)
        iokit, system = libraries[IOKIT], libraries[LIBSYSTEM]

        def register(pointer: int | None, port: int, routine: int, notifier: int) -> int:
            assert pointer is None
            c_void_p.from_address(port).value = PORT
            c_uint32.from_address(notifier).value = NOTIFIER
            self._routine = interest(routine)
            return self._root

        put(
            iokit,
            "IORegisterForSystemPower",
            CFUNCTYPE(c_uint32, c_void_p, c_void_p, c_void_p, c_void_p),
            register,
        )
        put(iokit, "IOAllowPowerChange", CFUNCTYPE(c_int, c_uint32, c_long), self._noting("allow", 0))
        put(
            iokit,
            "IONotificationPortSetDispatchQueue",
            CFUNCTYPE(None, c_void_p, c_void_p),
            self._noting("queue", None),
        )
        put(iokit, "IODeregisterForSystemPower", CFUNCTYPE(c_int, c_void_p), self._deregister)
        put(iokit, "IOServiceClose", CFUNCTYPE(c_int, c_uint32), self._noting("close", 0))
        put(iokit, "IONotificationPortDestroy", CFUNCTYPE(None, c_void_p), self._noting("destroy", None))
        put(
            system,
            "dispatch_queue_create",
            CFUNCTYPE(c_void_p, c_char_p, c_void_p),
            lambda _name, _kind: QUEUE,
        )

    def _noting(self, what: str, answer: int | None) -> Callable[..., int | None]:
        def call(*given: int) -> int | None:
            self.done.append((what, *given))
            return answer

        return call

    def _deregister(self, notifier: int) -> int:
        self.done.append(("deregister", c_uint32.from_address(notifier).value))
        return 0

    def send(self, message: int, argument: int = ARGUMENT) -> None:
        """Call the routine as the system's thread does."""
        self._routine(None, 0x1503, message, argument)


def test_messages_of_the_power_domain(libraries):
    """Each message is passed on; the two that need an answer get it afterwards; all objects are released."""
    domain, told = Domain(libraries), []

    def tell(message: int) -> None:
        told.append((message, len(domain.done)))

    undo = MacosCalls().on_power_event(tell)
    assert domain.done == [("queue", PORT, QUEUE)]
    for message in (CAN_SLEEP, WILL_SLEEP, WILL_POWER_ON):
        domain.send(message)
    assert told == [(CAN_SLEEP, 1), (WILL_SLEEP, 2), (WILL_POWER_ON, 3)]
    assert domain.done[1:] == [("allow", ROOT, ARGUMENT)] * 2
    del domain.done[:]
    undo()
    assert domain.done == [("deregister", NOTIFIER), ("close", ROOT), ("destroy", PORT)]


def test_a_defect_of_ours_holds_no_machine_awake(libraries, monkeypatch):
    """An exception in the callback does not prevent the sleep; Python reports it."""
    said: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    domain = Domain(libraries)

    def fail(_message: int) -> None:
        raise RuntimeError("oops")

    MacosCalls().on_power_event(fail)
    domain.send(WILL_SLEEP, 0)
    assert domain.done[1:] == [("allow", ROOT, 0)]
    assert [str(one.exc_value) for one in said] == ["oops"]


def test_what_is_not_there_is_said(libraries):
    """A failed connection, a missing library and a missing function raise MacosCallError."""
    Domain(libraries, root=0)
    with pytest.raises(MacosCallError, match="no connection"):
        MacosCalls().on_power_event(lambda _: None)
    del libraries[IOKIT]
    with pytest.raises(MacosCallError, match="IORegisterForSystemPower"):
        MacosCalls().on_power_event(lambda _: None)
    with pytest.raises(MacosCallError, match="gethostuuid"):
        MacosCalls().host_uuid()
