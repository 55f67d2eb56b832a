# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""S16: no name becomes markup or a script: a page's structure stays, and a real browser runs nothing."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.hostile import EVERYTHING, MARKUP, everywhere
from tests.support.peers import peer
from tests.support.report_files import Page, bare, pdf_text, structure
from tests.support.reported import attribution, everything, small
from veilleuse.collector.documents.document import LONGEST, SHOWN, Document, Row, plain, renderer
from veilleuse.collector.reports.summaries.emissions import add_summary

HARMLESS = "Collège d'Oullins (annexe)"


def shape(content: bytes) -> tuple[Counter[str], set[str]]:
    """Return the number of elements of each kind, and the names of the attributes."""
    read = Page(content)
    return Counter(tag for tag, _ in read.elements), {
        n for _, attributes in read.elements for n in attributes
    }


@pytest.mark.promise("S16")
@pytest.mark.parametrize("language", ["fr", "en"])
def test_no_name_changes_the_structure_of_a_page(language, figure):
    """Each name in every place of a page leaves its elements and attributes unchanged, and is text."""
    names = [name for name in EVERYTHING if name]  # an empty name has no caption
    for make in (small, summarised):
        expected = shape(renderer("html")(make(everywhere(HARMLESS), language)))
        for name in names:
            content = renderer("html")(make(everywhere(name), language))
            assert shape(content) == expected, name
            assert " ".join(plain(name)[:60].split()) in " ".join(Page(content).text.split()), name
    figure(f"0 of {len(names)} names changed a page ({language})")


@pytest.mark.promise("S16")
def test_no_script_runs_in_a_browser(tmp_path: Path, figure):
    """Chromium adds no element and runs no script on a page of hostile names, with and without its policy."""
    content = renderer("html")(add_summary(all_markup(EVERYTHING), {})).decode()
    unguarded = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", content)
    assert unguarded != content
    for number, text in enumerate((content, unguarded)):
        file = tmp_path / f"{number}.html"
        file.write_text(text, encoding="utf-8")
        found = dom(file, tmp_path)
        assert "<title>Énergie et émissions" in found
        assert "<title>hacked" not in found
        assert not re.search(r"<(script|img|iframe|link|object)\b", found)
        assert not re.search(r"<[^>]+\son\w+=", re.sub(r'"[^"]*"', '""', found))
    figure(f"0 of {len(MARKUP)} names ran a script in Chromium, with and without the page's policy")


@pytest.mark.promise("S16")
def test_the_policy_stops_a_script_that_came_in(tmp_path: Path, figure):
    """The same script, injected as markup on purpose, runs without the policy and not with it."""
    content = renderer("html")(everything()).decode()
    injected = content.replace("</main>", "<script>document.title = 'hacked'</script></main>")
    unguarded = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", injected)
    titles = []
    for number, text in enumerate((injected, unguarded)):
        file = tmp_path / f"{number}.html"
        file.write_text(text, encoding="utf-8")
        titles.append("<title>hacked</title>" in dom(file, tmp_path))
    assert titles == [False, True]
    figure("1 of 1 injected scripts stopped by the page's policy")


@pytest.mark.promise("S16")
def test_json_and_pdf_hold_names_as_text(figure):
    """JSON parses; a PDF contains the names as text, and no action, script or link."""
    document = all_markup(EVERYTHING)
    found = json.loads(renderer("json")(document))
    assert [row["entity"] for row in found["rows"]] == [plain(name) for name in EVERYTHING]
    summary = renderer("pdf")(add_summary(all_markup(MARKUP), {}))
    content = renderer("pdf")(all_markup(MARKUP))
    for word in (b"/JavaScript", b"/JS ", b"/Launch", b"/URI", b"/SubmitForm", b"/EmbeddedFile"):
        assert word not in content + summary, word
    kinds = {str(element.get("/S")) for element in structure(content)}
    assert not {"/Link", "/Form"} & kinds
    text = pdf_text(content)
    for name in MARKUP:
        assert bare(name) in text, name
    figure("0 actions in a PDF with hostile names")


@pytest.mark.promise("S16")
def test_texts_are_made_plain_once_for_all_formats():
    """Controls, bidi and lone surrogates become U+FFFD, breaks spaces; long texts are cut, names stay."""
    assert plain("a\x00b\u202ec\ud800d\ufffee") == "a\ufffdb\ufffdc\ufffdd\ufffde"
    assert plain("a\tb\r\nc\u2028d") == "a b c d"
    assert plain("x" * 10_240) == "x" * (LONGEST - 1) + "…"
    for name in (
        HARMLESS,
        "\N{GRINNING FACE}\u200d\N{PERSONAL COMPUTER}",
        "L’Œuvre\u202f: 12\u00a0%",
        "ע",
        "部",
    ):
        assert plain(name) == name
    document = small(everywhere("a\x00b"))
    for form in ("csv", "json", "html"):
        assert b"\x00" not in renderer(form)(document)


@pytest.mark.promise("S16")
def test_services_and_shown_texts_are_escaped_too():
    """Names of services in an attribution, and texts of SHOWN, are escaped."""
    hostile = MARKUP[0]
    content = renderer("html")(attribution(hostile)).decode()
    assert hostile not in content
    assert "&lt;script&gt;" in content
    shown = Document({}, ("n",), {"rows": [{"n": 1, SHOWN: {"n": hostile}}]}, ("rows",))
    assert hostile not in renderer("html")(shown).decode()


def summarised(names: Mapping[str, str], language: str) -> Document:
    """Return the report of `small`, with its summary."""
    return add_summary(small(names, language), {})


def all_markup(names: Sequence[str]) -> Document:
    """Return a document with the names in rows of one table and in notes, and others in head and method."""
    base = small(everywhere(MARKUP[3]))
    rows: list[Row] = [
        {"entity": name, "site": name, "device_class": name, "kwh_total": 1.5} for name in names
    ]
    return Document(
        head={**base.head, "site": MARKUP[0]},
        columns=base.columns,
        tables={**base.tables, "rows": rows},
        tabular=base.tabular,
        assumptions=tuple(names),
        method=MARKUP,
        charts=base.charts,
    )


def dom(file: Path, folder: Path) -> str:
    """Return the page after all its scripts have run."""
    done = subprocess.run(
        [
            peer("chromium"),
            "--headless",
            "--no-sandbox",  # the page is our own file, and root has no sandbox
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            f"--user-data-dir={folder / 'profile'}",
            "--virtual-time-budget=3000",
            "--dump-dom",
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "<title>" in done.stdout, done.stderr[-2000:]
    return done.stdout
