# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Sums the true energy of a simulated fleet by month, place and class, to compare with reports (pure)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from typing import Any, Final

from veilleuse.collector.model.sums import EnergyClass
from veilleuse.collector.simulate.fleet import SimulatedDevice, SimulationOrder
from veilleuse.collector.simulate.places import VIRTUAL, EntitySite
from veilleuse.wire.units import kwh_from_millijoules

_Key = tuple[str, str, str, str, str]
MONITOR: Final = EnergyClass.MONITOR.value


class Truth:
    """True energy by month, place and class, to compare with the intervals of a report.

    A virtual machine's energy is its host's, so it is not included.
    """

    def __init__(self, order: SimulationOrder, machines: int) -> None:
        self._order = order
        self._machines = machines
        self._sums: defaultdict[_Key, float] = defaultdict(float)

    def add(self, device: SimulatedDevice, day: date, millijoules: float, screens_millijoules: float) -> None:
        """Add one machine's day, with its external screens'."""
        if device.model == VIRTUAL:
            return
        self._sums[_key(device.place, day, device.model.device_class.value)] += millijoules
        if screens_millijoules:
            self._sums[_key(device.place, day, MONITOR)] += screens_millijoules

    def add_other(self, place: EntitySite, day: date, device_class: str, millijoules: float) -> None:
        """Add devices without an agent: network, overhead, and devices of the inventory alone."""
        self._sums[_key(place, day, device_class)] += millijoules

    def kwh(self, first: date, end: date, **where: str) -> float:
        """Return the kWh of whole months [first, end); `where`: entity, site, population or device_class."""
        return sum(
            float(row["kwh"])
            for row in self._rows()
            if first.isoformat() <= f"{row['month']}-01" < end.isoformat()
            and all(row[name] == value for name, value in where.items())
        )

    def _rows(self) -> Iterable[dict[str, Any]]:
        names = ("month", "entity", "site", "population", "device_class")
        for key, energy in sorted(self._sums.items()):
            whole = round(energy)
            yield {
                **dict(zip(names, key, strict=True)),
                "energy_millijoules": whole,
                "kwh": kwh_from_millijoules(whole),
            }

    def document(self) -> dict[str, Any]:
        """Return the truth for JSON."""
        rows = list(self._rows())
        by_entity: defaultdict[str, float] = defaultdict(float)
        for row in rows:
            by_entity[row["entity"]] += row["kwh"]
        return {
            "data": "simulated",
            "seed": self._order.seed,
            "from": self._order.first.isoformat(),
            "to": self._order.end.isoformat(),
            "hosts": self._order.hosts,
            "machines": self._machines,
            "kwh_total": sum(row["kwh"] for row in rows),
            "kwh_by_entity": dict(by_entity),
            "months": rows,
        }

    def text(self) -> str:
        """Return one JSON document; the same for the same seed."""
        return json.dumps(self.document(), ensure_ascii=False, indent=1) + "\n"


def _key(place: EntitySite, day: date, device_class: str) -> _Key:
    return day.isoformat()[:7], place.entity, place.site, place.population.value, device_class
