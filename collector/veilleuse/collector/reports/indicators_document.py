# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the indicators report: one row per indicator and group; and the list of servers for operations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, TypeGuard

from veilleuse.collector.documents.document import UNDER_WAY_UNTIL, Document, Head, Row, Value
from veilleuse.collector.indicators import TABLE
from veilleuse.collector.model.indicators import MILLISECONDS, Detail, Figure, IndicatorMeta
from veilleuse.collector.model.query import AUTRES, GroupKey
from veilleuse.wire.vocabulary import Population

COLUMNS: Final = (
    "indicator",
    "name",
    "period_from",
    "period_to",
    "entity",
    "site",
    "zone",
    "population",
    "device_class",
    "power_context",
    "perimeter",
    "level",
    "incomplete",
    "n",
    "value",
    "unit",
    "threshold",
    "direction",
    "owner",
    "numerator_milliseconds",
    "denominator_milliseconds",
    "withheld",
    "kwh",
    "nights_on",
    "nights_are",
    "beyond_15_minutes_ratio",
    "beyond_30_minutes_ratio",
    "beyond_60_minutes_ratio",
    "coverage_energy",
    "derived_milliseconds",
    "coverage_states",
    "numerator",
    "denominator",
    "counted_in",
    "value_lo95",
    "value_hi95",
    "not_known",
    "not_judged",
    "suspects",
    "suspects_not_judged",
    "excluded",
    "avoidable_share",
    "closed_bands_kwh",
    "open_idle_kwh",
    "screens_kwh",
    "mixed_kwh",
    "comatose_servers_kwh",
    "data",
    "method_version",
)
ASSUMPTIONS: Final = (
    "Ratios are of observed time only; coverage (I13) says how much of the enrolled time that is.",
    "Groups of fewer than k workstations or classroom PCs, or with one above 85 %, are merged into autres, or withheld.",
    "Where few machines stand behind a part of a figure, or behind the rest, nothing of it is told (withheld); of coverage, not even a row.",
)
RELEASED_NOTES: Final = (
    "Workstations and classroom PCs are released by whole calendar months, some days after their end.",
    "A group is shown in the months in which at least k machines stand behind it, else it is in autres.",
    "Where few machines stand behind a part of its time, a group is in autres; a part of which few are left is not told.",
    "Coverage is of a population and grid zone whole: the known time of its rows beside enrolled time.",
    "Where few of a group's machines were silent, its known time is that of a group without silence, less whole days of each; time and energy at rest make up the difference.",
    "Energy of a part is absent where its time and a model's watts would leave that of few.",
    "autres is of the whole fleet: a reader of some entities does not see it.",
    "incomplete: some machines of the row's entity or device class, or of a reader's entities, are not in it but in autres, in one of its months: it is less than the whole.",
    "incomplete also: I1, I2, I5 or I13 of several months is that of the months that tell it, where one of them withholds it; ask by month to see which.",
    "n of several months is the most of one month.",
)
"""Assumptions of released months."""
SOBRIETY_COLUMNS: Final = (
    "category",
    "action",
    "what",
    "claimed",
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
SOBRIETY_ASSUMPTIONS: Final = (
    (
        "I4 of a period is the sum of its released months; I3 and I6 to I8 are of the last one: I6 to I8 of the days before its end. "
        "I9 and I12 are of the period's last day; I10 and I11 of a whole civil year."
    ),
    (
        "Unreleased, I4 and I12's hours are of the whole months inside the period that have ended; I6 to I8 of the days before its "
        "end; I3 of its last day. Months of PCs are kept for 18, or until their year is closed definitively: where some of the "
        "period are gone, unreleased I1, I2, I5 and I13 are of those that are left, and I4 has no value."
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


def row(
    meta: IndicatorMeta,
    key: GroupKey,
    figure: Figure,
    *,
    coverage_states: float | None = None,
    incomplete: bool = False,
    data: str,
) -> Row:
    """Build one row: indicator, group and figure; missing values are left out."""
    is_time = figure.counted_in == MILLISECONDS
    amounts = (
        ("numerator_milliseconds", "denominator_milliseconds") if is_time else ("numerator", "denominator")
    )
    low, high = figure.interval or (None, None)
    values: dict[str, Value | None] = {
        "indicator": meta.indicator,
        "name": meta.name,
        **key.columns,
        "level": key.level,
        "incomplete": incomplete or figure.incomplete or None,
        "n": figure.n,
        "value": figure.value,
        "unit": meta.unit,
        "threshold": figure.threshold,
        "direction": meta.direction,
        "owner": meta.owner,
        **dict(zip(amounts, (figure.numerator, figure.denominator), strict=True)),
        "withheld": figure.withheld or None,
        "counted_in": None if is_time else figure.counted_in,
        "value_lo95": low,
        "value_hi95": high,
        **figure.details,
        "coverage_states": coverage_states,
        "data": data,
    }
    return {name: value for name, value in values.items() if value is not None}


_NO_DETAILS: Final = frozenset(
    {
        *COLUMNS[: COLUMNS.index("kwh")],
        "numerator",
        "denominator",
        "counted_in",
        "value_lo95",
        "value_hi95",
        "coverage_states",
        "data",
        "method_version",
        UNDER_WAY_UNTIL,
    }
)
"""Columns of a row that are no details of its figure."""


def figure_of(row: Row) -> Figure:
    """Return the figure that `row` wrote: to add the months of a group as the answers add them."""
    kind = "" if "counted_in" in row else "_milliseconds"
    low, high = _number(row, "value_lo95"), _number(row, "value_hi95")
    return Figure(
        _number(row, "value"),
        int(_number(row, "n") or 0),
        _number(row, f"numerator{kind}"),
        _number(row, f"denominator{kind}"),
        str(row.get("counted_in", MILLISECONDS)),
        {name: value for name, value in row.items() if name not in _NO_DETAILS and _is_detail(value)},
        None if low is None or high is None else (low, high),
        _number(row, "threshold"),
        bool(row.get("withheld")),
        bool(row.get("incomplete")),
    )


def key_of(row: Row) -> GroupKey:
    """Return the group of a row, over any period."""

    def word(name: str) -> str | None:
        value = row.get(name)
        return None if value is None else str(value)

    population = word("population")
    return GroupKey(
        zone=word("zone") or "",
        population=None if population is None else Population(population),
        memo=row["level"] == "memo",
        entity=word("entity"),
        device_class=word("device_class"),
        autres=row["level"] == AUTRES,
    )


def _number(row: Row, name: str) -> float | None:
    value = row.get(name)
    return value if isinstance(value, int | float) else None


def _is_detail(value: Value) -> TypeGuard[Detail]:
    return isinstance(value, int | float | str)


def document(
    rows: Iterable[Row], withheld: Iterable[Row], head: dict[str, Value | list[str] | None]
) -> Document:
    """Build the report of its rows; `withheld` holds the populations too small to be shown.

    Each row repeats the head's `method_version`: a table without a head must still tell how its kWh were
    derived.
    """
    method: dict[str, Value] = {name: str(head[name]) for name in ("method_version",) if name in head}
    return Document(
        head={"kind": "indicators", **head},
        columns=COLUMNS,
        tables={"rows": [{**row, **method} for row in rows], "withheld": list(withheld)},
        tabular=("rows",),
        assumptions=ASSUMPTIONS,
    )


def with_rows(report: Document, rows: Iterable[Row], withheld: Sequence[Row]) -> Document:
    """Add these rows to the indicators report."""
    tables = dict(report.tables)
    tables["rows"] = [*tables["rows"], *rows]
    lacking: dict[tuple[object, object], Row] = {
        (one.get("population"), one["level"]): one for one in withheld
    }
    found = []
    for one in tables["withheld"]:
        same = lacking.pop((one.get("population"), one.get("level")), None)
        found.append(one if same is None else {**one, "indicators": _join(one, same)})
    tables["withheld"] = [*found, *lacking.values()]
    place = report.columns.index("data")
    return replace(
        report,
        columns=(*report.columns[:place], *SOBRIETY_COLUMNS, *report.columns[place:]),
        tables=tables,
        assumptions=(*report.assumptions, *SOBRIETY_ASSUMPTIONS),
    )


def _join(*rows: Row) -> str:
    """Return the indicators of several rows, in the order of the table."""
    named = {name for row in rows for name in str(row["indicators"]).split(", ")}
    return ", ".join(name for name in TABLE if name in named)


def withheld_group_row(key: GroupKey, indicators: Iterable[str]) -> Row:
    """Build the row of a population too small to be shown, with the indicators that it lacks."""
    words = {name: word for name, word in key.columns.items() if word is not None}
    return {**words, "level": key.level, "indicators": ", ".join(indicators)}


def servers_document(rows: Sequence[Row], head: Head) -> Document:
    """Build the list of servers: for operations, never for publication."""
    return Document(
        head={"kind": "servers", **head},
        columns=SERVER_COLUMNS,
        tables={"rows": rows},
        tabular=("rows",),
        assumptions=SERVER_ASSUMPTIONS,
    )
