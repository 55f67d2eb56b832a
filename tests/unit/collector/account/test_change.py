# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A change between two observed years is published with a margin that contains the true change:
docs/methodology.md, section 10."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from tests.bench.estimator import BAND, CHANGES, change_coverage
from tests.support.simulated_changes import Shape, changed
from tests.support.year import DAY, END, FIRST, asset, census, figures, told, vector, worked
from tests.unit.collector.account.test_billing import TERMS, fleet, only
from veilleuse.collector.account.change import LEAST_DAYS, change, class_years
from veilleuse.collector.account.rounding import format_row
from veilleuse.collector.account.row import PeriodFigures
from veilleuse.collector.account.server_rooms import with_rooms
from veilleuse.collector.account.statement import build_statement
from veilleuse.collector.closed_years.document import statistics_document, statistics_from_document
from veilleuse.collector.closed_years.reduce import reduce_year
from veilleuse.collector.closed_years.restate import restate_year
from veilleuse.collector.fleet.estimator import Assumptions
from veilleuse.collector.fleet.rooms import RoomFigure
from veilleuse.collector.model.figures import EmissionsRow
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.months import DayType
from veilleuse.collector.reports.emissions_document import document
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import DeviceClass, State

SCREENS = 12.5


def made(hosts: list[Host], days: float, *, watts: int = 50, year: int = 2025) -> PeriodFigures:
    """Return figures of machines observed for so many days, five of seven open, and of twenty unmeasured."""
    standings = census(*hosts, assets=tuple(asset(100 + n, device_class="sff") for n in range(20)))
    by_host = {one.host_id: one for one in standings if one.host_id}
    machines = []
    for number, one in enumerate(hosts):
        time = round(days * DAY / 7)
        on = 5 * time // 2
        energy = on * (watts + number)
        opened = vector(
            on_active_ac_milliseconds=on,
            off_ac_milliseconds=5 * time - on,
            metered_milliseconds=5 * time,
            metered_energy_millijoules=energy,
            on_active_energy_millijoules=energy,
        )
        closed = vector(off_ac_milliseconds=2 * time, metered_milliseconds=2 * time)
        days_of = {DayType.OPEN: opened, DayType.CLOSED: closed} if days > 5 else {DayType.OPEN: opened}
        machines.append((told(one.host_id, days_of), by_host[one.host_id]))
    found = figures(FIRST, END, (), standings, machines, assumptions=Assumptions(), k_anonymity=10)
    return replace(found, first=FIRST.replace(year=year), end=END.replace(year=year + 1))


def compared(before: PeriodFigures, after: PeriodFigures) -> EmissionsRow:
    """Return the total of the later year."""
    found: EmissionsRow = only(build_statement([after], replace(TERMS, before={0: before})).totals)
    return found


def test_two_days_are_no_year_to_compare_with():
    """An ISO week with two days in the year before made an "hours effect" of a third of the fleet's energy.
    The days observed, 365 and 2, are published, and the reason in words instead of the change.
    """
    year, spill = made(fleet(), 365), made(fleet(), 2.8, watts=20, year=2024)
    row = compared(spill, year)
    assert row.change.change_kwh is row.change.hours_effect_kwh is row.change.fleet_effect_kwh is None
    assert row.change.not_compared == "days"
    assert (row.activity.days_observed, row.change.days_observed_before) == pytest.approx((365, 2), abs=1e-6)
    assert format_row(row)["days_observed"] == {"fr": "365 sur 365", "en": "365 of 365"}
    stated = build_statement([year], replace(TERMS, before={0: spill}))
    (note,) = [note for note in document(stated, {}).assumptions if isinstance(note, dict)]
    assert "cette période couvre 365 jours, celle d’avant 2" in note["fr"]


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (lambda: made(fleet(), 180, watts=400, year=2024), None),
        (lambda: made(fleet(), 180, year=2024), "intervals"),
        (lambda: made(fleet(), LEAST_DAYS + 1, watts=400, year=2024), "coverage"),
        (lambda: made(fleet(), LEAST_DAYS - 1, year=2024), "days"),
        (lambda: made(fleet(10), 200, watts=400, year=2024), "coverage"),
        (lambda: made(fleet(9), 200, year=2024), "machines"),
        (lambda: made([], 200, year=2024), "machines"),
    ],
)
def test_a_year_is_compared_with_one_that_was_watched(before, reason):
    """Two years are compared from thirty observed days and ten machines on, never with class defaults. It
    is a number on like coverage alone, and where the intervals do not overlap.
    """
    row = compared(before(), made(fleet(), 200))
    assert row.change.not_compared == reason
    assert (row.change.change_kwh is None) is (reason is not None)


def test_a_type_of_day_that_nobody_saw():
    """Closed days without observation in the year before are no change of hours."""
    year = made(fleet(), 200)
    total = year.total
    assert total is not None
    one = total.classes["sff"]
    opened = one.covered.by_day_type[0]
    covered = replace(one.covered, by_day_type=(opened, 0, 0))
    before = replace(
        year,
        first=FIRST.replace(year=2024),
        total=replace(total, classes={"sff": replace(one, covered=covered)}),
    )
    assert compared(before, year).change.not_compared == "day_types"


def test_what_is_there_in_one_year_alone():
    """A class measured in one year only, or a total that lacks a withheld zone, has no change."""
    year, before = made(fleet(), 200), made(fleet(), 200, watts=400, year=2024)
    assert compared(before, year).change.not_compared is None
    total = before.total
    assert total is not None
    more = replace(before, total=replace(total, classes={**total.classes, "laptop": total.classes["sff"]}))
    assert compared(more, year).change.not_compared == compared(year, more).change.not_compared == "machines"
    withheld = replace(before, withheld=(total.key,))
    assert (
        compared(withheld, year).change.not_compared
        == compared(year, withheld).change.not_compared
        == "machines"
    )


def test_a_room_read_for_half_a_year_is_half_a_year():
    """Meters read from July on count half as much as over a year, but nobody used less. The year covers 184
    days, is no census, and has no change. Two years read alike do.
    """
    room = RoomFigure("DC1", "hq", "FR", 10**12, 10**12, None, None, "not_included", 0)
    days = {"whole": (365, 0), "half": (184, 181)}
    periods = {
        name: with_rooms(
            PeriodFigures(FIRST, END, (), (), None, ()),
            [replace(room, read_milliseconds=read * DAY, unread_milliseconds=unread * DAY)],
            (),
        )
        for name, (read, unread) in days.items()
    }
    row = compared(periods["half"], periods["whole"])
    assert (row.change.not_compared, row.activity.days_observed, row.change.days_observed_before) == (
        "basis",
        365,
        184,
    )
    assert compared(periods["whole"], periods["whole"]).change.not_compared == "intervals"
    told = [only(build_statement([one], TERMS).rows) for one in periods.values()]
    assert [(one.activity.representativeness, one.uncertainty.interval) for one in told] == [
        ("census", "95 %"),
        ("not demonstrated", "sample only"),
    ]


def test_screens_follow_pcs_of_several_classes():
    """Twelve PCs of two classes of six form one cell; their screens are observed for as many days."""
    hosts = [
        replace(one, facts=replace(one.facts, device_class=DeviceClass.LAPTOP if at % 2 else DeviceClass.SFF))
        for at, one in enumerate(fleet(12))
    ]
    standings = census(*hosts)
    by_host = {one.host_id: one for one in standings if one.host_id}
    shows: dict[str, Any] = {"screens_milliseconds": 100 * DAY, "screens_energy_millijoules": 1_000 * DAY}
    machines = [(worked(one, **shows), by_host[one.host_id]) for one in hosts]
    found = figures(
        FIRST, END, ("device_class",), standings, machines, assumptions=Assumptions(), k_anonymity=10
    )
    days = {row.key.device_class: row.activity.days_observed for row in build_statement([found], TERMS).rows}
    assert days == {"autres": pytest.approx(365), "monitor": pytest.approx(365)}


def test_what_people_read_of_an_effect():
    """The effect is shown with its margin, to the margin's digits."""
    row = compared(made(fleet(), 200, watts=400, year=2024), made(fleet(), 200))
    assert row.change.change_kwh is not None
    assert row.change.change_margin_kwh is not None
    text = format_row(row)["change_kwh"]["fr"]
    assert text.count(" ± ") == 1
    value, margin = (float(part.replace("\u202f", "").replace(",", ".")) for part in text.split(" ± "))
    assert value == pytest.approx(row.change.change_kwh, abs=row.change.change_margin_kwh / 5)
    assert margin == pytest.approx(row.change.change_margin_kwh, rel=0.05)


def test_the_same_machines_in_both_years_err_together():
    """When every machine draws 2 % more, the margin of the change is far below the sample's own spread."""
    before, after = made(fleet(), 200, watts=50, year=2024), made(fleet(), 200, watts=51)
    assert before.total is not None
    assert after.total is not None
    found = change(before.total, after.total)
    assert found is not None
    sampled = before.total.estimate
    alone = 2 * 2**0.5 * sampled.u_sampling * sampled.energy_millijoules / MILLIJOULES_PER_KWH
    assert found.margins[-1] < alone / 10


def test_screens_that_are_off_are_no_watts_of_screens():
    """Screens on for twice as long change hours alone: their standby is a state of its own.
    The effects sum to the difference to the millijoule.
    """
    years = []
    for on in (4, 8):
        hosts = fleet()
        standings = census(*hosts, assets=tuple(asset(200 + n, device_class="monitor") for n in range(20)))
        by_host = {one.host_id: one for one in standings if one.host_id}
        lit = on * 3_600_000 * 261
        shows: dict[str, Any] = {
            "screens_milliseconds": lit,
            "screens_energy_millijoules": round(lit * SCREENS),
        }
        machines = [(worked(one, **shows), by_host[one.host_id]) for one in hosts]
        found = figures(FIRST, END, (), standings, machines, assumptions=Assumptions(), k_anonymity=10)
        assert found.total is not None
        years.append(found.total)
    (before, after) = years
    effects = change(before, after)
    assert effects is not None
    four = effects.effects
    difference = after.estimate.energy_millijoules - before.estimate.energy_millijoules
    assert four.total_kwh == Fraction(difference, MILLIJOULES_PER_KWH)
    assert difference > 0
    screens = class_years(before)["monitor"].states
    assert screens[State.OFF][1] == pytest.approx(0.3 * screens[State.OFF][0], rel=1e-6)
    assert abs(float(four.watts_kwh)) < 1e-6 * float(four.total_kwh)
    assert four.hours_kwh == pytest.approx(float(four.total_kwh), rel=1e-6)


def test_beside_a_closed_year_the_change_is_the_same_and_less_sure():
    """A closed year is stored without groups of fewer than k machines: effects are equal, margins wider."""
    hosts = fleet()
    standings = census(*hosts, assets=tuple(asset(100 + n, device_class="sff") for n in range(60)))
    by_host = {one.host_id: one for one in standings if one.host_id}
    years = [
        reduce_year(
            FIRST,
            END,
            standings,
            [(worked(one, watts + number), by_host[one.host_id]) for number, one in enumerate(hosts)],
            k=10,
            in_groups=True,
        )
        for watts in (50, 51)
    ]
    closed = statistics_from_document(statistics_document(years[0]))
    assert years[0].groups.sums
    assert not closed.groups.sums
    opened, beside, after = (
        restate_year(one, (), Assumptions()).total for one in (years[0], closed, years[1])
    )
    assert opened is not None
    assert beside is not None
    assert after is not None
    told_open, told_closed = change(opened, after), change(beside, after)
    assert told_open is not None
    assert told_closed is not None
    assert told_closed.effects == told_open.effects
    assert told_closed.margins[-1] > 5 * told_open.margins[-1]


@pytest.mark.parametrize("fleets", [100, pytest.param(200, marks=pytest.mark.long)])
def test_the_margin_holds_the_truth(fleets):
    """The margin contains the true change, hours and watts in 93 to 97 % of fleets, with room for chance.
    Two thirds of the machines are in both years."""
    held = change_coverage(CHANGES["two thirds in common"], fleets, seed=3)
    for name in ("hours", "watts", "change"):
        assert BAND[0] - 0.01 <= held[name] <= BAND[1] + 0.015, name


def test_the_margin_counts_what_both_years_have_in_common():
    """With the same machines in both years the margin is less than half of that with other machines."""
    margins = [
        changed(Shape(((150, 30, both, 30 - both),) * 2), random.Random(5))[0].margins[-1] for both in (30, 0)
    ]
    assert margins[0] < margins[1] / 2
