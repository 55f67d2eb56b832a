# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the page of the method and the glossary: other pages link to its entries by their id.

Constants come from the modules that use them; no figure of the fleet is here but its factor.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from veilleuse.collector.account.emissions import grams_from_millijoules
from veilleuse.collector.account.statement import METHOD_VERSION
from veilleuse.collector.derive import priors
from veilleuse.collector.disclosure.rule import DOMINANCE_NUMERATOR
from veilleuse.collector.documents.text import NO_BREAK, Words
from veilleuse.collector.indicators import TABLE, load_indicator
from veilleuse.collector.model.indicators import Targets
from veilleuse.collector.reports.readers import targets_of
from veilleuse.collector.web.metrics.snapshot import Snapshot
from veilleuse.collector.web.pages.frame import Look
from veilleuse.collector.web.pages.indicators import definition_of, indicator_name, threshold_of
from veilleuse.collector.web.pages.parts import Grid, Head, cells
from veilleuse.wire.ladder import MEASURED, Method
from veilleuse.wire.units import GRAMS_PER_KILOGRAM, MILLIJOULES_PER_KWH

PATH: Final = "/methode"
_STEPS: Final = ("measure", "wall", "fleet", "factor", "release")
_STATUSES: Final = ("published", "provisional", "closed", "unreleased")
"""Statuses of a figure, which are the ids of their entries: a badge links to its own."""
_EXAMPLE_KWH: Final = 1_000
_MARGINS: Final[Mapping[Method, tuple[int, ...]]] = {
    Method.METERED: (priors.METER_U_PPM, priors.MACHINE_METER_U_PPM),
    Method.BATTERY: (priors.BATTERY_U_PPM,),
    Method.COUNTER_CALIBRATED: (),
    Method.COUNTER_MODELLED: (
        priors.LAPTOP_PACKAGE_U_PPM,
        *(one.u_ppm for one in priors.WALL_PRIORS.values()),
    ),
    Method.LOAD_MODELLED: (priors.STATE_POWER_U_PPM, priors.THREAD_U_PPM),
    Method.CLASS_DEFAULT: (priors.UNKNOWN_U_PPM,),
}
"""Method → standard uncertainties of one machine, ppm; none for the one that a calibration gives."""
_RATIO: Final = "ratio"
"""Unit of a figure that is written in per cent, or as a plain number."""
_SMALL: Final = 1.1
"""Largest margin that is written as a percentage."""


@dataclass(frozen=True, slots=True)
class GlossaryEntry:
    """One entry; other pages link to its id."""

    identifier: str
    name: str
    text: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MethodPage:
    """Values of the template."""

    version: str
    k: int
    share: str
    """Largest share of one machine in a published figure, per cent."""
    steps: tuple[tuple[str, str], ...]
    """(name, text)."""
    ladder: Grid
    factors: tuple[tuple[str, str], ...]
    """(text, notes): notes are provisional or not sourced; blank without any."""
    examples: tuple[str, ...]
    statuses: tuple[GlossaryEntry, ...]
    indicators: tuple[GlossaryEntry, ...]
    words: tuple[GlossaryEntry, ...]


async def method(look: Look) -> Mapping[str, object]:
    """Build the page."""
    snapshot, w, k = await look.snapshot(), look.w, look.settings.reporting.k_anonymity
    targets = targets_of(look.settings.indicators)
    page = MethodPage(
        METHOD_VERSION,
        k,
        f"{DOMINANCE_NUMERATOR}",
        tuple((w(f"method.step_{one}"), w(f"method.step_{one}_text", k=k)) for one in _STEPS),
        _ladder(w),
        tuple(factor_lines(snapshot, w)),
        tuple(_examples(snapshot, w)),
        tuple(GlossaryEntry(one, w(f"method.{one}"), w(f"method.{one}_text")) for one in _STATUSES),
        tuple(_indicator(one, w, targets) for one in TABLE),
        tuple(_words(w)),
    )
    return {"page": page}


def factor_lines(snapshot: Snapshot, w: Words) -> Iterable[tuple[str, str]]:
    """Yield (text, notes) of the factor that applies now in each grid zone of the fleet."""
    for zone, chosen in snapshot.factors_now():
        factor = chosen.factor
        grams = w.number(float(factor.total_kgco2e_per_kwh * GRAMS_PER_KILOGRAM))
        text = w("factor.text", grams=grams, zone=zone, factor_id=factor.factor_id, source=factor.source)
        notes = [w("factor.provisional", year=chosen.year)] if chosen.provisional else []
        notes += [] if factor.sourced else [w("factor.not_sourced")]
        yield text, " ".join(notes)


def _examples(snapshot: Snapshot, w: Words) -> Iterable[str]:
    energy = _EXAMPLE_KWH * MILLIJOULES_PER_KWH
    for zone, chosen in snapshot.factors_now():
        grams = w.grams(grams_from_millijoules(energy, chosen.factor.total_kgco2e_per_kwh))
        yield w(
            "method.factor_example", zone=zone, energy=f"{w.number(_EXAMPLE_KWH)}{NO_BREAK}kWh", grams=grams
        )


def _ladder(w: Words) -> Grid:
    rows = [
        cells(
            w.word("method", one.value),
            w(f"methods.{one.value}_text"),
            w("method.measured" if one in MEASURED else "method.modelled"),
            _margin(_MARGINS[one], w),
        )
        for one in Method
    ]
    rows += [
        cells(
            w(f"method.{name}_name"), w(f"terms.{term}_text"), w(f"method.{name}"), w("method.margin_sample")
        )
        for name, term in (("imputed", "impute"), ("extrapolated", "extrapole"))
    ]
    heads = (w("methods.method"), w("methods.meaning"), w("method.ladder_counts"), w("method.ladder_margin"))
    return Grid(w("method.ladder_caption"), tuple(map(Head, heads)), tuple(rows))


def _margin(uncertainties: tuple[int, ...], w: Words) -> str:
    """Write the 95 % margin of standard uncertainties on the log scale: GSD² = exp(2u)."""
    if not uncertainties:
        return w("method.margin_calibration")
    low, high = (math.exp(2 * one / priors.MILLION) for one in (min(uncertainties), max(uncertainties)))
    if high <= _SMALL:
        return w("method.margin_percent", low=round(100 * (low - 1)), high=round(100 * (high - 1)))
    low_text, high_text = (w.tick(round(one, 1)) for one in (low, high))
    return w(
        "method.margin_one" if low_text == high_text else "method.margin_range", low=low_text, high=high_text
    )


def _indicator(identifier: str, w: Words, targets: Targets) -> GlossaryEntry:
    meta = load_indicator(identifier).meta
    notes = [w("method.indicator_owner", owner=w.word("owner", meta.owner))]
    if meta.unit != _RATIO:
        notes.insert(0, w("method.indicator_unit", unit=w.word("unit", meta.unit)))
    if w.has(f"sobriety.{identifier}_threshold"):
        notes.insert(0, w("method.indicator_threshold", threshold=threshold_of(identifier, w, targets)))
    return GlossaryEntry(
        identifier, indicator_name(identifier, w), definition_of(identifier, w, targets), tuple(notes)
    )


def _words(w: Words) -> Iterable[GlossaryEntry]:
    """Yield the words in the alphabet of the language."""
    texts: Mapping[str, str] = w.texts["terms"]
    names = [key for key in texts if not key.endswith("_text")]
    for key in sorted(names, key=lambda one: unicodedata.normalize("NFD", texts[one].casefold())):
        yield GlossaryEntry(key, texts[key], texts[f"{key}_text"])
