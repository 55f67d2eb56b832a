# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R10: the machine sleeps for ten hours. Boot-time jumps, monotonic time does not."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.fakes.metered import Metered, millijoules, refusals
from tests.support.records import count_pending
from veilleuse.agent.model import Record
from veilleuse.wire.vocabulary import State

HOUR = 3_600_000


@pytest.mark.promise("R10")
@pytest.mark.parametrize("period", [10, 60, 300, 3_600])
@pytest.mark.parametrize("slept_millijoules", [0, 900_000_000])
def test_ten_hours_asleep(tmp_path, period, slept_millijoules, figure):
    """Sleep is `asleep` time of 0 J, even where the counter continued; a record follows within 150 s."""
    machine = Metered(tmp_path, period_seconds=period)
    machine.on(29)
    awake_before = machine.spent_millijoules
    waiting = count_pending(machine.resident._spool)
    machine.clock.advance(10 * HOUR, asleep=True)
    machine.tree.spend(slept_millijoules * 1_000)
    resumed = machine.clock.boottime
    while count_pending(machine.resident._spool) == waiting and machine.clock.boottime < resumed + HOUR:
        machine.on(1)
    first = machine.clock.boottime - resumed
    machine.on(30)
    bodies = machine.bodies()
    states: Counter[State] = Counter()
    asleep_millijoules = 0
    for record in (body for body in bodies if isinstance(body, Record)):
        for (_, state, _), cell in record.cells.items():
            states[state] += cell.milliseconds
            if state is State.ASLEEP:
                asleep_millijoules += sum(energy for energy, _ in cell.energies.values())
    figure(
        f"{asleep_millijoules} mJ counted for the sleep, first record {first / 1000:.0f} s after the resume"
    )
    assert asleep_millijoules == 0
    assert states[State.ASLEEP] == 10 * HOUR
    assert first < 150_000
    awake = machine.spent_millijoules
    assert awake_before <= millijoules(bodies) <= awake
    assert (
        millijoules(bodies) >= awake - 2 * 40 * 10_000
    )  # the resume falls into a tick without a first reading
    assert not list(refusals(bodies, machine.clock.unix))
    machine.resident.end()
