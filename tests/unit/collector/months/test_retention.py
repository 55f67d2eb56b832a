# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of retention (docs/privacy.md §3, docs/guarantees.md P7) on a settable clock: no file holds data
beyond its limit, and no figure changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.support.filled import METER, RAPL, Filled, cell, civil
from tests.support.rolled import (
    HOUR,
    ZONE,
    days_of,
    retention,
    roll,
    server_day,
    workstation,
    workstation_days,
)
from tests.unit.collector.calendars.test_rolling_months import YEAR, months, periods, total
from veilleuse.collector.calendars.periods import day_start_unix_milliseconds, months_before
from veilleuse.collector.errors import ConfigurationError
from veilleuse.collector.model.meters import PsysCheck
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.months.retention import limits
from veilleuse.collector.settings import RetentionSettings as Kept
from veilleuse.collector.settings import read_settings
from veilleuse.collector.store.sqlite.connection import copy_database
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

PER_UNIT = ("sums", "point_sums", "unit_sums", "derived", "derived_screens")


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Filled]:
    """Return an empty store with the site `lyon`."""
    with Filled(tmp_path / "data") as made:
        yield made


def oldest(filled: Filled, host_id: HostId, table: str = "sums", grain: Grain = Grain.DAY) -> int | None:
    """Return the first key of a machine's rows."""
    sql = f"SELECT min(start) FROM {table} WHERE host_id = ? AND grain = ?"
    found: int | None = filled.store.data.connection.execute(sql, (host_id, grain)).fetchone()[0]
    return found


def count(filled: Filled, table: str) -> int:
    """Return the number of rows."""
    return int(filled.store.data.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def expire_daily(filled: Filled, first: date, end: date, kept: Kept | None = None) -> None:
    """Roll up and expire on each day, as a running collector does."""
    work = retention(filled, kept)
    for day in days_of(first, end):
        roll(filled, day)
        assert work.run(day).blocked == 0


def test_days_of_a_pc_go_after_62_days_and_no_figure_changes(filled):
    """Each day, 62 days of days and weeks remain with their records, and figures stay equal."""
    host_id = workstation(filled)
    workstation_days(
        filled, host_id, date(2025, 1, 6), date(2025, 5, 5), without=[date(2025, 2, 5)], night_on=True
    )
    filled.derive()
    roll(filled, date(2025, 5, 6))
    before, by_month = periods(filled, *YEAR), months(filled, *YEAR)
    for today in days_of(date(2025, 5, 6), date(2025, 5, 20)):
        retention(filled).run(today)
        cut = (today - timedelta(days=62)).toordinal()
        for table in ("sums", "derived", "point_sums"):
            assert oldest(filled, host_id, table) == cut
            week = oldest(filled, host_id, table, Grain.WEEK)
            assert week is not None
            assert cut - 7 < week
        assert periods(filled, *YEAR) == before
    assert months(filled, *YEAR) == by_month
    (day,) = filled.store.data.connection.execute(
        "SELECT min(bucket) FROM records WHERE grain = 2"
    ).fetchone()
    assert date.fromordinal(day) == date(2025, 5, 19) - timedelta(days=62)
    with closing(filled.reader()) as reader:
        assert reader.record_count() == count(filled, "records")
    # A month whose days are all removed has one row.
    assert {
        date.fromordinal(row[0]).month
        for row in filled.store.data.connection.execute("SELECT month FROM gone_days")
    } == {3}


def test_days_wait_for_their_month_to_be_kept(filled):
    """A month that is not yet rolled up keeps its days and records, and is counted as blocked."""
    host_id = workstation(filled)
    workstation_days(filled, host_id, date(2025, 1, 6), date(2025, 2, 3))
    filled.derive()
    done = retention(filled).run(date(2025, 6, 1))
    assert (done.blocked, done.steps) == (1, 0)
    assert oldest(filled, host_id) == date(2025, 1, 6).toordinal()
    assert count(filled, "records") == 28 + 4
    roll(filled, date(2025, 6, 1))
    done = retention(filled).run(date(2025, 6, 1))
    assert (done.blocked, done.whole) == (0, True)
    assert [count(filled, table) for table in (*PER_UNIT, "records", "gone_days")] == [0] * 7


@pytest.mark.parametrize("late", [date(2025, 3, 20), date(2025, 6, 1)])
@pytest.mark.parametrize("state", [State.OFF, State.UNKNOWN])
def test_what_comes_after_its_days_have_gone_is_added_once(filled, late, state):
    """A late day of January is added to its month once and replaces imputed time, whether some or all days of
    the month are removed."""
    host_id = workstation(filled)
    workstation_days(
        filled, host_id, date(2025, 1, 6), date(2025, 3, 3), without=[date(2025, 1, 15)], night_on=True
    )
    filled.derive()
    expire_daily(filled, date(2025, 3, 6), date(2025, 3, 10))
    before = total(months(filled, date(2025, 1, 1), date(2025, 2, 1)))
    assert before["imputed_milliseconds"] == 24 * HOUR
    expire_daily(filled, late, late + timedelta(days=1))
    filled.push(
        host_id,
        [
            (
                civil(date(2025, 1, 15)),
                [
                    cell(
                        state, length * HOUR, band, energy_millijoules=length * HOUR
                    )  # a meter: also of unknown state
                    for length, band in ((8, Band.NIGHT), (2, Band.CLOSED))
                ],
            )
        ],
        METER,
    )
    filled.derive()
    now = before
    for _ in range(2):
        now = total(months(filled, date(2025, 1, 1), date(2025, 2, 1)))
        assert now[f"{state}_ac_milliseconds"] - before[f"{state}_ac_milliseconds"] == 10 * HOUR
        assert before["imputed_milliseconds"] - now["imputed_milliseconds"] == 10 * HOUR
        assert 0 < now["imputed_energy_millijoules"] < before["imputed_energy_millijoules"]
        assert now == total(months(filled, date(2025, 1, 1), date(2025, 2, 1)))
        expire_daily(filled, late, late + timedelta(days=2))
    expire_daily(filled, date(2025, 6, 1), date(2025, 6, 2))
    assert count(filled, "records") == count(filled, "sums") == count(filled, "gone_days") == 0
    assert total(months(filled, date(2025, 1, 1), date(2025, 2, 1))) == now
    assert (
        total(periods(filled, *YEAR))[f"{state}_ac_milliseconds"]
        == total(months(filled, *YEAR))[f"{state}_ac_milliseconds"]
    )


def test_months_go_18_months_after_their_end_and_leave_their_year(filled):
    """A PC's January 2025 is removed on 1 August 2026; the year's row is the sum of the months left."""
    host_id = workstation(filled)
    workstation_days(filled, host_id, date(2025, 1, 6), date(2025, 3, 31))
    filled.derive()
    expire_daily(filled, date(2026, 7, 31), date(2026, 8, 1))
    assert {row.period_from.month for row in months(filled, *YEAR)} == {1, 2, 3}
    expire_daily(filled, date(2026, 8, 1), date(2026, 8, 2))
    assert {row.period_from.month for row in months(filled, *YEAR)} == {2, 3}
    assert total(periods(filled, *YEAR)) == total(months(filled, *YEAR))
    expire_daily(filled, date(2026, 10, 1), date(2026, 10, 2))
    assert count(filled, "host_years") == count(filled, "host_months") == 0


def test_months_of_a_year_that_is_closed_definitively_go_at_once(filled):
    """Months of PCs are removed, since the statistics of the closing remain; a server's months stay."""
    host_id, server = workstation(filled), filled.add_host()
    workstation_days(filled, host_id, date(2024, 12, 2), date(2025, 2, 3))
    server_day(filled, server, date(2024, 12, 2))
    filled.derive()
    roll(filled, date(2025, 6, 1))
    retention(filled, closed_years=frozenset({2024})).run(date(2025, 6, 1))
    left = {(row.host_id, row.period_from) for row in months(filled, date(2024, 1, 1), date(2026, 1, 1))}
    assert {month for host, month in left if host == host_id} == {date(2025, 1, 1), date(2025, 2, 1)}
    assert (server, date(2024, 12, 1)) in left


def test_a_servers_hours_go_after_13_months_and_its_days_after_3_years(filled):
    """Records and hours are removed after 13 months; days, months and years after 36 months."""
    server = filled.add_host()
    for day in (date(2025, 1, 15), date(2025, 3, 15)):
        server_day(filled, server, day)
    filled.derive()
    before = None
    for today, hours, days in (
        (date(2026, 2, 15), date(2025, 1, 15), date(2025, 1, 15)),
        (date(2026, 2, 16), date(2025, 3, 15), date(2025, 1, 15)),
        (date(2028, 1, 15), None, date(2025, 1, 15)),
        (date(2028, 1, 16), None, date(2025, 3, 15)),
    ):
        expire_daily(filled, today, today + timedelta(days=1))
        assert oldest(filled, server) == days.toordinal()
        found = oldest(filled, server, grain=Grain.HOUR)
        assert found == (None if hours is None else day_start_unix_milliseconds(hours, ZONE))
        with closing(filled.reader()) as reader:
            assert (
                reader.record_count()
                == count(filled, "records")
                == (0 if hours is None else 24 * (1 + (hours.month == 1)))
            )
        before = before or periods(filled, *YEAR)
        assert periods(filled, *YEAR) == before
    expire_daily(filled, date(2028, 4, 1), date(2028, 4, 2))
    assert [count(filled, table) for table in (*PER_UNIT, "host_months", "host_years", "gone_days")] == [
        0
    ] * 8


def test_evenings_of_classrooms_are_counted_once_while_their_hours_go(filled):
    """The hours of one night are removed in two steps, and the night stays one."""
    host_id = filled.add_host(Population.CLASSROOM, DeviceClass.TOWER)
    for day in days_of(date(2025, 1, 30), date(2025, 2, 4)):
        server_day(filled, host_id, day, hours=[*range(7), *range(20, 24)])
    filled.derive()
    roll(filled, date(2025, 3, 8))
    nights = (
        total(months(filled, date(2025, 1, 1), date(2025, 2, 1)))["nights_on"],
        total(periods(filled, *YEAR))["nights_on"],
    )
    assert nights == (2, 4)  # the morning before the first day has no evening that was observed
    for today in days_of(date(2025, 4, 1), date(2025, 4, 9)):
        retention(filled).run(today)
        assert total(periods(filled, *YEAR))["nights_on"] == nights[1]
        left = oldest(filled, host_id, grain=Grain.HOUR)
        bound = day_start_unix_milliseconds(today - timedelta(days=62), ZONE)
        assert left is None or left >= bound
    assert count(filled, "sums") == 0


def test_the_balance_has_no_hole_where_rows_went(filled):
    """R18 balances the remaining rows; removed days are not reported as unexplained."""
    host_id = workstation(filled)
    workstation_days(filled, host_id, date(2025, 1, 6), date(2025, 5, 5))
    filled.derive()
    with closing(filled.reader()) as reader:
        weeks = list(reader.balance(date(2025, 1, 1), date(2025, 6, 1)))
        expire_daily(filled, date(2025, 5, 8), date(2025, 5, 10))
        after = list(reader.balance(date(2025, 1, 1), date(2025, 6, 1)))
        assert {(host, state): ms for host, state, ms in reader.state_totals()}[host_id, State.OFF] > 0
    assert {row.unexplained_milliseconds for row in weeks} == {0}
    assert after == [row for row in weeks if row.start >= date(2025, 3, 10).toordinal()]


def test_whether_psys_is_trusted_does_not_change_when_its_periods_go(filled):
    """Checks of removed periods are added up under the key (0, 0)."""
    server = filled.add_host()
    for n, day in enumerate((date(2025, 1, 15), date(2025, 1, 16))):
        start = day_start_unix_milliseconds(day, ZONE)
        filled.store.data.connection.execute(
            "INSERT INTO psys_checks VALUES (?, 1, ?, ?, 5, 7, ?, 6)", (server, start, 10 + n, 3 - 8 * n)
        )
    seen = filled.store.metering.psys_seen(server)
    assert seen == PsysCheck(21, 10, 14, -2, 12)
    for today in (date(2026, 2, 16), date(2026, 2, 17), date(2026, 2, 18)):
        retention(filled).run(today)
        assert filled.store.metering.psys_seen(server) == seen
    rows = filled.store.data.connection.execute("SELECT grain, start FROM psys_checks").fetchall()
    assert rows == [(0, 0)]


@pytest.mark.promise("P7")
def test_nothing_of_what_went_is_in_any_file(filled, tmp_path, figure):
    """Marked bytes of a record and of a sum are in neither the file, the WAL nor a new backup."""
    host_id = workstation(filled)
    canary = 0x5EC2E7_CA4A21
    record = cell(State.ON_IDLE, 7 * HOUR, Band.NIGHT, energy_millijoules=canary)
    filled.push(host_id, [(civil(date(2025, 1, 7) + timedelta(days=n)), [record]) for n in range(3)], RAPL)
    workstation_days(filled, host_id, date(2025, 1, 13), date(2025, 2, 17))
    filled.derive()
    wire = bytes(
        filled.store.data.connection.execute(
            "SELECT wire FROM records ORDER BY record_id LIMIT 1"
        ).fetchone()[0]
    )
    (energy,) = filled.store.data.connection.execute(
        "SELECT energy_millijoules FROM point_sums WHERE start = ?", (date(2025, 1, 7).toordinal(),)
    ).fetchone()
    assert energy == canary
    needles = (wire[:40], canary.to_bytes(6, "big"))
    folder = filled.directory
    files = [folder / "data.db", folder / "data.db-wal"]
    assert all(any(needle in path.read_bytes() for path in files) for needle in needles)
    roll(filled, date(2025, 3, 20))
    assert retention(filled).run(date(2025, 3, 20)).whole
    (tmp_path / "backup").mkdir()
    copy_database(filled.store.data, tmp_path / "backup" / "data.db", lambda: None)
    places = (*files, tmp_path / "backup" / "data.db")
    left = [(path, needle) for path in places for needle in needles if needle in path.read_bytes()]
    figure(
        f"{len(left)} traces of {len(needles)} canaries in {len(places)} files: database, write-ahead log, new backup"
    )
    assert left == []


def test_limits_are_of_whole_civil_days_and_months():
    """Limits are 62 days, 13, 18 and 36 months; a missing day of a month becomes its last day."""
    today = date(2026, 3, 31)
    pc = limits(Kept(), Population.WORKSTATION, ZONE, today)
    assert date.fromordinal(pc.days) == date.fromordinal(pc.records) == date(2026, 1, 28)
    assert pc.hours_unix_milliseconds == day_start_unix_milliseconds(date(2026, 1, 28), ZONE)
    assert date.fromordinal(pc.months) == date(2024, 9, 30)
    server = limits(Kept(), Population.SERVER, ZONE, today)
    assert (date.fromordinal(server.days), date.fromordinal(server.records)) == (
        date(2023, 3, 31),
        date(2025, 2, 28),
    )
    assert months_before(date(2024, 3, 31), 1) == date(2024, 2, 29)


def test_settings_cannot_keep_longer_than_is_promised():
    """The limits of docs/privacy.md §3 are a maximum."""
    for name, value in (
        ("pc_daily_days", 63),
        ("pc_monthly_months", 19),
        ("server_records_months", 14),
        ("server_daily_months", 37),
    ):
        with pytest.raises(ConfigurationError):
            read_settings(None, {}, {f"retention.{name}": str(value)})
