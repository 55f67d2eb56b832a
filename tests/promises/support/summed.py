# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Finds, by a number's value, the machines and quantities that it sums: all sums of whole cells over sets of
bands, states and methods."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from tests.promises.support.read_together import Key, Place, Version, What
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.model.records import Grain
from veilleuse.wire.units import MILLIJOULES_PER_KWH, MILLISECONDS_PER_DAY
from veilleuse.wire.vocabulary import Band, State

BAND_SETS: Final = tuple(map(frozenset, (Band, (Band.OPEN,), (Band.NIGHT, Band.CLOSED))))
STATE_SETS: Final = tuple(
    frozenset(states) for size in range(1, 6) for states in itertools.combinations(State, size)
)
KIND_SETS: Final = (frozenset({"measured", "modelled"}), frozenset({"measured"}), frozenset({"modelled"}))
SILENT: Final = "silent"
"""Kind of the time that no record covers."""


def amount(name: str, value: float) -> tuple[str, int] | None:
    """Return (unit, exact amount) of a sum; None for another number."""
    word = name.partition("{")[0]
    if word == "machine_days_observed":
        return "ms", round(value * MILLISECONDS_PER_DAY)
    if word in ("kwh", "kwh_total", "kwh_measured", "kwh_modelled"):
        return "mJ", round(value * MILLIJOULES_PER_KWH)
    for ending, unit, scale in (
        ("_milliseconds", "ms", 1),
        ("_millijoules", "mJ", 1),
        ("_seconds", "ms", 1000),
        ("_joules", "mJ", 1000),
    ):
        if word.endswith(ending):
            return unit, round(value * scale)
    return None


class Selector(NamedTuple):
    """Records that a figure covers: they begin in [first, end); beside days, weeks also end in it."""

    grains: frozenset[Grain]
    first: int
    end: int

    def has(self, key: Key) -> bool:
        """Return whether a quantity is inside."""
        end = self.end - 6 if key.grain is Grain.WEEK and len(self.grains) > 1 else self.end
        return key.grain in self.grains and self.first <= key.start < end


class Cell(NamedTuple):
    """Machines of one entity and class, or their screens: sums never divide a cell."""

    place: Place
    screens: bool


class Found(NamedTuple):
    """The quantities that a number sums."""

    version: int
    selector: Selector
    cells: tuple[Cell, ...]
    whats: frozenset[What]


@dataclass
class Sums:
    """All sums of whole cells in one selector at one version."""

    version: int
    selector: Selector
    cells: tuple[Cell, ...]
    of: dict[str, dict[int, dict[int, frozenset[What]]]]
    """Unit → value → cells as bits → quantities summed. Several groups may have the same enrolled time."""

    def find(self, unit: str, value: int) -> list[Found]:
        """Return the sums with that value."""
        return [self.told(*one) for one in self.of[unit].get(value, {}).items()]

    def told(self, bits: int, whats: frozenset[What]) -> Found:
        """Return a Found for cells as bits."""
        cells = tuple(cell for place, cell in enumerate(self.cells) if bits >> place & 1)
        return Found(self.version, self.selector, cells, whats)

    def ratio(self, value: float) -> tuple[Found, Found] | None:
        """Return a sum over some cells, and one over at least these cells, whose ratio is the value."""
        for known in self.of.values():
            for above, over in known.items():
                below = round(above / value)
                for bits, whats in over.items():
                    for under in known.get(below, {}):
                        if bits | under == under and above / below == value:
                            return self.told(bits, whats), self.told(under, known[below][under])
        return None

    def power(self, value: float) -> tuple[Found, Found] | None:
        """Return an energy and a time of the same cells whose ratio is the value, W."""
        for above, over in self.of["mJ"].items():
            below = round(above / value)
            under = self.of["ms"].get(below, {})
            for bits in over.keys() & under.keys():
                if above / below == value:
                    return self.told(bits, over[bits]), self.told(bits, under[bits])
        return None


def sums_of(version: int, selector: Selector, cells: Mapping[Cell, Mapping[What, int]]) -> Sums:
    """Return all sums over these cells: 2^cells × sets of quantities."""
    present = frozenset(what for amounts in cells.values() for what in amounts)
    of: dict[str, dict[int, dict[int, frozenset[What]]]] = {"ms": {}, "mJ": {}}
    for unit, known in of.items():
        for whats in _sets(unit, present):
            sums = [0]
            for amounts in cells.values():
                one = sum(amounts.get(what, 0) for what in whats)
                sums += [before + one for before in sums]
            for bits, value in enumerate(sums):
                if value:
                    known.setdefault(value, {}).setdefault(bits, whats)
    return Sums(version, selector, tuple(cells), of)


def month_of(part: Slice) -> Selector:
    """Return the selector of a period's days, and of the weeks inside it."""
    return Selector(frozenset({Grain.DAY, Grain.WEEK}), part.first.toordinal(), part.end.toordinal())


def silences(version: Version, months: Iterable[Slice]) -> dict[Key, int]:
    """Return each machine's enrolled time that no record covers, ms."""
    found = {}
    for part in months:
        seen: defaultdict[int, int] = defaultdict(int)
        for key, value in version.amounts.items():
            if key.what.unit == "ms" and month_of(part).has(key):
                seen[key.host] += value
        for (host, of), enrolled in version.enrolled.items():
            if of == part and enrolled > seen[host]:
                what = What("ms", Band.OPEN, State.UNKNOWN, SILENT)
                found[Key(host, Grain.DAY, part.first.toordinal(), what)] = enrolled - seen[host]
    return found


def cell_of(place: Place, what: What) -> Cell:
    """Return the cell that counts a quantity."""
    return Cell(place, what.kind == "screen")


def _sets(unit: str, present: Collection[What]) -> list[frozenset[What]]:
    """Return the sets of quantities that outlets may sum, smallest first."""
    mine = [what for what in present if what.unit == unit]
    found = {frozenset(mine)}
    for bands, states, kinds in itertools.product(BAND_SETS, STATE_SETS, KIND_SETS):
        found.add(
            frozenset(
                what
                for what in mine
                if what.band in bands
                and what.state in states
                and what.kind != SILENT
                and (unit == "ms" or what.kind in kinds or (what.kind == "screen" and "modelled" in kinds))
            )
        )
    return sorted(found - {frozenset()}, key=len)


def history_of(truths: Sequence[Mapping[Key, int]]) -> dict[Key, list[tuple[int, int]]]:
    """Return key → (version, increase over the version before)."""
    found: defaultdict[Key, list[tuple[int, int]]] = defaultdict(list)
    last: dict[Key, int] = {}
    for version, truth in enumerate(truths):
        for key, value in truth.items():
            if value != last.get(key, 0):
                found[key].append((version, value - last.get(key, 0)))
                last[key] = value
    return found
