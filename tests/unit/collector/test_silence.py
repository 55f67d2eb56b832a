# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Silence is told, by every outlet alike, and nobody cries wolf: 1,500 of 1,500 silent agents were good to `doctor` for 13 days."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

import httpx
import pytest

from tests.backups import directory
from tests.filled import METER, Filled, cell, clock
from tests.pushes import enrol
from tests.waiting import until
from veilleuse.collector.admin.server import AdminServer
from veilleuse.collector.admin_client import ask
from veilleuse.collector.app.upkeep import note_presence, upkeep
from veilleuse.collector.assembly import Collector, open_collector
from veilleuse.collector.cli.doctor import look
from veilleuse.collector.cli.doctor.findings import Finding
from veilleuse.collector.cli.top import screen
from veilleuse.collector.health import Health
from veilleuse.collector.model import AgentId, Host, HostId, HostStatus, MachineFacts, Site
from veilleuse.collector.rolling.almanac import Almanac
from veilleuse.collector.rollout import Rollout
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.silence import (
    PRESENCE,
    Condition,
    Judge,
    Level,
    Past,
    counted,
    heard_before,
    open_days,
)
from veilleuse.collector.store.sqlite import SqliteReader
from veilleuse.collector.timetable import BEFORE_ALL, CalendarVersion, Declaration, SchoolPeriod, SchoolZone
from veilleuse.collector.web.app import make_app
from veilleuse.collector.web.auth import Door
from veilleuse.collector.web.look import Outlook
from veilleuse.collector.web.pages import first_page
from veilleuse.collector.web.words import words
from veilleuse.wire.bands import DEFAULT_CALENDAR
from veilleuse.wire.configuration import Configuration
from veilleuse.wire.vocabulary import Population, State

HOUR = 3_600_000
DAY = 24 * HOUR
K = 10
ARMISTICE = date(2026, 11, 11)  # a Wednesday
TUESDAY = datetime(2026, 11, 24, 9, tzinfo=UTC)
SERVER, WORKSTATION, CLASSROOM = Population.SERVER, Population.WORKSTATION, Population.CLASSROOM


def at(moment: datetime | date) -> int:
    """Unix milliseconds; midnight UTC of a date."""
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def machine(
    population: Population, contact: datetime | date | None, enrolled: date = date(2026, 1, 5)
) -> Host:
    """An active machine of Lyon, last heard of then."""
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
    """A collector that has run since `since`, and the fleet that it saw; Lyon closes on Armistice Day."""

    now: datetime
    since: datetime | None = datetime(2026, 9, 1, tzinfo=UTC)
    past: Past = field(default_factory=Past)
    school_zone: SchoolZone | None = None

    @property
    def judge(self) -> Judge:
        return Judge(at(self.now), None if self.since is None else at(self.since), self.past, K)

    def windows(self):
        """The open days before now."""
        calendar = DEFAULT_CALENDAR._replace(closures=(ARMISTICE,))
        declared = Declaration(calendar.open_spans, school_zone=self.school_zone)
        version = CalendarVersion(BEFORE_ALL, calendar, declared)
        holidays = SchoolPeriod(SchoolZone.A, date(2026, 10, 17), date(2026, 11, 2), "Toussaint")
        site = Site("Lyon", "FR", calendar.time_zone, calendar.to_json())
        return open_days([site], Almanac(lambda _: (version,), lambda: (holidays,)), self.now.date())

    def pcs(self, hosts: Iterable[Host], population: Population = WORKSTATION) -> Condition | None:
        """What is told of them."""
        return self.judge.pc_condition(population, counted(hosts, self.windows()).get(population))

    def servers(self, hosts: Iterable[Host], rollout: Rollout | None = None) -> Condition | None:
        """What is told of them."""
        return self.judge.server_condition(hosts, rollout or Rollout(SERVER))

    def note(self, hosts: Iterable[Host]) -> None:
        """What `serve` does once a day."""
        hosts = tuple(hosts)
        heard = None if self.since is None else heard_before(hosts, at(self.since))
        self.past = self.judge.noted(counted(hosts, self.windows()), self.now.date(), heard)


def fleet(silent: int, heard: int, now: datetime, population: Population = WORKSTATION) -> list[Host]:
    """So many PCs, the silent ones since 13 days ago, the others heard of on the day before."""
    away, near = now.date() - timedelta(days=13), now.date() - timedelta(days=1)
    return [machine(population, away)] * silent + [machine(population, near)] * heard


def told(condition: Condition | None) -> tuple[str, int, int] | None:
    """(level, silent, machines)."""
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
    """Before, one of a hundred was nowhere to be read."""
    hosts = [machine(SERVER, TUESDAY - timedelta(days=13))] * silent
    hosts += [machine(SERVER, TUESDAY - timedelta(minutes=20))] * heard
    assert told(Watch(TUESDAY).servers(hosts)) == expected


def test_a_server_is_silent_after_two_of_its_contact_intervals():
    """30 minutes by itself, 2 h where one hour is set, also while it is a candidate; one that never called, from the next day on."""
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
    """Started after days: two contact intervals for servers, two whole open days for PCs; without a collector nothing is judged."""
    servers = [machine(SERVER, TUESDAY - timedelta(days=5))] * 3
    pcs = [machine(WORKSTATION, TUESDAY.date() - timedelta(days=5))] * 40
    for hours, expected in ((0.4, Level.WAITING), (0.6, Level.FAILED)):
        condition = Watch(TUESDAY, since=TUESDAY - timedelta(hours=hours)).servers(servers)
        assert condition is not None
        assert condition.level is expected
    past = Past(date(2026, 9, 1), date(2026, 11, 19))  # it stopped on the Thursday before
    for days, expected in ((0, Level.WAITING), (1, Level.WAITING), (2, Level.WAITING), (3, Level.FAILED)):
        watch = Watch(TUESDAY + timedelta(days=days), since=TUESDAY, past=past)
        condition = watch.pcs(pcs)
        assert condition is not None
        assert condition.level is expected, days
    for nobody in (Watch(TUESDAY, since=None).servers(servers), Watch(TUESDAY, since=None).pcs(pcs)):
        assert nobody is not None
        assert nobody.level is Level.WAITING


def test_a_nightly_restart_is_no_absence():
    """`serve` notes each day it runs on: a start of today with yesterday noted goes on."""
    watch = Watch(TUESDAY, since=TUESDAY, past=Past(date(2026, 11, 2), TUESDAY.date() - timedelta(days=1)))
    assert told(watch.pcs(fleet(40, 0, TUESDAY))) == ("failed", 40, 40)
    watch.note(fleet(40, 0, TUESDAY))
    assert watch.past.told
    assert Past.from_json(watch.past.to_json()) == watch.past
    assert Past.from_json('{"since": null, "day": null, "shares": {}}').told is None, "of an earlier version"
    assert Past.from_json(None) == Past.from_json("[]") == Past.from_json('{"shares": 1}') == Past()


def nightly(contact: Callable[[datetime], datetime]) -> int | None:
    """Day of September from which dead PCs are told, where nothing could be noted since the 1st; restarted each night at two."""
    watch = Watch(datetime(2026, 9, 15, 9, tzinfo=UTC), past=Past(date(2026, 9, 1), date(2026, 9, 1)))
    for day in range(18, 25):
        watch.since = datetime(2026, 9, day, 2, tzinfo=UTC)
        watch.now = watch.since + timedelta(seconds=5)
        hosts = [machine(SERVER, contact(watch.since))]
        hosts += [machine(WORKSTATION, datetime(2026, 9, 15, 9, tzinfo=UTC))] * 40
        watch.note(hosts)
        assert watch.past.told is not None
        if [one.level for one in watch.past.told] == [Level.FAILED]:
            return day
    return None


def test_a_collector_that_anybody_called_the_day_before_was_not_away():
    """A restart of seconds was an absence wherever yesterday's note was missing: told on 23 September in place of 18."""
    assert nightly(lambda start: start - timedelta(minutes=10)) == 18
    assert nightly(lambda start: start - timedelta(days=1)) == 18
    assert nightly(lambda start: start - timedelta(days=3)) == 23, "three days down"
    assert nightly(lambda start: start + timedelta(seconds=2)) == 23, "a call after the start says nothing"


def test_a_collector_that_was_suspended_was_away(tmp_path):
    """SIGSTOP, or a paused machine: for five days nobody could call, and everything failed within seconds of its end."""
    settings, now = directory(tmp_path), [time.time() - 5 * 86_400]
    with running(settings, at(datetime.now(UTC)) - 40 * DAY, Health(lambda: now[0])) as collector:
        agents(collector, 5, {WORKSTATION: 30, SERVER: 2})
        now[0] += 60
        assert (
            ask(settings.data_dir, "health")["listening_unix_milliseconds"] < at(datetime.now(UTC)) - 39 * DAY
        )
        now[0] = time.time()
        look_of_day(collector)
        found = said(settings)
    assert [finding.outcome for finding in found.doctor] == ["warning"] * 2
    assert all("suspended until lately" in finding.remedy for finding in found.doctor)
    assert (found.top, found.metrics) == ([], [])
    assert "silen" not in found.page["fr"].split('class="tiles"')[0]


def test_what_is_told_of_pcs_is_the_same_all_day_everywhere(tmp_path):
    """`doctor` and a new `top` counted anew: on the day the PCs were back they said good, the page and /metrics failed."""
    settings = directory(tmp_path)
    with running(settings, at(datetime.now(UTC)) - 40 * DAY) as collector:
        agents(collector, 13, {WORKSTATION: 30})
        look_of_day(collector)
        before = said(settings)
        for host in collector.store.registry.hosts():
            collector.office.commit(lambda host=host: hello(collector, host.host_id, at(datetime.now(UTC))))
        look_of_day(collector)
        assert said(settings) == before
    assert [finding.outcome for finding in before.doctor] == ["failed"]
    assert len(before.top) == 1
    assert 'veilleuse_silence_level{population="workstation"} 2' in before.metrics


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
    """Nine PCs say nothing; one that is heard of among 1,500, or silent among ten, cannot be told apart."""
    assert told(Watch(TUESDAY).pcs(fleet(silent, heard, TUESDAY))) == expected
    assert told(Watch(TUESDAY).pcs(fleet(silent, heard, TUESDAY, CLASSROOM), CLASSROOM)) == expected


def test_what_is_told_is_a_function_of_the_floored_count():
    """The level does not tell either whether 10 or 19 are silent."""
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
    """A Monday morning, a bank holiday: nobody is silent for days on which nobody comes."""
    now = datetime(day.year, day.month, day.day, 7, tzinfo=UTC)
    condition = Watch(now).pcs([machine(WORKSTATION, contact)] * 40)
    assert condition is not None
    assert condition.level.value == expected


def test_school_holidays_do_not_count_for_classrooms_where_a_zone_is_declared():
    """Back on Tuesday 3 November; the last two school days before are 15 and 16 October. Workstations go on."""
    now = datetime(2026, 11, 3, 7, tzinfo=UTC)
    hosts = [machine(population, date(2026, 10, 16)) for population in (CLASSROOM, WORKSTATION)] * 40
    zone_a, none = (Watch(now, school_zone=zone) for zone in (SchoolZone.A, None))
    assert told(zone_a.pcs(hosts, CLASSROOM)) == ("good", 0, 40)
    assert told(zone_a.pcs(hosts)) == ("failed", 40, 40)
    assert told(none.pcs(hosts, CLASSROOM)) == ("failed", 40, 40), "said in docs/operations.md"


def test_a_new_fleet_is_not_silent():
    """On its first day there is nothing to judge by; two open days later it is judged."""
    enrolled = date(2026, 11, 20)  # a Friday
    hosts = [machine(WORKSTATION, None, enrolled)] * 40
    days = {day: told(Watch(datetime(2026, 11, day, 9, tzinfo=UTC)).pcs(hosts)) for day in range(20, 26)}
    assert days == dict.fromkeys(range(20, 25)) | {25: ("failed", 40, 40)}


def weeks(watch: Watch, shares: Iterable[float], machines: int = 1_000) -> list[str]:
    """Level of each working day with such a share of the PCs heard of, noted as `serve` does."""
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
    """Rooms of which 30 % are on come to be known as such; a network that is cut for a month stays told; all back is good."""
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
    """From 85 % to 40 % over four weeks; a cut of two thirds in the middle of it is one."""
    watch = Watch(datetime(2026, 7, 6, 9, tzinfo=UTC), since=datetime(2026, 6, 1, tzinfo=UTC))
    assert weeks(watch, [0.85] * 5 + [0.7] * 5 + [0.55] * 5 + [0.4] * 5) == ["good"] * 20
    assert weeks(watch, [0.13]) == ["warning"]


# --- the outlets


@contextmanager
def running(
    settings: CollectorSettings, started_unix_milliseconds: int, health: Health | None = None
) -> Iterator[Collector]:
    """A collector that answers on its socket as one that started then."""
    with open_collector(settings) as opened:
        operations = replace(
            opened.operations,
            started_unix_milliseconds=started_unix_milliseconds,
            health=health or opened.health,
        )
        with closing(AdminServer(settings.data_dir, operations)):
            yield replace(opened, operations=operations)


def agents(collector: Collector, silent_days: float, numbers: dict[Population, int]) -> None:
    """So many more machines, last heard of so many days ago."""
    contact = at(datetime.now(UTC)) - round(silent_days * DAY)

    def job() -> None:
        registry = collector.store.registry
        for population, number in numbers.items():
            for _ in range(number):
                host = enrol(registry, population, "Lyon", enrolled_on=date(2020, 1, 1))
                hello(collector, host, contact)

    collector.office.commit(job)


def hello(collector: Collector, host: HostId, contact: int) -> None:
    """A contact; a job of the writer."""
    collector.store.registry.record_hello(
        host, facts_wire=None, health_wire=None, now_unix_milliseconds=contact
    )


def look_of_day(collector: Collector) -> None:
    """As `serve` begins to run, having run on the days before; a second one on the same day finds what the first noted."""
    today = datetime.now(UTC).date()
    started = datetime.fromtimestamp(collector.operations.listening_unix_milliseconds() / 1000, UTC).date()

    def read() -> Past:
        with closing(SqliteReader(collector.settings.data_dir)) as reader:
            return Past.from_json(reader.data_kind().extra.get(PRESENCE))

    if read().told is None and started < today:
        ran = Past(started, today - timedelta(days=1)).to_json()
        collector.office.commit(lambda: collector.office.registry.put_meta(PRESENCE, ran))
    assert note_presence(collector, today)
    assert read().told is not None


@dataclass
class Said:
    """What each outlet says of silence."""

    doctor: list[Finding]
    page: dict[str, str]
    top: list[str]
    metrics: list[str]


def said(settings: CollectorSettings) -> Said:
    """By all outlets, now."""
    with closing(SqliteReader(settings.data_dir)) as reader:
        outlook = Outlook(reader, settings)
        app = make_app(outlook, settings, Door("127.0.0.1", 8640, None), "0.1.0")

        async def get(url: str) -> str:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8640") as client:
                return (await client.get(url)).text

        return Said(
            [finding for finding in look(settings) if finding.check == "silence"],
            {
                language: asyncio.run(get(f"/?lang={language}")).replace("\N{NO-BREAK SPACE}", " ")
                for language in ("fr", "en")
            },
            [line for line in screen(outlook.look(), settings, words("en")).warnings if "silent" in line],
            re.findall(
                r"^veilleuse_(?:agents_silent|silence_level)\{.*", asyncio.run(get("/metrics")), re.MULTILINE
            ),
        )


def test_1500_of_1500_silent_for_13_days_are_told_by_every_outlet(tmp_path):
    """The outside attack read 'good' in `doctor`, nothing on the page, and 0 alerts for 1,440 PCs."""
    settings = directory(tmp_path)
    with running(settings, at(datetime.now(UTC)) - 40 * DAY) as collector:
        agents(collector, 13, {WORKSTATION: 1_300, CLASSROOM: 140, SERVER: 60})
        look_of_day(collector)
        found = said(settings)
    assert [finding.outcome for finding in found.doctor] == ["failed"] * 3
    assert [re.findall(r"[\d,]+ (?:\w+ )?\w+ of", finding.text)[0] for finding in found.doctor] == [
        "60 servers of",
        "1,300 workstations of",
        "140 classroom PCs of",
    ]
    for finding in found.doctor:
        assert all(word in finding.remedy for word in ("network", "DNS", "certificates", "door"))
    assert re.search(r": [0-9a-f]{12}, [0-9a-f]{12}, [0-9a-f]{12} and 57 more$", found.doctor[0].text)
    french = re.sub("[\u202f\u00a0]", " ", found.page["fr"])
    for sentence in (
        "60 serveurs sur 60 sont",
        "Au moins 1 300 postes de travail",
        "Au moins 140 PC de classe",
    ):
        assert french.index(sentence) < french.index('class="tiles"'), sentence
    assert "At least 1,300 workstations" in found.page["en"]
    assert not re.search("[0-9a-f]{12}", french.split("<main")[-1].split('class="tiles"')[0]), (
        "no name on the page"
    )
    assert len(found.top) == 3
    assert " and 57 more." in found.top[0]
    assert found.metrics == [
        'veilleuse_agents_silent{population="server"} 60',
        'veilleuse_agents_silent{population="workstation"} 1300',
        'veilleuse_agents_silent{population="classroom"} 140',
        'veilleuse_silence_level{population="server"} 2',
        'veilleuse_silence_level{population="workstation"} 2',
        'veilleuse_silence_level{population="classroom"} 2',
    ]


def test_all_heard_of_is_good_and_few_pcs_are_not_judged(tmp_path):
    """No line of alarm anywhere; nine classroom PCs are in no count."""
    settings = directory(tmp_path)
    with running(settings, at(datetime.now(UTC)) - 40 * DAY) as collector:
        agents(collector, 0, {WORKSTATION: 30, SERVER: 2})
        agents(collector, 13, {CLASSROOM: 9})
        look_of_day(collector)
        found = said(settings)
    assert {finding.outcome for finding in found.doctor} == {"good"}
    assert any("classroom: not judged" in finding.text for finding in found.doctor)
    assert "silen" not in found.page["fr"].split('class="tiles"')[0]
    assert found.top == []
    assert [line for line in found.metrics if line.endswith(" 0")] == found.metrics
    assert not [line for line in found.metrics if "classroom" in line]


def test_a_collector_that_came_back_says_that_it_waits_and_without_one_doctor_says_why(tmp_path):
    """Its first hours after 13 days: a warning of `doctor` alone; what it notes of the day is kept."""
    settings = directory(tmp_path)
    with running(settings, at(datetime.now(UTC))) as collector:
        agents(collector, 13, {WORKSTATION: 30, SERVER: 2})
        with upkeep(collector), closing(SqliteReader(settings.data_dir)) as reader:
            until(lambda: PRESENCE in reader.data_kind().extra)
        found = said(settings)
    assert [finding.outcome for finding in found.doctor] == ["warning"] * 2
    assert all(
        "not judged" in finding.text and "was away or suspended" in finding.remedy for finding in found.doctor
    )
    assert "silen" not in found.page["fr"].split('class="tiles"')[0]
    assert (found.top, found.metrics) == ([], [])
    with closing(SqliteReader(settings.data_dir)) as reader:
        today = datetime.now(UTC).date()
        kept = Past.from_json(reader.data_kind().extra[PRESENCE])
        assert (kept.since, kept.day, dict(kept.shares)) == (today, today, {})
    findings = [finding for finding in look(settings) if finding.check == "silence"]
    assert [finding.outcome for finding in findings] == ["warning"] * 2
    assert all("start 'veilleuse serve'" in finding.remedy for finding in findings)


# --- watts


def test_watts_older_than_a_contact_and_a_record_are_not_now(tmp_path):
    """They were `now` for 45 minutes; a server that sent its last 5 minutes 22 minutes ago is counted as missing."""
    now = [TUESDAY.timestamp()]
    with Filled(tmp_path / "data", clock=lambda: now[0]) as data:
        for minutes in (20, 22):
            start = at(TUESDAY - timedelta(minutes=minutes + 5))
            record = (clock(start, 300_000), [cell(State.ON_ACTIVE, 300_000, energy_millijoules=30_000_000)])
            data.push(data.add_host(), [record], METER)
        data.add_host()
        data.derive()
        with closing(data.reader()) as reader:
            outlook = Outlook(reader, CollectorSettings(data_dir=data.directory), lambda: now[0])
            seen = outlook.look()
            assert [power.watts for power in seen.fleet.power] == [100.0]
            for language, note in (
                ("en", "2 servers of 3 are not"),
                ("fr", "2 serveurs sur 3 ne sont pas dans ce chiffre"),
            ):
                (tile,) = (tile for tile in first_page(seen, words(language)).tiles if "100" in tile.value)
                assert any(note in text for text in tile.notes)
            shown = dict(screen(seen, CollectorSettings(), words("en")).headline)
            assert "2 of 3 not in the power" in shown["servers"]
