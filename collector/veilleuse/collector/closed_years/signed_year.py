# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Shows the sign-off of a closed year in a report, and says when its base year is to be recalculated."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final

from veilleuse.collector.documents.document import LANGUAGES, SHOWN, Document, Row, Value
from veilleuse.collector.documents.text import NO_BREAK, words
from veilleuse.collector.model.closed_years import figures_of
from veilleuse.collector.model.figures import EmissionsRow
from veilleuse.collector.ports.months import ClosedYearReader

SIGN_OFF: Final = "sign_off"
"""Key of a closed report, and table of a document."""
EXCLUSIONS: Final = "exclusions"
PERCENT: Final = "%"
COLUMNS: Final = (
    *("declaration", "declared", "person", "declared_on"),
    *("declared_kwh", "declared_kgco2e", "declared_share", "declared_detail", "declared_estimate"),
)


@dataclass(frozen=True, slots=True)
class SignedYear:
    """What people declared of a closed year."""

    signed: Mapping[str, Any]
    """As frozen: closed_years.sign_off."""
    base: Mapping[str, Any] | None
    """Last closed report of its base year; None where that is this year, or not closed here."""
    notes: tuple[Mapping[str, str], ...]
    """Language → why the base year is to be recalculated."""


def read_signed_year(reader: ClosedYearReader, report: Mapping[str, Any]) -> SignedYear | None:
    """Read what people declared of a closed report; None where nobody signed it off."""
    signed = report.get(SIGN_OFF)
    if not signed:
        return None
    base = _base_report(reader, report["year"], signed)
    notes = () if base is None else tuple(_recalculation(reader, report, base))
    return SignedYear(signed, base, notes)


def _base_report(reader: ClosedYearReader, year: int, signed: Mapping[str, Any]) -> Any:
    base = signed.get("base_year", {}).get("year", year)
    revisions = () if base == year else reader.revisions(base)
    return json.loads(reader.file(revisions[-1]).report) if revisions else None


def _recalculation(
    reader: ClosedYearReader, report: Mapping[str, Any], base: Mapping[str, Any]
) -> Iterator[Mapping[str, str]]:
    """Yield the reasons: another method, or a large effect of method and boundary since it was closed."""
    if base["method_version"] != report["method_version"]:
        yield _note("method", base=base, report=report)
    threshold = report[SIGN_OFF]["base_year"].get("recalculation_threshold_percent")
    if report["difference"] is None or threshold is None:
        return
    effects = {cause: Fraction(one["exact"]) for cause, one in report["difference"]["kgco2e"].items()}
    total = sum(Fraction(row.get("kgco2e_total_exact", 0)) for row in report["figures"]["totals"])
    before, moved = total - sum(effects.values()), abs(effects["method"] + effects["perimeter"])
    earlier = reader.revisions(report["year"])[report["revision"] - 2]
    if (
        100 * moved > Fraction(threshold) * before
        and base["closed_unix_milliseconds"] < earlier.closed_unix_milliseconds
    ):
        yield _note("moved", base=base, report=report, threshold=threshold)


def _note(name: str, **values: Any) -> Mapping[str, str]:
    return {language: words(language)(f"base_year.{name}", **values) for language in LANGUAGES}


def add_sign_off(
    document: Document, signed_year: SignedYear | None, totals: Sequence[EmissionsRow], *, public: bool
) -> Document:
    """Add the sign-off as a table, and its notes; `totals` are those that the document shows.

    `public`: without names that their holders did not publish, and without the exact figure of another year.
    """
    if signed_year is None:
        return document
    rows = {
        SIGN_OFF: list(map(_without_blanks, _rows(signed_year, public=public))),
        EXCLUSIONS: list(map(_without_blanks, _exclusions(signed_year.signed.get("exclusion", ()), totals))),
    }
    added = {name: table for name, table in rows.items() if table}
    figures = {name: document.tables[name] for name in document.tabular}
    return replace(
        document,
        columns=(*document.columns, *(name for name in COLUMNS if name not in document.columns)),
        tables={**figures, **added, **document.tables},
        tabular=(*document.tabular, *added),
        assumptions=(*signed_year.notes, *document.assumptions),
    )


def _without_blanks(row: Mapping[str, Value | None]) -> Row:
    return {name: value for name, value in row.items() if value is not None}


def _rows(signed_year: SignedYear, *, public: bool) -> Iterator[Mapping[str, Value | None]]:
    signed, base = signed_year.signed, signed_year.base
    organisation, since, gwp = (signed.get(name, {}) for name in ("organisation", "base_year", "gwp"))
    for role in ("preparer", "reviewer", "approver"):
        one = signed.get(role, {})
        name = one.get("name") if one.get("publish_name") or not public else None
        yield {
            "declaration": role,
            "declared": one.get("function"),
            "person": name,
            "declared_on": one.get("date"),
        }
    yield {"declaration": "organisation", "declared": organisation.get("name")}
    yield {"declaration": "control", "declared": organisation.get("control")}
    yield {"declaration": "boundary", "declared": organisation.get("boundary")}
    if "exclusion" not in signed:
        yield {"declaration": EXCLUSIONS, "declared": "none"}
    yield {
        "declaration": "exclusion_threshold",
        **_measure(organisation, "exclusion_threshold_percent", PERCENT),
    }
    year = str(since["year"]) if "year" in since else None
    yield {"declaration": "base_year", "declared": year, "declared_detail": since.get("why")}
    if base is not None:
        total = {} if public else figures_of(base)["totals"][0]
        figure = _measure(total, "kgco2e_total", "kgCO2e")
        yield {"declaration": "base_year_figure", **figure, "declared_detail": base["report_id"]}
    elif "kgco2e" in since:
        yield {"declaration": "base_year_figure", **_measure(since, "kgco2e", "kgCO2e")}
    threshold = _measure(since, "recalculation_threshold_percent", PERCENT)
    yield {"declaration": "recalculation_threshold", **threshold}
    yield {"declaration": "gwp", "declared": gwp.get("edition"), "declared_detail": gwp.get("source")}


def _measure(values: Mapping[str, Any], key: str, unit: str) -> Mapping[str, Value]:
    """Return a number with its unit, with what people read."""
    if key not in values:
        return {}
    value = values[key]
    shown = {
        w.language: w("percent", number=w.plain_number(value))
        if unit == PERCENT
        else f"{w.number(float(value))}{NO_BREAK}{unit.replace('CO2', 'CO₂')}"
        for w in map(words, LANGUAGES)
    }
    return {"declared": f"{value} {unit}", SHOWN: {"declared": shown}}


def _exclusions(
    exclusions: Sequence[Mapping[str, Any]], totals: Sequence[EmissionsRow]
) -> Iterator[Mapping[str, Value | None]]:
    """Yield each exclusion, at the mean factor of the totals shown, and their sum."""
    total_kwh = sum(row.energy.kwh_total or 0.0 for row in totals)
    total_kilograms = sum(row.emissions.kgco2e_total or 0.0 for row in totals)

    def size(kwh: int | None) -> Mapping[str, Value | None]:
        if kwh is None or not total_kwh:
            return {"declared_kwh": kwh}
        return {
            "declared_kwh": kwh,
            "declared_kgco2e": kwh * total_kilograms / total_kwh,
            "declared_share": kwh / (total_kwh + excluded),
        }

    excluded = sum(one.get("kwh", 0) for one in exclusions)
    for one in exclusions:
        told = {
            "declared": one.get("what"),
            "declared_detail": one.get("why"),
            "declared_estimate": one.get("estimated_by"),
        }
        yield {"declaration": "exclusion", **told, **size(one.get("kwh"))}
    if len(exclusions) > 1:
        yield {"declaration": EXCLUSIONS, **size(excluded)}
