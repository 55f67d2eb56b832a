# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of /metrics of PCs: rows of the released month, equal to the API's, which reveal no machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.filled import Filled, cell, civil, clock, month_of_workstations, week
from tests.support.pages import body
from tests.support.publishing import Publishing, monthly_figures, publish_months
from tests.support.reading import Reading
from veilleuse.collector.cli.fleet_screen import MAXIMUM_ROWS, Choice, take_screen
from veilleuse.collector.cli.top import _published_month
from veilleuse.collector.documents.text import words
from veilleuse.collector.indicators import TABLE
from veilleuse.collector.model.indicators import PCS
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.model.sums import Group
from veilleuse.collector.release.format import FORM
from veilleuse.collector.release.publications import PublicationCache, publish_nothing
from veilleuse.collector.settings import CollectorSettings, ReportingSettings
from veilleuse.collector.shipped_tables import STATE_POWERS
from veilleuse.collector.store.sqlite.publications import SqlitePublicationReader
from veilleuse.collector.web.access import MetricsAuth
from veilleuse.collector.web.app import make_app
from veilleuse.collector.web.metrics.samples import fleet_exposition
from veilleuse.collector.web.metrics.snapshot import Snapshot, SnapshotCache
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

MONTH, END = date(2026, 10, 1), date(2026, 11, 1)
RELEASED_ON = END + timedelta(days=3)
HOUR = 3_600_000
K = 10
GOOD = (600, 1200)
Samples = dict[str, dict[frozenset[tuple[str, str]], float]]
"""Metric → labels → value."""


def noon(day: date) -> float:
    """Return Unix seconds of 12:00 UTC."""
    return datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp()


class Service:
    """The web process of a store, from the thread of the indicators to the text of /metrics."""

    def __init__(self, data: Filled) -> None:
        self.now = noon(RELEASED_ON)
        self.data = data
        self.settings = CollectorSettings(data_dir=data.directory)
        self.reader = data.reader()
        self.start()

    def start(self) -> None:
        """Start as after a restart, with nothing in memory."""
        self.indicators = monthly_figures(self.data, lambda: self.now, self.settings)
        figures, month = self.indicators.figures, self.indicators.month
        older = self.indicators.is_of_older_rule
        self.outlook = SnapshotCache(self.reader, self.settings, lambda: self.now, figures, month, older)

    def look(self, day: date) -> Snapshot:
        """Publish what is due, and take a snapshot at noon of a day."""
        self.now = noon(day)
        publish_months(self.data, day, self.settings.reporting.k_anonymity)
        self.indicators.refresh()
        self.outlook._last = None
        return self.outlook.take_snapshot()

    def of_pcs(self, day: date) -> Samples:
        """Return samples of workstations and classroom PCs."""
        kinds = ("workstation", "classroom")
        return {
            name: mine
            for name, found in samples(self.look(day)).items()
            if (
                mine := {
                    pairs: value for pairs, value in found.items() if dict(pairs).get("population") in kinds
                }
            )
        }

    def cells(self) -> tuple[Group, ...]:
        """Return the cells that the API answers from."""
        month = PublicationCache(FORM, Publishing(self.data), publish_nothing, K).read(MONTH, END)
        assert month is not None
        return month.cells


def samples(look: Snapshot) -> Samples:
    """Return the samples of /metrics."""
    found: Samples = {}
    for family in fleet_exposition(look, "0", K).collect():
        for sample in family.samples:
            name = sample.name.removeprefix("veilleuse_")
            found.setdefault(name, {})[frozenset(sample.labels.items())] = sample.value
    return found


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Filled]:
    """Return an empty directory, as of the day October is released."""
    with Filled(tmp_path / "data", clock=lambda: noon(RELEASED_ON)) as store:
        yield store


@pytest.fixture
def service(data: Filled) -> Iterator[Service]:
    """Return a service over it."""
    made = Service(data)
    yield made
    made.reader.close()


def classroom(data: Filled, enrolled_on: date = date(2020, 1, 1), busy: float = 0.2) -> HostId:
    """Add a PC of a room, on for an hour of each day of the month since it was enrolled."""
    host = data.add_host(Population.CLASSROOM, DeviceClass.TOWER, entity="Colleges", enrolled_on=enrolled_on)
    first = max(MONTH, enrolled_on)
    starts = [round(noon(first) + 86_400 * n) * 1000 for n in range((END - first).days)]
    cells = [
        cell(State.ON_ACTIVE, HOUR // 2, busy_ratio=busy),
        cell(State.ON_IDLE, HOUR // 2, busy_ratio=0.01),
    ]
    data.push(host, [(clock(start, HOUR), cells) for start in starts])
    return host


def joules(data: Filled, host: HostId) -> float:
    """Return the energy of one machine over the month, joules."""
    with closing(data.reader()) as reader:
        rows = reader.derived(Grain.DAY, MONTH.toordinal(), END.toordinal())
        return sum(row.cell.energy_millijoules for row in rows if row.host_id == host) / 1000


def test_a_month_less_its_days_is_no_machine(data, service):
    """A PC enrolled on the second was in the API's month and in no gauge of a day: the difference was its
    energy. Now /metrics has the month alone."""
    for _ in range(12):
        classroom(data)
    late = classroom(data, date(2026, 10, 2), 0.9)
    data.derive()
    days = sum(
        sum(service.of_pcs(MONTH + timedelta(days=lag + 2)).get("day_energy_joules", {}).values())
        for lag in (1, 2, 15, (END - MONTH).days)
    )
    found = service.of_pcs(RELEASED_ON)
    month = sum(one.energy_millijoules for group in service.cells() for one in group.sums.energies.values())
    assert joules(data, late) > 0
    assert month / 1000 - days != pytest.approx(joules(data, late))
    assert days == 0
    assert sum(found["month_energy_joules"].values()) == month / 1000
    assert set(found) <= {
        "month_start_timestamp_seconds",
        "month_energy_joules",
        "month_emissions_grams",
        "month_state_seconds",
        "month_hosts",
        "suppressed_groups",
        "hosts",
        "agents_silent",
        "silence_level",
        *(
            gauge.removeprefix("veilleuse_")
            for line in TABLE.values()
            if line.populations & PCS
            for gauge in line.gauges
        ),
    }
    periods = {dict(pairs).get("period", "month") for of in found.values() for pairs in of}
    assert periods == {"month"}


def workstations(data: Filled, number: int, site: str = "lyon", hours: int = 2, entity: str = "DSI") -> None:
    """Add workstations that idle for `hours` of each day's night, and are active in one week."""
    for _ in range(number):
        host = data.add_host(Population.WORKSTATION, DeviceClass.TOWER, entity=entity, site=site)
        idle = cell(State.ON_IDLE, hours * HOUR, Band.NIGHT)
        days = [(civil(MONTH + timedelta(days=n)), [idle]) for n in range(28)]
        work = (week(date(2026, 10, 12)), [cell(State.ON_ACTIVE, 25 * HOUR, busy_ratio=0.3)])
        data.push(host, [*days, work])


def test_joules_and_grams_of_a_row_are_of_one_zone(data, service):
    """`autres` held PCs of two zones, so that joules and grams were two equations for two unknowns. A row is
    of one zone: its grams are its joules × the zone's factor."""
    data.add_site("berlin", zone="DE")
    for entity in ("A", "B"):
        workstations(data, 6, entity=entity)
    workstations(data, 1, site="berlin", hours=5)
    data.derive()
    found: Samples = {}
    for day in (date(2026, 10, 20), RELEASED_ON):
        look = service.look(day)
        found = samples(look)
        factors = {zone: float(one.factor.total_kgco2e_per_kwh) for zone, one in look.factors_now()}
        assert set(factors) == {"FR", "DE"}
        for period in ("day", "month"):
            grams = found.get(f"{period}_emissions_grams", {})
            for pairs, value in found.get(f"{period}_energy_joules", {}).items():
                per_kwh = grams[pairs | {("ledger", "official")}] / value * 3_600
                assert any(per_kwh == pytest.approx(one) for one in factors.values()), dict(pairs)
    (row,) = found["month_energy_joules"]
    assert (dict(row)["entity"], dict(row)["zone"]) == ("autres", "FR")
    assert list(found["month_hosts"].values()) == [12]
    assert found["suppressed_groups"] == {
        frozenset({"population": "workstation", "period": "month", "outcome": outcome}.items()): 1
        for outcome in ("merged", "withheld")
    }


def figures(found: Samples) -> Samples:
    """Return the samples without those of silence."""
    return {name: of for name, of in found.items() if name not in ("agents_silent", "silence_level")}


def test_a_month_stays(data, service):
    """Late records, a restart and new days change no sample of PCs until the next month is released."""
    hosts = month_of_workstations(data, MONTH, [GOOD] * 30)
    data.derive()
    before = figures(service.of_pcs(RELEASED_ON))
    assert before["month_energy_joules"]
    data.push(hosts[0], [(civil(MONTH + timedelta(days=29)), [cell(State.ON_IDLE, 10 * HOUR, Band.CLOSED)])])
    data.derive()
    for days in (1, 14, 28):
        service.start()
        assert figures(service.of_pcs(RELEASED_ON + timedelta(days=days))) == before
    assert "month_energy_joules" not in service.of_pcs(date(2026, 12, 4))


@pytest.mark.parametrize(("pcs", "live"), [(0, True), (3, False), (12, True)])
def test_calls_of_few_pcs_are_not_counted(data, service, pcs, live):
    """With three PCs, nothing counts calls; free space moves at a day's first look, errors at once."""
    data.add_host()
    for _ in range(pcs):
        data.add_host(Population.WORKSTATION, DeviceClass.LAPTOP)
    look = service.look(RELEASED_ON)
    told = {"pushes": {"stored": 1}, "store_errors": {"full": 0}, "queue_pushes": 0}
    more = {"pushes": {"stored": 2}, "store_errors": {"full": 1}, "queue_pushes": 1}
    told |= {"own_cpu_milliseconds": 1_000, "received_bytes": {"server": 1, "workstation": 5}}
    more |= {"own_cpu_milliseconds": 2_000, "received_bytes": {"server": 1, "workstation": 9}}
    first = samples(replace(look, health=told))
    fleet = replace(look.fleet, records=look.fleet.records + 1, dirty=1)
    disk = replace(look.disk, free_bytes=look.disk.free_bytes - 4096)
    then = samples(replace(look, health=more, fleet=fleet, disk=disk))
    moved = {name for name in first if first[name] != then[name]}
    assert "collector_store_errors_total" in moved
    calls = {"collector_pushes_total", "collector_queue_pushes", "store_records", "store_size_bytes"}
    calls |= {"own_collector_cpu_seconds_total"}  # a PC's bytes are in no live counter
    assert "own_wire_bytes_total" not in moved
    by_day = {
        "derive_backlog_periods",
        "store_free_bytes",
    }  # each call of one of three takes a page of the disk
    assert calls <= first.keys() if live else not calls & first.keys()
    assert by_day <= moved if live else not by_day & moved


@pytest.mark.parametrize(("pcs", "live"), [(3, False), (12, True)])
def test_the_bound_of_the_series_steps_by_the_day_where_pcs_are_few(data, service, pcs, live):
    """The bound counts the registry's entities; live, it would reveal an enrolment."""

    def bound() -> str:
        service.outlook._last = None
        app = make_app(service.outlook, service.settings, MetricsAuth("127.0.0.1", 8640, None), "0.1.0")
        lines = body(app, "/metrics").splitlines()
        (line,) = (one for one in lines if one.startswith("veilleuse_exposition_series_bound "))
        return line

    for _ in range(pcs):
        data.add_host(Population.WORKSTATION, DeviceClass.LAPTOP)
    service.look(RELEASED_ON)
    first = bound()
    data.add_host(Population.WORKSTATION, DeviceClass.LAPTOP, entity="DSI > Réseau")
    assert (bound() != first) is live
    service.look(RELEASED_ON + timedelta(days=1))
    assert bound() != first


def avoidable(found: Samples) -> dict[str, float]:
    """Return joules by cause."""
    return {dict(pairs)["cause"]: value for pairs, value in found["month_avoidable_energy_joules"].items()}


def test_indicators_are_of_the_machines_that_the_month_shows(data, service):
    """Three PCs of another zone are in no row. I4 once included them, so that it less the rows was theirs."""
    data.add_site("berlin", zone="DE")
    workstations(data, 12)
    workstations(data, 3, site="berlin", hours=5)
    data.derive()
    found = service.of_pcs(RELEASED_ON)
    idle = sum(found["outside_opening_energy_joules"].values())
    off = STATE_POWERS[DeviceClass.TOWER].off_microwatts / 1_000_000 * 12 * 28 * 2 * 3_600
    assert avoidable(found)["closed_bands"] == pytest.approx(idle - off)


def page_of(service: Service, path: str, language: str = "en") -> str:
    """Return a page, as of the last look, with ordinary spaces and quotes."""
    with Reading(service.data, clock=lambda: service.now, settings=service.settings) as reading:
        reading.indicators.refresh()
        text = reading.get(f"{path}{'&' if '?' in path else '?'}lang={language}").text
    return text.replace("\u00a0", " ").replace("&#39;", "'")


@pytest.mark.parametrize(("language", "row"), [("fr", "PC tours"), ("en", "towers")])
def test_the_page_shows_the_year(data, service, language, row):
    """The page has the classes with the year's figures of /metrics, and no site."""
    month_of_workstations(data, MONTH, [GOOD] * 30)
    data.derive()
    service.look(RELEASED_ON)
    year = service.indicators.fleet_emissions().years[0].perimeters[-1].amounts
    text, w = page_of(service, "/bilan?by=class", language), words(language)
    assert f">{row}<" in text
    for told in (w.energy(year.energy_millijoules), w.grams(year.grams)):
        assert text.count(f">{told}<".replace("\u00a0", " ")) == 3, "tile, row and sum"
    assert "lyon" not in text.partition("<main")[2]


@pytest.mark.parametrize(
    ("language", "not_yet"),
    [
        ("fr", "ceux de novembre 2026, viendront le vendredi 4 décembre 2026"),
        ("en", "those of November 2026, come on Friday 4 December 2026"),
    ],
)
def test_the_page_of_the_first_days_says_when_the_first_figures_come(data, service, language, not_yet):
    """For 24 PCs since 2 November the page gives the first figures' day."""
    for _ in range(24):
        data.add_host(Population.WORKSTATION, DeviceClass.LAPTOP, enrolled_on=date(2026, 11, 2))
    service.look(date(2026, 11, 5))
    assert not_yet in page_of(service, "/", language)


def test_the_page_says_that_a_month_of_an_older_format_is_not_shown(data, service):
    """The page says how to have a month of an older format computed again, and of another k nothing."""
    service.look(RELEASED_ON)
    workstations(data, 12)
    data.derive()
    service.look(RELEASED_ON + timedelta(days=1))
    assert "take-back" not in page_of(service, "/")
    service.settings = CollectorSettings(data_dir=data.directory, reporting=ReportingSettings(k_anonymity=14))
    service.start()
    service.look(RELEASED_ON + timedelta(days=2))
    assert "take-back" not in page_of(service, "/")
    with data.store.transaction():
        connection = data.store.data.connection
        for (trigger,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'published_periods'"
        ).fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute("UPDATE published_periods SET format = 1 WHERE kind = 'release'")
    service.start()
    service.look(RELEASED_ON + timedelta(days=3))
    assert "veilleuse published take-back 2026-10-01 2026-11-01 --why TEXT" in page_of(service, "/")


@pytest.mark.parametrize(
    ("language", "merged"),
    [("fr", "Petits groupes de plusieurs entités"), ("en", "Small groups of several entities")],
)
def test_pages_have_words_for_autres(data, service, language, merged):
    """A bar of two merged entities was "autres · autres"."""
    for entity in ("A", "B"):
        workstations(data, 6, entity=entity)
    data.derive()
    service.look(RELEASED_ON)
    assert merged in page_of(service, "/actions", language)


def test_top_reads_the_month_and_publishes_none(data, service):
    """`top` has one line a population once its month is published; before that, the number of machines."""
    month_of_workstations(data, MONTH, [GOOD] * 30)
    data.derive()
    with closing(SqlitePublicationReader(data.directory)) as reader:
        month = _published_month(service.settings, reader, lambda: date(2026, 11, 4))
        outlook = SnapshotCache(service.reader, service.settings, lambda: service.now, month=month)
        told = take_screen(outlook, service.settings, words("en"), Choice(), MAXIMUM_ROWS).others
        assert told == ("30 workstations: by published month, never live",)
        service.look(RELEASED_ON)
        outlook._last = None
        _, line = take_screen(outlook, service.settings, words("en"), Choice(), MAXIMUM_ROWS).others
    assert line.startswith("workstations, October 2026: ")
    assert line.endswith("CO₂e")
