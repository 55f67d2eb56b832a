# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Holds the constants of the derivation before calibration, but for the watts in shipped_tables.
Integers: microwatts and parts per million.

Source: docs/methodology.md §1 to §3, marked [P] there (our own choice) unless a line says
otherwise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from veilleuse.collector.shipped_tables import microwatts
from veilleuse.wire.vocabulary import DeviceClass

MILLION: Final = 1_000_000


def u_ppm(gsd2: float) -> int:
    """Convert a GSD² to a standard uncertainty (k = 1, log scale), in ppm: ln(GSD²)/2."""
    return round(math.log(gsd2) / 2 * MILLION)


def u_ppm_of_percent(percent: float) -> int:
    """Convert a published ± percentage (95 % half-width) to a standard uncertainty, in ppm: ln(1 + p)/2."""
    return u_ppm(1 + percent / 100)


STATE_POWER_U_PPM: Final = u_ppm(1.5)
"""Uncertainty of state powers until calibration."""
UNKNOWN_U_PPM: Final = u_ppm(2.0)
"""Unknown class, or known class without a known load."""
THREAD_U_PPM: Final = u_ppm(2.0)
"""Virtual machine, or server of unknown CPU."""
PLUGGED_SHARE_U_PPM: Final = u_ppm(1.5)
DEFAULT_PLUGGED_SHARE_PPM: Final = 500_000
"""Share of a laptop's off and asleep time on its charger."""

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
LAPTOP_PACKAGE_U_PPM: Final = u_ppm(2.2)
"""Uncertainty of a laptop's package with the class's base: no counter tells what else a laptop draws.

exp(2 × root mean square) of ln(measured ÷ modelled) is 2.12 over the three published pairs of laptops that
set the prior (CodeCarbon, RAPL Metrics, 2026), and the largest error is 2.13, of a package without DRAM.
"""
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

SCREEN_U_PPM: Final = (u_ppm(1.5), u_ppm(1.5), u_ppm(1.5), UNKNOWN_U_PPM)
