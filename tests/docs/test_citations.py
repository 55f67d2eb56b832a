# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What code and documentation cite is there: pages, numbered sections, guarantees, decision records, links
and anchors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from tests.architecture.tree import ROOT, files

DOCS: Final = ROOT / "docs"
OUTSIDE: Final = re.compile(r"\b(?:METHOD|PROMISES|DESIGN|SENSORS|STYLE|HOUSE)(?:\.md\b|'s\b| §)")
"""Pages that are not in the repository: nobody who has it can look them up."""
PAGE: Final = re.compile(r"(?<![\w/])docs/(?:[\w-]+/)*[\w-]+\.md\b")
SECTIONS: Final = re.compile(r"\bdocs/([\w-]+\.md)((?:,? (?:and |to )?§\d+)+|,? section \d+)")
LINKED_SECTION: Final = re.compile(r"\]\(([\w-]+\.md)\)(, section \d+)")
GUARANTEES: Final = re.compile(r"\bdocs/guarantees\.md((?:,? (?:and |to )?[RSP]\d+)+)")
DECISION: Final = re.compile(r"\b[Dd]ecisions?[/ ](\d{4})\b")
LINK: Final = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")
ELSEWHERE: Final = {"docs/CONTROL_GROUP_INTERFACE.md", "docs/UIDS-GIDS.md", "docs/explanation/rapl.md"}
"""Pages of other projects. What fixtures come from (PROVENANCE.md) are others' pages too."""


@cache
def texts() -> dict[str, str]:
    """Path → text of each text file of the project."""
    found = {}
    for file in files():
        try:
            found[file.relative_to(ROOT).as_posix()] = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return found


def matches(pattern: re.Pattern[str]) -> Iterator[tuple[str, re.Match[str]]]:
    """(path:line, match) of each citation of that kind."""
    for path, text in texts().items():
        for match in pattern.finditer(text):
            yield f"{path}:{text.count(chr(10), 0, match.start()) + 1}", match


@cache
def headings(page: Path) -> list[str]:
    """Headings of a page, without their signs."""
    return re.findall(r"^#{1,4} (.+)$", page.read_text(encoding="utf-8"), re.M)


def numbers(name: str) -> list[str]:
    """Numbers of the sections of a page of docs/; empty where the page is not there."""
    page = DOCS / name
    numbered = (re.match(r"(\w+)\. ", heading) for heading in headings(page)) if page.exists() else ()
    return [found[1] for found in numbered if found]


def anchors(page: Path) -> set[str]:
    """Anchors of a page, as GitHub makes them of headings."""
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings(page)}


def test_nothing_outside_the_repository_is_cited():
    """A citation of a page that only some of us have proves nothing to a reader."""
    assert [f"{where} {match[0]}" for where, match in matches(OUTSIDE)] == []


def test_cited_pages_and_decisions_exist():
    """Each `docs/….md` and each decision record, in code, settings, fixtures and documentation."""
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
    """A page of docs/ with a section behind it, and a link to one likewise."""
    cited = [*matches(SECTIONS), *matches(LINKED_SECTION)]
    assert len(cited) > 50
    missing = [
        (where, match[0])
        for where, match in cited
        if not set(re.findall(r"\d+", match[2])) <= set(numbers(match[1]))
    ]
    assert missing == []


def test_sections_are_numbered_once_and_without_letters():
    """1, 2, 3 …, in order, on each page that numbers its sections."""
    for page in DOCS.glob("*.md"):
        found = numbers(page.name)
        assert found == [str(number) for number in range(1, len(found) + 1)], page.name


def test_cited_guarantees_exist():
    """R, S and P ids stand in the tables of docs/guarantees.md."""
    told = set(re.findall(r"^\| ([RSP]\d+) \|", (DOCS / "guarantees.md").read_text(encoding="utf-8"), re.M))
    for where, match in matches(GUARANTEES):
        assert set(re.findall(r"[RSP]\d+", match[1])) <= told, where


def test_links_lead_somewhere():
    """Every relative link of the documentation names a file that exists, and a heading in it where it has an
    anchor."""
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
    """0000 is the template; each record has its number once, a date and a state."""
    records = sorted((DOCS / "decisions").glob("*.md"))
    assert len({file.name[:4] for file in records}) == len(records) <= 20
    for file in records:
        text = file.read_text(encoding="utf-8")
        assert text.startswith(f"# {'NNNN' if file.name.startswith('0000') else file.name[:4]}. ")
        assert "- Date: " in text
        assert "- State: " in text
