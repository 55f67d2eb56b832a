# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A bench that is ended by SIGTERM leaves no process behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress

import psutil

from tests.support.waiting import PATIENCE_SECONDS, has_ended, until


def test_sigterm_ends_what_a_bench_started():
    """Of the bench of alerts: the collector and its processes, Prometheus and Alertmanager."""
    bench = subprocess.Popen([sys.executable, "-m", "tests.bench", "alerts"], stdout=subprocess.DEVNULL)
    started: set[psutil.Process] = set()

    def all_run() -> bool:
        started.update(psutil.Process(bench.pid).children(recursive=True))
        return any(_name(one) == "prometheus" for one in started)  # it is the last

    try:
        until(all_run, "it starts the programs")
        bench.terminate()
        assert bench.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM
        until(lambda: all(map(has_ended, started)), "a process was left behind")
    finally:
        bench.kill()
        for process in started:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def _name(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return process.name()
    return ""
