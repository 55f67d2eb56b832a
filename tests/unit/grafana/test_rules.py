# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the rules with promtool: their syntax and their own unit tests."""

from __future__ import annotations

import pytest

from tests.architecture.tree import ROOT
from tests.support.peers import peer
from tests.support.processes import ran

RULES = ROOT / "grafana/rules"


@pytest.mark.parametrize(
    "words", [("check", "rules", "--lint-fatal", "veilleuse.yml"), ("test", "rules", "veilleuse_test.yml")]
)
def test_promtool(words):
    """promtool ends with 0."""
    done = ran([peer("promtool"), *words], cwd=RULES, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
