# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Composition root of the sending process: settings, identity, spool and channel make contacts.

The process is short-lived: each contact pays for every import here. `keys` (cryptography) is imported only to
renew a certificate.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Final, cast

from veilleuse.agent import clock
from veilleuse.agent.errors import (
    AgentError,
    CertificateNotValid,
    CollectorAway,
    ConnectionClosed,
    CopyFound,
    IdentityConflict,
    NotAdmitted,
    NotEnrolled,
    SpoolBusy,
    SpoolError,
)
from veilleuse.agent.host.facts import own_facts
from veilleuse.agent.host.hardware_ids import MACHINE_ID, Roots, hardware_ids, require_machine_id
from veilleuse.agent.identity.clone import CONFLICT, HARDWARE, CloneDetector, Mark
from veilleuse.agent.identity.join_file import fingerprints
from veilleuse.agent.identity.store import Identity, IdentityStore, as_owner_of
from veilleuse.agent.platforms import here
from veilleuse.agent.platforms.locks import SEND_LOCK, ProcessLock
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.remote_config import choose_longer, is_on_trial, read_in_use
from veilleuse.agent.sending.client import Channel, EnrolmentCalls, TelemetryCalls, open_channel
from veilleuse.agent.sending.encode import WireEncoder
from veilleuse.agent.sending.routes import Route, first_that_answers, routes_to
from veilleuse.agent.sending.session import (
    Contact,
    Sender,
    next_contact_unix_milliseconds,
    retry_delay_milliseconds,
)
from veilleuse.agent.settings import CONTACT_SECONDS, AgentSettings, allowed_population, join_file_path
from veilleuse.agent.spool.database import FILE_NAME, Bounds, connect, parse_whole_number
from veilleuse.agent.spool.outbox import Outbox, Ring, adopt_identity
from veilleuse.wire.process import call_at_input_end
from veilleuse.wire.units import MILLISECONDS_PER_HOUR, MILLISECONDS_PER_SECOND

log = logging.getLogger(__name__)

_HOLD_POLL_SECONDS: Final = 10.0
"""Longest wait between two reads of the spool; a read takes 0.1 ms."""
_HOLD_POLL_SHARE: Final = 0.25
"""Share of the period between two reads: a record is late by at most this."""
_REFUSED_MILLISECONDS: Final = 900_000
"""Wait after a refused token: each machine of a fleet then asks at most four times an hour."""
TRIAL_CONTACT_MILLISECONDS: Final = (60_000, 480_000)
"""Range of the wait for the contact after a new configuration: well inside the ten minutes of its trial."""
_HOLD_CONTACT_SECONDS: Final = 900
"""Longest time between two Hellos of a held sender, for calendar and health."""


def send(settings: AgentSettings, *, hold: bool = False, attached: bool = False) -> int:
    """Make one contact; with `hold`, push records as they come until asked to stop.

    With `attached` that is also the end of standard input, which our parent keeps open while it lives.
    Returns the exit code: 0 done, 1 nothing delivered. The result is written to the spool's control table
    (NEXT_SEND, STANDING, FAILURES). Raises NotEnrolled, AlreadyRunning, SpoolError.
    """
    _require_identity_source(settings)
    with (
        as_owner_of(settings.paths.state),
        ProcessLock(settings.paths.state, SEND_LOCK, what="veilleuse-agent send"),
        closing(connect(settings.paths.state / FILE_NAME)) as connection,
    ):
        bounds = Bounds(settings.spool.max_bytes, settings.spool.disk_reserve_bytes)
        ring = Ring(
            milliseconds=settings.spool.ring_hours * MILLISECONDS_PER_HOUR,
            records=settings.spool.ring_records,
            max_bytes=bounds.ring_bytes,
            quarantine_bytes=bounds.quarantine_bytes,
        )
        outbox = Outbox(connection, settings.paths.state / FILE_NAME, WireEncoder(), ring)
        sending = SenderProcess(settings, outbox)
        return sending.hold(attached=attached) if hold else int(not sending.contact())


class SenderProcess:
    """Runs the contacts of the sending process."""

    def __init__(
        self,
        settings: AgentSettings,
        outbox: Outbox,
        now: Callable[[], int] = clock.unix_milliseconds,
        uniform: Callable[[float, float], float] | None = None,
    ) -> None:
        """`now` returns Unix milliseconds; `uniform(low, high)` is the random source of every wait."""
        self._settings = settings
        self._outbox = outbox
        self._now = now
        self._uniform = uniform or _uniform
        self._store = IdentityStore(settings.paths.state)
        self._delay_milliseconds = 0
        """Wait before the next contact."""
        self._is_clone = False
        """True when this machine turned out to be a clone: no more calls."""

    def contact(self) -> bool:
        """Make one contact on its own connection and return True on success. Raises SpoolError."""
        with Connection(self._settings, self._outbox, self._store, self._now) as connection:
            return self._try_contact(connection.contact, self._record_success)

    def hold(self, *, attached: bool) -> int:
        """Make contacts on one connection until asked to stop; exit code 0. `attached`: see `send`."""
        stop = threading.Event()
        here.on_stop(stop.set)
        if attached:
            call_at_input_end(stop.set)
        with Connection(self._settings, self._outbox, self._store, self._now) as connection:
            due = 0.0
            while not (stop.is_set() or self._is_clone):
                try:
                    due = self._hold_step(connection, due)
                except SpoolBusy as error:  # the resident process writes: try again next time
                    log.debug("spool busy", extra={"reason": str(error)})
                stop.wait(self._poll_seconds())
        return 0

    def _hold_step(self, connection: Connection, due: float) -> float:
        """Make a contact at `due` (monotonic seconds), else push waiting records; return the next `due`."""
        if time.monotonic() >= due:
            well = self._try_contact(connection.contact, self._record_success)
            seconds = self._delay_milliseconds / MILLISECONDS_PER_SECOND
            return time.monotonic() + (min(seconds, _HOLD_CONTACT_SECONDS) if well else seconds)
        if (
            connection.is_open
            and self._outbox.count_waiting()[0]
            and not self._try_contact(connection.deliver, _log_push)
        ):
            return time.monotonic() + self._delay_milliseconds / MILLISECONDS_PER_SECOND
        return due

    def _poll_seconds(self) -> float:
        period = self._settings.measure.period_seconds or 60
        return max(1.0, min(period * _HOLD_POLL_SHARE, _HOLD_POLL_SECONDS))

    def _try_contact(self, work: Callable[[], Contact], succeeded: Callable[[Contact], None]) -> bool:
        try:
            contact = work()
        except SpoolError:
            raise
        except AgentError as error:
            self._record_failure(error)
            return False
        succeeded(contact)
        return True

    def _interval_milliseconds(self) -> int:
        seconds = self._settings.collector.contact_seconds
        if not seconds:
            seconds = CONTACT_SECONDS[
                allowed_population(self._settings, self._outbox.control(ControlKey.POPULATION))
            ]
        own = seconds * MILLISECONDS_PER_SECOND
        if not self._settings.collector.accept_configuration:
            return own
        return choose_longer(own, read_in_use(self._outbox.control).configuration.contact_milliseconds)

    def _record_success(self, contact: Contact) -> None:
        now = self._now()
        due = next_contact_unix_milliseconds(
            now,
            self._interval_milliseconds(),
            contact.next_send_after_milliseconds,
            self._store.load().agent_id,
            self._uniform,
        )
        # end the trial soon, but not on all machines at once
        if is_on_trial(self._outbox.control):
            soon = max(
                contact.next_send_after_milliseconds, round(self._uniform(*TRIAL_CONTACT_MILLISECONDS))
            )
            due = min(due, now + soon)
        self._delay_milliseconds = due - now
        self._outbox.set_control(
            {ControlKey.NEXT_SEND: str(due), ControlKey.STANDING: "ok", ControlKey.FAILURES: None}
        )
        log.info("contact done", extra={"records": contact.records, "next_in_milliseconds": due - now})

    def _record_failure(self, error: AgentError) -> None:
        self._is_clone = isinstance(error, CopyFound)
        failures = parse_whole_number(self._outbox.control(ControlKey.FAILURES)) + 1
        asked = error.retry_after_milliseconds if isinstance(error, CollectorAway) else 0
        if isinstance(error, NotAdmitted):
            asked = _REFUSED_MILLISECONDS
        delay = retry_delay_milliseconds(failures, self._interval_milliseconds(), asked, self._uniform)
        self._delay_milliseconds = delay
        self._outbox.set_control(
            {
                ControlKey.NEXT_SEND: str(self._now() + delay),
                ControlKey.STANDING: str(error),
                ControlKey.FAILURES: str(failures),
            }
        )
        log.warning(
            "nothing delivered",
            extra={"reason": str(error), "failures": failures, "next_in_milliseconds": delay},
        )


class Connection(AbstractContextManager["Connection"]):
    """Channel to the collector, opened at first use and again after a renewal."""

    def __init__(
        self, settings: AgentSettings, outbox: Outbox, store: IdentityStore, now: Callable[[], int]
    ) -> None:
        self._settings = settings
        self._outbox = outbox
        self._store = store
        self._clone_detector = CloneDetector(settings.paths.state)
        self._now = now
        self._channel: Channel | None = None
        self._route: Route | None = None
        """Route of the channel; kept while it is open."""
        self._sender: Sender | None = None

    @property
    def is_open(self) -> bool:
        """Return True when a Hello was answered on this connection."""
        return self._sender is not None

    def contact(self) -> Contact:
        """Exchange Hello and Push; renew a due or expired certificate, request a missing one.

        Raises AgentError.
        """
        require_machine_id(MACHINE_ID)
        self._require_own_hardware()
        with self._detect_conflicts():
            return self._contact(self._identity())

    def _contact(self, identity: Identity) -> Contact:
        adopt_identity(self._outbox, identity.agent_id, identity.place.population)
        if self._now() >= identity.not_after_unix_milliseconds:
            identity = self._renew_expired(identity)
        try:
            contact = self._call(identity)
        except (CertificateNotValid, ConnectionClosed) as error:
            # the clock of the collector may differ from ours
            identity = self._renew_against(error, identity)
            contact = self._call(identity)
        if self._now() >= identity.renewal_due_unix_milliseconds():
            self._renew(identity)
        return contact

    def _call(self, identity: Identity) -> Contact:
        """Make the contact on the open channel, else on the first route that answers."""

        def attempt(route: Route) -> Contact:
            try:
                return self._open(identity, route).contact()
            except AgentError:
                self.close()
                raise

        settings = self._settings.collector
        routes = (
            [self._route] if self._route else routes_to(settings, settings.address or identity.place.address)
        )
        return first_that_answers(routes, attempt)

    def deliver(self) -> Contact:
        """Push waiting records. Raises AgentError; the next call must then be `contact`."""
        if self._sender is None:
            return self.contact()
        try:
            with self._detect_conflicts():
                return self._sender.deliver()
        except AgentError:
            self.close()
            raise

    def _identity(self) -> Identity:
        """Load the identity, or get the first one with a join file or as a clone. Raises AgentError."""
        try:
            return self._store.load()
        except NotEnrolled:
            from veilleuse.agent.sending import enrol

            return enrol.enrol_unattended(self._settings)

    def _require_own_hardware(self) -> None:
        """Raise CopyFound on another machine's hardware.

        The mark makes the service start again as a clone.
        """
        hardware = hardware_ids(Roots(self._settings.paths.sysfs, MACHINE_ID))
        if self._clone_detector.read_mark() is None:
            if not self._clone_detector.is_other_hardware(hardware):
                self._clone_detector.keep(hardware)
                return
            self._clone_detector.mark(Mark(HARDWARE, self._now()))
        changed = ", ".join(self._clone_detector.changed_ids(hardware))
        raise CopyFound(
            f"this is a copy of another machine ({changed or 'both were served'}; nothing was sent): "
            "`veilleuse-agent run` "
            "begins again under an identity of its own, at once when it runs, else when it starts"
        )

    @contextmanager
    def _detect_conflicts(self) -> Iterator[None]:
        """Treat this machine as the clone after a conflict, once an hour at most.

        Raises CopyFound, or the conflict.
        """
        try:
            yield
        except IdentityConflict as error:
            self.close()
            now = self._now()
            if not self._clone_detector.may_rekey(now):
                raise
            self._clone_detector.mark(Mark(CONFLICT, now))
            raise CopyFound(f"{error}; it begins again under an identity of its own") from error

    def close(self) -> None:
        """Close the channel; may be called twice."""
        if self._channel is not None:
            self._channel.close()
        self._channel = self._route = self._sender = None

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, identity: Identity, route: Route) -> Sender:
        if self._channel is None:
            self._channel, self._route = open_channel(route, identity), route
        calls = TelemetryCalls(self._channel, route, self._settings.collector.deadline_seconds)
        facts = own_facts(self._settings)
        accept = self._settings.collector.accept_configuration
        self._sender = Sender(self._outbox, calls, facts, self._now, accept_configuration=accept)
        return self._sender

    def _renew(self, identity: Identity) -> None:
        """Renew the certificate.

        After a failure the next contact tries again, with a third of its life left.
        """
        from veilleuse.agent.identity import certificates, keys

        if self._channel is None or self._route is None:
            return
        calls = TelemetryCalls(self._channel, self._route, self._settings.collector.deadline_seconds)
        try:
            pinned = fingerprints(self._settings.collector.ca_sha256)
            certificates.renew(calls.renew, cast("certificates.Keys", keys), self._store, pinned)
            self.close()
        except AgentError as error:
            left = identity.not_after_unix_milliseconds - self._now()
            log.warning("certificate not renewed", extra={"reason": str(error), "left_milliseconds": left})

    def _renew_against(self, error: AgentError, identity: Identity) -> Identity:
        """Renew when the collector finds the certificate expired; raise `error` when that is not the cause.

        A closed connection counts as an expired certificate only from the second time in a row.
        """
        if isinstance(error, ConnectionClosed) and not self._outbox.control(ControlKey.FAILURES):
            raise error
        try:
            return self._renew_expired(identity)
        except IdentityConflict:
            raise
        except AgentError as other:
            log.info("certificate not renewed either", extra={"reason": str(other)})
            raise error from other

    def _renew_expired(self, identity: Identity) -> Identity:
        from veilleuse.agent.identity import certificates, keys

        collector = self._settings.collector
        pinned = fingerprints(collector.ca_sha256)

        def attempt(route: Route) -> Identity:
            with open_channel(route, None, identity.roots_pem) as channel:
                api = EnrolmentCalls(channel, route, collector.deadline_seconds)
                return certificates.renew_expired(api, cast("certificates.Keys", keys), self._store, pinned)

        addresses = collector.enrolment_address or identity.place.enrolment_address
        return first_that_answers(routes_to(collector, addresses), attempt)


def _require_identity_source(settings: AgentSettings) -> None:
    """Raise NotEnrolled when there is no identity and nothing to get one with."""
    store, join_file = IdentityStore(settings.paths.state), join_file_path(settings)
    if (
        store.is_enrolled()
        or join_file.exists()
        or CloneDetector(settings.paths.state).original() is not None
    ):
        return
    raise NotEnrolled(
        f"this machine is not enrolled (nothing in {store.directory}, no {join_file}): `veilleuse-agent "
        "enrol JOINFILE`"
    )


def _log_push(contact: Contact) -> None:
    log.debug("records pushed", extra={"records": contact.records})


def _uniform(low: float, high: float) -> float:
    """Draw from `os.urandom`: importing the module `random` would slow every contact."""
    return low + (high - low) * int.from_bytes(os.urandom(6), "big") / 2**48
