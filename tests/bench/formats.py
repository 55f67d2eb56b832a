# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Measure seconds, bytes and memory of each format of a large report.

`python -m tests.bench formats [--rows 2000]`. Every column of the export has a different value in each row,
except those of the period and the factor. Each format is written in its own process, to measure its memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from typing import Any

from tests.support.reported import HEAD
from veilleuse.collector.documents.document import (
    FOR_PEOPLE,
    FORMATS,
    Column,
    Document,
    Row,
    ValueKind,
    read_columns,
    renderer,
)
from veilleuse.collector.model.figures import COLUMNS
from veilleuse.collector.reports.emissions_document import FIRST_COLUMNS
from veilleuse.collector.reports.summaries.emissions import add_summary

SAME = ("period_from", "period_to", "zone", "data", "method_version")


def document(count: int) -> Document:
    """Return a document with `count` rows of all columns of the yearly export."""
    columns = tuple(dict.fromkeys((*FIRST_COLUMNS, *COLUMNS)))
    rows: list[Row] = [
        {name: value(read_columns()[name], number) for name in columns} for number in range(count)
    ]
    tables = {"rows": rows, "totals": rows[:1]}
    return Document(head=HEAD, columns=columns, tables=tables, tabular=("rows", "totals"))


def value(column: Column, number: int) -> Any:
    """Return a value of the column's kind for row `number`."""
    if column.name in SAME:
        number = 1
    known: dict[ValueKind, Any] = {
        ValueKind.TEXT: f"{column.name} {number}",
        ValueKind.WORD: f"word {number % 7}",
        ValueKind.INTEGER: number * 1_234_567_891,
        ValueKind.NUMBER: number / 7 + 0.001,
        ValueKind.RATIO: (number % 997) / 997,
        ValueKind.DATE: f"2025-{number % 12 + 1:02}-{number % 28 + 1:02}",
        ValueKind.BOOLEAN: number % 2 == 0,
        ValueKind.MIX: {"metered": 1 / (number + 2), "load_modelled": 1 - 1 / (number + 2)},
    }
    return known[column.kind]


def measure(name: str, count: int) -> str:
    """Write one format; return the line with its seconds, bytes and memory."""
    made = document(count)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, worked = time.perf_counter(), time.process_time()
    content = renderer(name)(add_summary(made, {}) if name in FOR_PEOPLE else made)
    seconds, worked = time.perf_counter() - began, time.process_time() - worked
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (
        f"{name:5} {count:6,} rows x {len(made.columns)} columns: {seconds:7.2f} s ({worked:.2f} s of processor), {len(content):12,} bytes, "
        f"{(after - before) / 1024:6.0f} MiB more"
    )


def child(name: str, count: int) -> None:
    """Measure one format, in a process that `main` starts."""
    print(measure(name, count), flush=True)


def main() -> None:
    """Print one line for each format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000)
    options = parser.parse_args()
    for name in FORMATS:
        process = multiprocessing.get_context("spawn").Process(target=child, args=(name, options.rows))
        process.start()
        process.join()
