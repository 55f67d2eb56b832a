# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test answers that a collector gives only in a race, or never: none loses a record or loops for ever."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.fakes.agent import energies, record
from tests.support.fakes.collector import FakeCollector, Stream
from veilleuse.agent.errors import CollectorAway, RequestRefused
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.sending.encode import WireEncoder
from veilleuse.agent.sending.session import Sender
from veilleuse.agent.spool.database import connect
from veilleuse.agent.spool.outbox import Outbox, Ring
from veilleuse.wire.chain import chain_start
from veilleuse.wire.v1 import telemetry_pb2 as pb

AGENT = bytes(16)


class Direct:
    """Implements sender.Collector on a FakeCollector's streams without a network; `scripted` come first."""

    def __init__(self) -> None:
        self.collector = FakeCollector()
        self.scripted: list[Callable[[pb.PushRequest], pb.PushResponse]] = []
        self.hellos: list[pb.HelloRequest] = []
        self.no_chain_at_zero = False

    def hello(self, request: pb.HelloRequest) -> pb.HelloResponse:
        self.hellos.append(request)
        stream = self.collector.streams.get((AGENT, request.epoch), Stream(chain_start(request.epoch)))
        chain = b"" if self.no_chain_at_zero and not stream.mark else stream.chain
        return pb.HelloResponse(mark=stream.mark, chain=chain, next_instance_id=bytes(16))

    def push(self, request: pb.PushRequest) -> pb.PushResponse:
        if self.scripted:
            return self.scripted.pop(0)(request)
        return self.collector.push(AGENT, request)

    def renew(self, request: pb.RenewRequest) -> pb.RenewResponse:
        raise NotImplementedError

    def stored(self) -> list[int]:
        return energies(self.collector.stored(AGENT))


@pytest.fixture
def direct() -> Direct:
    """Return a collector without records."""
    return Direct()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """Return an outbox with five unnumbered records."""
    path = tmp_path / "spool.db"
    with closing(connect(path)) as connection:
        rows = [(record(index).to_json(),) for index in range(5)]
        connection.executemany("INSERT INTO pending (body) VALUES (?)", rows)
        yield Outbox(connection, path, WireEncoder(), Ring())


@pytest.fixture
def sender(outbox: Outbox, direct: Direct) -> Sender:
    """Return a sender from the outbox to the collector."""
    return Sender(outbox, direct, pb.Facts(model="PC"), lambda: 1)


def answer(outcome: int, mark: int, chain: bytes = b"") -> Callable[[pb.PushRequest], pb.PushResponse]:
    """Return a scripted answer."""
    return lambda request: pb.PushResponse(outcome=outcome, mark=mark, chain=chain)  # type: ignore[arg-type]  # a number


def test_a_contact_as_it_should_be(sender, direct):
    """Five records are stored after one Hello."""
    assert sender.contact().records == 5
    assert direct.stored() == [1_000 + index for index in range(5)]
    assert len(direct.hellos) == 1


def test_an_empty_chain_at_mark_zero_is_taken_for_the_epochs(sender, direct):
    """A collector without records of this epoch may leave the chain out."""
    direct.no_chain_at_zero = True
    assert sender.contact().records == 5


def test_expected_earlier_sends_from_the_mark(sender, direct, outbox):
    """The sender goes on from the collector's mark + 1 in the same contact."""
    direct.scripted = [answer(pb.PUSH_OUTCOME_EXPECTED_EARLIER, 0, chain_start(outbox.epoch()))]
    assert sender.contact().records == 5
    assert direct.stored() == [1_000 + index for index in range(5)]


def test_a_conflict_that_hello_does_not_see_starts_another_epoch(sender, direct, outbox):
    """CONFLICT with the agent's own mark and chain gives a new epoch, not an endless loop."""
    epoch = outbox.epoch()
    direct.scripted = [answer(pb.PUSH_OUTCOME_CONFLICT, 0, chain_start(epoch))]
    assert sender.contact().records == 5
    assert outbox.epoch() != epoch
    assert direct.stored() == [1_000 + index for index in range(5)]


def test_stored_under_another_chain_is_not_believed(sender, direct, outbox):
    """An acknowledgement with another chain counts for nothing: the records go under a new epoch."""
    direct.scripted = [answer(pb.PUSH_OUTCOME_STORED, 5, bytes(32))]
    assert sender.contact().records == 5
    assert direct.stored() == [1_000 + index for index in range(5)]


def test_stored_in_part_goes_on_from_there(sender: Sender, direct: Direct) -> None:
    """A mark within the run acknowledges a part of it, and the rest follows."""

    def half(request: pb.PushRequest) -> pb.PushResponse:
        part = pb.PushRequest(
            epoch=request.epoch,
            first_seq=request.first_seq,
            chain_before=request.chain_before,
            records=request.records[:2],
        )
        return direct.collector.push(AGENT, part)

    direct.scripted = [half]
    assert sender.contact().records == 5
    assert direct.stored() == [1_000 + index for index in range(5)]


@pytest.mark.parametrize("outcome", [pb.PUSH_OUTCOME_UNSPECIFIED, 99])
def test_an_unknown_outcome_ends_the_contact(sender, direct, outcome, outbox):
    """An unknown outcome acknowledges nothing and loses nothing."""
    direct.scripted = [answer(outcome, 0)]
    with pytest.raises(CollectorAway, match="does not know"):
        sender.contact()
    assert outbox.count_waiting()[0] == 5


def test_a_collector_that_never_agrees_is_left_in_peace(sender, direct, outbox):
    """Endless EXPECTED_EARLIER ends the contact and keeps the records."""
    direct.scripted = [answer(pb.PUSH_OUTCOME_EXPECTED_EARLIER, 0, chain_start(outbox.epoch()))] * 10_000
    with pytest.raises(CollectorAway, match="cannot agree on the stream"):
        sender.contact()
    assert outbox.count_waiting()[0] == 5


def test_a_hello_that_is_refused_names_the_versions(sender, direct, monkeypatch):
    """A refused Hello is not retried with less: the error suggests different versions."""

    def refused(request: pb.HelloRequest) -> pb.HelloResponse:
        raise RequestRefused("cannot accept")

    direct.hello = refused
    with pytest.raises(CollectorAway, match="different versions"):
        sender.contact()


def test_health_tells_how_the_sources_do(sender, direct, outbox):
    """Hello's health has the values that the resident left in the control table, in every field."""
    sources = [
        {"name": "utilisation", "successes": 9, "failures": 1, "unavailable": None},
        {"name": "linux_rapl", "successes": 0, "failures": 0, "unavailable": "virtual_machine"},
    ]
    said = {"sources": sources, "cpu_milliseconds": 1_234, "rss_bytes": 19_000_000}
    outbox.set_control({ControlKey.SOURCES: json.dumps(said), ControlKey.DROPS: json.dumps({"refused": 1})})
    sender.contact()
    health = direct.hellos[0].health
    missing = set(health.DESCRIPTOR.fields_by_name) - {field.name for field, _ in health.ListFields()}
    assert not missing, f"fill in sending/session.py, and give a value in this test: {sorted(missing)}"
    assert [(one.name, one.successes, one.failures, one.unavailable) for one in health.sources] == [
        ("utilisation", 9, 1, ""),
        ("linux_rapl", 0, 0, "virtual_machine"),
    ]
    assert not health.sources[0].HasField("unavailable")
    assert (health.resident_cpu_milliseconds, health.resident_rss_bytes) == (1_234, 19_000_000)
    assert health.spool_records == 5


def test_a_record_refused_just_after_the_ring_is_replaced_all_the_same(direct, tmp_path):
    """Without the chain of the row before, which has left the ring, a new epoch carries the gap."""
    path = tmp_path / "ring.db"
    with closing(connect(path)) as connection:
        outbox = Outbox(connection, path, WireEncoder(), Ring(milliseconds=0, records=2))
        rows = [(record(index).to_json(),) for index in range(6)]
        connection.executemany("INSERT INTO pending (body) VALUES (?)", rows)
        Sender(outbox, direct, pb.Facts(), lambda: 1).contact()
        assert outbox.oldest_seq() == 5
        direct.collector.truncate(AGENT, outbox.epoch(), 4)
        direct.collector.refuse = lambda one: "bad" if 1_004 in energies([one]) else ""
        Sender(outbox, direct, pb.Facts(), lambda: 2).contact()
    assert direct.stored() == [1_000, 1_001, 1_002, 1_003, 1_005]
    assert sum(one.gap.records for one in direct.collector.stored(AGENT)) == 1
