# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Two lines at the top of each file name its copyright holders and its licence."""

from __future__ import annotations

from tests.architecture.tree import ROOT, files, is_generated

COPYRIGHT = "SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers"
LICENCE = "SPDX-License-Identifier: EUPL-1.2"

# Formats of ours that allow comments. LICENSE and data/SOURCES.md cover data (.csv, .json).
COMMENTED = (
    ".conf", ".css", ".html", ".jinja", ".j2", ".proto", ".py", ".rules", ".service", ".sh", ".socket", ".sql", ".timer", ".toml",
    ".yaml", ".yml", ".gitignore", "Makefile", ".ci/run",
)  # fmt: skip


def test_every_file_names_its_licence():
    """Each file that can hold a comment starts with the two SPDX lines (a shebang may come first)."""
    bare = []
    for file in files(*COMMENTED):
        if is_generated(file) or "fixtures" in file.parts:
            continue
        top = "\n".join(file.read_text(encoding="utf-8").splitlines()[:5])
        if COPYRIGHT not in top or LICENCE not in top:
            bare.append(str(file.relative_to(ROOT)))
    assert not bare, f"add the two SPDX lines at the top of: {', '.join(bare)}"


def test_the_licence_is_the_eupl():
    """LICENSE holds the whole EUPL 1.2, appendix included."""
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("EUROPEAN UNION PUBLIC LICENCE v. 1.2")
    assert "Appendix" in text
