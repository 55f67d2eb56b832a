# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests that a new indicator is in all its places: CONTRIBUTING.md, "publish a new indicator"."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT
from veilleuse.collector.indicators import TABLE, IndicatorInput
from veilleuse.collector.model.indicators import PCS
from veilleuse.collector.web.metrics.pc_figures import RULES

HERE = Path(__file__).parent
METHOD = (ROOT / "docs" / "methodology.md").read_text(encoding="utf-8")
EXAMPLES = (*HERE.glob("test_*.py"), HERE.parent / "reports" / "test_savings.py")


def computed_ids() -> set[str]:
    """Return the ids that a test with an assertion passes to a function."""
    tests = [
        test
        for file in EXAMPLES
        for test in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(test, ast.FunctionDef) and test.name.startswith("test_")
    ]
    return {
        str(argument.value)
        for test in tests
        if any(isinstance(node, ast.Assert) for node in ast.walk(test))
        for node in ast.walk(test)
        if isinstance(node, ast.Call)
        for argument in node.args[:1]
        if isinstance(argument, ast.Constant)
    }


@pytest.mark.parametrize("identifier", TABLE)
def test_an_indicator_has_its_row_in_the_methodology(identifier: str):
    """Formula, threshold and direction are published in docs/methodology.md §12."""
    _, _, section = METHOD.partition("\n## 12. ")
    assert f"\n| {identifier} |" in section.partition("\n## ")[0]


def test_each_worked_example_is_computed():
    """A worked example without a test could be wrong."""
    assert TABLE.keys() - computed_ids() == set()


def test_each_gauge_over_pcs_has_a_disclosure_rule():
    """Without a rule the gauge is in the catalogue and on the page, but never reported for PCs."""
    of_pcs = {
        identifier
        for identifier, line in TABLE.items()
        if line.gauges and line.made_of is IndicatorInput.MACHINES and line.populations & PCS
    }
    assert of_pcs == RULES.keys()
