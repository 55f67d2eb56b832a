# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Holds every constant of the derivation before calibration. Integers: microwatts and parts per million.

Source: docs/methodology.md §1 to §3, marked [P] there (our own choice) unless a line says
otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from itertools import pairwise
from statistics import median
from typing import Final

from veilleuse.collector.shipped_tables import load_table
from veilleuse.wire.limits import CPU_BUCKET_EDGES_PERCENT
from veilleuse.wire.vocabulary import DeviceClass

MILLION: Final = 1_000_000


def microwatts(watts: Decimal | float) -> int:
    """Convert watts to whole microwatts."""
    return round(Decimal(str(watts)) * MILLION)


def u_ppm(gsd2: float) -> int:
    """Convert a GSD² to a standard uncertainty (k = 1, log scale), in ppm: ln(GSD²)/2."""
    return round(math.log(gsd2) / 2 * MILLION)


def u_ppm_of_percent(percent: float) -> int:
    """Convert a published ± percentage (95 % half-width) to a standard uncertainty, in ppm: ln(1 + p)/2."""
    return u_ppm(1 + percent / 100)


@dataclass(frozen=True, slots=True)
class StatePowers:
    """Wall power per state of one device class, microwatts; None = the class has no such state."""

    off_microwatts: int
    sleep_microwatts: int | None
    idle_microwatts: int
    """On, screen off, CPU at rest."""
    light_microwatts: int
    """On, screen on, CPU at rest."""
    active_microwatts: int
    """On, CPU full."""


def _powers(off: float, sleep: float | None, idle: float, light: float, active: float) -> StatePowers:
    return StatePowers(
        microwatts(off),
        None if sleep is None else microwatts(sleep),
        microwatts(idle),
        microwatts(light),
        microwatts(active),
    )


STATE_POWERS: Final = {
    DeviceClass.LAPTOP: _powers(0.4, 0.8, 3, 5, 17),
    DeviceClass.MINI_PC: _powers(0.5, 1.2, 5, 7, 25),
    DeviceClass.SFF: _powers(0.5, 1.5, 10, 13, 45),
    DeviceClass.TOWER: _powers(0.8, 2.0, 20, 26, 72),
    DeviceClass.ALL_IN_ONE: _powers(0.5, 1.5, 12, 30, 55),
    DeviceClass.THIN_CLIENT: _powers(0.6, 0.8, 7, 9.5, 12),
    # No screen, so one rest power. 475 W is full load (idle/max 0.21). 175 and 300 W of
    # docs/methodology.md §2 are levels of service, which the curve reaches at 13 % and 41 % of load.
    DeviceClass.SERVER: _powers(8, None, 100, 100, 475),
    # Desktop TEC median (56.5 kWh/year), equal to the SFF row.
    DeviceClass.UNKNOWN: _powers(0.5, 1.5, 10, 13, 45),
}
"""docs/methodology.md §2, table of state powers. A virtual machine has none: its host has the energy."""

STATE_POWER_U_PPM: Final = u_ppm(1.5)
"""Uncertainty of state powers until calibration."""
UNKNOWN_U_PPM: Final = u_ppm(2.0)
"""Unknown class, or known class without a known load."""
THREAD_U_PPM: Final = u_ppm(2.0)
"""Virtual machine, or server of unknown CPU."""
PLUGGED_SHARE_U_PPM: Final = u_ppm(1.5)
DEFAULT_PLUGGED_SHARE_PPM: Final = 500_000
"""Share of a laptop's off and asleep time on its charger."""

DEFAULT_ACTIVE_LOAD_PPM: Final = 100_000
"""CPU load assumed while on-active without a measurement: 10 %, our choice."""
DEFAULT_IDLE_LOAD_PPM: Final = 20_000
"""CPU load assumed while on-idle (< 5 % by the idle rule): 2 %, our choice."""

MODULE_MICROWATTS: Final = microwatts(2.5)
"""Power of a memory module: middle of 2-3 W."""
MODULES_INCLUDED: Final = 2
"""Modules within the state powers (TEC is declared with the usual one or two); our choice."""
MODULE_CLASSES: Final = frozenset(
    {DeviceClass.MINI_PC, DeviceClass.SFF, DeviceClass.TOWER, DeviceClass.ALL_IN_ONE}
)

BATTERY_TO_WALL_PPM: Final = round(MILLION / 0.84)
"""Discharged energy to wall: 0.95 battery × 0.88 adapter = 0.84, [M] in docs/methodology.md §1."""
BATTERY_U_PPM: Final = u_ppm(1.2)

METER_U_PPM: Final = u_ppm_of_percent(2)
"""Plug and PDU outlet: ± 2 %, our choice (a class 2 meter; IEC 62053-21 from memory)."""
MACHINE_METER_U_PPM: Final = u_ppm_of_percent(5)
"""UPS, BMC and hwmon power meters: ± 5 %, our choice."""


@dataclass(frozen=True, slots=True)
class WallPrior:
    """P_wall = a + b·P_counters, only while on."""

    base_microwatts: int
    slope_ppm: int
    u_ppm: int


_SLOPE_ADAPTER: Final = round(MILLION / 0.88)
WALL_PRIORS: Final = {
    DeviceClass.LAPTOP: WallPrior(microwatts(3), round(1.20 * MILLION / 0.88), u_ppm(1.6)),
    DeviceClass.MINI_PC: WallPrior(microwatts(12), 1_250_000, u_ppm(1.5)),
    DeviceClass.SFF: WallPrior(microwatts(12), 1_250_000, u_ppm(1.5)),
    DeviceClass.TOWER: WallPrior(microwatts(20), 1_350_000, u_ppm(1.5)),
    # Our choice: the SFF's, and 15 W of panel; a wider u, because the panel's state is not known.
    DeviceClass.ALL_IN_ONE: WallPrior(microwatts(27), 1_250_000, u_ppm(1.6)),
    DeviceClass.SERVER: WallPrior(microwatts(10), 1_700_000, u_ppm(1.9)),
}
"""Package + DRAM to wall. Laptop: 1.5 W + 1.5 W of panel. A class without an entry has no wall model."""
HARD_DISK_MICROWATTS: Final = microwatts(6)
SOLID_STATE_DISK_MICROWATTS: Final = microwatts(2)
"""Power per disk, added to a server's base."""
PLATFORM_SLOPE_PPM: Final = _SLOPE_ADAPTER
"""psys contains the platform: only the supply's loss is added (0.88), no base; our choice."""

PSYS_DISCHARGE_PPM: Final = 1_200_000
"""psys is trusted up to 1.2 × the battery's discharge.
docs/methodology.md §1: 12.2 W against 9.3 W on one Kaby Lake.
"""
PSYS_CHECK_MILLISECONDS: Final = 600_000
"""Least time on battery for that check: 10 minutes, our choice."""

SHARE_U_PPM: Final = u_ppm(1.2)
"""Uncertainty of one machine's declared share of a meter: GSD² 1.2, our choice.
The shares' sum is the meter's.
"""
PUE_U_PPM: Final = u_ppm(1.1)
SENSITIVITY_PUE_PPM: Final = 1_550_000
"""PUE of the sensitivity line, for an unknown PUE."""

SCREEN_MICROWATTS: Final = (microwatts(11), microwatts(12.5), microwatts(17), microwatts(12.5))
"""External screen that is on, in the order of wire.limits.DISPLAY_SIZES.

22-27 inches: docs/methodology.md §3. Other sizes: p25 and p75 of device_tec_percentiles.csv (35.5 and 54.1
kWh a year), at 35 % on and 0.3 W otherwise. An unknown size uses the middle value.
"""
SCREEN_U_PPM: Final = (u_ppm(1.5), u_ppm(1.5), u_ppm(1.5), UNKNOWN_U_PPM)

CURVE_EXPONENT: Final = 1.4
"""f(u) = 2u − u^1.4: Fan, Weber, Barroso, Power provisioning for a warehouse-sized computer, ISCA 2007.

It is quoted by others (the models of OpenDC and DSLab); the paper itself was not read.
"""


CURVE_SLOPE_AT_REST: Final = 2
"""f′(0): the largest slope, because the curve is concave."""


def curve_ppm(load_ppm: int) -> int:
    """Return the share of the range from idle to active power at a CPU load of 0 to 1,000,000 ppm.

    The curve is concave, 0 at 0 and 1 at 1.
    """
    load = load_ppm / MILLION
    share: float = 2 * load - load**CURVE_EXPONENT
    return round(share * MILLION)


def _bucket_loads_ppm() -> tuple[int, ...]:
    edges = (0, *CPU_BUCKET_EDGES_PERCENT, 100)
    return tuple((low + high) * 5_000 for low, high in pairwise(edges))


BUCKET_CURVE_PPM: Final = tuple(curve_ppm(load) for load in _bucket_loads_ppm())
"""The curve at the middle of each of the 13 CPU buckets."""


@cache
def thread_microwatts() -> tuple[int, int]:
    """Return the (idle, full load) power of one hardware thread, microwatts: medians over architectures.

    Source: server_cpu_minmax_ccf.csv (Cloud Carbon Footprint; EPYC 5th Gen excluded). Raises
    ConfigurationError.
    """
    rows = load_table("server_cpu_minmax_ccf").rows
    return (
        microwatts(median(Decimal(row["min_watts_per_thread"]) for row in rows)),
        microwatts(median(Decimal(row["max_watts_per_thread"]) for row in rows)),
    )
