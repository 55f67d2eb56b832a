# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Release months as the collector does, with the fleet of each month."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Final

from veilleuse.collector.account.observations import tally_periods
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.fleet.census import Census, DayTypes, FleetDevice
from veilleuse.collector.model.months import DayType
from veilleuse.collector.model.query import Query
from veilleuse.collector.months.site_days import SiteCalendars
from veilleuse.collector.release.counts import count_fleet, count_screens
from veilleuse.collector.release.months import ReleasedMonth
from veilleuse.collector.release.tables import PARTITION, build_month, hosts_of_month
from veilleuse.collector.reports.inputs import Sources
from veilleuse.wire.vocabulary import Population

LATER: Final = 2**45
"""Unix milliseconds after all periods."""


def release(sources: Sources, part: Slice, k: int) -> ReleasedMonth:
    """Return a month's published cells and its fleet."""
    query = Query(part.first, part.end, PARTITION, k, now_unix_milliseconds=LATER)
    hosts = hosts_of_month(sources.hosts, part, {})
    month = build_month(part, tally_periods(sources.reader, sources.periods, query, hosts, screens=True), k)
    devices = list(_devices(sources, part))
    return ReleasedMonth(month.cells, month.hidden_cells, count_fleet(devices), count_screens(devices))


def _devices(sources: Sources, part: Slice) -> Iterator[FleetDevice]:
    """Yield the devices in service, by the calendars of their sites."""
    reader = sources.reader
    calendars = SiteCalendars(reader.calendars, reader.school_periods)
    sites = {site.site: site for site in reader.sites()}

    def kind(site: str, population: Population | None, day: date) -> DayType:
        return calendars.days(sites[site], population or Population.SERVER).kind(day)

    zones = {site.site: site.time_zone for site in sites.values()}
    days = DayTypes(part.first, part.end, zones, kind, default_time_zone="UTC")
    census = Census(days, sites.values(), default_zone="FR", today=date.max)
    yield from census.devices(sources.assets, sources.hosts)
