# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R1: the collector is killed at random moments while agents send. The checker finds defective collectors."""

from __future__ import annotations

import pytest

from tests.promises.check import FAULTS, Report
from tests.promises.results import in_words
from tests.promises.support.trial import FIRST_ACK_SECONDS, Trial


def killed(folder, agents: int, kills: int, *, pushes_per_second: float, most_acks: int, processes: int = 1):
    """Return the report after so many kills, and as many acknowledgements as there were agents, tenfold."""
    with Trial(folder) as trial:
        trial.enrol(agents)
        trial.start()
        trial.load(pushes_per_second, processes=processes)
        trial.kill_and_start(kills, most_acks=most_acks)
        trial.wait_for_acks(10 * agents)
        return trial.end()


def said(report: Report, kills: int) -> str:
    """Return the figure."""
    slowest = max(report.first_ack_seconds)
    return f"{report}, by {kills} kills under {report.agents} agents, first acknowledgement ≤ {slowest:.1f} s after a restart"


@pytest.mark.promise("R1", "R18")
def test_ten_kills(tmp_path, figure, time_bound):
    """Ten kills lose or duplicate no acknowledged record; sums and chains hold; restarts serve within 5 s."""
    report = killed(tmp_path, agents=40, kills=10, pushes_per_second=150, most_acks=25)
    figure(said(report, 10))
    assert report.sound, report.details
    time_bound(max(report.first_ack_seconds), FIRST_ACK_SECONDS, "first acknowledgement after a restart")
    assert report.acknowledged > 500
    assert report.replayed > 0
    assert report.lost_answers > 0


@pytest.mark.long
@pytest.mark.promise("R1", "R18")
def test_two_hundred_kills(tmp_path, figure):
    """200 kills under 500 agents keep the same promise."""
    report = killed(tmp_path, agents=500, kills=200, pushes_per_second=200, most_acks=100, processes=2)
    figure(said(report, 200))
    assert report.sound, report.details
    assert max(report.first_ack_seconds) < FIRST_ACK_SECONDS
    assert report.acknowledged > 20_000


def defective(folder, mutant: str, *, kills: int, acks: int) -> Report:
    """Return the report on a collector with a defect. Its agents may never deliver everything."""
    with Trial(folder, mutant=mutant) as trial:
        trial.enrol(24)
        trial.start()
        trial.load(600)
        trial.kill_and_start(kills, most_acks=30)
        trial.wait_for_acks(acks)
        return trial.end(drained=False)


@pytest.mark.promise("R1")
@pytest.mark.parametrize(
    ("mutant", "kills", "acks", "faults"),
    [
        ("acknowledges_first", 5, 1, ("lost", "marks_back")),
        pytest.param("stores_replays", 0, 3_000, ("duplicated",), marks=pytest.mark.long),
        pytest.param("adds_retries", 0, 1_000, ("sums",), marks=pytest.mark.long),
        pytest.param("ignores_the_chain", 0, 3_000, ("lost", "chains"), marks=pytest.mark.long),
    ],
)
def test_the_checker_finds(tmp_path, figure, mutant, kills, acks, faults):
    """The checker finds each defect: early acknowledgement, stored replays, added retries, ignored chain."""
    report = defective(tmp_path, mutant, kills=kills, acks=acks)
    found = {fault: report.faults[fault] for fault in faults}
    figure(
        f"mutant detected ({mutant.replace('_', ' ')}): "
        + in_words({FAULTS[fault]: number for fault, number in found.items()})
    )
    assert any(found.values()), (found, report.details)
