# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Simulates the server room: hourly readings of its shared meters, and their declaration (pure)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from math import exp
from typing import Final

from veilleuse.collector.derive.priors import MILLION, SHARE_U_PPM
from veilleuse.collector.model.meters import EVERY_OTHER
from veilleuse.collector.simulate.calendars import Timetable, days
from veilleuse.collector.simulate.fleet import SimulatedDevice, SimulationOrder
from veilleuse.collector.simulate.physics import Physics
from veilleuse.collector.simulate.places import EntitySite
from veilleuse.collector.simulate.routines import Span, routine_of
from veilleuse.wire.sums import apportion
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.vocabulary import PointKind

NETWORK_WATTS: Final = 180.0
"""Switches and storage without an agent: the only load on the UPS besides its PDU."""
UPS_EFFICIENCY: Final = "0.94"
_HOURS_OF_A_DAY: Final = 24
PUE: Final = 1.45
"""Declared PUE, which is also the true one."""


class ServerRoom:
    """Machines on the room's PDU, with their true hourly power."""

    def __init__(
        self,
        order: SimulationOrder,
        place: EntitySite,
        fleet: Sequence[SimulatedDevice],
        timetable: Timetable,
        physics: Physics,
    ) -> None:
        self._order = order
        self.place = place
        number = [one for one in order.places if one.is_room].index(place)
        self._ups, self._pdu_name = f"UPS-{number + 1}", f"PDU-{chr(ord('A') + number)}"
        self.meters: Mapping[str, PointKind] = {self._ups: PointKind.UPS, self._pdu_name: PointKind.PDU}
        self.on_pdu = [
            one
            for one in fleet
            if one.place == place and one.model.shared_meter and one.agent_from is not None
        ]
        self.poller = self.on_pdu[0] if self.on_pdu else None
        """Machine whose agent reads the room's meters."""
        self._gains = (physics.meter_gain(fine=False), physics.meter_gain(fine=True))
        self._begun = timetable.slots(order.first)[0].start
        self._pdu: list[float] = []
        self._shares: dict[int, float] = {}
        for device in self.on_pdu:
            self._add(device, timetable, physics)

    def _add(self, device: SimulatedDevice, timetable: Timetable, physics: Physics) -> None:
        routine, machine = routine_of(device, self._order.seed), physics.machine(device)
        watts: list[float] = []
        for day in days(self._order.first, self._order.end + timedelta(days=1)):  # and the day under way
            slots = timetable.slots(day)
            for span in routine.spans(day, timetable.day_type(day), slots[0].start, slots[-1].end):
                active, idle = machine.powers(span)
                watts.append(mean_watts(span, active.wall, idle.wall))
        hours = self._pdu or [0.0] * len(watts)
        self._pdu = [one + more for one, more in zip(hours, watts, strict=True)]
        self._shares[device.number] = sum(watts[:-_HOURS_OF_A_DAY])

    def shared_watts(self, start: int) -> Sequence[float]:
        """Return the readings of `meters` over the clock period that begins at `start`."""
        hour = (start - self._begun) // MILLISECONDS_PER_HOUR
        pdu = self._pdu[hour]
        return self._gains[0] * (pdu + NETWORK_WATTS), self._gains[1] * pdu

    def other_energy(self, start: int, end: int) -> float:
        """Return the true energy without a machine over whole hours [start, end), mJ: network and the room's
        overhead.
        """
        first, last = ((at - self._begun) // MILLISECONDS_PER_HOUR for at in (start, end))
        watts = sum(NETWORK_WATTS + (PUE - 1) * (pdu + NETWORK_WATTS) for pdu in self._pdu[first:last])
        return watts * MILLISECONDS_PER_HOUR

    def declaration(self, agent_ids: Mapping[int, str]) -> str:
        """Return the file for `veilleuse meters import`; its shares have the uncertainty SHARE_U_PPM."""
        draw = random.Random(f"{self._order.seed}/shares")
        site, room = self.place.site, self.place.room
        u = SHARE_U_PPM / MILLION
        weights = [round(self._shares[one.number] * exp(u * draw.gauss(0, 1))) for one in self.on_pdu]
        last = self._order.end - timedelta(days=1)
        lines = [
            _meter(self._ups, site, room, "ups_output"),
            f'efficiency = "{UPS_EFFICIENCY}"',
            _meter(self._pdu_name, site, room, "outlet"),
            f'parent = "{self._ups}"',
        ]
        for device, share in zip(self.on_pdu, apportion(MILLION, weights), strict=True):
            lines += [
                "[[meter.share]]",
                f'host = "{agent_ids[device.number]}"',
                f'share = "{share / MILLION:.6f}"',
                f"from = {_day(self._order.first)}",
            ]
        lines += [
            "[[pue]]",
            f'room = "{room}"',
            f'pue = "{PUE}"',
            'point = "ups_output"',
            f"from = {_day(self._order.first)}",
            f"to = {_day(last)}",
            "[[server]]",
            f'room = "{room} hors onduleur"',  # of the other servers of the site: without a meter
            f'site = "{site}"',
            f'host = "{EVERY_OTHER}"',
            f"from = {_day(self._order.first)}",
        ]
        return "\n".join(lines) + "\n"


def mean_watts(span: Span, active: float, idle: float) -> float:
    """Return the mean power of a span by its active share."""
    return span.active * active + (1 - span.active) * idle


def _meter(name: str, site: str, room: str, boundary: str) -> str:
    return f'[[meter]]\nmeter = "{name}"\nsite = "{site}"\nroom = "{room}"\nboundary = "{boundary}"'


def _day(day: date) -> str:
    return day.isoformat()
