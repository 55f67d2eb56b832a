# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test clocks, boot id, suspend events, power plan and facts of Windows over a fake table of calls."""

from __future__ import annotations

import struct
import threading

import pytest

from tests.support import clock
from tests.support.fakes.windows import Disk, FakeWindows, smbios
from veilleuse.agent.host import windows as windows_facts
from veilleuse.agent.host.graphics import GraphicsAdapter
from veilleuse.agent.host.power_plan import PowerPlan
from veilleuse.agent.model import Instant, asleep_milliseconds
from veilleuse.agent.platforms.windows import system
from veilleuse.wire.vocabulary import DeviceClass

SUSPEND, RESUME = 4, 7
HOUR_100NS = 36_000_000_000


def test_the_time_asleep_is_between_the_two_interrupt_times():
    """Sleep is the difference of the biased interrupt time (boottime) and the unbiased one (monotonic)."""
    windows = FakeWindows()
    windows.times = (2 * HOUR_100NS, 2 * HOUR_100NS)
    before = Instant(*system.clocks(windows))
    windows.times = (5 * HOUR_100NS, 3 * HOUR_100NS)
    after = Instant(*system.clocks(windows))
    assert before.boottime_milliseconds == 7_200_000
    assert asleep_milliseconds(before, after) == 7_200_000
    assert abs(before.unix_milliseconds - clock.unix_milliseconds()) < 5_000


@pytest.mark.parametrize(("told", "expected"), [(417, "windows-417"), (None, ""), ("417", ""), (0, "")])
def test_boot_id(told, expected):
    """The boot id holds the boot's number; another type and 0 give an empty id."""
    windows = FakeWindows()
    if told is not None:
        windows.keys[system.BOOT_KEY, system.BOOT_VALUE] = told
    assert system.boot_id("/nowhere", windows) == expected


@pytest.mark.parametrize(
    ("video", "standby", "hibernate", "expected"),
    [
        (600, 1_800, 0, PowerPlan(600, 1_800)),
        (600, 1_800, 900, PowerPlan(600, 900)),
        (0, 0, 0, PowerPlan(0, 0)),
        (0xFFFFFFFF, 0, 10_800, PowerPlan(0, 10_800)),
        (None, None, None, PowerPlan(None, None)),
        (300, None, 0, PowerPlan(300, None)),
    ],
)
def test_power_plan(video, standby, hibernate, expected):
    """Seconds on mains: 0 is never, the earlier of standby and hibernation counts, unreadable is None."""
    windows = FakeWindows()
    for key, value in (
        ((windows_facts.VIDEO, windows_facts.VIDEO_IDLE), video),
        ((windows_facts.SLEEP, windows_facts.STANDBY_IDLE), standby),
        ((windows_facts.SLEEP, windows_facts.HIBERNATE_IDLE), hibernate),
    ):
        if value is not None:
            windows.plan[key] = value
    assert windows_facts.power_plan(windows) == expected


def test_a_suspend_waits_for_the_sign_of_life(monkeypatch):
    """A suspend is announced and waits until the sign of life is written, for a bounded time; a resume is not
    announced."""
    windows, announced = FakeWindows(), list[int]()
    watch = system.SuspendWatch(lambda: announced.append(1), answer_seconds=0.05)
    watch.start(windows)
    (told,) = windows.told
    waits: list[tuple[object, ...]] = []

    def wait(event: threading.Event, seconds: float) -> None:
        waits.append((len(announced), event.is_set(), seconds))
        watch.confirm_written()
        assert event.is_set()

    monkeypatch.setattr(threading.Event, "wait", wait)
    for number in (1, 2):
        told(SUSPEND)
        assert waits[number - 1 :] == [(number, False, 0.05)]
    told(RESUME)
    assert len(announced) == len(waits) == 2


# ------------------------------------------------------------------------------------------- facts


def machine() -> FakeWindows:
    """Return a fake PC with two internal disks and a USB stick."""
    windows = FakeWindows()
    windows.table = smbios(
        (0, struct.pack("<BBHB", 1, 2, 0, 3) + bytes(11), ("LENOVO", "M1", "03/02/2022")),
        (
            1,
            struct.pack("<BBBB", 1, 2, 3, 4) + bytes(16) + b"\0\0\0",
            ("LENOVO", "11JJS0AA00", "ThinkCentre M70q", "S3R1AL-CANARY"),
        ),
        (3, struct.pack("<BBBBB", 1, 35, 0, 2, 0), ("LENOVO", "CHASSIS-CANARY")),
        (4, bytes(20) + b"\x41" + bytes(10), ()),
        (17, bytes(8) + struct.pack("<HB", 8_192, 9) + bytes(10), ()),
        (17, bytes(8) + struct.pack("<HB", 0, 9) + bytes(10), ()),
    )
    windows.on_mains(1, battery_flag=128)
    windows.disks = {
        r"\\.\PhysicalDrive0": Disk(spins=False, bus=17),
        r"\\.\PhysicalDrive1": Disk(spins=True),
        r"\\.\PhysicalDrive2": Disk(spins=False, bus=7),
        r"\\.\PhysicalDrive4": Disk(spins=False, removable=True),
    }
    windows.keys = {
        (windows_facts.PROCESSOR_KEY, "ProcessorNameString"): "Intel(R) Core(TM) i5-10400T CPU @ 2.00GHz",
    }
    return windows


def test_what_a_pc_is():
    """Facts give maker, name, form, processor, memory and internal disks, and no serial number."""
    windows = machine()
    found = windows_facts.detect(windows)
    assert (found.vendor, found.model) == ("LENOVO", "ThinkCentre M70q")
    assert found.device_class is DeviceClass.MINI_PC
    assert (found.virtualisation, found.has_battery) == ("none", False)
    assert found.cpu_model == "Intel_R_ Core_TM_ i5-10400T CPU _ 2.00GHz"
    assert (found.hard_disks, found.solid_state_disks) == (1, 1)
    assert (found.memory_bytes or 0) > 2**28
    assert windows_facts.memory_modules(windows) == 1
    assert "CANARY" not in repr(found)
    assert not windows.handles


def test_a_virtual_machine_has_no_disks_of_its_own():
    """The firmware's texts identify a virtual machine, which has no disks of its own."""
    windows = machine()
    windows.table = smbios(
        (1, struct.pack("<BBBB", 1, 2, 0, 0) + bytes(19), ("Microsoft Corporation", "Virtual Machine"))
    )
    found = windows_facts.detect(windows)
    assert (found.virtualisation, found.device_class) == ("hyperv", DeviceClass.VIRTUAL_MACHINE)
    assert (found.hard_disks, found.solid_state_disks) == (None, None)


def test_nothing_can_be_read():
    """When every call fails, the facts hold only what the settings give."""
    windows = FakeWindows()
    windows.status = b""
    found = windows_facts.detect(windows)
    assert (found.vendor, found.model, found.cpu_model) == (None, None, None)
    assert found.device_class is DeviceClass.UNKNOWN
    assert windows_facts.detect(windows, device_class="tower").device_class is DeviceClass.TOWER


def test_graphics_are_those_present():
    """Present PCI adapters count, with name and memory of their driver. A card that was replaced does not,
    though the registry still lists it. Nothing of an adapter is a serial number.
    """
    windows = FakeWindows()
    assert windows_facts.graphics_here("", windows) == (), "a system without the list, as Wine"
    adapters = windows_facts.ADAPTER_INTERFACE
    windows.interface_paths[adapters] = [
        rf"\\?\PCI#VEN_10DE&DEV_1F06&SUBSYS_13A03842&REV_A1#4&1E4E2B1C&0&0019#{adapters}",
        rf"\\?\PCI#VEN_8086&DEV_0412&SUBSYS_8534103C&REV_06#3&11583659&0&10#{adapters}",
        rf"\\?\PCI#VEN_1A03&DEV_2000&SUBSYS_20001A03&REV_41#5&2&0&00#{adapters}",
        rf"\\?\SWD#RemoteDisplayEnum#RdpIdd_IndirectDisplay&SessionId_0002#{adapters}",
    ]
    enum, kind = r"SYSTEM\CurrentControlSet\Enum\PCI", r"SYSTEM\CurrentControlSet\Control\Class"
    numbers = {"VEN_10DE&DEV_1F06&SUBSYS_13A03842&REV_A1\\4&1E4E2B1C&0&0019": 1}
    numbers["VEN_8086&DEV_0412&SUBSYS_8534103C&REV_06\\3&11583659&0&10"] = 2
    names = {0: "NVIDIA GeForce GTX 960", 1: "NVIDIA GeForce RTX 2060 SUPER", 2: "Intel(R) HD Graphics 4600"}
    adapter_class = "{4d36e968-e325-11ce-bfc1-08002be10318}"
    for instance, number in numbers.items():
        windows.keys[rf"{enum}\{instance}", "Driver"] = rf"{adapter_class}\{number:04}"
    for number, name in names.items():
        windows.keys[rf"{kind}\{adapter_class}\{number:04}", "DriverDesc"] = name
    windows.keys[rf"{kind}\{adapter_class}\0001", windows_facts.ADAPTER_MEMORY] = 8 << 30
    assert windows_facts.graphics_here("", windows) == (
        GraphicsAdapter("nvidia 1f06", "NVIDIA GeForce RTX 2060 SUPER", 8 << 30),
        GraphicsAdapter("1a03 2000", None, None),
        GraphicsAdapter("intel 0412", "Intel_R_ HD Graphics 4600", None),
    )
