# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A study with plugs compares modelled with metered energy over the same time. Its interval is right."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from tests.support.reference_units import Truth, simulated
from veilleuse.collector.derive import priors
from veilleuse.collector.derive.calibration.acceptance import Reference
from veilleuse.collector.derive.calibration.comparison import (
    StudyRow,
    StudyTime,
    StudyUnit,
    leave_one_out,
    study_rows,
)
from veilleuse.collector.derive.calibration.readings import Reading
from veilleuse.collector.derive.calibration.samples import Samples, StoredRecord
from veilleuse.collector.model.calibration import Hardware
from veilleuse.collector.model.hosts import MachineFacts
from veilleuse.collector.model.records import Cell, Point
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, Boundary, DeviceClass, PointKind, State, Supply

FACTS = MachineFacts(DeviceClass.SFF, vendor="Acme", model="Desk 7")
PACKAGE = Point(PointKind.RAPL, "package-0", Boundary.COMPONENT, "machine")
PLUG = Point(PointKind.PLUG, "plug", Boundary.WALL, "machine")
BMC = Point(PointKind.BMC, "bmc", Boundary.WALL, "machine")
HOUR = 3_600_000
METER_U = priors.METER_U_PPM / 1e6
LOAD, COUNTER = (StudyTime.ON, Method.LOAD_MODELLED), (StudyTime.ON, Method.COUNTER_MODELLED)
PRIOR_WATTS = 12 + 1.25 * 10
"""Wall model of an SFF whose package draws 10 W."""


def cell(
    *watts: tuple[Point, float], state: State = State.ON_ACTIVE, hours: float = 1, covered: float = 1.0
) -> Cell:
    """Return a cell on mains at an unmeasured load."""
    time = round(hours * HOUR)
    energies = tuple((point, round(w * time * covered), round(time * covered)) for point, w in watts)
    return Cell(Band.OPEN, state, Supply.AC, time, energies)


def record(*cells: Cell, start: float = 0) -> StoredRecord:
    """Return a record that begins `start` hours after 1970."""
    return StoredRecord(round(start * HOUR), sum(one.milliseconds for one in cells), cells)


def unit(device_class: str = "sff", system: str = "linux") -> StudyUnit:
    """Return a machine without comparisons."""
    return StudyUnit(device_class, system, FACTS, 500_000)


def test_the_plug_is_hidden_from_the_models():
    """30 h at 40 W by the plug: the prior says 24.5 W of 10 W at the package, the load model its default."""
    one = unit()
    one.compare_records([record(cell((PACKAGE, 10), (PLUG, 40), hours=30))], over=True)
    assert one.found[COUNTER].modelled_millijoules == pytest.approx(PRIOR_WATTS * 30 * HOUR)
    assert one.found[COUNTER].error == pytest.approx(math.log(PRIOR_WATTS / 40))
    assert one.found[COUNTER].u == pytest.approx(math.log(1.5) / 2, rel=1e-4)
    bare = unit()
    bare.compare_records([record(cell((PLUG, 40), hours=30))], over=True)
    assert bare.found == {LOAD: one.found[LOAD]}
    assert one.hours(StudyTime.ON) == 30
    assert one.hours(StudyTime.WHOLE) == 0
    assert one.notes == []


@pytest.mark.parametrize(
    ("cells", "note"),
    [
        ([cell((PACKAGE, 10), (PLUG, 40), hours=19)], "read the plug for less than 20 h"),
        ([cell((PLUG, 40), hours=40), cell((PACKAGE, 10), hours=10)], "read the plug in 80% of its time on"),
        ([cell((PLUG, 40), hours=40), cell((PLUG, 40), hours=10, covered=0.8)], "in 80% of its time on"),
    ],
)
def test_a_plug_that_was_read_too_little_gives_no_error(cells, note):
    """The reason is told, and nothing is compared. Few hours are no reason while the study goes on."""
    one = unit()
    one.compare_records([record(*cells)], over=True)
    assert one.found == {}
    assert note in one.notes[0]
    young = unit()
    young.compare_records([record(*cells)], over=False)
    assert young.found.keys() == ({LOAD, COUNTER} if "less than 20 h" in note else set())


def test_other_time_and_other_meters_are_no_comparison():
    """Off, on battery, charging, a BMC, which is no meter of class 2, and 0 W are not compared."""
    charging = Point(PointKind.BATTERY_IN, "BAT0", Boundary.MACHINE_DC, "machine")
    one = unit()
    one.compare_records(
        [
            record(cell((PLUG, 1), state=State.OFF, hours=30)),
            record(cell((PLUG, 0), hours=30)._replace(supply=Supply.BATTERY)),
            record(cell((PLUG, 60), (charging, 20), hours=30)),
            record(cell((BMC, 60), hours=30)),
            record(cell((PLUG, 0), hours=30)),
        ],
        over=True,
    )
    assert (one.found, one.notes) == ({}, [])


def test_a_counter_is_compared_over_all_the_time_of_its_readings():
    """Two days of 6 h on and 18 h off, known by hours: 40 W and 2 W by the counter. An hour of unknown state
    has no part; a third day is half without records and is not compared."""
    days = [
        record(cell((PACKAGE, 10), (PLUG, 99)) if hour % 24 < 6 else cell(state=State.OFF), start=hour)
        for hour in range(60)
    ]
    days[30] = record(cell(state=State.UNKNOWN), start=30)
    watts = (6 * 40 + 18 * 2) / 24
    readings = [
        Reading(24 * day * HOUR, 24 * (day + 1) * HOUR, round(watts * 1000), "", 2) for day in range(3)
    ]
    one = unit()
    one.compare_readings(readings, days, 48 * HOUR)
    counted = one.found[StudyTime.WHOLE, Method.COUNTER_MODELLED]
    assert counted.milliseconds == 47 * HOUR
    assert counted.metered_millijoules == pytest.approx(watts * 47 * HOUR)
    assert counted.modelled_millijoules == pytest.approx((12 * PRIOR_WATTS + 35 * 0.5) * HOUR)
    assert one.notes == []
    late = unit()
    late.compare_readings(readings, days, 28 * 24 * HOUR)
    assert late.found == {}
    assert late.notes == ["readings with records beside them cover 7% of the time"]
    late.compare_readings([], days, 28 * 24 * HOUR)
    assert len(late.notes) == 1


def test_a_calibration_is_never_tested_on_its_own_unit():
    """A unit is predicted by the others alone: its own plug changes what was metered, not the prediction."""
    truth, model = Truth(), Hardware("acme", "desk 7", DeviceClass.SFF)
    units = simulated(truth, 3, 480, random.Random(1))
    samples = Samples({(model, "wall:package"): {one.name: {"plug": one} for one in units}})
    reference = Reference("meters", "plug", priors.METER_U_PPM)
    before = leave_one_out(samples, reference)
    assert set(before) == {"unit 1", "unit 2", "unit 3"}
    assert all(abs(one.error) < 0.3 for one in before.values())
    first = units[0]
    first.blocks = {
        key: block._replace(e=1.1 * block.e, ce=1.1 * block.ce) for key, block in first.blocks.items()
    }
    after = leave_one_out(samples, reference)
    assert after["unit 1"].modelled_millijoules == before["unit 1"].modelled_millijoules
    assert after["unit 1"].metered_millijoules == pytest.approx(1.1 * before["unit 1"].metered_millijoules)
    assert after["unit 2"].modelled_millijoules != before["unit 2"].modelled_millijoules


def test_nothing_is_predicted_without_another_unit_or_by_a_refused_fit():
    """A single unit, a power off, and units whose load hardly changed predict nothing."""
    model = Hardware("acme", "desk 7", DeviceClass.SFF)
    (alone,) = simulated(Truth(), 1, 480, random.Random(1))
    flat = simulated(replace(Truth(), reference_watts=1e-9), 2, 480, random.Random(1))
    samples = Samples(
        {
            (model, "wall:package"): {"a": {"plug": alone}},
            (model, "wall:psys"): {one.name: {"plug": one} for one in flat},
            (model, "off"): {"a": {"plug": alone}, "b": {"plug": alone}},
            (model, "wall:package+dram"): {"a": {"bmc": alone}, "b": {"bmc": alone}},
        }
    )
    assert leave_one_out(samples, Reference("meters", "plug", priors.METER_U_PPM)) == {}


def study(errors: list[float], gain: float = 1.0, device_class: str = "sff") -> list[StudyUnit]:
    """Return machines on fake plugs whose counters' model errs by these, log scale; `gain`: of the plugs."""
    made = []
    for error in errors:
        one = unit(device_class)
        watts = PRIOR_WATTS / math.exp(error) * gain
        one.compare_records([record(cell((PACKAGE, 10), (PLUG, watts), hours=30))], over=True)
        made.append(one)
    return made


def of_counters(rows: list[StudyRow]) -> list[StudyRow]:
    """Return the rows of one method."""
    return [row for row in rows if row.method == Method.COUNTER_MODELLED]


def test_the_interval_holds_the_true_error():
    """Five simulated plugs, a mean error of 20 %, 15 % between machines, one gain error of all plugs:
    the interval holds the true error in 95 of 100 studies. With the normal quantile it would be 88."""
    chance = random.Random(14)
    held, studies = 0, 400
    for _ in range(studies):
        gain = math.exp(chance.gauss(0, METER_U))
        (row,) = of_counters(study_rows(study([chance.gauss(0.18, 0.15) for _ in range(5)], gain), METER_U))
        assert row.error_low is not None
        assert row.error_high is not None
        held += row.error_low <= math.expm1(0.18) <= row.error_high
    assert 0.93 <= held / studies <= 0.97


def test_a_row_says_what_the_prior_should_have_been():
    """Three machines at +10, +30 and −5 %: mean, spread about the plug, and who is inside GSD² 1.5."""
    errors = [math.log(1.1), math.log(1.3), math.log(0.95)]
    (row,) = of_counters(study_rows(study([*errors, 0.5]), METER_U))
    assert (row.device_class, row.system, row.time, row.units, row.hours) == ("sff", "linux", "on", 4, 120)
    assert row.error == pytest.approx(math.expm1((sum(errors) + 0.5) / 4), rel=1e-4)
    square = (sum(error**2 for error in errors) + 0.25) / 4
    assert row.gsd2_found == pytest.approx(math.exp(2 * math.sqrt(square)), rel=1e-4)
    assert row.gsd2_stated == pytest.approx(1.5, rel=1e-4)
    assert row.inside == 3  # 0.5 is above 1.96 × 0.203


def test_classes_have_rows_of_their_own_and_one_of_all():
    """Two machines give an error without interval; the row of all does not replace them."""
    rows = of_counters(study_rows([*study([0.1, 0.2]), *study([0.0], device_class="tower")], METER_U))
    assert [(row.device_class, row.system, row.units) for row in rows] == [
        ("sff", "linux", 2),
        ("tower", "linux", 1),
        ("all", "linux", 3),
    ]
    assert [row.error_low is None for row in rows] == [True, True, False]


def test_pcs_of_people_are_told_together_or_not_at_all():
    """Ten of them make one row, whatever their classes; nine make none."""
    ten = [*study([0.1] * 6), *study([0.2] * 4, device_class="tower")]
    (row,) = of_counters(study_rows(ten, METER_U, k=10))
    assert (row.device_class, row.units) == ("all", 10)
    assert study_rows(ten[:9], METER_U, k=10) == []
    assert study_rows([], METER_U) == []
