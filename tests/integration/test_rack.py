# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Measure a rack for a day, twice where possible: the fleet's energy is that of its outlets.

The rack has a server with RAPL and a BMC on two PDU outlets, with two virtual machines that have agents. A
management server polls the UPS, the PDU and the room's meter; a switch has no agent. The agents' fold, spool
and sender, mutual TLS, and all of the collector are real; the readings are simulated.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.support import clock
from tests.support.fleet import FleetAgent, now_unix_milliseconds
from tests.support.machines import Served
from tests.support.records import spool_of
from veilleuse.agent.model import LoadDelta, Point, PointEnergy, Record, Tick
from veilleuse.agent.resident.fold import Fold
from veilleuse.agent.settings import read_settings
from veilleuse.wire.vocabulary import Boundary, PointKind, Population, State, Supply

Veilleuse = Callable[..., tuple[int, str, str]]
ZONE = ZoneInfo("Europe/Paris")
TICK = 300_000
RAPL = (
    Point(PointKind.RAPL, "package-0", Boundary.COMPONENT),
    Point(PointKind.RAPL, "dram", Boundary.COMPONENT),
)
BMC = Point(PointKind.BMC, "power", Boundary.WALL)
METERS = ("room", "ups-in", "ups-out", "outlet-a", "outlet-b", "outlet-mgmt", "outlet-switch")
KINDS = {"room": PointKind.PDU, "ups-in": PointKind.UPS, "ups-out": PointKind.UPS}
DECLARED = """\
meter,site,room,boundary,parent,host,share,from
room,Lyon,DC1,room,,,,
ups-in,Lyon,DC1,ups_input,room,,,
ups-out,Lyon,DC1,ups_output,ups-in,,,
outlet-a,Lyon,DC1,outlet,ups-out,{server},1,2026-01-01
outlet-b,Lyon,DC1,outlet,ups-out,{server},1,2026-01-01
outlet-mgmt,Lyon,DC1,outlet,ups-out,{management},1,2026-01-01
outlet-switch,Lyon,DC1,outlet,ups-out,,,
"""


def point_of(meter: str) -> Point:
    """Return the point of a meter as the polling agent names it."""
    return Point(KINDS.get(meter, PointKind.PDU), meter, Boundary.WALL, f"meter:{meter}")


@dataclass
class Rack:
    """The energy of the rack's parts, for each five minutes."""

    day: date
    starts: range
    drawn: dict[str, list[int]] = field(default_factory=dict)
    """Meter → millijoules per tick."""

    @classmethod
    def of(cls, day: date) -> Rack:
        """Draw a day: two outlets of a server, one of a small machine, one of a switch; 8 W that no outlet
        measures, the UPS's loss, and a cabinet beside it. No share divides the millijoules evenly."""
        first, end = (
            int(datetime(when.year, when.month, when.day, tzinfo=ZONE).timestamp()) * 1000
            for when in (day, day + timedelta(days=1))
        )
        rack, dice = cls(day, range(first, end, TICK)), random.Random(4)
        for _ in rack.starts:
            watts = {"outlet-a": 90, "outlet-b": 110, "outlet-mgmt": 25, "outlet-switch": 40}
            tick = {name: watt * TICK + dice.randrange(9_973) for name, watt in watts.items()}
            tick["ups-out"] = sum(tick.values()) + 8 * TICK + dice.randrange(9_973)
            tick["ups-in"] = tick["ups-out"] * 100 // 94 + dice.randrange(97)
            tick["room"] = tick["ups-in"] + 30 * TICK + dice.randrange(9_973)
            for name, energy in tick.items():
                rack.drawn.setdefault(name, []).append(energy)
        return rack

    def total(self, *meters: str) -> int:
        """Return the millijoules of the day on these meters."""
        return sum(sum(self.drawn[meter]) for meter in meters)

    def server(self, place: int) -> tuple[PointEnergy, ...]:
        """Return the server's own readings: less at its BMC than at the wall, much less in its processor."""
        wall = self.drawn["outlet-a"][place] + self.drawn["outlet-b"][place]
        parts = ((BMC, wall * 97 // 100), (RAPL[0], wall * 40 // 100), (RAPL[1], wall * 6 // 100))
        return tuple(PointEnergy(point, energy, TICK) for point, energy in parts)

    def polled(self, place: int) -> tuple[PointEnergy, ...]:
        """Return the management server's readings of all meters."""
        return tuple(PointEnergy(point_of(name), self.drawn[name][place], TICK) for name in METERS)


@dataclass
class Machine:
    """An enrolled agent with its readings for each tick."""

    agent: FleetAgent
    energies: Callable[[int], tuple[PointEnergy, ...]] = lambda place: ()

    def report(self, starts: Iterable[int]) -> None:
        """Fold a day of ticks, spool the records, and send them."""
        fold = Fold(Population.SERVER, TICK)
        records: list[Record] = []
        for place, start in enumerate(starts):
            busy = 0.02 if place % 3 else 0.6
            state = State.ON_IDLE if place % 3 else State.ON_ACTIVE
            load = LoadDelta(busy, busy, 0.4, 12_288, 1_024)
            records += fold.add(Tick(start, TICK, state, Supply.AC, energies=self.energies(place), load=load))
        records += fold.flush()
        with closing(spool_of(self.agent.state)) as spool:
            spool.append([record.to_json() for record in records], {})
        assert self.agent.contact(), self.agent.standing


class Machines:
    """The rack's agents, by name."""

    def __init__(self, folder: Path, veilleuse: Veilleuse) -> None:
        self._folder = folder
        self._veilleuse = veilleuse
        self.known: dict[str, Machine] = {}

    def enrol(self, name: str, device_class: str) -> Machine:
        """Enrol a machine of this class with a join file."""
        join = self._folder / f"join-{name}"
        place = ("--entity", "DSI", "--site", "Lyon", "--population", "server")
        assert self._veilleuse("token", "create", *place, "--output", str(join))[0] == 0
        agent = FleetAgent(len(self.known), self._folder / name, now_unix_milliseconds)
        given = {"paths.state": str(agent.state), "measure.device_class": device_class}
        agent.settings = read_settings(None, {}, given)
        agent.enrol(join)
        self.known[name] = Machine(agent)
        return self.known[name]

    @property
    def ids(self) -> dict[str, str]:
        """Name → agent id in hexadecimal."""
        return {name: machine.agent.agent_id.hex() for name, machine in self.known.items()}


@pytest.fixture
def rack() -> Rack:
    """Return the rack's day before yesterday, which is over in every time zone."""
    return Rack.of((clock.now() - timedelta(days=2)).date())


@pytest.fixture
def machines(tmp_path: Path, running: Served, veilleuse: Veilleuse, rack: Rack) -> Machines:
    """Return the enrolled agents, on a collector that knows the meters."""
    made = Machines(tmp_path, veilleuse)
    made.enrol("server", "server").energies = rack.server
    made.enrol("management", "server").energies = rack.polled
    for name in ("guest-1", "guest-2"):
        made.enrol(name, "virtual_machine")
    for machine in made.known.values():
        assert machine.agent.contact()  # sends its facts
    declared = tmp_path / "meters.csv"
    declared.write_text(DECLARED.format(**made.ids), encoding="utf-8")
    code, out, err = veilleuse("meters", "import", str(declared))
    assert (code, err) == (0, ""), out
    return made


def emissions(veilleuse: Veilleuse, day: date) -> dict[str, Any]:
    """Derive, and return the emissions report of that day."""
    dates = ("--from", day.isoformat(), "--to", (day + timedelta(days=1)).isoformat())
    assert veilleuse("derive")[0] == 0
    code, out, err = veilleuse("report", "emissions", *dates, "--format", "json")
    assert code in (0, 3), err
    found: dict[str, Any] = json.loads(out)
    return found


def room(veilleuse: Veilleuse, day: date) -> dict[str, Any]:
    """Return the room's balance of that day."""
    dates = ("--from", day.isoformat(), "--to", (day + timedelta(days=1)).isoformat())
    code, out, err = veilleuse("meters", "show", "DC1", *dates, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.parametrize("last", ["management", "server"])
def test_the_fleet_draws_what_its_outlets_count(
    rack: Rack, machines: Machines, veilleuse: Veilleuse, last: str
):
    """The fleet's energy is that of its outlets, whoever reports last, and neither BMC, RAPL, UPS nor room is
    added. The guests are a memo. The UPS's loss and unmetered energy count once, so that the room's parts sum
    to its meter."""
    order = sorted(machines.known, key=lambda name: name == last)
    for name in order:
        machines.known[name].report(rack.starts)
        assert veilleuse("derive")[0] == 0
    report = emissions(veilleuse, rack.day)
    wall = rack.total("outlet-a", "outlet-b", "outlet-mgmt")
    (row, beside_them), (total,), (memo,) = report["rows"], report["totals"], report["memo"]
    assert (row["device_class"], row["n"], row["energy_millijoules"]) == ("server", 2, wall)
    assert beside_them["device_class"] == "other_room"
    assert beside_them["energy_millijoules"] == rack.total("room") - wall
    assert (total["energy_millijoules"], total["n"]) == (rack.total("room"), 2)
    assert total["overhead"] == "not_included"
    assert row["method_mix"] == {"metered": 1.0}
    assert row["coverage_energy"] == 1.0
    assert (memo["device_class"], memo["n"]) == ("virtual_machine", 2)
    assert memo["energy_millijoules"] > 0

    balance = room(veilleuse, rack.day)
    assert balance["machines_millijoules"] == wall
    assert balance["ups_loss_millijoules"] == rack.total("ups-in") - rack.total("ups-out")
    unmetered = rack.total("ups-out") - wall - rack.total("outlet-switch")
    beside = rack.total("room") - rack.total("ups-in")
    assert balance["other_room_millijoules"] == rack.total("outlet-switch") + unmetered + beside
    parts = ("machines_millijoules", "other_room_millijoules", "ups_loss_millijoules")
    assert sum(balance[part] for part in parts) == rack.total("room")
    assert (balance["overhead"], balance["notes"]) == ("not_included", [])


def test_when_the_meters_fall_silent_the_bmc_answers(rack: Rack, machines: Machines, veilleuse: Veilleuse):
    """Without readings of the meters the server has its BMC's energy; after the polling agent's day arrives,
    it has that of its outlets."""
    machines.known["server"].report(rack.starts)
    bmc = sum(rack.server(place)[0].energy_millijoules for place in range(len(rack.starts)))
    row, *_ = emissions(veilleuse, rack.day)["rows"]
    assert (row["energy_millijoules"], row["method_mix"]) == (bmc, {"metered": 1.0})
    machines.known["management"].report(rack.starts)
    row, *_ = emissions(veilleuse, rack.day)["rows"]
    assert row["energy_millijoules"] == rack.total("outlet-a", "outlet-b", "outlet-mgmt")
