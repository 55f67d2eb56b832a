# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Chooses the unit tests that a change touches: by imports, nearest first."""

from __future__ import annotations

import ast
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import grimp

from tests.support.processes import ran

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("veilleuse.agent", "veilleuse.collector", "veilleuse.wire", "tests")
PATHS: Final = ("agent", "collector", "proto")
"""Path roots: a module's file is below one of them, or, of tests, below the repository."""
NEAR: Final = 0.5
"""What a file of tests is nearer by, in imports, if it names a function or a class that changed."""
COMMITTED: Final = 100.0
"""What a change since an earlier commit is farther than one of the working tree."""
HUNK: Final = re.compile(r"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", re.MULTILINE)
"""First line and number of lines, before and after."""


@dataclass(frozen=True)
class Change:
    """A file that changed."""

    path: str
    names: frozenset[str] = frozenset()
    """Functions, methods and classes whose lines changed."""


def changes(base: str, tree: str) -> list[Change]:
    """Return what differs between two trees of git, with the names that changed."""
    return [
        Change(path, _names(base, tree, path))
        for path in _git("diff", "--name-only", "--no-renames", base, tree).splitlines()
    ]


def committed(base: str) -> list[str]:
    """Return the files that were committed since `base`."""
    return _git("diff", "--name-only", "--no-renames", base, "HEAD").splitlines()


def current_tree(folder: Path) -> str:
    """Return the git tree of the working tree as it is, with what is not committed."""
    index = folder / "index"
    index.write_bytes(Path(ROOT, _git("rev-parse", "--git-path", "index").strip()).read_bytes())
    environment = {"GIT_INDEX_FILE": str(index)}
    _git("add", "--all", environment=environment)
    return _git("write-tree", environment=environment).strip()


def touched(changed: Iterable[Change], before: Iterable[str] = ()) -> dict[Path, float]:
    """Return test file → its distance, in imports, from the nearest change that it may notice.

    `before`: files of earlier commits, which come after all of `changed`.
    """
    graph = grimp.build_graph(*PACKAGES, cache_dir=str(ROOT / ".pytest_cache" / "grimp"))
    tests = {file: module_of(file) for file in (ROOT / "tests").rglob("test_*.py")}
    texts = {file: file.read_text("utf-8") for file in tests}
    earlier = _distances(graph, {module for path in before for module in _modules(path, graph.modules)})
    found = {file: COMMITTED + earlier[module] for file, module in tests.items() if module in earlier}
    for change in changed:
        distances = _distances(graph, _modules(change.path, graph.modules))
        named = _pattern(change)
        for file, module in tests.items():
            is_named = named is not None and named.search(texts[file]) is not None
            distance = distances.get(module, math.inf)
            if is_named and not change.path.endswith(".py"):
                distance = min(1.0, distance)
            found[file] = min(distance - NEAR * is_named, found.get(file, math.inf))
    reached = ((file, far) for file, far in found.items() if far < math.inf)
    return dict(sorted(reached, key=lambda one: (one[1], str(one[0]))))


def module_of(file: Path) -> str:
    """Return the name of a file's module."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[1:] if parts[0] in PATHS else parts).removesuffix(".__init__")


def _modules(path: str, known: set[str]) -> set[str]:
    """Return the module of a file; of data and texts, the modules that lie beside them."""
    file = ROOT / path
    if file.suffix == ".py":
        return {module_of(file)} & known
    folder = file.parent
    while not any(folder.glob("*.py")) and ROOT in folder.parents:
        folder = folder.parent
    return {module_of(one) for one in folder.glob("*.py")} & known


def _distances(graph: grimp.ImportGraph, start: set[str]) -> dict[str, float]:
    """Return module → imports between it and the nearest module of `start`, of those that import it."""
    distances = dict.fromkeys(start, 0.0)
    edge, far = start, 0.0
    while edge:
        far += 1
        edge = {
            after for one in edge for after in graph.find_modules_that_directly_import(one)
        } - distances.keys()
        distances |= dict.fromkeys(edge, far)
    return distances


def _pattern(change: Change) -> re.Pattern[str] | None:
    """Return what finds the names of a change in a text: its functions, or the file's own name."""
    names = change.names if change.path.endswith(".py") else frozenset({Path(change.path).name})
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, names))})\b") if names else None


def _names(base: str, tree: str, path: str) -> frozenset[str]:
    if not path.endswith(".py"):
        return frozenset()
    hunks = HUNK.findall(_git("diff", "-U0", base, tree, "--", path))
    names = set[str]()
    for side, place in ((base, 0), (tree, 2)):
        lines = {
            line
            for hunk in hunks
            for line in range(int(hunk[place]), int(hunk[place]) + int(hunk[place + 1] or 1))
        }
        names |= {
            node.name
            for node in _definitions(_git("show", f"{side}:{path}", check=False))
            if not lines.isdisjoint(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        }
    return frozenset(names)


@cache
def _definitions(source: str) -> tuple[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, ...]:
    try:
        tree = ast.parse(source)
    except SyntaxError:  # the linter names it
        return ()
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return tuple(node for node in ast.walk(tree) if isinstance(node, kinds))


def _git(*words: str, check: bool = True, environment: Mapping[str, str] | None = None) -> str:
    return ran(["git", "-C", ROOT, *words], check=check, env={**os.environ, **(environment or {})}).stdout
