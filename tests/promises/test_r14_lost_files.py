# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R14, collector: its files are removed, moved, replaced, cut or damaged while it serves. All cases in one
process: tests/unit/collector/store/test_lost_files.py.
"""

from __future__ import annotations

import pytest

from tests.promises.support.lost import outcome, prepared
from tests.support.lost_files import LOST, Lost

QUICK = "data.db removed"
"""The collector lost the records of 2,778 pushes in the 75 s after this fault, and ended with 0."""


@pytest.mark.promise("R14")
@pytest.mark.parametrize(
    "lost",
    [pytest.param(one, id=str(one), marks=[] if str(one) == QUICK else pytest.mark.long) for one in LOST],
)
def test_nothing_is_acknowledged_after(tmp_path, figure, lost: Lost):
    """`veilleuse serve` ends with a line whose remedy restores acknowledged records, or goes on alone."""
    with prepared(tmp_path) as trial:
        found = outcome(trial, lost)
    figure(found.said())
    assert found.sound, found.report
    if lost.left == "goes on":
        assert found.exit_code is None
        return
    assert found.acknowledged_after == 0
    assert found.exit_code == 1, found.last_line
    assert "nothing was acknowledged since" in found.last_line
