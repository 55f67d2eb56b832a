# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Prepares the estimate of external screens from that of their PCs (pure). docs/methodology.md §6.

An inventory has no hours of screens. So screens are estimated like a class of machines whose time is that of
their PCs: energy of screens ÷ known time of PCs, × the time of PCs in service. Standby is added for the
screens that are listed.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from operator import add
from typing import Final, TypeAlias

from veilleuse.collector.fleet.errors import DECLARED_U, DEFAULT_U, STANDBY_U
from veilleuse.collector.fleet.observations import MONITOR, PCS
from veilleuse.collector.fleet.samples import Days
from veilleuse.collector.model.figures import SCREEN_STANDBY_MICROWATTS
from veilleuse.collector.model.query import AUTRES, GroupKey
from veilleuse.collector.model.sums import Group
from veilleuse.collector.release.cells import NO_DAYS, PublishedCell
from veilleuse.collector.release.fleet import FleetCount
from veilleuse.collector.release.rows import DEFAULTS, MILLION, FleetRow, Source, family_of
from veilleuse.collector.release.tables import Hidden
from veilleuse.collector.shipped_tables import SCREEN_MICROWATTS
from veilleuse.wire.sums import apportion
from veilleuse.wire.units import MICROWATTS_PER_WATT

ON_MICROWATTS: Final = SCREEN_MICROWATTS[1]
"""Power of a screen of usual size that is on: its energy gives the time."""

_Place: TypeAlias = tuple[GroupKey, str]
"""Family and entity."""


def screens_of_month(
    groups: Iterable[Group],
    hidden: Iterable[Hidden],
    fleet: Mapping[GroupKey, FleetCount],
    rows: Iterable[FleetRow],
) -> tuple[dict[GroupKey, FleetCount], list[PublishedCell]]:
    """Return the fleet and the published cells of screens; `rows`: of the month's machines."""
    pcs = [row for row in rows if row.key.device_class in (*PCS, AUTRES)]
    known, left = Counter[_Place](), Counter[_Place]()
    for row in pcs:
        at = _place_of(row.key)
        known[at] += row.known_milliseconds
        left[at] += row.fleet_milliseconds - row.known_milliseconds
    shared = {
        (family_of(one.family), entity): one.branch
        for one in hidden
        if one.family.device_class == MONITOR
        for entity in one.entities
    }
    cells = []
    for group in groups:
        if group.key.device_class == MONITOR:
            cell = PublishedCell.of(group)
            own_place = family, entity = _place_of(cell.key)
            of_branch = [at for at, branch in shared.items() if (at[0], branch) == (family, entity)]
            inside = of_branch if cell.key.autres else [own_place]
            cells.append(replace(cell, milliseconds=sum(known[at] for at in inside)))
    told = {family_of(cell.key) for cell in cells}
    own = {_place_of(cell.key) for cell in cells if not cell.key.autres}
    by_place: defaultdict[GroupKey, FleetCount] = defaultdict(lambda: FleetCount(0, NO_DAYS))
    for key, count in fleet.items():
        if key.device_class in PCS:
            at, place = _place_of(key), key._replace(device_class=MONITOR)
            # Published PCs without a published screen have none.
            unknown = at[0] not in told or at in own or at in shared
            part = (1, 1) if unknown else (left[at], left[at] + known[at])
            times = tuple(time * part[0] // (part[1] or 1) for time in count.milliseconds)
            before = by_place[place]
            by_place[place] = FleetCount(
                before.machines + count.machines, tuple(map(add, before.milliseconds, times))
            )
    return dict(by_place), cells


def _place_of(key: GroupKey) -> _Place:
    return family_of(key), key.entity or ""


def with_standby(
    rows: Sequence[FleetRow],
    listed: Mapping[GroupKey, FleetCount],
    microwatts: Days,
    source: Source = Source.DEFAULT,
) -> list[FleetRow]:
    """Add the standby of listed screens, and those of places without an estimate at the class default.

    `rows`: screens that are on. `listed`: screens of the inventory, at whichever population and context of
    their zone and entity. `microwatts`: class default, of this `source`.
    """
    by_place: defaultdict[tuple[str, str], list[FleetRow]] = defaultdict(list)
    for row in rows:
        if row.source not in DEFAULTS:  # a default of screens is not of their PCs' time
            by_place[row.key.zone, row.key.entity or ""].append(row)
    found = []
    places: defaultdict[tuple[str, str], list[GroupKey]] = defaultdict(list)
    for key in listed:
        places[key.zone, key.entity or ""].append(key)
    for at, keys in sorted(places.items()):
        on = by_place.pop(at, [])
        weights = [row.energy_millijoules for row in on]
        if not any(weights):
            by_place[at] = on
            found += [_by_default(key, listed[key], microwatts, source) for key in sorted(keys, key=str)]
            continue
        time = sum(sum(listed[key].milliseconds) for key in keys)
        time_on = sum(weights) * MICROWATTS_PER_WATT // ON_MICROWATTS
        rest = max(0, time - time_on) * SCREEN_STANDBY_MICROWATTS // MICROWATTS_PER_WATT
        number = sum(listed[key].machines for key in keys)
        parts = zip(on, apportion(rest, weights), apportion(number, weights), strict=True)
        found += [_with_more(row, energy, machines) for row, energy, machines in parts]
    return [*found, *(row for of_place in by_place.values() for row in of_place)]


def _with_more(row: FleetRow, standby: int, machines: int) -> FleetRow:
    whole = row.energy_millijoules + standby

    def share(ppm: int) -> int:
        return -(-ppm * row.energy_millijoules // whole)

    return replace(
        row,
        hosts=min(row.hosts, machines),
        machines=machines,
        extrapolated_millijoules=row.extrapolated_millijoules + standby,
        u_own_ppm=share(row.u_own_ppm),
        u_shared_ppm=share(row.u_shared_ppm),
        u_model_ppm=share(row.u_model_ppm) + math.ceil(MILLION * STANDBY_U * standby / whole),
    )


def _by_default(key: GroupKey, count: FleetCount, microwatts: Days, source: Source) -> FleetRow:
    energy = sum(time * power for time, power in zip(count.milliseconds, microwatts, strict=True))
    energy //= MICROWATTS_PER_WATT
    time = sum(count.milliseconds)
    u = math.ceil(MILLION * (DECLARED_U if source is Source.DECLARED else DEFAULT_U))
    return FleetRow(
        key, source, "", "", 0, count.machines, time, 0, 0, energy, energy, energy, MILLION, 0, u, 0
    )
