# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Finds the sums that I5 of /metrics reveals of a month's machines: a ratio of two mean powers, which is
assumed to reveal both energies and both times.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Final

from tests.promises.support.isolating import Weight
from tests.promises.support.read_together import Key, Place
from veilleuse.wire.vocabulary import Band, State

NIGHT_POWER: Final = "veilleuse_month_night_power"
_SCREENS: Final = "screen"


def sums_told(
    value: float, amounts: Mapping[Key, int], places: Mapping[int, Place], of: Collection[tuple[str, str]]
) -> list[dict[Key, Weight]] | None:
    """Return quantity → weight for each sum; None for another value. `of`: populations and zones."""
    mine = {
        key: one
        for key, one in amounts.items()
        if (places[key.host].population, places[key.host].zone) in of and key.what.state is not State.UNKNOWN
    }
    sums: list[dict[Key, Weight]] = [
        {
            key: 1
            for key in mine
            if key.what.unit == unit and (key.what.band is Band.OPEN) is opened and key.what.kind != _SCREENS
        }
        for opened in (False, True)
        for unit in ("mJ", "ms")
    ]
    night_energy, night, day_energy, day = (sum(mine[key] for key in keys) for keys in sums)
    if not night or not day or not day_energy:
        return None
    is_this = math.isclose(night_energy / night / (day_energy / day), value, rel_tol=1e-9)
    return sums if is_this else None
