# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The energy of machines on shared meters equals the meters' energy to the millijoule, for any tree of meters
and any order of reports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.filled import Filled
from tests.support.pushes import HOUR, MONDAY_10H, NOW, Stream, cell, clock, measurement, rapl
from veilleuse.collector.model.meters import (
    FOR_EVER,
    WHOLE_PPM,
    DeclaredMeter,
    MeterBoundary,
    MeterShare,
    SharePart,
)
from veilleuse.collector.model.records import HostId
from veilleuse.wire.sums import apportion
from veilleuse.wire.v1 import telemetry_pb2 as pb

FIRST = date(2026, 1, 1)
STATES = (pb.STATE_ON_ACTIVE, pb.STATE_ON_IDLE, pb.STATE_OFF, pb.STATE_ASLEEP, pb.STATE_UNKNOWN)


@contextmanager
def a_store() -> Iterator[Filled]:
    """Open an empty store."""
    with TemporaryDirectory() as name, Filled(Path(name), clock=lambda: NOW / 1000) as filled:
        yield filled


def point(meter: str) -> pb.Point:
    """Return the point of a meter as its poller sends it."""
    return pb.Point(kind=pb.POINT_KIND_PDU, domain=meter, boundary=pb.BOUNDARY_WALL, subject=f"meter:{meter}")


@st.composite
def an_hour(draw: st.DrawFn) -> pb.Record:
    """Draw a server's whole hour: states in any proportion, measured or not; a cell may last 1 ms."""
    found = draw(st.lists(st.sampled_from(STATES), min_size=1, max_size=4, unique=True))
    weights = draw(st.lists(st.integers(1, 10**6), min_size=len(found), max_size=len(found)))
    cells = []
    for state, length in zip(found, apportion(HOUR, weights), strict=True):
        if length:
            counted = state in STATES[:2] and draw(st.booleans())
            energies = [(0, draw(st.integers(0, 200 * length)), length)] if counted else []
            cells.append(cell(length, state=state, energies=energies))
    return measurement(clock(duration=HOUR), cells, [rapl()])


@st.composite
def shares(draw: st.DrawFn, machines: int) -> dict[int, int]:
    """Draw machine → parts per million, which sum to the whole meter."""
    on = sorted(draw(st.sets(st.integers(0, machines - 1), min_size=1)))
    weights = draw(st.lists(st.integers(1, 1000), min_size=len(on), max_size=len(on)))
    return {one: ppm for one, ppm in zip(on, apportion(WHOLE_PPM, weights), strict=True) if ppm}


def energy_of(filled: Filled, grain: int, method: str) -> int:
    """Return the energy over all machines, in millijoules."""
    (found,) = filled.store.data.connection.execute(
        "SELECT coalesce(sum(energy_millijoules), 0) FROM derived WHERE grain = ? AND method = ?",
        (grain, method),
    ).fetchone()
    return int(found)


@settings(max_examples=40)
@given(st.data())
def test_the_outlets_of_a_rack_are_its_machines(data: st.DataObject):
    """One to four machines have one to three outlets, some machines several, below a UPS.
    The poller reads the UPS too."""
    machines = data.draw(st.integers(1, 4))
    outlets = [data.draw(shares(machines)) for _ in range(data.draw(st.integers(1, 3)))]
    read = [data.draw(st.integers(0, 10**9)) for _ in outlets]
    with a_store() as filled:
        poller, *hosts = (filled.add_host() for _ in range(machines + 1))
        meters = [DeclaredMeter("ups", "lyon", "DC1", MeterBoundary.UPS_OUTPUT)]
        made: list[MeterShare] = []
        for number, outlet in enumerate(outlets):
            meters.append(DeclaredMeter(f"o{number}", "lyon", "DC1", MeterBoundary.OUTLET, "ups"))
            made += [
                MeterShare(f"o{number}", hosts[one], SharePart.MACHINE, ppm, FIRST, FOR_EVER)
                for one, ppm in outlet.items()
            ]
        if data.draw(st.booleans()):  # a machine on the UPS too: its outlets' energy is counted there
            made.append(
                MeterShare("ups", hosts[min(outlets[0])], SharePart.MACHINE, 300_000, FIRST, FOR_EVER)
            )
        filled.store.metering.declare(meters, made, [])
        seen = [(number, energy, HOUR) for number, energy in enumerate([*read, sum(read)])]
        polled = measurement(
            clock(duration=HOUR),
            [cell(HOUR, energies=seen)],
            [point(one) for one in (*(f"o{number}" for number in range(len(outlets))), "ups")],
        )
        used = {one for outlet in outlets for one in outlet}
        pushes: list[tuple[HostId, Any]] = [(poller, polled)]
        pushes += [(hosts[one], data.draw(an_hour())) for one in sorted(used)]
        for host, record in data.draw(st.permutations(pushes)):
            filled.store.ingest.append([Stream(host).send(record)])
            if data.draw(st.booleans()):
                filled.derive()
        filled.derive()
        assert energy_of(filled, 1, "metered") == energy_of(filled, 2, "metered") == sum(read)
        rows = "SELECT * FROM derived ORDER BY 1, 2, 3, 4, 5, 6, 7"
        before = filled.store.data.connection.execute(rows).fetchall()
        assert not {row[6] for row in before if row[0] in {hosts[one] for one in used}} - {"metered"}
        filled.store.derive.mark_all_dirty()
        filled.derive()
        assert filled.store.data.connection.execute(rows).fetchall() == before
        assert MONDAY_10H in {row[2] for row in before}
