# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R17: five times the load that the collector can carry."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.promises.results import in_words
from tests.promises.support.served import peak_bytes
from tests.promises.support.trial import Trial
from tests.support.waiting import until

AGENTS = 1_500
AT_ONCE = 56
"""Calls that the collector serves at once: its capacity is what it then stores per second."""
OPEN = 1_000
"""Records of a push, as after an outage. With it, 1,500 agents of one call each can offer five times the
capacity: a refused call is held for 12 s first (docs/wire.md §3).
"""
PUSHES = {3: 120, OPEN: 9}
"""Records of a push → pushes that each agent prepares."""
CAPACITY_SECONDS, LOAD_SECONDS = 20, 40
"""Shorter runs on one machine differed by 5 % in what they stored."""
WANTED, OFFERED = 6, 5
"""Multiples of the capacity: of the one measured before, and of the mean of those before and after."""
MANNERS = {"obedient": "agents that wait as asked", "stubborn": "agents that push again at once"}
"""Argument of the load → its meaning."""
RSS_BYTES = 512 * 2**20
DERIVED_SECONDS = 60
"""Longest time after the load until derivations put off are done (docs/wire.md §3)."""


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the line that a load process ends with."""
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    found: dict[str, Any] = json.loads(said)
    return found


def seconds_until_derived(data_dir: Path) -> float:
    """Return the seconds until no period waits for its derivation."""
    began = time.monotonic()
    with closing(sqlite3.connect(f"file:{data_dir / 'data.db'}?mode=ro", uri=True)) as database:
        until(
            lambda: database.execute("SELECT NOT EXISTS (SELECT 1 FROM dirty)").fetchone()[0],
            "periods still wait for their derivation",
            DERIVED_SECONDS,
            every=0.1,
        )
    return time.monotonic() - began


@pytest.mark.long
@pytest.mark.promise("R17")
@pytest.mark.parametrize("records", PUSHES)
def test_five_times_its_capacity(tmp_path, figure, records):
    """At five times its capacity the collector stores 90 % of it, with p99 < 5 s and RSS < 512 MiB.

    Each refusal has a delay, whether agents wait for it or push again at once. Each agent has one call under
    way, as real ones do. Agents with small pushes that wait for answers cannot offer five times the capacity;
    those with large ones that push at once can, and must. Derivations put off are done soon after.
    """
    with Trial(tmp_path) as trial:
        trial.enrol(AGENTS * 8 // 6)
        servers = [agent for agent in trial.agents if agent.population == "server"]
        trial.start()
        trial.stack.wait_for(trial.serves, "the collector serves", process=trial.collector)
        assert trial.collector is not None
        pushes = PUSHES[records]
        told(trial.swift_load(servers, 5, records, -AT_ONCE, pushes, "obedient"))  # warm-up
        data_dir = Path(trial.stack.environment["VEILLEUSE__DATA_DIR"])
        closed = (CAPACITY_SECONDS, records, -AT_ONCE, pushes, "obedient")
        capacities = [told(trial.swift_load(servers, *closed))]
        loads = {}
        for manner in MANNERS:
            offered = WANTED * capacities[-1]["stored_per_second"]
            loads[manner] = told(trial.swift_load(servers, LOAD_SECONDS, records, offered, pushes, manner))
            loads[manner]["derived"] = seconds_until_derived(data_dir)
            capacities.append(told(trial.swift_load(servers, *closed)))
        largest_bytes = peak_bytes(trial.collector.pid)
    a_second = [found["stored_per_second"] for found in capacities]
    said = []
    for number, (manner, load) in enumerate(loads.items()):
        capacity = (a_second[number] + a_second[number + 1]) / 2
        load["goodput"] = load["stored_per_second"] / capacity
        load["offered"] = load["called_per_second"] / capacity
        said.append(
            f"{100 * load['goodput']:.0f} % of {capacity:,.0f} pushes/s stored at {load['offered']:.1f} × the capacity "
            f"({MANNERS[manner]}), p99 {load['p99_seconds']:.1f} s, refused {in_words(load['refused'])}, derived {load['derived']:.0f} s later"
        )
    figure(
        f"{AGENTS:,} agents with {records:,} records a push, and a target of {WANTED} × the capacity: {', '.join(said)}, "
        f"resident memory ≤ {largest_bytes / 2**20:.0f} MiB"
    )
    assert largest_bytes < RSS_BYTES
    assert records != OPEN or loads["stubborn"]["offered"] >= OFFERED
    for load in loads.values():
        refused = sum(load["refused"].values())
        assert "the plan was too small" not in load["refused"]
        assert load["goodput"] >= 0.9
        assert load["p99_seconds"] < 5
        assert refused > 0
        assert load["told_when"] == refused
