# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""One quantity of energy → emissions, as `veilleuse convert` answers (pure)."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from fractions import Fraction
from typing import Final

from veilleuse.collector.account.emissions import emissions, factor_u, interval
from veilleuse.collector.errors import UsageError
from veilleuse.collector.ports import ChosenFactor
from veilleuse.wire.units import MILLIJOULES_PER_KWH, MILLIJOULES_PER_UNIT

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
