# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Months and retention in a running collector: in the background, by command, and in `veilleuse doctor`."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.support import clock
from tests.support.filled import Filled
from tests.support.machines import settings_in
from tests.support.rolled import roll, workstation, workstation_days
from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.collector.admin.operations import AdminServer
from veilleuse.collector.app import schedule
from veilleuse.collector.app.data_directory import initialise, open_collector
from veilleuse.collector.app.schedule import run_daily_tasks
from veilleuse.collector.calendars.periods import months_before
from veilleuse.collector.cli.derive import _derive_here, _derive_in_collector
from veilleuse.collector.cli.doctor import check_service
from veilleuse.collector.cli.doctor.storage import check_retention
from veilleuse.collector.cli.progress import no_progress
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store.sqlite.reader import SqliteReader

TODAY = clock.today()


@pytest.fixture
def settings(tmp_path: Path) -> CollectorSettings:
    """Return a data directory with a workstation's derived days of 120 to 30 days ago; no month is kept."""
    found = settings_in(tmp_path)
    initialise(found, site="lyon")
    with Filled(found.data_dir) as filled:
        monday = TODAY - timedelta(days=120 + TODAY.weekday())
        workstation_days(filled, workstation(filled), monday, monday + timedelta(days=91))
        filled.derive()
    return found


@contextmanager
def rows(settings: CollectorSettings) -> Iterator[sqlite3.Connection]:
    """Open the data directory's database for reading."""
    with closing(
        sqlite3.connect(f"{(settings.data_dir / 'data.db').as_uri()}?mode=ro", uri=True)
    ) as connection:
        yield connection


def oldest(settings: CollectorSettings) -> date | None:
    """Return the oldest stored day."""
    with rows(settings) as connection:
        (found,) = connection.execute("SELECT min(start) FROM sums WHERE grain = 2").fetchone()
        return None if found is None else date.fromordinal(found)


def test_a_collector_that_runs_keeps_months_and_removes_days(settings):
    """Months are kept in the background; the daily tasks delete what is too old, and retry until they can."""
    assert (oldest(settings) or TODAY) < TODAY - timedelta(days=62)
    days = [TODAY]
    with open_collector(settings) as collector:
        collector.rolls.start()
        with run_daily_tasks(collector, today=lambda: days[-1], check_seconds=0.05):
            until(lambda: oldest(settings) == TODAY - timedelta(days=62))
            days.append(TODAY + timedelta(days=10))
            until(lambda: oldest(settings) == TODAY - timedelta(days=52))
    with rows(settings) as connection:
        assert connection.execute("SELECT count(*) FROM host_years").fetchone()[0] > 0


def test_a_stopped_collector_starts_no_further_task(settings, monkeypatch):
    """After a stop during the publication of months, files of the closed store were opened again."""
    publishing = threading.Event()
    asked: list[object] = []

    def years_due(*_: object) -> list[object]:
        asked.append(1)
        return []

    monkeypatch.setattr(schedule, "years_due", years_due)

    def publish(_: object, __: date, stop: threading.Event) -> list[str]:
        publishing.set()
        stop.wait(PATIENCE_SECONDS)
        return []

    with open_collector(settings) as collector:
        with run_daily_tasks(collector, publish=publish, today=lambda: TODAY):
            assert publishing.wait(PATIENCE_SECONDS)
        assert "upkeep" not in {thread.name for thread in threading.enumerate()}
    assert asked == []


def test_a_month_that_cannot_be_published_is_a_failure_of_doctor(settings):
    """It was a line of the log only; the reason goes once months are published."""

    def publish(_: object, __: date, ___: threading.Event) -> list[str]:
        raise OSError("no room")

    with open_collector(settings) as collector, closing(AdminServer(settings.data_dir, collector.operations)):
        for tried, expected in ((publish, ["failed"]), (lambda *_: [], [])):
            schedule.publish_due_months(collector, TODAY, threading.Event(), tried)
            found = [one for one in check_service(settings) if one.check == "months"]
            assert [one.outcome for one in found] == expected
            assert all("no room" in one.text for one in found)


def test_derive_keeps_months_here_and_in_the_collector(settings):
    """`veilleuse derive` waits until the months are kept, with a collector and without."""
    with rows(settings) as connection:
        (waiting,) = connection.execute("SELECT count(*) FROM stale_months").fetchone()
    assert waiting >= 3
    with open_collector(settings) as collector, closing(AdminServer(settings.data_dir, collector.operations)):
        collector.derive.start()
        collector.rolls.start()
        _derive_in_collector(settings, everything=False, progress=no_progress)
        before = collector.operations.perform("roll", {})["before"]
        with closing(SqliteReader(settings.data_dir)) as reader:
            assert reader.months_due(date.fromisoformat(before)) == 0
    with rows(settings) as connection:
        months = connection.execute("SELECT count(*) FROM host_months").fetchone()[0]
        assert months > 0
    _derive_here(settings, everything=True, progress=no_progress)
    with rows(settings) as connection:
        assert connection.execute("SELECT count(*) FROM host_months").fetchone()[0] == months


def test_doctor_tells_what_is_too_old_and_what_it_waits_for(settings):
    """Days past their limit are a warning: first their month is not kept, then no collector deleted them.
    After retention the finding is good and names the oldest day."""
    (finding,) = check_retention(settings)
    assert (finding.outcome, "days" in finding.text) == ("warning", True)
    assert "veilleuse derive" in finding.remedy
    _derive_here(settings, everything=False, progress=no_progress)
    (finding,) = check_retention(settings)
    assert (finding.outcome, "veilleuse serve" in finding.remedy) == ("warning", True)
    with open_collector(settings) as collector:
        assert collector.retention.run(TODAY).whole
    (finding,) = check_retention(settings)
    assert finding.outcome == "good"
    assert str(TODAY - timedelta(days=62)) in finding.text


def test_doctor_says_when_there_is_nothing_yet(tmp_path):
    """Without a machine there is no finding; a machine without a day gives a good one."""
    settings = settings_in(tmp_path)
    initialise(settings, site="lyon")
    assert list(check_retention(settings)) == []
    with Filled(settings.data_dir) as filled:
        workstation(filled)
    (finding,) = check_retention(settings)
    assert (finding.outcome, "no day" in finding.text) == ("good", True)


def test_one_month_that_cannot_be_made_stops_no_other(tmp_path):
    """The defective month stays marked and the others are kept; the next roll tries again."""
    with Filled(tmp_path / "data") as filled:
        one, two = workstation(filled), workstation(filled)
        for host_id in (one, two):
            workstation_days(filled, host_id, date(2025, 3, 3), date(2025, 3, 31))
        filled.derive()
        filled.store.data.connection.execute(
            "UPDATE derived SET method = 'sorcery' WHERE host_id = ?", (one,)
        )
        roll(filled, date(2025, 5, 1))
        left = filled.store.data.connection.execute("SELECT DISTINCT host_id FROM stale_months").fetchall()
        assert left == [(one,)]
        filled.store.data.connection.execute(
            "UPDATE derived SET method = 'load_modelled' WHERE host_id = ?", (one,)
        )
        roll(filled, date(2025, 5, 1))
        assert filled.store.data.connection.execute("SELECT count(*) FROM stale_months").fetchone()[0] == 0


def test_months_before_a_day():
    """Months are subtracted across the end of a year, and the day is cut to the shorter month."""
    assert months_before(date(2026, 1, 31), 2) == date(2025, 11, 30)
    assert months_before(date(2026, 5, 1), 18) == date(2024, 11, 1)
