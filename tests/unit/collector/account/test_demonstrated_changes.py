# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A change is demonstrated on like coverage and where intervals do not overlap: docs/methodology.md §10."""

from __future__ import annotations

import pytest

from veilleuse.collector.account.change import ChangeObstacle, PeriodFacts, why_not_demonstrated

LOW, HIGH = (90.0, 110.0), (120.0, 140.0)


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (0.033, 0.227, ChangeObstacle.COVERAGE),
        (0.227, 0.033, ChangeObstacle.COVERAGE),
        (0.0, 0.2, ChangeObstacle.COVERAGE),
        (0.2, 0.31, ChangeObstacle.COVERAGE),
        (0.2, 0.3, None),
        (0.0, 0.0, None),
    ],
)
def test_unlike_coverage_demonstrates_nothing(before: float, after: float, reason: ChangeObstacle | None):
    """From 3.3 to 22.7 % of a class nothing is demonstrated, though the intervals do not overlap."""
    old, new = (PeriodFacts({"sff": share, "laptop": 0.5}, (LOW,)) for share in (before, after))
    new = new._replace(ends=(HIGH,))
    assert why_not_demonstrated(old, new) is reason


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        ((HIGH, HIGH), None),
        (((60.0, 80.0), (60.0, 80.0)), None),
        ((HIGH, LOW), ChangeObstacle.INTERVALS),
        (((110.0, 130.0), HIGH), ChangeObstacle.INTERVALS),
        ((None, HIGH), ChangeObstacle.INTERVALS),
    ],
)
def test_each_quantity_that_is_told_has_intervals_apart(after, reason):
    """Energy and emissions both differ beyond their intervals; an unknown interval demonstrates nothing."""
    assert why_not_demonstrated(PeriodFacts({}, (LOW, LOW)), PeriodFacts({}, after)) is reason
