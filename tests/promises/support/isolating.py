# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Finds the fewest machines that any real combination of numbers isolates, exactly, modulo a large prime."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final, NamedTuple, TypeAlias

from tests.promises.support.read_together import Key, Row

PRIME: Final = 2**61 - 1
DOMINANCE: Final = 0.85
MOST_SETS: Final = 20_000
"""Most sets of machines tried in one part of the system. More is an error: no search is cut short."""

Sparse: TypeAlias = "dict[int, int]"
"""Column → coefficient, 1 to PRIME - 1."""


Weight: TypeAlias = "Fraction | int"


class Column(NamedTuple):
    """One unknown."""

    key: Key
    since: int
    """Number of the version that first had it."""


@dataclass(frozen=True)
class Equation:
    """The equation of one number."""

    row: Row
    name: str
    coefficients: Mapping[Column, Weight]
    """Weights when watts are known and times are not."""
    apart: Mapping[Column, Weight]
    """Weights when energies at rest are known, as of machines that are always off; other energies stay."""
    values: Mapping[Column, int]
    """Value of each of `apart` in a plain sum; empty for other numbers."""

    def at_rest_known(self) -> Equation:
        """Return the equation with known energies at rest."""
        return replace(self, coefficients=self.apart)


@dataclass(frozen=True)
class Isolated:
    """The fewest machines that a combination of equations isolates."""

    machines: frozenset[int]
    columns: tuple[Column, ...]


def smallest(equations: Iterable[Equation], k: int) -> Isolated | None:
    """Return fewer than `k` machines outside of which a combination of equations has no unknown, or None.

    Exhaustive: all real combinations. Columns that are equal in every equation count as one. Columns of k or
    more machines must cancel, which one elimination settles. In the rest, each set of fewer than k machines
    is tried by its rank, smallest first.
    """
    rows = {frozenset(one.coefficients.items()) for one in equations}
    signatures: defaultdict[Column, list[tuple[int, Weight]]] = defaultdict(list)
    for number, row in enumerate(rows):
        for column, coefficient in row:
            signatures[column].append((number, coefficient))
    groups: defaultdict[tuple[tuple[int, Weight], ...], list[Column]] = defaultdict(list)
    for column, signature in signatures.items():
        groups[tuple(signature)].append(column)
    members = list(groups.values())
    behind = [frozenset(column.key.host for column in columns) for columns in members]
    matrix: list[Sparse] = [{} for _ in rows]
    for place, entries in enumerate(groups):
        for number, coefficient in entries:
            matrix[number][place] = coefficient.numerator * pow(coefficient.denominator, -1, PRIME) % PRIME
    left = _without(matrix, {place for place, who in enumerate(behind) if len(who) >= k})
    best: Isolated | None = None
    for part in _apart(left):
        whole = _rank(part)
        for who in _unions({behind[place] for row in part for place in row}, k):
            if best is not None and len(who) >= len(best.machines):
                break
            outside = [{p: c for p, c in row.items() if not behind[p] <= who} for row in part]
            if _rank(outside) < whole:
                inside = sorted({p for row in part for p in row if behind[p] <= who})
                best = Isolated(who, tuple(column for p in inside for column in members[p][:1]))
                break
    return best


def dominated(equations: Iterable[Equation]) -> list[tuple[Equation, float]]:
    """Return sums, and differences of a sum and a part, with the share of one machine above 85 %."""
    sums = {frozenset(one.values.items()): one for one in equations if one.values}
    found = []
    for whole, one in sums.items():
        for part in (frozenset[tuple[Column, int]](), *(other for other in sums if other < whole)):
            by_machine: defaultdict[int, int] = defaultdict(int)
            for column, value in whole - part:
                by_machine[column.key.host] += value
            total = sum(by_machine.values())
            share = max(by_machine.values()) / total if total > 0 else 0.0
            if share > DOMINANCE:
                found.append((one, share))
    return found


def _without(rows: Iterable[Sparse], columns: Collection[int]) -> list[Sparse]:
    """Return combinations of rows in which these columns cancel; they span all such combinations."""
    pivots: dict[int, Sparse] = {}
    left = []
    for row in rows:
        row = _reduced(row, pivots)
        place = next((place for place in row if place in columns), None)
        if place is None:
            left.append(row)
        else:
            pivots[place] = row
    return [row for row in left if row]


def _rank(rows: Iterable[Sparse]) -> int:
    pivots: dict[int, Sparse] = {}
    for row in rows:
        row = _reduced(row, pivots)
        if row:
            pivots[next(iter(row))] = row
    return len(pivots)


def _reduced(row: Sparse, pivots: Mapping[int, Sparse]) -> Sparse:
    """Remove the pivots' columns from a row, in order: a later pivot's row has no earlier pivot's column."""
    for place, pivot in pivots.items():
        if place in row:
            row = _less(row, pivot, place)
    return row


def _less(row: Sparse, pivot: Sparse, place: int) -> Sparse:
    """Return the row without its entry at `place`."""
    times = row[place] * pow(pivot[place], -1, PRIME) % PRIME
    found = dict(row)
    for column, coefficient in pivot.items():
        value = (found.get(column, 0) - times * coefficient) % PRIME
        if value:
            found[column] = value
        else:
            found.pop(column, None)
    return found


def _apart(rows: Sequence[Sparse]) -> list[list[Sparse]]:
    """Return parts of the system that share no column."""
    parts: list[tuple[set[int], list[Sparse]]] = []
    for row in rows:
        touched = [part for part in parts if not part[0].isdisjoint(row)]
        parts = [part for part in parts if part[0].isdisjoint(row)]
        columns = set(row).union(*(part[0] for part in touched))
        parts.append((columns, [row, *(one for part in touched for one in part[1])]))
    return [part for _, part in parts]


def _unions(groups: Collection[frozenset[int]], k: int) -> list[frozenset[int]]:
    """Return unions of these groups with fewer than k machines, smallest first."""
    found: set[frozenset[int]] = {frozenset()}
    for group in groups:
        found |= {one | group for one in found if len(one | group) < k}
        assert len(found) < MOST_SETS, "too many sets of machines to try them all"
    return sorted(found - {frozenset()}, key=len)
