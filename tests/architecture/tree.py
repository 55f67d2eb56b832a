# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Lists the project's files for the architecture tests."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOTS = ("agent", "collector", "proto")
"""Path roots: folders on the path, never packages."""

# Not ours or not kept, as in .gitignore. The tree is walked without git, so that a tarball passes too.
_SKIPPED = {".git", "__pycache__", "var", "dist", "build", "node_modules"}
_CACHES = (".venv", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".import_linter")


def files(*suffixes: str, under: Path = ROOT) -> Iterator[Path]:
    """Yield our files below `under`, sorted; if suffixes (or exact names) are given, only files with one."""
    for folder, folders, names in os.walk(under):
        at_top = Path(folder) == ROOT
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(_CACHES) and (name not in _SKIPPED or (name == "var" and not at_top))
        )
        for name in sorted(names):
            if (at_top and name == "uv.lock") or name.startswith(".coverage"):
                continue
            if not suffixes or name.endswith(suffixes):
                yield Path(folder) / name


def may_name(text: str, names: Iterable[str]) -> bool:
    """Return whether one of these identifiers is a word of a source, so that it is worth parsing."""
    return re.search(rf"\b(?:{'|'.join(names)})\b", text) is not None


def is_generated(file: Path) -> bool:
    """Return whether the generator of the wire code wrote a file."""
    return file.stem.endswith(("_pb2", "_pb2_grpc"))
