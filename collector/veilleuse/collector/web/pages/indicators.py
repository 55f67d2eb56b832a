# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the machine indicators of the page. Text and rounding only.

Each indicator has its period, its basis and its threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import groupby
from typing import Final

from veilleuse.collector.disclosure.rule import MIXED
from veilleuse.collector.documents.charts import SEPARATOR, Series, shares
from veilleuse.collector.documents.text import DASH, Words
from veilleuse.collector.indicators import SERVERS, TABLE, load_indicator
from veilleuse.collector.indicators.avoidable_energy import CAUSES, AvoidableEnergy, kwh_by_cause
from veilleuse.collector.model.indicators import Figure, Targets
from veilleuse.collector.release.indicator_rows import IndicatorRow
from veilleuse.collector.reports.readers import targets_of
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.web.metrics.indicators_daily import millijoules
from veilleuse.collector.web.pages.charts import Legend, PageChart, PageTable, machines_name
from veilleuse.wire.vocabulary import Population

COLOURS: Final = {"closed_bands": 0, "open_idle": 1, "screens": 5, "comatose_servers": 4, MIXED: 6}
KWH: Final = "kWh"
_POPULATIONS: Final = (Population.WORKSTATION, Population.CLASSROOM, Population.SERVER, None)


@dataclass(frozen=True, slots=True)
class MachineLine:
    """Line of one kind of machine."""

    machines: str
    value: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """Block of one indicator."""

    identifier: str
    name: str
    threshold: str
    """Threshold and period."""
    lines: tuple[MachineLine, ...]


@dataclass(frozen=True, slots=True)
class IndicatorPart:
    """The page's part about indicators."""

    blocks: tuple[Block, ...]
    chart: PageChart | None
    commands: tuple[tuple[str, str], ...]
    """(purpose, command)."""


def indicator_part(figures: Sequence[IndicatorRow], w: Words, settings: CollectorSettings) -> IndicatorPart:
    """Build the blocks in the order of the indicators, users' machines first."""
    targets, k = targets_of(settings.indicators), settings.reporting.k_anonymity
    ordered = sorted(figures, key=_order)
    return IndicatorPart(
        tuple(_block(key, tuple(same), w, targets, k) for key, same in groupby(ordered, _identifier)),
        _chart(ordered, w),
        _commands(ordered, w),
    )


def definition_of(identifier: str, w: Words, targets: Targets) -> str:
    """Write what an indicator is, with the targets of the settings."""
    return w(
        f"glossary.{identifier}_text",
        target=w.tick(100 * targets.out_of_hours_target_ratio),
        lifetime=w.tick(targets.lifetime_years),
        reuse=w.tick(100 * targets.reused_retirements_ratio),
    )


def indicator_name(identifier: str, w: Words) -> str:
    """Name an indicator as the reports do, with a capital letter."""
    name = w.word("name", load_indicator(identifier).meta.name)
    return name[:1].upper() + name[1:]


def _identifier(one: IndicatorRow) -> str:
    return one.indicator


def _order(one: IndicatorRow) -> tuple[str, int, bool]:
    scope = one.key
    return _identifier(one), _POPULATIONS.index(scope.population), scope.memo


def _block(identifier: str, figures: Sequence[IndicatorRow], w: Words, targets: Targets, k: int) -> Block:
    threshold = w(
        "sobriety.threshold", period=_period(figures[0], w), threshold=threshold_of(identifier, w, targets)
    )
    lines = tuple(_line(one, w, k) for one in figures)
    return Block(identifier, indicator_name(identifier, w), threshold, lines)


def _line(one: IndicatorRow, w: Words, k: int) -> MachineLine:
    figure = one.figure
    value, notes = format_figure(one, w)
    if figure.withheld:
        value, notes = DASH, (w("sobriety.withheld", k=k),)
    elif figure.value is None:
        value = w("sobriety.unknown")
    return MachineLine(_machines(one, w), value, notes)


def _machines(one: IndicatorRow, w: Words) -> str:
    population = one.key.population
    return machines_name(population, one.key.memo, w) if population else DASH


def _period(one: IndicatorRow, w: Words) -> str:
    line = TABLE[_identifier(one)]
    if line.days is not None:
        day = w.short_day(one.key.period_to - timedelta(days=1))
        return w("sobriety.days_period", days=line.days, day=day)
    month = w.month(one.key.period_from)
    return month if line.has_history else w("sobriety.plan_period", month=month)


def threshold_of(identifier: str, w: Words, targets: Targets) -> str:
    """Write the threshold of an indicator, or that it has none."""
    key = f"sobriety.{identifier}_threshold"
    if not w.has(key):
        return w("sobriety.no_threshold")
    percents = {
        "underused_mean_cpu_percent": w.tick(100 * targets.underused_mean_cpu_ratio),
        "oversized_core_percent": w.tick(100 * targets.oversized_core_ratio),
    }
    network = w.number(targets.comatose_network_bytes_per_second)
    return w(key, **asdict(targets) | percents | {"comatose_network_bytes_per_second": network})


# --- values: (value, its basis); called only when there is a value


def format_figure(one: IndicatorRow, w: Words) -> tuple[str, tuple[str, ...]]:
    """Format the figure by its numerator and denominator."""
    figure, meta = one.figure, load_indicator(one.indicator).meta
    note = f"sobriety.{meta.indicator}_note"
    if TABLE[meta.indicator].populations == SERVERS:
        return _servers(figure, w)
    if meta.unit == KWH:
        return _avoidable(figure, w, note)
    return (_night if figure.counted_in == "W" else _share)(figure, w, note)


def _share(figure: Figure, w: Words, note: str) -> tuple[str, tuple[str, ...]]:
    if figure.value is None or figure.numerator is None or figure.denominator is None:
        return DASH, ()
    good, known = w.number(round(figure.numerator)), w.number(round(figure.denominator))
    return w.percent(figure.value), (w(note, good=good, known=known),)


def _avoidable(figure: Figure, w: Words, note: str) -> tuple[str, tuple[str, ...]]:
    if figure.value is None:
        return DASH, ()
    notes: list[str] = []
    if "avoidable_share" in figure.details:
        share = w.percent(float(figure.details["avoidable_share"]))
        notes.append(w(note, share=share))
    if figure.interval is not None and figure.value > 0:
        low, high = (_energy(kwh, w) for kwh in figure.interval)
        notes.append(w("sobriety.interval", low=low, high=high))
    if apart := int(figure.details.get("not_judged", 0)):
        notes.append(w.count("sobriety.not_judged", apart))
    return _energy(figure.value, w), tuple(notes)


def _energy(kwh: float, w: Words) -> str:
    return w.energy(round(millijoules(kwh)))


def _night(figure: Figure, w: Words, note: str) -> tuple[str, tuple[str, ...]]:
    if figure.value is None or figure.numerator is None or figure.denominator is None:
        return DASH, ()
    night, day = w.watts(figure.numerator), w.watts(figure.denominator)
    return w.number(figure.value), (w(note, night=night, day=day),)


def _servers(figure: Figure, w: Words) -> tuple[str, tuple[str, ...]]:
    counts = {key: int(figure.details.get(key, 0)) for key in ("suspects", "excluded", "not_judged")}
    counts["not_judged"] -= int(figure.details.get("suspects_not_judged", 0))
    notes = tuple(w.count(f"sobriety.{key}", number) for key, number in counts.items() if number)
    if figure.value is None or figure.numerator is None or figure.denominator is None:
        return DASH, notes
    judged = w.number(round(figure.denominator))
    share = w("sobriety.servers_note", share=w.percent(figure.value))
    return w.count("sobriety.servers_value", round(figure.numerator), judged=judged), (share, *notes)


# --- chart of avoidable energy


def _chart(figures: Sequence[IndicatorRow], w: Words) -> PageChart | None:
    """Draw one bar per kind of machine with avoidable energy; None when there is none."""
    avoidable = [
        one for one in figures if one.indicator == AvoidableEnergy.meta.indicator and one.figure.value
    ]
    if not avoidable:
        return None
    parts = [kwh_by_cause(one.figure) for one in avoidable]
    present = [cause for cause in (*CAUSES, MIXED) if any(part.get(cause) for part in parts)]
    series = [
        Series(
            w(f"sobriety.{cause}"), tuple(part.get(cause) for part in parts), COLOURS[cause], hatched=False
        )
        for cause in present
    ]
    names = [f"{_machines(one, w)}{SEPARATOR}{_energy(one.figure.value or 0.0, w)}" for one in avoidable]
    drawing = shares(
        "avoidable", w("sobriety.chart", month=w.month(avoidable[0].key.period_from)), names, series
    )
    table = PageTable(
        w("sobriety.chart_table"),
        (w("sobriety.machines"), *(one.name for one in series), w("sobriety.sum")),
        tuple(
            (
                _machines(one, w),
                *(DASH if part.get(cause) is None else w.number(part[cause]) for cause in present),
                w.number(one.figure.value or 0.0),
            )
            for one, part in zip(avoidable, parts, strict=True)
        ),
    )
    return PageChart(drawing, tuple(Legend(one.name, one.colour, one.hatched) for one in series), table)


def _commands(figures: Sequence[IndicatorRow], w: Words) -> tuple[tuple[str, str], ...]:
    """Return commands that print what the page does not show; none before there is a month."""
    if not figures:
        return ()
    first, end = figures[0].key.period_from, figures[0].key.period_to
    command = f"veilleuse report indicators --from {first} --to {end}"
    return (
        (w("sobriety.same_month", month=w.month(first)), f"{command} --group-by population"),
        (w("sobriety.servers"), f"{command} --servers"),
    )
