# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of I3 to I8 on /metrics and the page: the reports' figures, as published, or absent."""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.filled import METER, Filled, cell, civil, clock, month_of_workstations
from tests.support.publishing import Publishing, monthly_figures, publish_months
from tests.support.reading import Reading
from tests.support.waiting import PATIENCE_SECONDS, until
from tests.unit.collector.indicators.test_sobriety import of as group_of
from tests.unit.collector.indicators.test_sobriety import server as a_server
from tests.unit.collector.indicators.test_sobriety import the
from veilleuse.collector.documents.text import words
from veilleuse.collector.exposition.prometheus import Exposition
from veilleuse.collector.indicators import NIGHTS, TABLE, load_indicator
from veilleuse.collector.model.indicators import BandUse, IndicatorGroup, Load, Targets
from veilleuse.collector.model.inventory import ServerRole
from veilleuse.collector.model.publications import Publication, PublicationKind
from veilleuse.collector.model.query import GroupKey, Query
from veilleuse.collector.release.indicator_rows import IndicatorRow
from veilleuse.collector.reports.indicators import sum_for_indicators
from veilleuse.collector.reports.readers import sources_of
from veilleuse.collector.settings import CollectorSettings, ReportingSettings, read_settings
from veilleuse.collector.store import open_reader
from veilleuse.collector.web.metrics.indicators_monthly import MonthlyFigures, add_machine_figures
from veilleuse.collector.web.metrics.scrape import series_bound
from veilleuse.collector.web.metrics.snapshot import SnapshotCache
from veilleuse.collector.web.pages.indicators import definition_of, format_figure
from veilleuse.wire.limits import CELL_BUCKETS
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

NOW = datetime(2026, 11, 25, 10, 30, tzinfo=UTC)
TODAY = NOW.date()
MONTH, END = date(2026, 10, 1), date(2026, 11, 1)
HOUR = 3_600_000
GOOD, NEVER = (600, 1200), (600, 0)
JOULES_PER_KWH = 3_600_000


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Filled]:
    """Return an empty directory, as of NOW."""
    with Filled(tmp_path / "data", clock=NOW.timestamp) as store:
        yield store


def published(data: Filled, day: date = TODAY) -> MonthlyFigures:
    """Publish the months that are due on a day; return what the web process reads on it."""
    data.derive()
    publish_months(data, day)
    figures = monthly_figures(
        data, lambda: datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp()
    )
    figures.refresh()
    return figures


def samples(indicators: MonthlyFigures) -> dict[str, float]:
    """Return `name{label=value,…}` without the prefix → value."""
    out = Exposition()
    add_machine_figures(out, indicators.figures())
    return {
        f"{sample.name.removeprefix('veilleuse_')}{{{','.join(f'{k}={v}' for k, v in sample.labels.items())}}}": sample.value
        for family in out.collect()
        for sample in family.samples
    }


def server(data: Filled, days: int = 60, busy_ratio: float = 0.02) -> None:
    """Add a server that was on all the time until yesterday."""
    host = data.add_host()
    on = cell(State.ON_IDLE, HOUR, busy_ratio=busy_ratio, energy_millijoules=100 * HOUR)
    on.cpu_bucket_milliseconds.extend(
        HOUR if at == 2 else 0 for at in range(CELL_BUCKETS["cpu_bucket_milliseconds"])
    )
    start = round(datetime(2026, 11, 24, 23, tzinfo=UTC).timestamp() * 1000)
    data.push(host, [(clock(start - n * HOUR, HOUR), [on]) for n in reversed(range(24 * days))], METER)


# --- figures


def test_gauges_are_the_figures_of_the_report(data):
    """Gauges equal the report's figures of the month, in base units, and causes sum to the whole."""
    month_of_workstations(data, MONTH, [GOOD] * 18 + [NEVER] * 12)
    found = samples(published(data))
    with open_reader(data.directory) as store:
        query = Query(MONTH, END, ("population",), 10, TODAY)
        sums = sum_for_indicators(sources_of(store, ReportingSettings()), query)
    report = {one.indicator: one.figure for one in sums.rows}
    (group,) = sums.groups
    assert found["power_plan_compliance_ratio{population=workstation}"] == report["I3"].value == 18 / 30
    avoidable = {name: value for name, value in found.items() if name.startswith("month_avoidable")}
    assert set(avoidable) == {
        f"month_avoidable_energy_joules{{population=workstation,cause={cause}}}"
        for cause in ("closed_bands", "open_idle", "screens")
    }
    kwh = report["I4"].value
    assert kwh is not None
    assert kwh > 1
    assert sum(avoidable.values()) == pytest.approx(kwh * JOULES_PER_KWH)
    night = found["month_night_power_ratio{population=workstation,machines=physical}"]
    assert night > 0
    (of_report,) = load_indicator(NIGHTS).figures(IndicatorGroup(group.key, sums=group.sums), Targets())
    assert night == of_report.value
    assert not [name for name in found if "_servers" in name]


def test_nine_are_not_shown(data):
    """Nine machines that do not comply hide the share, and no zero is shown."""
    month_of_workstations(data, MONTH, [GOOD] * 21 + [NEVER] * 9)
    found = samples(published(data))
    assert "month_night_power_ratio{population=workstation,machines=physical}" in found
    assert not [name for name in found if name.startswith("power_plan")]


def test_nine_machines_are_nowhere(data):
    """A population smaller than k has no sample."""
    month_of_workstations(data, MONTH, [GOOD] * 9)
    assert samples(published(data)) == {}


def test_a_cause_of_few_falls_into_one_sum(data):
    """Where three of thirty machines idle at night, the causes are one sum, which is the whole."""
    month_of_workstations(data, MONTH, [GOOD] * 30, idle_nights=3)
    found = {name: value for name, value in samples(published(data)).items() if "avoidable" in name}
    assert list(found) == ["month_avoidable_energy_joules{population=workstation,cause=mixed}"]
    assert next(iter(found.values())) > 0


def test_servers_by_verdict(data):
    """A server observed for 60 days at 2 % is under-used (I7), and not judged by I6 and I8, which is no
    zero."""
    server(data)
    data.add_host(device_class=DeviceClass.VIRTUAL_MACHINE)
    found = samples(published(data))
    physical = {
        name: value for name, value in found.items() if "machines=physical" in name and "_servers" in name
    }
    assert physical == {
        "comatose_servers{machines=physical,verdict=excluded}": 0,
        "comatose_servers{machines=physical,verdict=not_judged}": 1,
        "underused_servers{machines=physical,verdict=not_judged}": 0,
        "underused_servers{machines=physical,verdict=underused}": 1,
        "underused_servers{machines=physical,verdict=in_use}": 0,
        "oversized_servers{machines=physical,verdict=not_judged}": 1,
    }
    assert found["underused_servers{machines=virtual,verdict=not_judged}"] == 1
    assert "month_avoidable_energy_joules{population=server,cause=comatose_servers}" not in found


def test_verdicts_add_up_to_the_servers():
    """Five servers have five verdicts: comatose, suspect, in service, excluded and not judged."""
    quiet, busy = (0, 0), (6, 3)

    def loads(last_30: tuple[int, int], last_180: tuple[int, int]) -> dict[int, Load]:
        return {30: load(30, *last_30), 90: load(90, *last_180), 180: load(180, *last_180)}

    servers = (
        a_server(1, loads=loads(quiet, quiet)),
        a_server(2, loads=loads(quiet, busy)),
        a_server(3, loads=loads(busy, busy)),
        a_server(4, loads=loads(quiet, quiet), role=ServerRole.BACKUP),
        a_server(5),
    )
    (found,) = load_indicator("I6").parts(the("I6", group_of(*servers)))
    assert found == {"comatose": 1, "suspect": 1, "in_service": 1, "excluded": 1, "not_judged": 1}


def load(days: int, cpu_bucket: int, network_bucket: int) -> Load:
    """Return a load that is on all the time, in one bucket of each list."""
    time_on = days * 24 * HOUR

    def only(place: int, size: int) -> tuple[int, ...]:
        return tuple(time_on if at == place else 0 for at in range(size))

    sizes = CELL_BUCKETS["cpu_bucket_milliseconds"], CELL_BUCKETS["network_rate_milliseconds"]
    return Load(
        time_on,
        time_on,
        time_on,
        cpu_buckets=only(cpu_bucket, sizes[0]),
        network_buckets=only(network_bucket, sizes[1]),
    )


def test_servers_that_could_not_be_judged_stand_beside_what_is_avoidable():
    """The line has a share of the energy of judged servers, and the number of the others."""
    use = BandUse(on_idle_millijoules=HOUR, derived_millijoules=2 * HOUR, on_idle_milliseconds=HOUR)
    bands = {Band.NIGHT: use}
    judged = a_server(1, bands=bands, loads={30: load(30, 0, 0), 180: load(180, 0, 0)})
    key = GroupKey(MONTH, END, population=Population.SERVER)
    row = IndicatorRow("I4", key, the("I4", group_of(judged, a_server(2, bands=bands))))
    _, notes = format_figure(row, words("en"))
    assert notes[0].startswith("50.0%")
    assert notes[-1] == "1 not observed for long enough to be judged"


# --- when


def test_a_month_stays_as_published(data):
    """Late records and a new server change nothing until the month is taken back and published again."""
    hosts = month_of_workstations(data, MONTH, [GOOD] * 18 + [NEVER] * 12)
    first = published(data)
    before = first.figures()
    assert {row.indicator for row in before} == {"I3", "I4", NIGHTS}
    server(data)
    data.push(hosts[0], [(civil(date(2026, 10, 30)), [cell(State.ON_IDLE, 36_000_000, Band.CLOSED)])])
    assert published(data).figures() == before
    assert data.store.publications.take_back(MONTH, END) == 4
    first.refresh()  # the running service follows
    assert first.figures() == ()
    again = published(data)
    assert samples(again)["underused_servers{machines=physical,verdict=underused}"] == 1
    assert {row.indicator: row.figure.value for row in again.figures()}["I4"] != before[1].figure.value
    assert published(data, date(2026, 12, 3)).figures() == again.figures()
    assert {row.key.period_from for row in published(data, date(2026, 12, 4)).figures()} == {END}


def test_what_cannot_be_read_is_absent(data, caplog):
    """Without the store, and with a publication of a newer program, there is no figure, and a warning."""
    month_of_workstations(data, MONTH, [GOOD] * 12)
    indicators = published(data)
    figures = indicators.figures()
    assert figures
    file = data.directory / "data.db"
    file.rename(data.directory / "elsewhere")
    indicators.start()
    until(lambda: indicators.figures() == ())
    indicators.stop()
    indicators._thread.join(PATIENCE_SECONDS)
    assert "released months are not shown" in caplog.messages
    (data.directory / "elsewhere").rename(file)
    indicators.refresh()
    assert indicators.figures() == figures
    data.store.publications.take_back(MONTH, END)
    data.store.publications.put(Publication(PublicationKind.INDICATORS, MONTH, END, 4, 10, "", 0, "{}"))
    indicators.refresh()
    assert indicators.figures() == ()
    assert "has format 4" in caplog.records[-1].reason


class Defective:
    """A store of publications that raises until it is repaired."""

    def __init__(self, sound: Publishing) -> None:
        self.sound, self.broken, self.asked = sound, True, 0

    def __getattr__(self, name: str) -> Any:
        if self.broken:
            self.asked += 1
            raise ZeroDivisionError("a defect")
        return getattr(self.sound, name)


def test_a_defect_does_not_end_the_thread(data, caplog):
    """A defect gives no figure and one ERROR, however often it is tried; afterwards the figures return."""
    month_of_workstations(data, MONTH, [GOOD] * 12)
    published(data)
    defective: Any = Defective(Publishing(data))
    settings = CollectorSettings(data_dir=data.directory)
    indicators = MonthlyFigures(
        settings, partial(open_reader, data.directory), defective, NOW.timestamp, 0.01
    )
    indicators.start()
    until(lambda: defective.asked > 3, "it tried again and again")
    assert indicators.figures() == ()
    assert caplog.messages.count("released months cannot be shown") == 1
    defective.broken = False
    until(indicators.figures, "the figures are there")
    indicators.stop()
    indicators._thread.join(PATIENCE_SECONDS)
    assert not indicators._thread.is_alive()


def test_a_look_never_waits(data):
    """The thread reads the figures: a look before shows none, one after shows them."""
    month_of_workstations(data, MONTH, [GOOD] * 12)
    published(data)
    settings = CollectorSettings(data_dir=data.directory)
    indicators = monthly_figures(data, NOW.timestamp)
    with closing(data.reader()) as reader:
        looks = SnapshotCache(reader, settings, NOW.timestamp, indicators.figures)
        assert looks.take_snapshot().machine_figures == ()
        indicators.start()
        until(indicators.figures)
        looks._last = None
        look = looks.take_snapshot()
        indicators.stop()
    assert {row.indicator for row in look.machine_figures} == {"I3", "I4", NIGHTS}
    out = Exposition()
    add_machine_figures(out, look.machine_figures)
    assert 0 < out.series() < series_bound(look.fleet)


# --- the page


def page(data: Filled, language: str, settings: CollectorSettings | None = None) -> str:
    """Return the page of the indicators, with published figures."""
    published(data)
    with Reading(data, clock=NOW.timestamp, settings=settings) as reading:
        return reading.get(f"/sobriete?lang={language}").text


@pytest.mark.parametrize(
    ("language", "said"),
    [
        (
            "fr",
            (
                "60,0\u00a0%",
                "18 sur 30 dont le réglage est connu",
                "écran ≤\u00a015\u00a0min, veille ≤\u00a030\u00a0min",
                "octobre 2026",
                "1 serveur sur 1",
                "1 pas observé assez longtemps pour être jugé",
                "pas connu",
            ),
        ),
        (
            "en",
            (
                "60.0%",
                "18 of 30 with a known setting",
                "display ≤\u00a015\u00a0min, sleep ≤\u00a030\u00a0min",
                "October 2026",
                "1 server of 1",
                "1 not observed for long enough to be judged",
                "not known",
            ),
        ),
    ],
)
def test_page_shows_each_with_threshold_and_definition(data, language, said):
    """The page has values, bases, thresholds, periods and definitions of all indicators."""
    month_of_workstations(data, MONTH, [GOOD] * 18 + [NEVER] * 12)
    server(data)
    text = page(data, language)
    for each in said:
        assert each in text, each
    w = words(language)
    for identifier in TABLE:
        assert definition_of(identifier, w, Targets()) in html.unescape(text)


def test_page_says_what_is_withheld(data):
    """With nine machines on one side the page gives the reason and no value."""
    month_of_workstations(data, MONTH, [GOOD] * 21 + [NEVER] * 9)
    text = page(data, "en")
    assert "not shown: fewer than 10 machines" in text
    assert "70.0%" not in text
    assert "21 of 30" not in text


def test_thresholds_are_those_of_the_settings(data):
    """Changed settings change what is judged and what is written."""
    month_of_workstations(data, MONTH, [GOOD] * 18 + [NEVER] * 12)
    changed = read_settings(None, {}, {"indicators.sleep_minutes": "60"}).indicators
    settings = CollectorSettings(data_dir=data.directory, indicators=changed)
    assert "display ≤\u00a015\u00a0min, sleep ≤\u00a060\u00a0min" in page(data, "en", settings)


def test_page_before_the_first_computation(data):
    """The page says that there is nothing yet, and when there is."""
    with Reading(data, clock=NOW.timestamp) as reading:
        assert "at the beginning of next month" in reading.get("/sobriete?lang=en").text
