# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Counts the devices in service for a released month, from the inventory and enrolments alone (pure).

Nothing that machines reported counts here: the counts are not raised to what was measured, and a machine
without an asset that was revoked or forgotten is not counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from operator import add

from veilleuse.collector.fleet.census import FleetDevice, is_under_rule, population_of
from veilleuse.collector.fleet.observations import MONITOR, FleetBook, Place
from veilleuse.collector.fleet.samples import DAY_TYPES
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.release.cells import NO_DAYS
from veilleuse.collector.release.fleet import FleetCount


def count_fleet(devices: Iterable[FleetDevice]) -> dict[GroupKey, FleetCount]:
    """Return the devices without screens, by place and class."""
    book = FleetBook()
    for standing in devices:
        is_counted = standing.inventoried or not standing.has_left
        if standing.device_class != MONITOR and is_counted:
            place = Place.at(standing)._replace(population=population_of(standing))
            book.add_device(place.stratum(standing.device_class), standing)
    book.settle()
    found: dict[GroupKey, FleetCount] = {}
    for one in book.in_service():
        place = Place.of(one.stratum)
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


def sole_sites(devices: Iterable[FleetDevice]) -> dict[str, str]:
    """Return entity → site of all its PCs and screens; no entity at several or unknown sites."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for standing in devices:
        if is_under_rule(standing) and (standing.inventoried or not standing.has_left):
            found[standing.entity].add(standing.site)
    return {entity: min(sites) for entity, sites in found.items() if len(sites) == 1 and "" not in sites}


def count_screens(devices: Iterable[FleetDevice]) -> dict[GroupKey, FleetCount]:
    """Return the external screens that the inventory lists, by place."""
    found: dict[GroupKey, FleetCount] = {}
    for standing in devices:
        if standing.device_class == MONITOR:
            key = GroupKey(
                zone=standing.zone,
                population=population_of(standing),
                entity=standing.entity,
                device_class=MONITOR,
                power_context=standing.power_context,
            )
            before = found.get(key, FleetCount(0, NO_DAYS))
            times = tuple(
                time + standing.milliseconds.get(kind, 0)
                for kind, time in zip(DAY_TYPES, before.milliseconds, strict=True)
            )
            found[key] = FleetCount(before.machines + 1, times)
    return found
