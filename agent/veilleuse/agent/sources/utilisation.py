# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the load of processor, memory, disks and network through psutil. Totals only: no process, no user."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Final

import psutil

from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import LoadCounters
from veilleuse.agent.platforms import SYSTEM
from veilleuse.agent.ports import SourceContext
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

_ERRORS = (OSError, psutil.Error, RuntimeError, NotImplementedError, ValueError, IndexError, AttributeError)
# psutil lets its parser's errors through when a file of procfs has an unexpected format.
_WHOLE_DISKS: Final = SYSTEM in ("macos", "windows")
"""Systems where psutil lists only whole disks: storage drivers on macOS, PhysicalDrive on Windows."""
_NO_CARD: Final = re.compile(
    r"lo\d*|(gif|stf|utun|ipsec|awdl|llw|ap|anpi|bridge|vmenet|feth)\d+|Loopback .*" if _WHOLE_DISKS else "lo"
)
"""Interfaces without a cable or radio of their own. Where sysfs exists, it gives more detail."""


class Utilisation:
    """`ports.LoadSource` for every system that psutil supports."""

    name = "utilisation"

    def __init__(self, context: SourceContext) -> None:
        self._sysfs = context.sysfs
        self._procfs = context.procfs
        self._disks: dict[str, bool] = {}
        self._interfaces: dict[str, bool] = {}

    def open(self) -> None:
        """Point psutil at procfs. Raises SourceUnavailable when procfs shows no processor time."""
        if hasattr(psutil, "PROCFS_PATH"):
            psutil.PROCFS_PATH = self._procfs
        try:
            self.read()
        except ReadFailed as error:
            raise SourceUnavailable(
                "no_permission", str(error), "mount procfs where the agent can read it"
            ) from error

    def read(self) -> LoadCounters:
        """Return the counters.

        Raises ReadFailed when processor time cannot be read; the other values may be None.
        """
        try:
            times = psutil.cpu_times(percpu=True)
        except _ERRORS as error:
            raise ReadFailed(f"cannot read processor times under {self._procfs}: {error}") from error
        if not times:
            raise ReadFailed(f"no processor times under {self._procfs}")
        total, busy = zip(*(_milliseconds(cpu) for cpu in times), strict=True)
        return LoadCounters(total, busy, _memory_used_ratio(), self._disk_bytes(), self._network_bytes())

    def _disk_bytes(self) -> int | None:
        """Return the bytes of whole disks: partitions, RAID and device-mapper volumes repeat them."""
        try:
            counters = psutil.disk_io_counters(perdisk=True, nowrap=False)
        except _ERRORS:
            return None
        if not counters:
            return None
        names = counters if _WHOLE_DISKS else self._with_hardware(counters, "block", self._disks)
        whole = [counters[name] for name in names]
        return sum(disk.read_bytes + disk.write_bytes for disk in whole) if whole else None

    def _network_bytes(self) -> int | None:
        """Return the bytes of interfaces with hardware.

        When there is none (containers), or it is not known, all interfaces but loopback and similar ones
        count. A bridge, a bond or a tunnel repeats the bytes of the interface below it.
        """
        try:
            counters = psutil.net_io_counters(pernic=True, nowrap=False)
        except _ERRORS:
            return None
        names = self._with_hardware(counters, "class/net", self._interfaces) or [
            name for name in counters if not _NO_CARD.fullmatch(name)
        ]
        chosen = [counters[name] for name in names]
        return sum(nic.bytes_recv + nic.bytes_sent for nic in chosen) if chosen else None

    def _with_hardware(self, names: Iterable[str], folder: str, known: dict[str, bool]) -> list[str]:
        """Return the names with a device link in sysfs.

        Each name is looked up once, and deleted when it is gone: containers create new ones all day.
        """
        chosen = []
        for gone in known.keys() - set(names):
            del known[gone]
        for name in names:
            backed = known.get(name)
            if backed is None:
                backed = known[name] = os.path.exists(f"{self._sysfs}/{folder}/{name}/device")
            if backed:
                chosen.append(name)
        return chosen


def _milliseconds(cpu: object) -> tuple[int, int]:
    """Return (busy + idle, busy) of one logical CPU, in ms.

    `user` already includes `guest`. Windows' `system` (kernel time less idle time) already includes
    `interrupt` and `dpc`. iowait counts as idle. steal is the host's time: it is not busy, but stays in the
    total.
    """
    idle = _field(cpu, "idle") + _field(cpu, "iowait") + _field(cpu, "steal")
    busy = sum(_field(cpu, name) for name in ("user", "nice", "system", "irq", "softirq"))
    return round((busy + idle) * MILLISECONDS_PER_SECOND), round(busy * MILLISECONDS_PER_SECOND)


def _field(cpu: object, name: str) -> float:
    return float(getattr(cpu, name, 0.0))


def _memory_used_ratio() -> float | None:
    try:
        memory = psutil.virtual_memory()
    except _ERRORS:
        return None
    if memory.total <= 0:
        return None
    return min(1.0, max(0.0, 1 - memory.available / memory.total))
