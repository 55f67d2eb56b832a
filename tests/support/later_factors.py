# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Add the emission factors that a release of a later day would ship: this one refuses figures from 2028 on.

Factors of a year appear in the spring of the next one. Processes that a test starts have the shipped ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Final

from veilleuse.collector import clock
from veilleuse.collector.shipped_tables import load_table

SHIPPED_UNTIL: Final = date(2027, 7, 1)
"""First day on which the shipped factors are late, and `doctor` says so."""
_JULY: Final = 7
_YEARS: Final = {
    "electricity_factors_fr": ("valid_from", "valid_to", "factor_id", "published"),
    "electricity_factors_owid_ember": ("year",),
}
"""Table → columns that hold the year."""


def add_later_factors() -> None:
    """Repeat the last year's factors until the year before the present one, in this process alone."""
    today = clock.today()
    if today < SHIPPED_UNTIL:
        return
    last = today.year - 1 - (today.month < _JULY)
    for name, columns in _YEARS.items():
        table = load_table(name)
        of_year = [
            (int(row[columns[0]][:4]), row)
            for row in table.rows
            if row.get("ledger", "official") == "official"
        ]
        newest = max(year for year, _ in of_year)
        later = [
            _moved(row, columns, newest, more)
            for more in range(1, last - newest + 1)
            for year, row in of_year
            if year == newest
        ]
        object.__setattr__(table, "rows", (*table.rows, *later))


def _moved(row: Mapping[str, str], columns: tuple[str, ...], year: int, more: int) -> dict[str, str]:
    text = {name: row[name].replace(str(year), str(year + more)) for name in columns}
    return {**row, **text}
