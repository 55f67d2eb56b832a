# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads columns.toml: the meaning of each column, for every format and in both languages."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Final

from veilleuse.collector.documents.document import Document, Value


class ValueKind(StrEnum):
    """A ValueKind says how a value is written and read."""

    TEXT = "text"
    WORD = "word"
    """One of a closed list, which the locale translates."""
    INTEGER = "integer"
    NUMBER = "number"
    RATIO = "ratio"
    """0 to 1; written as percent for people."""
    DATE = "date"
    """ISO 8601 text in the document."""
    TIME = "time"
    """Unix milliseconds in the document."""
    BOOLEAN = "boolean"
    MIX = "mix"
    """Name → share."""


NUMERIC: Final = frozenset({ValueKind.INTEGER, ValueKind.NUMBER, ValueKind.RATIO})
GROUPS: Final = (
    "main",
    "fleet",
    "energy",
    "room",
    "emissions",
    "interval",
    "emissions_interval",
    "factor",
    "uncertainty",
    "change",
    "detail",
    "status",
)
"""Groups of columns on pages, in this order; `key` columns come before each group, `machine` ones on no page.
"""
KEY: Final = "key"
MACHINE: Final = "machine"


@dataclass(frozen=True, slots=True)
class Column:
    """A Column describes one column. `labels` and `sentences`: language → text."""

    name: str
    kind: ValueKind
    group: str
    labels: Mapping[str, str]
    sentences: Mapping[str, str]
    unit: str | None = None
    unit_from: str | None = None
    """Name of the column that holds the unit of each row."""
    words: str | None = None
    """Name of the locale's list for a WORD, or for the names of a MIX."""
    digits: int = 3
    """Decimal places in a spreadsheet."""
    grouped: bool = True
    """True = with a thousands separator."""
    behind: bool = False
    """For a key column: stands after the figures where a page has many key columns."""

    def label(self, language: str) -> str:
        """Return the label, with its unit in brackets."""
        return f"{self.labels[language]} ({self.unit})" if self.unit else self.labels[language]


@cache
def catalogue() -> Mapping[str, Column]:
    """Return name → column of columns.toml. Raises KeyError or ValueError for an incomplete column."""
    text = files("veilleuse.collector.documents").joinpath("columns.toml").read_text("utf-8")
    return {name: _column(name, entry) for name, entry in tomllib.loads(text).items()}


def column(document: Document, table: str, name: str) -> Column:
    """Return the catalogue's column, or one of the kind of the first value when the name is not in the
    catalogue.
    """
    known = catalogue().get(name)
    if known is not None:
        return known
    return _unknown(name, next((row[name] for row in document.tables[table] if name in row), ""))


def _column(name: str, entry: Mapping[str, object]) -> Column:
    group = str(entry["group"])
    if group not in (*GROUPS, KEY, MACHINE):
        raise ValueError(f"columns.toml: {name} is of the unknown group {group!r}")
    texts = {language: [str(text) for text in _list(entry[language])] for language in ("fr", "en")}
    return Column(
        name,
        ValueKind(str(entry["kind"])),
        group,
        {language: text[0] for language, text in texts.items()},
        {language: text[1] for language, text in texts.items()},
        unit=_optional(entry, "unit"),
        unit_from=_optional(entry, "unit_from"),
        words=_optional(entry, "words"),
        digits=int(str(entry.get("digits", 3))),
        grouped=bool(entry.get("grouped", True)),
        behind=bool(entry.get("behind", False)),
    )


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError(f"columns.toml: {value!r} is no list of label and sentence")
    return value


def _optional(entry: Mapping[str, object], key: str) -> str | None:
    return str(entry[key]) if key in entry else None


def _unknown(name: str, value: Value) -> Column:
    kinds: tuple[tuple[type, ValueKind], ...] = (
        (bool, ValueKind.BOOLEAN),
        (int, ValueKind.INTEGER),
        (float, ValueKind.NUMBER),
        (Mapping, ValueKind.MIX),
    )
    kind = next((kind for type_, kind in kinds if isinstance(value, type_)), ValueKind.TEXT)
    label = name.replace("_", " ")
    group = MACHINE if name.endswith(("_millijoules", "_milliseconds")) else "detail"
    return Column(name, kind, group, {"fr": label, "en": label}, {"fr": "", "en": ""})
