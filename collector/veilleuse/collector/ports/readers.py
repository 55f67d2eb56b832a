# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The seams of the outlets: read-only queries of machines, beside the writer and in any process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Protocol

from veilleuse.collector.model.calendars import CalendarVersion
from veilleuse.collector.model.figures import (
    BalanceRow,
    EnergySums,
    StateSums,
)
from veilleuse.collector.model.hosts import (
    Host,
    LastRecord,
    Site,
)
from veilleuse.collector.model.months import HostPeriod
from veilleuse.collector.model.records import (
    DataKind,
    Grain,
    HostId,
)
from veilleuse.collector.model.remote_config import Rollout
from veilleuse.collector.model.sums import (
    DerivedRow,
    LedgerEntry,
    PointSumRow,
    SumRow,
    UnitSumRow,
)
from veilleuse.collector.ports.imports import IntensityReader
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, Population, State


class Reader(Protocol):
    """Read-only queries of the outlets: metrics, pages, reports. Any number of them, any process."""

    def data_kind(self) -> DataKind: ...
    def hosts(self) -> tuple[Host, ...]: ...
    def sites(self) -> tuple[Site, ...]: ...
    def calendars(self, site: Site) -> tuple[CalendarVersion, ...]: ...  # as Calendars.versions
    def sums(self, grain: Grain, start: int, end: int) -> Iterator[SumRow]:
        """Sums with start ≤ key < end (key as in Grain)."""

    def point_sums(self, grain: Grain, start: int, end: int) -> Iterator[PointSumRow]: ...
    def unit_sums(self, grain: Grain, start: int, end: int) -> Iterator[UnitSumRow]: ...
    def derived(self, grain: Grain, start: int, end: int) -> Iterator[DerivedRow]:
        """Derived cells; DAY covers clock records too (by civil day of the site)."""

    def state_sums(
        self, grain: Grain, start: int, end: int
    ) -> Iterator[tuple[HostId, tuple[Band, State], StateSums]]:
        """`sums` added up by the backend over start ≤ key < end: a year is one row per host, band and state."""

    def energy_sums(
        self, grain: Grain, start: int, end: int
    ) -> Iterator[tuple[HostId, tuple[Method, Band, State], EnergySums]]:
        """`derived` added up likewise."""

    def screen_sums(
        self, grain: Grain, start: int, end: int
    ) -> Iterator[tuple[HostId, tuple[Method, Band, State], EnergySums]]:
        """The same of external screens, which are in no other sum. Milliseconds are display-milliseconds."""

    def dates_on(self, start: int, end: int, longer_than_milliseconds: int) -> Iterator[tuple[HostId, int]]:
        """(host, how many): DAY keys with start ≤ key < end whose `night` cells are on for longer."""

    def night_hours(self, population: Population, start: int, end: int) -> Iterator[tuple[HostId, int, int]]:
        """(host, hour, milliseconds on in its `night` cells) of HOUR keys with start ≤ key < end, where any."""

    def ledger(self) -> tuple[LedgerEntry, ...]:
        """Totals since the data directory was made, per key."""

    def gap_totals(self) -> tuple[tuple[HostId, str, int, int], ...]:
        """(host, reason, records, milliseconds)."""

    def balance(self, first_day: date, last_day: date, *, by_hour: bool = True) -> Iterator[BalanceRow]:
        """R18: per host and whole period in [first_day, last_day], both included, what was stored, declared lost, and neither.

        Servers and classroom PCs by civil day of the site, workstations by ISO week; only periods that lie between the days
        of the host's first and last record, both excluded. In (start, host) order. `by_hour`: an hour told twice does not
        hide one that is missing on the same day; without it, a year of a fleet is read in seconds.
        """

    def last_records(self, since_unix_milliseconds: int) -> tuple[LastRecord, ...]:
        """The newest derived clock record of each host that has one in an hour that begins since then: live watts."""

    def state_totals(self) -> tuple[tuple[HostId, State, int], ...]:
        """(host, state, milliseconds) of all records ever stored: kept as they come, never scanned for."""

    def rollouts(self) -> tuple[Rollout, ...]:
        """Configurations.rollouts."""

    def forgotten_states(self) -> tuple[tuple[str, str, State, int], ...]:
        """(entity, site, state, milliseconds) of servers that were forgotten: what counters still count."""

    def record_count(self) -> int: ...
    def dirty_count(self) -> int: ...
    def dirty_span(self) -> tuple[int, int] | None:
        """Turns of the oldest and the newest mark waiting for derive, of hours if there is any; they begin again when none was left."""


class PeriodReader(Protocol):
    """What machines did, month by month; read-only, any process."""

    def host_periods(self, first: date, end: date) -> Iterator[HostPeriod]:
        """Of every host, each day type and band of the civil days [first, end), added up over it: `period_from` is `first`.

        Whole calendar years cost one row per host, day type and band. Months not kept yet, no longer true, or not whole are made
        of their days: UsageError where these are gone. In host order.
        """

    def host_months(self, first: date, end: date) -> Iterator[HostPeriod]:
        """The same, month by month: `period_from` is the month's first day. Both are firsts of a month (ValueError otherwise). In (month, host)
        order."""


class HourReader(Protocol):
    """Hours of machines beside the grid, for the indicative ledger; read-only, any process."""

    def hosts(self) -> tuple[Host, ...]: ...
    def sites(self) -> tuple[Site, ...]: ...
    def hour_sums(
        self, labels: Mapping[int, int], population: Population | None = None
    ) -> Iterator[tuple[HostId, int, EnergySums]]:
        """(host, label, derived energy) of the hours given: hour, Unix ms → label. Hours of one label are added up.

        Of one population alone, or of all machines; the same pair may come more than once.
        """

    def oldest_hours(self) -> dict[HostId, int]:
        """Start of the oldest hour with energy still kept of each host, Unix ms. Machines without hours are not there."""

    def intensities(self) -> IntensityReader:
        """The same store's; for the thread that asks."""
