# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Stream state in the control table: the epoch, its edge, former epochs, and the records behind each number.

One number is one record, except for a gap that covers several records. After such a gap leaves the spool, its
count is still needed. A collector restored to before the gap must be told of all its records:
docs/decisions/0020.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping
from typing import Final

from veilleuse.agent.ports import ControlKey
from veilleuse.agent.spool.database import parse_counts
from veilleuse.wire.chain import chain_start

FORMER_EPOCHS: Final = 8
"""Number of past epochs whose delivery mark is kept."""
GAPS_KEPT: Final = 256
"""Number of gaps per epoch whose record counts are kept. The count of an older gap is added to the next one.

A collector restored to between the two is then told of too many lost records, never of too few.
"""
_EPOCH: Final = re.compile(r"[0-9a-f]{16}")


def control(db: sqlite3.Connection, key: str) -> str | None:
    """Return a control value, or None."""
    row = db.execute("SELECT value FROM control WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def set_control(db: sqlite3.Connection, key: str, value: str | None) -> None:
    """Set a control value; None deletes it."""
    if value is None:
        db.execute("DELETE FROM control WHERE key = ?", (key,))
    else:
        db.execute("INSERT OR REPLACE INTO control (key, value) VALUES (?, ?)", (key, value))


def epoch_of(db: sqlite3.Connection) -> bytes:
    """Return the present epoch, 8 bytes."""
    return bytes.fromhex(control(db, ControlKey.EPOCH) or "")


def edge(db: sqlite3.Connection) -> tuple[int, bytes]:
    """Return (number, chain) of the record before the oldest one kept; the start of the epoch if unknown."""
    try:
        seq, chain = json.loads(control(db, ControlKey.EDGE) or "[]")
        return int(seq), bytes.fromhex(chain)
    except (ValueError, TypeError):
        return 0, chain_start(epoch_of(db))


def acknowledged_seq(db: sqlite3.Connection) -> int:
    """Return the highest number acknowledged in this epoch, 0 if none."""
    row = db.execute(
        "SELECT seq FROM outbox WHERE acknowledged_unix_milliseconds IS NOT NULL ORDER BY seq DESC LIMIT 1"
    ).fetchone()
    if row is not None:
        return int(row[0])
    first = db.execute("SELECT MIN(seq) FROM outbox").fetchone()[0]
    return 0 if first is None else int(first) - 1


def oldest_seq(db: sqlite3.Connection) -> int:
    """Return the lowest number still kept; 1 if none."""
    first = db.execute("SELECT MIN(seq) FROM outbox").fetchone()[0]
    return 1 if first is None else int(first)


def former_epochs(db: sqlite3.Connection) -> dict[bytes, int]:
    """Return, per former epoch, the number of its last record delivered and no longer kept."""
    found = parse_counts(control(db, ControlKey.FORMER))
    return {bytes.fromhex(epoch): number for epoch, number in found.items() if _EPOCH.fullmatch(epoch)}


def set_former_epochs(db: sqlite3.Connection, former: Mapping[bytes, int]) -> None:
    """Keep the newest FORMER_EPOCHS of these epochs.

    The records of older ones are added to the first record of the oldest epoch kept.
    """
    delivered = [(epoch, number) for epoch, number in former.items() if number > 0]
    kept = delivered[-FORMER_EPOCHS:]
    gaps = _gaps(db)
    forgotten = sum(_records(gaps.get(epoch, {}), 1, number) for epoch, number in delivered[:-FORMER_EPOCHS])
    if forgotten:
        first = gaps.setdefault(kept[0][0], {})
        first[1] = first.get(1, 1) + forgotten
    names = {epoch.hex(): number for epoch, number in kept}
    set_control(db, ControlKey.FORMER, json.dumps(names) if kept else None)
    _set_gaps(db, {epoch: gaps[epoch] for epoch in (*dict(kept), epoch_of(db)) if epoch in gaps})


def has_gap_counts(db: sqlite3.Connection) -> bool:
    """Return False for a spool of version 0.1, which did not store them."""
    return control(db, ControlKey.GAPS) is not None


def store_gap_counts(db: sqlite3.Connection, records: Mapping[int, int]) -> None:
    """Store the record counts, each > 1, of the gaps at these numbers of the present epoch."""
    if not records and has_gap_counts(db):
        return
    gaps = _gaps(db)
    gaps[epoch_of(db)] = gaps.get(epoch_of(db), {}) | dict(records)
    _set_gaps(db, gaps)


def records_between(db: sqlite3.Connection, epoch: bytes, first: int, last: int) -> int:
    """Count the records behind the numbers `first` … `last` of that epoch; 0 for an empty range."""
    return _records(_gaps(db).get(epoch, {}), first, last)


def _records(gaps: Mapping[int, int], first: int, last: int) -> int:
    more = sum(records - 1 for number, records in gaps.items() if first <= number <= last)
    return max(0, last - first + 1) + more


def _gaps(db: sqlite3.Connection) -> dict[bytes, dict[int, int]]:
    try:
        told = json.loads(control(db, ControlKey.GAPS) or "{}")
        return {
            bytes.fromhex(epoch): {
                int(number): records for number, records in one.items() if _plausible(records)
            }
            for epoch, one in told.items()
        }
    except (ValueError, TypeError, AttributeError):  # damaged: count one record per number
        return {}


def _plausible(records: object) -> bool:
    return type(records) is int and 0 < records < 1 << 31


def _set_gaps(db: sqlite3.Connection, gaps: Mapping[bytes, Mapping[int, int]]) -> None:
    told = {epoch.hex(): _newest(one) for epoch, one in gaps.items() if one}
    set_control(db, ControlKey.GAPS, json.dumps(told))


def _newest(gaps: Mapping[int, int]) -> dict[int, int]:
    numbers = sorted(gaps)
    kept = {number: gaps[number] for number in numbers[-GAPS_KEPT:]}
    for number in numbers[:-GAPS_KEPT]:
        kept[numbers[-GAPS_KEPT]] += gaps[number] - 1
    return kept
