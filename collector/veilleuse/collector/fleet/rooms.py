# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Server rooms beside the fleet's estimate: a server counts in its class, and what its room's meters see of it does not count again (pure).

A meter knows the whole of its room. Servers that were measured keep their energy; those that were not take what is estimated for them, at
most what the meter leaves; the rest is class `other_room`. docs/decisions/0026.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from veilleuse.collector.fleet.samples import Stratum
from veilleuse.collector.quantiles import Z95
from veilleuse.wire.sums import apportion


@dataclass(frozen=True, slots=True)
class RoomServers:
    """The servers of one room over the time in which all its meters were read. Millijoules."""

    metered_millijoules: int
    """What the meters have for servers and for the rest."""
    known_millijoules: int
    """Energy that the servers' agents tell of; once settled, what is imputed to them as well."""
    u_millijoules: int
    """Standard uncertainty of it, where no share of the same meters says it; once settled, of what is estimated as well."""
    silent: tuple[tuple[Stratum, int], ...] = ()
    """Stratum → milliseconds of its servers here without derived energy; none once settled."""
    hours_left_out: int = 0
    """Without one of its meters: of no figure where servers stand in it by declaration, since nothing says what they have of the others."""

    @property
    def excess_millijoules(self) -> int:
        """By how much the servers have more than their meters; 0 where they do not."""
        return max(0, self.known_millijoules - self.metered_millijoules)

    @property
    def is_wrong(self) -> bool:
        """True when that is more than their 95 % interval allows: a meter, a machine or a declaration is wrong."""
        if not self.excess_millijoules:
            return False
        low = self.known_millijoules * math.exp(-Z95 * self.u_millijoules / self.known_millijoules)
        return low > self.metered_millijoules


@dataclass(frozen=True, slots=True)
class RoomFigure:
    """One room over one stretch, millijoules ≥ 0; None = not known."""

    room: str
    site: str
    zone: str
    it_millijoules: int
    """All that its meters see of servers and of the rest, at the PUE's metering point where one is declared."""
    other_millijoules: int
    """Of it, what no machine accounts for; before it is settled, what no measured one does."""
    ups_loss_millijoules: int | None
    overhead_millijoules: int | None
    overhead: str
    """measured, pue or not_included."""
    overhead_u_millijoules: int
    pue_ppm: int | None = None
    """Of the whole stretch; None: none, or several."""
    servers: RoomServers | None = None
    """None: no server stands in it."""
    read_milliseconds: int | None = None
    """Time of the stretch that the figures are of; None of a year closed before this was told."""
    unread_milliseconds: int = 0
    """The rest of the stretch, as far as it has passed."""


class Silent(NamedTuple):
    """What stands in for the time of a stratum of which no energy is derived."""

    milliseconds: int
    imputed_millijoules: int
    extrapolated_millijoules: int
    u_millijoules: float
    """Standard uncertainty of the extrapolated energy by sampling."""


def settled(
    rooms: Iterable[RoomFigure], strata: Mapping[Stratum, Silent]
) -> tuple[tuple[RoomFigure, ...], dict[Stratum, int]]:
    """The rooms without what is imputed to their servers and estimated for them; and what each of these strata keeps of its
    extrapolated energy."""
    figures = tuple(rooms)
    claims = [_Claims() for _ in figures]
    kept: dict[Stratum, int] = {}
    for stratum, times in _by_stratum(figures).items():
        if stratum in strata:
            kept[stratum] = strata[stratum].extrapolated_millijoules
            _divide(stratum, strata[stratum], times, claims)
    found = []
    for room, claim in zip(figures, claims, strict=True):
        if room.servers is None or not claim.strata:
            found.append(room)
            continue
        remains = max(0, room.other_millijoules - claim.imputed)
        wanted = sum(claim.extrapolated)
        given = claim.extrapolated if wanted <= remains else apportion(remains, claim.extrapolated)
        for stratum, before, energy in zip(claim.strata, claim.extrapolated, given, strict=True):
            kept[stratum] -= before - energy
        u = math.hypot(*claim.u) * (sum(given) / wanted if wanted else 0.0)
        servers = replace(
            room.servers,
            known_millijoules=room.servers.known_millijoules + claim.imputed,
            u_millijoules=round(math.hypot(room.servers.u_millijoules, u)),
            silent=(),
        )
        found.append(replace(room, other_millijoules=remains - sum(given), servers=servers))
    return tuple(found), kept


@dataclass(slots=True)
class _Claims:
    """What the servers of one room would take of their strata."""

    imputed: int = 0
    strata: list[Stratum] = field(default_factory=list)
    extrapolated: list[int] = field(default_factory=list)
    u: list[float] = field(default_factory=list)


def _by_stratum(rooms: Iterable[RoomFigure]) -> dict[Stratum, list[tuple[int, int]]]:
    """Stratum → (number of the room, milliseconds)."""
    found: dict[Stratum, list[tuple[int, int]]] = {}
    for number, room in enumerate(rooms):
        for stratum, time in room.servers.silent if room.servers else ():
            if time:
                found.setdefault(stratum, []).append((number, time))
    return found


def _divide(
    stratum: Stratum, silent: Silent, times: Sequence[tuple[int, int]], claims: Sequence[_Claims]
) -> None:
    """By time; what stands in none of the rooms keeps its part."""
    weights = [time for _, time in times]
    weights.append(max(0, silent.milliseconds - sum(weights)))
    imputed = apportion(silent.imputed_millijoules, weights)
    extrapolated = apportion(silent.extrapolated_millijoules, weights)
    for place, (number, time) in enumerate(times):
        claims[number].strata.append(stratum)
        claims[number].imputed += imputed[place]
        claims[number].extrapolated.append(extrapolated[place])
        claims[number].u.append(silent.u_millijoules * time / sum(weights))
