# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the ids of a Linux machine: machine-id, the firmware's files, the disk of `/`, the first card.

The interface is described in host/hardware_ids/__init__.py.
"""

from __future__ import annotations

import os
from pathlib import Path

from veilleuse.agent.host.hardware_ids import LARGEST_BYTES, NOT_YET, Roots
from veilleuse.wire.files import read_named
from veilleuse.wire.pseudonym import normalise_serial, normalise_uuid


def hardware_ids(roots: Roots) -> dict[str, str]:
    """Implement `hardware.hardware_ids`."""
    dmi = roots.sysfs / "class/dmi/id"
    machine_id = _text(roots.machine_id)
    found = {
        "machine-id": "" if machine_id in NOT_YET else machine_id,
        "smbios-uuid": normalise_uuid(_text(dmi / "product_uuid")),
        "board-serial": normalise_serial(_text(dmi / "board_serial")),
        "disk-serial": _root_disk_serial(roots.sysfs),
        "first-mac": _first_mac(roots.sysfs),
    }
    return {name: value for name, value in found.items() if value}


def asset_numbers(roots: Roots) -> tuple[str | None, str | None]:
    """Implement `hardware.asset_numbers`: only root may read the two files."""
    dmi = roots.sysfs / "class/dmi/id"
    return normalise_serial(_text(dmi / "chassis_serial")), normalise_uuid(_text(dmi / "product_uuid"))


def _root_disk_serial(sysfs: Path) -> str:
    device = os.stat("/").st_dev
    node = sysfs / "dev/block" / f"{os.major(device)}:{os.minor(device)}"
    if not node.exists():
        return ""
    disk = node.resolve()
    if (disk / "partition").exists():
        disk = disk.parent
    names = ("device/serial", "serial", "device/wwid", "wwid")
    return next((text for name in names if (text := _text(disk / name))), "")


def _first_mac(sysfs: Path) -> str:
    """Return the address of the first physical interface (lowest index), if the hardware set that address."""
    found = []
    for interface in _children(sysfs / "class/net"):
        index = _text(interface / "ifindex")
        # 0: permanent address (kernel, sysfs-class-net)
        permanent = _text(interface / "addr_assign_type") == "0"
        if permanent and index.isdigit() and (interface / "device").exists():
            found.append((int(index), _text(interface / "address")))
    return min(found)[1] if found else ""


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        return read_named(path, LARGEST_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return ""
