# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of I1, I2 and I13: each worked example is the one of the indicator's docstring."""

from __future__ import annotations

from datetime import date

from tests.support.reported import require_columns
from veilleuse.collector import indicators
from veilleuse.collector.model.indicators import Figure, IndicatorGroup, Targets
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.sums import EnergySums, GroupSums, StateSums
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

HOUR = 3_600_000
SFF = DeviceClass.SFF


def key(population: Population = Population.WORKSTATION) -> GroupKey:
    """Return the key of a group."""
    return GroupKey(date(2026, 3, 2), date(2026, 3, 3), "FR", population, memo=False)


def figure(name: str, sums: GroupSums, population: Population = Population.WORKSTATION) -> Figure:
    """Return the figure of an indicator."""
    group = IndicatorGroup(key(population), sums=sums)
    (found,) = indicators.load_indicator(name).figures(group, Targets(out_of_hours_target_ratio=0.07))
    assert found.threshold == (0.07 if name == "I1" else None)
    require_columns(found.details)
    return found


def states(**hours: float) -> dict[tuple[Band, State], StateSums]:
    """Return sums by band and state: `night_on_idle=2` → {(NIGHT, ON_IDLE): 2 h}."""
    found = {}
    for name, value in hours.items():
        band, _, state = name.partition("_")
        found[Band(band), State(state)] = StateSums(round(value * HOUR))
    return found


def test_on_outside_opening_hours():
    """I1 is (2 + 1) ÷ (8 + 6), with the kWh drawn in that time and the nights."""
    sums = GroupSums(
        1,
        24 * HOUR,
        states(
            night_on_idle=2,
            night_off=6,
            closed_on_active=1,
            closed_asleep=5,
            open_on_active=10,
            night_unknown=3,
        ),
        {
            (SFF, Method.LOAD_MODELLED, Band.NIGHT, State.ON_IDLE): EnergySums(2 * HOUR, 7_200_000_000),
            (SFF, Method.LOAD_MODELLED, Band.OPEN, State.ON_ACTIVE): EnergySums(HOUR, 5),
            (SFF, Method.LOAD_MODELLED, Band.NIGHT, State.OFF): EnergySums(HOUR, 5),
        },
        nights=1,
        nights_are="dates",
    )
    found = figure("I1", sums)
    assert found.value == 0.21428571428571427
    assert (found.numerator, found.denominator) == (3 * HOUR, 14 * HOUR)
    assert found.details == {"kwh": 2.0, "nights_on": 1, "nights_are": "dates"}


def test_servers_are_excluded_from_out_of_hours():
    """Servers are meant to be on at night."""
    group = IndicatorGroup(key(Population.SERVER), sums=GroupSums(1, HOUR, states(night_on_idle=8)))
    assert list(indicators.load_indicator("I1").figures(group, Targets())) == []


def test_nothing_known_of_the_night_is_absent():
    """Without a denominator there is no value, never 0 %."""
    found = figure("I1", GroupSums(1, HOUR, states(open_on_idle=1)))
    assert (found.value, found.details) == (None, {})


def test_idle_while_on():
    """I2 is 3 ÷ 8; beyond 15 minutes 1 ÷ 8, beyond 60 minutes 0.5 ÷ 8; beyond 30 was not measured."""
    sums = GroupSums(
        1,
        24 * HOUR,
        {
            (Band.OPEN, State.ON_IDLE): StateSums(2 * HOUR, HOUR, None, HOUR // 2),
            (Band.NIGHT, State.ON_IDLE): StateSums(HOUR),
            (Band.OPEN, State.ON_ACTIVE): StateSums(5 * HOUR),
            (Band.NIGHT, State.OFF): StateSums(16 * HOUR),
        },
        {(SFF, Method.METERED, Band.OPEN, State.ON_IDLE): EnergySums(HOUR, 3_600_000_000)},
    )
    found = figure("I2", sums)
    assert found.value == 0.375
    assert found.details == {
        "beyond_15_minutes_ratio": 0.125,
        "beyond_60_minutes_ratio": 0.0625,
        "kwh": 1.0,
    }


def test_never_on_is_absent():
    """A machine that was off all day has no idle share."""
    found = figure("I2", GroupSums(1, HOUR, states(night_off=8)))
    assert (found.value, found.details) == (None, {})


def test_coverage():
    """Two machines enrolled for one day each have a coverage of 24 ÷ 48 for states and 12 ÷ 48 for energy."""
    sums = GroupSums(
        1,
        48 * HOUR,
        states(open_on_active=10, night_off=14, closed_unknown=5),
        {(SFF, Method.METERED, Band.OPEN, State.ON_ACTIVE): EnergySums(12 * HOUR, 5)},
    )
    found = figure("I13", sums, Population.SERVER)
    assert found.value == 0.5
    assert found.details == {"derived_milliseconds": 12 * HOUR, "coverage_energy": 0.25}


def test_coverage_of_nothing_enrolled_is_absent():
    """Without enrolled time there is no ratio."""
    found = figure("I13", GroupSums(0, 0))
    assert (found.value, found.details) == (None, {"derived_milliseconds": 0})
