# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Settles server rooms with the fleet's estimate, so that a server's energy counts once (pure).
docs/decisions/0026.

A server counts in its class; the part of its room's meter that is the server's does not count again. A meter
measures its whole room. Measured servers keep their energy. Servers without measurement take their estimate,
at most what the meter leaves. The rest is class `other_room`.
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
    """Servers of one room, over the time in which all meters of the room were read. Millijoules."""

    metered_millijoules: int
    """Metered energy of servers and of the rest."""
    known_millijoules: int
    """Energy derived from the servers' agents; once settled, with the energy imputed to these servers."""
    u_millijoules: int
    """Standard uncertainty of the servers' energy, without parts taken from the same meters; once settled,
    with the uncertainty of the extrapolated energy.
    """
    silent: tuple[tuple[Stratum, int], ...] = ()
    """Stratum → milliseconds of its servers here without derived energy; empty once settled."""
    hours_left_out: int = 0
    """Hours without a reading of one of the meters. They are in no figure of a room with declared servers:
    the servers' part of the other meters is unknown.
    """

    @property
    def excess_millijoules(self) -> int:
        """Energy of the servers above that of their meters; 0 where it is not above."""
        return max(0, self.known_millijoules - self.metered_millijoules)

    @property
    def is_wrong(self) -> bool:
        """True when that excess is more than its 95 % interval allows:
        a meter, a machine or a declaration is wrong.
        """
        if not self.excess_millijoules:
            return False
        low = self.known_millijoules * math.exp(-Z95 * self.u_millijoules / self.known_millijoules)
        return low > self.metered_millijoules


@dataclass(frozen=True, slots=True)
class RoomFigure:
    """One room over one stretch of time, millijoules ≥ 0; None = not known."""

    room: str
    site: str
    zone: str
    it_millijoules: int
    """Metered energy of servers and of the rest, at the PUE's metering point where one is declared."""
    other_millijoules: int
    """Part of `it_millijoules` that no machine accounts for;
    before settlement, that no measured machine accounts for.
    """
    ups_loss_millijoules: int | None
    overhead_millijoules: int | None
    overhead: str
    """Origin of the overhead: measured, pue or not_included."""
    overhead_u_millijoules: int
    pue_ppm: int | None = None
    """PUE of the whole stretch, ppm; None: no PUE, or several."""
    servers: RoomServers | None = None
    """None: no server is in the room."""
    read_milliseconds: int | None = None
    """Time of the stretch with complete readings; None for a year closed before this value was stored."""
    unread_milliseconds: int = 0
    """Rest of the stretch, as far as it is in the past."""


class Silent(NamedTuple):
    """Imputed and extrapolated energy for the time of a stratum without derived energy."""

    milliseconds: int
    imputed_millijoules: int
    extrapolated_millijoules: int
    u_millijoules: float
    """Standard sampling uncertainty of the extrapolated energy."""


def settle_rooms(
    rooms: Iterable[RoomFigure], strata: Mapping[Stratum, Silent]
) -> tuple[tuple[RoomFigure, ...], dict[Stratum, int]]:
    """Take the imputed and extrapolated energy of servers out of their rooms' `other_millijoules`.

    Returns the settled rooms, and the extrapolated energy that remains of each of these strata, mJ.
    """
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
    """Energy that the servers of one room claim from their strata."""

    imputed: int = 0
    strata: list[Stratum] = field(default_factory=list)
    extrapolated: list[int] = field(default_factory=list)
    u: list[float] = field(default_factory=list)


def _by_stratum(rooms: Iterable[RoomFigure]) -> dict[Stratum, list[tuple[int, int]]]:
    """Return, for each stratum, the (index of the room, milliseconds) of its servers."""
    found: dict[Stratum, list[tuple[int, int]]] = {}
    for number, room in enumerate(rooms):
        for stratum, time in room.servers.silent if room.servers else ():
            if time:
                found.setdefault(stratum, []).append((number, time))
    return found


def _divide(
    stratum: Stratum, silent: Silent, times: Sequence[tuple[int, int]], claims: Sequence[_Claims]
) -> None:
    """Divide a stratum's energy among the rooms by time; time outside all rooms keeps its part."""
    weights = [time for _, time in times]
    weights.append(max(0, silent.milliseconds - sum(weights)))
    imputed = apportion(silent.imputed_millijoules, weights)
    extrapolated = apportion(silent.extrapolated_millijoules, weights)
    for place, (number, time) in enumerate(times):
        claims[number].strata.append(stratum)
        claims[number].imputed += imputed[place]
        claims[number].extrapolated.append(extrapolated[place])
        claims[number].u.append(silent.u_millijoules * time / sum(weights))
