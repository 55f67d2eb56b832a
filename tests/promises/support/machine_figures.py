# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Finds the sums that I4 and I5 of /metrics reveal of a month's machines.

I4 by cause: closed_bands is energy idle outside opening hours less a power of the class × that time. Screens,
or `mixed`, which is closed_bands and screens, have an unknown for each machine. I5 is a ratio of two mean
powers, and is assumed to reveal both energies and both times.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from fractions import Fraction
from typing import Final

from tests.promises.support.isolating import Weight
from tests.promises.support.public_watts import watts_of
from tests.promises.support.read_together import Key, Place
from veilleuse.wire.vocabulary import Band, DeviceClass, State

AVOIDABLE: Final = "veilleuse_month_avoidable_energy_joules{cause="
NIGHT_POWER: Final = "veilleuse_month_night_power"
_SCREENS: Final = "screen"


def sums_told(
    name: str,
    value: float,
    amounts: Mapping[Key, int],
    places: Mapping[int, Place],
    of: Collection[tuple[str, str]],
) -> list[dict[Key, Weight]] | None:
    """Return quantity → weight for each sum; None for another value. `of`: populations and zones."""
    mine = {
        key: one
        for key, one in amounts.items()
        if (places[key.host].population, places[key.host].zone) in of and key.what.state is not State.UNKNOWN
    }
    if name.startswith(NIGHT_POWER):
        return _night_power(value, mine)
    closed = _closed_bands(mine, places)
    screens: dict[Key, Weight] = {
        key._replace(what=key.what._replace(kind="avoidable")): 1
        for key in mine
        if _is_idle_outside(key) and key.what.kind == _SCREENS
    }
    if name.endswith("=screens}"):
        return [screens]
    more = round(value * 1000) - sum(
        (Fraction(weight) * mine[key] for key, weight in closed.items()), Fraction(0)
    )
    if name.endswith("=mixed}"):
        most = sum(one for key, one in mine.items() if key.what.kind == _SCREENS)
        return [closed | screens] if 0 <= more <= most else None
    return [closed] if abs(more) <= len(closed) else None


def _is_idle_outside(key: Key) -> bool:
    return key.what.state is State.ON_IDLE and key.what.band is not Band.OPEN


def _closed_bands(amounts: Collection[Key], places: Mapping[int, Place]) -> dict[Key, Weight]:
    found: dict[Key, Weight] = {}
    for key in amounts:
        if _is_idle_outside(key) and key.what.kind != _SCREENS:
            device_class = DeviceClass(places[key.host].device_class)
            low = State.ASLEEP if device_class is DeviceClass.LAPTOP else State.OFF
            found[key] = 1 if key.what.unit == "mJ" else -(watts_of(device_class, low) or 0)
    return found


def _night_power(value: float, amounts: Mapping[Key, int]) -> list[dict[Key, Weight]] | None:
    sums: list[dict[Key, Weight]] = [
        {
            key: 1
            for key in amounts
            if key.what.unit == unit and (key.what.band is Band.OPEN) is opened and key.what.kind != _SCREENS
        }
        for opened in (False, True)
        for unit in ("mJ", "ms")
    ]
    night_energy, night, day_energy, day = (sum(amounts[key] for key in keys) for keys in sums)
    if not night or not day or not day_energy:
        return None
    is_this = math.isclose(night_energy / night / (day_energy / day), value, rel_tol=1e-9)
    return sums if is_this else None
