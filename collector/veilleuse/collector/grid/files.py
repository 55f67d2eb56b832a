# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads files of intensities, for sites without Internet: downloads of ODRÉ and Electricity Maps, and a plain
table (pure).

ODRÉ: the CSV (`;`, names or French labels) or JSON of its export page, or a saved answer of its API. The
fields name the dataset, and for `taux_co2` the column `nature` of each row. Plain: CSV with start, minutes,
gco2e_per_kwh.
"""

from __future__ import annotations

import csv
import json
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

from veilleuse.collector.errors import UsageError
from veilleuse.collector.grid import electricity_maps, odre
from veilleuse.collector.grid.values import GridValues, Unreadable, current, milligrams, unix_milliseconds
from veilleuse.collector.model.grid import (
    BY_DATASET,
    DATASETS,
    Dataset,
    GridIntensity,
    IntensityKind,
    IntensityStatus,
    check_value,
)
from veilleuse.wire.units import MILLISECONDS_PER_SECOND
from veilleuse.wire.values import explain_json

MAXIMUM_BYTES: Final = 128 * 2**20
"""Largest file in bytes: ODRÉ's whole consolidated table since 2012 is some 60 MB."""
PLAIN_COLUMNS: Final = ("start", "minutes", "gco2e_per_kwh")
_CONSUMPTION, _REALTIME, _CONSOLIDATED = DATASETS
_LABELS: Final = {
    "date et heure": "date_heure",
    "taux de co2 (g/kwh)": "taux_co2",
    "nature": "nature",
}
"""Labels of éCO2mix's export, without accents and case → names."""
_READ: Final = frozenset(
    {*PLAIN_COLUMNS, "nature", *(one.time_field for one in DATASETS), *(one.value_field for one in DATASETS)}
)
"""Columns that are kept: all 40 columns of half a million rows would take 1.3 GB of memory."""
_NATURES: Final = {
    "temps reel": _REALTIME,
    "consolidees": _CONSOLIDATED,
    "definitives": _CONSOLIDATED,
}
"""Word of the column `nature`, without accents → dataset. Only "Données temps réel" was seen in a sample."""


@dataclass(frozen=True, slots=True)
class Plain:
    """Facts that a plain table does not contain."""

    zone: str
    series: str
    dataset: str
    kind: IntensityKind
    status: IntensityStatus


def read_file(
    raw: bytes, now_unix_milliseconds: int, *, dataset: str | None = None, plain: Plain | None = None
) -> list[GridValues]:
    """Return one result for each dataset in the file.

    `dataset`: ODRÉ's, if the file has no name. Raises UsageError.
    """
    named = None
    if dataset is not None:
        named = BY_DATASET.get(dataset)
        if named is None:
            raise UsageError(f"unknown dataset '{dataset}': one of {', '.join(BY_DATASET)}")
    try:
        text = raw.decode("utf-8-sig")
        if text.lstrip()[:1] in ("[", "{"):
            return _json(json.loads(text), now_unix_milliseconds, named)
        return _csv(text, now_unix_milliseconds, named, plain)
    except UnicodeDecodeError as error:
        raise UsageError("the file is not UTF-8") from error
    except Unreadable as error:
        raise UsageError(f"the file is not understood: {error}") from error
    except csv.Error as error:
        raise UsageError("the file is neither JSON nor CSV: a line is too long, or has a null") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the file is neither JSON nor CSV: {explain_json(error)}") from error


def _json(document: Any, now: int, named: Dataset | None) -> list[GridValues]:
    if isinstance(document, dict) and "zone" in document:
        return [electricity_maps.read(str(document["zone"]), document, now)]
    return _datasets(odre.rows_of(document), now, named)


def _csv(text: str, now: int, named: Dataset | None, plain: Plain | None) -> list[GridValues]:
    lines = text.splitlines()
    delimiter = ";" if lines and ";" in lines[0] else ","
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header = [_name(cell) for cell in next(reader, [])]
    places = [(place, name) for place, name in enumerate(header) if name in _READ]
    rows = [{name: line[place] for place, name in places if place < len(line)} for line in reader if line]
    if set(PLAIN_COLUMNS) <= set(header):
        if plain is None:
            raise UsageError("a plain table needs --series, --zone and --kind: it does not say what it is")
        return [_plain(rows, plain, now)]
    return _datasets(rows, now, named)


def _name(cell: str) -> str:
    simple = _simple(cell)
    return _LABELS.get(simple, simple)


def _simple(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.strip().lower())
    return "".join(letter for letter in plain if not unicodedata.combining(letter))


def _datasets(rows: Sequence[Any], now: int, named: Dataset | None) -> list[GridValues]:
    if named is not None:
        return [odre.read(named, rows, now)]
    by_dataset: defaultdict[Dataset, list[Any]] = defaultdict(list)
    for row in rows:
        by_dataset[_dataset_of(row)].append(row)
    if not by_dataset:
        raise Unreadable("it has no row")
    return [odre.read(dataset, found, now) for dataset, found in by_dataset.items()]


def _dataset_of(row: Any) -> Dataset:
    if isinstance(row, dict) and _CONSUMPTION.value_field in row:
        return _CONSUMPTION
    if not isinstance(row, dict) or _REALTIME.value_field not in row:
        raise Unreadable(f"a row has neither {_CONSUMPTION.value_field} nor {_REALTIME.value_field}")
    nature = _simple(str(row.get("nature", "")))
    found = [dataset for word, dataset in _NATURES.items() if word in nature]
    if not found:
        raise UsageError(
            f"the file does not say whether it is real time or consolidated: give --dataset {_REALTIME.name} or --dataset"
            f" {_CONSOLIDATED.name}"
        )
    return found[0]


def _plain(rows: Sequence[Mapping[str, str]], plain: Plain, now: int) -> GridValues:
    """Read the whole table or nothing: its author can mend it."""
    left: Counter[str] = Counter()
    values: list[GridIntensity] = []
    for number, row in enumerate(rows, start=2):
        try:
            value = milligrams(row["gco2e_per_kwh"].replace(",", "."))
            if value is None:
                left["missing"] += 1
                continue
            values.append(
                check_value(
                    GridIntensity(
                        plain.zone,
                        plain.series,
                        plain.dataset,
                        plain.kind,
                        plain.status,
                        unix_milliseconds(row["start"], naive_is_utc=False),
                        int(row["minutes"]),
                        value,
                    )
                )
            )
        except (KeyError, ValueError) as error:
            raise UsageError(f"line {number}: {error}") from error
    ordered = sorted(values, key=lambda one: one.start_unix_milliseconds)
    for before, one in pairwise(ordered):
        if one.start_unix_milliseconds < before.end_unix_milliseconds:
            raise UsageError(f"two rows are of {_moment_of(one)}: nobody knows which holds")
    return GridValues(tuple(current(ordered, now, left)), left)


def _moment_of(one: GridIntensity) -> str:
    """Return its start, for people."""
    start = datetime.fromtimestamp(one.start_unix_milliseconds / MILLISECONDS_PER_SECOND, UTC)
    return start.strftime("%Y-%m-%dT%H:%MZ")
