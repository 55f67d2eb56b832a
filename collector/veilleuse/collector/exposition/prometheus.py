# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Samples → the Prometheus text format, by joining strings: no object per sample (11-42 ms against 395-568).

Format: https://prometheus.io/docs/instrumenting/exposition_formats/ (text format 0.0.4).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from veilleuse.collector.exposition.catalogue import CATALOGUE, Metric

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

_LABEL_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})


class Exposition:
    """Samples gathered for one answer. A metric that nobody adds to does not appear: absent is not zero."""

    __slots__ = ("_samples",)

    def __init__(self) -> None:
        self._samples: dict[str, list[tuple[str, tuple[str, ...], float]]] = {}

    def add(self, metric: Metric, labels: tuple[str, ...], value: float) -> None:
        """One sample of a counter or gauge; `labels` in the order of the catalogue. Raises ValueError on another count."""
        self._append(metric, "", labels, value)

    def add_histogram(self, metric: Metric, buckets: Mapping[float, int], total: float) -> None:
        """Of a metric without labels; `buckets`: upper bound (the last one inf) → how many lie there and no lower."""
        count = 0
        for bound, number in sorted(buckets.items()):
            count += number
            self._append(metric, f'_bucket{{le="{"+Inf" if math.isinf(bound) else bound}"}}', (), count)
        self._append(metric, "_sum", (), total)
        self._append(metric, "_count", (), count)

    def series(self) -> int:
        """How many samples."""
        return sum(map(len, self._samples.values()))

    def get(self, metric: Metric) -> Mapping[tuple[str, ...], float]:
        """Label values → value, of a counter or gauge."""
        return {labels: value for _, labels, value in self._samples.get(metric.name, ())}

    def render(self, metrics: Iterable[Metric] = CATALOGUE) -> str:
        """The text, families in the order of the catalogue."""
        parts: list[str] = []
        for metric in metrics:
            samples = self._samples.get(metric.name)
            if samples:
                parts.append(_family(metric, samples))
        return "".join(parts)

    def _append(self, metric: Metric, suffix: str, labels: tuple[str, ...], value: float) -> None:
        if len(labels) != len(metric.labels):
            raise ValueError(f"{metric.name} has labels {metric.labels}, got {len(labels)} values")
        self._samples.setdefault(metric.name, []).append((suffix, labels, value))


def _family(metric: Metric, samples: list[tuple[str, tuple[str, ...], float]]) -> str:
    name = metric.name
    head = f"# HELP {name} {metric.help.translate(_HELP_ESCAPES)}\n# TYPE {name} {metric.kind}\n"
    if not metric.labels:
        return head + "".join(f"{name}{suffix} {_number(value)}\n" for suffix, _, value in samples)
    # '%' cannot be in a label name: the template holds nothing but the names and its own '%s'.
    template = "{" + ",".join(f'{label}="%s"' for label in metric.labels) + "} "
    lines = [
        name + suffix + template % tuple(map(escape_label, labels)) + _number(value) + "\n"
        for suffix, labels, value in samples
    ]
    return head + "".join(lines)


def escape_label(value: str) -> str:
    """A label value as the format wants it: \\, " and line feed escaped; what UTF-8 cannot carry replaced by '?'."""
    if value.isalnum() and value.isascii():
        return value
    return value.encode("utf-8", "replace").decode().translate(_LABEL_ESCAPES)


def _number(value: float) -> str:
    """Shortest text that reads back as the same number."""
    if isinstance(value, int):
        return str(value)
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value)


def render_registry(registry: CollectorRegistry) -> str:
    """What the Prometheus client holds (the process, its garbage collector, the platform) in the same format."""
    return generate_latest(registry).decode()
