# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the real table of calls (platforms/windows/api.py) over fake libraries, and the tables of sources."""

from __future__ import annotations

import ctypes
import struct
import subprocess
import sys
from typing import Any

import pytest

from tests.support.fakes.libraries import Libraries, fake_libraries, note, put
from tests.support.fakes.windows import CONTEXT
from veilleuse.agent.errors import ConfigurationError
from veilleuse.agent.platforms.windows.api import RawCounterItem, WindowsCalls
from veilleuse.agent.platforms.windows.calls import WindowsCallError
from veilleuse.agent.sources import BUILTIN, UNITS, open_all
from veilleuse.wire.vocabulary import SOURCES_OF_SYSTEM

METER = "{45BD8344-7ED6-49cf-A440-C276C933B053}"


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Libraries:
    """Replace the libraries that ctypes loads."""
    return fake_libraries(monkeypatch)


def test_a_list_of_devices_that_grows_while_it_is_asked_for(windows):
    """A buffer that is too small is tried again; paths end with nulls; the GUID has Windows' byte order."""
    paths = "one\0another\0\0"
    asked: list[bytes] = []

    def measure(length: Any, guid: Any, _filter: object, _flags: int) -> int:
        asked.append(bytes(guid._obj))
        put(length, len(paths) if len(asked) > 1 else 3)
        return 0

    def fill(_guid: object, _filter: object, buffer: Any, length: int, _flags: int) -> int:
        if length < len(paths):
            return 0x1A
        buffer[: len(paths)] = paths
        return 0

    windows["cfgmgr32"] = {
        "CM_Get_Device_Interface_List_SizeW": measure,
        "CM_Get_Device_Interface_ListW": fill,
    }
    assert WindowsCalls().interfaces(METER) == ("one", "another")
    assert len(asked) == 2
    assert asked[0].hex().startswith("4483bd45")


def test_no_device_is_an_empty_list(windows):
    """The size of an empty list is one null."""
    windows["cfgmgr32"] = {
        "CM_Get_Device_Interface_List_SizeW": lambda length, *_: put(length, 1),
        "CM_Get_Device_Interface_ListW": lambda *_: 0,
    }
    assert WindowsCalls().interfaces(METER) == ()


def test_a_list_that_never_fits_is_given_up(windows):
    """A list that never fits raises WindowsCallError with its code, after some tries."""
    windows["cfgmgr32"] = {
        "CM_Get_Device_Interface_List_SizeW": lambda length, *_: put(length, 1),
        "CM_Get_Device_Interface_ListW": lambda *_: 0x1A,
    }
    with pytest.raises(WindowsCallError) as caught:
        WindowsCalls().interfaces(METER)
    assert caught.value.code == 0x1A


def test_a_control_code_and_its_failure(windows):
    """The answer has Windows' length, at most the size asked for; a failure has the system's code."""
    handles: list[object] = []

    def control(
        _handle: int, code: int, given: Any, given_bytes: int, answer: Any, size: int, written: Any, _: object
    ) -> int:
        if code == 1:
            return 0
        answer[:size] = (given.raw if given_bytes else b"abcdef")[:size].ljust(size, b"\0")
        put(written, 3 if code == 2 else 99)
        return 1

    windows["kernel32"] = {
        "CreateFileW": lambda path, access, *_: (
            77 if (path, access) == ("there", 0x80000000) else ctypes.c_void_p(-1).value
        ),
        "DeviceIoControl": control,
        "CloseHandle": handles.append,
    }
    calls = WindowsCalls()
    handle = calls.open("there")
    assert calls.control(handle, 2, b"", 6) == b"abc"
    assert calls.control(handle, 3, b"wxyz", 2) == b"wx"
    for ask in (lambda: calls.control(handle, 1, b"", 2), lambda: calls.open("gone")):
        with pytest.raises(WindowsCallError) as caught:
            ask()
        assert caught.value.code == 1167
    calls.close(handle)
    assert handles == [77]


def test_performance_counters(windows):
    """Instances with invalid data are left out; the query is closed once."""
    names = [ctypes.create_unicode_buffer(name) for name in ("rapl_package0_pkg", "_Total")]
    rows = (RawCounterItem * 2)()
    for row, name, status, value in zip(
        rows, names, (0, 0xC0000BBA), (2_200_000_000_000_000, 5), strict=True
    ):
        row.name = ctypes.cast(name, ctypes.c_wchar_p)
        row.raw.status, row.raw.first = status, value
    closed: list[int] = []

    def fill(_counter: object, length: Any, count: Any, buffer: Any) -> int:
        if length._obj.value < ctypes.sizeof(rows):
            put(length, ctypes.sizeof(rows))
            return 0x800007D2 - 2**32  # as a C int
        put(count, 2)
        ctypes.memmove(buffer, rows, ctypes.sizeof(rows))
        return 0

    windows["pdh"] = {
        "PdhOpenQueryW": lambda _source, _user, query: put(query, 41),
        "PdhAddEnglishCounterW": lambda _query, path, _user, counter: put(
            counter, 42, 0 if "Energy" in path else 9
        ),
        "PdhCollectQueryData": lambda _query: 0,
        "PdhGetRawCounterArrayW": lambda *given: fill(*given) & 0xFFFFFFFF,
        "PdhCloseQuery": lambda query: note(closed, query),
    }
    calls = WindowsCalls()
    query = calls.counter_open(r"\Energy Meter(*)\Energy")
    assert calls.counter_read(query) == (("rapl_package0_pkg", 2_200_000_000_000_000),)
    calls.counter_close(query)
    calls.counter_close(query)
    assert closed == [41]
    with pytest.raises(WindowsCallError):
        calls.counter_open("another")
    assert closed == [41, 41]


def test_the_power_plan_gives_its_scheme_back(windows):
    """The scheme is freed, also if the value cannot be read."""
    freed: list[object] = []
    values = {"00": 0}
    windows["powrprof"] = {
        "PowerGetActiveScheme": lambda _root, scheme: put(scheme, 4_096),
        "PowerReadACValueIndex": lambda _root, _scheme, _group, _setting, value: put(
            value, 600, values["00"]
        ),
    }
    windows["kernel32"] = {"LocalFree": lambda memory: freed.append(memory.value)}
    calls = WindowsCalls()
    assert calls.plan_value(METER, METER) == 600
    values["00"] = 2
    with pytest.raises(WindowsCallError):
        calls.plan_value(METER, METER)
    assert freed == [4_096, 4_096]


def test_clocks_status_firmware_and_events(windows):
    """Clocks, power status, firmware table and power events are read through their pointers."""
    kept: list[Any] = []
    table = b"\0\3\3\0\2\0\0\0ab"

    def firmware(_provider: int, _id: int, buffer: Any, size: int) -> int:
        if buffer is not None:
            buffer[:size] = table
        return len(table)

    windows["kernelbase"] = {"QueryInterruptTime": lambda time: put(time, 20)}
    windows["kernel32"] = {
        "QueryUnbiasedInterruptTime": lambda time: put(time, 10, 1),
        "GetSystemPowerStatus": lambda status: status.__setitem__(slice(0, 2), b"\x01\x80") or 1,
        "GetSystemFirmwareTable": firmware,
    }
    windows["powrprof"] = {
        "PowerRegisterSuspendResumeNotification": lambda _flags, given, _handle: note(kept, given._obj)
    }
    calls = WindowsCalls()
    assert calls.interrupt_times() == (20, 10)
    assert calls.power_status()[:2] == b"\x01\x80"
    assert calls.firmware_table() == table
    told: list[int] = []
    calls.on_power_event(told.append)
    assert kept[0].routine(None, 4, None) == 0
    assert told == [4]


def test_a_power_setting_is_told_with_its_value(windows):
    """The callback gets the number of POWERBROADCAST_SETTING; another event or size gives none."""
    kept: list[Any] = []
    windows["powrprof"] = {
        "PowerSettingRegisterNotification": lambda setting, flags, given, _handle: note(
            kept, (bytes(setting._obj), flags, given._obj)
        )
    }
    told: list[int] = []
    WindowsCalls().on_power_setting(METER, told.append)
    ((setting, flags, subscription),) = kept
    assert (setting.hex()[:8], flags) == ("4483bd45", 2)
    for event, data in (
        (0x8013, struct.pack("<16sLL", b"", 4, 2)),
        (0x8013, struct.pack("<16sLL", b"", 1, 7)),
        (0x0004, struct.pack("<16sLL", b"", 4, 7)),
    ):
        buffer = ctypes.create_string_buffer(data)
        assert subscription.routine(None, event, ctypes.addressof(buffer)) == 0
    assert subscription.routine(None, 0x8013, None) == 0
    assert told == [2]


def test_crashes_console_and_processes(windows):
    """Crashes show no dialogue; console events are passed on until `forget`; a process lives or not."""
    kept: list[Any] = []
    given: list[Any] = []
    windows["kernel32"] = {
        "SetErrorMode": lambda mode: note(given, mode),
        "SetConsoleCtrlHandler": lambda routine, add: note(kept, (routine, add)) or 1,
        "OpenProcess": lambda access, _inherit, number: number if access == 0x100000 else 0,
        "WaitForSingleObject": lambda handle, _: 0x102 if handle == 7 else 0,
    }
    calls = WindowsCalls()
    calls.quiet_crashes()
    assert given == [3]
    told: list[int] = []
    forget = calls.on_console_event(lambda event: not note(told, event))
    assert kept[0][0](2) == 1
    forget()
    assert (told, kept[1]) == ([2], (kept[0][0], 0))
    assert [calls.lives(calls.process(number)) for number in (7, 8)] == [True, False]
    with pytest.raises(WindowsCallError, match="OpenProcess"):
        calls.process(0)


def test_the_job_of_the_children(windows):
    """The job ends its processes with its last handle, gives their CPU time, and reports a refusal."""
    given: list[Any] = []

    def ask(job: int, kind: int, told: Any, size: int, _: object) -> int:
        told._obj.user, told._obj.kernel = 30, 12
        return int((job, kind, size) == (9, 1, 48))

    windows["kernel32"] = {
        "CreateJobObjectW": lambda *_: 9,
        "SetInformationJobObject": lambda job, kind, limits, size: (
            note(given, (job, kind, limits._obj.flags, size)) or 1
        ),
        "AssignProcessToJobObject": lambda job, process: int((job, process) == (9, 55)),
        "QueryInformationJobObject": ask,
    }
    calls = WindowsCalls()
    assert calls.job() == 9
    assert given == [(9, 9, 0x2000, 144)]
    calls.job_add(9, 55)
    with pytest.raises(WindowsCallError, match="AssignProcessToJobObject"):
        calls.job_add(9, 56)
    assert calls.job_times(9) == 42


def test_own_usage_and_the_disk(windows):
    """CPU time is kernel plus user time; disk room is the total and the free space for this account."""

    def times(_own: int, _created: object, _ended: object, kernel: Any, user: Any) -> int:
        ctypes.memmove(kernel, struct.pack("<Q", 5), 8)
        ctypes.memmove(user, struct.pack("<Q", 6), 8)
        return 1

    def memory(_own: int, told: Any, size: int) -> int:
        told._obj.working_set = 4_096
        return int(size == told._obj.size == 72)

    def room(folder: str, free: Any, whole: Any, _: object) -> int:
        put(free, 300)
        return put(whole, 1_000, int(folder == "C:\\x"))

    windows["kernel32"] = {
        "GetCurrentProcess": lambda: -1,
        "GetProcessTimes": times,
        "K32GetProcessMemoryInfo": memory,
        "GetDiskFreeSpaceExW": room,
    }
    calls = WindowsCalls()
    assert calls.own_usage() == (11, 4_096)
    assert calls.disk_room("C:\\x") == (1_000, 300)
    with pytest.raises(WindowsCallError, match="GetDiskFreeSpaceExW"):
        calls.disk_room("Q:")


# ----------------------------------------------------------------------------------- the tables


def test_each_system_has_its_own_sources():
    """Only this system's sources are built in; each class exists; names are unique over all systems."""
    import importlib

    names = [name for names in SOURCES_OF_SYSTEM.values() for name in names]
    assert len(set(names)) == len(names)
    here = set(SOURCES_OF_SYSTEM[sys.platform])
    assert set(BUILTIN) == here | {"polled", "fake"}
    for name in names:
        module = importlib.import_module(f"veilleuse.agent.sources.{name}")
        assert getattr(module, name.title().replace("_", "")).name == name


def test_a_source_of_another_system_is_not_available_here():
    """Another system's source is unavailable, so that systems share a file; an unknown name is refused."""
    elsewhere = [
        name
        for system, names in SOURCES_OF_SYSTEM.items()
        if system != sys.platform
        for name in names
        if name != UNITS  # another setting chooses it
    ]
    found = open_all(elsewhere, CONTEXT)
    assert {(one.name, one.word) for one in found.unavailable} >= {(name, "no_device") for name in elsewhere}
    found.close()
    with pytest.raises(ConfigurationError, match="nearest known one"):
        open_all(["windows_emmi"], CONTEXT)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows' own modules are imported there")
def test_nothing_of_another_system_is_imported():
    """Opening all sources loads no module of Windows or macOS."""
    look = (
        "import sys; from veilleuse.agent.sources import open_all; from veilleuse.agent.ports import SourceContext\n"
        "open_all((), SourceContext('/sys', '/proc', 'none'))\n"
        "print([name for name in sys.modules if 'windows' in name or 'macos' in name or name == 'plistlib'])"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
