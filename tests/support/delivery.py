# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A model of what a collector answers, and of what it holds: for the real sender on the real spool.
docs/wire.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum

from google.protobuf.message import DecodeError

from tests.support.fakes.agent import EPOCH_START
from veilleuse.agent.errors import CollectorAway, RequestRefused
from veilleuse.wire.chain import chain_next, chain_start
from veilleuse.wire.v1 import telemetry_pb2 as pb

MINUTE = 60_000


class Fault(StrEnum):
    """What happens to a call."""

    NONE = "none"
    NOT_HEARD = "the request is lost"
    NOT_ANSWERED = "done, and the answer is lost"
    CONFLICT = "it says CONFLICT for no reason that the agent can see"
    SOME = "it stores the first half of a run"
    MEANWHILE = "the machine measures on meanwhile"


@dataclass(frozen=True)
class Stream:
    """What is known of one epoch: the chain at each number, 0 first."""

    chains: tuple[bytes, ...]

    @property
    def mark(self) -> int:
        return len(self.chains) - 1


@dataclass(frozen=True)
class Held:
    """Everything a collector holds; a value, so that a backup is the value itself."""

    streams: dict[bytes, Stream] = field(default_factory=dict)
    wires: tuple[tuple[bytes, bytes], ...] = ()
    """(epoch, bytes) as stored; what was only recognised is not in it."""


class ModelCollector:
    """`sender.Collector`. `faults` gives what becomes of each call; `meanwhile` is called when it says so."""

    def __init__(self) -> None:
        self.held = Held()
        self.states = [self.held]
        """Every state it ever was in: where a backup may bring it back to."""
        self.faults: Iterator[Fault] = iter(())
        self.meanwhile: Callable[[], None] = lambda: None
        self.refused: set[int] = set()
        """Minutes whose record it refuses by its number."""
        self.poison: set[int] = set()
        """Minutes whose record makes the whole request one it cannot take."""
        self.refuses_dated_gaps = False

    # --- the calls

    def hello(self, request: pb.HelloRequest) -> pb.HelloResponse:
        fault = self._begin()
        stream = self._stream(request.epoch)
        self._end(fault)
        return pb.HelloResponse(mark=stream.mark, chain=stream.chains[-1], next_instance_id=bytes(16))

    def push(self, request: pb.PushRequest) -> pb.PushResponse:
        fault = self._begin()
        if fault is Fault.CONFLICT:
            return self._answer(pb.PUSH_OUTCOME_CONFLICT, self._stream(request.epoch))
        answer = self._pushed(request, len(request.records) // 2 if fault is Fault.SOME else None)
        self._end(fault)
        return answer

    def renew(self, request: pb.RenewRequest) -> pb.RenewResponse:
        raise CollectorAway("nothing is due")

    # --- inside

    def restore(self, state: int) -> None:
        """From a backup of that moment; later backups are none any more."""
        self.held = self.states[state]
        del self.states[state + 1 :]

    def measurements(self) -> Counter[int]:
        """Minute → how often it is stored."""
        return Counter(minute_of(one) for one in self._records() if one.HasField("measurement"))

    def gaps(self) -> list[pb.Gap]:
        """As stored."""
        return [one.gap for one in self._records() if one.HasField("gap")]

    def _records(self) -> Iterator[pb.Record]:
        return (pb.Record.FromString(wire) for _, wire in self.held.wires)

    def _stream(self, epoch: bytes) -> Stream:
        return self.held.streams.get(epoch) or Stream((chain_start(epoch),))

    def _begin(self) -> Fault:
        fault = next(self.faults, Fault.NONE)
        if fault is Fault.MEANWHILE:
            self.meanwhile()
        if fault is Fault.NOT_HEARD:
            raise CollectorAway("nobody there")
        return fault

    def _end(self, fault: Fault) -> None:
        if fault is Fault.NOT_ANSWERED:
            raise CollectorAway("cut")

    def _pushed(self, request: pb.PushRequest, most: int | None) -> pb.PushResponse:
        stream = self._stream(request.epoch)
        try:
            parsed = [pb.Record.FromString(wire) for wire in request.records]
        except DecodeError as error:
            raise AssertionError("never measured: bytes that are no record") from error
        if self.poison & {minute_of(one) for one in parsed}:
            raise RequestRefused("the request cannot be read")
        if request.first_seq > stream.mark + 1:
            return self._answer(pb.PUSH_OUTCOME_EXPECTED_EARLIER, stream)
        elsewhere = self._elsewhere(request.epoch)
        refusals = [
            pb.Refusal(seq=request.first_seq + place, reason="bad")
            for place, one in enumerate(parsed)
            if request.records[place] not in elsewhere and self._refuses(one)
        ]
        if refusals:
            answer = self._answer(pb.PUSH_OUTCOME_REFUSED, stream)
            answer.refusals.extend(refusals)
            return answer
        chains = [request.chain_before]
        for wire in request.records:
            chains.append(chain_next(chains[-1], wire))
        known = stream.mark - request.first_seq + 1
        if known >= len(chains) or chains[known] != stream.chains[-1]:
            return self._answer(pb.PUSH_OUTCOME_CONFLICT, stream)
        end = len(request.records) if most is None else max(known, most)
        self._store(request.epoch, stream, request.records[known:end], chains[known + 1 : end + 1])
        return self._answer(pb.PUSH_OUTCOME_STORED, self._stream(request.epoch))

    def _store(self, epoch: bytes, stream: Stream, wires: Iterable[bytes], chains: list[bytes]) -> None:
        elsewhere = self._elsewhere(epoch)
        new = tuple((epoch, wire) for wire in wires if wire not in elsewhere)
        streams = self.held.streams | {epoch: replace(stream, chains=(*stream.chains, *chains))}
        self.held = Held(streams, (*self.held.wires, *new))
        self.states.append(self.held)

    def _elsewhere(self, epoch: bytes) -> set[bytes]:
        """What it would recognise: brought by other epochs."""
        return {wire for other, wire in self.held.wires if other != epoch and is_told_apart(wire)}

    def _refuses(self, record: pb.Record) -> bool:
        if record.HasField("gap"):
            return self.refuses_dated_gaps and is_dated(record.SerializeToString())
        return minute_of(record) in self.refused

    def _answer(self, outcome: pb.PushOutcome, stream: Stream) -> pb.PushResponse:
        return pb.PushResponse(outcome=outcome, mark=stream.mark, chain=stream.chains[-1])


def minute_of(record: pb.Record) -> int:
    """Which minute of `fakes.agent.record` it is; −1 for a gap."""
    if not record.HasField("measurement"):
        return -1
    return (record.measurement.period.clock.start_unix_milliseconds - EPOCH_START) // MINUTE


def is_told_apart(wire: bytes) -> bool:
    """Whether a collector can recognise it when it comes again in another epoch."""
    return bool(pb.Record.FromString(wire).gap.gap_id) or is_dated(wire)


def is_dated(wire: bytes) -> bool:
    """Whether all of its time is known."""
    record = pb.Record.FromString(wire)
    spans = record.gap.spans
    return record.HasField("measurement") or (bool(spans) and all(one.HasField("period") for one in spans))


def minutes_of(gap: pb.Gap) -> list[int]:
    """The minutes of its dated spans, each as often as it is in one."""
    found: list[int] = []
    for span in gap.spans:
        if span.HasField("period"):
            clock = span.period.clock
            first = (clock.start_unix_milliseconds - EPOCH_START) // MINUTE
            found += range(first, first + clock.duration_milliseconds // MINUTE)
    return found


def is_gap(wire: bytes) -> bool:
    """Whether it stands for records that are lost; bytes that are no record do not."""
    try:
        return pb.Record.FromString(wire).HasField("gap")
    except DecodeError:
        return False
