# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Lists the panels of *Serveur*: one server, from /metrics/hosts, beside the servers like it."""

from __future__ import annotations

from typing import Final

from grafana.queries import (
    Board,
    Form,
    Panel,
    Query,
    Row,
    Variable,
    by_label,
    chosen,
    kwh,
    total,
)
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.metric import Metric

_HOST: Final = 'host="$host"'
_GROUP: Final = "entity, site, population, device_class"
_FACT: Final = "a fact about one server: no target"


def _peers(metric: Metric, of: Metric = c.HOST_POWER) -> str:
    """Build a selector of the groups in which the chosen server is: same entity, site and device class."""
    return f"({chosen(metric)} and on ({_GROUP}) {chosen(of, _HOST)})"


_POWER: Final = total(chosen(c.HOST_POWER, _HOST))
_PEERS_MEAN: Final = f"sum({_peers(c.POWER)}) / sum({_peers(c.POWER_HOSTS)})"
_ENERGY: Final = total(chosen(c.HOST_DAY_ENERGY, _HOST))
_PEERS_ENERGY: Final = f"sum({_peers(c.DAY_ENERGY, c.HOST_DAY_ENERGY)})"

SERVEUR: Final = Board(
    "serveur",
    (
        Row(
            100,
            "one",
            (
                Panel(
                    1,
                    "place",
                    Form.NAMES,
                    "none",
                    "server",
                    _FACT,
                    (Query(chosen(c.HOST_POWER, _HOST), ("{entity}", "{site}", "{device_class}")),),
                    12,
                    5,
                ),
                Panel(
                    2,
                    "power",
                    Form.STAT,
                    "watt",
                    "server",
                    _FACT,
                    (Query(_POWER, ("power",)),),
                    6,
                    5,
                    1,
                ),
                Panel(
                    3,
                    "seen",
                    Form.STAT,
                    "none",
                    "server",
                    "the interval between two calls is a setting",
                    (
                        Query(
                            "(time() - max(max_over_time(timestamp("
                            f"{chosen(c.HOST_POWER, _HOST)})[$__range:15s]))) / 60",
                            ("minutes",),
                        ),
                    ),
                    6,
                    5,
                    0,
                ),
                Panel(
                    4,
                    "course",
                    Form.LINES,
                    "watt",
                    "server",
                    _FACT,
                    (Query(_POWER, ("server",)), Query(_PEERS_MEAN, ("peers",))),
                    16,
                ),
                Panel(
                    5,
                    "range",
                    Form.BARS,
                    "watt",
                    "server",
                    _FACT,
                    tuple(
                        Query(f"{name}({name}_over_time({chosen(c.HOST_POWER, _HOST)}[$__range]))", (name,))
                        for name in ("min", "avg", "max")
                    ),
                    decimals=1,
                ),
            ),
        ),
        Row(
            200,
            "yesterday",
            (
                Panel(
                    6,
                    "energy",
                    Form.STAT,
                    "kwatth",
                    "server",
                    _FACT,
                    (Query(kwh(_ENERGY), ("energy",)),),
                    6,
                    5,
                    2,
                ),
                Panel(
                    7,
                    "emissions",
                    Form.STAT,
                    "massg",
                    "method",
                    _FACT,
                    (
                        Query(
                            f"{_ENERGY} * sum({_peers(c.DAY_EMISSIONS, c.HOST_DAY_ENERGY)}) / {_PEERS_ENERGY}",
                            ("emissions",),
                        ),
                    ),
                    6,
                    5,
                    0,
                ),
                Panel(
                    8,
                    "method",
                    Form.BARS,
                    "kwatth",
                    "method",
                    "how good each method is depends on the server",
                    (by_label(chosen(c.HOST_DAY_ENERGY, _HOST), "method", convert=kwh),),
                    12,
                    5,
                    2,
                ),
            ),
        ),
        Row(
            300,
            "peers",
            (
                Panel(
                    9,
                    "share",
                    Form.STAT,
                    "percentunit",
                    "servers",
                    _FACT,
                    (Query(f"{_ENERGY} / {_PEERS_ENERGY}", ("share",)),),
                    6,
                    6,
                    1,
                ),
                Panel(
                    10,
                    "number",
                    Form.STAT,
                    "none",
                    "servers",
                    "a count",
                    (
                        Query(f"sum({_peers(c.POWER_HOSTS)})", ("now",)),
                        Query(f"sum({_peers(c.DAY_HOSTS, c.HOST_DAY_ENERGY)})", ("yesterday",)),
                    ),
                    6,
                    6,
                ),
                Panel(
                    11,
                    "states",
                    Form.BARS,
                    "none",
                    "servers",
                    "what a server should do is not known here",
                    (
                        Query(
                            f"{by_label(_peers(c.DAY_STATE, c.HOST_DAY_ENERGY), 'state').expression} / 3600",
                            ("{state}",),
                        ),
                    ),
                    12,
                    6,
                    1,
                ),
            ),
        ),
    ),
    (
        Variable("entity", c.HOST_DAY_ENERGY, several=True),
        Variable("site", c.HOST_DAY_ENERGY, ('entity=~"$entity"',), several=True),
        Variable("host", c.HOST_DAY_ENERGY, ('entity=~"$entity"', 'site=~"$site"')),
    ),
)
