# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Pedigree after ABC, and rounding for people."""

from __future__ import annotations

import pytest

from veilleuse.collector.account.emissions import format_pedigree, pedigree_coefficients, pedigree_gsd2
from veilleuse.collector.account.rounding import round_interval


def test_nothing_known():
    """docs/methodology.md §13: all scores null, GSD² 2.5163566012590954."""
    assert pedigree_gsd2({}) == pytest.approx(2.5163566012590954, abs=1e-15)
    assert (
        pedigree_gsd2(dict.fromkeys(pedigree_coefficients()))
        == pedigree_gsd2({})
        == pedigree_gsd2(dict.fromkeys(pedigree_coefficients(), 1))
    )


def test_all_very_good_is_exact():
    """Score 5 everywhere: GSD² 1."""
    assert pedigree_gsd2(dict.fromkeys(pedigree_coefficients(), 5)) == 1.0


def test_one_characteristic():
    """The others very good, a technical representativeness of 2: its U, 1.5."""
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
def test_what_is_no_score(scores, said):
    """Named."""
    with pytest.raises(ValueError, match=said):
        pedigree_gsd2(scores)


def test_as_a_column():
    """In the table's order; a question mark for what is not known."""
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
    """Two digits of the half-width, the same place for all three."""
    assert round_interval(figure) == told
