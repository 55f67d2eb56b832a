# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The running collector: both gRPC servers, derivation, the administration socket, the web process."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any, Final

from veilleuse.collector.admin.server import AdminServer
from veilleuse.collector.app.child import Child
from veilleuse.collector.app.descriptors import raise_descriptor_limit
from veilleuse.collector.app.late import DropLate
from veilleuse.collector.app.memory import bound_arenas
from veilleuse.collector.app.servers import (
    ENROLMENT_CALLS,
    ENROLMENT_MESSAGE_BYTES,
    ENROLMENT_WORKERS,
    Listener,
    listen,
    require_free,
)
from veilleuse.collector.app.service_manager import notify
from veilleuse.collector.app.upkeep import upkeep
from veilleuse.collector.assembly import Collector, open_collector
from veilleuse.collector.enrolment.authorise import CertificateAuthoriser, Standing
from veilleuse.collector.enrolment.authority import Authority
from veilleuse.collector.enrolment.copies import Copying
from veilleuse.collector.enrolment.joining import Joining
from veilleuse.collector.enrolment.renewal import Challenges, Renewal
from veilleuse.collector.enrolment.service import EnrolmentServicer
from veilleuse.collector.enrolment.tokens import FailureLimiter
from veilleuse.collector.errors import QueueFull, StoreDamaged
from veilleuse.collector.health import Count
from veilleuse.collector.holders import conflict_buckets, named
from veilleuse.collector.logs import configure
from veilleuse.collector.model import AgentId
from veilleuse.collector.receiver import TelemetryServicer
from veilleuse.collector.settings import CollectorSettings, child_environment
from veilleuse.collector.validate import clean_facts
from veilleuse.collector.version import product_version
from veilleuse.collector.web.auth import open_door

log = logging.getLogger(__name__)

GRACE_SECONDS: Final = 1.5
"""Time calls under way have to end when we stop; the whole stop takes less than 5 s."""


def run(settings: CollectorSettings) -> int:
    """Serve until a signal; 0 after a clean stop, 1 when the database is found damaged. Raises CollectorError at start."""
    configure(settings)
    raise_descriptor_limit()
    bound_arenas()
    stop = threading.Event()
    with open_collector(settings) as collector:
        _end_on_damage(collector, stop)
        with _signals(stop), serving(collector) as addresses:
            log.info("collector serves", extra=addresses)
            notify("READY=1")
            stop.wait()
            notify("STOPPING=1")
            log.info("collector stops")
        if collector.damaged.is_set():
            raise StoreDamaged(
                f"a database in {settings.data_dir} is damaged: run 'veilleuse doctor', restore a backup"
            )
    return 0


@contextmanager
def serving(collector: Collector, *, web: bool = True) -> Iterator[dict[str, Any]]:
    """Serve while the block runs; gives the addresses, with the ports that were got. Raises CollectorError."""
    settings, office, health = collector.settings, collector.office, collector.health

    def count_refusal(reason: str) -> None:
        health.count(Count.CALLS_REFUSED, reason)

    challenges = Challenges()
    renewal = Renewal(office, challenges, lambda: health.count(Count.RENEWALS, "expired"))
    with ExitStack() as cleanup:
        if web:
            open_door(
                settings.http
            )  # plain HTTP off loopback without a token is refused here, not in a child's log
            require_free(settings.http.address, "http.address")
        telemetry, enrolment = cleanup.enter_context(_listeners(settings, office.authority, count_refusal))
        TelemetryServicer(
            committer=collector.writer,
            authoriser=_authoriser(collector),
            renewer=renewal,
            registry=collector.store.registry,
            ingest=collector.store.ingest,
            configuring=collector.operations.configuring,
            health=health,
            queue_pushes=settings.grpc.admitted_pushes,
            allow_fake=collector.simulated,
        ).add_to(telemetry.server)
        _enrolment(collector, renewal, challenges, count_refusal).add_to(enrolment.server)
        collector.addresses.telemetry = settings.grpc.advertised_address or telemetry.address
        collector.addresses.enrolment = settings.grpc.advertised_enrolment_address or enrolment.address
        cleanup.callback(AdminServer(settings.data_dir, collector.operations).close)
        telemetry.server.start()
        enrolment.server.start()
        collector.derive.start()
        cleanup.enter_context(upkeep(collector))
        if web:
            cleanup.enter_context(_web(settings))
        yield {
            "address": telemetry.address,
            "enrolment_address": enrolment.address,
            "http_address": settings.http.address,
            "data_dir": str(settings.data_dir),
            "version": product_version(),
        }


def _authoriser(collector: Collector) -> CertificateAuthoriser:
    """Asked on every call of :8641."""
    office, health = collector.office, collector.health
    return CertificateAuthoriser(
        office.authority,
        office.standings,
        now=office.now,
        on_collector_behind=lambda: health.count(Count.COLLECTOR_BEHIND, "certificate"),
        on_conflict=_conflicts(collector),
    )


def _enrolment(
    collector: Collector, renewal: Renewal, challenges: Challenges, count_refusal: Callable[[str], None]
) -> EnrolmentServicer:
    """All that :8642 answers with."""
    office, health, limiter = collector.office, collector.health, FailureLimiter()
    joining = Joining(office, limiter, count_refusal, lambda outcome: health.count(Count.ENROLMENTS, outcome))
    copying = Copying(
        office, limiter, challenges, count_refusal, lambda outcome: health.count(Count.COPIES, outcome)
    )
    return EnrolmentServicer(joining, copying, renewal, challenges, clean_facts, count_refusal)


@contextmanager
def _listeners(
    settings: CollectorSettings, authority: Authority, count_refusal: Callable[[str], None]
) -> Iterator[tuple[Listener, Listener]]:
    """Both servers, bound; stopped together on leaving."""
    grpc = settings.grpc
    telemetry = listen(
        grpc.address, "grpc.address", authority, workers=grpc.workers, client_certificates=True
    )
    try:
        enrolment = listen(
            grpc.enrolment_address,
            "grpc.enrolment_address",
            authority,
            workers=ENROLMENT_WORKERS,
            client_certificates=False,
            message_bytes=ENROLMENT_MESSAGE_BYTES,
            calls_at_once=ENROLMENT_CALLS,
            interceptors=[DropLate(lambda: count_refusal("deadline"))],
        )
    except BaseException:
        telemetry.server.stop(0)
        raise
    try:
        yield telemetry, enrolment
    finally:
        for ended in [listener.server.stop(GRACE_SECONDS) for listener in (telemetry, enrolment)]:
            ended.wait()


def _conflicts(collector: Collector) -> Callable[[Standing, AgentId], None]:
    """What is done about a holder of an older certificate than one in use: counted, and noted on the host now and then."""
    noted, registry = conflict_buckets(), collector.store.registry

    def on_conflict(standing: Standing, agent_id: AgentId) -> None:
        collector.health.count(Count.IDENTITY_CONFLICTS, "generation")
        if noted.take(agent_id):
            log.warning("a replaced certificate is in use", extra=named(standing.population, agent_id))
            with suppress(QueueFull):  # it is stopping
                collector.writer.submit(lambda: registry.note_conflict(standing.host_id))

    return on_conflict


@contextmanager
def _web(settings: CollectorSettings) -> Iterator[None]:
    """The web process, on read-only connections, so that no page ever delays an acknowledgement."""
    leash = [sys.executable, "-m", "veilleuse.collector.app.leash", str(os.getpid())]
    child = Child("web", [*leash, "veilleuse.collector.web"], child_environment(settings))
    child.start()
    try:
        yield
    finally:
        child.stop()


def _end_on_damage(collector: Collector, stop: threading.Event) -> None:
    """Stop serving as soon as a database is found damaged."""

    def watch() -> None:
        collector.damaged.wait()
        stop.set()

    threading.Thread(target=watch, name="damage", daemon=True).start()


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """SIGTERM and SIGINT set `stop`; a second SIGINT ends at once, as people expect."""

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
