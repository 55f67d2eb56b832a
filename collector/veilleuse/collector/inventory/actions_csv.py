# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads CSV files of declared items: objectives, measures, other items of the bilan, retired stock, and
actions.

One file holds one kind, named by its heading. A file with a refused row is refused as a whole: these files
are short and written by people.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final, NamedTuple

from veilleuse.collector.errors import UsageError
from veilleuse.collector.indicators import COVERAGE, ON_THE_SHEET, SERVER_KWH, USE_PHASE
from veilleuse.collector.inventory.cells import (
    CellError,
    boolean_of,
    date_of,
    decimal_of,
    entity_of,
    folded,
    integer_of,
    is_blank,
    name_of,
)
from veilleuse.collector.inventory.csv_table import table_of
from veilleuse.collector.inventory.plain_csv import without_notes
from veilleuse.collector.inventory.rows import Refusal
from veilleuse.collector.model.actions import KEYS, OBJECTIVES, Action, ActionLine, ActionTable, Cells, key_of
from veilleuse.collector.model.query import ENTERED_YEARS
from veilleuse.wire.vocabulary import Population

ACTIONS: Final = "actions"
STATUSES: Final = ("planned", "under_way", "done", "late", "stopped")
PARTS: Final = ("whole", "use", "manufacture", "network", "cloud", "end_of_life", "other")
_IN_FRENCH: Final = {
    "prevu": "planned",
    "en_cours": "under_way",
    "fait": "done",
    "en_retard": "late",
    "arrete": "stopped",
    "bilan_entier": "whole",
    "usage": "use",
    "fabrication": "manufacture",
    "reseaux": "network",
    "fin_de_vie": "end_of_life",
    "autre": "other",
}
"""French words that a file may use instead of ours."""
SITES_SEPARATOR: Final = "|"
MAXIMUM_LINES: Final = 2_000
_LARGEST: Final = Decimal(10) ** 12
_TEXT: Final = 200


class ActionsColumn(NamedTuple):
    """One column of a file."""

    doc: str
    parse: Callable[[str], str]
    """Returns the value of a cell. Raises CellRefused."""
    required: bool = False


@dataclass(frozen=True, slots=True)
class ActionsFile:
    """The rows of one file."""

    kind: str
    """One of KINDS."""
    lines: tuple[ActionLine, ...]
    refusals: tuple[Refusal, ...]


def _text(cell: str) -> str:
    return name_of(cell, _TEXT)


def _year(cell: str) -> str:
    year = integer_of(cell, ENTERED_YEARS.last)
    if not ENTERED_YEARS.holds(year):
        raise CellError(f"{year} is no year here", f"write {ENTERED_YEARS.first} to {ENTERED_YEARS.last}")
    return str(year)


def _number(cell: str) -> str:
    found = decimal_of(cell)
    if abs(found) > _LARGEST:
        raise CellError(f"{found} is too large", f"write at most {_LARGEST}")
    return f"{found:f}"


def _positive(cell: str) -> str:
    text = _number(cell)
    if Decimal(text) < 0:
        raise CellError(f"{text} is below 0", "write 0 or more")
    return text


def _ratio(cell: str) -> str:
    text = _positive(cell)
    if Decimal(text) > 1:
        raise CellError(f"{text} is above 1", "write a share as 0 to 1")
    return text


def _units(cell: str) -> str:
    return str(integer_of(cell, 10_000_000))


def _day(cell: str) -> str:
    found = date_of(cell)
    if found is None:
        raise CellError("it is blank", "write YYYY-MM-DD")
    return found.isoformat()


def _boolean(cell: str) -> str:
    return "yes" if boolean_of(cell) else "no"


def _word(*words: str) -> Callable[[str], str]:
    def parse(cell: str) -> str:
        word = folded(cell).replace(" ", "_")
        word = _IN_FRENCH.get(word, word)
        if word not in words:
            raise CellError(f"'{name_of(cell)}' is none of the words for it", f"use {', '.join(words)}")
        return word

    return parse


def _objective(cell: str) -> str:
    text = name_of(cell).removesuffix("°").strip()
    if text not in OBJECTIVES:
        raise CellError(f"'{text}' is no objective", f"write {', '.join(OBJECTIVES)}")
    return text


def _sites(cell: str) -> str:
    found = sorted({name for part in cell.split(SITES_SEPARATOR) if (name := name_of(part))})
    if not found:
        raise CellError("no site", f"name at least one; several are separated by {SITES_SEPARATOR}")
    return SITES_SEPARATOR.join(found)


_MEANS: Final = {
    "pilot": ActionsColumn("who leads it: a department, no person", _text),
    "means_eur": ActionsColumn("euros, all years together", _positive),
    "means_fte": ActionsColumn("full-time equivalents", _positive),
    "status": ActionsColumn(", ".join(STATUSES), _word(*STATUSES)),
    "comment": ActionsColumn("anything else", _text),
}
KINDS: Final[Mapping[str, Mapping[str, ActionsColumn]]] = {
    ActionTable.OBJECTIVES.value: {
        "objective": ActionsColumn("1 to 6: CGCT D.2311-15-1", _objective, required=True),
        "indicator": ActionsColumn(
            f"{ON_THE_SHEET[0]} to {COVERAGE}, {SERVER_KWH} or {USE_PHASE}: computed; any other name: yours",
            _text,
            required=True,
        ),
        "population": ActionsColumn(
            "workstation, classroom or server; blank: all that the indicator is of",
            _word(*(one.value for one in Population)),
        ),
        "unit": ActionsColumn("of yours", _text),
        "direction": ActionsColumn("lower or higher is better, of yours", _word("lower", "higher")),
        "baseline_year": ActionsColumn("year that progress is counted from", _year),
        "baseline_value": ActionsColumn(
            "as published then; in the indicator's unit, a share as 0 to 1", _number
        ),
        "target_year": ActionsColumn("by when", _year),
        "target_value": ActionsColumn("in the indicator's unit", _number),
        "current_year": ActionsColumn("of yours alone: year of the value", _year),
        "current_value": ActionsColumn("of yours alone: what is computed is never entered", _number),
        "current_lo95": ActionsColumn("of yours: 95 % interval, if it is known", _number),
        "current_hi95": ActionsColumn("likewise", _number),
        "coverage": ActionsColumn("of yours: 0 to 1", _ratio),
        "source": ActionsColumn("where a value of yours comes from", _text),
        "measure": ActionsColumn("what is done for it, in a few words", _text),
        **_MEANS,
    },
    ActionTable.MEASURES.value: {
        "measure_id": ActionsColumn("a name of yours that stays", _text, required=True),
        "objective": ActionsColumn("1 to 6", _objective, required=True),
        "what": ActionsColumn("what is done", _text, required=True),
        "indicator": ActionsColumn("that it is meant to move", _text),
        "action": ActionsColumn("id of an action whose saving is measured (veilleuse action list)", _text),
        "from_day": ActionsColumn("YYYY-MM-DD", _day),
        "to_day": ActionsColumn("YYYY-MM-DD, the day after the last", _day),
        **_MEANS,
    },
    ActionTable.OTHER_ITEMS.value: {
        "year": ActionsColumn("of the emissions", _year, required=True),
        "item": ActionsColumn("what it is, e.g. Fabrication des équipements", _text, required=True),
        "part": ActionsColumn(
            "whole: the whole bilan; use, manufacture, network, cloud, end_of_life, other",
            _word(*PARTS),
            required=True,
        ),
        "tco2e": ActionsColumn("tonnes of CO2 equivalent, as published", _positive, required=True),
        "uncertainty_percent": ActionsColumn("95 % half-width, if it is known", _positive),
        "in_whole": ActionsColumn("yes: it is a part of the line 'whole' of its year", _boolean),
        "source": ActionsColumn("study or report it comes from", _text, required=True),
        "comment": ActionsColumn("anything else", _text),
    },
    ActionTable.RETIRED_STOCK.value: {
        "year": ActionsColumn("the stock is that of 1 January of this year", _year, required=True),
        "entity": ActionsColumn("path from the root; blank: all of it", entity_of),
        "units": ActionsColumn(
            "retired equipment in stock, less than ten years old when retired, none that security keeps from reuse",
            _units,
            required=True,
        ),
        "source": ActionsColumn("where the count comes from", _text),
    },
    ACTIONS: {
        "action_id": ActionsColumn("a name of yours that stays", _text, required=True),
        "sites": ActionsColumn(
            f"sites touched, separated by {SITES_SEPARATOR}, as machines were enrolled", _sites, required=True
        ),
        "from_day": ActionsColumn("YYYY-MM-DD: first day it holds", _day, required=True),
        "what": ActionsColumn("what was done", _text, required=True),
    },
}


def template(kind: str) -> str:
    """Build an empty file of `kind`: a heading, and above it one comment a column, which the import skips.

    Raises UsageError for an unknown kind.
    """
    columns = _columns_of(kind)
    needed = ", ".join(name for name, column in columns.items() if column.required)
    notes = "".join(f"# {name}: {column.doc}\n" for name, column in columns.items())
    return f"# {kind}: needed are {needed}; remove other columns as you like\n{notes}{';'.join(columns)}\n"


def read(data: bytes, name: str) -> ActionsFile:
    """Read all rows of a file of one kind. Raises UsageError when the heading belongs to no kind."""
    table = table_of(without_notes(data), name)
    headings = [folded(column).replace(" ", "_") for column in table.columns]
    kind = _kind_of(headings, name)
    if len(table.rows) > MAXIMUM_LINES:
        raise UsageError(f"{name} has {len(table.rows)} rows: at most {MAXIMUM_LINES}")
    lines: dict[str, ActionLine] = {}
    refusals: list[Refusal] = []
    for row in table.rows:
        where = table.where(row)
        if len(row.cells) < len(headings) or any(cell.strip() for cell in row.cells[len(headings) :]):
            what = f"{len(row.cells)} cells under {len(headings)} columns"
            refusals.append(
                Refusal(where, "", what, "one cell a column; quote a cell that holds a separator")
            )
            continue
        try:
            line = _line(kind, dict(zip(headings, row.cells, strict=False)))
        except _Refused as bad:
            refusals.append(Refusal(where, bad.column, bad.what, bad.remedy))
            continue
        if line.key in lines:
            column = ", ".join(_key_columns(kind))
            refusals.append(Refusal(where, column, "a row before has the same", "name each once"))
            continue
        lines[line.key] = line
    return ActionsFile(kind, tuple(lines.values()), tuple(refusals))


def checked(kind: str, cells: Mapping[str, str]) -> ActionLine:
    """Check a line that another process has read. Raises UsageError."""
    columns = _columns_of(kind)
    if unknown := [name for name in cells if name not in columns]:
        raise UsageError(f"{kind} has no column '{unknown[0][:64]}'")
    try:
        return _line(kind, cells)
    except _Refused as bad:
        raise UsageError(f"{kind}, {bad.column}: {bad.what}: {bad.remedy}") from bad


def action_of(cells: Cells) -> Action:
    """Build an action from a line of kind ACTIONS."""
    return Action(
        cells["action_id"],
        tuple(cells["sites"].split(SITES_SEPARATOR)),
        date.fromisoformat(cells["from_day"]),
        cells["what"],
    )


def _kind_of(headings: Sequence[str], name: str) -> str:
    found = [
        kind
        for kind, columns in KINDS.items()
        if {one for one, column in columns.items() if column.required} <= set(headings)
    ]
    kind = max(found, key=lambda one: len(set(headings) & KINDS[one].keys()), default=None)
    if kind is None:
        raise UsageError(
            f"{name} has a heading of none of {', '.join(KINDS)}: see 'veilleuse reen template {next(iter(KINDS))}'"
        )
    for place, heading in enumerate(headings):
        if heading not in KINDS[kind] or heading in headings[:place]:
            near = difflib.get_close_matches(heading, KINDS[kind], n=1)
            hint = (
                f"did you mean '{near[0]}'?"
                if near and heading not in KINDS[kind]
                else "use each of ours once"
            )
            raise UsageError(f"{name}, a file of {kind}: column '{heading[:64]}': {hint}")
    return kind


class _Refused(Exception):
    def __init__(self, column: str, what: str, remedy: str) -> None:
        super().__init__(column, what, remedy)
        self.column, self.what, self.remedy = column, what, remedy


def _line(kind: str, cells: Mapping[str, str]) -> ActionLine:
    found: dict[str, str] = {}
    for name, column in KINDS[kind].items():
        cell = cells.get(name, "")
        if is_blank(cell):
            if column.required:
                raise _Refused(name, "it is blank", "fill it in")
            continue
        try:
            found[name] = column.parse(cell)
        except CellError as error:
            raise _Refused(name, error.what, error.remedy) from error
    if kind == ActionTable.OBJECTIVES:
        _check_objective(found)
    return ActionLine(_key(kind, found), found)


def _check_objective(found: Mapping[str, str]) -> None:
    if found["indicator"] in ON_THE_SHEET:
        for name in (
            "current_year",
            "current_value",
            "current_lo95",
            "current_hi95",
            "coverage",
            "unit",
            "direction",
        ):
            if name in found:
                raise _Refused(name, f"{found['indicator']} is computed", "leave it blank")
    elif "current_value" in found and ("current_year" not in found or "source" not in found):
        raise _Refused(
            "current_value", "a value of yours has a year and a source", "fill in current_year and source"
        )
    for value, year in (("baseline_value", "baseline_year"), ("target_value", "target_year")):
        if (value in found) != (year in found):
            raise _Refused(
                value if year in found else year, "one of the two is blank", f"fill in {value} and {year}"
            )


def _key_columns(kind: str) -> tuple[str, ...]:
    return ("action_id",) if kind == ACTIONS else KEYS[ActionTable(kind)]


def _key(kind: str, cells: Cells) -> str:
    return cells["action_id"] if kind == ACTIONS else key_of(ActionTable(kind), cells)


def _columns_of(kind: str) -> Mapping[str, ActionsColumn]:
    if kind not in KINDS:
        raise UsageError(f"no file '{kind}': use {', '.join(KINDS)}")
    return KINDS[kind]
