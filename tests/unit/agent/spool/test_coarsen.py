# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Rows that were measured before the enrolment become as coarse as its population requires, exactly."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.records import METER, clock_record
from veilleuse.agent.model import ClockPeriod, Gap, Record, body_from_json
from veilleuse.agent.sending.encode import encode_gap, encode_record
from veilleuse.agent.spool.coarsen import coarsen
from veilleuse.collector.validate.cells import MachineLimits
from veilleuse.collector.validate.push import check_record
from veilleuse.wire.bands import DEFAULT_CALENDAR, Calendar
from veilleuse.wire.vocabulary import Band, DeviceClass, GapReason, Population

MINUTE = 60_000
SUNDAY_23H = int(datetime(2026, 11, 29, 22, tzinfo=UTC).timestamp()) * 1000
NOW = SUNDAY_23H + 30 * 24 * 60 * MINUTE


def _row(minute: int, band: Band, millijoules: int | None) -> Record:
    record = clock_record(SUNDAY_23H + minute * 5 * MINUTE, 5 * MINUTE, metered_millijoules=millijoules)
    (((_, state, supply), cell),) = record.cells.items()
    cell.add_bucket("network_rate_milliseconds", 1, cell.milliseconds)
    cell.add_unit("unit:system", 7)
    gaps = {(GapReason.SENSOR_LOST, "linux_hwmon"): 5}
    return record._replace(cells={(band, state, supply): cell}, gaps=gaps)


@pytest.mark.parametrize("population", [Population.CLASSROOM, Population.WORKSTATION])
@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 600), st.sampled_from(list(Band)), st.none() | st.integers(0, 10_000)),
        min_size=1,
        max_size=40,
        unique_by=lambda row: row[0],
    )
)
def test_sums_are_kept_and_accepted(population, rows):
    """No millisecond or millijoule is lost, and the collector takes every record of the population."""
    before = [_row(*row) for row in rows]
    after = [body_from_json(body) for body in coarsen([one.to_json() for one in before], population, None)]
    machine = MachineLimits(population, DeviceClass.TOWER, allow_fake=False)
    for seq, record in enumerate(after, 1):
        assert isinstance(record, Record)
        check_record(seq, encode_record(record), b"\0" * 32, machine, NOW)
    assert _sums(after) == _sums(before)
    if population is Population.WORKSTATION:
        assert not any(isinstance(one.period, ClockPeriod) for one in after if isinstance(one, Record))


def _sums(records: list[Record] | list[Record | Gap]) -> Counter[object]:
    """Return the milliseconds, joules and CPU time of each band, and the time of lost sensors."""
    found: Counter[object] = Counter()
    for record in records:
        assert isinstance(record, Record)
        for (band, _, _), cell in record.cells.items():
            found[band, "milliseconds"] += cell.milliseconds
            found[band, "millijoules"] += cell.energies.get(METER, (0, 0))[0]
            found[band, "busy"] += cell.sums["cpu_busy_milliseconds"]
        found["gaps"] += sum(record.gaps.values())
    return found


def test_what_has_no_clock_stays():
    """Days, weeks, undated gaps and rows that cannot be read stay as they are, in their order."""
    undated = Gap(GapReason.CLOCK_UNKNOWN, ((None, 5),), 1, "ab" * 8).to_json()
    day = coarsen([_row(0, Band.NIGHT, 1).to_json()], Population.WORKSTATION, None)
    rows = [undated, '{"period":["clock",', *day]
    assert coarsen(rows, Population.WORKSTATION, None) == rows


def test_a_gap_with_a_clock_loses_its_date_on_a_workstation():
    """Its time is kept, and the collector takes it; a classroom's gap keeps its hours."""
    gap = Gap(GapReason.SPOOL_CAP, ((ClockPeriod(SUNDAY_23H, MINUTE), MINUTE),), 3, "ab" * 8).to_json()
    assert coarsen([gap], Population.CLASSROOM, None) == [gap]
    (row,) = coarsen([gap], Population.WORKSTATION, None)
    found = body_from_json(row)
    assert isinstance(found, Gap)
    assert (found.spans, found.records) == (((None, MINUTE),), 3)
    machine = MachineLimits(Population.WORKSTATION, DeviceClass.TOWER, allow_fake=False)
    check_record(1, encode_gap(found), b"\0" * 32, machine, NOW)


def test_days_are_those_of_the_calendar():
    """A record belongs to the civil day of the site: 23:00 in Paris is the next day at La Réunion."""
    reunion = Calendar("Indian/Reunion", DEFAULT_CALENDAR.open_spans).to_json()
    for calendar, day in ((None, "2026-11-29"), (reunion, "2026-11-30"), ("not a calendar", "2026-11-29")):
        (row,) = coarsen([_row(0, Band.NIGHT, 1).to_json()], Population.WORKSTATION, calendar)
        assert f'"period":["date","{day}"]' in row
