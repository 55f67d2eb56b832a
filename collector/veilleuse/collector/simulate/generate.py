# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Generates what a simulated fleet sends, part by part of its time, and its true energy (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Final, NamedTuple

from veilleuse.collector.simulate import registry
from veilleuse.collector.simulate.agent_stream import Agent, Powers
from veilleuse.collector.simulate.calendars import COARSE_MILLISECONDS, Timetable, days, period_of
from veilleuse.collector.simulate.fleet import SimulatedDevice, SimulationOrder, devices
from veilleuse.collector.simulate.physics import Physics, SimulatedMachine
from veilleuse.collector.simulate.places import EntitySite
from veilleuse.collector.simulate.routines import Routine, Span, routine_of
from veilleuse.collector.simulate.server_room import ServerRoom, mean_watts
from veilleuse.collector.simulate.truth import Truth
from veilleuse.wire.vocabulary import Population

OTHER_ROOM: Final = "other_room"
"""Device class of a room's metered energy without a machine."""


class Sent(NamedTuple):
    """Records of one machine, in stream order."""

    number: int
    """Number of the device."""
    wires: list[bytes]


class _Running(NamedTuple):
    """State of one machine between two parts."""

    device: SimulatedDevice
    routine: Routine
    machine: SimulatedMachine
    agent: Agent | None


class Generation:
    """One simulated fleet over its time."""

    def __init__(self, order: SimulationOrder) -> None:
        """Draw the fleet; nothing is generated yet."""
        self.order, self.fleet, self.physics = order, devices(order), Physics(order)
        counts = {place: sum(one.place == place for one in self.fleet) for place in order.places}
        self.timetables = _timetables(order, counts)
        self.rooms = tuple(
            ServerRoom(order, place, self.fleet, self.timetables[place], self.physics)
            for place in order.places
            if place.is_room
        )
        self.truth = Truth(order, len(self.fleet))
        self._running = [self._run(device) for device in self._ordered()]

    def _ordered(self) -> list[SimulatedDevice]:
        """Return rooms first, each with its poller first: readings are stored before they are shared out."""
        pollers = [room.poller for room in self.rooms]
        return sorted(self.fleet, key=lambda one: (not one.place.is_room, one not in pollers))

    def _run(self, device: SimulatedDevice) -> _Running:
        agent = None
        if device.agent_from is not None:
            room = next((room for room in self.rooms if device == room.poller), None)
            agent = Agent(
                device,
                self.timetables[device.place],
                self.physics,
                self.order.seed,
                room.meters if room else None,
                room.shared_watts if room else None,
            )
        return _Running(device, routine_of(device, self.order.seed), self.physics.machine(device), agent)

    def day_under_way(self, now_unix_milliseconds: int) -> Iterator[Sent]:
        """Yield what servers send of the day after the last one until now; it is not in the truth."""
        day = self.order.end
        for one in self._running:
            timetable = self.timetables[one.device.place]
            if one.agent is None or not one.device.place.is_room or not one.device.is_heard(day):
                continue
            spans, powers = _spans(one, timetable, day)
            periods = dict.fromkeys(slot.period_start for slot in timetable.slots(day))
            over = sum(start + COARSE_MILLISECONDS <= now_unix_milliseconds for start in periods)
            if over:
                yield Sent(one.device.number, list(one.agent.day(day, spans, powers))[:over])

    def week(self, first: date, end: date) -> Iterator[Sent]:
        """Add the days [first, end), which follow those before, to the truth; yield what agents send.

        In the order of time, as tables are: machines that send hours day by day, others the week.
        """
        self._add_other_devices(first, end)
        by_the_hour = [one for one in self._running if self.timetables[one.device.place].has_clock]
        weekly = [one for one in self._running if not self.timetables[one.device.place].has_clock]
        for day in days(first, end):
            yield from self._sent(by_the_hour, [day])
        yield from self._sent(weekly, days(first, end))

    def _sent(self, machines: Sequence[_Running], some: Sequence[date]) -> Iterator[Sent]:
        for one in machines:
            if wires := [wire for day in some for wire in self._day(one, day)]:
                yield Sent(one.device.number, wires)

    def _day(self, one: _Running, day: date) -> Iterator[bytes]:
        device, timetable = one.device, self.timetables[one.device.place]
        if not device.in_service(day):
            return
        spans, powers = _spans(one, timetable, day)
        self.truth.add(device, day, _energy(spans, powers), self._screens(device, spans))
        if one.agent is not None and device.is_heard(day):
            yield from one.agent.day(day, spans, powers)

    def _add_other_devices(self, first: date, end: date) -> None:
        """Add devices without an agent to the truth."""
        colleges = registry.colleges(self.order)
        for day in days(first, end):
            for room in self.rooms:
                slots = self.timetables[room.place].slots(day)
                beside = room.other_energy(slots[0].start, slots[-1].end)
                self.truth.add_other(room.place, day, OTHER_ROOM, beside)
            for place in colleges:
                slots, kind = self.timetables[place].slots(day), self.timetables[place].day_type(day)
                length = slots[-1].end - slots[0].start
                for device_class, number in registry.OTHER_DEVICES:
                    watts = self.physics.other_device_watts(device_class.value, kind)
                    self.truth.add_other(place, day, device_class.value, number * watts * length)

    def _screens(self, device: SimulatedDevice, spans: Sequence[Span]) -> float:
        """Return the energy of its external screens, mJ: on while in use, else in standby."""
        if not device.screens:
            return 0.0
        return sum(
            self.physics.screens_watts(device.screens, span.screens) * (span.end - span.start)
            for span in spans
        )


def _spans(one: _Running, timetable: Timetable, day: date) -> tuple[list[Span], Powers]:
    """Return the states of a machine on a day, and its powers."""
    slots = timetable.slots(day)
    spans = one.routine.spans(day, timetable.day_type(day), slots[0].start, slots[-1].end)
    return spans, [one.machine.powers(span) for span in spans]


def _timetables(order: SimulationOrder, counts: dict[EntitySite, int]) -> dict[EntitySite, Timetable]:
    """Return the timetable of each place; places of one kind share one."""
    kinds: dict[tuple[bool, Population, int | None], Timetable] = {}
    found: dict[EntitySite, Timetable] = {}
    for place in order.places:
        period = period_of(place.population, order, counts[place])
        kind = (place.school, place.population, period)
        found[place] = kinds[kind] = kinds.get(kind) or Timetable(order, place, period)
    return found


def _energy(spans: Sequence[Span], powers: Powers) -> float:
    """Return the energy at the socket, mJ."""
    return sum(
        mean_watts(span, active.wall, idle.wall) * (span.end - span.start)
        for span, (active, idle) in zip(spans, powers, strict=True)
    )


def weeks(order: SimulationOrder) -> Iterator[tuple[date, date]]:
    """Yield the ISO weeks of the simulated time, [first, end)."""
    first = order.first
    while first < order.end:
        end = min(first + timedelta(days=7 - first.weekday()), order.end)
        yield first, end
        first = end
