# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Renders a Snapshot as metric samples. Sums by label only; no I/O, no formula."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Final

from veilleuse.collector.account.emissions import grams_from_millijoules
from veilleuse.collector.calendars.periods import day_start_unix_milliseconds
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.prometheus import Exposition
from veilleuse.collector.model.records import AgentId
from veilleuse.collector.model.sums import ServerGroup
from veilleuse.collector.web.metrics.fleet import Day, FleetView
from veilleuse.collector.web.metrics.fleet_emissions import add_fleet_emissions
from veilleuse.collector.web.metrics.grid import add_grid
from veilleuse.collector.web.metrics.health import add_agents, add_collector
from veilleuse.collector.web.metrics.indicators_daily import add_parts
from veilleuse.collector.web.metrics.indicators_monthly import add_machine_figures
from veilleuse.collector.web.metrics.own_use import add_own_use
from veilleuse.collector.web.metrics.released_month import (
    MONTH,
    MONTH_BEFORE,
    energy_of,
    times_of,
)
from veilleuse.collector.web.metrics.servers import is_virtual
from veilleuse.collector.web.metrics.snapshot import Snapshot, SnapshotCache
from veilleuse.wire.limits import AGENT_ID_DIGITS
from veilleuse.wire.units import GRAMS_PER_KILOGRAM, MILLISECONDS_PER_SECOND, joules_from_millijoules
from veilleuse.wire.vocabulary import Population

OFFICIAL: Final = "official"
FACTOR_DUE_DAY: Final = (7, 1)
"""Month and day by which the factor of the year before is published: ADEME's 2025 came on 18 May 2026."""
Grams = Fraction


def fleet_exposition(snapshot: Snapshot, version: str, k: int) -> Exposition:
    """Return everything on /metrics except what the web process adds about itself."""
    out = judged_exposition(snapshot, k)
    out.add(c.BUILD_INFO, (version, _word(snapshot.fleet.kind.simulated)), 1)
    _ledger(out, snapshot.fleet)
    _power(out, snapshot.fleet)
    _states(out, snapshot.fleet)
    _server_day(out, snapshot)
    _month(out, snapshot)
    add_fleet_emissions(out, snapshot.fleet_emissions)
    _indicators(out, snapshot)
    add_own_use(out, snapshot, k)
    return out


def judged_exposition(snapshot: Snapshot, k: int) -> Exposition:
    """Return the samples that conditions are judged by: few, also with many servers."""
    out = Exposition()
    _judged_month(out, snapshot)
    add_machine_figures(out, snapshot.machine_figures)
    _factors(out, snapshot)
    add_grid(out, snapshot.grid)
    add_agents(out, snapshot)
    add_collector(out, snapshot, k)
    return out


def hosts_exposition(snapshots: SnapshotCache) -> Exposition:
    """Return /metrics/hosts: servers only, by the first digits of their agent ids, never by name."""
    out, view = Exposition(), snapshots.take_snapshot().fleet
    for agent_id, group, watts in snapshots.fleet.read_powers(view):
        out.add(c.HOST_POWER, (short_id(agent_id), *group), watts)
    for agent_id, group, method, energy in snapshots.fleet.read_day_energies(view):
        labels = (short_id(agent_id), *group, method.value)
        out.add(c.HOST_DAY_ENERGY, labels, joules_from_millijoules(energy))
    return out


def short_id(agent_id: AgentId) -> str:
    """Return the short agent id, which `veilleuse hosts` accepts."""
    return agent_id.hex()[:AGENT_ID_DIGITS]


def _ledger(out: Exposition, fleet: FleetView) -> None:
    """Add the ledger of servers only.

    A counter of a group that is merged and later separated would decrease. Its steps would be single
    machines.
    """
    energy: defaultdict[tuple[str, ...], int] = defaultdict(int)
    grams: defaultdict[tuple[str, ...], Grams] = defaultdict(Fraction)
    labels: tuple[str, ...]
    for entry in fleet.ledger:
        if entry.population is not Population.SERVER:
            continue
        labels = (
            entry.org_entity,
            entry.site,
            entry.population.value,
            entry.device_class.value,
            entry.method.value,
            entry.state.value,
        )
        energy[labels] += entry.energy_millijoules
        factor = Decimal(entry.factor_kgco2e_per_kwh)
        grams[labels] += grams_from_millijoules(entry.energy_millijoules, factor)
    for labels, amount in sorted(energy.items()):
        out.add(c.ENERGY, labels, joules_from_millijoules(amount))
    for labels, emitted in sorted(grams.items()):
        out.add(c.EMISSIONS, (*labels, OFFICIAL), float(emitted))


def _power(out: Exposition, fleet: FleetView) -> None:
    for group, power in sorted(fleet.power.items()):
        out.add(c.POWER, group, power.watts)
        out.add(c.POWER_HOSTS, group, power.servers)


def _states(out: Exposition, fleet: FleetView) -> None:
    for (entity, site, state), milliseconds in sorted(fleet.state_totals.items()):
        labels = (entity, site, Population.SERVER.value, state.value)
        out.add(c.STATE_SECONDS, labels, milliseconds / MILLISECONDS_PER_SECOND)


def _server_day(out: Exposition, snapshot: Snapshot) -> None:
    day = snapshot.fleet.yesterday
    for (group, method, state), (energy, grams) in energies(day, snapshot).items():
        labels = (*group, method, state)
        out.add(c.DAY_ENERGY, labels, joules_from_millijoules(energy))
        if grams is not None:
            out.add(c.DAY_EMISSIONS, (*labels, OFFICIAL), float(grams))
    for (group, state_), milliseconds in sorted(day.states.items()):
        out.add(c.DAY_STATE, (*group, state_.value), milliseconds / MILLISECONDS_PER_SECOND)
    for group, servers in sorted(snapshot.fleet.seen_yesterday.items()):
        out.add(c.DAY_HOSTS, group, servers)


def energies(day: Day, snapshot: Snapshot) -> dict[tuple[ServerGroup, str, str], tuple[int, Grams | None]]:
    """Return (group, method, state) → (mJ, g at the factor of the day's year).

    Grams are None where the site's zone has no factor.
    """
    found: dict[tuple[ServerGroup, str, str], tuple[int, Grams | None]] = {}
    for (group, method, state), sums in sorted(day.energies.items()):
        energy, chosen = sums.energy_millijoules, snapshot.factor_of_site(group.site, day.day.year)
        factor = chosen.factor.total_kgco2e_per_kwh if chosen else None
        grams = None if factor is None else grams_from_millijoules(energy, factor)
        found[group, method.value, state.value] = (energy, grams)
    return found


def energy_today(snapshot: Snapshot, *, virtual: bool) -> tuple[int | None, Grams | None]:
    """Return (mJ, g) of physical or virtual servers since midnight.

    Both are None when nothing is known. Grams are None when one site's zone has no factor.
    """
    found = energies(snapshot.fleet.today, snapshot)
    mine = [one for (group, _, _), one in found.items() if is_virtual(group.device_class) is virtual]
    if not mine:
        return None, None
    grams = [emitted for _, emitted in mine if emitted is not None]
    whole = sum(grams, Fraction(0)) if len(grams) == len(mine) else None
    return sum(energy for energy, _ in mine), whole


def _month(out: Exposition, snapshot: Snapshot) -> None:
    """Add the rows of the released month of PCs, and the number of its families that are not shown whole."""
    month = snapshot.month
    if month is None:
        return
    start = day_start_unix_milliseconds(month.first, snapshot.fleet.time_zone) / MILLISECONDS_PER_SECOND
    shown = {family.population for family in month.families}
    for population in filter(shown.__contains__, sorted(Population)):
        out.add(c.MONTH_START, (population.value,), start)
    for row, sums in month.cells.items():
        out.add(c.MONTH_HOSTS, row, sums.hosts)
        energy = energy_of(sums)
        if energy is not None:
            out.add(c.MONTH_ENERGY, row, joules_from_millijoules(energy))
        grams = grams_of_month(snapshot, row.zone, energy)
        if grams is not None:
            out.add(c.MONTH_EMISSIONS, (*row, OFFICIAL), float(grams))
    for row, sums in month.uses.items():
        for state, milliseconds in times_of(sums).items():
            out.add(c.MONTH_STATE, (*row, state), milliseconds / MILLISECONDS_PER_SECOND)
    for outcome, numbers in (("merged", month.merged), ("withheld", month.withheld)):
        for population in filter({*shown, *month.withheld}.__contains__, sorted(Population)):
            out.add(c.SUPPRESSED, (population.value, MONTH, outcome), numbers.get(population, 0))


def _judged_month(out: Exposition, snapshot: Snapshot) -> None:
    """Add what conditions say about the released month and the next one."""
    facts = snapshot.month_facts
    if facts.due_on is not None:
        due = day_start_unix_milliseconds(facts.due_on, snapshot.fleet.time_zone)
        out.add(c.MONTH_DUE, (), due / MILLISECONDS_PER_SECOND)
    for held in facts.held:
        out.add(c.MONTH_HELD, (f"{held:%Y-%m}",), 1)
    if snapshot.month is not None or snapshot.month_is_of_older_rule:
        out.add(c.MONTH_OLDER_RULE, (), int(snapshot.month_is_of_older_rule))
    for one, (before, last) in facts.coverages.items():
        machines = "virtual" if one.virtual else "physical"
        out.add(c.COVERAGE, (one.population.value, machines, MONTH_BEFORE, one.kind), before)
        out.add(c.COVERAGE_CHANGE, (one.population.value, machines, one.kind), last / before - 1)
    for where, ratio in (snapshot.month.outside_opening if snapshot.month else {}).items():
        out.add(c.MONTH_OUTSIDE_OPENING, where, ratio)


def grams_of_month(snapshot: Snapshot, zone: str, energy_millijoules: int | None) -> Grams | None:
    """Return grams at the factor of the month's year in the zone; None without a factor."""
    chosen = snapshot.factors.get((zone, snapshot.month.first.year)) if snapshot.month else None
    if chosen is None or energy_millijoules is None:
        return None
    return grams_from_millijoules(energy_millijoules, chosen.factor.total_kgco2e_per_kwh)


def _indicators(out: Exposition, snapshot: Snapshot) -> None:
    for one in snapshot.sobriety:
        machines = "virtual" if one.virtual else "physical"
        labels = {"population": one.population.value, "machines": machines, "period": one.period}
        for gauge, parts in one.parts.items():
            add_parts(out, gauge, labels, parts)


def _factors(out: Exposition, snapshot: Snapshot) -> None:
    zones = {site.zone for site in snapshot.fleet.sites.values()}
    known = dict(snapshot.factors_now())
    for zone in sorted(zones):
        out.add(c.FACTOR_KNOWN, (zone,), int(zone in known))
    for zone, chosen in known.items():
        due = datetime(chosen.factor.valid_to.year + 2, *FACTOR_DUE_DAY, tzinfo=UTC)
        out.add(c.FACTOR_DUE, (zone,), due.timestamp())
        factor, year = chosen.factor, str(chosen.year)
        grams = factor.total_kgco2e_per_kwh * GRAMS_PER_KILOGRAM
        labels = (zone, factor.factor_id, year, _word(chosen.provisional))
        out.add(c.FACTOR, labels, float(grams))
        info = (zone, factor.factor_id, year, factor.series, factor.source)
        out.add(c.FACTOR_INFO, info, 1)


def _word(flag: bool) -> str:
    return "true" if flag else "false"
