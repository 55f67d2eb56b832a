# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The files of the project, as its architecture tests see them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOTS = ("agent", "collector", "proto")
"""The path roots: folders on the path, never packages."""

# Not ours, or not kept: as in .gitignore. Walked rather than asked of git, so that a tarball passes too.
_SKIPPED = {".git", "__pycache__", "var", "dist", "build", "node_modules"}
_CACHES = (".venv", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".import_linter")


def files(*suffixes: str, under: Path = ROOT) -> Iterator[Path]:
    """Every file of ours below `under`, sorted; with one of the suffixes (or exact names) if any is given."""
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


def is_generated(file: Path) -> bool:
    """Whether the wire's generator wrote it."""
    return file.stem.endswith(("_pb2", "_pb2_grpc"))
