# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Check every page of the table, the sign-in and /api in a real browser with axe-core, in both languages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_accessibility import RULES, SCREENS, browser_says, write_axe
from tests.support.filled import METER, Filled, minutes_of_server, month_of_workstations, reporting_day
from tests.support.pages import standalone
from tests.support.publishing import publish_months
from tests.support.reading import Reading
from tests.support.screenshots import served
from tests.support.stack import Stack, get
from veilleuse.collector.documents.document import LANGUAGES
from veilleuse.collector.model.accounts import Role
from veilleuse.collector.web.metrics.released_month import last_month
from veilleuse.collector.web.pages.table import PAGES
from veilleuse.collector.web.sign_in import SIGN_IN
from veilleuse.wire.vocabulary import DeviceClass, Population

FILLED = ("/site?name=lyon", "/deployer?entity=A&site=new")
"""Pages that say more when they are asked for something."""
PATHS = (*(page.path for page in PAGES if page.in_menu), SIGN_IN, "/api", *FILLED)
ADDRESSES = [
    f"{path}{'&' if '?' in path else '?'}lang={language}" for path in PATHS for language in LANGUAGES
]
LONG = "Métropole de Lyon > Collèges > Collège Alexandre-Fleming d’Oullins-Pierre-Bénite (annexe)"
"""A name as long as real ones: no page may scroll sideways for it."""
CHECK = """
document.querySelectorAll('details').forEach(one => { one.open = true; });
axe.run(document, {runOnly: RULES, resultTypes: ['violations']}).then(found => parent.postMessage({
  violations: found.violations.map(one => one.id + ': ' + one.nodes.map(node => node.html).join(' ')),
  passes: found.passes.length,
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  dark: matchMedia('(prefers-color-scheme: dark)').matches,
}, '*'));
"""
HARNESS = """<!doctype html><html><body><iframe width="WIDTH" height="900"></iframe><script>
const names = NAMES, told = {};
const frame = document.querySelector('iframe');
const next = () => {
  const name = names.find(one => !(one in told));
  if (name !== undefined) { frame.src = name; return; }
  const answer = document.createElement('pre');
  answer.id = 'axe-says';
  answer.textContent = JSON.stringify(told);
  document.body.append(answer);
};
addEventListener('message', event => { told[names.find(one => !(one in told))] = event.data; next(); });
next();
</script></body></html>"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """Give address → page, of a fleet with a released month and a server, as an administrator sees them."""
    month, _ = last_month(reporting_day())
    with Filled(tmp_path_factory.mktemp("pages") / "data") as data:
        hosts = [data.add_host(Population.WORKSTATION, DeviceClass.TOWER, entity=LONG) for _ in range(32)]
        month_of_workstations(data, date(month.year, month.month, 1), [None] * 32, known=hosts)
        data.push(data.add_host(entity="A"), minutes_of_server(20, 15, 180.0), METER)
        data.derive()
        publish_months(data, reporting_day())
        with Reading(data) as reading:
            token = reading.account("admin", Role.ADMIN)
            css = reading.get("/static/veilleuse.css").text
            yield {one: alone(reading.get(one, token).text, css) for one in ADDRESSES}


def alone(page: str, css: str) -> str:
    """Return the page as a file that axe-core runs in."""
    return standalone(page, css, '<script src="axe.js"></script><script src="check.js"></script>')


@pytest.mark.parametrize("screen", SCREENS)
def test_no_violation_on_any_page(pages: Mapping[str, str], tmp_path: Path, screen: str):
    """No page violates a rule of WCAG 2.1 AA or axe's good practice, or scrolls sideways, 360 px wide too."""
    check(pages, tmp_path, screen)


@pytest.mark.long
def test_nor_with_110_colleges_and_12_000_devices(tmp_path: Path):
    """Of a simulated metropole, whose tables are long, on a wide and on a narrow screen."""
    stack = Stack(tmp_path)
    with stack, served(stack, None):
        css = get(f"{stack.url}static/veilleuse.css")
        large = [one for one in ADDRESSES if "name=lyon" not in one]
        pages = {one: alone(get(f"{stack.url}{one.removeprefix('/')}"), css) for one in large}
    for number, screen in enumerate(SCREENS):
        folder = tmp_path / str(number)
        folder.mkdir()
        check(pages, folder, screen)


def check(pages: Mapping[str, str], folder: Path, screen: str) -> None:
    """Assert that axe-core finds nothing on these pages, and that none scrolls sideways."""
    write_axe(folder, CHECK.replace("RULES", json.dumps(RULES)))
    names = {f"page-{number}.html": address for number, address in enumerate(pages)}
    for name, address in names.items():
        (folder / name).write_text(pages[address], encoding="utf-8")
    harness = HARNESS.replace("NAMES", json.dumps(list(names))).replace(
        "WIDTH", "360" if "narrow" in screen else "1240"
    )
    (folder / "page.html").write_text(harness, encoding="utf-8")
    told: dict[str, dict[str, Any]] = browser_says(folder, SCREENS[screen])
    wrong = {names[name]: one["violations"] for name, one in told.items() if one["violations"]}
    assert wrong == {}
    assert {names[name] for name, one in told.items() if one["overflow"] > 0} == set()
    assert min(one["passes"] for one in told.values()) > 15
    assert {one["dark"] for one in told.values()} == {"dark" in screen}
