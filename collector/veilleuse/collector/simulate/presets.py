# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Lists the presets, and makes the order of one."""

from __future__ import annotations

from datetime import date
from typing import Final

from veilleuse.collector.calendars.periods import months_before
from veilleuse.collector.errors import UsageError
from veilleuse.collector.simulate.fleet import SimulationOrder
from veilleuse.collector.simulate.metropole import METROPOLE, ROLL_OUT_MONTHS
from veilleuse.collector.simulate.small import SMALL

PRESETS: Final = {preset.name: preset for preset in (SMALL, METROPOLE)}
_DAYS: Final = 365


def order_of(
    name: str, today: date, *, hosts: int | None, first: date | None, days: int | None, seed: int
) -> SimulationOrder:
    """Return the order of a preset; None: the preset's own value.

    A served fleet ends today, and begins with the last whole year, or earlier. Raises UsageError.
    """
    preset = PRESETS.get(name)
    if preset is None:
        raise UsageError(f"--preset {name}: use {' or '.join(PRESETS)}")
    if preset.is_served:
        begun = min(date(today.year - 1, 1, 1), months_before(today, ROLL_OUT_MONTHS))
        first = first or begun
        days = days or (today - first).days
    if first is None:
        raise UsageError(f"--preset {name} needs its first day: --from 2025-09-01")
    return SimulationOrder(hosts or preset.hosts, first, days or _DAYS, seed, preset)
