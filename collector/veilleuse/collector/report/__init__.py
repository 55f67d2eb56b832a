# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""One file per report and one per format; no arithmetic here.

A report is a Document: tables of plain values, None left out. A format turns a Document into text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Final, TypeAlias, cast

Value: TypeAlias = "str | int | float | bool | Mapping[str, float]"
Row: TypeAlias = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Document:
    """A report, ready to be written."""

    head: Mapping[str, Value | Sequence[str] | None]
    """What was asked, of what, when."""
    columns: tuple[str, ...]
    """Order of the columns of the tabular formats."""
    tables: Mapping[str, Sequence[Row]]
    """rows, totals, memo …; a row lacks what does not exist."""
    tabular: tuple[str, ...]
    """The tables a tabular format writes, one after the other."""
    assumptions: tuple[str, ...] = ()


FORMATS: Final[Mapping[str, str]] = {
    "csv": "veilleuse.collector.report.csv:render",
    "json": "veilleuse.collector.report.json:render",
}
"""Format → function (Document → text); nothing is imported until chosen."""


def renderer(name: str) -> Callable[[Document], str]:
    """The function of a format. Raises KeyError."""
    module, _, function = FORMATS[name].partition(":")
    found = getattr(import_module(module), function)
    return cast("Callable[[Document], str]", found)  # the table above is ours; tests hold it
