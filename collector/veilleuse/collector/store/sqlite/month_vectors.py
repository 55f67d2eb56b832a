# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Packs vectors into bytes: 70 SQLite columns cost three times the reading of one blob. docs/decisions/0031.

A month holds the columns that are not 0, after one bit for each column. A year holds all columns, which reads
fastest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from struct import Struct
from typing import Any, Final, TypeAlias

from veilleuse.collector.model.months import COLUMNS, DayType, Vector
from veilleuse.collector.sqlite_library import sqlite3
from veilleuse.wire.vocabulary import Band

Unpack: TypeAlias = Callable[[bytes], Vector]

DAY_TYPES: Final = dict(enumerate(DayType, 1))
"""Number in the store → day type."""
DAY_TYPE_NUMBERS: Final = {kind: number for number, kind in DAY_TYPES.items()}
ROW_ORDER: Final = {
    (kind, band): place for place, (kind, band) in enumerate((k, b) for k in DayType for b in Band)
}
"""Order of a machine's rows within a period, as in the store's keys."""
_ALL: Final = Struct(f"<{len(COLUMNS)}q")
_LAYOUT: Final = "\n".join(COLUMNS)


def packed(vector: Sequence[int]) -> bytes:
    """Pack a whole vector. Raises struct.error beyond 2^63."""
    return _ALL.pack(*vector)


def packed_sparse(vector: Sequence[int]) -> bytes:
    """Pack the values of a vector that are not 0."""
    mask = sum([1 << place for place, value in enumerate(vector) if value])
    values = [value for value in vector if value]
    return mask.to_bytes(_mask_bytes(len(vector)), "little") + _ints(len(values)).pack(*values)


class Layouts:
    """Columns in the bytes of each row.

    A column that a row lacks is 0; a column that no longer exists is dropped.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._unpack: dict[tuple[int, bool], Unpack] = {}
        self._present: int | None = None

    def present(self) -> int:
        """Return the layout for new rows; stored in the open transaction."""
        if self._present is None:
            execute = self._connection.execute
            execute("INSERT INTO layouts (columns) VALUES (?) ON CONFLICT DO NOTHING", (_LAYOUT,))
            (found,) = execute("SELECT layout FROM layouts WHERE columns = ?", (_LAYOUT,)).fetchone()
            self._present = int(found)
        return self._present

    def unpack(self, layout: int, *, sparse: bool) -> Unpack:
        """Return a function from the bytes of a row to its vector."""
        found = self._unpack.get((layout, sparse))
        if found is None:
            (columns,) = self._connection.execute(
                "SELECT columns FROM layouts WHERE layout = ?", (layout,)
            ).fetchone()
            found = self._unpack[layout, sparse] = _unpacker(tuple(columns.split("\n")), sparse=sparse)
        return found

    def forget(self) -> None:
        """Empty the cache after a rollback: the layout may be gone."""
        self._present = None
        self._unpack.clear()


def _unpacker(columns: tuple[str, ...], *, sparse: bool) -> Unpack:
    as_written: Unpack = _sparse(len(columns)) if sparse else Struct(f"<{len(columns)}q").unpack
    if columns == COLUMNS:
        return as_written
    place = {name: at for at, name in enumerate(columns)}
    pick = itemgetter(*(place.get(name, len(columns)) for name in COLUMNS))

    def other(blob: bytes) -> Vector:
        chosen: Any = pick((*as_written(blob), 0))
        return tuple(chosen)

    return other


def _sparse(columns: int) -> Unpack:
    size = _mask_bytes(columns)

    @lru_cache(maxsize=4096)
    def shape(mask: bytes) -> tuple[Callable[..., tuple[int, ...]], Callable[[Sequence[int]], Any]]:
        """Cached: rows of one machine, and of machines of one kind, have few masks."""
        bits = int.from_bytes(mask, "little")
        places = [0] * columns
        count = 0
        for place in range(columns):
            if bits >> place & 1:
                count += 1
                places[place] = count
        return _ints(count).unpack_from, itemgetter(*places)

    def unpack(blob: bytes) -> Vector:
        unpack_from, spread = shape(blob[:size])
        vector: Vector = spread((0, *unpack_from(blob, size)))
        return vector

    return unpack


def _mask_bytes(columns: int) -> int:
    return (columns + 7) // 8


@lru_cache(maxsize=128)
def _ints(count: int) -> Struct:
    return Struct(f"<{count}q")
