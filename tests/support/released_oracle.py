# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Recomputes the fleet's energy of released months from their stored contents and the inventory's counts.

This module shares no code with veilleuse.collector.release. A number of a row that it does not give reveals
something that is not published: days, methods, times that were rounded, machines that are hidden.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any, Final

AUTRES: Final = "autres"
SCREENS: Final = "monitor"
NUMBERS: Final = (
    "machines",
    "fleet_milliseconds",
    "known_milliseconds",
    "known_millijoules",
    "extrapolated_millijoules",
    "default_millijoules",
    "hosts",
)
"""Numbers of a row that are recomputed, then the cell that it shares.

Its uncertainties are not: the estimate has no other input.
"""

Counts = Mapping[tuple[str, str, str, str], tuple[int, tuple[int, ...]]]
"""(zone, population, entity, device class) → machines, and time on open, holiday and closed days."""


@dataclass
class Cell:
    """A published cell."""

    zone: str
    population: str
    memo: bool
    entity: str
    device_class: str
    merged: bool
    hosts: int
    time: int
    energy: int

    @property
    def is_sample(self) -> bool:
        """Return whether ten days of a mean machine are known."""
        return self.time >= self.hosts * 10 * 86_400_000

    @property
    def family(self) -> tuple[str, str, bool]:
        """Zone, population and memo."""
        return self.zone, self.population, self.memo


@dataclass
class Month:
    """What is public of a month: machines, or their screens."""

    content: Mapping[str, Any]
    counts: Counts
    cells: list[Cell]

    def is_hidden(self, zone: str, population: str, branch: str, device_class: str) -> bool:
        """Return whether machines of the class are in a merged cell of the branch."""
        return any(
            (one["family"]["zone"], one["family"]["population"]) == (zone, population)
            and (one["family"]["entity"] or AUTRES, one["family"]["device_class"]) == (branch, None)
            and device_class in one["device_classes"]
            for one in self.content["hidden_cells"]
        )


def _month(content: Mapping[str, Any], counts: Counts) -> Month:
    cells = [
        Cell(
            one["zone"],
            one["population"],
            one["memo"],
            one["entity"],
            one["device_class"],
            one["autres"],
            one["hosts"],
            sum(row[2] for row in one["states"]),
            sum(row[5] for row in one["energies"]),
        )
        for one in content["cells"]
    ]
    return Month(content, counts, cells)


def _screens(month: Month, rows: Mapping[tuple[Any, ...], Sequence[Any]]) -> Month:
    """Return screens as a class whose time is that of their PCs, which these rows give."""
    known: Counter[tuple[str, str, str]] = Counter()
    left: Counter[tuple[str, str, str]] = Counter()
    for (zone, population, _, entity, _), (_, fleet, time, *_) in rows.items():
        known[zone, population, entity] += time
        left[zone, population, entity] += fleet - time
    shared = {
        (one["family"]["zone"], one["family"]["population"], entity): one["family"]["entity"] or AUTRES
        for one in month.content["hidden_cells"]
        if one["family"]["device_class"] == SCREENS
        for entity in one["entities"]
    }
    cells = [cell for cell in month.cells if cell.device_class == SCREENS]
    own = {(cell.zone, cell.population, cell.entity) for cell in cells if not cell.merged}
    for cell in cells:
        family = cell.family[:2]
        inside = [one for one, branch in shared.items() if (*one[:2], branch) == (*family, cell.entity)]
        alone = [(cell.zone, cell.population, cell.entity)]
        cell.time = sum(known[one] for one in (inside if cell.merged else alone))
    counts: dict[tuple[str, str, str, str], tuple[int, tuple[int, ...]]] = {}
    for (zone, population, entity, _), (machines, days) in month.counts.items():
        place = zone, population, entity
        without = any(cell.family[:2] == place[:2] for cell in cells) and place not in own | shared.keys()
        part, whole = (left[place], left[place] + known[place]) if without else (1, 1)
        before, times = counts.get((*place, SCREENS), (0, (0, 0, 0)))
        more = (one * part // (whole or 1) for one in days)
        counts[*place, SCREENS] = before + machines, tuple(map(int.__add__, times, more))
    return Month(month.content, counts, cells)


def unexplained(
    rows: Sequence[Iterable[Any]],
    contents: Sequence[str],
    counts: Sequence[Counts],
    defaults: Mapping[str, Any],
    k: int,
) -> list[str]:
    """Return the numbers of the rows of each month that public numbers do not give, as text."""
    public = [_month(json.loads(one), of_month) for one, of_month in zip(contents, counts, strict=True)]
    months = [
        replace(month, cells=[cell for cell in month.cells if cell.device_class != SCREENS])
        for month in public
    ]
    expected = [dict(_rows(months, month, defaults, k)) for month in months]
    screens = [_screens(month, machines) for month, machines in zip(public, expected, strict=True)]
    found = []
    for number, (month, told) in enumerate(zip(screens, rows, strict=True)):
        of_screens = {
            key: numbers
            for key, numbers in _rows(screens, month, {}, k)
            if any(numbers[2:4])  # a default of screens is not of their PCs' time
            or _power(screens, month, (key[0], key[1], SCREENS), Fraction(0)) is not None
        }
        differences = _differences(told, expected[number] | of_screens)
        found += [f"month {number + 1}, {one}" for one in differences]
    return found


def _differences(told: Iterable[Any], expected: Mapping[tuple[Any, ...], Sequence[Any]]) -> Iterator[str]:
    left = dict(expected)
    for row in told:
        key = (row.key.zone, row.key.population, row.key.memo, row.key.entity, row.key.device_class)
        mine = dict(zip((*NUMBERS, "cell"), left.pop(key, ()), strict=False))
        shared = row.cell and (row.cell.entity, row.cell.device_class, row.cell.autres)
        if mine.get("cell") != shared:
            yield f"{key}: cell {shared}, not {mine.get('cell')}"
        for name in (one.name for one in fields(row)):
            value = getattr(row, name)
            is_number = isinstance(value, int | float) and not name.endswith(("_ppm", "weak_millijoules"))
            if is_number and mine.get(name) != value:
                yield f"{key}: {name} {value}, not {mine.get(name)}"
    for key in left:
        yield f"{key} is missing"


def _rows(
    months: Sequence[Month], month: Month, defaults: Mapping[str, Any], k: int
) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Yield (place and class, NUMBERS and shared cell)."""
    inside: defaultdict[int, list[tuple[str, str, str, str]]] = defaultdict(list)
    alone = []
    for key in sorted(month.counts):
        place = _cell_of(month, *key)
        if place is None:
            alone.append(key)
        else:
            inside[place].append(key)
    elsewhere: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for place, cell in enumerate(month.cells):
        keys = inside[place]
        if not keys:
            elsewhere[cell.zone, cell.population, cell.device_class] += cell.time
            yield (
                (*cell.family, cell.entity, cell.device_class),
                (cell.hosts, cell.time, cell.time, cell.energy, 0, 0, cell.hosts, None),
            )
            continue
        weights = [sum(month.counts[key][1]) for key in keys]
        values = (_divided(value, weights) for value in (cell.time, cell.energy, cell.hosts))
        is_shared = cell.merged or len(keys) > 1
        shared = (cell.entity, cell.device_class, cell.merged) if is_shared else None
        for key, time, energy, hosts in zip(keys, *values, strict=True):
            machines, days = month.counts[key]
            left = max(0, sum(days) - time)
            more, default = _more(months, month, key, days, left, cell, defaults, k)
            machines = machines if is_shared else max(machines, hosts)
            hosts = min(hosts, machines)
            numbers = (machines, time + left, time, energy, more, default, hosts, shared)
            yield (*cell.family, *key[2:]), numbers
    for name in sorted({(key[0], key[1], key[3]) for key in alone}):
        keys = [key for key in alone if (key[0], key[1], key[3]) == name]
        weights = [sum(month.counts[key][1]) for key in keys]
        for key, less in zip(keys, _divided(min(elsewhere[name], sum(weights)), weights), strict=True):
            machines, days = month.counts[key]
            days = tuple(one * (sum(days) - less) // sum(days) for one in days)
            more, default = _more(months, month, key, days, sum(days), None, defaults, k)
            yield (*key[:2], False, *key[2:]), (machines, sum(days), 0, 0, more, default, 0, None)


def _cell_of(month: Month, zone: str, population: str, entity: str, device_class: str) -> int | None:
    parts = entity.split(" > ")
    above = [" > ".join(parts[:size]) for size in range(len(parts), 0, -1)] + [AUTRES]
    wanted = [(entity, device_class, False)]
    for name in above:
        wanted.append((name, device_class, True))
        if month.is_hidden(zone, population, name, device_class):
            wanted.append((name, AUTRES, True))
    for one in wanted:
        for place, cell in enumerate(month.cells):
            if (
                cell.family == (zone, population, False)
                and (cell.entity, cell.device_class, cell.merged) == one
            ):
                return place
    return None


def _divided(total: int, weights: Sequence[int]) -> list[int]:
    ends = [total * reached // sum(weights) for reached in accumulate(weights, initial=0)]
    return [high - low for low, high in pairwise(ends)]


def _more(
    months: Sequence[Month],
    month: Month,
    key: tuple[str, str, str, str],
    days: Sequence[int],
    left: int,
    cell: Cell | None,
    defaults: Mapping[str, Any],
    k: int,
) -> tuple[int, int]:
    """Return (extrapolated energy, part of it at the class default) of unobserved time."""
    zone, population, entity, device_class = key
    if cell is not None and not cell.is_sample:
        cell = None
    elif cell is not None and cell.device_class == device_class and cell.time:
        return left * cell.energy // cell.time, 0
    open_share = Fraction(days[0], sum(days)) if sum(days) else Fraction(0)
    power = _power(months, month, (zone, population, device_class), open_share)
    if power is not None:
        return int(left * power * _level(months, zone, population, entity, device_class)), 0
    listed = sum(
        count[0]
        for one, count in month.counts.items()
        if (one[0], one[1], one[3]) == (zone, population, device_class)
    )
    of_cell = 0 if cell is None else left * min(k, listed) // listed
    by_default = sum(
        one * watts for one, watts in zip(days, defaults.get(device_class, (0, 0, 0)), strict=True)
    )
    default = by_default * (left - of_cell) // (sum(days) * 1_000_000) if sum(days) else 0
    return (0 if cell is None else of_cell * cell.energy // cell.time) + default, default


def _power(
    months: Sequence[Month], month: Month, name: tuple[str, str, str], open_share: Fraction | None
) -> Fraction | None:
    """Return the mean power of a class: of this month's cells, else by a line over the year's months."""
    points = []
    for one in months:
        cells = _of_class(one, name)
        time, energy = sum(cell.time for cell in cells), sum(cell.energy for cell in cells)
        if time:
            if one is month:
                return Fraction(energy, time)
            days = [count[1] for key, count in one.counts.items() if (key[0], key[1], key[3]) == name]
            whole = sum(map(sum, days))
            points.append(
                (
                    time,
                    Fraction(sum(of[0] for of in days), whole) if whole else Fraction(0),
                    Fraction(energy, time),
                )
            )
    if not points or open_share is None:
        return None
    whole = sum(weight for weight, _, _ in points)
    none = Fraction(0)
    x0 = sum((weight * x for weight, x, _ in points), none) / whole
    y0 = sum((weight * y for weight, _, y in points), none) / whole
    xx = sum((weight * (x - x0) ** 2 for weight, x, _ in points), none)
    xy = sum((weight * (x - x0) * (y - y0) for weight, x, y in points), none)
    slope = min(max(xy / xx, none), y0 / x0 if x0 else none) if xx else none
    return y0 + slope * (open_share - x0)


def _of_class(month: Month, name: tuple[str, str, str]) -> list[Cell]:
    return [
        cell
        for cell in month.cells
        if (cell.zone, cell.population, cell.device_class) == name and not cell.memo and cell.is_sample
    ]


def _level(months: Sequence[Month], zone: str, population: str, entity: str, device_class: str) -> Fraction:
    """Return the power of a place's own cells ÷ that of its class in the same months; 1 without one."""
    energy, expected = 0, Fraction(0)
    for one in months:
        power = _power(months, one, (zone, population, device_class), None)
        for cell in _of_class(one, (zone, population, device_class)):
            if cell.entity == entity and not cell.merged and power:
                energy, expected = energy + cell.energy, expected + cell.time * power
    return energy / expected if expected else Fraction(1)
