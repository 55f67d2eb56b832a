# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Release the months of data in memory as the collector does, with the fleet of each month."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Final

from tests.support.stored_year import StoredYear
from veilleuse.collector.account.group_sums import Tally
from veilleuse.collector.account.observed_days import ObservedQuery
from veilleuse.collector.account.observed_months import tally_periods
from veilleuse.collector.account.release_tables import build_release_tables
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.fleet.census import Census, DayTypes
from veilleuse.collector.model.figures import GroupKey
from veilleuse.collector.model.hosts import Host, Site
from veilleuse.collector.model.inventory import Asset
from veilleuse.collector.model.months import DayType
from veilleuse.collector.months.site_days import SiteCalendars
from veilleuse.collector.release.counts import count_fleet
from veilleuse.collector.release.fleet import FleetCount, FleetKey
from veilleuse.collector.release.months import ReleasedMonth
from veilleuse.collector.web.api.release import PARTITION, hosts_under_rule
from veilleuse.wire.vocabulary import Population

LATER: Final = 2**45
"""Unix milliseconds after all periods."""


def release(stored: StoredYear, part: Slice, k: int) -> ReleasedMonth:
    """Return a month's published cells and its fleet."""
    tables = build_release_tables(tallies(stored, part, k), k)
    return ReleasedMonth(tables.cells, tables.hidden_cells, fleet_of(stored, part))


def tallies(stored: StoredYear, part: Slice, k: int) -> dict[GroupKey, Tally]:
    """Return the sums from which a month is released."""
    query = ObservedQuery(part.first, part.end, PARTITION, k, LATER, screens=True)
    return tally_periods(stored, stored, query, hosts_under_rule(stored.hosts()))  # type: ignore[arg-type]


def fleet_of(stored: StoredYear, part: Slice) -> dict[FleetKey, FleetCount]:
    """Return the fleet of a month by the calendars of its sites."""
    calendars = SiteCalendars(stored.calendars, stored.school_periods)
    sites = {site.site: site for site in stored.sites()}

    def kind(site: str, population: Population | None, day: date) -> DayType:
        return calendars.days(sites[site], population or Population.SERVER).kind(day)

    zones = {site.site: site.time_zone for site in stored.sites()}
    days = DayTypes(part.first, part.end, zones, kind, default_time_zone="UTC")
    return count(days, sites, stored.assets(), stored.hosts())


def count(
    days: DayTypes, sites: Mapping[str, Site], assets: Iterable[Asset], hosts: Iterable[Host]
) -> dict[FleetKey, FleetCount]:
    """Return the fleet of a period that is over."""
    census = Census(days, sites.values(), default_zone="FR", today=date.max)
    return count_fleet(census.devices(assets, hosts))
