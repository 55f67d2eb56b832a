# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Read the outlets with a real Prometheus (Debian's): a collector that receives and serves, and its agent."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from grafana.build import BOARDS, OUTPUT, legend_words
from grafana.texts import words_of
from tests.support import clock
from tests.support.panel_reports import COMPARED, Asked
from tests.support.peers import peer
from tests.support.ports import free_ports
from tests.support.processes import ran
from tests.support.stack import get
from tests.support.waiting import PATIENCE_SECONDS, comes, until
from tests.support.watched import WATTS, Watched, watched
from veilleuse.wire.units import MILLISECONDS_PER_MINUTE

QUERIES = [
    pytest.param(panel, query, id=f"{board.name}-{panel.key}-{number}")
    for board in BOARDS
    for panel in board.panels
    for number, query in enumerate(panel.queries)
]
RIGHTLY_EMPTY: Final = {
    "exploitation-silent-0": "the service has not run for two intervals, or two open days",
    "exploitation-lost-0": "no agent dropped a record",
    "collecteur-forecast-0": "a disk is predicted from three days of sizes",
    "energie-co2-virtual-0": "the simulated virtual machines send nothing more",
}
"""Queries without a result here → why. Their expressions parse all the same."""
ON_SOME_DAYS: Final = {
    "exploitation-unexplained-0": "servers have whole days in the last week when a month has just begun",
    "exploitation-unexplained-1": "servers have whole days in the last week when a month has just begun",
    "sobriete-coverage_change-0": "the first week of the month may begin in the month before",
} | {
    f"{one.panel.replace(' ', '-')}-{one.query}": "few machines may be on one side; the report withholds the same"
    for one in COMPARED
    if one.panel.startswith("sobriete")
}
"""Queries with a result on some days only, because the simulated month is another one every month → why."""


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Give collector, agent and Prometheus, all real, and stop them afterwards."""
    with watched(tmp_path_factory.mktemp("outlets")) as found:
        yield found


def filled_in(expression: str, found: Watched) -> str:
    """Replace variables as Grafana does; the server is the one whose agent is real."""
    host = found.eventually("veilleuse_host_power_watts")[0]["metric"]["host"]
    expression = expression.replace(":15s]", ":1s]")  # this Prometheus is seconds old
    for name, value in (
        ("__rate_interval", "1m"),
        ("__range", "1m"),
        ("instance", found.instance),
        ("host", host),
    ):
        expression = expression.replace(f"${name}", value)
    assert not re.search(r"\$[a-z_]", expression)
    return expression


def test_promtool_accepts_the_exposition(scraped):
    """`promtool check metrics` accepts names, units, help and types without a remark."""
    body = get(scraped.stack.url + "metrics")
    done = ran([peer("promtool"), "check", "metrics"], input=body, timeout=PATIENCE_SECONDS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("job", "counter"), [("veilleuse", "{}"), ("text", "{}_total")])
def test_the_scrape_is_healthy(scraped, job, counter):
    """Prometheus reports the target as up in both formats, and counts the series that were sent."""
    assert scraped.value(f'up{{job="{job}"}} == 1') == 1
    samples = f'scrape_samples_scraped{{job="{job}"}} > 0'

    def are_equal() -> bool:
        lines = [line for line in get(scraped.stack.url + "metrics").splitlines() if not line.startswith("#")]
        # Requests of other routes add series meanwhile.
        return math.isclose(scraped.value(samples), len(lines), abs_tol=6)

    until(are_equal)
    asked = {"match_target": f'{{job="{job}"}}', "metric": counter.format("veilleuse_energy_joules")}
    said = json.loads(get(f"{scraped.prometheus}api/v1/targets/metadata?{urllib.parse.urlencode(asked)}"))
    assert [one["type"] for one in said["data"]] == ["counter"]


@pytest.mark.parametrize(("panel", "query"), QUERIES)
def test_every_panel_has_data(scraped, panel, query, request):
    """Each expression of the dashboards is PromQL that returns data, or nothing for a reason that is known.

    The values of labels in its legend are shown as words.
    """
    name = request.node.callspec.id
    expression = filled_in(query.expression, scraped)
    if name in RIGHTLY_EMPTY:
        assert scraped.query(expression) == [], f"{name} has data here: take it off RIGHTLY_EMPTY"
        return
    if name in ON_SOME_DAYS and not scraped.query(expression):
        return
    result = scraped.eventually(expression)
    assert result, expression
    if panel.key != "commit":  # the mean of no commit is not a number
        assert all(re.fullmatch(r"-?[\d.e+-]+", one["value"][1]) for one in result), result
    for label, words in re.findall(r"\{(?!version)(\w+):?(\w*)\}", "".join(query.legend)):
        known = {language: words_of(language, words or label) for language in ("fr", "en")}
        for one in result:
            value = one["metric"].get(label, "")
            assert all(not of or value in of for of in known.values()), f"{label} {value} has no word"
            assert legend_words(panel, "fr").get(value, value) == known["fr"].get(value, value)


@pytest.fixture(scope="module")
def reports(scraped: Watched) -> dict[Asked, dict[str, Any]]:
    """Give what the command prints, for each of its calls in COMPARED; it runs once for each."""
    asked = sorted({one.asked for one in COMPARED}, key=str)
    today = clock.today(ZoneInfo("Europe/Paris"))

    def run(one: Asked) -> dict[str, Any]:
        return scraped.report(one.kind, *one.period_of(scraped.month, today), one.grouping, *one.more)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(asked, pool.map(run, asked), strict=True))


@pytest.mark.parametrize("compared", COMPARED, ids=lambda one: f"{one.panel}-{one.query}")
def test_a_panel_has_the_digits_of_the_report(scraped, reports, compared):
    """Each series of the panel is a row of the report, and each row a series, with the same twelve digits.

    `pytest -rP` prints the table.
    """
    board, key = compared.panel.split()
    (panel,) = (one for of in BOARDS if of.name == board for one in of.panels if one.key == key)
    expected, year = compared.expected(reports[compared.asked]), str(scraped.month.year)
    found = scraped.query(filled_in(panel.queries[compared.query].expression, scraped))
    of_year = [one for one in found if one["metric"].get("year", year) == year]
    shown = {
        tuple(one["metric"].get(label, "") for label in compared.labels): float(one["value"][1])
        for one in of_year
    }
    assert len(shown) == len(of_year), "the labels tell series apart"
    for values in sorted(shown.keys() | expected.keys()):
        panel_says, report_says = shown.get(values), expected.get(values)
        equal = panel_says is not None and report_says is not None
        equal = equal and math.isclose(panel_says or 0, report_says or 0, rel_tol=1e-12)
        row = f"report {compared.asked.kind}, {compared.section} by {compared.asked.grouping}"
        print(f"{compared.panel} | {' '.join(values)} | {panel_says!r} | {row} | {report_says!r} | {equal}")
        assert equal
    assert expected or board == "sobriete"


def test_links_of_panels_lead_to_pages(scraped):
    """The page of each link is there, that of one server too."""
    links = {
        link for file in OUTPUT.glob("*.json") for link in re.findall(r'"url": "([^"]+)"', file.read_text())
    }
    for link in sorted(links):
        address = link.replace("${pages:raw}/", scraped.stack.url).replace("{host:raw}", "host")
        assert "<h1" in get(filled_in(address, scraped)), link


def test_counters_rise(scraped):
    """New records of an agent raise joules and grams by exactly their energy, and the counters never
    reset."""
    joules = 'sum(veilleuse_energy_joules_total{entity="test"})'
    grams = 'sum(veilleuse_emissions_grams_total{entity="test"})'
    before = scraped.value(joules), scraped.value(grams)
    scraped.send(((int(clock.unix_seconds()) // 60 - 4) * MILLISECONDS_PER_MINUTE, 3))
    until(lambda: scraped.value(joules) - before[0] == pytest.approx(WATTS * 180, abs=1e-3))
    assert scraped.value(grams) - before[1] == pytest.approx(WATTS * 180 / 3_600_000 * 46.1, rel=1e-6)
    assert scraped.query(f"resets({joules[4:-1]}[1m]) > 0") == []


@pytest.mark.promise("P13")
def test_workstations_are_nowhere_live(scraped, figure):
    """Prometheus has no counter, power, day or host label for populations under the k rule (P13)."""
    populations = 'population=~"workstation|classroom"'
    assert scraped.query(f"min_over_time(veilleuse_month_hosts{{{populations}}}[5m]) >= 10")
    counters = ("energy_joules_total", "emissions_grams_total", "power_watts", "state_seconds_total")
    gauges = ("day_energy_joules", "day_emissions_grams", "day_state_seconds", "day_hosts")
    asked = [f"max_over_time(veilleuse_{name}{{{populations}}}[5m])" for name in (*counters, *gauges)]
    asked.append(f'max_over_time({{__name__=~"veilleuse_.*",host!="",{populations}}}[5m])')
    asked.append('max_over_time({__name__=~"veilleuse_.*",host!="",job!="hosts"}[5m])')
    asked.append(f"min_over_time(veilleuse_month_hosts{{{populations}}}[5m]) < 10")
    found = [query for query in asked if scraped.query(query) != []]
    figure(
        f"{len(found)} of {len(asked)} queries of a real Prometheus for one PC, its hour or its label find a series"
    )
    assert found == []


def start_web(folder: Path, data: Path, port: int) -> subprocess.Popen[bytes]:
    """Start the web process as `veilleuse serve` does."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VEILLEUSE")}
    with (folder / "web.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "veilleuse.collector.web"],
            env=kept | {"VEILLEUSE__DATA_DIR": str(data), "VEILLEUSE__HTTP__ADDRESS": f"127.0.0.1:{port}"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def wait_for(condition: Any, folder: Path) -> None:
    """Wait until the condition is true; fails with the logs."""

    def holds() -> bool:
        with suppress(OSError):
            return bool(condition())
        return False

    is_met = comes(holds, every=0.2)
    assert is_met, "".join(log.read_text(errors="replace")[-2000:] for log in folder.glob("*.log"))


def test_sigterm_ends_the_web_process_cleanly(scraped, tmp_path):
    """The exit code is 0 after SIGTERM; a port in use gives one line and exit code 1."""
    (port,) = free_ports(1)
    process = start_web(tmp_path, scraped.stack.data, port)
    wait_for(lambda: get(f"http://127.0.0.1:{port}/healthz"), tmp_path)
    second = start_web(tmp_path / "..", scraped.stack.data, port)
    assert second.wait(PATIENCE_SECONDS) == 1
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_SECONDS) == 0
    said = (tmp_path / ".." / "web.log").read_text()
    assert said.count("cannot listen on 127.0.0.1") == 1
    assert "Traceback" not in said + (tmp_path / "web.log").read_text()
