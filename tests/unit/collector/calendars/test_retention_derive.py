# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Retention and derive take turns on the writer: a new derivation between two slices changes no figure."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.support.filled import RAPL, Filled, cell, clock
from tests.support.pushes import NOW
from tests.support.rolled import (
    HOUR,
    ZONE,
    days_of,
    retention,
    roll,
    server_day,
    site_calendars,
    workstation,
    workstation_days,
)
from tests.unit.collector.calendars.test_rolling_months import YEAR, periods, total
from veilleuse.collector.calendars.periods import day_start_unix_milliseconds
from veilleuse.collector.model.meters import FOR_EVER, DeclaredMeter, MeterBoundary, MeterShare, SharePart
from veilleuse.collector.model.records import HostId
from veilleuse.collector.months.retention import Retention
from veilleuse.collector.settings import RetentionSettings as Kept
from veilleuse.wire.ladder import Method
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Band, Boundary, DeviceClass, PointKind, Population, State

FIRST, END = date(2025, 1, 6), date(2025, 2, 3)
SERVER_END = date(2025, 1, 13)


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Filled]:
    """Open an empty store with the site `lyon`."""
    with Filled(tmp_path / "data") as made:
        yield made


class _Between:
    """Run each job like the writer, and other work after it."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work

    def submit(self, job: Any, *, alone: bool = False) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(job())
        if not alone:
            self._work()
        return done


def expire_among(filled: Filled, today: date, work: Callable[[], None]) -> None:
    """Delete what is too old on a day, one step a slice, with `work` after each slice."""
    store, clock = filled.store, itertools.count()
    Retention(
        _Between(work),  # type: ignore[arg-type]  # only submit is used
        store.rolls,
        store.registry,
        site_calendars(store),
        Kept(),
        clock=lambda: float(next(clock)),
    ).run(today)


def a_pc(filled: Filled) -> HostId:
    """Add a workstation with days and weeks."""
    host_id = workstation(filled)
    workstation_days(filled, host_id, FIRST, END, night_on=True)
    return host_id


def a_classroom(filled: Filled) -> HostId:
    """Add a classroom PC whose hours are deleted with its days."""
    host_id = filled.add_host(Population.CLASSROOM, DeviceClass.TOWER)
    for day in days_of(FIRST, date(2025, 1, 16)):
        server_day(filled, host_id, day, watts=20)
    return host_id


def a_server(filled: Filled) -> HostId:
    """Add a server whose hours are deleted before its days."""
    host_id = filled.add_host()
    for day in days_of(FIRST, SERVER_END):
        server_day(filled, host_id, day)
    return host_id


def a_fine_server(filled: Filled) -> HostId:
    """Add a server with so many records an hour that a step of retention ends within an hour."""
    host_id = filled.add_host()
    midnight = day_start_unix_milliseconds(FIRST, ZONE)
    for hour in range(24):
        at = midnight + hour * HOUR
        idle = cell(State.ON_IDLE, 10_000, Band.NIGHT, energy_millijoules=10_000 * 50)
        filled.push(host_id, [(clock(at + n * 10_000, 10_000), [idle]) for n in range(180)], RAPL)
    return host_id


CASES = [
    (a_pc, date(2025, 3, 25)),
    (a_pc, date(2025, 6, 1)),
    (a_classroom, date(2025, 3, 14)),
    (a_classroom, date(2025, 6, 1)),
    (a_server, date(2026, 2, 8)),
    (a_server, date(2028, 1, 16)),
    (a_fine_server, date(2026, 2, 14)),
]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize(("machine", "today"), CASES)
def test_deriving_all_again_while_old_rows_go_changes_no_figure(filled, machine, today, waits):
    """`veilleuse derive --all` ends between two slices, or still waits when the next slice begins.
    Each day counts once, and rows are deleted together with their records.
    """
    machine(filled)
    filled.derive()
    roll(filled, date(2025, 3, 6))
    before = total(periods(filled, *YEAR))

    def derive_all() -> None:
        if not waits:
            filled.store.derive.mark_all_dirty()
        filled.derive()
        assert total(periods(filled, *YEAR)) == before
        if waits:
            filled.store.derive.mark_all_dirty()

    if waits:
        filled.store.derive.mark_all_dirty()
    expire_among(filled, today, derive_all)
    filled.derive()
    roll(filled, today)
    retention(filled).run(today)
    assert total(periods(filled, *YEAR)) == before
    ask = filled.store.data.connection.execute
    for table in ("records", "derived"):
        key = "bucket" if table == "records" else "start"
        alone = f"SELECT count(*) FROM {table} t WHERE NOT EXISTS (SELECT 1 FROM sums s WHERE s.host_id = t.host_id"
        assert ask(f"{alone} AND s.grain = t.grain AND s.start = t.{key})").fetchone() == (0,)
    (records,) = ask("SELECT count(*) FROM records").fetchone()
    assert ask("SELECT value FROM totals WHERE name = 'records'").fetchone() == (records,)
    assert (records == 0) is (today in (date(2025, 6, 1), date(2028, 1, 16)) or machine is a_fine_server)


def test_a_day_that_waits_to_be_derived_stays_until_it_is(filled):
    """A new calibration must reach every stored day, also those that are old by then."""
    host_id = a_pc(filled)
    filled.derive()
    roll(filled, date(2025, 3, 6))
    filled.store.derive.mark_all_dirty()
    done = retention(filled).run(date(2025, 6, 1))
    assert (done.blocked, done.steps) == (1, 0)
    assert len(filled.store.derive.dirty(99)) == 28 + 4
    filled.derive()
    assert retention(filled).run(date(2025, 6, 1)).blocked == 0
    rows = filled.store.data.connection.execute("SELECT count(*) FROM sums WHERE host_id = ?", (host_id,))
    assert rows.fetchone() == (0,)


def test_an_hour_that_is_derived_anew_when_its_day_has_gone_changes_its_month(filled):
    """A classroom PC's class changes while its days are deleted, so remaining hours change deleted days.
    The kept month follows once, and no row of such a day stays.
    """
    host_id = a_classroom(filled)
    filled.derive()
    roll(filled, date(2025, 3, 6))
    was, ask = total(periods(filled, *YEAR)), filled.store.data.connection.execute
    totals: list[Counter[str]] = []

    def tell() -> None:
        if not totals and ask("SELECT 1 FROM gone_days LIMIT 1").fetchone():
            facts = pb.Facts(device_class=pb.DEVICE_CLASS_LAPTOP).SerializeToString()
            filled.store.registry.record_hello(
                host_id, facts_wire=facts, health_wire=None, now_unix_milliseconds=NOW
            )
            filled.store.derive.mark_all_dirty()
            filled.derive()
            totals.append(total(periods(filled, *YEAR)))

    expire_among(filled, date(2025, 6, 1), tell)
    for _ in range(2):
        roll(filled, date(2025, 6, 1))
        assert retention(filled).run(date(2025, 6, 1)).blocked == 0
        assert [total(periods(filled, *YEAR))] == totals
    assert totals[0]["counter_modelled_energy_millijoules"] < was["counter_modelled_energy_millijoules"]
    for table in ("records", "sums", "derived", "gone_days"):
        assert ask(f"SELECT count(*) FROM {table}").fetchone() == (0,), table


def test_a_meter_is_read_for_as_long_as_machines_on_it_may_be_derived_again(filled):
    """A classroom PC polls a server's PDU. Its hours are deleted after 62 days; its readings of the PDU are
    deleted with the server's hours. A new derivation in between changes nothing, even for the last two hours
    of the day, which the server's time zone keeps a day longer.
    """
    server, poller = a_server(filled), filled.add_host(Population.CLASSROOM, DeviceClass.TOWER)
    meter = DeclaredMeter("pdu-1", "lyon", "DC1", MeterBoundary.OUTLET)
    share = MeterShare("pdu-1", server, SharePart.MACHINE, 900_000, date(2020, 1, 1), FOR_EVER)
    filled.store.metering.declare([meter], [share], [])
    pdu = (PointKind.PDU, "pdu-1", Boundary.WALL, "meter:pdu-1")
    for day in days_of(FIRST, SERVER_END):
        server_day(filled, poller, day, watts=777, point=pdu)
    filled.derive()
    roll(filled, date(2025, 3, 6))
    before = metered(filled, server)
    assert before > 0
    for today in (date(2025, 6, 1), date(2026, 2, 8)):
        filled.store.derive.mark_all_dirty()
        retention(filled).run(today)  # while the server's hours wait to be derived
        filled.derive()
        retention(filled).run(today)
        filled.store.derive.mark_all_dirty()
        filled.derive()
        assert metered(filled, server) == before
    retention(filled).run(date(2026, 3, 20))
    assert filled.store.data.connection.execute("SELECT count(*) FROM meter_hours").fetchone() == (0,)


def metered(filled: Filled, host_id: HostId) -> int:
    """Return the metered energy of the machine's days, in millijoules."""
    (found,) = filled.store.data.connection.execute(
        "SELECT sum(energy_millijoules) FROM derived WHERE host_id = ? AND grain = 2 AND method = ?",
        (host_id, Method.METERED.value),
    ).fetchone()
    return int(found or 0)
