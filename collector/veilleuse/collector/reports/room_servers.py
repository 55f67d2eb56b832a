# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Which servers stand in which room, day by day, and what they tell of themselves there. docs/decisions/0026."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import partial

from veilleuse.collector.fleet.census import FleetDevice
from veilleuse.collector.fleet.observed import Place
from veilleuse.collector.fleet.rooms import RoomServers
from veilleuse.collector.fleet.samples import Stratum
from veilleuse.collector.model.meters import MeterDeclarations, MeterShare, ServerRooms
from veilleuse.collector.model.records import HostId
from veilleuse.collector.reports.inputs import Sources
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.vocabulary import Population


@dataclass(slots=True)
class _Time:
    """Machine time of one stratum in one room, milliseconds; of servers with an asset, of the others, and the energy's."""

    inventoried: int = 0
    spare: int = 0
    """Of `inventoried`: of assets that no machine is matched with."""
    enrolled: int = 0
    left: int = 0
    """Of machines without an asset that are enrolled no more."""
    derived: int = 0

    @property
    def silent(self) -> int:
        """Without derived energy. A machine without an asset is one of the spare ones, as `sample.FleetBook.settle` has it."""
        enrolled = self.enrolled + (0 if self.inventoried else self.left)
        return max(0, self.inventoried + max(0, enrolled - self.spare) - self.derived)


class ServersInRooms:
    """Servers over [first, end): machines and assets of population server, virtual machines apart."""

    def __init__(
        self,
        sources: Sources,
        first: date,
        end: date,
        standings: Iterable[FleetDevice],
        same: Mapping[HostId, HostId],
    ) -> None:
        """`standings`: where they stood; `same`: machines of one asset → the one that it is last."""
        self.declared: MeterDeclarations = sources.metering.declared()
        self._sources = sources
        self._first, self._end = first.toordinal(), end.toordinal()
        self._same = same
        self._places = ServerRooms(self.declared)
        ids: defaultdict[HostId, list[HostId]] = defaultdict(list)
        for host_id, last in same.items():
            ids[last].append(host_id)
        self._servers = [
            _Server(one, tuple(ids.get(one.host_id, (one.host_id,))) if one.host_id is not None else ())
            for one in standings
            if one.population is Population.SERVER
        ]
        self._by_host: defaultdict[HostId, list[_Server]] = defaultdict(list)
        for server in self._servers:
            if server.standing.host_id is not None:
                self._by_host[server.standing.host_id].append(server)
        self.host_ids = frozenset(host_id for server in self._servers for host_id in server.host_ids)
        """The agents' machines that they are or were."""

    def stand_in(self, room: str) -> bool:
        """True when a share or a declaration places any in a room in the period."""
        return self.are_declared_in(room) or any(
            one.host_id in self.host_ids for one in self._shares_in(room)
        )

    def are_declared_in(self, room: str) -> bool:
        """True when one is placed without a share, or all others of the site are."""
        return any(
            one.room == room and self._overlaps(one.valid_from, one.valid_to) for one in self.declared.servers
        )

    def known(
        self, room: str, whole: Mapping[int, int], day_of: Mapping[int, int]
    ) -> tuple[RoomServers, int]:
        """Of those in a room, in its whole hours: hour → milliseconds covered, hour → day number; what its meters have is not known yet.
        And the energy of those without a share."""
        covered, there = Counter[int](), Counter[int]()
        for hour, milliseconds in whole.items():
            covered[day_of[hour]] += milliseconds
            there[day_of[hour]] += MILLISECONDS_PER_HOUR
        times: defaultdict[Stratum, _Time] = defaultdict(_Time)
        energy = placed = uncertainty = 0
        for host_id, day, sums in self._sources.reader.hour_sums(day_of, Population.SERVER):
            server = self._at(self._same.get(host_id, host_id), day)
            if server is None or self._room(server, day) != room:
                continue
            told = sums.share(partial(_part, of=covered[day], whole=there[day]))
            times[server.stratum].derived += told.milliseconds
            energy += told.energy_millijoules
            if not any(self._places.has_share(one, room, day) for one in server.host_ids):
                placed += told.energy_millijoules
                uncertainty += told.uncertainty_millijoules
        for server in self._servers:
            time = sum(
                milliseconds
                for day, milliseconds in covered.items()
                if server.stands(day) and self._room(server, day) == room
            )
            if time:
                server.add(time, times[server.stratum])
        silent = tuple((stratum, one.silent) for stratum, one in sorted(times.items()) if one.silent)
        return RoomServers(0, energy, uncertainty, silent), placed

    def in_no_room(self, days_of: Mapping[str, Collection[int]]) -> Iterator[str]:
        """Agent id, or #number of the asset, of servers that nothing places on some of these days: site → day numbers."""
        agents = {host.host_id: host.agent_id.hex() for host in self._sources.hosts}
        names = {
            agents.get(server.standing.host_id, "")[:12]
            if server.standing.host_id is not None
            else f"#{server.standing.asset_id}"
            for server in self._servers
            if any(
                server.stands(day) and self._room(server, day) is None
                for day in days_of.get(server.standing.site, ())
            )
        }
        yield from sorted(names)

    def may_hold_servers(self, room: str) -> bool:
        """False for a room whose meters only other machines have shares of in the period: a classroom's plugs."""
        return self.stand_in(room) or not self._shares_in(room)

    def _room(self, server: _Server, day: int) -> str | None:
        if day not in server.rooms:
            standing = server.standing
            server.rooms[day] = self._places.room(standing.site, server.host_ids, standing.asset_id, day)
        return server.rooms[day]

    def _at(self, host_id: HostId, day: int) -> _Server | None:
        """Where a machine stands on a day; before the first standing, there."""
        found = self._by_host.get(host_id)
        if not found:
            return None
        begun = [one for one in found if one.standing.from_day.toordinal() <= day]
        return begun[-1] if begun else found[0]

    def _shares_in(self, room: str) -> list[MeterShare]:
        rooms = {meter.meter: meter.room for meter in self.declared.meters}
        return [
            one
            for one in self.declared.shares
            if rooms.get(one.meter) == room and self._overlaps(one.valid_from, one.valid_to)
        ]

    def _overlaps(self, first: date, last: date) -> bool:
        return first.toordinal() < self._end and last.toordinal() >= self._first


def _part(value: int, of: int, whole: int) -> int:
    return value * of // whole


@dataclass(slots=True)
class _Server:
    """One device over one standing."""

    standing: FleetDevice
    host_ids: tuple[HostId, ...]
    rooms: dict[int, str | None] = field(default_factory=dict)
    """Day → room, of days that were asked for."""

    @property
    def stratum(self) -> Stratum:
        return Place.at(self.standing).stratum(self.standing.device_class)

    def stands(self, day: int) -> bool:
        return self.standing.from_day.toordinal() <= day < self.standing.end_day.toordinal()

    def add(self, milliseconds: int, into: _Time) -> None:
        """Time in service."""
        if not self.standing.inventoried:
            if self.standing.has_left:
                into.left += milliseconds
            else:
                into.enrolled += milliseconds
            return
        into.inventoried += milliseconds
        if self.standing.host_id is None or self.standing.has_left:
            into.spare += milliseconds
