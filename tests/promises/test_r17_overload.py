# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R17: five times what the collector can carry. And R8's second half: live agents while others drain."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from typing import Any

import psutil
import pytest

from tests.promises.trial import Trial

RECORDS = 100
"""Of one push: the collector's work is large beside the client's, which shares the processors."""
RSS_BYTES = 512 * 2**20


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The line that a process of overload.py ends with."""
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(said)
    return found


class Largest:
    """The largest resident set of a process while the block runs."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._process = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            self.bytes = max(self.bytes, self._process.memory_info().rss)

    def __enter__(self) -> Largest:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.mark.long
@pytest.mark.promise("R17")
def test_five_times_its_capacity(tmp_path, figure):
    """It stores as much as it can, answers soon, stays small, and tells the others when to come back."""
    with Trial(tmp_path) as trial:
        trial.enrol(160)
        servers = [agent for agent in trial.agents if agent.population == "server"]
        trial.start()
        trial.stack.wait_for(trial.serves, "the collector serves", process=trial.collector)
        assert trial.collector is not None
        with Largest(trial.collector.pid) as largest:
            before = told(trial.overload(servers[:24], "closed", 10, RECORDS, 24, 100))
            offered = 5 * before["stored_per_second"]
            loaded = told(trial.overload(servers, "open", 25, RECORDS, offered, 50))
            after = told(trial.overload(servers[:24], "closed", 10, RECORDS, 24, 100))
    capacity = (before["stored_per_second"] + after["stored_per_second"]) / 2
    goodput = loaded["stored_per_second"] / capacity
    refused = sum(loaded["refused"].values())
    figure(
        f"offered {offered:.0f} pushes/s of {RECORDS} records, capacity {capacity:.0f}/s: goodput {goodput:.0%}, "
        f"p99 {loaded['p99_seconds']:.1f} s, RSS ≤ {largest.bytes / 2**20:.0f} MiB, {refused} refused ({loaded['refused']})"
    )
    assert "the plan was too small" not in loaded["refused"]
    assert goodput >= 0.9
    assert loaded["p99_seconds"] < 5
    assert largest.bytes < RSS_BYTES
    assert refused > 0
    assert loaded["told_when"] == refused


@pytest.mark.long
@pytest.mark.promise("R8")
def test_live_agents_while_others_drain(tmp_path, figure):
    """Agents with a month to deliver do not keep those with one record waiting for two of their intervals."""
    interval, seconds = 60.0, 110
    with Trial(tmp_path) as trial:
        trial.enrol(260)
        servers = [agent for agent in trial.agents if agent.population == "server"]
        live, draining = servers[:60], servers[60:]
        trial.start()
        trial.stack.wait_for(trial.serves, "the collector serves", process=trial.collector)
        drain = trial.overload(draining, "open", seconds, 256, 150, 24)
        time.sleep(5)
        now = told(trial.overload(live, "live", seconds - 20, 1, len(live) / interval, 10))
        drained = told(drain)
    figure(
        f"{len(draining)} agents drain {drained['stored'] * 256 / seconds:.0f} records/s ({sum(drained['refused'].values())} told to come back): "
        f"{now['stored']} live records, p99 {now['p99_seconds']:.1f} s after they were made, at intervals of {interval:.0f} s"
    )
    assert now["stored"] >= 60
    assert now["p99_seconds"] < 2 * interval
