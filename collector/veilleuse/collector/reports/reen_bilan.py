# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The use phase beside the whole bilan: what the user's studies say of other items, and our line in its year (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from veilleuse.collector.documents.document import Row, Value
from veilleuse.collector.model.actions import Cells
from veilleuse.collector.model.figures import EmissionsRow

KG_PER_TONNE: Final = 1000.0
WHOLE: Final = "whole"
_ENDS: Final = tuple(
    f"kgco2e_{end}{kind}" for kind in ("95", "_sample", "_sensitivity") for end in ("lo", "hi")
)


def bilan_rows(lines: Sequence[Cells], year: int | None, total: EmissionsRow | None) -> Iterator[Row]:
    """Lines by year, and our use phase in `year`; shares where the file has that year's whole."""
    years = {int(cells["year"]) for cells in lines} | ({year} if year is not None else set())
    for each in sorted(years):
        mine = [cells for cells in lines if int(cells["year"]) == each]
        whole = next((_kilograms(cells) for cells in mine if cells["part"] == WHOLE), None)
        for cells in mine:
            yield _item(cells, whole)
        if each == year and total is not None and total.kgco2e_total is not None:
            yield _use_phase(total, each, whole)


def _item(cells: Cells, whole: float | None) -> Row:
    value, percent = _kilograms(cells), number_of(cells, "uncertainty_percent")
    spread = None if percent is None else 1 + percent / 100
    return tidy(
        {
            "year": int(cells["year"]),
            "item": cells["item"],
            "part_of_bilan": cells["part"],
            "origin": "entered",
            "kgco2e_total": value,
            "kgco2e_lo95": value / spread if spread else None,
            "kgco2e_hi95": value * spread if spread else None,
            "share_of_whole": value / whole if whole else None,
            "in_whole": {"yes": True, "no": False}.get(cells.get("in_whole", "")),
            "source": cells.get("source"),
            "comment": cells.get("comment"),
        }
    )


def _use_phase(total: EmissionsRow, year: int, whole: float | None) -> Row:
    value = total.kgco2e_total or 0.0
    return tidy(
        {
            "year": year,
            "item": "use phase",
            "part_of_bilan": "use",
            "origin": "computed",
            "kgco2e_total": value,
            "interval": total.interval,
            **{name: getattr(total, name) for name in _ENDS},
            "share_of_whole": value / whole if whole else None,
            "coverage_states": total.coverage_states,
            "provisional": total.provisional,
        }
    )


def _kilograms(cells: Cells) -> float:
    return float(cells["tco2e"]) * KG_PER_TONNE


def number_of(cells: Cells, name: str) -> float | None:
    """A cell as a number; None where it is blank."""
    return float(cells[name]) if name in cells else None


def tidy(values: Mapping[str, Value | None]) -> Row:
    """What exists of it."""
    return {name: value for name, value in values.items() if value is not None}
