# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What a machine says it is, from its own files."""

from __future__ import annotations

from pathlib import Path

import pytest

from veilleuse.agent.machine import detect
from veilleuse.wire.limits import FACT_PATTERN
from veilleuse.wire.vocabulary import DeviceClass

TREES = Path(__file__).parents[2] / "fixtures" / "sys"


def machine(name: str):
    """The machine of one tree."""
    return detect(f"{TREES}/{name}/sys", f"{TREES}/{name}/proc")


@pytest.mark.parametrize(
    ("name", "device_class", "virtualisation", "battery", "disks", "sockets"),
    [
        ("laptop", DeviceClass.LAPTOP, "none", True, (0, 1), 1),
        ("tower", DeviceClass.TOWER, "none", False, (1, 1), 1),
        ("server_amd_two_dies", DeviceClass.SERVER, "none", False, (0, 1), 2),
        ("virtual_machine", DeviceClass.VIRTUAL_MACHINE, "kvm", False, (None, None), 1),
    ],
)
def test_the_form(name, device_class, virtualisation, battery, disks, sockets):
    """Class by chassis, virtual machines by what their hypervisor shows; partitions, volumes and sticks are no disks."""
    found = machine(name)
    assert found.device_class is device_class
    assert found.virtualisation == virtualisation
    assert found.has_battery is battery
    assert (found.hard_disks, found.solid_state_disks) == disks
    assert found.cpu_sockets == sockets


def test_facts_are_in_the_fact_alphabet():
    """Texts carry nothing that could become markup or a formula; numbers are numbers."""
    found = machine("laptop")
    assert (found.vendor, found.model, found.firmware_year) == ("LENOVO", "20W0S04U00", 2021)
    assert found.cpu_model == "11th Gen Intel_R_ Core_TM_ i5-1135G7 _ 2.40GHz"
    assert FACT_PATTERN.fullmatch(found.cpu_model)
    assert (found.cpu_count, found.memory_bytes) == (8, 16_000_000 * 1024)


def test_the_owner_knows_better():
    """measure.device_class overrules what the hardware says."""
    tree = TREES / "virtual_machine"
    assert detect(f"{tree}/sys", f"{tree}/proc", device_class="server").device_class is DeviceClass.SERVER


def test_nothing_readable_is_nothing_known(tmp_path):
    """An empty tree gives unknowns, never zeros."""
    found = detect(f"{tmp_path}/sys", f"{tmp_path}/proc")
    assert (found.device_class, found.virtualisation) == (DeviceClass.UNKNOWN, "none")
    assert (found.cpu_count, found.memory_bytes, found.hard_disks, found.vendor) == (None, None, None, None)


@pytest.mark.parametrize(
    ("file", "text", "virtualisation"),
    [
        ("sys/class/dmi/id/sys_vendor", "VMware, Inc.", "vmware"),
        ("sys/class/dmi/id/product_name", "Microsoft Corporation Virtual Machine", "hyperv"),
        ("sys/class/dmi/id/product_name", "Standard PC (Q35) QEMU", "kvm"),
        ("sys/class/dmi/id/bios_vendor", "innotek VirtualBox", "unknown"),
        ("sys/hypervisor/type", "xen", "xen"),
        ("proc/1/cgroup", "12:cpu:/docker/0123", "container"),
        ("proc/1/environ", "PATH=/bin\0container=lxc\0", "container"),
        ("proc/cpuinfo", "processor : 0\nflags : fpu hypervisor\n", "unknown"),
    ],
)
def test_hypervisors(tmp_path, file, text, virtualisation):
    """Each leaves its own trace; one that leaves only the processor's flag is unknown, not bare metal."""
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert detect(f"{tmp_path}/sys", f"{tmp_path}/proc").virtualisation == virtualisation
