# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests the table of installation steps."""

from __future__ import annotations

import pytest

from tests.install import steps


def test_a_failed_step_is_in_the_table(monkeypatch):
    """The table has each step with its result; an error is noted and not swallowed."""
    monkeypatch.setattr(steps, "TAKEN", [])
    with steps.step("Debian 13", "install agent") as taken:
        taken.result = "active"
    with pytest.raises(ValueError, match="no package"), steps.step("Debian 13", "upgrade"):
        raise ValueError("no package\nand more")
    head, first, second = steps.table(steps.TAKEN).splitlines()
    assert head.split() == ["system", "step", "seconds", "result"]
    assert first.split() == ["Debian", "13", "install", "agent", "0.0", "active"]
    assert second.endswith("FAILED: ValueError: no package")
