# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse calendar …` on an open data directory: imports, the yearly renewal, and the commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.tree import ROOT
from tests.support import clock
from tests.support.machines import make, settings_in
from tests.support.pushes import enrol
from tests.support.waiting import until
from veilleuse.collector.admin import sites
from veilleuse.collector.admin.calendars import renew
from veilleuse.collector.admin.operations import Operations
from veilleuse.collector.app.data_directory import Collector, open_collector
from veilleuse.collector.app.schedule import run_daily_tasks
from veilleuse.collector.calendars.compose import calendar_year
from veilleuse.collector.cli.main import run
from veilleuse.collector.errors import AdminError, StoreDamaged, UsageError
from veilleuse.collector.ingest.hello import calendar_message
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.wire.bands import DEFAULT_CALENDAR, Calendar

TODAY = date(2026, 11, 26)
WHO = {"who": "root", "why": "a test"}
WEEK = "\n".join(
    f'{day} = ["08:00-18:00"]' for day in ("monday", "tuesday", "wednesday", "thursday", "friday")
)
LYON = f'[open]\n{WEEK}\n[public_holidays]\ncountry = "FR"\n[school_holidays]\nzone = "A"\n'
BRIDGE = '[[closure]]\nfirst = 2027-05-07\nname = "Pont"\n'


@pytest.fixture
def settings(tmp_path: Path) -> CollectorSettings:
    """Make a data directory with the site Lyon."""
    found = settings_in(tmp_path)
    make(found, "Lyon")
    return found


class Desk:
    """Holds an open collector with a settable date."""

    def __init__(self, collector: Collector, today: date = TODAY, *, machine: bool = True) -> None:
        """Enrol a machine at Lyon unless `machine` is false; its calendar may change only on a 1st."""
        self.today = today
        self.store = collector.store
        self.issuing = replace(collector.issuing, now=self.now)
        self.context = replace(collector.operations.context, issuing=self.issuing)
        self.operations = Operations(self.context)
        if machine:
            self.issuing.commit(lambda: enrol(collector.store.registry, site_name="Lyon"))

    def now(self) -> datetime:
        """Return noon UTC of the date."""
        return datetime.combine(self.today, time(12), UTC)

    def bring(self, text: str = LYON, name: str = "lyon.toml", **more: Any) -> dict[str, Any]:
        """Import a calendar at Lyon."""
        arguments = {"site": "Lyon", "text": text, "name": name, **WHO, **more}
        found: dict[str, Any] = self.operations.perform("calendar_import", arguments)
        return found

    def show(self, site: str = "Lyon", **more: Any) -> dict[str, Any]:
        """Return the answer of `show`."""
        found: dict[str, Any] = self.operations.perform("calendar_show", {"site": site, **more})
        return found

    def given_out(self, site: str = "Lyon") -> Calendar:
        """Return the calendar that a Hello gets."""
        return Calendar.from_json(self.issuing.commit(lambda: self.store.registry.site(site)).calendar_json)

    def renew(self) -> list[str]:
        """Do the renewal of the date; return the renewed sites."""
        return renew(self.context, self.today)

    def journal(self) -> list[str]:
        """Return the journal's entries."""

        def rows() -> list[Any]:
            return self.store.identity.connection.execute("SELECT what FROM journal").fetchall()

        return [str(row[0]) for row in self.issuing.commit(rows)]


@pytest.fixture
def desk(settings: CollectorSettings) -> Iterator[Desk]:
    """Open a collector on 26 November 2026, with a machine at Lyon."""
    with open_collector(settings) as collector:
        yield Desk(collector)


def test_an_import_is_what_machines_are_given(desk):
    """The calendar applies from 1 December, with the holidays of three years.
    The Hello's message has the hash that the import returned."""
    found = desk.bring()
    assert (found["imported"], found["from"], found["warnings"]) == (True, "2026-12-01", [])
    assert found["changes"] == ["public holidays: none → FR", "school holidays: none → A"]
    calendar = desk.given_out()
    assert calendar.open_spans == DEFAULT_CALENDAR.open_spans
    assert date(2026, 12, 25) in calendar.closures
    assert date(2028, 12, 25) in calendar.closures
    sha256, message = calendar_message(calendar.to_json())
    assert sha256.hex() == found["calendar_sha256"]
    assert len(message.closures) == found["closures"] == len(calendar.closures)


def test_what_changes_nothing_says_so(desk):
    """A second import of a file writes nothing, not even to the journal."""
    assert desk.bring()["changed"]
    before = desk.journal()
    found = desk.bring()
    assert (found["changed"], found["imported"], found["changes"]) == (False, False, [])
    assert desk.journal() == before == ["calendar of site Lyon imported"]


def test_a_dry_run_and_a_refused_file_change_nothing(desk):
    """A dry run returns what the import would; a refused file returns the error."""
    dry = desk.bring(dry_run=True)
    assert (dry["changed"], dry["imported"], dry["from"]) == (True, False, "2026-12-01")
    with pytest.raises(UsageError, match=r"lyon.toml: \[open\]: unknown key 'mondey': did you mean 'monday'"):
        desk.bring(LYON.replace("monday", "mondey"))
    assert desk.given_out() == DEFAULT_CALENDAR
    assert desk.journal() == []
    assert {**desk.bring(), "imported": False, "dry_run": True} == dry


def test_the_school_zone_concerns_no_machine(desk):
    """Another school zone applies to the past too, but the machines' calendar and its day stay the same."""
    desk.bring()
    before = desk.given_out()
    found = desk.bring(LYON.replace('"A"', '"C"'))
    assert (found["imported"], found["distributed"], found["from"]) == (True, False, None)
    assert found["changes"] == ["school holidays: A → C"]
    assert desk.given_out() == before
    shown = desk.show()
    assert shown["school_zone"] == "C"
    assert [one["from"] for one in shown["versions"]] == [None, "2026-12-01"]


def test_a_later_import_replaces_the_one_that_waits(desk):
    """The calendar that was in use stays known, so that its days keep their types."""
    desk.bring()
    desk.bring(LYON + BRIDGE)
    shown = desk.show(year=2026)
    assert [one["from"] for one in shown["versions"]] == [None, "2026-12-01"]
    days = {day["date"]: day for day in shown["days"]}
    assert days["2026-11-11"] == {"date": "2026-11-11", "type": "open", "open": ["08:00-18:00"], "name": ""}
    assert days["2026-12-25"] == {"date": "2026-12-25", "type": "closed", "open": [], "name": "Noël"}
    desk.today = date(2027, 3, 3)
    desk.bring()
    shown = desk.show(year=2026)
    assert [one["from"] for one in shown["versions"]] == [None, "2026-12-01", "2027-04-01"]
    assert {day["date"]: day for day in shown["days"]} == days


def test_a_site_without_machines_has_it_from_the_beginning(settings):
    """No day was classified by another calendar yet."""
    with open_collector(settings) as collector:
        desk = Desk(collector, machine=False)
        found = desk.bring()
        assert found["from"] is None
        assert found["distributed"]
        assert [one["from"] for one in desk.show()["versions"]] == [None]


def test_a_site_is_made_when_asked(desk):
    """A site is created with its time zone and is in the register; a mistyped name creates none."""
    with pytest.raises(UsageError, match="no site 'Lyonn': did you mean 'Lyon'"):
        desk.bring(site="Lyonn")
    with pytest.raises(
        UsageError, match="no site 'Mâcon': known: Lyon; 'veilleuse calendar import --create' makes one"
    ):
        desk.bring(site="Mâcon")
    with pytest.raises(UsageError, match="add --create"):
        desk.bring(zone="FR")
    assert desk.bring(site="Saint-Denis", create=True, time_zone="Indian/Reunion", dry_run=True)["created"]
    with pytest.raises(UsageError, match="no site"):
        desk.show("Saint-Denis")
    found = desk.bring(site="Saint-Denis", create=True, time_zone="Indian/Reunion")
    assert (found["created"], found["imported"], found["from"]) == (True, True, None)
    assert desk.given_out("Saint-Denis").time_zone == "Indian/Reunion"
    with pytest.raises(
        UsageError, match="exists already, with --time-zone Indian/Reunion: leave --time-zone out"
    ):
        desk.bring(site="Saint-Denis", create=True, time_zone="Europe/Paris")
    assert "Saint-Denis" in desk.issuing.register.path.read_text(encoding="utf-8")


def test_closures_alone(desk):
    """A CSV of closures on an undeclared site keeps the default week."""
    found = desk.bring("first,last,name\n2026-12-24,,Veille\n2026-11-27,,trop tard\n", "fermetures.csv")
    assert found["changes"] == ["closure: 2026-11-27 trop tard", "closure: 2026-12-24 Veille"]
    assert found["warnings"] == [
        "[[closure]] 2026-11-27 trop tard: it is before 2026-12-01, the first day of this calendar, and has no effect"
    ]
    assert desk.given_out().open_spans == DEFAULT_CALENDAR.open_spans


def test_what_will_not_be_told_is_warned_of(desk):
    """A lunch hour and two hours of the night are not reported; the whole night is."""
    found = desk.bring(LYON + '[updates]\nmonday = ["12:15-13:00"]\ntuesday = ["22:00-24:00"]\n')
    assert [line.split(":")[0] for line in found["warnings"]] == [
        "[updates] monday, 45 min of the band open inside, 555 outside",
        "[updates] monday, 45 min of the band open inside, 555 outside",
        "[updates] a closed monday, 45 min of the band closed inside, 915 outside",
        "[updates] a closed monday, 45 min of the band closed inside, 915 outside",
        "[updates] tuesday, 120 min of the band night inside, 360 outside",
    ]
    nights = "\n".join(
        f'{day} = ["22:00-06:00"]'
        for day in ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    )
    assert desk.bring(LYON + f"[updates]\n{nights}\n")["warnings"] == []


def test_the_example_of_the_documentation_does_all_it_says(desk):
    """The example of docs/calendars.md imports without a warning."""
    page = (ROOT / "docs" / "calendars.md").read_text(encoding="utf-8")
    found = desk.bring(page.split("```toml\n")[1].split("```")[0])
    assert (found["changed"], found["warnings"]) == (True, [])


def test_the_end_of_the_school_table_is_warned_of(desk):
    """In October 2028 the shipped table lacks the coming year; the ministry's file adds it."""
    desk.today = date(2028, 10, 2)
    assert "zone A is known until 2028-08-31: import the ministry's file" in desk.bring()["warnings"][0]
    text = "zone,first,last,name\n" + "".join(f"{zone},2029-12-22,2030-01-06,Noël\n" for zone in "ABC")
    asked = {"text": text, "name": "vacances.csv", **WHO}
    dry = desk.operations.perform("calendar_school", {**asked, "dry_run": True})
    assert (dry["changed"], dry["imported"]) == (True, False)
    found = desk.operations.perform("calendar_school", asked)
    assert found["zones"][0] == {"zone": "A", "from": "2029-12-22", "to": "2030-01-06"}
    assert not desk.operations.perform("calendar_school", asked)["changed"]
    assert desk.bring()["warnings"] == []
    shown = desk.show(year=2030)
    assert shown["school_known_to"] == "2030-01-06"
    assert shown["day_types"]["unknown"] > 200


def test_the_renewal_is_once_a_year(desk):
    """Nothing is renewed until September. On 1 October the year after the next is added, from 1 November.
    Then nothing is renewed for a year."""
    desk.bring()  # in November: until the end of 2028
    first = desk.given_out()
    for desk.today in (TODAY, date(2027, 1, 1), date(2027, 9, 30)):
        assert desk.renew() == []
    assert desk.given_out() == first
    desk.today = date(2027, 10, 1)
    assert desk.renew() == ["Lyon"]
    assert desk.renew() == []
    assert not desk.bring()["changed"]
    after = desk.given_out()
    assert after.closures[-1].year == 2029
    assert after.closures[0].year == 2027
    shown = desk.show(year=2026)
    assert [one["from"] for one in shown["versions"]] == [None, "2026-12-01", "2027-11-01"]
    desk.today = date(2028, 9, 30)
    assert desk.renew() == []


def test_a_site_with_a_week_alone_is_renewed_without_a_change(desk):
    """Without dates machines keep the same calendar; an undeclared site is not renewed."""
    assert desk.renew() == []
    desk.bring(LYON.split("[public")[0].replace("18:00", "17:00"))
    before = desk.given_out()
    desk.today = date(2027, 10, 1)
    assert desk.renew() == []
    assert desk.given_out() == before
    assert [one["from"] for one in desk.show()["versions"]] == [None, "2026-12-01"]


def test_serve_renews(settings):
    """The daily tasks of a running collector renew a calendar whose import was long ago."""
    with open_collector(settings) as collector:
        Desk(collector, date(2024, 3, 1)).bring()
        before = Desk(collector, machine=False).given_out()
        with run_daily_tasks(collector, check_seconds=0.01):
            until(lambda: Desk(collector, machine=False).given_out() != before)
        year = calendar_year(clock.today())
        assert Desk(collector, machine=False).given_out().closures[-1].year == year + 1


def test_two_imports_at_once(settings):
    """The other import comes between the first one's read and write: the first fails and changes nothing."""
    with open_collector(settings) as collector:
        slow, quick = Desk(collector), Desk(collector, machine=False)

        def meanwhile() -> datetime:  # called between the read and the write
            quick.bring(LYON + BRIDGE)
            return quick.now()

        slow.operations = Operations(replace(slow.context, issuing=replace(slow.issuing, now=meanwhile)))
        with pytest.raises(AdminError, match="was changed meanwhile: try again"):
            slow.bring()
        assert date(2027, 5, 7) in quick.given_out().closures


def test_another_time_zone_begins_anew(settings):
    """`site_put` gives a site without machines the default week of its new zone; the declaration ends."""
    with open_collector(settings) as collector:
        desk = Desk(collector, machine=False)
        desk.bring()
        sites.put(desk.context, site="Lyon", time_zone="Indian/Reunion")
        shown = desk.show()
        assert (shown["declared"], shown["time_zone"]) == (False, "Indian/Reunion")
        desk.today = date(2030, 10, 1)
        assert desk.renew() == []
        assert desk.bring()["changed"]
        assert desk.given_out().time_zone == "Indian/Reunion"


def test_a_damaged_calendar_is_said_to_be_one(settings):
    """The damage is reported as such, with the site."""
    with open_collector(settings) as collector:
        Desk(collector).bring()
    with closing(Database(settings.data_dir / "data.db", writing=True)) as database:
        database.connection.execute("UPDATE calendars SET declaration_json = 'x'")
    with open_collector(settings) as collector, pytest.raises(StoreDamaged, match="a calendar of site Lyon"):
        Desk(collector).show()


# --- the command


def command(settings: CollectorSettings, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run a command and return its exit code."""
    monkeypatch.setenv("VEILLEUSE__DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("VEILLEUSE__STORE__FREE_BYTES_MINIMUM", "0")
    return run(["calendar", *words])


def test_the_commands(settings, monkeypatch, tmp_path, capsys):
    """Import, show, export and school holidays work as text and JSON; warnings give exit code 3.
    The date is fixed, because known school holidays end with 2028-08.
    """
    monkeypatch.setattr("veilleuse.collector.admin.calendars._today", lambda context, site: TODAY)
    file, again = tmp_path / "lyon.toml", tmp_path / "again.toml"
    file.write_text(LYON + BRIDGE, encoding="utf-8")
    site = ("--site", "Lyon")
    assert command(settings, monkeypatch, "import", str(file), *site, "--dry-run") == 0
    assert "Lyon: would be imported" in capsys.readouterr().out
    assert command(settings, monkeypatch, "import", str(file), *site) == 0
    assert "machines use it from their first contact on" in capsys.readouterr().out
    assert command(settings, monkeypatch, "export", *site) == 0
    again.write_text(capsys.readouterr().out, encoding="utf-8")
    assert command(settings, monkeypatch, "import", str(again), *site) == 0
    assert capsys.readouterr().out == "Lyon: nothing changes\n"
    assert command(settings, monkeypatch, "show", *site, "--year", "2027") == 0
    shown = capsys.readouterr().out
    assert "2027-05-07\tclosed\tPont" in shown
    assert "2027-02-15 to 2027-02-26\tschool_holiday\tVacances d'hiver" in shown
    assert command(settings, monkeypatch, "show", *site, "--year", "2031", "--json") == 0
    days = {day["date"]: day["type"] for day in json.loads(capsys.readouterr().out)["days"]}
    assert (days["2031-11-11"], days["2031-11-12"]) == ("closed", None)
    assert command(settings, monkeypatch, "show", *site, "--year", "1900") == 2
    file.write_text(LYON + '[updates]\nmonday = ["12:00-13:00"]\n', encoding="utf-8")
    assert command(settings, monkeypatch, "import", str(file), *site, "--json") == 3
    school = tmp_path / "vacances.csv"
    school.write_text("zone,first,last,name\nA,2028-10-21,2028-11-05,Toussaint\n", encoding="utf-8")
    assert command(settings, monkeypatch, "school-holidays", str(school)) == 0
    assert "1 period, zone A from 2028-10-21 to 2028-11-05: imported" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read"),
        (b"\xff\xfe", "is not UTF-8: save it as UTF-8"),
        (b"#" * 600_000, "it has 600,000 bytes, at most 524,288 are read; leave out what is past"),
    ],
)
def test_a_file_that_is_none(settings, monkeypatch, tmp_path, capsys, content, words):
    """A missing, non-UTF-8 or over-long file gives exit code 2."""
    file = tmp_path / "lyon.toml"
    if content is not None:
        file.write_bytes(content)
    assert command(settings, monkeypatch, "import", str(file), "--site", "Lyon") == 2
    assert words in capsys.readouterr().err
