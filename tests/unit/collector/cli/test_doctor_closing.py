# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse doctor` names years that are over and not closed, with the day of their data's deletion."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from tests.support.closed_years import YEAR, signed_off, told
from tests.support.filled import Filled
from tests.support.machines import settings_in
from tests.support.rolled import retention
from veilleuse.collector.app.data_directory import initialise
from veilleuse.collector.calendars.periods import day_start_unix_milliseconds, months_before
from veilleuse.collector.cli.doctor.closed_years import check_closing_on, removal_day
from veilleuse.collector.model.meters import DeclaredMeter, MeterBoundary, MeterReading
from veilleuse.collector.model.records import Grain
from veilleuse.collector.model.sums import DirtyPeriod
from veilleuse.collector.settings import CollectorSettings
from veilleuse.wire.vocabulary import PointKind, Population

JANUARY_GOES = date(2026, 8, 1)
DAY = timedelta(days=1)


def said(settings: CollectorSettings, today: date) -> tuple[str, str]:
    """Return (outcome, text with the remedy) of the one finding."""
    (finding,) = check_closing_on(settings, today)
    assert bool(finding.remedy) == (finding.outcome == "warning")
    return finding.outcome, f"{finding.text}; {finding.remedy}"


def test_an_open_year_is_named_before_its_months_go(place):
    """The year is named from the day it can be closed, and a warning 90 days before."""
    assert said(place, date(YEAR + 1, 1, 3)) == ("good", "no year that is over waits to be closed; ")
    assert said(place, date(YEAR + 1, 1, 4)) == (
        "good",
        "2025 is over and not closed: months of PCs are removed from 2026-08-01 on; ",
    )
    assert said(place, JANUARY_GOES - 91 * DAY)[0] == "good"
    outcome, text = said(place, JANUARY_GOES - 90 * DAY)
    assert outcome == "warning"
    assert "2026-08-01 on; 'veilleuse close 2025' before that day, or let 'veilleuse serve' run" in text


def test_the_day_told_is_the_day_they_go(place):
    """Retention deletes nothing the day before, and the first month on that day."""

    def oldest() -> int | None:
        month: int | None = filled.store.data.connection.execute(
            "SELECT min(month) FROM host_months JOIN hosts USING (host_id) WHERE population <> 3"
        ).fetchone()[0]
        return month

    with Filled(place.data_dir) as filled:
        assert {host.population for host in filled.store.registry.hosts()} == {
            Population.WORKSTATION,
            Population.SERVER,
        }
        retention(filled).run(JANUARY_GOES - DAY)
        assert oldest() == date(YEAR, 1, 1).toordinal()
        retention(filled).run(JANUARY_GOES)
        assert oldest() == date(YEAR, 2, 1).toordinal()


def test_a_year_that_cannot_be_closed_any_more(place, veilleuse):
    """When its January is deleted, doctor does not suggest 'veilleuse close', which would refuse.
    When nothing is left, the finding is good."""
    with Filled(place.data_dir) as filled:
        retention(filled).run(JANUARY_GOES)
    outcome, text = said(place, JANUARY_GOES)
    assert outcome == "warning"
    assert "2025 was never closed, and its first months of PCs have gone" in text
    assert "veilleuse close" not in text
    with Filled(place.data_dir) as filled:
        retention(filled).run(date(2027, 8, 1))
    assert said(place, date(2027, 8, 1))[0] == "good"


def test_a_year_that_began_late_is_whole(place):
    """For machines enrolled later in the year, nothing is missing until their first month is deleted."""
    with Filled(place.data_dir) as filled, filled.store.transaction():
        connection = filled.store.data.connection
        connection.execute("DELETE FROM host_months WHERE month < ?", (date(YEAR, 2, 1).toordinal(),))
        connection.execute("UPDATE hosts SET enrolled_day = ?", (date(YEAR, 2, 1).toordinal(),))
    assert "are removed from 2026-09-01 on; 'veilleuse close 2025'" in said(place, JANUARY_GOES)[1]


def test_no_day_that_is_past_is_named(place):
    """On the day of deletion the text says "now". For a year without PC data it names no day.
    doctor asked to close before a day that was past."""
    assert (
        "months of PCs are removed from now on; 'veilleuse close 2025' now, or let"
        in said(place, JANUARY_GOES)[1]
    )
    with Filled(place.data_dir) as filled, filled.store.transaction():
        connection = filled.store.data.connection
        december = date(YEAR - 1, 12, 1)
        pcs = "host_id IN (SELECT host_id FROM hosts WHERE population <> 3)"
        connection.execute(
            f"DELETE FROM host_months WHERE {pcs} AND month > ?", (date(YEAR, 1, 1).toordinal(),)
        )
        connection.execute(f"UPDATE host_months SET month = ? WHERE {pcs}", (december.toordinal(),))
        contact = day_start_unix_milliseconds(december, "UTC")
        connection.execute(f"UPDATE hosts SET last_contact_unix_milliseconds = ? WHERE {pcs}", (contact,))
    found = [(one.outcome, one.text) for one in check_closing_on(place, date(YEAR + 1, 11, 28))]
    assert found[-1] == (
        "good",
        "2025 is over and not closed: it has no months of PCs or readings to remove",
    )


@pytest.mark.parametrize("definitive", [False, True])
def test_a_closed_year_is_not_named(place, veilleuse, definitive):
    """A provisional closing suffices, because its statistics stay."""
    told(veilleuse, "close", str(YEAR), *(signed_off(place) if definitive else ()))
    assert said(place, JANUARY_GOES)[0] == "good"


def test_readings_of_shared_meters_go_first(place):
    """Readings stay 13 months, so doctor warns in the first January where a meter is declared."""
    with Filled(place.data_dir) as filled:
        (server, *_) = [h for h in filled.store.registry.hosts() if h.population is Population.SERVER]
        start = day_start_unix_milliseconds(date(YEAR, 1, 9), "UTC")
        with filled.store.transaction():
            reading = MeterReading("ups", PointKind.UPS, 1_000, 3_600_000)
            filled.store.metering.put_readings(DirtyPeriod(server.host_id, Grain.HOUR, start), [reading])
        assert said(place, date(YEAR + 1, 1, 4))[0] == "good"  # the meter has no room yet
        with filled.store.transaction():
            meter = DeclaredMeter("ups", server.site, "DC1", MeterBoundary.ROOM)
            filled.store.metering.declare([meter], [], [])
        outcome, text = said(place, date(YEAR + 1, 1, 4))
        assert outcome == "warning"
        assert "readings of shared meters are removed from 2026-02-10 on" in text
        for day, left in ((date(2026, 2, 9), 1), (date(2026, 2, 10), 0)):
            retention(filled).run(day)
            assert filled.store.data.connection.execute("SELECT count(*) FROM meter_hours").fetchone() == (
                left,
            )


def test_simulated_data_need_not_be_closed(tmp_path):
    """Simulated data can be made again."""
    settings = settings_in(tmp_path)
    initialise(settings, simulated=True)
    assert said(settings, date(2030, 1, 1)) == ("good", "simulated data need not be closed; ")


@pytest.mark.parametrize("months", [13, 18, 36])
def test_the_first_day_on_which_something_goes(months):
    """removal_day is the inverse of retention's daily question, also on the 31st."""
    for offset in range(800):
        end = date(2024, 1, 1) + offset * DAY
        day = removal_day(end, months)
        assert months_before(day - DAY, months) < end <= months_before(day, months)
