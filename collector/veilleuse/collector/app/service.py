# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The running collector.

gRPC server of the agents, derivation, administration socket, gateway and web process. When the file of an
open database is removed, its content is saved before the process ends.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any, Final

from veilleuse.collector import clock
from veilleuse.collector.admin.operations import AdminServer
from veilleuse.collector.app.child import Child, leashed_command
from veilleuse.collector.app.data_directory import Collector, open_collector
from veilleuse.collector.app.gateway.backend import run_gateway
from veilleuse.collector.app.grpc_server import (
    GRACE_SECONDS,
    Listener,
    ServerCertificate,
    listen,
    require_free,
)
from veilleuse.collector.app.schedule import run_daily_tasks, run_polls
from veilleuse.collector.backup.notes import note_loss
from veilleuse.collector.enrolment.authorise import CertificateAuthoriser, HostAccess
from veilleuse.collector.enrolment.clones import CloneEnrolment
from veilleuse.collector.enrolment.enrol import Enroller
from veilleuse.collector.enrolment.issuing import Challenges, Renewal
from veilleuse.collector.enrolment.root_key import FOLDER
from veilleuse.collector.enrolment.service import EnrolmentServicer
from veilleuse.collector.enrolment.tokens import FailureLimiter
from veilleuse.collector.errors import CollectorError, QueueFull, StoreDamaged, StoreLost
from veilleuse.collector.gc_pause import settle
from veilleuse.collector.grid.poll import check_route, require_series
from veilleuse.collector.ingest.admission import conflict_buckets
from veilleuse.collector.ingest.counters import Count
from veilleuse.collector.ingest.receiver import TelemetryServicer
from veilleuse.collector.logs import product_version
from veilleuse.collector.model.clones import log_facts
from veilleuse.collector.model.records import AgentId
from veilleuse.collector.settings import CollectorSettings, child_environment, notify_socket
from veilleuse.collector.store.directory import FLEET_KEY_FILE, name_remedy
from veilleuse.collector.validate import clean_facts
from veilleuse.collector.web.access import read_metrics_auth

log = logging.getLogger(__name__)

RESCUE_SECONDS: Final = 30.0
"""Wait between two tries, while there is no folder or no room for the copy.

Nothing is acknowledged meanwhile.
"""
_SETTLE_SECONDS: Final = 1.0
"""Wait for further removals: what removes one file often removes the next, and a fresh copy."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
CHECK_SECONDS: Final = 5.0
"""Longest time before the loss of an idle database is noticed."""


def notify(state: str) -> None:
    """Notify systemd, e.g. `READY=1`; does nothing when systemd did not start us. Never raises."""
    address = notify_socket()
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
            connection.connect(address)
            connection.sendall(state.encode())
    except OSError as error:
        log.warning("service manager not told", extra={"state": state, "error": str(error)})


class Stop:
    """Context manager for the main thread: while it is open, signals set it. A second SIGINT ends at once.

    A threading.Event is unsuitable. After SIGCONT the kernel may give a signal to any thread. The main
    thread, which runs the handlers, would then sleep on in `Event.wait`. This class reads a socket, to which
    Python writes whichever thread a signal comes to.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)

    def __enter__(self) -> Stop:
        self._fd = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._handlers = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd)
        self._reader.close()
        self._writer.close()

    def set(self) -> None:
        """End `wait`; callable from any thread."""
        self._is_set = True
        with suppress(OSError):  # full of wake-ups, or closed by now
            self._writer.send(b"\0")

    def wait(self) -> None:
        """Return once it is set."""
        while not self._is_set:
            self._reader.recv(64)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._is_set and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.set()


def run(settings: CollectorSettings) -> int:
    """Serve until a signal; return 0 after a clean stop.

    Raises CollectorError at the start, StoreDamaged when a database is damaged or lost.
    """
    with open_collector(settings) as collector, Stop() as stop:
        collector.operations.context.known_factors.book().require_zone(settings.reporting.zone)
        require_series(settings.intensity.series, collector.store.intensities.states())
        if settings.intensity.ca_file:
            check_route(settings.intensity)
        _end_on_damage(collector, stop)
        with run_servers(collector) as addresses:
            log.info("collector serves", extra=addresses)
            settle()
            notify("READY=1")
            stop.wait()
            notify("STOPPING=1")
            log.info("collector stops")
        if lost := collector.store.files.lost:
            rescue(collector)  # once more, for a loss during the stop
            note_loss(settings.data_dir, clock.unix_milliseconds())
            raise describe_loss(collector, lost)
        if collector.damaged.is_set():
            raise StoreDamaged(
                f"a database in {settings.data_dir} is damaged: run 'veilleuse doctor', restore a backup"
            )
    return 0


@contextmanager
def run_servers(collector: Collector, *, web: bool = True) -> Iterator[dict[str, Any]]:
    """Serve while the block runs; yield the addresses, with the assigned ports. Raises CollectorError."""
    settings, issuing, health = collector.settings, collector.issuing, collector.health

    def count_refusal(reason: str, number: int = 1) -> None:
        health.count(Count.CALLS_REFUSED, reason, number)

    challenges = Challenges()
    renewal = Renewal(issuing, challenges, lambda: health.count(Count.RENEWALS, "expired"))
    with ExitStack() as cleanup:
        if web:
            _check_web(settings)
        certificate = ServerCertificate(issuing.authority)
        servicer = TelemetryServicer(
            committer=collector.writer,
            authoriser=_authoriser(collector),
            renewer=renewal,
            registry=collector.store.registry,
            ingest=collector.store.ingest,
            configuring=collector.operations.context.configuring,
            health=health,
            queue_pushes=settings.grpc.admitted_pushes,
            allow_fake=collector.simulated,
        )
        cleanup.callback(servicer.close)  # once its server has stopped
        telemetry = cleanup.enter_context(_listener(settings, certificate))
        servicer.add_to(telemetry.server)
        joining = _enrolment(collector, renewal, challenges, count_refusal)
        enrolment = cleanup.enter_context(run_gateway(settings, joining, certificate, count_refusal))
        cleanup.callback(telemetry.server.stop, GRACE_SECONDS)  # while the gateway ends its calls, not after
        collector.addresses.telemetry = settings.grpc.advertised_address or telemetry.address
        collector.addresses.enrolment = settings.grpc.advertised_enrolment_address or enrolment
        cleanup.callback(AdminServer(settings.data_dir, collector.operations).close)
        telemetry.server.start()
        collector.derive.start(lambda: servicer.is_overloaded)
        collector.rolls.start()
        cleanup.enter_context(run_daily_tasks(collector))
        cleanup.enter_context(run_polls(settings))
        if web:
            cleanup.enter_context(_web(settings))
        yield {
            "address": telemetry.address,
            "enrolment_address": enrolment,
            "http_address": settings.http.address,
            "data_dir": str(settings.data_dir),
            "version": product_version(),
        }


def _check_web(settings: CollectorSettings) -> None:
    """Refuse here what the web process would refuse in the log of a child. Raises CollectorError."""
    read_metrics_auth(settings.http)
    require_free(settings.http.address, "http.address")


def _authoriser(collector: Collector) -> CertificateAuthoriser:
    """Return the authoriser for every call of :8641."""
    issuing, health = collector.issuing, collector.health
    return CertificateAuthoriser(
        issuing.authority,
        issuing.access_table,
        now=issuing.now,
        on_collector_behind=lambda: health.count(Count.COLLECTOR_BEHIND, "certificate"),
        on_conflict=_conflicts(collector),
    )


def _enrolment(
    collector: Collector, renewal: Renewal, challenges: Challenges, count_refusal: Callable[[str], None]
) -> EnrolmentServicer:
    """Return the service of :8642."""
    issuing, health, limiter = collector.issuing, collector.health, FailureLimiter()
    joining = Enroller(
        issuing, limiter, count_refusal, lambda outcome: health.count(Count.ENROLMENTS, outcome)
    )
    copying = CloneEnrolment(
        issuing, limiter, challenges, count_refusal, lambda outcome: health.count(Count.COPIES, outcome)
    )
    return EnrolmentServicer(joining, copying, renewal, challenges, clean_facts, count_refusal)


@contextmanager
def _listener(settings: CollectorSettings, certificate: ServerCertificate) -> Iterator[Listener]:
    """Bind the server of :8641; stop it on exit."""
    listener = listen(settings.grpc.address, "grpc.address", certificate)
    try:
        yield listener
    finally:
        listener.server.stop(GRACE_SECONDS).wait()


def _conflicts(collector: Collector) -> Callable[[HostAccess, AgentId], None]:
    """Return the reaction to a certificate older than one in use.

    Count it, and note it on the host now and then.
    """
    noted, registry = conflict_buckets(), collector.store.registry

    def on_conflict(access: HostAccess, agent_id: AgentId) -> None:
        collector.health.count(Count.IDENTITY_CONFLICTS, "generation")
        if noted.take(agent_id):
            log.warning("a replaced certificate is in use", extra=log_facts(access.population, agent_id))
            with suppress(QueueFull):  # it is stopping
                collector.writer.submit(lambda: registry.note_conflict(access.host_id))

    return on_conflict


@contextmanager
def _web(settings: CollectorSettings) -> Iterator[None]:
    """Run the web process, on read-only connections, so that no page ever delays an acknowledgement."""
    child = Child("web", leashed_command("veilleuse.collector.web"), child_environment(settings))
    child.start()
    try:
        yield
    finally:
        child.stop()


def _end_on_damage(collector: Collector, stop: Stop) -> None:
    """Stop serving as soon as a database is damaged or lost; of a lost one, first save what can be saved."""

    def watch() -> None:
        while not collector.damaged.wait(CHECK_SECONDS):
            collector.health.listening_since(0)  # detects the end of a pause
            with suppress(QueueFull):  # the writer is stopping
                collector.writer.submit(lambda: None)  # an empty commit checks the files too
        while not rescue(collector):
            time.sleep(RESCUE_SECONDS)
        stop.set()

    threading.Thread(target=watch, name="damage", daemon=True).start()


def rescue(collector: Collector) -> bool:
    """Save the open content of databases whose files were removed.

    Return True when the process may end: nothing is left to save. Else the log names the obstacle.
    """
    writer, store = collector.writer, collector.store

    def between() -> None:
        writer.serve_waiting()  # waiting calls learn at once that nothing is stored

    try:
        if store.files.lost is not None:
            time.sleep(_SETTLE_SECONDS)
        while copies := writer.submit(lambda: store.rescue(between), alone=True).result():
            log.error("rescued a lost database", extra={"files": ", ".join(map(str, copies))})
            time.sleep(_SETTLE_SECONDS)
    except QueueFull:  # the service is being stopped
        return True
    except (CollectorError, OSError) as error:
        remedy = (
            "give it folder and room, and do not stop the collector: only it still holds what was removed"
        )
        log.error("rescue of a lost database failed", extra={"error": str(error), "remedy": remedy})
        return False
    return True


def describe_loss(collector: Collector, lost: StoreLost) -> StoreDamaged:
    """Return one line about the loss.

    Each saved database and how to restore it, and what only a backup has.
    """
    data_dir, saved = collector.settings.data_dir, collector.store.rescued
    if not saved:
        return lost
    line = str(lost)
    if others := [path.name for path in saved if path != lost.database]:
        line += f"; {' and '.join(others)} was lost too"
    wanted = (data_dir / FOLDER, data_dir / FLEET_KEY_FILE, collector.issuing.register.path)
    if gone := [path.name for path in wanted if not path.exists()]:
        line += (
            f"; {', '.join(gone)} went too, and only a backup has it: first 'veilleuse restore FILE', then "
            "the next steps"
        )
    return StoreDamaged(f"{line}; {name_remedy(*saved)}")
