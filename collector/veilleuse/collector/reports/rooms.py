# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The server rooms of a stretch, out of the hours of their meters and of the servers that stand in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from zoneinfo import ZoneInfo

from veilleuse.collector.calendars.periods import day_start_unix_milliseconds
from veilleuse.collector.derive.rooms import Hours, ServersBalance, whole_hours, with_servers
from veilleuse.collector.fleet.rooms import RoomFigure, RoomServers
from veilleuse.collector.model.meters import MeterDeclarations
from veilleuse.collector.months.retention import months_before
from veilleuse.collector.reports.inputs import Sources
from veilleuse.collector.reports.room_servers import ServersInRooms
from veilleuse.collector.store.sqlite.civil_days import civil_day
from veilleuse.wire.units import MILLIJOULES_PER_KWH, MILLISECONDS_PER_HOUR


def rooms(
    sources: Sources, first: date, end: date, servers: ServersInRooms, today: date
) -> Iterator[RoomFigure]:
    """Of each declared room whose meters were read in [first, end); `today`: from it on nothing is missing yet."""
    declared = servers.declared
    sites = {site.site: site for site in sources.reader.sites()}
    for room in sorted({meter.room for meter in declared.meters}):
        inside = [meter for meter in declared.meters if meter.room == room]
        site = sites[inside[0].site]
        start, stop = (day_start_unix_milliseconds(day, site.time_zone) for day in (first, end))
        hours = sources.metering.hours([meter.meter for meter in inside], start, stop)
        if not any(hours.values()):
            continue
        where = ZoneInfo(site.time_zone)
        read = sorted({hour for seen in hours.values() for hour in seen})
        made, inside_it = balance_of(room, hours, {hour: civil_day(where, hour) for hour in read}, servers)
        balance = made.balance
        counted = (len(read) - (inside_it.hours_left_out if inside_it else 0)) * MILLISECONDS_PER_HOUR
        passed = day_start_unix_milliseconds(max(first, min(end, today)), site.time_zone) - start
        yield RoomFigure(
            room,
            site.site,
            site.zone,
            balance.it_millijoules - made.others_millijoules,
            made.other_millijoules,
            balance.ups_loss_millijoules,
            balance.overhead_millijoules,
            balance.overhead,
            balance.overhead_u_millijoules,
            _pue_ppm(declared, room, first, end),
            inside_it,
            counted,
            max(0, passed - counted),
        )


def balance_of(
    room: str, hours: Hours, day_of: Mapping[int, int], servers: ServersInRooms
) -> tuple[ServersBalance, RoomServers | None]:
    """A room, and the servers in it; None where none stands there. `hours`: of its meters; `day_of`: hour of the period → day number."""
    declared = servers.declared
    if not servers.stand_in(room):
        return with_servers(room, declared, hours, day_of, (), servers.host_ids, 0, 0), None
    whole = whole_hours(room, declared, hours, day_of)
    left_out = 0
    if servers.are_declared_in(room):
        left_out = len({hour for seen in hours.values() for hour in seen if hour not in whole})
        hours = {name: {at: one for at, one in seen.items() if at in whole} for name, seen in hours.items()}
    known, placed = servers.known(room, whole, {hour: day_of[hour] for hour in whole})
    made = with_servers(
        room, declared, hours, day_of, whole, servers.host_ids, known.known_millijoules, placed
    )
    return made, replace(known, metered_millijoules=made.metered_millijoules, hours_left_out=left_out)


def room_warnings(room: str, first: date, end: date, servers: RoomServers) -> Iterator[dict[str, str]]:
    """What is wrong or doubtful of a room's figures, language by language."""
    known, metered = (
        f"{energy / MILLIJOULES_PER_KWH:.1f}"
        for energy in (servers.known_millijoules, servers.metered_millijoules)
    )
    french = f"salle {room}, {first} à {end} : ses serveurs comptent {_comma(known)} kWh et ses compteurs {_comma(metered)} kWh,"
    english = f"room {room}, {first} to {end}: its servers count {known} kWh and its meters {metered} kWh,"
    if servers.is_wrong:
        yield {
            "fr": f"ERREUR : {french} plus que leur intervalle à 95 % ne permet : vérifiez ses compteurs, ses serveurs et ce qui en est "
            "déclaré (veilleuse meters show).",
            "en": f"ERROR: {english} more than their 95 % interval allows: check its meters, its servers and what is declared of them "
            "(veilleuse meters show).",
        }
    elif servers.excess_millijoules:
        yield {
            "fr": f"Attention : {french} dans leur intervalle à 95 % : rien ne reste pour other_room, et kwh_it dépasse top_down_kwh.",
            "en": f"Warning: {english} within their 95 % interval: nothing is left for other_room, and kwh_it is above top_down_kwh.",
        }
    if servers.hours_left_out:
        yield {
            "fr": f"Attention : salle {room}, {first} à {end} : {servers.hours_left_out} h sans l’un de ses compteurs (ou sans son PUE) ne sont dans aucun "
            "de ses chiffres.",
            "en": f"Warning: room {room}, {first} to {end}: {servers.hours_left_out} h without one of its meters (or its PUE) are in none of its figures.",
        }


def in_no_room(servers: Sequence[str]) -> dict[str, str]:
    """The warning that these servers may count twice."""
    names = ", ".join(servers)
    return {
        "fr": "Attention : serveurs d’un site à salle mesurée qui ne sont déclarés dans aucune salle ; leur énergie peut compter deux fois, "
        f"dans leur classe et dans other_room : {names}. Déclarez-les (veilleuse meters import).",
        "en": "Warning: servers of a site with a metered room that are declared in no room; their energy may count twice, in their class "
        f"and in other_room: {names}. Declare them (veilleuse meters import).",
    }


def _comma(number: str) -> str:
    return number.replace(".", ",")


def readings_gone_before(sources: Sources, year: int, today: date, months: int) -> date | None:
    """The day of a year from which readings of meters are there, kept for so many months: whether there were earlier ones nobody knows.
    None while none of the year can have gone."""
    limit, first_hour = months_before(today, months), sources.metering.first_read()
    first = limit if first_hour is None else date.fromordinal(civil_day(ZoneInfo("UTC"), first_hour))
    whole = first <= date(year, 1, 1) or limit <= date(year, 1, 1)
    return None if whole else min(first, limit, date(year + 1, 1, 1))


def _pue_ppm(declared: MeterDeclarations, room: str, first: date, end: date) -> int | None:
    found = {
        pue.pue_ppm
        for pue in declared.pues
        if pue.room == room and pue.valid_from < end and pue.valid_to >= first
    }
    return found.pop() if len(found) == 1 else None
