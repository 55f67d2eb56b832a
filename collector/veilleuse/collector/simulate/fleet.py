# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Draws the simulated fleet of a preset: its machines, and those with an agent (pure).

Every draw comes from the seed: the same seed gives the same fleet.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final

from veilleuse.collector.errors import UsageError
from veilleuse.collector.simulate.places import EntitySite, Model, Preset, Stock
from veilleuse.collector.simulate.small import SMALL
from veilleuse.wire.vocabulary import DeviceClass, GapReason

LEAST_HOSTS: Final = 10
MOST_HOSTS: Final = 20_000
LEAST_DAYS: Final = 7
MOST_DAYS: Final = 1_100
SERIAL: Final = "SIMULATED{:06}"


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
    agent_until: date | None = None
    """Day from which its agent is silent; None: it is not."""
    shut_down_from: date | None = None
    """Day from which it is off at night."""
    is_outdated: bool = False
    """Its agent is of an older version."""
    is_failing: bool = False
    """A source of its agent fails."""
    is_model_doubtful: bool = False
    """The inventory has another model."""
    services: tuple[tuple[str, float], ...] = ()
    """Services that its agent tells apart, with their shares of the processor time."""

    @property
    def serial(self) -> str:
        """Serial number for agent and inventory."""
        return SERIAL.format(self.number)

    def is_heard(self, day: date) -> bool:
        """Return whether its agent sends on a day; one without an agent never does."""
        return (
            self.agent_from is not None
            and self.agent_from <= day
            and (self.agent_until is None or day < self.agent_until)
        )

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
    preset: Preset = SMALL

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

    @property
    def stocks(self) -> tuple[Stock, ...]:
        """Return the machines of each place."""
        return self.preset.stocks(self.hosts, self.first, self.end)

    @property
    def places(self) -> tuple[EntitySite, ...]:
        """Return all places."""
        return tuple(stock.place for stock in self.stocks)


def devices(order: SimulationOrder) -> tuple[SimulatedDevice, ...]:
    """Return the whole fleet, place by place."""
    draw = random.Random(f"{order.seed}/fleet")
    found: list[SimulatedDevice] = []
    for stock in order.stocks:
        found += _draw_stock(order, draw, stock, len(found))
    with_agent = [one for one in found if one.agent_from is not None]
    troubles = dict(zip((one.number for one in with_agent), _troubles(order, draw, with_agent), strict=True))
    odd = {one.number: one for one in _with_oddities(order, with_agent)}
    return tuple(replace(odd.get(one.number, one), trouble=troubles.get(one.number)) for one in found)


def _draw_stock(
    order: SimulationOrder, draw: random.Random, stock: Stock, before: int
) -> list[SimulatedDevice]:
    place, ranks = stock.place, list(range(stock.machines))
    if not place.is_room:
        draw.shuffle(ranks)
    found = []
    for index, rank in enumerate(ranks):
        model = stock.model(rank)
        with_agent = rank < stock.agents
        begun = _in_service_on(order, draw, new=not place.is_room and draw.random() < 0.08)
        gone = None
        if not with_agent and not place.is_room and draw.random() < 0.1:
            gone = order.first + timedelta(days=draw.randrange(order.days // 3, order.days))
        found.append(
            SimulatedDevice(
                number=before + index + 1,
                place=place,
                model=model,
                screens=_screens(draw, place, model),
                always_on=place.is_room
                or (model.device_class is not DeviceClass.LAPTOP and draw.random() < place.always_on),
                in_service_on=begun,
                out_of_service_on=gone if gone is not None and gone > begun else None,
                refurbished=place.school and draw.random() < 0.2,
                agent_from=max(begun, stock.begins_on(rank)) if with_agent else None,
                shut_down_from=stock.shut_down_from,
            )
        )
    return found


def _in_service_on(order: SimulationOrder, draw: random.Random, *, new: bool) -> date:
    if new:
        return order.first + timedelta(days=draw.randrange(order.days // 4, order.days // 2))
    return order.first - timedelta(days=draw.randrange(100, 3_000))


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


SERVICES_EVERY: Final = 3
"""One server in three tells its services apart."""


def _with_oddities(order: SimulationOrder, agents: Sequence[SimulatedDevice]) -> Iterator[SimulatedDevice]:
    """Yield the machines with an agent, with what is not as it should be."""
    draw, odd = random.Random(f"{order.seed}/oddities"), order.preset.oddities
    pcs = [one.number for one in agents if not one.place.is_room]
    doubtful = frozenset(draw.sample(pcs, min(odd.doubtful_models, len(pcs))))
    for device in agents:
        is_silent, back = draw.random() < odd.silent, draw.randrange(10, 60)
        yield replace(
            device,
            agent_until=order.end - timedelta(days=back) if is_silent else None,
            is_outdated=draw.random() < odd.outdated,
            is_failing=draw.random() < odd.failing and device.model.has_counters,
            is_model_doubtful=device.number in doubtful,
            services=order.preset.services
            if device.place.is_room and device.number % SERVICES_EVERY == 0
            else (),
        )
