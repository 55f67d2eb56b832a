# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Measure how long agents wait for an acknowledgement during a backup, and without one in the same run.

`python -m tests.bench backup [--megabytes 350] [--agents 8] [--rounds 2]`. All processes are real: `veilleuse
serve`, `veilleuse backup`, agents' pushes over gRPC and mutual TLS, each committed with an fsync. On a busy
machine the figures without a backup change by a factor of two between rounds: read the ratio, over several
rounds. The temporary folder must be on a disk, because a tmpfs has no fsync.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

from tests.support import clock
from tests.support.machines import Machine
from tests.support.pushes import Stream, realistic
from tests.support.stack import Stack
from veilleuse.collector.model.records import HostId
from veilleuse.wire.v1 import telemetry_pb2 as pb

PERIOD = 300_000
PAUSE_SECONDS = 0.02
CALM_SECONDS = 8.0


class Pushing(threading.Thread):
    """An agent that pushes a record every 20 ms, or as soon as the last one is acknowledged."""

    def __init__(self, machine: Machine, start_unix_milliseconds: int) -> None:
        super().__init__(daemon=True)
        self.machine, self.start_at = machine, start_unix_milliseconds
        self.waits: list[tuple[float, float]] = []
        """(monotonic time of the push, seconds until acknowledged)."""
        self.stop = threading.Event()

    def run(self) -> None:
        """Push records until `stop` is set."""
        stream = Stream(HostId(0))
        with self.machine.telemetry() as stub:
            while not self.stop.wait(PAUSE_SECONDS):
                stream.add(realistic(self.start_at + len(stream.wires) * PERIOD))
                asked = time.monotonic()
                answer = stub.Push(stream.request(len(stream.wires)), timeout=60)
                self.waits.append((asked, time.monotonic() - asked))
                assert answer.outcome == pb.PUSH_OUTCOME_STORED, answer


def fill(data: Path, megabytes: int) -> None:
    """Add random bytes to the database, because the cost of a copy depends on its size only."""
    with closing(sqlite3.connect(data / "data.db")) as connection, connection:
        connection.execute("CREATE TABLE ballast (bytes BLOB NOT NULL) STRICT")
        rows = ((os.urandom(1_000_000),) for _ in range(megabytes))
        connection.executemany("INSERT INTO ballast VALUES (?)", rows)


def report(name: str, agents: list[Pushing], began: float, ended: float) -> float:
    """Print one line for the pushes in [began, ended); return their 99th percentile in seconds."""
    waits = sorted(wait for agent in agents for asked, wait in agent.waits if began <= asked < ended)
    p99 = waits[round(0.99 * (len(waits) - 1))]
    print(
        f"{name:7} {ended - began:6.1f} s {len(waits):6} acknowledgements: p50 {statistics.median(waits) * 1e3:6.1f} ms"
        f"  p99 {p99 * 1e3:6.1f} ms  longest {waits[-1] * 1e3:6.1f} ms",
        flush=True,
    )
    return p99


def rounds(stack: Stack, agents: list[Pushing], count: int) -> None:
    """Measure calm, plain backup, calm, encrypted backup; print the ratio of each to the calm before."""
    for number in range(count):
        for kind in ("plain", "sealed"):
            began = time.monotonic()
            time.sleep(CALM_SECONDS)
            calm = report("calm", agents, began, time.monotonic())
            key = ("--key-file", str(stack.folder / "key")) if kind == "sealed" else ()
            began = time.monotonic()
            done = stack.run("veilleuse", "backup", str(stack.folder / f"{kind}{number}"), "--json", *key)
            assert done.returncode in (0, 3), done.stderr
            p99 = report(kind, agents, began, time.monotonic())
            size = json.loads(done.stdout)["bytes"] / 2**20
            print(f"        {size:.0f} MiB; p99 {p99 / calm:.1f} times the calm one before it", flush=True)


def main() -> None:
    """Run one collector and some agents for a few rounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=350)
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder)) as stack:
        stack.must("veilleuse", "init")
        fill(stack.data, options.megabytes)
        stack.must("veilleuse", "backup", "--new-key", str(stack.folder / "key"))
        stack.start_collector()
        join = stack.folder / "join"
        where = (
            "--entity",
            "bench",
            "--site",
            "bench",
            "--population",
            "server",
            "--uses",
            str(options.agents),
        )
        stack.must("veilleuse", "token", "create", *where, "--output", str(join))
        begin = (clock.unix_milliseconds() - 300 * 86_400_000) // 3_600_000 * 3_600_000
        agents = []
        for _ in range(options.agents):
            machine = Machine(json.loads(join.read_text()))
            machine.enrol()
            machine.hello()
            agents.append(Pushing(machine, begin))
        print(
            f"{options.agents} agents, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, files in {folder}"
        )
        for agent in agents:
            agent.start()
        rounds(stack, agents, options.rounds)
        for agent in agents:
            agent.stop.set()
        for agent in agents:
            agent.join()
