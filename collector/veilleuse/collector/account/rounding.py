# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Formats a row for readers: rounded once, to the digits of its interval's half-width
(pure). docs/methodology.md §6.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from veilleuse.collector.fleet.estimate import SELECTION
from veilleuse.collector.model.figures import EmissionsRow, Ends

DIGITS = 2
"""Significant digits of the half-width in a text: ± 36,051.8 is written as ± 36,000."""


def decimals(half_width: float) -> int:
    """Return the decimal places of a figure with a half-width ≥ 0; negative: tens, hundreds. Exact (0): 0."""
    return DIGITS - 1 - math.floor(math.log10(half_width)) if half_width > 0 else 0


def round_interval(figure: tuple[float, float, float]) -> tuple[str, str, str]:
    """Return (value, lower end, upper end of its interval),
    rounded to the two leading digits of the half-width.

    1,124,000 between 1,088,520.4 and 1,160,636.2 is 1124000, 1089000, 1161000.
    """
    _, low, high = figure
    digits = decimals((high - low) / 2)
    value, low_text, high_text = (f"{round(one, digits):.{max(0, digits)}f}" for one in figure)
    return value, low_text, high_text


_KWH: Final = (
    "kwh_total",
    "kwh_lo95",
    "kwh_hi95",
    "kwh_lo_sample",
    "kwh_hi_sample",
    "kwh_lo_sensitivity",
    "kwh_hi_sensitivity",
    "kwh_measured",
    "kwh_modelled",
    "kwh_imputed",
    "kwh_extrapolated",
    "kwh_it",
    "kwh_ups_loss",
    "kwh_overhead",
    "top_down_kwh",
)
_KGCO2E: Final = (
    "kgco2e_total",
    "kgco2e_lo95",
    "kgco2e_hi95",
    "kgco2e_lo_sample",
    "kgco2e_hi_sample",
    "kgco2e_lo_sensitivity",
    "kgco2e_hi_sensitivity",
    "kgco2e_combustion",
    "kgco2e_upstream",
    "kgco2e_losses",
    "split_residual_kgco2e",
    "kgco2e_market",
    "factor_effect_kgco2e",
    "as_published_kgco2e",
)
_CHANGES: Final = ("change", "fleet_effect", "mix_effect", "hours_effect", "watts_effect")
_FRENCH: Final = str.maketrans({",": "\u202f", ".": ","})
"""Thousands separated by a narrow no-break space; a decimal comma."""


def format_row(row: EmissionsRow, *, in_words: bool = True) -> dict[str, Mapping[str, str]]:
    """Return column → language → text, for values with an interval and their parts; empty without energy.

    `in_words`: a total has its interval in the text; a table of many rows has it in columns of its own.
    """
    found: dict[str, Mapping[str, str]] = dict(_format_change(row))
    values: Mapping[str, Any] = row.columns
    for names, unit, interval in (
        (_KWH, "kWh", row.uncertainty.kwh),
        (_KGCO2E, "kgCO₂e", row.uncertainty.kgco2e),
    ):
        ends, wider = interval.ends, interval.sensitivity
        if ends is None:
            continue
        digits = decimals((ends[1] - ends[0]) / 2)
        for name in names:
            value = values[name]
            if value is not None:
                found[name] = format_number(value, digits)
        if in_words and row.level == "total" and names[0] in found:
            found[names[0]] = _with_interval(
                found[names[0]], unit, _range(ends, digits), wider and _range(wider, digits)
            )
    return found


def _format_change(row: EmissionsRow) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield observed days of the period, and effects with their margins,
    even where an effect is below its margin.
    """
    values: Mapping[str, Any] = row.columns
    if row.activity.days_observed is not None:
        days, whole = round(row.activity.days_observed), (row.key.period_to - row.key.period_from).days
        yield "days_observed", {"fr": f"{days} sur {whole}", "en": f"{days} of {whole}"}
    if row.change.days_observed_before is not None:
        yield "days_observed_before", format_number(row.change.days_observed_before, 0)
    for name in _CHANGES:
        value, margin = values[f"{name}_kwh"], values[f"{name}_margin_kwh"]
        if value is not None and margin is not None:
            digits = decimals(margin)
            texts, margins = format_number(value, digits), format_number(margin, digits)
            yield (
                f"{name}_kwh",
                {language: f"{text} ± {margins[language]}" for language, text in texts.items()},
            )


def _with_interval(
    value: Mapping[str, str], unit: str, ends: Mapping[str, str], wider: Mapping[str, str] | None
) -> dict[str, str]:
    """Add the interval to a text; `wider`: the sensitivity, for an interval that may not be called 95 %."""
    if wider is None:
        return {language: f"{text}\u00a0{unit} ({ends[language]})" for language, text in value.items()}
    factor = format_number(SELECTION, 1)
    return {
        "fr": f"{value['fr']}\u00a0{unit} (intervalle d’échantillonnage seulement\u00a0: "
        f"{ends['fr']}\u00a0; sensibilité, si les machines "
        f"non mesurées consomment de 1/{factor['fr']} à {factor['fr']} fois ce que disent les "
        f"mesurées\u00a0: {wider['fr']})",
        "en": f"{value['en']}\u00a0{unit} (sample interval only: {ends['en']}; sensitivity, if machines "
        f"not measured draw 1/{factor['en']} "
        f"to {factor['en']} times what measured ones say: {wider['en']})",
    }


def _range(ends: Ends, digits: int) -> dict[str, str]:
    low, high = (format_number(end, digits) for end in ends)
    return {"fr": f"{low['fr']} à {high['fr']}", "en": f"{low['en']} to {high['en']}"}


def format_number(value: float, digits: int) -> dict[str, str]:
    """Format a number to `digits` decimal places (negative: tens, hundreds), in both languages.

    1124000, −3 → 1 124 000 and 1,124,000.
    """
    whole = round(value, digits) + 0.0  # no minus before a zero
    text = f"{whole:,.{max(0, digits)}f}"
    return {"fr": text.translate(_FRENCH), "en": text}
