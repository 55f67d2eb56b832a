# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What nobody declared of the inventory's devices, and what is taken instead: a report says of how many."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from veilleuse.collector.calendars.periods import day_start_unix_milliseconds
from veilleuse.collector.documents.document import Value
from veilleuse.collector.model.inventory import Asset
from veilleuse.collector.reports.fleet_year import YearQuestion, servers_in_rooms
from veilleuse.collector.reports.inputs import Sources
from veilleuse.collector.store.sqlite.civil_days import civil_day
from veilleuse.wire.vocabulary import DeviceClass

IN_NO_ROOM: Final = "servers_in_no_room"
_OF_DEVICES: Final = ("devices_without_day", "devices_without_site", "default_zone")
UNDECLARED: Final = (*_OF_DEVICES, IN_NO_ROOM)
"""Of a report's head."""


def undeclared(sources: Sources, first: date, end: date) -> dict[str, Value | list[str] | None]:
    """Devices in service in [first, end) that count from its first day on, and those that take the default zone; None without an
    inventory. And the servers that nobody placed in a room of their site, where there are any."""
    servers = list(servers_in_no_room(sources, first, end))
    return {**_devices(sources, first, end), **({IN_NO_ROOM: servers} if servers else {})}


def servers_in_no_room(sources: Sources, first: date, end: date) -> Iterator[str]:
    """Servers of sites with a metered room, which stand in none on a day on which its meters were read: they may count twice."""
    if not sources.metering.declared().meters:
        return
    question = YearQuestion(first, end, (), 1, end)
    servers = servers_in_rooms(sources, question)
    zones = {site.site: site.time_zone for site in sources.reader.sites()}
    read: defaultdict[str, set[int]] = defaultdict(set)
    for meter in servers.declared.meters:
        if servers.may_hold_servers(meter.room):
            zone = zones[meter.site]
            start, stop = (day_start_unix_milliseconds(day, zone) for day in (first, end))
            hours = sources.metering.hours([meter.meter], start, stop)[meter.meter]
            read[meter.site].update({civil_day(ZoneInfo(zone), hour) for hour in hours})
    yield from servers.in_no_room(read)


def servers_in_no_room_on(sources: Sources, day: date) -> list[str]:
    """As `servers_in_no_room`, whether the meters were read on that day or not."""
    end = day + timedelta(days=1)
    servers = servers_in_rooms(sources, YearQuestion(day, end, (), 1, end))
    sites = {meter.site for meter in servers.declared.meters if servers.may_hold_servers(meter.room)}
    return list(servers.in_no_room({site: (day.toordinal(),) for site in sites}))


def _devices(sources: Sources, first: date, end: date) -> dict[str, Value | None]:
    assets = [asset for asset in sources.assets if _in_service(asset, first, end)]
    if not assets:
        return dict.fromkeys(_OF_DEVICES)
    sites = {site.site for site in sources.reader.sites()}
    of_hosts = {host.host_id: host.site for host in sources.hosts}
    last = end - timedelta(days=1)

    def is_placed(asset: Asset) -> bool:
        told = (asset.placed(last).site, *(of_hosts.get(host_id, "") for host_id in reversed(asset.host_ids)))
        return next((site for site in told if site), "") in sites

    without_site = sum(not is_placed(asset) for asset in assets)
    return {
        "devices_without_day": sum(asset.in_service_on is None for asset in assets),
        "devices_without_site": without_site,
        "default_zone": sources.reporting.zone if without_site else None,
    }


def _in_service(asset: Asset, first: date, end: date) -> bool:
    begun, gone = asset.in_service_on, asset.out_of_service_on
    return (
        asset.device_class != DeviceClass.VIRTUAL_MACHINE.value
        and (begun is None or begun < end)
        and (gone is None or gone > first)
    )
