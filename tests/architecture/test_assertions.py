# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Each test can fail: it asserts something, itself or by a helper of the tests that does."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.architecture.tree import ROOT, ROOTS, files

FAILS: Final = {"raises", "fail", "warns", "golden", "run_state_machine_as_test"}
"""Functions of pytest and Hypothesis, and our fixture, that fail a test."""
DEPTH: Final = 2
"""How many helpers may stand between a test and the assertion."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[Function]:
    """Yield every function and method of a module."""
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def asserts(node: ast.AST) -> bool:
    """Return whether it has an assertion of its own."""
    return any(isinstance(one, ast.Assert) for one in ast.walk(node)) or bool(FAILS & set(called(node)))


def called(node: ast.AST) -> Iterator[str]:
    """Yield the names that it calls, or passes to what it calls."""
    for one in ast.walk(node):
        if isinstance(one, ast.Call):
            for name in (one.func, *one.args, *(word.value for word in one.keywords)):
                if isinstance(name, ast.Attribute):
                    yield name.attr
                elif isinstance(name, ast.Name):
                    yield name.id


@cache
def trees() -> dict[Path, ast.Module]:
    """Return the files of tests."""
    fixtures = ROOT / "tests" / "fixtures"
    return {
        file: ast.parse(file.read_text("utf-8"))
        for file in files(".py", under=ROOT / "tests")
        if fixtures not in file.parents
    }


@cache
def helpers() -> frozenset[str]:
    """Return the names of functions of the tests that assert; none that the product has too."""
    product = {
        one.name
        for root in ROOTS
        for file in files(".py", under=ROOT / root)
        for one in functions(ast.parse(file.read_text("utf-8")))
    }
    every = [one for tree in trees().values() for one in functions(tree) if one.name not in product]
    found = {one.name for one in every if asserts(one)}
    for _ in range(DEPTH - 1):
        found |= {one.name for one in every if not found.isdisjoint(called(one))}
    return frozenset(found)


def without_assertion(tree: ast.Module, known: frozenset[str]) -> Iterator[Function]:
    """Yield the tests of a module that only run code."""
    own = {one.name for one in functions(tree) if asserts(one)}
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("tests.")
        for alias in node.names
    }
    for test in functions(tree):
        if test.name.startswith("test_") and not asserts(test):
            names = set(called(test))
            if names.isdisjoint(own | known | (imported & asserting_imports())):
                yield test


@cache
def asserting_imports() -> frozenset[str]:
    """Return all helpers that assert: an import tells which is meant where the product has the name too."""
    return frozenset(one.name for tree in trees().values() for one in functions(tree) if asserts(one))


@pytest.mark.parametrize(
    ("code", "is_found"),
    [
        ("def test_a(): run()", True),
        ("def test_a():\n    try:\n        run()\n    except ValueError:\n        pass", True),
        ("def test_a(): assert run()", False),
        ("def test_a():\n    with pytest.raises(ValueError):\n        run()", False),
        ("def check(x): assert x\ndef test_a(): check(1)", False),
        ("def check(x): assert x\ndef test_a(): each(check)", False),
    ],
)
def test_a_test_that_only_runs_code_is_found(code: str, is_found: bool) -> None:
    """An assertion, an expected error, or a helper that asserts."""
    assert bool(list(without_assertion(ast.parse(code), frozenset()))) is is_found


def test_each_test_asserts_something() -> None:
    """A test whose body asserts nothing is green whatever the code gives."""
    found = [
        f"{file.relative_to(ROOT)}:{test.lineno} {test.name}"
        for file, tree in trees().items()
        if file.name.startswith("test_")
        for test in without_assertion(tree, helpers())
    ]
    assert not found, "assert what the code gives, or delete the test"
