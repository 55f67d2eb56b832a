# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse simulate --preset`: the shape of the large fleet, and what its directory holds at the end."""

from __future__ import annotations

import json
import operator
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from veilleuse.collector.cli.main import run
from veilleuse.collector.cli.progress import shown_progress
from veilleuse.collector.errors import CollectorError, UsageError
from veilleuse.collector.model.hosts import HostStatus
from veilleuse.collector.model.months import DayType
from veilleuse.collector.settings import CollectorSettings, RetentionSettings
from veilleuse.collector.simulate import registry
from veilleuse.collector.simulate.ahead import WeekEnd, events, generated_ahead
from veilleuse.collector.simulate.fill import simulate
from veilleuse.collector.simulate.fleet import SimulatedDevice, SimulationOrder, devices
from veilleuse.collector.simulate.generate import Generation, Sent, weeks
from veilleuse.collector.simulate.metropole import METROPOLE
from veilleuse.collector.simulate.places import DeclaredLines, Stock
from veilleuse.collector.simulate.presets import order_of
from veilleuse.collector.simulate.routines import routine_of
from veilleuse.collector.simulate.small import SMALL
from veilleuse.collector.simulate.truth import Truth
from veilleuse.collector.store import open_reader
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.vocabulary import DeviceClass, Population, State

pytestmark = pytest.mark.any_date

TODAY = date(2026, 11, 29)


def _few(hosts: int, first: date, end: date) -> tuple[Stock, ...]:
    """Return some places of the large fleet: six colleges, one with classrooms, two directions, a room."""
    found = METROPOLE.stocks(METROPOLE.hosts, first, end)
    offices = [one for one in found if one.place.is_office]
    places = [*found[:12:2], found[5], *offices[:2], replace(found[-1], agents=4, machines=8)]
    return tuple(replace(one, begins=(first,)) for one in places)


def _one_action(first: date, end: date) -> DeclaredLines:
    line = {"action_id": "off", "sites": "college-jean-moulin", "from_day": "2026-01-01", "what": "off"}
    return {"actions": [line]}


YEAR_END = SimulationOrder(
    168, date(2025, 11, 1), 72, 3, replace(METROPOLE, stocks=_few, declared=_one_action)
)
"""Ten weeks over the end of a year: two months are published, the year is closed, old days are removed."""


def _quiet(what: str, done: int, whole: int) -> None:
    pass


def _order(**changed: int) -> SimulationOrder:
    words = {"hosts": None, "first": None, "days": None, "seed": 1} | changed
    return order_of("metropole", TODAY, **words)  # type: ignore[arg-type]


# --- the order


@pytest.mark.parametrize(
    ("today", "first"),
    [
        (date(2026, 11, 29), date(2025, 1, 1)),
        (date(2026, 2, 10), date(2024, 12, 10)),
        (date(2026, 12, 31), date(2025, 1, 1)),
    ],
)
def test_it_ends_now_and_has_a_whole_year_and_fourteen_months(today: date, first: date):
    """The last civil year is whole, the roll-out has its months, and the last day is yesterday."""
    order = order_of("metropole", today, hosts=None, first=None, days=None, seed=1)
    assert (order.first, order.end, order.hosts) == (first, today, 2_000)


def test_options_win_over_the_preset():
    """Days count from the first day."""
    order = order_of("metropole", TODAY, hosts=300, first=date(2026, 6, 1), days=40, seed=2)
    assert (order.hosts, order.first, order.end) == (300, date(2026, 6, 1), date(2026, 7, 11))
    small = order_of("small", TODAY, hosts=None, first=date(2026, 6, 1), days=None, seed=1)
    assert (small.hosts, small.days, small.preset) == (60, 365, SMALL)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--preset", "lyon", "--from", "2026-01-01"], "--preset lyon: use small or metropole"),
        ([], "--preset small needs its first day: --from 2025-09-01"),
    ],
)
def test_an_unknown_preset_or_a_missing_day_is_refused(monkeypatch, capsys, tmp_path, words, why: str):
    """Nothing is made."""
    monkeypatch.setenv("VEILLEUSE__DATA_DIR", str(tmp_path / "data"))
    assert run(["simulate", *words]) == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


# --- the fleet


def test_the_shape_of_the_large_fleet():
    """110 colleges, 30 directions, three rooms; 2,000 agents and 12,000 assets, 1 % more or less."""
    order = _order()
    fleet = devices(order)
    entities = {place.entity: place for place in order.places}
    assert Counter(
        "college" if one.school else "room" if one.is_room else "direction" for one in entities.values()
    ) == {"college": 110, "direction": 30, "room": 3}
    assert len({place.site for place in order.places}) == len(entities) == 143
    assert sum(one.agent_from is not None for one in fleet) == 2_000
    (assets, *_), *_ = [files[1:2] for files in registry.imports(order, fleet)]
    assert len(assets[1].splitlines()) - 1 == pytest.approx(12_000, rel=0.01)
    classes = {one.model.device_class for one in fleet if one.agent_from is not None}
    assert {DeviceClass.TOWER, DeviceClass.LAPTOP, DeviceClass.SERVER, DeviceClass.VIRTUAL_MACHINE} <= classes


@pytest.mark.parametrize("hosts", [10, 333, 5_000])
def test_any_number_of_agents_is_met(hosts: int):
    """Places have agents in proportion, and never more agents than machines."""
    fleet = devices(_order(hosts=hosts))
    assert sum(one.agent_from is not None for one in fleet) == hosts


def test_agents_begin_in_waves():
    """A pilot measures the whole last year; the others begin over the fourteen months; nobody later."""
    order = _order()
    begun = [one.agent_from for one in devices(order) if one.agent_from is not None]
    assert sum(day < date(2025, 9, 1) for day in begun) > 100
    assert sum(day < date(2026, 2, 1) for day in begun) > 900
    assert max(begun) < order.end - timedelta(days=28)


def test_what_is_not_as_it_should_be():
    """Some agents are silent, outdated or failing, some assets doubtful; the small fleet has none of it."""
    fleet = devices(_order())
    assert 10 < sum(one.agent_until is not None for one in fleet) < 60
    assert 300 < sum(one.is_outdated for one in fleet) < 500
    assert 10 < sum(one.is_failing for one in fleet) < 60
    assert sum(one.is_model_doubtful for one in fleet) == 12
    assert any(one.services for one in fleet)
    small = devices(SimulationOrder(60, date(2026, 1, 1), 30, 1))
    assert not any(one.agent_until or one.is_outdated or one.is_failing or one.services for one in small)


def _nights(device: SimulatedDevice, first: date, number: int) -> int:
    """Return the number of days that end with the machine on and unused."""
    routine = routine_of(device, 1)
    found = 0
    for day in (first + timedelta(days=offset) for offset in range(number)):
        kind = DayType.CLOSED if day.isoweekday() > 5 else DayType.OPEN
        found += routine.spans(day, kind, 0, 24 * MILLISECONDS_PER_HOUR)[-1].state is State.ON_IDLE
    return found


def test_an_action_switches_off_at_night():
    """Before its day a desktop that is always on is on every night, from that day on none is."""
    fleet = devices(_order())
    device = next(one for one in fleet if one.always_on and one.place.is_office)
    day = date(2026, 3, 2)
    assert {one.place.school for one in fleet if one.shut_down_from} == {True}
    acting = replace(device, shut_down_from=day)
    assert _nights(replace(device, shut_down_from=None), day - timedelta(days=28), 56) == 56
    assert _nights(acting, day - timedelta(days=28), 56) == 28


# --- another process


def test_another_process_generates_the_same():
    """Records, their order and the truth are those of one process; parts are whole weeks."""
    order = SimulationOrder(12, date(2026, 3, 20), 20, 5)
    here = list(events(Generation(order)))
    with generated_ahead(order) as ahead:
        there = list(ahead)
    assert [one for one in there if not isinstance(one, Truth)] == [
        one for one in here if not isinstance(one, Truth)
    ]
    assert there[-1].text() == here[-1].text()  # type: ignore[union-attr]
    ends = [one.end for one in there if isinstance(one, WeekEnd)]
    assert ends == [date(2026, 3, 23), date(2026, 3, 30), date(2026, 4, 6), date(2026, 4, 9)]
    assert any(isinstance(one, Sent) for one in there)
    assert [end for _, end in weeks(order)] == ends


def test_a_process_that_fails_ends_the_simulation(capfd):
    """Its error is on standard error; this one says what happened."""
    preset = replace(SMALL, stocks=operator.not_)  # type: ignore[arg-type]  # it takes one argument
    order = SimulationOrder(12, date(2026, 3, 20), 20, 5, preset)
    with generated_ahead(order) as ahead, pytest.raises(CollectorError, match="ended before its work"):
        next(ahead)
    assert "TypeError" in capfd.readouterr().err


# --- the directory


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> tuple[Path, Truth]:
    """Fill a directory over the end of a year."""
    directory = tmp_path_factory.mktemp("served") / "data"
    return directory, simulate(CollectorSettings(data_dir=directory), YEAR_END, _quiet)


def test_the_year_is_published_and_closed(served: tuple[Path, Truth], monkeypatch, capsys):
    """`report emissions` answers with released figures, of a provisional closing; the truth is in its
    interval."""
    directory, _ = served
    monkeypatch.setenv("VEILLEUSE__DATA_DIR", str(directory))
    words = ["report", "emissions", "--from", "2025-01-01", "--to", "2026-01-01", "--group-by", "entity"]
    assert run([*words, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    head, entities = found["report"], {row.get("entity") for row in found["rows"]}
    assert (head["basis"], head["state"], head["report_id"]) == ("released", "closed_provisional", "2025-r1")
    assert len([one for one in entities if one and "Collège " in one]) == 6


def test_december_holds_the_truth(served: tuple[Path, Truth], monkeypatch, capsys):
    """The released month's interval contains the true energy of the whole fleet."""
    directory, truth = served
    monkeypatch.setenv("VEILLEUSE__DATA_DIR", str(directory))
    words = ["report", "emissions", "--from", "2025-12-01", "--to", "2026-01-01", "--basis", "unreleased"]
    assert run([*words, "--format", "json"]) == 0
    (total,) = json.loads(capsys.readouterr().out)["totals"]
    true = truth.kwh(date(2025, 12, 1), date(2026, 1, 1))
    assert total["kwh_lo_sample"] <= true <= total["kwh_hi_sample"]


def test_the_directory_is_left_as_by_a_running_collector(served: tuple[Path, Truth]):
    """Nothing waits and old days of PCs are gone; clones wait, an identity is disputed, an action is
    declared."""
    directory, _ = served
    with closing(sqlite3.connect(f"file:{directory / 'data.db'}?mode=ro", uri=True)) as connection:
        assert connection.execute("SELECT count(*) FROM dirty").fetchone() == (0,)
        (oldest,) = connection.execute(
            "SELECT min(start) FROM sums WHERE grain = 2 AND host_id IN"
            " (SELECT host_id FROM hosts WHERE population < 3)"
        ).fetchone()
    assert date.fromordinal(oldest) == YEAR_END.end - timedelta(days=RetentionSettings().pc_daily_days)
    with open_reader(directory) as store:
        hosts = store.data.hosts()
        assert sum(one.status is HostStatus.PENDING for one in hosts) == METROPOLE.oddities.copies
        assert sum(one.conflicts for one in hosts) == 1
        assert [one.action.action_id for one in store.follows.actions()] == ["off"]
        assert store.data.data_kind().simulated
        assert len({one.population for one in hosts}) == len(Population)


def test_a_fleet_of_the_future_is_refused(tmp_path):
    """The bounds of an order hold for a preset too."""
    with pytest.raises(UsageError, match="--days 3"):
        _order(days=3)


def test_progress_is_for_terminals_only(capsys):
    """Nothing is printed elsewhere."""
    with shown_progress() as progress:
        progress("records", 1, 2)
    assert capsys.readouterr() == ("", "")
