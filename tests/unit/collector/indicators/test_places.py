# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests that a new indicator is in all its places: docs/development/changes.md, "publish a new indicator"."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

from tests.architecture.tree import ROOT
from veilleuse.collector import indicators
from veilleuse.collector.documents.document import LANGUAGES
from veilleuse.collector.documents.text import texts_of
from veilleuse.collector.indicators import SERVERS, TABLE, IndicatorInput, load_indicator
from veilleuse.collector.model.indicators import PCS, Figure
from veilleuse.collector.release.indicators import RULES
from veilleuse.collector.reports.indicators_document import SOBRIETY_ASSUMPTIONS

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


def named_ids(text: str) -> set[str]:
    """Return the ids that a text names, also those inside a range such as "I1 to I7"."""
    found = re.findall(r"\bI(\d+)(?: to I(\d+))?", text)
    return {f"I{number}" for first, last in found for number in range(int(first), int(last or first) + 1)}


def test_each_file_is_in_the_table():
    """An indicator without its line in TABLE would never be computed."""
    written = {
        f"{name}:{made.__name__}"
        for _, name, _ in iter_modules(indicators.__path__)
        for made in vars(import_module(f"{indicators.__name__}.{name}")).values()
        if isinstance(made, type) and hasattr(made, "meta") and made.__module__.endswith(f".{name}")
    }
    differing = written ^ {line.place for line in TABLE.values()}
    assert not differing, f"add to TABLE in indicators/__init__.py, or remove from it: {sorted(differing)}"


@pytest.mark.parametrize("identifier", TABLE)
def test_parts_have_one_entry_per_gauge(identifier: str):
    """With another number of parts, /metrics would fail: zip() refuses it."""
    gauges = TABLE[identifier].gauges
    assert len(load_indicator(identifier).parts(Figure(None, 0))) == len(gauges), (
        f"`parts` of {identifier} must return one mapping for each of its gauges in TABLE, in any case: {gauges}"
    )


@pytest.mark.parametrize("identifier", TABLE)
def test_an_indicator_has_its_row_in_the_methodology(identifier: str):
    """Formula, threshold and direction are published in docs/methodology.md §12."""
    _, _, section = METHOD.partition("\n## 12. ")
    assert f"\n| {identifier} |" in section.partition("\n## ")[0], (
        f"add the row of {identifier} to the table of docs/methodology.md, section 12"
    )


def test_each_indicator_is_in_the_note_about_its_days():
    """A report must say of which part of its period an indicator is."""
    missing = TABLE.keys() - named_ids(" ".join(SOBRIETY_ASSUMPTIONS))
    assert not missing, (
        "say its days in SOBRIETY_ASSUMPTIONS of reports/indicators_document.py, with the French in [notes] of "
        f"documents/locale/fr.toml: {missing}"
    )


@pytest.mark.parametrize("objective", ["1", "2"])
def test_each_objective_names_its_indicators(objective: str):
    """docs/reen.md tells what is computed for an objective."""
    (row,) = re.findall(rf"^\| {objective}° .*", (ROOT / "docs" / "reen.md").read_text("utf-8"), re.M)
    differing = named_ids(row) ^ {one for one, line in TABLE.items() if line.objective == objective}
    assert not differing, f"correct the row {objective}° of docs/reen.md: {differing}"


def test_each_worked_example_is_computed():
    """A worked example without a test could be wrong."""
    missing = TABLE.keys() - computed_ids()
    assert not missing, f"test the docstring's example in tests/unit/collector/indicators/: {missing}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_indicator_is_in_the_glossary(language: str):
    """The pages link each indicator to its entry of the glossary; of PCs with gauges they show the note."""
    gauged = {identifier: line for identifier, line in TABLE.items() if line.gauges}
    noted = [
        f"{name}_note"
        for name, line in gauged.items()
        if line.made_of is IndicatorInput.MACHINES and line.populations != SERVERS
    ]
    texts = texts_of(f"pages.{language}.toml")
    for section, keys in (
        ("glossary", [f"{name}_text" for name in TABLE]),
        ("sobriety", noted),
    ):
        missing = set(keys) - texts[section].keys()
        assert not missing, f"add to [{section}] of documents/locale/pages.{language}.toml: {sorted(missing)}"


def test_only_sums_and_machines_have_gauges():
    """/metrics computes no other indicator, so its gauges would never have a sample."""
    computed = (IndicatorInput.SUMS, IndicatorInput.MACHINES)
    silent = [name for name, line in TABLE.items() if line.gauges and line.made_of not in computed]
    assert not silent, f"remove the gauges from TABLE: {silent}"


def test_each_gauge_over_pcs_has_a_disclosure_rule():
    """An indicator of PCs without a rule is published nowhere."""
    of_pcs = {
        identifier
        for identifier, line in TABLE.items()
        if line.gauges and line.made_of is IndicatorInput.MACHINES and line.populations & PCS
    }
    differing = of_pcs ^ {rule.indicator for rule in RULES}
    assert not differing, f"add to RULES in release/indicators.py, or remove from it: {differing}"
