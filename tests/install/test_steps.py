# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests the table of installation steps, and what the installation tests keep between runs."""

from __future__ import annotations

import os

import pytest

from tests.install import machines, steps
from tests.support import clock


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


def test_what_is_old_is_removed(tmp_path):
    """Old roots and drafts of ended processes go; lock files of systemd-nspawn are not taken for either."""
    for name in ("trixie-1", "trixie-2", f"trixie-3.{os.getpid()}", "trixie-4.999999999"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (clock.unix_seconds(),) * 2)
    os.utime(tmp_path / "trixie-2", (0, 0))
    (tmp_path / ".#trixie-1.lck").touch()
    machines.remove_old(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"trixie-1", f"trixie-3.{os.getpid()}", ".#trixie-1.lck"}
