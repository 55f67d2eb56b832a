# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The pedigree of ABC, and rounding for people."""

from __future__ import annotations

import math

import pytest

from veilleuse.collector.account.pedigree import coefficients, format_pedigree, gsd2, u
from veilleuse.collector.account.rounding import round_interval


def test_nothing_known():
    """With all scores null, GSD² is 2.5163566012590954 (docs/methodology.md §13)."""
    assert gsd2({}) == pytest.approx(2.5163566012590954, abs=1e-15)
    assert gsd2(dict.fromkeys(coefficients())) == gsd2({}) == gsd2(dict.fromkeys(coefficients(), 1))


def test_all_very_good_is_exact():
    """Score 5 everywhere gives GSD² 1 and u 0."""
    assert gsd2(dict.fromkeys(coefficients(), 5)) == 1.0
    assert u(dict.fromkeys(coefficients(), 5)) == 0.0


def test_one_characteristic():
    """With 2 for technical representativeness and 5 elsewhere GSD² is its U, 1.5; u is half its logarithm."""
    scores = {**dict.fromkeys(coefficients(), 5), "technicalRepresentativeness": 2}
    assert gsd2(scores) == pytest.approx(1.5)
    assert u(scores) == pytest.approx(math.log(1.5) / 2)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ({"beauty": 3}, "unknown characteristic 'beauty'"),
        ({"reliability": 6}, "score 6 of reliability"),
        ({"completeness": 0}, "score 0"),
    ],
)
def test_what_is_no_score(scores, said):
    """The error names the score or characteristic."""
    with pytest.raises(ValueError, match=said):
        gsd2(scores)


def test_as_a_column():
    """Scores have the table's order, and unknown ones a question mark."""
    assert format_pedigree({"completeness": 4, "reliability": 5}) == (
        "reliability=5 technicalRepresentativeness=? geographicRepresentativeness=? temporalRepresentativeness=? completeness=4"
    )


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
