# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Table of the Windows calls, through ctypes only: a workstation needs no extra library.

Run under Wine 10 (docs/windows.md lists the calls), never on Windows itself. Imported on Windows only, when a
source opens. Sources: Windows SDK headers ioapiset.h, cfgmgr32.h, pdh.h, powrprof.h, powersetting.h,
realtimeapiset.h, sysinfoapi.h.
"""

from __future__ import annotations

import ctypes
import importlib
import uuid
from collections.abc import Callable
from contextlib import suppress
from ctypes import byref, c_byte, c_longlong, c_size_t, c_uint32, c_ulonglong, c_void_p, c_wchar_p
from typing import Any, Final

from veilleuse.agent.errors import SourceUnavailable
from veilleuse.agent.platforms.windows.calls import NO_ANSWER, CounterValue, WindowsCallError

# ctypes.wintypes is unsuitable: its DWORD is a C long, eight bytes wherever the tests run.
DWORD = ULONG = c_uint32
HANDLE = LPVOID = c_void_p
LPCWSTR = LPWSTR = c_wchar_p

_GENERIC_READ: Final = 0x80000000
_SHARE_READ_WRITE: Final = 0x3
_OPEN_EXISTING: Final = 3
_PRESENT: Final = 0
"""CM_GET_DEVICE_INTERFACE_LIST_PRESENT."""
_CR_BUFFER_SMALL: Final = 0x1A
_TRIES: Final = 4
"""Number of attempts: a list may grow between the call for its size and the call for the list."""
_PDH_MORE_DATA: Final = 0x800007D2
_PDH_VALID: Final = (0, 1)
"""PDH_CSTATUS_VALID_DATA, PDH_CSTATUS_NEW_DATA."""
_DEVICE_NOTIFY_CALLBACK: Final = 2
_SETTING_CHANGE: Final = 0x8013
"""PBT_POWERSETTINGCHANGE."""
_SETTING_BYTES: Final = 24
"""POWERBROADCAST_SETTING of a number: GUID, length of the value, value."""
_RSMB: Final = 0x52534D42
_LARGEST_TABLE_BYTES: Final = 1 << 20
_WOW64_64KEY: Final = 0x0100
_INVALID_HANDLES: Final = (0, c_void_p(-1).value)
_CALLBACK: Any = getattr(ctypes, "WINFUNCTYPE", ctypes.CFUNCTYPE)
_POWER_ROUTINE: Final = _CALLBACK(ULONG, c_void_p, ULONG, c_void_p)
_CONSOLE_ROUTINE: Final = _CALLBACK(ctypes.c_int, DWORD)
_NO_CRASH_DIALOGUE: Final = 0x0003
"""SEM_FAILCRITICALERRORS, SEM_NOGPFAULTERRORBOX."""
_SYNCHRONIZE: Final = 0x00100000
_WAIT_TIMEOUT: Final = 0x102
_ACCOUNTING, _EXTENDED_LIMITS = 1, 9
"""JobObjectBasicAccountingInformation, JobObjectExtendedLimitInformation."""
_KILL_ON_JOB_CLOSE: Final = 0x2000


class Guid(ctypes.Structure):
    """GUID, 16 bytes. Source: guiddef.h."""

    _fields_ = (("data", c_byte * 16),)

    @classmethod
    def of(cls, text: str) -> Guid:
        """Parse `{8-4-4-4-12}`."""
        return cls.from_buffer_copy(uuid.UUID(text).bytes_le)


class RawCounter(ctypes.Structure):
    """PDH_RAW_COUNTER: 40 bytes. Source: pdh.h."""

    _fields_ = (
        ("status", DWORD),
        ("time", DWORD * 2),
        ("first", c_longlong),
        ("second", c_longlong),
        ("multi", DWORD),
    )


class RawCounterItem(ctypes.Structure):
    """PDH_RAW_COUNTER_ITEM_W: 48 bytes in a 64-bit process. Source: pdh.h."""

    _fields_ = (("name", LPWSTR), ("raw", RawCounter))


class Subscription(ctypes.Structure):
    """DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS. Source: powrprof.h."""

    _fields_ = (("routine", _POWER_ROUTINE), ("context", c_void_p))


class JobLimits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION: 144 bytes in a 64-bit process. Source: winnt.h."""

    _fields_ = (
        ("times", c_longlong * 2),
        ("flags", DWORD),
        ("sizes", c_size_t * 2),
        ("processes", DWORD),
        ("affinity", c_size_t),
        ("classes", DWORD * 2),
        ("io", c_ulonglong * 6),
        ("memory", c_size_t * 4),
    )


class JobAccounting(ctypes.Structure):
    """JOBOBJECT_BASIC_ACCOUNTING_INFORMATION: 48 bytes. Source: winnt.h."""

    _fields_ = (
        ("user", c_longlong),
        ("kernel", c_longlong),
        ("period", c_longlong * 2),
        ("counts", DWORD * 4),
    )


class ProcessMemory(ctypes.Structure):
    """PROCESS_MEMORY_COUNTERS: 72 bytes in a 64-bit process. Source: psapi.h."""

    _fields_ = (
        ("size", DWORD),
        ("faults", DWORD),
        ("peak_working_set", c_size_t),
        ("working_set", c_size_t),
        ("quotas", c_size_t * 4),
        ("pagefile", c_size_t * 2),
    )


class WindowsCalls:
    """Implements `WindowsCallTable` on the running system."""

    def __init__(self) -> None:
        """Raise SourceUnavailable (no_device) on any other system."""
        if getattr(ctypes, "WinDLL", None) is None:
            raise SourceUnavailable("no_device", "this is not Windows")
        self._functions: dict[str, Any] = {}
        self._counters: dict[int, c_void_p] = {}
        self._kept: list[object] = []
        """Callbacks of the system; they must not be garbage-collected."""

    def _function(self, library: str, name: str, *arguments: object, result: object = ctypes.c_int) -> Any:
        """Return a function; load its library at first use. Raises WindowsCallError if it is missing."""
        if name not in self._functions:
            try:
                function = getattr(_library(library), name)
            except (OSError, AttributeError) as error:  # an older Windows, or Wine
                raise WindowsCallError(f"{name} of {library}", NO_ANSWER) from error
            function.argtypes, function.restype = arguments, result
            self._functions[name] = function
        return self._functions[name]

    # ----------------------------------------------------------------------------------- devices

    def interfaces(self, interface: str) -> tuple[str, ...]:
        """See DeviceCalls."""
        name = "CM_Get_Device_Interface_ListW"
        measure = self._function(
            "cfgmgr32", "CM_Get_Device_Interface_List_SizeW", LPVOID, LPVOID, LPCWSTR, ULONG
        )
        fill = self._function("cfgmgr32", name, LPVOID, LPCWSTR, LPVOID, ULONG, ULONG)
        guid, length = Guid.of(interface), ULONG()
        for _ in range(_TRIES):
            _check_code(f"size of {name}", measure(byref(length), byref(guid), None, _PRESENT))
            text = ctypes.create_unicode_buffer(max(1, length.value))
            done = fill(byref(guid), None, text, len(text), _PRESENT)
            if done != _CR_BUFFER_SMALL:
                _check_code(name, done)
                return tuple(path for path in ctypes.wstring_at(text, len(text)).split("\0") if path)
        raise WindowsCallError(name, _CR_BUFFER_SMALL)

    def open(self, path: str, *, read: bool = True) -> int:
        """See DeviceCalls."""
        create = self._function(
            "kernel32",
            "CreateFileW",
            *(LPCWSTR, DWORD, DWORD, LPVOID, DWORD, DWORD, HANDLE),
            result=HANDLE,
        )
        access = _GENERIC_READ if read else 0
        return check_handle(
            "CreateFileW", create(path, access, _SHARE_READ_WRITE, None, _OPEN_EXISTING, 0, None)
        )

    def control(self, handle: int, code: int, request: bytes, answer_bytes: int) -> bytes:
        """See DeviceCalls."""
        ask = self._function(
            "kernel32", "DeviceIoControl", HANDLE, DWORD, LPVOID, DWORD, LPVOID, DWORD, LPVOID, LPVOID
        )
        answer, written = ctypes.create_string_buffer(max(1, answer_bytes)), DWORD()
        asked = ctypes.create_string_buffer(request, len(request)) if request else None
        done = ask(handle, code, asked, len(request), answer, answer_bytes, byref(written), None)
        if not done:
            raise WindowsCallError(f"DeviceIoControl 0x{code:x}", _last_error())
        return answer.raw[: min(written.value, answer_bytes)]

    def close(self, handle: int) -> None:
        """See DeviceCalls."""
        self._function("kernel32", "CloseHandle", HANDLE)(handle)

    # ---------------------------------------------------------------------------------- counters

    def _pdh(self, name: str, *arguments: object) -> Callable[..., None]:
        """Return a function of pdh that raises WindowsCallError on failure."""
        function = self._function("pdh", name, *arguments, result=DWORD)
        return lambda *given: _check_code(name, function(*given))

    def counter_open(self, path: str) -> int:
        """See CounterCalls."""
        query, counter = c_void_p(), c_void_p()
        self._pdh("PdhOpenQueryW", LPCWSTR, c_size_t, LPVOID)(None, 0, byref(query))
        number = int(query.value or 0)
        try:
            self._pdh("PdhAddEnglishCounterW", c_void_p, LPCWSTR, c_size_t, LPVOID)(
                query, path, 0, byref(counter)
            )
            self._pdh("PdhCollectQueryData", c_void_p)(query)
        except WindowsCallError:
            self._close_query(number)
            raise
        self._counters[number] = counter
        return number

    def counter_read(self, query: int) -> tuple[CounterValue, ...]:
        """See CounterCalls."""
        self._pdh("PdhCollectQueryData", c_void_p)(query)
        name = "PdhGetRawCounterArrayW"
        fill = self._function("pdh", name, c_void_p, LPVOID, LPVOID, LPVOID, result=DWORD)
        length, count = DWORD(), DWORD()
        buffer, done = ctypes.create_string_buffer(1), _PDH_MORE_DATA
        for _ in range(_TRIES):
            done = fill(self._counters[query], byref(length), byref(count), buffer if length.value else None)
            if done != _PDH_MORE_DATA:
                break
            buffer = ctypes.create_string_buffer(max(1, length.value))
        _check_code(name, done)
        if count.value * ctypes.sizeof(RawCounterItem) > len(buffer):
            raise WindowsCallError(name, NO_ANSWER)
        found = (RawCounterItem * count.value).from_buffer(buffer)
        return tuple(
            CounterValue(str(item.name or ""), int(item.raw.first))
            for item in found
            if item.raw.status in _PDH_VALID
        )

    def counter_close(self, query: int) -> None:
        """See CounterCalls."""
        if self._counters.pop(query, None) is not None:
            self._close_query(query)

    def _close_query(self, query: int) -> None:
        with suppress(WindowsCallError):
            self._pdh("PdhCloseQuery", c_void_p)(query)

    # ------------------------------------------------------------------------------------- power

    def power_status(self) -> bytes:
        """See PowerCalls."""
        status = ctypes.create_string_buffer(12)
        if not self._function("kernel32", "GetSystemPowerStatus", LPVOID)(status):
            raise WindowsCallError("GetSystemPowerStatus", _last_error())
        return status.raw

    def interrupt_times(self) -> tuple[int, int]:
        """See PowerCalls. QueryInterruptTime: Windows 10 and later, in kernelbase."""
        biased, unbiased = c_ulonglong(), c_ulonglong()
        self._function("kernelbase", "QueryInterruptTime", LPVOID, result=None)(byref(biased))
        if not self._function("kernel32", "QueryUnbiasedInterruptTime", LPVOID)(byref(unbiased)):
            raise WindowsCallError("QueryUnbiasedInterruptTime", _last_error())
        return biased.value, unbiased.value

    def plan_value(self, subgroup: str, setting: str) -> int:
        """See PowerCalls."""
        active = self._function("powrprof", "PowerGetActiveScheme", c_void_p, LPVOID, result=DWORD)
        read = self._function("powrprof", "PowerReadACValueIndex", *(c_void_p,) * 5, result=DWORD)
        free = self._function("kernel32", "LocalFree", c_void_p, result=c_void_p)
        scheme, value = c_void_p(), DWORD()
        _check_code("PowerGetActiveScheme", active(None, byref(scheme)))
        try:
            done = read(None, scheme, byref(Guid.of(subgroup)), byref(Guid.of(setting)), byref(value))
        finally:
            free(scheme)
        _check_code("PowerReadACValueIndex", done)
        return int(value.value)

    def on_power_event(self, callback: Callable[[int], None]) -> None:
        """See PowerCalls."""

        def routine(_context: object, event: int, _setting: object) -> int:
            callback(event)
            return 0

        name = "PowerRegisterSuspendResumeNotification"
        register = self._function("powrprof", name, DWORD, LPVOID, LPVOID, result=DWORD)
        pointer, handle = _POWER_ROUTINE(routine), c_void_p()
        subscription = Subscription(pointer, None)
        _check_code(name, register(_DEVICE_NOTIFY_CALLBACK, byref(subscription), byref(handle)))
        self._kept += [pointer, subscription]

    def on_power_setting(self, setting: str, callback: Callable[[int], None]) -> None:
        """See PowerCalls."""

        def routine(_context: object, event: int, data: int | None) -> int:
            if event == _SETTING_CHANGE and data:
                head = ctypes.string_at(data, _SETTING_BYTES)
                if int.from_bytes(head[16:20], "little") == _SETTING_BYTES - 20:
                    callback(int.from_bytes(head[20:], "little"))
            return 0

        name = "PowerSettingRegisterNotification"
        register = self._function("powrprof", name, LPVOID, DWORD, LPVOID, LPVOID, result=DWORD)
        pointer, handle = _POWER_ROUTINE(routine), c_void_p()
        subscription = Subscription(pointer, None)
        done = register(byref(Guid.of(setting)), _DEVICE_NOTIFY_CALLBACK, byref(subscription), byref(handle))
        _check_code(name, done)
        self._kept += [pointer, subscription]

    # --------------------------------------------------------------------------------- processes

    def _kernel(self, name: str, *arguments: object) -> Callable[..., None]:
        """Return a function of kernel32 that raises WindowsCallError on failure."""
        return self._checked("kernel32", name, *arguments)

    def _checked(self, library: str, name: str, *arguments: object) -> Callable[..., None]:
        """Return a function that raises WindowsCallError when it returns 0."""
        function = self._function(library, name, *arguments)

        def call(*given: object) -> None:
            if not function(*given):
                raise WindowsCallError(name, _last_error())

        return call

    def quiet_crashes(self) -> None:
        """See ProcessCalls."""
        self._function("kernel32", "SetErrorMode", DWORD, result=DWORD)(_NO_CRASH_DIALOGUE)

    def on_console_event(self, callback: Callable[[int], bool]) -> Callable[[], None]:
        """See ProcessCalls."""
        routine = _CONSOLE_ROUTINE(lambda event: int(callback(event)))
        self._kept.append(routine)
        change = self._kernel("SetConsoleCtrlHandler", _CONSOLE_ROUTINE, ctypes.c_int)
        change(routine, 1)

        def forget() -> None:
            with suppress(WindowsCallError):
                change(routine, 0)

        return forget

    def process(self, number: int) -> int:
        """See ProcessCalls."""
        find = self._function("kernel32", "OpenProcess", DWORD, ctypes.c_int, DWORD, result=HANDLE)
        return check_handle("OpenProcess", find(_SYNCHRONIZE, 0, number))

    def lives(self, handle: int) -> bool:
        """See ProcessCalls."""
        wait = self._function("kernel32", "WaitForSingleObject", HANDLE, DWORD, result=DWORD)
        return bool(wait(handle, 0) == _WAIT_TIMEOUT)

    def job(self) -> int:
        """See ProcessCalls."""
        create = self._function("kernel32", "CreateJobObjectW", LPVOID, LPCWSTR, result=HANDLE)
        job = check_handle("CreateJobObjectW", create(None, None))
        limits = JobLimits(flags=_KILL_ON_JOB_CLOSE)
        change = self._kernel("SetInformationJobObject", HANDLE, ctypes.c_int, LPVOID, DWORD)
        change(job, _EXTENDED_LIMITS, byref(limits), ctypes.sizeof(limits))
        return job

    def job_add(self, job: int, process: int) -> None:
        """See ProcessCalls."""
        self._kernel("AssignProcessToJobObject", HANDLE, HANDLE)(job, process)

    def job_times(self, job: int) -> int:
        """See ProcessCalls."""
        accounting = JobAccounting()
        ask = self._kernel("QueryInformationJobObject", HANDLE, ctypes.c_int, LPVOID, DWORD, LPVOID)
        ask(job, _ACCOUNTING, byref(accounting), ctypes.sizeof(accounting), None)
        return int(accounting.user + accounting.kernel)

    def own_usage(self) -> tuple[int, int]:
        """See ProcessCalls."""
        own = self._function("kernel32", "GetCurrentProcess", result=HANDLE)()
        times = (c_ulonglong * 4)()  # FILETIME: created, ended, kernel, user
        self._kernel("GetProcessTimes", HANDLE, *(LPVOID,) * 4)(own, *(byref(times, 8 * i) for i in range(4)))
        memory = ProcessMemory(size=ctypes.sizeof(ProcessMemory))
        self._kernel("K32GetProcessMemoryInfo", HANDLE, LPVOID, DWORD)(own, byref(memory), memory.size)
        return int(times[2] + times[3]), int(memory.working_set)

    def disk_room(self, folder: str) -> tuple[int, int]:
        """See ProcessCalls."""
        free, whole = c_ulonglong(), c_ulonglong()
        ask = self._kernel("GetDiskFreeSpaceExW", LPCWSTR, LPVOID, LPVOID, LPVOID)
        ask(folder, byref(free), byref(whole), None)
        return int(whole.value), int(free.value)

    # ------------------------------------------------------------------------------------- facts

    def firmware_table(self) -> bytes:
        """See FactCalls."""
        ask = self._function("kernel32", "GetSystemFirmwareTable", DWORD, DWORD, LPVOID, DWORD, result=DWORD)
        length = int(ask(_RSMB, 0, None, 0))
        if not 0 < length <= _LARGEST_TABLE_BYTES:
            raise WindowsCallError("GetSystemFirmwareTable", _last_error())
        table = ctypes.create_string_buffer(length)
        written = int(ask(_RSMB, 0, table, length))
        if not 0 < written <= length:
            raise WindowsCallError("GetSystemFirmwareTable", _last_error())
        return table.raw[:written]

    def registry(self, key: str, name: str) -> str | int | bytes | None:
        """See FactCalls."""
        winreg: Any = importlib.import_module("winreg")
        try:
            opened = winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, key, 0, winreg.KEY_READ | _WOW64_64KEY)
            with opened:
                value, _ = winreg.QueryValueEx(opened, name)
        except OSError:
            return None
        return value if isinstance(value, (str, int, bytes)) else None


def _library(name: str) -> Any:
    loader: Any = getattr(ctypes, "WinDLL", None)
    return loader(name, use_last_error=True)


def _last_error() -> int:
    last: Any = getattr(ctypes, "get_last_error", None)
    return int(last())


def check_handle(call: str, handle: int | None) -> int:
    """Return a handle that a call gave; raise WindowsCallError for none."""
    if handle is None or handle in _INVALID_HANDLES:
        raise WindowsCallError(call, _last_error())
    return handle


def _check_code(call: str, code: int) -> None:
    """Raise WindowsCallError for a code other than 0 (ERROR_SUCCESS, CR_SUCCESS)."""
    if code:
        raise WindowsCallError(call, code & 0xFFFFFFFF)
