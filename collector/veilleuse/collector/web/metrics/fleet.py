# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""One look at the store: what the exposition, the page and `top` show, gathered once. Reads, sums, never estimates."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from veilleuse.collector.calendars.periods import day_start_unix_milliseconds
from veilleuse.collector.model.hosts import Host, HostStatus, LastRecord, Site
from veilleuse.collector.model.records import DataKind, Grain, HostId
from veilleuse.collector.model.remote_config import Rollout
from veilleuse.collector.model.sums import DerivedRow, LedgerEntry, SumRow
from veilleuse.collector.ports import Reader
from veilleuse.wire.units import MILLISECONDS_PER_HOUR, MILLISECONDS_PER_MINUTE, MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import DeviceClass, Population, State

CALL_MILLISECONDS: Final = MILLISECONDS_PER_MINUTE
"""Until a record that a server brings is stored and derived. Its power is `now` for its length, a contact interval, and this."""
LONGEST_MILLISECONDS: Final = 3 * MILLISECONDS_PER_HOUR
"""The hour that a record began in began no longer ago than this, its age since its end apart: it lasts an hour at the most."""
CLOSED_DAY_SECONDS: Final = 60.0
"""How long what was read of a closed day is kept: late records of servers appear after it."""


class ServerGroup(NamedTuple):
    """The labels of a group of servers, as text."""

    entity: str
    site: str
    population: str
    device_class: str


@dataclass(frozen=True, slots=True)
class Power:
    """Mean wall power of one server over its newest record."""

    host: Host
    watts: float
    end_unix_milliseconds: int


@dataclass(frozen=True, slots=True)
class Day:
    """The day sums of servers and what was derived from them."""

    day: date
    sums: tuple[SumRow, ...]
    derived: tuple[DerivedRow, ...]


@dataclass(frozen=True, slots=True)
class FleetView:
    """Everything the outlets show of servers and of the registry; populations under the k rule are in month.py."""

    now_unix_milliseconds: int
    time_zone: str
    kind: DataKind
    hosts: dict[HostId, Host]
    sites: dict[str, Site]
    rollouts: dict[Population, Rollout]
    """Remote configuration of the populations for which something was ever set."""
    power: tuple[Power, ...]
    today: Day
    hours: tuple[DerivedRow, ...]
    """Derived energy of servers per UTC hour, of the current civil day."""
    yesterday: Day
    ledger: tuple[LedgerEntry, ...]
    state_totals: dict[tuple[HostId, State], int]
    """Milliseconds since the data directory was made; servers."""
    forgotten_states: tuple[tuple[str, str, State, int], ...]
    """The same of servers that were forgotten: (entity, site, state, milliseconds)."""
    gaps: tuple[tuple[HostId, str, int, int], ...]
    records: int
    dirty: int

    @property
    def active(self) -> tuple[Host, ...]:
        """Hosts that may talk to us."""
        return tuple(host for host in self.hosts.values() if host.status is HostStatus.ACTIVE)

    def without_power(self, *, virtual: bool) -> tuple[int, int]:
        """(active servers, or virtual machines, that are not in `power`; all of them)."""
        known = {power.host.host_id for power in self.power}
        members = [
            host.host_id
            for host in self.active
            if host.population is Population.SERVER and is_virtual(host.facts.device_class) is virtual
        ]
        return sum(host_id not in known for host_id in members), len(members)


class ServerFleetReader:
    """Looks at a store. Not thread-safe: one at a time."""

    def __init__(
        self,
        reader: Reader,
        time_zone: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`time_zone`: IANA zone of the civil day; `clock`: Unix seconds."""
        self._reader = reader
        self._zone = ZoneInfo(time_zone)
        self._clock = clock
        self._closed: tuple[float, Day] | None = None

    @property
    def reader(self) -> Reader:
        """The store behind."""
        return self._reader

    def look(self) -> FleetView:
        """The store as it is now. Raises StoreDamaged or another DataDirectoryError."""
        now = self._clock()
        today = datetime.fromtimestamp(now, self._zone).date()
        hosts = {host.host_id: host for host in self._reader.hosts()}
        servers = {key for key, host in hosts.items() if host.population is Population.SERVER}
        day_start = day_start_unix_milliseconds(today, self._zone.key)
        day_end = day_start_unix_milliseconds(today + timedelta(days=1), self._zone.key)
        now_milliseconds = int(now * MILLISECONDS_PER_SECOND)
        rollouts = {rollout.population: rollout for rollout in self._reader.rollouts()}
        contact = longest_contact_milliseconds(rollouts)
        return FleetView(
            now_unix_milliseconds=now_milliseconds,
            time_zone=self._zone.key,
            kind=self._reader.data_kind(),
            hosts=hosts,
            sites={site.site: site for site in self._reader.sites()},
            rollouts=rollouts,
            power=live_power(
                self._reader.last_records(now_milliseconds - contact - LONGEST_MILLISECONDS),
                hosts,
                now_milliseconds,
                contact,
            ),
            today=self._day(today, servers),
            hours=tuple(
                row for row in self._reader.derived(Grain.HOUR, day_start, day_end) if row.host_id in servers
            ),
            yesterday=self._closed_day(today - timedelta(days=1), servers, now),
            ledger=self._reader.ledger(),
            state_totals={
                (host, state): milliseconds
                for host, state, milliseconds in self._reader.state_totals()
                if host in servers
            },
            forgotten_states=self._reader.forgotten_states(),
            gaps=self._reader.gap_totals(),
            records=self._reader.record_count(),
            dirty=self._reader.dirty_count(),
        )

    def _day(self, day: date, servers: set[HostId]) -> Day:
        key = day.toordinal()
        return Day(
            day,
            tuple(row for row in self._reader.sums(Grain.DAY, key, key + 1) if row.host_id in servers),
            tuple(row for row in self._reader.derived(Grain.DAY, key, key + 1) if row.host_id in servers),
        )

    def _closed_day(self, day: date, servers: set[HostId], now: float) -> Day:
        if self._closed is None or self._closed[1].day != day or now >= self._closed[0]:
            self._closed = (now + CLOSED_DAY_SECONDS, self._day(day, servers))
        return self._closed[1]


def group_of(host: Host) -> ServerGroup:
    """Its labels."""
    return ServerGroup(host.org_entity, host.site, host.population.value, host.facts.device_class.value)


def is_virtual(device_class: str) -> bool:
    """Whether machines of a class are a memo line, outside every total: their host carries their energy."""
    return device_class == DeviceClass.VIRTUAL_MACHINE


def longest_contact_milliseconds(rollouts: Mapping[Population, Rollout]) -> int:
    """Between two contacts of a server."""
    return (rollouts.get(Population.SERVER) or Rollout(Population.SERVER)).longest_contact_milliseconds


def live_power(
    records: Iterable[LastRecord],
    hosts: dict[HostId, Host],
    now_unix_milliseconds: int,
    contact_milliseconds: int,
) -> tuple[Power, ...]:
    """Watts of active servers whose newest record is no older than its length and their contact interval, and has an energy;
    the others are absent, never 0 W."""
    found: list[Power] = []
    for record in records:
        host = hosts.get(record.host_id)
        if host is None or host.population is not Population.SERVER or host.status is not HostStatus.ACTIVE:
            continue
        if record.energy_millijoules is None or record.milliseconds <= 0:
            continue
        end = record.start_unix_milliseconds + record.milliseconds
        if now_unix_milliseconds - end > record.milliseconds + contact_milliseconds + CALL_MILLISECONDS:
            continue
        # 1 mJ over 1 ms is 1 W.
        found.append(Power(host, record.energy_millijoules / record.milliseconds, end))
    return tuple(found)
