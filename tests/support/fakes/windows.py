# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Fake the table of Windows calls (WindowsCallTable): devices answer with bytes laid out as the documented
structures."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from veilleuse.agent.host.windows import STORAGE_QUERY_PROPERTY
from veilleuse.agent.platforms.windows.calls import (
    ERROR_ACCESS_DENIED,
    ERROR_DEVICE_NOT_CONNECTED,
    ERROR_FILE_NOT_FOUND,
    ERROR_NOT_SUPPORTED,
    CounterValue,
    WindowsCallError,
)
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources import windows_battery as battery
from veilleuse.agent.sources import windows_displays as displays
from veilleuse.agent.sources import windows_emi as emi
from veilleuse.agent.sources.windows_emi import WindowsEmi

FIXTURES = Path(__file__).parents[2] / "fixtures" / "windows"
PICOWATT_HOURS_PER_JOULE = 1e9 / 3.6
CR_FAILURE = 0x13
ERROR_INVALID_PARAMETER = 87
"""Error of OpenProcess for a process that does not exist."""
COMPUTER = "{00000000-0000-0000-FFFF-FFFFFFFFFFFF}"
"""Container of what is inside the case."""
JOB = 90
CONTEXT = SourceContext("/nowhere", "/nowhere", "none")


def wide(text: str, size: int | None = None) -> bytes:
    """Return the text as UTF-16 with its null, cut or padded to `size` bytes."""
    encoded = text.encode("utf-16-le") + b"\0\0"
    return encoded if size is None else encoded[:size].ljust(size, b"\0")


class Meter:
    """One energy meter device."""

    def __init__(self, *names: str, version: int = 2, unit: int = 0) -> None:
        self.names = list(names)
        self.version = version
        self.unit = unit
        self.picowatt_hours = [1_000_000_000_000] * len(names)
        self.time_100ns = 1
        self.refuses = 0
        """Error code of every control call; 0: it answers."""
        self.cut: dict[int, int] = {}
        """Control code → number of bytes to which its answer is cut."""

    def metadata(self) -> bytes:
        """Return EMI_METADATA_V1 or V2."""
        if self.version == 1:
            name = wide(self.names[0])
            head = struct.pack("<i", self.unit) + wide("OEM", 32) + wide("Model", 32)
            return head + struct.pack("<HH", 1, len(name)) + name
        head = wide("OEM", 32) + wide("Model", 32) + struct.pack("<HH", 1, len(self.names))
        channels = (struct.pack("<iH", self.unit, len(wide(name))) + wide(name) for name in self.names)
        return head + b"".join(channels)

    def answer(self, code: int) -> bytes:
        """Return the answer to one control code. Raises WindowsCallError."""
        if self.refuses:
            raise WindowsCallError(f"DeviceIoControl 0x{code:x}", self.refuses)
        whole = {
            emi.GET_VERSION: lambda: struct.pack("<H", self.version),
            emi.GET_METADATA_SIZE: lambda: struct.pack("<L", len(self.metadata())),
            emi.GET_METADATA: self.metadata,
            emi.GET_MEASUREMENT: lambda: b"".join(
                struct.pack("<QQ", value, self.time_100ns) for value in self.picowatt_hours
            ),
        }[code]()
        return whole[: self.cut.get(code, len(whole))]

    def spend(self, joules: float, name: str | None = None) -> None:
        """Add energy on one channel, or on all, and 1 s of time."""
        self.time_100ns += 10_000_000
        for index, each in enumerate(self.names):
            if name in (None, each):
                self.picowatt_hours[index] += round(joules * PICOWATT_HOURS_PER_JOULE)


class Battery:
    """One battery device."""

    def __init__(self, *, flags: int = 0, rate: int = 0, capabilities: int = 0x80000000) -> None:
        self.flags = flags
        self.rate = rate
        self.capabilities = capabilities
        self.tag = 7
        self.refuses = 0

    def answer(self, code: int, request: bytes) -> bytes:
        """Return the answer to one control code. Raises WindowsCallError."""
        if self.refuses:
            raise WindowsCallError(f"DeviceIoControl 0x{code:x}", self.refuses)
        if code == battery.QUERY_TAG:
            if not self.tag:
                raise WindowsCallError("DeviceIoControl", ERROR_FILE_NOT_FOUND)
            return struct.pack("<L", self.tag)
        if struct.unpack_from("<L", request)[0] != self.tag:
            raise WindowsCallError("DeviceIoControl", ERROR_FILE_NOT_FOUND)
        if code == battery.QUERY_INFORMATION:
            return struct.pack("<LB3s4s6L", self.capabilities, 1, b"", b"LION", 50_000, 45_000, 0, 0, 0, 0)
        return struct.pack("<LLLl", self.flags, 40_000, 12_000, self.rate)


class Disk:
    """One disk, whose serial number must not be read into any result."""

    SERIAL = b"S3R1AL-CANARY"

    def __init__(self, *, spins: bool, bus: int = 11, removable: bool = False) -> None:
        self.spins, self.bus, self.removable = spins, bus, removable

    def answer(self, code: int, request: bytes) -> bytes:
        """Return the answer to IOCTL_STORAGE_QUERY_PROPERTY. Raises WindowsCallError for other codes."""
        if code != STORAGE_QUERY_PROPERTY:
            raise WindowsCallError("DeviceIoControl", ERROR_NOT_SUPPORTED)
        if struct.unpack_from("<L", request)[0] == 7:
            return struct.pack("<LLB3x", 12, 12, self.spins)
        head = struct.pack("<LLBBBBLLLLL", 40, 60, 0, 0, self.removable, 0, 0, 0, 0, 40, self.bus)
        return head + bytes(8) + self.SERIAL


class FakeWindows:
    """Implements `WindowsCallTable` of platforms/windows/calls.py; missing values raise WindowsCallError."""

    def __init__(self) -> None:
        self.meters: dict[str, Meter] = {}
        self.batteries: dict[str, Battery] = {}
        self.disks: dict[str, Disk] = {}
        self.denied: set[str] = set()
        self.counters: dict[str, int] = {}
        """Instance → picowatt-hours of the performance counter."""
        self.counters_fail = 0xC0000BB8
        """PDH_CSTATUS_NO_OBJECT: there are no counters; 0: there are."""
        self.opened_counter = ""
        self.status = struct.pack("<BBBBLL", 1, 0, 100, 0, 0, 0)
        self.times = (0, 0)
        self.plan: dict[tuple[str, str], int] = {}
        self.told: list[Callable[[int], None]] = []
        self.table: bytes | None = None
        self.keys: dict[tuple[str, str], str | int | bytes] = {}
        self.interface_paths: dict[str, list[str]] = {}
        """Interface class → paths of other present devices."""
        self.settings: dict[str, int] = {}
        """Power setting → its present value."""
        self.setting_told: dict[str, list[Callable[[int], None]]] = {}
        self.handles: dict[int, str] = {}
        self.queries: set[int] = set()
        self.reads = 0
        self.console: list[Callable[[int], bool]] = []
        self.processes: set[int] = set()
        self.process_handles: dict[int, int] = {}
        self.no_process = ERROR_INVALID_PARAMETER
        """Error for a process that is not in `processes`."""
        self.no_job = False
        self.in_job: list[tuple[int, int]] = []
        self.job_time_100ns = 0
        self.usage = (0, 0)
        self.room: tuple[int, int] | None = None
        self._next = 100

    @classmethod
    def of(cls, name: str) -> FakeWindows:
        """Return a fake Windows with the meters of a machine in tests/fixtures/windows."""
        made = cls()
        devices = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))["devices"]
        for number, device in enumerate(devices):
            made.meters[rf"\\?\meter#{number:02}"] = Meter(*device["channels"], version=device["version"])
        return made

    def plug_display(self, model: str, edid: bytes, *, built_in: bool = False, instance: str = "1") -> str:
        """Add a present monitor with what Windows writes of it in the registry; return its path."""
        key = rf"{displays.ENUM_KEY}\DISPLAY\{model}\{instance}"
        self.keys[rf"{key}\Device Parameters", "EDID"] = edid
        self.keys[key, "Capabilities"] = 0xE0 if built_in else 0xE4
        self.keys[key, "ContainerID"] = COMPUTER if built_in else "{3b54c3f5-6fd3-59f8-ad0a-666d2448ff98}"
        path = rf"\\?\DISPLAY#{model}#{instance}#{displays.MONITOR_INTERFACE}"
        self.interface_paths.setdefault(displays.MONITOR_INTERFACE, []).append(path)
        return path

    # ------------------------------------------------------------------------------- DeviceCalls

    def interfaces(self, interface: str) -> tuple[str, ...]:
        """Return the device paths of an interface, in reverse order."""
        known = {emi.METER_INTERFACE: [*self.meters], battery.BATTERY_INTERFACE: [*self.batteries]}
        found = (known | self.interface_paths).get(interface)
        if found is None:
            raise WindowsCallError("size of CM_Get_Device_Interface_ListW", CR_FAILURE)
        return tuple(reversed(found))

    def open(self, path: str, *, read: bool = True) -> int:
        """Return a new handle of a device; disks can only be opened without `read`."""
        if path in self.denied:
            raise WindowsCallError("CreateFileW", ERROR_ACCESS_DENIED)
        if path not in {**self.meters, **self.batteries} and not (path in self.disks and not read):
            raise WindowsCallError("CreateFileW", ERROR_FILE_NOT_FOUND)
        self._next += 1
        self.handles[self._next] = path
        return self._next

    def control(self, handle: int, code: int, request: bytes, answer_bytes: int) -> bytes:
        """Return the answer of the device behind the handle; a removed device raises an error."""
        path = self.handles[handle]
        if path in self.meters:
            self.reads += code == emi.GET_MEASUREMENT
            answer = self.meters[path].answer(code)
        elif path in self.batteries:
            answer = self.batteries[path].answer(code, request)
        elif path in self.disks:
            answer = self.disks[path].answer(code, request)
        else:
            raise WindowsCallError("DeviceIoControl", ERROR_DEVICE_NOT_CONNECTED)
        return answer[:answer_bytes]

    def close(self, handle: int) -> None:
        """Close a handle. Raises KeyError for the second time."""
        del (self.process_handles if handle in self.process_handles else self.handles)[handle]

    # ------------------------------------------------------------------------------ CounterCalls

    def counter_open(self, path: str) -> int:
        """Return a new query."""
        if self.counters_fail:
            raise WindowsCallError("PdhAddEnglishCounterW", self.counters_fail)
        self.opened_counter = path
        self._next += 1
        self.queries.add(self._next)
        return self._next

    def counter_read(self, query: int) -> tuple[CounterValue, ...]:
        """Return the values of all instances."""
        if self.counters_fail or query not in self.queries:
            raise WindowsCallError("PdhCollectQueryData", self.counters_fail)
        return tuple(CounterValue(name, value) for name, value in self.counters.items())

    def counter_close(self, query: int) -> None:
        """Close a query. Raises KeyError for the second time."""
        self.queries.remove(query)

    # -------------------------------------------------------------------------------- PowerCalls

    def power_status(self) -> bytes:
        """Return the bytes of SYSTEM_POWER_STATUS."""
        return self.status

    def on_mains(self, line: int, *, battery_flag: int = 0) -> None:
        """Set ACLineStatus: 0 battery, 1 mains, 255 unknown."""
        self.status = struct.pack("<BBBBLL", line, battery_flag, 50, 0, 0xFFFFFFFF, 0xFFFFFFFF)

    def interrupt_times(self) -> tuple[int, int]:
        """Return (biased, unbiased) interrupt time."""
        return self.times

    def plan_value(self, subgroup: str, setting: str) -> int:
        """Return a value of the active power plan."""
        if (subgroup, setting) not in self.plan:
            raise WindowsCallError("PowerReadACValueIndex", ERROR_FILE_NOT_FOUND)
        return self.plan[subgroup, setting]

    def on_power_setting(self, setting: str, callback: Callable[[int], None]) -> None:
        """Tell a known setting at once, and keep the callback for `set_power_setting`."""
        self.setting_told.setdefault(setting, []).append(callback)
        if setting in self.settings:
            callback(self.settings[setting])

    def set_power_setting(self, setting: str, value: int) -> None:
        """Change a power setting, and tell those that asked."""
        self.settings[setting] = value
        for callback in self.setting_told.get(setting, []):
            callback(value)

    def on_power_event(self, callback: Callable[[int], None]) -> None:
        """Keep the callback in `told`, for the test to call."""
        self.told.append(callback)

    # ------------------------------------------------------------------------------ ProcessCalls

    def quiet_crashes(self) -> None:
        """Do nothing, because nothing crashes here."""

    def on_console_event(self, callback: Callable[[int], bool]) -> Callable[[], None]:
        """Keep the callback in `console`, for the test to call; the last registered is asked first."""
        self.console.insert(0, callback)
        return lambda: self.console.remove(callback)

    def process(self, number: int) -> int:
        """Return a new handle of a process in `processes`."""
        if number not in self.processes:
            raise WindowsCallError("OpenProcess", self.no_process)
        self._next += 1
        self.process_handles[self._next] = number
        return self._next

    def lives(self, handle: int) -> bool:
        """Return whether the handle's process is still in `processes`."""
        return self.process_handles[handle] in self.processes

    def job(self) -> int:
        """Return the only job."""
        if self.no_job:
            raise WindowsCallError("CreateJobObjectW", ERROR_ACCESS_DENIED)
        return JOB

    def job_add(self, job: int, process: int) -> None:
        """Record the process in `in_job`."""
        self.in_job.append((job, process))

    def job_times(self, job: int) -> int:
        """Return the CPU time of the job's processes, in units of 100 ns."""
        return self.job_time_100ns

    def own_usage(self) -> tuple[int, int]:
        """Return (CPU time, working set) of the own process."""
        return self.usage

    def disk_room(self, folder: str) -> tuple[int, int]:
        """Return (total, free) bytes of the disk; without `room`, the folder does not exist."""
        if self.room is None:
            raise WindowsCallError("GetDiskFreeSpaceExW", ERROR_FILE_NOT_FOUND)
        return self.room

    # --------------------------------------------------------------------------------- FactCalls

    def firmware_table(self) -> bytes:
        """Return RawSMBIOSData."""
        if self.table is None:
            raise WindowsCallError("GetSystemFirmwareTable", ERROR_NOT_SUPPORTED)
        return self.table

    def registry(self, key: str, name: str) -> str | int | bytes | None:
        """Return a registry value, or None."""
        return self.keys.get((key, name))


def smbios(*structures: tuple[int, bytes, tuple[str, ...]]) -> bytes:
    """Return RawSMBIOSData with these structures: (type, formatted part after the header, texts)."""
    table = b""
    for number, (kind, data, texts) in enumerate((*structures, (127, b"", ()))):
        table += struct.pack("<BBH", kind, 4 + len(data), number) + data
        table += b"".join(text.encode() + b"\0" for text in texts) or b"\0"
        table += b"\0"
    return struct.pack("<BBBBL", 0, 3, 3, 0, len(table)) + table


@contextmanager
def opened(windows: FakeWindows) -> Iterator[WindowsEmi]:
    """Give an opened source on a fake Windows, without pauses; all handles must be closed at the end."""
    source = WindowsEmi(CONTEXT, windows, pause=lambda _: None)
    source.open()
    try:
        yield source
    finally:
        source.close()
        assert not windows.handles
        assert not windows.queries
