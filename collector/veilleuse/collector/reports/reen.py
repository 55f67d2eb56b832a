# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the follow-up sheet of the REEN strategy: computed and entered values, objective by objective."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final

from veilleuse.collector import clock
from veilleuse.collector.account.change import ChangeObstacle, PeriodFacts, why_not_demonstrated
from veilleuse.collector.account.statement import METHOD_VERSION
from veilleuse.collector.calendars.periods import add_months
from veilleuse.collector.closed_years.signed_year import add_sign_off
from veilleuse.collector.disclosure.figures import disclose_figure
from veilleuse.collector.documents.document import (
    RELEASED_UNTIL,
    UNDER_WAY_UNTIL,
    Chart,
    Document,
    Head,
    Row,
    Text,
    add_under_way,
    last_released_day,
)
from veilleuse.collector.documents.document import Value as Shown
from veilleuse.collector.errors import UsageError
from veilleuse.collector.indicators import (
    COVERAGE,
    ON_THE_SHEET,
    SERVER_KWH,
    TABLE,
    USE_PHASE,
    IndicatorInput,
    made_of,
)
from veilleuse.collector.model.actions import ECO_DESIGN, OBJECTIVES, ActionTable, Cells
from veilleuse.collector.model.figures import FULL_INTERVAL, SAMPLE_INTERVAL, EmissionsRow
from veilleuse.collector.model.indicators import Targets, is_reached
from veilleuse.collector.model.query import Query
from veilleuse.collector.reports.emissions import EmissionsReport, emissions_report_of
from veilleuse.collector.reports.emissions_document import BASIS, sample_notes
from veilleuse.collector.reports.indicators import OF_ACTIONS, action_groups, figures_of
from veilleuse.collector.reports.inputs import Sources, cut_populations
from veilleuse.collector.reports.machines import stretch_of
from veilleuse.collector.reports.readers import SobrietySources
from veilleuse.collector.reports.reen_values import (
    SheetValue,
    YearValues,
    bilan_rows,
    number_of,
    perimeter_rows,
    without_missing,
    year_values,
)
from veilleuse.collector.reports.year_statistics_file import find_sole_statistics
from veilleuse.wire.vocabulary import Population

OBJECTIVE_COLUMNS: Final = (
    *("objective", "indicator", "name", "population", "category", "origin", "unit", "direction"),
    *("baseline_year", "baseline_value", "restated_baseline_value", "current_year", "value"),
    *("interval", "value_lo95", "value_hi95", "value_lo_sample", "value_hi_sample"),
    *("value_lo_sensitivity", "value_hi_sensitivity", "coverage_states", "trend_ratio"),
    *("restated_trend_ratio", "not_demonstrated", "target_year", "target_value", "threshold"),
    *("reached", "suspects", "withheld", "reason", "measure", "pilot", "means_eur", "means_fte"),
    *("status", "source", "comment"),
)
MEASURE_COLUMNS: Final = (
    "measure_id",
    "what",
    "action",
    "from_day",
    "to_day",
    "saving_kwh",
    "saving_lo95_kwh",
    "saving_hi95_kwh",
    "claimed",
)
PERIMETER_COLUMNS: Final = (
    "perimeter",
    "energy_millijoules",
    "kwh_total",
    *(f"kwh_{end}{kind}" for kind in ("95", "_sample", "_sensitivity") for end in ("lo", "hi")),
)
BILAN_COLUMNS: Final = (
    "year",
    "item",
    "part_of_bilan",
    "kgco2e_total",
    *(f"kgco2e_{end}{kind}" for kind in ("95", "_sample", "_sensitivity") for end in ("lo", "hi")),
    "share_of_whole",
    "in_whole",
    "provisional",
)
COLUMNS: Final = (
    *OBJECTIVE_COLUMNS,
    *MEASURE_COLUMNS,
    *PERIMETER_COLUMNS,
    *BILAN_COLUMNS,
    UNDER_WAY_UNTIL,
    "data",
)
ASSUMPTIONS: Final = (
    "Objectives are those of CGCT D.2311-15-1; which indicator serves which objective is ours.",
    "What is entered is shown as it was entered, with its source; what is computed is never entered.",
    (
        "A restated value is that of the baseline year, made again by today's method and for today's perimeter: a trend without it "
        "holds changes of method too."
    ),
    (
        "Where months of machines are no longer kept (those of PCs go after 18, or once their year is closed definitively), I1, I2, "
        "I4, I5 and what is restated have no value: absent, not zero."
    ),
    "The use phase is observed and extrapolated by the fleet; other lines come from the studies that they name, by other methods.",
    "Savings of actions are not subtracted from the use phase: the meters have seen them already.",
)
TITLES: Final = {
    "rows": {"fr": "Objectifs 1° à 6°", "en": "Objectives 1° to 6°"},
    "measures": {"fr": "Mesures, moyens et gains mesurés", "en": "Measures, means and measured savings"},
    "perimeters": {
        "fr": "La phase d’usage par périmètre",
        "en": "The use phase by perimeter",
    },
    "bilan": {
        "fr": "La phase d’usage dans tout le bilan",
        "en": "The use phase within the whole bilan",
    },
}


def sheet_document(
    rows: Sequence[Row],
    measures: Sequence[Row],
    perimeters: Sequence[Row],
    bilan: Sequence[Row],
    head: Head,
    warnings: Sequence[Text] = (),
) -> Document:
    """Build the sheet of its rows; `warnings` are errors and doubts about the emissions behind it."""
    parts = [row for row in bilan if row.get("part_of_bilan") != "whole"]
    return Document(
        head={"kind": "reen", **head},
        columns=COLUMNS,
        tables={"rows": rows, "measures": measures, "perimeters": perimeters, "bilan": bilan},
        tabular=("rows", "measures", "perimeters", "bilan"),
        assumptions=(*warnings, *ASSUMPTIONS, *sample_notes((*rows, *bilan))),
        charts=(
            Chart(
                "bar",
                "bilan",
                "item",
                ("kgco2e_total",),
                {"fr": "Postes du bilan numérique", "en": "Items of the digital bilan"},
            ),
        )
        if len(parts) > 1 and len(bilan) <= 40
        else (),
        titles=TITLES,
    )


SERVES: Final[Mapping[str, tuple[str, ...]]] = {
    objective: (
        *(one for one, line in TABLE.items() if line.objective == objective),
        *((SERVER_KWH,) if objective == ECO_DESIGN else ()),
    )
    for objective in OBJECTIVES
}
"""Objective → indicators (docs/reen.md); objective 3°, eco-design, uses the energy of servers."""
NO_HISTORY: Final = frozenset(one for one, line in TABLE.items() if not line.has_history)
SUMS: Final = frozenset({*(one for one, line in TABLE.items() if line.is_sum), SERVER_KWH, USE_PHASE})
NOT_RELEASED: Final = TABLE.keys() - {*made_of(IndicatorInput.SUMS), *made_of(IndicatorInput.MACHINES)}
AGES: Final = frozenset(one for one, line in TABLE.items() if not line.is_threshold_a_goal)
_NUMBERS: Final = ("baseline_value", "target_value", "means_eur", "means_fte")
_YEARS: Final = ("baseline_year", "target_year")
_OF_CLOSED: Final = ("state", "revision", "closed_unix_milliseconds")


@dataclass(slots=True)
class _Sheet:
    """Inputs of the sheet while its rows are built."""

    sources: SobrietySources
    query: Query
    targets: Targets
    now: YearValues
    data: str
    _years: dict[int, YearValues | None]

    def restate(self, year: int) -> YearValues | None:
        """Return the same figures of an earlier year, by today's method; None when some of its months are
        deleted.
        """
        if year not in self._years:
            self._years[year] = self._compute_restated(year)
        return self._years[year]

    def _compute_restated(self, year: int) -> YearValues | None:
        first, end = date(year, 1, 1), date(year + 1, 1, 1)
        base, query = self.sources.base, replace(self.query, first=first, end=end)
        if end > self.query.first or not base.closings.has_months(first, end, tuple(Population)):
            return None
        report = _emissions_report(self.sources, query)
        return _values_of(report, self.sources, query, self.targets, _incomplete(report, base, query))


def _incomplete(report: EmissionsReport, sources: Sources, query: Query) -> frozenset[Population]:
    """Return the populations of which a report holds a part of its year only."""
    released_until = report.document.head.get(RELEASED_UNTIL)
    if released_until is not None:
        return frozenset() if released_until == query.end.isoformat() else frozenset(Population)
    is_closed = any(row.origin.revision is not None for row in report.statement.totals)
    if is_closed or find_sole_statistics(sources, query.first, query.end) is not None:
        return frozenset()
    return cut_populations(sources.periods, (query.first, query.end), sources.hosts)


def reen_document(
    sources: SobrietySources, first: date, end: date, k_anonymity: int, today: date, targets: Targets
) -> Document:
    """Build the sheet of a period of whole months. Raises UsageError, UnknownZone."""
    _require_months(first, end)
    now = clock.unix_milliseconds()
    query = Query(first, end, ("population", "perimeter"), k_anonymity, today, now)
    report = by_perimeter = _emissions_report(sources, query)
    told = report.document.head
    if RELEASED_UNTIL in told:  # one row a perimeter, with its own interval
        by_perimeter = _emissions_report(sources, replace(query, dimensions=("perimeter",)))
    values = _values_of(report, sources, query, targets)
    data = "simulated" if sources.base.reader.data_kind().simulated else "real"
    sheet = _Sheet(sources, query, targets, values, data, {})
    head: Head = {
        "from": first.isoformat(),
        "to": end.isoformat(),
        "k_anonymity": k_anonymity,
        "data": data,
        "method_version": METHOD_VERSION,
        **{name: told[name] for name in (BASIS, RELEASED_UNTIL, *_OF_CLOSED) if name in told},
        "periods_not_derived": sources.base.reader.dirty_count(),
        "generated_unix_milliseconds": now,
    }
    yesterday = today - timedelta(days=1)
    released = last_released_day(head) or yesterday

    def complete_row(row: Row) -> Row:
        last = yesterday if row.get("indicator") in NOT_RELEASED else released
        is_ahead = end > today and row.get("origin") == "computed"
        return {**row, **({UNDER_WAY_UNTIL: last.isoformat()} if is_ahead else {}), "data": data}

    document = sheet_document(
        list(map(complete_row, _objectives(sheet))),
        list(map(complete_row, _measures(sheet))),
        list(map(complete_row, perimeter_rows(by_perimeter.statement.rows, values.total))),
        list(map(complete_row, bilan_rows(*_items(sheet)))),
        head,
        report.warnings,
    )
    document = add_sign_off(document, report.signed_year, report.statement.totals, public=False)
    return add_under_way(document, today, yesterday)


def _require_months(first: date, end: date) -> None:
    for option, day in (("--from", first), ("--to", end)):
        if day.day != 1:
            raise UsageError(f"{option} {day} must be the 1st of a month: the sheet is of whole months")


def _emissions_report(sources: SobrietySources, query: Query) -> EmissionsReport:
    random = sources.base.reporting.random_roll_out
    return emissions_report_of(sources.base, query, compare=False, random_roll_out=random, undeclared=False)


def _values_of(
    report: EmissionsReport,
    sources: SobrietySources,
    query: Query,
    targets: Targets,
    incomplete: frozenset[Population] = frozenset(),
) -> YearValues:
    statement = report.statement
    total = statement.totals[0] if len(statement.totals) == 1 else None
    return year_values(sources, query, targets, statement.rows, total, incomplete)


# --- objectives


def _objectives(sheet: _Sheet) -> Iterator[Row]:
    """Yield the rows of each objective: its indicators, as lines ask for them, then the user's own lines."""
    lines = [line.cells for line in sheet.sources.follows.lines(ActionTable.OBJECTIVES)]
    for objective in OBJECTIVES:
        mine = [cells for cells in lines if cells["objective"] == objective]
        named = {cells["indicator"] for cells in mine}
        defaults: list[Cells] = [
            {"objective": objective, "indicator": indicator}
            for indicator in SERVES[objective]
            if indicator not in named
        ]
        found = [row for cells in (*defaults, *mine) for row in _rows(sheet, cells)]
        yield from sorted(found, key=lambda row: _place(objective, str(row["indicator"])))
        if not found:
            yield {"objective": objective, "origin": "missing"}


def _place(objective: str, indicator: str) -> int:
    known = SERVES[objective]
    return known.index(indicator) if indicator in known else len(known)


def _rows(sheet: _Sheet, cells: Cells) -> Iterator[Row]:
    population = Population(cells["population"]) if "population" in cells else None
    is_ours = cells["indicator"] in ON_THE_SHEET
    values = sheet.now.of(cells["indicator"], population) if is_ours else ()
    if not is_ours:
        yield _entered_row(cells)
    elif values:
        for value in values:
            yield _computed_row(sheet, cells, population, value)
    elif len(cells) > 2:  # a target without a computable value: the row says that it is unknown
        yield without_missing({**_common(cells), "origin": "computed", "indicator": cells["indicator"]})


def _computed_row(sheet: _Sheet, cells: Cells, population: Population | None, value: SheetValue) -> Row:
    indicator = cells["indicator"]
    year = int(cells["baseline_year"]) if "baseline_year" in cells else None
    comparable = indicator not in SUMS or _is_of_twelve_months(sheet)
    restated = (
        None if year is None or not comparable else _restated_value(sheet, indicator, population, value, year)
    )
    baseline = number_of(cells, "baseline_value") if comparable else None
    why_not = why_no_trend(indicator, value, baseline, restated)
    target = number_of(cells, "target_value")
    goal = value.threshold if target is None and indicator not in AGES else target
    return without_missing(
        {
            **_common(cells),
            "indicator": indicator,
            "name": value.name,
            "category": value.category,
            "origin": "computed",
            "unit": value.unit,
            "direction": value.direction,
            "restated_baseline_value": None if restated is None else restated.value,
            "current_year": sheet.query.civil_year,
            "value": value.value,
            **_bounds(value),
            "coverage_states": value.coverage_states,
            "trend_ratio": None if why_not else trend_of(value.value, baseline),
            "restated_trend_ratio": trend_of(value.value, restated.value)
            if restated and not why_not
            else None,
            "not_demonstrated": why_not,
            "threshold": value.threshold,
            "reached": is_reached(value.value, goal, value.direction, value.suspects) if comparable else None,
            "withheld": True if value.withheld else None,
            "suspects": value.suspects or None,
            "reason": value.reason,
        }
    )


def _bounds(value: SheetValue) -> dict[str, Shown | None]:
    """Return the interval's columns, named by the kind of interval."""
    if value.interval is None:
        return {}
    low, high = value.interval
    if not value.is_sample_only:
        return {"interval": FULL_INTERVAL, "value_lo95": low, "value_hi95": high}
    wider = value.sensitivity or (None, None)
    return {
        "interval": SAMPLE_INTERVAL,
        "value_lo_sample": low,
        "value_hi_sample": high,
        "value_lo_sensitivity": wider[0],
        "value_hi_sensitivity": wider[1],
    }


def _restated_value(
    sheet: _Sheet, indicator: str, population: Population | None, value: SheetValue, year: int
) -> SheetValue | None:
    if indicator in NO_HISTORY:
        return None
    earlier = sheet.restate(year)
    found = earlier.of(indicator, population) if earlier else ()
    return next((one for one in found if one.category == value.category and one.is_whole), None)


def _is_of_twelve_months(sheet: _Sheet) -> bool:
    first, end = stretch_of(sheet.query).months
    return add_months(first, 12) == end


def _entered_row(cells: Cells) -> Row:
    value, target = number_of(cells, "current_value"), number_of(cells, "target_value")
    return without_missing(
        {
            **_common(cells),
            "indicator": cells["indicator"],
            "origin": "entered",
            "unit": cells.get("unit"),
            "direction": cells.get("direction"),
            "current_year": int(cells["current_year"]) if "current_year" in cells else None,
            "value": value,
            "value_lo95": number_of(cells, "current_lo95"),
            "value_hi95": number_of(cells, "current_hi95"),
            "coverage_states": number_of(cells, "coverage"),
            "trend_ratio": trend_of(value, number_of(cells, "baseline_value")),
            "reached": is_reached(value, target, cells.get("direction")),
        }
    )


def _common(cells: Cells) -> dict[str, Shown | None]:
    """Return a line's columns other than its value."""
    texts = ("objective", "population", "measure", "pilot", "status", "source", "comment")
    return {
        **{name: cells.get(name) for name in texts},
        **{name: number_of(cells, name) for name in _NUMBERS},
        **{name: int(cells[name]) if name in cells else None for name in _YEARS},
    }


def trend_of(value: float | None, baseline: float | None) -> float | None:
    """Return the relative change since a baseline; None where one is missing."""
    return (value - baseline) / abs(baseline) if value is not None and baseline else None


def why_no_trend(
    indicator: str, value: SheetValue, baseline: float | None, restated: SheetValue | None
) -> ChangeObstacle | None:
    """Return why a trend is not told; None where it is, or where there is none.

    A published baseline has no interval of its own: it lies outside the value's. Counts of the inventory are
    exact, and the coverage is a measure of itself.
    """
    has_baseline = baseline is not None or (restated is not None and restated.value is not None)
    if value.value is None or not has_baseline or (value.interval is None and value.coverage_states is None):
        return None
    now = PeriodFacts({} if indicator == COVERAGE else _share(value), (value.interval,))
    if restated is not None and restated.value is not None:
        return why_not_demonstrated(PeriodFacts(_share(restated), (restated.interval,)), now)
    return why_not_demonstrated(PeriodFacts({}, (None if baseline is None else (baseline, baseline),)), now)


def _share(value: SheetValue) -> dict[str, float]:
    return {} if value.coverage_states is None else {"": value.coverage_states}


# --- measures


def _measures(sheet: _Sheet) -> Iterator[Row]:
    """Yield the entered lines, each with the saving of its action, then the actions without a line."""
    savings = dict(_savings(sheet))
    named: set[str] = set()
    for line in sheet.sources.follows.lines(ActionTable.MEASURES):
        cells = line.cells
        texts = ("measure_id", "what", "indicator", "action", "from_day", "to_day")
        named.add(cells.get("action", ""))
        if cells.get("status") != "planned" and cells.get("from_day", "") >= sheet.query.end.isoformat():
            continue  # it began after the sheet's period
        yield without_missing(
            {
                **_common(cells),
                **{name: cells.get(name) for name in texts},
                **savings.get(cells.get("action", ""), {}),
            }
        )
    for action, saving in savings.items():
        if action not in named:
            yield without_missing({"action": action, **saving})


def _savings(sheet: _Sheet) -> Iterator[tuple[str, dict[str, Shown | None]]]:
    indicators_query = sheet.now.query
    for group in action_groups(sheet.sources, indicators_query):
        for one in figures_of(OF_ACTIONS, group, sheet.targets):
            figure = disclose_figure(one.figure, one.key, indicators_query.k_anonymity)
            low, high = figure.interval or (None, None)
            yield (
                str(figure.details["action"]),
                {
                    "what": str(figure.details["what"]),
                    "saving_kwh": figure.value,
                    "saving_lo95_kwh": low,
                    "saving_hi95_kwh": high,
                    "claimed": str(figure.details["claimed"]) if not figure.withheld else None,
                    "withheld": True if figure.withheld else None,
                },
            )


def _items(sheet: _Sheet) -> tuple[list[Cells], int | None, EmissionsRow | None]:
    """Return (lines of the user's file, civil year of the sheet, total of this year)."""
    lines = [line.cells for line in sheet.sources.follows.lines(ActionTable.OTHER_ITEMS)]
    return lines, sheet.query.civil_year, sheet.now.total
