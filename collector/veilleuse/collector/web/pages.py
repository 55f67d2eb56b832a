# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A look → what the first page says, in one language. Words and rounding only: no formula of the method is here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

from markupsafe import Markup

from veilleuse.collector.account.emissions import grams_from_millijoules
from veilleuse.collector.model import DerivedRow, Grain
from veilleuse.collector.web import svg
from veilleuse.collector.web.look import Look, local_time
from veilleuse.collector.web.metrics import energies, grams_of_figure
from veilleuse.collector.web.period import Period, PublishedGroup
from veilleuse.collector.web.sobriety import DAY, TODAY, WEEK, Sobriety, millijoules
from veilleuse.collector.web.words import Words, energy_unit
from veilleuse.wire.ladder import MEASURED, Method
from veilleuse.wire.units import GRAMS_PER_KILOGRAM, MILLISECONDS_PER_HOUR
from veilleuse.wire.vocabulary import DeviceClass, Population, State

STATE_COLOURS = {
    State.ON_ACTIVE: 0,
    State.ON_IDLE: 1,
    State.ASLEEP: 5,
    State.OFF: 3,
    State.UNKNOWN: 7,
}
DASH = "–"


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure with what it rests on."""

    label: str
    value: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """The alternative to a chart, or a list of figures. The first cell of a row is its heading."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Legend:
    """One colour."""

    name: str
    colour: int
    hatched: bool


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing, its legend and the same values as a table."""

    drawing: Markup
    legend: tuple[Legend, ...]
    table: Table


@dataclass(frozen=True, slots=True)
class FirstPage:
    """Everything the template writes."""

    day: str
    time: str
    simulated: bool
    collector_down: bool
    has_hosts: bool
    tiles: tuple[Tile, ...]
    factors: tuple[tuple[str, str | None], ...]
    """(text, note when provisional)"""
    energy: Chart | None
    states: Chart | None
    closed: Table | None
    indicators: Table | None
    methods: Table | None


def first_page(look: Look, w: Words) -> FirstPage:
    """What the page says now."""
    moment = local_time(look)
    fleet = look.fleet
    return FirstPage(
        w.day(moment.date()),
        f"{moment:%H:%M}",
        fleet.kind.simulated,
        look.health is None,
        bool(fleet.hosts),
        tuple(_tiles(look, w)),
        tuple(_factors(look, w)),
        energy_chart(look, w),
        states_chart(look, w),
        _closed(look, w),
        _indicators(look.sobriety, w),
        _methods(fleet.today.derived, w),
    )


def _tiles(look: Look, w: Words) -> Iterable[Tile]:
    physical, physical_grams = _today(look, virtual=False)
    virtual, virtual_grams = _today(look, virtual=True)
    if physical is None:
        yield Tile(w("figures.energy"), w("none.unknown"), (w("figures.energy_none"),))
    else:
        yield Tile(w("figures.energy"), w.energy(physical), (w("figures.energy_note"),))
    if virtual is not None:
        yield Tile(w("figures.memo"), w.energy(virtual), (w("figures.memo_note"),))
    yield _emissions(look, w, physical, physical_grams, virtual_grams)
    yield _power(look, w)
    yield _hosts(look, w)
    yield from _coverage(look.sobriety, w)


def _today(look: Look, *, virtual: bool) -> tuple[int | None, Fraction | None]:
    """(mJ, g) of servers since midnight, physical or virtual; None when nothing is known."""
    total: int | None = None
    grams: Fraction | None = None
    for (group, _, _), (energy, emitted) in energies(
        look.fleet.today.derived, look.fleet.hosts, look, look.today.year
    ).items():
        if (group.device_class == DeviceClass.VIRTUAL_MACHINE) is virtual:
            total = (total or 0) + energy
            grams = grams if emitted is None else (grams or 0) + emitted
    return total, grams


def _emissions(
    look: Look, w: Words, energy: int | None, grams: Fraction | None, memo: Fraction | None
) -> Tile:
    notes: list[str] = []
    if energy is None:
        notes.append(w("figures.emissions_none"))
    elif grams is None:
        notes.append(w("figures.emissions_no_factor"))
    since = _since(look)
    if since is not None:
        notes.append(w("figures.emissions_since", grams=w.grams(since)))
    if memo is not None:
        notes.append(w("figures.emissions_memo", grams=w.grams(memo)))
    value = w("none.unknown") if grams is None else w.grams(grams)
    return Tile(w("figures.emissions"), value, tuple(notes))


def _since(look: Look) -> Fraction | None:
    """Grams of the ledger's physical servers; None when it holds none."""
    parts = [
        grams_from_millijoules(entry.energy_millijoules, Decimal(entry.factor_kgco2e_per_kwh))
        for entry in look.fleet.ledger
        if entry.population is Population.SERVER and not _is_virtual(entry.device_class)
    ]
    return sum(parts, Fraction(0)) if parts else None


def _power(look: Look, w: Words) -> Tile:
    physical = [p for p in look.fleet.power if not _is_virtual(p.host.facts.device_class)]
    virtual = [p for p in look.fleet.power if _is_virtual(p.host.facts.device_class)]
    notes: list[str] = []
    if physical:
        end = max(power.end_unix_milliseconds for power in physical)
        clock = datetime.fromtimestamp(end / 1000, ZoneInfo(look.fleet.time_zone))
        hosts = w.count("count.server", len(physical))
        notes.append(w("figures.power_note", hosts=hosts, time=f"{clock:%H:%M:%S}"))
    elif not virtual:
        notes.append(w("figures.power_none"))
    if virtual:
        watts = w.watts(sum(power.watts for power in virtual))
        notes.append(w("figures.power_memo", watts=watts))
    value = w.watts(sum(power.watts for power in physical)) if physical else w("none.unknown")
    return Tile(w("figures.power"), value, tuple(notes))


def _hosts(look: Look, w: Words) -> Tile:
    numbers: defaultdict[Population, int] = defaultdict(int)
    for host in look.fleet.active:
        numbers[host.population] += 1
    notes = tuple(w.count(f"count.{p.value}", numbers[p]) for p in Population if numbers[p])
    return Tile(w("figures.hosts"), w.number(sum(numbers.values())), notes)


def _coverage(figures: Sequence[Sobriety], w: Words) -> Iterable[Tile]:
    known = [f for f in figures if f.period == TODAY and f.coverage_states is not None]
    for one in sorted(known, key=lambda f: f.virtual):
        states = w.percent(one.coverage_states or 0.0)
        energy = w("none.unknown") if one.coverage_energy is None else w.percent(one.coverage_energy)
        notes = (
            _machines(one, w),
            w("figures.coverage_note", states=states, energy=energy),
        )
        yield Tile(w("figures.coverage"), states, notes)


def _factors(look: Look, w: Words) -> Iterable[tuple[str, str | None]]:
    for zone, chosen in look.factors_now():
        factor = chosen.factor
        grams = w.number(float(factor.total_kgco2e_per_kwh * GRAMS_PER_KILOGRAM))
        text = w(
            "factor.text",
            grams=grams,
            zone=zone,
            factor_id=factor.factor_id,
            source=factor.source,
        )
        yield text, w("factor.provisional", year=chosen.year) if chosen.provisional else None


def energy_chart(look: Look, w: Words) -> Chart | None:
    """Columns per hour of the current day; None when nothing was derived today."""
    rows = look.fleet.hours
    if not rows:
        return None
    starts = _hours(look)
    sums: defaultdict[tuple[DeviceClass, Method], defaultdict[int, int]]
    sums = defaultdict(lambda: defaultdict(int))
    for row in rows:
        device_class = look.fleet.hosts[row.host_id].facts.device_class
        sums[device_class, row.cell.method][row.start] += row.cell.energy_millijoules
    keys = sorted(sums, key=lambda key: (_is_virtual(key[0]), key))
    whole = max(sum(sums[key].get(start, 0) for key in keys) for start in starts)
    scale, unit = energy_unit(whole)
    series = [
        svg.Series(
            _series_name(*key, w),
            tuple(sums[key][s] / scale if s in sums[key] else None for s in starts),
            colour,
            hatched=key[1] not in MEASURED,
        )
        for colour, key in enumerate(keys)
    ]
    zone = ZoneInfo(look.fleet.time_zone)
    labels = [f"{datetime.fromtimestamp(s / 1000, zone):%H}" for s in starts]
    drawing = svg.columns("energy", w("energy.chart", unit=unit), labels, series, w.tick, unit=unit, every=3)
    table = Table(
        w("energy.table", unit=unit),
        (w("energy.hour"), *(one.name for one in series)),
        (
            *(
                (f"{label}:00", *(_cell(one.values[i], w) for one in series))
                for i, label in enumerate(labels)
                if any(one.values[i] is not None for one in series)
            ),
            (w("energy.sum"), *(w.number(sum(v or 0.0 for v in one.values)) for one in series)),
        ),
    )
    legend = tuple(Legend(one.name, one.colour, one.hatched) for one in series)
    return Chart(drawing, legend, table)


def _hours(look: Look) -> list[int]:
    """Unix milliseconds of the UTC hours of the current civil day: 23, 24 or 25."""
    zone = ZoneInfo(look.fleet.time_zone)
    day = look.today
    start = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
    following = day + timedelta(days=1)
    end = datetime(following.year, following.month, following.day, tzinfo=zone).astimezone(UTC)
    first, last = round(start.timestamp() * 1000), round(end.timestamp() * 1000)
    aligned = first - first % MILLISECONDS_PER_HOUR
    return list(range(aligned, last, MILLISECONDS_PER_HOUR))


def _series_name(device_class: DeviceClass, method: Method, w: Words) -> str:
    name = f"{w(f'device_class.{device_class.value}')}, {w(f'methods.{method.value}')}"
    return w("group.memo", name=name) if _is_virtual(device_class) else name


def states_chart(look: Look, w: Words) -> Chart | None:
    """One bar per kind of server, then one per published group of the last closed day."""
    bars: list[tuple[str, dict[str, int]]] = []
    for virtual in (False, True):
        sums: defaultdict[str, int] = defaultdict(int)
        for row in look.fleet.today.sums:
            if _is_virtual(look.fleet.hosts[row.host_id].facts.device_class) is virtual:
                sums[row.cell.state.value] += row.cell.milliseconds
        if sums:
            key = "group.virtual" if virtual else "group.physical"
            name = w(key, population=w("population.server"))
            bars.append((f"{name} · {w('indicators.today')}", dict(sums)))
    for period in look.periods:
        if period.grain is Grain.DAY:
            for one in period.groups:
                name = f"{_group_name(one, w)} · {_period_name(period, w)}"
                bars.append((name, {figure.state: figure.amount for figure in one.times}))
    return _states_chart(bars, w) if bars else None


def _states_chart(bars: Sequence[tuple[str, dict[str, int]]], w: Words) -> Chart:
    present = [s for s in State if any(s.value in sums for _, sums in bars)]
    columns = [(s.value, STATE_COLOURS[s], s is State.UNKNOWN) for s in present]
    if any("autres" in sums for _, sums in bars):
        columns.append(("autres", 6, False))
    series = [
        svg.Series(
            w(f"states.{state}"),
            tuple(sums[state] / MILLISECONDS_PER_HOUR if state in sums else None for _, sums in bars),
            colour,
            hatched,
        )
        for state, colour, hatched in columns
    ]
    names = [name for name, _ in bars]
    table = Table(
        w("states.table"),
        (w("states.group"), *(one.name for one in series)),
        tuple((name, *(_cell(one.values[i], w) for one in series)) for i, name in enumerate(names)),
    )
    legend = tuple(Legend(one.name, one.colour, one.hatched) for one in series)
    return Chart(svg.shares("states", w("states.chart"), names, series), legend, table)


def _closed(look: Look, w: Words) -> Table | None:
    rows: list[tuple[str, ...]] = []
    for period in look.periods:
        for one in period.groups:
            energy = sum(figure.amount for figure in one.energies) if one.energies else None
            grams = [grams_of_figure(figure, look, period.first_day.year) for figure in one.energies]
            known = [g for g in grams if g is not None]
            emitted = sum(known, Fraction(0)) if known and len(known) == len(grams) else None
            rows.append(
                (
                    _group_name(one, w),
                    one.group.entity,
                    one.group.site,
                    _period_name(period, w),
                    w.number(one.hosts),
                    DASH if energy is None else w.energy(energy),
                    DASH if emitted is None else w.grams(emitted),
                )
            )
    if not rows:
        return None
    heads = (
        w("states.group"),
        *(w(f"closed.{k}") for k in ("entity", "site", "period", "machines", "energy", "emissions")),
    )
    return Table(w("closed.caption"), heads, tuple(rows))


def _indicators(figures: Sequence[Sobriety], w: Words) -> Table | None:
    """One row per kind of machine and period."""
    rows = tuple(
        (
            f"{_machines(one, w)}, {_indicator_period(one, w)}",
            _ratio(one.outside_opening, one.outside_opening_kwh, w),
            _ratio(one.idle_while_on, one.idle_while_on_kwh, w),
            _ratio(one.coverage_states, None, w),
            _ratio(one.coverage_energy, None, w),
        )
        for one in figures
        if any(ratio is not None for ratio in (one.idle_while_on, one.coverage_states))
    )
    if not rows:
        return None
    heads = tuple(w(f"indicators.{key}") for key in ("group", "I1", "I2", "I13_states", "I13_energy"))
    return Table(w("indicators.caption"), heads, rows)


def _ratio(ratio: float | None, kwh: float | None, w: Words) -> str:
    if ratio is None:
        return DASH
    energy = "" if kwh is None else f" ({w.energy(round(millijoules(kwh)))})"
    return w.percent(ratio) + energy


def _methods(rows: Sequence[DerivedRow], w: Words) -> Table | None:
    sums: defaultdict[Method, int] = defaultdict(int)
    for row in rows:
        sums[row.cell.method] += row.cell.energy_millijoules
    total = sum(sums.values())
    if not total:
        return None
    return Table(
        w("methods.caption"),
        (w("methods.method"), w("methods.share"), w("methods.meaning")),
        tuple(
            (w(f"methods.{m.value}"), w.percent(sums[m] / total), w(f"methods.{m.value}_text"))
            for m in Method
            if m in sums
        ),
    )


def _machines(one: Sobriety, w: Words) -> str:
    key = "group.virtual" if one.virtual else "group.physical"
    return w(key, population=w(f"population.{one.population.value}"))


def _indicator_period(one: Sobriety, w: Words) -> str:
    names = {TODAY: "indicators.today", DAY: "indicators.last_day", WEEK: "indicators.last_week"}
    return w(names[one.period], day=w.day(one.first))


def _group_name(one: PublishedGroup, w: Words) -> str:
    population, device_class = one.group.population, one.group.device_class
    return f"{w(f'population.{population}')}, {w(f'device_class.{device_class}')}"


def _period_name(period: Period, w: Words) -> str:
    key = "week" if period.grain is Grain.WEEK else f"day_{period.population.value}"
    return w(f"closed.{key}", day=w.day(period.first_day))


def _cell(value: float | None, w: Words) -> str:
    return DASH if value is None else w.number(value)


def _is_virtual(device_class: DeviceClass) -> bool:
    return device_class is DeviceClass.VIRTUAL_MACHINE
