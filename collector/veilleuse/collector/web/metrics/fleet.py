# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the store once for the exposition, the page and `top`. Reads and sums, never estimates."""

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
from veilleuse.collector.ports.store import Reader
from veilleuse.wire.units import MILLISECONDS_PER_HOUR, MILLISECONDS_PER_MINUTE, MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import DeviceClass, Population, State

CALL_MILLISECONDS: Final = MILLISECONDS_PER_MINUTE
"""Time allowed to store and derive a server's record, 1 min.

A record's power counts as current for its length, one contact interval and this time.
"""
LONGEST_MILLISECONDS: Final = 3 * MILLISECONDS_PER_HOUR
"""Longest time before a record's end at which its hour can have started: a record lasts one hour at most."""
CLOSED_DAY_SECONDS: Final = 60.0
"""Seconds that the rows of a closed day are cached: late records of servers still reach a closed day."""


class ServerGroup(NamedTuple):
    """Labels of a group of servers, as text."""

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
    """Day sums of servers, and the rows derived from these sums."""

    day: date
    sums: tuple[SumRow, ...]
    derived: tuple[DerivedRow, ...]


@dataclass(frozen=True, slots=True)
class FleetView:
    """Everything shown about servers and the registry.

    Populations under the k rule are in `released_month`.
    """

    now_unix_milliseconds: int
    time_zone: str
    kind: DataKind
    hosts: dict[HostId, Host]
    sites: dict[str, Site]
    rollouts: dict[Population, Rollout]
    """Remote configuration of the populations that were ever configured."""
    power: tuple[Power, ...]
    today: Day
    hours: tuple[DerivedRow, ...]
    """Derived energy of servers per UTC hour of the current civil day."""
    yesterday: Day
    ledger: tuple[LedgerEntry, ...]
    state_totals: dict[tuple[HostId, State], int]
    """Milliseconds of servers since the data directory was created."""
    forgotten_states: tuple[tuple[str, str, State, int], ...]
    """State times of forgotten servers: (entity, site, state, milliseconds)."""
    gaps: tuple[tuple[HostId, str, int, int], ...]
    records: int
    dirty: int

    @property
    def active(self) -> tuple[Host, ...]:
        """Return the hosts that may connect."""
        return tuple(host for host in self.hosts.values() if host.status is HostStatus.ACTIVE)

    def without_power(self, *, virtual: bool) -> tuple[int, int]:
        """Return (active servers that are not in `power`, all active servers), physical or virtual."""
        known = {power.host.host_id for power in self.power}
        members = [
            host.host_id
            for host in self.active
            if host.population is Population.SERVER and is_virtual(host.facts.device_class) is virtual
        ]
        return sum(host_id not in known for host_id in members), len(members)


class ServerFleetReader:
    """Reads a FleetView from a store. Not thread-safe: one caller at a time."""

    def __init__(
        self,
        reader: Reader,
        time_zone: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the IANA time zone of the civil day and a clock in Unix seconds."""
        self._reader = reader
        self._zone = ZoneInfo(time_zone)
        self._clock = clock
        self._closed: tuple[float, Day] | None = None

    @property
    def reader(self) -> Reader:
        """Return the store's reader."""
        return self._reader

    def read_view(self) -> FleetView:
        """Read the store as it is now. Raises StoreDamaged or another DataDirectoryError."""
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
    """Return the labels of a server's group."""
    return ServerGroup(host.org_entity, host.site, host.population.value, host.facts.device_class.value)


def is_virtual(device_class: str) -> bool:
    """Return true when machines of this class are a memo line outside every total.

    A virtual machine's energy is already in its host's.
    """
    return device_class == DeviceClass.VIRTUAL_MACHINE


def longest_contact_milliseconds(rollouts: Mapping[Population, Rollout]) -> int:
    """Return the longest time between two contacts of a server, ms."""
    return (rollouts.get(Population.SERVER) or Rollout(Population.SERVER)).longest_contact_milliseconds


def live_power(
    records: Iterable[LastRecord],
    hosts: dict[HostId, Host],
    now_unix_milliseconds: int,
    contact_milliseconds: int,
) -> tuple[Power, ...]:
    """Return the mean wall power of each active server with a recent record, W.

    A record is recent up to its length, one contact interval and CALL_MILLISECONDS after its end. Servers
    without a recent record, or whose record has no energy, are absent: never 0 W.
    """
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
        # 1 mJ per ms is 1 W.
        found.append(Power(host, record.energy_millijoules / record.milliseconds, end))
    return tuple(found)
