# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Draws the simulated fleet: three colleges, two directions,
one server room, and the machines with an agent (pure).

Every draw comes from the seed: the same seed gives the same fleet.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final

from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.wire.vocabulary import DeviceClass, GapReason, Population

VENDOR: Final = "Simulated"


@dataclass(frozen=True, slots=True)
class Model:
    """Common properties of the machines of a model."""

    name: str
    device_class: DeviceClass
    cpu_count: int
    memory_gibibytes: int
    package_idle_watts: float = 0.0
    """RAPL package without load; 0: its counters cannot be read."""
    package_full_watts: float = 0.0
    dram_watts: float = 0.0
    cpu_model: str | None = "Simulated CPU"
    hard_disks: int = 0
    solid_state_disks: int = 1
    own_meter: bool = False
    """Its BMC reports the power at the wall."""
    shared_meter: bool = False
    """It is on a PDU that another machine's agent polls."""
    calibrated: bool = False
    """A few of its units were measured with a meter."""

    @property
    def has_counters(self) -> bool:
        """True when an agent reads RAPL on it."""
        return self.package_full_watts > 0


DESK: Final = Model("Pupitre 7", DeviceClass.SFF, 8, 16, 3.0, 48.0, 1.2, calibrated=True)
OLD_DESK: Final = Model("Pupitre 4", DeviceClass.SFF, 4, 8)
BOARD: Final = Model("Tableau 24", DeviceClass.ALL_IN_ONE, 8, 16, 3.5, 40.0, 1.0)
OFFICE: Final = Model("Bureau 8", DeviceClass.SFF, 8, 16, 2.8, 52.0, 1.2)
OLD_OFFICE: Final = Model("Bureau 5", DeviceClass.SFF, 4, 8, 4.0, 45.0, 1.5)
NOTEBOOK: Final = Model("Carnet 14", DeviceClass.LAPTOP, 12, 16, 1.2, 24.0, 0.6)
OLD_NOTEBOOK: Final = Model("Carnet 12", DeviceClass.LAPTOP, 8, 8, 1.8, 20.0, 0.8)
RACK_BMC: Final = Model(
    "Baie R1", DeviceClass.SERVER, 64, 256, 45.0, 250.0, 14.0, own_meter=True, solid_state_disks=4
)
RACK_PDU: Final = Model(
    "Baie R2", DeviceClass.SERVER, 32, 128, 35.0, 180.0, 9.0, shared_meter=True, hard_disks=4
)
RACK_BARE: Final = Model("Baie R3", DeviceClass.SERVER, 32, 128, 38.0, 190.0, 10.0, hard_disks=2)
VIRTUAL: Final = Model("VM", DeviceClass.VIRTUAL_MACHINE, 4, 8, cpu_model=None, solid_state_disks=0)

COLLEGE_MODELS: Final = (DESK, OLD_DESK, DESK, BOARD, DESK, OLD_DESK, DESK)
DIRECTION_MODELS: Final = (NOTEBOOK, OFFICE, NOTEBOOK, OLD_NOTEBOOK, OFFICE, NOTEBOOK, OLD_OFFICE)
ROOM_MODELS: Final = (RACK_PDU, RACK_BMC, RACK_PDU, RACK_BARE)
"""Models of each place, in turn."""


LEAST_HOSTS: Final = 10
MOST_HOSTS: Final = 20_000
LEAST_DAYS: Final = 7
MOST_DAYS: Final = 1_100
SERVER_SHARE: Final = 0.05
CLASSROOM_SHARE: Final = 0.17
ROOM_MACHINES: Final = 10
"""Fewest classroom PCs of a college: docs/privacy.md §1."""
VIRTUAL_FROM: Final = 4
"""Number of servers from which one of them is a virtual machine."""
ALWAYS_ON: Final = 0.1
"""Share of the machines that are not carried home: docs/methodology.md §14."""
SERIAL: Final = "SIMULATED{:06}"


@dataclass(frozen=True, slots=True)
class EntitySite:
    """An entity with its site."""

    entity: str
    site: str
    population: Population
    power_context: PowerContext
    school: bool = False


COLLEGES: Final = tuple(
    EntitySite(
        f"Métropole > Collèges > Collège {name}",
        f"college-{site}",
        Population.CLASSROOM,
        PowerContext.EPLE,
        school=True,
    )
    for name, site in (("des Terreaux", "terreaux"), ("de la Saône", "saone"), ("du Parc", "parc"))
)
DIRECTIONS: Final = (
    EntitySite("Métropole > Direction de l'eau", "hotel", Population.WORKSTATION, PowerContext.OWN_SITE),
    EntitySite("Métropole > Direction des mobilités", "tour", Population.WORKSTATION, PowerContext.OWN_SITE),
)
ROOM: Final = EntitySite(
    "Métropole > DSI > Salle serveurs", "salle-serveurs", Population.SERVER, PowerContext.OWN_SITE
)
PLACES: Final = (*COLLEGES, *DIRECTIONS, ROOM)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Reason and days without reports of an agent; its machine keeps running."""

    reason: GapReason | None
    """None: the agent itself was not running, and reports that afterwards (state unknown)."""
    first: date
    end: date
    """Exclusive."""


@dataclass(frozen=True, slots=True)
class SimulatedDevice:
    """One machine of the fleet."""

    number: int
    """Number from 1."""
    place: EntitySite
    model: Model
    screens: int
    """Its external screens."""
    always_on: bool
    in_service_on: date
    out_of_service_on: date | None = None
    refurbished: bool = False
    agent_from: date | None = None
    """First day of its agent; None: only the inventory knows it."""
    trouble: Trouble | None = None

    @property
    def serial(self) -> str:
        """Serial number for agent and inventory."""
        return SERIAL.format(self.number)

    def in_service(self, day: date) -> bool:
        """Return whether the device is in service on a day."""
        return self.in_service_on <= day and (self.out_of_service_on is None or day < self.out_of_service_on)


@dataclass(frozen=True, slots=True)
class SimulationOrder:
    """Parameters of a simulation. Raises UsageError."""

    hosts: int
    """Machines with an agent; the fleet has more."""
    first: date
    days: int
    seed: int

    def __post_init__(self) -> None:
        if not LEAST_HOSTS <= self.hosts <= MOST_HOSTS:
            raise UsageError(f"--hosts {self.hosts}: use {LEAST_HOSTS} to {MOST_HOSTS}")
        if not LEAST_DAYS <= self.days <= MOST_DAYS:
            raise UsageError(f"--days {self.days}: use {LEAST_DAYS} to {MOST_DAYS}")
        if self.first.year < 2021:
            raise UsageError(f"--from {self.first}: use 2021-01-01 or later, where factors begin")

    @property
    def end(self) -> date:
        """Exclusive."""
        return self.first + timedelta(days=self.days)


def devices(order: SimulationOrder) -> tuple[SimulatedDevice, ...]:
    """Return the whole fleet, place by place."""
    draw = random.Random(f"{order.seed}/fleet")
    found: list[SimulatedDevice] = []
    for place, agents, machines in _sizes(order.hosts):
        found += _draw_place(order, draw, place, agents, machines, len(found))
    with_agent = [one for one in found if one.agent_from is not None]
    troubles = dict(zip((one.number for one in with_agent), _troubles(order, draw, with_agent), strict=True))
    return tuple(replace(one, trouble=troubles.get(one.number)) for one in found)


def _sizes(hosts: int) -> Iterator[tuple[EntitySite, int, int]]:
    """Yield (place, machines with an agent, machines)."""
    servers = max(2, round(SERVER_SHARE * hosts))
    classrooms = max(len(COLLEGES), round(CLASSROOM_SHARE * hosts))
    for place, agents in zip(COLLEGES, _split_evenly(classrooms, len(COLLEGES)), strict=True):
        yield place, agents, max(ROOM_MACHINES, 2 * agents)
    for place, agents in zip(
        DIRECTIONS, _split_evenly(hosts - servers - classrooms, len(DIRECTIONS)), strict=True
    ):
        yield place, agents, -(-agents * 5 // 3)
    yield ROOM, servers, servers + max(1, servers // 4)


def _split_evenly(number: int, parts: int) -> list[int]:
    return [(number + place) // parts for place in range(parts)]


def _draw_place(
    order: SimulationOrder, draw: random.Random, place: EntitySite, agents: int, machines: int, before: int
) -> list[SimulatedDevice]:
    ranks = list(range(machines))
    if place is not ROOM:
        draw.shuffle(ranks)
    found = []
    for index, rank in enumerate(ranks):
        model = _model(place, rank, agents)
        with_agent = rank < agents
        begun = _in_service_on(order, draw, new=place is not ROOM and draw.random() < 0.08)
        gone = None
        if not with_agent and place is not ROOM and draw.random() < 0.1:
            gone = order.first + timedelta(days=draw.randrange(order.days // 3, order.days))
        found.append(
            SimulatedDevice(
                number=before + index + 1,
                place=place,
                model=model,
                screens=_screens(draw, place, model),
                always_on=place is ROOM
                or (model.device_class is not DeviceClass.LAPTOP and draw.random() < ALWAYS_ON),
                in_service_on=begun,
                out_of_service_on=gone if gone is not None and gone > begun else None,
                refurbished=place.school and draw.random() < 0.2,
                agent_from=_agent_from(order, place, rank, agents, begun) if with_agent else None,
            )
        )
    return found


def _model(place: EntitySite, rank: int, agents: int) -> Model:
    """Return the model by the rank in the roll-out.

    Machines with and without an agent are then alike, and no model is without an agent.
    """
    if place is ROOM and agents >= VIRTUAL_FROM and rank == agents - 1:
        return VIRTUAL
    models = ROOM_MODELS if place is ROOM else COLLEGE_MODELS if place.school else DIRECTION_MODELS
    return models[rank % min(len(models), agents)]


def _in_service_on(order: SimulationOrder, draw: random.Random, *, new: bool) -> date:
    if new:
        return order.first + timedelta(days=draw.randrange(order.days // 4, order.days // 2))
    return order.first - timedelta(days=draw.randrange(100, 3_000))


def _agent_from(order: SimulationOrder, place: EntitySite, rank: int, agents: int, begun: date) -> date:
    """Return the agent's first day: half at the start, half from the middle, a random roll-out;
    servers at the start.
    """
    late = place is not ROOM and rank >= (agents + 1) // 2
    return max(begun, order.first + timedelta(days=order.days // 2 if late else 0))


def _screens(draw: random.Random, place: EntitySite, model: Model) -> int:
    if model.device_class in (DeviceClass.ALL_IN_ONE, DeviceClass.SERVER, DeviceClass.VIRTUAL_MACHINE):
        return 0
    if place.school:
        return 1
    return 1 + (draw.random() < 0.3)


_KINDS: Final = (None, *(reason for reason in GapReason), None)
"""Kinds of trouble, in turn: an agent not running, each reason of a gap, and none."""


def _troubles(
    order: SimulationOrder, draw: random.Random, agents: Sequence[SimulatedDevice]
) -> Iterator[Trouble | None]:
    """Yield the trouble of every second machine: some for a day, some for up to a week,
    beyond the limit of docs/methodology.md §4.
    """
    for index, device in enumerate(agents):
        first = device.agent_from or order.first
        room = (order.end - first).days
        kind = index // 2 % len(_KINDS)
        length = draw.choice((1, 2, 2, 3, 5, 7))
        at = draw.randrange(max(1, room - length - 1)) + 1
        if index % 2 or kind == len(_KINDS) - 1 or room < length + 3:
            yield None
        else:
            begun = first + timedelta(days=at)
            yield Trouble(_KINDS[kind], begun, begun + timedelta(days=length))
