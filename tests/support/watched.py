# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Run a Prometheus that reads a collector with a simulated fleet, a released month and one real agent."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from tests.support import clock
from tests.support.peers import peer
from tests.support.ports import free_ports
from tests.support.records import clock_record, spool_of
from tests.support.stack import Stack, get
from tests.support.waiting import comes
from veilleuse.collector.months.worker import ended_by
from veilleuse.wire.units import (
    MILLISECONDS_PER_DAY,
    MILLISECONDS_PER_HOUR,
    MILLISECONDS_PER_MINUTE,
    MILLISECONDS_PER_SECOND,
)
from veilleuse.wire.vocabulary import GapReason

HOSTS: Final = 80
"""Simulated machines: enough for groups of k of both kinds of PC, and for a virtual server."""
WATTS: Final = 200.0
"""Power that the meter of the agent's machine tells."""
SENT_JOULES: Final = (60 + 7 + 1) * 60 * WATTS
"""Energy of the minutes that are sent before the block runs."""
SETTINGS: Final = {
    "VEILLEUSE__HTTP__HOSTS_METRICS": "true",
    "VEILLEUSE_AGENT__MEASURE__POPULATION": "server",
    "VEILLEUSE_AGENT__MEASURE__DEVICE_CLASS": "server",
}


@dataclass
class Watched:
    """A collector with its agent, and the Prometheus that reads it."""

    stack: Stack
    prometheus: str
    """Its URL."""
    month: date
    """First day of the released month."""

    @property
    def instance(self) -> str:
        """Return the collector's label in Prometheus."""
        return self.stack.environment["VEILLEUSE__HTTP__ADDRESS"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the result of an instant query."""
        text = get(f"{self.prometheus}api/v1/query?{urllib.parse.urlencode({'query': expression})}")
        answer = json.loads(text)
        assert answer["status"] == "success", text
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def eventually(self, expression: str) -> list[dict[str, Any]]:
        """Return the first result that is not empty, because on a busy machine a scrape may fail, and every
        series with it; or an empty one at the end."""
        found: list[dict[str, Any]] = []

        def is_there() -> bool:
            found.extend(self.query(expression))
            return bool(found)

        comes(is_there, every=0.3)
        return found

    def value(self, expression: str) -> float:
        """Return the value of the query's only series."""
        (one,) = self.eventually(expression)
        return float(one["value"][1])

    def send(self, *starts_and_minutes: tuple[int, int]) -> None:
        """Spool metered minutes, each with a short gap of another source, and let the agent send them.

        (Unix milliseconds of the first one, number of minutes).
        """
        spool = spool_of(self.stack.state)
        try:
            for start, minutes in starts_and_minutes:
                for number in range(minutes):
                    record = clock_record(
                        start + number * MILLISECONDS_PER_MINUTE,
                        MILLISECONDS_PER_MINUTE,
                        metered_millijoules=round(WATTS * MILLISECONDS_PER_MINUTE),
                    )
                    record.gaps[GapReason.SENSOR_LOST, "linux_rapl"] = MILLISECONDS_PER_SECOND
                    spool.append([record.to_json()], {})
        finally:
            spool.close()
        self.stack.must("veilleuse-agent", "send")

    def report(self, kind: str, first: date, end: date, grouping: str, *more: str) -> dict[str, Any]:
        """Return what the command `veilleuse report` prints as JSON."""
        period = ("--from", str(first), "--to", str(end))
        command = ("veilleuse", "report", kind, *period, "--group-by", grouping, "--format", "json", *more)
        found: dict[str, Any] = json.loads(self.stack.must(*command))
        return found


def last_released_month() -> date:
    """Return the first day of the newest month that is released today."""
    today = clock.today(ZoneInfo("Europe/Paris"))
    return (ended_by(today) - timedelta(days=1)).replace(day=1)


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    """Give all of it while the block runs; every process is real."""
    database = peer("prometheus")
    month = last_released_month()
    end = (month + timedelta(days=31)).replace(day=1)
    (port,) = free_ports(1)
    with Stack(folder, SETTINGS) as stack:
        stack.must("veilleuse", "init", "--simulated")
        days = ("--from", str(month), "--days", str((end - month).days))
        stack.must("veilleuse", "simulate", *days, "--hosts", str(HOSTS))
        found = Watched(stack, f"http://127.0.0.1:{port}/", month)
        service = stack.start_collector()
        config = folder / "prometheus.yml"
        config.write_text(_config(found.instance))
        stack.programs["prometheus"] = Path(database)
        where = (f"--storage.tsdb.path={folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}")
        stack.start("prometheus", f"--config.file={config}", *where, "--log.level=warn")
        with ThreadPoolExecutor(1) as beside:
            backup = beside.submit(stack.run, "veilleuse", "backup", str(folder / "backup"))
            stack.enrol()
            now = clock.unix_milliseconds()
            yesterday = (now - MILLISECONDS_PER_DAY) // MILLISECONDS_PER_HOUR * MILLISECONDS_PER_HOUR
            this_minute = now // MILLISECONDS_PER_MINUTE * MILLISECONDS_PER_MINUTE
            found.send((yesterday, 60), (this_minute - 12 * MILLISECONDS_PER_MINUTE, 7))
        assert backup.result().returncode == 3, "made, not sealed"
        published = f"fleet {month} to {end}"
        stack.wait_for(lambda: published in stack.log("veilleuse"), published)
        # Only the start of the web process reads what is released at once; later, it looks each minute.
        assert stack.stop(service) == 0
        stack.start_collector()
        stack.wait_for(lambda: _reads(found), "Prometheus has the released month and the server")
        # The server's counters rise while Prometheus reads them.
        found.send((this_minute - 5 * MILLISECONDS_PER_MINUTE, 1))
        stack.wait_for(
            lambda: _joules_of_server(found) == SENT_JOULES, "Prometheus has each minute of the server"
        )
        yield found


def _reads(found: Watched) -> bool:
    try:
        wanted = ("veilleuse_fleet_month_energy_joules", "veilleuse_host_power_watts")
        return all(found.query(f"sum_over_time({name}[1m])") for name in wanted)
    except OSError:
        return False


def _joules_of_server(found: Watched) -> float | None:
    for series in found.query('sum(veilleuse_energy_joules_total{entity="test"})'):
        return float(series["value"][1])
    return None


def _config(target: str) -> str:
    job = f"static_configs: [{{targets: ['{target}']}}]"
    return (
        "global: {scrape_interval: 5s, scrape_timeout: 5s}\n"
        "scrape_configs:\n"
        f"  - job_name: veilleuse\n    {job}\n    scrape_protocols: [OpenMetricsText1.0.0]\n"
        f"  - job_name: hosts\n    metrics_path: /metrics/hosts\n    {job}\n"
        f"  - job_name: text\n    {job}\n    scrape_protocols: [PrometheusText0.0.4]\n"
        "    metric_relabel_configs: [{action: drop, source_labels: [__name__], regex: '.+'}]\n"
    )
