# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Measure seconds, sizes and memory of closing a year of many machines, of verifying it, and of its report.

`python -m tests.bench closing [--hosts 10000]`: the fleet of bench/report.py; then the work of `veilleuse
close`, `verify` and `report emissions`, each in its own process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Final

from tests.bench.report import YEAR, fill, peak_mebibytes
from tests.support import clock
from tests.support.sources import opened
from veilleuse.collector.app.data_directory import initialise
from veilleuse.collector.cli.close import _send
from veilleuse.collector.closed_years.document import statistics_document
from veilleuse.collector.closed_years.verify import verify_file
from veilleuse.collector.model.closed_years import canonical
from veilleuse.collector.model.query import Query
from veilleuse.collector.reports.close_year import ClosingOrder, propose
from veilleuse.collector.reports.emissions import emissions_report_of
from veilleuse.collector.reports.kept_years import keep_year
from veilleuse.collector.settings import CollectorSettings, read_settings
from veilleuse.collector.store import open_store

TODAY: Final = date(YEAR + 1, 3, 1)


def timed(name: str, what: Callable[[], object]) -> None:
    """Do the work, and print its seconds, processor time and the peak memory."""
    began, processor = time.perf_counter(), time.process_time()
    what()
    print(
        f"  {name}: {time.perf_counter() - began:.2f} s (processor {time.process_time() - processor:.2f}), peak memory "
        f"{peak_mebibytes():.0f} MiB",
        flush=True,
    )


def close(settings: CollectorSettings) -> None:
    """Compute the year's statistics, then have them signed and stored."""
    with opened(settings.data_dir, settings.reporting) as sources:
        began = time.perf_counter()
        kept = keep_year(sources, YEAR, k=10, today=TODAY)
        statistics = canonical(statistics_document(kept))
        print(f"  statistics alone: {time.perf_counter() - began:.2f} s, {len(kept.cells)} cells")
        parts = json.loads(statistics)["cells"]
        for name in ("products", "sums"):
            size = sum(len(canonical(cell[name])) for cell in parts)
            print(f"    {name}: {size / 2**20:.2f} MiB, {size / max(1, len(parts)):.0f} bytes a cell")
        print(
            f"    all: {len(statistics) / 2**20:.2f} MiB, {len(zlib.compress(statistics)) / 2**20:.2f} MiB under zlib"
        )
        order = ClosingOrder(YEAR, False, "bench", "", clock.unix_milliseconds(), TODAY)
        made = propose(sources, settings, order)
    began = time.perf_counter()
    _send(settings, made)
    print(f"  signed, stored and exported: {time.perf_counter() - began:.2f} s")


def verify(settings: CollectorSettings) -> None:
    """Verify the exported file."""
    found = verify_file(settings.data_dir / "closed" / f"{YEAR}-r1.json", None)
    assert not found.wrong, found.wrong


def report(settings: CollectorSettings) -> None:
    """Compute the emissions report of the closed year."""
    question = Query(date(YEAR, 1, 1), date(YEAR + 1, 1, 1), ("entity", "device_class"), 10, TODAY)
    with opened(settings.data_dir, settings.reporting) as sources:
        emissions_report_of(sources, question)


STEPS: Final = {"close": close, "verify": verify, "report": report}


def main() -> None:
    """Fill a store, then run each step in its own process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=10_000)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        timed(options.step, lambda: STEPS[options.step](read_settings(None)))
        return
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "VEILLEUSE__DATA_DIR": str(Path(folder) / "data"),
            "VEILLEUSE__STORE__FREE_BYTES_MINIMUM": "0",
        }
        settings = read_settings(None, environment)
        initialise(settings, simulated=True)
        with closing(open_store(settings.data_dir, settings.store)) as store:
            fill(store, options.hosts, (YEAR,), 12)
        print(f"{options.hosts} hosts", flush=True)
        for step in STEPS:
            subprocess.run(
                [sys.executable, "-m", "tests.bench", "closing", "--step", step],
                check=True,
                env={**os.environ, **environment},
            )
