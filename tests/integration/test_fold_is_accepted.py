# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The collector accepts every record that the agent's fold makes, whatever its ticks."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilleuse.agent.model import LoadDelta, Point, PointEnergy, Record, Tick
from veilleuse.agent.resident.fold import Fold
from veilleuse.agent.sending.encode import encode_record
from veilleuse.collector.validate.cells import MachineLimits
from veilleuse.collector.validate.push import check_record
from veilleuse.wire.vocabulary import Boundary, DeviceClass, PointKind, Population, State, Supply

HOUR = 3_600_000
NOON = int(datetime(2026, 11, 25, 11, tzinfo=UTC).timestamp()) * 1000
SUNDAY = int(datetime(2026, 10, 24, 21, 59, 57, tzinfo=UTC).timestamp()) * 1000  # before a day of 25 hours
NOW = NOON + 40 * 24 * HOUR
PACKAGE = Point(PointKind.RAPL, "package-0", Boundary.COMPONENT)

ticks = st.lists(
    st.tuples(
        st.sampled_from([3, 999, 10_000, 10_001, 59_999, 5 * HOUR, 49 * HOUR]),
        st.sampled_from(list(State)),
        st.sampled_from(list(Supply)),
        st.floats(0, 1),
        st.floats(0, 150),  # W
        st.sampled_from([0, 0, 0, -HOUR, -7_000, 90_000]),  # change of the wall clock, ms
    ),
    min_size=1,
    max_size=30,
)


@pytest.mark.parametrize(
    ("population", "period"),
    [
        (Population.SERVER, 10_000),
        (Population.SERVER, 300_000),
        (Population.CLASSROOM, HOUR),
        (Population.WORKSTATION, HOUR),
    ],
)
@settings(max_examples=40, deadline=None)
@given(rows=ticks, start=st.sampled_from([NOON, SUNDAY]))
def test_no_record_is_refused(population, period, rows, start):
    """No record is refused over set clocks, odd ticks, long silences and the longest day, at every grain."""
    fold = Fold(population, period)
    records: list[Record] = []
    for milliseconds, state, supply, ratio, watts, jump in rows:
        start += jump
        records += fold.add(_tick(start, milliseconds, state, supply, ratio, watts))
        start += min(milliseconds, 60_000) if state in (State.ON_ACTIVE, State.ON_IDLE) else milliseconds
    machine = MachineLimits(population, DeviceClass.TOWER, allow_fake=False)
    for seq, record in enumerate([*records, *fold.flush()], 1):
        check_record(seq, encode_record(record), b"\0" * 32, machine, NOW)


def _tick(start: int, milliseconds: int, state: State, supply: Supply, ratio: float, watts: float) -> Tick:
    if state not in (State.ON_ACTIVE, State.ON_IDLE):
        return Tick(start, milliseconds, state, supply)
    milliseconds = min(milliseconds, 60_000)
    energy = PointEnergy(PACKAGE, int(watts * milliseconds), milliseconds)
    load = LoadDelta(ratio, ratio, ratio, 4_096 * milliseconds, 512 * milliseconds)
    return Tick(
        start,
        milliseconds,
        state,
        supply,
        energies=(energy,),
        load=load,
        gaps=(("linux_hwmon", milliseconds),),
        idle_run_milliseconds=milliseconds if state is State.ON_IDLE else 0,
    )
