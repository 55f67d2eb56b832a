# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Hello: where the stream stands, who is speaking, and what the agent should know. docs/wire.md §2 item 1."""

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

from veilleuse.collector.counters import Count, Health
from veilleuse.collector.errors import NotAuthorised, OlderInstance
from veilleuse.collector.ingest.admission import conflict_buckets
from veilleuse.collector.model.clones import (
    CHANCE_BYTES,
    NonceVerdict,
    look_again_milliseconds,
    meet,
    named,
    wait_milliseconds,
)
from veilleuse.collector.model.hosts import AppliedConfiguration, AppliedState, Caller
from veilleuse.collector.model.records import StreamPosition
from veilleuse.collector.model.remote_config import OWN_FILE, Rollout, sha256_of
from veilleuse.collector.ports import Committer, Configurations, IngestStore, Registry
from veilleuse.collector.validate import clean_facts, clean_health
from veilleuse.collector.validate.messages import check_hello, parsed
from veilleuse.wire.bands import Calendar, OpenSpan
from veilleuse.wire.configuration import Configuration
from veilleuse.wire.limits import MAX_HELLO_BYTES
from veilleuse.wire.units import MILLISECONDS_PER_DAY
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.version import VERSION
from veilleuse.wire.vocabulary import DeviceClass, Population

_STATES = {
    pb.APPLIED_STATE_APPLIED: AppliedState.APPLIED,
    pb.APPLIED_STATE_CONFIRMED: AppliedState.CONFIRMED,
    pb.APPLIED_STATE_FAILED: AppliedState.FAILED,
}


class PopulationConfigs:
    """What is set for each population. `answer` from any thread; `note` and `put` inside jobs of the writer only."""

    def __init__(self, store: Configurations) -> None:
        """Loads. Raises StoreDamaged."""
        self._store = store
        self._rollouts = {rollout.population: rollout for rollout in store.rollouts()}

    def rollout(self, population: Population) -> Rollout:
        """What is set for a population; nothing, when nothing ever was."""
        return self._rollouts.get(population) or Rollout(population)

    def put(self, rollout: Rollout) -> None:
        """From the next Hello on."""
        self._store.put(rollout)
        self._rollouts = {**self._rollouts, rollout.population: rollout}

    def note(self, caller: Caller, status: Any) -> None:
        """Keep the DocumentStatus of a Hello."""
        self._store.note(caller.host_id, _said(status))

    def answer(self, caller: Caller, status: Any) -> Any:
        """The RemoteConfiguration for a Hello that came with this DocumentStatus; None when the agent names it already.

        So one that the agent has named as failed is not sent again before another one is wanted.
        """
        wanted = self.rollout(caller.population).wanted(caller.agent_id)
        said: bytes = status.sha256
        if said == sha256_of(wanted) or (not said and wanted == OWN_FILE):
            return None
        return _message(wanted)


def _said(status: Any) -> AppliedConfiguration | None:
    """None too for a state that we do not know: a newer agent's."""
    state = _STATES.get(status.state)
    return AppliedConfiguration(status.sha256, state) if status.sha256 and state is not None else None


@lru_cache(maxsize=64)
def _message(configuration: Configuration) -> Any:
    values = {name: value for name, value in configuration._asdict().items() if value is not None}
    return pb.RemoteConfiguration(**values, sha256=sha256_of(configuration))


log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Greeting:
    """What the writer found while it noted a Hello."""

    meeting: NonceVerdict
    nonce: bytes
    position: StreamPosition
    calendar_json: str
    device_class: DeviceClass


class HelloHandler:
    """Answers Hello. Safe to share between threads."""

    def __init__(
        self,
        *,
        committer: Committer,
        registry: Registry,
        ingest: IngestStore,
        configuring: PopulationConfigs,
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

    def greet(
        self, wire: bytes, caller: Caller, until: float
    ) -> tuple[pb.HelloResponse, DeviceClass, NonceVerdict]:
        """The answer, but for when to come back; the caller's device class; what its nonce told.

        `until`: time.monotonic() seconds. Raises MalformedRequest, NotAuthorised (unknown_agent, identity_conflict),
        OlderInstance, and what the writer raises.
        """
        request = parsed(pb.HelloRequest, wire, MAX_HELLO_BYTES)
        protocol = check_hello(request)
        facts = clean_facts(request.facts) if request.HasField("facts") else None
        health = clean_health(request.health) if request.HasField("health") else None
        greeting = waited(
            self._committer.submit(lambda: self._note_hello(request, caller, facts, health)), until
        )
        if isinstance(greeting, NonceVerdict):
            self._refuse(greeting, caller)
        self._health.count(Count.HELLOS, greeting.meeting.value)
        sha256, calendar = calendar_message(greeting.calendar_json)
        answer = pb.HelloResponse(
            mark=greeting.position.mark,
            chain=greeting.position.chain,
            protocol=protocol,
            next_instance_id=greeting.nonce,
            configuration=self._configuring.answer(caller, request.configuration),
            calendar=None if request.calendar.sha256 == sha256 else calendar,
            collector_version=VERSION,
        )
        return answer, greeting.device_class, greeting.meeting

    def _note_hello(
        self, request: Any, caller: Caller, facts: bytes | None, health: bytes | None
    ) -> _Greeting | NonceVerdict:
        """In the writer's thread, one transaction. The meeting alone for who is not served, of whom nothing is noted."""
        host = self._registry.host(caller.host_id)
        if host is None:
            raise NotAuthorised("unknown_agent", "this machine is not known here: enrol it again")
        known = self._registry.holders(caller.host_id)
        silent = self._now() - (host.last_contact_unix_milliseconds or 0) >= wait_milliseconds(
            caller.population
        )
        records = self._ingest.records_of(caller.host_id)
        meeting, holders = meet(
            known, request.instance_id, secrets.token_bytes(CHANCE_BYTES), records, silent=silent
        )
        if holders != known:
            self._registry.set_holders(caller.host_id, holders)
        if meeting is NonceVerdict.WAITS and holders != known:
            log.warning("older state of a machine waits", extra=named(caller.population, caller.agent_id))
        if meeting is NonceVerdict.CONFLICT and self._noted.take(caller.agent_id):
            self._registry.note_conflict(caller.host_id)
            log.warning("two machines use one identity", extra=named(caller.population, caller.agent_id))
        if meeting in (NonceVerdict.WAITS, NonceVerdict.CONFLICT):
            return meeting
        self._registry.note_use(caller.host_id, caller.generation)
        self._registry.record_hello(
            caller.host_id,
            facts_wire=facts,
            health_wire=health,
            now_unix_milliseconds=self._now(),
        )
        self._configuring.note(caller, request.configuration)
        host = self._registry.host(caller.host_id) or host  # with the facts just told
        return _Greeting(
            meeting,
            holders.current,
            self._ingest.position(caller.host_id, request.epoch),
            calendar_json=self._registry.site(host.site).calendar_json,
            device_class=host.facts.device_class,
        )

    def _refuse(self, meeting: NonceVerdict, caller: Caller) -> NoReturn:
        """It waits, or is a copy: another machine was heard under this identity while it waited."""
        if meeting is NonceVerdict.WAITS:
            days = wait_milliseconds(caller.population) // MILLISECONDS_PER_DAY
            raise OlderInstance(
                "this machine shows an older state than the one that was served last: it is a copy, or was set back; "
                f"what it measures is kept, and delivered once nobody else called for {days} day(s) "
                "(at once after `veilleuse hosts activate` on the collector)",
                look_again_milliseconds(caller.population),
            )
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
