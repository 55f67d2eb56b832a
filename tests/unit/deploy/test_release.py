# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks the parts of `make release` and `make audit` that need no package."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
import zipfile

import pytest

from deploy.release import audit, changelog, osv, prepare
from tests.architecture.tree import ROOT
from tests.support.waiting import PATIENCE_SECONDS


def test_each_fragment_is_an_item_under_its_heading():
    """The present fragments become as many items; nothing of their text is lost."""
    files = changelog.fragments(ROOT / "changelog.d")
    text = changelog.section("9.9.9", "2026-11-29", files)
    assert text.startswith("## 9.9.9 (2026-11-29)\n")
    assert sum(line.startswith("- ") for line in text.splitlines()) >= len(files)
    for file in files:
        for line in file.read_text("utf-8").strip().splitlines():
            assert line.strip().replace("](../", "](") in text


def test_headings_have_an_order_and_fragments_that_of_their_issues(tmp_path):
    """Breaking changes come first, and issue 9 before issue 10."""
    for name in ("10.added.md", "9.added.md", "9.added.2.md", "3.breaking.word.md", "README.md"):
        (tmp_path / name).write_text(f"{name}\n[more](../docs/reports.md)\n")
    text = changelog.section("1.2.3", "2026-01-02", changelog.fragments(tmp_path))
    assert [line for line in text.splitlines() if line[:1] in ("#", "-")] == [
        "## 1.2.3 (2026-01-02)",
        "### Breaking",
        "- 3.breaking.word.md",
        "### Added",
        "- 9.added.2.md",
        "- 9.added.md",
        "- 10.added.md",
    ]
    assert "\n  [more](docs/reports.md)\n" in text


@pytest.mark.parametrize("name", ["word.added.md", "3.feature.md", "3.md"])
def test_a_fragment_of_another_name_stops_a_release(name, tmp_path):
    """No fragment is left out silently."""
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=name):
        changelog.fragments(tmp_path)


def test_the_newest_section_comes_first():
    """A second release keeps the first one's section below its own."""
    first = changelog.with_section("", "## 0.1.0 (a)\n\n### Added\n- x\n")
    both = changelog.with_section(first, "## 0.2.0 (b)\n\n### Added\n- y\n")
    assert both == "# Changelog\n\n## 0.2.0 (b)\n\n### Added\n- y\n\n## 0.1.0 (a)\n\n### Added\n- x\n"
    assert changelog.last_section(both) == "## 0.2.0 (b)\n\n### Added\n- y\n"
    assert changelog.last_section(first) == "## 0.1.0 (a)\n\n### Added\n- x\n"


@pytest.mark.parametrize("name", ["pyproject.toml", "proto/veilleuse/wire/version.py"])
def test_a_version_stands_in_one_place_of_each_file(name, tmp_path):
    """Exactly that place is written."""
    file = tmp_path / "file"
    text = (ROOT / name).read_text("utf-8")
    file.write_text(text)
    prepare.replace(file, "98.7.6")
    changed = [
        (a, b) for a, b in zip(text.splitlines(), file.read_text().splitlines(), strict=True) if a != b
    ]
    assert len(changed) == 1
    assert changed[0][1].endswith(' = "98.7.6"')


MADE_UP = {
    "id": "MADE-UP-1",
    "schema_version": "1.6.0",
    "modified": "2026-11-20T00:00:00Z",
    "summary": "made up for a test",
    "affected": [
        {
            "package": {"name": "Zope.Interface", "ecosystem": "PyPI"},
            "ranges": [
                {"type": "GIT", "events": [{"introduced": "0"}]},
                {
                    "type": "ECOSYSTEM",
                    "events": [
                        {"introduced": "2.0"},
                        {"fixed": "2.5"},
                        {"introduced": "0"},
                        {"last_affected": "1.4"},
                    ],
                },
            ],
            "versions": ["7.7"],
        },
        {"package": {"name": "zope-interface", "ecosystem": "npm"}, "versions": ["9.9"]},
    ],
}
"""A record in OSV's format that holds no real vulnerability."""


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        *(("0.1", True), ("1.4", True), ("1.4.1", False), ("1.10", False)),
        *(("2.0rc1", False), ("2.0", True), ("2.4.9", True), ("2.5", False), ("7.7", True), ("9.9", False)),
        ("of no order", True),
    ],
)
def test_a_version_is_looked_up_as_osv_says(version, affected, tmp_path):
    """Ranges, lists and normalised names are OSV's; of another ecosystem nothing holds."""
    (tmp_path / "one.json").write_text(json.dumps(MADE_UP))
    copy = osv.OsvCopy(tmp_path)
    assert [one["id"] for one in copy.find("zope_interface", version)] == ["MADE-UP-1"] * affected
    assert copy.find("other", version) == []


def test_a_copy_answers_over_loopback(tmp_path):
    """A zip file is served as OSV's API answers."""
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("MADE-UP-1.json", json.dumps(MADE_UP))
    copy = osv.OsvCopy(tmp_path / "all.zip")
    assert (copy.count, copy.newest) == (1, MADE_UP["modified"])
    with osv.serving(copy) as address:

        def ask(version):
            query = {"package": {"name": "zope-interface", "ecosystem": "PyPI"}, "version": version}
            with urllib.request.urlopen(
                address, json.dumps(query).encode(), timeout=PATIENCE_SECONDS
            ) as answer:
                return json.load(answer)

        assert ask("7.7") == {"vulns": [MADE_UP]}
        assert ask("7.8") == {}


@pytest.mark.parametrize("place", ["missing", "empty"])
def test_an_unreadable_copy_fails_the_audit(place, tmp_path):
    """A place without any record never passes for an audit."""
    (tmp_path / "empty").mkdir()
    code, line = audit.audit(str(tmp_path / place), tmp_path / "tool", [])
    assert code == 1
    assert str(tmp_path / place) in line


def test_without_a_copy_the_audit_was_not_run():
    """The line and the exit code say so."""
    done = subprocess.run(
        [sys.executable, "-m", "deploy.release.audit"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={},
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "audit: not run: no copy of the OSV database (OSV_COPY=…)\n")
