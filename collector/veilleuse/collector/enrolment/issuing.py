# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Shared parts of enrolment and renewal: issuing in the registry, and jobs of the writer."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from veilleuse.collector.enrolment.authorise import AccessTable
from veilleuse.collector.enrolment.ca import Authority
from veilleuse.collector.enrolment.register import Register, RegisterEntry
from veilleuse.collector.errors import StoreFailing
from veilleuse.collector.model.hosts import Certificate, CertificateChain, Host
from veilleuse.collector.ports import Committer, Registry
from veilleuse.wire.units import MILLISECONDS_PER_DAY, MILLISECONDS_PER_MINUTE, MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Population

T = TypeVar("T")

COMMIT_SECONDS: Final = 15.0
"""Longest wait for the writer: the deadline of a call (docs/wire.md §3)."""
IDEMPOTENCE_MILLISECONDS: Final = 10 * MILLISECONDS_PER_MINUTE


@dataclass(frozen=True, slots=True)
class IssuingContext:
    """Dependencies of issuing. Thread-safe."""

    authority: Authority
    access_table: AccessTable
    registry: Registry
    """Used only in jobs of the writer."""
    writer: Committer
    register: Register
    """Appended to only in jobs of the writer."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def now_unix_milliseconds(self) -> int:
        """Return the present Unix time in milliseconds."""
        return unix_milliseconds(self.now())

    def commit(self, job: Callable[[], T]) -> T:
        """Run a job in the writer's thread and wait until it is durable. Raises its error or StoreFailing."""
        try:
            return self.writer.submit(job).result(COMMIT_SECONDS)
        except (TimeoutError, CancelledError) as error:
            raise StoreFailing("the store did not answer in time: try again") from error

    def commit_with_register(self, job: Callable[[RegisterEntry], T]) -> T:
        """Run a job that admits or excludes machines; it notes each in the register before the commit."""
        notes = RegisterEntry(self.register, self.registry.put_meta)
        result = self.commit(lambda: job(notes))
        notes.confirm()
        return result

    def issue(
        self,
        key: ec.EllipticCurvePublicKey,
        host: Host,
        generation: int,
        *,
        token_id: int | None = None,
        previous_serial: str | None = None,
    ) -> Certificate:
        """Issue and record a certificate. Call it in a job of the writer."""
        issued = self.authority.issue(key, host.agent_id, host.population, generation)
        certificate = Certificate(
            serial=issued.facts.serial,
            host_id=host.host_id,
            generation=generation,
            public_key_sha256=issued.facts.public_key_sha256,
            certificate_der=issued.certificate_der,
            issued_unix_milliseconds=store_moment(self.now_unix_milliseconds(), host.population),
            not_after_unix_milliseconds=unix_milliseconds(issued.facts.not_after),
            token_id=token_id,
            previous_serial=previous_serial,
        )
        self.registry.insert_certificate(certificate)
        return certificate

    def chain(self, certificate: Certificate) -> CertificateChain:
        """Return a certificate with its chain, as sent to an agent."""
        intermediates, roots = self.authority.bundle(certificate.certificate_der)
        return CertificateChain(certificate.certificate_der, intermediates, roots)

    def is_good(self, certificate: Certificate) -> bool:
        """Return True when a certificate may be sent again.

        Not expired, and from the present intermediate.
        """
        return (
            certificate.not_after_unix_milliseconds > self.now_unix_milliseconds()
            and self.authority.is_current(certificate.certificate_der)
        )

    def is_recent(self, certificate: Certificate, population: Population) -> bool:
        """Return True when a certificate is recent enough to be sent again.

        The limit is 10 minutes, or the same UTC day where only the day is stored.
        """
        now = self.now_unix_milliseconds()
        if population is Population.SERVER:
            return now - certificate.issued_unix_milliseconds <= IDEMPOTENCE_MILLISECONDS
        return store_moment(now, population) == certificate.issued_unix_milliseconds


def unix_milliseconds(moment: datetime) -> int:
    """Return the Unix time of an aware datetime."""
    return round(moment.timestamp() * MILLISECONDS_PER_SECOND)


def store_moment(moment_unix_milliseconds: int, population: Population) -> int:
    """Return a time as the store may keep it: only the UTC day, except on servers (docs/privacy.md §1)."""
    if population is Population.SERVER:
        return moment_unix_milliseconds
    return moment_unix_milliseconds - moment_unix_milliseconds % MILLISECONDS_PER_DAY
