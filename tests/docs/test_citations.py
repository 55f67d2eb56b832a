# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Cited pages, numbered sections, guarantees, decision records, links and anchors exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from tests.architecture.tree import ROOT, files

DOCS: Final = ROOT / "docs"
OUTSIDE: Final = re.compile(r"\b(?:METHOD|PROMISES|DESIGN|SENSORS|STYLE|HOUSE)(?:\.md\b|'s\b| §)")
"""Pages that are not in the repository: its readers cannot look them up."""
PAGE: Final = re.compile(r"(?<![\w/])docs/(?:[\w-]+/)*[\w-]+\.md\b")
SECTIONS: Final = re.compile(r"\bdocs/([\w-]+\.md)((?:,? (?:and |to )?§\d+)+|,? section \d+)")
LINKED_SECTION: Final = re.compile(r"\]\(([\w-]+\.md)\)(, section \d+)")
GUARANTEES: Final = re.compile(r"\bdocs/guarantees\.md((?:,? (?:and |to )?[RSP]\d+)+)")
DECISION: Final = re.compile(r"\b[Dd]ecisions?[/ ](\d{4})\b")
LINK: Final = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")
ELSEWHERE: Final = {"docs/CONTROL_GROUP_INTERFACE.md", "docs/UIDS-GIDS.md", "docs/explanation/rapl.md"}
"""Pages of other projects. Pages that a fixture's PROVENANCE.md cites are other projects' too."""


@cache
def texts() -> dict[str, str]:
    """Return path → text of each text file of the project."""
    found = {}
    for file in files():
        try:
            found[file.relative_to(ROOT).as_posix()] = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return found


def matches(pattern: re.Pattern[str]) -> Iterator[tuple[str, re.Match[str]]]:
    """Yield (path:line, match) of each match of a pattern in the project."""
    for path, text in texts().items():
        for match in pattern.finditer(text):
            yield f"{path}:{text.count(chr(10), 0, match.start()) + 1}", match


@cache
def headings(page: Path) -> list[str]:
    """Return the headings of a page, without `#`."""
    return re.findall(r"^#{1,4} (.+)$", page.read_text(encoding="utf-8"), re.M)


def numbers(name: str) -> list[str]:
    """Return the numbers of the sections of a page of docs/; none where the page is missing."""
    page = DOCS / name
    numbered = (re.match(r"(\w+)\. ", heading) for heading in headings(page)) if page.exists() else ()
    return [found[1] for found in numbered if found]


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings(page)}


def test_nothing_outside_the_repository_is_cited():
    """No page outside the repository is cited: a reader could not look it up."""
    assert [f"{where} {match[0]}" for where, match in matches(OUTSIDE)] == []


def test_cited_pages_and_decisions_exist():
    """Each `docs/….md` and decision record exists that code, settings, fixtures and documentation cite."""
    cited = [
        (where, match[0])
        for where, match in matches(PAGE)
        if match[0] not in ELSEWHERE and "PROVENANCE.md:" not in where
    ]
    assert len(cited) > 100
    assert [(where, page) for where, page in cited if not (ROOT / page).exists()] == []
    records = {file.name[:4] for file in (DOCS / "decisions").glob("*.md")}
    assert [(where, match[0]) for where, match in matches(DECISION) if match[1] not in records] == []


def test_cited_sections_exist():
    """Each section exists that is cited behind a page of docs/ or behind a link to one."""
    cited = [*matches(SECTIONS), *matches(LINKED_SECTION)]
    assert len(cited) > 50
    missing = [
        (where, match[0])
        for where, match in cited
        if not set(re.findall(r"\d+", match[2])) <= set(numbers(match[1]))
    ]
    assert missing == []


def test_sections_are_numbered_once_and_without_letters():
    """A page that numbers its sections numbers them 1, 2, 3 …, in order."""
    for page in DOCS.glob("*.md"):
        found = numbers(page.name)
        assert found == [str(number) for number in range(1, len(found) + 1)], page.name


def test_cited_guarantees_exist():
    """Cited R, S and P ids stand in the tables of docs/guarantees.md."""
    told = set(re.findall(r"^\| ([RSP]\d+) \|", (DOCS / "guarantees.md").read_text(encoding="utf-8"), re.M))
    for where, match in matches(GUARANTEES):
        assert set(re.findall(r"[RSP]\d+", match[1])) <= told, where


def test_links_lead_somewhere():
    """Each relative link of the documentation leads to an existing file, and its anchor to a heading."""
    broken = []
    for page in [*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "deploy").rglob("*.md")]:
        for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
            there = page.parent / target if target else page
            if "://" in target:
                continue
            if not there.exists() or (anchor and anchor not in anchors(there)):
                broken.append(f"{page.relative_to(ROOT)}: {target}#{anchor}")
    assert broken == []


def test_decision_records_are_complete():
    """Record 0000 is the template; each record has a number of its own, a date and a state."""
    records = sorted((DOCS / "decisions").glob("*.md"))
    assert len({file.name[:4] for file in records}) == len(records) <= 20
    for file in records:
        text = file.read_text(encoding="utf-8")
        assert text.startswith(f"# {'NNNN' if file.name.startswith('0000') else file.name[:4]}. ")
        assert "- Date: " in text
        assert "- State: " in text
