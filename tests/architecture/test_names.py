# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A folder is a process, a stage or a concept, a file and a class are nouns, and one name means one thing on
a side. docs/architecture.md."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT, files, is_generated

SIDES = {"agent": ROOT / "agent/veilleuse/agent", "collector": ROOT / "collector/veilleuse/collector"}
ROOT_MODULES = {"agent": 8, "collector": 13}
FOLDER_MODULES = 20
LISTS = frozenset({"sources", "indicators", "commands", "cli", "store/sqlite"})
"""Folders with one file for each way of measuring, indicator, command or table."""
VERBAL = re.compile(r"(?:ed|ing)$")
NOUNS = re.compile(r"(?:Reading|Mapping|Finding|Ring|Accounting|Missing)$")
"""Nouns that end like participles."""
MODULES = {
    "agent/sources/polled": "the source's name, in settings and in records",
    "collector/account/market_based": "the GHG Protocol's term",
    "collector/account/rounding": "a noun",
    "collector/cli/published": "the command's name",
    "collector/cli/shared": "what all commands share: no command of its own",
    "collector/enrolment/issuing": "a noun",
    "collector/inventory/mapping": "a noun",
    "collector/inventory/matching": "a noun",
}
"""Modules whose names end like participles, each with the reason."""


def modules(side: str) -> Iterator[tuple[str, Path]]:
    """Yield (path below the package without its ending, file)."""
    for file in files(".py", under=SIDES[side]):
        if not is_generated(file):
            yield str(file.relative_to(SIDES[side]).with_suffix("")), file


@cache
def classes(file: Path) -> dict[str, list[str]]:
    """Return the public classes that a file defines, with the names of their bases."""
    return {
        node.name: [ast.unparse(base) for base in node.bases]
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    }


@pytest.mark.parametrize("side", SIDES)
def test_a_folder_can_be_looked_over(side: str) -> None:
    """The root has few modules, and each folder that is not in LISTS at most 20."""
    found: defaultdict[str, int] = defaultdict(int)
    for name, _ in modules(side):
        found[name.rpartition("/")[0]] += not name.endswith("__init__")
    root = found.pop("")
    assert root <= ROOT_MODULES[side]
    assert {
        folder: number for folder, number in found.items() if number > FOLDER_MODULES and folder not in LISTS
    } == {}


@pytest.mark.parametrize("side", SIDES)
def test_one_name_means_one_thing(side: str) -> None:
    """No two public classes of a side share a name."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for name, file in modules(side):
        for one in classes(file):
            places[one].append(name)
    assert {one: found for one, found in places.items() if len(found) > 1} == {}


@pytest.mark.parametrize("side", SIDES)
def test_modules_and_classes_are_nouns(side: str) -> None:
    """No module or class is named by a participle. An error is named by what failed, as Python's own are."""
    named = {f"{side}/{name}" for name, _ in modules(side) if VERBAL.search(name)}
    assert named - set(MODULES) == set()
    assert {name for name in MODULES if name.startswith(side)} - named == set(), "not there any more"
    verbal = [
        f"{name}: {one}"
        for name, file in modules(side)
        for one in classes(file)
        if VERBAL.search(one) and not NOUNS.search(one) and not is_an_error(file, one)
    ]
    assert verbal == []


def is_an_error(file: Path, name: str) -> bool:
    """Return whether a class derives from an error, judged by the name of its base."""
    return any(base.endswith(("Error", "Exception", "Away", "Damaged")) for base in classes(file)[name])
