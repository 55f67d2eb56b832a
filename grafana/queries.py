# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Describes a panel, and builds PromQL with names of the collector's catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from veilleuse.collector.exposition.catalogue import Metric
from veilleuse.wire.units import JOULES_PER_KWH


class Form(StrEnum):
    """A Form says how a panel draws."""

    STAT = "stat"
    LINES = "timeseries"
    STACK = "stacked timeseries"
    BARS = "bargauge"


@dataclass(frozen=True, slots=True)
class Query:
    """A Query is one expression, with the name of its series."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A Panel describes one panel. `identifier` never changes: links and alerts point to it."""

    identifier: int
    form: Form
    title: str
    description: str
    unit: str
    """Grafana's unit id."""
    queries: tuple[Query, ...]
    width: int = 8
    """Columns of 24."""
    height: int = 8
    decimals: int | None = None
    steps: tuple[tuple[float | None, str], ...] = ()
    """(lowest value, colour) of a panel with a judgement; the first has None = no lower limit.

    Other panels are neutral: Grafana's own thresholds turn red at 80.
    """


@dataclass(frozen=True, slots=True)
class Row:
    """A Row is a titled row of panels."""

    identifier: int
    title: str
    panels: tuple[Panel, ...]


PHYSICAL: Final = 'device_class!="virtual_machine"'
VIRTUAL: Final = 'device_class="virtual_machine"'
CHOSEN: Final = 'entity=~"$entity",site=~"$site"'
"""Matches the dashboard's variables."""
CHOSEN_ENTITY: Final = 'entity=~"$entity"'
"""Matches the dashboard's variables in released months, which have no sites."""


def series(metric: Metric, *matchers: str, suffix: str = "") -> str:
    """Build a selector. Raises ValueError when a matcher names a label that the metric does not have."""
    for matcher in matchers:
        for part in matcher.split(","):
            label = part.split("=")[0].rstrip("!")
            if label not in metric.labels:
                raise ValueError(f"{metric.name} has no label {label}")
    inside = "{" + ",".join(matchers) + "}" if matchers else ""
    return metric.name + suffix + inside


def total(selector: str, *by: str) -> str:
    """Build a sum, by labels."""
    return f"sum by ({', '.join(by)}) ({selector})" if by else f"sum({selector})"


def by_label(selector: str, *by: str, in_kwh: bool = False) -> Query:
    """Build a sum by labels, of joules shown in kWh where asked; a series is named by the labels' values."""
    summed = total(selector, *by)
    return Query(kwh(summed) if in_kwh else summed, " ".join(f"{{{{{label}}}}}" for label in by))


def rate(selector: str) -> str:
    """Build a rate per second."""
    return f"rate({selector}[$__rate_interval])"


def hourly(selector: str) -> str:
    """Build a rate per second over the last hour.

    Counters of servers advance with each call, every 15 minutes: a shorter window would show 0 and then four
    times the rate.
    """
    return f"rate({selector}[1h])"


def increase(selector: str) -> str:
    """Build an increase over the chosen range."""
    return f"increase({selector}[$__range])"


def kwh(expression: str) -> str:
    """Convert joules to kWh."""
    return f"{expression} / {JOULES_PER_KWH}"
