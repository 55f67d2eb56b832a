# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Decides whether a calibration may be used: fits from reference units, or the reason for refusal (pure).

A fit must predict unseen data better than the prior. Each unit is predicted from the others. With one unit,
each stretch of its time (whole days where it has some) is predicted from the rest. The prior's spread between
units is then added, because one unit does not show the next one. Both errors are relative to the unit's mean
power: root mean squares over ten minutes, then over units. The meter's own error is added to the fit's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from veilleuse.collector.derive import priors
from veilleuse.collector.derive.calibration.fit import (
    BETWEEN_UNITS,
    ModelLine,
    UnidentifiedUnit,
    UnitLine,
    model_line,
    standby_fit,
    unit_line,
)
from veilleuse.collector.derive.calibration.moments import Moments, Pair, Unit, sum_moments
from veilleuse.collector.model.calibration import MILLION, THOUSAND, WALL, Fit, Hardware, KeptFit, Provenance
from veilleuse.collector.quantiles import Z95, quantile95
from veilleuse.wire.units import MILLISECONDS_PER_HOUR

HELD_OUT: Final = 8
"""Greatest number of stretches of one unit's time; our choice."""
HELD_OUT_DAYS: Final = 4
"""Number of days from which stretches are whole days; our choice."""
STANDBY_MILLISECONDS: Final = MILLISECONDS_PER_HOUR // 2
"""Least time off or asleep, our choice: a plug has a resolution of tenths of a watt."""
SLOPES: Final = (0.8, 6.5)
"""Range of b: wall ÷ RAPL pairs in sources run from 1.3 to 6.5 (docs/methodology.md §1).

Below 0.8 the meter would read less than a part of the machine.
"""
_LARGEST: Final = 2**62
"""Greatest integer for the store, with a margin."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Reference meter of the units."""

    source: str
    """readings, meters or battery."""
    meter: str
    meter_u_ppm: int
    floor_u_ppm: int = 0
    source_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One quantity of one hardware model: the fit, and whether it may be used."""

    hardware: Hardware
    quantity: str
    kept: KeptFit | None
    """None when no line could be fitted at all."""
    half_widths: Pair
    """95 % half-widths of base (watts) and slope, with the meter's gain; zeros without a fit."""
    refused: str | None
    """Reason why it may not be used; None when it may."""
    left_out: tuple[tuple[str, str], ...] = ()
    """(unit, reason)."""


def wall_outcome(hardware: Hardware, signal: str, units: Sequence[Unit], reference: Reference) -> Outcome:
    """Fit the wall line of a model for one sum of counters."""
    lines: list[tuple[Unit, UnitLine]] = []
    left_out: list[tuple[str, str]] = []
    for unit in units:
        try:
            lines.append((unit, unit_line(unit)))
        except UnidentifiedUnit as reason:
            left_out.append((unit.name, str(reason)))
    quantity, out = WALL + signal, tuple(left_out)
    if not lines:
        why = "no unit has a line of its own: " + "; ".join(f"{name}: {reason}" for name, reason in out)
        return Outcome(hardware, quantity, None, Pair(0.0, 0.0), why, out)
    used = [unit for unit, _ in lines]
    model = model_line([line for _, line in lines])
    errors = _errors(lines, reference)
    prior = priors.WALL_PRIORS.get(hardware.device_class)
    fit = _fit(quantity, model, reference, priors.UNKNOWN_U_PPM if prior is None else prior.u_ppm)
    provenance = provenance_of(used, reference, model.degrees_of_freedom, errors)
    refused = _impossible(model.line, used, fit) or not_better(*errors, alone=len(used) == 1)
    kept = KeptFit(hardware, fit, provenance)
    return Outcome(hardware, quantity, kept, _half_widths(model, reference), refused, out)


def standby_outcome(
    hardware: Hardware, quantity: str, units: Sequence[Unit], reference: Reference
) -> Outcome:
    """Fit the power of a model off or asleep; units: at least one."""
    long = [unit for unit in units if unit.total.t >= STANDBY_MILLISECONDS]
    left_out = tuple(
        (unit.name, "less than half an hour in that state") for unit in units if unit not in long
    )
    if not long:
        return Outcome(
            hardware, quantity, None, Pair(0.0, 0.0), "no unit was half an hour in that state", left_out
        )
    units = long
    watts = [unit.total.wall_watts for unit in units]
    prior = [unit.total.m / unit.total.t for unit in units]
    found = standby_fit(watts, prior)
    line = ModelLine(Pair(found.watts, 0.0), found.covariance, found.degrees_of_freedom)
    errors = (found.error_before, math.hypot(found.error_after, reference.meter_u_ppm / MILLION))
    fit = _fit(quantity, line, reference, priors.STATE_POWER_U_PPM)
    provenance = provenance_of(units, reference, found.degrees_of_freedom, errors)
    refused = not_better(*errors, alone=len(units) == 1)
    kept = KeptFit(hardware, fit, provenance)
    return Outcome(hardware, quantity, kept, _half_widths(line, reference), refused, left_out)


def not_better(before: float, after: float, *, alone: bool) -> str | None:
    """Return the reason to refuse a fit that does not beat the prior out of sample; None when it does."""
    if after < before:
        return None
    more = " (one unit says nothing of the next: 10 % are added for that; a second unit would show it)"
    return f"it does not beat the prior out of sample: error {after:.1%} against {before:.1%}" + more * alone


def provenance_of(
    units: Sequence[Unit], reference: Reference, degrees_of_freedom: float, errors: tuple[float, float]
) -> Provenance:
    """Return the provenance of a fit; it names no unit."""
    whole = sum_moments(unit.total for unit in units)
    days = [day for unit in units for day in unit.days()]
    known = math.isfinite(degrees_of_freedom)
    return Provenance(
        reference=reference.source,
        meter=reference.meter,
        units=len(units),
        samples=whole.samples,
        hours=round(whole.t / MILLISECONDS_PER_HOUR),
        first_day=min(days).isoformat(),
        last_day=max(days).isoformat(),
        degrees_of_freedom_milli=round(degrees_of_freedom * THOUSAND) if known else 0,
        error_before_ppm=_ppm(errors[0]),
        error_after_ppm=_ppm(errors[1]),
        source_sha256=reference.source_sha256,
    )


def _errors(lines: Sequence[tuple[Unit, UnitLine]], reference: Reference) -> tuple[float, float]:
    """Return the (prior's, fit's) relative error out of sample."""
    pairs: list[tuple[float, float]] = []
    spread = 0.0
    if len(lines) == 1:
        ((unit, whole),) = lines
        spread = BETWEEN_UNITS
        pieces = unit.stretches(HELD_OUT, HELD_OUT_DAYS)
        for held_out in pieces:
            rest = Unit(unit.name, {k: v for k, v in unit.blocks.items() if k not in held_out.blocks})
            pairs.append(_misses(held_out, _line_of(rest, whole.line), whole.wall_watts))
    else:
        for number, (unit, own) in enumerate(lines):
            others = model_line([line for at, (_, line) in enumerate(lines) if at != number])
            pairs.append(_misses(unit, others.line, own.wall_watts))
    before, after = (math.sqrt(sum(column) / len(pairs)) for column in zip(*pairs, strict=True))
    return before, math.sqrt(after**2 + spread**2 + (reference.meter_u_ppm / MILLION) ** 2)


def _line_of(rest: Unit, otherwise: Pair) -> Pair:
    try:
        return unit_line(rest).line
    except UnidentifiedUnit:  # all changes of its load are in the held-out stretch
        return otherwise


def _misses(unit: Unit, line: Pair, watts: float) -> tuple[float, float]:
    """Return the mean squared relative errors of (prior, line) over the ten-minute blocks of a unit."""
    before = after = time = 0.0
    for block in unit.blocks.values():
        before += (block.m - block.e) ** 2 / block.t
        after += (line.a * block.t + line.b * block.c - block.e) ** 2 / block.t
        time += block.t
    return before / time / watts**2, after / time / watts**2


def _fit(quantity: str, model: ModelLine, reference: Reference, ceiling_u_ppm: int) -> Fit:
    covariance = model.covariance
    return Fit(
        quantity=quantity,
        base_microwatts=_ppm(model.line.a),
        slope_ppm=_ppm(model.line.b),
        base_variance=round(covariance.aa * MILLION**2),
        covariance=round(covariance.ab * MILLION**2),
        slope_variance=round(covariance.bb * MILLION**2),
        expansion_ppm=_ppm(quantile95(model.degrees_of_freedom) / Z95),
        meter_u_ppm=reference.meter_u_ppm,
        floor_u_ppm=min(reference.floor_u_ppm, ceiling_u_ppm),
        ceiling_u_ppm=ceiling_u_ppm,
    )


def _impossible(line: Pair, units: Sequence[Unit], fit: Fit) -> str | None:
    """Return the reason why a line cannot be that of a machine, with the probable cause."""
    blocks: list[Moments] = [block for unit in units for block in unit.blocks.values()]
    whole = sum_moments(blocks)
    if whole.e < SLOPES[0] * whole.c:
        return (
            f"the meter says {whole.wall_watts:.1f} W where the counters of a part of the machine say "
            f"{whole.counter_watts:.1f} W: wrong machine, unit of measurement or clock"
        )
    if not SLOPES[0] <= line.b <= SLOPES[1]:
        return (
            f"b = {line.b:.2f} is not between {SLOPES[0]} and {SLOPES[1]}: the meter does not follow "
            "the counters; "
            "look at its clock, and at what else is plugged in"
        )
    lowest = min(block.counter_watts for block in blocks if block.t > 0)
    if line.a + line.b * lowest <= 0:
        return f"the line falls to {line.a + line.b * lowest:.1f} W within what was measured"
    if any(abs(number) > _LARGEST for number in (fit.base_variance, fit.covariance, fit.slope_variance)):
        return "its numbers are larger than a machine's"
    return None


def _half_widths(model: ModelLine, reference: Reference) -> Pair:
    t, gain = quantile95(model.degrees_of_freedom), Z95 * reference.meter_u_ppm / MILLION
    return Pair(
        math.hypot(t * math.sqrt(max(0.0, model.covariance.aa)), gain * model.line.a),
        math.hypot(t * math.sqrt(max(0.0, model.covariance.bb)), gain * model.line.b),
    )


def _ppm(value: float) -> int:
    return round(value * MILLION)
