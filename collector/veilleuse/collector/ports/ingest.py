# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Ports of receiving: Push, Hello, renewal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol, TypeVar

from veilleuse.collector.model.hosts import (
    Caller,
    CertificateChain,
)
from veilleuse.collector.model.records import (
    AppendOutcome,
    HostId,
    StreamPosition,
    ValidPush,
)

T = TypeVar("T")


class IngestStore(Protocol):
    """Store of the hot path. One caller at a time: the writer."""

    def append(self, pushes: Sequence[ValidPush]) -> list[AppendOutcome]:
        """Store a group in ONE durable transaction and answer each push, in order. docs/wire.md §2.

        Inside the transaction, per push, the mark and chain of (host, epoch) decide. Records above the mark
        are stored with their hash, hour/day/week sums, point sums, gap sums and a dirty mark. Mark and chain
        advance. Returns after the commit's fsync. Raises StoreFull or StoreDamaged with nothing of the group
        stored.
        """

    def position(self, host_id: HostId, epoch: bytes) -> StreamPosition:
        """Return the position of a stream."""

    def records_of(self, host_id: HostId) -> int:
        """Return the number of records its streams have brought; it only rises, except after a restore."""


class Committer(Protocol):
    """The writer as its callers see it: one thread, one connection, group commit."""

    def append(
        self, push: ValidPush, deadline_monotonic_seconds: float | None = None
    ) -> Future[AppendOutcome]:
        """Queue a push. Raises QueueFull at once.

        The future has its outcome after the commit's fsync; it is cancelled when the deadline passes before.
        It raises StoreFull, StoreFailing or StoreDamaged with nothing stored.
        """

    def submit(self, job: Callable[[], T], *, alone: bool = False) -> Future[T]:
        """Run a small job (≤ 20 ms) in the writer's thread; its result is set after the commit.

        A job that raises is undone alone. `alone`: outside any transaction (backups, checkpoints).
        """


class Authoriser(Protocol):
    """Authorises callers of the mTLS port. In memory: safe and cheap on every call, from any thread."""

    def authorise(self, certificate_pem: bytes | None) -> Caller:
        """Return the holder of the peer's certificate (`x509_pem_cert` of the gRPC auth context).

        Raises NotAuthorised: no_certificate, not_an_agent, not_ours, expired, not_yet_valid, unknown_agent,
        pending, suspended, revoked, forgotten.
        """


class Renewer(Protocol):
    """Issues new certificates to agents that hold one."""

    def renew(self, caller: Caller, certificate_request_der: bytes) -> CertificateChain:
        """Renew a certificate, idempotent on (the caller's serial, the new public key).
        Durable when it returns.

        Raises EnrolmentRefused (bad_request, key_reused), NotAuthorised (status changed during the call);
        StoreFull or StoreFailing when the certificate cannot be written.
        """
