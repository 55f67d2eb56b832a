# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Adds server rooms to the yearly figure: other equipment, UPS loss and overhead (pure). docs/methodology.md
§3.

A row of class `other_room` has the metered energy that no machine accounts for (network, storage), the UPS
loss and the overhead. Each is also in a column of its own. An unknown value is absent, and the row says that
the overhead is not included.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Final

from veilleuse.collector.account.row import ClassFigure, CoveredDays, FigureRow, PeriodFigures, RoomParts
from veilleuse.collector.fleet.estimate import Estimate, EstimateBasis, Representativeness
from veilleuse.collector.fleet.observations import Place
from veilleuse.collector.fleet.rooms import RoomFigure
from veilleuse.collector.fleet.variance import most_down
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.model.query import DEFAULT_PERIMETERS, GroupKey, Perimeters
from veilleuse.collector.quantiles import Z95
from veilleuse.wire.ladder import Method
from veilleuse.wire.units import MILLISECONDS_PER_DAY
from veilleuse.wire.vocabulary import Population

OTHER_ROOM: Final = "other_room"
MOST_UNREAD: Final = 0.05
"""Greatest unread share of a stretch for meters to represent all of it. Our choice."""
METERED_U: Final = 0.01
"""Standard uncertainty of metered energy, log scale: class 2 of IEC 62053-21 is ± 2 % at 95 %."""
_LEAST: Final = 1e-6
"""Least factor of a figure that may be zero, as in fleet_variance."""


def with_rooms(
    period: PeriodFigures,
    rooms: Iterable[RoomFigure],
    dimensions: Collection[str],
    perimeters: Perimeters = DEFAULT_PERIMETERS,
) -> PeriodFigures:
    """Return the period with a row for the rooms of each zone
    (and site, if requested), and all rooms in the total.
    """
    groups: defaultdict[GroupKey, list[RoomFigure]] = defaultdict(list)
    for room in rooms:
        groups[_key(room, dimensions, perimeters).over(period.first, period.end)].append(room)
    if not groups:
        return period
    length = (period.end - period.first).days * MILLISECONDS_PER_DAY
    made = [
        _row(key, group, length) for key, group in sorted(groups.items(), key=lambda one: one[0].site or "")
    ]
    total = period.total or replace(
        made[0], estimate=_nothing(made[0].estimate), room=None, class_energies={}, classes={}
    )
    parts = with_machines([row.room for row in made if row.room], total.estimate.energy_millijoules)
    whole = total.estimate
    for row in made:
        whole = _plus(whole, row.estimate)
    time, energy = (
        sum(values) for values in zip(*(row.class_energies[OTHER_ROOM] for row in made), strict=True)
    )
    energies = {**total.class_energies, OTHER_ROOM: (time, energy)}
    total = replace(
        total,
        key=_total_key(total.key, made, whole=period.total is not None),
        estimate=whole,
        room=parts,
        class_energies=energies,
        classes={**total.classes, **max(made, key=lambda row: row.estimate.u_model).classes},
    )
    shown = [_with_servers(row, groups[row.key]) for row in made]
    return replace(period, rows=(*period.rows, *shown), total=total)


def _key(room: RoomFigure, dimensions: Collection[str], perimeters: Perimeters) -> GroupKey:
    key = GroupKey(
        zone=room.zone,
        population=Population.SERVER,
        site=room.site,
        device_class=OTHER_ROOM,
        power_context=PowerContext.OWN_SITE,
    )
    return key._replace(perimeter=perimeters.of(key)).coarsen(dimensions)


def _total_key(key: GroupKey, rows: Sequence[FigureRow], *, whole: bool) -> GroupKey:
    zones = {row.key.zone for row in rows} | ({key.zone} if whole else set())
    return GroupKey(zone=zones.pop() if len(zones) == 1 else "", power_context=key.power_context)


def _row(key: GroupKey, rooms: Sequence[RoomFigure], length_milliseconds: int) -> FigureRow:
    parts = parts_of(rooms)
    modelled = sum(room.overhead_millijoules or 0 for room in rooms if room.overhead == "pue")
    energy = parts.it_millijoules + (parts.ups_loss_millijoules or 0) + (parts.overhead_millijoules or 0)
    errors = [METERED_U * (energy - modelled), *(room.overhead_u_millijoules for room in rooms)]
    u = math.hypot(*errors) / energy if energy else 0.0
    reads_all = all(
        room.unread_milliseconds <= MOST_UNREAD * (room.unread_milliseconds + (room.read_milliseconds or 0))
        for room in rooms
    )
    estimate = Estimate.of_known(
        {Method.METERED: energy - modelled, Method.CLASS_DEFAULT: modelled},
        u,
        EstimateBasis.CENSUS if reads_all else EstimateBasis.SAMPLE,
        Representativeness.CENSUS if reads_all else Representativeness.NOT_DEMONSTRATED,
    )
    # In a comparison between years, a room exists for the whole period.
    time = length_milliseconds * len(rooms)
    read = min(
        length_milliseconds if room.read_milliseconds is None else room.read_milliseconds for room in rooms
    )
    places = tuple((_place(room), energy_of(room)) for room in rooms)
    classes = {OTHER_ROOM: ClassFigure(estimate, covered=CoveredDays(read))}
    return FigureRow(
        key, estimate, 0, False, frozenset(), {}, {OTHER_ROOM: (time, energy)}, places, parts, classes
    )


def parts_of(rooms: Sequence[RoomFigure]) -> RoomParts:
    """Return the parts of rooms together."""
    words = {room.overhead for room in rooms}
    pues = {room.pue_ppm for room in rooms}
    return RoomParts(
        sum(room.other_millijoules for room in rooms),
        _sum_known([room.ups_loss_millijoules for room in rooms]),
        _sum_known([room.overhead_millijoules for room in rooms]),
        words.pop() if len(words) == 1 else "not_included",
        pues.pop() if len(pues) == 1 else None,
        sum(room.it_millijoules for room in rooms),
    )


def sum_parts(parts: Collection[RoomParts]) -> RoomParts:
    """Sum the parts of rooms, of rows or months."""
    words, pues = {part.overhead for part in parts}, {part.pue_ppm for part in parts}
    return RoomParts(
        sum(part.it_millijoules for part in parts),
        _sum_known([part.ups_loss_millijoules for part in parts]),
        _sum_known([part.overhead_millijoules for part in parts]),
        words.pop() if len(words) == 1 else "not_included",
        pues.pop() if len(pues) == 1 else None,
        sum(part.top_down_millijoules for part in parts),
    )


def with_machines(rooms: Collection[RoomParts], millijoules: int) -> RoomParts:
    """Return the room parts of a total: machines are IT too."""
    parts = sum_parts(rooms)
    return replace(parts, it_millijoules=parts.it_millijoules + millijoules)


def _with_servers(row: FigureRow, rooms: Sequence[RoomFigure]) -> FigureRow:
    """Add the errors of the rooms' servers to the row: it is the meters' energy less the servers'.

    In the total these errors cancel: an excess in one row is missing in the other.
    """
    estimate = row.estimate
    error = math.hypot(*(room.servers.u_millijoules for room in rooms if room.servers is not None))
    if not error or not estimate.energy_millijoules:
        return row
    u = error / estimate.energy_millijoules
    widened = replace(
        estimate,
        u_model=math.hypot(estimate.u_model, math.log1p(u)),
        low_log=math.hypot(estimate.low_log, -math.log(max(_LEAST, 1 - Z95 * u))),
        high_log=math.hypot(estimate.high_log, math.log1p(Z95 * u)),
    )
    return replace(row, estimate=widened)


def energy_of(room: RoomFigure) -> int:
    """Return the energy of a room that no machine accounts for, mJ."""
    return room.other_millijoules + (room.ups_loss_millijoules or 0) + (room.overhead_millijoules or 0)


def _place(room: RoomFigure) -> Place:
    """Return a place without entity: contracts of the site, or of all sites, apply to it."""
    return Place("", room.site, room.zone, Population.SERVER, PowerContext.OWN_SITE)


def _sum_known(values: Iterable[int | None]) -> int | None:
    """Sum the known values; None where none is known."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _plus(one: Estimate, room: Estimate) -> Estimate:
    """Add a room's estimate with independent errors: room meters have no error of a machine's model."""
    energy = one.energy_millijoules + room.energy_millijoules
    if not energy:
        return one
    methods = dict(one.methods)
    for method, more in room.methods.items():
        methods[method] = methods.get(method, 0) + more
    first, second = one.energy_millijoules / energy, room.energy_millijoules / energy
    u_model = math.hypot(one.u_model * first, room.u_model * second)
    least = most_down(energy, energy - one.extrapolated_millijoules, u_model)
    shown = (one, room) if one.energy_millijoules else (room,)
    unsure = any(part.representativeness is Representativeness.NOT_DEMONSTRATED for part in shown)
    return replace(
        one,
        representativeness=Representativeness.NOT_DEMONSTRATED if unsure else one.representativeness,
        energy_millijoules=energy,
        measured_millijoules=one.measured_millijoules + room.measured_millijoules,
        modelled_millijoules=one.modelled_millijoules + room.modelled_millijoules,
        methods=methods,
        u_sampling=one.u_sampling * first,
        u_model=u_model,
        low_log=min(least, math.hypot(one.low_log * first, room.low_log * second)),
        high_log=math.hypot(one.high_log * first, room.high_log * second),
    )


def _nothing(like: Estimate) -> Estimate:
    """Return an estimate without energy."""
    return replace(
        like,
        energy_millijoules=0,
        measured_millijoules=0,
        modelled_millijoules=0,
        methods={},
        u_model=0.0,
        low_log=0.0,
        high_log=0.0,
    )
