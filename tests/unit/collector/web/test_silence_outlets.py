# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests that `doctor`, the page, `top` and /metrics report silence alike."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial

import httpx
from starlette.types import ASGIApp

from tests.support import clock as real_clock
from tests.support.backups import directory
from tests.support.filled import METER, Filled, cell, clock
from tests.support.pages import body
from tests.support.pushes import enrol
from tests.support.waiting import until
from veilleuse.collector.admin.operations import AdminServer, Operations
from veilleuse.collector.app.data_directory import Collector, open_collector
from veilleuse.collector.app.schedule import note_presence, run_daily_tasks
from veilleuse.collector.cli.doctor import run_checks
from veilleuse.collector.cli.doctor.findings import Finding
from veilleuse.collector.cli.fleet_screen import MAXIMUM_ROWS, Choice, take_screen
from veilleuse.collector.documents.text import words
from veilleuse.collector.ingest.counters import Health
from veilleuse.collector.ipc import START, ask
from veilleuse.collector.model.records import HostId
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.silence import (
    PRESENCE,
    Past,
)
from veilleuse.collector.store import open_reader
from veilleuse.collector.store.sqlite.diagnostics import note_size
from veilleuse.collector.store.sqlite.reader import SqliteReader
from veilleuse.collector.web.__main__ import build_api
from veilleuse.collector.web.access import MetricsAuth
from veilleuse.collector.web.app import make_app
from veilleuse.collector.web.metrics.snapshot import SnapshotCache
from veilleuse.wire.vocabulary import Population, State

DAY = 86_400_000
TUESDAY = datetime(2026, 11, 24, 9, tzinfo=UTC)
SERVER, WORKSTATION, CLASSROOM = Population.SERVER, Population.WORKSTATION, Population.CLASSROOM


def at(moment: datetime) -> int:
    """Return Unix milliseconds."""
    return round(moment.timestamp() * 1000)


@contextmanager
def running(
    settings: CollectorSettings, started_unix_milliseconds: int, health: Health | None = None
) -> Iterator[Collector]:
    """Run a collector that answers on its socket as one that started at that time."""
    with open_collector(settings) as opened:
        context = opened.operations.context
        process = replace(
            context.process,
            started_unix_milliseconds=started_unix_milliseconds,
            health=health or opened.health,
        )
        operations = Operations(replace(context, process=process))
        with closing(AdminServer(settings.data_dir, operations)):
            yield replace(opened, operations=operations)


def agents(collector: Collector, silent_days: float, numbers: dict[Population, int]) -> None:
    """Add so many machines, last heard of `silent_days` ago."""
    contact = at(real_clock.now()) - round(silent_days * DAY)

    def job() -> None:
        registry = collector.store.registry
        for population, number in numbers.items():
            for _ in range(number):
                host = enrol(registry, population, "Lyon", enrolled_on=date(2020, 1, 1))
                hello(collector, host, contact)

    collector.issuing.commit(job)


def hello(collector: Collector, host: HostId, contact: int) -> None:
    """Record a contact, in a job of the writer."""
    collector.store.registry.record_hello(
        host, facts_wire=None, health_wire=None, now_unix_milliseconds=contact
    )


def look_of_day(collector: Collector) -> None:
    """Note the day as `serve` does at its start, having run before; a second look finds the first note."""
    today = real_clock.today()
    listening = collector.operations.context.process.listening_since()
    started = datetime.fromtimestamp(listening / 1000, UTC).date()

    def read() -> Past:
        with closing(SqliteReader(collector.settings.data_dir)) as reader:
            return Past.from_json(reader.data_kind().extra.get(PRESENCE))

    if read().told is None and started < today:
        ran = Past(started, today - timedelta(days=1)).to_json()
        collector.issuing.commit(lambda: collector.issuing.registry.put_meta(PRESENCE, ran))
    note_presence(collector, today)
    assert read().told is not None


@dataclass
class Said:
    """Reports of silence by outlet."""

    doctor: list[Finding]
    page: dict[str, str]
    top: list[str]
    metrics: list[str]


@contextmanager
def web_app(
    settings: CollectorSettings, outlook: SnapshotCache, clock: Callable[[], float] = real_clock.unix_seconds
) -> Iterator[ASGIApp]:
    """Build the application of the web process, on loopback."""
    auth, open_store = MetricsAuth("127.0.0.1", 8640, None), partial(open_reader, settings.data_dir)
    with open_store() as store:
        api, access_control = build_api(settings, auth, "0.1.0", store, open_store)
        yield make_app(outlook, settings, auth, "0.1.0", api, access_control, open_store, clock)


def main_of(page: str) -> str:
    """Return the main part of a page, with ordinary spaces."""
    return re.sub("[\u202f\u00a0]", " ", page.partition("<main")[2].partition("</main>")[0])


def said(settings: CollectorSettings) -> Said:
    """Return the present reports of all outlets."""
    with closing(SqliteReader(settings.data_dir)) as reader, ExitStack() as cleanup:
        outlook = SnapshotCache(reader, settings)
        app = cleanup.enter_context(web_app(settings, outlook))

        async def get(url: str) -> str:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8640") as client:
                return (await client.get(url)).text

        return Said(
            [finding for finding in run_checks(settings) if finding.check == "silence"],
            {language: main_of(asyncio.run(get(f"/?lang={language}"))) for language in ("fr", "en")},
            [
                line
                for line in take_screen(outlook, settings, words("en"), Choice(), MAXIMUM_ROWS).warnings
                if "silent" in line
            ],
            re.findall(
                r"^veilleuse_(?:agents_silent|silence_level)\{.*", asyncio.run(get("/metrics")), re.MULTILINE
            ),
        )


def test_1500_of_1500_silent_for_13_days_are_told_by_every_outlet(tmp_path):
    """An attack once read 'good' in `doctor`, nothing on the page, and 0 alerts for 1,440 PCs."""
    settings = directory(tmp_path)
    with running(settings, at(real_clock.now()) - 40 * DAY) as collector:
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
        assert all(word in finding.remedy for word in ("network", "DNS", "certificates", "ports"))
    assert re.search(r": [0-9a-f]{12}, [0-9a-f]{12}, [0-9a-f]{12} and 57 more$", found.doctor[0].text)
    french = found.page["fr"]
    for sentence in (
        "60 serveurs sur 60 sont",
        "Au moins 1 300 postes de travail",
        "Au moins 140 PC de classe",
    ):
        assert french.index("Ce qui ne va pas") < french.index(sentence), sentence
    assert "At least 1,300 workstations" in found.page["en"]
    assert not re.search("[0-9a-f]{12}", french), "no name on the page"
    assert len(found.top) == 3
    assert " and 57 more." in found.top[0]
    assert found.metrics == [
        'veilleuse_agents_silent{population="server"} 60.0',
        'veilleuse_agents_silent{population="workstation"} 1300.0',
        'veilleuse_agents_silent{population="classroom"} 140.0',
        'veilleuse_silence_level{population="server"} 2.0',
        'veilleuse_silence_level{population="workstation"} 2.0',
        'veilleuse_silence_level{population="classroom"} 2.0',
    ]


def test_all_heard_of_is_good_and_few_pcs_are_not_judged(tmp_path):
    """No outlet has an alarm, and nine classroom PCs are in no count."""
    settings = directory(tmp_path)
    with running(settings, at(real_clock.now()) - 40 * DAY) as collector:
        agents(collector, 0, {WORKSTATION: 30, SERVER: 2})
        agents(collector, 13, {CLASSROOM: 9})
        look_of_day(collector)
        found = said(settings)
    assert {finding.outcome for finding in found.doctor} == {"good"}
    assert any("classroom: not judged" in finding.text for finding in found.doctor)
    assert "silen" not in found.page["fr"]
    assert found.top == []
    assert [line for line in found.metrics if line.endswith(" 0.0")] == found.metrics
    assert not [line for line in found.metrics if "classroom" in line]


def test_a_collector_that_came_back_says_that_it_waits_and_without_one_doctor_says_why(tmp_path):
    """In the first hours after 13 days only `doctor` warns, and the noted day is kept."""
    settings = directory(tmp_path)
    with running(settings, at(real_clock.now())) as collector:
        agents(collector, 13, {WORKSTATION: 30, SERVER: 2})
        with run_daily_tasks(collector), closing(SqliteReader(settings.data_dir)) as reader:
            until(lambda: PRESENCE in reader.data_kind().extra)
        found = said(settings)
    assert [finding.outcome for finding in found.doctor] == ["warning"] * 2
    assert all(
        "not judged" in finding.text and "was stopped or suspended" in finding.remedy
        for finding in found.doctor
    )
    assert "silencieu" not in found.page["fr"]
    assert "n’est pas encore jugé" in found.page["fr"]
    assert (found.top, found.metrics) == ([], [])
    with closing(SqliteReader(settings.data_dir)) as reader:
        today = real_clock.today()
        kept = Past.from_json(reader.data_kind().extra[PRESENCE])
        assert (kept.since, kept.day, dict(kept.shares)) == (today, today, {})
    findings = [finding for finding in run_checks(settings) if finding.check == "silence"]
    assert [finding.outcome for finding in findings] == ["warning"] * 2
    assert all(START in finding.remedy for finding in findings)


def test_a_collector_that_was_suspended_was_away(tmp_path):
    """After SIGSTOP or a pause of five days the collector waits; all checks once failed within seconds."""
    settings, now = directory(tmp_path), [real_clock.unix_seconds() - 5 * 86_400]
    with running(settings, at(real_clock.now()) - 40 * DAY, Health(lambda: now[0])) as collector:
        agents(collector, 5, {WORKSTATION: 30, SERVER: 2})
        now[0] += 60
        assert (
            ask(settings.data_dir, "health")["listening_unix_milliseconds"] < at(real_clock.now()) - 39 * DAY
        )
        now[0] = real_clock.unix_seconds()
        look_of_day(collector)
        found = said(settings)
    assert [finding.outcome for finding in found.doctor] == ["warning"] * 2
    assert all("suspended until recently" in finding.remedy for finding in found.doctor)
    assert (found.top, found.metrics) == ([], [])
    assert "silencieu" not in found.page["fr"]
    assert "n’est pas encore jugé" in found.page["fr"]


def test_what_is_told_of_pcs_is_the_same_all_day_everywhere(tmp_path):
    """All outlets say the same all day: when the PCs returned, `doctor` and a new `top` once said good, the
    page and /metrics failed."""
    settings = directory(tmp_path)
    with running(settings, at(real_clock.now()) - 40 * DAY) as collector:
        agents(collector, 13, {WORKSTATION: 30})
        look_of_day(collector)
        before = said(settings)
        now = at(real_clock.now())
        for host in collector.store.registry.hosts():
            collector.issuing.commit(partial(hello, collector, host.host_id, now))
        look_of_day(collector)
        assert said(settings) == before
    assert [finding.outcome for finding in before.doctor] == ["failed"]
    assert len(before.top) == 1
    assert 'veilleuse_silence_level{population="workstation"} 2.0' in before.metrics


def test_the_first_start_of_this_version_is_no_absence(tmp_path):
    """Sizes noted on earlier days prove that the collector ran: dead PCs were reported 3 working days
    late."""
    settings, today = directory(tmp_path), real_clock.today()
    levels = []
    with running(settings, at(real_clock.now())) as collector:
        agents(collector, 13, {WORKSTATION: 30})
        for days in ((), range(1, 12)):
            collector.issuing.commit(lambda: collector.issuing.registry.put_meta(PRESENCE, "{}"))
            for back in days:
                collector.issuing.commit(
                    partial(note_size, collector.store.data, today - timedelta(days=back))
                )
            note_presence(collector, today)
            levels += [finding.outcome for finding in said(settings).doctor]
    assert levels == ["warning", "failed"]


# --- watts


def test_watts_older_than_a_contact_and_a_record_are_not_now(tmp_path):
    """A server whose last record ended 22 minutes ago is missing; power once counted for 45 minutes."""
    now = [TUESDAY.timestamp()]
    with Filled(tmp_path / "data", clock=lambda: now[0]) as data:
        for minutes in (20, 22):
            start = at(TUESDAY - timedelta(minutes=minutes + 5))
            record = (clock(start, 300_000), [cell(State.ON_ACTIVE, 300_000, energy_millijoules=30_000_000)])
            data.push(data.add_host(), [record], METER)
        data.add_host()
        data.derive()
        with closing(data.reader()) as reader:
            outlook = SnapshotCache(reader, CollectorSettings(data_dir=data.directory), lambda: now[0])
            seen = outlook.take_snapshot()
            assert [(power.servers, power.watts) for power in seen.fleet.power.values()] == [(1, 100.0)]
            for language, note in (
                ("en", "3 servers · .* · 2 without a recent record"),
                ("fr", "3 serveurs · .* · 2 sans relevé récent"),
            ):
                with web_app(CollectorSettings(data_dir=data.directory), outlook, lambda: now[0]) as app:
                    page = main_of(body(app, f"/?lang={language}"))
                assert re.search(rf"100 W</dd><dd>[^<]*{note}", page)
            shown = dict(
                take_screen(outlook, CollectorSettings(), words("en"), Choice(), MAXIMUM_ROWS).headline
            )
            assert "2 of 3 not in the power" in shown["servers"]
