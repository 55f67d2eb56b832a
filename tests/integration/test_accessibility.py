# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Check pages in a real browser with axe-core: wide and light, narrow and dark, in both languages."""

from __future__ import annotations

import html
import json
import re
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp

from tests.support.filled import (
    METER,
    Filled,
    cell,
    clock,
    minutes_of_server,
    month_of_workstations,
    reporting_day,
    start_of_minute,
)
from tests.support.pages import body, standalone
from tests.support.peers import peer
from tests.support.publishing import publish_months
from tests.support.reading import Reading
from veilleuse.collector.web.metrics.released_month import last_month
from veilleuse.wire.vocabulary import DeviceClass, State

RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "RGAAv4", "best-practice")
SCREENS = {
    "wide": ("--window-size=1280,1000",),
    "narrow and dark": ("--window-size=500,1000", "--blink-settings=preferredColorScheme=0"),
}
"""500 pixels is the narrowest window that this browser opens."""
CHECK = """
document.querySelectorAll('details').forEach(one => { one.open = true; });
axe.run(document, {runOnly: RULES, resultTypes: ['violations']}).then(found => {
  const told = {
    violations: found.violations.map(one => one.id + ': ' + one.nodes.map(node => node.html).join(' ')),
    passes: found.passes.length,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    dark: matchMedia('(prefers-color-scheme: dark)').matches,
  };
  const answer = document.createElement('pre');
  answer.id = 'axe-says';
  answer.textContent = JSON.stringify(told);
  document.body.append(answer);
});
"""


def fill(store: Filled) -> None:
    """Store data for every part of the page."""
    store.push(store.add_host(), minutes_of_server(20, 15, 180.0), METER)
    virtual = store.add_host(device_class=DeviceClass.VIRTUAL_MACHINE)
    start = start_of_minute(20)
    store.push(
        virtual,
        [
            (clock(start + i * 60_000, 60_000), [cell(State.ON_ACTIVE, 60_000, busy_ratio=0.5)])
            for i in range(15)
        ],
    )
    month, _ = last_month(reporting_day())
    plans = [(600, 1200)] * 12 + [(600, 0)] * 12
    hosts = month_of_workstations(store, (month - timedelta(days=1)).replace(day=1), plans, 12)
    month_of_workstations(store, month, plans, 12, known=hosts)
    store.derive()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ASGIApp]:
    """Give the application over a filled store."""
    with Filled(tmp_path_factory.mktemp("page") / "data") as store:
        fill(store)
        publish_months(store, reporting_day())
        with Reading(store) as reading:
            yield reading.app


def axe_says(page: str, css: str, folder: Path, screen: tuple[str, ...]) -> dict[str, Any]:
    """Return the findings of axe-core in the page, opened from a file with its style sheet in a browser of
    this screen."""
    write_axe(folder, CHECK.replace("RULES", json.dumps(RULES)))
    scripts = '<script src="axe.js"></script><script src="check.js"></script>'
    (folder / "page.html").write_text(standalone(page, css, scripts), encoding="utf-8")
    return browser_says(folder, screen)


def write_axe(folder: Path, check: str) -> None:
    """Write axe-core, and the script that runs it in a page, into the folder."""
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    (folder / "axe.js").write_text(axe, encoding="utf-8")
    (folder / "check.js").write_text(check, encoding="utf-8")


def browser_says(folder: Path, screen: tuple[str, ...]) -> dict[str, Any]:
    """Open the folder's page.html in a browser of this screen; return the JSON that it leaves in itself."""
    done = subprocess.run(
        [
            peer("chromium"),
            "--headless",
            "--no-sandbox",  # it opens only this file, and root has no sandbox
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            f"--user-data-dir={folder / 'profile'}",
            "--virtual-time-budget=120000",
            *screen,
            "--dump-dom",
            (folder / "page.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    answer = re.search(r'<pre id="axe-says">(.*?)</pre>', done.stdout, re.S)
    assert answer, done.stderr[-2000:]
    told: dict[str, Any] = json.loads(html.unescape(answer.group(1)))
    return told


def test_every_part_of_the_page_is_checked(app):
    """The checked page has values of I3 and I4, with their bases, and drawings of months."""
    page = body(app, "/sobriete?lang=en")
    assert "12 of 24 with a known setting" in page
    assert "of their energy" in page
    assert '<svg class="chart' in page


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("path", ["/sobriete?lang=fr", "/sobriete?lang=en", "/nothing?lang=fr"])
def test_no_violation(app, path, screen, tmp_path):
    """The page violates no rule of WCAG 2.1 AA and axe's good practice, and never scrolls sideways."""
    page, css = body(app, path), body(app, "/static/veilleuse.css")
    told = axe_says(page, css, tmp_path, SCREENS[screen])
    assert told["violations"] == []
    assert told["passes"] > 15
    assert told["overflow"] <= 0
    assert told["dark"] == ("dark" in screen)


def test_the_check_finds_what_is_wrong(app, tmp_path):
    """A page without a language and with grey text on white is reported."""
    page = body(app, "/sobriete?lang=en").replace('<html lang="en">', "<html>")
    told = axe_says(page, "* { color: #bbb; background: #fff }", tmp_path, SCREENS["wide"])
    assert {"html-has-lang", "color-contrast"} <= {one.partition(":")[0] for one in told["violations"]}
