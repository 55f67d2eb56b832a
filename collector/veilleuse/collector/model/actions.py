# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What is followed: actions whose saving is measured (I14), and the lines of the REEN sheet that are entered, not measured. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final, NamedTuple, TypeAlias

from veilleuse.wire.vocabulary import Word

Cells: TypeAlias = Mapping[str, str]
"""Column → text, as checked on import; a blank one is left out."""

OBJECTIVES: Final = ("1", "2", "3", "4", "5", "6")
"""CGCT D.2311-15-1 (décret 2022-1084 of 29 July 2022): what a strategy's objectives may be about, 1° to 6°."""
ECO_DESIGN: Final = "3"


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that was done somewhere, from a day on."""

    action_id: str
    sites: tuple[str, ...]
    """Sites touched, sorted; at least one."""
    from_day: date
    what: str


@dataclass(frozen=True, slots=True)
class KeptAction:
    """With who entered it, and who took it back."""

    action: Action
    entered_unix_milliseconds: int
    who: str
    why: str
    withdrawn_unix_milliseconds: int | None = None
    """Taken back, or replaced by a later version."""
    withdrawn_by: str = ""
    withdrawn_why: str = ""


class FollowTable(Word):
    """One kind of imported file."""

    OBJECTIVES = "objectives"
    MEASURES = "measures"
    OTHER_ITEMS = "other_items"
    RETIRED_STOCK = "retired_stock"


KEYS: Final[Mapping[FollowTable, tuple[str, ...]]] = {
    FollowTable.OBJECTIVES: ("objective", "indicator", "population"),
    FollowTable.MEASURES: ("measure_id",),
    FollowTable.OTHER_ITEMS: ("year", "item"),
    FollowTable.RETIRED_STOCK: ("year", "entity"),
}
"""What a line is known by from one import to the next."""


class ActionLine(NamedTuple):
    """One line in force."""

    key: str
    cells: Cells


class LineChange(NamedTuple):
    """What an import does to one key."""

    key: str
    cells: Cells | None
    """None: it is no longer in force."""


def key_of(table: FollowTable, cells: Cells) -> str:
    """As it is kept: the parts joined by a sign no cell can hold."""
    return "\x1f".join(cells.get(column, "") for column in KEYS[table])
