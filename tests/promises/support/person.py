# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Makes a machine with a user: each string that names the user or machine is a canary (P2). Needs root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support.fakes.edids import NAME_TEXT, SERIAL_TEXT, make_edid
from tests.support.stack import program
from tests.support.trees import TREES, put

ADDRESS: Final = "127.77.31.9"
"""Address of the machine, as the collector sees it."""
DISPLAY_NUMBER: Final = 0x43A71E5D
CANARIES: Final = {
    "login": "dupont-canari",
    "full name": "Camille Canari",
    "home": "/home/maison-canari",
    "host name": "hote-canari",
    "Wi-Fi name": "Livebox-Canari",
    "window title": "Dossier canari - LibreOffice",
    "process": "procanari",
    "command line": "--arret=canari-maladie",
    "file": "lettre-canari.odt",
    "IP address": ADDRESS,
    "MAC address": "02:ca:9a:71:00:5e",
    "machine-id": "ca9a71f05eb3479d8e1c6b2a0d4f7395",
    "boot id": "5e0fca9a-7b1d-4c3e-9f28-61d0a4b7c3e5",
    "SMBIOS UUID": "4c4c4544-00ca-9a71-8052-b4c04f4a4e32",
    "chassis serial": "CHASSIS77CANARI",
    "product serial": "PRODUIT77CANARI",
    "board serial": "CARTE77CANARI",
    "asset tag": "INV77CANARI",
    "disk serial": "DISQUE77CANARI",
    "disk WWID": "eui.00ca9a7177c0ffee",
    "memory serial": "DIMM77CANARI",
    "battery serial": "PILE77CANARI",
    "display serial": SERIAL_TEXT[:13],
    "display name": NAME_TEXT,
    "display number": str(DISPLAY_NUMBER),
    "display number, hexadecimal": f"{DISPLAY_NUMBER:x}",
    "instance of a service": "instance-canari",
    "guest": "bureau-canari",
}
CONTROL_MODEL: Final = "Temoin 9000 CPU"
CONTROL_UNIT: Final = "temoin-service"
"""Strings that may be sent, and are: a search that does not find them proves nothing."""


def plant(tree: Path) -> None:
    """Copy the captured laptop into `tree`, with canaries where the kernel, udev and systemd have them."""
    shutil.copytree(TREES / "laptop", tree, symlinks=True)
    device = Path("/").stat().st_dev
    disk = f"dev/block/{os.major(device)}:{os.minor(device)}"
    for file, name in (
        ("class/dmi/id/chassis_serial", "chassis serial"),
        ("class/dmi/id/product_serial", "product serial"),
        ("class/dmi/id/product_uuid", "SMBIOS UUID"),
        ("class/dmi/id/board_serial", "board serial"),
        ("class/dmi/id/chassis_asset_tag", "asset tag"),
        (f"{disk}/device/serial", "disk serial"),
        (f"{disk}/wwid", "disk WWID"),
        ("block/nvme0n1/device/serial", "disk serial"),
        ("block/nvme0n1/wwid", "disk WWID"),
        ("class/net/wlp0s20f3/address", "MAC address"),
        ("class/power_supply/BAT0/serial_number", "battery serial"),
    ):
        put(tree, file, CANARIES[name])
    for file, text in (
        ("class/net/wlp0s20f3/ifindex", "2"),
        ("class/net/wlp0s20f3/addr_assign_type", "0"),
        ("fs/cgroup/system.slice/cpu.stat", "usage_usec 9000000"),
        (f"fs/cgroup/system.slice/{CONTROL_UNIT}.service/cpu.stat", "usage_usec 4000000"),
        (f"fs/cgroup/system.slice/vpn@{CANARIES['instance of a service']}.service/cpu.stat", "usage_usec 20"),
        (f"fs/cgroup/system.slice/sync-{CANARIES['login']}.service/cpu.stat", "usage_usec 3000000"),
        (f"fs/cgroup/machine.slice/{_guest()}/cpu.stat", "usage_usec 2000000"),
        ("fs/cgroup/user.slice/user-1000.slice/cpu.stat", "usage_usec 1000000"),
    ):
        put(tree, file, text)
    edid = make_edid((53, 30), (527, 296), serial=DISPLAY_NUMBER)
    (tree / "sys/class/drm/card0-DP-1/edid").write_bytes(edid)
    udev = tree / "run/udev/data/+dmi:id"
    udev.write_text(udev.read_text().replace("7A77C0DE", CANARIES["memory serial"]))
    cpuinfo = tree / "proc/cpuinfo"
    lines = cpuinfo.read_text().splitlines()
    cpuinfo.write_text(
        "\n".join(f"model name\t: {CONTROL_MODEL}" if one.startswith("model name") else one for one in lines)
    )
    (tree / "proc/sys/kernel/random/boot_id").write_text(CANARIES["boot id"] + "\n")
    (tree / "proc/net/wireless").write_text(f"wlp0s20f3: {CANARIES['Wi-Fi name']}\n")
    (tree / "proc/net/arp").write_text(f"{ADDRESS} 0x1 0x2 {CANARIES['MAC address']} * wlp0s20f3\n")
    (tree / "etc/hostname").write_text(CANARIES["host name"] + "\n")
    (tree / "etc/passwd").write_text(_account(1000))


def let_work(tree: Path) -> None:
    """Increase the energy of the processor and the CPU time of each unit."""
    for path in (*tree.glob("sys/fs/cgroup/*/*/cpu.stat"), *tree.glob("sys/class/powercap/*/energy_uj")):
        word, _, number = path.read_text().strip().rpartition(" ")
        path.write_text(f"{word} {int(number) + 90_000}\n".lstrip())


def _guest() -> str:
    name = CANARIES["guest"].replace("-", r"\x2d")
    return rf"machine-qemu\x2d1\x2d{name}.scope"


def _account(number: int) -> str:
    """Return a line of passwd(5)."""
    return f"{CANARIES['login']}:x:{number}:{number}:{CANARIES['full name']},,,:{CANARIES['home']}:/bin/sh\n"


@contextmanager
def somebodys_machine(folder: Path) -> Iterator[Path]:
    """Yield a program that runs `veilleuse-agent` in that machine. Host name, machine-id, accounts,
    environment, working directory and a process beside it are canaries. Skips without root.
    """
    if os.geteuid() != 0:
        pytest.skip("needs root, for namespaces")
    tree, desk = folder / "tree", folder / "bureau"
    plant(tree)
    desk.mkdir()
    (desk / CANARIES["file"]).write_text(CANARIES["window title"])
    (folder / "machine-id").write_text(CANARIES["machine-id"] + "\n")
    (folder / "passwd").write_text(_account(0))
    agent = folder / "agent-there"
    agent.write_text(
        f"""#!/bin/sh
cd '{desk}'
export {_environment(desk)}
exec unshare --mount --uts sh -c '
  mount --bind {folder}/machine-id /etc/machine-id && mount --bind {folder}/passwd /etc/passwd &&
  mount --bind {tree}/etc/hostname /etc/hostname && hostname {CANARIES["host name"]} && exec "$@"' \\
  sh {program("veilleuse-agent")} "$@"
"""
    )
    agent.chmod(0o700)
    shell = folder / CANARIES["process"]
    shell.symlink_to("/bin/sh")
    opens = f"exec 3<'{CANARIES['file']}'; read never"
    with subprocess.Popen(
        [shell, "-c", opens, CANARIES["command line"]], cwd=desk, stdin=subprocess.PIPE
    ) as one:
        (tree / "proc" / str(one.pid)).symlink_to(f"/proc/{one.pid}")
        yield agent  # afterwards the end of its input ends the process


def _environment(desk: Path) -> str:
    """Return the environment of a desktop session, in words of sh."""
    values = {
        "USER": "login",
        "LOGNAME": "login",
        "USERNAME": "login",
        "SUDO_USER": "login",
        "NAME": "full name",
        "HOSTNAME": "host name",
        "WIFI_SSID": "Wi-Fi name",
        "WINDOW_TITLE": "window title",
        "SSH_CLIENT": "IP address",
    }
    words = [f"{name}='{CANARIES[canary]}'" for name, canary in values.items()]
    return " ".join([*words, f"HOME='{CANARIES['home']}'", f"OLDPWD='{desk}/{CANARIES['file']}'"])
