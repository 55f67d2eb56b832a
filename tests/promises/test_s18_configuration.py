# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""S18: settings that a collector may change on an agent. Real resident, spool, sender; a settable clock."""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.fakes.agent import Agent
from tests.support.fakes.collector import FakeCollector
from tests.support.fakes.measuring import FakeClock
from veilleuse.agent.model import ClockPeriod, Instant, Record, body_from_json
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.remote_config import MOST_RESTARTS, grain_of, read_status
from veilleuse.agent.resident.process import NoServiceManager, Resident
from veilleuse.agent.resident.sender_child import Contacts
from veilleuse.agent.sending.encode import WireEncoder
from veilleuse.agent.sending.remote_config import configuration_control
from veilleuse.agent.settings import CONTACT_SECONDS, AgentSettings, Collector, Measure, read_settings
from veilleuse.agent.spool.database import connect
from veilleuse.agent.spool.outbox import Outbox, Ring
from veilleuse.wire.configuration import TRIAL_MILLISECONDS
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population, State

MINUTE = 60_000


def wanted(**values: int) -> pb.RemoteConfiguration:
    """Return a configuration as a collector sends it."""
    return pb.RemoteConfiguration(sha256=hashlib.sha256(repr(values).encode()).digest(), **values)


class Machine:
    """A server that measures by a settable clock, and sends when the test says so."""

    def __init__(self, folder: Path, collector: FakeCollector, **more: str) -> None:
        self.collector = collector
        self.agent = Agent(
            folder / "state",
            **{
                "measure.population": "server",
                "measure.sources": "fake",
                "measure.fake_watts": "20",
                "measure.period_seconds": "60",
                "measure.checkpoint_seconds": "60",
                **more,
            },
        )
        self.agent.enrol(collector)
        self.clock = FakeClock()
        self.resident: Resident | None = None
        self.begin()

    def begin(self) -> Resident:
        contacts = Contacts(self.agent.state, None, 0, command=[sys.executable, "-c", "pass"])
        self.resident = Resident(self.agent.settings, self.clock, contacts, NoServiceManager())
        self.resident.begin()
        return self.resident

    def kill(self) -> None:
        """End the resident as kill -9 does."""
        assert self.resident is not None
        self.resident._contacts.stop()
        self.resident._spool.close()

    def steps(self, minutes: float) -> None:
        assert self.resident is not None
        until = self.clock.boottime + round(minutes * MINUTE)
        while self.clock.boottime < until:
            self.clock.advance(10_000)
            self.resident.step()

    @property
    def period(self) -> int:
        assert self.resident is not None
        return self.resident._period_milliseconds

    def hello(self) -> pb.HelloRequest:
        """Return the last Hello."""
        return [one for one in self.collector.requests if isinstance(one, pb.HelloRequest)][-1]

    def records(self) -> list[Record]:
        with closing(connect(self.agent.path)) as db:
            rows = db.execute("SELECT body FROM pending ORDER BY id").fetchall()
        bodies = [body_from_json(row[0]) for row in rows]
        return [body for body in bodies if isinstance(body, Record)]


@pytest.fixture
def collector() -> Iterator[FakeCollector]:
    """Yield a running collector."""
    with FakeCollector() as running:
        yield running


@pytest.fixture
def machine(tmp_path: Path, collector: FakeCollector) -> Iterator[Machine]:
    """Yield a server that measures in periods of one minute."""
    made = Machine(tmp_path, collector)
    yield made
    made.kill()


@pytest.mark.promise("S18")
def test_a_configuration_is_tried_confirmed_and_kept(machine, collector, figure):
    """A configuration is tried at the next look, confirmed by the next contact, and survives a kill."""
    collector.configuration = wanted(period_milliseconds=300_000, tick_milliseconds=20_000)
    machine.steps(2)
    assert machine.agent.send()
    assert machine.period == 60_000
    machine.steps(1)
    assert machine.period == 300_000
    assert machine.agent.send()
    assert machine.hello().configuration.state == pb.APPLIED_STATE_APPLIED
    machine.steps(15)
    assert machine.period == 300_000
    machine.kill()
    machine.begin()
    assert machine.period == 300_000
    assert machine.agent.send()
    said = machine.hello().configuration
    assert (said.sha256, said.state) == (collector.configuration.sha256, pb.APPLIED_STATE_CONFIRMED)
    figure("1 configuration confirmed at the 2nd contact")


@pytest.mark.promise("S18")
def test_a_configuration_that_cuts_the_network_is_given_up(machine, collector, figure):
    """A configuration that stops all deliveries is given up in ≤ 10 min, and later reported as FAILED."""
    collector.configuration = wanted(period_milliseconds=300_000)
    machine.steps(2)
    assert machine.agent.send()
    machine.steps(1)
    assert machine.period == 300_000
    applied = machine.clock.boottime
    while machine.period != 60_000 and machine.clock.boottime < applied + 3_600_000:
        machine.steps(1 / 6)
    took = machine.clock.boottime - applied
    figure(f"1 bad configuration reverted after {took / MINUTE:.1f} min")
    assert took <= TRIAL_MILLISECONDS
    assert machine.agent.send()
    said = machine.hello().configuration
    assert (said.sha256, said.state) == (collector.configuration.sha256, pb.APPLIED_STATE_FAILED)
    machine.steps(3)
    assert machine.agent.send()
    machine.steps(2)
    assert machine.period == 60_000  # not tried again, though the collector sends it again
    collector.configuration = wanted(period_milliseconds=600_000)
    assert machine.agent.send()
    machine.steps(1)
    assert machine.period == 600_000  # another configuration is tried
    assert ControlKey.CONFIGURATION_FAILED not in machine.agent.control()


@pytest.mark.promise("S18")
@pytest.mark.parametrize("minutes", [0.5, 1, 2, 5, 9])
def test_killed_at_any_moment_of_a_trial(machine, collector, minutes):
    """A trial ends at its time: kill -9 and a start do not begin it again."""
    collector.configuration = wanted(period_milliseconds=300_000)
    machine.steps(2)
    assert machine.agent.send()
    applied = machine.clock.boottime
    machine.steps(minutes)
    machine.kill()
    machine.begin()
    machine.steps(1.5)
    if minutes < 8:
        assert machine.period == 300_000
    machine.steps(TRIAL_MILLISECONDS / MINUTE - minutes)
    assert machine.period == 60_000
    assert machine.clock.boottime - applied < TRIAL_MILLISECONDS + 4 * MINUTE


@pytest.mark.promise("S18")
def test_boots_begin_the_time_of_a_trial_again_once(machine, collector):
    """A configuration that makes a machine crash is given up at the machine's second boot."""
    collector.configuration = wanted(period_milliseconds=300_000)
    machine.steps(2)
    assert machine.agent.send()
    machine.steps(2)
    seen = []
    for _ in range(3):
        machine.kill()
        machine.clock.reboot(5_000)
        machine.begin()
        machine.steps(0.5)
        seen.append(machine.period)
    assert seen == [300_000] * MOST_RESTARTS + [60_000] * (3 - MOST_RESTARTS)


@pytest.mark.promise("S18")
def test_no_millisecond_is_lost_or_doubled(machine, collector, figure):
    """Periods of 1 min, 5 min (given up) and 1 min: the states of all records sum to the time that passed."""
    collector.configuration = wanted(period_milliseconds=300_000)
    begun = machine.clock.unix
    machine.steps(2.5)
    assert machine.agent.send()
    machine.steps(24)
    assert machine.resident is not None
    with closing(connect(machine.agent.path)) as db:
        outbox = Outbox(db, machine.agent.path, WireEncoder(), Ring())
        delivered = outbox.acknowledged_seq()
    machine.resident._queue += [one.to_json() for one in machine.resident._fold.flush()]
    machine.resident._spool.append(machine.resident._queue, {})
    machine.resident._queue.clear()
    states: Counter[State] = Counter()
    for record in machine.records():
        for (_, state, _), cell in record.cells.items():
            states[state] += cell.milliseconds
    passed = machine.clock.unix - begun
    told = sum(states.values()) + delivered * MINUTE
    figure(f"{passed - told} of {passed:,} ms unexplained")
    assert told == passed
    assert {
        record.period.duration_milliseconds
        for record in machine.records()
        if isinstance(record.period, ClockPeriod)
    } == {60_000, 300_000}


@pytest.mark.promise("S18")
@pytest.mark.parametrize(
    "values",
    [
        {"tick_milliseconds": 9_999},
        {"tick_milliseconds": 60_001},
        {"period_milliseconds": 7_000_000},
        {"period_milliseconds": 70_000},
        {"contact_milliseconds": 1},
        {"contact_milliseconds": 2**63},
    ],
)
def test_out_of_bounds_is_refused_at_once(machine, collector, values):
    """A configuration out of bounds is not applied, and the next Hello reports FAILED."""
    collector.configuration = wanted(**values)
    assert machine.agent.send()
    machine.steps(2)
    assert machine.period == 60_000
    assert machine.agent.send()
    said = machine.hello().configuration
    assert (said.sha256, said.state) == (collector.configuration.sha256, pb.APPLIED_STATE_FAILED)


@pytest.mark.promise("S18")
def test_the_local_switch(tmp_path, collector):
    """With collector.accept_configuration = false nothing is applied, and FAILED is reported."""
    machine = Machine(tmp_path, collector, **{"collector.accept_configuration": "false"})
    collector.configuration = wanted(period_milliseconds=300_000)
    assert machine.agent.send()
    machine.steps(2)
    assert machine.period == 60_000
    assert machine.agent.send()
    assert machine.hello().configuration.state == pb.APPLIED_STATE_FAILED
    machine.kill()


def test_a_rollout_that_is_called_back(machine, collector):
    """A trial ends without being reported as FAILED when the collector asks for the confirmed one again."""
    first, second = wanted(period_milliseconds=300_000), wanted(period_milliseconds=600_000)
    for configuration in (first, first, second):
        collector.configuration = configuration
        assert machine.agent.send()
        machine.steps(1)
    assert machine.period == 600_000
    collector.configuration = first
    assert machine.agent.send()
    machine.steps(1)
    assert machine.period == 300_000
    assert machine.agent.send()
    assert machine.hello().configuration.state == pb.APPLIED_STATE_CONFIRMED


def test_a_sender_that_did_not_see_the_trial_confirms_nothing(machine, collector):
    """The contact that brought a configuration ran without it, and does not confirm it."""
    collector.configuration = wanted(period_milliseconds=300_000)
    assert machine.agent.send()
    assert ControlKey.CONFIGURATION not in machine.agent.control()
    machine.steps(1)
    control = machine.agent.control()
    assert ControlKey.CONFIGURATION_TRIAL in control
    assert ControlKey.CONFIGURATION not in control


def test_the_next_contact_is_brought_forward(machine, collector):
    """The next contact comes within 8 minutes, not a quarter of an hour, so that the trial can end."""
    now = machine.agent.identity.not_before_unix_milliseconds + 1_000_000
    collector.configuration = wanted(contact_milliseconds=3_600_000)
    assert machine.agent.send(clock=lambda: now)
    assert int(machine.agent.control()["next_send"]) <= now + 480_000
    machine.steps(1)
    assert machine.agent.send(clock=lambda: now)
    machine.steps(1)
    control = machine.agent.control()
    assert ControlKey.CONFIGURATION in control
    assert ControlKey.CONFIGURATION_TRIAL not in control  # later contacts are as configured
    assert machine.resident is not None
    assert machine.resident._contacts._contact_seconds == 3_600


# ------------------------------------------------------------------------------------- any message


MESSAGES = st.one_of(
    st.binary(max_size=80),
    st.builds(
        lambda sha256, values: pb.RemoteConfiguration(sha256=sha256, **values).SerializeToString(),
        st.binary(min_size=32, max_size=32),
        st.fixed_dictionaries(
            {},
            optional={
                "tick_milliseconds": st.one_of(st.integers(10_000, 60_000), st.integers(0, 2**64 - 1)),
                "period_milliseconds": st.sampled_from([10_000, 60_000, 300_000, 3_600_000, 0, 7, 2**64 - 1]),
                "contact_milliseconds": st.one_of(st.integers(60_000, 86_400_000), st.integers(0, 2**64 - 1)),
            },
        ),
    ),
)
KEYS = {
    ControlKey.CONFIGURATION_CANDIDATE,
    ControlKey.CONFIGURATION_FAILED,
}
LOCAL = st.builds(
    lambda tick, period, contact, population: AgentSettings(
        measure=Measure(tick_seconds=tick, period_seconds=period, population=population.value),
        collector=Collector(contact_seconds=contact),
    ),
    st.sampled_from([1.0, 10.0, 30.0, 60.0]),
    st.sampled_from([0, 10, 60, 300, 3_600]),
    st.sampled_from([0, 60, 900, 86_400]),
    st.sampled_from(list(Population)),
)
BYTES_SEEN: Counter[str] = Counter()


@pytest.mark.promise("P3")
@pytest.mark.promise("S18")
def test_whatever_is_sent_nothing_but_three_numbers_can_change_and_only_upwards(figure):
    """No message sets a key but the configuration's, or makes tick, period or contact finer than the own."""
    before = dict(os.environ)
    _any_message()
    assert dict(os.environ) == before
    assert BYTES_SEEN["tried"] > 50, "the strategy must find valid ones too"
    figure(
        f"0 of {BYTES_SEEN['tried']:,} configurations on trial, from {BYTES_SEEN['all']:,} messages, finer than the machine's file"
    )


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(message=MESSAGES, own=LOCAL)
def _any_message(message: bytes, own: AgentSettings) -> None:
    parsed = pb.RemoteConfiguration()
    try:
        parsed.ParseFromString(message)
    except DecodeError:
        return
    BYTES_SEEN["all"] += 1
    control: dict[str, str] = {}
    changes = configuration_control(parsed, control.get, accept=True)
    assert set(changes) <= KEYS
    control |= {key: value for key, value in changes.items() if value is not None}
    standing = read_status(control.get, Instant(0, 1_000, 1_000), "boot", accept=True)
    BYTES_SEEN["tried"] += standing.trial is not None
    population = Population(own.measure.population)
    grain = grain_of(own, population, standing.in_use.configuration, 0)
    period = own.measure.period_milliseconds(population, 0)
    assert period <= grain.period_milliseconds <= 3_600_000
    assert grain.tick_milliseconds >= min(own.measure.tick_seconds * 1000, period)
    assert grain.contact_seconds >= (own.collector.contact_seconds or CONTACT_SECONDS[population])
    if population is not Population.SERVER:
        assert grain.period_milliseconds == period
    assert read_settings(None, {}, {}) == AgentSettings()
