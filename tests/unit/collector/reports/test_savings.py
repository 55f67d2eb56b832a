# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of I14: the worked example, the compared months, and an interval that covers a known saving."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date

import pytest

from tests.support.memory_store import host
from tests.support.reported import require_columns
from tests.support.year import vector
from tests.unit.collector.indicators.test_sobriety import SCOPE
from veilleuse.collector.calendars.periods import add_months
from veilleuse.collector.disclosure.figures import disclose_figure
from veilleuse.collector.indicators import load_indicator
from veilleuse.collector.indicators.measured_savings import arm, saving
from veilleuse.collector.model.actions import Action
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.indicators import Comparison, IndicatorGroup, SiteEnergy, Targets
from veilleuse.collector.model.months import DayType, HostPeriod
from veilleuse.collector.model.records import HostId
from veilleuse.collector.quantiles import quantile95
from veilleuse.collector.reports.savings import Windows, compare_actions, find_windows
from veilleuse.wire.vocabulary import Band, DeviceClass, Population

KWH = 3_600_000_000
DAY = 86_400_000
ACTION = Action("extinction", ("s0", "s1"), date(2026, 1, 1), "Extinction à 20 h")


def site(name: str, frozen: float, actual: float) -> SiteEnergy:
    """Return a site's energy, given in kWh."""
    return SiteEnergy(name, round(frozen * KWH), round(actual * KWH))


def compared(touched: tuple[SiteEnergy, ...], untouched: tuple[SiteEnergy, ...]) -> Comparison:
    """Return a comparison of 20 weeks on each side."""
    many = dict.fromkeys(range(100), 1)
    return Comparison("a", "what", touched, untouched, 20.0, 20.0, 100.0, 0.0, many, many)


TOUCHED = (site("a", 100, 78), site("b", 200, 162))
UNTOUCHED = (site("c", 100, 97), site("d", 300, 295))


def test_the_worked_example():
    """The saving is 54 kWh; with two sites on each side the interval is wide, and nothing is claimed."""
    figure = saving(compared(TOUCHED, UNTOUCHED))
    require_columns(figure.details)
    assert figure.value == pytest.approx(54)
    first, second = arm(TOUCHED), arm(UNTOUCHED)
    assert first is not None
    assert second is not None
    assert first.variance == pytest.approx(0.000225)
    assert second.variance == pytest.approx(0.5 * 2 * (0.0133333 / 2) ** 2, rel=1e-4)
    drifting = first.variance * (0.98 / 0.8) ** 2
    variance = drifting + second.variance
    freedom = variance**2 / (drifting**2 + second.variance**2)
    assert freedom == pytest.approx(1.26, abs=0.005)
    assert figure.interval is not None
    low, high = figure.interval
    assert (high - low) / 2 == pytest.approx(300 * math.sqrt(variance) * quantile95(freedom))
    assert figure.details["claimed"] == ("yes" if low > 0 else "no")


def test_the_indicator_is_of_a_comparison():
    """A group with an action has its figure; a group without one has none, not 0."""
    one = compared(TOUCHED, UNTOUCHED)
    (figure,) = load_indicator("I14").figures(IndicatorGroup(SCOPE, comparison=one), Targets())
    assert figure == saving(one)
    assert list(load_indicator("I14").figures(IndicatorGroup(SCOPE), Targets())) == []


def test_what_would_have_happened_anyway_is_no_saving():
    """Where all sites draw a fifth less, the action saved nothing."""
    fewer = tuple(site(name, 100, 80) for name in "cdef")
    figure = saving(compared(tuple(site(name, 100, 80) for name in "abgh"), fewer))
    assert figure.value == pytest.approx(0)
    assert figure.details["claimed"] == "no"


@pytest.mark.parametrize("more", [{"weeks_before": 7.9}, {"weeks_after": 7.9}, {"untouched": ()}])
def test_too_little_is_no_figure(more):
    """With less than 8 weeks on a side, or nothing to compare with, there is no value and no claim."""
    figure = saving(replace(compared(TOUCHED, UNTOUCHED), **more))
    assert (figure.value, figure.interval, figure.details["claimed"]) == (None, None, "no")


def test_one_site_alone_has_no_interval():
    """With one site the spread between sites is unknown: a value without interval or claim."""
    figure = saving(compared((site("a", 100, 10),), UNTOUCHED))
    assert figure.value == pytest.approx(88)
    assert (figure.interval, figure.details["claimed"]) == (None, "no")


def test_windows_are_whole_months():
    """The month of an action is on neither side, unless the action begins it; a side has a year at most."""
    assert find_windows(replace(ACTION, from_day=date(2026, 1, 15)), date(2026, 6, 1)) == Windows(
        date(2025, 1, 1), date(2026, 1, 1), date(2026, 2, 1), date(2026, 6, 1)
    )
    found = find_windows(ACTION, date(2028, 6, 1))
    assert found is not None
    assert (found.before, found.after, found.end) == (date(2025, 1, 1), date(2026, 1, 1), date(2027, 1, 1))
    assert find_windows(ACTION, date(2026, 1, 1)) is None


@dataclass
class Months:
    """A ports.PeriodReader over a list."""

    rows: list[HostPeriod] = field(default_factory=list)

    def add(self, host_id: int, month: date, kind: DayType, days: float, watts: float) -> None:
        """Add machine-days at a mean power."""
        time = round(days * DAY)
        energy = round(watts * time)
        values = vector(load_modelled_milliseconds=time, load_modelled_energy_millijoules=energy)
        self.rows.append(HostPeriod(HostId(host_id), month, kind, Band.NIGHT, values))

    def host_months(self, first: date, end: date) -> Iterator[HostPeriod]:
        return (row for row in self.rows if first <= row.period_from < end)

    def host_periods(self, first: date, end: date) -> Iterator[HostPeriod]:
        raise NotImplementedError


def compare(months: Months, hosts: list[Host], *actions: Action) -> list[Comparison]:
    """Return the comparisons up to the middle of the year."""
    return [one for _, _, one in compare_actions(months, hosts, actions or (ACTION,), date(2026, 7, 1))]


def test_day_types_are_compared_with_their_own():
    """More holidays after than before are no saving: each day type has its own power."""
    months = Months()
    hosts = [host(n, place=f"s{n}") for n in range(4)]
    for n in range(4):
        for month in (date(2025, 11, 1), date(2025, 12, 1)):
            months.add(n, month, DayType.OPEN, 20, 40)
            months.add(n, month, DayType.SCHOOL_HOLIDAY, 5, 10)
        for month in (date(2026, 2, 1), date(2026, 3, 1)):
            months.add(n, month, DayType.OPEN, 5, 40)
            months.add(n, month, DayType.SCHOOL_HOLIDAY, 20, 10)
    (one,) = compare(months, hosts)
    assert [(each.site, each.frozen_millijoules, each.actual_millijoules) for each in one.touched] == [
        (name, 2 * (5 * 40 + 20 * 10) * DAY, 2 * (5 * 40 + 20 * 10) * DAY) for name in ("s0", "s1")
    ]
    assert one.weeks_before == pytest.approx(61 / 7)
    assert one.weeks_after == pytest.approx(59 / 7)


def test_renewals_virtual_machines_and_other_actions_stay_out():
    """New machines count apart; sites of other actions and virtual machines are excluded."""
    months = Months()
    hosts = [host(n, place=f"s{n}") for n in range(5)]
    hosts += [host(10, place="s0"), host(11, DeviceClass.VIRTUAL_MACHINE, place="s0")]
    for n in (0, 1, 2, 3, 4, 11):
        months.add(n, date(2025, 11, 1), DayType.OPEN, 20, 40)
    for n in (0, 1, 2, 3, 4, 10, 11):
        months.add(n, date(2026, 2, 1), DayType.OPEN, 20, 30 if n != 10 else 10)
    other = Action("écrans", ("s4",), date(2026, 3, 1), "Écrans")
    (one,) = [each for each in compare(months, hosts, ACTION, other) if each.action_id == "extinction"]
    assert [each.site for each in one.untouched] == ["s2", "s3"]
    assert [each.actual_millijoules for each in one.touched] == [600 * DAY, 600 * DAY]
    assert (one.renewals, one.renewals_millijoules) == (1, 20 * 30 * DAY)


def test_the_saving_of_one_new_machine_is_not_told():
    """One new PC at a site is not shown, since its energy is one person's; ten PCs and a server are."""
    for number, population, shown in (
        (1, Population.WORKSTATION, False),
        (10, Population.WORKSTATION, True),
        (1, Population.SERVER, True),
    ):
        months = Months()
        hosts = [host(n, place=f"s{n % 4}") for n in range(80)]
        hosts += [host(n, population=population, place="s0") for n in range(100, 100 + number)]
        for one in hosts:
            for month in (date(2025, 11, 1), date(2025, 12, 1)):
                if one.host_id < 100:
                    months.add(one.host_id, month, DayType.OPEN, 20, 40)
            for month in (date(2026, 2, 1), date(2026, 3, 1)):
                months.add(one.host_id, month, DayType.OPEN, 20, 30 if one.host_id % 4 < 2 else 38)
        (found,) = compare(months, hosts)
        figure = disclose_figure(saving(found), SCOPE, 10)
        assert figure.value is not None
        assert (found.renewals, "renewals" in figure.details) == (number, shown)
        assert ("renewals_kwh" in figure.details) is shown


def test_an_action_on_servers_alone_is_nobody_s():
    """An action on four servers is shown; with three PCs among them it is withheld."""
    for population, shown in ((Population.SERVER, True), (Population.WORKSTATION, False)):
        months = Months()
        hosts = [
            host(n, population=population if n < 3 else Population.SERVER, place=f"s{n % 4}")
            for n in range(8)
        ]
        for one in hosts:
            for month in (date(2025, 11, 1), date(2025, 12, 1), date(2026, 2, 1), date(2026, 3, 1)):
                saved = month.year == 2026 and one.host_id % 4 < 2
                months.add(one.host_id, month, DayType.OPEN, 20, 30 if saved else 40)
        (found,) = compare(months, hosts)
        figure = disclose_figure(saving(found), SCOPE, 10)
        assert (figure.value is not None, figure.withheld, figure.n) == (shown, not shown, 4)


def test_the_interval_covers_a_known_saving():
    """The 95 % interval covers a true saving of 15 % in 93 to 98 of 100 seeded fleets, with 6 touched and 12
    untouched sites.

    Sites drift apart (log-scale 5 %), the season takes 20 % everywhere, and machines are unevenly
    distributed.
    """
    chance = random.Random(14)
    covered = claimed = 0
    trials = 400
    for _ in range(trials):
        touched, untouched, truth = _fleet(chance, sites=(6, 12), saved=0.15)
        figure = saving(compared(touched, untouched))
        assert figure.interval is not None
        covered += figure.interval[0] <= truth <= figure.interval[1]
        claimed += figure.details["claimed"] == "yes"
    assert 0.93 <= covered / trials <= 0.98, covered
    assert claimed / trials > 0.9, claimed


def test_what_saves_nothing_is_seldom_claimed():
    """Without any saving, at most 4.5 % of the fleets claim one."""
    chance = random.Random(41)
    trials = 400
    wrong = 0
    for _ in range(trials):
        touched, untouched, _ = _fleet(chance, sites=(6, 12), saved=0.0)
        wrong += saving(compared(touched, untouched)).details["claimed"] == "yes"
    assert wrong / trials <= 0.045, wrong


def _fleet(
    chance: random.Random, sites: tuple[int, int], saved: float
) -> tuple[tuple[SiteEnergy, ...], tuple[SiteEnergy, ...], float]:
    """Return (touched, untouched, the true saving in kWh)."""
    arms: list[tuple[SiteEnergy, ...]] = []
    truth = 0.0
    for number, share in zip(sites, (saved, 0.0), strict=True):
        made = []
        for place in range(number):
            machines = chance.randint(15, 60)
            frozen = sum(chance.lognormvariate(3.0, 0.4) for _ in range(machines))
            without = frozen * 0.8 * math.exp(chance.gauss(0, 0.05))
            noise = math.exp(chance.gauss(0, 0.01))
            actual = without * (1 - share) * noise
            truth += without * share
            made.append(site(f"{number}-{place}", frozen, actual))
        arms.append(tuple(made))
    return arms[0], arms[1], truth


def test_months_are_moved_over_new_year():
    """Months cross the new year, backwards too."""
    assert add_months(date(2026, 1, 1), -1) == date(2025, 12, 1)
    assert add_months(date(2026, 12, 1), 1) == date(2027, 1, 1)
    assert add_months(date(2026, 3, 1), -12) == date(2025, 3, 1)


def seasons(first_of_touched: int) -> tuple[Months, list[Host]]:
    """Return months without saving: 20 W until October, 30 W from November on. Touched sites are known from
    `first_of_touched` of 2025, untouched ones from July."""
    months = Months()
    hosts = [host(n, place=f"s{n}") for n in range(6)]
    for n in range(6):
        for month in range(first_of_touched if n < 2 else 7, 13):
            months.add(n, date(2025, month, 1), DayType.OPEN, 20, 30 if month > 10 else 20)
        for month in (1, 2, 3):
            months.add(n, date(2026, month, 1), DayType.OPEN, 20, 30)
    return months, hosts


def test_a_season_that_one_arm_alone_has_seen_is_no_saving():
    """Touched sites known since November would seem to save 29 % against the others' summer.
    docs/methodology.md §12 compares the same weeks."""
    for first in (7, 11):
        (one,) = compare(*seasons(first))
        figure = saving(one)
        assert figure.value == pytest.approx(0), first
        assert figure.details["claimed"] == "no"
        assert one.weeks_before == pytest.approx((184 if first == 7 else 61) / 7)


def test_weeks_are_those_of_each_arm():
    """One month of the touched sites before the action gives no figure, whatever the others have."""
    (one,) = compare(*seasons(12))
    assert one.weeks_before == pytest.approx(31 / 7)
    assert saving(one).value is None


def test_weeks_are_those_of_each_population():
    """Where all months of PCs but one are gone, longer months of servers do not make 8 weeks."""
    months = Months()
    hosts = [host(n, place=f"s{n}") for n in range(4)]
    hosts += [host(n, DeviceClass.SERVER, Population.SERVER, place=f"s{n - 10}") for n in range(10, 14)]
    for month in range(7, 13):
        for n in (*(range(4) if month == 12 else ()), *range(10, 14)):
            months.add(n, date(2025, month, 1), DayType.OPEN, 20, 40)
    for n in (*range(4), *range(10, 14)):
        months.add(n, date(2026, 2, 1), DayType.OPEN, 20, 30)
        months.add(n, date(2026, 3, 1), DayType.OPEN, 20, 30)
    (one,) = compare(months, hosts)
    assert one.weeks_before == pytest.approx(31 / 7)
    assert one.weeks_after == pytest.approx(59 / 7)
    assert saving(one).value is None
