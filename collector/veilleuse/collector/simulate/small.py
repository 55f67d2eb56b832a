# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The small preset: three colleges, two directions and a server room (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Final

from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.simulate.places import (
    COLLEGE_MODELS,
    DIRECTION_MODELS,
    ROOM_MACHINES,
    ROOM_MODELS,
    VIRTUAL,
    EntitySite,
    Preset,
    Stock,
)
from veilleuse.wire.vocabulary import Population

SERVER_SHARE: Final = 0.05
CLASSROOM_SHARE: Final = 0.17
VIRTUAL_FROM: Final = 4
"""Number of servers from which one of them is a virtual machine."""
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
    "Métropole > DSI > Salle serveurs",
    "salle-serveurs",
    Population.SERVER,
    PowerContext.OWN_SITE,
    room="Salle serveurs",
)


def _stocks(hosts: int, first: date, end: date) -> tuple[Stock, ...]:
    return tuple(_each(hosts, first, end))


def _each(hosts: int, first: date, end: date) -> Iterator[Stock]:
    """Yield the machines of each place; half of the agents of PCs begin in the middle of the time."""
    servers = max(2, round(SERVER_SHARE * hosts))
    classrooms = max(len(COLLEGES), round(CLASSROOM_SHARE * hosts))
    begins = (first, first + (end - first) // 2)
    for place, agents in zip(COLLEGES, _split_evenly(classrooms, len(COLLEGES)), strict=True):
        yield Stock(place, agents, max(ROOM_MACHINES, 2 * agents), COLLEGE_MODELS, begins)
    offices = _split_evenly(hosts - servers - classrooms, len(DIRECTIONS))
    for place, agents in zip(DIRECTIONS, offices, strict=True):
        yield Stock(place, agents, -(-agents * 5 // 3), DIRECTION_MODELS, begins)
    machines = servers + max(1, servers // 4)
    virtual = VIRTUAL if servers >= VIRTUAL_FROM else None
    yield Stock(ROOM, servers, machines, ROOM_MODELS, (first,), last=virtual)


def _split_evenly(number: int, parts: int) -> list[int]:
    return [(number + place) // parts for place in range(parts)]


SMALL: Final = Preset("small", 60, _stocks)
