# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test counter differences and the stored text of a record."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes.measuring import PACKAGE, RANGE
from veilleuse.agent.model import (
    Cell,
    ClockPeriod,
    CounterWrap,
    DatePeriod,
    Delta,
    EnergyCounter,
    First,
    Gap,
    Record,
    Reset,
    WeekPeriod,
    body_from_json,
    difference,
)
from veilleuse.wire.vocabulary import Band, GapReason, State, Supply


def counter(microjoules: int, range_microjoules: int | None = RANGE) -> EnergyCounter:
    """Return a reading of the package."""
    return EnergyCounter(PACKAGE, microjoules, range_microjoules, 1_000.0)


def test_the_four_outcomes():
    """The outcomes are First, Delta, CounterWrap, and Reset for anything implausible."""
    outcomes = [
        (difference(None, counter(5), 10_000), First, None),
        (difference(counter(5), counter(9), 10_000), Delta, 4),
        (difference(counter(RANGE - 5), counter(9), 10_000), CounterWrap, 14),
        (difference(counter(RANGE // 2), counter(0), 10_000), Reset, None),
        (difference(counter(RANGE - 5), counter(9), 300_000), Reset, None),  # long enough for a second wrap
        (difference(counter(9), counter(5, None), 10_000), Reset, None),
        (difference(counter(0), counter(20_000_000_000), 10_000), Reset, None),  # 2 kW, above the ceiling
    ]
    for outcome, kind, energy in outcomes:
        assert type(outcome) is kind
        assert getattr(outcome, "energy_microjoules", None) == energy


@given(
    start=st.integers(0, RANGE - 1),
    watts=st.floats(0, 1_000),
    milliseconds=st.integers(1, 60_000),
)
def test_a_wrap_is_exact(start, watts, milliseconds):
    """The difference is exact from any start, also over a wrap."""
    spent = int(watts * milliseconds * 1_000)
    outcome = difference(counter(start), counter((start + spent) % RANGE), milliseconds)
    assert isinstance(outcome, Delta | CounterWrap)
    assert outcome.energy_microjoules == spent


@given(
    before=st.integers(0, 2**63),
    after=st.integers(0, 2**63),
    range_microjoules=st.none() | st.integers(1, 2**63),
    milliseconds=st.integers(0, 10**9),
)
def test_never_negative_never_invented(before, after, range_microjoules, milliseconds):
    """No two values give negative energy, or more than the ceiling allows."""
    outcome = difference(counter(before, range_microjoules), counter(after, range_microjoules), milliseconds)
    if isinstance(outcome, Delta | CounterWrap):
        assert 0 <= outcome.energy_microjoules <= 1_000 * milliseconds * 1_000


def test_a_record_survives_its_text():
    """Records and gaps are read back from their text unchanged."""
    cell = Cell(10_000)
    cell.add_energy(PACKAGE, 123_456, 9_000)
    cell.add_sum("cpu_busy_milliseconds", 500)
    cell.add_bucket("cpu_bucket_milliseconds", 3, 10_000)
    for period in (
        ClockPeriod(1_795_600_800_000, 10_000),
        DatePeriod(date(2026, 11, 25)),
        WeekPeriod(2026, 48),
    ):
        record = Record(
            period,
            "ab" * 32,
            1,
            {(Band.OPEN, State.ON_IDLE, Supply.AC): cell},
            {(GapReason.SENSOR_LOST, "linux_rapl"): 1_000},
        )
        assert body_from_json(record.to_json()) == record
        gap = Gap(GapReason.SPOOL_CAP, ((period, 10_000), (None, 5)), 3)
        assert body_from_json(gap.to_json()) == gap


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"gap":"no such"}', '{"period":["clock",1]}', "\x00"])
def test_what_is_no_record_is_refused(text):
    """Any other text raises ValueError."""
    with pytest.raises(ValueError, match=r"."):
        body_from_json(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"gap":"spool_cap","spans":[],"records":1,"id":"abcd"}', "its id has not 8 bytes"),
        ('{"gap":"spool_cap","spans":[[["moon",1],2]],"records":1}', r"not a period: \['moon', 1\]"),
        ('{"gap":"spool_cap","spans":[[["week","2026",48],2]],"records":1}', "not a period"),
    ],
)
def test_a_gap_that_names_nothing_is_refused(text, words):
    """A gap with an invalid id or period is refused."""
    with pytest.raises(ValueError, match=words):
        body_from_json(text)


def test_cells_that_differ_read_differently():
    """Cells are compared by their content, which `repr` shows."""
    one, other = Cell(10_000), Cell(10_000)
    assert one == other
    other.add_energy(PACKAGE, 123_456, 9_000)
    assert one != other != 10_000
    assert "123456" in repr(other)
    assert repr(one) != repr(other)
