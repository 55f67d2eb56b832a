# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Exact conversions between units of energy, power, mass and time.

A unit of one format alone, such as the inches of EDID and the centiseconds of SNMP, is converted beside its
parser. Numbers of days and hours in a week or a year are with their reports.
"""

from __future__ import annotations

from typing import Final

NANOJOULES_PER_MICROJOULE: Final = 1_000
MILLIJOULES_PER_JOULE: Final = 1_000
MICROJOULES_PER_MILLIJOULE: Final = 1_000
MICROJOULES_PER_JOULE: Final = MICROJOULES_PER_MILLIJOULE * MILLIJOULES_PER_JOULE
MICROJOULES_PER_WATT_MINUTE: Final = 60 * MICROJOULES_PER_JOULE
MICROJOULES_PER_WATT_HOUR: Final = 3_600 * MICROJOULES_PER_JOULE
MICROJOULES_PER_KILOWATT_HOUR: Final = 1_000 * MICROJOULES_PER_WATT_HOUR
JOULES_PER_KWH: Final = 3_600_000
MILLIJOULES_PER_KWH: Final = JOULES_PER_KWH * MILLIJOULES_PER_JOULE
NANOSECONDS_PER_MILLISECOND: Final = 1_000_000
MICROSECONDS_PER_MILLISECOND: Final = 1_000
HUNDREDS_OF_NANOSECONDS_PER_MILLISECOND: Final = 10_000
"""Windows counts its times in units of 100 ns."""
SECONDS_PER_MINUTE: Final = 60
MILLISECONDS_PER_SECOND: Final = 1_000
MILLISECONDS_PER_MINUTE: Final = 60_000
MILLISECONDS_PER_HOUR: Final = 3_600_000
SECONDS_PER_DAY: Final = 86_400
MILLISECONDS_PER_DAY: Final = 86_400_000
UNIX_EPOCH_DAY: Final = 719_163
"""Day number of the Unix epoch: date(1970, 1, 1).toordinal()."""
MICROWATTS_PER_MILLIWATT: Final = 1_000
MICROWATTS_PER_WATT: Final = 1_000_000
MICROAMPERE_MICROVOLTS_PER_MILLIWATT: Final = 1_000_000_000
MICROWATT_MILLISECONDS_PER_MILLIJOULE: Final = 1_000_000
MILLIWATTS_PER_WATT: Final = 1_000
WATTS_PER_KILOWATT: Final = 1_000
MILLIJOULES_PER_UNIT: Final = {
    "mJ": 1,
    "J": MILLIJOULES_PER_JOULE,
    "kJ": 1_000 * MILLIJOULES_PER_JOULE,
    "MJ": 1_000_000 * MILLIJOULES_PER_JOULE,
    "Wh": 3_600 * MILLIJOULES_PER_JOULE,
    "kWh": MILLIJOULES_PER_KWH,
    "MWh": 1_000 * MILLIJOULES_PER_KWH,
}
"""Units of energy in input files; case matters: mJ is not MJ."""
MILLIGRAMS_PER_GRAM: Final = 1_000
GRAMS_PER_KILOGRAM: Final = 1_000
KILOGRAMS_PER_TONNE: Final = 1_000


def kwh_from_millijoules(energy_millijoules: int) -> float:
    """Return energy in kWh, unrounded."""
    return energy_millijoules / MILLIJOULES_PER_KWH


def joules_from_millijoules(energy_millijoules: int) -> float:
    """Return energy in joules."""
    return energy_millijoules / MILLIJOULES_PER_JOULE


def millijoules_from_watts(power_watts: float, duration_milliseconds: int) -> float:
    """Return energy in millijoules, unrounded: 1 W over 1 ms is 1 mJ."""
    return power_watts * duration_milliseconds


def microjoules_from_picowatt_hours(energy_picowatt_hours: int) -> int:
    """Convert a counter in pWh to whole microjoules, rounded down: 1 pWh is 3.6 nJ, 9/2500 µJ exactly.

    Convert cumulative values only: the rest below 1 µJ stays in the counter, so differences do not drift.
    """
    return energy_picowatt_hours * 9 // 2_500
