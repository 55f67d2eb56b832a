# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Replace the collector's root while an agent uses it: real collector, real agent code, real TLS. S24."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import clock
from tests.support.fakes.agent import Agent, enrolled
from tests.support.machines import Served, served, settings_in
from veilleuse.agent.identity.store import ders_of
from veilleuse.collector.ipc import ask


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Served]:
    """Give a running collector."""
    with served(settings_in(tmp_path)) as collector:
        yield collector


@pytest.fixture
def agent(tmp_path: Path, running: Served) -> Agent:
    """Return an agent that enrolled before the rotation, so that it knows only the old root."""
    return enrolled(tmp_path, running.token())


def step(running: Served, word: str) -> None:
    """Make a step of the rotation; forced, so that it does not wait a minute for answers under way."""
    force = {} if word == "rotate" else {"force": True}
    ask(running.collector.settings.data_dir, f"ca_{word}", **force)


def due(agent: Agent) -> int:
    """Return the Unix milliseconds from which the agent renews its certificate."""
    return agent.identity.renewal_due_unix_milliseconds() + 1


def roots(agent: Agent) -> int:
    """Return the number of roots that the agent trusts."""
    return len(ders_of(agent.identity.roots_pem))


@pytest.mark.parametrize("ended", [False, True], ids=["renewed in time", "after its end"])
def test_offline_during_the_whole_overlap(running, agent, ended):
    """An agent that returns after the switch with the old root trusts the collector by the cross certificate.
    It gets the new root, and in the end trusts it only."""
    old = agent.identity
    step(running, "rotate")
    step(running, "switch")
    moment = old.not_after_unix_milliseconds + 1 if ended else due(agent)
    assert agent.send(clock=lambda: moment)
    assert agent.identity.key_pem != old.key_pem
    assert roots(agent) == 2
    step(running, "retire")
    assert agent.send(clock=clock.unix_milliseconds)
    now = due(agent)
    assert agent.send(clock=lambda: now)
    assert roots(agent) == 1
    assert ders_of(agent.identity.roots_pem) != ders_of(old.roots_pem)
    assert agent.send()


def test_online_all_along(running, agent):
    """An agent with one renewal in each step is always served, and in the end trusts the new root only."""
    old = agent.identity
    known = []
    for word in ("rotate", "switch", "retire"):
        step(running, word)
        now = due(agent)
        assert agent.send(clock=lambda now=now: now)
        known.append(roots(agent))
        assert agent.send()
    assert known == [2, 2, 1]
    assert agent.identity.agent_id == old.agent_id
