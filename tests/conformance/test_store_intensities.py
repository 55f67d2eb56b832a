# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test what every store does with intensities of grids: consolidated values replace real-time values, and
replaced values are kept. ports.Intensities."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.backends import Backend
from tests.support.pushes import HOUR, NOW
from veilleuse.collector.errors import AdminError
from veilleuse.collector.model.grid import GridIntensity, IntensityImport, IntensityKind, IntensityStatus

START = NOW - NOW % HOUR
QUARTER = 15 * 60_000
SERIES = "eco2mix_combustion"


def quarter(number: int, milligrams: int, minutes: int = 15, **other: Any) -> GridIntensity:
    """Return a real-time value of éCO2mix that begins `number` quarters of an hour after START."""
    made = GridIntensity(
        "FR",
        SERIES,
        "eco2mix-national-tr",
        IntensityKind.COMBUSTION,
        IntensityStatus.REALTIME,
        START + number * QUARTER,
        minutes,
        milligrams,
    )
    return made._replace(**other)


def consolidated(number: int, milligrams: int, minutes: int = 30) -> GridIntensity:
    """Return a consolidated value of éCO2mix."""
    return quarter(
        number, milligrams, minutes, dataset="eco2mix-national-cons-def", status=IntensityStatus.CONSOLIDATED
    )


def kept(store: Backend) -> list[tuple[int, int, int, str]]:
    """Return (quarter, minutes, mg/kWh, status) of all values."""
    found = store.intensities.values("FR", SERIES, 0, 2**60)
    return [
        ((one.start_unix_milliseconds - START) // QUARTER, one.minutes, *one[7:], one.status.value)
        for one in found
    ]


def test_values_come_back_and_a_gap_stays_one(store: Backend):
    """Only published values are stored; the same values again change nothing."""
    values = [quarter(0, 13_000), quarter(1, 13_500), quarter(3, 14_000)]
    assert store.intensities.put(values, NOW) == IntensityImport(new=3)
    assert store.intensities.put(values, NOW + 1) == IntensityImport(same=3)
    assert kept(store) == [
        (0, 15, 13_000, "realtime"),
        (1, 15, 13_500, "realtime"),
        (3, 15, 14_000, "realtime"),
    ]
    window = store.intensities.values("FR", SERIES, START + QUARTER, START + 2 * QUARTER)
    assert list(window) == [quarter(1, 13_500)]
    assert list(store.intensities.values("DE", SERIES, 0, 2**60)) == []
    (state,) = store.intensities.states()
    assert (state.oldest_unix_milliseconds, state.newest_unix_milliseconds) == (START, START + 4 * QUARTER)
    assert (state.newest_milligrams_per_kwh, state.fetched_unix_milliseconds) == (14_000, NOW)


def test_consolidated_replaces_real_time_and_never_the_other_way(store: Backend):
    """A consolidated half hour replaces its quarters, which go into the log; a late real-time value is left
    out."""
    store.intensities.put([quarter(0, 13_000), quarter(1, 13_500), quarter(2, 15_000)], NOW)
    assert store.intensities.put([consolidated(0, 20_000)], NOW + 5) == IntensityImport(replacing=1)
    assert kept(store) == [(0, 30, 20_000, "consolidated"), (2, 15, 15_000, "realtime")]
    assert store.intensities.put([quarter(1, 9_000), quarter(2, 15_000)], NOW + 6) == IntensityImport(
        outranked=1, same=1
    )
    log = list(store.intensities.replaced("FR", SERIES, 0, 2**60))
    assert [(one.before, one.by_dataset, one.replaced_unix_milliseconds) for one in log] == [
        (quarter(0, 13_000), "eco2mix-national-cons-def", NOW + 5),
        (quarter(1, 13_500), "eco2mix-national-cons-def", NOW + 5),
    ]
    assert {one.fetched_unix_milliseconds for one in log} == {NOW}


def test_a_restated_value_is_logged_too(store: Backend):
    """Corrected real-time values and corrected consolidated values are logged."""
    store.intensities.put([quarter(0, 13_000)], NOW)
    assert store.intensities.put([quarter(0, 13_100)], NOW) == IntensityImport(replacing=1)
    store.intensities.put([consolidated(0, 20_000)], NOW)
    assert store.intensities.put([consolidated(0, 21_000)], NOW) == IntensityImport(replacing=1)
    log = store.intensities.replaced("FR", SERIES, START, START + 1)
    assert [one.before.milligrams_per_kwh for one in log] == [13_000, 13_100, 20_000]
    assert kept(store) == [(0, 30, 21_000, "consolidated")]


@pytest.mark.parametrize(
    "mixed",
    [
        quarter(1, 9_000, dataset="part-enr-intensite-ges-conso-tr"),
        quarter(1, 9_000, kind=IntensityKind.CONSUMPTION),
        quarter(1, 9_000, dataset="somebody-else"),
        consolidated(2, 9_000)._replace(dataset="eco2mix-national-tr"),
        quarter(1, 9_000, series="odre_consumption"),
    ],
)
def test_a_series_is_never_made_of_two_datasets(store: Backend, mixed: GridIntensity):
    """A series never mixes datasets or quantities; nothing of a refused import is stored."""
    store.intensities.put([quarter(0, 13_000)], NOW)
    with pytest.raises(AdminError):
        store.intensities.put([quarter(5, 13_000), mixed], NOW)
    assert kept(store) == [(0, 15, 13_000, "realtime")]


def test_a_series_of_ones_own_has_one_dataset(store: Backend):
    """A user's own series keeps the dataset and the quantity of its first value."""
    own = quarter(0, 580_000, zone="FR-COR", series="edf", dataset="a", kind=IntensityKind.CONSUMPTION)
    store.intensities.put([own], NOW)
    with pytest.raises(AdminError, match="come from a"):
        store.intensities.put([own._replace(dataset="b")], NOW)
    with pytest.raises(AdminError, match="is consumption"):
        store.intensities.put(
            [own._replace(kind=IntensityKind.COMBUSTION, status=IntensityStatus.ESTIMATED)], NOW
        )


@pytest.mark.parametrize(
    "wrong",
    [quarter(0, 0), quarter(0, 10**7), quarter(0, 9, 20), quarter(0, 9, start_unix_milliseconds=START + 1)],
)
def test_what_is_no_value_is_not_kept(store: Backend, wrong: GridIntensity):
    """0, a wrong unit, a length that does not divide an hour, and a start off its grid are refused."""
    with pytest.raises(ValueError, match=r"mg/kWh|min"):
        store.intensities.put([quarter(1, 13_000), wrong], NOW)
    assert kept(store) == []


def test_calls_are_counted_and_stop(store: Backend):
    """Calls are counted per connector and month; a call above the limit is not counted."""
    assert [store.intensities.count_call("odre", 24_314, 2) for _ in range(3)] == [True, True, False]
    assert store.intensities.count_call("odre", 24_315, 2)
    assert store.intensities.count_call("electricity_maps", 24_314, 2)
    assert (store.intensities.calls("odre", 24_314), store.intensities.calls("odre", 1)) == (2, 0)


def test_polls_are_noted(store: Backend):
    """Consecutive failures are counted; the last success stays known."""
    assert store.intensities.polls() == ()
    for moment, outcome in enumerate(("done", "timeout", "quota")):
        store.intensities.note("odre", outcome, NOW + moment)
    (poll,) = store.intensities.polls()
    assert (poll.tried_unix_milliseconds, poll.succeeded_unix_milliseconds) == (NOW + 2, NOW)
    assert (poll.failures, poll.outcome) == (2, "quota")
    store.intensities.note("odre", "done", NOW + 3)
    assert store.intensities.polls()[0].failures == 0
