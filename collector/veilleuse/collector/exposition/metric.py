# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Describes a metric: name, type, unit, help, labels, and the origin of its value."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class MetricType(StrEnum):
    """A MetricType is the type of a metric, in Prometheus' words."""

    COUNTER = "counter"
    GAUGE = "gauge"
    SUMMARY = "summary"
    """Only _sum and _count."""
    HISTOGRAM = "histogram"
    """_bucket by `le`, _sum and _count."""


class MetricOrigin(StrEnum):
    """A MetricOrigin names the part that computes the value."""

    LEDGER = "ledger"
    RECORDS = "records"
    SUMS = "sums"
    RELEASE = "release"
    FLEET = "fleet"
    INDICATORS = "indicators"
    FACTORS = "factors"
    INTENSITIES = "intensities"
    REGISTRY = "registry"
    COLLECTOR = "collector"
    WEB = "web"


@dataclass(frozen=True, slots=True)
class Metric:
    """A Metric describes one metric family."""

    name: str
    """With its unit; ends in `_total` for counters."""
    kind: MetricType
    unit: str
    """As in the name; `1` for a plain number or a ratio, `info` for an information metric."""
    help: str
    """One English sentence."""
    labels: tuple[str, ...]
    origin: MetricOrigin


_UNITS: Final = {
    "joules": "joules",
    "grams": "grams",
    "watts": "watts",
    "seconds": "seconds",
    "bytes": "bytes",
    "info": "info",
    "gco2e_per_kwh": "grams of CO2 equivalent per kWh",
}


def _unit(name: str) -> str:
    base = name.removesuffix("_total")
    return next((unit for suffix, unit in _UNITS.items() if base.endswith("_" + suffix)), "1")


class MetricGroup(list[Metric]):
    """A MetricGroup collects the metrics of one part, in the order in which they are defined."""

    def __init__(self, origin: MetricOrigin) -> None:
        """`origin`: of each metric that is defined without one."""
        super().__init__()
        self._origin = origin

    def counter(
        self, name: str, text: str, labels: tuple[str, ...] = (), *, origin: MetricOrigin | None = None
    ) -> Metric:
        """Define a counter: it only increases; its name ends in `_total`."""
        return self._define(MetricType.COUNTER, name, text, labels, origin)

    def gauge(
        self, name: str, text: str, labels: tuple[str, ...] = (), *, origin: MetricOrigin | None = None
    ) -> Metric:
        """Define a gauge: a current value."""
        return self._define(MetricType.GAUGE, name, text, labels, origin)

    def summary(self, name: str, text: str, labels: tuple[str, ...]) -> Metric:
        """Define a summary: sum and count."""
        return self._define(MetricType.SUMMARY, name, text, labels)

    def histogram(self, name: str, text: str) -> Metric:
        """Define a histogram: buckets, sum and count; no labels."""
        return self._define(MetricType.HISTOGRAM, name, text, ())

    def _define(
        self,
        kind: MetricType,
        name: str,
        text: str,
        labels: tuple[str, ...],
        origin: MetricOrigin | None = None,
    ) -> Metric:
        self.append(Metric(name, kind, _unit(name), text, labels, origin or self._origin))
        return self[-1]
