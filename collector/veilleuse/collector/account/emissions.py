# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Energy × factor → emissions, exactly, and the uncertainty of the product (pure). docs/methodology.md §6 and §8.

Fractions inside: nothing is rounded until a file is written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from fractions import Fraction
from typing import Any, Final

from veilleuse.collector.errors import UsageError
from veilleuse.collector.fleet.estimate import Estimate
from veilleuse.collector.model.figures import FULL_INTERVAL, SAMPLE_INTERVAL
from veilleuse.collector.ports import ChosenFactor, Factor
from veilleuse.wire.units import GRAMS_PER_KILOGRAM, MILLIJOULES_PER_KWH, MILLIJOULES_PER_UNIT

Z95: Final = 1.959964
"""Two-sided 95 % quantile of the normal law."""


def kwh(energy_millijoules: int) -> Fraction:
    """Millijoules as kWh, exactly."""
    return Fraction(energy_millijoules, MILLIJOULES_PER_KWH)


def kgco2e(energy_kwh: Fraction, factor_kgco2e_per_kwh: Decimal) -> Fraction:
    """kWh × kgCO2e/kWh, exactly."""
    return energy_kwh * Fraction(factor_kgco2e_per_kwh)


def grams_from_millijoules(energy_millijoules: int, factor_kgco2e_per_kwh: Decimal) -> Fraction:
    """Millijoules × kgCO2e/kWh → gCO2e, exactly."""
    return kgco2e(kwh(energy_millijoules), factor_kgco2e_per_kwh) * GRAMS_PER_KILOGRAM


@dataclass(frozen=True, slots=True)
class Emissions:
    """kgCO2e of some energy; components None when they cannot be told."""

    total_kgco2e: Fraction
    combustion_kgco2e: Fraction | None = None
    upstream_kgco2e: Fraction | None = None
    losses_kgco2e: Fraction | None = None
    split_residual_kgco2e: Fraction | None = None
    """Total less components: the published total rules."""
    split_estimated: bool | None = None
    """True when the shares of another year stand in for components of that year."""


def emissions(energy_kwh: Fraction, factor: Factor) -> Emissions:
    """Total and components of some energy. 10,000 kWh at ADEME 2022: 520 kg = 338 + 135 + 47.4 − 0.4."""
    total = kgco2e(energy_kwh, factor.total_kgco2e_per_kwh)
    if factor.components:
        parts = {name: kgco2e(energy_kwh, value) for name, value in factor.components}
    elif factor.estimated_shares:
        parts = {name: total * Fraction(share) for name, share in factor.estimated_shares}
    else:
        return Emissions(total)
    return Emissions(
        total,
        parts["combustion"],
        parts["upstream"],
        parts["losses"],
        total - sum(parts.values()),
        not factor.components,
    )


def sum_emissions(parts: Iterable[Emissions]) -> Emissions:
    """Sum; components only when every part has them. Raises ValueError on nothing."""
    items = list(parts)
    if not items:
        raise ValueError("nothing to sum")
    total = sum((item.total_kgco2e for item in items), Fraction(0))
    if any(item.split_estimated is None for item in items):
        return Emissions(total)
    return Emissions(
        total,
        _sum(item.combustion_kgco2e for item in items),
        _sum(item.upstream_kgco2e for item in items),
        _sum(item.losses_kgco2e for item in items),
        _sum(item.split_residual_kgco2e for item in items),
        any(item.split_estimated for item in items),
    )


def _sum(values: Iterable[Fraction | None]) -> Fraction:
    return sum((value for value in values if value is not None), Fraction(0))


def factor_u(chosen: ChosenFactor) -> float:
    """Log-scale standard uncertainty of an applied factor: ln(1 + p)/2, and 0.108 in quadrature while provisional."""
    return chosen.u


def interval(value: float, u: float) -> tuple[float, float]:
    """95 % interval of a value ≥ 0 with log-scale standard uncertainty u: value·exp(∓1.959964·u)."""
    return value * math.exp(-Z95 * u), value * math.exp(Z95 * u)


def intervals(told: Estimate, emitted_kgco2e: float, u_factor: float) -> dict[str, Any]:
    """The columns that hold the interval of an estimate and of what it emits, by what the interval may be called."""

    def ends(kind: str, of_energy: Sequence[float], of_emissions: Sequence[float]) -> dict[str, float]:
        return {
            f"kwh_lo{kind}": told.energy_millijoules * of_energy[0] * float(kwh(1)),
            f"kwh_hi{kind}": told.energy_millijoules * of_energy[1] * float(kwh(1)),
            f"kgco2e_lo{kind}": emitted_kgco2e * of_emissions[0],
            f"kgco2e_hi{kind}": emitted_kgco2e * of_emissions[1],
        }

    both = told.interval(u_factor)
    if told.is_demonstrated:
        return {"interval": FULL_INTERVAL, **ends("95", told.interval(), both), "gsd2": both.gsd2}
    return {
        "interval": SAMPLE_INTERVAL,
        **ends("_sample", told.interval(), both),
        **ends("_sensitivity", told.sensitivity(), told.sensitivity(u_factor)),
    }


_FRENCH: Final = re.compile(r"-?(\d+|\d{1,3}( \d{3})+)(,\d+)?", re.ASCII)
_THOUSANDS_OR_FRACTION: Final = re.compile(r"-?[1-9]\d{0,2},\d{3}", re.ASCII)
Answer = dict[str, str | int | float | bool]


def energy_kwh(text: str, unit: str) -> Fraction:
    """A written quantity in kWh, exactly. Raises UsageError when it is no number ≥ 0, may be two, or the unit is not known."""
    factor = MILLIJOULES_PER_UNIT.get(unit)
    if factor is None:
        near = get_close_matches(unit, MILLIJOULES_PER_UNIT, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"unknown unit '{unit}': use one of {', '.join(MILLIJOULES_PER_UNIT)}{hint}")
    try:
        value = Decimal(_with_point(text))
    except InvalidOperation as error:
        raise UsageError(f"'{text}' is not a number: write it like 12500, 12.5 or 12,5") from error
    if not value.is_finite() or value < 0:
        raise UsageError(f"'{text}' is not a quantity of energy: it must be 0 or more")
    if value.adjusted() > 30 or value.adjusted() < -30:
        raise UsageError(f"'{text}' is out of range: between 1e-30 and 1e30")
    return Fraction(value) * factor / MILLIJOULES_PER_KWH


def _with_point(text: str) -> str:
    """A number as French writes it (12,5 or 1 250,5), with a decimal point; else unchanged. Raises UsageError: 1,250 may be two."""
    plain = " ".join(text.split())  # a no-break space is a space
    if _THOUSANDS_OR_FRACTION.fullmatch(plain):
        whole, _, part = plain.partition(",")
        raise UsageError(
            f"'{text}' may be thousands or a fraction: write {whole}{part} for thousands, {whole}.{part} for a fraction"
        )
    return plain.replace(" ", "").replace(",", ".") if _FRENCH.fullmatch(plain) else text


def conversion(kwh: Fraction, chosen: ChosenFactor, zone: str) -> Answer:
    """What the energy emits, with the factor and where it comes from; what cannot be told has no key."""
    factor = chosen.factor
    billed = emissions(kwh, factor)
    u = factor_u(chosen)
    low, high = interval(float(billed.total_kgco2e), u)
    answer: dict[str, str | int | float | bool | None] = {
        "kwh": float(kwh),
        "zone": zone,
        "year": chosen.year,
        "factor_id": factor.factor_id,
        "factor_kgco2e_per_kwh": float(factor.total_kgco2e_per_kwh),
        "kgco2e_total": float(billed.total_kgco2e),
        "provisional": chosen.provisional,
        "kgco2e_combustion": _float(billed.combustion_kgco2e),
        "kgco2e_upstream": _float(billed.upstream_kgco2e),
        "kgco2e_losses": _float(billed.losses_kgco2e),
        "split_residual_kgco2e": _float(billed.split_residual_kgco2e),
        "split_estimated": billed.split_estimated,
        "kgco2e_lo95": low,
        "kgco2e_hi95": high,
        "u_factor": u,
        "factor_series": factor.series,
        "factor_source": factor.source,
        "factor_published": factor.published or None,
        "factor_accessed": factor.accessed or None,
        "factor_sourced": factor.sourced,
        "factor_uncertainty_percent": float(factor.uncertainty_percent),
        "factor_uncertainty_inherited": factor.uncertainty_inherited,
        "licence": factor.licence,
    }
    return {name: value for name, value in answer.items() if value is not None}


def _float(value: Fraction | None) -> float | None:
    return None if value is None else float(value)
