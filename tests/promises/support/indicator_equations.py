# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Turns the published I3 and I4 of PCs into equations.

A row's machines are those whose nearest row it is. I3 counts machines, as n of a cell does: a plan that
complies, one that does not, and one that is not known are parts of one count. I4's closed_bands is energy
idle outside opening hours less a power of the class × that time, less what update windows drew; where the
month's rows give it, it tells nothing more. The other causes have an unknown for each machine. Half-widths of
ratios are computed again, and are no equations. Whatever nothing gives is returned.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Final, NamedTuple

from tests.promises.support.explaining import COUNTED, Explained
from tests.promises.support.isolating import Column, Equation, Weight
from tests.promises.support.publications import FleetOfMonth, released_month
from tests.promises.support.read_together import Key, Place, Row, Watched, What
from tests.promises.support.summed import month_of
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.indicators import load_indicator
from veilleuse.collector.indicators.avoidable_energy import (
    OUTSIDE,
    causes_of,
    lower_microwatts,
    not_avoidable_millijoules,
)
from veilleuse.collector.indicators.power_plan import complies
from veilleuse.collector.model.indicators import Figure, IndicatorMachine, Targets
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.records import Grain
from veilleuse.collector.model.sums import EnergyClass
from veilleuse.collector.ports.stages import MachineRatio
from veilleuse.collector.quantiles import Z95, quantile95
from veilleuse.collector.release.indicator_rows import HalfWidth, IndicatorRow
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import Band, Population, State

K: Final = 10
TARGETS: Final = Targets()
PLANS: Final = "I3"
ENERGY: Final = "I4"
CAUSES: Final = ("closed_bands", "open_idle", "screens")
LEFT: Final = "left"
"""Energy idle outside opening hours that closed_bands leaves out, such as that of update windows."""
ROUNDING_MILLIJOULES: Final = 4
STEP: Final = 0.05

Machines = Mapping[int, IndicatorMachine]
Unexplained = tuple[Row, str, float]


def causes_at(months: Mapping[Slice, FleetOfMonth]) -> dict[Key, int]:
    """Return each machine's avoidable energy by cause, and what closed_bands leaves out, mJ."""
    return {
        _cause(host, part, name): value
        for part, month in months.items()
        for host, one in month.machines.items()
        for name, value in _causes(one).items()
        if value
    }


def _causes(one: IndicatorMachine) -> dict[str, int]:
    found = {cause.name: cause.millijoules for cause in causes_of(one, TARGETS)}
    left = not_avoidable_millijoules(one)
    return {**found, LEFT: left if left > ROUNDING_MILLIJOULES else 0}


def _cause(host: int, part: Slice, name: str) -> Key:
    return Key(host, Grain.DAY, part.first.toordinal(), What("cause", Band.NIGHT, State.ON_IDLE, name))


def _counted(host: int, part: Slice) -> Key:
    return Key(host, Grain.DAY, part.first.toordinal(), COUNTED[0])


def tell_indicators(data: Watched, found: Explained) -> None:
    """Add the equations of published rows, and the numbers that nothing explains."""
    roles = frozenset({"reader", *(f"reader of {name}" for name in data.entities)})
    for version, months in enumerate(data.fleets):
        for part, month in months.items():
            if month.indicators is not None and month.told_at == version:
                told = _Told(found, part, version, month, data.versions[version].places, roles)
                found.unexplained += told.tell()


class _Inside(NamedTuple):
    """Machines and rows of the month that a published row holds."""

    row: Row
    figure: Figure
    machines: Machines
    uses: Sequence[GroupKey]


class _Told:
    """Published indicators of one month."""

    def __init__(
        self,
        found: Explained,
        part: Slice,
        version: int,
        month: FleetOfMonth,
        places: Mapping[int, Place],
        roles: frozenset[str],
    ) -> None:
        self._found, self._part, self._version, self._roles = found, part, version, roles
        self._machines, self._places, self._fleet = month.machines, places, month.fleet
        assert month.indicators is not None
        self._published = month.indicators
        released = released_month(part, month)
        self._uses = {group.key.over(): group.sums for group in released.uses}
        self._cells = {
            group.key.over(): group.sums
            for group in released.cells
            if group.key.device_class != EnergyClass.MONITOR.value
        }
        self._keys = found.inside(version, month_of(part))

    def tell(self) -> Iterator[Unexplained]:
        """Add the equations; yield what is not explained."""
        for one in self._published.rows:
            if one.key.population is not Population.SERVER:
                inside = self._inside(one)
                explain = self._tell_plans if one.indicator == PLANS else self._tell_energy
                if inside.figure.n != self._hosts(inside):
                    # Not the machines of the month's rows: one more equation.
                    self._say(inside, "n", [_counted(host, self._part) for host in inside.machines])
                    if inside.figure.n != len(inside.machines):
                        yield inside.row, "n", inside.figure.n
                yield from ((inside.row, name, value) for name, value in explain(inside))
        yield from self._half_widths()
        for key, sums in self._uses.items():
            cells = [cell for cell in self._cells if _nearest(cell, self._uses) == key]
            if sums.hosts != sum(self._cells[cell].hosts for cell in cells):
                labels = {name: word for name, word in key.columns.items() if word is not None}
                yield Row(self._version, "api", "uses", self._roles, "uses", labels, {}), "n", sums.hosts

    def _inside(self, one: IndicatorRow) -> _Inside:
        keys = {row.key.over() for row in self._published.rows if row.indicator == one.indicator}
        mine = one.key.over()
        uses = [key for key in self._uses if not key.memo and _nearest(key, keys) == mine]
        of_row = {
            host: machine
            for host, machine in self._heard_or_few().items()
            if _nearest(_key(self._places[host]), self._uses) in uses
        }
        labels = {name: word for name, word in one.key.columns.items() if word is not None}
        row = Row(self._version, "api", "contents: indicators", self._roles, one.indicator, labels, {})
        return _Inside(row, one.figure, of_row, uses)

    def _heard_or_few(self) -> Machines:
        """Return the machines without those that were silent all month where K or more of their cell were."""
        cells = {host: _nearest(_key(self._places[host]), self._cells) for host in self._machines}
        silent = {
            host
            for host, one in self._machines.items()
            if not (one.use().known_milliseconds or one.use().derived_millijoules)
        }
        many = Counter(cells[host] for host in silent)
        return {
            host: one for host, one in self._machines.items() if host not in silent or many[cells[host]] < K
        }

    def _hosts(self, inside: _Inside) -> int:
        return sum(self._uses[key].hosts for key in inside.uses)

    def _say(self, inside: _Inside, name: str, keys: Collection[Key]) -> None:
        """Add the equation of a sum."""
        self._found.say(inside.row, name, dict.fromkeys(keys, 1), self._version, is_sum=True)

    def _say_parts(
        self, inside: _Inside, name: str, weights: Mapping[Key, Weight], of: Mapping[Key, int]
    ) -> None:
        """Add the equation of a sum by parts of its contributions `of`, whose dominance it reveals."""
        self._found.say(inside.row, name, weights, self._version)
        values = {Column(key, self._version): value for key, value in of.items()}
        self._found.equations.append(Equation(inside.row, name, {}, {}, values))

    # --- I3

    def _tell_plans(self, inside: _Inside) -> Iterator[tuple[str, float]]:
        figure, sides = inside.figure, defaultdict[bool | None, list[Key]](list)
        for host, one in inside.machines.items():
            sides[complies(one, TARGETS)].append(_counted(host, self._part))
        good, bad, unknown = sides[True], sides[False], sides[None]
        known = len(good) + len(bad)
        numbers = {
            "value": figure.value,
            "numerator": figure.numerator,
            "denominator": figure.denominator,
            **figure.details,
        }
        exact = {"numerator": good, "denominator": [*good, *bad], "not_known": unknown}
        share = len(good) / known if known else None
        if "not_known" in figure.details:
            for name, keys in exact.items():
                self._say(inside, name, keys)
                if numbers.pop(name) != len(keys):
                    yield name, float(len(keys))
            if numbers.pop("value") != share:
                yield "value", figure.value or 0
            for left in self._outnumbered(inside):
                if 0 < left < K:
                    yield "machines that counts of places leave", left
        elif figure.value is not None and share is not None:
            if good and bad:  # no machine is behind a share of 0 or 1
                ratio = Fraction(len(good), known)
                weights: dict[Key, Weight] = dict.fromkeys(good, 1 - ratio)
                self._found.say(inside.row, "share", {**weights, **dict.fromkeys(bad, -ratio)}, self._version)
            told = round(share, 2)
            rounded = {"value": told, "numerator": told * figure.n, "denominator": float(figure.n)}
            numbers = {name: one for name, one in numbers.items() if rounded.get(name) != one}
        yield from _known(numbers)

    def _outnumbered(self, inside: _Inside) -> Iterator[int]:
        """Yield the machines that a row's counts by side leave, where the inventory tells how many machines
        each place of a cell has: all of them are measured. Each place can lose one side.
        """
        sides: defaultdict[GroupKey, Counter[bool | None]] = defaultdict(Counter)
        for host, one in inside.machines.items():
            sides[_key(self._places[host])][complies(one, TARGETS)] += 1
        listed = {
            _key(Place(str(key.population), key.zone, str(key.entity), str(key.device_class))): count.machines
            for key, count in self._fleet.items()
            if key.device_class != EnergyClass.MONITOR.value
        }
        if all(listed.get(place) == of.total() for place, of in sides.items()):
            yield sum(of.total() - max(of.values()) for of in sides.values())
            for side in (True, False, None):
                yield sum(min(of[side], of.total() - of[side]) for of in sides.values())

    # --- I4

    def _tell_energy(self, inside: _Inside) -> Iterator[tuple[str, float]]:
        figure = inside.figure
        kwh = {"value": figure.value, **figure.details}
        amounts = {
            name.removesuffix("_kwh"): round(float(one) * MILLIJOULES_PER_KWH)
            for name, one in kwh.items()
            if one is not None
        }
        yield from _known({"numerator": figure.numerator, "denominator": figure.denominator})
        if figure.interval is not None and figure.value:
            u = math.log(figure.interval[1] / figure.value) / Z95
            if abs(u / STEP - round(u / STEP)) > 1e-6:
                yield "interval", u
        by_cause = {
            name: {
                _cause(host, self._part, name): value
                for host, one in inside.machines.items()
                if (value := _causes(one).get(name))
            }
            for name in (*CAUSES, LEFT)
        }
        true = {name: sum(values.values()) for name, values in by_cause.items()}
        others = true["open_idle"] + true["screens"]
        of_rows = self._closed_bands_of_rows(inside)
        if "mixed" in amounts:
            of_others = [*by_cause["open_idle"], *by_cause["screens"]]
            if amounts["mixed"] == others + true["closed_bands"]:
                weights = self._closed_bands(inside, by_cause[LEFT]) | dict.fromkeys(of_others, 1)
                self._say_parts(inside, "mixed", weights, _together(by_cause))
                del amounts["mixed"]
            elif amounts["mixed"] - others in of_rows:
                self._say(inside, "mixed", of_others)
                del amounts["mixed"]
            if round(float(kwh["mixed_kwh"] or 0) * MILLIJOULES_PER_KWH) == amounts.get("value"):
                del amounts["value"]
        else:
            if amounts.get("value") == sum(amounts.get(name, 0) for name in CAUSES):
                amounts.pop("value", None)
            for name in CAUSES:
                told = amounts.get(name)
                if told == true[name]:
                    weights = dict.fromkeys(by_cause[name], 1)
                    if name == "closed_bands":
                        weights = self._closed_bands(inside, by_cause[LEFT])
                    self._say_parts(inside, name, weights, by_cause[name])
                    del amounts[name]
                elif name == "closed_bands" and told in of_rows:
                    del amounts[name]
        yield from amounts.items()

    def _closed_bands(self, inside: _Inside, left: Collection[Key]) -> dict[Key, Weight]:
        """Return the weights of closed_bands: energy idle outside, less a power × time, less what is left."""
        found: dict[Key, Weight] = dict.fromkeys(left, -1)
        for key in self._keys:
            is_idle = key.what.state is State.ON_IDLE and key.what.band in OUTSIDE
            if is_idle and key.what.kind != "screen" and (one := inside.machines.get(key.host)):
                power = Fraction(lower_microwatts(one) or 0, 1_000_000)
                found[key] = 1 if key.what.unit == "mJ" else -power
        return found

    def _closed_bands_of_rows(self, inside: _Inside) -> set[int]:
        """Return the values of closed_bands that the month's rows give, with a power for each row, mJ."""
        powers = {lower_microwatts(one) or 0 for one in self._machines.values()}
        found = {0}
        for key in inside.uses:
            time, energy = (
                tell(frozenset(OUTSIDE), frozenset({State.ON_IDLE}))
                for tell in (self._uses[key].milliseconds, self._uses[key].millijoules)
            )
            if time is None or energy is None:
                return set()
            found = {before + energy - power * time // 1_000_000 for before in found for power in powers}
        return found

    # --- half-widths

    def _half_widths(self) -> Iterator[Unexplained]:
        for one in self._published.half_widths:
            if one.family.population is Population.SERVER:
                continue
            expected = self._of_plans(one) if one.indicator == PLANS else self._of_machines(one)
            if expected is None or min(100, math.ceil(100 * expected - 1e-9)) != one.percent:
                labels = {"indicator": one.indicator, "population": str(one.family.population)}
                row = Row(self._version, "api", "half-widths", self._roles, "rows", labels, {})
                yield row, "percent", one.percent

    def _of_plans(self, one: HalfWidth) -> float | None:
        """Return the half-width that the published shares give."""
        figures = [
            row.figure
            for row in self._published.rows
            if row.indicator == PLANS and _family(row.key) == _family(one.family) and not row.figure.withheld
        ]
        good = round(sum(figure.numerator or 0 for figure in figures))
        known = round(sum(figure.denominator or 0 for figure in figures))
        if known < K:
            return None
        return quantile95(known - 1) * math.sqrt(good / known * (1 - good / known) / (known - 1))

    def _of_machines(self, one: HalfWidth) -> float | None:
        """Return the half-width of the machines; None where the month's rows do not tell the ratio."""
        made = load_indicator(one.indicator)
        assert isinstance(made, MachineRatio)
        uses = [key for key in self._uses if _family(key) == _family(one.family)]
        bands, states = {
            "I1": (frozenset(OUTSIDE), frozenset({State.ON_ACTIVE, State.ON_IDLE})),
            "I2": (frozenset(Band), frozenset({State.ON_IDLE})),
        }[one.indicator]
        if any(self._uses[key].milliseconds(bands, states) is None for key in uses):
            return None
        pairs = [
            pair
            for host, machine in self._machines.items()
            if _nearest(_key(self._places[host]), self._uses) in uses
            and (pair := made.pair(machine, TARGETS))[1] > 0
        ]
        whole = sum(of for _, of in pairs)
        ratio = sum(part for part, _ in pairs) / whole
        errors = math.fsum((part - ratio * of) ** 2 for part, of in pairs)
        count = len(pairs)
        return quantile95(count - 1) * math.sqrt(count / (count - 1) * errors) / whole


def _together(by_cause: Mapping[str, Mapping[Key, int]]) -> dict[Key, int]:
    """Return each machine's avoidable energy of all causes."""
    found = Counter[Key]()
    for name in CAUSES:
        for key, value in by_cause[name].items():
            found[key._replace(what=key.what._replace(kind="all"))] += value
    return dict(found)


def _key(place: Place) -> GroupKey:
    return GroupKey(
        zone=place.zone,
        population=Population(place.population),
        entity=place.entity,
        device_class=place.device_class,
    )


def _nearest(place: GroupKey, keys: Collection[GroupKey]) -> GroupKey | None:
    """Return the row that holds a place, or another row; None where none does."""
    return next((key for key in (place, *place.merged_above) if key in keys), None)


def _family(key: GroupKey) -> tuple[str, Population | None, bool]:
    return key.zone, key.population, key.memo


def _known(numbers: Mapping[str, object]) -> Iterator[tuple[str, float]]:
    """Yield the numbers that are there, and not 0."""
    for name, one in numbers.items():
        if isinstance(one, int | float) and one:
            yield name, one
