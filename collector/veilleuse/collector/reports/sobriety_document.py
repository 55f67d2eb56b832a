# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the rows of I3 to I12 and I14 in the indicators report, and the list of servers for operations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from veilleuse.collector.documents.document import Document, Head, Row, Value
from veilleuse.collector.model.figures import AUTRES, IndicatorMeta
from veilleuse.collector.model.indicators import Figure, Scope

COLUMNS: Final = (
    "numerator",
    "denominator",
    "counted_in",
    "value_lo95",
    "value_hi95",
    "category",
    "action",
    "what",
    "claimed",
    "not_known",
    "not_judged",
    "suspects",
    "excluded",
    "avoidable_share",
    "closed_bands_kwh",
    "open_idle_kwh",
    "screens_kwh",
    "comatose_servers_kwh",
    "on_active_outside_kwh",
    "share_over_5_years",
    "share_over_6_years",
    "share_over_8_years",
    "share_over_10_years",
    "units_ratio",
    "age_not_known",
    "share_of_departures",
    "users",
    "screens_per_user",
    "screen_hours_per_machine_day",
    "share_saved",
    "weeks_before",
    "weeks_after",
    "sites_touched",
    "sites_untouched",
    "renewals",
    "renewals_kwh",
)
ASSUMPTIONS: Final = (
    (
        "I4, I5 and I12's hours are of the whole months inside the period that have ended; I6 to I8 of the days before its end; I3 "
        "and I9 of its last day; I10 and I11 of a whole civil year."
    ),
    (
        "Months of PCs are kept for 18, or until their year is closed definitively: where some of the period are gone, I1, I2 and I13 "
        "are of those that are left, and I4 and I5 have no value."
    ),
    "I4 is what is observed: nothing is extrapolated to machines without an agent. Its causes share no millisecond.",
    "I14 is never subtracted from the inventory's figure: the meters have seen it already.",
)
SERVER_COLUMNS: Final = (
    "server",
    "entity",
    "site",
    "device_class",
    "server_role",
    "comatose",
    "under_used",
    "oversized",
    "observed_180_days_ratio",
    "quiet_180_days_ratio",
    "mean_cpu_30_days_ratio",
    "cpu_p95_90_days_below_percent",
    "memory_p95_90_days_below_percent",
    "core_busy_90_days_ratio",
    "kwh",
    "data",
)
SERVER_ASSUMPTIONS: Final = (
    "A server is named by the beginning of its agent id. Suspect: the owner is to confirm before anything is switched off.",
    "p95 below x: at least 95 % of the time on lies in buckets below x. A dash: not observed for long enough, or not measured.",
    "kwh is of the whole months inside the period; of a virtual machine it is a part of what its host draws.",
)


def row(meta: IndicatorMeta, scope: Scope, figure: Figure, *, data: str) -> Row:
    """Build one row; missing values are left out."""
    low, high = figure.interval or (None, None)
    values: dict[str, Value | None] = {
        "indicator": meta.indicator,
        "name": meta.name,
        "period_from": scope.period_from.isoformat(),
        "period_to": scope.period_to.isoformat(),
        "entity": scope.entity,
        "site": scope.site,
        "population": scope.population.value if scope.population else None,
        "device_class": scope.device_class,
        "level": "memo" if scope.memo else AUTRES if scope.autres else "row",
        "n": figure.n,
        "value": figure.value,
        "unit": meta.unit,
        "threshold": figure.threshold,
        "direction": meta.direction,
        "owner": meta.owner,
        "withheld": True if figure.withheld else None,
        "numerator": figure.numerator,
        "denominator": figure.denominator,
        "counted_in": figure.counted_in,
        "value_lo95": low,
        "value_hi95": high,
        **figure.details,
        "data": data,
    }
    return {name: value for name, value in values.items() if value is not None}


def with_rows(document: Document, rows: Iterable[Row], withheld: Sequence[Row]) -> Document:
    """Add these rows to the indicators report."""
    tables = dict(document.tables)
    known = {(one.get("population"), one["level"]) for one in tables["withheld"]}
    tables["rows"] = [*tables["rows"], *rows]
    tables["withheld"] = [
        *tables["withheld"],
        *(one for one in withheld if (one.get("population"), one["level"]) not in known),
    ]
    place = document.columns.index("data")
    return replace(
        document,
        columns=(*document.columns[:place], *COLUMNS, *document.columns[place:]),
        tables=tables,
        assumptions=(*document.assumptions, *ASSUMPTIONS),
    )


def withheld_row(scope: Scope) -> Row:
    """Build the row of a population too small to be shown."""
    return {
        "period_from": scope.period_from.isoformat(),
        "period_to": scope.period_to.isoformat(),
        **({"population": scope.population.value} if scope.population else {}),
        "level": "memo" if scope.memo else "row",
    }


def servers_document(rows: Sequence[Row], head: Head) -> Document:
    """Build the list of servers: for operations, never for publication."""
    return Document(
        head={"kind": "servers", **head},
        columns=SERVER_COLUMNS,
        tables={"rows": rows},
        tabular=("rows",),
        assumptions=SERVER_ASSUMPTIONS,
    )
