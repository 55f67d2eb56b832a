# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Hello: the position in the stream, the identity check, and documents for the agent.

docs/wire.md §2 item 1.
"""

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

from veilleuse.collector.errors import NotAuthorised, OlderInstance
from veilleuse.collector.ingest.admission import conflict_buckets
from veilleuse.collector.ingest.counters import Count, Health
from veilleuse.collector.model.clones import (
    CHANCE_BYTES,
    NonceVerdict,
    judge_nonce,
    log_facts,
    look_again_milliseconds,
    wait_milliseconds,
)
from veilleuse.collector.model.hosts import AppliedConfiguration, AppliedState, Caller
from veilleuse.collector.model.records import StreamPosition
from veilleuse.collector.model.remote_config import OWN_FILE, Rollout, sha256_of
from veilleuse.collector.ports.registry import Configurations, Registry
from veilleuse.collector.ports.stages import Committer, IngestStore
from veilleuse.collector.validate import clean_facts, clean_health
from veilleuse.collector.validate.messages import check_hello, parse_message
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
    """Configuration of each population.

    `answer` may be called from any thread; `note` and `put` only in jobs of the writer.
    """

    def __init__(self, store: Configurations) -> None:
        """Load the configurations. Raises StoreDamaged."""
        self._store = store
        self._rollouts = {rollout.population: rollout for rollout in store.rollouts()}

    def rollout(self, population: Population) -> Rollout:
        """Return the configuration of a population; an empty one if none was ever set."""
        return self._rollouts.get(population) or Rollout(population)

    def put(self, rollout: Rollout) -> None:
        """Store a configuration; it applies from the next Hello on."""
        self._store.put(rollout)
        self._rollouts = {**self._rollouts, rollout.population: rollout}

    def note(self, caller: Caller, status: Any) -> None:
        """Store the DocumentStatus of a Hello."""
        self._store.note(caller.host_id, _parse_status(status))

    def answer(self, caller: Caller, status: Any) -> Any:
        """Return the RemoteConfiguration for a Hello with this DocumentStatus; None when the agent has it.

        A configuration that the agent named as failed is thus not sent again, until another one is wanted.
        """
        wanted = self.rollout(caller.population).wanted(caller.agent_id)
        said: bytes = status.sha256
        if said == sha256_of(wanted) or (not said and wanted == OWN_FILE):
            return None
        return _message(wanted)


def _parse_status(status: Any) -> AppliedConfiguration | None:
    """Return the status; None also for an unknown state from a newer agent."""
    state = _STATES.get(status.state)
    return AppliedConfiguration(status.sha256, state) if status.sha256 and state is not None else None


@lru_cache(maxsize=64)
def _message(configuration: Configuration) -> Any:
    values = {name: value for name, value in configuration._asdict().items() if value is not None}
    return pb.RemoteConfiguration(**values, sha256=sha256_of(configuration))


log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _HelloResult:
    """Result of the writer's job for a Hello."""

    meeting: NonceVerdict
    nonce: bytes
    position: StreamPosition
    calendar_json: str
    device_class: DeviceClass


class HelloHandler:
    """Answers Hello. Thread-safe."""

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
        """`registry` and `ingest` are used only in the writer's jobs."""
        self._committer = committer
        self._registry = registry
        self._ingest = ingest
        self._configuring = configuring
        self._health = health
        self._now = now_unix_milliseconds
        self._noted = conflict_buckets()

    def handle(
        self, wire: bytes, caller: Caller, until: float
    ) -> tuple[pb.HelloResponse, DeviceClass, NonceVerdict]:
        """Return the answer without `next_send_after`, the caller's device class, and the verdict on its
        nonce.

        `until`: time.monotonic() seconds. Raises MalformedRequest, NotAuthorised (unknown_agent,
        identity_conflict), OlderInstance, and the errors of the writer.
        """
        request = parse_message(pb.HelloRequest, wire, MAX_HELLO_BYTES)
        protocol = check_hello(request)
        facts = clean_facts(request.facts) if request.HasField("facts") else None
        health = clean_health(request.health) if request.HasField("health") else None
        result = wait_for_result(
            self._committer.submit(lambda: self._note_hello(request, caller, facts, health)), until
        )
        if isinstance(result, NonceVerdict):
            self._refuse(result, caller)
        self._health.count(Count.HELLOS, result.meeting.value)
        sha256, calendar = calendar_message(result.calendar_json)
        answer = pb.HelloResponse(
            mark=result.position.mark,
            chain=result.position.chain,
            protocol=protocol,
            next_instance_id=result.nonce,
            configuration=self._configuring.answer(caller, request.configuration),
            calendar=None if request.calendar.sha256 == sha256 else calendar,
            collector_version=VERSION,
        )
        return answer, result.device_class, result.meeting

    def _note_hello(
        self, request: Any, caller: Caller, facts: bytes | None, health: bytes | None
    ) -> _HelloResult | NonceVerdict:
        """Record a Hello, in the writer's thread and in one transaction.

        For a caller that is not served, nothing is recorded and only the verdict is returned.
        """
        host = self._registry.host(caller.host_id)
        if host is None:
            raise NotAuthorised("unknown_agent", "this machine is not known here: enrol it again")
        known = self._registry.holders(caller.host_id)
        silent = self._now() - (host.last_contact_unix_milliseconds or 0) >= wait_milliseconds(
            caller.population
        )
        records = self._ingest.records_of(caller.host_id)
        meeting, holders = judge_nonce(
            known, request.instance_id, secrets.token_bytes(CHANCE_BYTES), records, silent=silent
        )
        if holders != known:
            self._registry.set_holders(caller.host_id, holders)
        if meeting is NonceVerdict.WAITS and holders != known:
            log.warning("older state of a machine waits", extra=log_facts(caller.population, caller.agent_id))
        if meeting is NonceVerdict.CONFLICT and self._noted.take(caller.agent_id):
            self._registry.note_conflict(caller.host_id)
            log.warning("two machines use one identity", extra=log_facts(caller.population, caller.agent_id))
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
        host = self._registry.host(caller.host_id) or host  # with the facts of this Hello
        return _HelloResult(
            meeting,
            holders.current,
            self._ingest.position(caller.host_id, request.epoch),
            calendar_json=self._registry.site(host.site).calendar_json,
            device_class=host.facts.device_class,
        )

    def _refuse(self, meeting: NonceVerdict, caller: Caller) -> NoReturn:
        """Reject a caller that has to wait, or is a clone.

        Another machine called under this identity meanwhile.
        """
        if meeting is NonceVerdict.WAITS:
            days = wait_milliseconds(caller.population) // MILLISECONDS_PER_DAY
            raise OlderInstance(
                "this machine shows an older state than the one that was served last: it is a copy, or was "
                "set back; "
                f"what it measures is kept, and delivered once nobody else called for {days} day(s) "
                "(at once after `veilleuse hosts activate` on the collector)",
                look_again_milliseconds(caller.population),
            )
        self._health.count(Count.IDENTITY_CONFLICTS, "instance")
        raise NotAuthorised(
            "identity_conflict",
            "another machine uses this identity, with the same certificate: this one is a copy, or was "
            "copied; it "
            "needs an identity of its own",
        )


def wait_for_result(future: Future[T], until: float) -> T:
    """Wait for the result of a writer's job until `until` (time.monotonic() seconds) and a second more."""
    try:
        return future.result(timeout=max(0.0, until - time.monotonic()) + 1.0)
    finally:
        del future  # its error refers to this frame: the cycle would live until the garbage collector runs


@lru_cache(maxsize=256)
def calendar_message(calendar_json: str) -> tuple[bytes, Any]:
    """Return (SHA-256 that names the calendar, its message)."""
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
