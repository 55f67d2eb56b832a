# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Remote configuration, from the command line to the answer of a Hello on a real port with mutual TLS."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.closed_years import lead_commands_to
from tests.support.machines import EPOCH, SECONDS, Machine, Served, served, settings_in
from veilleuse.collector.admin.operations import OPERATIONS
from veilleuse.collector.app.data_directory import initialise, open_collector
from veilleuse.collector.cli.configuration import parse_duration
from veilleuse.collector.cli.main import run
from veilleuse.collector.errors import CollectorError, UsageError
from veilleuse.collector.model.remote_config import CEILINGS, OWN_FILE, duration, sha256_of
from veilleuse.wire.configuration import Configuration
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population

COARSE = Configuration(20_000, 600_000, 1_800_000)
WORDS = ("--tick", "20s", "--period", "10min", "--contact", "30min")


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Start a collector that commands find."""
    settings_ = settings_in(tmp_path)
    lead_commands_to(settings_, monkeypatch)
    with served(settings_) as one:
        yield one


class Agent:
    """An enrolled machine that sends Hello like an agent of some version."""

    def __init__(self, collector: Served, version: str = "0.2.0") -> None:
        self.machine = Machine(collector.token())
        self.machine.enrol()
        self.version = version
        self.status = pb.DocumentStatus()

    def hello(self) -> pb.HelloResponse:
        request = pb.HelloRequest(
            epoch=EPOCH, protocol=pb.ProtocolRange(minimum=1, maximum=1), configuration=self.status
        )
        request.health.agent_version = self.version
        with self.machine.telemetry() as stub:
            answer: pb.HelloResponse = stub.Hello(request, timeout=SECONDS)
        return answer

    def says(self, sha256: bytes, state: Any) -> pb.HelloResponse:
        """Send Hello with the name and state of a configuration."""
        self.status = pb.DocumentStatus(sha256=sha256, state=state)
        return self.hello()


def shown(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the answer of `show` for servers."""
    capsys.readouterr()
    assert run(("configuration", "show", "--json")) == 0
    (found,) = [one for one in json.loads(capsys.readouterr().out) if one["population"] == "server"]
    return dict(found)


def test_a_candidate_is_given_confirmed_accepted_and_replaced(running, capsys):
    """A candidate is sent in the next Hello, until the agent names it. It is applied, confirmed, rolled out
    to 10 and 100 %, and accepted. When another candidate is withdrawn, the accepted one is sent again.
    """
    agent = Agent(running)
    assert not agent.hello().HasField("configuration")
    assert run(("configuration", "set", "--population", "server", *WORDS)) == 0
    given_ = agent.hello().configuration
    assert (
        Configuration(given_.tick_milliseconds, given_.period_milliseconds, given_.contact_milliseconds)
        == COARSE
    )
    assert given_.sha256 == sha256_of(COARSE)
    assert shown(capsys)["candidate_hosts"] == {"waiting": 1}

    assert not agent.says(given_.sha256, pb.APPLIED_STATE_APPLIED).HasField("configuration")
    assert shown(capsys)["candidate_hosts"] == {"applied": 1}
    assert run(("configuration", "rollout", "10", "--population", "server")) == 1
    assert "no machine of this stage has confirmed" in capsys.readouterr().err

    agent.says(given_.sha256, pb.APPLIED_STATE_CONFIRMED)
    for words in (("rollout", "10"), ("rollout", "100"), ("accept",)):
        assert run(("configuration", *words, "--population", "server")) == 0
    assert not agent.hello().HasField("configuration")
    said = shown(capsys)
    assert (said["candidate"], said["active_hosts"]) == (None, {"confirmed": 1})
    assert said["active"]["period_milliseconds"] == 600_000

    assert run(("configuration", "set", "--population", "server", "--contact", "1h")) == 0
    other = agent.hello().configuration
    assert (other.contact_milliseconds, other.HasField("period_milliseconds")) == (3_600_000, False)
    # A machine that reverted is not asked again, and stops the rollout.
    assert not agent.says(other.sha256, pb.APPLIED_STATE_FAILED).HasField("configuration")
    assert run(("configuration", "rollout", "10", "--population", "server")) == 1
    assert run(("configuration", "withdraw", "--population", "server")) == 0
    assert agent.hello().configuration.sha256 == sha256_of(COARSE)


def test_withdrawing_the_first_candidate_gives_the_own_file_back(running):
    """An empty configuration with its own name tells the agent to use its own file again."""
    agent = Agent(running)
    agent.hello()
    assert run(("configuration", "set", "--population", "server", *WORDS)) == 0
    agent.says(agent.hello().configuration.sha256, pb.APPLIED_STATE_CONFIRMED)
    assert run(("configuration", "withdraw", "--population", "server")) == 0
    back = agent.hello().configuration
    assert back == pb.RemoteConfiguration(sha256=sha256_of(OWN_FILE))
    assert not agent.says(back.sha256, pb.APPLIED_STATE_CONFIRMED).HasField("configuration")


def test_an_agent_of_0_1_is_served_as_before(running, capsys):
    """It never names a configuration, so each Hello sends it; it counts as unaware and blocks no rollout."""
    old, new = Agent(running, "0.1.0"), Agent(running)
    old.hello(), new.hello()
    assert run(("configuration", "set", "--population", "server", *WORDS)) == 0
    new.says(new.hello().configuration.sha256, pb.APPLIED_STATE_CONFIRMED)
    for percent in ("10", "100"):
        assert run(("configuration", "rollout", percent, "--population", "server")) == 0
    assert old.hello().configuration.sha256 == sha256_of(COARSE)
    assert shown(capsys)["candidate_hosts"] == {"confirmed": 1, "unaware": 1}
    assert run(("configuration", "accept", "--population", "server")) == 0


def test_other_populations_are_untouched(running):
    """A candidate for classrooms reaches no server."""
    agent = Agent(running)
    agent.hello()
    assert run(("configuration", "set", "--population", "classroom", "--contact", "2h")) == 0
    assert not agent.hello().HasField("configuration")


def test_a_restart_remembers(tmp_path):
    """The candidate, its percentage and the machines' states survive a restart."""
    settings_ = settings_in(tmp_path)
    with served(settings_) as one:
        agent = Agent(one)
        agent.hello()
        order = {"population": "server", "who": "test", "contact_milliseconds": 3_600_000}
        made = one.collector.operations.perform("configuration_set", order)
        sha256 = agent.hello().configuration.sha256
        agent.says(sha256, pb.APPLIED_STATE_CONFIRMED)
    with open_collector(settings_) as collector:
        again = next(
            one
            for one in collector.operations.perform("configuration_show", {})
            if one["population"] == "server"
        )
        assert {**made, "candidate_hosts": {"confirmed": 1}, "hindrance": None} == again


def test_every_change_is_in_the_access_journal(running, tmp_path):
    """Each change has its reason; a refused one is not in the journal."""
    assert (
        run(("configuration", "set", "--population", "server", "--contact", "1h", "--why", "less traffic"))
        == 0
    )
    assert run(("configuration", "rollout", "10", "--population", "server")) == 1
    assert run(("configuration", "rollout", "10", "--population", "server", "--force")) == 0
    with closing(sqlite3.connect(tmp_path / "data/identity.db")) as db:
        rows = db.execute("SELECT what, why FROM journal ORDER BY rowid").fetchall()
    assert rows == [
        ('configuration of server: candidate {"contact_milliseconds":3600000}', "less traffic"),
        ("configuration of server: candidate to 10 % (forced)", "veilleuse configuration rollout"),
    ]


def test_people_read_what_is_next(running, capsys):
    """Text names the candidate with units, and what it waits for."""
    agent = Agent(running)
    agent.hello()
    assert run(("configuration", "set", "--population", "server", *WORDS)) == 0
    out = capsys.readouterr().out
    assert "candidate  tick 20s, period 10min, contact 30min, at 1 %: 1 waiting" in out
    assert "not yet: no machine of this stage has confirmed it yet" in out
    assert run(("configuration", "show")) == 0
    assert "workstation\n  active     the machine's own file: no machine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line", "code"),
    [
        (("set", "--population", "server"), "give --tick, --period or --contact", 2),
        (("set", "--population", "server", "--own-file", "--tick", "20s"), "--own-file alone", 2),
        (("set", "--population", "server", "--period", "600"), "write 20s, 10min, 1h or 1d", 2),
        (("set", "--population", "server", "--period", "1min"), "own file alone", 2),
        (("set", "--population", "workstation", "--contact", "1h"), "finer than the 1d of a workstation", 2),
        (("set", "--population", "server", "--tick", "2min"), "--tick 2min: use 10s to 1min", 2),
        (("set", "--population", "server", "--own-file"), "active for server already", 1),
        (("withdraw", "--population", "server"), "no candidate for server", 1),
        (("rollout", "10", "--population", "server"), "no candidate for server", 1),
    ],
)
def test_a_refusal_is_one_line(running, capsys, words, line, code):
    """Exit code 2 means never possible, 1 not possible now."""
    assert run(("configuration", *words)) == code
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1


def test_durations_have_a_unit():
    """Durations are whole numbers of s, min, h or d, and are written in the longest unit that fits."""
    for text, value in (("90s", 90_000), ("10min", 600_000), ("1h", 3_600_000), ("1d", 86_400_000)):
        assert parse_duration("period", text) == value
        assert duration(value) == text
    for text in ("", "10", "1.5h", "-1s", "10 min", "1h30min", "٣s", "9999999999s"):
        with pytest.raises(UsageError):
            parse_duration("period", text)


_ANY = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.lists(st.integers())
)
_LIKELY = st.sampled_from([10_000, 20_000, 300_000, 600_000, 900_000, 3_600_000, 86_400_000]) | _ANY


@pytest.mark.promise("S18")
@settings(max_examples=200)
@given(
    order=st.fixed_dictionaries(
        {"population": st.sampled_from([*map(str, Population), "all", ""]), "who": st.just("x")},
        optional=dict.fromkeys((*Configuration._fields, "address", "command"), _LIKELY),
    )
)
def test_the_socket_can_set_nothing_beyond_the_bounds(order, shared):
    """S18, the collector's half: any order is refused, or gives a candidate within bounds and ceiling without
    other fields.
    """
    operations = shared.operations
    try:
        made = operations.perform("configuration_set", order)
    except CollectorError:
        return
    candidate = dict(made["candidate"])
    assert set(candidate) == {*Configuration._fields, "sha256"}
    ceiling = CEILINGS[Population(order["population"])]
    for name in Configuration._fields:
        value, own = candidate[name], getattr(ceiling, name)
        assert value is None or (own is not None and own <= value <= 86_400_000)
    operations.perform("configuration_withdraw", {"population": order["population"], "who": "x"})


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Open a data directory for many orders."""
    settings_ = settings_in(tmp_path_factory.mktemp("shared"))
    initialise(settings_, site="Lyon")
    with open_collector(settings_) as collector:
        yield collector


def test_the_operations_are_on_the_socket():
    """Each command has its operation."""
    assert {name for name in OPERATIONS if name.startswith("configuration_")} == {
        "configuration_show",
        "configuration_set",
        "configuration_rollout",
        "configuration_accept",
        "configuration_withdraw",
    }
