# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the sender on real gRPC and TLS: docs/wire.md §2, docs/guarantees.md R3, R4, R12, R13."""

from __future__ import annotations

import shutil
from pathlib import Path

import grpc
import pytest

from tests.support.fakes.agent import EPOCH_START, Agent, energies, record
from tests.support.fakes.collector import FakeCollector
from veilleuse.agent.model import Gap
from veilleuse.agent.spool.outbox import Ring
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.version import VERSION
from veilleuse.wire.vocabulary import GapReason


@pytest.fixture
def agent(tmp_path: Path, collector: FakeCollector) -> Agent:
    """Return an enrolled agent."""
    enrolled = Agent(tmp_path / "state")
    enrolled.enrol(collector)
    return enrolled


def stored(agent: Agent, collector: FakeCollector) -> list[int]:
    """Return the millijoules of the agent's measurements on the collector."""
    return energies(collector.stored(agent.identity.agent_id))


def test_everything_measured_is_stored_once_and_in_order(agent, collector):
    """600 records are sent in runs of at most 256 and arrive once, in order."""
    agent.measure(*(record(index) for index in range(600)))
    assert agent.send()
    assert stored(agent, collector) == [1_000 + index for index in range(600)]
    pushes = [request for request in collector.requests if isinstance(request, pb.PushRequest)]
    assert [len(push.records) for push in pushes] == [256, 256, 88]
    assert agent.control()["standing"] == "ok"
    assert all(row[3] is not None for row in agent.rows())


def test_a_reply_lost_after_the_commit_duplicates_nothing(agent, collector):
    """R4: the next Hello shows that the run with the lost answer is stored, and it is not sent again."""
    agent.measure(*(record(index) for index in range(5)))
    collector.lose_replies = 1
    assert not agent.send()
    assert f"{collector.address} cannot be reached" in agent.control()["standing"]
    agent.measure(record(5))
    assert agent.send()
    (stream,) = collector.streams.values()
    assert energies([pb.Record.FromString(wire) for wire in stream.records]) == [
        1_000 + index for index in range(6)
    ]
    assert "failures" not in agent.control()


def test_nothing_is_lost_while_the_collector_is_away(agent, collector):
    """A contact with an absent collector keeps each record and sets one line and a time to retry."""
    address = agent.identity.place.address
    for server in collector._servers:
        server.stop(None).wait()
    agent.measure(record(0), record(1))
    assert not agent.send()
    control = agent.control()
    assert control["failures"] == "1"
    assert "\n" not in control["standing"]
    assert int(control["next_send"]) > 0
    assert address.startswith("127.0.0.1")
    assert len(agent.rows()) == 2


def test_a_collector_restored_from_a_backup_gets_the_ring_again(agent, collector):
    """R12: a restored collector gets the records after its mark again, each once."""
    agent.measure(*(record(index) for index in range(10)))
    assert agent.send()
    backup = collector.backup()
    agent.measure(*(record(index) for index in range(10, 20)))
    assert agent.send()
    collector.streams = backup
    agent.measure(record(20))
    assert agent.send()
    (stream,) = collector.streams.values()
    assert energies([pb.Record.FromString(wire) for wire in stream.records]) == [
        1_000 + index for index in range(21)
    ]


def test_a_collector_older_than_the_ring_gets_a_gap_in_a_new_epoch(agent, collector):
    """If mark + 1 is older than the ring, a new epoch has Gap{ring_expired} first, then the kept records."""
    agent.ring = Ring(milliseconds=0, records=3)
    agent.measure(record(0), record(1))
    assert agent.send()
    backup = collector.backup()
    agent.measure(*(record(index) for index in range(2, 12)))
    assert agent.send()
    collector.streams = backup
    agent.measure(record(12))
    assert agent.send()
    records = collector.stored(agent.identity.agent_id)
    gaps = [one.gap for one in records if one.HasField("gap")]
    assert [(gap.reason, gap.records) for gap in gaps] == [(pb.GAP_REASON_RING_EXPIRED, 7)]
    assert energies(records) == [1_000, 1_001, *(1_000 + index for index in range(9, 13))]
    assert len(records) - 1 + gaps[0].records == 13  # produced = stored + declared gaps


@pytest.mark.parametrize("mark", [7, 8])
def test_the_edge_of_the_ring_is_not_a_gap(agent, collector, mark):
    """If the collector lacks only records that are kept, the same epoch goes on without a gap."""
    agent.ring = Ring(milliseconds=0, records=3)
    agent.measure(*(record(index) for index in range(10)))
    assert agent.send()
    assert agent.rows()[0][0] == 8
    epoch = bytes.fromhex(agent.control()["epoch"])
    collector.truncate(agent.identity.agent_id, epoch, mark)
    assert agent.send()
    assert [key[1] for key in collector.streams] == [epoch]
    assert stored(agent, collector) == [1_000 + index for index in range(10)]


@pytest.mark.parametrize("number", [1, 2])
def test_an_agent_rolled_back_to_a_snapshot_loses_nothing(agent, collector, tmp_path, number):
    """R13: records of a rolled-back agent arrive under a new epoch, and none is lost: equal numbers with
    another content have another chain.
    """
    agent.measure(record(0))
    assert agent.send()
    shutil.copytree(agent.state, tmp_path / "snapshot")
    agent.measure(*(record(1 + n) for n in range(number)))
    assert agent.send()
    shutil.rmtree(agent.state)
    shutil.copytree(tmp_path / "snapshot", agent.state)
    agent.measure(*(record(1 + number + n) for n in range(number)))
    assert agent.send()
    assert stored(agent, collector) == [1_000 + n for n in range(1 + 2 * number)]
    assert len(collector.streams) == 2


def test_a_refused_record_becomes_a_gap_at_its_own_number(agent, collector):
    """The original is in quarantine, its span in a Gap{refused}, and later records are stored."""
    collector.refuse = lambda one: "energy_out_of_range" if 1_003 in energies([one]) else ""
    agent.measure(*(record(index) for index in range(6)))
    assert agent.send()
    records = collector.stored(agent.identity.agent_id)
    assert energies(records) == [1_000, 1_001, 1_002, 1_004, 1_005]
    gap = records[3].gap
    assert (gap.reason, gap.records) == (pb.GAP_REASON_REFUSED, 1)
    assert gap.spans[0].milliseconds == 60_000
    assert gap.spans[0].period.clock.start_unix_milliseconds == EPOCH_START + 3 * 60_000
    quarantine = agent.with_outbox(
        lambda outbox: outbox._connection.execute("SELECT seq, reason FROM quarantine").fetchall()
    )
    assert quarantine == [(4, "energy_out_of_range")]
    hello = [one for one in collector.requests if isinstance(one, pb.HelloRequest)][-1]
    assert [(drop.reason, drop.records) for drop in hello.health.drops] == [(pb.GAP_REASON_REFUSED, 1)]


def test_even_a_refused_gap_blocks_nothing(agent, collector):
    """A gap whose span is refused is sent without the span."""
    collector.refuse = lambda one: "span" if one.gap.spans or 1_001 in energies([one]) else ""
    agent.measure(record(0), record(1), record(2))
    assert agent.send()
    assert energies(collector.stored(agent.identity.agent_id)) == [1_000, 1_002]


def test_a_collector_that_refuses_everything_is_left_in_peace(agent, collector):
    """The contact ends with one line in the standing."""
    collector.refuse = lambda one: "no"
    agent.measure(record(0))
    assert not agent.send()
    assert "refuses even the gap" in agent.control()["standing"]


def test_a_run_refused_without_a_name_is_narrowed_to_the_record(agent, collector):
    """INVALID_ARGUMENT names no record: the run is halved down to the bad record, which becomes a gap."""
    collector.invalid = lambda one: 1_011 in energies([one])
    agent.measure(*(record(index) for index in range(20)))
    assert agent.send()
    assert stored(agent, collector) == [1_000 + index for index in range(20) if index != 11]


def test_a_conflict_starts_another_epoch(agent, collector):
    """If another sender used the epoch, Hello shows it, and this agent's records go under a new epoch."""
    agent.measure(record(0), record(1))
    assert agent.send()
    (stream,) = collector.streams.values()
    stream.chain = bytes(32)
    agent.measure(record(2))
    assert agent.send()
    assert stored(agent, collector) == [1_000, 1_001, 1_002]
    assert len(collector.streams) == 2


def test_a_busy_collector_is_obeyed(agent, collector):
    """RESOURCE_EXHAUSTED with a delay sets the earliest next contact."""
    collector.abort = (grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full", 90_000)
    now = int(agent.identity.not_before_unix_milliseconds + 1_000_000)
    assert not agent.send(clock=lambda: now)
    assert int(agent.control()["next_send"]) - now >= 90_000


def test_a_revoked_machine_says_so(agent, collector):
    """PERMISSION_DENIED gives one line in the standing and keeps every record."""
    collector.forbidden.add(agent.identity.agent_id)
    agent.measure(record(0))
    assert not agent.send()
    assert (
        agent.control()["standing"]
        == f"refused by the collector at {collector.address}: this machine was revoked"
    )
    assert len(agent.rows()) == 1


def test_facts_travel_when_they_change(agent, collector):
    """Facts are sent once while they stay the same."""
    assert agent.send()
    assert agent.send()
    hellos = [one for one in collector.requests if isinstance(one, pb.HelloRequest)]
    assert [one.HasField("facts") for one in hellos] == [True, False]
    assert hellos[0].health.agent_version == VERSION
    assert hellos[1].instance_id
    assert not hellos[0].instance_id


def test_facts_travel_again_to_a_collector_that_went_back(agent, collector):
    """A collector restored to a backup without the machine's facts gets them again, once."""
    agent.measure(record(0))
    assert agent.send()
    collector.streams.clear()
    agent.measure(record(1))
    assert agent.send()
    assert agent.send()
    told = [one.HasField("facts") for one in collector.requests if isinstance(one, pb.HelloRequest)]
    assert told == [True, False, True, False]
    assert stored(agent, collector) == [1_000, 1_001]


def test_a_calendar_is_kept_and_confirmed(agent, collector):
    """A calendar is pulled in full once, then named by its hash, and confirmed after a delivered batch."""
    spans = [pb.OpenSpan(iso_weekday=day, start_minute=420, end_minute=1_200) for day in range(1, 7)]
    collector.calendar = pb.Calendar(
        time_zone="Europe/Paris", open_spans=spans, closures=[pb.LocalDate(year=2026, month=12, day=25)]
    )
    agent.measure(record(0))
    assert agent.send()
    control = agent.control()
    assert '"Europe/Paris"' in control["calendar"]
    assert control["calendar_state"] == "confirmed"
    assert agent.send()
    hello = collector.requests[-1]
    assert hello.calendar.state == pb.APPLIED_STATE_CONFIRMED
    assert hello.calendar.sha256.hex() == control["calendar_sha256"]


def test_a_calendar_that_cannot_be_used_leaves_the_old_one(agent, collector):
    """A calendar with an open span under three hours is refused and reported as FAILED."""
    collector.calendar = pb.Calendar(
        time_zone="Europe/Paris", open_spans=[pb.OpenSpan(iso_weekday=1, start_minute=0, end_minute=10)]
    )
    assert agent.send()
    assert "calendar" not in agent.control()
    assert agent.control()["calendar_state"] == "failed"


def test_gaps_made_by_the_spool_are_counted(agent, collector):
    """A Gap{spool_cap} is sent like a record; Hello's health gives its number of records."""
    agent.measure(Gap(GapReason.SPOOL_CAP, ((record(0).period, 60_000),), 12), record(1))
    assert agent.send()
    assert agent.send()
    assert [(drop.reason, drop.records) for drop in collector.requests[-1].health.drops] == [
        (pb.GAP_REASON_SPOOL_CAP, 12)
    ]


def test_what_the_collector_asks_for_is_when_we_come_back(agent, collector):
    """The next contact is after next_send_after, with up to a tenth more."""
    collector.next_send_after_milliseconds = 60_000
    now = agent.identity.not_before_unix_milliseconds + 1_000_000
    assert agent.send(clock=lambda: now)
    assert int(agent.control()["next_send"]) == now + 66_000


def test_a_restored_collector_gets_what_an_epoch_left_behind_had_delivered(agent, collector, tmp_path):
    """After agent and collector went back, the former epoch's ring is sent again, each record once."""
    agent.measure(record(0))
    assert agent.send()
    backup = collector.backup()
    agent.measure(record(1), record(2))
    assert agent.send()
    shutil.copytree(agent.state, tmp_path / "snapshot")
    agent.measure(record(3))
    assert agent.send()
    shutil.rmtree(agent.state)
    shutil.copytree(tmp_path / "snapshot", agent.state)
    agent.measure(record(4))
    assert agent.send()  # a new epoch: 1 and 2 were acknowledged in the former one
    collector.streams = backup
    agent.measure(record(5))
    assert agent.send()
    assert sorted(stored(agent, collector)) == [1_000, 1_001, 1_002, 1_004, 1_005]


def test_a_record_damaged_in_the_spool_is_never_sent(agent, collector):
    """Bytes that do not match their chain become a gap, go to quarantine, and later records arrive."""
    agent.measure(*(record(index) for index in range(5)))
    agent.with_outbox(lambda outbox: outbox.number_pending(10))
    good = agent.rows()[2][1]
    bad = good.replace(b"package-0", b"package-1")
    assert bad != good
    agent.with_outbox(
        lambda outbox: outbox._connection.execute("UPDATE outbox SET wire = ? WHERE seq = 3", (bad,))
    )
    assert agent.send()
    records = collector.stored(agent.identity.agent_id)
    assert energies(records) == [1_000, 1_001, 1_003, 1_004]
    assert [one.gap.reason for one in records if one.HasField("gap")] == [pb.GAP_REASON_SPOOL_DAMAGED]
    assert agent.send()
    hello = [one for one in collector.requests if isinstance(one, pb.HelloRequest)][-1]
    assert hello.health.quarantine_records == 1
    assert agent.control()["collector_version"] == "0.2.0"
