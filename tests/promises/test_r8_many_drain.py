# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R8, second half: live agents send while ten thousand others deliver the records of an outage."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.promises.results import in_words
from tests.promises.support.served import peak_bytes
from tests.promises.support.trial import Trial
from tests.promises.test_r17_overload import RSS_BYTES, told
from tests.support.waiting import until

DRAINING, LIVE = 10_000, 60
INTERVAL_SECONDS, SECONDS = 60.0, 200
RECORDS, PUSHES = 256, 30
"""A real sender's records per push, and pushes: 7,680 minutes each, so that the drain outlasts the test."""
THREADS = 320


def has_records(data: Path) -> bool:
    """Return whether a collector has stored a record."""
    with closing(sqlite3.connect(f"file:{data / 'data.db'}?mode=ro", uri=True)) as db:
        return bool(db.execute("SELECT EXISTS (SELECT 1 FROM records)").fetchone()[0])


@pytest.mark.long
@pytest.mark.promise("R8")
def test_live_agents_while_ten_thousand_drain(tmp_path, figure):
    """Live agents' p99 stays below two of their intervals beside agents with days of records to deliver."""
    with Trial(tmp_path) as trial:
        trial.enrol((DRAINING + LIVE) * 8 // 6 + 8)
        servers = [agent for agent in trial.agents if agent.population == "server"]
        live, draining = servers[:LIVE], servers[LIVE : LIVE + DRAINING]
        trial.start()
        trial.stack.wait_for(trial.serves, "the collector serves", process=trial.collector)
        assert trial.collector is not None
        drain = trial.drain(draining, SECONDS, RECORDS, PUSHES, 0, THREADS)
        until(lambda: has_records(trial.stack.data), "nobody drains")
        now = told(trial.drain(live, SECONDS - 10, 1, SECONDS, INTERVAL_SECONDS, LIVE))
        drained = told(drain)
        largest_bytes = peak_bytes(trial.collector.pid)
    refused = {what: number for what, number in drained["ended"].items() if what != "all delivered"}
    figure(
        f"p99 {now['p99_seconds']:.1f} s from measurement to delivery of {now['delivered']:,} live records ({LIVE} agents, every "
        f"{INTERVAL_SECONDS:.0f} s), beside {DRAINING:,} agents with {RECORDS * PUSHES:,} records each for {SECONDS} s "
        f"({drained['contacts']:,} contacts, {drained['most_at_once']} at once at most, "
        f"{drained['records'] / SECONDS:,.0f} records/s, refusals: {in_words(refused)}), "
        f"resident memory ≤ {largest_bytes / 2**20:.0f} MiB"
    )
    assert drained["contacts"] >= DRAINING
    assert drained["ended"].get("all delivered", 0) < DRAINING / 10
    assert now["delivered"] >= LIVE * (SECONDS - 10) / INTERVAL_SECONDS / 2
    assert now["p99_seconds"] < 2 * INTERVAL_SECONDS
    assert largest_bytes < RSS_BYTES
