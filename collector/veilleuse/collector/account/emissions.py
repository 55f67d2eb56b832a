# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes emissions from energy and a factor, exactly,
with the uncertainty of the product and the pedigree of the energy (pure). docs/methodology.md §6 and §8.

Values are fractions: nothing is rounded until a file is written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from fractions import Fraction
from functools import cache
from typing import Final

from veilleuse.collector.errors import UsageError
from veilleuse.collector.fleet.estimate import Estimate, EstimateBasis
from veilleuse.collector.model.factors import ChosenFactor, Factor
from veilleuse.collector.model.figures import (
    FULL_INTERVAL,
    SAMPLE_INTERVAL,
    AppliedFactor,
    IntervalEnds,
    RowEmissions,
    Uncertainty,
)
from veilleuse.collector.quantiles import Z95
from veilleuse.collector.shipped_tables import load_table
from veilleuse.wire.units import (
    GRAMS_PER_KILOGRAM,
    MILLIJOULES_PER_KWH,
    MILLIJOULES_PER_UNIT,
)


def kwh(energy_millijoules: int) -> Fraction:
    """Convert millijoules to kWh, exactly."""
    return Fraction(energy_millijoules, MILLIJOULES_PER_KWH)


def kgco2e(energy_kwh: Fraction, factor_kgco2e_per_kwh: Decimal) -> Fraction:
    """Multiply kWh by kgCO2e/kWh, exactly."""
    return energy_kwh * Fraction(factor_kgco2e_per_kwh)


def grams_from_millijoules(energy_millijoules: int, factor_kgco2e_per_kwh: Decimal) -> Fraction:
    """Multiply millijoules by kgCO2e/kWh: gCO2e, exactly."""
    return kgco2e(kwh(energy_millijoules), factor_kgco2e_per_kwh) * GRAMS_PER_KILOGRAM


@dataclass(frozen=True, slots=True)
class Emissions:
    """Emissions of some energy, kgCO2e; components are None where they are not known."""

    total_kgco2e: Fraction
    combustion_kgco2e: Fraction | None = None
    upstream_kgco2e: Fraction | None = None
    losses_kgco2e: Fraction | None = None
    split_residual_kgco2e: Fraction | None = None
    """Total less components: the published total takes precedence."""
    split_estimated: bool | None = None
    """True when the shares of another year replace missing components of that year."""


def emissions(energy_kwh: Fraction, factor: Factor) -> Emissions:
    """Compute the total and components of some energy.
    10,000 kWh at ADEME 2022: 520 kg = 338 + 135 + 47.4 − 0.4.
    """
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
    """Sum emissions; the result has components only when every part has them.
    Raises ValueError without any part.
    """
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
    """Return the log-scale standard uncertainty of a factor:
    ln(1 + p)/2, and 0.108 in quadrature while provisional.
    """
    return chosen.u


def interval(value: float, u: float) -> tuple[float, float]:
    """Return the 95 % interval of a value ≥ 0: value·exp(∓1.959964·u), u log-scale standard uncertainty."""
    return value * math.exp(-Z95 * u), value * math.exp(Z95 * u)


def uncertainty(estimate: Estimate, emitted_kgco2e: float, u_factor: float) -> Uncertainty:
    """Return the intervals of an estimate and its emissions, of 95 % or of the sample only."""

    def ends(factors: Sequence[float]) -> list[float]:
        return [estimate.energy_millijoules * factor * float(kwh(1)) for factor in factors[:2]]

    both = estimate.interval(u_factor)
    emitted = (emitted_kgco2e * both[0], emitted_kgco2e * both[1])
    is_observed = estimate.basis is EstimateBasis.OBSERVED
    errors = (None if is_observed else estimate.u_sampling, estimate.u_model, u_factor)
    if estimate.is_demonstrated:
        return Uncertainty(
            FULL_INTERVAL,
            IntervalEnds(*ends(estimate.interval())),
            IntervalEnds(*emitted),
            *errors,
            both.gsd2,
        )
    wider = estimate.sensitivity(u_factor)
    return Uncertainty(
        SAMPLE_INTERVAL,
        IntervalEnds(None, None, *ends(estimate.interval()), *ends(estimate.sensitivity())),
        IntervalEnds(None, None, *emitted, emitted_kgco2e * wider[0], emitted_kgco2e * wider[1]),
        *errors,
    )


_FRENCH: Final = re.compile(r"-?(\d+|\d{1,3}( \d{3})+)(,\d+)?", re.ASCII)
_THOUSANDS_OR_FRACTION: Final = re.compile(r"-?[1-9]\d{0,2},\d{3}", re.ASCII)
Answer = dict[str, str | int | float | bool]


def energy_kwh(text: str, unit: str) -> Fraction:
    """Parse a quantity of energy into kWh, exactly.

    Raises UsageError for an ambiguous number, a number that is not ≥ 0, or an unknown unit.
    """
    factor = MILLIJOULES_PER_UNIT.get(unit)
    if factor is None:
        near = get_close_matches(unit, MILLIJOULES_PER_UNIT, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(f"unknown unit '{unit}': use one of {', '.join(MILLIJOULES_PER_UNIT)}{hint}")
    try:
        written = _with_point(text)
        value = Decimal(written if written.isascii() else "")  # no digits of another script
    except InvalidOperation as error:
        raise UsageError(f"'{text}' is not a number: write it like 12500, 12.5 or 12,5") from error
    if not value.is_finite() or value < 0:
        raise UsageError(f"'{text}' is not a quantity of energy: it must be 0 or more")
    if value.adjusted() > 30 or value.adjusted() < -30:
        raise UsageError(f"'{text}' is out of range: between 1e-30 and 1e30")
    return Fraction(value) * factor / MILLIJOULES_PER_KWH


def _with_point(text: str) -> str:
    """Replace a French decimal comma (12,5 or 1 250,5) by a point; other text stays unchanged.

    Raises UsageError for 1,250: it may be thousands or a fraction.
    """
    plain = " ".join(text.split())  # a no-break space is a space
    if _THOUSANDS_OR_FRACTION.fullmatch(plain):
        whole, _, part = plain.partition(",")
        raise UsageError(
            f"'{text}' may be thousands or a fraction: write {whole}{part} for thousands, "
            f"{whole}.{part} for a fraction"
        )
    return plain.replace(" ", "").replace(",", ".") if _FRENCH.fullmatch(plain) else text


def conversion(kwh: Fraction, chosen: ChosenFactor, zone: str) -> Answer:
    """Return the emissions of some energy, with the factor and its source; unknown values have no key."""
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


PEDIGREE_SCORES: Final = (1, 2, 3, 4, 5)
"""Very bad to very good; None = not known, which counts as very bad.

The pedigree, after ABC, gives the uncertainty of activity data, never of a factor row by row: the factor
enters once, on the total. docs/methodology.md §6.
"""


@cache
def pedigree_coefficients() -> Mapping[str, tuple[float, ...]]:
    """Return characteristic → U by score, ≥ 1. Raises ConfigurationError.
    Source: uncertainty_pedigree_abc.csv.
    """
    found = {}
    for row in load_table("uncertainty_pedigree_abc").rows:
        name, *values = row.values()
        found[name] = tuple(map(float, values))
    return found


def pedigree_gsd2(scores: Mapping[str, int | None]) -> float:
    """Return GSD² = exp(√Σ ln²U); an absent characteristic is not known. Nothing known: 2.5163566012590954.

    Raises ValueError for an unknown characteristic, or a score outside 1 to 5.
    """
    table = pedigree_coefficients()
    if strange := sorted(set(scores) - set(table)):
        raise ValueError(f"unknown characteristic '{strange[0]}': use {', '.join(table)}")
    for name, score in scores.items():
        if score is not None and score not in PEDIGREE_SCORES:
            raise ValueError(f"score {score} of {name} is not 1 to 5")
    return math.exp(
        math.sqrt(sum(math.log(values[(scores.get(name) or 1) - 1]) ** 2 for name, values in table.items()))
    )


def format_pedigree(scores: Mapping[str, int | None]) -> str:
    """Format the `pedigree` column: scores in the table's order, `reliability=4 completeness=?`."""
    return " ".join(f"{name}={scores.get(name) or '?'}" for name in pedigree_coefficients())


def row_emissions(bill: Emissions, by_contract: Fraction | None = None) -> RowEmissions:
    """Return the emissions of a row; `by_contract`: market-based ones, where contracts were entered."""
    return RowEmissions(
        float(bill.total_kgco2e),
        _float(bill.combustion_kgco2e),
        _float(bill.upstream_kgco2e),
        _float(bill.losses_kgco2e),
        _float(bill.split_residual_kgco2e),
        bill.split_estimated,
        _float(by_contract),
    )


def applied_factor(applied: Sequence[ChosenFactor]) -> AppliedFactor:
    """Return the factor of a row; a total over several factors has only `provisional`."""
    provisional = any(chosen.provisional for chosen in applied)
    if len({chosen.factor.factor_id for chosen in applied}) != 1:
        return AppliedFactor(provisional=provisional)
    factor = applied[0].factor
    return AppliedFactor(
        factor.factor_id,
        factor.series,
        factor.source,
        factor.published or None,
        float(factor.total_kgco2e_per_kwh),
        provisional,
    )


def factors_u(shares: Sequence[tuple[Fraction, ChosenFactor]]) -> float:
    """Return the factor's u on a sum over zones, independent between zones;
    for one zone, the factor's own.
    """
    if len(shares) == 1:
        return shares[0][1].u
    weights = [float(energy * Fraction(chosen.factor.total_kgco2e_per_kwh)) for energy, chosen in shares]
    whole = sum(weights)
    if not whole:
        return 0.0
    errors = [weight * chosen.u for weight, (_, chosen) in zip(weights, shares, strict=True)]
    return math.hypot(*errors) / whole


def factor_row(year: int, chosen: ChosenFactor) -> dict[str, str | float | int | bool]:
    """Return the row of an applied factor, with its source."""
    factor = chosen.factor
    return {
        "factor_id": factor.factor_id,
        "zone": factor.zone,
        "year": year,
        "factor_series": factor.series,
        "factor_kgco2e_per_kwh": float(factor.total_kgco2e_per_kwh),
        "provisional": chosen.provisional,
        "uncertainty_percent": float(factor.uncertainty_percent),
        "uncertainty_inherited": factor.uncertainty_inherited,
        "u_factor": chosen.u,
        "factor_source": factor.source,
        "factor_published": factor.published,
        "factor_sourced": factor.sourced,
        "licence": factor.licence,
    }
