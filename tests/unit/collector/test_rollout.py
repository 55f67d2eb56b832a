# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of which machine gets which configuration when, and which values may be set."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilleuse.agent.settings import CONTACT_SECONDS, AgentSettings
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.model.hosts import (
    AppliedConfiguration,
    AppliedState,
    Host,
    HostHealth,
    HostStatus,
    MachineFacts,
)
from veilleuse.collector.model.records import AgentId, HostId
from veilleuse.collector.model.remote_config import (
    CEILINGS,
    OWN_FILE,
    HostState,
    Rollout,
    accept_candidate,
    advance_candidate,
    check_for,
    sha256_of,
    stage_of,
    start_candidate,
    state_of,
    withdraw_candidate,
)
from veilleuse.wire.configuration import Configuration
from veilleuse.wire.vocabulary import Population

NOW = 1_790_000_000_000
DAY = 86_400_000
COARSE = Configuration(period_milliseconds=600_000, contact_milliseconds=1_800_000)
RARE = Configuration(contact_milliseconds=3_600_000)
SERVERS = Rollout(Population.SERVER)


def host(
    number: int, *, version: str = "0.2.0", days: float = 0, status: HostStatus = HostStatus.ACTIVE
) -> Host:
    """Return a server whose last contact was `days` days ago."""
    return Host(
        host_id=HostId(number),
        agent_id=AgentId(random.Random(number).randbytes(16)),
        org_entity="DSI",
        site="lyon",
        population=Population.SERVER,
        status=status,
        facts=MachineFacts(),
        enrolled_on=date(2026, 3, 1),
        last_contact_unix_milliseconds=NOW - round(days * DAY),
        health=HostHealth(version, 0, 0),
    )


def saying(one: Host, configuration: Configuration, state: AppliedState) -> Host:
    """Return the machine after it reported a configuration in a state."""
    return replace(one, configuration=AppliedConfiguration(sha256_of(configuration), state))


def obeying(
    rollout: Rollout, hosts: Sequence[Host], state: AppliedState = AppliedState.CONFIRMED
) -> list[Host]:
    """Return the machines, each reporting the configuration that it should run."""
    return [saying(one, rollout.wanted(one.agent_id), state) for one in hosts]


def reached(rollout: Rollout, hosts: Sequence[Host]) -> set[HostId]:
    """Return the ids of the machines that get the candidate."""
    return {one.host_id for one in hosts if rollout.reaches(one.agent_id)}


@pytest.mark.parametrize(("hosts", "first", "second"), [(1, 1, 1), (7, 1, 1), (100, 1, 10), (1_000, 10, 100)])
def test_the_stages_reach_one_ten_and_a_hundred_percent(hosts, first, second):
    """A stage reaches one machine or more and contains the one before; 100 % includes later machines."""
    fleet = [host(number) for number in range(hosts)]
    rollout = start_candidate(SERVERS, COARSE, fleet, NOW)
    assert (rollout.percent, len(reached(rollout, fleet))) == (1, first)
    wider = advance_candidate(rollout, 10, obeying(rollout, fleet), NOW, force=False)
    assert len(reached(wider, fleet)) == second
    assert reached(rollout, fleet) <= reached(wider, fleet)
    whole = advance_candidate(wider, 100, obeying(wider, fleet), NOW, force=False)
    assert len(reached(whole, [*fleet, host(hosts + 1)])) == hosts + 1


def test_another_candidate_is_tried_out_on_other_machines():
    """The draw depends on the candidate, so that the first machine is not always the same."""
    fleet = [host(number) for number in range(100)]
    first = [
        start_candidate(SERVERS, Configuration(tick_milliseconds=value), fleet, NOW)
        for value in range(10_000, 10_020)
    ]
    assert len({tuple(reached(rollout, fleet)) for rollout in first}) > 10


def test_only_machines_that_can_answer_are_counted():
    """The first stage skips machines that are silent for a week, suspended or of version 0.1."""
    mute = [
        *(host(number, days=8) for number in range(50)),
        *(host(number, version="0.1.0") for number in range(50, 100)),
        *(host(number, status=HostStatus.SUSPENDED) for number in range(100, 150)),
    ]
    speaking = host(1_000)
    rollout = start_candidate(SERVERS, COARSE, [*mute, speaking], NOW)
    assert rollout.reaches(speaking.agent_id)
    old = host(60, version="0.1.0")
    assert state_of(advance_candidate(rollout, 100, mute, NOW, force=True), old) is HostState.UNAWARE


def test_with_nobody_to_answer_a_share_of_those_to_come_is_reached():
    """In an empty fleet, one later machine in a hundred is reached; the next stage needs a confirmation."""
    rollout = start_candidate(SERVERS, COARSE, [], NOW)
    assert 60 < len(reached(rollout, [host(number) for number in range(10_000)])) < 150
    with pytest.raises(AdminError, match="no machine of this stage was in contact within a week"):
        advance_candidate(rollout, 10, [], NOW, force=False)


def test_a_failure_stops_the_rollout():
    """One FAILED machine blocks the next stage, whatever the others report; --force overrides it."""
    fleet = [host(number) for number in range(1_000)]
    rollout = start_candidate(SERVERS, COARSE, fleet, NOW)
    said = obeying(rollout, fleet)
    spoilt = next(index for index, one in enumerate(said) if rollout.reaches(one.agent_id))
    said[spoilt] = saying(said[spoilt], COARSE, AppliedState.FAILED)
    with pytest.raises(AdminError, match=r"1 machine.* went back"):
        advance_candidate(rollout, 10, said, NOW, force=False)
    assert advance_candidate(rollout, 10, said, NOW, force=True).percent == 10


def test_too_few_confirmations_stop_the_rollout():
    """The next stage needs the confirmation of nine in ten machines in contact within a week. APPLIED is no
    confirmation, and silent machines are not counted."""
    fleet = [host(number) for number in range(1_000)]
    rollout = start_candidate(SERVERS, COARSE, fleet, NOW)
    stage = [one for one in fleet if rollout.reaches(one.agent_id)]
    assert len(stage) == 10
    good = obeying(rollout, stage[:9])
    assert advance_candidate(rollout, 10, [*good, stage[9]], NOW, force=False).percent == 10
    short = [*good[:8], *obeying(rollout, stage[8:], AppliedState.APPLIED)]
    with pytest.raises(AdminError, match="8 of 10 machines"):
        advance_candidate(rollout, 10, short, NOW, force=False)
    gone = [replace(one, last_contact_unix_milliseconds=NOW - 8 * DAY) for one in short[8:]]
    assert advance_candidate(rollout, 10, [*good[:8], *gone], NOW, force=False).percent == 10


def test_the_steps_have_an_order():
    """A second candidate, a skipped or repeated stage and an acceptance before 100 % are refused; each
    refusal says what to do."""
    fleet = [host(0)]
    rollout = start_candidate(SERVERS, COARSE, fleet, NOW)
    fleet = obeying(rollout, fleet)
    for step, words in (
        (lambda: start_candidate(rollout, RARE, fleet, NOW), "accept or withdraw it first"),
        (lambda: advance_candidate(rollout, 100, fleet, NOW, force=False), "go to 10 first"),
        (lambda: advance_candidate(rollout, 1, fleet, NOW, force=True), "use 10 or 100"),
        (lambda: advance_candidate(rollout, 50, fleet, NOW, force=True), "use 10 or 100"),
        (lambda: accept_candidate(rollout, fleet, NOW, force=False), "roll it out to 100 first"),
        (lambda: withdraw_candidate(SERVERS, NOW), "no candidate"),
        (lambda: accept_candidate(SERVERS, fleet, NOW, force=True), "no candidate"),
        (lambda: start_candidate(SERVERS, OWN_FILE, fleet, NOW), "active for server already"),
    ):
        with pytest.raises(AdminError, match=words):
            step()
    whole = advance_candidate(
        advance_candidate(rollout, 10, fleet, NOW, force=False), 100, fleet, NOW, force=False
    )
    assert accept_candidate(whole, fleet, NOW, force=False) == Rollout(
        Population.SERVER, COARSE, changed_unix_milliseconds=NOW
    )


def test_a_withdrawn_candidate_leaves_what_was_active():
    """Machines that had the candidate want the active configuration again."""
    before = Rollout(Population.SERVER, RARE)
    rollout = start_candidate(before, COARSE, [host(0)], NOW)
    assert rollout.wanted(host(0).agent_id) == COARSE
    assert withdraw_candidate(rollout, NOW).wanted(host(0).agent_id) == RARE


def test_states_are_counted_apart():
    """Machines with the candidate and those with the active one are counted apart; without any: OWN_FILE."""
    fleet = [host(number) for number in range(3)]
    assert stage_of(SERVERS, fleet, NOW).others == {HostState.OWN_FILE: 3}
    rollout = start_candidate(Rollout(Population.SERVER, RARE), COARSE, fleet, NOW)
    said = obeying(rollout, fleet, AppliedState.APPLIED)
    stage = stage_of(rollout, [*said[:2], fleet[2]], NOW)
    assert stage.reached.total() == 1
    assert stage.reached + stage.others == {HostState.APPLIED: 2, HostState.WAITING: 1}


def test_the_ceilings_are_the_agents_own_defaults():
    """The ceilings of contact, tick and period are the agent's defaults (docs/privacy.md §1)."""
    for population, ceiling in CEILINGS.items():
        assert ceiling.contact_milliseconds == CONTACT_SECONDS[population] * 1_000
        assert ceiling.tick_milliseconds == AgentSettings().measure.tick_seconds * 1_000
    assert [CEILINGS[population].period_milliseconds for population in Population] == [
        None,
        3_600_000,
        300_000,
    ]


@pytest.mark.parametrize(
    ("population", "configuration", "words"),
    [
        (Population.SERVER, Configuration(period_milliseconds=60_000), "finer than the 5min of a server"),
        (Population.SERVER, Configuration(contact_milliseconds=60_000), "finer than the 15min of a server"),
        (Population.SERVER, Configuration(period_milliseconds=700_000), "divisor"),
        (Population.SERVER, Configuration(tick_milliseconds=9_999), "use 10000 to 60000"),
        (
            Population.CLASSROOM,
            Configuration(period_milliseconds=1_800_000),
            "finer than the 1h of a classroom",
        ),
        (Population.WORKSTATION, Configuration(period_milliseconds=3_600_000), "days and weeks, always"),
        (
            Population.WORKSTATION,
            Configuration(contact_milliseconds=3_600_000),
            "finer than the 1d of a workstation",
        ),
    ],
)
def test_nothing_finer_than_a_population_s_own(population, configuration, words):
    """The refusal of a finer value names the value, the bound and the reason."""
    with pytest.raises(UsageError, match=words):
        check_for(population, configuration)


_NUMBERS = (
    st.none()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([10_000, 60_000, 300_000, 3_600_000, 86_400_000])
)


@pytest.mark.promise("S18")
@given(population=st.sampled_from(Population), values=st.tuples(_NUMBERS, _NUMBERS, _NUMBERS))
def test_whatever_is_asked_only_coarser_gets_through(population, values):
    """Any three accepted numbers lie within the bounds of the wire and the ceiling (S18, the collector's
    half)."""
    asked = Configuration(*values)
    try:
        got = check_for(population, asked)
    except UsageError:
        return
    assert got == asked
    for name, own in CEILINGS[population]._asdict().items():
        value = getattr(got, name)
        assert value is None or (own is not None and own <= value <= 86_400_000)
