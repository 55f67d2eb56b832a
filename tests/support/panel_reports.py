# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Table of the panels whose numbers a report has too: what `veilleuse report` says of each series."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from typing import Any, Final

from veilleuse.collector.indicators.avoidable_energy import CAUSES
from veilleuse.wire.units import MILLIJOULES_PER_KWH

KILOGRAMS_PER_TONNE: Final = 1000
Row = Mapping[str, Any]
Told = Iterator[tuple[tuple[str, ...], float | None]]
"""(values of the panel's labels, amount in the panel's unit); amounts of equal values are added."""


@dataclass(frozen=True)
class Asked:
    """A call of the command."""

    kind: str
    period: str
    """`year`, `month` or `yesterday`."""
    grouping: str
    more: tuple[str, ...] = ()

    def period_of(self, month: date, today: date) -> tuple[date, date]:
        """Return (first day, day after the last), for the newest released month."""
        if self.period == "yesterday":
            return today - timedelta(days=1), today
        if self.period == "month":
            return month, (month + timedelta(days=31)).replace(day=1)
        return date(month.year, 1, 1), date(month.year + 1, 1, 1)


@dataclass(frozen=True)
class Compared:
    """A query of a panel, and the rows of the report that have its numbers."""

    panel: str
    """Dashboard and panel."""
    query: int
    labels: tuple[str, ...]
    asked: Asked
    section: str
    told: Callable[[Row], Told]

    def expected(self, report: Mapping[str, Any]) -> dict[tuple[str, ...], float]:
        """Return label values → amount; withheld amounts are in neither."""
        found: defaultdict[tuple[str, ...], Fraction] = defaultdict(Fraction)
        for row in report[self.section]:
            for values, amount in self.told(row):
                if amount is not None:
                    found[values] += Fraction(repr(amount))
        return {values: float(amount) for values, amount in found.items()}


def _tonnes(row: Row, *labels: str, column: str = "kgco2e_total") -> Told:
    kilograms = row.get(column)
    tonnes = None if kilograms is None else float(Fraction(repr(kilograms)) / KILOGRAMS_PER_TONNE)
    yield tuple(_label(row, name) for name in labels), tonnes


def _kwh(row: Row, *labels: str) -> Told:
    energy = row.get("energy_millijoules")
    yield (
        tuple(_label(row, name) for name in labels),
        None if energy is None else energy / MILLIJOULES_PER_KWH,
    )


def _label(row: Row, name: str) -> str:
    if name in ("month", "year") and name not in row:
        return str(row["period_from"])[: 7 if name == "month" else 4]
    if name == "machines":
        return "virtual" if row["level"] == "memo" else "physical"
    value = row.get(name, "")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _of_pcs(row: Row, indicator: str, column: str, *labels: str) -> Told:
    if row["indicator"] == indicator and row["population"] != "server":
        yield tuple(_label(row, name) for name in labels), row.get(column)


def _indicator(indicator: str, column: str, *labels: str) -> Callable[[Row], Told]:
    return lambda row: _of_pcs(row, indicator, column, *labels)


def _own_rows(row: Row) -> Told:
    """I1 of an entity, without the rows of small groups that merged below it."""
    if row["level"] != "autres":
        yield from _of_pcs(row, "I1", "value", "entity", "population")


def _all(row: Row, indicator: str, *labels: str) -> Told:
    if row["indicator"] == indicator:
        yield tuple(_label(row, name) for name in labels), row.get("value")


def _avoidable(row: Row) -> Told:
    if row["indicator"] == "I4":
        for cause in (*CAUSES, "mixed"):
            yield (row["population"], str(cause)), row.get(f"{cause}_kwh")


def _coverage(row: Row) -> Told:
    if row["indicator"] == "I13" and row["population"] != "server":
        for kind in ("states", "energy"):
            yield (row["population"], _label(row, "machines"), kind), row.get(f"coverage_{kind}")


def _comatose(row: Row) -> Told:
    """A suspect counts as not judged in the report, unless it was busy earlier; the panel has it once."""
    if row["indicator"] == "I6":
        machines, judged = _label(row, "machines"), row["denominator"]
        judged_suspects = row["suspects"] - row["suspects_not_judged"]
        for verdict, number in (
            ("comatose", row["numerator"] if judged else None),
            ("suspect", row["suspects"]),
            ("excluded", row["excluded"]),
            ("not_judged", row["not_judged"] - row["suspects_not_judged"]),
            ("in_service", judged - row["numerator"] - judged_suspects if judged else None),
        ):
            yield (machines, verdict), number


def _verdicts(indicator: str, good: str, bad: str) -> Callable[[Row], Told]:
    def told(row: Row) -> Told:
        if row["indicator"] == indicator:
            judged = row["denominator"]
            yield (_label(row, "machines"), "not_judged"), row["not_judged"]
            yield (_label(row, "machines"), bad), row["numerator"] if judged else None
            yield (_label(row, "machines"), good), judged - row["numerator"] if judged else None

    return told


def _observed(row: Row) -> Told:
    """Energy that machines told, without what is imputed or extrapolated."""
    energy = row["measured_millijoules"] + row["modelled_millijoules"]
    if row.get("population") == "server" and energy:
        yield (row["device_class"],), energy / MILLIJOULES_PER_KWH


def _own(row: Row) -> Told:
    """Of the month that the panel shows: the days before it belong to another one."""
    if row["own_part"] != "whole":
        yield (row["own_part"],), row.get("kwh_own")


def _own_ratio(row: Row) -> Told:
    if row["own_part"] == "whole":
        yield (), row.get("own_avoidable_ratio")


def _factor(row: Row) -> Told:
    yield tuple(_label(row, name) for name in _FACTOR), 1.0


def _ends(end: str) -> Callable[[Row], Told]:
    def told(row: Row) -> Told:
        kind = "_sample" if row["interval"] == "sample only" else "95"
        return _tonnes(row, "year", "interval", column=f"kgco2e_{end}{kind}")

    return told


YEAR: Final = Asked("emissions", "year", "perimeter,device_class")
MONTH: Final = Asked("emissions", "month", "perimeter")
MONTHS: Final = Asked("emissions", "year", "perimeter,month")
INDICATORS: Final = Asked("indicators", "month", "population")
ENTITIES: Final = Asked("indicators", "month", "entity,population")
YESTERDAY: Final = Asked("emissions", "yesterday", "population,device_class", ("--basis", "unreleased"))
_FACTOR: Final = ("year", "zone", "factor_id", "factor_kgco2e_per_kwh", "provisional")
_PC: Final = ("population", "machines")

COMPARED: Final = (
    Compared("energie-co2 year_emissions", 0, ("year",), YEAR, "totals", lambda row: _tonnes(row, "year")),
    Compared("energie-co2 year_interval", 0, ("year", "interval"), YEAR, "totals", _ends("lo")),
    Compared("energie-co2 year_interval", 1, ("year", "interval"), YEAR, "totals", _ends("hi")),
    Compared("energie-co2 year_energy", 0, ("year",), YEAR, "totals", lambda row: _kwh(row, "year")),
    Compared("energie-co2 factor", 0, _FACTOR, YEAR, "factors", _factor),
    Compared(
        "energie-co2 perimeters", 0, ("perimeter",), YEAR, "rows", lambda row: _tonnes(row, "perimeter")
    ),
    Compared(
        "energie-co2 classes", 0, ("device_class",), YEAR, "rows", lambda row: _kwh(row, "device_class")
    ),
    Compared(
        "energie-co2 months_emissions",
        0,
        ("month", "perimeter"),
        MONTHS,
        "rows",
        lambda row: _tonnes(row, "month", "perimeter"),
    ),
    Compared(
        "energie-co2 months_energy",
        0,
        ("month", "perimeter"),
        MONTHS,
        "rows",
        lambda row: _kwh(row, "month", "perimeter"),
    ),
    Compared("energie-co2 day_energy", 0, ("device_class",), YESTERDAY, "rows", _observed),
    Compared("collecteur own", 0, ("part",), MONTH, "own_use", _own),
    Compared("collecteur own", 1, (), MONTH, "own_use", _own_ratio),
    Compared("sobriete outside", 0, _PC, INDICATORS, "rows", _indicator("I1", "value", *_PC)),
    Compared(
        "sobriete entities",
        0,
        ("entity", "population"),
        ENTITIES,
        "rows",
        _own_rows,
    ),
    Compared("sobriete idle", 0, _PC, INDICATORS, "rows", _indicator("I2", "value", *_PC)),
    Compared("sobriete energy", 0, _PC, INDICATORS, "rows", _indicator("I1", "kwh", *_PC)),
    Compared("sobriete energy", 1, _PC, INDICATORS, "rows", _indicator("I2", "kwh", *_PC)),
    Compared(
        "sobriete plan", 0, ("population",), INDICATORS, "rows", _indicator("I3", "value", "population")
    ),
    Compared("sobriete avoidable", 0, ("population", "cause"), INDICATORS, "rows", _avoidable),
    Compared("sobriete night", 0, _PC, INDICATORS, "rows", lambda row: _all(row, "I5", *_PC)),
    Compared("sobriete comatose", 0, ("machines", "verdict"), INDICATORS, "rows", _comatose),
    Compared(
        "sobriete underused",
        0,
        ("machines", "verdict"),
        INDICATORS,
        "rows",
        _verdicts("I7", "in_use", "underused"),
    ),
    Compared(
        "sobriete oversized",
        0,
        ("machines", "verdict"),
        INDICATORS,
        "rows",
        _verdicts("I8", "fitting", "oversized"),
    ),
    Compared("sobriete coverage", 0, (*_PC, "kind"), INDICATORS, "rows", _coverage),
    Compared("sobriete hosts", 0, ("population",), INDICATORS, "rows", _indicator("I1", "n", "population")),
)
