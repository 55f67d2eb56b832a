# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Sums the rows of a report by name, sorts them, and writes their figures in both languages."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from functools import partial
from typing import Final, TypeAlias

from veilleuse.collector.documents.document import (
    LANGUAGES,
    RELEASED_UNTIL,
    SHORT_ROWS,
    SHOWN,
    Document,
    Row,
    ShortTable,
    Text,
    Value,
)
from veilleuse.collector.documents.text import Words, words
from veilleuse.collector.fleet.observations import MONITOR
from veilleuse.collector.model.closed_years import YearState
from veilleuse.collector.model.figures import FULL_INTERVAL, SAMPLE_INTERVAL
from veilleuse.collector.model.inventory import ENTITY_SEPARATOR, PowerContext
from veilleuse.collector.model.query import AUTRES, SEVERAL, Basis
from veilleuse.collector.reports.emissions_document import BASIS
from veilleuse.wire.vocabulary import Population

GROUP_COLUMNS: Final = (
    "kgco2e_total",
    "share_of_total",
    "kgco2e_low",
    "kgco2e_high",
    "kwh_total",
    "coverage_states",
    "n_fleet",
)
"""Columns of a table of groups, after their name."""
Ends: TypeAlias = tuple[str, float, float]
"""Kind of an interval, and its ends."""
_KINDS: Final = ((FULL_INTERVAL, "95"), (SAMPLE_INTERVAL, "_sample"))
"""Kind of an interval → end of its columns' names."""


def both(write: Callable[[Words], str]) -> Text:
    """Return a text in both languages."""
    return {language: write(words(language)) for language in LANGUAGES}


def said(key: str, **values: object) -> Text:
    """Return a text of the locale, filled in with the same values in both languages."""
    return both(lambda w: w(f"summary.{key}", **values))


def signed(text: str, value: float) -> str:
    """Put the sign of a value before the text of its size."""
    return f"{'+' if value > 0 else '−' if value < 0 else ''}{text}"


def number(row: Row, name: str) -> float | None:
    """Return a number of a row; None where it has none."""
    value = row.get(name)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def ends_of(row: Row, unit: str = "kgco2e") -> Ends | None:
    """Return kind and ends of a row's interval of `kgco2e` or `kwh`; None without one."""
    for kind, end in _KINDS:
        low, high = number(row, f"{unit}_lo{end}"), number(row, f"{unit}_hi{end}")
        if low is not None and high is not None:
            return kind, low, high
    return None


def interval_text(row: Row, w: Words, unit: str = "kgco2e") -> str:
    """Write the interval of a row and its kind; empty without one."""
    return ends_text(ends_of(row, unit), w, unit)


def ends_text(ends: Ends | None, w: Words, unit: str = "kgco2e", *, with_kind: bool = True) -> str:
    """Write an interval, and its kind; empty without one."""
    if ends is None:
        return ""
    write = w.kwh if unit == "kwh" else w.kilograms
    low, high = map(write, ends[1:])
    if not with_kind:
        return w("amounts.range", low=low, high=high)
    return w("amounts.interval", low=low, high=high, interval=w.word("interval", ends[0]))


def sum_ends(rows: Iterable[Row], unit: str = "kgco2e") -> Ends | None:
    """Add the intervals of rows, as if the errors of all were the same; None where a row has none."""
    ends = [ends_of(row, unit) for row in rows if number(row, f"{unit}_total") is not None]
    known = [one for one in ends if one is not None]
    if not known or len(known) < len(ends):
        return None
    kinds = {kind for kind, _, _ in known}
    kind = kinds.pop() if len(kinds) == 1 else SAMPLE_INTERVAL
    return kind, math.fsum(one[1] for one in known), math.fsum(one[2] for one in known)


def status_of(document: Document) -> Text:
    """Say what the figures of a report are: released, closed by whom, or of machines' present data."""
    head = document.head
    state, basis = head.get("state"), head.get(BASIS)
    if state not in (None, YearState.OPEN.value):
        moment = head.get("closed_unix_milliseconds")
        approver = next(
            (row for row in document.tables.get("sign_off", ()) if row.get("declaration") == "approver"), {}
        )
        return both(
            lambda w: (
                w(
                    f"summary.{state}",
                    moment=w.time(moment) if isinstance(moment, int) else "",
                    revision=head.get("revision", 1),
                )
                + _approval(approver, w)
            )
        )
    if basis in (Basis.UNRELEASED.value, Basis.OBSERVED.value):
        return said(str(basis))
    until = head.get(RELEASED_UNTIL)
    if not isinstance(until, str):
        return ""
    last = date.fromisoformat(until) - timedelta(days=1)
    first = min((str(row["period_from"]) for row in document.tables.get("totals", ())), default="")
    if first > str(head.get("from")):  # earlier months are not released
        begun = date.fromisoformat(first)
        return both(lambda w: w("summary.provisional_from", first=w.month(begun), month=w.month(last)))
    return both(lambda w: w("summary.provisional", month=w.month(last)))


def _approval(approver: Row, w: Words) -> str:
    people = [str(approver[name]) for name in ("person", "declared") if name in approver]
    if not people:
        return ""
    day = w.day(str(approver.get("declared_on", "")))
    return f" {w('summary.approved', by=', '.join(people), day=day)}"


def sum_rows(rows: Sequence[Row]) -> dict[str, Value]:
    """Return the figures of rows together. Ends of intervals are added: errors of models are common to rows.

    Machines at home count at their site, and screens with their machines.
    """
    found: dict[str, Value] = {}
    for name in ("kgco2e_total", "kwh_total"):
        known = [value for row in rows if (value := number(row, name)) is not None]
        if known:
            found[name] = math.fsum(known)
    if (ends := sum_ends(rows)) is not None:
        _, found["kgco2e_low"], found["kgco2e_high"] = ends
    machines = [row for row in rows if row.get("device_class") != MONITOR] or rows
    found |= _coverage(machines)
    counted = [row for row in machines if row.get("power_context") != PowerContext.HOME]
    fleet = [value for row in counted or machines if (value := number(row, "n_fleet")) is not None]
    if fleet:
        found["n_fleet"] = round(sum(fleet))
    return found


def _coverage(rows: Sequence[Row]) -> dict[str, Value]:
    """Return the observed share of the time; nothing where no machine has an agent."""
    if len(rows) == 1:
        return {name: rows[0][name] for name in ("coverage_states",) if rows[0].get(name)}
    share = observed_share(rows)
    return {} if share is None else {"coverage_states": min(1.0, share)}


def observed_share(rows: Iterable[Row]) -> float | None:
    """Return the observed share of the machines' time; None where no machine has an agent."""
    observed = fleet = 0.0
    for row in rows:
        fleet += number(row, "machine_days_fleet") or 0.0
        observed += number(row, "machine_days_observed") or 0.0
    return observed / fleet if fleet and observed else None


def group_rows(document: Document, dimension: str, total: float | None) -> list[Row]:
    """Return one row for each name of a dimension, the largest emissions first."""
    groups: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in document.tables["rows"]:
        groups[_key(row, dimension), str(row.get("level"))].append(row)
    found: list[Row] = []
    for (name, level), rows in groups.items():
        made: dict[str, Value] = {dimension: name, **sum_rows(rows)}
        if dimension == "entity" and len(rows) > 1:  # its page has the interval of the sum: another one
            made.pop("kgco2e_low", None)
            made.pop("kgco2e_high", None)
        part = number(made, "kgco2e_total")
        if part is not None and total:
            made["share_of_total"] = part / total
        shown = _shown_name(rows[0], dimension, name, level)
        found.append({**made, SHOWN: {dimension: shown}} if shown else made)
    return sorted(found, key=lambda row: -(number(row, "kgco2e_total") or 0.0))


def _key(row: Row, dimension: str) -> str:
    missing = SEVERAL if dimension == "perimeter" else ""
    return str(row.get(dimension) or missing)


def _shown_name(row: Row, dimension: str, name: str, level: str) -> Text | None:
    """Return the name for people where it is another one than the column's value."""
    if dimension == "entity":
        return shown_entity(row, name, level)
    return said("merged") if level == AUTRES and dimension == "device_class" else None


def shown_entity(row: Row, name: str, level: str) -> Text:
    """Return the name of an entity for people, or what a row without one is."""
    if not name and row.get("population") == Population.SERVER:
        return said("rooms")
    if not name or name == AUTRES:
        return said("merged")
    if level == AUTRES:
        return said("merged_below", name=_short_path(name))
    return {language: _short_path(name) for language in LANGUAGES}


def _short_path(entity: str) -> str:
    """Leave out the root of a path, which all entities have."""
    first, _, others = entity.partition(ENTITY_SEPARATOR)
    return others or first


def month_rows(totals: Iterable[Row], total: float | None) -> list[Row]:
    """Return one row for each month, in order."""
    rows = list(totals)
    years = {str(row["period_from"])[:4] for row in rows}
    found: list[Row] = []
    for row in rows:
        day = date.fromisoformat(str(row["period_from"]))
        made: dict[str, Value] = {"month": f"{day:%Y-%m}", **sum_rows([row])}
        part = number(made, "kgco2e_total")
        if part is not None and total:
            made["share_of_total"] = part / total
        month = both(partial(_short_month, day=day, has_year=len(years) > 1))
        found.append({**made, SHOWN: {"month": month}})
    return found


def _short_month(w: Words, day: date, *, has_year: bool) -> str:
    month = str(w.texts["summary"]["months"][day.month - 1])
    return f"{month} {day.year}" if has_year else month


def short_table(
    title: Text,
    name: str,
    rows: Sequence[Row],
    total: Row | None,
    columns: Sequence[str] = GROUP_COLUMNS,
    *,
    most: int = SHORT_ROWS,
    note: Text = "",
) -> ShortTable:
    """Return the table of groups, with the sum of those that do not fit; it leaves out empty columns."""
    used = [one for one in columns if any(one in row for row in rows)]
    rest: Row | None = None
    if left := rows[most:]:
        sums: dict[str, Value] = {
            one: math.fsum(value for row in left if (value := number(row, one)) is not None)
            for one in ("kgco2e_total", "share_of_total", "kwh_total")
            if one in used
        }
        rest = {**sums, name: AUTRES, SHOWN: {name: both(lambda w: w.count("summary.others", len(left)))}}
    foot = None if total is None else {**total, name: "", SHOWN: {name: said("total")}}
    return ShortTable(
        title, (name, *used), rows, rest, foot, columns[0] if columns[0] in used else None, most, note
    )
