# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Typical energy consumption (TEC) of a computer: state powers over a standard year (pure). METHOD.md §3.

What published TEC figures are compared with, and never a real year: a tower that is never switched off draws 350 kWh, and that is
the finding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Final

from veilleuse.collector.derive.priors import MILLION, StatePowers
from veilleuse.collector.shipped_tables import load_table

EU_617_2013: Final = "EU 617/2013 and ENERGY STAR 5.2"
ENERGY_STAR_8: Final = "ENERGY STAR 8.0"
NOTEBOOK: Final = "notebook"
DESKTOP: Final = "desktop/integrated desktop"
HOURS_PER_YEAR: Final = 8_760
"""Both schemes': 365 days."""
_WATTS_PER_KILOWATT: Final = 1_000


@dataclass(frozen=True, slots=True)
class Duty:
    """Shares of a year; they sum to 1."""

    off: Fraction
    sleep: Fraction
    long_idle: Fraction
    """Screen off; 0 where the scheme knows one idle mode."""
    short_idle: Fraction


@cache
def duties() -> Mapping[tuple[str, str], Duty]:
    """(scheme, device) → its duty. Source: tec_mode_weights.csv. Raises ConfigurationError."""
    return {
        (row["scheme"], row["device"]): Duty(
            *(Fraction(row[name] or "0") for name in ("t_off", "t_sleep", "t_long_idle", "t_short_idle"))
        )
        for row in load_table("tec_mode_weights").rows
    }


def tec_kwh_per_year(
    duty: Duty, off: Decimal, sleep: Decimal, long_idle: Decimal, short_idle: Decimal
) -> Fraction:
    """kWh a year, exactly, of these powers in watts ≥ 0."""
    watts = (
        duty.off * Fraction(off)
        + duty.sleep * Fraction(sleep)
        + duty.long_idle * Fraction(long_idle)
        + duty.short_idle * Fraction(short_idle)
    )
    return watts * HOURS_PER_YEAR / _WATTS_PER_KILOWATT


def tec_of(powers: StatePowers, duty: Duty) -> Fraction:
    """Of a class as the load model has it, kWh a year: idle with the screen off is its `idle`, with it on its `light`."""

    def watts(microwatts: int | None) -> Decimal:
        return Decimal(microwatts or 0) / MILLION

    return tec_kwh_per_year(
        duty,
        watts(powers.off_microwatts),
        watts(powers.sleep_microwatts),
        watts(powers.idle_microwatts),
        watts(powers.light_microwatts),
    )
