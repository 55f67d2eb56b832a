# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Records, alone or with a file of readings, give samples; records that cannot be compared give none."""

from __future__ import annotations

import pytest

from veilleuse.collector.derive import priors
from veilleuse.collector.derive.calibration.moments import Moments
from veilleuse.collector.derive.calibration.readings import FILE, Reading, file_samples
from veilleuse.collector.derive.calibration.samples import (
    Samples,
    StoredRecord,
    battery_samples,
    meter_u_ppm,
    metered_samples,
    standing_by,
    state_of,
    trusts_psys,
)
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.calibration import Hardware
from veilleuse.collector.model.hosts import MachineFacts
from veilleuse.collector.model.records import Cell, Point
from veilleuse.wire.vocabulary import Band, Boundary, DeviceClass, PointKind, State, Supply

FACTS = MachineFacts(DeviceClass.SFF, vendor="Acme  Inc", model="Desk 7")
LAPTOP = MachineFacts(DeviceClass.LAPTOP, vendor="Acme", model="Note 3")
MODEL = Hardware("acme inc", "desk 7", DeviceClass.SFF)
PACKAGE = Point(PointKind.RAPL, "package-0", Boundary.COMPONENT, "machine")
PSYS = Point(PointKind.RAPL, "psys", Boundary.COMPONENT, "machine")
PLUG = Point(PointKind.PLUG, "plug", Boundary.WALL, "machine")
BMC = Point(PointKind.BMC, "bmc", Boundary.WALL, "machine")
SHARED = Point(PointKind.PDU, "rack", Boundary.WALL, "meter:rack")
OUT = Point(PointKind.BATTERY_OUT, "BAT0", Boundary.MACHINE_DC, "machine")
IN = Point(PointKind.BATTERY_IN, "BAT0", Boundary.MACHINE_DC, "machine")
MINUTE = 60_000


def cell(
    *watts: tuple[Point, float],
    state: State = State.ON_ACTIVE,
    supply: Supply = Supply.AC,
    ms: int = MINUTE,
    covered: float = 1.0,
) -> Cell:
    """Return a cell; each point has its mean watts over the covered share of the cell."""
    time = round(ms * covered)
    return Cell(Band.OPEN, state, supply, ms, tuple((point, round(w * time), time) for point, w in watts))


def record(*cells: Cell, start: int = 0) -> StoredRecord:
    """Return a record as long as its cells."""
    return StoredRecord(start, sum(one.milliseconds for one in cells), cells)


def found(samples: Samples, quantity: str, kind: str, hardware: Hardware = MODEL) -> Moments:
    """Return the sums of the one unit."""
    return samples.found[hardware, quantity]["u"][kind].total


def metered(*records: StoredRecord, facts: MachineFacts = FACTS) -> Samples:
    """Return the samples of a machine with its own meter."""
    samples = Samples()
    metered_samples(samples, MODEL, "u", facts, records)
    return samples


def test_a_model_is_known_by_its_words():
    """Case and spaces do not count; a model needs vendor and model."""
    assert Hardware.of(FACTS) == MODEL
    assert Hardware.of(MachineFacts(DeviceClass.SFF, vendor="Acme")) is None
    assert Hardware.of(MachineFacts(DeviceClass.SFF, model=" ", vendor="Acme")) is None
    assert str(MODEL) == "acme inc desk 7 (sff)"


def test_a_record_with_counters_and_a_plug_is_a_sample():
    """Both cells of the record form one sample, beside the prior's 12 W + 1.25·P."""
    samples = metered(
        record(cell((PACKAGE, 10), (PLUG, 40)), cell((PACKAGE, 20), (PLUG, 60), state=State.ON_IDLE))
    )
    total = found(samples, "wall:package", "plug")
    assert (total.samples, total.t, total.c, total.e) == (1, 2 * MINUTE, 30 * MINUTE, 100 * MINUTE)
    prior = priors.WALL_PRIORS[DeviceClass.SFF]
    assert total.m == pytest.approx((2 * prior.base_microwatts + prior.slope_ppm * 30) / 1e6 * MINUTE)


def test_off_and_asleep_are_samples_of_their_own():
    """A meter measures states that no counter does."""
    samples = metered(
        record(cell((PLUG, 1.4), state=State.OFF)), record(cell((PLUG, 2.5), state=State.ASLEEP))
    )
    off = found(samples, "off", "plug")
    assert (off.c, off.e, off.m) == pytest.approx((0, 1.4 * MINUTE, 0.5 * MINUTE))
    assert found(samples, "asleep", "plug").e == pytest.approx(2.5 * MINUTE)


def test_a_laptops_prior_off_is_taken_plugged():
    """A meter at its socket measures it on its charger, so the plugged share does not apply."""
    samples = metered(record(cell((PLUG, 1), state=State.OFF, supply=Supply.UNKNOWN)), facts=LAPTOP)
    assert found(samples, "off", "plug").m == pytest.approx(0.4 * MINUTE)


@pytest.mark.parametrize(
    "one",
    [
        record(cell((PACKAGE, 10))),
        record(cell((PLUG, 40))),
        record(cell((PACKAGE, 10), (SHARED, 400))),
        record(cell((PACKAGE, 10), (PLUG, 40)), cell((PLUG, 1), state=State.ASLEEP)),
        record(cell((PACKAGE, 10), (PLUG, 40)), cell(state=State.UNKNOWN)),
        record(cell((PACKAGE, 10), (PLUG, 40)), cell((PACKAGE, 10), (BMC, 40))),
        record(cell((PACKAGE, 10), (PLUG, 40)), cell((PSYS, 30), (PACKAGE, 10), (PLUG, 40))),
        record(cell((PACKAGE, 10), (PLUG, 40), covered=0.5)),
        record(cell((PACKAGE, 10), (PLUG, 40), supply=Supply.BATTERY)),
        record(cell((PACKAGE, 10), (PLUG, 40), (IN, 20))),
        record(cell((PLUG, 40), state=State.UNKNOWN)),
        record(cell((PACKAGE, 10), (PLUG, 40), ms=0)),
        record(cell(state=State.OFF, ms=0)),
        record(),
    ],
)
def test_what_cannot_be_compared_is_no_sample(one):
    """No meter, no counters, a shared meter, mixed states, meters or sums, half of the time, or a battery in
    between gives no sample."""
    assert metered(one).found == {}


def test_battery_hours_are_told_at_the_wall():
    """The wall energy is DC ÷ 0.88 + 0.2 W, beside the prior of the same hours on mains.
    Hours on mains or asleep are no samples."""
    samples = Samples()
    records = [
        record(
            cell((PACKAGE, 3), (OUT, 8.8), supply=Supply.BATTERY),
            cell((PACKAGE, 3), (OUT, 9), supply=Supply.AC),
            cell((OUT, 0.1), state=State.ASLEEP, supply=Supply.BATTERY),
            cell((OUT, 9), supply=Supply.BATTERY),
            cell((PACKAGE, 3), (OUT, 9), supply=Supply.BATTERY, covered=0.2),
        )
    ]
    note = Hardware("acme", "note 3", DeviceClass.LAPTOP)
    battery_samples(samples, note, "u", LAPTOP, records, trust_psys=True)
    total = found(samples, "wall:package", "battery", note)
    assert (total.samples, total.t) == (1, MINUTE)
    assert total.e == pytest.approx(10.2 * MINUTE)
    prior = priors.WALL_PRIORS[DeviceClass.LAPTOP]
    assert total.m == pytest.approx((prior.base_microwatts + prior.slope_ppm * 3) / 1e6 * MINUTE, rel=1e-4)


def test_a_platform_counter_that_the_battery_denies_is_not_fitted():
    """The package is fitted instead, as in derive."""
    hours = [record(cell((PACKAGE, 3), (PSYS, 30), (OUT, 9), supply=Supply.BATTERY, ms=40 * 3_600_000))]
    assert not trusts_psys(hours)
    assert trusts_psys([])
    samples = Samples()
    note = Hardware("acme", "note 3", DeviceClass.LAPTOP)
    battery_samples(samples, note, "u", LAPTOP, hours, trust_psys=False)
    assert [quantity for _, quantity in samples.found] == ["wall:package"]


def reading(start: int, watts: float, *, end: int | None = None, state: str = "", row: int = 0) -> Reading:
    """Return a reading of a moment, or from `start` to `end`."""
    return Reading(start, start if end is None else end, round(watts * 1000), state, row or start // 1000 + 2)


def from_file(readings: list[Reading], records: list[StoredRecord], facts: MachineFacts = FACTS) -> Samples:
    """Return the samples of a file."""
    samples = Samples()
    file_samples(samples, MODEL, "u", facts, readings, records)
    return samples


def on(start: int, watts: float = 10, ms: int = MINUTE) -> StoredRecord:
    """Return a record of active time, one minute by default."""
    return record(cell((PACKAGE, watts), ms=ms), start=start)


def test_moments_are_averaged_over_the_record_they_are_in():
    """Each minute has the mean of its own readings; readings outside every record are not used."""
    readings = [reading(t, w) for t, w in ((-5000, 99), (0, 40), (30_000, 44), (60_000, 60), (200_000, 99))]
    samples = from_file(readings, [on(0), on(MINUTE, 20)])
    total = found(samples, "wall:package", FILE)
    assert (total.samples, total.c, total.e) == (2, 30 * MINUTE, 102 * MINUTE)


def test_records_are_summed_over_the_stretch_they_are_in():
    """A quarter of an hour of energy is compared with fifteen minutes of records.
    A quarter that lacks two records is not used."""
    quarter = 15 * MINUTE
    readings = [reading(0, 50, end=quarter), reading(quarter, 70, end=2 * quarter)]
    records = [on(minute * MINUTE) for minute in range(15)] + [
        on(quarter + minute * MINUTE) for minute in range(13)
    ]
    total = found(from_file(readings, records), "wall:package", FILE)
    assert (total.samples, total.t, total.e) == (1, quarter, 50 * quarter)


def test_short_stretches_are_averaged_over_their_record():
    """Ten seconds of energy are averaged over records of a minute.
    Stretches that cover little of a record, or cross its end, are not used."""
    readings = [reading(t, 40, end=t + 10_000) for t in range(0, 60_000, 10_000)]
    readings += [reading(65_000, 99, end=75_000), reading(115_000, 99, end=125_000)]
    total = found(from_file(readings, [on(0), on(MINUTE)]), "wall:package", FILE)
    assert (total.samples, total.e) == (1, 40 * MINUTE)


def test_off_is_read_from_the_file_where_there_is_no_record():
    """The machine then sends nothing, and a moment represents the time to the next one."""
    readings = [reading(t, 1.2, state="off") for t in range(0, 600_001, MINUTE)]
    total = found(from_file(readings, []), "off", FILE)
    assert (total.t, total.e) == pytest.approx((11 * MINUTE, 11 * 1.2 * MINUTE))
    stretch = [reading(0, 1.2, end=MINUTE, state="asleep")]
    assert found(from_file(stretch, []), "asleep", FILE).t == MINUTE
    assert found(from_file([reading(0, 1.2, state="off")], []), "off", FILE).t == 1000


def test_off_after_the_last_record_is_read():
    """Readings before the first and after the last record count."""
    readings = [reading(t, 1.2, state="off") for t in (0, 20 * MINUTE, 90 * MINUTE)]
    records = [on(minute * MINUTE) for minute in range(30, 40)]
    assert found(from_file(readings, records), "off", FILE).samples == 3


def test_off_is_read_from_the_records_where_they_tell():
    """The file need not contain the state."""
    records = [record(cell(state=State.OFF), start=0)]
    assert found(from_file([reading(0, 1.2)], records), "off", FILE).e == pytest.approx(1.2 * MINUTE)


def test_off_that_a_record_touches_is_not_taken_from_the_file_alone():
    """The stretch is mixed, because the records say that the machine was on for part of it."""
    mixed = record(cell((PACKAGE, 9)), cell(state=State.OFF), start=0)
    with pytest.raises(UsageError, match="none of its readings"):
        from_file([reading(0, 1.2, end=2 * MINUTE, state="off")], [mixed])
    assert state_of(mixed) is None


def test_a_file_that_the_records_deny_is_refused():
    """The refusal names the first row; a few rows around a change are only left out."""
    records = [on(minute * MINUTE, 5 + minute % 5) for minute in range(40)]
    readings = [reading(minute * MINUTE, 40, state="on") for minute in range(39)]
    few = [*readings, reading(39 * MINUTE, 1, state="off", row=41)]
    assert found(from_file(few, records), "wall:package", FILE).samples == 39
    many = [one._replace(state="off") for one in readings]
    with pytest.raises(
        UsageError, match=r"row 2, column state: it says off, the records of 'u' say on \(39 such"
    ):
        from_file(many, records)


def test_clocks_that_do_not_overlap_are_told():
    """The refusal gives both spans, or says that the machine has no record."""
    with pytest.raises(
        UsageError, match=r"readings \(1970-01-02 .* lies in a record .* 1970-01-01 00:00 UTC to"
    ):
        from_file([reading(86_400_000, 40)], [on(0)])
    with pytest.raises(UsageError, match="no stored record of it in the time of its readings"):
        from_file([reading(0, 40, state="on")], [])


def test_a_laptop_that_charges_is_not_read():
    """The meter would count the battery's energy as the machine's."""
    charging = record(cell((PACKAGE, 5), (IN, 20)), start=0)
    with pytest.raises(UsageError, match="none of its readings"):
        from_file([reading(0, 40)], [charging], LAPTOP)


def test_readings_beside_records_without_counters_are_not_used():
    """The machine was on, but without counters its parts' energy is unknown."""
    readings = [reading(0, 40), reading(MINUTE, 41)]
    assert found(from_file(readings, [record(cell()), on(MINUTE)]), "wall:package", FILE).samples == 1


def test_records_around_a_stretch_are_not_its():
    """A record that begins before the stretch or ends after it does not count; one of mixed state in it
    excludes the stretch."""
    stretches = [reading(MINUTE, 50, end=21 * MINUTE), reading(30 * MINUTE, 60, end=50 * MINUTE)]
    records = [on(0), *(on(minute * MINUTE) for minute in range(1, 20)), on(20 * MINUTE + 1)]
    records += [on(minute * MINUTE) for minute in range(30, 49)]
    records += [record(cell((PACKAGE, 9)), cell(state=State.OFF), start=49 * MINUTE - 1)]
    total = found(from_file(stretches, records), "wall:package", FILE)
    assert (total.samples, total.t) == (2, 38 * MINUTE)
    inside = record(
        cell((PACKAGE, 9), ms=MINUTE // 2), cell(state=State.OFF, ms=MINUTE // 2), start=40 * MINUTE
    )
    mixed = [one for one in records if one.start_unix_milliseconds != 40 * MINUTE]
    mixed = sorted([*mixed, inside], key=lambda one: one.start_unix_milliseconds)
    assert found(from_file(stretches, mixed), "wall:package", FILE).samples == 1


def test_a_file_may_say_off_of_nothing_known():
    """A reading without a state and without a record is not used."""
    readings = [reading(0, 1.2, state="off"), reading(3 * MINUTE, 1.2)]
    assert found(from_file(readings, []), "off", FILE).samples == 1


def test_a_machine_of_unknown_size_has_no_prior():
    """A virtual machine with an unknown number of processors has no prior to beat, and so no sample."""
    machine = MachineFacts(DeviceClass.VIRTUAL_MACHINE, vendor="x", model="y")
    assert metered(record(cell((PACKAGE, 10), (PLUG, 40))), facts=machine).found == {}
    assert meter_u_ppm("plug") == priors.METER_U_PPM
    assert standing_by(machine, "off", MINUTE) is None
    with pytest.raises(UsageError):
        from_file([reading(0, 1, state="off")], [], machine)
