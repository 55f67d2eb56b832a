# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R13: restore a machine to a state before its certificate's renewal: real collector, agent code and TLS."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from tests.support import clock
from tests.support.fakes.agent import enrolled
from tests.support.machines import served, settings_in
from tests.support.records import clock_record
from veilleuse.agent.identity import reset
from veilleuse.agent.model import Gap
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.v1 import telemetry_pb2 as pb

MINUTE = 60_000


@pytest.mark.promise("R13")
@pytest.mark.parametrize("renewals", [1, 2])
def test_set_back_to_before_a_renewal_nothing_goes_without_a_word(tmp_path, renewals, figure):
    """The machine becomes another host: delivered records are stored once, and a gap declares those that were
    not delivered."""
    first = (clock.unix_milliseconds() // MILLISECONDS_PER_HOUR - 5) * MILLISECONDS_PER_HOUR
    with served(settings_in(tmp_path)) as running:
        agent = enrolled(tmp_path, running.token())

        def measure(*minutes: int) -> None:
            agent.measure(
                *(clock_record(first + n * MINUTE, MINUTE, metered_millijoules=1_000 + n) for n in minutes)
            )

        measure(0, 1)
        assert agent.send()
        measure(2)
        shutil.copytree(agent.state, tmp_path / "snapshot")
        for number in range(renewals):
            due = agent.identity.renewal_due_unix_milliseconds() + 1
            assert agent.send(clock=partial(int, due))
            measure(3 + number)
            assert agent.send()
        shutil.rmtree(agent.state)
        shutil.copytree(tmp_path / "snapshot", agent.state)
        measure(10, 11)
        assert not agent.send()  # a newer certificate was used, so the collector sees another holder
        assert reset.reset_if_clone(agent.settings)
        stored = held(running.collector.settings.data_dir)
    with closing(agent.connection()) as db:
        gaps = [Gap.from_json(row[0]) for row in db.execute("SELECT body FROM pending")]
    records, lost = (
        sum(gap.records for gap in gaps),
        sum(milliseconds for gap in gaps for _, milliseconds in gap.spans),
    )
    figure(
        f"{len(stored)} minutes stored and {records} declared as a gap, under a new identity, after a snapshot from "
        f"before {renewals} renewal{'s' if renewals > 1 else ''}"
    )
    assert sorted(stored) == list(range(3 + renewals))
    assert (records, lost) == (3, 3 * MINUTE)  # it cannot know that the first of them was delivered


def held(data_dir: Path) -> list[int]:
    """Return the stored minutes; a minute that is stored twice appears twice."""
    with closing(sqlite3.connect(data_dir / "data.db")) as db:
        records = [pb.Record.FromString(row[0]) for row in db.execute("SELECT wire FROM records")]
    return [
        energy.energy_millijoules - 1_000
        for one in records
        for cell in one.measurement.cells
        for energy in cell.energies
    ]
