# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The catalogue of columns and the texts of reports are complete in both languages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.resources import files

import pytest

from tests.support.reported import everything
from veilleuse.collector.documents.charts import COLOURS
from veilleuse.collector.documents.document import (
    FORMATS,
    LANGUAGES,
    NUMERIC,
    SHOWN,
    Document,
    Value,
    ValueKind,
    clean,
    column,
    read_columns,
    renderer,
)
from veilleuse.collector.documents.text import words
from veilleuse.collector.indicators import TABLE, load_indicator
from veilleuse.collector.model.figures import COLUMNS as EMISSIONS
from veilleuse.collector.model.inventory import InventoryClass, PowerContext
from veilleuse.collector.reports import attribution, emissions_document, indicative, indicators_document, reen
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import DeviceClass, Population

REPORTS = {
    "emissions": (EMISSIONS, emissions_document.ASSUMPTIONS),
    "indicators": (indicators_document.COLUMNS, indicators_document.ASSUMPTIONS),
    "attribution": (attribution.COLUMNS, attribution.ASSUMPTIONS),
    "indicative": (indicative.COLUMNS, indicative.ASSUMPTIONS),
    "sobriety": (indicators_document.SOBRIETY_COLUMNS, indicators_document.SOBRIETY_ASSUMPTIONS),
    "servers": (indicators_document.SERVER_COLUMNS, indicators_document.SERVER_ASSUMPTIONS),
    "reen": (reen.COLUMNS, reen.ASSUMPTIONS),
}
METAS = [load_indicator(identifier).meta for identifier in TABLE]
LISTS: dict[str, Iterable[str]] = {
    "device_class": [*DeviceClass, *InventoryClass, "monitor", "autres"],
    "population": Population,
    "power_context": PowerContext,
    "method": [*Method, "imputed", "extrapolated"],
    "level": ["row", "total", "autres", "memo"],
    "state": ["open", "closed_provisional", "closed_definitive"],
    "tree": ["as of then", "current, pro forma"],
    "name": [meta.name for meta in METAS],
    "unit": [meta.unit for meta in METAS],
    "direction": [meta.direction for meta in METAS],
    "owner": [meta.owner for meta in METAS],
}


@pytest.mark.parametrize("report", REPORTS)
def test_every_column_of_a_report_is_in_the_catalogue(report):
    """A new column needs its kind, labels and sentences in columns.toml."""
    assert [name for name in REPORTS[report][0] if name not in read_columns()] == []


def test_every_column_says_what_it_is():
    """Each column has a label and a sentence in both languages, and the unit that its name says."""
    catalogue = files("veilleuse.collector.documents").joinpath("columns.toml").read_text("utf-8")
    assert catalogue.count("\n[") == len(read_columns()), "a name is in two groups"
    units = {"_millijoules": "mJ", "_milliseconds": "ms", "_watts": "W", "_percent": "%"}
    for one in read_columns().values():
        for language in LANGUAGES:
            assert 1 < len(one.labels[language]) < 40, one.name
            assert re.fullmatch(r"[A-ZÀÉ«“].*[.…]", one.sentences[language]), one.name
        unit = next((unit for end, unit in units.items() if one.name.endswith(end)), None)
        assert unit is None or one.unit == unit, one.name
        if one.name.endswith("_gco2e_per_kwh"):
            assert one.unit == "gCO₂e/kWh"
        elif one.name.startswith("kwh") or one.name.endswith("_kwh"):
            assert one.unit == "kgCO₂e/kWh" if one.name.startswith("factor_kg") else one.unit == "kWh"
        if one.name.startswith("kgco2e") or one.name.endswith("kgco2e"):
            assert one.unit == "kgCO₂e"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_of_a_list_has_its_word(language):
    """Each value that the model may give has a text."""
    w = words(language)
    for name, values in LISTS.items():
        known = w.texts["words"][name]
        missing = {str(getattr(value, "value", value)) for value in values} - known.keys()
        assert not missing, f"add to [words.{name}] in documents/locale/{language}.toml: {sorted(missing)}"
    for one in read_columns().values():
        assert one.words is None or one.words in w.texts["words"], one.name


@pytest.mark.parametrize("report", REPORTS)
def test_every_note_is_in_french(report):
    """A note that is added in English needs its French in locale/fr.toml."""
    assert [note for note in REPORTS[report][1] if words("fr").text(note)[1] != "fr"] == []


def test_values_are_written_by_their_kind():
    """Percent, dates, yes and no, listed words and mixes have their forms; the account's own text precedes
    them."""
    w = words("fr")
    told: dict[str, tuple[Value, str]] = {
        "coverage_states": (0.666, "66,6\u00a0%"),
        "period_from": ("2025-01-01", "1er janvier 2025"),
        "factor_published": ("spring", "spring"),
        "provisional": (True, "oui"),
        "device_class": ("sff", "petits PC fixes"),
        "method_mix": ({"metered": 0.25}, "mesure à la prise 25,0\u00a0%"),
        "year": (2025, "2025"),
    }
    for name, (value, text) in told.items():
        assert w.value(read_columns()[name], value, {}) == text
    assert w.value(read_columns()["value"], 0.25, {"unit": "ratio"}) == "25,0\u00a0%"
    assert w.value(read_columns()["value"], 0.25, {"unit": "years"}) == "0,250"
    assert w.value(read_columns()["kwh_total"], 12.0, {SHOWN: {"kwh_total": "douze"}}) == "douze"


def test_a_column_that_nobody_declared_is_read_from_its_values():
    """A new report can be written before its columns are in the catalogue."""
    document = Document(
        {},
        (),
        {"rows": [{"shiny_new": 1.5, "flag": True, "count": 2, "text": "t", "mix": {"a": 1.0}}]},
        ("rows",),
    )
    kinds = [column(document, "rows", name).kind for name in document.columns_of("rows")]
    assert kinds == [ValueKind.NUMBER, ValueKind.BOOLEAN, ValueKind.INTEGER, ValueKind.TEXT, ValueKind.MIX]
    assert column(document, "rows", "shiny_new").label("fr") == "shiny new"
    assert all(renderer(name)(document) for name in FORMATS)
    assert renderer("csv")(document).startswith(b"shiny_new,flag,count,text,mix\r\n")


def test_columns_come_in_the_documents_order():
    """Declared columns come first, then others as they appear; columns without a value and `shown` are left
    out."""
    document = Document(
        {}, ("b", "a", "c"), {"rows": [{"x": 1, "a": 2}, {"b": 3, SHOWN: {"b": "drei"}}]}, ("rows",)
    )
    assert document.columns_of("rows") == ("b", "a", "x")


def test_cleaning_loses_no_figure():
    """A document of harmless texts stays the same."""
    assert clean(everything()) == everything()


def test_the_colours_are_those_of_the_pages():
    """COLOURS is c0 to c7 of the pages' light style sheet; a report's dark colours are the pages' too."""
    pages = files("veilleuse.collector.web").joinpath("static", "veilleuse.css").read_text("utf-8")
    light, dark = re.findall(r"(?:--c\d: #[0-9a-f]{6};\s*)+", pages)
    assert tuple(re.findall("#[0-9a-f]{6}", light)) == COLOURS
    report = files("veilleuse.collector.documents").joinpath("templates", "screen.css").read_text("utf-8")
    assert re.findall(r"\.c\d \{ fill: (#[0-9a-f]{6})", report) == re.findall("#[0-9a-f]{6}", dark)


def test_numbers_are_known_by_their_kind():
    """Every column with a unit is of a numeric kind, so that it is right-aligned."""
    assert {one.kind for one in read_columns().values() if one.unit} <= NUMERIC
