# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Describes what a simulated fleet is made of: models, places, machines of a place, presets (data only)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from veilleuse.collector.model.inventory import PowerContext
from veilleuse.wire.vocabulary import DeviceClass, Population

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
    memory_ratio: float = 0.5
    """Part of a server's memory in use."""
    most_load: float = 0.35
    """Highest mean processor load of a server."""

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
RACK_WIDE: Final = Model(
    "Baie R4",
    DeviceClass.SERVER,
    96,
    512,
    60.0,
    320.0,
    24.0,
    own_meter=True,
    solid_state_disks=8,
    memory_ratio=0.3,
    most_load=0.08,
)
TOWER: Final = Model("Tour 6", DeviceClass.TOWER, 6, 16)
VIRTUAL: Final = Model("VM", DeviceClass.VIRTUAL_MACHINE, 4, 8, cpu_model=None, solid_state_disks=0)


COLLEGE_MODELS: Final = (DESK, OLD_DESK, DESK, BOARD, DESK, OLD_DESK, DESK)
DIRECTION_MODELS: Final = (NOTEBOOK, OFFICE, NOTEBOOK, OLD_NOTEBOOK, OFFICE, NOTEBOOK, OLD_OFFICE)
ROOM_MODELS: Final = (RACK_PDU, RACK_BMC, RACK_PDU, RACK_BARE)
"""Models of a kind of place, in turn."""
ROOM_MACHINES: Final = 10
"""Fewest classroom PCs of a college: docs/privacy.md §1."""
ALWAYS_ON: Final = 0.1
"""Share of the machines that are not carried home: docs/methodology.md §14."""


@dataclass(frozen=True, slots=True)
class EntitySite:
    """An entity with its site."""

    entity: str
    site: str
    population: Population
    power_context: PowerContext
    school: bool = False
    always_on: float = ALWAYS_ON
    """Share of its desktops that are never switched off."""
    left_on: tuple[float, float] | None = None
    """Least and most nights on which one of its other desktops is left on, as shares; None: as usual."""
    room: str = ""
    """Name of its server room."""

    @property
    def is_room(self) -> bool:
        """Return whether it is a server room."""
        return self.population is Population.SERVER

    @property
    def is_office(self) -> bool:
        """Return whether it is the desks of a direction."""
        return self.population is Population.WORKSTATION and not self.school


@dataclass(frozen=True, slots=True)
class Stock:
    """Machines of one place."""

    place: EntitySite
    agents: int
    machines: int
    models: tuple[Model, ...]
    """In turn, by the rank in the roll-out."""
    begins: tuple[date, ...]
    """First days of the agents, in equal parts by rank."""
    last: Model | None = None
    """Model of the last machine with an agent; None: the next one in turn."""
    shut_down_from: date | None = None
    """Day from which its desktops are off at night: an action."""

    def model(self, rank: int) -> Model:
        """Return the model of a rank.

        Machines with and without an agent are then alike, and no model is without an agent, where there are
        agents.
        """
        if self.last is not None and rank == self.agents - 1:
            return self.last
        return self.models[rank % min(len(self.models), self.agents or len(self.models))]

    def begins_on(self, rank: int) -> date:
        """Return the first day of an agent: a random roll-out, because ranks are drawn."""
        return self.begins[rank * len(self.begins) // self.agents]


DeclaredLines = Mapping[str, Sequence[Mapping[str, str]]]
"""Kind of `veilleuse reen import` → lines, column → text."""


def _nothing_declared(first: date, end: date) -> DeclaredLines:
    return {}


@dataclass(frozen=True, slots=True)
class Oddities:
    """What is not as it should be: shares of the agents, and numbers."""

    silent: float = 0.0
    """Their agent fell silent."""
    outdated: float = 0.0
    """Their agent is of an older version."""
    failing: float = 0.0
    """A source of their agent fails."""
    copies: int = 0
    """Clones that wait for an operator; one further identity is used twice."""
    doubtful_models: int = 0
    """Assets whose model is not the machine's."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A kind of fleet."""

    name: str
    hosts: int
    """Machines with an agent, where an order names no number."""
    stocks: Callable[[int, date, date], tuple[Stock, ...]]
    """(hosts, first day, end) → machines of each place."""
    declared: Callable[[date, date], DeclaredLines] = _nothing_declared
    """(first day, end) → what the organisation declares: actions, objectives, measures."""
    oddities: Oddities = Oddities()
    services: tuple[tuple[str, float], ...] = ()
    """Services of some servers, with their shares of the processor time."""
    is_served: bool = False
    """The directory is left as by a collector that ran all the time: months published, old days removed."""
