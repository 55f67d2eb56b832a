# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Energy by the load model, from state and load alone."""

from __future__ import annotations

import csv
import itertools
import math
from pathlib import Path
from statistics import median

import pytest

from veilleuse.collector import shipped_tables
from veilleuse.collector.derive.counters import ON_STATES
from veilleuse.collector.derive.loadmodel import model_energy, rest_microwatts, thread_slope_microwatts
from veilleuse.collector.model.hosts import MachineFacts
from veilleuse.collector.model.records import Cell
from veilleuse.wire.ladder import Method
from veilleuse.wire.limits import CPU_BUCKET_EDGES_PERCENT
from veilleuse.wire.vocabulary import Band, DeviceClass, State, Supply

HOUR = 3_600_000
SHARE = 500_000


def cell(
    state: State,
    *,
    covered: int | None = None,
    busy: int = 0,
    bucket: int = 0,
    supply: Supply = Supply.UNKNOWN,
) -> Cell:
    """Return a cell of one hour."""
    buckets = tuple(covered if place == bucket else 0 for place in range(13)) if covered else ()
    return Cell(
        Band.OPEN,
        state,
        supply,
        HOUR,
        cpu_covered_milliseconds=covered,
        cpu_busy_milliseconds=None if covered is None else busy,
        cpu_bucket_milliseconds=buckets,
    )


def energy_wh(state: State, device_class: DeviceClass, **facts: int) -> float:
    """Return the modelled energy of one hour, in Wh."""
    parts = model_energy(cell(state), MachineFacts(device_class, **facts), HOUR, SHARE)  # type: ignore[arg-type]
    return sum(part.energy_millijoules for part in parts) / 3_600_000


@pytest.mark.parametrize(
    ("device_class", "off", "asleep"),
    [
        (DeviceClass.MINI_PC, 0.5, 1.2),
        (DeviceClass.SFF, 0.5, 1.5),
        (DeviceClass.TOWER, 0.8, 2.0),
        (DeviceClass.ALL_IN_ONE, 0.5, 1.5),
        (DeviceClass.THIN_CLIENT, 0.6, 0.8),
        (DeviceClass.LAPTOP, 0.2, 0.4),
        (DeviceClass.UNKNOWN, 0.5, 1.5),
    ],
)
def test_off_and_asleep_draw_the_state_powers(device_class: DeviceClass, off: float, asleep: float):
    """Watts are those of docs/methodology.md §2; a laptop is on its charger half of the time."""
    assert energy_wh(State.OFF, device_class) == pytest.approx(off)
    assert energy_wh(State.ASLEEP, device_class) == pytest.approx(asleep)


def test_a_laptops_standby_carries_both_uncertainties():
    """State power and plugged share, each with GSD² 1.5, add in quadrature."""
    (part,) = model_energy(cell(State.OFF), MachineFacts(DeviceClass.LAPTOP), HOUR, SHARE)
    assert part.method is Method.LOAD_MODELLED
    assert part.uncertainty_millijoules / part.energy_millijoules == pytest.approx(
        math.sqrt(2) * math.log(1.5) / 2, rel=1e-4
    )


def test_a_laptop_known_to_be_on_mains_draws_its_standby_in_full():
    """The plugged share applies where the supply is unknown or a battery, because nobody measured what sleep
    drained."""
    laptop = MachineFacts(DeviceClass.LAPTOP)
    (plugged,) = model_energy(cell(State.ASLEEP, supply=Supply.AC), laptop, HOUR, SHARE)
    assert plugged.energy_millijoules / HOUR == pytest.approx(0.8)
    assert plugged.uncertainty_millijoules / plugged.energy_millijoules == pytest.approx(
        math.log(1.5) / 2, rel=1e-4
    )
    (drained,) = model_energy(cell(State.ASLEEP, supply=Supply.BATTERY), laptop, HOUR, SHARE)
    assert drained.energy_millijoules / HOUR == pytest.approx(0.4)


def test_a_server_goes_from_idle_to_full_load():
    """100 W idle and 475 W at 100 % (idle/max 0.21) include 175 W light and 300 W typical service
    (docs/methodology.md §2)."""
    powers = shipped_tables.STATE_POWERS[DeviceClass.SERVER]

    def watts(load: float) -> float:
        span = powers.active_microwatts - powers.idle_microwatts
        return (powers.idle_microwatts + span * shipped_tables.curve_ppm(round(load * 1e6)) / 1e6) / 1e6

    assert (watts(0), watts(1)) == (100, 475)
    assert watts(0.13) == pytest.approx(175, rel=0.02)
    assert watts(0.41) == pytest.approx(300, rel=0.02)
    xeon = MachineFacts(DeviceClass.SERVER, cpu_model="Xeon", cpu_count=8)
    (full,) = model_energy(cell(State.ON_ACTIVE, covered=HOUR, bucket=12), xeon, HOUR, SHARE)
    assert full.energy_millijoules / HOUR == pytest.approx(475, rel=0.03)


def test_an_unknown_class_is_a_class_default_with_gsd2_2():
    """An unknown class has the desktop median as one part, on or off."""
    unknown = MachineFacts(DeviceClass.UNKNOWN)
    for some in (cell(State.OFF), cell(State.ON_IDLE, covered=HOUR // 2)):
        (part,) = model_energy(some, unknown, HOUR, SHARE)
        assert part.method is Method.CLASS_DEFAULT
        assert part.milliseconds == HOUR
        assert part.uncertainty_millijoules / part.energy_millijoules == pytest.approx(
            math.log(2) / 2, rel=1e-4
        )


def test_what_cannot_be_told_is_absent():
    """An unknown state, a virtual machine off or of unknown size, and a server asleep (without a state power)
    have no energy."""
    assert model_energy(cell(State.UNKNOWN), MachineFacts(DeviceClass.SFF), HOUR, SHARE) == ()
    assert (
        model_energy(cell(State.OFF), MachineFacts(DeviceClass.VIRTUAL_MACHINE, cpu_count=2), HOUR, SHARE)
        == ()
    )
    assert model_energy(cell(State.ASLEEP), MachineFacts(DeviceClass.SERVER), HOUR, SHARE) == ()
    assert model_energy(cell(State.ON_IDLE), MachineFacts(DeviceClass.VIRTUAL_MACHINE), HOUR, SHARE) == ()
    assert model_energy(cell(State.ON_IDLE), MachineFacts(DeviceClass.SFF), 0, SHARE) == ()
    assert energy_wh(State.OFF, DeviceClass.SERVER) == pytest.approx(8)


def test_a_virtual_machine_is_its_threads():
    """vCPU × (min + (max − min)·u), with medians of the CCF table without EPYC 5th Gen, is linear in load."""
    table = Path(__file__).parents[4] / "collector/veilleuse/collector/data/server_cpu_minmax_ccf.csv"
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert "EPYC 5th Gen" not in {row["architecture"] for row in rows}
    low = median(float(row["min_watts_per_thread"]) for row in rows)
    high = median(float(row["max_watts_per_thread"]) for row in rows)
    machine = MachineFacts(DeviceClass.VIRTUAL_MACHINE, cpu_count=4)
    (part,) = model_energy(cell(State.ON_ACTIVE, covered=HOUR, busy=HOUR // 4), machine, HOUR, SHARE)
    assert part.method is Method.LOAD_MODELLED
    assert part.energy_millijoules / HOUR == pytest.approx(4 * (low + (high - low) * 0.25), rel=1e-5)
    assert part.uncertainty_millijoules / part.energy_millijoules == pytest.approx(math.log(2) / 2, rel=1e-4)


def loaded(load_percent: int) -> Cell:
    """Return an hour on at a load (a multiple of 10): half in the bucket below, half in the one above."""
    edges = (0, *CPU_BUCKET_EDGES_PERCENT, 100)
    above = edges.index(load_percent) if load_percent < 100 else 12
    below = max(0, above - 1) if 0 < load_percent < 100 else above
    made = cell(State.ON_ACTIVE, covered=HOUR, busy=HOUR * load_percent // 100)
    buckets = [0] * 13
    buckets[above] += HOUR // 2
    buckets[below] += HOUR // 2
    return made._replace(cpu_bucket_milliseconds=tuple(buckets))


def server_watts(device_class: DeviceClass, threads: int, load_percent: int) -> float:
    """Return the watts of a machine whose processor model is unknown."""
    (part,) = model_energy(loaded(load_percent), MachineFacts(device_class, cpu_count=threads), HOUR, SHARE)
    assert part.method is Method.LOAD_MODELLED
    assert part.uncertainty_millijoules / part.energy_millijoules == pytest.approx(math.log(2) / 2, rel=1e-4)
    return part.energy_millijoules / HOUR


def test_a_physical_server_of_unknown_cpu_draws_no_less_than_its_class_at_rest():
    """32 threads at 30 % drew 269 W. Threads alone gave 56 W, below the class's idle, in an interval up to
    111 W. Threads above 100 W give 144 W, 73 to 283. A virtual machine keeps 56 W, because its host has the
    rest.
    """
    watts = server_watts(DeviceClass.SERVER, 32, 30)
    assert watts == pytest.approx(143.6, abs=0.1)
    assert watts * math.exp(-1.96 * math.log(2) / 2) < 269 < watts * math.exp(1.96 * math.log(2) / 2)
    assert server_watts(DeviceClass.VIRTUAL_MACHINE, 32, 30) == pytest.approx(56.2, abs=0.1)


@pytest.mark.parametrize("threads", [1, 8, 32, 128, 256, 512])
def test_a_server_of_unknown_cpu_grows_with_load_and_with_threads(threads: int):
    """At any load it draws at least its class's idle and its threads' watts, and more at more load or with
    twice the threads. The last bucket represents 95 % of load.
    """
    watts = [server_watts(DeviceClass.SERVER, threads, load) for load in range(0, 101, 10)]
    assert watts == sorted(set(watts))
    for load, found in zip(range(0, 101, 10), watts, strict=True):
        assert found >= max(100, 0.97 * server_watts(DeviceClass.VIRTUAL_MACHINE, threads, load))
        assert server_watts(DeviceClass.SERVER, 2 * threads, load) > found
    (rest,) = {rest_microwatts(MachineFacts(DeviceClass.SERVER, cpu_count=threads), one) for one in ON_STATES}
    assert rest == max(100_000_000, threads * shipped_tables.thread_microwatts()[0])


def test_a_server_of_known_cpu_or_of_unknown_size_is_its_class():
    """The thread table is used only where the CPU's name is missing and its threads are known."""
    some = cell(State.ON_IDLE, covered=HOUR, busy=0)
    known = MachineFacts(DeviceClass.SERVER, cpu_model="Xeon", cpu_count=8)
    (by_class,) = model_energy(some, known, HOUR, SHARE)
    assert by_class.energy_millijoules / HOUR == pytest.approx(100, rel=0.05)
    (nothing_known,) = model_energy(some, MachineFacts(DeviceClass.SERVER), HOUR, SHARE)
    assert nothing_known == by_class


def test_load_that_was_not_measured_is_a_class_default():
    """With half of the load known, half is load_modelled at GSD² 1.5 and half class_default."""
    some = cell(State.ON_ACTIVE, covered=HOUR // 2, busy=10, bucket=5)
    known, unknown = model_energy(some, MachineFacts(DeviceClass.TOWER), HOUR, SHARE)
    assert (known.method, unknown.method) == (Method.LOAD_MODELLED, Method.CLASS_DEFAULT)
    assert known.milliseconds == unknown.milliseconds == HOUR // 2
    assert known.uncertainty_millijoules / known.energy_millijoules == pytest.approx(
        math.log(1.5) / 2, rel=1e-4
    )


def test_busy_without_buckets_is_load_not_known():
    """A record that lost its buckets is not taken for an idle machine."""
    some = Cell(
        Band.OPEN, State.ON_ACTIVE, Supply.AC, HOUR, cpu_covered_milliseconds=HOUR, cpu_busy_milliseconds=9
    )
    (part,) = model_energy(some, MachineFacts(DeviceClass.TOWER), HOUR, SHARE)
    assert part.method is Method.CLASS_DEFAULT


def test_the_curve_is_concave_from_rest_to_active():
    """The curve rises from 0 to 1, is never below the straight line, and has 13 buckets."""
    loads = range(0, 1_000_001, 10_000)
    values = [shipped_tables.curve_ppm(load) for load in loads]
    assert (values[0], values[-1]) == (0, 1_000_000)
    assert all(value >= load for load, value in zip(loads, values, strict=True))
    steps = [upper - lower for lower, upper in itertools.pairwise(values)]
    assert all(step > 0 for step in steps)
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(steps))
    assert len(shipped_tables.BUCKET_CURVE_PPM) == 13


def test_a_pc_lies_between_its_states():
    """Idle starts at `idle`, active at `light`, and full load is `active`: 10, 13 and 45 W for SFF
    (docs/methodology.md §2)."""
    sff = MachineFacts(DeviceClass.SFF)
    (idle,) = model_energy(cell(State.ON_IDLE, covered=HOUR), sff, HOUR, SHARE)
    (light,) = model_energy(cell(State.ON_ACTIVE, covered=HOUR), sff, HOUR, SHARE)
    (full,) = model_energy(cell(State.ON_ACTIVE, covered=HOUR, bucket=12), sff, HOUR, SHARE)
    assert idle.energy_millijoules / HOUR == pytest.approx(10 + 35 * 0.009399, rel=1e-5)
    assert light.energy_millijoules / HOUR == pytest.approx(13 + 32 * 0.009399, rel=1e-5)
    assert full.energy_millijoules / HOUR == pytest.approx(45, rel=0.03)


def test_memory_beyond_two_modules_draws_more_on_a_pc():
    """A further module draws 2.5 W; on laptops, or when the number is unknown, none does."""
    two, four = (
        energy_wh(State.ON_IDLE, DeviceClass.TOWER, memory_modules=2),
        energy_wh(State.ON_IDLE, DeviceClass.TOWER, memory_modules=4),
    )
    assert four - two == pytest.approx(5)
    assert energy_wh(State.ON_IDLE, DeviceClass.TOWER) == pytest.approx(two)
    assert energy_wh(State.ON_IDLE, DeviceClass.LAPTOP, memory_modules=4) == pytest.approx(
        energy_wh(State.ON_IDLE, DeviceClass.LAPTOP)
    )


@pytest.mark.parametrize(
    ("device_class", "low", "high"),
    [
        (DeviceClass.MINI_PC, 27.5, 28.5),
        (DeviceClass.SFF, 49, 50),
        (DeviceClass.TOWER, 94, 96),
        (DeviceClass.ALL_IN_ONE, 95, 97),
    ],
)
def test_state_powers_give_the_published_tec_at_standard_duty(
    device_class: DeviceClass, low: float, high: float
):
    """ENERGY STAR 8 duty (off 0.15, sleep 0.45, long idle 0.10, short idle 0.30) gives the TEC of
    docs/methodology.md §2 [C]."""
    powers = shipped_tables.STATE_POWERS[device_class]
    assert powers.sleep_microwatts is not None
    watts = (
        0.15 * powers.off_microwatts
        + 0.45 * powers.sleep_microwatts
        + 0.10 * powers.idle_microwatts
        + 0.30 * powers.light_microwatts
    ) / 1e6
    assert low <= watts * 8.76 <= high


def test_a_virtual_machine_whose_load_is_not_known():
    """Its energy is its threads' at the assumed load, as a class default."""
    machine = MachineFacts(DeviceClass.VIRTUAL_MACHINE, cpu_count=1)
    (part,) = model_energy(cell(State.ON_ACTIVE), machine, HOUR, SHARE)
    assert part.method is Method.CLASS_DEFAULT
    assert part.energy_millijoules / HOUR == pytest.approx(0.7668 + (4.0632 - 0.7668) * 0.10)


@pytest.mark.parametrize(
    ("machine", "watts"),
    [
        (MachineFacts(DeviceClass.SFF, cpu_count=8), 2 * (45 - 10) / 8),
        (MachineFacts(DeviceClass.SERVER, cpu_model="Xeon", cpu_count=32), 2 * (475 - 100) / 32),
        (MachineFacts(DeviceClass.SERVER, cpu_count=32), 2 * (4.0632 - 0.7668)),
        (MachineFacts(DeviceClass.VIRTUAL_MACHINE), 4.0632 - 0.7668),
        (MachineFacts(DeviceClass.LAPTOP), None),
    ],
)
def test_one_busy_cpu_adds_the_slope_of_the_model_at_rest(machine: MachineFacts, watts: float | None):
    """It is the largest slope of the concave curve, 2; linear for virtual machines, whose threads have no
    number to divide by. A machine of unknown size has none."""
    slope = thread_slope_microwatts(machine)
    assert slope is None if watts is None else slope == pytest.approx(watts * 1e6, rel=1e-4)
    if machine.cpu_count and watts and machine.cpu_model:  # of one thread at 1 % of the whole, by the model
        rest, busy = (shipped_tables.curve_ppm(load) for load in (0, 10_000))
        assert (busy - rest) / 10_000 == pytest.approx(shipped_tables.CURVE_SLOPE_AT_REST, rel=0.1)
