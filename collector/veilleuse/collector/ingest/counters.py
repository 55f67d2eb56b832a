# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Counts events of the ingest, for /metrics and `top`.

Counters only increase; labels come from closed lists of ours.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

from veilleuse.collector.clock import unix_seconds
from veilleuse.wire.units import MILLISECONDS_PER_SECOND


class Count(StrEnum):
    """A Count names a counter. Each has one label, named in its comment."""

    HELLOS = "hellos"  # outcome: ok | stale_instance | returned_instance
    PUSHES = "pushes"  # outcome: stored | expected_earlier | conflict | refused | failed | expired
    RECORDS = "records"  # outcome: stored | duplicate | replayed
    RECORDS_REFUSED = "records_refused"  # reason: docs/wire.md
    CALLS_REFUSED = "calls_refused"  # reason: docs/wire.md
    ENROLMENTS = "enrolments"  # outcome: fresh | again | pending
    COPIES = "copies"  # outcome: fresh | again | pending
    IDENTITY_CONFLICTS = "identity_conflicts"  # kind: generation | instance
    RENEWALS = "renewals"  # kind: expired
    COLLECTOR_BEHIND = "collector_behind"  # kind: certificate
    STORE_ERRORS = "store_errors"  # kind: full | failing | damaged | lost
    JOBS = "jobs"  # outcome: done | failed
    RECEIVED_BYTES = "received_bytes"  # population: servers only; messages of answered calls
    SENT_BYTES = "sent_bytes"  # population: servers only; answers to them


COMMIT_BUCKETS_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds of the commit histogram; one more bucket holds the rest."""


PAUSE_SECONDS: Final = 5 * 60.0
"""Longest normal time between two calls of `listening_since`; longer: process suspended, or clock set ahead.
"""


class Health:
    """Health holds the counters shared by the receiver's threads and the writer."""

    def __init__(self, clock: Callable[[], float] = unix_seconds) -> None:
        """`clock`: returns Unix seconds."""
        self._clock = clock
        self._ran, self._resumed = clock(), 0.0
        self._lock = threading.Lock()
        self._counts: dict[Count, Counter[str]] = {kind: Counter() for kind in Count}
        self._commit_buckets = [0] * (len(COMMIT_BUCKETS_SECONDS) + 1)
        self._commit_seconds_sum = 0.0
        self._commits = 0
        self._queue_pushes = 0
        self.years_not_kept: dict[int, str] = {}
        """Year → reason why its statistics could not be kept today; the daily tasks replace it."""
        self.months_not_published = ""
        """Reason why the due months could not be published; empty when they were, or wait for records."""
        self.children_killed: dict[str, dict[str, object]] = {}
        """`month` or `year` → signal, step, at and memory_bytes of its process that a signal ended last."""

    def listening_since(self, started_unix_milliseconds: int) -> int:
        """Return the start or the end of the last pause, Unix milliseconds.

        Call it every few seconds: a longer interval counts as a pause.
        """
        with self._lock:
            now = self._clock()
            if now - self._ran > PAUSE_SECONDS:
                self._resumed = now
            self._ran = now
            return max(started_unix_milliseconds, round(self._resumed * MILLISECONDS_PER_SECOND))

    def count(self, kind: Count, label: str, number: int = 1) -> None:
        """Add `number` ≥ 0."""
        if number:
            with self._lock:
                self._counts[kind][label] += number

    def commit(self, seconds: float) -> None:
        """Add one durable transaction; `seconds`: from its begin to its fsync."""
        with self._lock:
            self._commits += 1
            self._commit_seconds_sum += seconds
            self._commit_buckets[bisect_left(COMMIT_BUCKETS_SECONDS, seconds)] += 1

    def queue(self, pushes: int) -> None:
        """Set the number of pushes that wait for the writer."""
        self._queue_pushes = pushes

    @property
    def queue_pushes(self) -> int:
        """Return the number last set by the writer."""
        return self._queue_pushes

    def snapshot(self) -> dict[str, Any]:
        """Return all counters at one moment: {kind: {label: number}}, and the entries below.

        `commits`, `commit_seconds_sum`, `commit_seconds_buckets` (upper bound or inf → number, not
        cumulated), `queue_pushes`, `years_not_kept`, `months_not_published`,
        `children_killed`.
        """
        with self._lock:
            return {
                **{kind.value: dict(counter) for kind, counter in self._counts.items()},
                "commits": self._commits,
                "commit_seconds_sum": self._commit_seconds_sum,
                "commit_seconds_buckets": dict(
                    zip((*COMMIT_BUCKETS_SECONDS, float("inf")), self._commit_buckets, strict=True)
                ),
                "queue_pushes": self._queue_pushes,
                "years_not_kept": self.years_not_kept,
                "months_not_published": self.months_not_published,
                "children_killed": dict(self.children_killed),
            }
