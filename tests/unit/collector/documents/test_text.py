# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reports, pages and the terminal have the same words in two languages, and each language's numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date
from fractions import Fraction
from string import Formatter
from typing import Any

import pytest

from veilleuse.collector.documents.document import LANGUAGES
from veilleuse.collector.documents.text import text_parts, texts_of, words
from veilleuse.wire.ladder import Method
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import DeviceClass, Population, State


def leaves(texts: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, text or list)."""
    for key, value in texts.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield path + key, value


def fields(value: Any) -> set[str]:
    """Return the names of the fields in a text."""
    text = " ".join(value) if isinstance(value, list) else str(value)
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_both_languages_say_the_same_things():
    """Both have the same keys and fields, but for the reports' notes, whose keys are English."""
    assert {"", "pages.", "api."} <= set(text_parts())
    for part in text_parts():
        one, other = (f"{part}{language}.toml" for language in LANGUAGES)
        first, second = (
            dict(leaves({name: text for name, text in texts_of(file).items() if name != "notes"}))
            for file in (one, other)
        )
        differing = sorted(first.keys() ^ second.keys())
        assert not differing, f"only one of documents/locale/{one} and {other} has: {differing}"
        for key in first:
            assert fields(first[key]) == fields(second[key]), f"{key} of documents/locale/{one} and {other}"


def test_no_file_hides_a_text_of_another():
    """Reports and pages share one table of texts, so each name may be in one file only."""
    for language in LANGUAGES:
        names = Counter(
            name for part in text_parts() if part != "api." for name in texts_of(f"{part}{language}.toml")
        )
        assert [name for name, number in names.items() if number > 1] == []
        assert "api" not in names


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_word_of_the_vocabulary_is_translated(language):
    """A new state, class, method or population cannot appear untranslated."""
    w = words(language)
    for section, kind in (
        ("top.states", State),
        ("words.device_class", DeviceClass),
        ("words.method", Method),
        ("words.population", Population),
    ):
        for word in kind:
            assert w(f"{section}.{word.value}")


@pytest.mark.parametrize(
    ("value", "french", "english"),
    [
        (0, "0", "0"),
        (0.0, "0", "0"),
        (1, "1", "1"),
        (0.01234, "0,0123", "0.0123"),
        (12.345, "12,3", "12.3"),
        (1234.5, "1\u202f234", "1,234"),
        (1_000_000, "1\u202f000\u202f000", "1,000,000"),
        (1234567.89, "1\u202f234\u202f568", "1,234,568"),
        (-0.5, "−0,500", "−0.500"),
        (-1234.5, "−1\u202f234", "−1,234"),
        (1.5e-12, "1,50 × 10^-12", "1.50 × 10^-12"),
    ],
)
def test_numbers(value, french, english):
    """Numbers have at least three significant digits and the marks of the language."""
    assert words("fr").number(value) == french
    assert words("en").number(value) == english


def test_quantities_have_the_unit_that_fits():
    """Wh, kWh or MWh, mg to t and W or kW are chosen by size."""
    w = words("en")
    nb = "\u00a0"
    assert w.energy(MILLIJOULES_PER_KWH // 1000) == f"1.00{nb}Wh"
    assert w.energy(2 * MILLIJOULES_PER_KWH) == f"2.00{nb}kWh"
    assert w.energy(1500 * MILLIJOULES_PER_KWH) == f"1.50{nb}MWh"
    assert w.grams(Fraction(1, 2)) == f"500{nb}mgCO₂e"
    assert w.grams(Fraction(711_250)) == f"711{nb}kgCO₂e"
    assert w.watts(5.25) == f"5.25{nb}W"
    assert (w.percent(0.123), w.percent(-0.123)) == ("12.3%", "−12.3%")
    assert (w.tick(2.5), w.tick(3000.0), w.tick(0)) == ("2.5", "3,000", "0")
    assert words("fr").percent(1.0) == f"100{nb}%"
    assert words("fr").percent(0.0) == f"0{nb}%"
    # A small share is never shown as 0 %, nor a nearly whole one as 100 %.
    assert words("fr").percent(0.0004) == f"<{nb}0,1{nb}%"
    assert w.percent(0.9996) == f">{nb}99.9%"
    assert (w.percent(0.0005), w.percent(0.9995)) == ("0.1%", f">{nb}99.9%")


def test_counts_and_dates():
    """Plurals follow each language's rules, and French writes the 1st as an ordinal."""
    assert words("fr").count("count.server", 0) == "0 serveur"
    assert words("en").count("count.server", 0) == "0 servers"
    assert words("fr").count("count.server", 2) == "2 serveurs"
    assert words("fr").long_day(date(2026, 11, 1)) == "dimanche 1er novembre 2026"
    assert words("en").long_day(date(2026, 11, 25)) == "Wednesday 25 November 2026"
    assert words("fr").short_day(date(2026, 3, 1)) == "01/03/2026"
    assert words("en").short_day(date(2026, 3, 1)) == "2026-03-01"
