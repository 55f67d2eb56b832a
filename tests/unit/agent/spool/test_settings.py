# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test what both processes of the agent derive from the settings."""

from __future__ import annotations

from contextlib import closing

import pytest

from veilleuse.agent.ports import ControlKey
from veilleuse.agent.sending.encode import WireEncoder
from veilleuse.agent.sending.process import SenderProcess
from veilleuse.agent.settings import CONTACT_SECONDS, AgentSettings, Measure, Paths, allowed_population
from veilleuse.agent.spool.database import FILE_NAME, connect
from veilleuse.agent.spool.outbox import Outbox, Ring
from veilleuse.wire.vocabulary import Population

W, C, S = Population.WORKSTATION, Population.CLASSROOM, Population.SERVER


@pytest.mark.parametrize(
    ("said", "enrolled", "allowed"),
    [
        ("", None, W),
        ("", "server", S),
        ("", "classroom", C),
        ("server", None, S),
        ("server", "workstation", W),
        ("workstation", "server", W),
        ("classroom", "server", C),
        ("", "something", W),
    ],
)
def test_the_more_private_population_counts_for_both_processes(tmp_path, said, enrolled, allowed):
    """Neither file nor enrolment reduces the other's privacy; the sender's interval follows the result."""
    settings = AgentSettings(paths=Paths(state=tmp_path), measure=Measure(population=said))
    assert allowed_population(settings, enrolled) is allowed
    path = tmp_path / FILE_NAME
    with closing(connect(path)) as db:
        outbox = Outbox(db, path, WireEncoder(), Ring(0, 0, 0))
        outbox.set_control({ControlKey.POPULATION: enrolled})
        assert SenderProcess(settings, outbox)._interval_milliseconds() == CONTACT_SECONDS[allowed] * 1_000


@pytest.mark.parametrize(
    ("said", "join", "enrolled", "allowed"),
    [
        ("", '{"population": "server"}', None, S),
        ("server", '{"population": "classroom"}', None, C),
        ("", '{"population": "server"}', "workstation", W),  # the file is of an earlier enrolment
        ("server", "{}", None, S),
        ("", '["server"]', None, W),
        ("", "no JSON", None, W),
        ("", '{"population": "server"}' + " " * 70_000, None, W),
    ],
)
def test_a_waiting_join_file_tells_the_population(tmp_path, said, join, enrolled, allowed):
    """Until the enrolment the more private of file and join file holds; a damaged join file says nothing."""
    (tmp_path / "join.json").write_text(join)
    settings = AgentSettings(paths=Paths(state=tmp_path), measure=Measure(population=said))
    assert allowed_population(settings, enrolled) is allowed
