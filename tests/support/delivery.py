# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Model a collector's answers and what it stores, as the peer of the real sender and spool. docs/wire.md."""

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
    """A fault changes the outcome of one call."""

    NONE = "none"
    NOT_HEARD = "the request is lost"
    NOT_ANSWERED = "done, and the answer is lost"
    CONFLICT = "it says CONFLICT for no reason that the agent can see"
    SOME = "it stores the first half of a run"
    MEANWHILE = "the machine measures on meanwhile"


@dataclass(frozen=True)
class Stream:
    """A stream holds the collector's knowledge of one epoch: the chain after each number, starting at 0."""

    chains: tuple[bytes, ...]

    @property
    def mark(self) -> int:
        return len(self.chains) - 1


@dataclass(frozen=True)
class Held:
    """This value holds everything that a collector stores; it cannot change, so it is its own backup."""

    streams: dict[bytes, Stream] = field(default_factory=dict)
    wires: tuple[tuple[bytes, bytes], ...] = ()
    """(epoch, bytes) as stored; records recognised from another epoch are not stored again."""


class ModelCollector:
    """This model implements the agent's `TelemetryApi`. `faults` gives the fault of each call; `meanwhile` is
    called on the fault MEANWHILE."""

    def __init__(self) -> None:
        self.held = Held()
        self.states = [self.held]
        """Every state since the start; `restore` may return to any of them."""
        self.faults: Iterator[Fault] = iter(())
        self.meanwhile: Callable[[], None] = lambda: None
        self.refused: set[int] = set()
        """Minutes whose record the model refuses, naming the record's number."""
        self.poison: set[int] = set()
        """Minutes whose record makes the model refuse the whole request."""
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
        """Return to the state with index `state`, as from a backup; later states are deleted."""
        self.held = self.states[state]
        del self.states[state + 1 :]

    def measurements(self) -> Counter[int]:
        """Return minute → number of stored measurements."""
        return Counter(minute_of(one) for one in self._records() if one.HasField("measurement"))

    def gaps(self) -> list[pb.Gap]:
        """Return the stored gaps, oldest first."""
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
        """Return the records that other epochs brought and that can be recognised."""
        return {wire for other, wire in self.held.wires if other != epoch and is_told_apart(wire)}

    def _refuses(self, record: pb.Record) -> bool:
        if record.HasField("gap"):
            return self.refuses_dated_gaps and is_dated(record.SerializeToString())
        return minute_of(record) in self.refused

    def _answer(self, outcome: pb.PushOutcome, stream: Stream) -> pb.PushResponse:
        return pb.PushResponse(outcome=outcome, mark=stream.mark, chain=stream.chains[-1])


def minute_of(record: pb.Record) -> int:
    """Return the minute of a record of `fakes.agent.record`, counted from EPOCH_START; −1 for a gap."""
    if not record.HasField("measurement"):
        return -1
    return (record.measurement.period.clock.start_unix_milliseconds - EPOCH_START) // MINUTE


def is_told_apart(wire: bytes) -> bool:
    """Return whether a collector can recognise this record when it arrives again in another epoch."""
    return bool(pb.Record.FromString(wire).gap.gap_id) or is_dated(wire)


def is_dated(wire: bytes) -> bool:
    """Return whether all time of a record is known: a measurement, or a gap whose spans have periods."""
    record = pb.Record.FromString(wire)
    spans = record.gap.spans
    return record.HasField("measurement") or (bool(spans) and all(one.HasField("period") for one in spans))


def minutes_of(gap: pb.Gap) -> list[int]:
    """Return the minutes of a gap's dated spans; a minute in two spans appears twice."""
    found: list[int] = []
    for span in gap.spans:
        if span.HasField("period"):
            clock = span.period.clock
            first = (clock.start_unix_milliseconds - EPOCH_START) // MINUTE
            found += range(first, first + clock.duration_milliseconds // MINUTE)
    return found


def is_gap(wire: bytes) -> bool:
    """Return whether the bytes are a gap; false for bytes that are no record."""
    try:
        return pb.Record.FromString(wire).HasField("gap")
    except DecodeError:
        return False
