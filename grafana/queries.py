# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Describes a panel, and builds PromQL with names of the collector's catalogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from veilleuse.collector.exposition.catalogue import Metric, MetricType
from veilleuse.collector.exposition.conditions import BY_NAME, Severity
from veilleuse.wire.units import GRAMS_PER_KILOGRAM, JOULES_PER_KWH

Steps = tuple[tuple[float | None, str], ...]
"""(lowest value, colour); the first has None = no lower limit."""


class Form(StrEnum):
    """A Form says how a panel draws."""

    STAT = "stat"
    NAMES = "stat with names only"
    LINES = "timeseries"
    STACK = "stacked timeseries"
    BARS = "bargauge"
    COLUMNS = "stacked barchart"


@dataclass(frozen=True, slots=True)
class Query:
    """A Query is one expression, with the parts of its series' name."""

    expression: str
    legend: tuple[str, ...]
    """`{label}`, or `{label:words}` where another list has its words; else a key of the panel's texts."""
    steps: Steps = ()
    """Thresholds of this query only."""
    unit: str = ""
    """Grafana's unit id of this query only."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A Panel describes one panel. `identifier` never changes: links and alerts point to it."""

    identifier: int
    key: str
    """Section of the texts."""
    form: Form
    unit: str
    """Grafana's unit id."""
    page: str
    """The product's page that explains it, by its name in the menu."""
    judge: Steps | str
    """Thresholds, or the reason why the panel judges nothing.

    A panel that judges nothing is neutral: Grafana's own thresholds turn red at 80.
    """
    queries: tuple[Query, ...]
    width: int = 8
    """Columns of 24."""
    height: int = 7
    decimals: int | None = None
    values: Mapping[float, str] = field(default_factory=dict)
    """Number → key of the text that replaces it."""


@dataclass(frozen=True, slots=True)
class Row:
    """A Row is a titled row of panels. `key` is that of its title in the texts."""

    identifier: int
    key: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """A Variable is a choice of label values; each of the dashboard's panels uses it, or one that does."""

    name: str
    metric: Metric
    matchers: tuple[str, ...] = ()
    several: bool = False
    """True where all values can be chosen together."""


@dataclass(frozen=True, slots=True)
class Board:
    """A Board is one dashboard. `name` is that of its file, and of its section in the texts."""

    name: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = ()

    @property
    def panels(self) -> tuple[Panel, ...]:
        """Return the panels of all rows."""
        return tuple(panel for row in self.rows for panel in row.panels)


PHYSICAL: Final = 'device_class!="virtual_machine"'
VIRTUAL: Final = 'device_class="virtual_machine"'
ONE_COLLECTOR: Final = 'instance=~"$instance"'
"""Every selector has it: figures of two collectors are never added."""


def series(metric: Metric, *matchers: str, suffix: str = "") -> str:
    """Build a selector. Raises ValueError when a matcher names a label that the metric does not have."""
    for matcher in matchers:
        label = matcher.split("=")[0].rstrip("!")
        if label not in metric.labels:
            raise ValueError(f"{metric.name} has no label {label}")
    inside = "{" + ",".join(matchers) + "}" if matchers else ""
    return metric.name + suffix + inside


def chosen(metric: Metric, *matchers: str, suffix: str = "") -> str:
    """Build a selector of the collector that the dashboard's reader chose."""
    found = series(metric, *matchers, suffix=suffix)
    return f"{found[:-1]},{ONE_COLLECTOR}}}" if matchers else f"{found}{{{ONE_COLLECTOR}}}"


def total(selector: str, *by: str) -> str:
    """Build a sum, by labels."""
    return f"sum by ({', '.join(by)}) ({selector})" if by else f"sum({selector})"


def by_label(selector: str, *by: str, convert: Callable[[str], str] = str) -> Query:
    """Build a sum by labels, in another unit where asked; a series is named by the labels' values."""
    return Query(convert(total(selector, *by)), tuple(f"{{{label}}}" for label in by))


def rate(selector: str) -> str:
    """Build a rate per second."""
    return f"rate({selector}[$__rate_interval])"


def hourly(metric: Metric, *matchers: str) -> str:
    """Build a rate per second over the last hour.

    Counters of servers advance with each call, every 15 minutes: a shorter window would show 0 and then four
    times the rate. A counter that stands still says that nothing is known, not 0.
    """
    return f"rate({chosen(metric, *matchers)}[1h]) > 0"


def increase(metric: Metric, *matchers: str) -> str:
    """Build an increase over the chosen range. Raises ValueError for a gauge."""
    if metric.kind is not MetricType.COUNTER:
        raise ValueError(f"{metric.name} is no counter")
    return f"increase({chosen(metric, *matchers)}[$__range])"


def kwh(expression: str) -> str:
    """Convert joules to kWh."""
    return f"{expression} / {JOULES_PER_KWH}"


def tonnes(expression: str) -> str:
    """Convert grams to tonnes: Grafana writes a million grams as Mg."""
    return f"{expression} / {GRAMS_PER_KILOGRAM * 1000}"


_COLOURS: Final = {Severity.INFO: "blue", Severity.WARNING: "orange", Severity.CRITICAL: "red"}


def judged(name: str, per: float = 1, *, is_count: bool = False, shown_left: bool = False) -> Steps:
    """Return the bounds of a condition as thresholds: those of the alerts, `doctor` and the first page.

    `per`: units of the condition per unit of the panel. Grafana colours from a step on, a condition holds
    beyond its bound: of counts that is one more. `shown_left`: an age that the panel shows as the time left.
    """
    condition = BY_NAME[name]
    bounds = [
        ((-bound if shown_left else bound + is_count) / per, _COLOURS[severity])
        for severity, bound in condition.bounds.items()
    ]
    if not (condition.below or shown_left):
        return ((None, "green"), *bounds)
    values, colours = zip(*reversed(bounds), strict=True)
    return tuple(zip((None, *values), (*colours, "green"), strict=True))
