# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Imputes missing time of one machine's month (pure). docs/methodology.md §4.

Missing time is time of a band in the calendar without a report, or reported as `unknown` and covered by no
meter. Silence of up to 72 h is imputed from the machine's own history over 8 weeks. It gets the mean power
over all states, for the same band and day type. Longer silence stays unobserved. The machine's first and last
day are excluded: they are not whole. Time on without energy (rule 1) gets the mean power of its time on. A
state is never imputed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Final, TypeAlias

from veilleuse.collector.derive.counters import round_quotient
from veilleuse.collector.model.months import COLUMNS, IMPUTED_COLUMNS, PLACE, UNKNOWN_DERIVED, HostPeriod
from veilleuse.collector.model.records import Grain
from veilleuse.collector.months.aggregate import Key, Months, add_rows, contributions
from veilleuse.collector.months.site_days import SiteDays
from veilleuse.collector.ports.months import HISTORY_DAYS, KnownBand, MonthSource
from veilleuse.wire.sums import apportion
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.vocabulary import Band, Population, State, Supply

SILENCE_MILLISECONDS: Final = 72 * MILLISECONDS_PER_HOUR
"""docs/methodology.md §4, rule 3."""

Imputed: TypeAlias = tuple[int, int, int]
"""vectors.IMPUTED_COLUMNS: imputed milliseconds, imputed millijoules, unobserved milliseconds."""


@dataclass(slots=True)
class _Mean:
    """Sums of a band and day type over 8 weeks."""

    derived_milliseconds: int = 0
    energy_millijoules: int = 0
    on_derived_milliseconds: int = 0
    on_energy_millijoules: int = 0


@dataclass(slots=True)
class _Missing:
    short: defaultdict[Key, int] = field(default_factory=lambda: defaultdict(int))
    long: defaultdict[Key, int] = field(default_factory=lambda: defaultdict(int))


def impute(source: MonthSource, days: SiteDays) -> dict[Key, Imputed]:
    """Return the imputed values of each day type and band of the month with missing time."""
    first, end = source.month.toordinal(), _end(source.month)
    missing = _Silence(source, days).missing(first, end)
    without = _on_without_energy(source.known, days, source.month)
    found: dict[Key, Imputed] = {}
    if not (missing.short or missing.long or without):
        return found
    means = _means(source.known, days, end)
    for key in {*missing.short, *missing.long, *without}:
        mean = means.get(key, _Mean())
        short, long = missing.short[key], missing.long[key]
        energy = 0
        if mean.derived_milliseconds:
            energy = round_quotient(short * mean.energy_millijoules, mean.derived_milliseconds)
        else:  # no derived energy for such time: nothing is imputed
            short, long = 0, long + short
        if mean.on_derived_milliseconds:
            energy += round_quotient(
                without.get(key, 0) * mean.on_energy_millijoules, mean.on_derived_milliseconds
            )
        if short or long or energy:
            found[key] = (short, energy, long)
    return found


def rescale(before: Mapping[Key, Imputed], more_known: Mapping[Key, int]) -> dict[Key, Imputed]:
    """Reduce imputed values of a month with deleted days, in proportion to late data.

    `more_known`: additional milliseconds by key, of known state or metered.
    """
    found: dict[Key, Imputed] = {}
    for key, (short, energy, long) in before.items():
        whole = short + long
        left = min(whole, max(0, whole - more_known.get(key, 0)))
        if left == whole:
            found[key] = (short, energy, long)
        elif left:
            kept = round_quotient(short * left, whole)
            found[key] = (kept, round_quotient(energy * left, whole), left - kept)
    return found


def _means(known: Iterable[KnownBand], days: SiteDays, end: int) -> dict[Key, _Mean]:
    means: defaultdict[Key, _Mean] = defaultdict(_Mean)
    for one in known:
        if not end - HISTORY_DAYS <= one.start < end:
            continue
        values = (
            one.derived_milliseconds,
            one.energy_millijoules,
            one.on_derived_milliseconds,
            one.on_energy_millijoules,
        )
        for (_, key), parts in _parts(one, days, values):
            mean = means[key]
            mean.derived_milliseconds += parts[0]
            mean.energy_millijoules += parts[1]
            mean.on_derived_milliseconds += parts[2]
            mean.on_energy_millijoules += parts[3]
    return means


def _on_without_energy(known: Iterable[KnownBand], days: SiteDays, month: date) -> dict[Key, int]:
    found: defaultdict[Key, int] = defaultdict(int)
    for one in known:
        left = max(0, one.on_milliseconds - one.on_derived_milliseconds)
        for (of, key), (part,) in _parts(one, days, (left,)) if left else ():
            if of == month and part:
                found[key] += part
    return dict(found)


def _parts(
    one: KnownBand, days: SiteDays, values: tuple[int, ...]
) -> Iterable[tuple[tuple[date, Key], tuple[int, ...]]]:
    """Return ((month, key), its part of each value)."""
    if one.grain is Grain.DAY:
        facts = days.of(one.start)
        return [((facts.month, (facts.day_type, one.band)), values)]
    shares = days.week(one.start)
    columns = [shares.share(value) for value in values]
    return [
        ((month, (kind, one.band)), tuple(column[place] for column in columns))
        for place, (month, kind) in enumerate(shares.parts)
    ]


class _Silence:
    """Days without any report of a machine, and the length of each silence."""

    def __init__(self, source: MonthSource, days: SiteDays) -> None:
        self._days = days
        self._month = source.month
        self._first = source.first_day
        self._last = source.last_day
        self._weekly = days.population is Population.WORKSTATION
        """True: the open band is reported by week."""
        self._by_day: defaultdict[int, dict[Band, int]] = defaultdict(dict)
        self._by_week: defaultdict[int, int] = defaultdict(int)
        for one in source.known:
            if one.grain is Grain.DAY:
                self._by_day[one.start][one.band] = one.known_milliseconds
            else:
                self._by_week[one.start] += one.known_milliseconds
        if not self._weekly:
            for monday, known in self._by_week.items():
                self._add_to_days(monday, known)
        self._long: dict[int, bool] = {}

    def _add_to_days(self, monday: int, known: int) -> None:
        """Add a week's known open time to the days that lack it, in proportion to what they lack."""
        lacking = {
            day: max(
                0, self._days.of(day).milliseconds.get(Band.OPEN, 0) - self._by_day[day].get(Band.OPEN, 0)
            )
            for day in range(monday, monday + 7)
        }
        if whole := sum(lacking.values()):
            parts = apportion(min(known, whole), list(lacking.values()))
            for day, part in zip(lacking, parts, strict=True):
                self._by_day[day][Band.OPEN] = self._by_day[day].get(Band.OPEN, 0) + part

    def missing(self, first: int, end: int) -> _Missing:
        """Return the missing time over the days [first, end)."""
        found = _Missing()
        for day in range(first, end):
            if not self._inside(day) or self._days.of(day).month != self._month:
                continue
            kind = self._days.of(day).day_type
            into = found.long if self._is_long(day) else found.short
            for band, milliseconds in self._missing_bands(day).items():
                into[kind, band] += milliseconds
        if self._weekly:
            for monday in range(first - (first - 1) % 7, end, 7):
                for day, milliseconds in self._missing_open(monday).items():
                    if first <= day < end and self._days.of(day).month == self._month:
                        into = found.long if self._is_long(day) else found.short
                        into[self._days.of(day).day_type, Band.OPEN] += milliseconds
        return found

    def _inside(self, day: int) -> bool:
        return self._first is not None and self._last is not None and self._first < day < self._last

    def _expected(self, day: int) -> dict[Band, int]:
        """Return the lengths of the bands reported by day."""
        lengths = self._days.of(day).milliseconds
        return {band: length for band, length in lengths.items() if not (self._weekly and band is Band.OPEN)}

    def _missing_bands(self, day: int) -> dict[Band, int]:
        """Return the missing time by band, at most the day's total.

        A machine may use an older calendar for some time: that moves time between bands, not out of the day.
        """
        expected = self._expected(day)
        known: dict[Band, int] = self._by_day.get(day, {})
        whole = max(0, sum(expected.values()) - sum(known.values()))
        deficits = {band: max(0, length - known.get(band, 0)) for band, length in expected.items()}
        if not whole:
            return {}
        parts = apportion(min(whole, sum(deficits.values())), list(deficits.values()))
        return {band: part for band, part in zip(deficits, parts, strict=True) if part}

    def _is_silent(self, day: int) -> bool:
        if not self._inside(day) or any(self._by_day.get(day, {}).values()):
            return False
        if self._expected(day):
            return True
        return not self._by_week.get(_monday(day), 0)  # the whole day is open, and reported by week

    def _is_long(self, day: int) -> bool:
        """Return whether a day's missing time belongs to a silence of more than 72 h,
        at its longest possible length.
        """
        found = self._long.get(day)
        if found is None:
            found = self._long[day] = any(
                self._run_milliseconds(near) > SILENCE_MILLISECONDS for near in (day - 1, day, day + 1)
            )
        return found

    def _run_milliseconds(self, day: int) -> int:
        """Return the length of the silent days around a day,
        with the missing time of the days before and after; else 0.
        """
        if not self._is_silent(day):
            return 0
        first = last = day
        length = self._length(day)
        for step in (-1, 1):
            at = day + step
            while length <= SILENCE_MILLISECONDS and self._is_silent(at):
                length += self._length(at)
                first, last = min(first, at), max(last, at)
                at += step
        for edge in (first - 1, last + 1):
            if self._inside(edge) and not self._is_silent(edge):
                length += sum(self._missing_bands(edge).values())
        return length

    def _length(self, day: int) -> int:
        return sum(self._days.of(day).milliseconds.values())

    def _missing_open(self, monday: int) -> dict[int, int]:
        """Return the missing open time of a week inside:
        first of its silent days, then in proportion to the others'.
        """
        if not (self._inside(monday) and self._inside(monday + 6)):
            return {}
        lengths = {
            day: self._days.of(day).milliseconds.get(Band.OPEN, 0) for day in range(monday, monday + 7)
        }
        missing = max(0, sum(lengths.values()) - self._by_week.get(monday, 0))
        silent = {day: length for day, length in lengths.items() if length and self._is_silent(day)}
        others = {day: length for day, length in lengths.items() if length and day not in silent}
        of_silent = min(missing, sum(silent.values()))
        found: dict[int, int] = {}
        for part, among in ((of_silent, silent), (missing - of_silent, others)):
            if part:
                found |= dict(zip(among, apportion(part, list(among.values())), strict=True))
        return found


def _monday(day: int) -> int:
    return day - (day - 1) % 7


def _end(month: date) -> int:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1).toordinal()


_IMPUTED: Final = tuple(PLACE[name] for name in IMPUTED_COLUMNS)
_KNOWN: Final = (
    *(
        PLACE[f"{state}_{supply}_milliseconds"]
        for state in State
        if state is not State.UNKNOWN
        for supply in Supply
    ),
    PLACE[UNKNOWN_DERIVED],
)


def month_rows(source: MonthSource, days: SiteDays, time_zone: str) -> tuple[HostPeriod, ...]:
    """Return the rows of one machine and month, in the order of day type and band; none without values."""
    months = contributions(source.units, days, time_zone, source.psys)
    add_rows(months, source.gone)
    if source.gone:
        more = {
            key: known - _known_milliseconds(source.kept, key)
            for key, known in _all_known(months, source).items()
        }
        stands_in = rescale(_stored_imputed(source.kept), more)
    else:
        stands_in = impute(source, days)
    for key, values in stands_in.items():
        vector = [0] * len(COLUMNS)
        for place, value in zip(_IMPUTED, values, strict=True):
            vector[place] = value
        months.add(source.month, key, vector)
    return months.rows(source.host_id, source.month)


def _all_known(months: Months, source: MonthSource) -> dict[Key, int]:
    return {
        key: sum(vector[place] for place in _KNOWN)
        for key, vector in months.sums.get(source.month, {}).items()
    }


def _known_milliseconds(rows: Iterable[HostPeriod], key: Key) -> int:
    return sum(row.values[place] for row in rows if (row.day_type, row.band) == key for place in _KNOWN)


def _stored_imputed(rows: Iterable[HostPeriod]) -> dict[Key, Imputed]:
    found: dict[Key, Imputed] = {}
    for row in rows:
        short, energy, long = (row.values[place] for place in _IMPUTED)
        if short or energy or long:
            found[row.day_type, row.band] = (short, energy, long)
    return found
