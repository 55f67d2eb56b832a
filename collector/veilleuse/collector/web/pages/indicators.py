# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""I3 to I8 on the page, each with its period, what it rests on and its threshold; and the glossary. Words and rounding only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Final

from veilleuse.collector.disclosure import MIXED
from veilleuse.collector.documents.charts import SEPARATOR, Series, shares
from veilleuse.collector.documents.text import DASH, Words
from veilleuse.collector.indicators.server_loads import COMATOSE_DAYS, OVERSIZED_DAYS, UNDERUSED_DAYS
from veilleuse.collector.model.indicators import Figure, Targets
from veilleuse.collector.reports.inputs import targets_of
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.web.metrics.indicators_daily import millijoules
from veilleuse.collector.web.metrics.indicators_monthly import CAUSES, MachineFigure, causes
from veilleuse.collector.web.pages.charts import Legend, PageChart, PageTable, machines_name
from veilleuse.wire.vocabulary import Population

GLOSSARY: Final = ("I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I13")
COLOURS: Final = {"closed_bands": 0, "open_idle": 1, "screens": 5, "comatose_servers": 4, MIXED: 6}
DAYS: Final = {"I6": COMATOSE_DAYS, "I7": UNDERUSED_DAYS, "I8": OVERSIZED_DAYS}
_POPULATIONS: Final = (Population.WORKSTATION, Population.CLASSROOM, Population.SERVER, None)


@dataclass(frozen=True, slots=True)
class MachineLine:
    """One kind of machine."""

    machines: str
    value: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """One indicator."""

    identifier: str
    name: str
    threshold: str
    """And its period."""
    lines: tuple[MachineLine, ...]


@dataclass(frozen=True, slots=True)
class IndicatorPart:
    """What the page says of I3 to I8."""

    blocks: tuple[Block, ...]
    chart: PageChart | None
    commands: tuple[tuple[str, str], ...]
    """(what for, command)."""
    glossary: tuple[tuple[str, str, str], ...]
    """(identifier, name, definition)."""


def indicator_part(figures: Sequence[MachineFigure], w: Words, settings: CollectorSettings) -> IndicatorPart:
    """In the order of the indicators, users' machines first."""
    targets, k = targets_of(settings.indicators), settings.reporting.k_anonymity
    target = w.tick(100 * settings.indicators.out_of_hours_target_ratio)
    ordered = sorted(figures, key=_order)
    return IndicatorPart(
        tuple(_block(key, tuple(same), w, targets, k) for key, same in groupby(ordered, _identifier)),
        _chart(ordered, w),
        _commands(ordered, w),
        tuple((key, w(f"glossary.{key}"), w(f"glossary.{key}_text", target=target)) for key in GLOSSARY),
    )


def _identifier(one: MachineFigure) -> str:
    return one.found.meta.indicator


def _order(one: MachineFigure) -> tuple[str, int, bool]:
    scope = one.found.scope
    return _identifier(one), _POPULATIONS.index(scope.population), scope.memo


def _block(identifier: str, figures: Sequence[MachineFigure], w: Words, targets: Targets, k: int) -> Block:
    told = w(
        "sobriety.threshold", period=_period(figures[0], w), threshold=_threshold(identifier, w, targets)
    )
    lines = tuple(_line(one, w, k) for one in figures)
    return Block(identifier, w(f"glossary.{identifier}"), told, lines)


def _line(one: MachineFigure, w: Words, k: int) -> MachineLine:
    figure = one.found.figure
    value, notes = _VALUES[_identifier(one)](figure, w)
    if figure.withheld:
        value, notes = DASH, (w("sobriety.withheld", k=k),)
    elif figure.value is None:
        value = w("sobriety.unknown")
    return MachineLine(_machines(one, w), value, notes)


def _machines(one: MachineFigure, w: Words) -> str:
    population = one.found.scope.population
    return machines_name(population, one.found.scope.memo, w) if population else DASH


def _period(one: MachineFigure, w: Words) -> str:
    identifier = _identifier(one)
    if identifier in DAYS:
        day = w.short_day(one.until - timedelta(days=1))
        return w("sobriety.days_period", days=DAYS[identifier], day=day)
    month = w.month(one.month)
    return w("sobriety.plan_period", month=month) if identifier == "I3" else month


def _threshold(identifier: str, w: Words, targets: Targets) -> str:
    values: Mapping[str, object] = {
        "display": targets.display_off_minutes,
        "sleep": targets.sleep_minutes,
    }
    match identifier:
        case "I5":
            return w("sobriety.no_threshold")
        case "I6":
            network = w.number(targets.comatose_network_bytes_per_second)
            values = {"cpu": targets.comatose_cpu_percent, "network": network}
        case "I7":
            mean = w.tick(100 * targets.underused_mean_cpu_ratio)
            values = {"mean": mean, "cpu": targets.underused_cpu_percent}
        case "I8":
            core = w.tick(100 * targets.oversized_core_ratio)
            values = {
                "cpu": targets.oversized_cpu_percent,
                "memory": targets.oversized_memory_percent,
                "core": core,
            }
        case _:
            pass
    return w(f"sobriety.{identifier}_threshold", **values)


# --- values: (value, what it rests on); asked for only what is there


def _compliance(figure: Figure, w: Words) -> tuple[str, tuple[str, ...]]:
    if figure.value is None or figure.numerator is None or figure.denominator is None:
        return DASH, ()
    good, known = w.number(round(figure.numerator)), w.number(round(figure.denominator))
    return w.percent(figure.value), (w("sobriety.I3_note", good=good, known=known),)


def _avoidable(figure: Figure, w: Words) -> tuple[str, tuple[str, ...]]:
    if figure.value is None:
        return DASH, ()
    notes: list[str] = []
    if "avoidable_share" in figure.details:
        share = w.percent(float(figure.details["avoidable_share"]))
        notes.append(w("sobriety.I4_note", share=share))
    if figure.interval is not None and figure.value > 0:
        low, high = (_energy(kwh, w) for kwh in figure.interval)
        notes.append(w("sobriety.I4_interval", low=low, high=high))
    if apart := int(figure.details.get("not_judged", 0)):
        notes.append(w.count("sobriety.not_judged", apart))
    return _energy(figure.value, w), tuple(notes)


def _energy(kwh: float, w: Words) -> str:
    return w.energy(round(millijoules(kwh)))


def _night(figure: Figure, w: Words) -> tuple[str, tuple[str, ...]]:
    if figure.value is None or figure.numerator is None or figure.denominator is None:
        return DASH, ()
    note = w("sobriety.I5_note", night=w.watts(figure.numerator), day=w.watts(figure.denominator))
    return w.number(figure.value), (note,)


def _servers(figure: Figure, w: Words) -> tuple[str, tuple[str, ...]]:
    counts = {
        key: int(figure.details.get(name, 0))
        for key, name in (
            ("I6_suspects", "suspects"),
            ("I6_excluded", "excluded"),
            ("not_judged", "not_judged"),
        )
    }
    notes = tuple(w.count(f"sobriety.{key}", number) for key, number in counts.items() if number)
    if figure.value is None or figure.numerator is None or figure.denominator is None:
        return DASH, notes
    judged = w.number(round(figure.denominator))
    share = w("sobriety.servers_note", share=w.percent(figure.value))
    return w.count("sobriety.servers_value", round(figure.numerator), judged=judged), (share, *notes)


_VALUES: Final[Mapping[str, Callable[[Figure, Words], tuple[str, tuple[str, ...]]]]] = {
    "I3": _compliance,
    "I4": _avoidable,
    "I5": _night,
    "I6": _servers,
    "I7": _servers,
    "I8": _servers,
}


# --- the drawing of I4


def _chart(figures: Sequence[MachineFigure], w: Words) -> PageChart | None:
    """One bar per kind of machine with energy to avoid; None when there is none."""
    avoidable = [one for one in figures if _identifier(one) == "I4" and one.found.figure.value]
    if not avoidable:
        return None
    parts = [causes(one.found.figure) for one in avoidable]
    present = [cause for cause in (*CAUSES, MIXED) if any(part.get(cause) for part in parts)]
    series = [
        Series(
            w(f"sobriety.{cause}"), tuple(part.get(cause) for part in parts), COLOURS[cause], hatched=False
        )
        for cause in present
    ]
    names = [
        f"{_machines(one, w)}{SEPARATOR}{_energy(one.found.figure.value or 0.0, w)}" for one in avoidable
    ]
    drawing = shares("avoidable", w("sobriety.chart", month=w.month(avoidable[0].month)), names, series)
    table = PageTable(
        w("sobriety.chart_table"),
        (w("sobriety.machines"), *(one.name for one in series), w("sobriety.sum")),
        tuple(
            (
                _machines(one, w),
                *(DASH if part.get(cause) is None else w.number(part[cause]) for cause in present),
                w.number(one.found.figure.value or 0.0),
            )
            for one, part in zip(avoidable, parts, strict=True)
        ),
    )
    return PageChart(drawing, tuple(Legend(one.name, one.colour, one.hatched) for one in series), table)


def _commands(figures: Sequence[MachineFigure], w: Words) -> tuple[tuple[str, str], ...]:
    """How to ask for what the page does not show; none before there is a month."""
    if not figures:
        return ()
    month, until = figures[0].month, max(one.until for one in figures)
    end = (month + timedelta(days=31)).replace(day=1)
    ended = until.replace(day=1) - timedelta(days=1)  # last day of the last month that is over
    command = "veilleuse report indicators --from"
    return (
        (
            w("sobriety.same_month", month=w.month(month)),
            f"{command} {month} --to {end} --group-by population",
        ),
        (w("sobriety.servers"), f"{command} {ended.replace(day=1)} --to {until} --servers"),
    )
