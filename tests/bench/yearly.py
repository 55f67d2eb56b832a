# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Measure yearly reports of the year under way: emissions, indicators and the REEN sheet.

5 % of the machines are servers; months are written directly, that under way included,
and published as the collector does.
`python -m tests.bench yearly [--machines 10000] [--profile] DIRECTORY`: `--machines` fills the directory.
The digests are those of the figures: two versions of the code can be compared.
"""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import pstats
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

from tests.bench import report, unrolled
from veilleuse.collector.cli import report as command
from veilleuse.collector.documents.document import Document, renderer
from veilleuse.collector.model.query import DEFAULT_DIMENSIONS, Query
from veilleuse.collector.reports.emissions import emissions_report_of
from veilleuse.collector.reports.fleet_publication import FleetPublisher
from veilleuse.collector.reports.readers import sobriety_sources_of, sources_of
from veilleuse.collector.settings import CollectorSettings, ReportingSettings, Store
from veilleuse.collector.store import create_store, open_reader

TODAY = date(report.YEAR, *unrolled.TODAY)
NOW = round(datetime.combine(TODAY, datetime.min.time(), UTC).timestamp() * 1000)
FIRST, END = date(report.YEAR, 1, 1), date(report.YEAR + 1, 1, 1)


def fill(directory: Path, machines: int) -> None:
    """Write a fleet whose months, that under way included, are stored; with 180 days of its servers."""
    with closing(create_store(directory, Store(), simulated=True, now_unix_milliseconds=1)) as store:
        report.fill(store, machines, [report.YEAR], unrolled.MONTH)
        with store.transaction():
            unrolled.write_server_days(store, TODAY)
            store.data.connection.execute(
                "INSERT INTO stale_months (month, host_id, stored) SELECT ?, host_id, 1 FROM hosts",
                (date(report.YEAR, unrolled.MONTH, 1).toordinal(),),
            )
        publish = store.publications.put
        with open_reader(directory) as reader:
            sources = sobriety_sources_of(reader, ReportingSettings())
            FleetPublisher(sources, publish, 10, TODAY).run()


def fill_and_measure(machines: int) -> dict[str, float]:
    """Return the processor seconds of each report over a new fleet of this size."""
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder) / "data", machines)
        return measure(Path(folder) / "data")


def reports(settings: CollectorSettings) -> Mapping[str, Callable[[], Document]]:
    """Return each report by its name, as the command makes it."""
    query = Query(FIRST, END, DEFAULT_DIMENSIONS, settings.reporting.k_anonymity, TODAY, NOW)

    def emissions() -> Document:
        with open_reader(settings.data_dir) as store:
            return emissions_report_of(sources_of(store, settings.reporting), query).document

    return {
        "report emissions": emissions,
        "report indicators": partial(command.make_indicators, settings, query),
        "report reen": partial(command.reen_sheet, settings, FIRST, END),
    }


def measure(directory: Path, *, profile: bool = False) -> dict[str, float]:
    """Return the processor seconds of each report, with a digest of its figures printed."""
    command.today = lambda: TODAY  # type: ignore[attr-defined]
    found = {}
    for name, make in reports(CollectorSettings(data_dir=directory)).items():
        watched = cProfile.Profile()
        began = time.process_time()
        made = watched.runcall(make) if profile else make()
        found[name] = time.process_time() - began
        text = renderer("csv")(made)
        lines = [line for line in text.splitlines() if b"generated" not in line]
        print(
            f"  {name}: {found[name]:.2f} s, {hashlib.sha256(b''.join(lines)).hexdigest()[:12]}", flush=True
        )
        if profile:
            pstats.Stats(watched).sort_stats("cumtime").print_stats(45)
            pstats.Stats(watched).sort_stats("tottime").print_stats(25)
    return found


def main() -> None:
    """Measure the reports of a directory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", action="store_true", help="where each report spends its time")
    parser.add_argument("--machines", type=int, help="fill the directory first")
    parser.add_argument("directory", type=Path)
    options = parser.parse_args()
    if options.machines:
        fill(options.directory, options.machines)
    measure(options.directory, profile=options.profile)
