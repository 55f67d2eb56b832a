# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R17: five times what the collector can carry."""

from __future__ import annotations

import json
import subprocess
import threading
from typing import Any

import psutil
import pytest

from tests.promises.trial import Trial

AGENTS = 1_500
AT_ONCE = 56
"""As many as the collector serves at once: what it then stores a second is its capacity."""
PUSHES = 40
"""That each agent prepares."""
RSS_BYTES = 512 * 2**20


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The line that a process of swift_load.py ends with."""
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
@pytest.mark.parametrize("manner", ["obedient", "stubborn"])
@pytest.mark.parametrize("records", [3, 100])
def test_five_times_its_capacity(tmp_path, figure, records, manner):
    """It stores as much as it can, answers soon, stays small, and tells the others when to come back: whether they heed it, or
    call again at once. Each agent has one call under way at a time, as real ones do."""
    with Trial(tmp_path) as trial:
        trial.enrol(AGENTS * 8 // 6)
        servers = [agent for agent in trial.agents if agent.population == "server"]
        trial.start()
        trial.stack.wait_for(trial.serves, "the collector serves", process=trial.collector)
        assert trial.collector is not None
        with Largest(trial.collector.pid) as largest:
            before = told(trial.swift_load(servers, 10, records, -AT_ONCE, PUSHES, manner))
            offered = 5 * before["stored_per_second"]
            loaded = told(trial.swift_load(servers, 25, records, offered, PUSHES, manner))
            after = told(trial.swift_load(servers, 10, records, -AT_ONCE, PUSHES, manner))
    capacity = (before["stored_per_second"] + after["stored_per_second"]) / 2
    goodput = loaded["stored_per_second"] / capacity
    refused = sum(loaded["refused"].values())
    figure(
        f"{records} records a push, {AGENTS:,} {manner} agents that have {offered:.0f} pushes/s to send, capacity {capacity:.0f}/s: "
        f"{loaded['called_per_second']:.0f} calls/s, goodput {goodput:.0%}, p99 {loaded['p99_seconds']:.1f} s, "
        f"RSS ≤ {largest.bytes / 2**20:.0f} MiB, {refused} refused ({loaded['refused']})"
    )
    assert "the plan was too small" not in loaded["refused"]
    assert goodput >= 0.9
    assert loaded["p99_seconds"] < 5
    assert largest.bytes < RSS_BYTES
    assert refused > 0
    assert (
        loaded["told_when"] >= 0.95 * refused
    )  # the rest gRPC refused by itself, when a thousand came at one moment
