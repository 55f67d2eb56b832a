# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of vectors as bytes: nothing is lost, and a version with other columns reads earlier rows."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager

from hypothesis import given
from hypothesis import strategies as st

from veilleuse.collector.model.months import COLUMNS, PLACE
from veilleuse.collector.store.sqlite.month_vectors import Layouts, packed, packed_sparse

WHOLE = st.integers(-(2**63), 2**63 - 1)


@contextmanager
def layouts() -> Iterator[Layouts]:
    """Open layouts in an empty table."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(
            "CREATE TABLE layouts (layout INTEGER PRIMARY KEY, columns TEXT NOT NULL UNIQUE) STRICT"
        )
        yield Layouts(connection)


@given(st.lists(st.just(0) | WHOLE, min_size=len(COLUMNS), max_size=len(COLUMNS)))
def test_a_vector_comes_back_as_it_went(values):
    """Any values are read back as written, dense and sparse."""
    with layouts() as known:
        layout = known.present()
        assert known.unpack(layout, sparse=False)(packed(values)) == tuple(values)
        assert known.unpack(layout, sparse=True)(packed_sparse(values)) == tuple(values)
    assert len(packed_sparse(values)) == (len(COLUMNS) + 7) // 8 + 8 * sum(map(bool, values))


def test_rows_of_other_columns_are_read_by_name():
    """A new column is 0, a removed one is dropped, and the order does not matter."""
    old = ("gone_millijoules", COLUMNS[5], COLUMNS[2])
    expected = [0] * len(COLUMNS)
    expected[5], expected[2] = 11, 12
    with layouts() as known:
        known._connection.execute("INSERT INTO layouts VALUES (7, ?)", ("\n".join(old),))
        assert known.unpack(7, sparse=False)(struct.pack("<3q", 10, 11, 12)) == tuple(expected)
        assert known.unpack(7, sparse=True)(b"\x06" + struct.pack("<2q", 11, 12)) == tuple(expected)
        assert known.present() != 7


def test_columns_have_one_place_each():
    """A name given twice would sum two things."""
    assert len(PLACE) == len(COLUMNS)
