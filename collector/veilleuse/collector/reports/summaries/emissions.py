# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Summarises the emissions report: the total, three sentences, perimeters and entities, classes, and quality.

It computes no figure of its own: released months are asked for again by perimeter, entity, class and month.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final

from veilleuse.collector.documents.document import (
    SHOWN,
    Document,
    Head,
    KeyFigure,
    Row,
    ShortTable,
    Summary,
    SummaryPart,
    Text,
    Value,
)
from veilleuse.collector.documents.text import Words
from veilleuse.collector.fleet.estimate import Representativeness
from veilleuse.collector.fleet.observations import MONITOR
from veilleuse.collector.model.closed_years import YearState
from veilleuse.collector.model.figures import SAMPLE_INTERVAL
from veilleuse.collector.model.query import Basis, Query
from veilleuse.collector.reports.emissions_document import BASIS
from veilleuse.collector.reports.summaries.change import (
    BEFORE,
    MONTHS,
    YearChange,
    change_questions,
    compare_years,
)
from veilleuse.collector.reports.summaries.rows import (
    both,
    group_rows,
    interval_text,
    month_rows,
    number,
    said,
    short_table,
    signed,
    status_of,
    sum_rows,
)

DIMENSIONS: Final = ("perimeter", "entity", "device_class", "month")
CHART_BARS: Final = 6
FEW: Final = 12
"""Rows of the tables about method and quality."""
QUALITY: Final = (
    "n",
    "n_fleet",
    "days_observed",
    "coverage_states",
    "coverage_energy",
    "representativeness",
    "interval",
    "data_type",
    "method_mix",
    "imputed_share",
    "kwh_extrapolated",
    "u_sampling",
    "u_model",
    "u_factor",
    "gsd2",
    "kgco2e_market",
)
"""Columns of the total that say how well it is known."""
TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "sign_off": ("declaration", "declared", "person", "declared_on", "declared_detail"),
    "exclusions": (
        *("declaration", "declared", "declared_kwh", "declared_kgco2e", "declared_share"),
        "declared_detail",
    ),
    "factors": (
        *("factor_id", "zone", "year", "factor_kgco2e_per_kwh", "factor_series", "uncertainty_percent"),
        *("provisional", "factor_source", "factor_published", "factor_sourced"),
    ),
    "items": ("beges_item", "ghg_category", "kgco2e_total", "in_beges_energie", "in_bilan_numerique"),
    "equivalents": ("equivalent", "number", "source", "published"),
    "year": ("level", "period_from", "period_to", "kwh_total", "kgco2e_total"),
    "contracts": (
        *("supplier", "site", "kwh_covered", "kwh_site_unknown", "factor_kgco2e_per_kwh"),
        "guarantees_of_origin",
    ),
    "home_shares": ("entity", "device_class", "home_share", "declared_by"),
    "memo": ("entity", "device_class", "n", "kwh_total", "kgco2e_total"),
    "own_use": (
        *("own_part", "population", "n", "own_months", "kwh_own", "own_cpu_hours"),
        *("own_received_bytes", "own_sent_bytes", "kwh_avoidable", "own_avoidable_ratio", "reason"),
    ),
    "withheld": ("period_from", "period_to", "reason", "released_on"),
}
"""Table of the report → its columns on the page of method and quality."""


def questions(query: Query, head: Head) -> dict[str, Query]:
    """Return the questions behind the summary of a report, by name: none for present data of machines."""
    basis, is_closed = head.get(BASIS), head.get("state") not in (None, YearState.OPEN.value)
    asked = {
        name: replace(query, dimensions=(name,), level=query.level if name == "entity" else None)
        for name in DIMENSIONS
        if (name,) != query.dimensions
    }
    if basis == Basis.OBSERVED.value:
        return asked
    if basis == Basis.RELEASED.value:
        return {**asked, **change_questions(query, head)}
    if is_closed:
        return {name: one for name, one in asked.items() if name != "month"}
    return {}


def add_summary(document: Document, answers: Mapping[str, Document]) -> Document:
    """Add the summary; `answers` are those to `questions`."""
    found = _Emissions(document, answers)
    return replace(document, summary=found.summary())


class _Emissions:
    """Holds the report and the answers while they are summarised."""

    def __init__(self, document: Document, answers: Mapping[str, Document]) -> None:
        self.document = document
        asked = document.head.get("group_by")
        grouped = asked if isinstance(asked, Sequence) and not isinstance(asked, str) else ()
        own = {name: document for name in DIMENSIONS if name in grouped}
        self.by = {**own, **{name: one for name, one in answers.items() if name in DIMENSIONS}}
        self.years = tuple(answers.get(name) for name in (MONTHS, BEFORE))
        self.total = self._total()
        self.kilograms = number(self.total, "kgco2e_total") if self.total else None

    def _total(self) -> Row | None:
        """Return the total of the period: of several periods together, their sum."""
        every = [one.tables.get("totals", ()) for one in (self.document, *self.by.values())]
        alone = next((totals[0] for totals in every if len(totals) == 1), None)
        if alone is None:
            return sum_rows(every[0]) if every[0] else None
        if self.document.head.get(BASIS) == Basis.UNRELEASED.value and "device_class" in self.by:
            machines = sum_rows(self.by["device_class"].tables["rows"])  # its own number counts screens too
            return {**alone, **{name: machines[name] for name in ("n_fleet",) if name in machines}}
        return alone

    def summary(self) -> Summary:
        """Return the summary; without a total it says what to do."""
        if self.total is None:
            return Summary(said("nothing"), (), tuple(remedies(self.document)), tuple(self._quality()))
        tables = {name: self._groups(name) for name in ("perimeter", "entity", "device_class")}
        months = self._months()
        chart = months or _bars(tables.values())
        return Summary(
            status_of(self.document),
            tuple(self._figures(self.total)),
            tuple(self._sentences(self.total, tables)),
            (
                SummaryPart(said("entities"), _filled(tables["perimeter"], tables["entity"])),
                SummaryPart(said("classes"), _filled(tables["device_class"], months)),
                *self._quality(),
            ),
            chart,
            "column" if months else "bar",
        )

    # --- tables

    def _groups(self, dimension: str) -> ShortTable | None:
        source = self.by.get(dimension)
        rows = group_rows(source, dimension, self.kilograms) if source is not None else []
        if not rows:
            return None
        notes = [self._interval_note(rows)]
        if dimension == "device_class" and any(row[dimension] == MONITOR for row in rows):
            notes.append(self._screens_note(rows))
        note = both(lambda w: " ".join(w.text(one)[0] for one in notes if one))
        return short_table(said(f"by_{dimension}"), dimension, rows, self._foot(), note=note)

    def _screens_note(self, rows: Sequence[Row]) -> Text:
        """Say that screens are in no number of machines, where they are not."""
        machines = sum(number(row, "n_fleet") or 0.0 for row in rows)
        total = number(self.total or {}, "n_fleet")
        return said("screens_note") if total is not None and machines > total else ""

    def _months(self) -> ShortTable | None:
        source = self.by.get("month")
        rows = month_rows(source.tables["totals"], self.kilograms) if source is not None else []
        if len(rows) < 2:
            return None
        first, last = (str(rows[place]["month"])[:4] for place in (0, -1))
        title = said("by_month", years=first if first == last else f"{first}–{last}")
        return short_table(title, "month", rows, None, most=24, note=self._interval_note(rows))

    def _foot(self) -> Row | None:
        if self.total is None:
            return None
        return {**sum_rows([self.total]), **({"share_of_total": 1.0} if self.kilograms else {})}

    def _interval_note(self, rows: Sequence[Row]) -> Text:
        if not any("kgco2e_low" in row for row in rows):
            return ""
        assert self.total is not None
        kind = self.total.get("interval")
        return said("sample_note") if kind == SAMPLE_INTERVAL else said("interval_note")

    # --- the first page

    def _figures(self, total: Row) -> Iterator[KeyFigure]:
        for unit in ("kgco2e", "kwh"):
            value = number(total, f"{unit}_total")
            if value is not None:
                yield KeyFigure(
                    said(unit),
                    both(partial(_amount, unit, value)),
                    both(partial(interval_text, total, unit=unit)),
                )
        covered = number(total, "coverage_states")
        if covered is not None:
            yield KeyFigure(said("coverage"), both(lambda w: w.percent(covered)), said("coverage_note"))
        measured, fleet = number(total, "n"), number(total, "n_fleet")
        if measured is not None and fleet is not None:
            yield KeyFigure(
                said("machines"),
                both(lambda w: w.number(round(fleet))),
                both(lambda w: w.count("summary.machines_note", round(measured))),
            )

    def _sentences(self, total: Row, tables: Mapping[str, ShortTable | None]) -> Iterator[Text]:
        largest = self._largest(tables)
        if largest is not None:
            yield largest
        yield self._knowledge(total)
        yield self._change(total)

    def _largest(self, tables: Mapping[str, ShortTable | None]) -> Text | None:
        """Say which perimeter, entity and class emit most."""
        rows = {name: row for name, table in tables.items() if (row := _first_named(table, name)) is not None}

        def write(w: Words) -> str:
            parts = (
                w(
                    f"summary.largest_{name}",
                    name=_name(row, name, w),
                    value=w.kilograms(number(row, "kgco2e_total") or 0.0),
                    share=w.percent(number(row, "share_of_total") or 0.0),
                )
                for name, row in rows.items()
            )
            return w("summary.largest", parts=w("summary.and").join(parts))

        return both(write) if rows else None

    def _knowledge(self, total: Row) -> Text:
        """Say what was observed, what is estimated from it, and what the interval holds."""
        covered = number(total, "coverage_states")
        told = total.get("representativeness")
        extrapolated, kwh = number(total, "kwh_extrapolated"), number(total, "kwh_total")

        def write(w: Words) -> str:
            if self.document.head.get(BASIS) == Basis.OBSERVED.value:
                return w("summary.knowledge_observed")
            if told == Representativeness.CENSUS.value:
                return w("summary.knowledge_census", covered=w.percent(covered or 0.0))
            if not covered:
                return w("summary.knowledge_none")
            key = "random" if told == Representativeness.DEMONSTRATED.value else "not_random"
            share = (
                ""
                if not kwh or extrapolated is None
                else w("summary.extrapolated", share=w.percent(extrapolated / kwh))
            )
            return w(
                "summary.knowledge",
                covered=w.percent(covered),
                extrapolated=share,
                meaning=w(f"summary.{key}"),
            )

        return both(write)

    def _change(self, total: Row) -> Text:
        """Say how the total differs from the year before, or why this is not demonstrated."""
        if self.document.head.get(BASIS) != Basis.RELEASED.value:
            return self._own_change(total)
        found = compare_years(*self.years)
        if not isinstance(found, YearChange):
            return both(lambda w: not_demonstrated_text(found, w))
        return both(partial(_change_text, found))

    def _own_change(self, total: Row) -> Text:
        """Say the change that the total itself has, or its reason for none."""
        change, shown = number(total, "change_kwh"), total.get(SHOWN)
        if change is not None and isinstance(shown, Mapping) and "change_kwh" in shown:
            text = shown["change_kwh"]
            return both(
                lambda w: w(
                    "summary.change_kwh", change=w.text(text)[0] if not isinstance(text, float) else ""
                )
            )
        reason = total.get("not_compared")
        if reason is None:
            return said("not_released_before")
        return both(lambda w: w("summary.not_compared", reason=w.word("not_compared", str(reason))))

    # --- the page of method and quality

    def _quality(self) -> Iterator[SummaryPart]:
        tables = (quality_table(self.document, name) for name in TABLES)
        facts: dict[str, Value] = {}
        if self.total is not None:
            facts = {name: self.total[name] for name in QUALITY if name in self.total}
            if isinstance(shown := self.total.get(SHOWN), Mapping):
                facts[SHOWN] = {name: text for name, text in shown.items() if name in facts}
        yield SummaryPart(said("quality"), tuple(one for one in tables if one is not None), facts)


def quality_table(document: Document, name: str) -> ShortTable | None:
    """Return a table of the report with the columns of TABLES; None where it has no rows."""
    rows = document.tables.get(name, ())
    if name == "items":
        unknown: Row = {"beges_item": "", SHOWN: {"beges_item": said("no_item")}}
        rows = [row if "beges_item" in row else {**row, **unknown} for row in rows]
    used = tuple(one for one in TABLES[name] if any(one in row for row in rows))
    title = document.titles.get(name) or both(lambda w: w.get("tables", name))
    return ShortTable(title, used, rows, most=FEW) if used else None


def remedies(document: Document) -> Iterator[Text]:
    """Yield what to do where nothing can be shown."""
    days = [str(row["released_on"]) for row in document.tables.get("withheld", ()) if "released_on" in row]
    if days:
        yield both(lambda w: w("summary.ask_from", day=w.day(min(days))))
    yield said("when_released", k=document.head.get("k_anonymity"))
    yield said("see_doctor")
    if document.head.get(BASIS) == Basis.UNRELEASED.value:
        yield said("enrol")


def not_demonstrated_text(reason: str, w: Words) -> str:
    """Say that a change is not demonstrated, and why: without a number, which people would take for one."""
    return w("summary.not_demonstrated", reason=w.word("not_demonstrated", reason))


def _change_text(change: YearChange, w: Words) -> str:
    def kilograms(value: float) -> str:
        return signed(w.kilograms(abs(value)), value)

    return w(
        "summary.change",
        months=w.months(change.first, change.end - timedelta(days=1)),
        before=w.kilograms(change.before_kgco2e),
        share=signed(w.percent(abs(change.change_kgco2e) / change.before_kgco2e), change.change_kgco2e),
        change=kilograms(change.change_kgco2e),
        activity=kilograms(change.activity_kgco2e),
        factor=kilograms(change.factor_kgco2e),
    )


def _amount(unit: str, value: float, w: Words) -> str:
    return w.kwh(value) if unit == "kwh" else w.kilograms(value)


def _bars(tables: Iterable[ShortTable | None]) -> ShortTable | None:
    """Return the first table with rows to compare, as many as a chart shows."""
    found = next((one for one in tables if one is not None and len(one.rows) > 1), None)
    return None if found is None else replace(found, most=CHART_BARS)


def _filled(*tables: ShortTable | None) -> tuple[ShortTable, ...]:
    return tuple(one for one in tables if one is not None)


def _first_named(table: ShortTable | None, dimension: str) -> Row | None:
    """Return the largest row that is no merged one; None without emissions."""
    rows = () if table is None else table.rows
    named = (row for row in rows if row.get(dimension) not in ("", "autres", "several"))
    return next((row for row in named if number(row, "kgco2e_total")), None)


def _name(row: Row, dimension: str, w: Words) -> str:
    shown = row.get(SHOWN)
    if isinstance(shown, Mapping) and dimension in shown and not isinstance(text := shown[dimension], float):
        return w.text(text)[0]
    return w.word(dimension, str(row[dimension]))
