# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of silent machines: `doctor` once called 1,500 of 1,500 silent agents good for 13 days."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import pytest

from veilleuse.collector.model.calendars import (
    BEFORE_ALL,
    CalendarVersion,
    Declaration,
    SchoolPeriod,
    SchoolZone,
)
from veilleuse.collector.model.hosts import Host, HostStatus, MachineFacts, Site
from veilleuse.collector.model.records import AgentId, HostId
from veilleuse.collector.model.remote_config import Rollout
from veilleuse.collector.months.site_days import SiteCalendars
from veilleuse.collector.silence import (
    Judge,
    Past,
    Silence,
    SilenceLevel,
    count_pcs,
    heard_before,
    open_days,
)
from veilleuse.wire.bands import DEFAULT_CALENDAR
from veilleuse.wire.configuration import Configuration
from veilleuse.wire.vocabulary import Population

HOUR = 3_600_000
DAY = 24 * HOUR
K = 10
ARMISTICE = date(2026, 11, 11)  # a Wednesday
TUESDAY = datetime(2026, 11, 24, 9, tzinfo=UTC)
SERVER, WORKSTATION, CLASSROOM = Population.SERVER, Population.WORKSTATION, Population.CLASSROOM


def at(moment: datetime | date) -> int:
    """Return Unix milliseconds; midnight UTC for a date."""
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def machine(
    population: Population, contact: datetime | date | None, enrolled: date = date(2026, 1, 5)
) -> Host:
    """Return an active machine of Lyon with that last contact."""
    return Host(
        HostId(1),
        AgentId(os.urandom(16)),
        "DSI",
        "Lyon",
        population,
        HostStatus.ACTIVE,
        MachineFacts(),
        enrolled,
        None if contact is None else at(contact),
    )


@dataclass
class Watch:
    """A collector that has run since `since`, and its fleet; Lyon is closed on Armistice Day."""

    now: datetime
    since: datetime | None = datetime(2026, 9, 1, tzinfo=UTC)
    past: Past = field(default_factory=Past)
    school_zone: SchoolZone | None = None

    @property
    def judge(self) -> Judge:
        return Judge(at(self.now), None if self.since is None else at(self.since), self.past, K)

    def windows(self):
        """Return the open days before now."""
        calendar = DEFAULT_CALENDAR._replace(closures=(ARMISTICE,))
        declared = Declaration(calendar.open_spans, school_zone=self.school_zone)
        version = CalendarVersion(BEFORE_ALL, calendar, declared)
        holidays = SchoolPeriod(SchoolZone.A, date(2026, 10, 17), date(2026, 11, 2), "Toussaint")
        site = Site("Lyon", "FR", calendar.time_zone, calendar.to_json())
        return open_days([site], SiteCalendars(lambda _: (version,), lambda: (holidays,)), self.now.date())

    def pcs(self, hosts: Iterable[Host], population: Population = WORKSTATION) -> Silence | None:
        """Return the condition of PCs of a population."""
        return self.judge.pc_condition(population, count_pcs(hosts, self.windows()).get(population))

    def servers(self, hosts: Iterable[Host], rollout: Rollout | None = None) -> Silence | None:
        """Return the condition of servers."""
        conditions = self.judge.conditions(hosts, {SERVER: rollout or Rollout(SERVER)})
        return next((one for one in conditions if one.population is SERVER), None)

    def note(self, hosts: Iterable[Host]) -> None:
        """Note the day, as `serve` does once a day."""
        hosts = tuple(hosts)
        heard = None if self.since is None else heard_before(hosts, at(self.since))
        self.past = self.judge.add_day(count_pcs(hosts, self.windows()), self.now.date(), heard)


def fleet(silent: int, heard: int, now: datetime, population: Population = WORKSTATION) -> list[Host]:
    """Return PCs: silent ones since 13 days ago, heard ones of the day before."""
    away, near = now.date() - timedelta(days=13), now.date() - timedelta(days=1)
    return [machine(population, away)] * silent + [machine(population, near)] * heard


def told(condition: Silence | None) -> tuple[str, int, int] | None:
    """Return (level, silent, machines)."""
    return None if condition is None else (condition.level.value, condition.silent, condition.machines)


# --- servers


@pytest.mark.parametrize(
    ("silent", "heard", "expected"),
    [
        (0, 0, None),
        (0, 1, ("good", 0, 1)),
        (1, 0, ("failed", 1, 1)),
        (1, 99, ("warning", 1, 100)),
        (49, 51, ("warning", 49, 100)),
        (50, 50, ("failed", 50, 100)),
        (60, 0, ("failed", 60, 60)),
    ],
)
def test_one_silent_server_is_told_and_half_of_them_fail(silent, heard, expected):
    """One silent server of a hundred was once reported nowhere."""
    hosts = [machine(SERVER, TUESDAY - timedelta(days=13))] * silent
    hosts += [machine(SERVER, TUESDAY - timedelta(minutes=20))] * heard
    assert told(Watch(TUESDAY).servers(hosts)) == expected


def test_a_server_is_silent_after_two_of_its_contact_intervals():
    """A server is silent after 30 minutes by default, after 2 h where one hour is set or a candidate. Without
    any contact it is silent from the next day on."""
    hosts = [machine(SERVER, TUESDAY - timedelta(minutes=minutes)) for minutes in (29, 31, 119, 121)]
    watch = Watch(TUESDAY)
    hourly = Configuration(None, None, HOUR)
    assert told(watch.servers(hosts)) == ("failed", 3, 4)
    assert told(watch.servers(hosts, Rollout(SERVER, active=hourly))) == ("warning", 1, 4)
    assert told(watch.servers(hosts, Rollout(SERVER, candidate=hourly, percent=1))) == ("warning", 1, 4)
    new, old = (machine(SERVER, None, TUESDAY.date() - timedelta(days=days)) for days in (0, 2))
    assert told(watch.servers([new])) == ("good", 0, 1)
    assert told(watch.servers([old])) == ("failed", 1, 1)


def test_a_collector_that_was_away_waits():
    """After an absence of days the collector waits two contact intervals for servers, two open days for PCs;
    without a start it judges nothing."""
    servers = [machine(SERVER, TUESDAY - timedelta(days=5))] * 3
    pcs = [machine(WORKSTATION, TUESDAY.date() - timedelta(days=5))] * 40
    for hours, expected in ((0.4, SilenceLevel.WAITING), (0.6, SilenceLevel.FAILED)):
        condition = Watch(TUESDAY, since=TUESDAY - timedelta(hours=hours)).servers(servers)
        assert condition is not None
        assert condition.level is expected
    past = Past(date(2026, 9, 1), date(2026, 11, 19))  # it stopped on the Thursday before
    for days, expected in (
        (0, SilenceLevel.WAITING),
        (1, SilenceLevel.WAITING),
        (2, SilenceLevel.WAITING),
        (3, SilenceLevel.FAILED),
    ):
        watch = Watch(TUESDAY + timedelta(days=days), since=TUESDAY, past=past)
        condition = watch.pcs(pcs)
        assert condition is not None
        assert condition.level is expected, days
    for nobody in (Watch(TUESDAY, since=None).servers(servers), Watch(TUESDAY, since=None).pcs(pcs)):
        assert nobody is not None
        assert nobody.level is SilenceLevel.WAITING


def test_a_nightly_restart_is_no_absence():
    """`serve` notes each day: a start today with a note of yesterday continues."""
    watch = Watch(TUESDAY, since=TUESDAY, past=Past(date(2026, 11, 2), TUESDAY.date() - timedelta(days=1)))
    assert told(watch.pcs(fleet(40, 0, TUESDAY))) == ("failed", 40, 40)
    watch.note(fleet(40, 0, TUESDAY))
    assert watch.past.told
    assert Past.from_json(watch.past.to_json()) == watch.past
    assert Past.from_json('{"since": null, "day": null, "shares": {}}').told is None, "of an earlier version"
    assert Past.from_json(None) == Past.from_json("[]") == Past.from_json('{"shares": 1}') == Past()


def nightly(contact: Callable[[datetime], datetime]) -> int | None:
    """Return the day of September from which dead PCs are reported, with a restart each night and no notes
    since the 1st; None if never."""
    watch = Watch(datetime(2026, 9, 15, 9, tzinfo=UTC), past=Past(date(2026, 9, 1), date(2026, 9, 1)))
    for day in range(18, 25):
        watch.since = datetime(2026, 9, day, 2, tzinfo=UTC)
        watch.now = watch.since + timedelta(seconds=5)
        hosts = [machine(SERVER, contact(watch.since))]
        hosts += [machine(WORKSTATION, datetime(2026, 9, 15, 9, tzinfo=UTC))] * 40
        watch.note(hosts)
        assert watch.past.told is not None
        if [one.level for one in watch.past.told] == [SilenceLevel.FAILED]:
            return day
    return None


def test_a_collector_that_anybody_called_the_day_before_was_not_away():
    """A contact of the day before proves that the collector ran. A restart without yesterday's note delayed
    the report from 18 to 23 September."""
    assert nightly(lambda start: start - timedelta(minutes=10)) == 18
    assert nightly(lambda start: start - timedelta(days=1)) == 18
    assert nightly(lambda start: start - timedelta(days=3)) == 23, "three days down"
    assert nightly(lambda start: start + timedelta(seconds=2)) == 23, "a call after the start says nothing"


# --- PCs


@pytest.mark.parametrize(
    ("silent", "heard", "expected"),
    [
        (9, 0, None),
        (10, 0, ("failed", 10, 10)),
        (9, 1, ("good", 0, 10)),
        (15, 0, ("warning", 10, 10)),
        (1_500, 0, ("failed", 1_500, 1_500)),
        (1_499, 1, ("failed", 1_490, 1_500)),
        (700, 804, ("good", 700, 1_500)),
    ],
)
def test_counts_of_pcs_are_floored_and_nothing_is_told_of_few(silent, heard, expected):
    """Nine PCs are not reported; one PC heard among 1,500, or silent among ten, cannot be singled out."""
    assert told(Watch(TUESDAY).pcs(fleet(silent, heard, TUESDAY))) == expected
    assert told(Watch(TUESDAY).pcs(fleet(silent, heard, TUESDAY, CLASSROOM), CLASSROOM)) == expected


def test_what_is_told_is_a_function_of_the_floored_count():
    """The level does not reveal whether 10 or 19 are silent."""
    for machines in (19, 25, 60):
        for multiple in range(0, machines, K):
            levels = {
                told(Watch(TUESDAY).pcs(fleet(silent, machines - silent, TUESDAY)))
                for silent in range(multiple, min(multiple + K, machines + 1))
            }
            assert len(levels) == 1, (machines, multiple)


@pytest.mark.parametrize(
    ("day", "contact", "expected"),
    [
        (date(2026, 11, 23), date(2026, 11, 19), "good"),  # on a Monday, Thursday and Friday count
        (date(2026, 11, 23), date(2026, 11, 18), "failed"),
        (date(2026, 11, 22), date(2026, 11, 19), "good"),  # on a Sunday too
        (date(2026, 11, 12), date(2026, 11, 9), "good"),  # Wednesday the 11th is closed: Monday and Tuesday
        (date(2026, 11, 12), date(2026, 11, 6), "failed"),
        (date(2026, 11, 13), date(2026, 11, 10), "good"),
        (date(2026, 11, 13), date(2026, 11, 9), "failed"),
    ],
)
def test_closed_days_do_not_count(day, contact, expected):
    """No PC is silent for a weekend or a bank holiday."""
    now = datetime(day.year, day.month, day.day, 7, tzinfo=UTC)
    condition = Watch(now).pcs([machine(WORKSTATION, contact)] * 40)
    assert condition is not None
    assert condition.level.value == expected


def test_school_holidays_do_not_count_for_classrooms_where_a_zone_is_declared():
    """On 3 November, after the holidays, classrooms are judged by 15 and 16 October; workstations are not."""
    now = datetime(2026, 11, 3, 7, tzinfo=UTC)
    hosts = [machine(population, date(2026, 10, 16)) for population in (CLASSROOM, WORKSTATION)] * 40
    zone_a, none = (Watch(now, school_zone=zone) for zone in (SchoolZone.A, None))
    assert told(zone_a.pcs(hosts, CLASSROOM)) == ("good", 0, 40)
    assert told(zone_a.pcs(hosts)) == ("failed", 40, 40)
    assert told(none.pcs(hosts, CLASSROOM)) == ("failed", 40, 40), "said in docs/operations.md"


def test_a_new_fleet_is_not_silent():
    """A new fleet is not judged on its first days, and is after two whole open days."""
    enrolled = date(2026, 11, 20)  # a Friday
    hosts = [machine(WORKSTATION, None, enrolled)] * 40
    days = {day: told(Watch(datetime(2026, 11, day, 9, tzinfo=UTC)).pcs(hosts)) for day in range(20, 26)}
    assert days == dict.fromkeys(range(20, 25)) | {25: ("failed", 40, 40)}


def weeks(watch: Watch, shares: Iterable[float], machines: int = 1_000) -> list[str]:
    """Return the level of each working day with these shares of PCs heard, noted as `serve` does."""
    levels = []
    for share in shares:
        watch.now += timedelta(days=3 if watch.now.weekday() == 4 else 1)
        heard = round(machines * share)
        hosts = fleet(machines - heard, heard, watch.now)
        condition = watch.pcs(hosts)
        assert condition is not None
        levels.append(condition.level.value)
        watch.note(hosts)
    return levels


def test_a_fall_against_the_usual_share_is_told_and_does_not_become_usual():
    """Rooms with 30 % of PCs on become usual; a cut of a month stays reported until the PCs are back."""
    watch = Watch(datetime(2026, 8, 31, 9, tzinfo=UTC), since=datetime(2026, 6, 1, tzinfo=UTC))
    assert weeks(watch, [0.3] * 6) == ["warning"] * 4 + ["good"] * 2, (
        "half of all machines until four days are known"
    )
    assert watch.past.usual(WORKSTATION) == pytest.approx(0.3)
    assert weeks(watch, [0.15] * 20) == ["warning"] * 20
    assert weeks(watch, [0.0] * 20) == ["failed"] * 20
    assert weeks(watch, [0.3] * 2) == ["good"] * 2
    assert len(watch.past.shares[WORKSTATION]) == 4
    assert Past.from_json(watch.past.to_json()).usual(WORKSTATION) == pytest.approx(0.3)


def test_leave_and_a_slow_august_are_no_alarm():
    """A fall from 85 % to 40 % over four weeks is good; a sudden fall to a third is a warning."""
    watch = Watch(datetime(2026, 7, 6, 9, tzinfo=UTC), since=datetime(2026, 6, 1, tzinfo=UTC))
    assert weeks(watch, [0.85] * 5 + [0.7] * 5 + [0.55] * 5 + [0.4] * 5) == ["good"] * 20
    assert weeks(watch, [0.13]) == ["warning"]
