# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Read the outlets with a real Prometheus (Debian's): a filled store, and the web process."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from grafana.panels import ROWS
from tests.support.filled import (
    METER,
    Filled,
    cell,
    civil,
    clock,
    minutes_of_server,
    month_of_workstations,
    reporting_day,
    start_of_minute,
    week,
)
from tests.support.peers import peer
from tests.support.ports import free_ports
from tests.support.publishing import publish_months
from tests.support.stack import get
from tests.support.waiting import PATIENCE_SECONDS, comes
from veilleuse.collector.ingest.counters import Count, Health
from veilleuse.collector.ipc import SOCKET_FILE
from veilleuse.collector.model.query import Query
from veilleuse.collector.months.worker import ended_by
from veilleuse.collector.release.figures import find_stretches
from veilleuse.collector.reports.emissions import released_report
from veilleuse.collector.reports.readers import sources_of
from veilleuse.collector.settings import ReportingSettings
from veilleuse.collector.store import open_reader
from veilleuse.wire.vocabulary import Band, DeviceClass, GapReason, Population, State

QUERIES = [
    pytest.param(query.expression, id=f"{panel.identifier}-{number}")
    for row in ROWS
    for panel in row.panels
    for number, query in enumerate(panel.queries)
]


@dataclass
class Scraped:
    """A store, the URL of its web process, and Prometheus."""

    store: Filled
    server: Any
    url: str
    prometheus: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the result of an instant query on the real Prometheus."""
        text = get(f"{self.prometheus}api/v1/query?{urllib.parse.urlencode({'query': expression})}")
        answer = json.loads(text)
        assert answer["status"] == "success", text
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def eventually(self, expression: str, seconds: float = PATIENCE_SECONDS) -> list[dict[str, Any]]:
        """Return the first result that is not empty, because on a busy machine a scrape may miss its second,
        and every series with it."""
        until = time.monotonic() + seconds
        while not (found := self.query(expression)) and time.monotonic() < until:
            time.sleep(0.3)
        return found

    def value(self, expression: str) -> float:
        """Return the value of the query's only series."""
        (one,) = self.eventually(expression)
        return float(one["value"][1])


class Admin:
    """The administration socket of a collector that counts but does not receive, with a real Health."""

    def __init__(self, directory: Path) -> None:
        self.health = Health()
        self.health.count(Count.PUSHES, "stored", 5)
        self.health.count(Count.RECORDS, "stored", 50)
        self.health.count(Count.CALLS_REFUSED, "expired", 1)
        self.health.count(Count.RECORDS_REFUSED, "bad_cell", 1)
        self.health.count(Count.JOBS, "done", 2)
        self.health.commit(0.004)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(directory / SOCKET_FILE))
        self.listener.listen()
        self.listener.settimeout(0.2)

    def answer(self, stop: threading.Event) -> None:
        """Answer until `stop` is set; each request raises the number of commits."""
        while not stop.is_set():
            try:
                connection, _ = self.listener.accept()
            except TimeoutError:
                continue
            with connection:
                connection.makefile("rb").readline()
                self.health.commit(0.003)
                with suppress(OSError):
                    connection.sendall(json.dumps({"ok": True, "result": self.told()}).encode() + b"\n")
        self.listener.close()

    def told(self) -> dict[str, Any]:
        """Return the collector's health."""
        now = int(time.time() * 1000)
        return {**self.health.snapshot(), "certificates": {"root": now + 10**11, "server": now + 10**8}}


def fill(store: Filled) -> Any:
    """Store two servers, a virtual machine, 12 classroom PCs, 25 workstations and 24 of the last closed
    month. Return the server that gets further records later."""
    today = datetime.now(ZoneInfo("Europe/Paris")).date()
    midnight = round(
        datetime.combine(today, datetime.min.time(), ZoneInfo("Europe/Paris")).timestamp() * 1000
    )
    yesterday = midnight - 12 * 3_600_000
    recent = max(midnight, start_of_minute(12))
    server = store.add_host()
    modelled = store.add_host(entity="Culture")
    virtual = store.add_host(device_class=DeviceClass.VIRTUAL_MACHINE)
    gaps = ((GapReason.SENSOR_LOST, "linux_rapl", 2_000),)
    half = [cell(State.ON_ACTIVE, 1_800_000, busy_ratio=0.4), cell(State.ON_IDLE, 1_800_000, busy_ratio=0.01)]
    store.push(modelled, [(clock(yesterday - 2 * 86_400_000, 3_600_000), half)])  # a whole day lies between
    for host in (modelled, virtual, server):
        store.push(host, [(clock(yesterday + i * 3_600_000, 3_600_000), half) for i in range(4)])
        now = [cell(State.ON_ACTIVE, 30_000, busy_ratio=0.4), cell(State.ON_IDLE, 30_000, busy_ratio=0.01)]
        store.push(host, [(clock(recent + i * 60_000, 60_000), now) for i in range(5)], sensor_gaps=gaps)
    workstations(store, today)
    month = (ended_by(today) - timedelta(days=1)).replace(day=1)
    month_of_workstations(store, month, [(600, 1200)] * 12 + [(600, 0)] * 12, 12)
    store.derive()
    for _ in range(12):
        pc = store.add_host(Population.CLASSROOM, DeviceClass.TOWER, entity="Colleges")
        store.push(
            pc,
            [
                (
                    clock(yesterday - back * 86_400_000, 3_600_000),
                    [cell(State.ON_IDLE, 3_600_000, Band.CLOSED, busy_ratio=0.01)],
                )
                for back in range(1, 20)
            ],
        )
    return server


def workstations(store: Filled, today: date) -> None:
    """Store 25 workstations with three weeks of records."""
    for number in range(25):
        host = store.add_host(
            Population.WORKSTATION, DeviceClass.LAPTOP if number < 13 else DeviceClass.TOWER
        )
        records: list[tuple[Any, list[Any]]] = [
            (
                civil(today - timedelta(days=back)),
                [
                    cell(State.OFF, 40_000_000, Band.NIGHT),
                    cell(State.ON_IDLE, 3_000_000, Band.CLOSED, busy_ratio=0.02),
                ],
            )
            for back in range(4, 22)
        ]
        for weeks in (1, 2, 3):
            cells = [
                cell(State.ON_ACTIVE, 90_000_000, busy_ratio=0.3),
                cell(State.ON_IDLE, 70_000_000, busy_ratio=0.01),
            ]
            records.append((week(today - timedelta(weeks=weeks)), cells))
        store.push(host, records)


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """Give store, administration socket, web process and Prometheus, all real, and stop them afterwards."""
    prometheus = peer("prometheus")
    folder = tmp_path_factory.mktemp("outlets")
    web_port, prometheus_port = free_ports(2)
    with Filled(folder / "data") as store:
        server = fill(store)
        store.derive()
        publish_months(store, reporting_day())
        stop = threading.Event()
        admin = threading.Thread(target=Admin(store.directory).answer, args=(stop,), daemon=True)
        admin.start()
        config = folder / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 1s}\n"
            "scrape_configs:\n"
            f"  - job_name: veilleuse\n    static_configs: [{{targets: ['127.0.0.1:{web_port}']}}]\n"
            "    scrape_protocols: [OpenMetricsText1.0.0]\n"
            f"  - job_name: text\n    static_configs: [{{targets: ['127.0.0.1:{web_port}']}}]\n"
            "    scrape_protocols: [PrometheusText0.0.4]\n"
            "    metric_relabel_configs: [{action: drop, source_labels: [__name__], regex: '.+'}]\n"
        )
        web = start_web(folder, store.directory, web_port)
        with (folder / "prometheus.log").open("wb") as log:
            database = subprocess.Popen(
                [
                    prometheus,
                    f"--config.file={config}",
                    f"--storage.tsdb.path={folder / 'tsdb'}",
                    f"--web.listen-address=127.0.0.1:{prometheus_port}",
                    "--log.level=warn",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            found = Scraped(
                store, server, f"http://127.0.0.1:{web_port}/", f"http://127.0.0.1:{prometheus_port}/"
            )
            wait_for(lambda: get(found.url + "healthz") == "ok\n", folder)
            wait_for(lambda: found.query("sum_over_time(up[1m]) > 3"), folder)
            wait_for(lambda: found.query("veilleuse_power_plan_compliance_ratio"), folder)
            yield found
        finally:
            for process in (database, web):
                process.terminate()
                process.wait(PATIENCE_SECONDS)
            stop.set()
            admin.join(PATIENCE_SECONDS)


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


def wait_for(condition: Any, folder: Path, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until the condition is true; fails with the logs."""
    until = time.monotonic() + seconds
    while True:
        with suppress(OSError):
            if condition():
                return
        logs = "".join(log.read_text(errors="replace")[-2000:] for log in folder.glob("*.log"))
        assert time.monotonic() < until, logs
        time.sleep(0.2)


def test_promtool_accepts_the_exposition(scraped):
    """`promtool check metrics` accepts names, units, help and types without a remark."""
    body = get(scraped.url + "metrics")
    done = subprocess.run(
        [peer("promtool"), "check", "metrics"],
        input=body,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("job", "counter"), [("veilleuse", "{}"), ("text", "{}_total")])
def test_the_scrape_is_healthy(scraped, job, counter):
    """Prometheus reports the target as up in both formats, and counts the series that were sent."""
    assert scraped.value(f'up{{job="{job}"}} == 1') == 1
    lines = [line for line in get(scraped.url + "metrics").splitlines() if not line.startswith("#")]
    assert (
        abs(scraped.value(f'scrape_samples_scraped{{job="{job}"}} > 0') - len(lines)) <= 6
    )  # requests of other routes add series meanwhile
    asked = {"match_target": f'{{job="{job}"}}', "metric": counter.format("veilleuse_energy_joules")}
    said = json.loads(get(f"{scraped.prometheus}api/v1/targets/metadata?{urllib.parse.urlencode(asked)}"))
    assert [one["type"] for one in said["data"]] == ["counter"]


def test_counters_rise(scraped):
    """New records raise joules and grams by exactly their energy, and the counters never reset."""
    joules = 'sum(veilleuse_energy_joules_total{device_class="server"})'
    grams = 'sum(veilleuse_emissions_grams_total{device_class="server"})'
    before = scraped.value(joules), scraped.value(grams)
    scraped.store.push(scraped.server, minutes_of_server(4, 3, 200.0), METER)
    scraped.store.derive()
    comes(lambda: scraped.value(joules) != before[0])
    assert scraped.value(joules) - before[0] == pytest.approx(200 * 180, abs=1e-3)
    assert scraped.value(grams) - before[1] == pytest.approx(200 * 180 / 3_600_000 * 46.1, rel=1e-6)
    assert scraped.query(f"resets({joules[4:-1]}[1m]) > 0") == []


@pytest.mark.parametrize("expression", QUERIES)
def test_every_panel_has_data(scraped, expression):
    """Each expression of the dashboard returns data, with its variables replaced as Grafana does."""
    filled_in = (
        expression.replace("$__rate_interval", "1m")
        .replace("$__range", "1m")
        .replace("$entity", ".*")
        .replace("$site", ".*")
    )
    assert "$" not in filled_in
    result = scraped.eventually(filled_in)
    assert result, filled_in
    assert all(re.fullmatch(r"-?[\d.e+-]+", one["value"][1]) for one in result), result


def test_the_fleet_has_the_digits_of_the_report(scraped):
    """Energy and emissions of each perimeter and class are those of the command, by month and year."""
    today = datetime.now(ZoneInfo("Europe/Paris")).date()
    month = (ended_by(today) - timedelta(days=1)).replace(day=1)
    grouping = ("perimeter", "population", "device_class")
    for kind, extra in (("month", ("month",)), ("year", ())):
        query = Query(date(month.year, 1, 1), date(month.year + 1, 1, 1), (*grouping, *extra), today=today)
        with open_reader(scraped.store.directory) as store:
            sources = sources_of(store, ReportingSettings())
            stretches = find_stretches(sources.released, query, cut=True)
            rows = released_report(sources, query, stretches).statement.rows
        assert len(rows) > 1
        for row in rows:
            labels = ",".join(f'{name}="{row.columns[name] or ""}"' for name in grouping)
            period = str(row.key.period_from)[: 7 if extra else 4]
            labels = f'{{job="veilleuse",{labels},{kind}="{period}"}}'
            joules = scraped.value(f"veilleuse_fleet_{kind}_energy_joules{labels}")
            grams = scraped.value(f"veilleuse_fleet_{kind}_emissions_grams{labels}")
            assert round(joules * 1000) == row.energy.energy_millijoules
            assert grams == float(f"{row.emissions.kgco2e_total!r}e3")


@pytest.mark.promise("P13")
def test_workstations_are_nowhere_live(scraped, figure):
    """Prometheus has no counter, power, day or host label for populations under the k rule (P13)."""
    populations = 'population=~"workstation|classroom"'
    assert scraped.query(f"min_over_time(veilleuse_month_hosts{{{populations}}}[5m]) >= 10")
    counters = ("energy_joules_total", "emissions_grams_total", "power_watts", "state_seconds_total")
    gauges = ("day_energy_joules", "day_emissions_grams", "day_state_seconds", "day_hosts")
    asked = [f"max_over_time(veilleuse_{name}{{{populations}}}[5m])" for name in (*counters, *gauges)]
    asked.append('max_over_time({__name__=~"veilleuse_.*",host!=""}[5m])')
    asked.append(f"min_over_time(veilleuse_month_hosts{{{populations}}}[5m]) < 10")
    found = [query for query in asked if scraped.query(query) != []]
    figure(
        f"{len(found)} of {len(asked)} queries of a real Prometheus for one PC, its hour or its label find a series"
    )
    assert found == []


def test_sigterm_ends_the_web_process_cleanly(scraped, tmp_path):
    """The exit code is 0 after SIGTERM; a port in use gives one line and exit code 1."""
    (port,) = free_ports(1)
    process = start_web(tmp_path, scraped.store.directory, port)
    wait_for(lambda: get(f"http://127.0.0.1:{port}/healthz"), tmp_path)
    second = start_web(tmp_path / "..", scraped.store.directory, port)
    assert second.wait(PATIENCE_SECONDS) == 1
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_SECONDS) == 0
    said = (tmp_path / ".." / "web.log").read_text()
    assert said.count("cannot listen on 127.0.0.1") == 1
    assert "Traceback" not in said + (tmp_path / "web.log").read_text()
