# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds requests to ODRÉ (Opendatasoft Explore v2.1), and turns its answers into values. Pure.

Shapes: docs/indicative.md, and the client and the samples of pluginsGLPI/carbon@cdca124
(tests/fixtures/intensity/PROVENANCE.md). Pitfalls: null or 0 is missing; some numbers are texts; rows can be
in the future; the last hour is incomplete; an instant occurs twice when the clocks change; half of the
consolidated rows (:15, :45) may be empty, because their step is 30 minutes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

from veilleuse.collector.grid.values import (
    GridValues,
    Unreadable,
    current,
    merge_duplicates,
    milligrams,
    step_minutes,
    unix_milliseconds,
)
from veilleuse.collector.model.grid import ODRE_ZONE, Dataset, GridIntensity, IntensityStatus
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

PAGE_ROWS: Final = 100
"""Maximum `limit` of /records; ODRÉ refuses more."""
_STEP_MINUTES: Final = {IntensityStatus.REALTIME: 15, IntensityStatus.CONSOLIDATED: 30}
"""Step of an answer that does not show its own, in minutes."""
_PATH: Final = "/api/explore/v2.1/catalog/datasets/"


def records_path(dataset: Dataset, start: int, end: int, offset: int) -> str:
    """Return the path of one page of the rows in [start, end), Unix ms."""
    return _path(dataset, "records", start, end, {"limit": PAGE_ROWS, "offset": offset})


def export_path(dataset: Dataset, start: int, end: int) -> str:
    """Return the path of all rows in [start, end) in one call; the answer is a bare array."""
    return _path(dataset, "exports/json", start, end, {})


def _path(dataset: Dataset, what: str, start: int, end: int, more: Mapping[str, int]) -> str:
    name = dataset.time_field
    query = {
        "select": f"{name},{dataset.value_field}",
        "where": f"{name} IN [date'{_iso(start)}' TO date'{_iso(end)}'[",
        "order_by": f"{name} asc",
        "timezone": "UTC",
        **more,
    }
    return f"{_PATH}{quote(dataset.name)}/{what}?{urlencode(query)}"


def _iso(unix: int) -> str:
    return datetime.fromtimestamp(unix / MILLISECONDS_PER_SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def page_of(answer: Any) -> tuple[Sequence[Any], int]:
    """Return (rows, total number of rows) of an answer of /records. Raises Unreadable."""
    if not isinstance(answer, dict) or not isinstance(rows := answer.get("results"), list):
        raise Unreadable(_explain(answer))
    total = answer.get("total_count")
    if isinstance(total, bool) or not isinstance(total, int) or total < 0:
        raise Unreadable("an answer without total_count")
    return rows, total


def rows_of(answer: Any) -> Sequence[Any]:
    """Return the rows of an answer of /exports/json, or of a saved page of /records. Raises Unreadable."""
    if isinstance(answer, list):
        return answer
    return page_of(answer)[0]


def _explain(answer: Any) -> str:
    if isinstance(answer, dict) and isinstance(code := answer.get("error_code"), str):
        return f"it says {code[:60]}"
    return "it is no answer of Opendatasoft Explore v2.1"


def read(dataset: Dataset, rows: Sequence[Any], now_unix_milliseconds: int) -> GridValues:
    """Return the values of the rows, in any order. Raises Unreadable when no row has the dataset's fields."""
    left: Counter[str] = Counter()
    raw = list(_cells(dataset, rows, left))
    if rows and not raw:
        raise Unreadable(f"no row has {dataset.time_field} and {dataset.value_field}")
    found = merge_duplicates(raw, left)
    known = {start: value for start, value in found.items() if value is not None}
    left["missing"] += len(found) - len(known) - left["conflicting"]
    # A consolidated value also covers the empty rows after it; an empty real-time row is a gap.
    told = known if dataset.status is IntensityStatus.CONSOLIDATED else found
    step = step_minutes(told, _STEP_MINUTES[dataset.status])
    values = (
        GridIntensity(
            ODRE_ZONE, dataset.series, dataset.name, dataset.kind, dataset.status, start, step, value
        )
        for start, value in known.items()
    )
    return GridValues(tuple(current(values, now_unix_milliseconds, left)), left)


def _cells(dataset: Dataset, rows: Sequence[Any], left: Counter[str]) -> Iterator[tuple[int, int | None]]:
    for row in rows:
        if not isinstance(row, dict) or dataset.time_field not in row or dataset.value_field not in row:
            left["unreadable"] += 1
            continue
        try:
            start = unix_milliseconds(
                row[dataset.time_field], naive_is_utc=dataset.time_field.endswith("_utc")
            )
            yield start, milligrams(row[dataset.value_field])
        except Unreadable:
            left["unreadable"] += 1
