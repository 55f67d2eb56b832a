# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Measure durable pushes and records per second of ingest: validation, writer, store; no network.

`python -m tests.bench ingest [--seconds 5] [--hosts 500] [--records 1] [--directory DIR]`. Every push is
committed with an fsync before it counts. DIR must be on the disk to be measured: a tmpfs has no fsync.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import platform
import pstats
import tempfile
import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

import google.protobuf

from tests.support.pushes import HOUR, MONDAY_10H, NOW, SERVER, Stream, enrol, realistic, site
from veilleuse.collector import settings
from veilleuse.collector.ingest.counters import Health
from veilleuse.collector.ingest.writer import Writer
from veilleuse.collector.model.records import AppendOutcome, AppendResult
from veilleuse.collector.store import create_store
from veilleuse.collector.validate import check_push

IN_FLIGHT = 192
"""Pushes queued at once: three groups, as when many agents push at the same time."""


def main() -> None:
    """Run the rounds and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--hosts", type=int, default=500)
    parser.add_argument("--records", type=int, nargs="*", default=[1, 12])
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--profile", action="store_true", help="where the writer's thread spends its time")
    options = parser.parse_args()
    print(_machine(options.directory))
    for records in options.records:
        with tempfile.TemporaryDirectory(dir=options.directory) as directory:
            _round(Path(directory), options, records)


def _round(directory: Path, options: argparse.Namespace, records: int) -> None:
    limits = settings.Store(free_bytes_minimum=0)
    with closing(create_store(directory, limits, simulated=False, now_unix_milliseconds=NOW)) as store:
        store.registry.put_site(site())
        with store.transaction():
            streams = [Stream(enrol(store.registry)) for _ in range(options.hosts)]
        health = Health()
        writer = Writer(store, health, queue_pushes=10_000)
        requests = _requests(streams, records, rounds=max(2, int(options.seconds * 6000 / options.hosts)))
        profile = cProfile.Profile()
        if options.profile:
            run = writer._run
            writer._thread = threading.Thread(target=lambda: profile.runcall(run))
        writer.start()
        began, cpu = time.monotonic(), time.process_time()
        done = _feed(writer, requests, began + options.seconds)
        elapsed, used = time.monotonic() - began, time.process_time() - cpu
        writer.stop()
        snapshot = health.snapshot()
        size = sum(file.stat().st_size for file in directory.iterdir())
        print(
            f"{records:4} records a push: {done / elapsed:7.0f} pushes/s {done * records / elapsed:8.0f} records/s"
            f"  {used / done * 1e6:6.0f} us CPU a push  {snapshot['commits'] / elapsed:5.0f} commits/s"
            f"  {snapshot['commit_seconds_sum'] / snapshot['commits'] * 1e3:6.2f} ms a commit"
            f"  {size / max(1, done * records):5.0f} B on disk a record"
        )
        if options.profile:
            pstats.Stats(profile).sort_stats("tottime").print_stats(22)


def _requests(streams: list[Stream], records: int, rounds: int) -> list[tuple[Stream, Any]]:
    requests = []
    for turn in range(rounds):
        for stream in streams:
            first = len(stream.wires) + 1
            start = MONDAY_10H + turn * records * 300_000 % (600 * HOUR)
            stream.add(*(realistic(start + i * 300_000) for i in range(records)))
            requests.append((stream, stream.request(first)))
        if len(requests) * records > 60_000:
            break
    return requests


def _feed(writer: Writer, requests: list[tuple[Stream, Any]], until: float) -> int:
    waiting: deque[Future[AppendOutcome]] = deque()
    done = 0
    for stream, request in requests:
        while len(waiting) >= IN_FLIGHT:
            done += _settled(waiting.popleft())
        if time.monotonic() > until:
            break
        push = check_push(request, stream.host_id, SERVER, NOW)
        assert not isinstance(push, tuple), push
        waiting.append(writer.append(push))
    return done + sum(map(_settled, waiting))


def _settled(future: Future[AppendOutcome]) -> int:
    assert future.result().result is AppendResult.STORED
    return 1


def _machine(directory: Path) -> str:
    import sqlite3  # after the collector has chosen the library

    return (
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, protobuf {google.protobuf.__version__},"
        f" {os.cpu_count()} CPUs {platform.machine()}, {platform.system()} {platform.release()}, files in {directory};"
        f" WAL, synchronous=FULL"
    )
