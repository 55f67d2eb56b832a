# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Decomposes a change from the year before into effects, each with its margin (pure).
docs/methodology.md, section 10.

A change is a number only over months that both periods observed, on like coverage, and where the intervals do
not overlap. Every outlet that tells a change asks `why_not_demonstrated`.

The errors of two years' figures are correlated. Machines measured in both years are left out of both, group
by group (random_groups). A model has the same error in both years.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, NamedTuple

from veilleuse.collector.account.decomposition import ClassYear, Effects, decompose
from veilleuse.collector.account.emissions import kwh
from veilleuse.collector.account.row import ClassFigure, FigureRow
from veilleuse.collector.account.server_rooms import OTHER_ROOM
from veilleuse.collector.fleet.estimate import EstimateBasis
from veilleuse.collector.fleet.observations import MONITOR
from veilleuse.collector.fleet.random_groups import StateSums
from veilleuse.collector.model.figures import Ends
from veilleuse.collector.model.records import HostId
from veilleuse.collector.quantiles import quantile95
from veilleuse.wire.vocabulary import State

_LEAST_LEFT: Final = 1e-3


class Change(NamedTuple):
    """Effects of a change from the year before, with their margins."""

    effects: Effects
    margins: tuple[float, ...]
    """Half-widths of the 95 % intervals, kWh: fleet, mix, hours, watts, and their sum."""


def change(before: FigureRow, after: FigureRow) -> Change | None:
    """Compute the change between two comparable rows; None where one has no machine time."""
    old, new = class_years(before), class_years(after)
    effects = decompose(old, new)
    if effects is None:
        return None
    times = (
        sum(one.fleet_milliseconds for one in old.values()),
        sum(one.fleet_milliseconds for one in new.values()),
    )
    spread = _Spread()
    for name in sorted({**old, **new}):
        pair = _pair(old.get(name), new.get(name), times)
        if pair is not None:
            spread.add(pair, before.classes.get(name), after.classes.get(name))
    return Change(effects, spread.margins())


def class_years(row: FigureRow) -> dict[str, ClassYear]:
    """Return the inputs of a decomposition by device class.

    Screens in standby are a state of the screens, so that mean power is that of all screens, on or in
    standby.
    """
    found = {}
    for name, (time, energy) in row.class_energies.items():
        states = row.states.get(name, {})
        standby = row.classes[name].standby if name in row.classes else (0, 0)
        if any(standby):
            states = {State.ON_IDLE: (time, energy - standby[1]), State.OFF: standby}
            time += standby[0]
        known: dict[State, tuple[int, int]] = {
            state: sums for state, sums in states.items() if sums[0] and state is not State.UNKNOWN
        }
        found[name] = ClassYear(time, energy, known)
    return found


@dataclass(frozen=True, slots=True)
class _Pair:
    """One class in two years: E = machine time × mean power, millijoules."""

    before: ClassYear
    after: ClassYear
    growth: float
    """Change of the class's machine time if it had grown as the whole fleet, ms."""
    mix: float
    """Rest of the change of its machine time, ms."""
    old: float
    """Mean power in the year before, mJ per ms; for a new class, that of this year."""
    new: float
    mixed: float
    """Mean power with the new time in each state at the old watts."""

    def effects(self, old: float = 1.0, new: float = 1.0, hours: float = 1.0) -> tuple[float, ...]:
        """Return the effects of fleet, mix, hours and watts, and their sum, with each power × a factor."""
        time = self.after.fleet_milliseconds
        mixed = self.mixed * old * hours
        four = (
            self.growth * self.old * old,
            self.mix * self.old * old,
            time * (mixed - self.old * old),
            time * (self.new * new - mixed),
        )
        return (*four, sum(four))


def _pair(before: ClassYear | None, after: ClassYear | None, times: tuple[int, int]) -> _Pair | None:
    old, new = before or ClassYear(0, 0), after or ClassYear(0, 0)
    rates = [
        one.energy_millijoules / one.fleet_milliseconds if one.fleet_milliseconds else None
        for one in (old, new)
    ]
    old_rate, new_rate = (rates[0] if rates[0] is not None else rates[1]), rates[1]
    if old_rate is None:
        return None
    grown = old.fleet_milliseconds * times[1] / times[0]
    new_rate = old_rate if new_rate is None else new_rate
    mixed = old_rate if None in rates else _at_old_watts(old_rate, old.states, new_rate, new.states)
    growth, mix = grown - old.fleet_milliseconds, new.fleet_milliseconds - grown
    return _Pair(old, new, growth, mix, old_rate, new_rate, mixed)


def _at_old_watts(old: float, old_states: StateSums, new: float, new_states: StateSums) -> float:
    """Return the mean power at the new time in each state and the old watts;
    `old`, `new`: mean power of the fleet.

    `decompose` computes the same in exact fractions. Floats are faster, and this runs once per group.
    """
    (old_time, old_energy), (new_time, new_energy) = _whole(old_states), _whole(new_states)
    if not old_energy or not new_energy:
        return new if old_energy or new_energy else old
    found = 0.0
    for state, (time, energy) in new_states.items():
        before, drawn = old_states.get(state, (0, 0))
        if before:
            found += time * old * drawn * old_time / (before * old_energy)
        else:
            found += energy * new * new_time / new_energy
    return found / new_time


def _whole(states: StateSums) -> tuple[int, int]:
    return sum(time for time, _ in states.values()), sum(energy for _, energy in states.values())


@dataclass(slots=True)
class _Spread:
    """Variance parts of a change and of its four effects."""

    parts: list[tuple[Sequence[float], float]] = field(default_factory=list)
    """(variances, mJ²; their degrees of freedom)."""

    def add(self, pair: _Pair, before: ClassFigure | None, after: ClassFigure | None) -> None:
        one, other = before or after, after or before
        if one is None or other is None:
            return
        self._apart(pair, (1 + one.estimate.u_model, 1 + other.estimate.u_model, 1.0), math.inf)
        scales = _scale(one), _scale(other)
        if before is None or after is None:
            u = 1 + one.estimate.u_sampling
            self._apart(pair, (u, u, 1.0), one.estimate.degrees_of_freedom)
        elif None in scales or not one.hosts or not other.hosts:
            self._add_apart(pair, one, other)
        else:
            self._add_together(pair, one, other, (scales[0] or 0.0, scales[1] or 0.0))

    def _add_together(
        self, pair: _Pair, one: ClassFigure, other: ClassFigure, scales: tuple[float, float]
    ) -> None:
        """Add the variance with common machines, from leaving groups out of both years and of each year
        alone.

        The result weighs the two by the correlation that remains with samples of one fleet.
        """
        both = _variances(pair, one, other, scales)
        old = _variances(pair, one, replace(other, deviations=(), states_by_group=()), scales)
        new = _variances(pair, replace(one, deviations=(), states_by_group=()), other, scales)
        common = _common(one, other)
        whole = [a + b for a, b in zip(old, new, strict=True)]
        if common is None:
            found = [variance / _left(one) / _left(other) for variance in whole]
        else:
            found = [common * a + (1 - common) * b for a, b in zip(both, whole, strict=True)]
        counts = [sum(map(bool, figure.deviations)) for figure in (one, other) if figure.deviations]
        self.parts.append((found, max(1.0, min(counts, default=1) - 1.0)))

    def _add_apart(self, pair: _Pair, one: ClassFigure, other: ClassFigure) -> None:
        """Add the variance of years whose common machines are not known.

        Their errors are taken as independent, which overestimates the margin. The hours of each year have the
        error of its energy: the difference between machines causes both.
        """
        u, more = 1 + one.estimate.u_sampling, 1 + other.estimate.u_sampling
        for factors in ((u, 1.0, 1.0), (1.0, 1.0, u)):
            self._apart(pair, factors, one.estimate.degrees_of_freedom)
        for factors in ((1.0, more, 1.0), (1.0, 1.0, more)):
            self._apart(pair, factors, other.estimate.degrees_of_freedom)

    def _apart(self, pair: _Pair, factors: tuple[float, float, float], degrees_of_freedom: float) -> None:
        moved = _less(pair.effects(*factors), pair.effects())
        self.parts.append(([one**2 for one in moved], degrees_of_freedom))

    def margins(self) -> tuple[float, ...]:
        """Return the half-widths, kWh."""
        return tuple(self._margin(place) for place in range(5))

    def _margin(self, place: int) -> float:
        variance = math.fsum(part[place] for part, _ in self.parts)
        below = math.fsum(part[place] ** 2 / max(1.0, degrees) for part, degrees in self.parts)
        t = quantile95(variance**2 / below if below else math.inf)
        return t * math.sqrt(variance) * float(kwh(1))


def _common(before: ClassFigure, after: ClassFigure) -> float | None:
    """Return the correlation of two samples of one fleet;
    None where the samples have so few common machines that it is ≤ 0.

    It is 1 for the same machines, and less where each year has machines that the other has not.

    n and m machines out of N, c of them in both, have the covariance c/nm less 1/N. Leaving groups out gives
    c/nm. It also gives variances of 1/n and 1/m, which are scaled to 1/n less 1/N and 1/m less 1/N. Machines
    count by their time. N is n ÷ the measured share of the fleet's time.
    """
    old, new = before.hosts, after.hosts
    both = sum(old[one] * new[one] for one in old.keys() & new.keys())
    if not both:
        return None
    covariance = both / (sum(old.values()) * sum(new.values()))
    in_fleet = math.sqrt((1 - _left(before)) * (1 - _left(after)) * _one_by(old) * _one_by(new))
    found = (1 - in_fleet / covariance) / math.sqrt(_left(before) * _left(after))
    return min(1.0, found) if found > 0 else None


def _one_by(hosts: Mapping[HostId, int]) -> float:
    """Return 1 ÷ the effective number of machines: machines measured for longer weigh more. Kish 1965."""
    return sum(time * time for time in hosts.values()) / sum(hosts.values()) ** 2


def _left(one: ClassFigure) -> float:
    """Return the share of the fleet's time without measurement."""
    return max(_LEAST_LEFT, 1 - (one.estimate.coverage_energy or 0.0))


def _scale(one: ClassFigure) -> float | None:
    """Return the factor that scales the deviations to the estimate's sampling variance; None: not known."""
    squares = math.fsum(moved**2 for moved in one.deviations)
    variance = one.estimate.sampling_variance
    if not variance:
        return 0.0
    return math.sqrt(variance / squares) if squares else None


def _variances(pair: _Pair, one: ClassFigure, other: ClassFigure, scales: tuple[float, float]) -> list[float]:
    """Return the variances of the five, mJ², from their moves when each group is left out."""
    groups = max(len(one.deviations), len(other.deviations))
    energies = [max(1, figure.estimate.energy_millijoules) for figure in (one, other)]
    found = [0.0] * 5
    for group in range(groups):
        before, after = (
            1 + (scale * figure.deviations[group] / energy if figure.deviations else 0.0)
            for figure, scale, energy in zip((one, other), scales, energies, strict=True)
        )
        hours = 1 + after - before  # screens have prior powers: only their time has an error
        if pair.mixed and (one.states_by_group or other.states_by_group):
            old_states = _without(pair.before.states, one.states_by_group, group)
            new_states = _without(pair.after.states, other.states_by_group, group)
            mixed = _at_old_watts(pair.old, old_states, pair.new, new_states)
            hours = 1 + max(scales) * (mixed / pair.mixed - 1)
        moved = _less(pair.effects(before, after, hours), pair.effects())
        found = [sum_ + one**2 for sum_, one in zip(found, moved, strict=True)]
    return found


def _without(states: StateSums, by_group: Sequence[StateSums], group: int) -> StateSums:
    """Return the sums by state without one group; never below 0, where the whole excludes small cells."""
    if not by_group:
        return states
    found = {}
    for state, (time, energy) in states.items():
        less = by_group[group].get(state, (0, 0))
        if time > less[0]:
            found[state] = (time - less[0], max(0, energy - less[1]))
    return found


def _less(one: Iterable[float], other: Iterable[float]) -> tuple[float, ...]:
    return tuple(a - b for a, b in zip(one, other, strict=True))


MOST_COVERAGE_RATIO: Final = 1.5
"""Greatest ratio of a class's covered shares in two periods, our choice.
Above it, one period extrapolates much of what the other one measures.
"""


class ChangeObstacle(StrEnum):
    """Reason why a change is not demonstrated."""

    MONTHS = "months"
    """No calendar month was released and observed in both years."""
    COVERAGE = "coverage"
    """The covered share of a class differs by more than MOST_COVERAGE_RATIO."""
    INTERVALS = "intervals"
    """The intervals overlap, or one is not known."""
    FACTORS = "factors"
    """A period has several emission factors, or none."""


class PeriodFacts(NamedTuple):
    """One of two periods with the same calendar months."""

    shares: Mapping[str, float]
    """Class → covered share, 0 to 1: known time ÷ time in service. For rooms, time with meter readings."""
    ends: tuple[Ends | None, ...]
    """Ends of the interval of each quantity that is told, in the same order for both periods."""


def why_not_demonstrated(before: PeriodFacts, after: PeriodFacts) -> ChangeObstacle | None:
    """Return the reason why a change is not demonstrated; None where it is."""
    classes = before.shares.keys() & after.shares.keys()
    if not all(is_like(before.shares[name], after.shares[name]) for name in classes):
        return ChangeObstacle.COVERAGE
    pairs = zip(before.ends, after.ends, strict=True)
    return None if all(_are_apart(one, other) for one, other in pairs) else ChangeObstacle.INTERVALS


def is_like(share: float, other: float) -> bool:
    """Return true when two covered shares differ by a factor of MOST_COVERAGE_RATIO at most."""
    return max(share, other) <= MOST_COVERAGE_RATIO * min(share, other)


def _are_apart(one: Ends | None, other: Ends | None) -> bool:
    return one is not None and other is not None and (one[1] < other[0] or other[1] < one[0])


LEAST_DAYS: Final = 30
"""Least number of days of each year that k machines must cover, our choice:
a month has each weekday four times.
"""
LEAST_SHARE: Final = 0.8
"""Least share of a period that is shorter than that, or hardly longer."""
MOST_APART: Final = 0.05
"""Greatest difference between two years in the share of the period with meter readings of rooms, our choice.
Rooms count only the time that was read.
"""


class NoComparison(StrEnum):
    """Reason why a row has no comparison with the year before."""

    NO_DATA = "no_data"
    """Nothing was measured in the year before."""
    NO_ROW = "no_row"
    """The year before has no such row."""
    MACHINES = "machines"
    """Fewer than k machines were measured in one of the years."""
    DAYS = "days"
    """k machines cover less than LEAST_DAYS of one of the years."""
    DAY_TYPES = "day_types"
    """One of the years has a day type without any observation."""
    BASIS = "basis"
    """The bases differ: measured in one year, at the class default or outside the inventory in the other."""
    RUNNING = "running"
    """The period has not ended."""
    GONE = "gone"
    """The first months of the year before were deleted, and that year was never closed."""
    OPEN = "open"
    """The year is closed and the one before is not: the comparison would change once machines are forgotten.
    """
    NOT_KEPT = "not_kept"
    """The year before is closed, and its statistics do not allow this grouping, period or k."""
    METHOD = "method"
    """The year was closed by another method."""
    RELEASED = "released"
    """Released months hold no states by class; the unreleased figure has the comparison."""
    COVERAGE = "coverage"
    """As ChangeObstacle."""
    INTERVALS = "intervals"
    """Likewise."""


def comparison_obstacle(before: FigureRow, after: FigureRow, days: int) -> NoComparison | None:
    """Return the reason why two rows cannot be compared, None where they can;
    `days`: length of the period.
    """
    found: set[NoComparison | None] = set()
    for name in {**before.classes, **after.classes}:
        pair = [row.classes[name] for row in (before, after) if name in row.classes]
        if name == OTHER_ROOM:
            found.add(_why_rooms_not(pair, days))
        elif not all(map(_is_default, pair)):
            found.add(_why_class_not(pair[0], pair[1], days) if len(pair) == 2 else NoComparison.MACHINES)
    if not found:  # only class defaults
        found.add(NoComparison.BASIS)
    unlike = why_not_demonstrated(_observed(before, days), _observed(after, days))
    if unlike is not None:
        found.add(NoComparison(unlike.value))
    return next((reason for reason in NoComparison if reason in found), None)


def _observed(row: FigureRow, days: int) -> PeriodFacts:
    """Return the covered shares of a row by class, and the interval of its energy, mJ."""
    shares = {
        name: one.covered.days / days if name == OTHER_ROOM else one.estimate.coverage_states
        for name, one in row.classes.items()
    }
    known = {name: share for name, share in shares.items() if share is not None}
    return PeriodFacts(known, (row.estimate.bounds_millijoules,))


def _why_rooms_not(both: Sequence[ClassFigure], days: int) -> NoComparison | None:
    covered = [one.covered.days for one in both]
    if len(both) < 2 or max(covered) - min(covered) > MOST_APART * days:
        return NoComparison.BASIS
    return NoComparison.DAYS if min(covered) < min(LEAST_DAYS, LEAST_SHARE * days) else None


def _why_class_not(before: ClassFigure, after: ClassFigure, days: int) -> NoComparison | None:
    both = (before, after)
    if not all(one.is_enough for one in both):
        return NoComparison.MACHINES
    if any(one.covered.days < min(LEAST_DAYS, LEAST_SHARE * days) for one in both):
        return NoComparison.DAYS
    if any(
        time and not seen
        for one in both
        for time, seen in zip(one.fleet_milliseconds, one.covered.by_day_type, strict=True)
    ):
        return NoComparison.DAY_TYPES
    on_one_basis = _is_default(before) == _is_default(after) and any(before.standby) == any(after.standby)
    return None if on_one_basis else NoComparison.BASIS


def _is_default(one: ClassFigure) -> bool:
    """Return True when most of the energy is at the class default."""
    estimate = one.estimate
    return (
        estimate.basis is EstimateBasis.CLASS_DEFAULT
        or 2 * estimate.default_millijoules > estimate.energy_millijoules
    )


def covered_days(row: FigureRow, days: int) -> float | None:
    """Return the days of the period that k machines cover; for rooms alone, the days with meter readings.

    The result is the mean of the measured classes, weighted by machine time, at most `days`; 0 where no class
    was measured. Screens follow their PCs. None for a row without classes.
    """
    machines = {name: one for name, one in row.classes.items() if name != OTHER_ROOM}
    if not machines:
        return min(float(days), row.classes[OTHER_ROOM].covered.days) if row.classes else None
    measured = [
        (one.estimate.fleet_milliseconds or 1, one.covered.days)
        for name, one in machines.items()
        if one.covered.milliseconds and (name != MONITOR or len(machines) == 1)
    ]
    whole = sum(weight for weight, _ in measured)
    return min(float(days), sum(weight * seen for weight, seen in measured) / whole) if whole else 0.0
