# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The ladder of docs/methodology.md §1: the measurement and amount of a cell's wall energy."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilleuse.collector.derive import priors
from veilleuse.collector.derive.wall import wall_energy
from veilleuse.collector.model.calibration import Calibration, Fit, Hardware
from veilleuse.collector.model.hosts import MachineFacts
from veilleuse.collector.model.records import Cell, Point
from veilleuse.collector.model.sums import WallEnergy
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, Boundary, DeviceClass, PointKind, State, Supply

HOUR = 3_600_000


def point(
    kind: PointKind, domain: str = "x", boundary: Boundary = Boundary.COMPONENT, subject: str = "machine"
):
    """Return a measurement point."""
    return Point(kind, domain, boundary, subject)


PLUG = point(PointKind.PLUG, "plug", Boundary.WALL)
METER = point(PointKind.HWMON, "power_meter", Boundary.WALL)
BATTERY = point(PointKind.BATTERY_OUT, "BAT0", Boundary.MACHINE_DC)
PACKAGE = point(PointKind.RAPL, "package-0")
PACKAGE_1 = point(PointKind.RAPL, "package-1")
DRAM = point(PointKind.RAPL, "dram")
CORE = point(PointKind.RAPL, "core")
PSYS = point(PointKind.RAPL, "psys", Boundary.MACHINE_DC)
GPU = point(PointKind.GPU, "gpu-0")


def cell(
    *energies: tuple[Point, int, int],
    state: State = State.ON_ACTIVE,
    supply: Supply = Supply.AC,
    milliseconds: int = HOUR,
) -> Cell:
    """Return a cell of one hour by default."""
    return Cell(Band.OPEN, state, supply, milliseconds, energies)


def machine(device_class: DeviceClass, **facts: int) -> MachineFacts:
    """Return the facts of a machine."""
    return MachineFacts(device_class, **facts)  # type: ignore[arg-type]


def only(parts: tuple[WallEnergy, ...]) -> WallEnergy:
    """Return the only part."""
    assert len(parts) == 1, parts
    return parts[0]


def test_a_wall_meter_counts_as_it_is():
    """An ACPI power meter over the whole cell gives its own millijoules, metered, with ± 5 % / 2."""
    found = only(wall_energy(cell((METER, 180_000_000, HOUR)), machine(DeviceClass.SERVER)))
    assert (found.method, found.energy_millijoules, found.milliseconds) == (Method.METERED, 180_000_000, HOUR)
    assert found.uncertainty_millijoules == round(180_000_000 * round(math.log(1.05) / 2 * 1e6) / 1e6)


def test_the_better_meter_wins_and_nothing_is_summed():
    """A plug precedes the machine's own meter and every counter; nested points are never added."""
    found = only(
        wall_energy(
            cell((METER, 9, HOUR), (PLUG, 7_000, HOUR), (PACKAGE, 5, HOUR), (BATTERY, 5, HOUR)),
            machine(DeviceClass.TOWER),
        )
    )
    assert (found.method, found.energy_millijoules) == (Method.METERED, 7_000)


def test_of_two_meters_of_one_kind_the_longer_counts():
    """Both are taken as views of one machine."""
    other = point(PointKind.PLUG, "a", Boundary.WALL)
    parts = wall_energy(cell((other, 1, HOUR // 2), (PLUG, 7_000, HOUR)), machine(DeviceClass.TOWER))
    assert only(parts).energy_millijoules == 7_000


@pytest.mark.parametrize(
    "not_ours",
    [
        point(PointKind.PLUG, "p", Boundary.WALL, "meter:rack-1"),
        point(PointKind.HWMON, "gpu", Boundary.COMPONENT),
        point(PointKind.BATTERY_OUT, "BAT0", Boundary.WALL),
    ],
)
def test_a_shared_meter_or_a_part_is_no_meter_of_the_machine(not_ours: Point):
    """A shared meter, a component and a battery at the wall boundary give no metered energy."""
    parts = wall_energy(cell((not_ours, 7_000, HOUR)), machine(DeviceClass.TOWER))
    assert only(parts).method is Method.CLASS_DEFAULT


def test_a_point_that_covers_nothing_is_not_there():
    """A point with zero covered milliseconds is absent, never 0 J."""
    parts = wall_energy(cell((PLUG, 0, 0), (PACKAGE, 0, 0)), machine(DeviceClass.TOWER))
    assert only(parts).method is Method.CLASS_DEFAULT


def test_battery_discharge_over_its_losses():
    """On battery the energy is both discharges ÷ 0.84; counters inside are ignored."""
    second = point(PointKind.BATTERY_OUT, "BAT1", Boundary.MACHINE_DC)
    found = only(
        wall_energy(
            cell(
                (BATTERY, 30_000_000, HOUR),
                (second, 12_000_000, HOUR),
                (PACKAGE, 9, HOUR),
                supply=Supply.BATTERY,
            ),
            machine(DeviceClass.LAPTOP),
        )
    )
    assert found.method is Method.BATTERY
    assert found.energy_millijoules == pytest.approx(50_000_000, rel=1e-6)
    assert found.uncertainty_millijoules == pytest.approx(50_000_000 * math.log(1.2) / 2, rel=1e-5)


def test_on_mains_the_battery_is_charging_and_the_counters_count():
    """On AC a laptop has a + b·P of the prior; the battery's energy is not consumption."""
    found = only(
        wall_energy(cell((BATTERY, 5_000, HOUR), (PACKAGE, 18_000_000, HOUR)), machine(DeviceClass.LAPTOP))
    )
    assert found.method is Method.COUNTER_MODELLED
    assert found.energy_millijoules == pytest.approx(3 * HOUR + 1.20 / 0.88 * 18_000_000, rel=1e-6)
    assert found.uncertainty_millijoules == pytest.approx(
        found.energy_millijoules * math.log(2.2) / 2, rel=1e-5
    )


def test_the_battery_counts_across_sleep_when_the_supply_is_not_known():
    """Energy lost across sleep counts as discharge, but on mains the adapter provided it."""
    laptop = machine(DeviceClass.LAPTOP)
    lost = cell((BATTERY, 840_000, HOUR), state=State.ASLEEP, supply=Supply.UNKNOWN)
    assert only(wall_energy(lost, laptop)).method is Method.BATTERY
    fed = cell((BATTERY, 840_000, HOUR), state=State.ASLEEP, supply=Supply.AC)
    assert only(wall_energy(fed, laptop)).method is Method.LOAD_MODELLED
    awake = cell((BATTERY, 840_000, HOUR), state=State.ON_IDLE, supply=Supply.UNKNOWN)
    assert only(wall_energy(awake, laptop)).method is Method.CLASS_DEFAULT


@pytest.mark.parametrize(
    ("device_class", "base", "slope", "gsd2"),
    [
        (DeviceClass.MINI_PC, 12, 1.25, 1.5),
        (DeviceClass.SFF, 12, 1.25, 1.5),
        (DeviceClass.TOWER, 20, 1.35, 1.5),
        (DeviceClass.ALL_IN_ONE, 27, 1.25, 1.6),
        (DeviceClass.SERVER, 10 + 2 * 6 + 3 * 2, 1.7, 1.9),
    ],
)
def test_package_and_memory_through_the_wall_model(
    device_class: DeviceClass, base: float, slope: float, gsd2: float
):
    """The energy is a·t + b·(packages + DRAM + discrete GPU); cores are inside the package."""
    parts = wall_energy(
        cell(
            (PACKAGE, 20_000_000, HOUR),
            (PACKAGE_1, 10_000_000, HOUR),
            (DRAM, 4_000_000, HOUR),
            (GPU, 6_000_000, HOUR),
            (CORE, 15_000_000, HOUR),
        ),
        machine(device_class, hard_disks=2, solid_state_disks=3),
    )
    found = only(parts)
    assert found.method is Method.COUNTER_MODELLED
    assert found.energy_millijoules == pytest.approx(base * HOUR + slope * 40_000_000, rel=1e-6)
    assert found.uncertainty_millijoules == pytest.approx(
        found.energy_millijoules * math.log(gsd2) / 2, rel=1e-5
    )


def test_a_server_that_counts_its_disks_draws_for_them():
    """Unknown disks add nothing to a server's base."""
    found = only(wall_energy(cell((PACKAGE, 0, HOUR)), machine(DeviceClass.SERVER)))
    assert found.energy_millijoules == 10 * HOUR


def test_psys_only_where_the_package_fits_into_it():
    """Where package ≤ psys, psys ÷ 0.88 is used. Otherwise, or without a package, psys is rejected."""
    laptop = machine(DeviceClass.LAPTOP)
    good = only(wall_energy(cell((PACKAGE, 8_000, HOUR), (PSYS, 8_800_000, HOUR)), laptop))
    assert good.energy_millijoules == pytest.approx(10_000_000, rel=1e-6)
    small = only(wall_energy(cell((PACKAGE, 9_000_000, HOUR), (PSYS, 8_800_000, HOUR)), laptop))
    assert small.energy_millijoules == pytest.approx(3 * HOUR + 1.2 / 0.88 * 9_000_000, rel=1e-6)
    alone = wall_energy(cell((PSYS, 8_800_000, HOUR)), laptop)
    assert only(alone).method is Method.CLASS_DEFAULT


def test_counters_of_a_machine_that_is_off_or_has_no_wall_model_say_nothing():
    """The wall model applies only while on, and only to classes that have one."""
    off = cell((PACKAGE, 5, HOUR), state=State.OFF)
    assert only(wall_energy(off, machine(DeviceClass.TOWER))).method is Method.LOAD_MODELLED
    thin = wall_energy(cell((PACKAGE, 5, HOUR)), machine(DeviceClass.THIN_CLIENT))
    assert only(thin).method is Method.CLASS_DEFAULT


def test_the_part_a_counter_covers_and_the_rest():
    """The counter gives its half, a class default the other; they sum to the cell without scaling."""
    counted, rest = wall_energy(cell((PACKAGE, 1_000_000, HOUR // 2)), machine(DeviceClass.SFF))
    assert counted.method is Method.COUNTER_MODELLED
    assert counted.energy_millijoules == 12 * HOUR // 2 + 1_250_000
    assert rest.method is Method.CLASS_DEFAULT
    assert counted.milliseconds + rest.milliseconds == HOUR


def test_disjoint_parts_count_over_their_common_time():
    """With one of two packages covered half of the time, both count over that half."""
    counted, rest = wall_energy(
        cell((PACKAGE, 4_000_000, HOUR), (PACKAGE_1, 1_000_000, HOUR // 2)), machine(DeviceClass.SFF)
    )
    assert counted.milliseconds == rest.milliseconds == HOUR // 2
    assert counted.energy_millijoules == 12 * HOUR // 2 + round(1.25 * 3_000_000)


def test_a_meter_speaks_for_a_time_nobody_else_knows():
    """In unknown state the metered half is metered, and the other half is not observed."""
    found = only(wall_energy(cell((PLUG, 500, HOUR // 2), state=State.UNKNOWN), machine(DeviceClass.SFF)))
    assert (found.method, found.milliseconds) == (Method.METERED, HOUR // 2)
    assert wall_energy(cell(state=State.UNKNOWN), machine(DeviceClass.SFF)) == ()


points = st.sampled_from([PLUG, METER, BATTERY, PACKAGE, PACKAGE_1, DRAM, PSYS, GPU, CORE])
readings = st.lists(
    st.tuples(points, st.integers(0, 10**12), st.integers(0, HOUR)),
    max_size=8,
    unique_by=lambda item: item[0],
)


@given(
    readings,
    st.sampled_from(State),
    st.sampled_from(Supply),
    st.sampled_from(DeviceClass),
    st.integers(0, HOUR),
    st.one_of(st.none(), st.integers(1, 256)),
)
def test_parts_never_overlap_and_are_whole(
    energies: list[tuple[Point, int, int]],
    state: State,
    supply: Supply,
    device_class: DeviceClass,
    covered: int,
    count: int | None,
):
    """For any input, methods are distinct, energies are integers ≥ 0, and milliseconds fit the cell."""
    some = Cell(
        Band.NIGHT,
        state,
        supply,
        HOUR,
        tuple(energies),
        cpu_covered_milliseconds=covered,
        cpu_busy_milliseconds=covered // 3,
        cpu_bucket_milliseconds=(covered,) + (0,) * 12,
    )
    parts = wall_energy(some, MachineFacts(device_class, cpu_count=count))
    assert len({part.method for part in parts}) == len(parts)
    assert sum(part.milliseconds for part in parts) <= HOUR
    assert all(part.milliseconds > 0 for part in parts)
    assert all(part.energy_millijoules >= 0 and part.uncertainty_millijoules >= 0 for part in parts)
    assert all(isinstance(part.energy_millijoules, int) for part in parts)


def test_a_calibration_of_other_counters_says_nothing_of_these():
    """A thin client has no wall model and a calibration on psys; with the package alone counted, the load
    model applies."""
    fit = Fit("wall:psys", 5_000_000, 1_200_000, 0, 0, 0, 1_000_000, 9_901, 0, 202_733)
    known = Calibration(Hardware("acme", "thin", DeviceClass.THIN_CLIENT), {fit.quantity: fit})
    counted = cell((PACKAGE, 3_600_000, HOUR))
    found = wall_energy(counted, machine(DeviceClass.THIN_CLIENT), calibration=known)
    assert found == wall_energy(cell(), machine(DeviceClass.THIN_CLIENT))


def test_every_prior_has_its_uncertainty():
    """u is ln(GSD²)/2, and a published ± p % gives ln(1 + p)/2."""
    assert priors.u_ppm(1.5) == 202_733
    assert priors.u_ppm_of_percent(10) == 47_655
