# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Counts the devices in service for a released month, from the inventory and enrolments alone (pure).

Nothing that machines reported counts here: the counts are not raised to what was measured, and a machine
without an asset that has left is not counted until its last contact.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import add

from veilleuse.collector.disclosure.rule import EXEMPT
from veilleuse.collector.fleet.census import FleetDevice
from veilleuse.collector.fleet.observations import MONITOR, FleetBook, Place
from veilleuse.collector.fleet.samples import DAY_TYPES
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.release.cells import NO_DAYS
from veilleuse.collector.release.fleet import FleetCount


def count_fleet(devices: Iterable[FleetDevice]) -> dict[GroupKey, FleetCount]:
    """Return the devices of populations under the disclosure rule, by place and class."""
    book = FleetBook()
    for standing in devices:
        is_ruled = standing.population is not None and standing.population not in EXEMPT
        if is_ruled and standing.device_class != MONITOR and (standing.inventoried or not standing.has_left):
            book.add_device(Place.at(standing).stratum(standing.device_class), standing)
    book.settle()
    found: dict[GroupKey, FleetCount] = {}
    for one in book.in_service():
        place = Place.of(one.stratum)
        if place.population is not None:
            key = GroupKey(
                zone=place.zone,
                population=place.population,
                entity=place.entity,
                device_class=one.stratum.device_class,
                power_context=place.power_context,
            )
            before = found.get(key, FleetCount(0, NO_DAYS))
            times = tuple(map(add, before.milliseconds, one.milliseconds))
            found[key] = FleetCount(before.machines + one.machines, times)
    return found


def count_screens(devices: Iterable[FleetDevice]) -> dict[tuple[str, str], FleetCount]:
    """Return (zone, entity) → external screens that the inventory lists."""
    found: dict[tuple[str, str], FleetCount] = {}
    for standing in devices:
        if standing.device_class == MONITOR:
            at = standing.zone, standing.entity
            before = found.get(at, FleetCount(0, NO_DAYS))
            times = tuple(
                time + standing.milliseconds.get(kind, 0)
                for kind, time in zip(DAY_TYPES, before.milliseconds, strict=True)
            )
            found[at] = FleetCount(before.machines + 1, times)
    return found
