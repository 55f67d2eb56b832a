# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A change divides exactly into fleet, mix, hours and watts: docs/methodology.md §10."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilleuse.collector.account.decomposition import ClassYear, decompose, factor_effect_kgco2e
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import State

HOUR = 3_600_000
DAY = 24 * HOUR


def year(machines: int, on_hours: int, watts: int, off_watts: int = 0) -> ClassYear:
    """Return the energy of so many machine-days, each with so many hours on."""
    on, off = on_hours * HOUR, (24 - on_hours) * HOUR
    states = {State.ON_IDLE: (on, on * watts), State.OFF: (off, off * off_watts)}
    return ClassYear(machines * DAY, machines * (on * watts + off * off_watts), states)


def kwh_of(*years: ClassYear) -> Fraction:
    """Return the energy of the years together, in kWh."""
    return Fraction(sum(one.energy_millijoules for one in years), MILLIJOULES_PER_KWH)


def test_each_cause_alone():
    """More machines are fleet, fewer hours are hours, fewer watts are watts, and other causes are 0."""
    before = {"tower": year(10, 10, 50)}
    for after, cause in (
        (year(20, 10, 50), "fleet_kwh"),
        (year(10, 5, 50), "hours_kwh"),
        (year(10, 10, 25), "watts_kwh"),
    ):
        effects = decompose(before, {"tower": after})
        assert effects is not None
        change = kwh_of(after) - kwh_of(before["tower"])
        assert change != 0
        assert {name: getattr(effects, name) for name in effects.__slots__ if getattr(effects, name)} == {
            cause: change
        }


def test_mix_alone():
    """Laptops replace three of five towers: 3 × (0.1 − 0.5) kWh a day."""
    before = {"tower": year(5, 10, 50), "laptop": year(5, 10, 10)}
    after = {"tower": year(2, 10, 50), "laptop": year(8, 10, 10)}
    effects = decompose(before, after)
    assert effects is not None
    assert effects.mix_kwh == Fraction(3) * (Fraction("0.1") - Fraction("0.5")) == effects.total_kwh


def test_what_is_not_known_is_no_state():
    """Unknown time for half of the year before is no change."""
    now = year(10, 10, 50, 2)
    unknown = sum(time for time, _ in now.states.values())
    before = replace(now, states={**now.states, State.UNKNOWN: (unknown, 0)})
    effects = decompose({"tower": before}, {"tower": now})
    assert effects is not None
    assert not any((effects.hours_kwh, effects.watts_kwh, effects.total_kwh))


def test_a_class_that_comes_or_goes():
    """Towers replaced by laptops one for one are mix alone, and so is the reverse."""
    tower, laptop = {"tower": year(5, 10, 50)}, {"laptop": year(5, 10, 10)}
    for before, after in ((tower, laptop), (laptop, tower)):
        effects = decompose(before, after)
        assert effects is not None
        assert effects.mix_kwh == effects.total_kwh == kwh_of(*after.values()) - kwh_of(*before.values())


def test_watts_of_a_state_that_is_new():
    """Machines that now sleep at 2 W change hours: there were no watts of sleep before."""
    awake = ClassYear(DAY, DAY * 10, {State.ON_IDLE: (DAY, DAY * 10)})
    half = DAY // 2
    asleep = ClassYear(
        DAY, half * 12, {State.ON_IDLE: (half, half * 10), State.ASLEEP: (half, half * 2), State.OFF: (0, 0)}
    )
    effects = decompose({"sff": awake}, {"sff": asleep})
    assert effects is not None
    assert effects.watts_kwh == 0
    assert effects.hours_kwh == effects.total_kwh == kwh_of(asleep) - kwh_of(awake)


def test_nothing_to_compare():
    """A year without machines is not compared; one without states is compared as a whole."""
    some = {"sff": year(1, 10, 50)}
    assert decompose({}, some) is None
    assert decompose(some, {"sff": ClassYear(0, 0)}) is None
    effects = decompose({"sff": ClassYear(DAY, DAY * 10)}, {"sff": ClassYear(DAY, DAY * 30)})
    assert effects is not None
    assert effects.watts_kwh == effects.total_kwh == Fraction(DAY * 20, MILLIJOULES_PER_KWH)


def test_the_factor_stands_apart():
    """From 2024 to 2025 the same 1,000 kWh emit 5.8 kg less, without any sobriety."""
    assert factor_effect_kgco2e(Decimal("0.0519"), Decimal("0.0461"), Fraction(1_000)) == Fraction("-5.8")


pairs = st.tuples(st.integers(0, 10**9), st.integers(0, 10**12))
classes = st.dictionaries(
    st.sampled_from(["tower", "laptop", "server"]),
    st.builds(
        ClassYear,
        st.integers(0, 10**10),
        st.integers(0, 10**13),
        st.dictionaries(st.sampled_from(list(State)), pairs, max_size=4),
    ),
)


@given(classes, classes)
def test_effects_sum_to_the_change(before, after):
    """The sum is exact for any classes, states and sums."""
    effects = decompose(before, after)
    had = [
        sum(one.energy_millijoules for one in of.values() if one.fleet_milliseconds) for of in (before, after)
    ]
    if effects is not None:
        assert effects.total_kwh == Fraction(had[1] - had[0], MILLIJOULES_PER_KWH)
        assert isinstance(effects.fleet_kwh, Fraction)
    else:
        with pytest.raises(ZeroDivisionError):
            _ = [Fraction(1, sum(one.fleet_milliseconds for one in of.values())) for of in (before, after)]
