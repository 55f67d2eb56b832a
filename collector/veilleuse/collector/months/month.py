# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The month of a machine out of its days: the one function behind what is kept and what is made while a report waits (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from veilleuse.collector.model.months import COLUMNS, IMPUTED_COLUMNS, PLACE, HostPeriod
from veilleuse.collector.months.aggregate import Key, Months, added_rows, contributions
from veilleuse.collector.months.imputation import Imputed, imputed, rescaled
from veilleuse.collector.months.site_days import SiteDays
from veilleuse.collector.ports.months import MonthSource
from veilleuse.wire.vocabulary import State, Supply

_IMPUTED: Final = tuple(PLACE[name] for name in IMPUTED_COLUMNS)
_KNOWN: Final = tuple(
    PLACE[f"{state}_{supply}_milliseconds"]
    for state in State
    if state is not State.UNKNOWN
    for supply in Supply
)


def month_rows(source: MonthSource, days: SiteDays, time_zone: str) -> tuple[HostPeriod, ...]:
    """Rows of one machine and month, in the order of day type and band; none of nothing."""
    months = contributions(source.units, days, time_zone, source.psys)
    added_rows(months, source.gone)
    if source.gone:
        more = {key: known - _known(source.kept, key) for key, known in _all_known(months, source).items()}
        stands_in = rescaled(_imputed(source.kept), more)
    else:
        stands_in = imputed(source, days)
    for key, values in stands_in.items():
        vector = [0] * len(COLUMNS)
        for place, value in zip(_IMPUTED, values, strict=True):
            vector[place] = value
        months.add(source.month, key, vector)
    return months.rows(source.host_id, source.month)


def _all_known(months: Months, source: MonthSource) -> dict[Key, int]:
    return {
        key: sum(vector[place] for place in _KNOWN)
        for key, vector in months.sums.get(source.month, {}).items()
    }


def _known(rows: Iterable[HostPeriod], key: Key) -> int:
    return sum(row.values[place] for row in rows if (row.day_type, row.band) == key for place in _KNOWN)


def _imputed(rows: Iterable[HostPeriod]) -> dict[Key, Imputed]:
    found: dict[Key, Imputed] = {}
    for row in rows:
        short, energy, long = (row.values[place] for place in _IMPUTED)
        if short or energy or long:
            found[row.day_type, row.band] = (short, energy, long)
    return found
