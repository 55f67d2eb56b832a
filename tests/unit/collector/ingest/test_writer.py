# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the writing thread on a real store: group commit, jobs, bounds, deadlines and a clean stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.pushes import HOUR, MONDAY_10H, NOW, Stream, enrol, realistic, site
from tests.support.receiving import hold
from tests.support.waiting import PATIENCE_SECONDS, deadline, until
from veilleuse.collector import settings
from veilleuse.collector.errors import CollectorError, QueueFull, StoreDamaged, StoreFailing, StoreFull
from veilleuse.collector.ingest.counters import Health
from veilleuse.collector.ingest.writer import GROUP_PUSHES, Writer
from veilleuse.collector.model.clones import Holders
from veilleuse.collector.model.hosts import HostStatus
from veilleuse.collector.store import create_store
from veilleuse.collector.store.directory import Reserve
from veilleuse.collector.store.sqlite import SqliteStore
from veilleuse.collector.store.sqlite.reader import SqliteReader


class Bench:
    """A store, its reader and a writer that has not started."""

    def __init__(self, directory: Path, store: SqliteStore, reader: SqliteReader) -> None:
        self.directory = directory
        self.store = store
        self.reader = reader
        self.health = Health()
        self.damages: list[StoreDamaged] = []
        self.writer = Writer(store, self.health, queue_pushes=100, on_damage=self.damages.append)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Return a bench over an empty store with one site."""
    store = create_store(
        tmp_path, settings.Store(free_bytes_minimum=0), simulated=False, now_unix_milliseconds=NOW
    )
    with closing(store), closing(SqliteReader(tmp_path)) as reader:
        store.registry.put_site(site())
        made = Bench(tmp_path, store, reader)
        yield made
        made.writer.stop()


def test_an_answer_comes_after_the_commit(bench):
    """When the future has its outcome, another connection sees the rows."""
    stream = Stream(enrol(bench.store.registry))
    bench.writer.start()
    for number in range(1, 6):
        outcome = bench.writer.append(stream.send(realistic(MONDAY_10H + number * HOUR))).result(
            PATIENCE_SECONDS
        )
        assert outcome.mark == number
        assert bench.reader.record_count() == number


def test_what_waits_is_committed_together(bench):
    """100 pushes queued while the writer was busy take two commits, of 64 and 36."""
    streams = [Stream(enrol(bench.store.registry)) for _ in range(100)]
    bench.writer.start()
    release = hold(bench.writer)
    futures = [bench.writer.append(stream.send(realistic(MONDAY_10H))) for stream in streams]
    assert bench.health.snapshot()["queue_pushes"] == 100
    release.set()
    assert [future.result(PATIENCE_SECONDS).mark for future in futures] == [1] * 100
    snapshot = bench.health.snapshot()
    assert GROUP_PUSHES == 64
    assert snapshot["commits"] == 2
    assert sum(snapshot["commit_seconds_buckets"].values()) == 2
    assert (snapshot["pushes"], snapshot["records"]) == ({"stored": 100}, {"stored": 100})
    assert snapshot["queue_pushes"] == 0


def test_a_commit_has_only_so_many_records_unless_one_push_has_more(bench, monkeypatch):
    """With at most 100 records a commit, backlogs of 40, 60, 30 and 150 take three commits."""
    monkeypatch.setattr("veilleuse.collector.ingest.writer.GROUP_RECORDS", 100)
    streams = [Stream(enrol(bench.store.registry)) for _ in range(4)]
    pushes = [
        stream.send(*(realistic(MONDAY_10H + number * 300_000) for number in range(size)))
        for stream, size in zip(streams, (40, 60, 30, 150), strict=True)
    ]
    bench.writer.start()
    release = hold(bench.writer)
    futures = [bench.writer.append(push) for push in pushes]
    release.set()
    assert [future.result(PATIENCE_SECONDS).mark for future in futures] == [40, 60, 30, 150]
    assert bench.health.snapshot()["commits"] == 3


def test_the_queue_is_bounded(bench):
    """One push more than the queue may hold is refused at once."""
    stream = Stream(enrol(bench.store.registry))
    push = stream.send(realistic(MONDAY_10H))
    bench.writer.start()
    release = hold(bench.writer)
    futures = [bench.writer.append(push) for _ in range(100)]
    with pytest.raises(QueueFull, match="100 pushes wait already"):
        bench.writer.append(push)
    release.set()
    assert sum(future.result(PATIENCE_SECONDS).stored_records for future in futures) == 1


def test_a_push_nobody_waits_for_any_more_is_dropped(bench):
    """A push whose deadline passed before the commit is cancelled, not stored."""
    stream = Stream(enrol(bench.store.registry))
    bench.writer.start()
    release = hold(bench.writer)
    late = bench.writer.append(stream.send(realistic(MONDAY_10H)), 0.0)
    release.set()
    with pytest.raises(CancelledError):
        late.result(PATIENCE_SECONDS)
    assert bench.writer.append(stream.push(), deadline()).result(PATIENCE_SECONDS).stored_records == 1
    assert bench.health.snapshot()["pushes"] == {"expired": 1, "stored": 1}


def test_a_job_that_raises_is_undone_alone(bench):
    """The caller gets the exception; the other jobs and pushes of the commit are durable."""
    host, stream = enrol(bench.store.registry), Stream(enrol(bench.store.registry))
    bench.writer.start()
    release = hold(bench.writer)

    def broken() -> None:
        bench.store.registry.set_status(host, HostStatus.REVOKED)
        raise LookupError("half way")

    bad = bench.writer.submit(broken)
    good = bench.writer.submit(lambda: bench.store.registry.set_holders(host, Holders(bytes(16))))
    push = bench.writer.append(stream.send(realistic(MONDAY_10H)))
    release.set()
    with pytest.raises(LookupError, match="half way"):
        bad.result(PATIENCE_SECONDS)
    assert good.result(PATIENCE_SECONDS) is None
    assert push.result(PATIENCE_SECONDS).mark == 1
    assert bench.reader.hosts()[0].status is HostStatus.ACTIVE
    assert bench.store.registry.holders(host) == Holders(bytes(16))
    assert bench.health.snapshot()["commits"] == 1


def test_after_a_rollback_by_the_database_nothing_of_the_group_is_durable(bench):
    """SQLite rolls back a whole transaction after an I/O error: all its work fails and none is durable."""
    stream = Stream(enrol(bench.store.registry))
    push = stream.send(realistic(MONDAY_10H))

    def gives_up() -> None:
        bench.store.data.connection.execute("ROLLBACK")
        raise OSError("the disk answered with an error")

    told = [
        bench.writer.submit(gives_up),
        bench.writer.submit(lambda: bench.store.registry.revoke_token(1)),
        bench.writer.append(push),
    ]
    bench.writer.start()
    for future in told:
        with pytest.raises(StoreFailing, match="rolled the transaction back"):
            future.result(PATIENCE_SECONDS)
    assert bench.reader.record_count() == 0
    assert bench.writer.append(push).result(PATIENCE_SECONDS).mark == 1
    assert not bench.store.registry.tokens()[0].revoked


def test_a_job_that_only_reads_is_no_commit(bench):
    """`commit_seconds` counts what was written to the disk."""
    bench.writer.start()
    assert bench.writer.submit(bench.store.registry.hosts).result(PATIENCE_SECONDS) == ()
    assert bench.health.snapshot()["commits"] == 0
    bench.writer.submit(lambda: bench.store.registry.put_meta("key", "value")).result(PATIENCE_SECONDS)
    assert bench.health.snapshot()["commits"] == 1


def test_what_was_stored_is_told_and_nothing_else(bench):
    """`on_stored` is called after a push that stored records, not after a duplicate, job or refusal."""
    told: list[int] = []
    writer = Writer(
        bench.store, bench.health, queue_pushes=9, on_stored=lambda: told.append(bench.reader.record_count())
    )
    stream = Stream(enrol(bench.store.registry))
    push = stream.send(realistic(MONDAY_10H))
    writer.start()
    writer.append(push).result(PATIENCE_SECONDS)
    writer.append(push).result(PATIENCE_SECONDS)
    writer.submit(lambda: None).result(PATIENCE_SECONDS)
    stream.add(realistic(MONDAY_10H + HOUR), realistic(MONDAY_10H + 2 * HOUR))
    writer.append(stream.push(3)).result(PATIENCE_SECONDS)
    writer.stop()
    assert told == [1], "after the commit"


def test_a_full_disk_stops_records_not_revocations(bench):
    """R6: a full disk refuses pushes, while the job in their group is durable; later pushes are accepted."""
    stream = Stream(enrol(bench.store.registry))
    push = stream.send(realistic(MONDAY_10H))
    bench.store.ingest._reserve = Reserve(bench.directory, 2**62, 1.0)
    bench.writer.start()
    release = hold(bench.writer)
    refused = bench.writer.append(push)
    revoked = bench.writer.submit(lambda: bench.store.registry.set_status(stream.host_id, HostStatus.REVOKED))
    release.set()
    with pytest.raises(StoreFull):
        refused.result(PATIENCE_SECONDS)
    revoked.result(PATIENCE_SECONDS)
    assert bench.reader.hosts()[0].status is HostStatus.REVOKED
    bench.store.ingest._reserve = Reserve(bench.directory, 0, 0.0)
    assert bench.writer.append(push).result(PATIENCE_SECONDS).mark == 1
    assert bench.health.snapshot()["store_errors"] == {"full": 1}


def test_damage_found_while_running_is_told_and_answered(bench):
    """Pages overwritten while the collector runs raise an error for the caller, and `on_damage` is called."""
    streams = [Stream(enrol(bench.store.registry)) for _ in range(30)]
    bench.store.ingest.append([stream.send(realistic(MONDAY_10H)) for stream in streams])
    bench.store.data.checkpoint()
    file = bench.directory / "data.db"
    size = file.stat().st_size
    with file.open("r+b") as raw:
        for page in range(1, size // 4096):
            raw.seek(page * 4096)
            raw.write(b"\xff" * 4096)
    bench.store.data.connection.execute("PRAGMA shrink_memory")
    bench.writer.start()
    with pytest.raises(CollectorError):
        bench.writer.append(streams[0].send(realistic(MONDAY_10H + HOUR))).result(PATIENCE_SECONDS)
    assert bench.damages
    assert "damaged" in str(bench.damages[0])


def test_stop_writes_what_waits_and_takes_nothing_new(bench):
    """Pushes and jobs queued before the stop are stored; later ones are refused."""
    streams = [Stream(enrol(bench.store.registry)) for _ in range(70)]
    futures = [bench.writer.append(stream.send(realistic(MONDAY_10H))) for stream in streams]
    job = bench.writer.submit(lambda: 41 + 1)
    bench.writer.start()
    bench.writer.stop()
    assert job.result(0) == 42
    assert all(future.result(0).mark == 1 for future in futures)
    assert bench.reader.record_count() == 70
    with pytest.raises(QueueFull, match="stopping"):
        bench.writer.append(streams[0].push())
    with pytest.raises(QueueFull, match="stopping"):
        bench.writer.submit(lambda: None)


def test_many_threads_at_once(bench):
    """16 agents in 16 threads store all pushes, in fewer commits than pushes."""
    streams = [Stream(enrol(bench.store.registry)) for _ in range(16)]
    bench.writer.start()
    release = hold(bench.writer)

    def agent(stream: Stream) -> None:
        for number in range(20):
            bench.writer.append(stream.send(realistic(MONDAY_10H + number * 300_000))).result(
                PATIENCE_SECONDS
            )

    threads = [threading.Thread(target=agent, args=(stream,)) for stream in streams]
    for thread in threads:
        thread.start()
    until(lambda: bench.writer.waiting == 16)
    release.set()
    for thread in threads:
        thread.join()
    assert bench.reader.record_count() == 320
    assert bench.health.snapshot()["commits"] < 320
