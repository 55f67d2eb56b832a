# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test what every store does with rare data: displays, update windows, units. ports.IngestStore, Reader."""

from __future__ import annotations

from tests.support.pushes import HOUR, MONDAY_10H, Stream, cell, clock, enrol, measurement, rapl
from veilleuse.collector.model.records import Grain
from veilleuse.wire.v1 import telemetry_pb2 as pb


def displays(*milliseconds: int) -> list[pb.DisplayTime]:
    """Return display times of all sizes in their order."""
    return [pb.DisplayTime(size=size, milliseconds=on) for size, on in enumerate(milliseconds, 1)]  # type: ignore[arg-type]


def window(energy: int, covered: int, point: int = 0) -> list[pb.PointEnergy]:
    """Return a point's energy inside an update window (millijoules, covered milliseconds)."""
    return [pb.PointEnergy(point_index=point, energy_millijoules=energy, covered_milliseconds=covered)]


def units(**spent: int) -> list[pb.UnitTime]:
    """Return the CPU milliseconds of systemd units."""
    return [pb.UnitTime(name=f"unit:{name}", cpu_milliseconds=value) for name, value in spent.items()]


def test_displays_and_update_windows_add_up(store):
    """Display times and update windows add up by hour and by day, beside records without them, in one group
    and in later ones; a measured zero is stored."""
    stream = Stream(enrol(store.registry))
    first = cell(displays=displays(0, 60_000, 0, 0), update_window_milliseconds=0)
    second = cell(displays=displays(1, 2, 3, 4), update_window_milliseconds=50_000)
    store.ingest.append([stream.send(measurement(clock(), [cell()]))])
    (row,) = store.reader.sums(Grain.HOUR, 0, 2**62)
    assert (row.cell.display_milliseconds, row.cell.update_window_milliseconds) == ((), None)
    store.ingest.append(
        [
            stream.send(
                measurement(clock(MONDAY_10H + 60_000), [first]),
                measurement(clock(MONDAY_10H + 120_000), [cell()]),
                measurement(clock(MONDAY_10H + 180_000), [second]),
            )
        ]
    )
    store.ingest.append([stream.send(measurement(clock(MONDAY_10H + 240_000), [first]))])
    store.ingest.append([stream.send(measurement(clock(MONDAY_10H + 300_000), [cell()]))])
    for grain in (Grain.HOUR, Grain.DAY):
        (row,) = store.reader.sums(grain, 0, 2**62)
        assert row.cell.display_milliseconds == (1, 120_002, 3, 4)
        assert row.cell.update_window_milliseconds == 50_000
        assert row.cell.milliseconds == 360_000


def test_energy_inside_update_windows_is_a_part(store):
    """Energy in update windows is summed per point, apart from the total; unmeasured it is None."""
    stream = Stream(enrol(store.registry))
    both = [rapl("package-0"), rapl("dram")]
    energies = [(0, 1_000, 60_000), (1, 100, 60_000)]
    told = cell(
        energies=energies, update_window_milliseconds=30_000, update_window_energies=window(400, 30_000)
    )
    for minute, one in enumerate((cell(energies=energies), told, told, cell(energies=energies))):
        record = measurement(clock(MONDAY_10H + minute * 60_000), [one], both)
        store.ingest.append([stream.send(record)])
    for grain in (Grain.HOUR, Grain.DAY):
        found = {row.point.domain: row for row in store.reader.point_sums(grain, 0, 2**62)}
        assert found["package-0"].energy_millijoules == 4_000
        assert found["package-0"].update_window_energy_millijoules == 800
        assert found["dram"].update_window_energy_millijoules is None


def test_units_add_up_by_host_and_period(store):
    """Times of units add up over all cells of an hour or day, for each host; a repeated push adds nothing."""
    one, two = Stream(enrol(store.registry)), Stream(enrol(store.registry))
    idle = cell(30_000, state=pb.STATE_ON_IDLE, units=units(nginx=1))
    push = one.send(
        measurement(clock(), [cell(30_000, units=units(nginx=20, ssh=3)), idle]),
        measurement(clock(MONDAY_10H + HOUR), [cell(units=units(nginx=300))]),
    )
    store.ingest.append([push, two.send(measurement(clock(), [cell(units=units(nginx=7))]))])
    store.ingest.append([push])
    rows = list(store.reader.unit_sums(Grain.HOUR, 0, 2**62))
    assert [(row.host_id, row.start, row.unit, row.cpu_milliseconds) for row in rows] == [
        (one.host_id, MONDAY_10H, "unit:nginx", 21),
        (one.host_id, MONDAY_10H, "unit:ssh", 3),
        (two.host_id, MONDAY_10H, "unit:nginx", 7),
        (one.host_id, MONDAY_10H + HOUR, "unit:nginx", 300),
    ]
    days = {
        (row.host_id, row.unit): row.cpu_milliseconds for row in store.reader.unit_sums(Grain.DAY, 0, 2**62)
    }
    assert days == {
        (one.host_id, "unit:nginx"): 321,
        (one.host_id, "unit:ssh"): 3,
        (two.host_id, "unit:nginx"): 7,
    }
