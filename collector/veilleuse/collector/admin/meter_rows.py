# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks the rows of a file of meters: returns declarations, or why a row is refused (pure)."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from heapq import heappop, heappush
from itertools import groupby
from typing import Final, TypeVar

from veilleuse.collector.errors import AdminError
from veilleuse.collector.ipc import one_host
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.inventory import AssetRecord
from veilleuse.collector.model.meters import (
    EVERY_OTHER,
    FOR_EVER,
    WHOLE_PPM,
    DeclaredMeter,
    MeterBoundary,
    MeterDeclarations,
    MeterShare,
    Pue,
    RoomServer,
    SharePart,
)
from veilleuse.collector.model.query import DATED_YEARS
from veilleuse.collector.model.records import HostId
from veilleuse.wire.limits import FACT_PATTERN
from veilleuse.wire.values import parse_day
from veilleuse.wire.vocabulary import DeviceClass, Population

METER_KEYS: Final = ("meter", "site", "room", "boundary", "parent", "efficiency")
METER_PATTERN: Final = re.compile(r"[A-Za-z0-9 ._-]{1,58}")
"""Characters of a subject `meter:<name>`: veilleuse.collector.validate.cells."""
MAXIMUM_PUE: Final = 10
_AFTER_HEXADECIMAL: Final = "g"
_FIRST_DAY: Final = date(DATED_YEARS.first, 1, 1)
_LAST_DAY: Final = date(DATED_YEARS.last, 12, 31)
_NAMED: Final = 10
"""Most sites that a refusal names."""
PUE_POINTS: Final = (MeterBoundary.UPS_INPUT, MeterBoundary.UPS_OUTPUT, MeterBoundary.OUTLET)
_PARENTS: Final = {
    MeterBoundary.FACILITY: (),
    MeterBoundary.ROOM: (MeterBoundary.FACILITY,),
    MeterBoundary.OVERHEAD: (MeterBoundary.FACILITY,),
    MeterBoundary.UPS_INPUT: (MeterBoundary.FACILITY, MeterBoundary.ROOM),
    MeterBoundary.UPS_OUTPUT: (MeterBoundary.FACILITY, MeterBoundary.ROOM, MeterBoundary.UPS_INPUT),
    MeterBoundary.OUTLET: tuple(one for one in MeterBoundary if one is not MeterBoundary.OVERHEAD),
}
"""Boundary of a meter → boundaries that its parent may have."""

E = TypeVar("E", bound=StrEnum)


class _RowRefusedError(Exception):
    """A row is refused; its text says why."""


@dataclass(frozen=True, slots=True)
class MeterDeclaration:
    """One declaration as written in the file, without empty values."""

    kind: str
    """One of meter, share, pue, server."""
    where: str
    """Place in the file, for people: `line 4`, `meter 2, share 1`."""
    values: Mapping[str, str]


@dataclass(slots=True)
class MeterFileResult:
    """Declarations of a file, or why rows are refused."""

    meters: dict[str, DeclaredMeter] = field(default_factory=dict)
    shares: list[MeterShare] = field(default_factory=list)
    pues: list[Pue] = field(default_factory=list)
    servers: list[RoomServer] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Pairs (where, why)."""


def check_rows(
    rows: Sequence[MeterDeclaration],
    known: MeterDeclarations,
    hosts: Sequence[Host],
    sites: frozenset[str],
    assets: Sequence[AssetRecord] = (),
) -> MeterFileResult:
    """Check all rows; the result says why each refused row is refused. `assets`: assets of the inventory."""
    checked = MeterFileResult()
    written: dict[str, tuple[str, dict[str, str]]] = {}
    for row in rows:
        if row.kind == "meter":
            _gather(row, written, checked)
    for name, (where, values) in written.items():
        _try(checked, where, lambda v=values, n=name: checked.meters.__setitem__(n, _meter(v, sites)))
    _check_tree(checked, written, {meter.meter: meter for meter in known.meters})
    places: list[tuple[str, MeterShare]] = []
    pues: list[tuple[str, Pue]] = []
    find = _MachineFinder(hosts, assets)
    for row in rows:
        if row.kind == "share":
            _try(checked, row.where, lambda r=row: places.append((r.where, _share(r.values, find, checked))))
        elif row.kind == "pue":
            _try(checked, row.where, lambda r=row: pues.append((r.where, _pue(r.values))))
    servers: list[tuple[str, RoomServer]] = []
    for row in rows:
        if row.kind == "server":
            _try(
                checked,
                row.where,
                lambda r=row: servers.append((r.where, _server(r.values, find, sites))),
            )
    _check_sums(checked, places)
    _check_pues(checked, pues)
    _check_servers(checked, servers, known)
    checked.shares = [share for _, share in places]
    checked.pues = [pue for _, pue in pues]
    checked.servers = [server for _, server in servers]
    return checked


def _try(checked: MeterFileResult, where: str, work: object) -> None:
    assert callable(work)
    try:
        work()
    except (_RowRefusedError, AdminError) as error:
        checked.refused.append((where, str(error)))


def _gather(
    row: MeterDeclaration, written: dict[str, tuple[str, dict[str, str]]], checked: MeterFileResult
) -> None:
    """Collect the columns of a meter. It may be on many lines: the first one counts, others may repeat it."""
    name = row.values.get("meter", "")
    if not METER_PATTERN.fullmatch(name):
        checked.refused.append(
            (
                row.where,
                f"'{name}' is not a name of a meter: letters without accents, digits, space . _ - up to 58",
            )
        )
        return
    where, values = written.setdefault(name, (row.where, {}))
    for key in METER_KEYS:
        if key in row.values and values.setdefault(key, row.values[key]) != row.values[key]:
            checked.refused.append((row.where, f"'{key}' of {name} is '{values[key]}' on {where}"))


def _site(values: Mapping[str, str], sites: frozenset[str]) -> str:
    site = values.get("site", "")
    if site not in sites:
        known = ", ".join(sorted(sites)[:_NAMED]) or "none"
        raise _RowRefusedError(
            f"no site '{site}': known: {known}; 'veilleuse calendar import --create' makes one"
        )
    return site


def _room(values: Mapping[str, str]) -> str:
    room = values.get("room", "")
    if not FACT_PATTERN.fullmatch(room):
        raise _RowRefusedError(
            f"'{room}' is not a name of a room: letters without accents, digits, space . _ - up to 64"
        )
    return room


def _meter(values: Mapping[str, str], sites: frozenset[str]) -> DeclaredMeter:
    site, room = _site(values, sites), _room(values)
    boundary = _word(MeterBoundary, values, "boundary", MeterBoundary.OUTLET)
    efficiency = None
    if "efficiency" in values:
        if boundary not in (MeterBoundary.UPS_INPUT, MeterBoundary.UPS_OUTPUT):
            raise _RowRefusedError("'efficiency' is only for a UPS: leave it out")
        efficiency = _ppm(values["efficiency"], "efficiency", 0, 1)
    return DeclaredMeter(values["meter"], site, room, boundary, values.get("parent"), efficiency)


def _check_tree(
    checked: MeterFileResult, written: Mapping[str, tuple[str, object]], known: Mapping[str, DeclaredMeter]
) -> None:
    """Check that each parent exists, in the same room, at a boundary that can feed the meter.

    No meter may be below itself, and no room may be at two sites.
    """
    all_meters = {**known, **checked.meters}
    places: dict[str, str] = {}
    for name, meter in all_meters.items():
        where = written[name][0] if name in written else f"meter {name}, declared before"
        parent = all_meters.get(meter.parent or "")
        place = places.setdefault(meter.room, meter.site)
        why = None
        if place != meter.site:
            why = f"room {meter.room} is at {place} and at {meter.site}: give each site its own room names"
        elif meter.parent is not None and parent is None:
            why = f"there is no meter '{meter.parent}', which is its parent"
        elif parent is not None and parent.room != meter.room:
            why = f"{parent.meter} is in room {parent.room}, not {meter.room}"
        elif parent is not None and parent.boundary not in _PARENTS[meter.boundary]:
            why = f"a meter at {meter.boundary} cannot be below one at {parent.boundary}"
        elif _hangs_below_itself(meter, all_meters):
            why = "the meter is below itself: correct its parents"
        if why:
            checked.refused.append((where, why))


def _hangs_below_itself(meter: DeclaredMeter, all_meters: Mapping[str, DeclaredMeter]) -> bool:
    seen, above = {meter.meter}, meter.parent
    while above is not None:
        if above in seen:
            return True
        seen.add(above)
        above = all_meters[above].parent if above in all_meters else None
    return False


class _MachineFinder:
    """Finds machines by their agent id, in sorted order: a file may name ten thousand."""

    def __init__(self, hosts: Sequence[Host], assets: Sequence[AssetRecord] = ()) -> None:
        self._assets = {one.asset_id: one for one in assets if one.device_class == DeviceClass.SERVER.value}
        self._sites: defaultdict[HostId, set[str]] = defaultdict(set)
        for asset in assets:
            for host_id in (*asset.earlier_host_ids, *([] if asset.host_id is None else [asset.host_id])):
                self._sites[host_id] |= _sites(asset)
        self._hosts = sorted(hosts, key=lambda host: host.agent_id)
        self._ids = [host.agent_id.hex() for host in self._hosts]

    def beginning(self, text: str) -> Host:
        """Return the host whose agent id begins with `text`.

        Raises AdminError unless there is exactly one.
        """
        low, high = (bisect_left(self._ids, text.lower() + end) for end in ("", _AFTER_HEXADECIMAL))
        return one_host(self._hosts[low:high], text)

    def asset(self, text: str) -> AssetRecord:
        """Return the server of the inventory with the number of `#number`."""
        number = text[1:]
        found = self._assets.get(int(number)) if number.isascii() and number.isdigit() else None
        if found is None:
            raise _RowRefusedError(
                f"no server of the inventory has the number '{text}': 'veilleuse inventory show' shows the "
                "number of an asset"
            )
        return found

    def sites(self, host: Host) -> set[str]:
        """Return the sites of a host: of its enrolment, and of its past and present assets."""
        return {host.site} | self._sites[host.host_id]


def _sites(asset: AssetRecord) -> set[str]:
    """Return the past and present sites of an asset; empty when the inventory has none."""
    return {placement.site for placement in asset.placements if placement.site}


def _share(values: Mapping[str, str], find: _MachineFinder, checked: MeterFileResult) -> MeterShare:
    host = find.beginning(values.get("host", ""))
    if host.population is Population.WORKSTATION:
        raise _RowRefusedError(
            "a workstation sends days and weeks, over which a meter cannot be shared: give it its own plug, "
            "subject machine"
        )
    if host.facts.device_class is DeviceClass.VIRTUAL_MACHINE:
        raise _RowRefusedError("a virtual machine has no outlet: its host has the energy")
    meter = checked.meters.get(values.get("meter", ""))
    if meter is not None and meter.boundary is MeterBoundary.OVERHEAD:
        raise _RowRefusedError(
            f"{meter.meter} measures only cooling and lighting: no machine has a share of it"
        )
    first, last = _span(values)
    part = _word(SharePart, values, "part", SharePart.MACHINE)
    share = _ppm(values.get("share", ""), "share", 0, 1)
    return MeterShare(values.get("meter", ""), host.host_id, part, share, first, last)


def _server(values: Mapping[str, str], find: _MachineFinder, sites: frozenset[str]) -> RoomServer:
    site, room, text = _site(values, sites), _room(values), values.get("host", "")
    first, last = _span(values)
    if text == EVERY_OTHER:
        return RoomServer(room, site, None, None, first, last)
    if text.startswith("#"):
        asset = find.asset(text)
        _require_site(text, _sites(asset), site, room)
        return RoomServer(room, site, None, asset.asset_id, first, last)
    host = find.beginning(text)
    if host.population is not Population.SERVER:
        raise _RowRefusedError(
            "only a server can be in a room without a share: for another machine, declare its share of a "
            "meter"
        )
    if host.facts.device_class is DeviceClass.VIRTUAL_MACHINE:
        raise _RowRefusedError("a virtual machine is in no room: its host has the energy")
    _require_site(text, find.sites(host), site, room)
    return RoomServer(room, site, host.host_id, None, first, last)


def _require_site(server: str, own: Collection[str], site: str, room: str) -> None:
    """Refuse a server that reports have at another site: it would be in no figure of the room."""
    if own and site not in own:
        raise _RowRefusedError(
            f"server '{server}' is at {', '.join(sorted(own))}, and room {room} at {site}: name a room of "
            "its site, or correct its site in the inventory and import that first"
        )


def _pue(values: Mapping[str, str]) -> Pue:
    room = _room(values)
    first, last = _span(values)
    point = _word(MeterBoundary, values, "point", MeterBoundary.UPS_OUTPUT)
    if point not in PUE_POINTS:
        raise _RowRefusedError(f"'point' is one of {', '.join(PUE_POINTS)}")
    pue = _ppm(values.get("pue", ""), "pue", 1, MAXIMUM_PUE)
    return Pue(room, first, last, pue, point)


def _check_sums(checked: MeterFileResult, places: Sequence[tuple[str, MeterShare]]) -> None:
    """Check that on each day shares of a meter sum to at most 1, with one share per machine and part."""
    of_meter: defaultdict[str, list[tuple[str, MeterShare]]] = defaultdict(list)
    for where, share in places:
        of_meter[share.meter].append((where, share))
    for meter, shares in of_meter.items():
        shares.sort(key=lambda one: one[1].valid_from)
        held = _SharesOfDay()
        for day, beginning in groupby(shares, key=lambda one: one[1].valid_from):
            rows = list(beginning)
            held.end_before(day)
            for _, share in rows:
                held.begin(share)
            for where, share in rows:  # a sum can only grow on a day when a share begins
                if held.sum_ppm > WHOLE_PPM:
                    checked.refused.append((where, f"the shares of {meter} are more than 1 on {day}"))
                if held.times[share.host_id, share.part] > 1:
                    checked.refused.append((where, f"the same machine has two shares of {meter} on {day}"))


class _SharesOfDay:
    """Shares of one meter that are valid on a day.

    Days are visited in order, so that each share is handled once.
    """

    def __init__(self) -> None:
        self.sum_ppm = 0
        self.times: Counter[tuple[HostId, SharePart]] = Counter()
        self._ends: list[tuple[date, int, HostId, SharePart]] = []

    def begin(self, share: MeterShare) -> None:
        self.sum_ppm += share.share_ppm
        self.times[share.host_id, share.part] += 1
        heappush(self._ends, (share.valid_to, share.share_ppm, share.host_id, share.part))

    def end_before(self, day: date) -> None:
        while self._ends and self._ends[0][0] < day:
            _, share_ppm, host_id, part = heappop(self._ends)
            self.sum_ppm -= share_ppm
            self.times[host_id, part] -= 1


def _check_pues(checked: MeterFileResult, places: Sequence[tuple[str, Pue]]) -> None:
    """Check that a room has one PUE on each day."""
    last: dict[str, date] = {}
    for where, pue in sorted(places, key=lambda one: one[1].valid_from):
        if pue.room in last and pue.valid_from <= last[pue.room]:
            checked.refused.append((where, f"{pue.room} has two PUEs on {pue.valid_from}"))
        last[pue.room] = max(last.get(pue.room, pue.valid_to), pue.valid_to)


def _check_servers(
    checked: MeterFileResult, places: Sequence[tuple[str, RoomServer]], known: MeterDeclarations
) -> None:
    """Check that a server is in one room on each day, a site has one default room, a room is at one site."""
    rooms = {one.room for _, one in places}
    sites = {meter.room: meter.site for meter in (*known.meters, *checked.meters.values())}
    before = [("", one) for one in known.servers if one.room not in rooms]
    last: dict[object, RoomServer] = {}
    for where, one in sorted([*before, *places], key=lambda place: place[1].valid_from):
        site = sites.setdefault(one.room, one.site)
        if site != one.site:
            checked.refused.append((where, f"room {one.room} is at {site}, not {one.site}"))
        key = one.site if one.is_default else (one.host_id, one.asset_id)
        other = last.get(key)
        if other is not None and one.valid_from <= other.valid_to:
            who = f"every other server of {one.site}" if one.is_default else "the same server"
            checked.refused.append(
                (
                    where or f"room {one.room}, declared before",
                    f"{who} is in {other.room} and in {one.room} on {one.valid_from}",
                )
            )
        if other is None or one.valid_to > other.valid_to:
            last[key] = one


def _span(values: Mapping[str, str]) -> tuple[date, date]:
    first, last = _date(values, "from", None), _date(values, "to", FOR_EVER)
    if last < first:
        raise _RowRefusedError(f"'to' {last} is before 'from' {first}")
    return first, last


def _date(values: Mapping[str, str], key: str, default: date | None) -> date:
    text = values.get(key)
    if text is None:
        if default is None:
            raise _RowRefusedError(f"'{key}' is missing: write the first valid day as YYYY-MM-DD")
        return default
    try:
        found = parse_day(text)
    except ValueError as error:
        raise _RowRefusedError(f"'{key}' {text} is not a date: write YYYY-MM-DD") from error
    if not _FIRST_DAY <= found <= _LAST_DAY:
        raise _RowRefusedError(f"'{key}' {text} is not between {_FIRST_DAY} and {_LAST_DAY}")
    return found


def _ppm(text: str, key: str, low: int, high: int) -> int:
    try:
        value = Decimal(text.replace(",", "."))
    except InvalidOperation as error:
        raise _RowRefusedError(f"'{key}' {text or 'is missing'}: write a number such as 0.25") from error
    ppm = value * WHOLE_PPM if value.is_finite() and low <= value <= high else Decimal(0)
    if ppm != int(ppm) or ppm <= 0:
        raise _RowRefusedError(f"'{key}' {text} must be {low} to {high}, with at most six decimals")
    return int(ppm)


def _word(kind: type[E], values: Mapping[str, str], key: str, default: E) -> E:
    text = values.get(key)
    if text is None:
        return default
    try:
        return kind(text)
    except ValueError as error:
        raise _RowRefusedError(f"'{key}' {text}: use {', '.join(kind)}") from error
