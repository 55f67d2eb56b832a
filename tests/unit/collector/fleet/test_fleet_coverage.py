# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The 95 % interval contains the truth about 95 times in 100: few fleets, a thousand in the long test."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean, median

import pytest

from tests.bench.estimator import BAND, FLEETS, coverage
from tests.bench.independent_coverage import AT_RANDOM, LOST, ROW_SIZES, WIDEST, measure
from tests.support.simulated_fleets import Shape

QUICK = {
    "plain": Shape(((40, 10), (80, 30))),
    "always on": Shape(((60, 10),) * 2, always_on=0.1),
    "thin": Shape(((30, 0), (30, 4), (30, 8), (40, 12)) * 3, between=0.15),
    "mid-year": Shape(((40, 12), (50, 15)), late=True),
    "weeks": Shape(((40, 12), (50, 15)), late=True, weeks=True),
    "old first": Shape(((80, 25), (60, 20)), models=True, random_roll_out=False),
}


@pytest.mark.parametrize("name", QUICK)
def test_the_interval_holds_the_truth(name):
    """90 to 99 % of 200 fleets are covered (999 times in 1,000); a biased one is not demonstrated."""
    found = coverage(QUICK[name], 200, seed=11)
    assert 0.90 <= found.held <= 0.99
    assert abs(found.bias) < 0.03
    if name == "old first":
        assert found.not_demonstrated == 200


def test_independent_fleets():
    """85 % of totals and rows of 60 independently made fleets are covered, which chance misses once in a
    thousand. No lower bound is below what was measured."""
    found = measure(replace(AT_RANDOM["2 to 24 entities"], entities=(1, 6)), 60, seed=3)
    assert fmean(found.held) >= 0.85
    assert fmean(held for _, size in ROW_SIZES for held in found.sizes[size]) >= 0.85
    assert median(found.widths) <= WIDEST * median(found.oracle_widths)
    assert not found.undercut


def test_lost_days_off_are_told():
    """With half of the days off lost, no total is reported as demonstrated; with none lost, all are."""
    lost, whole = (
        measure(replace(LOST[f"{share} of the days off lost"], entities=(3, 3)), 5, seed=3)
        for share in ("50%", "0%")
    )
    assert not lost.demonstrated
    assert len(whole.demonstrated) == 5


@pytest.mark.long
@pytest.mark.parametrize("name", AT_RANDOM)
def test_a_thousand_independent_fleets(name):
    """93 to 97 % of totals and 90 % of every size are covered, within 1.25 oracle half-widths."""
    assert measure(AT_RANDOM[name], 1000, seed=5).outside() == []


@pytest.mark.long
@pytest.mark.parametrize("name", LOST)
def test_what_is_demonstrated_holds(name):
    """However many days off are lost, 93 % of the totals reported as demonstrated are covered."""
    told = measure(LOST[name], 200, seed=5).demonstrated
    assert not told or fmean(told) >= BAND[0]


@pytest.mark.long
@pytest.mark.parametrize("name", FLEETS)
def test_a_thousand_fleets(name):
    """93 to 97 % of 1,000 fleets of every shape are covered; a biased roll-out is never demonstrated."""
    found = coverage(FLEETS[name], 1000, seed=5)
    assert BAND[0] <= found.held <= BAND[1]
    assert FLEETS[name].random_roll_out or found.not_demonstrated == 1000
