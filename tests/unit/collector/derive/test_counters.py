# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The points of a machine's energy: one meter a kind, one kind of counters, disjoint parts alone."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.collector.derive.test_wall import (
    BATTERY,
    CORE,
    DRAM,
    GPU,
    HOUR,
    METER,
    PACKAGE,
    PACKAGE_1,
    PLUG,
    PSYS,
    cell,
    machine,
    only,
    point,
)
from veilleuse.collector.derive import priors
from veilleuse.collector.derive.counters import (
    METERS,
    base_microwatts,
    best_meter,
    counter_signal,
    may_be_psys,
    psys_check,
    psys_is_trusted,
)
from veilleuse.collector.derive.wall import wall_energy
from veilleuse.collector.model.calibration import Calibration, Fit, Hardware
from veilleuse.collector.model.hosts import MachineFacts
from veilleuse.collector.model.meters import PsysCheck
from veilleuse.collector.model.records import Point
from veilleuse.wire.ladder import METER_KINDS, Method
from veilleuse.wire.vocabulary import Boundary, DeviceClass, PointKind, State, Supply

BMC = point(PointKind.BMC, "power", Boundary.WALL)
FIT = Fit("wall:package+dram", 30_000_000, 1_100_000, 0, 0, 0, 1_000_000, 10_000, 10_000, 400_000)


def emi(name: str, boundary: Boundary = Boundary.COMPONENT) -> Point:
    """Return an instance of the Windows Energy Meter Interface."""
    return Point(PointKind.EMI, name, boundary, "machine")


def test_the_order_of_meters_is_the_ladder_s():
    """The order is plug > PDU > UPS > BMC > hwmon (docs/methodology.md §1); store and derive use one list."""
    assert sorted(METERS, key=lambda kind: METERS[kind][0]) == list(METER_KINDS)
    assert METER_KINDS[:5] == (
        PointKind.PLUG,
        PointKind.PDU,
        PointKind.UPS,
        PointKind.BMC,
        PointKind.HWMON,
    )


def test_the_best_meter_of_the_machine_itself():
    """BMC precedes hwmon; a component is no meter, and without a meter the result is None."""
    found = best_meter(cell((METER, 9, HOUR), (BMC, 8, HOUR), (GPU, 7, HOUR)))
    assert found is not None
    assert (found.kind, found.energy_millijoules) == (PointKind.BMC, 8)
    assert best_meter(cell((PACKAGE, 9, HOUR))) is None


def test_what_the_best_rung_leaves_goes_to_the_next_one():
    """With a plug for a quarter of the time and the BMC for all, the BMC gives three quarters.
    All of it is metered, once."""
    found = only(
        wall_energy(
            cell((PLUG, 100_000, HOUR // 4), (BMC, 800_000, HOUR), (PACKAGE, 5, HOUR)),
            machine(DeviceClass.SERVER),
        )
    )
    assert (found.method, found.energy_millijoules, found.milliseconds) == (Method.METERED, 700_000, HOUR)


def test_what_a_meter_leaves_goes_to_the_counters_before_the_model():
    """With a plug for half of the time and counters for all, each gives half, and the load model nothing."""
    metered, counted = wall_energy(
        cell((PLUG, 100_000, HOUR // 2), (PACKAGE, 3_600_000, HOUR)), machine(DeviceClass.SFF)
    )
    assert (metered.method, metered.milliseconds) == (Method.METERED, HOUR // 2)
    assert (counted.method, counted.milliseconds) == (Method.COUNTER_MODELLED, HOUR // 2)
    assert counted.energy_millijoules == (12 * HOUR + 1_250 * 3_600) // 2


def test_two_kinds_of_counters_are_two_views_of_one_package():
    """RAPL and EMI measure one package: RAPL is used, never their sum."""
    signal = counter_signal(cell((emi("RAPL_Package0_PKG"), 9_000, HOUR), (PACKAGE, 8_000, HOUR)))
    assert signal is not None
    assert (signal.name, signal.energy_millijoules) == ("package", 8_000)


@pytest.mark.parametrize(
    ("energies", "name", "energy"),
    [
        (
            [("RAPL_Package0_PKG", 100), ("RAPL_Package0_PP0", 70), ("RAPL_Package0_DRAM", 20)],
            "package+dram",
            120,
        ),
        ([("RAPL_Package0_PKG", 100), ("RAPL_Package0_PP1", 60), ("RAPL_Package0_PSYS", 150)], "psys", 150),
        ([("RAPL_Package0_PKG", 100), ("RAPL_Package1_PKG", 60)], "package", 160),
        (
            [("RAPL_Package0_PKG", 100), ("RAPL_Package0_Core0_CORE", 50), ("CPU_CLUSTER_0", 9)],
            "package",
            100,
        ),
        ([("package-0", 100), ("dram-0", 20)], "package+dram", 120),
        ([("package-0", 100), ("dram-0", 20), ("psys", 150)], "psys", 150),
        ([("package-0", 100), ("dram-0", 20), ("psys", 90)], "package+dram", 120),
        ([("CPU_CLUSTER_0", 40), ("CPU_CLUSTER_1", 30)], "package", 70),
        ([("CPU_CLUSTER_0", 40), ("SYS", 300)], "psys", 300),
        ([("CPU_CLUSTER_0", 40), ("psys", 300), ("PSU_USB", 900)], "psys", 300),
        ([("SYS", 300)], None, 0),
        ([("psys", 300)], None, 0),
    ],
)
def test_the_energy_meter_interface_counts_as_rapl_does(
    energies: list[tuple[str, int]], name: str | None, energy: int
):
    """EMI gives packages and memory, else the processor's clusters; psys where it is plausible.
    Cores and graphics are inside (docs/methodology.md §1): a sum of all domains gave 265 W for 154 W.
    """
    signal = counter_signal(cell(*((emi(domain), value, HOUR) for domain, value in energies)))
    if name is None:
        assert signal is None
    else:
        assert signal is not None
        assert (signal.name, signal.energy_millijoules) == (name, energy)


def test_the_signal_names_what_was_summed():
    """Packages, DRAM and every discrete GPU are summed over their common time; cores are in the package."""
    second = point(PointKind.GPU, "gpu-1")
    signal = counter_signal(
        cell(
            (PACKAGE, 1_000, HOUR),
            (PACKAGE_1, 500, HOUR),
            (DRAM, 200, HOUR),
            (GPU, 4_000, HOUR),
            (second, 2_000, HOUR),
            (CORE, 900, HOUR),
        )
    )
    assert signal is not None
    assert (signal.name, signal.energy_millijoules) == ("package+dram+gpu", 7_700)


def test_a_gpu_that_was_hardly_seen_is_left_out_and_the_name_says_so():
    """A minute of GPU in an hour of package does not remove the hour of the package."""
    signal = counter_signal(cell((PACKAGE, 1_000, HOUR), (GPU, 4_000, HOUR // 60)))
    assert signal is not None
    assert (signal.name, signal.energy_millijoules, signal.covered_milliseconds) == ("package", 1_000, HOUR)


def test_a_gpu_alone_comes_on_top_of_the_load_model():
    """Without a readable package, 300 W counted by the GPU come on top of the load model."""
    with_gpu = sum(
        part.energy_millijoules
        for part in wall_energy(cell((GPU, 300 * HOUR, HOUR)), machine(DeviceClass.TOWER))
    )
    without = sum(part.energy_millijoules for part in wall_energy(cell(), machine(DeviceClass.TOWER)))
    assert with_gpu - without == pytest.approx(300 * HOUR / 0.88, rel=1e-6)


def test_a_gpu_beside_a_package_is_counted_once():
    """With the package for half an hour and the GPU for an hour, counters give their common half.
    The load model's half contains no GPU."""
    hour = cell((PACKAGE, 0, HOUR // 2), (GPU, 300 * HOUR, HOUR))
    counted, rest = wall_energy(hour, machine(DeviceClass.TOWER))
    (bare,) = wall_energy(cell(milliseconds=HOUR // 2), machine(DeviceClass.TOWER))
    assert counted.energy_millijoules == (20 * HOUR + 1.35 * 300 * HOUR) / 2
    assert rest.energy_millijoules == bare.energy_millijoules


def test_batteries_in_turn_and_together():
    """Batteries one after the other add their times; both at once cover the cell once."""
    second = point(PointKind.BATTERY_OUT, "BAT1", Boundary.MACHINE_DC)
    laptop = machine(DeviceClass.LAPTOP)
    turns = only(
        wall_energy(
            cell((BATTERY, 18_000, HOUR // 2), (second, 18_000, HOUR // 2), supply=Supply.BATTERY), laptop
        )
    )
    both = only(
        wall_energy(cell((BATTERY, 18_000, HOUR), (second, 18_000, HOUR), supply=Supply.BATTERY), laptop)
    )
    assert turns == both
    assert turns.energy_millijoules == pytest.approx(36_000 / 0.84, rel=1e-4)
    assert turns.milliseconds == HOUR


def test_psys_against_the_battery():
    """On battery psys is trusted up to 1.2 × the discharge; less than 10 minutes decide nothing."""
    seen = psys_check(
        cell((PACKAGE, 5_000, HOUR), (PSYS, 12_200, HOUR), (BATTERY, 9_300, HOUR), supply=Supply.BATTERY)
    )
    assert seen == PsysCheck(12_200, 9_300, HOUR)
    assert not psys_is_trusted(seen)
    assert psys_is_trusted(PsysCheck(11_160, 9_300, HOUR))
    assert not psys_is_trusted(PsysCheck(11_161, 9_300, HOUR))
    assert psys_is_trusted(PsysCheck(12_200, 9_300, 599_999))
    assert psys_check(cell((PACKAGE, 5_000, HOUR), (PSYS, 12_200, HOUR), (BATTERY, 9_300, HOUR))) is None


def test_a_package_that_changed_its_name_within_a_record_is_one_package():
    """An agent of 0.2 upgraded after a quarter of the hour leaves two names: one package of 9 W for the hour.
    Two packages, with the names of either version, are two."""
    turns = counter_signal(
        cell(
            (emi("RAPL_PACKAGE0_PKG"), 9 * HOUR // 4, HOUR // 4),
            (emi("package-0"), 27 * HOUR // 4, 3 * HOUR // 4),
        )
    )
    assert turns == ("package", 9 * HOUR, HOUR)
    both = counter_signal(
        cell((emi("RAPL_PACKAGE0_PKG"), 9 * HOUR, HOUR), (emi("package-1"), 7 * HOUR, HOUR))
    )
    assert both == ("package", 16 * HOUR, HOUR)


def test_a_windows_laptop_s_psys_is_checked_against_its_battery():
    """The rule of RAPL's psys applies to Windows' energy meters, in today's names and in those of 0.2."""
    rapl = psys_check(
        cell((PACKAGE, 5_000, HOUR), (PSYS, 12_200, HOUR), (BATTERY, 9_300, HOUR), supply=Supply.BATTERY)
    )
    for package, psys in (
        ("package-0", "psys"),
        ("RAPL_Package0_PKG", "RAPL_Package0_PSYS"),
        ("CPU_CLUSTER_0", "SYS"),
    ):
        on_battery = cell(
            (emi(package), 5_000, HOUR),
            (emi(psys, Boundary.MACHINE_DC), 12_200, HOUR),
            (BATTERY, 9_300, HOUR),
            supply=Supply.BATTERY,
        )
        assert psys_check(on_battery) == rapl
        assert may_be_psys(emi(psys))


def test_a_psys_that_lied_on_battery_is_not_used_on_mains():
    """On mains psys is used where it is trusted, else the package through the wall model."""
    hour = cell((PACKAGE, 18_000_000, HOUR), (PSYS, 40_000_000, HOUR))
    laptop = machine(DeviceClass.LAPTOP)
    trusted = only(wall_energy(hour, laptop))
    not_trusted = only(wall_energy(hour, laptop, trust_psys=False))
    assert trusted.energy_millijoules == pytest.approx(40_000_000 / 0.88, rel=1e-6)
    assert not_trusted.energy_millijoules == pytest.approx(3 * HOUR + 1.2 / 0.88 * 18_000_000, rel=1e-6)


KABY_LAKE = ((PACKAGE, 1_440 * HOUR // 1000, HOUR), (PSYS, 12_210 * HOUR // 1000, HOUR))
"""A laptop with an i7-7600U at rest, whose battery gave 9.31 W (CodeCarbon, docs/explanation/rapl.md)."""
LAPTOP_PRIOR = priors.WALL_PRIORS[DeviceClass.LAPTOP]


def test_a_laptop_whose_psys_is_rejected_draws_what_its_battery_says_beside_its_package():
    """9.31 W from the battery are 10.6 at the wall. Package and class base give 5.0 W.
    The base from the battery, 9 W, gives 11.0 W; the rejected psys gave 13.9.
    """
    seen = psys_check(
        cell(*KABY_LAKE, (BATTERY, 9_310 * HOUR // 1000, HOUR), supply=Supply.BATTERY), LAPTOP_PRIOR
    )
    assert seen is not None
    assert not psys_is_trusted(seen)
    base = base_microwatts(seen)
    assert base == 9_000_000
    hour, laptop = cell(*KABY_LAKE), machine(DeviceClass.LAPTOP)
    by_class = only(wall_energy(hour, laptop, trust_psys=False))
    told = only(wall_energy(hour, laptop, trust_psys=False, base_microwatts=base))
    by_psys = only(wall_energy(hour, laptop))
    watts = [one.energy_millijoules / HOUR for one in (by_class, told, by_psys)]
    assert watts == pytest.approx([4.96, 10.96, 13.88], abs=0.01)
    truth = 9.31 / 0.88
    half = 1.96 * told.uncertainty_millijoules / told.energy_millijoules
    assert watts[0] * math.exp(half) < truth < watts[1] * math.exp(half)
    assert watts[1] == pytest.approx(truth, rel=0.05)


def test_the_battery_s_base_is_whole_watts_of_ten_minutes_and_no_less_than_the_class_s():
    """The base is the nearest watt, negative where the package alone gives more.
    Without ten minutes or a wall model there is none."""
    assert base_microwatts(PsysCheck(0, 0, 0, 5_499 * 600, 600_000)) == 5_000_000
    assert base_microwatts(PsysCheck(0, 0, 0, 5_500 * 600, 600_000)) == 6_000_000
    assert base_microwatts(PsysCheck(0, 0, 0, -5_501 * 600, 600_000)) == -6_000_000
    assert base_microwatts(PsysCheck(0, 0, 0, 9_000_000, 599_999)) is None
    on_battery = cell(*KABY_LAKE, (BATTERY, 9_310 * HOUR // 1000, HOUR), supply=Supply.BATTERY)
    by_prior = psys_check(on_battery, LAPTOP_PRIOR)
    assert by_prior is not None
    assert psys_check(on_battery) == replace(by_prior, base_millijoules=0, base_milliseconds=0)
    hour, laptop = cell(*KABY_LAKE), machine(DeviceClass.LAPTOP)
    least = only(wall_energy(hour, laptop, trust_psys=False))
    told = only(wall_energy(hour, laptop, trust_psys=False, base_microwatts=-6_000_000))
    assert told.energy_millijoules == least.energy_millijoules


def test_a_battery_s_base_covers_what_both_saw():
    """With the battery for half an hour and the package for an hour, half an hour of each counts."""
    half = cell(
        (PACKAGE, 2 * HOUR, HOUR),
        (PSYS, 9 * HOUR, HOUR),
        (BATTERY, 4 * HOUR, HOUR // 2),
        supply=Supply.BATTERY,
    )
    seen = psys_check(half, LAPTOP_PRIOR)
    assert seen is not None
    assert (seen.milliseconds, seen.base_milliseconds) == (HOUR // 2, HOUR // 2)
    assert seen.base_millijoules == pytest.approx((4 - 1.2) / 0.88 * HOUR, rel=1e-5)


def test_a_calibration_serves_the_very_sum_it_was_fitted_on():
    """A fit on package+dram serves package+dram; a record without DRAM has the prior."""
    calibration = Calibration(Hardware("dell", "r640", DeviceClass.SERVER), {FIT.quantity: FIT})
    server = MachineFacts(DeviceClass.SERVER, hard_disks=8)
    both = only(
        wall_energy(
            cell((PACKAGE, 3_600_000, HOUR), (DRAM, 3_600_000, HOUR)), server, calibration=calibration
        )
    )
    assert (both.method, both.energy_millijoules) == (Method.COUNTER_CALIBRATED, 30 * HOUR + 7_920_000)
    assert both.uncertainty_millijoules >= both.energy_millijoules // 100
    alone = only(wall_energy(cell((PACKAGE, 3_600_000, HOUR)), server, calibration=calibration))
    assert alone.method is Method.COUNTER_MODELLED


def test_calibrated_standby_is_still_modelled():
    """Calibrated watts off and asleep are load_modelled (docs/methodology.md §1); a laptop's are multiplied
    by the plugged share."""
    off = Fit("off", 700_000, 0, 0, 0, 0, 1_000_000, 10_000, 10_000, 400_000)
    calibration = Calibration(Hardware("dell", "x", DeviceClass.SFF), {"off": off})
    found = only(wall_energy(cell(state=State.OFF), machine(DeviceClass.SFF), calibration=calibration))
    assert (found.method, found.energy_millijoules) == (Method.LOAD_MODELLED, 700 * HOUR // 1000)
    laptop = only(
        wall_energy(
            cell(state=State.OFF, supply=Supply.UNKNOWN), machine(DeviceClass.LAPTOP), calibration=calibration
        )
    )
    assert laptop.energy_millijoules == 350 * HOUR // 1000
    assert laptop.uncertainty_millijoules > found.uncertainty_millijoules


@given(
    st.sampled_from([PLUG, BMC, METER, BATTERY, PACKAGE, DRAM, GPU]),
    st.integers(0, 10**10),
    st.integers(0, 10**10),
    st.integers(1, HOUR),
    st.sampled_from(DeviceClass),
    st.sampled_from(Supply),
)
def test_more_at_a_point_is_never_less_at_the_wall(
    where: Point, energy: int, more: int, covered: int, device_class: DeviceClass, supply: Supply
):
    """Energy and uncertainty grow with the energy of the point that is used."""

    def total(value: int) -> tuple[int, int]:
        parts = wall_energy(
            cell((PACKAGE_1, 1_000, covered), (where, value, covered), supply=supply), machine(device_class)
        )
        return sum(part.energy_millijoules for part in parts), sum(
            part.uncertainty_millijoules for part in parts
        )

    before, after = total(energy), total(energy + more)
    assert before[0] <= after[0]
    assert before[1] <= after[1]
