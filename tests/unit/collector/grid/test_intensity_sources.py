# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of answers and files of grids: values, gaps and refused rows. Every trap of docs/indicative.md."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from veilleuse.collector.errors import UsageError
from veilleuse.collector.grid import electricity_maps, odre
from veilleuse.collector.grid.files import Plain, read_file
from veilleuse.collector.grid.values import Unreadable
from veilleuse.collector.model.grid import BY_DATASET, GridIntensity, IntensityKind, IntensityStatus

FIXTURES = Path(__file__).parents[3] / "fixtures" / "intensity"
REALTIME = BY_DATASET["eco2mix-national-tr"]
CONSOLIDATED = BY_DATASET["eco2mix-national-cons-def"]
CONSUMPTION = BY_DATASET["part-enr-intensite-ges-conso-tr"]
DAY = "2026-03-02"
LATER = round(datetime(2026, 3, 3, tzinfo=UTC).timestamp() * 1000)


def at(clock: str) -> int:
    """Return Unix ms of a time of the day, UTC."""
    return round(datetime.fromisoformat(f"{DAY}T{clock}:00+00:00").timestamp() * 1000)


def rows(*told: tuple[str, Any]) -> list[dict[str, Any]]:
    """Return rows of éCO2mix."""
    return [{"date_heure": f"{DAY}T{clock}:00+00:00", "taux_co2": value} for clock, value in told]


def short(values: tuple[GridIntensity, ...]) -> list[tuple[int, int, int]]:
    """Return (minutes from 00:00, length in minutes, mg) of each value."""
    return [
        ((one.start_unix_milliseconds - at("00:00")) // 60_000, one.minutes, one.milligrams_per_kwh)
        for one in values
    ]


def test_real_time_quarters():
    """Numbers and texts are read in any order; null, 0 and blank are gaps that no neighbour fills."""
    told = rows(("00:45", 14), ("00:00", 13), ("00:15", None), ("00:30", "13.5"), ("01:00", 0), ("01:15", ""))
    found = odre.read(REALTIME, told, LATER)
    assert short(found.values) == [(0, 15, 13_000), (30, 15, 13_500), (45, 15, 14_000)]
    assert found.left == Counter(missing=3)
    one = found.values[0]
    assert (one.zone, one.series, one.kind, one.status) == (
        "FR",
        "eco2mix_combustion",
        "combustion",
        "realtime",
    )


def test_consolidated_half_hours():
    """Rows of :15 and :45 without a value come from the half-hour step; at :00 or :30 they are gaps."""
    told = rows(
        ("00:00", 20), ("00:15", None), ("00:30", 22), ("00:45", None), ("01:00", None), ("01:30", 24)
    )
    found = odre.read(CONSOLIDATED, told, LATER)
    assert short(found.values) == [(0, 30, 20_000), (30, 30, 22_000), (90, 30, 24_000)]
    quarters = odre.read(CONSOLIDATED, rows(("00:00", 20), ("00:15", 21), ("00:30", 22)), LATER)
    assert {one.minutes for one in quarters.values} == {15}
    assert {one.minutes for one in odre.read(CONSOLIDATED, rows(("00:30", 20)), LATER).values} == {30}


def test_what_is_ahead_or_not_whole_is_left():
    """The running quarter and the forecasts after it are left out."""
    found = odre.read(REALTIME, rows(("10:00", 30), ("10:15", 31), ("10:30", 32)), at("10:29"))
    assert short(found.values) == [(600, 15, 30_000)]
    assert found.left["future"] == 2
    whole = odre.read(REALTIME, rows(("10:00", 30), ("10:15", 31), ("10:30", 32)), at("10:30"))
    assert short(whole.values) == [(600, 15, 30_000), (615, 15, 31_000)]


def test_an_instant_that_comes_twice():
    """An instant that comes twice counts once if both values agree, else it is a gap (change of clocks)."""
    told = rows(("00:00", 13), ("00:00", 13), ("00:15", 14), ("00:15", 15), ("00:30", 16), ("00:45", None))
    told.append({"date_heure": f"{DAY}T01:30:00+01:00", "taux_co2": "16"})
    found = odre.read(REALTIME, told, LATER)
    assert short(found.values) == [(0, 15, 13_000), (30, 15, 16_000)]
    assert found.left == Counter(conflicting=1, missing=1)


@pytest.mark.parametrize("value", [-1, "x", True, 1e9, "nan", [], {"a": 1}, "1e99"])
def test_a_value_that_is_none_is_counted(value: object):
    """A published value that is no valid number is counted as unreadable, not as a gap."""
    found = odre.read(REALTIME, rows(("00:00", 13), ("00:15", value)), LATER)
    assert short(found.values) == [(0, 15, 13_000)]
    assert found.left["unreadable"] == 1


@pytest.mark.parametrize(
    "told", [[{"date_heure": f"{DAY}T00:00:00+00:00"}], [3], [{"taux_co2": 3, "date_heure": DAY}]]
)
def test_another_table_is_not_believed(told: list[Any]):
    """An answer without a row that has both fields and an instant with its zone is refused."""
    with pytest.raises(Unreadable):
        odre.read(REALTIME, told, LATER)


def test_instants_off_the_grid_are_not_believed():
    """Instants off the grid, such as seven minutes past, are refused: their step is unknown."""
    with pytest.raises(Unreadable, match="5 minutes"):
        odre.read(REALTIME, rows(("00:00", 13), ("00:07", 14)), LATER)


def test_a_field_named_utc_is_utc():
    """A field named UTC without offset is UTC; an offset overrides the name."""
    told = [
        {"date_heure_utc": f"{DAY}T00:00:00", "intensite_emissions_conso": 50.25},
        {"date_heure_utc": f"{DAY}T01:15:00+01:00", "intensite_emissions_conso": 51},
    ]
    found = odre.read(CONSUMPTION, told, LATER)
    assert short(found.values) == [(0, 15, 50_250), (15, 15, 51_000)]
    assert {one.kind for one in found.values} == {IntensityKind.CONSUMPTION}


@pytest.mark.parametrize(
    "answer", [None, 3, {}, {"results": 3, "total_count": 1}, {"results": []}, {"error_code": "QuotaError"}]
)
def test_pages_that_are_none(answer: object):
    """An answer that is no page of Explore v2.1 is refused."""
    with pytest.raises(Unreadable):
        odre.page_of(answer)


def test_how_odre_is_asked():
    """The request has dataset, fields and half-open UTC window, with at most 100 rows a page."""
    path = odre.records_path(CONSUMPTION, at("00:00"), at("01:00"), 100)
    assert path.startswith("/api/explore/v2.1/catalog/datasets/part-enr-intensite-ges-conso-tr/records?")
    for text in (
        "limit=100",
        "offset=100",
        "timezone=UTC",
        "date_heure_utc+asc",
        "2026-03-02T01%3A00%3A00Z%27%5B",
    ):
        assert text in path


def history() -> dict[str, Any]:
    """Return the fixture."""
    document: dict[str, Any] = json.loads((FIXTURES / "electricity_maps.json").read_text())
    return document


def test_electricity_maps():
    """Values are hourly; 0 is missing, and estimated values are marked."""
    found = electricity_maps.read("FR", history(), LATER)
    assert [(one.minutes, one.milligrams_per_kwh, one.status.value) for one in found.values] == [
        (60, 61_000, "realtime"),
        (60, 63_000, "estimated"),
    ]
    assert found.left == Counter(missing=1)
    latest = {**history()["history"][0]}
    assert len(electricity_maps.read("FR", latest, LATER).values) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"zone": "DE"},
        {"history": None},
        {"history": [{"zone": "FR", "carbonIntensity": 4, "datetime": f"{DAY}T00:00:00Z"}]},
    ],
)
def test_electricity_maps_of_another_kind(change: dict[str, Any]):
    """Another zone, no rows, and rows without their estimate flag are refused."""
    with pytest.raises(Unreadable):
        electricity_maps.read("FR", {**history(), **change}, LATER)


def test_files():
    """A file of both stages is split by each row's nature; JSON is recognised by its fields."""
    found = read_file((FIXTURES / "eco2mix_export.csv").read_bytes(), LATER)
    assert {one.values[0].dataset: len(one.values) for one in found} == {
        "eco2mix-national-cons-def": 2,
        "eco2mix-national-tr": 3,
    }
    (consumption,) = read_file((FIXTURES / "consumption.json").read_bytes(), LATER)
    assert [one.milligrams_per_kwh for one in consumption.values] == [51_500, 52_000, 53_000]
    (maps,) = read_file((FIXTURES / "electricity_maps.json").read_bytes(), LATER)
    assert {one.series for one in maps.values} == {"electricity_maps"}
    saved = {"total_count": 1, "results": rows(("00:00", 13))}
    (page,) = read_file(json.dumps(saved).encode(), LATER, dataset=REALTIME.name)
    assert short(page.values) == [(0, 15, 13_000)]


PLAIN = Plain("FR-COR", "edf_corse", "edf_corse", IntensityKind.CONSUMPTION, IntensityStatus.CONSOLIDATED)


def test_a_plain_table():
    """A table of any grid is read, with decimal commas too; one bad row refuses the file."""
    raw = b"start;minutes;gco2e_per_kwh\n2026-03-02T00:00:00+00:00;60;580,5\n2026-03-02T01:00:00+00:00;60;\n"
    (found,) = read_file(raw, LATER, plain=PLAIN)
    assert short(found.values) == [(0, 60, 580_500)]
    assert found.left == Counter(missing=1)
    with pytest.raises(UsageError, match="line 2"):
        read_file(raw.replace(b";60;580", b";45;580"), LATER, plain=PLAIN)


def test_a_plain_table_holds_each_moment_once():
    """Rows of overlapping time are refused (the second once replaced the first); rows ahead are left out."""
    heading = b"start,minutes,gco2e_per_kwh\n"
    twice = heading + b"2026-03-02T00:15:00Z,15,100\n2026-03-02T00:00:00Z,60,500\n"
    with pytest.raises(UsageError, match="two rows are of 2026-03-02T00:15Z"):
        read_file(twice, LATER, plain=PLAIN)
    (found,) = read_file(heading + b"2099-01-01T00:00:00Z,60,500\n", LATER, plain=PLAIN)
    assert (found.values, found.left) == ((), Counter(future=1))


@pytest.mark.parametrize("value", ["1e999999", "1e9999999999", -1e308, "3000.001"])
def test_a_number_beyond_all_numbers_is_a_value_that_is_none(value: object):
    """A number out of range is unreadable; it once ended the whole poll unrecorded."""
    assert odre.read(REALTIME, rows(("00:00", value), ("00:15", 13)), LATER).left == Counter(unreadable=1)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"\xff\xfe", "UTF-8"),
        (b"[", "JSON"),
        (b"[]", "no row"),
        (b'[{"taux_co2": 3, "date_heure": "2026-03-02T00:00:00+00:00"}]', "--dataset"),
        (b"a,b\n1,2\n", "neither"),
        (b"start,minutes,gco2e_per_kwh\n", "--series"),
    ],
)
def test_files_that_are_none(raw: bytes, words: str):
    """The refusal is one line that says what to do."""
    with pytest.raises(UsageError, match=words):
        read_file(raw, LATER)
