# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R19: 500 agents for a long time. Twenty minutes stand for a day: said in the figure."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import psutil
import pytest

from tests.promises.trial import Trial

AGENTS = 500
WARM_SECONDS, SOAK_SECONDS, EVERY_SECONDS = 180, 1_020, 5
"""First faster than life, so that caches fill; then as 500 servers are: a push of 3 records each, every quarter of an hour."""
PUSHES_PER_SECOND = 1.0
SLOPE_BYTES_PER_HOUR = 2**20
WAL_BYTES = 64 * 2**20


@pytest.mark.long
@pytest.mark.promise("R19", "R18")
def test_soak(tmp_path, figure):
    """Memory and descriptors stay where they are, the WAL stays small; nothing is lost."""
    with Trial(tmp_path) as trial:
        trial.enrol(AGENTS)
        trial.start()
        trial.load(200, processes=2)
        trial.wait_for_ack()
        time.sleep(WARM_SECONDS)
        trial.quiet()
        trial.load(PUSHES_PER_SECOND)
        assert trial.collector is not None
        rss, descriptors, wal = soaked(trial.collector.pid, trial.stack.data / "data.db-wal")
        report = trial.end()
    hours = [n * EVERY_SECONDS / 3600 for n in range(len(rss))]
    slope, _ = statistics.linear_regression(hours, rss)
    figure(
        f"{SOAK_SECONDS // 60} min, not 24 h, after {WARM_SECONDS} s of warm-up: RSS {rss[-1] / 2**20:.0f} MiB, {slope / 2**20:+.2f} MiB/h; "
        f"descriptors {min(descriptors)} to {max(descriptors)}; WAL ≤ {max(wal) / 2**20:.1f} MiB; {report}"
    )
    assert slope < SLOPE_BYTES_PER_HOUR
    assert max(descriptors) - min(descriptors) <= AGENTS // 50
    assert max(wal) < WAL_BYTES
    assert report.sound, report.details


def soaked(pid: int, wal_file: Path) -> tuple[list[int], list[int], list[int]]:
    """Resident set, descriptors and size of the WAL, every few seconds; the first minute, when agents connect, is left out."""
    process = psutil.Process(pid)
    time.sleep(60)
    rss, descriptors, wal = [], [], []
    until = time.monotonic() + SOAK_SECONDS
    while time.monotonic() < until:
        rss.append(process.memory_info().rss)
        descriptors.append(process.num_fds())
        wal.append(wal_file.stat().st_size)
        time.sleep(EVERY_SECONDS)
    return rss, descriptors, wal
