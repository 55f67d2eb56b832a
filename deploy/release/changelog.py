# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Makes a section of CHANGELOG.md from the fragments of changelog.d/ (their names: changelog.d/README.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

HEADINGS: Final = {
    "breaking": "Breaking",
    "security": "Security",
    "added": "Added",
    "changed": "Changed",
    "removed": "Removed",
    "fixed": "Fixed",
}
"""Kind of a fragment → its heading, in the order of a section."""
TITLE: Final = "# Changelog\n\n"


def fragments(folder: Path) -> list[Path]:
    """Return the fragments by number of their issue. Raises ValueError for a name of another form."""
    found = [file for file in folder.glob("*.md") if file.name != "README.md"]
    for file in found:
        issue, _, rest = file.name.partition(".")
        if not issue.isdigit() or rest.split(".")[0] not in HEADINGS:
            raise ValueError(
                f"{file} is no fragment: name it <issue>.<kind>.md, one of {', '.join(HEADINGS)}"
            )
    return sorted(found, key=lambda file: (int(file.name.partition(".")[0]), file.name))


def section(version: str, day: str, files: list[Path]) -> str:
    """Return the section of a version: each fragment is one item, under the heading of its kind."""
    text = [f"## {version} ({day})\n"]
    for kind, heading in HEADINGS.items():
        items = [item_of(file) for file in files if file.name.split(".")[1] == kind]
        if items:
            text += [f"### {heading}", *items, ""]
    return "\n".join(text)


def item_of(file: Path) -> str:
    """Return a fragment as an item of a list, with its links as seen from the folder above."""
    text = file.read_text(encoding="utf-8").strip().replace("](../", "](")
    return "- " + text.replace("\n", "\n  ")


def with_section(changelog: str, text: str) -> str:
    """Return the changelog with a new section before the older ones."""
    return TITLE + text + ("\n" + older if (older := changelog.removeprefix(TITLE)) else "")


def last_section(changelog: str) -> str:
    """Return the newest section."""
    return "## " + changelog.split("\n## ", 2)[1].rstrip() + "\n"
