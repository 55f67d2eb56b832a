# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the detection of a machine's form and parts from its own files."""

from __future__ import annotations

from pathlib import Path

import pytest

from veilleuse.agent.host.machine import detect, root_of
from veilleuse.wire.limits import FACT_PATTERN
from veilleuse.wire.vocabulary import DeviceClass

TREES = Path(__file__).parents[3] / "fixtures" / "sys"


def machine(name: str):
    """Detect the machine of a captured tree."""
    return detect(f"{TREES}/{name}/sys", f"{TREES}/{name}/proc")


@pytest.mark.parametrize(
    ("name", "device_class", "virtualisation", "battery", "disks"),
    [
        ("laptop", DeviceClass.LAPTOP, "none", True, (0, 1)),
        ("tower", DeviceClass.TOWER, "none", False, (1, 1)),
        ("server_amd_two_dies", DeviceClass.SERVER, "none", False, (0, 1)),
        ("virtual_machine", DeviceClass.VIRTUAL_MACHINE, "kvm", False, (None, None)),
    ],
)
def test_the_form(name, device_class, virtualisation, battery, disks):
    """The class comes from the chassis or the hypervisor; partitions, volumes and sticks are not disks."""
    found = machine(name)
    assert found.device_class is device_class
    assert found.virtualisation == virtualisation
    assert found.has_battery is battery
    assert (found.hard_disks, found.solid_state_disks) == disks


def test_facts_are_in_the_fact_alphabet():
    """Texts contain nothing that could become markup or a formula."""
    found = machine("laptop")
    assert (found.vendor, found.model) == ("LENOVO", "ThinkPad T14 Gen 2i")
    assert found.cpu_model == "11th Gen Intel_R_ Core_TM_ i5-1135G7 _ 2.40GHz"
    assert FACT_PATTERN.fullmatch(found.cpu_model)
    assert (found.cpu_count, found.memory_bytes) == (8, 16_000_000 * 1024)


def test_the_owner_knows_better():
    """measure.device_class overrides the class that the hardware gives."""
    tree = TREES / "virtual_machine"
    assert detect(f"{tree}/sys", f"{tree}/proc", device_class="server").device_class is DeviceClass.SERVER


def test_nothing_readable_is_nothing_known(tmp_path):
    """An empty tree gives unknown values, never zeros."""
    found = detect(f"{tmp_path}/sys", f"{tmp_path}/proc")
    assert (found.device_class, found.virtualisation) == (DeviceClass.UNKNOWN, "none")
    assert (found.cpu_count, found.memory_bytes, found.hard_disks, found.vendor) == (None, None, None, None)


def planted(root: Path, **files: str) -> Path:
    """Write DMI texts below a root; a name with a slash is a path below the root."""
    for name, text in files.items():
        path = root / (name if "/" in name else f"sys/class/dmi/id/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def detected(root: Path):
    """Detect the machine below a root."""
    return detect(f"{root}/sys", f"{root}/proc")


@pytest.mark.parametrize(
    ("texts", "vendor", "model"),
    [
        ({"sys_vendor": "HP", "product_name": "HP EliteDesk 800 G4 SFF"}, "HP", "HP EliteDesk 800 G4 SFF"),
        (
            {"sys_vendor": "LENOVO", "product_name": "20W0S04U00", "product_version": "ThinkPad T14 Gen 2i"},
            "LENOVO",
            "ThinkPad T14 Gen 2i",
        ),
        (
            {"sys_vendor": "LENOVO", "product_name": "10T7CTO1WW", "product_version": "ThinkCentre M720s"},
            "LENOVO",
            "ThinkCentre M720s",
        ),
        (
            {
                "sys_vendor": "LENOVO",
                "product_name": "ThinkSystem SR650 -[7X06CTO1WW]-",
                "product_version": "07",
            },
            "LENOVO",
            "ThinkSystem SR650",
        ),
        ({"sys_vendor": "Lenovo", "product_name": "81N8", "product_version": "Lenovo"}, "Lenovo", "81N8"),
        ({"sys_vendor": "To Be Filled By O.E.M.", "product_name": "To Be Filled By O.E.M."}, None, None),
        (
            {
                "sys_vendor": "System manufacturer",
                "product_name": "System Product Name",
                "board_vendor": "ASUSTeK COMPUTER INC.",
                "board_name": "PRIME B450M-A",
            },
            "ASUSTeK COMPUTER INC.",
            "PRIME B450M-A",
        ),
        (
            {
                "sys_vendor": "ASUS",
                "product_name": "All Series",
                "board_vendor": "ASUSTeK COMPUTER INC.",
                "board_name": "H81M-K",
            },
            "ASUS",
            "H81M-K",
        ),
        (
            {
                "sys_vendor": "Default string",
                "product_name": "Default string",
                "board_name": "Default string",
            },
            None,
            None,
        ),
        ({"sys_vendor": "", "product_name": "  "}, None, None),
        ({"sys_vendor": "xxxxxxxx", "product_name": "0000"}, None, None),
    ],
)
def test_names_and_what_stands_for_them(tmp_path, texts, vendor, model):
    """A placeholder is no name; the board's names fill missing ones; Lenovo's model is in the version."""
    found = detected(planted(tmp_path, **texts))
    assert (found.vendor, found.model) == (vendor, model)


def test_disks_that_are_elsewhere_do_not_count(tmp_path):
    """Sticks, cards, USB disks, volumes of a storage network and hidden paths do not count."""
    places = {
        "sda": "pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda",
        "sdb": "pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/block/sdb",
        "sdc": "platform/host7/session1/target7:0:0/7:0:0:1/block/sdc",
        "sdd": "pci0000:00/0000:05:00.0/host1/rport-1:0-0/target1:0:0/block/sdd",
        "nvme0n1": "pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n1",
        "nvme1n1": "virtual/nvme-fabrics/ctl/nvme1/nvme1n1",
        "nvme0c0n1": "pci0000:00/0000:01:00.0/nvme/nvme0/nvme0c0n1",
        "mmcblk0": "pci0000:00/0000:00:1a.0/mmc_host/mmc0/mmc0:0001/block/mmcblk0",
        "mmcblk1": "pci0000:00/0000:00:1b.0/mmc_host/mmc1/mmc1:0001/block/mmcblk1",
    }
    (tmp_path / "sys/block").mkdir(parents=True)
    for name, place in places.items():
        disk = tmp_path / "sys/devices" / place
        planted(tmp_path, **{f"{disk.relative_to(tmp_path)}/queue/rotational": "1" if name == "sda" else "0"})
        (disk / "device").mkdir()
        (tmp_path / "sys/block" / name).symlink_to(disk)
    planted(
        tmp_path,
        **{
            "sys/block/nvme0c0n1/hidden": "1",
            "sys/block/mmcblk0/device/type": "MMC",
            "sys/block/mmcblk1/device/type": "SD",
        },
    )
    found = detected(tmp_path)
    assert (found.hard_disks, found.solid_state_disks) == (1, 2)  # sda; nvme0n1 and the soldered mmcblk0


@pytest.mark.parametrize(
    ("file", "text", "virtualisation"),
    [
        ("sys/class/dmi/id/sys_vendor", "VMware, Inc.", "vmware"),
        ("sys/class/dmi/id/product_name", "Microsoft Corporation Virtual Machine", "hyperv"),
        ("sys/class/dmi/id/product_name", "Standard PC (Q35) QEMU", "kvm"),
        ("sys/class/dmi/id/bios_vendor", "innotek VirtualBox", "unknown"),
        ("sys/hypervisor/type", "xen", "xen"),
        ("sys/class/dmi/id/product_name", "Apple Virtualization Generic Platform", "unknown"),
        ("sys/devices/system/clocksource/clocksource0/available_clocksource", "kvm-clock tsc acpi_pm", "kvm"),
        ("sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc hpet acpi_pm", "none"),
        ("proc/sys/kernel/osrelease", "5.15.153.1-microsoft-standard-WSL2", "hyperv"),
        ("proc/sys/kernel/osrelease", "4.4.0-19041-Microsoft", "container"),
        ("run/systemd/container", "lxc", "container"),
        ("run/.containerenv", "", "container"),
        (".dockerenv", "", "container"),
        ("proc/vz/version", "", "container"),
        ("proc/1/cgroup", "12:cpu:/docker/0123", "container"),
        ("proc/1/environ", "PATH=/bin\0container=lxc\0", "container"),
        ("proc/cpuinfo", "processor : 0\nflags : fpu hypervisor\n", "unknown"),
    ],
)
def test_hypervisors(tmp_path, file, text, virtualisation):
    """Each hypervisor has its own trace; the processor's flag alone gives `unknown`, not bare metal."""
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    assert detect(f"{tmp_path}/sys", f"{tmp_path}/proc").virtualisation == virtualisation


@pytest.mark.parametrize(
    ("files", "virtualisation"),
    [
        ({"sys/hypervisor/type": "xen", "proc/xen/capabilities": "control_d"}, "none"),
        ({"sys/hypervisor/type": "xen", "sys/hypervisor/properties/features": "00002705"}, "xen"),
        ({"sys/hypervisor/type": "xen", "sys/hypervisor/properties/features": "00002fc5"}, "none"),
        (
            {"sys_vendor": "Amazon EC2", "product_name": "m5.metal", "proc/cpuinfo": "flags : fpu sse2"},
            "none",
        ),
        (
            {
                "sys_vendor": "Amazon EC2",
                "product_name": "m5.large",
                "proc/cpuinfo": "flags : fpu hypervisor",
            },
            "kvm",
        ),
        ({"sys_vendor": "Amazon EC2", "product_name": "m6g.metal"}, "none"),
        ({"sys_vendor": "Amazon EC2", "product_name": "m6g.large"}, "kvm"),
        ({"sys_vendor": "Microsoft Corporation", "product_name": "Surface Pro 7"}, "none"),
        ({"sys_vendor": "QEMU", "run/systemd/container": "docker"}, "container"),
        ({"sys_vendor": "QEMU", "proc/cpuinfo": "flags : fpu vmx hypervisor"}, "kvm"),
    ],
)
def test_what_looks_virtual_and_is_not(tmp_path, files, virtualisation):
    """Xen's privileged domain and metal cloud machines are bare metal; a container in a VM is a container."""
    assert detected(planted(tmp_path, **files)).virtualisation == virtualisation


def test_a_captured_tree_is_never_mixed_with_this_machine(tmp_path):
    """The root is the folder that contains sysfs: a captured tree never uses this machine's /etc and /run."""
    assert root_of("/sys") == ""
    assert root_of("/some/tree/sys") == "/some/tree"
