# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines actions with a measured saving (I14), and the entered lines of the REEN sheet. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final, NamedTuple, TypeAlias

from veilleuse.wire.vocabulary import Word

Cells: TypeAlias = Mapping[str, str]
"""Column → text, as checked on import; blank ones are absent."""

OBJECTIVES: Final = ("1", "2", "3", "4", "5", "6")
"""CGCT D.2311-15-1 (décret 2022-1084 of 29 July 2022): subjects of a strategy's objectives, 1° to 6°."""
ECO_DESIGN: Final = "3"


@dataclass(frozen=True, slots=True)
class Action:
    """One action on some sites, from a day on."""

    action_id: str
    sites: tuple[str, ...]
    """Affected sites, sorted; at least one."""
    from_day: date
    what: str


@dataclass(frozen=True, slots=True)
class StoredAction:
    """An action, with its author and its withdrawal."""

    action: Action
    entered_unix_milliseconds: int
    who: str
    why: str
    withdrawn_unix_milliseconds: int | None = None
    """Withdrawn, or replaced by a later version."""
    withdrawn_by: str = ""
    withdrawn_why: str = ""


class ActionTable(Word):
    """One kind of imported file."""

    OBJECTIVES = "objectives"
    MEASURES = "measures"
    OTHER_ITEMS = "other_items"
    RETIRED_STOCK = "retired_stock"


KEYS: Final[Mapping[ActionTable, tuple[str, ...]]] = {
    ActionTable.OBJECTIVES: ("objective", "indicator", "population"),
    ActionTable.MEASURES: ("measure_id",),
    ActionTable.OTHER_ITEMS: ("year", "item"),
    ActionTable.RETIRED_STOCK: ("year", "entity"),
}
"""Columns that identify a line from one import to the next."""


class ActionLine(NamedTuple):
    """One line in force."""

    key: str
    cells: Cells


class LineChange(NamedTuple):
    """Effect of an import on one key."""

    key: str
    cells: Cells | None
    """None: the line is no longer in force."""


def key_of(table: ActionTable, cells: Cells) -> str:
    """Return the stored key: the parts joined by a sign that no cell can hold."""
    return "\x1f".join(cells.get(column, "") for column in KEYS[table])
