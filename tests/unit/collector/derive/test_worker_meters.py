# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Deriving on a real store with shared meters in either order, a wrong psys, and separate screens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.support.filled import Filled
from tests.support.pushes import HOUR, MONDAY_10H, NOW, Stream, cell, clock, measurement, rapl
from veilleuse.collector.model.meters import FOR_EVER, DeclaredMeter, MeterBoundary, MeterShare, SharePart
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.wire.ladder import Method
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import DeviceClass, Population

FIRST = date(2026, 1, 1)
HALF = HOUR // 2
PDU = pb.Point(kind=pb.POINT_KIND_PDU, domain="pdu-1", boundary=pb.BOUNDARY_WALL, subject="meter:pdu-1")
PSYS = pb.Point(kind=pb.POINT_KIND_RAPL, domain="psys", boundary=pb.BOUNDARY_MACHINE_DC, subject="machine")
BATTERY = pb.Point(
    kind=pb.POINT_KIND_BATTERY_OUT, domain="BAT0", boundary=pb.BOUNDARY_MACHINE_DC, subject="machine"
)
DAY = date(2026, 3, 2).toordinal()


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Filled]:
    """Open an empty store."""
    with Filled(tmp_path / "data", clock=lambda: NOW / 1000) as made:
        yield made


def plain(start: int = MONDAY_10H, milliseconds: int = HOUR) -> pb.Record:
    """Return the record of a server with a package counter."""
    energies = [(0, 40 * milliseconds, milliseconds)]
    return measurement(clock(start, milliseconds), [cell(milliseconds, energies=energies)], [rapl()])


def polled(energy: int, start: int = MONDAY_10H) -> pb.Record:
    """Return the record of an agent that polls the PDU, for its own hour."""
    return measurement(clock(start, HOUR), [cell(HOUR, energies=[(0, energy, HOUR)])], [PDU])


def put_on(filled: Filled, *shares: tuple[HostId, int, SharePart]) -> None:
    """Declare shares of the PDU."""
    meter = DeclaredMeter("pdu-1", "lyon", "DC1", MeterBoundary.OUTLET)
    made = [MeterShare("pdu-1", host, part, ppm, FIRST, FOR_EVER) for host, ppm, part in shares]
    with filled.store.transaction():
        filled.store.metering.declare([meter], made, [])


def energies(filled: Filled, host: HostId, table: str = "derived") -> dict[tuple[Grain, Method], int]:
    """Return (grain, method) → mJ."""
    rows: Any = filled.store.data.connection.execute(
        f"SELECT grain, method, sum(energy_millijoules) FROM {table} WHERE host_id = ? GROUP BY 1, 2", (host,)
    )
    return {(Grain(grain), Method(method)): energy for grain, method, energy in rows}


def of_records(filled: Filled, host: HostId) -> int:
    """Return the derived energy of its records in millijoules."""
    rows = filled.store.data.connection.execute(
        "SELECT sum(derived_energy_millijoules) FROM records WHERE host_id = ? AND derived_energy_millijoules >= 0",
        (host,),
    )
    return int(rows.fetchone()[0])


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("poller_first", [True, False])
def test_either_order_ends_alike(filled: Filled, *, poller_first: bool, at_once: bool):
    """If the poller or a machine is late, also within one slice, hour, day and records still have the meter's
    energy."""
    poller, one, two = (filled.add_host() for _ in range(3))
    put_on(filled, (one, 500_000, SharePart.MACHINE), (two, 499_999, SharePart.MACHINE))
    pushes = [Stream(poller).send(polled(800_000_003)), *(Stream(host).send(plain()) for host in (one, two))]
    for push in pushes if poller_first else reversed(pushes):
        filled.store.ingest.append([push])
        if not at_once:
            filled.derive()
    filled.derive()
    total = 0
    for host in (one, two):
        found = energies(filled, host)
        assert {method for _, method in found} == {Method.METERED}
        assert (
            found[Grain.HOUR, Method.METERED] == found[Grain.DAY, Method.METERED] == of_records(filled, host)
        )
        total += found[Grain.HOUR, Method.METERED]
    assert total == 800_000_003 * 999_999 // 1_000_000
    assert filled.store.derive.dirty(10) == ()


def test_the_poller_of_its_own_meter_is_on_it_too(filled: Filled):
    """A machine that reads its own meter is derived once, not again and again."""
    host = filled.add_host()
    put_on(filled, (host, 1_000_000, SharePart.MACHINE))
    filled.store.ingest.append([Stream(host).send(polled(360_000_001))])
    assert filled.derive() == 1
    assert energies(filled, host)[Grain.HOUR, Method.METERED] == 360_000_001


def test_late_records_of_a_machine_share_its_hour_anew(filled: Filled):
    """Half of the hour gets half of the energy; the other half then completes it exactly."""
    host, stream = filled.add_host(), None
    put_on(filled, (host, 1_000_000, SharePart.MACHINE))
    stream = Stream(host)
    filled.store.ingest.append([Stream(filled.add_host()).send(polled(1_000_001))])
    filled.store.ingest.append([stream.send(plain(milliseconds=HALF))])
    filled.derive()
    assert energies(filled, host)[Grain.HOUR, Method.METERED] == 500_000
    filled.store.ingest.append([stream.send(plain(MONDAY_10H + HALF, HALF))])
    filled.derive()
    assert energies(filled, host) == {
        (Grain.HOUR, Method.METERED): 1_000_001,
        (Grain.DAY, Method.METERED): 1_000_001,
    }
    assert of_records(filled, host) == 1_000_001


def test_a_virtual_machine_has_no_outlet(filled: Filled):
    """The share of a virtual machine is not used."""
    host = filled.add_host(device_class=DeviceClass.VIRTUAL_MACHINE)
    put_on(filled, (host, 1_000_000, SharePart.MACHINE))
    filled.store.ingest.append([Stream(filled.add_host()).send(polled(1_000))])
    filled.store.ingest.append([Stream(host).send(measurement(clock(duration=HOUR), [cell(HOUR)]))])
    filled.derive()
    assert Method.METERED not in {method for _, method in energies(filled, host)}


def test_the_counters_advance_as_first_derived(filled: Filled):
    """The machine comes first, with modelled energy in the ledger. Its reports are metered later, and the
    counter does not move back."""
    poller, host = filled.add_host(), filled.add_host()
    put_on(filled, (host, 1_000_000, SharePart.MACHINE))
    filled.store.ingest.append([Stream(host).send(plain())])
    filled.derive()
    with closing(filled.reader()) as reader:
        before = reader.ledger()
    filled.store.ingest.append(
        [Stream(poller).send(measurement(clock(duration=HOUR), [_asleep_polled()], [PDU]))]
    )
    filled.derive()
    assert energies(filled, host)[Grain.HOUR, Method.METERED] == 77
    with closing(filled.reader()) as reader:
        assert reader.ledger() == before


def _asleep_polled() -> pb.Cell:
    return cell(HOUR, state=pb.STATE_UNKNOWN, energies=[(0, 77, HOUR)])


@pytest.mark.parametrize("at_once", [True, False])
def test_a_psys_that_lies_on_battery_is_found_out_for_the_past_too(filled: Filled, *, at_once: bool):
    """An hour on mains has psys; then psys is above 1.2 × the discharge for twenty minutes on battery.
    The first hour is derived again from package and battery base, and again when later battery time gives
    another base. `at_once`: the first two are of one slice.
    """
    host = filled.add_host(Population.CLASSROOM, DeviceClass.LAPTOP)
    stream = Stream(host)
    points = [rapl(), PSYS, BATTERY]
    mains = cell(HOUR, energies=[(0, 2 * HOUR, HOUR), (1, 11 * HOUR, HOUR)])
    filled.store.ingest.append([stream.send(measurement(clock(duration=HOUR), [mains], points[:2]))])
    if not at_once:
        filled.derive()
        assert of_records(filled, host) == pytest.approx(11 * HOUR / 0.88, rel=1e-6)
    twenty = 1_200_000
    for hours, discharge, base in ((1, 10, 9), (2, 4, 5), (3, 7, 5)):
        drained = cell(
            twenty,
            supply=pb.SUPPLY_BATTERY,
            energies=[(0, 2 * twenty, twenty), (1, 15 * twenty, twenty), (2, discharge * twenty, twenty)],
        )
        later = clock(MONDAY_10H + hours * HOUR, HOUR)
        filled.store.ingest.append([stream.send(measurement(later, [drained], points))])
        filled.derive()
        again = energies(filled, host)[Grain.HOUR, Method.COUNTER_MODELLED]
        assert again == pytest.approx(base * HOUR + 1.2 / 0.88 * 2 * HOUR, rel=1e-6)
        assert filled.store.derive.dirty(10) == ()


def test_a_psys_that_agrees_with_the_battery_marks_nothing(filled: Filled):
    """Twenty minutes on battery on which both agree do not derive the hour on mains again."""
    stream = Stream(filled.add_host(Population.CLASSROOM, DeviceClass.LAPTOP))
    points, twenty = [rapl(), PSYS, BATTERY], 1_200_000
    mains = cell(HOUR, energies=[(0, 5 * HOUR, HOUR), (1, 11 * HOUR, HOUR)])
    drained = [(0, 5 * twenty, twenty), (1, 9 * twenty, twenty), (2, 9 * twenty, twenty)]
    on_battery = cell(twenty, supply=pb.SUPPLY_BATTERY, energies=drained)
    filled.store.ingest.append([stream.send(measurement(clock(duration=HOUR), [mains], points[:2]))])
    assert filled.derive() == 1
    later = measurement(clock(MONDAY_10H + HOUR, HOUR), [on_battery], points)
    filled.store.ingest.append([stream.send(later)])
    assert filled.derive() == 1


def test_the_part_of_an_hour_without_screens_has_no_row_of_them(filled: Filled):
    """The cell with a screen on has a row; the one asleep has none, not 0 J."""
    host = filled.add_host(Population.CLASSROOM, DeviceClass.SFF)
    shown = [pb.DisplayTime(size=pb.DISPLAY_SIZE_22_TO_27, milliseconds=HALF)]
    own = [cell(HALF, displays=shown), cell(HALF, state=pb.STATE_ASLEEP)]
    filled.store.ingest.append([Stream(host).send(measurement(clock(duration=HOUR), own))])
    filled.derive()
    rows = filled.store.data.connection.execute("SELECT state, energy_millijoules FROM derived_screens")
    assert set(rows) == {(pb.STATE_ON_ACTIVE, 25 * HALF // 2)}


def test_screens_are_apart(filled: Filled):
    """Screens do not change the machine's energy; theirs has its own table, by hour and day."""
    host = filled.add_host(Population.CLASSROOM, DeviceClass.SFF)
    shown = [pb.DisplayTime(size=pb.DISPLAY_SIZE_22_TO_27, milliseconds=2 * HOUR)]
    with_screens, without = cell(HOUR, displays=shown), cell(HOUR)
    stream = Stream(host)
    filled.store.ingest.append([stream.send(measurement(clock(duration=HOUR), [without]))])
    filled.store.ingest.append([stream.send(measurement(clock(MONDAY_10H + HOUR, HOUR), [with_screens]))])
    filled.derive()
    rows: defaultdict[int, int] = defaultdict(int)
    for start, energy in filled.store.data.connection.execute(
        "SELECT start, energy_millijoules FROM derived WHERE host_id = ? AND grain = 1", (host,)
    ):
        rows[start] += energy
    assert rows[MONDAY_10H] == rows[MONDAY_10H + HOUR]
    assert energies(filled, host, "derived_screens") == {
        (Grain.HOUR, Method.LOAD_MODELLED): 25 * HOUR,
        (Grain.DAY, Method.LOAD_MODELLED): 25 * HOUR,
    }
    filled.store.derive.mark_all_dirty()
    filled.derive()
    assert energies(filled, host, "derived_screens")[Grain.DAY, Method.LOAD_MODELLED] == 25 * HOUR


def test_a_virtual_machine_has_no_screen(filled: Filled):
    """Its display is a window on a screen that another machine counts."""
    host = filled.add_host(Population.CLASSROOM, DeviceClass.VIRTUAL_MACHINE)
    shown = [pb.DisplayTime(size=pb.DISPLAY_SIZE_22_TO_27, milliseconds=HOUR)]
    filled.store.ingest.append(
        [Stream(host).send(measurement(clock(duration=HOUR), [cell(HOUR, displays=shown)]))]
    )
    filled.derive()
    assert energies(filled, host, "derived_screens") == {}


def test_a_plug_shared_with_its_screen_is_split_and_nothing_modelled(filled: Filled):
    """80 % are the machine's, 20 % the screen's, which is not modelled as well."""
    host = filled.add_host(Population.CLASSROOM, DeviceClass.SFF)
    put_on(filled, (host, 800_000, SharePart.MACHINE), (host, 200_000, SharePart.MONITOR))
    shown = [pb.DisplayTime(size=pb.DISPLAY_SIZE_22_TO_27, milliseconds=HOUR)]
    own = cell(HOUR, energies=[(0, 100_000, HOUR)], displays=shown)
    filled.store.ingest.append([Stream(host).send(measurement(clock(duration=HOUR), [own], [PDU]))])
    filled.derive()
    assert energies(filled, host)[Grain.DAY, Method.METERED] == 80_000
    assert energies(filled, host, "derived_screens") == {
        (Grain.HOUR, Method.METERED): 20_000,
        (Grain.DAY, Method.METERED): 20_000,
    }
