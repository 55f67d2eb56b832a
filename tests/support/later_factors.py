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
LATER: Final = 2027
"""Year of the added factors. Those of 2026 are not added: the data of tests are mostly of that year."""
_YEARS: Final = {
    "electricity_factors_fr": ("valid_from", "valid_to", "factor_id", "published"),
    "electricity_factors_owid_ember": ("year",),
}
"""Table → columns that hold the year."""


def added_years() -> tuple[str, ...]:
    """Return the years whose factors this process has beside the shipped ones."""
    return () if clock.today() < SHIPPED_UNTIL else (str(LATER),)


def add_later_factors() -> None:
    """Repeat the last year's factors as those of LATER, in this process alone."""
    if not added_years():
        return
    for name, columns in _YEARS.items():
        table = load_table(name)
        official = [row for row in table.rows if row.get("ledger", "official") == "official"]
        newest = max(int(row[columns[0]][:4]) for row in official)
        later = (_moved(row, columns, newest) for row in official if int(row[columns[0]][:4]) == newest)
        object.__setattr__(table, "rows", (*table.rows, *later))


def _moved(row: Mapping[str, str], columns: tuple[str, ...], year: int) -> dict[str, str]:
    return {**row, **{name: row[name].replace(str(year), str(LATER)) for name in columns}}
