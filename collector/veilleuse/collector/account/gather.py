# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Stored sums and derived energy → groups: the one pass that reports and indicators are made of.

Days are the civil days of each machine's site. A workstation's week record is shared between its days in proportion to
the calendar's open time and flagged `apportioned`; integers, so that shares sum to the week exactly.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final, TypeVar

from veilleuse.collector.account.anonymity import merge_small
from veilleuse.collector.account.perimeter import (
    Slice,
    WeekShares,
    day_start_unix_milliseconds,
    enrolled_milliseconds,
    evening_of,
    slices,
)
from veilleuse.collector.errors import UsageError
from veilleuse.collector.figures import (
    ON_STATES,
    EnergyKey,
    EnergySums,
    Group,
    GroupKey,
    GroupSums,
    StateSums,
)
from veilleuse.collector.model import Cell, DerivedRow, Grain, Host, HostId, Site, SumRow
from veilleuse.collector.ports import Reader
from veilleuse.wire.bands import Calendar
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

DIMENSIONS: Final = ("entity", "site", "population", "device_class", "year", "month")
"""What --group-by takes. Year and population always divide: a row has one factor and one rule of disclosure."""
DEFAULT_DIMENSIONS: Final = ("entity", "device_class")
R = TypeVar("R", SumRow, DerivedRow)

NIGHT_ON_MILLISECONDS: Final = 4 * MILLISECONDS_PER_HOUR
"""A night counts when the machine was on for longer: METHOD.md §6, I1."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. Raises UsageError on an unknown dimension or an empty period."""

    first: date
    end: date
    """Exclusive."""
    dimensions: tuple[str, ...] = DEFAULT_DIMENSIONS
    k_anonymity: int = 10
    now_unix_milliseconds: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.dimensions if name not in DIMENSIONS]
        if unknown:
            raise UsageError(f"cannot group by '{unknown[0]}': use {', '.join(DIMENSIONS)}")
        if self.first >= self.end:
            raise UsageError(f"--from {self.first} must be before --to {self.end}, which is exclusive")


@dataclass(frozen=True, slots=True)
class Gathered:
    """Groups, small ones merged, and the keys (dimensions blank) of populations withheld altogether."""

    groups: tuple[Group, ...]
    withheld: tuple[GroupKey, ...]


@dataclass(slots=True)
class Tally:
    """A group while it grows."""

    hosts: set[HostId] = field(default_factory=set)
    enrolled_milliseconds: int = 0
    states: dict[tuple[Band, State], StateSums] = field(default_factory=dict)
    energies: dict[EnergyKey, EnergySums] = field(default_factory=dict)
    nights: int = 0
    apportioned: bool = False

    def add_state(self, key: tuple[Band, State], more: StateSums) -> None:
        """Add to one band and state."""
        self.states[key] = _sum_states(self.states.get(key, StateSums()), more)

    def add_energy(self, key: EnergyKey, more: EnergySums) -> None:
        """Add to one class, method, band and state."""
        old = self.energies.get(key, EnergySums())
        self.energies[key] = EnergySums(
            old.milliseconds + more.milliseconds,
            old.energy_millijoules + more.energy_millijoules,
            old.uncertainty_millijoules + more.uncertainty_millijoules,
        )

    def add(self, other: Tally) -> None:
        """Add a whole tally."""
        self.hosts |= other.hosts
        self.enrolled_milliseconds += other.enrolled_milliseconds
        self.nights += other.nights
        self.apportioned |= other.apportioned
        for state_key, state_sums in other.states.items():
            self.add_state(state_key, state_sums)
        for energy_key, energy_sums in other.energies.items():
            self.add_energy(energy_key, energy_sums)

    def freeze(self, population: Population) -> GroupSums:
        """As a value."""
        server = population is Population.SERVER
        dated = "evenings" if population is Population.CLASSROOM else "dates"
        return GroupSums(
            len(self.hosts),
            self.enrolled_milliseconds,
            self.states,
            self.energies,
            None if server else self.nights,
            None if server else dated,
            self.apportioned,
        )


def gather(reader: Reader, question: Question) -> Gathered:
    """Every group of the question. Raises CalendarError on a damaged calendar of a site."""
    pass_ = _Pass(reader, question)
    pass_.enrolment()
    pass_.states()
    pass_.energy()
    pass_.nights()
    tallies, withheld = merge_small(
        {key: tally for key, tally in pass_.tallies.items() if tally.enrolled_milliseconds or tally.hosts},
        question.k_anonymity,
        Tally,
    )
    groups = (Group(key, tally.freeze(key.population)) for key, tally in tallies.items())
    return Gathered(tuple(sorted(groups, key=_order)), withheld)


class _Pass:
    """One reading of the store."""

    def __init__(self, reader: Reader, question: Question) -> None:
        self.tallies: defaultdict[GroupKey, Tally] = defaultdict(Tally)
        self._reader = reader
        self._question = question
        self._hosts = {host.host_id: host for host in reader.hosts()}
        self._sites = {site.site: site for site in reader.sites()}
        self._weeks = {
            name: WeekShares(Calendar.from_json(site.calendar_json)) for name, site in self._sites.items()
        }
        self._slices = slices(question.first, question.end, by_month="month" in question.dimensions)
        self._firsts = [part.first for part in self._slices]
        self._keys: dict[tuple[HostId, Slice], GroupKey] = {}
        self._nights_on: defaultdict[tuple[HostId, date], int] = defaultdict(int)

    def enrolment(self) -> None:
        for host in self._hosts.values():
            for part in self._slices:
                length = enrolled_milliseconds(
                    host, self._sites[host.site], part, self._question.now_unix_milliseconds
                )
                if length:
                    self.tallies[self._key(host, part)].enrolled_milliseconds += length

    def states(self) -> None:
        for row, host in self._known(self._rows_of_sums()):
            cell = row.cell
            whole = StateSums(
                cell.milliseconds,
                cell.idle_beyond_15_minutes_milliseconds,
                cell.idle_beyond_30_minutes_milliseconds,
                cell.idle_beyond_60_minutes_milliseconds,
            )
            for part, share in self._shared(host, row.grain, row.start, _values(whole)):
                tally = self._tally(host, part, row.grain)
                tally.add_state((cell.band, cell.state), StateSums(share[0] or 0, *share[1:]))
                if cell.state is not State.UNKNOWN:
                    tally.hosts.add(host.host_id)
            if host.population is Population.WORKSTATION and _is_on_at_night(cell):
                self._nights_on[host.host_id, date.fromordinal(row.start)] += cell.milliseconds

    def energy(self) -> None:
        for row, host in self._known(self._rows_of_energy()):
            cell = row.cell
            whole = (cell.milliseconds, cell.energy_millijoules, cell.uncertainty_millijoules)
            for part, share in self._shared(host, row.grain, row.start, whole):
                tally = self._tally(host, part, row.grain)
                tally.hosts.add(host.host_id)
                key = (host.facts.device_class, cell.method, cell.band, cell.state)
                tally.add_energy(key, EnergySums(*(value or 0 for value in share)))

    def nights(self) -> None:
        """Machine-nights on > 4 h: dated by the evening at hour grain (classrooms), by local date at day grain."""
        self._classroom_nights()
        for (host_id, day), milliseconds in self._nights_on.items():
            if milliseconds > NIGHT_ON_MILLISECONDS and self._question.first <= day < self._question.end:
                self._tally(self._hosts[host_id], self._slice_of(day), Grain.DAY).nights += 1

    def _classroom_nights(self) -> None:
        if not any(host.population is Population.CLASSROOM for host in self._hosts.values()):
            return
        first, end = self._question.first, self._question.end
        zones = [site.time_zone for site in self._sites.values()]
        start = min(day_start_unix_milliseconds(first, zone) for zone in zones)
        stop = max(day_start_unix_milliseconds(end + timedelta(days=1), zone) for zone in zones)
        for row, host in self._known(self._reader.sums(Grain.HOUR, start, stop)):
            if host.population is Population.CLASSROOM and _is_on_at_night(row.cell):
                evening = evening_of(row.start, self._sites[host.site].time_zone)
                self._nights_on[row.host_id, evening] += row.cell.milliseconds

    def _known(self, rows: Iterator[R]) -> Iterator[tuple[R, Host]]:
        """Rows with their machine; one that enrolled after we listed them waits for the next report."""
        for row in rows:
            host = self._hosts.get(row.host_id)
            if host is not None:
                yield row, host

    def _rows_of_sums(self) -> Iterator[SumRow]:
        first, end = self._question.first.toordinal(), self._question.end.toordinal()
        yield from self._reader.sums(Grain.DAY, first, end)
        yield from self._reader.sums(Grain.WEEK, first - 6, end)

    def _rows_of_energy(self) -> Iterator[DerivedRow]:
        first, end = self._question.first.toordinal(), self._question.end.toordinal()
        yield from self._reader.derived(Grain.DAY, first, end)
        yield from self._reader.derived(Grain.WEEK, first - 6, end)

    def _shared(
        self, host: Host, grain: Grain, start: int, values: tuple[int | None, ...]
    ) -> Iterator[tuple[Slice, tuple[int | None, ...]]]:
        """The row's values per slice: whole for a day, by the calendar for a week."""
        if grain is Grain.DAY:
            yield self._slice_of(date.fromordinal(start)), values
            return
        weeks = self._weeks[host.site]
        columns = [[None] * 7 if v is None else [share for _, share in weeks.share(start, v)] for v in values]
        for offset, shares in enumerate(zip(*columns, strict=True)):
            day = date.fromordinal(start + offset)
            if self._question.first <= day < self._question.end and any(shares):
                yield self._slice_of(day), shares

    def _slice_of(self, day: date) -> Slice:
        return self._slices[bisect.bisect_right(self._firsts, day) - 1]

    def _tally(self, host: Host, part: Slice, grain: Grain) -> Tally:
        tally = self.tallies[self._key(host, part)]
        tally.apportioned |= grain is Grain.WEEK
        return tally

    def _key(self, host: Host, part: Slice) -> GroupKey:
        found = self._keys.get((host.host_id, part))
        if found is None:
            found = _group_key(host, self._sites[host.site], part, self._question.dimensions)
            self._keys[host.host_id, part] = found
        return found


def _is_on_at_night(cell: Cell) -> bool:
    return cell.band is Band.NIGHT and cell.state in ON_STATES


def _group_key(host: Host, site: Site, part: Slice, dimensions: Collection[str]) -> GroupKey:
    device_class = host.facts.device_class
    return GroupKey(
        part.first,
        part.end,
        site.zone,
        host.population,
        device_class is DeviceClass.VIRTUAL_MACHINE,
        entity=host.org_entity if "entity" in dimensions else None,
        site=host.site if "site" in dimensions else None,
        device_class=device_class.value if "device_class" in dimensions else None,
    )


def _values(sums: StateSums) -> tuple[int | None, ...]:
    return (
        sums.milliseconds,
        sums.idle_beyond_15_minutes_milliseconds,
        sums.idle_beyond_30_minutes_milliseconds,
        sums.idle_beyond_60_minutes_milliseconds,
    )


def _sum_states(one: StateSums, other: StateSums) -> StateSums:
    """Sum; a part never measured stays absent only when neither measured it."""
    total, *idle = (_plus(a, b) for a, b in zip(_values(one), _values(other), strict=True))
    return StateSums(total or 0, *idle)


def _plus(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else one + other


def _order(group: Group) -> tuple[date, str, str, str, str, str, bool]:
    key = group.key
    words = (key.entity or "", key.site or "", key.population.value, key.device_class or "", key.zone)
    return (key.period_from, *words, key.memo)
