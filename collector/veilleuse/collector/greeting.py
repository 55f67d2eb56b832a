# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Hello: where the stream stands, who is speaking, and what the agent should know. PROMISES.md §2.2 item 1."""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn, TypeVar

from veilleuse.collector.buckets import conflict_buckets
from veilleuse.collector.configuring import Configuring
from veilleuse.collector.errors import NotAuthorised
from veilleuse.collector.health import Count, Health
from veilleuse.collector.holders import INSTANCE_ID_BYTES, Meeting, meet, named
from veilleuse.collector.model import Caller, StreamPosition
from veilleuse.collector.ports import Committer, IngestStore, Registry
from veilleuse.collector.validate import clean_facts, clean_health
from veilleuse.collector.validate.messages import check_hello, parsed
from veilleuse.wire.bands import Calendar, OpenSpan
from veilleuse.wire.limits import MAX_HELLO_BYTES
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.version import VERSION
from veilleuse.wire.vocabulary import DeviceClass

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Greeting:
    """What the writer found while it noted a Hello."""

    meeting: Meeting
    position: StreamPosition
    calendar_json: str
    device_class: DeviceClass


class Greeter:
    """Answers Hello. Safe to share between threads."""

    def __init__(
        self,
        *,
        committer: Committer,
        registry: Registry,
        ingest: IngestStore,
        configuring: Configuring,
        health: Health,
        now_unix_milliseconds: Callable[[], int],
    ) -> None:
        """`registry` and `ingest` are used inside the writer's jobs only."""
        self._committer = committer
        self._registry = registry
        self._ingest = ingest
        self._configuring = configuring
        self._health = health
        self._now = now_unix_milliseconds
        self._noted = conflict_buckets()

    def greet(self, wire: bytes, caller: Caller, until: float) -> tuple[pb.HelloResponse, DeviceClass]:
        """The answer, but for when to come back; and the caller's device class. `until`: time.monotonic() seconds.

        Raises MalformedRequest, NotAuthorised (unknown_agent, identity_conflict), and what the writer raises.
        """
        request = parsed(pb.HelloRequest, wire, MAX_HELLO_BYTES)
        protocol = check_hello(request)
        nonce = secrets.token_bytes(INSTANCE_ID_BYTES)
        facts = clean_facts(request.facts) if request.HasField("facts") else None
        health = clean_health(request.health) if request.HasField("health") else None
        greeting = waited(
            self._committer.submit(lambda: self._note_hello(request, caller, nonce, facts, health)), until
        )
        if greeting is None:
            self._refuse(caller)
        self._health.count(Count.HELLOS, greeting.meeting.value)
        sha256, calendar = calendar_message(greeting.calendar_json)
        answer = pb.HelloResponse(
            mark=greeting.position.mark,
            chain=greeting.position.chain,
            protocol=protocol,
            next_instance_id=nonce,
            configuration=self._configuring.answer(caller, request.configuration),
            calendar=None if request.calendar.sha256 == sha256 else calendar,
            collector_version=VERSION,
        )
        return answer, greeting.device_class

    def _note_hello(
        self, request: Any, caller: Caller, nonce: bytes, facts: bytes | None, health: bytes | None
    ) -> _Greeting | None:
        """In the writer's thread, one transaction. None for the second holder of an identity, of whom nothing is noted."""
        known = self._registry.holders(caller.host_id)
        meeting, holders = meet(known, request.instance_id, nonce)
        if holders != known:
            self._registry.set_holders(caller.host_id, holders)
        if meeting is Meeting.CONFLICT:
            if self._noted.take(caller.agent_id):
                self._registry.note_conflict(caller.host_id)
                log.warning("two machines use one identity", extra=named(caller.population, caller.agent_id))
            return None
        self._registry.note_use(caller.host_id, caller.generation)
        self._registry.record_hello(
            caller.host_id,
            facts_wire=facts,
            health_wire=health,
            now_unix_milliseconds=self._now(),
        )
        self._configuring.note(caller, request.configuration)
        host = self._registry.host(caller.host_id)
        if host is None:
            raise NotAuthorised("unknown_agent", "this machine is not known here: enrol it again")
        return _Greeting(
            meeting,
            self._ingest.position(caller.host_id, request.epoch),
            calendar_json=self._registry.site(host.site).calendar_json,
            device_class=host.facts.device_class,
        )

    def _refuse(self, caller: Caller) -> NoReturn:
        """Two machines under one identity: this one showed that it had been passed over, twice."""
        self._health.count(Count.IDENTITY_CONFLICTS, "instance")
        raise NotAuthorised(
            "identity_conflict",
            "another machine uses this identity, with the same certificate: this one is a copy, or was copied; it "
            "needs an identity of its own",
        )


def waited(future: Future[T], until: float) -> T:
    """The result of a job of the writer, waited for until then (time.monotonic() seconds) and a second more."""
    try:
        return future.result(timeout=max(0.0, until - time.monotonic()) + 1.0)
    finally:
        del future  # its error holds this frame: neither would go before the garbage collector comes by


@lru_cache(maxsize=256)
def calendar_message(calendar_json: str) -> tuple[bytes, Any]:
    """(SHA-256 that names it, the message)."""
    calendar = Calendar.from_json(calendar_json)
    message = pb.Calendar(
        time_zone=calendar.time_zone,
        open_spans=[_span(span) for span in calendar.open_spans],
        closures=[pb.LocalDate(year=day.year, month=day.month, day=day.day) for day in calendar.closures],
        update_windows=[_span(span) for span in calendar.update_windows],
    )
    return hashlib.sha256(calendar.to_json().encode()).digest(), message


def _span(span: OpenSpan) -> pb.OpenSpan:
    return pb.OpenSpan(
        iso_weekday=span.iso_weekday, start_minute=span.start_minute, end_minute=span.end_minute
    )
