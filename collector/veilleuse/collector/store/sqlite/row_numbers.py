# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Numbers of rows that say nothing of when a workstation called (docs/privacy.md).

Records of servers and classrooms have a clock. In one sequence with them, the two neighbours of a workstation's row bracket the hour
it called at. So each workstation has a range of numbers of its own, in which they rise with what it sends and nothing else.
"""

from __future__ import annotations

import sqlite3
from hashlib import sha256
from typing import Final

from veilleuse.collector.model.records import HostId
from veilleuse.wire.vocabulary import Population

_RANGE: Final = 2**32
"""Numbers of one workstation."""
DATED: Final = 0
"""Begin of the one range of all hosts with a clock."""
_POINT_NUMBERS: Final = 2**23
"""SQLite stores one in three bytes."""

TURN: Final = "iif({grain} = 1, (SELECT coalesce(max(turn), 0) + 1 FROM dirty), 0)"
"""Of a dirty mark: hours go in the order they were marked; days and weeks, which workstations send, before them in the order of their keys."""


def first_number(host_id: HostId, population: Population) -> int:
    """Begin of the range in which this host's rows are numbered; the first number is one more."""
    return -(host_id * _RANGE) if population is Population.WORKSTATION else DATED


def next_number(connection: sqlite3.Connection, table: str, key: str, first: int) -> int:
    """The one after the highest of the range that is in use."""
    end = 2**63 - 1 if first == DATED else first + _RANGE - 1
    ((highest,),) = connection.execute(
        f"SELECT max({key}) FROM {table} WHERE {key} BETWEEN ? AND ?", (first, end)
    )
    return int(first if highest is None else highest) + 1


def point_number(values: tuple[int | str, ...], tries: int) -> int:
    """Number of a point, of its content alone: in the order they were first seen, they would tell when a rare one was. `tries`: how many
    numbers before it are another's."""
    digest = sha256("\0".join(map(str, values)).encode()).digest()
    return (int.from_bytes(digest[:8], "big") + tries) % _POINT_NUMBERS
