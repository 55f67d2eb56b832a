# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""S18: remote configurations in any order, with kills, boots, failures and full disks between."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.support.delivery import Fault, ModelCollector
from tests.support.fakes.measuring import FakeClock
from veilleuse.agent.errors import AgentError
from veilleuse.agent.model import ClockPeriod, DatePeriod, Record, Tick
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.resident.fold import Fold
from veilleuse.agent.resident.process import NoServiceManager, Resident
from veilleuse.agent.resident.sender_child import Contacts
from veilleuse.agent.sending.encode import WireEncoder
from veilleuse.agent.sending.session import Sender
from veilleuse.agent.settings import AgentSettings, Measure, Paths
from veilleuse.agent.spool.database import FILE_NAME, connect
from veilleuse.agent.spool.outbox import Outbox, Ring
from veilleuse.wire.configuration import TRIAL_MILLISECONDS
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population, State, Supply

MINUTE = 60_000
CHECKPOINT_MILLISECONDS = 60_000
OWN_TICK, OWN_PERIOD, OWN_CONTACT = 10_000, 60_000, 900
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "tick_milliseconds": st.sampled_from([10_000, 20_000, 60_000, 5_000]),
        "period_milliseconds": st.sampled_from([10_000, 60_000, 300_000, 3_600_000, 7_000]),
        "contact_milliseconds": st.sampled_from([60_000, 1_800_000]),
    },
)


class Configuring(ModelCollector):
    """Asks for a configuration until the agent reports it, in any state."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: pb.RemoteConfiguration | None = None
        self.named: list[tuple[bytes, int]] = []
        """(hash, state) of each Hello received."""

    def hello(self, request: pb.HelloRequest) -> pb.HelloResponse:
        answer = super().hello(request)
        self.named.append((request.configuration.sha256, request.configuration.state))
        if self.wanted is not None and request.configuration.sha256 != self.wanted.sha256:
            answer.configuration.CopyFrom(self.wanted)
        return answer


class Trials(RuleBasedStateMachine):
    """Checks that the agent is never finer than its file, that each trial ends, and that no time is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="veilleuse-trials-")
        state = Path(self.folder.name) / "state"
        state.mkdir()
        (state / "empty").mkdir()
        self.settings = AgentSettings(
            paths=Paths(state=state, sysfs=state / "empty", procfs=state / "empty"),
            measure=Measure(
                population="server",
                sources=("fake",),
                fake_watts=20.0,
                tick_seconds=OWN_TICK / 1000,
                period_seconds=OWN_PERIOD // 1000,
                checkpoint_seconds=CHECKPOINT_MILLISECONDS // 1000,
            ),
        )
        self.path = state / FILE_NAME
        self.collector = Configuring()
        self.clock = FakeClock()
        self.begun = self.clock.unix
        self.on_trial_since: tuple[str, int] | None = None
        """(hash, boot-time + offset) of the last trial."""
        self.elapsed = 0
        self.begin()

    def begin(self) -> None:
        contacts = Contacts(self.settings.paths.state, None, 0, command=[sys.executable, "-c", "pass"])
        self.resident = Resident(self.settings, self.clock, contacts, NoServiceManager())
        self.resident._spool._connection.execute("PRAGMA synchronous = OFF")
        self.resident.begin()

    def teardown(self) -> None:
        try:
            self.steps(11)  # a trial ends in this time
            self.resident.end()
            self.contact([])
            self.account()
        finally:
            self.resident._spool.close()
            self.folder.cleanup()

    # ------------------------------------------------------------------------------ events

    @rule(values=VALUES)
    def ask_for(self, values: dict[str, int]) -> None:
        """Let an operator ask for a configuration; equal values have the same hash."""
        sha256 = hashlib.sha256(repr(sorted(values.items())).encode()).digest()
        self.collector.wanted = pb.RemoteConfiguration(sha256=sha256, **values)

    @rule(faults=st.lists(st.sampled_from(Fault), max_size=2))
    def contact(self, faults: list[Fault]) -> None:
        """Run the sender once."""
        self.collector.faults = iter(faults)
        with closing(connect(self.path)) as db, suppress(AgentError):
            db.execute("PRAGMA synchronous = OFF")
            outbox = Outbox(db, self.path, WireEncoder(), Ring())
            Sender(outbox, self.collector, pb.Facts(), lambda: self.clock.unix).contact()
        self.resident._contact_ended = True

    @rule(minutes=st.sampled_from([0.2, 1, 3, 9, 12]))
    def steps(self, minutes: float) -> None:
        """Let time pass."""
        until = self.clock.boottime + round(minutes * MINUTE)
        while self.clock.boottime < until:
            self.clock.advance(self.resident.milliseconds_to_next_tick())
            self.resident.step()
            self.look()

    @rule()
    def killed(self) -> None:
        """Kill the resident, and start it 5 s later."""
        self.resident._spool.close()
        self.clock.advance(5_000)
        self.begin()

    @rule()
    def power_cut(self) -> None:
        self.resident._spool.close()
        self.clock.reboot(30_000)
        self.begin()

    @rule(minutes=st.sampled_from([0.5, 2]))
    def disk_full(self, minutes: float) -> None:
        """Let no file grow for some minutes."""
        db = self.resident._spool._connection
        db.execute("PRAGMA max_page_count = 1")
        self.steps(minutes)
        db.execute(f"PRAGMA max_page_count = {1 << 30}")

    # -------------------------------------------------------------------------------- checks

    def look(self) -> None:
        """Assert that a trial ends within ten minutes of its boot, and a checkpoint."""
        trial = self.resident._configured.trial
        if trial is None:
            return
        ran = self.clock.boottime - trial.since_milliseconds
        assert ran <= TRIAL_MILLISECONDS + 2 * OWN_PERIOD, f"on trial for {ran / MINUTE:.1f} min"

    @invariant()
    def never_finer(self) -> None:
        resident = self.resident
        assert resident._tick_milliseconds >= OWN_TICK
        assert resident._period_milliseconds >= OWN_PERIOD
        assert resident._contacts._contact_seconds >= OWN_CONTACT

    @invariant()
    def failed_is_said_of_one_that_is_not_in_use(self) -> None:
        control = self.resident._spool.control
        failed = control(ControlKey.CONFIGURATION_FAILED)
        assert failed is None or failed != self.resident._configured.in_use.sha256

    def account(self) -> None:
        """Assert that each millisecond since the start is in one record."""
        wires = [pb.Record.FromString(wire) for _, wire in self.collector.held.wires]
        told = sum(cell.milliseconds for one in wires for cell in one.measurement.cells)
        with closing(connect(self.path)) as db:
            assert db.execute("SELECT count(*) FROM pending").fetchone() == (0,)
            (text,) = db.execute(
                "SELECT value FROM control WHERE key = ?", (ControlKey.OPEN_FOLD,)
            ).fetchone()
        for line in json.loads(text)["open"]:
            told += sum(cell.milliseconds for cell in Record.from_json(line).cells.values())
        assert not [one for one in wires if one.HasField("gap")]
        passed = self.clock.unix - self.begun
        assert told == passed, f"{passed - told} ms astray"


MACHINE = hypothesis_settings(stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.promise("S18")
def test_any_order_of_configurations_kills_and_boots(figure):
    """No sequence makes the agent finer, leaves a trial without an end, or loses or doubles a millisecond."""
    run_state_machine_as_test(Trials, settings=hypothesis_settings(MACHINE, max_examples=20))
    figure("0 faults in 20 random sequences of 20 steps")


@pytest.mark.long
@pytest.mark.promise("S18")
def test_any_order_of_configurations_kills_and_boots_at_length(figure):
    """1,500 sequences keep the same promise."""
    run_state_machine_as_test(Trials, settings=hypothesis_settings(MACHINE, max_examples=1_500))
    figure("0 faults in 1,500 random sequences of 20 steps")


# ------------------------------------------------------------------------------------ days of 23 and 25 hours

SPRING, AUTUMN = 1_774_652_400_000, 1_792_792_800_000
"""2026-03-28 00:00 and 2026-10-24 00:00 in Paris: the day before the clocks change."""
GRAINS = (
    (Population.SERVER, 60_000),
    (Population.SERVER, 300_000),
    (Population.SERVER, 3_600_000),
    (Population.CLASSROOM, 3_600_000),
    (Population.WORKSTATION, 3_600_000),
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from([10_000, 59_001, 300_000, 3_600_000, 7_261_777]),
        st.sampled_from(["go on", "go on", "change", "restart", "restart and change"]),
        st.sampled_from(GRAINS),
    ),
    min_size=1,
    max_size=60,
)


@pytest.mark.promise("S18")
@pytest.mark.parametrize("start", [SPRING, AUTUMN])
@hypothesis_settings(max_examples=200, deadline=None)
@given(steps=STEPS, first=st.sampled_from(GRAINS))
def test_changes_of_grain_over_the_days_when_clocks_change(start, steps, first):
    """Records on days of 23 and 25 hours hold the ticks' time, and no period holds more than its length."""
    fold, now, records = Fold(first[0], first[1]), start, list[Record]()
    for length, what, grain in steps:
        records += fold.add(Tick(now, length, State.ON_IDLE, Supply.AC))
        now += length
        if what == "change":
            records += fold.change_grain(*grain)
        elif what != "go on":
            own = grain if "change" in what else (fold.population, fold._period_milliseconds)
            fold, closed = Fold.from_json(fold.to_json(), *own)
            records += closed
    records += fold.flush()
    told: dict[object, int] = {}
    for record in records:
        assert {state for _, state, _ in record.cells} <= {State.ON_IDLE, State.UNKNOWN}
        for (_, state, _), cell in record.cells.items():
            told[state] = told.get(state, 0) + cell.milliseconds
            told[record.period] = told.get(record.period, 0) + cell.milliseconds
    assert told[State.ON_IDLE] == now - start
    before = (
        5 * 24 * 3_600_000 if first[0] is Population.WORKSTATION else 0
    )  # Monday to Friday of the first week
    assert told.get(State.UNKNOWN, 0) <= before, "filled up with what another grain has told"
    for period, length in told.items():
        if isinstance(period, ClockPeriod):
            assert length <= period.duration_milliseconds
        elif isinstance(period, DatePeriod):
            assert length <= 25 * 3_600_000
