# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Writes names, definitions, thresholds and values of the indicators. Text and rounding only."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

from veilleuse.collector.documents.text import DASH, Words
from veilleuse.collector.indicators import SERVERS, TABLE, load_indicator
from veilleuse.collector.model.indicators import Figure, Targets
from veilleuse.collector.release.indicator_rows import IndicatorRow
from veilleuse.collector.web.metrics.indicators_daily import millijoules

KWH: Final = "kWh"


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
