# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test facts and hardware ids of captured trees: which values leave the machine, and which never do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes.edids import NAME_TEXT, SERIAL_TEXT, make_edid
from veilleuse.agent.host.components import Parts, memory_modules, modules_of_table, modules_of_udev
from veilleuse.agent.host.facts import host_facts, own_facts, parts_here
from veilleuse.agent.host.graphics import GraphicsAdapter, graphics_here
from veilleuse.agent.host.hardware_ids import Roots, asset_numbers, hardware_ids
from veilleuse.agent.host.machine import Machine, detect
from veilleuse.agent.host.power_plan import PowerPlan
from veilleuse.agent.settings import AgentSettings, Paths
from veilleuse.wire.limits import FACT_PATTERN
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import DeviceClass

SERIALS = (
    "5CG1234XYZ",
    "4C4C4544-0042-3510-8052-B4C04F4A4E32",
    "BOARD77SERIAL",
    "S3Z8NB0K123456",
    "02:42:ac:11:00:02",
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return the tree of a desktop PC with a known value in each serial number."""
    files = {
        "sys/class/dmi/id/sys_vendor": "Dell <b>Inc.</b>",
        "sys/class/dmi/id/product_name": "OptiPlex 3060",
        "sys/class/dmi/id/chassis_type": "7",
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
        "sys/class/dmi/id/chassis_asset_tag": "TAG99CANARY",
        "sys/class/dmi/id/product_sku": "SKU99CANARY",
        "sys/class/drm/card0-DP-1/status": "connected",
        "sys/class/drm/card0-DP-1/enabled": "enabled",
        "sys/class/drm/card0-DP-1/dpms": "On",
        "run/udev/data/+dmi:id": "E:MEMORY_DEVICE_0_SIZE=8589934592\nE:MEMORY_DEVICE_0_SERIAL_NUMBER=DIMM99CANARY",
        "etc/hostname": "host99canary",
        "machine-id": "e08d2021fbdd6f894fde550c98aff54d",
    }
    for name, text in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    (tmp_path / "sys/class/drm/card0-DP-1/edid").write_bytes(
        make_edid((53, 30), (527, 296), serial=0x43414E41)
    )
    (tmp_path / "sys/firmware/dmi/tables").mkdir(parents=True)
    (tmp_path / "sys/firmware/dmi/tables/DMI").write_bytes(memory_device(8192) + bytes((127, 4, 0, 0, 0, 0)))
    return tmp_path


def memory_device(mebibytes: int, form: int = 0x09, number: bytes = b"DIMM99CANARY") -> bytes:
    """Return an SMBIOS 2.8 structure of type 17 (40 bytes) with its two strings."""
    head = bytes((17, 40, 0, 17)) + bytes((0, 16, 0xFE, 0xFF, 64, 0, 64, 0)) + mebibytes.to_bytes(2, "little")
    rest = bytes((form, 0, 1, 0, 0x1A, 0x80, 0)) + (2400).to_bytes(2, "little") + bytes((0, 2, 0, 0, 1))
    return (head + rest).ljust(40, b"\0") + b"DIMM A1\0" + number + b"\0\0"


def facts_of(tree: Path) -> pb.Facts:
    """Return the facts of the captured machine."""
    machine = detect(str(tree / "sys"), str(tree / "proc"))
    return host_facts(machine, parts_here(machine, str(tree / "sys")))


def test_the_facts_are_what_the_machine_says(tree):
    """Facts give class, model, processors, memory in bytes, disks by kind and virtualisation."""
    facts = facts_of(tree)
    assert facts.device_class == pb.DEVICE_CLASS_TOWER
    assert facts.model == "OptiPlex 3060"
    assert facts.cpu_count == 2
    assert facts.memory_bytes == 8_012_345 * 1024
    assert (facts.hard_disks, facts.solid_state_disks) == (1, 1)
    assert facts.virtualisation == "none"
    assert facts.memory_modules == 1
    assert not facts.HasField("sleep_ac_seconds")


@pytest.mark.promise("P2")
def test_facts_hold_no_serial_and_no_markup(tree):
    """P2, S16: the bytes contain no planted number, and every text is in the fact alphabet."""
    facts = facts_of(tree)
    content = facts.SerializeToString()
    canaries = (*SERIALS, "99canary", SERIAL_TEXT[:13], NAME_TEXT, str(0x43414E41), "CANA", "ANAC")
    for serial in canaries:
        assert serial.lower().encode() not in content.lower()
    for field, value in facts.ListFields():
        if isinstance(value, str):
            assert FACT_PATTERN.fullmatch(value), field.name


def test_what_cannot_be_read_is_not_set(tmp_path):
    """An empty tree gives no class and no model; no number is 0."""
    facts = host_facts(detect(str(tmp_path), str(tmp_path)))
    assert facts.device_class == pb.DEVICE_CLASS_UNKNOWN
    for name in ("vendor", "model", "cpu_model", "cpu_count", "memory_bytes", "hard_disks"):
        assert not facts.HasField(name), name


def test_a_machine_that_says_all_sets_every_field():
    """The test finds a field of the wire that host/facts.py does not fill."""
    machine = Machine(DeviceClass.LAPTOP, "none", True, "vendor", "model", "processor", 1, 1, 1, 1)
    facts = host_facts(machine, Parts(2, PowerPlan(60, 60)))
    missing = set(facts.DESCRIPTOR.fields_by_name) - {field.name for field, _ in facts.ListFields()}
    assert not missing, (
        f"fill in host_facts (host/facts.py), and give a value in this test: {sorted(missing)}"
    )


def test_hardware_ids_are_the_hardwares_own(tree):
    """The MAC address is the permanent one of the first physical interface, not a bridge's."""
    ids = hardware_ids(Roots(tree / "sys", tree / "machine-id"))
    assert ids["first-mac"] == SERIALS[4]
    assert ids["board-serial"] == "BOARD77SERIAL"
    assert re.fullmatch("[0-9a-f]{32}", ids["smbios-uuid"])
    assert ids["machine-id"] == "e08d2021fbdd6f894fde550c98aff54d"


def test_hardware_ids_that_cannot_be_read_are_left_out(tmp_path):
    """An empty tree gives no hardware id."""
    assert hardware_ids(Roots(tmp_path, tmp_path / "none")) == {}


def test_asset_numbers_are_normalised(tree, tmp_path):
    """Serial and UUID are normalised; each is None where it is unreadable."""
    assert asset_numbers(Roots(tree / "sys")) == ("5CG1234XYZ", "4c4c4544004235108052b4c04f4a4e32")
    assert asset_numbers(Roots(tmp_path / "none")) == (None, None)


# ------------------------------------------------------------------------------------------ parts


TREES = Path(__file__).parents[3] / "fixtures" / "sys"


@pytest.mark.parametrize(
    ("tree", "modules"),
    [
        ("laptop", 1),  # 8 GB soldered, 8 GB in a slot
        ("tower", None),
        ("server_amd_two_dies", 8),  # from ECC counters
        ("virtual_machine", None),
    ],
)
def test_parts_of_the_captured_machines(tree, modules):
    """A machine has its number of memory modules; for a virtual machine the number is unknown, not 0."""
    paths = Paths(sysfs=TREES / tree / "sys", procfs=TREES / tree / "proc")
    facts = own_facts(AgentSettings(paths=paths))
    assert (facts.memory_modules if facts.HasField("memory_modules") else None) == modules


def test_memory_modules_as_systemd_tells_them(tmp_path):
    """Our reading of the SMBIOS table and the lines of systemd's helper give the same number of modules."""
    helper = Path("/usr/lib/udev/dmi_memory_id")
    if not helper.exists():
        pytest.skip("needs dmi_memory_id: apt-get install udev")
    devices = [
        memory_device(8192),
        memory_device(0),
        memory_device(16384, 0x0D),
        memory_device(4096, 0x0B),
        memory_device(0xFFFF),
    ]
    table = bytes((1, 27, 0, 0)) + bytes(23) + b"Maker\0\0" + b"".join(devices) + bytes((127, 4, 0, 0, 0, 0))
    entry = (
        b"_SM3_\0"
        + bytes((24, 3, 2, 0, 1, 0))
        + len(table).to_bytes(4, "little")
        + (32).to_bytes(8, "little")
    )
    entry = entry[:5] + bytes([-sum(entry) % 256]) + entry[6:]
    dump = tmp_path / "dump"
    dump.write_bytes(entry.ljust(32, b"\0") + table)
    said = subprocess.run([helper, "--from-dump", dump], capture_output=True, text=True, check=True).stdout
    assert "DIMM99CANARY" in said
    lines = "".join(f"E:{line}\n" for line in said.splitlines())
    assert modules_of_table(table) == modules_of_udev(lines) == 2


def test_what_cannot_be_read_has_no_modules(tmp_path):
    """Without udev's database, table and counters the number is unknown. Ranks are not modules."""
    assert memory_modules(str(tmp_path), str(tmp_path)) is None
    for name in ("rank0", "rank1", "csrow0"):
        (tmp_path / "devices/system/edac/mc/mc0" / name).mkdir(parents=True)
        (tmp_path / "devices/system/edac/mc/mc0" / name / "size").write_text("8192\n")
    assert memory_modules(str(tmp_path), str(tmp_path)) is None


@given(
    st.binary(max_size=600)
    | st.lists(st.binary(min_size=15, max_size=60)).map(
        lambda parts: b"".join(b"\x11\x28" + p for p in parts)
    )
)
def test_any_table_is_borne(table):
    """Any bytes give None or a number of modules up to their length."""
    found = modules_of_table(table)
    assert found is None or 1 <= found <= len(table)


@given(st.text(max_size=300))
def test_any_database_is_borne(text):
    """Any text gives None or a number of modules."""
    assert modules_of_udev(text) in (None, *range(1, 300))


def test_graphics_are_the_display_controllers_on_pci(tmp_path):
    """Cards with and without outputs count, by model; sound on a card, and a nameless device, do not."""
    devices = {
        "0000:00:02.0": {"class": "0x030000", "vendor": "0x8086", "device": "0x9a49"},
        "0000:01:00.0": {"class": "0x030200", "vendor": "0x10de", "device": "0x25a2"},
        "0000:01:00.1": {"class": "0x040300", "vendor": "0x10de", "device": "0x2291"},
        "0000:03:00.0": {
            "class": "0x038000",
            "vendor": "0x1002",
            "device": "0x73ff",
            "mem_info_vram_total": "8573157376",
        },
        "0000:04:00.0": {"class": "0x030000", "vendor": "", "device": "0x1"},
    }
    for address, files in devices.items():
        folder = tmp_path / "sys/bus/pci/devices" / address
        folder.mkdir(parents=True)
        for name, text in files.items():
            (folder / name).write_text(f"{text}\n")
    assert graphics_here(str(tmp_path / "sys")) == (
        GraphicsAdapter("intel 9a49", None, None),
        GraphicsAdapter("nvidia 25a2", None, None),
        GraphicsAdapter("amd 73ff", None, 8_573_157_376),
    )
    assert graphics_here(str(tmp_path / "nowhere")) == ()
