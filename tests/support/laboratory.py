# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Store machines of a known model, with counters and their own meter, for the tests of calibration."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final

from tests.support import pushes
from tests.support.pushes import clock
from veilleuse.collector.model.records import AppendResult, HostId
from veilleuse.collector.store.sqlite import SqliteStore
from veilleuse.collector.wire_codec import number
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import (
    Band,
    Boundary,
    DeviceClass,
    PointKind,
    Population,
    State,
    Supply,
)

MINUTE: Final = 60_000
HOUR: Final = 3_600_000
DAY: Final = 24 * HOUR
START: Final = round(datetime(2026, 3, 2, 9, tzinfo=UTC).timestamp() * 1000)
"""Monday 2 March 2026, 09:00 UTC, in Unix milliseconds."""
BASE_WATTS: Final = 26.0
SLOPE: Final = 1.55
"""BASE_WATTS and SLOPE are the true wall model of DESK; the prior has 12 W and 1.25."""
DESK: Final = ("Acme", "Desk 7")

PACKAGE: Final = (PointKind.RAPL, "package-0", Boundary.COMPONENT)
PLUG: Final = (PointKind.PLUG, "plug", Boundary.WALL)
BATTERY: Final = (PointKind.BATTERY_OUT, "BAT0", Boundary.MACHINE_DC)
PointOf = tuple[PointKind, str, Boundary]


def enrol(
    store: SqliteStore,
    number_: int,
    *,
    model: tuple[str, str] = DESK,
    device_class: DeviceClass = DeviceClass.SFF,
    population: Population = Population.SERVER,
    site: str = "hq",
) -> HostId:
    """Enrol an active machine and return its number; its agent id is the byte `number_` sixteen times."""
    facts = pb.Facts(vendor=model[0], model=model[1], cpu_count=8)
    words: Any = number(device_class)
    facts.device_class = words
    with store.transaction():
        return pushes.enrol(
            store.registry,
            population,
            site,
            entity="IT",
            agent_id=bytes([number_]) * 16,
            facts=facts,
            enrolled_on=date(2026, 1, 1),
            now_unix_milliseconds=0,
        )


def cell(
    milliseconds: int,
    energies: Sequence[tuple[int, float]] = (),
    *,
    state: State = State.ON_ACTIVE,
    supply: Supply = Supply.AC,
    band: Band = Band.OPEN,
) -> Any:
    """Return a wire cell; `energies`: (index of the point, mean watts over the whole cell)."""
    words: dict[str, Any] = {"band": number(band), "state": number(state), "supply": number(supply)}
    made = pb.Cell(milliseconds=milliseconds, **words)
    for index, watts in energies:
        made.energies.add(
            point_index=index,
            energy_millijoules=round(watts * milliseconds),
            covered_milliseconds=milliseconds,
        )
    return made


def push(
    store: SqliteStore,
    host_id: HostId,
    records: Iterable[tuple[Any, Sequence[Any]]],
    points: Sequence[PointOf] = (PACKAGE, PLUG),
) -> None:
    """Store (period, cells) as a new stream of the host, and check that the store accepts it."""
    measurements = []
    for period, cells in records:
        measurement = pb.Measurement(period=period, idle_rule_version=1, cells=cells)
        for kind, domain, boundary in points:
            measurement.points.add(
                kind=number(kind), domain=domain, boundary=number(boundary), subject="machine"
            )
        measurements.append(measurement)
    made, _ = pushes.accepted(host_id, pushes.new_stream(), measurements)
    (outcome,) = store.ingest.append([made])
    assert outcome.result is AppendResult.STORED, outcome


def loads(count: int, seed: int) -> list[float]:
    """Return package watts by minute: 15 minutes each of 5, 15 and 25 W in turn, plus 0 to 4 W of noise."""
    chance = random.Random(seed)
    return [round(5 + 20 * (minute // 15 % 3) / 2 + chance.uniform(0, 4), 3) for minute in range(count)]


def wall(package_watts: float, gain: float = 1.0) -> float:
    """Return the watts that the plug of a DESK reads; `gain` is the plug's error factor."""
    return gain * (BASE_WATTS + SLOPE * package_watts)


def minutes(
    count: int, seed: int, *, gain: float = 1.0, start: int = START, metered: bool = True
) -> list[tuple[Any, list[Any]]]:
    """Return records of one minute each of a DESK, with its plug's readings if `metered`."""
    return [
        (
            clock(start + minute * MINUTE),
            [cell(MINUTE, [(0, watts), (1, wall(watts, gain))] if metered else [(0, watts)])],
        )
        for minute, watts in enumerate(loads(count, seed))
    ]
