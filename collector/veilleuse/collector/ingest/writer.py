# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The only thread that writes.

It commits all waiting work as soon as it is free, and answers after the fsync.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from traceback import format_tb
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from veilleuse.collector.errors import CollectorError, QueueFull, StoreDamaged, StoreFull, StoreLost
from veilleuse.collector.ingest.counters import Count, Health
from veilleuse.collector.model.records import AppendOutcome, AppendResult, ValidPush
from veilleuse.collector.ports.stages import IngestStore

log = logging.getLogger(__name__)

T = TypeVar("T")

GROUP_PUSHES: Final = 64
"""Largest number of pushes in one commit: docs/wire.md §2."""
GROUP_RECORDS: Final = 1_024
"""Largest number of records in one commit, unless one push has more; it takes about a tenth of a second.

A Hello waits for the commit in progress and its own. With 28 backlogs of 256 records in each, that was a
second and a half, and live data did not get through (R8).
"""
GROUP_JOBS: Final = 64
"""Largest number of small jobs in one commit."""


class WritableStore(Protocol):
    """Store operations of the writer."""

    @property
    def ingest(self) -> IngestStore:
        """Store of the pushes."""

    @property
    def changes(self) -> int:
        """Rows written since the store was opened: unchanged by a transaction that only read."""

    def transaction(self) -> AbstractContextManager[None]:
        """Run one durable transaction; a nested one can be undone alone."""


@dataclass(frozen=True, slots=True)
class _Push:
    push: ValidPush
    deadline: float | None
    """time.monotonic() after which the caller no longer waits."""
    future: Future[AppendOutcome]


@dataclass(frozen=True, slots=True)
class _Job:
    run: Callable[[], Any]
    future: Future[Any]
    alone: bool


_JobResult: TypeAlias = tuple[Future[Any], Any, BaseException | None]
"""A future with its result or its exception, set after the commit."""


class Writer:
    """Implements ports.Committer. Call `start`, then `append` and `submit` from any thread, then `stop`."""

    def __init__(
        self,
        store: WritableStore,
        health: Health,
        *,
        queue_pushes: int,
        on_damage: Callable[[StoreDamaged], None] = lambda error: None,
        on_stored: Callable[[], None] = lambda: None,
    ) -> None:
        """Both callbacks run in the writer's thread.

        `on_damage` is called when the process should end with the one line of the error. `on_stored` is
        called after a commit that stored records.
        """
        self._store = store
        self._health = health
        self._queue_pushes = queue_pushes
        self._on_damage = on_damage
        self._on_stored = on_stored
        self._pushes: deque[_Push] = deque()
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="writer")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Reject new work, write waiting work, and return when the thread has ended."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def append(
        self, push: ValidPush, deadline_monotonic_seconds: float | None = None
    ) -> Future[AppendOutcome]:
        """See ports.Committer."""
        future: Future[AppendOutcome] = Future()
        with self._changed:
            if self._stopping:
                raise QueueFull("the collector is stopping: come back later")
            if len(self._pushes) >= self._queue_pushes:
                raise QueueFull(f"{len(self._pushes)} pushes wait already: come back later")
            self._pushes.append(_Push(push, deadline_monotonic_seconds, future))
            self._health.queue(len(self._pushes))
            self._changed.notify()
        return future

    def submit(self, job: Callable[[], T], *, alone: bool = False) -> Future[T]:
        """See ports.Committer. Raises QueueFull once the writer is stopping."""
        future: Future[T] = Future()
        with self._changed:
            if self._stopping:
                raise QueueFull("the collector is stopping: come back later")
            self._jobs.append(_Job(job, future, alone))
            self._changed.notify()
        return future

    @property
    def waiting(self) -> int:
        """Number of pushes in the queue."""
        return len(self._pushes)

    def serve_waiting(self) -> bool:
        """Commit one group of waiting work, between two steps of a long `alone` job.

        That job calls this in the writer's thread. Returns False once the writer is stopping: the job should
        give up.
        """
        with self._changed:
            stopping = self._stopping
            waiting, self._jobs = self._jobs, deque[_Job]()
            jobs: list[_Job] = []
            for job in waiting:  # another long job waits for the end of this one; small jobs behind it do not
                (self._jobs if job.alone or len(jobs) == GROUP_JOBS else jobs).append(job)
            pushes = self._take_pushes()
        self._serve(jobs, pushes)
        return not stopping

    # --- the thread

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._pushes or self._jobs or self._stopping):
                    self._changed.wait()
                if self._stopping and not self._pushes and not self._jobs:
                    return
                alone, jobs = self._take_jobs()
                pushes = self._take_pushes()
            self._serve(jobs, pushes)  # before the long job: they would else wait for all of it
            if alone is not None and alone.future.set_running_or_notify_cancel():
                self._set_results([(alone.future, *_outcome(alone.run))])

    def _serve(self, jobs: Sequence[_Job], pushes: Sequence[_Push]) -> None:
        self._group(
            [job for job in jobs if job.future.set_running_or_notify_cancel()], self._drop_expired(pushes)
        )

    def _take_pushes(self) -> list[_Push]:
        pushes: list[_Push] = []
        records = 0
        while self._pushes and len(pushes) < GROUP_PUSHES:
            records += len(self._pushes[0].push.records)
            if pushes and records > GROUP_RECORDS:
                break
            pushes.append(self._pushes.popleft())
        self._health.queue(len(self._pushes))
        return pushes

    def _take_jobs(self) -> tuple[_Job | None, list[_Job]]:
        """Return either a leading job that wants no transaction, or the jobs before the next such one."""
        if self._jobs and self._jobs[0].alone:
            return self._jobs.popleft(), []
        jobs: list[_Job] = []
        while self._jobs and not self._jobs[0].alone and len(jobs) < GROUP_JOBS:
            jobs.append(self._jobs.popleft())
        return None, jobs

    def _drop_expired(self, pushes: Sequence[_Push]) -> list[_Push]:
        now = time.monotonic()
        kept = []
        for push in pushes:
            if push.deadline is not None and push.deadline <= now:
                push.future.cancel()
            if push.future.set_running_or_notify_cancel():
                kept.append(push)
        self._health.count(Count.PUSHES, "expired", len(pushes) - len(kept))
        return kept

    def _group(self, jobs: Sequence[_Job], pushes: Sequence[_Push]) -> None:
        """Run one transaction for all.

        A job that raises is undone alone, and the pushes are undone together.
        """
        if not jobs and not pushes:
            return
        began, changes = time.monotonic(), self._store.changes
        settled, error = _outcome(lambda: self._commit(jobs, pushes))
        if settled is None:  # nothing of the group is durable, whatever its parts returned
            self._count_store_error(error)
            futures = [*(job.future for job in jobs), *(waiting.future for waiting in pushes)]
            settled = [(future, None, error) for future in futures]
        elif self._store.changes != changes:
            self._health.commit(time.monotonic() - began)
        self._set_results(settled)

    def _commit(self, jobs: Sequence[_Job], pushes: Sequence[_Push]) -> list[_JobResult]:
        with self._store.transaction():
            settled: list[_JobResult] = [(job.future, *_outcome(self._undo_alone(job.run))) for job in jobs]
            if pushes:
                settled += self._append(pushes)
        return settled

    def _append(self, pushes: Sequence[_Push]) -> list[_JobResult]:
        outcomes, error = _outcome(lambda: self._store.ingest.append([waiting.push for waiting in pushes]))
        if outcomes is None:  # the jobs go on: a revocation needs a page, not the reserve
            self._count_store_error(error)
            return [(waiting.future, None, error) for waiting in pushes]
        return [(waiting.future, outcome, None) for waiting, outcome in zip(pushes, outcomes, strict=True)]

    def _undo_alone(self, run: Callable[[], T]) -> Callable[[], T]:
        def inside() -> T:
            with self._store.transaction():
                return run()

        return inside

    def _count_store_error(self, error: BaseException | None) -> None:
        kind = (
            "full"
            if isinstance(error, StoreFull)
            else "lost"
            if isinstance(error, StoreLost)
            else "damaged"
            if isinstance(error, StoreDamaged)
            else "failing"
        )
        self._health.count(Count.STORE_ERRORS, kind)
        log.error("nothing of a group was stored", extra={"kind": kind, "error": str(error)})
        if isinstance(error, StoreDamaged):
            self._on_damage(error)

    def _set_results(self, settled: Sequence[_JobResult]) -> None:
        if any(isinstance(result, AppendOutcome) and result.stored_records for _, result, _ in settled):
            self._on_stored()
        for told in {id(error): error for _, _, error in settled if error is not None}.values():
            _drop_frames(told)
        for future, result, error in settled:
            if isinstance(result, AppendOutcome):
                self._count(result)
            elif error is None or not isinstance(error, CollectorError):
                self._health.count(Count.JOBS, "done" if error is None else "failed")
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    def _count(self, outcome: AppendOutcome) -> None:
        self._health.count(Count.PUSHES, outcome.result.value)
        if outcome.result is AppendResult.STORED:
            self._health.count(Count.RECORDS, "stored", outcome.stored_records)
            self._health.count(Count.RECORDS, "duplicate", outcome.duplicate_records)
            self._health.count(Count.RECORDS, "replayed", outcome.replayed_records)


def _drop_frames(error: BaseException) -> None:
    """Remove the frames from an error, because they hold the futures on which the error is set.

    Through these futures they hold waiting calls and their streams, of which a connection has four. All would
    live until the garbage collector runs. An unforeseen error keeps its frames as text.
    """
    if not isinstance(error, CollectorError):
        error.add_note("in the writer:\n" + "".join(format_tb(error.__traceback__)).rstrip())
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__


def _outcome(run: Callable[[], T]) -> tuple[T | None, BaseException | None]:
    """Return the result of `run`, or its error, for the thread of the caller."""
    try:
        return run(), None
    except Exception as error:  # noqa: BLE001  # not handled here: set on the caller's future
        return None, error
