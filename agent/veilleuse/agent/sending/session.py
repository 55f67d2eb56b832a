# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""One contact with the collector: Hello, then Push until nothing waits. docs/wire.md §2 and §3.

This module holds the logic only. Calls come in through `TelemetryApi`, so that grpc stays in the composition
root.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from veilleuse.agent.errors import CollectorAway, RequestRefused
from veilleuse.agent.ports import ControlKey, SenderSpool, WireRecord
from veilleuse.agent.remote_config import Trial, parse_or_none
from veilleuse.agent.sending.remote_config import (
    calendar_control,
    configuration_control,
    configuration_status,
    confirmation,
    unhex,
)
from veilleuse.agent.spool.database import parse_counts
from veilleuse.wire.chain import chain_next, chain_start
from veilleuse.wire.limits import (
    MAX_PUSH_BYTES,
    PROTOCOL_MINOR_MAXIMUM,
    PROTOCOL_MINOR_MINIMUM,
    fact_text,
)
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.version import VERSION
from veilleuse.wire.vocabulary import GapReason

log = logging.getLogger(__name__)

ROWS_PER_PUSH: Final = 256
"""The sender reads at most this many rows, then uses the network: docs/architecture.md §2."""
ATTEMPTS_PER_CONTACT: Final = 512
"""Largest number of Hello answers, refusals and conflicts handled in one contact."""
REFUSALS_PER_RECORD: Final = 3
"""Number of refusals of one record: the record, its dated gap, its undated gap.

A further refusal means that the two sides disagree.
"""


class TelemetryApi(Protocol):
    """The three calls of :8641.

    Each raises CollectorAway (try later), IdentityError (the certificate is not accepted) or RequestRefused
    (this request can never be accepted).
    """

    def hello(self, request: pb.HelloRequest) -> pb.HelloResponse:
        """Open an exchange."""

    def push(self, request: pb.PushRequest) -> pb.PushResponse:
        """Push a contiguous run of records."""

    def renew(self, request: pb.RenewRequest) -> pb.RenewResponse:
        """Request a new certificate."""


@dataclass(frozen=True, slots=True)
class Contact:
    """Result of a contact."""

    records: int
    """Number of records acknowledged during the contact."""
    next_send_after_milliseconds: int
    """Wait that the collector asked for last; 0 = as configured."""


class Sender:
    """Says Hello and pushes. One instance per connection."""

    def __init__(
        self,
        spool: SenderSpool,
        collector: TelemetryApi,
        facts: pb.Facts,
        now: Callable[[], int],
        *,
        accept_configuration: bool = True,
    ) -> None:
        """`facts` as of now; `now` returns Unix milliseconds; `accept_configuration` is the local switch."""
        self._spool = spool
        self._collector = collector
        self._facts = facts.SerializeToString(deterministic=True)
        self._now = now
        self._accept = accept_configuration
        self._next_send_after = 0
        self._acknowledged = 0
        self._sent_facts = False
        """True when the last Hello contained the facts."""
        self._refused: dict[tuple[bytes, int], int] = {}
        self._attempts = 0
        self._rows = ROWS_PER_PUSH
        self._edge: tuple[int, bytes] | None = None
        """Number and chain just before the oldest row kept, once the collector went back to it."""

    def contact(self) -> Contact:
        """Say Hello, push all waiting records, then confirm a configuration that was on trial before.

        Raises CollectorAway, IdentityError, SpoolError.
        """
        self._attempts = 0
        trial = self._spool.control(ControlKey.CONFIGURATION_TRIAL)
        self._spool.number_pending(ROWS_PER_PUSH)
        self._open()
        done = self._deliver()
        if trial is not None and self._accept and parse_or_none(Trial.from_json, trial) is not None:
            self._spool.exchange(*confirmation(trial))
        return done

    def deliver(self) -> Contact:
        """Push all waiting records on a stream that `contact` opened. Raises like `contact`."""
        self._attempts = 0
        return self._deliver()

    # ------------------------------------------------------------------------------ Hello

    def _open(self) -> None:
        """Say Hello until both sides agree on the position in the stream."""
        while True:
            self._attempt()
            answer = self._hello()
            if self._lacks_facts(answer.mark):
                continue
            if self._agree(answer.mark, answer.chain):
                return

    def _lacks_facts(self, mark: int) -> bool:
        """Return True when the next Hello must contain the facts.

        A collector that stands before its own acknowledgement was restored from a backup. It may lack the
        facts, or hold older ones. Returns False when the last Hello contained them.
        """
        if self._sent_facts or mark >= self._spool.acknowledged_seq():
            return False
        self._spool.set_control({ControlKey.FACTS_SHA256: None})
        return True

    def _request(self, epoch: bytes | None = None) -> pb.HelloRequest:
        request = hello_request(self._spool, accept_configuration=self._accept)
        if epoch is not None:
            request.epoch = epoch
        return request

    def _call_hello(self, request: pb.HelloRequest) -> pb.HelloResponse:
        """Call Hello. Raises CollectorAway."""
        try:
            return self._collector.hello(request)
        except RequestRefused as error:
            # no part of a Hello can be dropped: the versions of the two sides disagree
            raise CollectorAway(
                f"{error}: the agent and the collector may be of different versions"
            ) from error

    def _hello(self) -> pb.HelloResponse:
        request = self._request()
        facts_sha256 = hashlib.sha256(self._facts).hexdigest()
        self._sent_facts = self._spool.control(ControlKey.FACTS_SHA256) != facts_sha256
        if self._sent_facts:
            request.facts.ParseFromString(self._facts)
        answer = self._call_hello(request)
        self._next_send_after = answer.next_send_after_milliseconds
        control: dict[str, str | None] = {
            ControlKey.INSTANCE_ID: answer.next_instance_id.hex(),
            ControlKey.FACTS_SHA256: facts_sha256,
            ControlKey.COLLECTOR_VERSION: fact_text(answer.collector_version),
        }
        if answer.HasField("calendar"):
            control |= calendar_control(answer.calendar)
        if answer.HasField("configuration"):
            control |= configuration_control(answer.configuration, self._spool.control, accept=self._accept)
        self._spool.set_control(control)
        return answer

    def _agree(self, mark: int, chain: bytes) -> bool:
        """Bring the spool to the collector's position; False when a new epoch needs another Hello."""
        spool = self._spool
        if mark == 0 and not chain:
            chain = chain_start(spool.epoch())
        own = spool.chain_at(mark) if mark <= spool.last_seq() else None
        if mark == 0 and own == chain and self._lacks_former():
            return False
        if own is not None and own == chain:
            if mark > spool.acknowledged_seq():
                spool.acknowledge(mark, self._now())  # stored before, but the answer was lost
            if mark == spool.acknowledged_seq() or spool.rewind(mark):
                return True
        oldest = spool.oldest_seq()
        if own in (None, chain) and mark < oldest:
            return self._go_back(mark, chain, oldest)
        log.warning(
            "the collector knows another stream: new epoch",
            extra={"mark": mark, "own_last": spool.last_seq()},
        )
        spool.new_epoch()
        return False

    def _lacks_former(self) -> bool:
        """Start a new epoch with a gap when the collector lacks deleted records of a former epoch.

        It is called when the collector has nothing of the present epoch. Returns whether a new epoch started.
        """
        former, stands = self._spool.former(), {}
        for epoch in former:
            answer = self._call_hello(self._request(epoch))
            self._spool.set_control({ControlKey.INSTANCE_ID: answer.next_instance_id.hex()})
            stands[epoch] = answer.mark
        if all(stands[epoch] >= number for epoch, number in former.items()):
            return False
        log.error("the collector lacks what was delivered in a former epoch: new epoch with a gap")
        self._spool.new_epoch(lost_after=0, former=stands)
        return True

    def _go_back(self, mark: int, chain: bytes, oldest: int) -> bool:
        """Rewind to a collector that stands before every kept record, or exactly at the edge."""
        first = self._spool.unacknowledged(mark, 1, MAX_PUSH_BYTES)
        if mark == oldest - 1 and first and chain_next(chain, first[0].wire) == first[0].chain:
            self._edge = (mark, chain)
            return self._spool.rewind(mark)
        log.error(
            "the collector went back further than the ring: new epoch with a gap",
            extra={"records": oldest - 1 - mark},
        )
        self._spool.new_epoch(lost_after=mark)
        return False

    # ------------------------------------------------------------------------------- Push

    def _deliver(self) -> Contact:
        """Push waiting records in runs until none is left."""
        self._acknowledged = 0
        while True:
            self._spool.number_pending(ROWS_PER_PUSH)
            mark = self._spool.acknowledged_seq()
            run = self._spool.unacknowledged(mark, self._rows, MAX_PUSH_BYTES)
            if not run:
                return Contact(self._acknowledged, self._next_send_after)
            before = self._spool.chain_at(mark)
            if before is None and self._edge is not None and self._edge[0] == mark:
                before = self._edge[1]
            if before is None:
                self._attempt()
                self._open()
                continue
            if (seq := _find_damaged(before, run)) is not None:
                self._attempt()
                log.error("record damaged in the spool, a gap takes its place", extra={"seq": seq})
                self._spool.replace_with_gap(seq, "damaged in the spool", damaged=True)
                continue
            request = pb.PushRequest(
                epoch=self._spool.epoch(),
                first_seq=run[0].seq,
                chain_before=before,
                records=[record.wire for record in run],
            )
            try:
                self._handle_answer(self._collector.push(request), run[-1].seq)
            except RequestRefused as error:
                self._narrow(run[0].seq, len(run), str(error))

    def _handle_answer(self, answer: pb.PushResponse, last_seq: int) -> None:
        self._next_send_after = answer.next_send_after_milliseconds
        match answer.outcome:
            case pb.PUSH_OUTCOME_STORED if answer.mark >= last_seq or self._is_new_mark(answer.mark):
                self._acknowledge(answer.mark, answer.chain)
            case pb.PUSH_OUTCOME_REFUSED if answer.refusals:
                self._attempt()
                for refusal in sorted(answer.refusals, key=lambda one: one.seq):
                    self._replace(refusal.seq, refusal.reason)
                self._open()
            case pb.PUSH_OUTCOME_CONFLICT:
                self._attempt()
                log.warning("the collector holds another chain", extra={"mark": answer.mark})
                if self._same_as_ours(answer.mark, answer.chain):
                    self._spool.new_epoch()  # Hello would agree and the next Push conflict again
                self._open()
            case pb.PUSH_OUTCOME_EXPECTED_EARLIER | pb.PUSH_OUTCOME_STORED:
                self._attempt()
                if not self._agree(answer.mark, answer.chain):
                    self._open()
            case _:
                raise CollectorAway(
                    f"the collector gave an outcome this agent does not know ({answer.outcome})"
                )

    def _is_new_mark(self, mark: int) -> bool:
        return mark > self._spool.acknowledged_seq()

    def _same_as_ours(self, mark: int, chain: bytes) -> bool:
        return mark <= self._spool.last_seq() and self._spool.chain_at(mark) == chain

    def _acknowledge(self, mark: int, chain: bytes) -> None:
        if not self._same_as_ours(mark, chain):
            self._attempt()
            if not self._agree(mark, chain):
                self._open()
            return
        before = self._spool.acknowledged_seq()
        self._spool.acknowledge(mark, self._now())
        self._acknowledged += max(0, mark - before)
        self._attempts = 0
        self._rows = ROWS_PER_PUSH
        if self._spool.control(ControlKey.CALENDAR_STATE) == "applied":
            self._spool.set_control({ControlKey.CALENDAR_STATE: "confirmed"})

    def _narrow(self, first_seq: int, records: int, reason: str) -> None:
        """Halve a run that the collector refuses without naming a record.

        Replace the last remaining record.
        """
        self._attempt()
        if records > 1:
            self._rows = records // 2
            return
        self._rows = ROWS_PER_PUSH
        self._replace(first_seq, reason)
        self._open()

    def _replace(self, seq: int, reason: str) -> None:
        key = (self._spool.epoch(), seq)
        self._refused[key] = self._refused.get(key, 0) + 1
        if self._refused[key] > REFUSALS_PER_RECORD:
            raise CollectorAway(
                f"the collector refuses even the gap at record {seq} ({reason}): upgrade one of the two"
            )
        log.error("record refused, a gap takes its place", extra={"seq": seq, "reason": reason})
        self._spool.replace_with_gap(seq, reason)

    def _attempt(self) -> None:
        self._attempts += 1
        if self._attempts > ATTEMPTS_PER_CONTACT:
            raise CollectorAway("the collector and this agent cannot agree on the stream: retried later")


def _find_damaged(chain: bytes, run: Sequence[WireRecord]) -> int | None:
    """Return the number of the first record whose bytes do not match its chain; it is never sent."""
    for one in run:
        if chain_next(chain, one.wire) != one.chain:
            return one.seq
        chain = one.chain
    return None


# ------------------------------------------------------------------------------------ messages


_STATES: Final = {"confirmed": pb.APPLIED_STATE_CONFIRMED, "failed": pb.APPLIED_STATE_FAILED}
_REASONS: Final = frozenset(reason.value for reason in GapReason)


def hello_request(spool: SenderSpool, *, accept_configuration: bool = True) -> pb.HelloRequest:
    """What Hello says apart from the facts: where the stream stands, documents, health."""
    records, size = spool.count_waiting()
    request = pb.HelloRequest(
        epoch=spool.epoch(),
        last_seq=spool.last_seq(),
        protocol=pb.ProtocolRange(minimum=PROTOCOL_MINOR_MINIMUM, maximum=PROTOCOL_MINOR_MAXIMUM),
        instance_id=unhex(spool.control(ControlKey.INSTANCE_ID)),
    )
    if sha256 := unhex(spool.control(ControlKey.CALENDAR_SHA256)):
        state = _STATES.get(spool.control(ControlKey.CALENDAR_STATE) or "", pb.APPLIED_STATE_APPLIED)
        request.calendar.CopyFrom(pb.DocumentStatus(sha256=sha256, state=state))
    if (status := configuration_status(spool.control, accept=accept_configuration)) is not None:
        request.configuration.CopyFrom(status)
    request.health.agent_version = VERSION
    request.health.spool_records, request.health.spool_bytes = records, size
    _fill_health(request.health, spool)
    return request


def _fill_health(health: pb.Health, spool: SenderSpool) -> None:
    health.quarantine_records = spool.count_quarantined()
    for reason, lost in sorted(parse_counts(spool.control(ControlKey.DROPS)).items()):
        if reason in _REASONS:
            health.drops.add(reason=pb.GapReason.Value(f"GAP_REASON_{reason.upper()}"), records=lost)
    try:
        _fill_sources(health, json.loads(spool.control(ControlKey.SOURCES) or "{}"))
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        # damaged: the resident process writes it again
    ) as error:
        log.warning("state of the sources not readable", extra={"reason": str(error)})
        del health.sources[:]


def _fill_sources(health: pb.Health, said: dict[str, Any]) -> None:
    for source in said.get("sources", ()):
        one = health.sources.add(
            name=source["name"], successes=source.get("successes", 0), failures=source.get("failures", 0)
        )
        if source.get("unavailable"):
            one.unavailable = source["unavailable"]
    if said.get("cpu_milliseconds") is not None:
        health.resident_cpu_milliseconds = said["cpu_milliseconds"]
    if said.get("rss_bytes") is not None:
        health.resident_rss_bytes = said["rss_bytes"]


# ------------------------------------------------------------------------------------- waiting

FIRST_RECONNECT_CAP_MILLISECONDS: Final = 120_000
BACKOFF_BASE_MILLISECONDS: Final = 5_000
BACKOFF_CAP_MILLISECONDS: Final = 900_000


def retry_delay_milliseconds(
    failures: int,
    interval_milliseconds: int,
    asked_milliseconds: int,
    uniform: Callable[[float, float], float],
) -> int:
    """Return the wait after `failures` ≥ 1 failed contacts in a row, at least what the collector asked for.

    The first wait is uniform in 0 to min(interval, 120 s). Later waits have an exponential ceiling from 5 s
    to 15 min, never below the first ceiling, with full jitter. A lower ceiling would bring all machines that
    failed twice back within seconds of the end of an outage: R16. `uniform(low, high)` is the random source.
    Source: docs/wire.md §3.
    """
    ceiling = min(interval_milliseconds, FIRST_RECONNECT_CAP_MILLISECONDS)
    if failures > 1:
        exponential = BACKOFF_BASE_MILLISECONDS << min(failures - 2, 20)
        ceiling = max(ceiling, min(BACKOFF_CAP_MILLISECONDS, exponential))
    delay = uniform(0, ceiling)
    return round(asked_milliseconds + delay if asked_milliseconds else delay)


def next_contact_unix_milliseconds(
    now_unix_milliseconds: int,
    interval_milliseconds: int,
    asked_milliseconds: int,
    agent_id: bytes,
    uniform: Callable[[float, float], float],
) -> int:
    """Return the time of the next contact after a successful one.

    It is as asked, plus up to a tenth. Else, for an interval of a day: a random moment of the next UTC day.
    Else the agent's own phase of the interval, so that a fleet started together spreads out.
    """
    if asked_milliseconds:
        return now_unix_milliseconds + round(asked_milliseconds + uniform(0, asked_milliseconds / 10))
    if interval_milliseconds >= 86_400_000:
        tomorrow = (now_unix_milliseconds // interval_milliseconds + 1) * interval_milliseconds
        return tomorrow + round(uniform(0, interval_milliseconds))
    phase = int.from_bytes(hashlib.sha256(agent_id).digest()[:8], "big") % interval_milliseconds
    return ((now_unix_milliseconds - phase) // interval_milliseconds + 1) * interval_milliseconds + phase
