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


def counter(name: str, text: str, labels: tuple[str, ...], origin: MetricOrigin) -> Metric:
    """Define a counter: it only increases; its name ends in `_total`."""
    return Metric(name, MetricType.COUNTER, _unit(name), text, labels, origin)


def gauge(name: str, text: str, labels: tuple[str, ...], origin: MetricOrigin) -> Metric:
    """Define a gauge: a current value."""
    return Metric(name, MetricType.GAUGE, _unit(name), text, labels, origin)


def summary(name: str, text: str, labels: tuple[str, ...], origin: MetricOrigin) -> Metric:
    """Define a summary: sum and count."""
    return Metric(name, MetricType.SUMMARY, _unit(name), text, labels, origin)


def histogram(name: str, text: str, origin: MetricOrigin) -> Metric:
    """Define a histogram: buckets, sum and count; no labels."""
    return Metric(name, MetricType.HISTOGRAM, _unit(name), text, (), origin)
