# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Energy × factor gives the worked answers of docs/methodology.md §13 exactly; the pedigree follows ABC."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilleuse.collector.account.emissions import (
    Emissions,
    emissions,
    factor_u,
    format_pedigree,
    grams_from_millijoules,
    interval,
    kgco2e,
    kwh,
    pedigree_coefficients,
    pedigree_gsd2,
    sum_emissions,
)
from veilleuse.collector.factors.book import choose, factor_book
from veilleuse.wire.units import millijoules_from_watts

ADEME_2022 = factor_book().named("ADEME-FR-2022-MOY")
ADEME_2024 = factor_book().named("ADEME-FR-2024-MOY")
OWID_FR_2023 = factor_book().named("OWID-FRA-2023")


def test_energy_from_power():
    """65 W for 900 s are 0.01625 kWh."""
    assert kwh(round(millijoules_from_watts(65, 900_000))) == Fraction("0.01625")


def test_owid_table():
    """10 kWh at OWID FR 2023, 55.275 g, are 0.55275 kg."""
    assert kgco2e(Fraction(10), OWID_FR_2023.total_kgco2e_per_kwh) == Fraction("0.55275")


def test_plain_product():
    """10 kWh × 56.039 g are 0.56039 kg (CodeCarbon 3.3.2)."""
    assert kgco2e(Fraction(10), Decimal("0.056039")) == Fraction("0.56039")


def test_ademe_2021():
    """12,500 kWh are 711.25 kg."""
    factor = choose("FR", 2021).factor
    assert emissions(Fraction(12_500), factor).total_kgco2e == Fraction("711.25")


def test_ademe_2022_parts():
    """10,000 kWh are 520 kg as published: 338 combustion, 182.4 upstream + losses, residual −0.4."""
    found = emissions(Fraction(10_000), ADEME_2022)
    assert found.total_kgco2e == 520
    assert found.combustion_kgco2e == 338
    assert found.upstream_kgco2e is not None
    assert found.losses_kgco2e is not None
    assert found.upstream_kgco2e + found.losses_kgco2e == Fraction("182.4")
    assert found.split_residual_kgco2e == Fraction("-0.4")
    assert found.split_estimated is False


def test_shares_of_2022_where_only_the_total_is_known():
    """1,000 kWh in 2024 are 51.9 kg at 65.0 / 25.9 / 9.1 %, without residual, and marked."""
    found = emissions(Fraction(1000), ADEME_2024)
    assert found.combustion_kgco2e == Fraction("51.9") * Fraction("0.65")
    assert found.upstream_kgco2e == Fraction("51.9") * Fraction("0.259")
    assert found.losses_kgco2e == Fraction("51.9") * Fraction("0.091")
    assert found.split_residual_kgco2e == 0
    assert found.split_estimated


def test_other_factors_have_no_split():
    """OWID's factors have no components, even for France: they are absent, never ADEME's or zero."""
    assert emissions(Fraction(10), OWID_FR_2023).losses_kgco2e is None
    found = emissions(Fraction(10), choose("DE", 2023).factor)
    assert found == Emissions(found.total_kgco2e)


def test_sums_keep_components_only_where_all_have_them():
    """FR + FR has components; FR + DE has only a total."""
    france = emissions(Fraction(10_000), ADEME_2022)
    later = emissions(Fraction(10_000), ADEME_2024)
    both = sum_emissions([france, later])
    assert both.total_kgco2e == 1039
    assert both.combustion_kgco2e == 338 + Fraction("337.35")
    assert both.split_estimated is True
    mixed = sum_emissions([france, emissions(Fraction(1), choose("DE", 2023).factor)])
    assert mixed.combustion_kgco2e is None
    with pytest.raises(ValueError, match="nothing"):
        sum_emissions([])


@given(st.integers(0, 10**18), st.integers(0, 10**18))
def test_grams_add_up(one: int, other: int):
    """Emissions of a sum are the exact sum of emissions, at any size."""
    factor = ADEME_2022.total_kgco2e_per_kwh
    together = grams_from_millijoules(one + other, factor)
    assert together == grams_from_millijoules(one, factor) + grams_from_millijoules(other, factor)
    assert grams_from_millijoules(3_600_000_000, factor) == 52


def test_the_factors_uncertainty():
    """A published ± 10 % is ln(1.1)/2; while provisional, 0.108 is added in quadrature, not halved."""
    assert factor_u(choose("FR", 2022)) == pytest.approx(math.log(1.1) / 2)
    assert factor_u(choose("FR", 2026)) == pytest.approx(math.hypot(math.log(1.1) / 2, 0.108))


def test_the_interval_is_multiplicative():
    """The interval is value·exp(∓1.959964·u): u = 0.0163649 of docs/methodology.md §13 gives 1,088,520 to
    1,160,636 around 1,124,000."""
    low, high = interval(1_124_000, 0.0163649)
    # docs/methodology.md §13 prints six digits of u, so the ends agree to a few kWh.
    assert low == pytest.approx(1_088_520, abs=25)
    assert high == pytest.approx(1_160_636, abs=25)


def test_a_pedigree_of_nothing_known():
    """docs/methodology.md §13: without any score, GSD² is 2.5163566012590954."""
    assert pedigree_gsd2({}) == pytest.approx(2.5163566012590954, abs=1e-15)
    assert (
        pedigree_gsd2(dict.fromkeys(pedigree_coefficients()))
        == pedigree_gsd2({})
        == pedigree_gsd2(dict.fromkeys(pedigree_coefficients(), 1))
    )


def test_a_pedigree_that_is_all_very_good_is_exact():
    """Score 5 for every characteristic gives GSD² 1."""
    assert pedigree_gsd2(dict.fromkeys(pedigree_coefficients(), 5)) == 1.0


def test_a_pedigree_of_one_characteristic():
    """One score of 2 beside very good ones gives the U of that characteristic, 1.5."""
    scores = {**dict.fromkeys(pedigree_coefficients(), 5), "technicalRepresentativeness": 2}
    assert pedigree_gsd2(scores) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ({"beauty": 3}, "unknown characteristic 'beauty'"),
        ({"reliability": 6}, "score 6 of reliability"),
        ({"completeness": 0}, "score 0"),
    ],
)
def test_what_is_no_score_of_a_pedigree(scores, said):
    """The error names the characteristic or the score."""
    with pytest.raises(ValueError, match=said):
        pedigree_gsd2(scores)


def test_a_pedigree_as_a_column():
    """Characteristics are in the order of the table, with a question mark for an unknown score."""
    assert format_pedigree({"completeness": 4, "reliability": 5}) == (
        "reliability=5 technicalRepresentativeness=? geographicRepresentativeness=? temporalRepresentativeness=? completeness=4"
    )
