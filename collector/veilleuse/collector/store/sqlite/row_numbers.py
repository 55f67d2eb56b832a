# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Numbers rows so that a number does not tell when a workstation called (docs/privacy.md).

Records of servers and classrooms have a clock. In one common sequence, the two neighbours of a workstation's
row would tell the hour of its call. So each workstation has its own range, in which numbers rise only with
what it sends.
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
"""First number of the common range of all hosts with a clock."""
_POINT_NUMBERS: Final = 2**23
"""Number of point numbers: SQLite stores one in three bytes."""

TURN: Final = "iif({grain} = 1, (SELECT coalesce(max(turn), 0) + 1 FROM dirty), 0)"
"""Turn of a dirty mark.

Days and weeks, which workstations send, go first, in key order; hours go in the order of marking.
"""


def first_number(host_id: HostId, population: Population) -> int:
    """Return the start of the range of this host's rows; the first row has the next number."""
    return -(host_id * _RANGE) if population is Population.WORKSTATION else DATED


def next_number(connection: sqlite3.Connection, table: str, key: str, first: int) -> int:
    """Return the number after the highest number in use of the range."""
    end = 2**63 - 1 if first == DATED else first + _RANGE - 1
    ((highest,),) = connection.execute(
        f"SELECT max({key}) FROM {table} WHERE {key} BETWEEN ? AND ?", (first, end)
    )
    return int(first if highest is None else highest) + 1


def point_number(values: tuple[int | str, ...], tries: int) -> int:
    """Return the number of a point, from its content alone: a sequence would tell when a rare point was first
    seen.

    `tries`: count of earlier numbers that belong to other points.
    """
    digest = sha256("\0".join(map(str, values)).encode()).digest()
    return (int.from_bytes(digest[:8], "big") + tries) % _POINT_NUMBERS
