# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Facts and hardware ids from captured trees: what leaves, what never does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from veilleuse.agent.facts import host_facts
from veilleuse.agent.hardware import Roots, asset_numbers, hardware_ids
from veilleuse.agent.machine import detect
from veilleuse.wire.limits import FACT_PATTERN
from veilleuse.wire.v1 import telemetry_pb2 as pb

SERIALS = (
    "5CG1234XYZ",
    "4C4C4544-0042-3510-8052-B4C04F4A4E32",
    "BOARD77SERIAL",
    "S3Z8NB0K123456",
    "02:42:ac:11:00:02",
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A desktop PC whose every serial number is planted."""
    files = {
        "sys/class/dmi/id/sys_vendor": "Dell <b>Inc.</b>",
        "sys/class/dmi/id/product_name": "OptiPlex 3060",
        "sys/class/dmi/id/chassis_type": "7",
        "sys/class/dmi/id/bios_date": "07/12/2021",
        "sys/class/dmi/id/chassis_serial": SERIALS[0],
        "sys/class/dmi/id/product_serial": SERIALS[0],
        "sys/class/dmi/id/product_uuid": SERIALS[1],
        "sys/class/dmi/id/board_serial": SERIALS[2],
        "sys/block/sda/queue/rotational": "0",
        "sys/block/sda/device/serial": SERIALS[3],
        "sys/block/sdb/queue/rotational": "1",
        "sys/block/sdb/device/model": "x",
        "sys/block/loop0/queue/rotational": "0",
        "sys/class/net/eth0/address": SERIALS[4],
        "sys/class/net/eth0/addr_assign_type": "0",
        "sys/class/net/eth0/ifindex": "2",
        "sys/class/net/eth0/device/vendor": "0x8086",
        "sys/class/net/docker0/address": "02:42:00:00:00:01",
        "sys/class/net/docker0/addr_assign_type": "3",
        "sys/class/net/docker0/ifindex": "1",
        "proc/cpuinfo": "processor: 0\nmodel name: Intel(R) Core(TM) i5-8500 CPU @ 3.00GHz\nphysical id: 0\n\nprocessor: 1\nphysical id: 0\n",
        "proc/meminfo": "MemTotal:        8012345 kB\n",
        "machine-id": "e08d2021fbdd6f894fde550c98aff54d",
    }
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return tmp_path


def facts_of(tree: Path, *points: list[str]) -> pb.Facts:
    """Facts of the captured machine."""
    return host_facts(detect(str(tree / "sys"), str(tree / "proc")), points)


def test_the_facts_are_what_the_machine_says(tree):
    """Class, model, processor, memory in bytes, disks by kind, firmware year, no virtualisation."""
    facts = facts_of(tree)
    assert facts.device_class == pb.DEVICE_CLASS_TOWER
    assert facts.model == "OptiPlex 3060"
    assert (facts.cpu_count, facts.cpu_sockets) == (2, 1)
    assert facts.memory_bytes == 8_012_345 * 1024
    assert (facts.hard_disks, facts.solid_state_disks) == (1, 1)
    assert facts.firmware_year == 2021
    assert facts.virtualisation == "none"
    assert not facts.HasField("gpus")
    assert not facts.HasField("memory_modules")


def test_facts_hold_no_serial_and_no_markup(tree):
    """P2, S16: no planted number in the bytes; every text in the fact alphabet."""
    facts = facts_of(tree)
    content = facts.SerializeToString()
    for serial in SERIALS:
        assert serial.encode() not in content
    for field, value in facts.ListFields():
        if isinstance(value, str):
            assert FACT_PATTERN.fullmatch(value), field.name


def test_points_are_told_once_each_in_a_fixed_order(tree):
    """The same points in another order give the same bytes, so the same hash: nothing is sent again."""
    one, two = ["rapl", "package-0", "component", "machine"], ["battery_out", "BAT0", "machine_dc", "machine"]
    assert facts_of(tree, one, two).SerializeToString(deterministic=True) == facts_of(
        tree, two, one
    ).SerializeToString(deterministic=True)
    assert [point.domain for point in facts_of(tree, one, two).points] == ["BAT0", "package-0"]


def test_what_cannot_be_read_is_not_set(tmp_path):
    """An empty tree: no class, no model, no zero."""
    facts = host_facts(detect(str(tmp_path), str(tmp_path)), [])
    assert facts.device_class == pb.DEVICE_CLASS_UNKNOWN
    for name in ("vendor", "model", "cpu_model", "cpu_count", "memory_bytes", "hard_disks", "firmware_year"):
        assert not facts.HasField(name), name


def test_hardware_ids_are_the_hardwares_own(tree):
    """The permanent address of the first physical interface; not a bridge's."""
    ids = hardware_ids(Roots(tree / "sys", tree / "machine-id"))
    assert ids["first-mac"] == SERIALS[4]
    assert ids["board-serial"] == "BOARD77SERIAL"
    assert re.fullmatch("[0-9a-f]{32}", ids["smbios-uuid"])
    assert ids["machine-id"] == "e08d2021fbdd6f894fde550c98aff54d"


def test_hardware_ids_that_cannot_be_read_are_left_out(tmp_path):
    """Nothing is compared with nothing."""
    assert hardware_ids(Roots(tmp_path, tmp_path / "none")) == {}


def test_asset_numbers_are_normalised(tree, tmp_path):
    """Serial and UUID, None when not readable."""
    assert asset_numbers(Roots(tree / "sys")) == ("5CG1234XYZ", "4c4c4544004235108052b4c04f4a4e32")
    assert asset_numbers(Roots(tmp_path / "none")) == (None, None)
