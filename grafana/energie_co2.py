# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Lists the panels of *Énergie et CO2*: the fleet by released years and months; servers now and yesterday."""

from __future__ import annotations

from typing import Final

from grafana.queries import (
    PHYSICAL,
    VIRTUAL,
    Board,
    Form,
    Panel,
    Query,
    Row,
    by_label,
    chosen,
    hourly,
    kwh,
    tonnes,
    total,
)
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.metric import Metric

_NO_TARGET: Final = "a quantity: no target is set for it"


def _newest(metric: Metric) -> str:
    """Build a selector of the newest year that has a released month: two years are never in one bar chart."""
    months = f'label_replace({chosen(c.FLEET_MONTH_ENERGY)}, "year", "$1", "month", "(.{{4}}).*")'
    return f"({chosen(metric)} and on (year) {months})"


ENERGIE_CO2: Final = Board(
    "energie-co2",
    (
        Row(
            100,
            "year",
            (
                Panel(
                    1,
                    "year_emissions",
                    Form.STAT,
                    "masst",
                    "bilan",
                    _NO_TARGET,
                    (
                        Query(
                            tonnes(total(chosen(c.FLEET_YEAR_EMISSIONS), "year", "state")),
                            ("{year}", "{state:year_state}"),
                        ),
                    ),
                    6,
                    5,
                    2,
                ),
                Panel(
                    2,
                    "year_interval",
                    Form.STAT,
                    "masst",
                    "quality",
                    "an interval has no target",
                    tuple(
                        Query(tonnes(chosen(metric, 'perimeter="total"')), ("{year}", end, "{interval}"))
                        for metric, end in (
                            (c.FLEET_YEAR_EMISSIONS_LOW, "low"),
                            (c.FLEET_YEAR_EMISSIONS_HIGH, "high"),
                        )
                    ),
                    6,
                    5,
                    2,
                ),
                Panel(
                    3,
                    "year_energy",
                    Form.STAT,
                    "kwatth",
                    "bilan",
                    _NO_TARGET,
                    (
                        Query(
                            kwh(total(chosen(c.FLEET_YEAR_ENERGY), "year", "state")),
                            ("{year}", "{state:year_state}"),
                        ),
                    ),
                    6,
                    5,
                    1,
                ),
                Panel(
                    4,
                    "factor",
                    Form.NAMES,
                    "none",
                    "method",
                    "a published constant",
                    (
                        Query(
                            chosen(c.FLEET_EMISSIONS_INFO),
                            ("{year}", "{zone}", "{factor_kgco2e_per_kwh}", "{provisional}", "{factor_id}"),
                        ),
                    ),
                    6,
                    5,
                ),
                Panel(
                    5,
                    "perimeters",
                    Form.BARS,
                    "masst",
                    "bilan",
                    _NO_TARGET,
                    (by_label(_newest(c.FLEET_YEAR_EMISSIONS), "perimeter", convert=tonnes),),
                    12,
                    decimals=2,
                ),
                Panel(
                    6,
                    "classes",
                    Form.BARS,
                    "kwatth",
                    "bilan",
                    _NO_TARGET,
                    (by_label(_newest(c.FLEET_YEAR_ENERGY), "device_class", convert=kwh),),
                    12,
                    decimals=1,
                ),
                Panel(
                    7,
                    "months_emissions",
                    Form.COLUMNS,
                    "masst",
                    "bilan",
                    _NO_TARGET,
                    (by_label(chosen(c.FLEET_MONTH_EMISSIONS), "month", "perimeter", convert=tonnes),),
                    12,
                    9,
                    3,
                ),
                Panel(
                    8,
                    "months_energy",
                    Form.COLUMNS,
                    "kwatth",
                    "bilan",
                    _NO_TARGET,
                    (by_label(chosen(c.FLEET_MONTH_ENERGY), "month", "perimeter", convert=kwh),),
                    12,
                    9,
                    1,
                ),
            ),
        ),
        Row(
            200,
            "now",
            (
                Panel(
                    9,
                    "power",
                    Form.STAT,
                    "watt",
                    "servers",
                    _NO_TARGET,
                    (Query(total(chosen(c.POWER, PHYSICAL)), ("servers",)),),
                    6,
                    decimals=1,
                ),
                Panel(
                    10,
                    "power_classes",
                    Form.STACK,
                    "watt",
                    "servers",
                    _NO_TARGET,
                    (by_label(hourly(c.ENERGY, PHYSICAL), "device_class"),),
                    6,
                ),
                Panel(
                    11,
                    "power_methods",
                    Form.STACK,
                    "watt",
                    "method",
                    _NO_TARGET,
                    (by_label(hourly(c.ENERGY, PHYSICAL), "method"),),
                    6,
                ),
                Panel(
                    12,
                    "virtual",
                    Form.LINES,
                    "watt",
                    "servers",
                    "in no total: the host already counts it",
                    (by_label(hourly(c.ENERGY, VIRTUAL), "method"),),
                    6,
                ),
            ),
        ),
        Row(
            300,
            "yesterday",
            (
                Panel(
                    13,
                    "day_energy",
                    Form.BARS,
                    "kwatth",
                    "servers",
                    _NO_TARGET,
                    (by_label(chosen(c.DAY_ENERGY, PHYSICAL), "device_class", convert=kwh),),
                    12,
                    decimals=2,
                ),
                Panel(
                    14,
                    "day_emissions",
                    Form.BARS,
                    "massg",
                    "method",
                    _NO_TARGET,
                    (by_label(chosen(c.DAY_EMISSIONS, PHYSICAL), "device_class"),),
                    12,
                    decimals=1,
                ),
            ),
        ),
    ),
)
