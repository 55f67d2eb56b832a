# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Figures for people follow the rounding rule of docs/methodology.md §6."""

from __future__ import annotations

from dataclasses import replace

import pytest

from veilleuse.collector.account.rounding import format_number, format_row, round_interval
from veilleuse.collector.model.figures import EmissionsRow

KEY = {"period_from": "2025-01-01", "period_to": "2026-01-01"}


def test_no_more_digits_than_the_interval_has():
    """1,124,000 ± 36,000 and its parts are rounded to the thousand, with each language's separators."""
    row = EmissionsRow.of(
        {
            **KEY,
            "level": "total",
            "n": 10,
            "kwh_total": 1_124_000.4,
            "kwh_lo95": 1_088_520.4,
            "kwh_hi95": 1_160_636.2,
            "kwh_measured": 123_456.7,
            "kwh_imputed": -0.2,
            "kgco2e_total": 12.3456,
            "kgco2e_lo95": 11.3456,
            "kgco2e_hi95": 13.3456,
        }
    )
    texts = format_row(row)
    assert texts["kwh_total"] == {
        "fr": "1\u202f124\u202f000\u00a0kWh (1\u202f089\u202f000 à 1\u202f161\u202f000)",
        "en": "1,124,000\u00a0kWh (1,089,000 to 1,161,000)",
    }
    assert texts["kwh_hi95"]["en"] == "1,161,000"
    assert texts["kwh_measured"]["en"] == "123,000"
    assert texts["kwh_imputed"]["en"] == "0"
    assert texts["kgco2e_total"]["fr"] == "12,3\u00a0kgCO₂e (11,3 à 13,3)"
    assert "kwh_modelled" not in texts
    assert format_row(replace(row, level="row"))["kgco2e_total"]["en"] == "12.3"


def test_what_does_not_exist_is_not_shown():
    """A row without energy has no texts."""
    assert format_row(EmissionsRow.of({**KEY, "level": "row", "n": 10})) == {}


def test_exact_figures():
    """An interval of no width removes only the fraction."""
    assert format_number(7.0, 0)["fr"] == "7"


@pytest.mark.parametrize(
    ("figure", "told"),
    [
        ((1_124_000.0, 1_088_520.4, 1_160_636.2), ("1124000", "1089000", "1161000")),
        ((47.31, 45.18, 49.63), ("47.3", "45.2", "49.6")),
        ((0.55275, 0.5271, 0.5797), ("0.553", "0.527", "0.580")),
        ((12.0, 12.0, 12.0), ("12", "12", "12")),
        ((0.0, 0.0, 0.0), ("0", "0", "0")),
    ],
)
def test_no_more_digits_than_the_half_width_has(figure, told):
    """All three figures are rounded to the same place: two digits of the half-width."""
    assert round_interval(figure) == told
