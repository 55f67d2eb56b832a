# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Turns samples into metric families of the Prometheus client, which writes /metrics.

A text template writes the thousands of series per host: it costs a fifth of the client's objects (`make
bench-metrics`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import Metric as Family
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from veilleuse.collector.exposition.catalogue import CATALOGUE, Metric, MetricType

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
"""Format of `text`: https://prometheus.io/docs/instrumenting/exposition_formats/."""

_LABEL_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Sample = tuple[tuple[str, ...], float]
Histogram = tuple[Mapping[float, int], float]


class Exposition:
    """An Exposition collects the samples of one answer.

    A metric without a sample does not appear: absent is not zero.
    """

    __slots__ = ("_histograms", "_samples")

    def __init__(self) -> None:
        self._samples: dict[str, list[Sample]] = {}
        self._histograms: dict[str, Histogram] = {}

    def add(self, metric: Metric, labels: tuple[str, ...], value: float) -> None:
        """Add one sample of a counter or gauge; `labels` in the order of the catalogue.

        Raises ValueError on another number of labels.
        """
        if len(labels) != len(metric.labels):
            raise ValueError(f"{metric.name} has labels {metric.labels}, got {len(labels)} values")
        self._samples.setdefault(metric.name, []).append((labels, value))

    def add_histogram(self, metric: Metric, buckets: Mapping[float, int], total: float) -> None:
        """Add a histogram without labels; `buckets`: upper bound (the last one inf) → count above the
        previous bound.
        """
        self._histograms[metric.name] = (buckets, total)

    def samples(self, metric: Metric) -> Sequence[Sample]:
        """Return the samples of a counter or gauge; empty without any."""
        return self._samples.get(metric.name, ())

    def series(self) -> int:
        """Return the number of samples."""
        sum_and_count = 2
        of_histograms = sum(len(buckets) + sum_and_count for buckets, _ in self._histograms.values())
        return sum(map(len, self._samples.values())) + of_histograms

    def collect(self) -> Iterator[Family]:
        """Yield families in the order of the catalogue: the interface of a custom collector of the client's
        registry.
        """
        for metric in CATALOGUE:
            if samples := self._samples.get(metric.name):
                yield _family(metric, samples)
            if histogram := self._histograms.get(metric.name):
                yield _histogram(metric, histogram)

    def text(self, metrics: Iterable[Metric]) -> str:
        """Write text format 0.0.4 of counters and gauges with labels, by a template: no object per sample."""
        gathered = ((metric, self._samples.get(metric.name)) for metric in metrics)
        return "".join(_text(metric, samples) for metric, samples in gathered if samples)


def _family(metric: Metric, samples: Iterable[Sample]) -> Family:
    is_counter = metric.kind is MetricType.COUNTER
    family = (CounterMetricFamily if is_counter else GaugeMetricFamily)(
        metric.name, metric.help, labels=metric.labels
    )
    for labels, value in samples:
        family.add_metric([_replace_invalid(label) for label in labels], value)
    return family


def _histogram(metric: Metric, histogram: Histogram) -> Family:
    buckets, total = histogram
    count, cumulated = 0, []
    for bound, number in sorted(buckets.items()):
        count += number
        cumulated.append(("+Inf" if math.isinf(bound) else str(bound), count))
    return HistogramMetricFamily(metric.name, metric.help, cumulated, total)


def _text(metric: Metric, samples: Iterable[Sample]) -> str:
    name = metric.name
    # A label name has no '%': the template holds only names and its own '%s'.
    template = name + "{" + ",".join(f'{label}="%s"' for label in metric.labels) + "} "
    lines = [template % tuple(map(_escape, labels)) + _number(value) + "\n" for labels, value in samples]
    return f"# HELP {name} {metric.help}\n# TYPE {name} {metric.kind}\n" + "".join(lines)


def _escape(value: str) -> str:
    """Escape \\, " and line feed in a label value, as the format requires."""
    if value.isalnum() and value.isascii():
        return value
    return _replace_invalid(value).translate(_LABEL_ESCAPES)


def _replace_invalid(value: str) -> str:
    """Replace characters that UTF-8 cannot encode by '?'."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _number(value: float) -> str:
    """Write the shortest text that reads back as the same number."""
    if isinstance(value, int):
        return str(value)
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value)
