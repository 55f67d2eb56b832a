# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse convert`: a quantity, its unit and its factor."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilleuse.collector.account.emissions import conversion, energy_kwh
from veilleuse.collector.account.rounding import round_interval
from veilleuse.collector.errors import UsageError
from veilleuse.collector.factors.book import choose


@pytest.mark.parametrize(
    ("text", "unit", "kwh"),
    [
        ("12500", "kWh", Fraction(12500)),
        ("12.5", "MWh", Fraction(12500)),
        ("1000", "Wh", Fraction(1)),
        ("3600000", "J", Fraction(1)),
        ("3600", "kJ", Fraction(1)),
        ("3.6", "MJ", Fraction(1)),
        ("3600000000", "mJ", Fraction(1)),
        ("1e3", "Wh", Fraction(1)),
        ("12,5", "MWh", Fraction(12500)),  # the decimal comma was refused once
        ("0,125", "MWh", Fraction(125)),
        ("1250,500", "kWh", Fraction(2501, 2)),
        ("1 250,5", "kWh", Fraction(2501, 2)),
        ("12\u202f500", "kWh", Fraction(12500)),
        ("1.250", "kWh", Fraction(5, 4)),
        ("0", "kWh", Fraction(0)),
    ],
)
def test_units(text: str, unit: str, kwh: Fraction):
    """Units convert exactly, and mJ is not MJ."""
    assert energy_kwh(text, unit) == kwh


@given(st.decimals(0, 10**12, places=6))
def test_units_agree(value: Decimal):
    """x MWh are 1000 x kWh and 3600 x MJ."""
    assert energy_kwh(str(value), "MWh") == 1000 * energy_kwh(str(value), "kWh")
    assert energy_kwh(str(value * 3600), "MJ") == energy_kwh(str(value * 1000), "kWh")


@pytest.mark.parametrize(
    ("text", "unit", "why"),
    [
        ("1,250", "kWh", "may be thousands or a fraction: write 1250 for thousands, 1.250 for a fraction"),
        ("12,5,0", "kWh", "write it like 12500, 12.5 or 12,5"),
        ("1,250.5", "kWh", "not a number"),
        ("1.250,5", "kWh", "not a number"),
        ("12 50", "kWh", "not a number"),
        ("-12,5", "kWh", "0 or more"),
        ("", "kWh", "not a number"),
        ("ten", "kWh", "not a number"),
        ("１２５００", "kWh", "not a number"),
        ("-1", "kWh", "0 or more"),
        ("NaN", "kWh", "0 or more"),
        ("Infinity", "kWh", "0 or more"),
        ("1e999999", "kWh", "out of range"),
        ("1e-999999", "kWh", "out of range"),
        ("1", "kwh", "did you mean kWh"),
        ("1", "furlong", "unknown unit"),
    ],
)
def test_what_is_no_energy_is_refused(text: str, unit: str, why: str):
    """The refusal has exit code 2."""
    with pytest.raises(UsageError, match=why) as refused:
        energy_kwh(text, unit)
    assert refused.value.exit_code == 2


def test_the_answer():
    """12,500 kWh in FR in 2021 are exactly 711.25 kg, with factor, split and interval."""
    answer = conversion(energy_kwh("12500", "kWh"), choose("FR", 2021), "FR")
    assert answer["kgco2e_total"] == 711.25
    assert answer["kwh"] == 12500
    assert (answer["zone"], answer["year"], answer["provisional"]) == ("FR", 2021, False)
    assert (answer["factor_id"], answer["factor_kgco2e_per_kwh"]) == ("ADEME-FR-2021-MOY", 0.0569)
    assert answer["split_estimated"] is True
    low, high = answer["kgco2e_lo95"], answer["kgco2e_hi95"]
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert low < 711.25 < high
    assert "factor_published" not in answer


def test_the_answer_of_a_country_without_components():
    """There is no split, and the factor is marked provisional."""
    answer = conversion(Fraction(1), choose("DE", 2025), "DE")
    assert "kgco2e_combustion" not in answer
    assert answer["provisional"] is True


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        ((711.25, 647.8, 780.9), ("711", "648", "781")),
        ((0.55275, 0.5034, 0.6068), ("0.553", "0.503", "0.607")),
        ((5_691_357.9, 4_519_000.0, 7_167_000.0), ("5700000", "4500000", "7200000")),
        ((0.0, 0.0, 0.0), ("0", "0", "0")),
        ((100.0, 99.95, 100.05), ("100.000", "99.950", "100.050")),
    ],
)
def test_people_read_no_more_digits_than_the_half_width_has(
    figure: tuple[float, float, float], text: tuple[str, str, str]
):
    """Figures have two digits of the half-width, rounded once at the end: 711 ± 67, not 711.25."""
    assert round_interval(figure) == text
