# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of what Veilleuse itself used in a month: its energy, what is not known, and what PCs disclose."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from tests.unit.collector.indicators.test_sobriety import machine, server
from tests.unit.collector.release.test_indicators_of_pcs import PART, TOWERS, beside, idle
from veilleuse.collector.model.indicators import BandUse, Figure, IndicatorMachine
from veilleuse.collector.release.indicator_rows import IndicatorMonth, IndicatorRow
from veilleuse.collector.release.indicators import MonthContext
from veilleuse.collector.release.own_rows import own_use_rows, whole_use
from veilleuse.collector.release.own_use import OWN_USE, AgentsUse, OwnMonth, build_own_use
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import Band, Population

WATT = 1_000_000
ON = {Band.OPEN: BandUse(on_idle_milliseconds=1, known_milliseconds=1)}
COUNTED = {"own_cpu_milliseconds": 100_000, "workstation_received_bytes": 7, "server_sent_bytes": 5}
"""No collector counts the bytes of the workstations: they are published not even then."""


def tower(number: int, seconds: int, watts: int | None = 8) -> IndicatorMachine:
    """Return a tower whose agent used this CPU time, and which draws these watts more per busy CPU."""
    slope = None if watts is None else watts * WATT
    return replace(idle(number), own_cpu_milliseconds=seconds * 1_000, thread_slope_microwatts=slope)


def used(*machines: IndicatorMachine, context: MonthContext | None = None) -> AgentsUse:
    """Return what the agents of these PCs used, as published."""
    (found,) = build_own_use(machines, context or beside(machines, TOWERS), None, COUNTED).agents
    return found


def test_energy_is_cpu_time_by_the_slope_of_each_machine():
    """10 towers of 8 W for 5 s and 10 of 4 W for 10 s: 800 J. The collector: 100 s of a thread at 6.593 W."""
    machines = [*(tower(n, 5) for n in range(10)), *(tower(n, 10, 4) for n in range(10, 20))]
    month = build_own_use(machines, beside(machines, TOWERS), None, COUNTED)
    assert month.agents == (AgentsUse(Population.WORKSTATION, 20, 800_000, 150_000, None, None),)
    assert month.collector_cpu_milliseconds == 100_000
    assert month.collector_energy_millijoules == pytest.approx(659_280, abs=100)
    assert month.energy_millijoules == 800_000 + (month.collector_energy_millijoules or 0)


@pytest.mark.parametrize(
    ("few", "context"),
    [
        ([tower(n, 5) for n in range(9)], None),  # fewer than k
        ([*(tower(n, 1) for n in range(11)), tower(11, 100)], None),  # one has 90 % of it
        ([tower(n, 5) for n in range(12)], beside([tower(n, 5) for n in range(11)], TOWERS)),  # one came late
    ],
)
def test_the_use_of_few_pcs_is_withheld(few: list[IndicatorMachine], context: MonthContext | None):
    """Nothing is told of fewer than k, of a dominant one, or of another set than the released one."""
    places = beside(few, TOWERS)
    if context is not None:
        context = replace(context, places=places.places)
    found = used(*few, context=context)
    assert (found.energy_millijoules, found.cpu_milliseconds) == (None, None)


def test_energy_and_time_together_leave_no_time_of_few():
    """Eleven machines of 8 W and one of 4 W: from energy and time anybody computes the one's time. The time
    is absent; with ten of each both are told."""
    one_apart = [*(tower(n, 5) for n in range(11)), tower(11, 9, 4)]
    found = used(*one_apart)
    assert found.energy_millijoules == 11 * 40_000 + 36_000
    assert found.cpu_milliseconds is None
    assert used(*(tower(n, 5, 4 + n % 2) for n in range(20))).cpu_milliseconds == 100_000


@pytest.mark.parametrize(
    ("silent", "is_known"), [(1, True), (2, False)]
)  # of 20, beside machines that were never on
def test_agents_that_do_not_report_are_no_zero(silent: int, is_known: bool):
    """One older agent in twenty leaves the sum within its uncertainty; more make it unknown, never less."""
    machines = [
        *(tower(n, 5) for n in range(19 - silent)),
        *(tower(n, 0) for n in range(19 - silent, 19)),
        *(tower(19 + n, 5, None) for n in range(silent)),
        replace(machine(40), bands={Band.OPEN: BandUse(known_milliseconds=1)}),
    ]
    assert (used(*machines).energy_millijoules is not None) is is_known


def test_servers_are_told_whatever_their_number():
    """A server has no personal user; an unknown number of CPUs leaves its energy unknown."""
    known = server(1, bands=ON, own_cpu_milliseconds=2_000, thread_slope_microwatts=23 * WATT)
    context = replace(beside((), TOWERS), places={known.host_id: TOWERS})
    (found,) = build_own_use([known], context, None, None).agents
    assert found == AgentsUse(Population.SERVER, 1, 46_000, 2_000, None, None)
    (counted,) = build_own_use([known], context, None, COUNTED).agents
    assert (counted.received_bytes, counted.sent_bytes) == (0, 5)
    unknown = replace(known, thread_slope_microwatts=None)
    month = build_own_use([unknown], context, None, COUNTED)
    assert month.agents[0].energy_millijoules is None
    assert month.energy_millijoules is None
    assert OWN_USE.is_empty(replace(month, collector_energy_millijoules=None))


def month(number: int, **more: Any) -> OwnMonth:
    """Return a month that found 100 kWh avoidable and used 1 kWh, in half by the collector."""
    half = MILLIJOULES_PER_KWH // 2
    agents = (AgentsUse(Population.SERVER, 3, half, 3_600_000, 10, 20),)
    return replace(OwnMonth(PART, agents, 1_800_000, half, 100.0), part=PART, **more)


def test_a_month_is_read_as_it_was_written():
    """Format 1 stays as it is for ever: integers only."""
    content = json.dumps(OWN_USE.encode(month(1)), separators=(",", ":"))
    assert content == (
        '{"agents":[["server",3,1800000000,3600000,10,20]],"collector":[1800000,1800000000],'
        '"avoidable_millijoules":360000000000}'
    )
    assert OWN_USE.decode(json.loads(content), PART.first, PART.end) == month(1)
    empty = month(1, agents=(), avoidable_kwh=None, collector_energy_millijoules=None)
    assert OWN_USE.decode(OWN_USE.encode(empty), PART.first, PART.end) == empty


def test_i4_of_the_same_month_stands_beside_it():
    """Published figures of I4 add up; a withheld one has no value, and no figure is no zero."""
    key = TOWERS

    def found(*values: float | None) -> float | None:
        rows = tuple(IndicatorRow("I4", key, Figure(value, 10)) for value in values)
        other = IndicatorRow("I3", key, Figure(9.0, 10))
        indicators = IndicatorMonth(PART, (*rows, other), (), (), ())
        return build_own_use((), beside((), TOWERS), indicators, None).avoidable_kwh

    assert found(1.5, None, 2.0) == 3.5
    assert found(None) is None
    assert build_own_use((), beside((), TOWERS), None, None).avoidable_kwh is None


def test_the_ratio_is_of_the_months_that_know_both():
    """A month without the collector's part is in no ratio, and its agents are told still."""
    unknown = month(2, collector_cpu_milliseconds=None, collector_energy_millijoules=None)
    whole = whole_use([month(1), unknown])
    assert (whole["own_months"], whole["kwh_own"], whole["own_avoidable_ratio"]) == (1, 1.0, 100.0)
    rows = own_use_rows([month(1), unknown], date(2026, 1, 1), date(2027, 1, 1))
    assert [(row["own_part"], row["own_months"], row["kwh_own"], row.get("reason")) for row in rows] == [
        ("agents", 2, 1.0, None),
        ("collector", 1, 0.5, "own_not_counted"),
        ("whole", 1, 1.0, "own_not_counted"),
    ]
    assert rows[0]["own_received_bytes"] == 20
    for months, known, reason in (
        ([month(1), None], 1, "own_not_published"),
        ([None], 0, "own_not_published"),
        ([], 0, "period"),
    ):
        last = own_use_rows(months, date(2026, 1, 1), date(2027, 1, 1))[-1]
        assert (last["own_months"], last["reason"], "kwh_own" in last) == (known, reason, bool(known))
    silent = whole_use([month(1, avoidable_kwh=None)])
    assert (silent["kwh_own"], silent["own_avoidable_ratio"]) == (1.0, None)
