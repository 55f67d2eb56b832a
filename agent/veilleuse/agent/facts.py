# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What the machine is, as the wire's Facts. Never a serial number, a name or a user.

Two things are read here that never leave as they are: the ids whose change betrays a copy (`hardware_ids`), and the
asset numbers whose pseudonyms are sent once, at enrolment (`asset_numbers`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from veilleuse.agent.machine import Machine, detect
from veilleuse.agent.settings import AgentSettings
from veilleuse.wire.limits import MAX_POINTS_PER_RECORD, fact_text
from veilleuse.wire.pseudonym import normalised_serial, normalised_uuid
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.version import VERSION

_PLAIN: Final = (
    "vendor",
    "model",
    "cpu_model",
    "cpu_count",
    "cpu_sockets",
    "memory_bytes",
    "hard_disks",
    "solid_state_disks",
    "firmware_year",
    "os_type",
    "os_version",
    "host_arch",
    "virtualisation",
)
"""Fields that Machine and Facts share by name and unit; None stays unset."""


MACHINE_ID: Final = Path("/etc/machine-id")
"""machine-id(5)."""


@dataclass(frozen=True, slots=True)
class Roots:
    """Where to read."""

    sysfs: Path = Path("/sys")
    machine_id: Path = MACHINE_ID


def own_facts(settings: AgentSettings, points: Iterable[Sequence[str]]) -> pb.Facts:
    """The facts of this machine; `points` as in `host_facts`."""
    sysfs, procfs = str(settings.paths.sysfs), str(settings.paths.procfs)
    return host_facts(detect(sysfs, procfs, device_class=settings.measure.device_class), points)


def host_facts(machine: Machine, points: Iterable[Sequence[str]]) -> pb.Facts:
    """The facts as they are now; what is not known is not set.

    `points` as the resident process wrote them in control SOURCES: [kind, domain, boundary, subject].
    """
    facts = pb.Facts(agent_version=VERSION, device_class=f"DEVICE_CLASS_{machine.device_class.upper()}")
    for name in _PLAIN:
        value = getattr(machine, name)
        if isinstance(value, str):
            value = fact_text(value)
        if value is not None:
            setattr(facts, name, value)
    for kind, domain, boundary, subject in sorted(map(tuple, points))[:MAX_POINTS_PER_RECORD]:
        facts.points.add(
            kind=pb.PointKind.Value(f"POINT_KIND_{kind.upper()}"),
            domain=domain,
            boundary=pb.Boundary.Value(f"BOUNDARY_{boundary.upper()}"),
            subject=subject,
        )
    return facts


def hardware_ids(roots: Roots) -> dict[str, str]:
    """What a copy does not share with its original, by name; only what can be read. Stays on the machine, under a salt."""
    dmi = roots.sysfs / "class/dmi/id"
    found = {
        "machine-id": _text(roots.machine_id),
        "smbios-uuid": normalised_uuid(_text(dmi / "product_uuid")),
        "board-serial": normalised_serial(_text(dmi / "board_serial")),
        "disk-serial": _root_disk_serial(roots.sysfs),
        "first-mac": _first_mac(roots.sysfs),
    }
    return {name: value for name, value in found.items() if value}


def asset_numbers(roots: Roots) -> tuple[str | None, str | None]:
    """(normalised chassis serial, normalised SMBIOS UUID), None when not readable: both files are root's."""
    dmi = roots.sysfs / "class/dmi/id"
    return normalised_serial(_text(dmi / "chassis_serial")), normalised_uuid(_text(dmi / "product_uuid"))


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
    """Address of the physical interface with the lowest index, when it is the hardware's own."""
    found = []
    for interface in _children(sysfs / "class/net"):
        index = _text(interface / "ifindex")
        permanent = _text(interface / "addr_assign_type") == "0"  # kernel, sysfs-class-net
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
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
