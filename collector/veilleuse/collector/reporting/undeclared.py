# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What nobody declared of the inventory's devices, and what is taken instead: a report says of how many."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

from veilleuse.collector.inventoried import Asset
from veilleuse.collector.report import Value
from veilleuse.collector.reporting.sources import Sources
from veilleuse.wire.vocabulary import DeviceClass

UNDECLARED: Final = ("devices_without_day", "devices_without_site", "default_zone")
"""Of a report's head."""


def undeclared(sources: Sources, first: date, end: date) -> dict[str, Value | None]:
    """Devices in service in [first, end) that count from its first day on, and those that take the default zone; None without an inventory."""
    assets = [asset for asset in sources.assets if _in_service(asset, first, end)]
    if not assets:
        return dict.fromkeys(UNDECLARED)
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
