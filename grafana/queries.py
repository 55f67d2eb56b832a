# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The shape of a panel, and PromQL written with names of the collector's catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from veilleuse.collector.exposition.catalogue import Metric
from veilleuse.wire.units import JOULES_PER_KWH


class Form(StrEnum):
    """How a panel draws."""

    STAT = "stat"
    LINES = "timeseries"
    STACK = "stacked timeseries"
    BARS = "bargauge"


@dataclass(frozen=True, slots=True)
class Query:
    """One expression and how its series are named."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. `identifier` is for ever: links and alerts point to it."""

    identifier: int
    form: Form
    title: str
    description: str
    unit: str
    """Grafana's unit id."""
    queries: tuple[Query, ...]
    width: int = 8
    """Of 24."""
    height: int = 8
    decimals: int | None = None
    steps: tuple[tuple[float | None, str], ...] = ()
    """(from which value on, colour) of a panel that judges, None first: below all others. The rest are neutral: Grafana's own turn red at 80."""


@dataclass(frozen=True, slots=True)
class Row:
    """A titled band of panels."""

    identifier: int
    title: str
    panels: tuple[Panel, ...]


PHYSICAL: Final = 'device_class!="virtual_machine"'
VIRTUAL: Final = 'device_class="virtual_machine"'
CHOSEN: Final = 'entity=~"$entity",site=~"$site"'
"""What the variables of the dashboard select."""
CHOSEN_ENTITY: Final = 'entity=~"$entity"'
"""The same of released months, which have no sites."""


def series(metric: Metric, *matchers: str, suffix: str = "") -> str:
    """A selector. Raises ValueError when a matcher names a label the metric does not have."""
    for matcher in matchers:
        for part in matcher.split(","):
            label = part.split("=")[0].rstrip("!")
            if label not in metric.labels:
                raise ValueError(f"{metric.name} has no label {label}")
    inside = "{" + ",".join(matchers) + "}" if matchers else ""
    return metric.name + suffix + inside


def total(selector: str, *by: str) -> str:
    """A sum, by labels."""
    return f"sum by ({', '.join(by)}) ({selector})" if by else f"sum({selector})"


def rate(selector: str) -> str:
    """Per second."""
    return f"rate({selector}[$__rate_interval])"


def hourly(selector: str) -> str:
    """Per second, over the last hour: counters of servers advance with each call, every 15 minutes, and a shorter window would show
    nothing and then the fourfold."""
    return f"rate({selector}[1h])"


def increase(selector: str) -> str:
    """Over the chosen range."""
    return f"increase({selector}[$__range])"


def kwh(expression: str) -> str:
    """Joules as kWh, for reading."""
    return f"{expression} / {JOULES_PER_KWH}"
