# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The server rooms of a stretch, out of the hours of their meters."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from zoneinfo import ZoneInfo

from veilleuse.collector.account.perimeter import day_start_unix_milliseconds
from veilleuse.collector.account.yearly_rooms import RoomFigure
from veilleuse.collector.derive.rooms import room_balance
from veilleuse.collector.metering import Metering
from veilleuse.collector.reporting.sources import Sources
from veilleuse.collector.rolling.retention import months_before
from veilleuse.collector.store.sqlite.days import civil_day


def rooms(sources: Sources, first: date, end: date) -> Iterator[RoomFigure]:
    """Of each declared room whose meters were read in [first, end)."""
    declared = sources.metering.declared()
    sites = {site.site: site for site in sources.reader.sites()}
    for room in sorted({meter.room for meter in declared.meters}):
        inside = [meter for meter in declared.meters if meter.room == room]
        site = sites[inside[0].site]
        start, stop = (day_start_unix_milliseconds(day, site.time_zone) for day in (first, end))
        hours = sources.metering.hours([meter.meter for meter in inside], start, stop)
        if not any(hours.values()):
            continue
        where = ZoneInfo(site.time_zone)
        read = {hour for seen in hours.values() for hour in seen}
        balance = room_balance(room, declared, hours, {hour: civil_day(where, hour) for hour in sorted(read)})
        yield RoomFigure(
            room,
            site.site,
            site.zone,
            balance.it_millijoules,
            balance.other_room_millijoules,
            balance.ups_loss_millijoules,
            balance.overhead_millijoules,
            balance.overhead,
            balance.overhead_u_millijoules,
            _pue_ppm(declared, room, first, end),
        )


def readings_gone_before(sources: Sources, year: int, today: date, months: int) -> date | None:
    """The day up to which readings of meters in a year may be gone, kept for so many months; None while they are all there."""
    limit, first_hour = months_before(today, months), sources.metering.first_read()
    whole = first_hour is not None and civil_day(ZoneInfo("UTC"), first_hour) <= date(year, 1, 1).toordinal()
    return None if whole or limit <= date(year, 1, 1) else min(limit, date(year + 1, 1, 1))


def _pue_ppm(declared: Metering, room: str, first: date, end: date) -> int | None:
    found = {
        pue.pue_ppm
        for pue in declared.pues
        if pue.room == room and pue.valid_from < end and pue.valid_to >= first
    }
    return found.pop() if len(found) == 1 else None
