# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Turns the numbers of read_together.py into linear equations over the quantities of each machine.

An unknown is one quantity of one machine in one day or week: milliseconds by band and state, millijoules by
band, state and whether a method measured them, silence, having contributed, nights. A late or newly derived
amount is an unknown of its own. Energy at the watts of a model (public_watts.py) is no unknown, but these
watts × its time: energy less watts × time leaves the machines that draw another power. The unknowns that a
number sums are found by its value: amounts are random, so that sums of whole cells (entity × class) over sets
of bands, states and methods differ. A number that nothing explains is reported.

The attacker is assumed to know factors, enrolment, and public watts: of each class off, asleep and idle, of a
machine on whose load is not reported or stays in one step of its scale, of screens that are on as long as it.
A ratio is assumed to reveal its numerator and its denominator.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from fractions import Fraction
from typing import Final

from tests.promises.support.enrolled_counts import EnrolledCounts
from tests.promises.support.isolating import Column, Equation, Weight
from tests.promises.support.night_power import NIGHT_POWER, sums_told
from tests.promises.support.number_names import (
    POWERS,
    energy_of,
    is_left_out,
    is_of_powers,
    is_of_publications,
    is_ratio,
)
from tests.promises.support.public_watts import screens_at, watts_at
from tests.promises.support.read_together import Key, Row, Version, What
from tests.promises.support.summed import (
    SILENT,
    Cell,
    Found,
    Selector,
    Sums,
    amount,
    cell_of,
    history_of,
    month_of,
    silences,
    sums_of,
)
from tests.promises.support.widths import OF_INTERVALS, Width, width_of
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.model.records import Grain
from veilleuse.wire.vocabulary import Band, DeviceClass, State

ON: Final = (State.ON_ACTIVE, State.ON_IDLE)
COUNTED: Final = tuple(What("", Band.OPEN, State.ON_ACTIVE, kind) for kind in ("", "screen"))
"""Unknowns: the machine contributed, and it has a screen."""
NIGHT_MILLISECONDS: Final = 4 * 3_600_000
REST: Final = (State.OFF, State.ASLEEP)


class Explained:
    """Equations of rows, and the numbers that nothing explains."""

    def __init__(
        self,
        versions: Sequence[Version],
        months: Sequence[Slice],
        grams: Mapping[str, Fraction],
        causes: Sequence[Mapping[Key, int]],
        released: Mapping[Slice, Sequence[int]],
    ) -> None:
        """`grams`: zone → gCO2e per millijoule. `causes`: avoidable energy at each version. `released`:
        versions of each month that were published."""
        self._released = released
        self._versions, self._months, self._grams = versions, months, grams
        self._amounts = [{**one.amounts, **silences(one, months)} for one in versions]
        self._history = history_of(self._amounts)
        self._starts = sorted({(key.grain, key.start) for key in self._history if not _is_silence(key)})
        self._history |= history_of(causes)
        self._whats = {key.what for truth in versions for key in truth.amounts}
        self._sums: dict[tuple[object, ...], Sums] = {}
        self._watts_of: dict[tuple[Key, int], Fraction | None] = {}
        self._keys_of: dict[Found, list[Key]] = {}
        self._keys_in: dict[tuple[int, Selector], list[Key]] = {}
        self._wholes: defaultdict[tuple[object, ...], list[Found]] = defaultdict(list)
        """Labels of rows → the sums of cells that rows with these labels may be."""
        self._enrolled = EnrolledCounts(versions, released)
        self._rest: list[tuple[Row, dict[str, float]]] = []
        self._told: dict[tuple[object, ...], tuple[Row, dict[str, tuple[Found, Found]]]] = {}
        self._steps: dict[tuple[object, ...], Width] = {}
        self._widths: dict[tuple[object, ...], Width] = {}
        self.equations: list[Equation] = []
        self.unexplained: list[tuple[Row, str, float]] = []

    def add(self, rows: Iterable[Row]) -> None:
        """Explain the rows of all looks."""
        rows, later = list(rows), []
        for row in rows:
            self._enrolled.add(row)
        for row in rows:
            if is_of_publications(row):
                continue
            if row.outlet == "api" and self._months_of(row) > 1:
                later.append(row)
            else:
                self._explain(row)
        for row, rest in self._rest:
            self._tell_counts(row, rest)
            self.unexplained += [(row, name, value) for name, value in rest.items()]
        self._tell_widths()
        for row in later:
            self._compose(row)

    # --- one period

    def _months_of(self, row: Row) -> int:
        first, end = (
            date.fromisoformat(row.labels["period_from"]),
            date.fromisoformat(row.labels["period_to"]),
        )
        return sum(first <= part.first and part.end <= end for part in self._months)

    def _explain(self, row: Row) -> None:
        found: dict[str, Found] = {}
        ratios: dict[str, tuple[Found, Found]] = {}
        rest = {name: value for name, value in row.numbers.items() if value and not is_left_out(name)}
        for name, value in list(rest.items()):
            exact = amount(name, value)
            several = next(
                (them for sums in self._candidates(row) if exact and (them := sums.find(*exact))), ()
            )
            if several:
                alike = (one for one in several if any(one.cells == other.cells for other in found.values()))
                found[name] = next(alike, several[0])
                del rest[name]
        for name, one in found.items():
            found[name] = self._at_version_beside(row, one, found.values())
            self._tell(row, name, found[name])
        if is_of_powers(row) and rest.keys() >= POWERS:
            rest.pop("value", None)  # it follows from them
        _drop_changes(row, rest)
        for name, value in list(rest.items()):
            if amount(name, value) is None and is_ratio(name):
                find = Sums.power if name in POWERS else Sums.ratio
                pair = next(
                    (pair for sums in self._candidates(row) if value != 1 and (pair := find(sums, value))),
                    None,
                )
                if pair is not None or value == 1:  # both sums are known, or they are equal
                    del rest[name]
                if pair is not None:
                    ratios[name] = pair
                    for place, one in zip(("of", "in"), pair, strict=True):
                        self._tell(row, f"{name} ({place})", one)
        parts = [*found.values(), *(pair[1] for pair in ratios.values())]
        wholes = self._wholes[self._cells_of(row)]
        for cells in (
            *(part.cells for part in parts),
            tuple({cell: None for part in parts for cell in part.cells}),
        ):
            if parts and all(set(one.cells) != set(cells) for one in wholes):
                wholes.append(parts[0]._replace(cells=cells, whats=frozenset(self._whats)))
        self._tell_night_power(row, rest)
        self._tell_grams(row, rest, found)
        self._tell_intervals(row, rest, found)
        self._told[self._place(row), row.labels.get("period_from")] = (row, ratios)
        self._rest.append((row, rest))

    def _at_version_beside(self, row: Row, of: Found, others: Iterable[Found]) -> Found:
        """Return enrolled time at the version of the row's other sums.

        It is the same at several. Two would tell that late records end a silence: that isolates a machine.
        """
        if all(what.kind != SILENT for what in of.whats):
            return of
        versions = [one.version for one in others if all(what.kind != SILENT for what in one.whats)]
        dated = (
            of._replace(version=version)
            for version in (*versions, *self._released_at(of.selector, row.version))
        )
        return next((one for one in dated if self._value(one) == self._value(of)), of)

    def _candidates(self, row: Row) -> Iterator[Sums]:
        """Yield sums, the newest version first: a number published earlier is of an older version."""
        if row.outlet == "api":
            first, end = (date.fromisoformat(row.labels[name]) for name in ("period_from", "period_to"))
            selectors = [month_of(Slice(first, end))]
        else:
            selectors = self._selectors()
        for selector in selectors:
            for version in range(row.version, -1, -1):
                yield self._sums_of(version, selector, row.labels)

    def _selectors(self) -> list[Selector]:
        found = [month_of(part) for part in self._months]
        for grain, start in self._starts:
            found.append(Selector(frozenset({grain}), start, start + 1))
            if grain is Grain.WEEK:
                found.append(Selector(frozenset({Grain.DAY, Grain.WEEK}), start, start + 7))
        return found

    def _sums_of(self, version: int, selector: Selector, labels: Mapping[str, str]) -> Sums:
        wanted = tuple(
            None if labels.get(name) in (None, "autres") else labels[name]
            for name in ("population", "zone", "entity", "device_class")
        )
        memory = (version, selector, wanted)
        if memory not in self._sums:
            self._sums[memory] = self._summed(version, selector, wanted)
        return self._sums[memory]

    def _summed(self, version: int, selector: Selector, wanted: Sequence[str | None]) -> Sums:
        places = self._versions[version].places
        cells: defaultdict[Cell, defaultdict[What, int]] = defaultdict(lambda: defaultdict(int))
        for key in self.inside(version, selector):
            cell = cell_of(places[key.host], key.what)
            named = cell.place._replace(device_class="monitor") if cell.screens else cell.place
            pairs = zip(wanted, named, strict=True)
            # A row named by a branch may be of entities below it.
            if all(word in (None, mine) or mine.startswith(f"{word} > ") for word, mine in pairs):
                cells[cell][key.what] += self._amounts[version][key]
        return sums_of(version, selector, cells)

    # --- equations

    def _keys(self, found: Found) -> list[Key]:
        if found not in self._keys_of:
            places = self._versions[found.version].places
            self._keys_of[found] = [
                key
                for key in self.inside(found.version, found.selector)
                if key.what in found.whats and cell_of(places[key.host], key.what) in found.cells
            ]
        return self._keys_of[found]

    def inside(self, version: int, selector: Selector) -> list[Key]:
        """Return the quantities in a selector."""
        if (version, selector) not in self._keys_in:
            self._keys_in[version, selector] = [key for key in self._amounts[version] if selector.has(key)]
        return self._keys_in[version, selector]

    def _tell(self, row: Row, name: str, found: Found, weigh: Mapping[str, Fraction] | None = None) -> None:
        """Add the equation of a sum. `weigh`: zone → weight."""
        places = self._versions[found.version].places
        weights: dict[Key, Weight] = {
            key: 1 if weigh is None else weigh[places[key.host].zone] for key in self._keys(found)
        }
        self.say(row, name, weights, found.version, is_sum=weigh is None)

    def say(
        self, row: Row, name: str, weights: Mapping[Key, Weight], version: int, *, is_sum: bool = False
    ) -> None:
        """Add the equation of a number. `is_sum`: each quantity weighs 1."""
        parts = [
            (column, weight, value)
            for key, weight in weights.items()
            if not (key.what.unit == "mJ" and key.what.state in REST)
            for column, value in self.columns(key, version)
        ]
        apart = {column: weight for column, weight, _ in parts}
        values = {column: value for column, _, value in parts if is_sum}
        if weights:
            self.equations.append(Equation(row, name, self.solved(weights, version), apart, values))

    def solved(self, weights: Mapping[Key, Weight], version: int) -> dict[Column, Weight]:
        """Return a sum of quantities by its unknowns; energy at public watts becomes its time."""
        coefficients: defaultdict[Column, Weight] = defaultdict(int)
        for key, weight in weights.items():
            watts = self._watts(key, version)
            if watts is not None:
                key, weight = _time_of(key), watts * weight
            for column, _ in self.columns(key, version):
                coefficients[column] += weight
        return {column: weight for column, weight in coefficients.items() if weight}

    def _watts(self, key: Key, version: int) -> Fraction | None:
        """Return the public watts that give this energy, of the machine's own class first; else None."""
        if key.what.unit != "mJ" or key.what.kind == "measured":
            return None
        if (key, version) not in self._watts_of:
            amounts, mine = self._amounts[version], self._versions[version].places[key.host].device_class
            spent = amounts.get(_time_of(key), 0), amounts[key]
            if key.what.kind == "screen":
                self._watts_of[key, version] = screens_at(*spent)
            else:
                classes = sorted(DeviceClass, key=lambda one: one.value != mine)
                self._watts_of[key, version] = watts_at(classes, key.what.state, *spent)
        return self._watts_of[key, version]

    def columns(self, key: Key, version: int) -> list[tuple[Column, int]]:
        """Return the unknowns of a quantity at a version, each with its value. A quantity without history is
        one unknown per version, of value 1; having contributed to a month is one at all versions."""
        history = self._history.get(key)
        if history is None:
            return [(Column(key, 0 if key.what in COUNTED else version), 1)]
        return [(Column(key, since), value) for since, value in history if since <= version]

    @staticmethod
    def _cells_of(row: Row) -> tuple[object, ...]:
        names = ("period_from", "period_to", "population", "zone", "entity", "device_class")
        return (
            row.version,
            row.outlet,
            row.answer.partition(":")[0],
            *(row.labels.get(name) for name in names),
        )

    def _tell_counts(self, row: Row, rest: dict[str, float]) -> None:
        """Explain counts of machines that contributed, and of their nights on for more than 4 h. A total may
        count a machine and its screens once."""
        for name in [name for name in rest if name in ("n", "nights_on") or "_hosts" in name]:
            if name != "nights_on" and rest[name] == self._enrolled.of(row):
                del rest[name]  # public, whoever was heard
                continue
            for whole in self._likely(row):
                wanted = self._nights(whole) if name == "nights_on" else self._counted(whole)
                screens = {key for key in wanted if key.what.kind}
                keys = next(
                    (keys for keys in (wanted, wanted - screens, screens) if len(keys) == rest[name]), None
                )
                if keys is not None:
                    self.say(row, name, dict.fromkeys(keys, 1), whole.version, is_sum=True)
                    del rest[name]
                    break

    def _likely(self, row: Row) -> Iterator[Found]:
        """Yield the cells that a count may be of: those of the sums beside it, at the version that was
        published, this one or an older one, also with cells that add nothing to these sums. Where a month's
        sums are all withheld: any cells.
        """
        known = self._wholes[self._cells_of(row)]
        if not known and "period_from" in row.labels:
            first, end = (date.fromisoformat(row.labels[name]) for name in ("period_from", "period_to"))
            known = [Found(row.version, month_of(Slice(first, end)), (), frozenset(self._whats))]
        wholes = [
            whole._replace(version=version)
            for whole in known
            for version in (*self._released_at(whole.selector, row.version), *range(row.version, -1, -1))
        ]
        yield from wholes
        for whole in wholes:
            others = set(self._sums_of(whole.version, whole.selector, row.labels).cells) - set(whole.cells)
            for size in range(1, len(others) + 1):
                for more in itertools.combinations(sorted(others), size):
                    yield whole._replace(cells=(*whole.cells, *more))

    def _released_at(self, selector: Selector, version: int) -> list[int]:
        part = Slice(date.fromordinal(selector.first), date.fromordinal(selector.end))
        return [one for one in self._released.get(part, ()) if one <= version][-1:]

    def _counted(self, whole: Found) -> set[Key]:
        return {
            Key(key.host, Grain.DAY, whole.selector.first, COUNTED[key.what.kind == "screen"])
            for key in self._keys(whole)
            if key.what.state is not State.UNKNOWN
        }

    def _tell_night_power(self, row: Row, rest: dict[str, float]) -> None:
        """Explain I5."""
        for name in [name for name in rest if name.startswith(NIGHT_POWER)]:
            populations = {
                (place.population, place.zone) for one in self._versions for place in one.places.values()
            }
            shown = [one for one in populations if one[0] == row.labels["population"]]
            for part, version, of in itertools.product(
                self._months, range(row.version, -1, -1), (shown, *([one] for one in shown))
            ):
                amounts = {key: self._amounts[version][key] for key in self.inside(version, month_of(part))}
                sums = sums_told(rest[name], amounts, self._versions[version].places, of)
                if sums is not None:
                    for weights in sums:
                        self.say(row, name, weights, version)
                    del rest[name]
                    break

    def _nights(self, whole: Found) -> set[Key]:
        cells = {cell.place for cell in whole.cells}
        places = self._versions[whole.version].places
        on: defaultdict[tuple[int, int], int] = defaultdict(int)
        for key in self.inside(whole.version, whole.selector):
            night = key.grain is Grain.DAY and key.what.unit == "ms" and key.what.state in ON
            if night and places[key.host] in cells and key.what.band is not Band.OPEN:
                on[key.host, key.start] += self._amounts[whole.version][key]
        what = What("nights", Band.NIGHT, State.ON_IDLE)
        return {
            Key(host, Grain.DAY, start, what)
            for (host, start), value in on.items()
            if value > NIGHT_MILLISECONDS
        }

    def _tell_grams(self, row: Row, rest: dict[str, float], found: Mapping[str, Found]) -> None:
        """Explain emissions: in one zone they follow from the energy; in several, each has its factor."""
        for name in [name for name in rest if "kgco2e" in name or "_grams" in name]:
            if name in OF_INTERVALS:
                continue
            energy = found.get(energy_of(name, found))
            if energy is None:
                continue
            if len({cell.place.zone for cell in energy.cells}) > 1:
                self._tell(row, name, energy, self._grams)
            del rest[name]

    def _tell_intervals(self, row: Row, rest: dict[str, float], found: Mapping[str, Found]) -> None:
        """Keep the widths of intervals until all rows are seen."""
        energy = found.get("kwh_total")
        numbers: dict[str, float] = {name: rest.pop(name) for name in OF_INTERVALS if name in rest}
        if energy is None:
            self.unexplained += [(row, name, value) for name, value in numbers.items()]
            return
        width = width_of(row, energy, self._value(energy), numbers)
        (self._steps if width.is_step else self._widths)[width.row.roles, energy, width.told] = width

    def _tell_widths(self) -> None:
        steps = [*self._steps.values()]
        for width in self._widths.values():
            if not width.is_mean(steps):
                measured = frozenset(what for what in width.energy.whats if what.kind == "measured")
                self._tell(width.row, "interval", width.energy._replace(whats=measured))

    # --- several months

    def _place(self, row: Row) -> tuple[object, ...]:
        """Return a row's labels without its period; the zone of a total is left out."""
        names = (
            "indicator",
            "population",
            "entity",
            "device_class",
            "level",
            *["zone"] * (row.table != "totals"),
        )
        labels = [row.labels.get(name) for name in names]
        return row.version, row.outlet, row.answer.rpartition(" ")[0], row.table, *labels

    def _compose(self, row: Row) -> None:
        """Check that a number over several months is the sum of the months' numbers: it reveals no more."""
        first, end = row.labels["period_from"], row.labels["period_to"]
        months = [part.first.isoformat() for part in self._months if first <= part.first.isoformat() < end]
        parts = [
            self._told[key] for key in ((self._place(row), month) for month in months) if key in self._told
        ]
        for name, value in row.numbers.items():
            if (
                not value
                or is_left_out(name)
                or name in OF_INTERVALS
                or name.startswith("kgco2e")
                or name == "n"
                or (is_of_powers(row) and name == "value" and row.numbers.keys() >= POWERS)
            ):
                continue
            exact = amount(name, value)
            sums = [part.numbers.get(name, 0) for part, _ in parts]
            if exact is not None:
                known = sum((amount(name, one) or ("", 0))[1] for one in sums) == exact[1]
            elif is_ratio(name):
                known = self._is_composed(name, value, parts)
            else:
                known = sum(sums) == value
            if not known:
                self.unexplained.append((row, name, value))

    def _is_composed(
        self, name: str, value: float, parts: Sequence[tuple[Row, Mapping[str, tuple[Found, Found]]]]
    ) -> bool:
        above = below = 0
        for part, ratios in parts:
            if name not in ratios:
                return not part.numbers.get(name) or part.numbers[name] == value
            numerator, denominator = ratios[name]
            above += self._value(numerator)
            below += self._value(denominator)
        return bool(below) and math.isclose(above / below, value, rel_tol=1e-12)

    def _value(self, found: Found) -> int:
        return sum(self._amounts[found.version][key] for key in self._keys(found))


def _drop_changes(row: Row, rest: dict[str, float]) -> None:
    """Drop changes of coverage that follow from the two coverages beside them, which reveal their sums."""
    for name in [name for name in rest if name.startswith("veilleuse_coverage_change_ratio{")]:
        labels = name.partition("{")[2].rstrip("}")
        before, last = (
            row.numbers.get(f"veilleuse_coverage_ratio{{{labels},period={period}}}")
            for period in ("month_before", "month")
        )
        if before and last and math.isclose(last / before - 1, rest[name], rel_tol=1e-9):
            del rest[name]


def _time_of(key: Key) -> Key:
    return key._replace(what=What("ms", key.what.band, key.what.state))


def _is_silence(key: Key) -> bool:
    return key.what.kind == SILENT
