# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of a year that lacks months of PCs, readings of meters or the key: kept statistics serve."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from tests.support.closed_years import (
    TODAY,
    YEAR,
    lead_commands_to,
    put,
    report,
    signed_off,
    told,
    verified,
    watch,
)
from tests.support.filled import Filled
from tests.support.machines import settings_in
from tests.support.publishing import publish_months
from tests.support.rolled import retention, roll, workstation_days
from tests.support.sources import opened
from veilleuse.collector.app.data_directory import open_collector
from veilleuse.collector.calendars.periods import day_start_unix_milliseconds
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.inventory import AssetRecord, Entity, InventoryChange, Placement
from veilleuse.collector.model.meters import DeclaredMeter, MeterBoundary, MeterReading
from veilleuse.collector.model.records import Grain
from veilleuse.collector.model.sums import DirtyPeriod
from veilleuse.collector.reports.close_year import ClosingOrder, propose
from veilleuse.wire.vocabulary import PointKind, Population

pytestmark = pytest.mark.any_date


def test_a_year_whose_machines_are_gone_was_never_closed(place):
    """A year never closed cannot be closed afterwards; one closed provisionally uses its kept statistics."""
    order = ClosingOrder(YEAR, False, "me", "", 0, TODAY)
    with opened(place.data_dir, place.reporting) as sources:
        before = propose(sources, place, order)
    with Filled(place.data_dir) as filled:
        retention(filled).run(date(2028, 1, 1))  # by a program that keeps no year by itself
    with (
        opened(place.data_dir, place.reporting) as sources,
        pytest.raises(UsageError, match="was never closed meanwhile"),
    ):
        propose(sources, place, replace(order, today=date(2028, 1, 1)))
    put(place, dict(before.report), before.file.statistics)
    with opened(place.data_dir, place.reporting) as sources:
        found = propose(sources, place, replace(order, today=date(2028, 1, 1), definitive=True))
    assert found.report["basis"] == "statistics of 2025-r1"
    assert found.file.statistics == before.file.statistics


def test_a_year_in_which_no_machine_told_anything(place):
    """A year without reports, with machines last heard the year before, is closed with class defaults."""
    before = date(YEAR - 1, 11, 5)
    placements = (Placement(date(YEAR - 1, 1, 1), "DSI", "lyon"),)
    assets = tuple(
        AssetRecord(
            one, "s", "computer", str(one), device_class="tower", in_service_on=before, placements=placements
        )
        for one in range(1, 13)
    )
    with Filled(place.data_dir) as filled:
        filled.store.inventory.apply(InventoryChange(1, before, assets, (Entity("DSI", None, "lyon"),)))
        with filled.store.transaction():
            connection = filled.store.data.connection
            connection.execute("DELETE FROM host_months")
            contact = day_start_unix_milliseconds(before, "UTC")
            connection.execute(
                "UPDATE hosts SET status = 'revoked', enrolled_day = ?, last_contact_unix_milliseconds = ?",
                (date(YEAR - 1, 1, 1).toordinal(), contact),
            )
    with opened(place.data_dir, place.reporting) as sources:
        found = propose(sources, place, ClosingOrder(YEAR, False, "me", "", 0, date(YEAR + 1, 11, 28)))
    assert found.report["basis"] == "machines"
    assert found.report["figures"]["totals"][0]["energy_millijoules"] > 0


def test_rooms_outlive_the_readings_of_their_meters(place):
    """Readings are kept for 13 months and the year's factor comes in spring: rooms of the provisional closing
    are kept. A first closing so late notes that readings are missing."""
    with Filled(place.data_dir) as filled:
        (server,) = [h for h in filled.store.registry.hosts() if h.population is Population.SERVER]
        filled.store.metering.declare([DeclaredMeter("ups", server.site, "DC1", MeterBoundary.ROOM)], [], [])
        for month in range(1, 13):
            start = day_start_unix_milliseconds(date(YEAR, month, 15), "Europe/Paris")
            reading = MeterReading("ups", PointKind.UPS, 3_600_000, 3_600_000)
            filled.store.metering.put_readings(DirtyPeriod(server.host_id, Grain.HOUR, start), [reading])
        filled.derive()
        roll(filled, TODAY)
    january = ClosingOrder(YEAR, False, "me", "", 0, date(2026, 1, 10))
    spring = replace(january, today=date(2026, 6, 15))
    with opened(place.data_dir, place.reporting) as sources:
        first = propose(sources, place, january)
    (room,) = json.loads(first.file.statistics)["rooms"]
    assert room["it_millijoules"] == 12 * 3_600_000
    assert not any("meter" in note for note in first.notes)
    with Filled(place.data_dir) as filled:
        retention(filled).run(spring.today)
    with opened(place.data_dir, place.reporting) as sources:
        late = propose(sources, place, spring)
    (less,) = json.loads(late.file.statistics)["rooms"]
    assert less["it_millijoules"] == 7 * 3_600_000
    assert "no reading of a meter before 2025-05-15 is there" in late.notes[0]
    put(place, dict(first.report), first.file.statistics)
    with opened(place.data_dir, place.reporting) as sources:
        again = propose(sources, place, spring)
    assert again.file.statistics == first.file.statistics
    assert again.report["rooms_basis"] == "statistics of 2025-r1"
    assert not again.changed
    assert not any("meter" in note for note in again.notes)


def test_a_half_year_after_retention_says_which_parts_have_no_data(place, veilleuse):
    """January and February are removed for workstations, and readings before March: the report names both, in
    its head, its notes and on standard error. The server has its days.
    """
    with Filled(place.data_dir) as filled:
        watch(filled, YEAR)
        server = next(h for h in filled.store.registry.hosts() if h.population is Population.SERVER)
        filled.store.metering.declare([DeclaredMeter("ups", server.site, "DC1", MeterBoundary.ROOM)], [], [])
        start = day_start_unix_milliseconds(date(YEAR, 3, 10), "Europe/Paris")
        reading = MeterReading("ups", PointKind.UPS, 3_600_000, 3_600_000)
        filled.store.metering.put_readings(DirtyPeriod(server.host_id, Grain.HOUR, start), [reading])
        filled.store.data.connection.execute(
            "DELETE FROM host_months WHERE month < ? AND host_id <> ?",
            (date(YEAR, 3, 1).toordinal(), server.host_id),
        )
    words = ("--from", f"{YEAR}-01-01", "--to", f"{YEAR}-07-01", "--basis", "unreleased")
    code, out, error = veilleuse("report", "emissions", *words, "--format", "json")
    document = json.loads(out)
    assert code == 0
    assert document["report"]["missing_data"] == [
        f"workstation {YEAR}-01-01 {YEAR}-03-01",
        f"other_room {YEAR}-01-01 {YEAR}-03-10",
    ]
    assert f"rooms, {YEAR}-01-01 to {YEAR}-03-10 (exclusive)" in error
    assert any("sans aucune donnée" in str(note) for note in document["assumptions"])


def test_a_late_day_does_not_bring_a_year_back(place):
    """A PC that reports a week of January 18 months late does not make the year out of that week alone."""
    then = date(2026, 12, 1)
    order = ClosingOrder(YEAR, False, "me", "", 0, then)
    with Filled(place.data_dir) as filled:
        retention(filled).run(then)
        pcs = [h for h in filled.store.registry.hosts() if h.population is Population.WORKSTATION]
        workstation_days(filled, pcs[0].host_id, date(YEAR, 1, 6), date(YEAR, 1, 13))
        filled.derive()
        for kept in (False, True):
            if kept:
                roll(filled, then)
            with (
                opened(place.data_dir, place.reporting) as sources,
                pytest.raises(UsageError, match="never closed meanwhile"),
            ):
                propose(sources, place, order)


def test_retention_of_the_service_knows_closed_years(place, veilleuse):
    """Months of PCs are removed at the next run after a definitive closing, not after a provisional one."""
    told(veilleuse, "close", str(YEAR))
    for definitive in (False, True):
        if definitive:
            told(veilleuse, "close", str(YEAR), *signed_off(place), "--why", "complete")
        with open_collector(place) as collector:
            collector.retention.run(TODAY)
            pcs = [
                host.host_id
                for host in collector.store.registry.hosts()
                if host.population is Population.WORKSTATION
            ]
            left = sum(
                collector.store.data.connection.execute(
                    "SELECT count(DISTINCT month) FROM host_months WHERE host_id = ? AND month < ?",
                    (host_id, date(YEAR, 2, 1).toordinal()),
                ).fetchone()[0]
                for host_id in pcs
            )
        assert left == (0 if definitive else 12)


@pytest.mark.parametrize("words", [(), ("--definitive",)])
def test_closing_after_months_that_were_never_released_takes_back_no_released_one(
    place, veilleuse, words: tuple[str, ...]
):
    """January to May were too old, and September was taken back: the other months answer as before."""
    with Filled(place.data_dir) as filled:
        publish_months(filled, date(2026, 12, 4))
        filled.store.publications.take_back(date(YEAR, 9, 1), date(YEAR, 10, 1))
    stretches = (("2025-06-01", "2025-09-01"), ("2025-10-01", "2026-01-01"))

    def totals() -> list[Any]:
        found = []
        for first, end in stretches:
            code, out, error = veilleuse(
                "report", "emissions", "--from", first, "--to", end, "--format", "json"
            )
            assert code == 0, error
            document = json.loads(out)
            assert document["report"]["basis"] == "released"
            found.append([(one["energy_millijoules"], one["kgco2e_total"]) for one in document["totals"]])
        return found

    before = totals()
    made = told(veilleuse, "close", str(YEAR), *(signed_off(place) if words else ()))
    (note,) = (one for one in made["notes"] if "released" in one)
    assert note.startswith(f"released months of {YEAR}: 6 of 12")
    assert note.endswith("stay as published: 2025-06, 2025-07, 2025-08, 2025-10, 2025-11, 2025-12")
    assert totals() == before
    (year,) = report(veilleuse)["totals"]  # its own estimate, as the note says
    assert year["energy_millijoules"] == made["totals"][0]["energy_millijoules"]
    verified(told(veilleuse, "verify", str(YEAR)))
    with Filled(place.data_dir) as filled:
        filled.store.publications.expire(date(YEAR, 9, 1), ())
    veilleuse("close", str(YEAR), "--why", "again")
    assert totals() == before


def test_closing_for_good_says_what_goes(place, veilleuse):
    """The message appears once, so that what needs the months can be written before."""
    words = ("close", str(YEAR), *signed_off(place))
    assert "removes the months of PCs of 2025" in veilleuse(*words)[2]
    assert "months of PCs" not in veilleuse(*words)[2]


def test_the_year_after_a_closed_one_is_reported_in_every_way(place, veilleuse, monkeypatch):
    """A part, its months and the present tree are not compared with the closed year; the whole year is, whose
    coverage differs.
    """
    monkeypatch.setattr(
        "veilleuse.collector.clock.today", lambda zone=None: date(YEAR + 2, 1, 1)
    )  # it is over
    with Filled(place.data_dir) as filled:
        watch(filled, YEAR)
        watch(filled, YEAR + 1)
    told(veilleuse, "close", str(YEAR), *signed_off(place))
    whole = ("--from", f"{YEAR + 1}-01-01", "--to", f"{YEAR + 2}-01-01")
    part = ("--from", f"{YEAR + 1}-03-01", "--to", f"{YEAR + 1}-04-01")
    for words in (whole, part, (*whole, "--group-by", "month"), (*whole, "--tree", "now")):
        code, out, err = veilleuse("report", "emissions", *words, "--format", "json")
        assert code == 0, err
        assert json.loads(out)["totals"][0]["kwh_total"] > 0
        total = json.loads(out)["totals"][0]
        assert "change_margin_kwh" not in total
        assert total["not_compared"] == ("coverage" if words == whole else "not_kept")


@pytest.mark.parametrize("closed", [False, True])
def test_the_change_from_a_year_whose_first_months_are_gone(
    tmp_path, measured_years, monkeypatch, veilleuse, closed
):
    """Where half a year of PCs is gone, nothing is compared, unless the year was closed in time: then its
    interval overlaps as before.
    """
    settings = settings_in(tmp_path)
    shutil.copytree(measured_years, settings.data_dir)
    lead_commands_to(settings, monkeypatch)

    def reason() -> str:
        (row,) = [row for row in report(veilleuse)["rows"] if row["device_class"] == "tower"]
        assert "watts_effect_kwh" not in row
        return str(row["not_compared"])

    assert reason() == "intervals"
    if closed:
        told(veilleuse, "close", str(YEAR - 1), code=3)
    with Filled(settings.data_dir) as filled:
        retention(filled).run(date(2026, 1, 5))
    assert reason() == ("intervals" if closed else "gone")
    if closed:
        both = ("--from", f"{YEAR - 1}-01-01", "--to", f"{YEAR + 1}-01-01", "--format", "json")
        code, out, err = veilleuse("report", "emissions", *both)
        assert code == 0, err
        alone = told(veilleuse, "verify", str(YEAR - 1))[0]["totals"][0]["energy_millijoules"]
        assert json.loads(out)["totals"][0]["energy_millijoules"] == alone


def test_a_lost_key_is_not_replaced_in_silence(place, veilleuse, tmp_path):
    """Closing and exporting report a missing key, and a new one is made only on request."""
    first = told(veilleuse, "close", str(YEAR))
    (place.data_dir / "ca" / "closing.key").unlink()
    code, _, err = veilleuse("close", str(YEAR), *signed_off(place), "--why", "complete")
    assert (code, "closing.key is missing" in err, "restore it from a backup" in err) == (1, True, True)
    code, _, err = veilleuse("close", "--export", str(tmp_path / "out"))
    assert (code, "closing.key is missing" in err) == (1, True)
    assert told(veilleuse, "close", "--key")["public_key"] != first["public_key"]
    assert told(veilleuse, "close", str(YEAR), *signed_off(place), "--why", "complete")["written"]
    found = told(veilleuse, "verify", str(YEAR), code=1)
    assert [one["verified"] for one in found] == [False, True]
