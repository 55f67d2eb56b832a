# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of I3 to I8 on /metrics and the page: the reports' figures, frozen by month, or absent."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.support.filled import METER, Filled, cell, civil, clock, month_of_workstations
from tests.support.pages import body
from tests.support.publishing import Publishing
from tests.support.sources import opened_for_sobriety
from tests.support.waiting import PATIENCE_SECONDS, until
from tests.unit.collector.indicators.test_sobriety import SCOPE, the
from tests.unit.collector.indicators.test_sobriety import of as group_of
from tests.unit.collector.indicators.test_sobriety import server as a_server
from veilleuse.collector.account.observations import gather_periods
from veilleuse.collector.documents.text import words
from veilleuse.collector.exposition.prometheus import Exposition
from veilleuse.collector.indicators import NIGHTS, load_indicator
from veilleuse.collector.model.indicators import BandUse, Figure, IndicatorGroup, Load, Targets
from veilleuse.collector.model.inventory import ServerRole
from veilleuse.collector.model.publications import Publication, PublicationKind
from veilleuse.collector.model.query import GroupKey, Query
from veilleuse.collector.release.publications import publisher
from veilleuse.collector.reports.indicators import GroupFigure, compute_indicators
from veilleuse.collector.settings import CollectorSettings, read_settings
from veilleuse.collector.store import open_reader
from veilleuse.collector.web.access import MetricsAuth
from veilleuse.collector.web.app import make_app
from veilleuse.collector.web.metrics.indicators_monthly import (
    FORM,
    MachineFigure,
    MachineIndicators,
    add_machine_figures,
)
from veilleuse.collector.web.metrics.pc_figures import RULES
from veilleuse.collector.web.metrics.scrape import series_bound
from veilleuse.collector.web.metrics.snapshot import SnapshotCache
from veilleuse.collector.web.pages.indicators import GLOSSARY, indicator_part
from veilleuse.wire.limits import CELL_BUCKETS
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

NOW = datetime(2026, 11, 25, 10, 30, tzinfo=UTC)
MONTH, END = date(2026, 10, 1), date(2026, 11, 1)
HOUR = 3_600_000
GOOD, NEVER = (600, 1200), (600, 0)
JOULES_PER_KWH = 3_600_000


class Clock:
    """A settable clock, Unix seconds."""

    def __init__(self) -> None:
        self.now = NOW.timestamp()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Filled]:
    """Return an empty directory, as of NOW."""
    with Filled(tmp_path / "data", clock=NOW.timestamp) as store:
        yield store


def made(data: Filled, clock_: Clock | None = None) -> MachineIndicators:
    """Return indicators that were computed once."""
    data.derive()
    indicators = begun(data, clock_)
    indicators.refresh()
    return indicators


def begun(data: Filled, clock_: Clock | None = None) -> MachineIndicators:
    """Return indicators of a service that has just started."""
    settings, published = CollectorSettings(data_dir=data.directory), Publishing(data, NOW.timestamp)
    return MachineIndicators(
        settings,
        partial(open_reader, settings.data_dir),
        published,
        published.publish,
        clock_ or NOW.timestamp,
    )


def samples(indicators: MachineIndicators) -> dict[str, float]:
    """Return `name{label=value,…}` without the prefix → value."""
    out = Exposition()
    add_machine_figures(out, indicators.machine_figures())
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
    found = samples(made(data))
    settings = CollectorSettings(data_dir=data.directory)
    with opened_for_sobriety(settings.data_dir, settings.reporting) as sources:
        question = Query(MONTH, END, (), 10, NOW.date())
        report = {
            one.meta.indicator: one.figure for one in compute_indicators(sources, question, Targets()).figures
        }
        (group,) = gather_periods(sources.base.reader, sources.base.periods, question).groups
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
    found = samples(made(data))
    assert "month_night_power_ratio{population=workstation,machines=physical}" in found
    assert not [name for name in found if name.startswith("power_plan")]


def test_nine_machines_are_nowhere(data):
    """A population smaller than k has no sample."""
    month_of_workstations(data, MONTH, [GOOD] * 9)
    assert samples(made(data)) == {}


def test_a_cause_of_few_falls_into_one_sum(data):
    """Where three of thirty machines idle at night, the causes are one sum, which is the whole."""
    month_of_workstations(data, MONTH, [GOOD] * 30, idle_nights=3)
    found = {name: value for name, value in samples(made(data)).items() if "avoidable" in name}
    assert list(found) == ["month_avoidable_energy_joules{population=workstation,cause=mixed}"]
    assert next(iter(found.values())) > 0


def test_unknown_plans_and_an_empty_month_are_absent(data):
    """Machines without plan and records have no sample, not 0."""
    for _ in range(12):
        data.add_host(Population.WORKSTATION, DeviceClass.TOWER)
    assert samples(made(data)) == {}


def test_servers_by_verdict(data):
    """A server observed for 60 days at 2 % is under-used (I7), and not judged by I6 and I8, which is no
    zero."""
    server(data)
    data.add_host(device_class=DeviceClass.VIRTUAL_MACHINE)
    found = samples(made(data))
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
    found = GroupFigure(
        load_indicator("I4").meta,
        SCOPE._replace(population=Population.SERVER),
        the("I4", group_of(judged, a_server(2, bands=bands))),
    )
    figure = MachineFigure(found, MONTH, NOW.date())
    (block,) = indicator_part([figure], words("en"), CollectorSettings()).blocks
    (line,) = block.lines
    assert line.notes[0].startswith("50.0%")
    assert line.notes[-1] == "1 not observed for long enough to be judged"


# --- when


def test_frozen_by_the_month_for_people_daily_for_servers(data):
    """A late record changes nothing until the next month is closed; servers follow the next day."""
    clock_ = Clock()
    hosts = month_of_workstations(data, MONTH, [GOOD] * 18 + [NEVER] * 12)
    indicators = made(data, clock_)
    before = samples(indicators)
    server(data)
    late = (civil(date(2026, 10, 30)), [cell(State.ON_IDLE, 36_000_000, Band.CLOSED)])
    data.push(hosts[0], [late])
    data.derive()
    indicators.refresh()
    assert samples(indicators) == before
    clock_.now += 86_400
    indicators.refresh()
    after = samples(indicators)
    assert {name: value for name, value in after.items() if "server" not in name} == before
    assert after["underused_servers{machines=physical,verdict=underused}"] == 1
    clock_.now = datetime(2026, 12, 3, 12, tzinfo=UTC).timestamp()
    indicators.refresh()
    assert [one.month for one in indicators.machine_figures()] == [MONTH] * len(indicators.machine_figures())
    clock_.now = datetime(2026, 12, 4, 12, tzinfo=UTC).timestamp()
    indicators.refresh()
    assert {one.month for one in indicators.machine_figures()} == {END}
    assert not [name for name in samples(indicators) if name.startswith("month_avoidable")]


def test_a_month_stays_as_published_after_a_restart(data):
    """After a restart and a late record the month is equal to the last digit; withdrawn, it is made again."""
    hosts = month_of_workstations(data, MONTH, [GOOD] * 18 + [NEVER] * 12)
    first = made(data)
    before = first.machine_figures()
    assert {one.group_figure.meta.indicator for one in before} == {*RULES, NIGHTS}
    data.push(hosts[0], [(civil(date(2026, 10, 30)), [cell(State.ON_IDLE, 36_000_000, Band.CLOSED)])])
    assert made(data).machine_figures() == before
    assert data.store.publications.take_back(MONTH, END) == 2
    first.refresh()  # the running service follows too
    assert first.machine_figures() != before
    assert made(data).machine_figures() == first.machine_figures()


def test_what_cannot_be_published_is_absent(data, caplog):
    """Without the collector, or with an unreadable publication, servers alone are shown, with a warning."""
    month_of_workstations(data, MONTH, [GOOD] * 12)
    server(data)
    data.derive()
    settings = CollectorSettings(data_dir=data.directory)
    published = Publishing(data, NOW.timestamp)
    indicators = MachineIndicators(
        settings,
        partial(open_reader, settings.data_dir),
        published,
        publisher(settings.data_dir),
        NOW.timestamp,
    )
    indicators.refresh()
    assert {one.group_figure.key.population for one in indicators.machine_figures()} == {Population.SERVER}
    assert "a month of workstations and classroom PCs is not shown" in caplog.messages
    indicators = made(data)
    assert len({one.group_figure.key.population for one in indicators.machine_figures()}) == 2
    data.store.publications.take_back(MONTH, END)
    data.store.publications.put(Publication(PublicationKind.INDICATORS, MONTH, END, 3, 10, "", 0, "{}"))
    indicators.refresh()
    assert {one.group_figure.key.population for one in indicators.machine_figures()} == {Population.SERVER}
    assert "has format 3" in caplog.records[-1].reason


def test_figures_are_read_as_they_were_written():
    """Decimals are written in format 2 to the last digit, and read back unchanged."""
    scope = GroupKey(MONTH, END, population=Population.WORKSTATION)
    figure = Figure(
        0.1 + 0.2, 30, 18, 30.0, "machines", {"a_kwh": 1 / 3, "n": 2, "word": "x"}, (0.1, 0.7), 0.9
    )
    figures = (MachineFigure(GroupFigure(load_indicator("I3").meta, scope, figure), MONTH, END),)
    content = FORM.encode(figures)
    assert json.dumps(content, sort_keys=True, separators=(",", ":")) == (
        '{"figures":[{"autres":false,"counted_in":"machines","denominator":{"float":"30.0"},"details":{"a_kwh":{"float":'
        '"0.3333333333333333"},"n":2,"word":"x"},"indicator":"I3","interval":[{"float":"0.1"},{"float":"0.7"}],"memo":false,"n":30,'
        '"numerator":18,"population":"workstation","threshold":{"float":"0.9"},"value":{"float":"0.30000000000000004"},"withheld":false}]}'
    )
    assert FORM.decode(content, MONTH, END) == figures
    behind = figures[0].group_figure._replace(figure=replace(figure, behind=({1: 1},)))
    with pytest.raises(ValueError, match="I3 is of more"):
        FORM.encode((figures[0]._replace(group_figure=behind),))


def test_who_stands_behind_is_not_kept(data):
    """The web process keeps figures, not machines."""
    month_of_workstations(data, MONTH, [GOOD] * 12)
    figures = [one.group_figure.figure for one in made(data).machine_figures()]
    assert figures
    assert all(figure.behind == () and not figure.behind_details for figure in figures)


def test_a_look_never_waits(data):
    """The thread computes the figures: a look before shows none, one after shows them; `stop` ends it."""
    month_of_workstations(data, MONTH, [GOOD] * 12)
    data.derive()
    settings = CollectorSettings(data_dir=data.directory)
    indicators = begun(data)
    reader = data.reader()
    look = SnapshotCache(reader, settings, NOW.timestamp, indicators.machine_figures).take_snapshot()
    assert look.machine_figures == ()
    indicators.start()
    until(indicators.machine_figures)
    look = SnapshotCache(reader, settings, NOW.timestamp, indicators.machine_figures).take_snapshot()
    assert {one.group_figure.meta.indicator for one in look.machine_figures} == {*RULES, NIGHTS}
    out = Exposition()
    add_machine_figures(out, look.machine_figures)
    assert 0 < out.series() < series_bound(look.fleet)
    indicators.stop()
    for thread in [one for one in threading.enumerate() if one is indicators._thread]:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
    reader.close()


def test_what_cannot_be_read_is_absent(data, caplog):
    """Without the store there is no figure and one warning; later it is tried again."""
    month_of_workstations(data, MONTH, [GOOD] * 12)
    clock_ = Clock()
    indicators = made(data, clock_)
    assert indicators.machine_figures()
    clock_.now += 86_400
    file = data.directory / "data.db"
    file.rename(data.directory / "elsewhere")
    indicators.start()
    until(lambda: indicators.machine_figures() == ())
    indicators.stop()
    indicators._thread.join(PATIENCE_SECONDS)
    assert "indicators of machines not worked out" in caplog.messages
    (data.directory / "elsewhere").rename(file)
    indicators.refresh()
    assert indicators.machine_figures()


# --- the page


class Parsed(HTMLParser):
    """Anchors and their targets."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.identifiers: list[str] = []
        self.targets: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("id"):
            self.identifiers.append(str(values["id"]))
        target = values.get("href") or ""
        if target.startswith("#"):
            self.targets.append(target[1:])


def page(data: Filled, language: str, settings: CollectorSettings | None = None) -> str:
    """Return the first page with computed indicators."""
    indicators = made(data)
    settings = settings or CollectorSettings(data_dir=data.directory)
    reader = data.reader()
    outlook = SnapshotCache(reader, settings, NOW.timestamp, indicators.machine_figures)
    text = body(
        make_app(outlook, settings, MetricsAuth("127.0.0.1", 8640, None), "0.1.0"), f"/?lang={language}"
    )
    reader.close()
    return text


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
                "30 jours jusqu’au 24/11/2026",
                "1 serveur sur 1",
                "1 pas observé assez longtemps pour être jugé",
                "pas connu",
                "Énergie évitable par cause (octobre 2026), en kWh",
            ),
        ),
        (
            "en",
            (
                "60.0%",
                "18 of 30 with a known setting",
                "display ≤\u00a015\u00a0min, sleep ≤\u00a030\u00a0min",
                "October 2026",
                "30 days to 2026-11-24",
                "1 server of 1",
                "1 not observed for long enough to be judged",
                "not known",
                "Avoidable energy by cause (October 2026), in kWh",
            ),
        ),
    ],
)
def test_page_shows_each_with_threshold_and_definition(data, language, said):
    """The page has values, bases, thresholds and periods; each code links to its one definition."""
    month_of_workstations(data, MONTH, [GOOD] * 18 + [NEVER] * 12)
    server(data)
    text = page(data, language)
    for each in said:
        assert each in text, each
    parsed = Parsed(text)
    assert set(parsed.targets) >= {"I3", "I4", "I5", "I6", "I7", "I8"}
    assert set(parsed.targets) <= set(parsed.identifiers)
    assert len(parsed.identifiers) == len(set(parsed.identifiers))
    assert text.count('<svg class="chart"') == text.count("<figure>") == text.count("<details>")
    assert "--from 2026-10-01 --to 2026-11-01 --group-by population" in text


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
    """The page says that there is nothing yet, and has the glossary."""
    settings = CollectorSettings(data_dir=data.directory)
    reader = data.reader()
    app = make_app(
        SnapshotCache(reader, settings, NOW.timestamp), settings, MetricsAuth("127.0.0.1", 1, None), "0.1.0"
    )
    text = body(app, "/?lang=en")
    reader.close()
    assert "Nothing to show yet" in text
    assert len(re.findall(r'<dt id="I\d+">', text)) == len(GLOSSARY)
