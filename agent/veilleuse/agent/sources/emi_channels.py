# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Chooses the channels of Windows' energy meters that count, by their names: docs/sources.md, windows_emi.

Their points have the domains of RAPL on Linux (package-0, dram-0, psys), so that the collector applies one
rule to both systems. Where each name was seen: tests/fixtures/windows/PROVENANCE.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from typing import Final, NamedTuple

from veilleuse.agent.errors import PointsChanged, ReadFailed
from veilleuse.agent.model import Point
from veilleuse.agent.platforms.windows.structures import EnergyValue
from veilleuse.wire.limits import fact_text
from veilleuse.wire.vocabulary import Boundary, PointKind

MIRROR_TOLERANCE_PICOWATT_HOURS: Final = 138_888_889
"""0.5 J, as for RAPL on Linux: 500 W for a millisecond."""
MIRROR_LOOKS: Final = 5
MIRROR_PAUSE_SECONDS: Final = 0.2

_RAPL: Final = re.compile(r"RAPL_PACKAGE(\d+)_(PKG|DRAM)")
"""Names given by Windows' own processor driver, in capitals."""
_OTHER_PACKAGE: Final = re.compile(r"(.+_)?PKG")
_SOCKET: Final = re.compile(r"(CURRENT )?SOCKET (POWER|ENERGY)")
"""AMD's management unit on some laptops, where no package is named.

The socket includes the VDDCR rails. APU is less than the socket: 7.9 W of 16.9 W on a Ryzen 9 6900HS.
"""
_INSIDE: Final = re.compile(r".*_(PP[01]|CORE)|VDDCR_.*|APU (POWER|ENERGY)")
_CLUSTER: Final = re.compile(r"CPU_CLUSTER_\d+")
_PLATFORM: Final = re.compile(r"(RAPL_PACKAGE\d+_)?PSYS|SYS|SYSTEM")
"""Power of the whole machine: RAPL's psys; SYS of Snapdragon, SYSTEM on some."""
_USB: Final = "PSU_USB"
"""Snapdragon: the power from USB, charging included; nothing on battery."""

ReadValues = Callable[[], Mapping[object, EnergyValue]]
"""Returns the value of each channel by its key. Raises ReadFailed or PointsChanged."""


class Channel(NamedTuple):
    """A channel that counts."""

    key: object
    point: Point
    ceiling_watts: float
    may_rest: bool
    """True for a cluster of cores or a plug: they may be at 0 W. A running package or machine cannot."""


class Choice(NamedTuple):
    """The channels of all meters of a machine."""

    channels: tuple[Channel, ...]
    not_counted: tuple[tuple[str, str], ...]
    """(name, reason) of the others, sorted."""


class _Kind(NamedTuple):
    boundary: Boundary
    ceiling_watts: float
    may_rest: bool = False


_PACKAGE: Final = _Kind(Boundary.COMPONENT, 1_000.0)
_DRAM: Final = _Kind(Boundary.COMPONENT, 400.0)
_PSYS: Final = _Kind(Boundary.MACHINE_DC, 2_000.0)
"""Ceilings as for RAPL on Linux."""
_CORES: Final = _Kind(Boundary.COMPONENT, 400.0, may_rest=True)
_PLUG: Final = _Kind(Boundary.MACHINE_DC, 1_000.0, may_rest=True)
"""USB Power Delivery 3.1 gives 240 W."""


class _Named(NamedTuple):
    name: str
    """In capitals, in the fact alphabet."""
    key: object


_Part = tuple[str, _Named]
"""(domain of the point, channel)."""


def choose_channels(
    found: Iterable[tuple[object, str]], read: ReadValues, pause: Callable[[float], None]
) -> Choice:
    """Choose among channels (key, name), over all devices together.

    Where one may mirror another, they are read five times, with pauses of 0.2 s.
    """
    named = sorted(
        (_Named(fact_text(name.upper()) or "", key) for key, name in found), key=lambda one: one.name
    )
    why = {one.key: (one.name, _why_not(one.name)) for one in named if one.name}
    packages = _packages(named)
    packages = _without(packages, _mirrors(packages, read, pause), why)
    zeros = _at_zero(read)
    if packages:
        drams = _without(_rapl(named, "DRAM", "dram"), zeros, why)
        parts = [(_PACKAGE, packages), (_DRAM, _without(drams, _mirrors(drams, read, pause), why))]
    else:
        cores = [(one.name, one) for one in named if _CLUSTER.fullmatch(one.name)]
        parts = [(_CORES, cores), (_PLUG, [(one.name, one) for one in named if one.name == _USB])]
    platform = _without([("psys", one) for one in named if _PLATFORM.fullmatch(one.name)], zeros, why)
    parts.append((_PSYS, platform[:1]))
    channels = tuple(channel for kind, some in parts for channel in _build_channels(some, kind))
    for channel in channels:
        del why[channel.key]
    return Choice(channels, tuple(sorted(why.values())))


def _rapl(named: list[_Named], ending: str, word: str) -> list[_Part]:
    """Return RAPL's channels with this ending, as `word`-number of the package."""
    matches = ((_RAPL.fullmatch(one.name), one) for one in named)
    return [(f"{word}-{match[1]}", one) for match, one in matches if match and match[2] == ending]


def _packages(named: list[_Named]) -> list[_Part]:
    """Return the packages by the first way of naming them that this machine has."""
    others, sockets = (
        [("package-0", one) for one in named if pattern.fullmatch(one.name)]
        for pattern in (_OTHER_PACKAGE, _SOCKET)
    )
    return _rapl(named, "PKG", "package") or others or sockets[:1]


def _why_not(name: str) -> str:
    return "inside the package" if _INSIDE.fullmatch(name) else "unknown: it is not known what it counts"


def _without(
    parts: list[_Part], reasons: Mapping[object, str], why: dict[object, tuple[str, str]]
) -> list[_Part]:
    """Return the parts without those that have a reason; note these in `why`."""
    why |= {one.key: (one.name, reasons[one.key]) for _, one in parts if one.key in reasons}
    return [part for part in parts if part[1].key not in reasons]


def _at_zero(read: ReadValues) -> Mapping[object, str]:
    """Return the key of each channel that the machine has and does not fill → the reason."""
    try:
        return {key: "it reads 0" for key, value in read().items() if not value.energy_picowatt_hours}
    except (ReadFailed, PointsChanged):
        return {}


def _build_channels(parts: list[_Part], kind: _Kind) -> list[Channel]:
    """Build one point per channel. A repeated domain gets a number at its end: its start names the part."""
    found: list[Channel] = []
    seen: dict[str, int] = {}
    for domain, one in parts:
        seen[domain] = seen.get(domain, 0) + 1
        name = domain if seen[domain] == 1 else f"{domain}-{seen[domain]}"
        point = Point(PointKind.EMI, name, kind.boundary)
        found.append(Channel(one.key, point, kind.ceiling_watts, kind.may_rest))
    return found


# ---------------------------------------------------------------------------------------- mirrors


def _mirrors(parts: list[_Part], read: ReadValues, pause: Callable[[float], None]) -> Mapping[object, str]:
    """Return the key of each channel that agrees with an earlier one at every comparison → the reason.

    Processors of several dies show one counter once per die.
    """
    pairs = list(combinations(parts, 2))
    for look in range(MIRROR_LOOKS):
        if look and pairs:
            pause(MIRROR_PAUSE_SECONDS)
        pairs = [pair for pair in pairs if _agree(read, *(one.key for _, one in pair))]
    return {other.key: f"mirror of {domain}" for (domain, _), (_, other) in reversed(pairs)}


def _agree(read: ReadValues, one: object, other: object) -> bool:
    """Tell whether the other counter, read between two reads of the first, lies between them.

    A counter at 0 proves nothing.
    """
    try:
        before, between, after = (read().get(key) for key in (one, other, one))
    except (ReadFailed, PointsChanged):
        return False
    if before is None or between is None or after is None or not between.energy_picowatt_hours:
        return False
    low = before.energy_picowatt_hours - MIRROR_TOLERANCE_PICOWATT_HOURS
    high = after.energy_picowatt_hours + MIRROR_TOLERANCE_PICOWATT_HOURS
    return low <= between.energy_picowatt_hours <= high
