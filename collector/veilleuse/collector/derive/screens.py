# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Derives the energy of external screens, separate from the machine's (pure). docs/methodology.md §3.

Internal panels belong to the machine. Only time reported by agents is derived: the time that screens are on.
No agent sees a screen that is off. That standby energy (0.3 W, some 2 kWh a year each) is added to the
fleet's figure, for the screens of the inventory (fleet.observations).
"""

from __future__ import annotations

from collections.abc import Sequence

from veilleuse.collector import shipped_tables
from veilleuse.collector.derive import priors
from veilleuse.collector.derive.counters import round_quotient
from veilleuse.collector.derive.loadmodel import part
from veilleuse.collector.derive.meters import energy_over_time, u_ppm
from veilleuse.collector.model.meters import SharedReadings
from veilleuse.collector.model.records import Cell
from veilleuse.collector.model.sums import WallEnergy
from veilleuse.wire.ladder import Method
from veilleuse.wire.sums import apportion


def screen_energies(cells: Sequence[Cell], shared: SharedReadings) -> list[WallEnergy | None]:
    """Return the energy of the machine's external screens per cell; None where nothing is known.

    Milliseconds are display-milliseconds. Screens on a declared plug are metered or not known, never
    modelled: `milliseconds` is then the time that the meter covers.
    """
    if not shared.monitor_declared:
        return [_model_screens(cell) for cell in cells]
    if shared.monitor is None or not cells:
        return [None] * len(cells)
    lengths = [cell.milliseconds for cell in cells]
    energy, covered = energy_over_time(shared.monitor, sum(lengths))
    if not covered:
        return [None] * len(cells)
    on = [sum(cell.display_milliseconds) for cell in cells]
    energies = apportion(energy, on if any(on) else lengths)
    times = apportion(covered, lengths)
    u = u_ppm(shared.monitor)
    return [
        part(Method.METERED, one, u, time) if one or time else None
        for one, time in zip(energies, times, strict=True)
    ]


def _model_screens(cell: Cell) -> WallEnergy | None:
    on = sum(cell.display_milliseconds)
    if not on:
        return None
    products = [
        power * milliseconds
        for power, milliseconds in zip(
            shipped_tables.SCREEN_MICROWATTS, cell.display_milliseconds, strict=True
        )
    ]
    errors = sum(product * u for product, u in zip(products, priors.SCREEN_U_PPM, strict=True))
    return WallEnergy(
        Method.LOAD_MODELLED,
        round_quotient(sum(products)),
        round_quotient(errors, priors.MILLION * priors.MILLION),
        on,
    )
