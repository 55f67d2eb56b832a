# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test hardware ids, asset numbers and parts of a Windows machine over a fake table of calls."""

from __future__ import annotations

import struct
import uuid

import pytest

from tests.support.fakes.windows import Disk, FakeWindows, smbios
from veilleuse.agent.host import windows as windows_facts
from veilleuse.agent.host import windows as windows_power
from veilleuse.agent.host.hardware_ids import Roots
from veilleuse.agent.host.hardware_ids import windows as windows_hardware
from veilleuse.agent.host.power_plan import PowerPlan

UUID = "4c4c4544-0042-3510-8052-b4c04f4a4e32"
VOLUME = "\\\\.\\C:"


def machine(*, system_uuid: str = UUID, board: str = "BOARD-7", chassis: str = "5CG-1234-XYZ") -> FakeWindows:
    """Return a fake PC."""
    made = FakeWindows()
    made.keys = {
        windows_hardware.MACHINE_GUID: "E08D2021-FBDD-6F89-4FDE-550C98AFF54D",
        windows_hardware.SYSTEM_ROOT: r"C:\Windows",
    }
    made.table = smbios(
        (0, struct.pack("<BBHB", 1, 0, 0, 0) + bytes(11), ("M1",)),
        (1, bytes((1, 0, 0, 2)) + uuid.UUID(system_uuid).bytes_le + b"\0\0\0", ("LENOVO", "SYSTEM-CANARY")),
        (2, bytes((1, 0, 0, 2)), ("LENOVO", "Default string")),
        (2, bytes((1, 0, 0, 2)), ("LENOVO", board)),
        (3, bytes((1, 3, 0, 2)), ("LENOVO", chassis)),
        (17, bytes(8) + struct.pack("<HB", 8_192, 9) + bytes(10), ()),
    )
    made.disks = {VOLUME: Disk(spins=False, bus=17)}
    return made


def test_what_a_copy_does_not_share():
    """The ids come from registry, firmware and system disk, without placeholders; the handle is closed."""
    windows = machine()
    assert windows_hardware.hardware_ids(Roots(), windows) == {
        "machine-id": "e08d2021-fbdd-6f89-4fde-550c98aff54d",
        "smbios-uuid": UUID.replace("-", ""),
        "board-serial": "BOARD7",
        "disk-serial": "S3R1AL-CANARY",
    }
    assert not windows.handles


def test_what_cannot_be_read_is_left_out():
    """A missing table, registry, volume or serial and a short answer give fewer ids, never an error."""
    windows = FakeWindows()
    assert windows_hardware.hardware_ids(Roots(), windows) == {}
    assert windows_hardware.asset_numbers(Roots(), windows) == (None, None)
    windows = machine(system_uuid="ffffffff-ffff-ffff-ffff-ffffffffffff", board="0")
    windows.disks = {VOLUME: CutShort(spins=False)}
    assert set(windows_hardware.hardware_ids(Roots(), windows)) == {"machine-id"}
    windows.disks = {VOLUME: WithoutSerial(spins=False)}
    assert set(windows_hardware.hardware_ids(Roots(), windows)) == {"machine-id"}


class CutShort(Disk):
    """Answers with half of the header."""

    def answer(self, code: int, request: bytes) -> bytes:
        return super().answer(code, request)[:16]


class WithoutSerial(Disk):
    """Has no serial offset, as many virtual disks."""

    def answer(self, code: int, request: bytes) -> bytes:
        whole = super().answer(code, request)
        return whole[:24] + bytes(4) + whole[28:]


def test_asset_numbers_are_normalised():
    """Chassis serial and UUID are in the form from which the inventory's pseudonyms are made."""
    assert windows_hardware.asset_numbers(Roots(), machine()) == ("5CG1234XYZ", UUID.replace("-", ""))


@pytest.mark.parametrize(("vendor", "modules"), [("LENOVO", 1), ("QEMU", None)])
def test_parts_of_a_pc_and_of_a_virtual_machine(vendor, modules):
    """Only real hardware has memory modules; both machines have a power plan."""
    windows = machine()
    windows.plan = {(windows_power.VIDEO, windows_power.VIDEO_IDLE): 600}
    windows.table = smbios(
        (1, bytes((1, 1, 0, 0)) + bytes(19), (vendor,)),
        (17, bytes(8) + struct.pack("<HB", 8_192, 9) + bytes(10), ()),
    )
    found = windows_facts.detect_here("/nowhere", "/nowhere", calls=windows)
    parts = windows_facts.parts_here(found, "/nowhere", windows)
    assert found.vendor == vendor
    assert (parts.memory_modules, parts.plan) == (modules, PowerPlan(600, None))
