# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Admits calls, or asks agents to come back later. docs/wire.md §3.

Backlog is rejected first, then live data. The size of a push tells the two apart before parsing. Hello, Renew
and rejections take no place here: workers are reserved for them (settings.Grpc.admitted_pushes).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from veilleuse.collector.errors import QueueFull
from veilleuse.collector.model.hosts import Caller
from veilleuse.collector.model.records import HostId

MAX_BUCKETS: Final = 10_000


class Buckets:
    """Token bucket per agent id: limits writes and certificates caused by one identity. Thread-safe."""

    def __init__(
        self, capacity: int, seconds_each: float, monotonic_seconds: Callable[[], float] = time.monotonic
    ) -> None:
        """Allow `capacity` ≥ 1 at once, then one each `seconds_each` > 0."""
        self._capacity = capacity
        self._seconds_each = seconds_each
        self._now = monotonic_seconds
        self._empty_until: OrderedDict[bytes, float] = OrderedDict()
        """Time when a bucket will be full again; full buckets are not kept."""
        self._lock = threading.Lock()

    def take(self, agent_id: bytes) -> bool:
        """Take a token and return True if one was left.

        Above 10,000 buckets, the oldest ones are deleted.
        """
        with self._lock:
            now = self._now()
            full_at = max(self._empty_until.pop(agent_id, now), now) + self._seconds_each
            granted = full_at - now <= self._capacity * self._seconds_each
            self._empty_until[agent_id] = full_at if granted else full_at - self._seconds_each
            while len(self._empty_until) > MAX_BUCKETS:
                self._empty_until.popitem(last=False)
            return granted


def conflict_buckets() -> Buckets:
    """Return buckets for the rows that a conflict writes: ten at once, then one a minute."""
    return Buckets(10, 60.0)


BACKLOG_BYTES: Final = 32 * 1024
"""A longer push is backlog. The live data of a contact are at most 15 records of 0.5 kB (15 min of a server).

An agent that sends its backlog pushes 256 records.
"""
CALLS_AT_ONCE: Final = 3_000
CALLS_A_SECOND: Final = 64
"""Rate limit of one agent, over all calls.

43,200 records are 169 pushes. A held sender makes one push every 2.5 s, an agent on loopback some 200 a
second for a while. An agent that never stops gets about a sixtieth of the capacity of a collector.
"""


class Admission:
    """Limits the calls in progress. Thread-safe."""

    def __init__(self, pushes: int, monotonic_seconds: Callable[[], float] = time.monotonic) -> None:
        """Allow `pushes` ≥ 1 in progress at once, from before they are parsed until they are answered."""
        self._most = pushes
        self._most_backlog = max(1, pushes // 2)
        self._buckets = Buckets(CALLS_AT_ONCE, 1 / CALLS_A_SECOND, monotonic_seconds)
        self._lock = threading.Lock()
        self._read: set[tuple[HostId, str]] = set()
        self._hosts: set[HostId] = set()
        self._backlog = 0

    @contextmanager
    def call(self, caller: Caller, method: str) -> Iterator[None]:
        """Count a call; its message is read while the block runs.

        Raises QueueFull (too_many_calls, one_at_a_time). Each message being read holds a worker: an agent
        that never completes its messages holds one.
        """
        if not self._buckets.take(caller.agent_id):
            raise QueueFull("this machine calls too often: come back later", "too_many_calls")
        read = (caller.host_id, method)
        with self._lock:
            if read in self._read:
                raise QueueFull(
                    f"another {method} of this machine is being read: one at a time, come back later",
                    "one_at_a_time",
                )
            self._read.add(read)
        try:
            yield
        finally:
            with self._lock:
                self._read.discard(read)

    @contextmanager
    def push(self, caller: Caller, size_bytes: int) -> Iterator[None]:
        """Hold a place for a push while the block runs.

        Raises QueueFull (one_at_a_time, backlog_full, queue_full).
        """
        backlog = size_bytes > BACKLOG_BYTES
        with self._lock:
            self._require_place(caller.host_id, backlog)
            self._hosts.add(caller.host_id)
            self._backlog += backlog
        try:
            yield
        finally:
            with self._lock:
                self._hosts.discard(caller.host_id)
                self._backlog -= backlog

    @property
    def is_behind(self) -> bool:
        """True when more than half of the places are taken: agents should then wait a little."""
        return len(self._hosts) > self._most // 2

    def _require_place(self, host_id: HostId, backlog: bool) -> None:
        if host_id in self._hosts:
            raise QueueFull(
                "another push of this machine is under way: one at a time, come back later", "one_at_a_time"
            )
        if len(self._hosts) >= self._most:
            raise QueueFull("too many pushes at once: come back later")
        if backlog and self._backlog >= self._most_backlog:
            raise QueueFull("too much backlog at once: come back later", "backlog_full")
