# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Give the output of `veilleuse backfill` to a real Prometheus and a real VictoriaMetrics (Debian's)."""

from __future__ import annotations

import csv
import io
import math
import os
import subprocess
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.databases import VictoriaMetrics, ask
from tests.support.filled import Filled, month_of_workstations
from tests.support.peers import peer
from tests.support.ports import free_port
from tests.support.processes import ran
from tests.support.publishing import publish_months
from tests.support.stack import get, program
from tests.support.waiting import PATIENCE_SECONDS, comes
from veilleuse.collector.exposition import catalogue as c

GROUPING = ("perimeter", "population", "device_class")
Import = Callable[[Path], None]


@dataclass(frozen=True)
class Written:
    """The file of two released months, and the report of the same months."""

    file: Path
    months: tuple[date, date]
    report: dict[tuple[str, ...], tuple[float, float]]
    """Group → (mJ, kg CO2e), summed over the rows of both months."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Release two months of 24 workstations; write the file, and the report."""
    folder = tmp_path_factory.mktemp("backfill")
    # Of the past in every clock: libfaketime does not lead Prometheus.
    first, second, day = date(2026, 9, 1), date(2026, 10, 1), date(2026, 11, 25)
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp()
    with Filled(folder / "data", clock=lambda: noon) as store:
        hosts = month_of_workstations(store, first, [(600, 1200)] * 24, 12)
        month_of_workstations(store, second, [(600, 1200)] * 24, 6, hosts)
        store.derive()
        publish_months(store, day)
    end = (second + timedelta(days=31)).replace(day=1)
    period = ["--from", str(first), "--to", str(end)]
    environment = {**os.environ, "VEILLEUSE__DATA_DIR": str(folder / "data"), "NO_COLOR": "1", "LC_ALL": "C"}
    file = folder / "months.om"
    done = ran([program("veilleuse"), "backfill", *period, "-o", file], env=environment)
    assert (done.returncode, done.stderr) == (
        0,
        f"note: 2 released months written, {first:%Y-%m} to {second:%Y-%m}\n",
    )
    grouping = ["--group-by", ",".join((*GROUPING, "month"))]
    text = ran([program("veilleuse"), "report", "emissions", *period, *grouping], env=environment).stdout
    sums: defaultdict[tuple[str, ...], list[tuple[float, float]]] = defaultdict(list)
    for row in csv.DictReader(io.StringIO(text)):
        if row["level"] == "row":
            group = tuple(row[name] for name in GROUPING)
            sums[group].append((float(row["energy_millijoules"]), float(row["kgco2e_total"])))
    added = {
        group: (math.fsum(energy for energy, _ in rows), math.fsum(kilograms for _, kilograms in rows))
        for group, rows in sums.items()
    }
    return Written(file, (first, second), added)


@contextmanager
def prometheus(folder: Path) -> Iterator[tuple[str, Import]]:
    """Yield the URL of a Prometheus, and a function that makes its blocks of a file, as promtool does."""
    tsdb, port = folder / "tsdb", free_port()
    (folder / "prometheus.yml").write_text("global: {}\n")
    running: list[subprocess.Popen[bytes]] = []

    def stop() -> None:
        for process in running:
            process.terminate()
            process.wait(PATIENCE_SECONDS)
        running.clear()

    def load(file: Path) -> None:
        stop()
        made = ran([peer("promtool"), "tsdb", "create-blocks-from", "openmetrics", file, tsdb])
        assert made.returncode == 0, made.stdout + made.stderr
        options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={tsdb}"]
        options += ["--storage.tsdb.retention.time=10y", f"--web.listen-address=127.0.0.1:{port}"]
        with (folder / "prometheus.log").open("ab") as log:
            running.append(
                subprocess.Popen([peer("prometheus"), *options], stdout=log, stderr=subprocess.STDOUT)
            )
        assert comes(lambda: _answers(f"http://127.0.0.1:{port}/-/ready")), (
            folder / "prometheus.log"
        ).read_text()

    try:
        yield f"http://127.0.0.1:{port}/", load
    finally:
        stop()


@contextmanager
def victoria_metrics(folder: Path) -> Iterator[tuple[str, Import]]:
    """Yield the URL of a VictoriaMetrics, and a function that imports a file."""
    with VictoriaMetrics(folder) as database:

        def load(file: Path) -> None:
            url = f"{database.url}api/v1/import/prometheus"
            urllib.request.urlopen(
                urllib.request.Request(url, file.read_bytes()), timeout=PATIENCE_SECONDS
            ).close()
            database.flush()

        yield database.url, load


def _answers(url: str) -> bool:
    try:
        return bool(get(url))
    except OSError:
        return False


def test_each_month_is_one_sample_of_each_group(written):
    """The file is OpenMetrics with an end, one sample for each group and month, at noon of its first day."""
    lines = written.file.read_text().splitlines()
    assert lines[-1] == "# EOF"
    times = {int(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}
    assert [datetime.fromtimestamp(one, UTC) for one in sorted(times)] == [
        datetime(month.year, month.month, 1, 12, tzinfo=UTC) for month in written.months
    ]
    samples = [line for line in lines if line.startswith(c.HISTORY_ENERGY.name)]
    assert len(samples) == 2 * len(written.report)


@pytest.mark.parametrize("database", [prometheus, victoria_metrics])
def test_the_sum_over_months_is_that_of_the_report(written, tmp_path, database):
    """A real database has the report's millijoules and grams of both months, after a second import too."""
    with ExitStack() as cleanup:
        url, load = cleanup.enter_context(database(tmp_path))
        for _ in range(2):
            load(written.file)
            for metric, column, per in ((c.HISTORY_ENERGY, 0, 1 / 1_000), (c.HISTORY_EMISSIONS, 1, 1_000)):
                series = f"{metric.name}[100d]"
                assert {row["value"][1] for row in ask(url, f"count_over_time({series})")} == {"2"}
                found = {
                    tuple(row["metric"].get(name, "") for name in GROUPING): float(row["value"][1]) / per
                    for row in ask(url, f"sum_over_time({series})")
                }
                wanted = {group: sums[column] for group, sums in written.report.items()}
                assert wanted
                assert found == pytest.approx(wanted, rel=1e-12)


def test_the_file_says_nothing_of_now(written, tmp_path):
    """An instant query for now finds no sample: it can be added to no live gauge by mistake."""
    with prometheus(tmp_path) as (url, load):
        load(written.file)
        assert ask(url, '{__name__=~"veilleuse_.*"}') == []
        assert ask(url, 'present_over_time({__name__=~"veilleuse_fleet_(month|year)_.*"}[100d])') == []
