# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the shipped data tables: CSV with a schema of units, source, year, licence and attribution.

A table without them is refused: no figure without its origin.
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final

from veilleuse.wire.settings_file import ConfigurationError

_REQUIRED: Final = ("title", "source", "licence", "attribution")


@dataclass(frozen=True, slots=True)
class Table:
    """A Table holds its rows and their origin."""

    name: str
    rows: tuple[Mapping[str, str], ...]
    """Column → text, as written."""
    source: str
    year: int
    licence: str
    attribution: str
    edition: str
    """Edition of the source, an ISO month or date; empty: the rows hold it."""
    accessed: str
    """ISO date on which the source was read; empty: the rows hold it."""


@cache
def load_table(name: str) -> Table:
    """Return a shipped table by file name, without extension. Raises ConfigurationError, as `read_table`."""
    return read_table(files("veilleuse.collector").joinpath("data"), name)


def read_table(folder: Traversable, name: str) -> Table:
    """Return the table `<name>.csv` of a folder.

    Raises ConfigurationError when file or schema is missing, when the schema lacks source, year, licence,
    attribution or a column's unit, or when the header is not the schema's columns.
    """
    schema = _schema(folder, name)
    rows = _rows(folder, name, list(schema["columns"]))
    return Table(
        name,
        rows,
        schema["source"],
        schema["year"],
        schema["licence"],
        schema["attribution"],
        schema.get("edition", ""),
        schema.get("accessed", ""),
    )


def _schema(folder: Traversable, name: str) -> dict[str, Any]:
    file = folder.joinpath(f"{name}.schema.toml")
    try:
        schema = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"table {name}: no readable {name}.schema.toml: {error}") from error
    missing = [key for key in _REQUIRED if not _is_text(schema.get(key))]
    if not isinstance(schema.get("year"), int):
        missing.append("year")
    columns = schema.get("columns")
    if not isinstance(columns, dict) or not columns:
        missing.append("columns")
    else:
        missing += [
            f"columns.{column}.unit"
            for column, meaning in columns.items()
            if not (isinstance(meaning, dict) and _is_text(meaning.get("unit")))
        ]
    if missing:
        raise ConfigurationError(
            f"table {name}: {name}.schema.toml lacks {', '.join(missing)}: add it, a table without origin is not loaded"
        )
    return schema


def _rows(folder: Traversable, name: str, columns: list[str]) -> tuple[Mapping[str, str], ...]:
    try:
        text = folder.joinpath(f"{name}.csv").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"table {name}: cannot read {name}.csv: {error}") from error
    header, *lines = list(csv.reader(text.splitlines())) or [[]]
    if header != columns:
        raise ConfigurationError(f"table {name}: {name}.csv has columns {header}, its schema says {columns}")
    ragged = next((number for number, line in enumerate(lines, start=2) if len(line) != len(columns)), None)
    if ragged is not None:
        raise ConfigurationError(f"table {name}: line {ragged} of {name}.csv has not {len(columns)} values")
    return tuple(dict(zip(columns, line, strict=True)) for line in lines)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
