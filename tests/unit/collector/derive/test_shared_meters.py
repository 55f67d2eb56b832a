# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Shared meters and screens: a machine's part is distributed over its hour to the millijoule."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.collector.derive.test_wall import HOUR, PACKAGE, PLUG, cell, machine, point
from veilleuse.collector.derive import priors
from veilleuse.collector.derive.meters import distribute_over_cells, readings, u_ppm
from veilleuse.collector.derive.screens import screen_energies
from veilleuse.collector.derive.wall import wall_energy
from veilleuse.collector.model.meters import NOT_SHARED, MeterReading, SharedEnergy, SharedReadings
from veilleuse.collector.model.records import Cell, Point
from veilleuse.collector.model.sums import RecordCells, WallEnergy
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, Boundary, DeviceClass, PointKind, State, Supply

BMC = point(PointKind.BMC, "power", Boundary.WALL)
SERVER = machine(DeviceClass.SERVER)


def shared(
    energy: int, covered: int = HOUR, kind: PointKind = PointKind.PDU, *, whole: bool = True
) -> SharedEnergy:
    """Return the machine's part of its meters."""
    return SharedEnergy(kind, energy, covered, whole)


def laid(cells: list[Cell], energy: SharedEnergy | None) -> list[tuple[WallEnergy, ...]]:
    """Distribute the part over the cells, beside their own energy."""
    return distribute_over_cells([(one, wall_energy(one, SERVER)) for one in cells], energy)


def metered(parts: tuple[WallEnergy, ...]) -> int:
    """Return the metered energy in millijoules."""
    return sum(part.energy_millijoules for part in parts if part.method is Method.METERED)


def test_an_hour_is_split_as_the_model_has_it_and_sums_to_the_meter():
    """The hour is half on, half off. The meter's 154,000,001 mJ are divided in the ratio of the model's
    energies."""
    on = cell((PACKAGE, 0, HOUR // 2), milliseconds=HOUR // 2)
    off = cell(state=State.OFF, milliseconds=HOUR // 2)
    first, second = laid([on, off], shared(154_000_001))
    assert metered(first) + metered(second) == 154_000_001
    ratio = wall_energy(on, SERVER)[0].energy_millijoules / wall_energy(off, SERVER)[0].energy_millijoules
    assert metered(first) / metered(second) == pytest.approx(ratio, rel=1e-6)
    assert {part.method for part in (*first, *second)} == {Method.METERED}


def test_no_meter_changes_nothing():
    """Without a shared meter, or with one that covered under a millisecond, the other methods apply."""
    one = cell((PACKAGE, 3_600_000, HOUR))
    assert laid([one], None) == laid([one], shared(5, 0)) == [wall_energy(one, SERVER)]
    nothing = SharedReadings(None, shared(5, 0), monitor_declared=True)
    assert screen_energies([screens(HOUR, 0, 0, 0)], nothing) == [None]


def test_a_time_nobody_knows_gets_the_others_mean_power():
    """A meter covers unknown time too, which has no model and gets the mean power of the rest."""
    known = cell(state=State.OFF, milliseconds=HOUR // 2)
    unknown = cell(state=State.UNKNOWN, milliseconds=HOUR // 2)
    first, second = laid([known, unknown], shared(1_000))
    assert (metered(first), metered(second)) == (500, 500)
    (only,) = laid([cell(state=State.UNKNOWN)], shared(1_000))
    assert metered(only) == 1_000


def test_what_a_machine_did_not_report_is_not_observed():
    """Half of the metered hour is reported, so half of the energy counts; nothing is scaled up."""
    (only,) = laid([cell(milliseconds=HOUR // 2)], shared(1_000))
    assert metered(only) == 500
    assert sum(part.milliseconds for part in only) == HOUR // 2


def test_what_the_meter_did_not_cover_goes_down_the_ladder():
    """A quarter of the hour is metered; counters give the other three quarters."""
    (parts,) = laid([cell((PACKAGE, 3_600_000, HOUR))], shared(90_000, HOUR // 4))
    meter, counters = parts
    assert (meter.method, meter.energy_millijoules, meter.milliseconds) == (Method.METERED, 90_000, HOUR // 4)
    assert (counters.method, counters.milliseconds) == (Method.COUNTER_MODELLED, HOUR * 3 // 4)


def test_the_ladder_holds_between_shared_and_own_meters():
    """A shared PDU precedes the BMC, and the machine's own plug the PDU, unless the plug covers less."""
    assert metered(laid([cell((BMC, 7, HOUR))], shared(1_000))[0]) == 1_000
    assert metered(laid([cell((PLUG, 7, HOUR))], shared(1_000))[0]) == 7
    assert metered(laid([cell((PLUG, 7, HOUR // 2))], shared(1_000))[0]) == 1_000


def test_a_share_is_less_certain_than_a_whole_meter():
    """A PDU has ± 2 %; a declared share adds GSD² 1.2 in quadrature."""
    whole, part = shared(1_000), shared(1_000, whole=False)
    assert u_ppm(whole) == priors.METER_U_PPM
    assert u_ppm(part) == round(math.hypot(priors.METER_U_PPM, math.log(1.2) / 2 * 1e6))


cells = st.lists(
    st.tuples(st.sampled_from(State), st.integers(1, HOUR // 8), st.integers(0, 10**9)),
    min_size=1,
    max_size=8,
)


@given(cells, st.integers(0, 10**12), st.integers(1, HOUR))
def test_nothing_is_lost_or_made(rows: list[tuple[State, int, int]], energy: int, covered: int):
    """Σ metered is the reported share of the hour × the meter's energy, exactly.
    Parts never overlap and are never negative."""
    made = [
        Cell(Band.OPEN, state, Supply.AC, length, ((PACKAGE, counted, length),) if counted else ())
        for state, length, counted in rows
    ]
    found = laid(made, shared(energy, covered))
    told = sum(length for _, length, _ in rows)
    expected = energy * told // HOUR if covered * told // HOUR else 0
    assert sum(map(metered, found)) == expected
    for one, parts in zip(made, found, strict=True):
        assert len({part.method for part in parts}) == len(parts)
        assert sum(part.milliseconds for part in parts) <= one.milliseconds
        assert all(min(part.energy_millijoules, part.uncertainty_millijoules) >= 0 for part in parts)


@given(st.lists(st.tuples(st.sampled_from(State), st.integers(1, 10**6)), min_size=1, max_size=6))
def test_a_whole_hour_gets_the_whole_meter(rows: list[tuple[State, int]]):
    """When the machine reported the hour and the meter covered it, its cells get every millijoule."""
    lengths = [weight for _, weight in rows]
    scale = [HOUR * sum(lengths[: i + 1]) // sum(lengths) for i in range(len(lengths))]
    made = [
        cell(state=state, milliseconds=end - start)
        for (state, _), start, end in zip(rows, [0, *scale], scale, strict=False)
        if end > start
    ]
    assert sum(map(metered, laid(made, shared(123_456_789)))) == 123_456_789


def record(*energies: tuple[Point, int, int], milliseconds: int = HOUR) -> RecordCells:
    """Return a record of one cell."""
    return RecordCells(1, True, (cell(*energies, milliseconds=milliseconds),))


def test_readings_of_shared_meters():
    """Readings are summed over the hour. The point with the meter's name counts, else the one covered
    longest, never a component."""
    a = Point(PointKind.PDU, "rack-1", Boundary.WALL, "meter:rack-1")
    part = Point(PointKind.PDU, "rack-1.phase-1", Boundary.WALL, "meter:rack-1")
    b = Point(PointKind.UPS, "other", Boundary.WALL, "meter:ups")
    c = Point(PointKind.UPS, "longer", Boundary.WALL, "meter:ups")
    inside = Point(PointKind.GPU, "x", Boundary.COMPONENT, "meter:gpu")
    half = HOUR // 2
    found = readings(
        [
            record((a, 5, 1_000), (part, 900, HOUR), (b, 7, 10), milliseconds=half),
            record((a, 6, 2_000), (c, 8, 20), (inside, 3, 4), (PLUG, 1, 1), milliseconds=half),
        ]
    )
    assert found == (
        MeterReading("rack-1", PointKind.PDU, 11, 3_000),
        MeterReading("ups", PointKind.UPS, 8, 20),
    )


def test_an_hour_that_was_told_twice_is_one_hour_of_the_meter():
    """A poller restored from a snapshot reports the hour twice: the mean power counts, not the sum."""
    a = Point(PointKind.PDU, "rack-1", Boundary.WALL, "meter:rack-1")
    (found,) = readings([record((a, 900_000, HOUR)), record((a, 600_000, HOUR // 2))])
    assert found == MeterReading("rack-1", PointKind.PDU, 1_000_000, HOUR)


# --- screens


def screens(*milliseconds: int) -> Cell:
    """Return an hour with external displays by size."""
    return cell()._replace(display_milliseconds=milliseconds)


def test_a_screen_draws_while_it_is_on():
    """Two screens of 22-27 inches for an hour draw 25 Wh over two display hours, with GSD² 1.5."""
    (found,) = screen_energies([screens(0, 2 * HOUR, 0, 0)], NOT_SHARED)
    assert found is not None
    assert (found.method, found.energy_millijoules, found.milliseconds) == (
        Method.LOAD_MODELLED,
        25 * HOUR,
        2 * HOUR,
    )
    assert found.uncertainty_millijoules == pytest.approx(25 * HOUR * math.log(1.5) / 2, rel=1e-5)


def test_nobody_counted_and_none_was_on_are_no_energy():
    """Uncounted screens and zeros give no row, never 0 J."""
    assert screen_energies([cell(), screens(0, 0, 0, 0)], NOT_SHARED) == [None, None]


def test_every_size_has_its_power_and_the_unknown_one_says_less():
    """The sizes have 11, 12.5 and 17 W; an unknown size has the middle one's, at a larger uncertainty."""
    found = [
        screen_energies([screens(*(HOUR if i == size else 0 for i in range(4)))], NOT_SHARED)[0]
        for size in range(4)
    ]
    watts = [one.energy_millijoules / HOUR for one in found if one]
    assert watts == [11, 12.5, 17, 12.5]
    assert found[3]
    assert found[1]
    assert found[3].uncertainty_millijoules > found[1].uncertainty_millijoules


def test_the_prior_is_the_tec_tables_median():
    """A screen of 22-27 inches, 35 % on and at 0.3 W else, uses 40 kWh a year; the TEC median is 40.9."""
    hours = 8760
    kwh = (0.35 * 12.5 + 0.65 * 0.3) * hours / 1000
    assert kwh == pytest.approx(40.9, rel=0.03)


def test_a_screen_on_a_declared_plug_is_metered_never_modelled():
    """It has its share of the plug to the millijoule, and no energy while the plug is not read."""
    cells = [screens(0, HOUR, 0, 0), screens(0, 0, 0, 0)]
    read = SharedReadings(None, shared(1_001, whole=False), monitor_declared=True)
    found = screen_energies([one._replace(milliseconds=HOUR // 2) for one in cells], read)
    assert sum(one.energy_millijoules for one in found if one) == 1_001
    assert found[0]
    assert found[0].method is Method.METERED
    assert screen_energies(cells, SharedReadings(monitor_declared=True)) == [None, None]
