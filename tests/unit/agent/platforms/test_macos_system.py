# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test clocks, boot, sleep, shutdown, hardware ids, power plan of macOS over a fake table, without a Mac."""

from __future__ import annotations

import logging
import os
import plistlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes.macos import HOST_UUID, FakeMacos
from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.agent.errors import ReadFailed
from veilleuse.agent.host.hardware_ids.macos import asset_numbers, hardware_ids
from veilleuse.agent.host.macos import power_plan
from veilleuse.agent.host.power_plan import NEVER, PowerPlan
from veilleuse.agent.model import Instant, asleep_milliseconds
from veilleuse.agent.platforms import macos
from veilleuse.agent.platforms.macos import (
    CAN_SLEEP,
    WILL_SLEEP,
    PowerWatch,
    boot_id,
    clocks,
    sync_folder,
    usage,
)
from veilleuse.agent.service.launchd import Launchd

BOOT = "A1B2C3D4-0001-4002-8003-0123456789AB"
HAS_POWERED_ON = 0xE0000300


def test_its_folders_are_those_of_macos():
    """The folders are those of macOS; test_windows_system.py tests the members of the protocol."""
    assert str(macos.CONFIGURATION).startswith("/Library/Application Support/Veilleuse/")
    assert not str(macos.STATE).startswith("/Library"), "an identity is no thing to migrate"


# ------------------------------------------------------------------------------------------ clocks


def test_sleep_is_what_one_clock_counts_and_the_other_does_not():
    """After an hour asleep of two, one clock counts two hours and the other one: the difference is sleep."""
    moments = {4: 7_000_000_000_000, 8: 5_000_000_000_000}
    before = Instant(*clocks(moments.__getitem__))
    moments[4] += 7_200 * 10**9
    moments[8] += 3_600 * 10**9
    after = Instant(*clocks(moments.__getitem__))
    assert asleep_milliseconds(before, after) == 3_600_000
    assert after.boottime_milliseconds - before.boottime_milliseconds == 7_200_000


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (BOOT, BOOT.lower()),
        ("00000000-0000-0000-0000-000000000000", ""),
        ("", ""),
        (f"{BOOT} or so", ""),
        ("alice", ""),
    ],
)
def test_the_boot_is_the_kernels_session(said, expected):
    """Each boot has one UUID; any other text gives an empty id: the time between two starts is unknown."""
    assert boot_id("/nowhere", FakeMacos({"kern.bootsessionuuid": said})) == expected


def test_a_kernel_without_sessions():
    """Without that value the boot id is empty, and every start counts as another boot."""
    assert boot_id("/nowhere", FakeMacos()) == ""


# ------------------------------------------------------------------------------------------- sleep


def watch(
    calls: FakeMacos, announce: Callable[[], None], held_seconds: float = PATIENCE_SECONDS
) -> PowerWatch:
    """Register a watch with the table."""
    return PowerWatch(announce, calls, held_seconds)


def test_a_sleep_waits_for_the_sign_of_life(monkeypatch):
    """Each sleep is announced at once; the system's thread returns only after the sign is written, or after
    a bounded time: a resident that does not write cannot keep the machine awake."""
    calls, announced = FakeMacos(), list[int]()
    one = watch(calls, lambda: announced.append(1), held_seconds=0.01)
    assert calls.told is not None
    waits: list[tuple[object, ...]] = []

    def wait(event: threading.Event, seconds: float) -> None:
        waits.append((len(announced), event.is_set(), seconds))
        one.confirm_written()
        assert event.is_set()

    monkeypatch.setattr(threading.Event, "wait", wait)
    for number in (1, 2):
        calls.told(WILL_SLEEP)
        assert waits[number - 1 :] == [(number, False, 0.01)]
    one.close()
    assert calls.told is None


def test_a_sleep_while_the_agent_ends_waits_for_nothing():
    """The sleep does not wait if the agent's pipe is already closed."""

    def closed() -> None:
        raise OSError(9, "Bad file descriptor")

    calls = FakeMacos()
    one = watch(calls, closed, held_seconds=60)
    assert calls.told is not None
    calls.told(WILL_SLEEP)
    one.close()


@pytest.mark.parametrize("message", [CAN_SLEEP, HAS_POWERED_ON, 0, 0xFFFFFFFF])
def test_other_messages_announce_nothing(message):
    """The question whether the machine may sleep is no sleep; the clocks show the wake-up."""
    calls, announced = FakeMacos(), []
    one = watch(calls, lambda: announced.append(1))
    assert calls.told is not None
    calls.told(message)
    one.close()
    assert announced == []


def test_without_the_systems_word_there_is_the_signal(caplog):
    """The failure is logged once; the signal still announces, and closing restores the former handler."""
    calls, announced = FakeMacos(), []
    calls.refuses_events = True
    before = signal.getsignal(signal.SIGURG)
    with caplog.at_level(logging.WARNING):
        one = watch(calls, lambda: announced.append(1))
    assert [record.message for record in caplog.records] == ["no sign before sleep"]
    os.kill(os.getpid(), signal.SIGURG)
    until(lambda: announced == [1], "the signal to be handled")
    one.close()
    assert signal.getsignal(signal.SIGURG) is before


@pytest.mark.parametrize(("said", "expected"), [(1, True), (0, False), (None, False)])
def test_whose_end_this_is(said, expected):
    """A stop is a shutdown only if the kernel says so; otherwise the following time is unknown, not off."""
    manager = Launchd(FakeMacos({} if said is None else {"kern.willshutdown": said}))
    manager.ready()
    manager.alive("ok")
    manager.stopping()
    assert manager.machine_is_going_down() is expected


# ----------------------------------------------------------------------------------- cost and files


def test_what_it_costs():
    """CPU time and resident memory are those of this process."""
    spent, resident = usage()
    assert spent > 0
    assert 5_000_000 < resident < 10**10


def test_a_folder_is_made_durable(tmp_path, monkeypatch):
    """F_FULLFSYNC flushes the drive's cache; a file system without it gets fsync."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    sync_folder(tmp_path)
    assert len(synced) == 1
    asked: list[int] = []
    monkeypatch.setattr(
        "veilleuse.agent.platforms.macos.fcntl.fcntl", lambda _handle, what: asked.append(what)
    )
    sync_folder(tmp_path)
    assert (asked, len(synced)) == ([51], 1)
    with pytest.raises(OSError, match="No such file"):
        sync_folder(tmp_path / "gone")


# ----------------------------------------------------------------------------------------- hardware


def registry(**values: object) -> bytes:
    """Return the output of ioreg for the platform."""
    return plistlib.dumps([{"IOObjectClass": "IOPlatformExpertDevice", **values}])


def test_what_tells_a_mac_from_another():
    """The ids are hardware UUID and serial, normalised as in the inventory; macOS changes MAC addresses."""
    said = registry(IOPlatformUUID=HOST_UUID, IOPlatformSerialNumber="C02 XK0-AB12", model=b"Mac14,2\0")
    assert hardware_ids(None, lambda: said) == {
        "smbios-uuid": HOST_UUID.lower().replace("-", ""),
        "board-serial": "C02XK0AB12",
    }
    assert asset_numbers(None, lambda: said) == ("C02XK0AB12", HOST_UUID.lower().replace("-", ""))


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"ioreg: error",
        b"<plist><array/></plist>",
        plistlib.dumps({"IOPlatformUUID": HOST_UUID}),
        registry(IOPlatformUUID=5, IOPlatformSerialNumber=b"C02"),
        registry(IOPlatformUUID="none", IOPlatformSerialNumber="0"),
    ],
)
def test_nonsense_of_the_registry_is_no_hardware(said):
    """Invalid output gives no id."""
    assert hardware_ids(None, lambda: said) == {}
    assert asset_numbers(None, lambda: said) == (None, None)


def test_without_ioreg():
    """A missing or failing ioreg gives no id."""
    assert hardware_ids(None) == {}

    def refused() -> bytes:
        raise ReadFailed("ioreg has not ended within 5 s")

    assert asset_numbers(None, refused) == (None, None)


# --------------------------------------------------------------------------------------- power plan


def plan(folder: Path, name: str, told: Any, *, binary: bool = False) -> None:
    """Write a file as pmset does."""
    fmt = plistlib.FMT_BINARY if binary else plistlib.FMT_XML
    (folder / f"com.apple.PowerManagement{name}.plist").write_bytes(plistlib.dumps(told, fmt=fmt))


def mains(display: object, sleep: object) -> dict[str, object]:
    """Return a plan for mains that differs from the one for battery."""
    return {
        "AC Power": {"Display Sleep Timer": display, "System Sleep Timer": sleep, "Wake On LAN": 1},
        "Battery Power": {"Display Sleep Timer": 99, "System Sleep Timer": 99},
        "SystemPowerSettings": {},
    }


def test_the_plan_on_mains(tmp_path):
    """The plan is read from this hardware's file in seconds; 0 is never; the plain file is the fallback."""
    plan(tmp_path, "", mains(1, 1))
    plan(tmp_path, ".0BADC0DE-0000-4000-8000-000000000000", mains(2, 2))
    plan(tmp_path, f".{HOST_UUID}", mains(10, 0), binary=True)
    assert power_plan(tmp_path, HOST_UUID) == PowerPlan(600, NEVER)
    assert power_plan(tmp_path, "") == PowerPlan(60, 60)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, PowerPlan(None, None)),
        ([], PowerPlan(None, None)),
        ({"AC Power": 5}, PowerPlan(None, None)),
        ({"AC Power": {"System Sleep Timer": 30}}, PowerPlan(None, 1_800)),
        (mains(True, "10"), PowerPlan(None, None)),
        (mains(-1, 10.5), PowerPlan(None, None)),
        (mains(10_080, 10_081), PowerPlan(604_800, NEVER)),
    ],
)
def test_what_was_never_set_is_not_known(tmp_path, told, expected):
    """An unset value is None, since Apple's defaults change; a value beyond a week is never."""
    plan(tmp_path, "", told)
    assert power_plan(tmp_path, HOST_UUID) == expected


def test_no_file_and_no_list(tmp_path):
    """A missing file gives no plan; an unreadable file of the hardware leaves the plain one in force."""
    assert power_plan(tmp_path, HOST_UUID) == PowerPlan(None, None)
    (tmp_path / f"com.apple.PowerManagement.{HOST_UUID}.plist").write_bytes(b"bplist00\0nonsense")
    plan(tmp_path, "", mains(5, 15))
    assert power_plan(tmp_path, HOST_UUID) == PowerPlan(300, 900)


@given(st.binary(max_size=200), st.sampled_from([b"", b"bplist00", b"<?xml version='1.0'?><plist><dict>"]))
def test_any_bytes_are_a_plan_or_none(tmp_path_factory, noise, head):
    """Any bytes give delays that are possible, or none."""
    folder = tmp_path_factory.mktemp("plan")
    (folder / "com.apple.PowerManagement.plist").write_bytes(head + noise)
    assert all(seconds is None or 0 <= seconds < 2**32 for seconds in power_plan(folder, ""))


# -------------------------------------------------------------------------------------- utilisation


def test_the_load_of_a_mac():
    """Under macOS every disk counts, but no loopback, tunnel, bridge or neighbour radio."""
    program = """
import psutil, sys
sys.platform = "darwin"
from collections import namedtuple
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources.utilisation import Utilisation
Disk, Card = namedtuple("Disk", "read_bytes write_bytes"), namedtuple("Card", "bytes_recv bytes_sent")
psutil.disk_io_counters = lambda **_: {"disk0": Disk(10, 1), "disk4": Disk(20, 2)}
names = ["lo0", "gif0", "stf0", "en0", "en5", "awdl0", "llw0", "utun3", "bridge0", "ap1", "anpi0", "vmenet0"]
psutil.net_io_counters = lambda **_: {name: Card(100 + n, 1000 + n) for n, name in enumerate(names)}
found = Utilisation(SourceContext("/nowhere", "/proc", "none")).read()
print(found.disk_bytes, found.network_bytes)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["33", str(103 + 104 + 1003 + 1004)]
