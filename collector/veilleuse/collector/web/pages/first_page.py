# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the page of the servers today from a Snapshot, in one language.

Text and rounding only: no formula of the method.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

from veilleuse.collector.account.emissions import grams_from_millijoules
from veilleuse.collector.documents.text import DASH, Words
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.model.query import AUTRES
from veilleuse.collector.release.tables import released_on
from veilleuse.collector.silence import SilenceLevel, sentence_of
from veilleuse.collector.web.metrics.fleet import Energies
from veilleuse.collector.web.metrics.fleet_emissions import FleetEmissions
from veilleuse.collector.web.metrics.indicators_daily import DAY, TODAY, DailyIndicators, millijoules
from veilleuse.collector.web.metrics.released_month import MONTH, MonthView, RowLabels, energy_of, last_month
from veilleuse.collector.web.metrics.samples import energy_today, grams_of_month
from veilleuse.collector.web.metrics.servers import is_virtual
from veilleuse.collector.web.metrics.snapshot import Snapshot, local_time
from veilleuse.collector.web.pages.charts import (
    PageChart,
    PageTable,
    class_name,
    energy_chart,
    machines_name,
    states_chart,
)
from veilleuse.collector.web.pages.frame import Look
from veilleuse.collector.web.pages.indicators import indicator_part
from veilleuse.collector.web.pages.method import factor_lines
from veilleuse.collector.web.pages.months import newest_months
from veilleuse.wire.ladder import Method
from veilleuse.wire.units import MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Population


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure with its basis."""

    label: str
    value: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FirstPage:
    """Content of the template."""

    day: str
    time: str
    collector_down: bool
    has_hosts: bool
    silences: tuple[str, ...]
    """Sentences about silent machines, one each."""
    tiles: tuple[Tile, ...]
    factors: tuple[tuple[str, str], ...]
    """(text, notes): notes are provisional or not sourced; blank without any."""
    energy: PageChart | None
    states: PageChart | None
    closed: PageTable | None
    indicators: PageTable | None
    methods: PageTable | None


async def servers_today(look: Look) -> dict[str, object]:
    """Build the page of the servers: the day's energy and states, and the last released month."""
    snapshot, settings = await look.snapshot(), look.settings
    return {
        "page": first_page(snapshot, look.w),
        "no_month": await _no_month(look, snapshot),
        "sobriety": indicator_part(snapshot.machine_figures, look.w, settings),
        "k": settings.reporting.k_anonymity,
        "zone": settings.reporting.time_zone,
    }


async def _no_month(look: Look, snapshot: Snapshot) -> str:
    """Explain the same as `no_month`; a released month is read within a minute."""
    first, end = last_month(snapshot.today)
    is_read = snapshot.month is not None or snapshot.month_is_of_older_rule
    if not is_read and look.context.open_store is not None:
        months = await newest_months(look)
        if months and months[-1].end >= end:
            return look.w("closed.reading", of_month=look.w.of_month(first))
    return no_month(snapshot, look.w, look.settings.reporting.k_anonymity)


def first_page(snapshot: Snapshot, w: Words) -> FirstPage:
    """Build the page of this snapshot."""
    moment = local_time(snapshot)
    fleet = snapshot.fleet
    return FirstPage(
        w.long_day(moment.date()),
        f"{moment:%H:%M}",
        snapshot.health is None,
        bool(fleet.places),
        tuple(
            sentence_of(one, w)
            for one in snapshot.silence
            if one.level in (SilenceLevel.WARNING, SilenceLevel.FAILED)
        ),
        tuple(_tiles(snapshot, w)),
        tuple(factor_lines(snapshot, w)),
        energy_chart(snapshot, w),
        states_chart(snapshot, w),
        _closed(snapshot, w),
        _indicators(snapshot.sobriety, w),
        _methods(fleet.today.energies, w),
    )


def _tiles(snapshot: Snapshot, w: Words) -> Iterable[Tile]:
    physical, physical_grams = energy_today(snapshot, virtual=False)
    virtual, virtual_grams = energy_today(snapshot, virtual=True)
    if physical is None:
        key = "energy_none" if snapshot.fleet.servers.active(virtual=False) else "energy_no_server"
        yield Tile(w("figures.energy"), w("none.unknown"), (w(f"figures.{key}"),))
    else:
        yield Tile(w("figures.energy"), w.energy(physical), (w("figures.energy_note"),))
    yield _emissions(snapshot, w, physical, physical_grams, virtual_grams)
    yield from _fleet_emissions(snapshot.fleet_emissions, w)
    yield _power(snapshot, w)
    if virtual is not None:
        yield Tile(w("figures.memo"), w.energy(virtual), (w("figures.memo_note"),))
    yield _hosts(snapshot, w)
    yield from _coverage(snapshot.sobriety, w)


def _emissions(
    snapshot: Snapshot, w: Words, energy: int | None, grams: Fraction | None, memo: Fraction | None
) -> Tile:
    notes: list[str] = []
    if energy is None:
        notes.append(w("figures.emissions_none"))
    elif grams is None:
        notes.append(w("figures.emissions_no_factor"))
    since = _since(snapshot)
    if since is not None:
        notes.append(w("figures.emissions_since", grams=w.grams(since)))
    if memo is not None:
        notes.append(w("figures.emissions_memo", grams=w.grams(memo)))
    value = w("none.unknown") if grams is None else w.grams(grams)
    return Tile(w("figures.emissions"), value, tuple(notes))


def _since(snapshot: Snapshot) -> Fraction | None:
    """Return the ledger's grams of physical servers; None when it holds none."""
    parts = [
        grams_from_millijoules(entry.energy_millijoules, Decimal(entry.factor_kgco2e_per_kwh))
        for entry in snapshot.fleet.ledger
        if entry.population is Population.SERVER and not is_virtual(entry.device_class)
    ]
    return sum(parts, Fraction(0)) if parts else None


def _fleet_emissions(found: FleetEmissions, w: Words) -> Iterable[Tile]:
    """Build the tile of the newest year of the whole fleet, by perimeter; none before its first month."""
    for year in found.years[:1]:
        *perimeters, total = year.perimeters
        notes = [w(f"figures.fleet_{year.state}", day=w.day((year.until - timedelta(days=1)).isoformat()))]
        if total.grams_ends is not None:
            low, high = map(w.grams, total.grams_ends)
            interval = w.word("interval", total.interval)
            notes.append(w("figures.fleet_interval", low=low, high=high, interval=interval))
        for one in perimeters:
            named = w.word("perimeter", one.perimeter)
            notes.append(w("figures.fleet_part", perimeter=named, grams=w.grams(one.amounts.grams)))
        yield Tile(w("figures.fleet", year=year.year), w.grams(total.amounts.grams), tuple(notes))


def _power(snapshot: Snapshot, w: Words) -> Tile:
    physical, virtual = (snapshot.fleet.power_of(virtual=one) for one in (False, True))
    notes: list[str] = []
    if physical:
        end = physical.end_unix_milliseconds
        clock = datetime.fromtimestamp(end / MILLISECONDS_PER_SECOND, ZoneInfo(snapshot.fleet.time_zone))
        hosts = w.count("count.server", physical.servers)
        notes.append(w("figures.power_note", hosts=hosts, time=f"{clock:%H:%M:%S}"))
    missing, whole = snapshot.fleet.without_power(virtual=False)
    if missing:
        notes.append(w.count("figures.power_missing", missing, whole=w.number(whole)))
    elif not physical and not virtual:
        notes.append(w("figures.power_none"))
    if virtual:
        notes.append(w("figures.power_memo", watts=w.watts(virtual.watts)))
    value = w.watts(physical.watts) if physical else w("none.unknown")
    return Tile(w("figures.power"), value, tuple(notes))


def _hosts(snapshot: Snapshot, w: Words) -> Tile:
    numbers = {one: snapshot.day_start.pcs.active(one) for one in Population}  # same sources as on /metrics
    numbers[Population.SERVER] = len(snapshot.fleet.servers.members)
    notes = tuple(w.count(f"count.{p.value}", numbers[p]) for p in Population if numbers[p])
    return Tile(w("figures.hosts"), w.number(sum(numbers.values())), notes)


def _coverage(figures: Sequence[DailyIndicators], w: Words) -> Iterable[Tile]:
    """Build one tile of coverage: physical servers, or virtual machines where there are only these."""
    known = [f for f in figures if f.period == TODAY and f.coverage_states is not None]
    notes: list[str] = []
    for one in known:
        machines = machines_name(one.population, one.virtual, w)
        energy = w("none.unknown") if one.coverage_energy is None else w.percent(one.coverage_energy)
        states = w.percent(one.coverage_states or 0.0)
        notes.append(w("figures.coverage_note", machines=machines, states=states, energy=energy))
    if known:
        yield Tile(w("figures.coverage"), w.percent(known[0].coverage_states or 0.0), tuple(notes))


def _closed(snapshot: Snapshot, w: Words) -> PageTable | None:
    """Build the table of the released month."""
    if snapshot.month is None or not snapshot.month.cells:
        return None
    zones = {family.zone for family in snapshot.month.families}
    rows: list[tuple[str, ...]] = []
    for row, sums in snapshot.month.cells.items():
        energy = energy_of(sums)
        grams = grams_of_month(snapshot, row.zone, energy)
        rows.append(
            (
                class_name(row, w),
                _entity(snapshot.month, row, w),
                *((row.zone,) if len(zones) > 1 else ()),
                w.number(sums.hosts),
                DASH if energy is None else w.energy(energy),
                DASH if grams is None else w.grams(grams),
            )
        )
    keys = ("entity", *(("zone",) if len(zones) > 1 else ()), "machines", "energy", "emissions")
    heads = (w("states.group"), *(w(f"closed.{key}") for key in keys))
    return PageTable(w("closed.caption", month=w.month(snapshot.month.first)), heads, tuple(rows))


def no_month(snapshot: Snapshot, w: Words, k: int) -> str:
    """Explain why no figures of PCs are shown; called only where there are none."""
    begun = snapshot.day_start.pcs.first_enrolled_on
    first, end = last_month(snapshot.today)
    if snapshot.month_is_of_older_rule:
        return w("closed.older_rule", month=w.month(first), k=k, first=first, end=end)
    if begun is None:
        return w("closed.no_pcs")
    if begun >= end:
        return w("closed.not_yet", of_month=w.of_month(begun), day=w.long_day(released_on(begun)))
    if snapshot.month is None:
        return w("closed.waiting", of_month=w.of_month(first))
    return w("closed.few" if snapshot.month.withheld else "closed.silent", of_month=w.of_month(first), k=k)


def _entity(month: MonthView, row: RowLabels, w: Words) -> str:
    if row.entity == AUTRES:
        return w.word("device_class", AUTRES)
    return w("closed.incomplete", entity=row.entity) if month.is_incomplete(row) else row.entity


def _indicators(figures: Sequence[DailyIndicators], w: Words) -> PageTable | None:
    """Build one row per kind of machine and period."""
    rows = tuple(
        (
            machines_name(one.population, one.virtual, w),
            _indicator_period(one, w),
            _ratio(one.value(c.OUTSIDE_OPENING), one.value(c.OUTSIDE_OPENING_ENERGY), w),
            _ratio(one.value(c.IDLE_WHILE_ON), one.value(c.IDLE_WHILE_ON_ENERGY), w),
            _covered(one.coverage_states, one, w),
            _covered(one.coverage_energy, one, w),
        )
        for one in figures
        if any(ratio is not None for ratio in (one.value(c.IDLE_WHILE_ON), one.coverage_states))
    )
    if not rows:
        return None
    names = ("outside_opening", "idle_while_on", "coverage_states", "coverage_energy")
    heads = tuple(w(f"indicators.{key}") for key in ("group", "period", *names))
    return PageTable(w("indicators.caption"), heads, rows)


def _covered(ratio: float | None, one: DailyIndicators, w: Words) -> str:
    """Format I13. In a released month it is absent only where it may not be disclosed."""
    return w("indicators.not_told") if ratio is None and one.period == MONTH else _ratio(ratio, None, w)


def _ratio(ratio: float | None, kwh: float | None, w: Words) -> str:
    if ratio is None:
        return DASH
    energy = "" if kwh is None else f" ({w.energy(round(millijoules(kwh)))})"
    return w.percent(ratio) + energy


def _methods(energies: Energies, w: Words) -> PageTable | None:
    sums: defaultdict[Method, int] = defaultdict(int)
    for (_, method, _), one in energies.items():
        sums[method] += one.energy_millijoules
    total = sum(sums.values())
    if not total:
        return None
    return PageTable(
        w("methods.caption"),
        (w("methods.method"), w("methods.share"), w("methods.meaning")),
        tuple(
            (w.word("method", m.value), w.percent(sums[m] / total), w(f"methods.{m.value}_text"))
            for m in Method
            if m in sums
        ),
    )


def _indicator_period(one: DailyIndicators, w: Words) -> str:
    names = {TODAY: w("indicators.today"), DAY: w.short_day(one.first), MONTH: w.month(one.first)}
    return names[one.period]
