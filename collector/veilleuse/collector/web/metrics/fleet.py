# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the store once for the exposition, the pages and `top`. Reads and sums, never estimates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

from veilleuse.collector.calendars.periods import day_start_unix_milliseconds
from veilleuse.collector.clock import unix_seconds
from veilleuse.collector.model.hosts import HostStatus, Site
from veilleuse.collector.model.records import AgentId, DataKind
from veilleuse.collector.model.remote_config import Rollout
from veilleuse.collector.model.sums import EnergySums, GroupPower, LedgerEntry, ServerGroup, ServerUse
from veilleuse.collector.ports.store import DataReader
from veilleuse.collector.settings import ReportingSettings
from veilleuse.collector.web.metrics.servers import ServerCounts, ServerRegistry, is_virtual
from veilleuse.wire.ladder import Method
from veilleuse.wire.units import MILLISECONDS_PER_MINUTE, MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import DeviceClass, Population, State

CLOSED_DAY_MILLISECONDS: Final = MILLISECONDS_PER_MINUTE
"""Time that the sums of a closed day are cached: late records of servers still reach a closed day."""
Energies: TypeAlias = Mapping[tuple[ServerGroup, Method, State], EnergySums]


@dataclass(frozen=True, slots=True)
class Day:
    """Sums of servers over a civil day."""

    day: date
    states: Mapping[tuple[ServerGroup, State], int]
    """Milliseconds."""
    energies: Energies
    enrolled: Mapping[bool, tuple[int, int]]
    """Virtual → (servers, milliseconds enrolled up to now)."""


@dataclass(frozen=True, slots=True)
class PcCounts:
    """PCs as counted once a day: a live count would reveal when one of them enrolled."""

    by_status: Mapping[tuple[Population, HostStatus], int]
    first_enrolled_on: date | None
    """Of the active ones; None without any."""

    def active(self, population: Population) -> int:
        """Return the number of active PCs."""
        return self.by_status.get((population, HostStatus.ACTIVE), 0)


@dataclass(frozen=True, slots=True)
class FleetView:
    """Everything shown about servers and the registry.

    Populations under the k rule are in `released_month`.
    """

    now_unix_milliseconds: int
    time_zone: str
    kind: DataKind
    servers: ServerCounts
    places: frozenset[tuple[str, str, Population]]
    """(entity, site, population) of all machines."""
    sites: dict[str, Site]
    rollouts: dict[Population, Rollout]
    """Remote configuration of the populations that were ever configured."""
    power: Mapping[ServerGroup, GroupPower]
    today: Day
    hours: Mapping[tuple[DeviceClass, Method], Mapping[int, int]]
    """Derived energy of servers per UTC hour of the current civil day, mJ."""
    yesterday: Day
    seen_yesterday: Mapping[ServerGroup, int]
    """Servers with a known state yesterday."""
    ledger: tuple[LedgerEntry, ...]
    state_totals: Mapping[tuple[str, str, State], int]
    """(entity, site, state) → milliseconds of servers since the data directory was created."""
    gaps: Mapping[str, tuple[int, int]]
    """Reason → (records, milliseconds) of gaps that servers declared."""
    active_pcs: int
    """Counted up to k."""
    records: int
    dirty: int

    def power_of(self, *, virtual: bool) -> GroupPower | None:
        """Return the power of physical or virtual servers; None where none is known."""
        found = [one for group, one in self.power.items() if is_virtual(group.device_class) is virtual]
        if not found:
            return None
        end = max(one.end_unix_milliseconds for one in found)
        return GroupPower(sum(one.servers for one in found), sum(one.watts for one in found), end)

    def without_power(self, *, virtual: bool) -> tuple[int, int]:
        """Return (active servers that are not in `power`, all active servers), physical or virtual."""
        whole, known = self.servers.active(virtual=virtual), self.power_of(virtual=virtual)
        return whole - (known.servers if known else 0), whole


class ServerFleetReader:
    """Reads a FleetView from a store. Not thread-safe: one caller at a time."""

    def __init__(
        self,
        reader: DataReader,
        reporting: ReportingSettings,
        clock: Callable[[], float] = unix_seconds,
    ) -> None:
        """Take the time zone of the civil day and k, and a clock in Unix seconds."""
        self._reader = reader
        self._k = reporting.k_anonymity
        self._sums = reader.server_sums()
        self._registry = ServerRegistry(self._sums)
        self._zone = ZoneInfo(reporting.time_zone)
        self._clock = clock
        self._closed: tuple[int, Day, Mapping[ServerGroup, int]] | None = None

    def follow(self) -> None:
        """Read the servers that changed; the next view then reads fewer."""
        self._registry.read(_rollout_of_servers({one.population: one for one in self._reader.rollouts()}))

    def read_view(self) -> FleetView:
        """Read the store as it is now. Raises StoreDamaged or another DataDirectoryError."""
        now = int(self._clock() * MILLISECONDS_PER_SECOND)
        today = datetime.fromtimestamp(now / MILLISECONDS_PER_SECOND, self._zone).date()
        rollouts = {rollout.population: rollout for rollout in self._reader.rollouts()}
        servers = self._registry.read(_rollout_of_servers(rollouts))
        # After the servers: a new one may have a new site.
        sites = {site.site: site for site in self._reader.sites()}
        yesterday = today - timedelta(days=1)
        if self._closed is None or self._closed[1].day != yesterday or now >= self._closed[0]:
            day = self._day(yesterday, sites, now)
            self._closed = (now + CLOSED_DAY_MILLISECONDS, day, self._sums.seen(yesterday))
        return FleetView(
            now_unix_milliseconds=now,
            time_zone=self._zone.key,
            kind=self._reader.data_kind(),
            servers=servers,
            places=self._sums.places(),
            sites=sites,
            rollouts=rollouts,
            power=self._sums.power(now, longest_contact_milliseconds(rollouts)),
            today=self._day(today, sites, now),
            hours=self._sums.hours(
                day_start_unix_milliseconds(today, self._zone.key),
                day_start_unix_milliseconds(today + timedelta(days=1), self._zone.key),
            ),
            yesterday=self._closed[1],
            seen_yesterday=self._closed[2],
            ledger=self._reader.ledger(),
            state_totals=self._sums.totals(),
            gaps=self._sums.gaps(),
            active_pcs=self._sums.active_pcs(self._k),
            records=self._reader.record_count(),
            dirty=self._reader.dirty_count(),
        )

    def count_pcs(self) -> PcCounts:
        """Count the PCs; reads every PC's entry in an index."""
        counts = self._sums.pc_counts()
        firsts = [first for (_, status), (_, first) in counts.items() if status is HostStatus.ACTIVE]
        return PcCounts({key: number for key, (number, _) in counts.items()}, min(firsts, default=None))

    def read_busiest(self, view: FleetView, limit: int) -> tuple[ServerUse, ...]:
        """Return the active servers of the highest power, then those without one, with today's sums."""
        contact = longest_contact_milliseconds(view.rollouts)
        return self._sums.busiest(view.now_unix_milliseconds, contact, view.today.day, limit)

    def read_powers(self, view: FleetView) -> Iterator[tuple[AgentId, ServerGroup, float]]:
        """Yield the active servers with a power now, W."""
        return self._sums.powers(view.now_unix_milliseconds, longest_contact_milliseconds(view.rollouts))

    def read_day_energies(self, view: FleetView) -> Iterator[tuple[AgentId, ServerGroup, Method, int]]:
        """Yield yesterday's energy, mJ, of each server and method."""
        return self._sums.day_energies(view.yesterday.day)

    def _day(self, day: date, sites: Mapping[str, Site], now: int) -> Day:
        return Day(
            day,
            self._sums.states(day),
            self._sums.energies(day),
            self._registry.enrolled(day, sites, now),
        )


def longest_contact_milliseconds(rollouts: Mapping[Population, Rollout]) -> int:
    """Return the longest time between two contacts of a server, ms."""
    return _rollout_of_servers(rollouts).longest_contact_milliseconds


def _rollout_of_servers(rollouts: Mapping[Population, Rollout]) -> Rollout:
    return rollouts.get(Population.SERVER) or Rollout(Population.SERVER)
