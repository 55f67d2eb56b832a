# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads what stands beside the avoidable energy: closing hours, single servers, and declared actions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import NamedTuple

from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.disclosure.figures import disclose_figure
from veilleuse.collector.disclosure.rule import EXEMPT
from veilleuse.collector.indicators.measured_savings import saving
from veilleuse.collector.model.actions import Action
from veilleuse.collector.model.calendars import in_force
from veilleuse.collector.model.hosts import Site
from veilleuse.collector.model.indicators import Figure, IndicatorMachine
from veilleuse.collector.model.query import GroupKey, is_within
from veilleuse.collector.months.reader import Periods
from veilleuse.collector.ports.store import DataReader
from veilleuse.collector.reports.machines import Stretch, machines_of
from veilleuse.collector.reports.readers import SobrietySources
from veilleuse.collector.reports.savings import actions_in_force, compare_actions
from veilleuse.wire.vocabulary import Population


@dataclass(frozen=True, slots=True)
class DeclaredAction:
    """An action in force, and its saving."""

    action: Action
    saving: Figure | None
    """I14; None where the reader may not see it, or no whole month has passed since."""


@dataclass(frozen=True, slots=True)
class FleetFacts:
    """Facts beside the avoidable energy of a period."""

    sites: Mapping[tuple[str, Population], frozenset[str]]
    """(entity, population) → sites of its machines."""
    closing: Mapping[tuple[str, Population], int]
    """(site, population) → minute of the day at which it closes; absent where its weekdays differ."""
    actions: tuple[DeclaredAction, ...]
    servers: tuple[IndicatorMachine, ...] | None = None
    """Physical servers with their loads; None where the reader may not see single servers."""

    def sites_of(self, entities: Collection[str], population: Population) -> frozenset[str]:
        """Return the sites of the machines of these entities and all below them; of all without any."""
        return frozenset[str]().union(
            *(
                sites
                for (entity, of), sites in self.sites.items()
                if of is population and is_within(entity, entities)
            )
        )

    def closing_of(self, sites: Iterable[str], population: Population) -> int | None:
        """Return the minute at which all these sites close; None where they differ."""
        minutes = {self.closing.get((site, population)) for site in sites}
        return minutes.pop() if len(minutes) == 1 else None


def read_facts(
    sources: SobrietySources,
    part: Slice,
    entities: Collection[str] = (),
    *,
    servers: Iterable[PlacedServer] | None = None,
    savings: Mapping[str, Figure] | None = None,
) -> FleetFacts:
    """Read the facts beside the figures of a period of whole months. Raises StoreDamaged.

    `servers`: of `read_servers`; None for readers who may not see single servers. `savings`: of
    `read_savings`; None for all but administrators.
    """
    reader = sources.base.reader
    places = [place for place in reader.server_sums().places() if is_within(place[0], entities)]
    sites = defaultdict[tuple[str, Population], set[str]](set)
    for entity, site, population in places:
        sites[entity, population].add(site)
    last = part.end - timedelta(days=1)
    closing = {
        (site.site, population): minute
        for site in reader.sites()
        for population in {of for _, name, of in places if name == site.site} - EXEMPT
        if (minute := _closing(reader, site, population, last)) is not None
    }
    known = {site for _, site, population in places if population in EXEMPT}  # that of one PC is nobody's
    known |= {
        str(one.site) for one in sources.base.inventory.devices(last, last) if is_within(one.entity, entities)
    }
    return FleetFacts(
        {key: frozenset(names) for key, names in sites.items()},
        closing,
        tuple(
            DeclaredAction(one, (savings or {}).get(one.action_id))
            for one in actions_in_force(sources.follows.actions())
            if not entities or known & set(one.sites)
        ),
        None
        if servers is None
        else tuple(one.machine for one in servers if is_within(one.org_entity, entities)),
    )


def read_savings(sources: SobrietySources, part: Slice, k: int) -> dict[str, Figure]:
    """Return I14 of each action in force that has months after it: of machines' present data."""
    actions = actions_in_force(sources.follows.actions())
    hosts = sources.base.hosts if actions else ()
    return {
        action.action_id: disclose_figure(saving(comparison), GroupKey(windows.after, windows.end), k)
        for action, windows, comparison in compare_actions(sources.base.periods, hosts, actions, part.end)
    }


def _closing(reader: DataReader, site: Site, population: Population, day: date) -> int | None:
    """Return the minute at which a site's open weekdays end; None where they differ."""
    spans = in_force(reader.calendars(site), day, population).calendar.open_spans
    ends = defaultdict[int, int](int)
    for span in spans:
        ends[span.iso_weekday] = max(ends[span.iso_weekday], span.end_minute)
    minutes = set(ends.values())
    return minutes.pop() if len(minutes) == 1 else None


class PlacedServer(NamedTuple):
    """A physical server, and the entity of its enrolment, which decides who may see it."""

    org_entity: str
    machine: IndicatorMachine


def read_servers(sources: SobrietySources, part: Slice) -> tuple[PlacedServer, ...]:
    """Return the physical servers, but for those that the inventory calls a person's machine."""
    base = sources.base
    hosts = {host.host_id: host for host in base.exempt_hosts}
    chosen = replace(sources, base=replace(base, periods=Periods(base.reader, hosts.values())))
    stretch = Stretch((part.first, part.end), part.end, part.end - timedelta(days=1))
    return tuple(
        PlacedServer(hosts[one.host_id].org_entity, one)
        for one in machines_of(chosen, stretch, tuple(hosts.values()), base.assets)
        if not one.is_virtual
    )
