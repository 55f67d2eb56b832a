# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Closes the year of read_together.py's machines, and turns its signed file and its report's rows into
equations over the same unknowns.

The file gives time and energy by state of each cell, by day type and band; the rows give time and measured
energy. Each is found by its value, as any number. Left out are numbers that do not sum a month's amounts:
products in the file; estimates, intervals and counts.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any, Final

from tests.promises.support.explaining import Explained
from tests.promises.support.isolating import Equation
from tests.promises.support.read_together import Key, Place, Row, Watched, What
from tests.promises.support.summed import amount
from tests.support.machines import settings_in
from tests.support.rolled import roll
from tests.support.sources import opened
from veilleuse.collector.model.query import Query
from veilleuse.collector.reports.close_year import ClosingOrder, propose
from veilleuse.collector.reports.emissions import emissions_report_of, prepare_for_publication
from veilleuse.wire.vocabulary import Band, State

FILE: Final = "signed file"
ROWS: Final = "rows of its report"
TOTALS: Final = "totals of its report"
SUMS: Final = ("measured_millijoules", "machine_days_observed")
"""Columns of a report's rows and totals that become equations."""


def closed_year(data: Watched, found: Explained, today: date) -> list[Equation]:
    """Return the equations of 2026 closed on `today` by `veilleuse close 2026`: FILE, ROWS and TOTALS."""
    roll(data.data, today)
    directory = data.data.directory
    settings = settings_in(directory.parent)
    noon = datetime(today.year, today.month, today.day, 12, tzinfo=UTC)
    order = ClosingOrder(2026, False, "test", "", round(noon.timestamp() * 1000), today)
    with opened(directory, settings.reporting) as sources:
        file = propose(sources, settings, order).file
    figures, statistics = json.loads(file.report)["figures"], json.loads(file.statistics)
    told = [
        *((FILE, *one) for cell in statistics["cells"] for one in _of_cell(cell)),
        *((ROWS, *one) for row in figures["rows"] for one in _of_row(row)),
        *((TOTALS, *one) for row in figures["totals"] for one in _of_row(row)),
    ]
    return [_equation(data, found, *one) for one in told]


def published_year(data: Watched, today: date) -> list[Row]:
    """Look when all months of 2026 are published; return rows and totals of `--public` of the year."""
    data.look(today)
    question = Query(date(2026, 1, 1), date(2027, 1, 1), ("entity", "device_class"), 10, today)
    directory = data.data.directory
    with opened(directory, settings_in(directory.parent).reporting) as sources:
        made = prepare_for_publication(emissions_report_of(sources, question))
    tables = made.document.tables
    answer = "reader: emissions by entity,device_class"
    return [data.row(answer, "reader", table, one) for table in ("rows", "totals") for one in tables[table]]


def _of_cell(cell: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, str], set[What], int]]:
    """Yield (place, quantities that may be in it, value)."""
    for by_band in cell["sums"].values():
        for band, columns in by_band.items():
            for state in set(State) - {State.UNKNOWN}:
                time = sum(columns.get(f"{state}_{supply}_milliseconds", 0) for supply in ("ac", "battery"))
                energy = columns.get(f"{state}_energy_millijoules", 0)
                kinds = ("measured", "modelled")
                yield cell["stratum"], {What("ms", Band(band), state)}, time
                yield cell["stratum"], {What("mJ", Band(band), state, kind) for kind in kinds}, energy


def _of_row(row: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, str], set[What], int]]:
    for name in SUMS:
        unit, value = amount(name, float(row[name])) or ("", 0)
        kind = "measured" if unit == "mJ" else ""
        yield row, {What(unit, band, state, kind) for band in Band for state in State}, value


def _equation(
    data: Watched, found: Explained, outlet: str, labels: Mapping[str, str], whats: set[What], value: int
) -> Equation:
    """Return the equation of a value: those days of a place's machines that sum to it."""
    version = len(data.versions) - 1
    truth = data.versions[version]
    days: defaultdict[int, list[Key]] = defaultdict(list)
    for key in truth.amounts:
        if key.what in whats and _is_in(truth.places[key.host], labels):
            days[key.start].append(key)
    sums = {start: sum(truth.amounts[key] for key in keys) for start, keys in days.items()}
    mine = next((some for some in _subsets(sums) if abs(sum(sums[one] for one in some) - value) <= 1), None)
    assert mine is not None, f"{outlet}: nothing explains {value} of {labels}"
    coefficients = found.solved({key: 1 for start in mine for key in days[start]}, version)
    row = Row(version, outlet, outlet, frozenset({"auditor"}), outlet, {}, {})
    return Equation(row, str(value), coefficients, {}, {})


def _is_in(place: Place, labels: Mapping[str, str]) -> bool:
    return all(labels.get(name, mine) == mine for name, mine in zip(place._fields, place, strict=True))


def _subsets(days: Iterable[int]) -> Iterator[tuple[int, ...]]:
    """Yield sets of days, all days first: most sums are of the year."""
    known = sorted(days)
    return itertools.chain.from_iterable(
        itertools.combinations(known, size) for size in range(len(known), -1, -1)
    )
