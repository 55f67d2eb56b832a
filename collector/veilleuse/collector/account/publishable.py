# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Rounds a closed year for publication with its months,
so that no difference reveals few PCs (pure). docs/closing.md.

A year and its months released by the API are two partitions of one time: their difference may be one machine.
Energy is rounded to a step. Half a step is more than k machines use in the period, each of the class that
uses most. So the energy of fewer machines cannot be distinguished from nothing. All other values follow from
the rounded energy, or are rounded to whole per cents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from veilleuse.collector.account.row import FigureRow, PeriodFigures
from veilleuse.collector.fleet.observations import MONITOR, PCS
from veilleuse.collector.model.figures import EmissionsRow, EmissionsStatement
from veilleuse.collector.model.query import AUTRES
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import Population

_OF_PCS: Final = frozenset({*PCS, MONITOR, AUTRES})
_LEAST_STEPS: Final = 2
"""Least energy of a published figure, in steps: below, rounding dominates it."""
_PER_CENT: Final = 100
_COVERAGE_STEPS: Final = 20
_NICE: Final = (1, 2, 5, 10)
_TOLD: Final = frozenset(
    {
        *("period_from", "period_to", "level", "entity", "site", "zone", "population", "device_class"),
        *("power_context", "beges_item", "ghg_category", "beges_item_upstream", "ghg_category_upstream"),
        *("n_fleet", "representativeness", "interval", "split_estimated", "data_type"),
        *("factor_id", "factor_series", "factor_source", "factor_published", "factor_kgco2e_per_kwh"),
        *("provisional", "basis", "incomplete", "in_beges_energie", "in_bilan_numerique"),
        *("report_id", "revision", "state", "data", "method_version", "sha256"),
    }
)
"""Columns that are not sums over PCs."""
_SPLIT: Final = ("kgco2e_combustion", "kgco2e_upstream", "kgco2e_losses", "split_residual_kgco2e")
_INTERVALS: Final = ("lo95", "hi95", "lo_sample", "hi_sample", "lo_sensitivity", "hi_sensitivity")


def round_for_publication(
    statement: EmissionsStatement, periods: Sequence[PeriodFigures], k: int
) -> EmissionsStatement:
    """Return the statement of these periods with rows of PCs and totals rounded.

    Parts of a row, changes and months are left out.
    """
    rows = (row for period in periods for row in period.rows)
    totals = (period.total for period in periods if period.total is not None)
    return EmissionsStatement(
        rows=tuple(_round_row(row, of, k) for row, of in zip(statement.rows, rows, strict=True)),
        totals=tuple(_round_row(row, of, k) for row, of in zip(statement.totals, totals, strict=True)),
        memo=tuple(row for row in statement.memo if row.key.population is Population.SERVER),
        factors=statement.factors,
        withheld=statement.withheld,
        homes=statement.homes,
    )


def step_millijoules(row: FigureRow, k: int) -> int:
    """Return the energy of 2 k machines of the row's class of PCs with the highest mean.

    It is rounded up to 1, 2 or 5 × 10ⁿ kWh; 0 where nothing is known of PCs.
    """
    means = [
        energy / max(1, figure.estimate.machines_fleet, figure.estimate.machines_sampled)
        for name, figure in row.classes.items()
        if name in _OF_PCS and (energy := figure.estimate.energy_millijoules)
    ]
    return round(_nice(2 * k * max(means) / MILLIJOULES_PER_KWH) * MILLIJOULES_PER_KWH) if means else 0


def _nice(wanted: float) -> float:
    """Return the next 1, 2 or 5 × 10ⁿ."""
    unit = 10.0 ** math.floor(math.log10(wanted))
    return next(nice * unit for nice in _NICE if nice * unit >= wanted * (1 - 1e-9))


def _round_row(row: EmissionsRow, of: FigureRow, k: int) -> EmissionsRow:
    if _OF_PCS.isdisjoint(of.classes):
        return row
    step = step_millijoules(of, k)
    exact, columns = row.energy.energy_millijoules, row.columns
    made: dict[str, Any] = {name: value for name, value in columns.items() if name in _TOLD}
    made["n"] = row.activity.n // k * k
    if exact is None or not step or exact < _LEAST_STEPS * step:
        return EmissionsRow.of({**made, "interval": None})
    energy = (exact + step // 2) // step * step
    rounded = {
        "energy_millijoules": energy,
        "kwh_total": energy / MILLIJOULES_PER_KWH,
        "coverage_states": _round_ratio(row.activity.coverage_states),
        "coverage_energy": _round_ratio(row.activity.coverage_energy),
        **_ends(columns, "kwh", energy / MILLIJOULES_PER_KWH, step / MILLIJOULES_PER_KWH),
        **_round_emissions(columns, energy / exact, step / exact),
    }
    return EmissionsRow.of({**made, **rounded})


def _round_emissions(row: Mapping[str, Any], ratio: float, step_ratio: float) -> dict[str, Any]:
    """Return the emissions columns, by the factor of the row.

    For several zones they are rounded separately: their ratio to the energy would reveal each zone's part.
    """
    total = row["kgco2e_total"]
    if not total:
        return {}
    split: dict[str, Any] = {}
    step, figure = step_ratio * total, ratio * total
    if row["zone"] is None:
        step = _nice(step)
        figure = round(total / step) * step
    else:
        split = {name: value * ratio for name in _SPLIT if (value := row[name]) is not None}
    return {"kgco2e_total": figure, **split, **_ends(row, "kgco2e", figure, step)}


def _ends(row: Mapping[str, Any], unit: str, figure: float, step: float) -> dict[str, Any]:
    """Return the interval columns: whole per cents of the figure, outward,
    with half a step of rounding added.
    """
    total, found = row[f"{unit}_total"], {}
    for end in _INTERVALS:
        value = row[f"{unit}_{end}"]
        if value is not None and total:
            percent = value / total * _PER_CENT
            found[f"{unit}_{end}"] = (
                (figure - step / 2) * math.floor(percent) / _PER_CENT
                if end.startswith("lo")
                else (figure + step / 2) * math.ceil(percent) / _PER_CENT
            )
    return found


def _round_ratio(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio * _COVERAGE_STEPS) / _COVERAGE_STEPS
