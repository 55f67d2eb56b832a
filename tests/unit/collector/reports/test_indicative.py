# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the indicative ledger: weighting by energy, gaps, disclosure rule and label."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.filled import METER, Filled, cell, clock
from veilleuse.collector.documents.document import FORMATS, Document, read_columns, renderer
from veilleuse.collector.errors import UsageError
from veilleuse.collector.grid.ledger import by_hour, indicative, ledger
from veilleuse.collector.model.grid import (
    LABEL,
    GridIntensity,
    HourIntensity,
    Hourly,
    IntensityKind,
    IntensityStatus,
    Sums,
)
from veilleuse.collector.model.query import GroupKey, Query
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import EnergySums
from veilleuse.collector.reports.indicative import indicative_report_of
from veilleuse.wire.vocabulary import DeviceClass, Population, State

HOUR = 3_600_000
KWH = 3_600_000_000
"""Millijoules."""
START = round(datetime(2026, 3, 2, tzinfo=UTC).timestamp() * 1000)
NOW = START + 30 * 24 * HOUR


def value(minute: int, grams: float, minutes: int = 15, **other: Any) -> GridIntensity:
    """Return a value of the consumption series, `minute` minutes after START."""
    made = GridIntensity(
        "FR",
        "odre_consumption",
        "part-enr-intensite-ges-conso-tr",
        IntensityKind.CONSUMPTION,
        IntensityStatus.REALTIME,
        START + minute * 60_000,
        minutes,
        round(grams * 1000),
    )
    return made._replace(**other)


def key(population: Population = Population.SERVER, **other: Any) -> GroupKey:
    """Return the key of a group of the day."""
    return GroupKey(date(2026, 3, 2), date(2026, 3, 3), "FR", population, False, **other)


def hour(grams: float, minutes: int = 60) -> HourIntensity:
    """Return the intensity of an hour with so many minutes known, in real time."""
    return HourIntensity(round(grams * 1000) * minutes, (0, minutes, 0))


# --------------------------------------------------------------------------------- by hand


def test_a_kilowatt_hour():
    """1 kWh in an hour of 20, 20, 40 and 40 g emits 30 g."""
    hours = by_hour([value(0, 20), value(15, 20), value(30, 40), value(45, 40)])
    (of,) = hours.values()
    sums = Sums()
    sums.add(KWH, of)
    assert (sums.kgco2e, sums.gco2e_per_kwh, sums.coverage) == (Fraction(30, 1000), Fraction(30), Fraction(1))
    assert sums.status_mix == {"realtime": 1.0}
    assert by_hour([value(0, 20, 30), value(30, 40, 30)]) == hours


def test_averaging_first_is_eight_per_cent_too_high():
    """On an invented day with machines on while the grid emits least, averaging first differs as in
    docs/methodology.md §9."""
    grams = [*[62.0] * 7, *[50.0] * 11, *[62.0] * 6]
    kwh = [*[0.2] * 7, *[1.0] * 11, *[0.2] * 6]
    sums = Sums()
    for one, energy in zip(grams, kwh, strict=True):
        sums.add(round(energy * KWH), hour(one))
    averaged_first = sum(kwh) * sum(grams) / 24 / 1000
    assert sums.kgco2e is not None
    assert sums.kgco2e == Fraction(
        sum(round(e * 10) * round(g) for e, g in zip(kwh, grams, strict=True)), 10_000
    )
    assert averaged_first / float(sums.kgco2e) == pytest.approx(1.08, abs=0.005)


def test_an_hour_without_intensity_is_a_gap_with_its_energy():
    """An hour without a value, and the unknown half of another, stay gaps with their energy."""
    sums = Sums()
    sums.add(KWH, hour(50))
    sums.add(KWH, HourIntensity(0, (0, 0, 0)))
    sums.add(2 * KWH, hour(30, 30))
    assert sums.kwh == 4
    assert sums.gap_kwh == 2
    assert sums.coverage == Fraction(1, 2)
    assert sums.kgco2e == Fraction(50 + 30, 1000)
    assert sums.gco2e_per_kwh == 40
    nothing = Sums()
    nothing.add(KWH, HourIntensity(0, (0, 0, 0)))
    assert (nothing.kgco2e, nothing.gco2e_per_kwh, nothing.coverage) == (None, None, Fraction(0))
    assert Sums().coverage is None


def test_two_series_are_never_one():
    """Two series, two zones and overlapping values are refused."""
    with pytest.raises(ValueError, match="one series"):
        by_hour([value(0, 20), value(15, 20, series="eco2mix_combustion")])
    with pytest.raises(ValueError, match="one series"):
        by_hour([value(0, 20), value(15, 20, zone="DE")])
    with pytest.raises(ValueError, match="overlap"):
        by_hour([value(0, 20, 60), value(15, 20)])


@given(
    st.lists(
        st.tuples(st.integers(0, 10**12), st.integers(1, 900_000), st.integers(0, 60)),
        min_size=1,
        max_size=30,
    ),
    st.integers(0, 30),
)
def test_parts_sum_to_the_whole(told: list[tuple[int, int, int]], cut: int):
    """Parts of a group, and energy with and without intensity, sum exactly; the mean lies in between."""
    whole, one, other = Sums(), Sums(), Sums()
    for number, (energy, milligrams, minutes) in enumerate(told):
        of = HourIntensity(milligrams * minutes, (0, minutes, 0))
        whole.add(energy, of)
        (one if number < cut else other).add(energy, of)
    one += other
    assert one == whole
    assert whole.kwh == whole.gap_kwh + Fraction(whole.known_energy_minutes, KWH * 60)
    if whole.gco2e_per_kwh is not None:
        known = [mg for energy, mg, minutes in told if energy and minutes]
        assert min(known) <= whole.gco2e_per_kwh * 1000 <= max(known)
        assert whole.kgco2e == whole.gco2e_per_kwh / 1000 * (whole.kwh - whole.gap_kwh)


def all_in(place: GroupKey, machines: int = 10) -> dict[HostId, GroupKey]:
    """Return so many machines in one group."""
    return {HostId(number): place for number in range(machines)}


def hours_of(
    machines: int, first: int = 0, energy: int = KWH
) -> Iterator[tuple[HostId, HourIntensity, EnergySums]]:
    """Yield one hour of each machine."""
    for number in range(machines):
        yield HostId(first + number), hour(50), EnergySums(HOUR, energy, 0)


def test_classrooms_keep_the_rule():
    """9 machines of one college join 12 of another; alone they are withheld; servers are exempt."""
    small, large = key(Population.CLASSROOM, site="A"), key(Population.CLASSROOM, site="B")
    third = key(Population.CLASSROOM, site="C")
    server = key(Population.SERVER, site="A")
    told = [*hours_of(9), *hours_of(12, 100), *hours_of(30, 200), *hours_of(1, 300)]
    keys = {
        host: small if host < 100 else large if host < 200 else third if host < 300 else server
        for host, _, _ in told
    }
    found = ledger(told, keys, 10)
    assert [(line.key.site, line.machines, int(line.sums.kwh)) for line in found.lines] == [
        ("C", 30, 30),
        ("autres", 21, 21),
        ("A", 1, 1),
    ]
    assert (int(found.total().kwh), found.machines) == (52, 52)
    assert not found.withheld
    alone = ledger(hours_of(9), all_in(small, 9), 10)
    assert (alone.lines, len(alone.withheld)) == ((), 1)
    assert len(ledger(hours_of(9), all_in(small, 9), 1).lines) == 1


def test_a_machine_of_no_group_is_left():
    """The hours of a machine outside the question are in no line, and do not hide the others."""
    told = [*hours_of(10), *hours_of(1, 500)]
    found = ledger(told, all_in(key(Population.CLASSROOM, site="A")), 10)
    assert [(line.machines, int(line.sums.kwh)) for line in found.lines] == [(10, 10)]
    assert not found.withheld


def test_a_gap_is_a_figure_of_its_own():
    """Where one of ten machines alone ran without intensity, the gap would be that machine's hour."""
    told = [*hours_of(10), (HostId(0), HourIntensity(0, (0, 0, 0)), EnergySums(HOUR, KWH, 0))]
    found = ledger(told, all_in(key(Population.CLASSROOM, site="A")), 10)
    assert found.lines == ()


# --------------------------------------------------------------------------------- over a store


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Filled]:
    """Return a store with two servers (one virtual), 12 PCs of a college, and intensities of 20 hours."""
    with Filled(tmp_path / "data") as made:
        made.add_site("college")
        servers = [made.add_host(), made.add_host(device_class=DeviceClass.VIRTUAL_MACHINE)]
        pcs = [
            made.add_host(Population.CLASSROOM, DeviceClass.SFF, entity="Colleges", site="college")
            for _ in range(12)
        ]
        for host in (*servers, *pcs):
            made.push(host, [hour_of(n) for n in range(26)], METER)
        made.derive()
        made.store.intensities.put(
            [value(minute, 40 if minute < 600 else 80) for minute in range(0, 20 * 60, 15)], NOW
        )
        yield made


def hour_of(number: int) -> tuple[Any, list[Any]]:
    """Return a record of an hour with 0.1 kWh."""
    return clock(START + number * HOUR, HOUR), [cell(State.ON_ACTIVE, HOUR, energy_millijoules=KWH // 10)]


SERIES = "odre_consumption"


def question(**other: Any) -> Query:
    """Return a question about two days of March, with rows by entity."""
    asked: dict[str, Any] = {
        "first": date(2026, 3, 2),
        "end": date(2026, 3, 4),
        "dimensions": ("entity",),
        "k_anonymity": 10,
        "now_unix_milliseconds": NOW,
    }
    return Query(**{**asked, **other})


def answered(place: Filled, series: str = SERIES, **other: Any) -> tuple[Hourly, Document]:
    """Return ledger and document."""
    with closing(place.reader()) as reader:
        return indicative_report_of(reader, question(**other), series)


def test_a_ledger_of_two_days(place: Filled):
    """26 hours of 0.1 kWh are 10 at 40 g, 10 at 80 g and 6 without; the virtual machine is a memo."""
    found, document = answered(place)
    rows = {
        (row["population"], row["level"]): row for row in (*document.tables["rows"], *document.tables["memo"])
    }
    assert set(rows) == {("server", "row"), ("classroom", "row"), ("server", "memo")}
    server, classroom = rows["server", "row"], rows["classroom", "row"]
    assert (server["n"], classroom["n"], classroom["entity"]) == (1, 12, "Colleges")
    assert server["kwh_total"] == pytest.approx(2.6)
    assert server["kgco2e_indicative"] == pytest.approx(0.12)
    assert server["intensity_gco2e_per_kwh"] == pytest.approx(60)
    assert server["coverage_intensity"] == pytest.approx(20 / 26)
    assert server["kwh_without_intensity"] == pytest.approx(0.6)
    (total,) = document.tables["totals"]
    assert total["energy_millijoules"] == 13 * 26 * KWH // 10
    assert total["kgco2e_indicative"] == pytest.approx(13 * 0.12)
    assert {row["ledger"] for row in (*document.tables["rows"], total)} == {LABEL}
    assert found.hours_from == {Population.SERVER: START, Population.CLASSROOM: START}


def test_workstations_are_never_in_it(place: Filled):
    """Workstations send no hours; hours that one has all the same are left out."""
    host = place.add_host(Population.WORKSTATION, DeviceClass.LAPTOP, entity="Somebody")
    with place.store.data.transaction() as connection:
        connection.execute(
            "INSERT INTO derived SELECT ?, grain, start, band, state, supply, method, milliseconds, energy_millijoules,"
            " uncertainty_millijoules FROM derived WHERE host_id = 1",
            (host,),
        )
    _, document = answered(place)
    assert "Somebody" not in json.dumps(document.tables["rows"])
    assert document.tables["totals"][0]["n"] == 13


def test_consolidated_changes_it(place: Filled):
    """Consolidated values change the figure a day later, and the mix shows their share."""
    realtime = answered(place, series="eco2mix_combustion")[1].tables["totals"][0]
    assert "kgco2e_indicative" not in realtime
    assert realtime["coverage_intensity"] == 0
    combustion: dict[str, Any] = {
        "series": "eco2mix_combustion",
        "dataset": "eco2mix-national-tr",
        "kind": IntensityKind.COMBUSTION,
    }
    final = {**combustion, "dataset": "eco2mix-national-cons-def", "status": IntensityStatus.CONSOLIDATED}
    place.store.intensities.put([value(minute, 20, **combustion) for minute in range(0, 120, 15)], NOW)
    before = answered(place, series="eco2mix_combustion")[1].tables["totals"][0]
    place.store.intensities.put([value(minute, 30, 30, **final) for minute in (0, 30)], NOW)
    after = answered(place, series="eco2mix_combustion")[1].tables["totals"][0]
    first, second = before["kgco2e_indicative"], after["kgco2e_indicative"]
    assert isinstance(first, float)
    assert second == pytest.approx(first * 1.25)
    assert after["intensity_status_mix"] == {"realtime": 0.5, "consolidated": 0.5}
    assert after["intensity_kind"] == "combustion"


def test_days_are_those_of_the_site(place: Filled):
    """The first civil day in Lyon ends at 23:00 UTC; the two days sum to the whole."""
    parts = [
        answered(place, first=date(2026, 3, day), end=date(2026, 3, day + 1))[0].ledger.total()
        for day in (2, 3)
    ]
    assert parts[0].energy_millijoules == 13 * 23 * KWH // 10
    parts[0] += parts[1]
    assert parts[0] == answered(place)[0].ledger.total()


def test_every_format_says_what_it_is(place: Filled):
    """Every format has the label and the same figures; the catalogue has each column in both languages."""
    _, document = answered(place)
    assert LABEL == "indicatif, hors bilan"
    rows = [row for table in document.tables.values() for row in table]
    assert [name for row in rows for name in row if name not in read_columns()] == []
    told = json.loads(renderer("json")(document))
    assert told["report"]["label"] == LABEL
    lines = list(csv.DictReader(io.StringIO(renderer("csv")(document).decode("utf-8-sig"))))
    assert {line["ledger"] for line in lines} == {LABEL}
    page = renderer("html")(document).decode()
    assert page.count(LABEL) >= 2
    assert "jamais le facteur annuel" in page
    english = renderer("html")(Document(**{**_fields(document), "language": "en"})).decode()
    assert "the yearly factor never fills it" in english
    for form in FORMATS:
        assert renderer(form)(document)


def _fields(document: Document) -> dict[str, Any]:
    return {name: getattr(document, name) for name in Document.__slots__}


def test_a_small_college_is_withheld(tmp_path: Path):
    """Nine machines have no row and no total, and are listed as withheld."""
    with Filled(tmp_path / "data") as made:
        for _ in range(9):
            host = made.add_host(Population.CLASSROOM, DeviceClass.SFF)
            made.push(host, [hour_of(0)], METER)
        made.derive()
        found, document = answered(made)
    assert document.tables["rows"] == document.tables["totals"] == []
    assert [row["population"] for row in document.tables["withheld"]] == ["classroom"]
    assert found.states == ()


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"dimensions": ("month",)}, "cannot group by 'month': use"),
        ({"end": date(2026, 3, 2)}, "must be before --to 2026-03-02"),
        ({"first": date(1026, 3, 2)}, "--from 1026-03-02"),
    ],
)
def test_questions_that_are_none(place: Filled, asked: dict[str, Any], why: str):
    """An invalid question is refused in one line that says why."""
    with pytest.raises(UsageError, match=why) as refused:
        answered(place, **asked)
    assert "\n" not in str(refused.value)


def test_one_entity_and_what_is_below(place: Filled):
    """A reader of some entities gets their rows only."""
    _, document = answered(place, entities=("DSI",))
    assert {row["entity"] for row in document.tables["rows"]} == {"DSI"}


def test_one_population_is_what_it_is_of_both(place: Filled):
    """The store's two queries for the same hours agree."""
    whole = [line for line in answered(place)[0].ledger.lines if line.key.population is Population.SERVER]
    with closing(place.reader()) as reader:
        alone = indicative(reader, question(), SERIES, frozenset({Population.SERVER})).ledger.lines
    assert list(alone) == whole
    assert len(whole) == 2
