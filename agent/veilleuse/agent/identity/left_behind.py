# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What stands for the rows of a spool that its machine leaves to another holder of its identity: gaps, at their own periods.

Nothing that two holders may both have is sent twice, and nothing goes without a word: docs/decisions/0014.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from typing import Final

from google.protobuf.message import DecodeError

from veilleuse.agent.model import ClockPeriod, DatePeriod, Gap, Period, WeekPeriod
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.spool.database import gap_over
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import GapReason

MAX_GAP_SPANS: Final = 1_024
"""Of one gap, as the collector takes it: docs/wire.md."""


def gaps_of(db: sqlite3.Connection) -> list[Gap]:
    """One gap over the records that have a number, one over the others and those still open; none when there are none."""
    numbered = db.execute("SELECT wire FROM outbox WHERE acknowledged_unix_milliseconds IS NULL ORDER BY seq")
    wires = [bytes(row[0]) for row in numbered]
    rows = [str(row[0]) for row in db.execute("SELECT body FROM pending ORDER BY id")]
    checkpoint = db.execute("SELECT value FROM control WHERE key = ?", (ControlKey.OPEN_FOLD,)).fetchone()
    rows += _open_records(None if checkpoint is None else str(checkpoint[0]))
    gaps = [gap_over_wires(GapReason.REFUSED, wires)] if wires else []
    return [*gaps, gap_over(GapReason.REFUSED, rows)] if rows else gaps


def gap_over_wires(reason: GapReason, wires: Sequence[bytes]) -> Gap:
    """One gap that stands for all these records; where their spans are too many, or unreadable, the time is not dated."""
    spans: list[tuple[Period | None, int]] = []
    records = 0
    for wire in wires:
        record = pb.Record()
        with suppress(DecodeError):
            record.ParseFromString(wire)
        records += max(1, record.gap.records)
        if record.HasField("measurement"):
            milliseconds = sum(cell.milliseconds for cell in record.measurement.cells)
            spans.append((_decoded(record.measurement.period), milliseconds))
        spans += [(_decoded(span.period), span.milliseconds) for span in record.gap.spans]
    if len(spans) > MAX_GAP_SPANS:
        spans = [(None, sum(lost for _, lost in spans))]
    return Gap(reason, tuple(span for span in spans if span[1] > 0), records)


def _decoded(period: pb.Period) -> Period | None:
    """Inverse of `encode.encode_period`; None when it says none."""
    match period.WhichOneof("kind"):
        case "clock":
            clock = period.clock
            return ClockPeriod(
                clock.start_unix_milliseconds, clock.duration_milliseconds, clock.utc_offset_seconds
            )
        case "date":
            return DatePeriod(date(period.date.year, period.date.month, period.date.day))
        case "week":
            return WeekPeriod(period.week.year, period.week.week)
        case _:
            return None


def _open_records(checkpoint: str | None) -> list[str]:
    """The records of a checkpoint as they stand, as rows."""
    try:
        return [str(line) for line in json.loads(checkpoint or '{"open": []}')["open"]]
    except (ValueError, TypeError, KeyError):
        return []
