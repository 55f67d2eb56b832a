# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""METHOD_VERSION is raised when a figure of the same data would change, and printed beside every figure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import date

from tests.support.memory_store import HOUR, MemoryReader, gather, host
from veilleuse.collector.account.observations import u_model
from veilleuse.collector.account.row import FigureRow, PeriodFigures
from veilleuse.collector.account.statement import METHOD_VERSION, StatementTerms, build_statement
from veilleuse.collector.derive.meters import ALONE, Context
from veilleuse.collector.derive.rooms import room_balance
from veilleuse.collector.derive.worker import derive_period
from veilleuse.collector.documents.document import Document, Row
from veilleuse.collector.factors.book import choose
from veilleuse.collector.fleet.estimate import Estimate, EstimateBasis
from veilleuse.collector.model.calibration import Calibration, Fit, Hardware
from veilleuse.collector.model.figures import EmissionsStatement
from veilleuse.collector.model.hosts import MachineFacts
from veilleuse.collector.model.meters import (
    FOR_EVER,
    DeclaredMeter,
    MeterBoundary,
    MeterDeclarations,
    MeterReading,
    MeterShare,
    Pue,
    SharedEnergy,
    SharedReadings,
    SharePart,
)
from veilleuse.collector.model.query import Query
from veilleuse.collector.model.records import Cell, HostId, Point
from veilleuse.collector.model.sums import RecordCells
from veilleuse.collector.reports import emissions_document as emissions_report
from veilleuse.collector.reports import indicators_document as indicators_report
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, Boundary, DeviceClass, PointKind, Population, State, Supply

FIGURES = {
    "0.3": "262b5443ca3cb31bea6a34dbcc0c8ccba4883b809745c67cf607653a3f378e99",
    "0.4": "262b5443ca3cb31bea6a34dbcc0c8ccba4883b809745c67cf607653a3f378e99",
    "0.5": "3fd0cff499cb5ab53e5ff896d0544777e36d097ad36d8079ea563949e3cd91e6",
    "0.7": "ebdf8889f5321865b184e458aa173eb289b7566f35d04506f5ebb2b7adffeade",
    "0.6": "3fd0cff499cb5ab53e5ff896d0544777e36d097ad36d8079ea563949e3cd91e6",
}
"""Version → SHA-256 of everything that `figures` yields. Figures that change after a release need a new line.
docs/methodology.md then says what changed, and a migration marks the past as data_0010 does. Before a release
this version's line is replaced.
"""
DAY = date(2026, 3, 2)
ON, OFF = (State.ON_ACTIVE, State.ON_IDLE), (State.OFF, State.ASLEEP, State.UNKNOWN)
SEEN: tuple[tuple[tuple[PointKind, str, Boundary, int], ...], ...] = (
    (),
    ((PointKind.PLUG, "plug", Boundary.WALL, 90),),
    ((PointKind.BMC, "power", Boundary.WALL, 80),),
    ((PointKind.BATTERY_OUT, "BAT0", Boundary.MACHINE_DC, 9),),
    ((PointKind.RAPL, "package-0", Boundary.COMPONENT, 12), (PointKind.RAPL, "dram", Boundary.COMPONENT, 3)),
    (
        (PointKind.RAPL, "package-0", Boundary.COMPONENT, 12),
        (PointKind.RAPL, "psys", Boundary.MACHINE_DC, 20),
    ),
    ((PointKind.GPU, "gpu-0", Boundary.COMPONENT, 50),),
    ((PointKind.EMI, "RAPL_Package0_PKG", Boundary.COMPONENT, 11),),
)
FLOATS = (
    "kwh_measured",
    "kwh_total",
    "kwh_lo95",
    "kwh_hi95",
    "kgco2e_total",
    "kgco2e_lo95",
    "coverage_energy",
    "gsd2",
)
LOAD = (1_000_000, 0, 300_000, 200_000, 500_000, *([100_000] * 8))


def cells() -> Iterator[Cell]:
    """Yield every state and supply with every kind of reading over three quarters of the hour."""
    for state in (*ON, *OFF):
        for supply in Supply:
            for seen in SEEN:
                energies = tuple(
                    (Point(kind, name, boundary, "machine"), watts * HOUR * 3 // 4, HOUR * 3 // 4)
                    for kind, name, boundary, watts in seen
                )
                made = Cell(Band.OPEN, state, supply, HOUR, energies)
                yield made
                if state in ON:
                    yield made._replace(
                        cpu_busy_milliseconds=sum(LOAD) // 5,
                        cpu_covered_milliseconds=sum(LOAD),
                        cpu_bucket_milliseconds=LOAD,
                        display_milliseconds=(0, HOUR, HOUR // 2, HOUR // 3),
                    )


def contexts() -> Iterator[Context]:
    """Yield contexts without any extra, with a calibration, and with shared meters and a metered screen."""
    yield ALONE
    fits = [
        Fit(name, 20_000_000, slope, 10**11, -(10**9), 10**8, 1_500_000, 10_000, 5_000, 200_000)
        for name, slope in (("wall:package", 1_500_000), ("wall:package+dram", 1_400_000), ("off", 0))
    ]
    hardware = Hardware("acme", "desk 7", DeviceClass.SFF)
    yield Context(Calibration(hardware, {fit.quantity: fit for fit in fits}), trust_psys=False)
    meter = SharedEnergy(PointKind.PDU, 123_456_789, HOUR // 2, whole=False)
    yield Context(shared=SharedReadings(meter, replace(meter, kind=PointKind.PLUG), monitor_declared=True))


def figures() -> Iterator[object]:
    """Yield what derivation and accounting compute from the same data through every method."""
    for device_class in DeviceClass:
        facts = MachineFacts(device_class, cpu_count=8, memory_modules=4, hard_disks=2, solid_state_disks=1)
        machine = replace(host(1, device_class, Population.SERVER), facts=facts)
        for context in contexts():
            for cell in cells():
                derived = derive_period([RecordCells(1, True, (cell,))], machine, 500_000, context)
                yield derived.cells, derived.records, derived.first_energies, derived.screens
    yield room_balance("DC1", *ROOM)
    (row,) = statement().rows
    values = {name: row.columns[name] for name in FLOATS}
    yield row.energy.energy_millijoules, {name: f"{value:.10g}" for name, value in values.items()}


def statement() -> EmissionsStatement:
    """Return the statement of a server's day."""
    (group,) = gather(reader(), question()).groups
    methods = {method: energy.energy_millijoules for (_, method, _, _), energy in group.sums.energies.items()}
    estimate = Estimate.of_known(
        {method: methods[method] for method in Method},
        u_model([group]),
        EstimateBasis.OBSERVED,
        fleet_milliseconds=group.sums.enrolled_milliseconds,
        observed_milliseconds=group.sums.observed_milliseconds,
        derived_milliseconds=group.sums.derived_milliseconds,
    )
    row = FigureRow(group.key, estimate, 1, False, frozenset(), {}, {})
    period = PeriodFigures(group.key.period_from, group.key.period_to, (row,), (), None, ())
    return build_statement([period], StatementTerms(choose, "real"))


ROOM = (
    MeterDeclarations(
        (
            DeclaredMeter("ups", "hq", "DC1", MeterBoundary.UPS_OUTPUT, None, 940_000),
            DeclaredMeter("a", "hq", "DC1", MeterBoundary.OUTLET, "ups"),
        ),
        (MeterShare("a", HostId(1), SharePart.MACHINE, 333_333, DAY, FOR_EVER),),
        (Pue("DC1", DAY, DAY, 1_500_000, MeterBoundary.UPS_OUTPUT),),
    ),
    {
        name: {at: MeterReading(name, PointKind.PDU, energy, HOUR - at) for at in (0, 1)}
        for name, energy in (("ups", 1_000_003), ("a", 600_001))
    },
    {0: DAY.toordinal(), 1: DAY.toordinal()},
)


def reader() -> MemoryReader:
    """Return a server's day with energy by every method."""
    made = MemoryReader([host(1, DeviceClass.SERVER, Population.SERVER)])
    for number, method in enumerate(Method):
        made.energy(1, DAY, Band.OPEN, State.ON_IDLE, method, HOUR, 7_654_321 * (number + 1), 54_321)
    made.state(1, DAY, Band.OPEN, State.ON_IDLE, 6 * HOUR)
    return made


def question() -> Query:
    """Return a query of that day."""
    return Query(DAY, date(2026, 3, 3), ("device_class",), 10, now_unix_milliseconds=2**41)


def test_the_same_data_give_the_figures_of_this_version():
    """Whoever changes an integer of derivation, rooms or reports must raise METHOD_VERSION."""
    digest = hashlib.sha256("\n".join(map(repr, figures())).encode()).hexdigest()
    assert {METHOD_VERSION: digest}.items() <= FIGURES.items(), f"figures have changed: {digest}"


def test_every_row_of_a_report_names_the_method():
    """Each row has it, because a CSV has no head."""
    head: dict[str, object] = {"method_version": METHOD_VERSION}
    row: Row = {"indicator": "I2"}
    found: list[Document] = [
        emissions_report.document(statement(), head),  # type: ignore[arg-type]
        indicators_report.document([row], (), head),  # type: ignore[arg-type]
    ]
    for document in found:
        rows = [one for name in document.tabular for one in document.tables[name]]
        assert rows
        assert {one["method_version"] for one in rows} == {METHOD_VERSION}
        assert "method_version" in document.columns
