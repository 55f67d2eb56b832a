# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""One contact with the collector: Hello, then Push until nothing waits. docs/wire.md §2 and §3.

The logic alone: the calls come in through `TelemetryApi`, so that grpc stays in the composition root.
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
from veilleuse.agent.remote_config import Trial, readable
from veilleuse.agent.sending.remote_config import (
    calendar_control,
    configuration_control,
    configuration_status,
    confirmation,
    unhex,
)
from veilleuse.agent.spool.database import counted
from veilleuse.wire.chain import chain_next, chain_start
from veilleuse.wire.limits import (
    MAX_PUSH_BYTES,
    PROTOCOL_MINOR_MAXIMUM,
    PROTOCOL_MINOR_MINIMUM,
    fact_text,
)
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import GapReason

log = logging.getLogger(__name__)

ROWS_PER_PUSH: Final = 256
"""docs/architecture.md §2: the sender reads at most this many rows, then uses the network."""
ATTEMPTS_PER_CONTACT: Final = 512
"""Hello answers, refusals and conflicts worked through before giving up until the next contact."""
REFUSALS_PER_RECORD: Final = 3
"""A record is refused, then its gap with a date, then the one without; one that says no time means that the two sides disagree."""


class TelemetryApi(Protocol):
    """The three calls of :8641.

    Each raises CollectorAway (try later), IdentityError (the certificate is not accepted) or RequestRefused
    (this very request can never be accepted).
    """

    def hello(self, request: pb.HelloRequest) -> pb.HelloResponse:
        """Opens an exchange."""

    def push(self, request: pb.PushRequest) -> pb.PushResponse:
        """A contiguous run of records."""

    def renew(self, request: pb.RenewRequest) -> pb.RenewResponse:
        """A new certificate."""


@dataclass(frozen=True, slots=True)
class Contact:
    """How a contact ended."""

    records: int
    """Acknowledged during it."""
    next_send_after_milliseconds: int
    """What the collector asked for last; 0 = as configured."""


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
        """`facts` as of now; `now` gives Unix milliseconds; `accept_configuration` is the local switch."""
        self._spool = spool
        self._collector = collector
        self._facts = facts.SerializeToString(deterministic=True)
        self._version = facts.agent_version
        self._now = now
        self._accept = accept_configuration
        self._next_send_after = 0
        self._acknowledged = 0
        self._told_facts = False
        """In the last Hello."""
        self._refused: dict[tuple[bytes, int], int] = {}
        self._attempts = 0
        self._rows = ROWS_PER_PUSH
        self._edge: tuple[int, bytes] | None = None
        """Mark and chain just before the oldest row kept, once the collector went back to there."""

    def contact(self) -> Contact:
        """Hello, then everything that waits; confirms what was on trial before. Raises CollectorAway, IdentityError, SpoolError."""
        self._attempts = 0
        trial = self._spool.control(ControlKey.CONFIGURATION_TRIAL)
        self._spool.number_pending(ROWS_PER_PUSH)
        self._open()
        done = self._deliver()
        if trial is not None and self._accept and readable(Trial.from_json, trial) is not None:
            self._spool.exchange(*confirmation(trial))
        return done

    def deliver(self) -> Contact:
        """Everything that waits, on a stream that `contact` opened before. Raises like it."""
        self._attempts = 0
        return self._deliver()

    # ------------------------------------------------------------------------------ Hello

    def _open(self) -> None:
        """Hello until both sides stand at the same place."""
        while True:
            self._attempt()
            answer = self._hello()
            if self._lacks_facts(answer.mark):
                continue
            if self._agree(answer.mark, answer.chain):
                return

    def _lacks_facts(self, mark: int) -> bool:
        """A collector that stands before what it had acknowledged was put back to a backup, and may know of no facts, or of older ones:
        the next Hello has them. False where the last one had."""
        if self._told_facts or mark >= self._spool.acknowledged_seq():
            return False
        self._spool.set_control({ControlKey.FACTS_SHA256: None})
        return True

    def _request(self, epoch: bytes | None = None) -> pb.HelloRequest:
        request = hello_request(self._spool, self._version, accept_configuration=self._accept)
        if epoch is not None:
            request.epoch = epoch
        return request

    def _call_hello(self, request: pb.HelloRequest) -> pb.HelloResponse:
        """Raises CollectorAway."""
        try:
            return self._collector.hello(request)
        except RequestRefused as error:  # nothing of a Hello can be dropped: it is the versions that disagree
            raise CollectorAway(
                f"{error}: the agent and the collector may be of different versions"
            ) from error

    def _hello(self) -> pb.HelloResponse:
        request = self._request()
        facts_sha256 = hashlib.sha256(self._facts).hexdigest()
        self._told_facts = self._spool.control(ControlKey.FACTS_SHA256) != facts_sha256
        if self._told_facts:
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
        """Bring the spool to where the collector stands; False when a new epoch was needed, so say Hello again."""
        spool = self._spool
        if mark == 0 and not chain:
            chain = chain_start(spool.epoch())
        own = spool.chain_at(mark) if mark <= spool.last_seq() else None
        if mark == 0 and own == chain and self._lacks_former():
            return False
        if own is not None and own == chain:
            if mark > spool.acknowledged_seq():
                spool.acknowledge(mark, self._now())  # it had been stored, the answer was lost
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
        """Nothing of this epoch is there: is something missing of those before, which is not kept? Then another begins, and says so."""
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
        """The collector stands before everything that is kept, or just at its edge."""
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
        """Push what waits, in runs, until nothing does."""
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
            if (seq := _damaged(before, run)) is not None:
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
                self._answered(self._collector.push(request), run[-1].seq)
            except RequestRefused as error:
                self._narrow(run[0].seq, len(run), str(error))

    def _answered(self, answer: pb.PushResponse, last_seq: int) -> None:
        self._next_send_after = answer.next_send_after_milliseconds
        match answer.outcome:
            case pb.PUSH_OUTCOME_STORED if answer.mark >= last_seq or self._moved(answer.mark):
                self._stored(answer.mark, answer.chain)
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

    def _moved(self, mark: int) -> bool:
        return mark > self._spool.acknowledged_seq()

    def _same_as_ours(self, mark: int, chain: bytes) -> bool:
        return mark <= self._spool.last_seq() and self._spool.chain_at(mark) == chain

    def _stored(self, mark: int, chain: bytes) -> None:
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
        """The collector refuses a run without naming the record: halve it until one remains, and replace that."""
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
            raise CollectorAway(
                "the collector and this agent do not come to agree on the stream: retried later"
            )


def _damaged(chain: bytes, run: Sequence[WireRecord]) -> int | None:
    """The first record of a run whose bytes are not what its chain says: never sent."""
    for one in run:
        if chain_next(chain, one.wire) != one.chain:
            return one.seq
        chain = one.chain
    return None


# ------------------------------------------------------------------------------------ messages


_STATES: Final = {"confirmed": pb.APPLIED_STATE_CONFIRMED, "failed": pb.APPLIED_STATE_FAILED}
_REASONS: Final = frozenset(reason.value for reason in GapReason)


def hello_request(
    spool: SenderSpool, agent_version: str, *, accept_configuration: bool = True
) -> pb.HelloRequest:
    """What Hello says apart from the facts: where the stream stands, documents, health."""
    records, size = spool.waiting()
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
    request.health.agent_version = agent_version
    request.health.spool_records, request.health.spool_bytes = records, size
    _fill_health(request.health, spool)
    return request


def _fill_health(health: pb.Health, spool: SenderSpool) -> None:
    health.quarantine_records = spool.quarantined()
    for reason, lost in sorted(counted(spool.control(ControlKey.DROPS)).items()):
        if reason in _REASONS:
            health.drops.add(reason=pb.GapReason.Value(f"GAP_REASON_{reason.upper()}"), records=lost)
    try:
        _fill_sources(health, json.loads(spool.control(ControlKey.SOURCES) or "{}"))
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
    ) as error:  # damaged: the resident writes it again
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
    """How long to wait after `failures` ≥ 1 contacts failed in a row, and at least what the collector asked for.

    First uniform 0 to min(interval, 120 s); then exponential from 5 s, never less than the first, capped at 15 min, full
    jitter after the cap. Less than the first, and all that failed twice during an outage would come back within seconds of
    its end: R16. `uniform(low, high)` is the source of chance. Source: docs/wire.md §3.
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
    """When to come back after a contact that went well.

    As asked (and up to a tenth later), else: once a day at a random moment of the next UTC day; more often, at the
    agent's own phase of the interval, so that a fleet started together spreads out.
    """
    if asked_milliseconds:
        return now_unix_milliseconds + round(asked_milliseconds + uniform(0, asked_milliseconds / 10))
    if interval_milliseconds >= 86_400_000:
        tomorrow = (now_unix_milliseconds // interval_milliseconds + 1) * interval_milliseconds
        return tomorrow + round(uniform(0, interval_milliseconds))
    phase = int.from_bytes(hashlib.sha256(agent_id).digest()[:8], "big") % interval_milliseconds
    return ((now_unix_milliseconds - phase) // interval_milliseconds + 1) * interval_milliseconds + phase
