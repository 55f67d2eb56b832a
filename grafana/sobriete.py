# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Lists the panels of *Sobriété*: I1 to I8 and I13 of the last released month, from no other period."""

from __future__ import annotations

from typing import Final

from grafana.queries import Board, Form, Panel, Query, Row, by_label, chosen, judged, kwh
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.model.indicators import Targets

_MONTH: Final = 'period="month"'
_NO_TARGET: Final = "the product has no target for this indicator"
_TARGET: Final = ((None, "green"), (Targets().out_of_hours_target_ratio, "orange"))
"""Of I1."""
_POPULATION: Final = ("{population}",)
_MACHINES: Final = ("{population}", "{machines}")
_VERDICT: Final = ("{machines}", "{verdict}")

SOBRIETE: Final = Board(
    "sobriete",
    (
        Row(
            100,
            "pcs",
            (
                Panel(
                    1,
                    "month",
                    Form.STAT,
                    "dateTimeAsIso",
                    "bilan",
                    "a date",
                    (Query(chosen(c.MONTH_START) + " * 1000", _POPULATION),),
                    6,
                    10,
                ),
                Panel(
                    2,
                    "outside",
                    Form.BARS,
                    "percentunit",
                    "sobriete",
                    _TARGET,
                    (Query(chosen(c.OUTSIDE_OPENING, _MONTH), _MACHINES),),
                    6,
                    10,
                    decimals=1,
                ),
                Panel(
                    13,
                    "entities",
                    Form.BARS,
                    "percentunit",
                    "entity",
                    _TARGET,
                    (Query(f"topk(15, {chosen(c.MONTH_OUTSIDE_OPENING)})", ("{entity}", "{population}")),),
                    12,
                    10,
                    decimals=1,
                ),
                Panel(
                    3,
                    "idle",
                    Form.BARS,
                    "percentunit",
                    "sobriete",
                    _NO_TARGET,
                    (Query(chosen(c.IDLE_WHILE_ON, _MONTH), _MACHINES),),
                    8,
                    decimals=1,
                ),
                Panel(
                    4,
                    "energy",
                    Form.BARS,
                    "kwatth",
                    "sobriete",
                    _NO_TARGET,
                    (
                        Query(kwh(chosen(c.OUTSIDE_OPENING_ENERGY, _MONTH)), (*_MACHINES, "outside")),
                        Query(kwh(chosen(c.IDLE_WHILE_ON_ENERGY, _MONTH)), (*_MACHINES, "idle")),
                    ),
                    8,
                    decimals=1,
                ),
                Panel(
                    5,
                    "plan",
                    Form.BARS,
                    "percentunit",
                    "sobriete",
                    _NO_TARGET,
                    (Query(chosen(c.POWER_PLAN), _POPULATION),),
                    decimals=1,
                ),
                Panel(
                    6,
                    "avoidable",
                    Form.BARS,
                    "kwatth",
                    "actions",
                    _NO_TARGET,
                    (by_label(chosen(c.AVOIDABLE_ENERGY), "population", "cause", convert=kwh),),
                    12,
                    decimals=1,
                ),
                Panel(
                    7,
                    "night",
                    Form.BARS,
                    "none",
                    "sobriete",
                    _NO_TARGET,
                    (Query(chosen(c.NIGHT_POWER), _MACHINES),),
                    12,
                    decimals=2,
                ),
            ),
        ),
        Row(
            200,
            "servers",
            tuple(
                Panel(
                    identifier,
                    key,
                    Form.BARS,
                    "none",
                    "servers",
                    "a verdict is to be confirmed by the server's owner",
                    (Query(chosen(metric), _VERDICT),),
                )
                for identifier, key, metric in (
                    (8, "comatose", c.COMATOSE_SERVERS),
                    (9, "underused", c.UNDERUSED_SERVERS),
                    (10, "oversized", c.OVERSIZED_SERVERS),
                )
            ),
        ),
        Row(
            300,
            "behind",
            (
                Panel(
                    11,
                    "coverage",
                    Form.BARS,
                    "percentunit",
                    "quality",
                    ((None, "orange"), (Targets().observed_ratio, "green")),
                    (Query(chosen(c.COVERAGE, _MONTH), (*_MACHINES, "{kind}")),),
                    decimals=1,
                ),
                Panel(
                    12,
                    "hosts",
                    Form.BARS,
                    "none",
                    "bilan",
                    "a count",
                    (by_label(chosen(c.MONTH_HOSTS, 'device_class!="monitor"'), "population"),),
                ),
                Panel(
                    14,
                    "coverage_change",
                    Form.STAT,
                    "percentunit",
                    "quality",
                    judged("coverage_falling"),
                    (Query(chosen(c.COVERAGE_CHANGE), (*_MACHINES, "{kind}")),),
                    decimals=1,
                ),
            ),
        ),
    ),
)
