# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The summary of a report is true of its figures: sums, shares, sentences, and what to do without figures."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from tests.support.summarised import CLASSES, RELEASED, emissions, with_total
from veilleuse.collector.account.ghg_items import DEFAULT_MAPPING
from veilleuse.collector.documents.document import (
    LANGUAGES,
    MOST_SHORT_COLUMNS,
    SHORT_ROWS,
    Document,
    Row,
    ShortTable,
    Summary,
    read_columns,
    renderer,
)
from veilleuse.collector.documents.text import NO_BREAK, words
from veilleuse.collector.model.figures import FULL_INTERVAL
from veilleuse.collector.model.query import Basis, Query
from veilleuse.collector.reports.summaries import emissions as emissions_summary
from veilleuse.collector.reports.summaries import indicators as indicators_summary
from veilleuse.collector.reports.summaries import reen as reen_summary

COLLEGES = [f"Métropole > Collèges > Collège {number:03}" for number in range(110)]


def summary_of(document: Document, **answers: Document) -> Summary:
    """Return the summary of an emissions report."""
    found = emissions_summary.add_summary(document, answers).summary
    assert found is not None
    return found


def tables_of(summary: Summary) -> dict[str, ShortTable]:
    """Return the short tables by their first column."""
    return {table.columns[0]: table for part in summary.parts for table in part.tables}


def texts_of(summary: Summary, language: str = "fr") -> list[str]:
    """Return the texts of the first page, without no-break spaces."""
    w = words(language)
    every = [summary.status, *summary.sentences]
    every += [text for one in summary.figures for text in (one.label, one.value, one.note)]
    return [w.text(text)[0].replace(NO_BREAK, " ") for text in every]


def sentences_of(summary: Summary, language: str = "fr") -> list[str]:
    """Return the sentences of the first page, without no-break spaces."""
    return [words(language).text(one)[0].replace(NO_BREAK, " ") for one in summary.sentences]


def name_of(row: Row) -> str:
    """Return the name of an entity as people read it."""
    shown: Any = row["shown"]
    return words("fr").text(shown["entity"])[0]


# --- emissions


@pytest.mark.parametrize("dimension", ["entity", "device_class"])
def test_what_is_shown_and_the_others_are_the_total(dimension: str):
    """The largest twenty of 110 entities, "and 90 others", and the total: the sums are right."""
    document = emissions(COLLEGES)
    table = tables_of(summary_of(document))[dimension]
    sizes = [float(str(row["kgco2e_total"])) for row in table.rows]
    assert sizes == sorted(sizes, reverse=True)
    assert len(table.rows) == (110 if dimension == "entity" else len(CLASSES))
    (total,) = document.tables["totals"]
    shown = [*table.rows[: table.most], *([table.rest] if table.rest else [])]
    for name in ("kgco2e_total", "kwh_total"):
        assert math.fsum(float(str(row[name])) for row in shown) == pytest.approx(
            float(str(total[name])), rel=1e-12
        )
        assert table.total is not None
        assert table.total[name] == total[name]
    assert math.fsum(float(str(row["share_of_total"])) for row in shown) == pytest.approx(1)
    if dimension == "entity":
        assert table.rest is not None
        assert name_of(table.rest) == "et 90 autres"


def test_the_first_sentence_names_what_emits_most():
    """The names and shares are those of an own sum over the rows."""
    document = emissions(COLLEGES[:7])
    sums: defaultdict[str, float] = defaultdict(float)
    for row in document.tables["rows"]:
        for name in ("entity", "device_class"):
            sums[str(row[name])] += float(str(row["kgco2e_total"]))
    total = sum(sums[name] for name in CLASSES)
    entity = max(COLLEGES[:7], key=sums.__getitem__)
    device_class = max(CLASSES, key=sums.__getitem__)
    w = words("fr")
    said = sentences_of(summary_of(document))[0]
    for name, key in (
        (entity.removeprefix("Métropole > "), entity),
        (w.word("device_class", device_class), device_class),
    ):
        told = f"« {name} », {w.kilograms(sums[key])} ({w.percent(sums[key] / total)} du total)"
        assert told.replace(NO_BREAK, " ") in said


def test_no_merged_group_is_called_the_largest():
    """A row of small groups may be the largest; a sentence names an entity."""
    document = emissions(["autres", "Métropole > DSI"])
    rows = [
        {**row, "level": "autres"} if row["entity"] == "autres" else row for row in document.tables["rows"]
    ]
    rows = [{**row, "kgco2e_total": 1e6} if row["entity"] == "autres" else row for row in rows]
    merged = replace(document, tables={**document.tables, "rows": rows})
    summary = summary_of(merged)
    assert sentences_of(summary)[0].startswith("Ce qui émet le plus : l’entité « DSI », ")
    first = tables_of(summary)["entity"].rows[0]
    assert name_of(first) == "Petits groupes réunis"


def test_coverage_says_what_it_means():
    """A random roll-out, volunteers, a census, and a fleet without agents each have their sentence."""
    document = emissions(COLLEGES[:2])
    for values, said in (
        (
            {},
            "Des agents ont observé 40,0 % du temps des machines ; 25,0 % de l’énergie est estimée",
        ),
        ({"representativeness": "not demonstrated"}, "n’ont pas été tirées au sort"),
        (
            {"representativeness": "census"},
            "Toutes les machines du parc sont observées, 40,0 % de leur temps",
        ),
        ({"coverage_states": 0.0}, "Aucune machine n’a été observée"),
    ):
        assert said in sentences_of(summary_of(with_total(document, **values)))[1]
    observed = replace(document, head={**RELEASED, "basis": "observed"})
    assert "rien n’est extrapolé" in texts_of(summary_of(observed))[0]
    assert "le chiffre du parc est plus grand" in sentences_of(summary_of(observed))[1]


def test_the_last_sentence_tells_a_change_or_why_it_is_none():
    """Without months of both years it is not demonstrated; an unreleased total gives its own reason."""
    document = emissions(COLLEGES[:2])
    said = sentences_of(summary_of(document))[2]
    assert said == "Évolution non démontrée : aucun mois n’est publié et observé dans les deux années."
    unreleased = replace(document, head={**RELEASED, "basis": "unreleased"})
    running = with_total(unreleased, not_compared="running")
    assert (
        sentences_of(summary_of(running))[2]
        == "L’écart avec l’année précédente n’est pas dit : période en cours."
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_released_says_what_to_do(language: str):
    """A page without figures says from when there may be some, what is needed, and where to look."""
    summary = summary_of(emissions([], language=language))
    assert summary.figures == ()
    said = " ".join(texts_of(summary, language))
    assert words(language).day("2026-12-04") in said
    assert "10 machines" in said
    assert "veilleuse doctor" in said
    assert summary.chart is None


def test_present_data_of_machines_are_not_to_be_passed_on():
    """The status of an unreleased report says so; its number of machines leaves out screens."""
    document = emissions(COLLEGES[:2], ("laptop", "monitor"), head={**RELEASED, "basis": "unreleased"})
    summary = summary_of(document)
    assert "à ne pas diffuser" in texts_of(summary)[0]
    machines = sum(
        int(str(row["n_fleet"])) for row in document.tables["rows"] if row["device_class"] == "laptop"
    )
    assert words("fr").number(machines) in texts_of(summary)


def test_months_that_are_not_released_are_told():
    """A year of which the first months are not released says from which month its figures are."""
    document = emissions(COLLEGES[:2])
    assert texts_of(summary_of(document))[0].endswith("mois publiés, jusqu’à décembre 2025 inclus.")
    later = with_total(document, period_from="2025-05-01")
    assert "de mai 2025 à décembre 2025 inclus" in texts_of(summary_of(later))[0]


def test_a_closed_year_says_by_which_revision():
    """The status names state, moment and revision."""
    closed = {"state": "closed_definitive", "closed_unix_milliseconds": 1_772_000_000_000, "revision": 2}
    document = emissions(COLLEGES[:2], head={**RELEASED, **closed})
    assert re.fullmatch("Année close définitivement le .*, révision 2.", texts_of(summary_of(document))[0])
    approver: Row = {
        "declaration": "approver",
        "declared": "Directrice",
        "person": "Cléo Trois",
        "declared_on": "2026-02-20",
    }
    signed = replace(document, tables={**document.tables, "sign_off": [approver]})
    said = texts_of(summary_of(signed))[0]
    assert said.endswith("révision 2. Approuvée par Cléo Trois, Directrice, le 20 février 2026.")


def test_released_months_are_asked_again_by_each_dimension():
    """The questions are of the same months; before them, the same months of the year before."""
    query = Query(date(2026, 1, 1), date(2027, 1, 1))
    head = {"basis": Basis.RELEASED.value, "released_until": "2026-11-01", "state": "open"}
    asked = emissions_summary.questions(query, head)
    assert {name: one.dimensions for name, one in asked.items() if len(one.dimensions) == 1} == {
        name: (name,) for name in emissions_summary.DIMENSIONS
    }
    assert (asked["before"].first, asked["before"].end) == (date(2025, 1, 1), date(2025, 11, 1))
    assert emissions_summary.questions(query, {"basis": "unreleased", "state": "open"}) == {}
    closed = emissions_summary.questions(query, {"basis": "unreleased", "state": "closed_definitive"})
    assert set(closed) == {"perimeter", "entity", "device_class"}


# --- every summary


def leaves(value: Any) -> Iterator[str]:
    """Yield the texts of a summary in both languages."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from leaves(one)
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from leaves(one)
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from leaves(getattr(value, name))


BREAKABLE = re.compile(r"\d (?:[kt]?gCO₂e|tCO₂e|[kM]?Wh|%)| [:;»]|« ")


def documents() -> dict[str, Document]:
    """Return one report of each kind, with its summary."""
    found = {"emissions": emissions_summary.add_summary(emissions(COLLEGES), {})}
    indicators = indicators_report()
    answers = {"population": indicators, "entity": indicators}
    found["indicators"] = indicators_summary.add_summary(indicators, answers)
    found["reen"] = reen_summary.add_summary(reen_report())
    return found


def indicators_report() -> Document:
    """Return indicators of two entities."""
    rows: list[Any] = []
    for entity, part in (("Métropole > Eau", 3), ("Métropole > DSI", 1)):
        common = {
            "entity": entity,
            "population": "workstation",
            "level": "row",
            "n": 20,
            "owner": "system team",
        }
        outside = {"indicator": "I1", "name": "on outside opening hours", "unit": "ratio", "threshold": 0.05}
        rows.append(
            {
                **common,
                **outside,
                "direction": "lower",
                "value": part / 10,
                "numerator_milliseconds": part,
                "denominator_milliseconds": 10,
            }
        )
        avoidable = {"indicator": "I4", "name": "avoidable energy", "unit": "kWh", "direction": "lower"}
        kwh = {"value": 1000.0 * part, "value_lo95": 900.0 * part, "value_hi95": 1100.0 * part}
        rows.append(
            {**common, **avoidable, **kwh, "screens_kwh": 250.0 * part, "closed_bands_kwh": 750.0 * part}
        )
    head = {**RELEASED, "kind": "indicators"}
    return Document(head, ("indicator",), {"rows": rows, "withheld": []}, ("rows",))


def reen_report() -> Document:
    """Return a sheet with an objective that moved, one without a value, and the use phase."""
    rows: list[Any] = [
        {
            "objective": "2",
            "indicator": "I1",
            "name": "on outside opening hours",
            "origin": "computed",
            "unit": "ratio",
            "direction": "lower",
            "value": 0.135,
            "current_year": 2026,
            "reached": False,
            "baseline_year": 2023,
            "baseline_value": 0.3,
            "trend_ratio": -0.55,
            "target_value": 0.05,
        },
        {"objective": "5", "origin": "missing"},
    ]
    perimeters: list[Any] = [
        {
            "perimeter": name,
            "kgco2e_total": kilograms,
            "kgco2e_lo95": kilograms / 2,
            "kgco2e_hi95": kilograms * 2,
        }
        for name, kilograms in (("colleges", 400.0), ("data_centre", 1600.0), ("total", 2000.0))
    ]
    bilan: list[Any] = [
        {"item": "use phase", "part_of_bilan": "use", "kgco2e_total": 2000.0, "share_of_whole": 0.02}
    ]
    tables = {"rows": rows, "measures": [], "perimeters": perimeters, "bilan": bilan}
    return Document({**RELEASED, "kind": "reen"}, (), tables, tuple(tables))


def test_no_line_breaks_between_a_number_and_its_unit():
    """Units stand behind a no-break space, in every text of every summary."""
    for kind, document in documents().items():
        broken = [
            text for text in leaves(document.summary) if BREAKABLE.search(text) and text != FULL_INTERVAL
        ]
        assert broken == [], kind


def test_a_short_table_fits_a_page_and_a_sheet():
    """At most twelve columns, all of them in the catalogue, and at most 36 rows on a page."""
    for document in documents().values():
        assert document.summary is not None
        for table in (table for part in document.summary.parts for table in part.tables):
            assert len(table.columns) <= MOST_SHORT_COLUMNS
            assert set(table.columns) <= read_columns().keys()
            assert table.most <= SHORT_ROWS or table.columns[0] in ("month", "name")


def test_files_for_machines_do_not_have_it():
    """CSV and JSON are the same bytes with and without a summary."""
    for document in documents().values():
        for form in ("csv", "json"):
            assert renderer(form)(document) == renderer(form)(replace(document, summary=None))


def test_items_of_the_bilan_carbone_have_their_titles():
    """Each item and category that the mapping may give is followed by its title, in both languages."""
    lines = [one for line in DEFAULT_MAPPING.lines for one in (line.combustion, line.rest) if one is not None]
    for language in LANGUAGES:
        w = words(language)
        assert len(w.texts["words"]["beges_item"]) == 22, "items of the method, version 5"
        for item in lines:
            if item.beges_item:
                assert w.word("beges_item", item.beges_item).startswith(f"{item.beges_item} ")
                assert w.word("ghg_category", item.ghg_category).startswith(f"Scope {item.ghg_category}")


# --- indicators and the REEN sheet


def test_indicators_say_where_to_act_first():
    """The entity that can avoid most, the threshold that is farthest, and sums over populations."""
    summary = documents()["indicators"].summary
    assert summary is not None
    first, second, _ = sentences_of(summary)
    assert first.startswith("« Eau » peut éviter le plus : 3,00 MWh, 75,0 %")
    assert "« Hors des horaires »" in first
    assert "I1 allumées hors des heures d’ouverture (postes de travail), 30,0 % pour 5,0 % visés" in second
    said = texts_of(summary)
    assert {"4,00 MWh", "entre 3,60 MWh et 4,40 MWh", "20,0 %", "0 sur 2"} <= set(said)
    places = tables_of(summary)["entity"]
    assert [row["outside_ratio"] for row in places.rows] == [0.3, 0.1]


def test_the_sheet_says_what_changed():
    """Value, baseline, trend and target of what moved; what has no value; the share of the use phase."""
    summary = documents()["reen"].summary
    assert summary is not None
    first, second, third = sentences_of(summary)
    assert first == (
        "I1 allumées hors des heures d’ouverture : 13,5 % en 2026, contre 30,0 % en 2023, soit −55,0 % ; "
        "la cible (5,0 %) n’est pas atteinte."
    )
    assert second.startswith("5 objectifs n’ont pas encore de valeur : 1° ")
    assert third == "La phase d’usage est 2,0 % du bilan numérique entier."
    assert summary.chart is not None
    assert [row["perimeter"] for row in summary.chart.rows] == ["data_centre", "colleges"]
    assert [row["share_of_total"] for row in summary.chart.rows] == [0.8, 0.2]


def test_a_sheet_without_baseline_says_so():
    """No baseline: nothing is said to have changed, and the command for the file is named."""
    report = reen_report()
    rows = [
        {name: value for name, value in row.items() if name != "trend_ratio"} for row in report.tables["rows"]
    ]
    summary = reen_summary.add_summary(replace(report, tables={**report.tables, "rows": rows})).summary
    assert summary is not None
    assert "veilleuse reen template objectives" in sentences_of(summary)[0]
