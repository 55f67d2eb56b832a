# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of I3 and I4 of PCs beside the released month: both together disclose no fewer than k machines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from tests.unit.collector.indicators.test_sobriety import HOUR, machine, of, the
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.disclosure.figures import disclose_figure
from veilleuse.collector.model.indicators import BandUse, Figure, IndicatorMachine, PowerPlan, Targets
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.sums import (
    Detail,
    EnergyClass,
    EnergyKey,
    EnergySums,
    Group,
    GroupSums,
    StateSums,
)
from veilleuse.collector.quantiles import Z95
from veilleuse.collector.release.answer import add_shares
from veilleuse.collector.release.indicator_rows import IndicatorRow
from veilleuse.collector.release.indicators import MonthContext, limit_avoidable, limit_compliance
from veilleuse.collector.release.tables import Month
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

K = 10
PART = Slice(date(2026, 10, 1), date(2026, 11, 1))
FAMILY = GroupKey(PART.first, PART.end, "FR", Population.WORKSTATION)
LAPTOP = DeviceClass.LAPTOP


def key(entity: str, device_class: str, *, autres: bool = False) -> GroupKey:
    """Return the key of a row of the month."""
    return FAMILY._replace(entity=entity, device_class=device_class, autres=autres)


def beside(
    machines: Sequence[IndicatorMachine],
    *rows: GroupKey,
    withheld: frozenset[Detail] = frozenset(),
    days: float = 1,
) -> MonthContext:
    """Return a month whose rows show `days` × what their machines did; each machine is of its class in E."""
    uses = tuple(
        Group(row, replace(row_of(of_row, days), withheld=withheld))
        for row in rows
        if (of_row := [one for one in machines if row.autres or row.device_class == one.device_class.value])
    )
    places = {one.host_id: key("E", one.device_class.value).over() for one in machines}
    return MonthContext(Month(PART, uses, uses, (), ()), places, K, Targets())


def row_of(machines: Sequence[IndicatorMachine], days: float) -> GroupSums:
    """Return their idle time and energy by band."""
    states: dict[tuple[Band, State], StateSums] = {}
    energies: dict[EnergyKey, EnergySums] = {}
    for band in (Band.OPEN, Band.NIGHT):
        uses = [one.use(band) for one in machines]
        time = round(sum(use.on_idle_milliseconds for use in uses) * days)
        energy = round(sum(use.on_idle_millijoules for use in uses) * days)
        states[band, State.ON_IDLE] = StateSums(time)
        energies[EnergyClass.AUTRES, Method.LOAD_MODELLED, band, State.ON_IDLE] = EnergySums(0, energy)
    return GroupSums(len(machines), 0, states, energies)


def idle(
    number: int, device_class: DeviceClass = DeviceClass.TOWER, window: int = 0, opened: int = 0
) -> IndicatorMachine:
    """Return a machine that idles at 20 W for 100 h of nights and is active for 10 h. `opened` is hours idle
    in open time, beyond 30 minutes."""
    night = BandUse(
        on_active_milliseconds=10 * HOUR,
        on_idle_milliseconds=100 * HOUR,
        known_milliseconds=110 * HOUR,
        on_idle_millijoules=2_000 * HOUR,
        derived_millijoules=2_300 * HOUR,
        derived_uncertainty_millijoules=230 * HOUR,
        window_millijoules=window * HOUR,
    )
    day = BandUse(
        on_idle_milliseconds=opened * HOUR,
        known_milliseconds=opened * HOUR,
        on_idle_millijoules=20 * opened * HOUR,
        derived_millijoules=20 * opened * HOUR,
        beyond_30_minutes_milliseconds=opened * HOUR,
    )
    return machine(number, device_class, bands={Band.NIGHT: night, Band.OPEN: day})


AUTRES = key("autres", "autres", autres=True)
TOWERS, LAPTOPS = key("E", "tower"), key("E", "laptop")


def told(machines: Sequence[IndicatorMachine], *rows: GroupKey, **how: Any) -> Figure:
    """Return I4 of the machines, as shown."""
    figure = disclose_figure(
        the("I4", of(*machines)), GroupKey(PART.first, PART.end, population=FAMILY.population), K
    )
    return limit_avoidable(figure, machines, beside(machines, *rows, **how))


def test_one_power_among_others_is_not_solved_for():
    """Eleven towers and a laptop are in one row with idle energy and time at night. Idle energy less
    closed_bands would give the laptop's 100 h. The causes are shown as one sum, or withheld where
    closed_bands is alone."""
    few = [*(idle(n, opened=5) for n in range(11)), idle(11, LAPTOP, opened=5)]
    figure = the("I4", of(*few))
    idle_kwh, hours = 12 * 2.0, 12 * 100
    laptop_hours = ((idle_kwh - float(figure.details["closed_bands_kwh"])) * 1000 - 0.8 * hours) / (2 - 0.8)
    assert laptop_hours == pytest.approx(100), "what the row and the cause leave"
    shown = told(few, AUTRES)
    assert shown.details == {"mixed_kwh": shown.value} == {"mixed_kwh": figure.value}
    alone = told([*(idle(n) for n in range(11)), idle(11, LAPTOP)], AUTRES)
    assert (alone.value, alone.withheld, alone.details) == (None, True, {})


def test_closed_bands_that_follow_from_the_rows_are_told():
    """Ten laptops and ten towers in two rows show closed_bands; one row of both has two powers."""
    many = [*(idle(n) for n in range(10)), *(idle(n, LAPTOP) for n in range(10, 20))]
    exact = the("I4", of(*many))
    shown = told(many, TOWERS, LAPTOPS)
    assert shown.value == pytest.approx(exact.value)
    assert shown.details["closed_bands_kwh"] == pytest.approx(exact.details["closed_bands_kwh"])
    assert told(many, AUTRES).withheld


def test_a_row_that_tells_no_energies_is_not_divided():
    """Where the row hides an energy, closed_bands would give the metered machine's, and is withheld."""
    machines = [idle(n) for n in range(12)]
    assert told(machines, TOWERS).value
    for detail in (Detail.ENERGIES, Detail.OUTSIDE, Detail.IDLE):
        assert told(machines, TOWERS, withheld=frozenset({detail})).withheld


def test_silence_is_not_what_closed_bands_is_less_than_the_row():
    """Known time in whole days is 5 % too much: an exact closed_bands beside it would reveal the silence."""
    assert told([idle(n) for n in range(12)], TOWERS, days=1.05).withheld
    many = told([idle(n, opened=5) for n in range(12)], TOWERS, days=1.05)
    assert many.details == {"mixed_kwh": many.value}


def test_screens_of_few_are_not_the_sum_less_closed_bands():
    """Where two of twelve have a screen, the causes less closed_bands would be their screens' energy."""
    lit = {"screens_milliseconds": 100 * HOUR, "screens_millijoules": 1_250 * HOUR}
    machines = [idle(n) for n in range(12)]
    for number in (0, 1):
        night = machines[number].bands[Band.NIGHT]._replace(**lit)
        machines[number] = replace(machines[number], bands={**machines[number].bands, Band.NIGHT: night})
    assert told(machines, TOWERS).withheld


@pytest.mark.parametrize(
    ("windows", "window", "kwh"), [(0, 0, 23.04), (1, 5, 23.04), (1, 500, None), (10, 5, 22.99)]
)
def test_an_update_window_of_one_machine_is_not_told(windows: int, window: int, kwh: float | None):
    """A window of 5 Wh of one machine is not subtracted; one of 500 Wh hides the figure."""
    machines = [idle(n, window=window if n < windows else 0, opened=5) for n in range(12)]
    assert told(machines, TOWERS).details.get("closed_bands_kwh") == (kwh and pytest.approx(kwh))


def test_avoidable_energy_has_a_coarse_interval_and_no_total_of_its_own():
    """The uncertainty is rounded to 0.05, the share is the month's, and no other totals are shown."""
    machines = [idle(n) for n in range(12)]
    energies: dict[EnergyKey, EnergySums] = {
        (EnergyClass.AUTRES, Method.METERED, Band.OPEN, State.OFF): EnergySums(0, 10**12)
    }
    month = Month(PART, (Group(TOWERS, GroupSums(12, 0, {}, energies)),), (), (), ())
    figure = limit_avoidable(the("I4", of(*machines)), machines, beside(machines, TOWERS))
    assert (figure.numerator, figure.denominator) == (None, None)
    assert figure.value is not None
    assert figure.interval is not None
    assert math.log(figure.interval[1] / figure.value) / Z95 == pytest.approx(0.1)
    assert "on_active_outside_kwh" not in figure.details
    (row,) = add_shares([IndicatorRow("I4", FAMILY, figure)], [month], lambda _: FAMILY)
    assert row.figure.details["avoidable_share"] == pytest.approx(figure.value * 3.6e9 / 10**12)


@pytest.mark.parametrize(("unknown", "counts"), [(0, True), (3, False), (10, True)])
def test_few_unknown_plans_are_not_counted(unknown, counts):
    """With 3 of 25 plans unknown, the share is rounded to a percent, as if it were of all 25 machines."""
    plans = [(600, 1800)] * 12 + [(0, 0)] * 10 + [(None, None)] * unknown
    machines = [machine(n, power_plan=PowerPlan(*plan)) for n, plan in enumerate(plans)]
    figure = limit_compliance(the("I3", of(*machines)), machines, beside(machines, TOWERS))
    assert (figure.value == 12 / 22) is counts
    assert figure.value == pytest.approx(12 / 22, abs=0.005)
    assert figure.denominator == (22 if counts else 25)
    assert ("not_known" in figure.details) is counts
