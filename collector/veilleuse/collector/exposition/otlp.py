# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Turns metric families of the Prometheus client into OTLP, with the same names, labels and values.

Specification: https://opentelemetry.io/docs/specs/otel/metrics/data-model/. Needs the extra `otlp`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2 as pb
from prometheus_client import Metric as Family

from veilleuse.collector.exposition.catalogue import BY_NAME

_UNITS: Final = {"joules": "J", "grams": "g", "watts": "W", "seconds": "s", "bytes": "By"}
"""Our units → UCUM. Ratios have none: with unit 1, receivers that name by unit would append `_ratio`."""
_TOTAL: Final = "_total"
_Labels = tuple[tuple[str, str], ...]


def export_request(
    families: Iterable[Family], resource: Mapping[str, str], now_unix_nanoseconds: int
) -> ExportMetricsServiceRequest:
    """Return a request with one point for each series, all of one time and one resource."""
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    group.resource.attributes.extend(_attributes(resource.items()))
    scope = group.scope_metrics.add()
    scope.scope.name = "veilleuse"
    for family in families:
        _add_family(scope.metrics, family, now_unix_nanoseconds)
    return request


def rejected(answer: bytes) -> str:
    """Return what an answer says of points that were not taken; empty when all were.

    Raises ValueError for bytes that are no answer.
    """
    try:
        partial = ExportMetricsServiceResponse.FromString(answer).partial_success
    except DecodeError as error:
        raise ValueError("no OTLP answer") from error
    if not partial.rejected_data_points:
        return ""
    return f"{partial.rejected_data_points} points: {partial.error_message}"


def _add_family(metrics: Any, family: Family, now: int) -> None:
    """Add a family. Counters keep the name of their samples, with `_total`, and have no start time."""
    if not family.samples:
        return
    counts = family.type == "counter"
    metric = metrics.add()
    metric.name = family.name + (_TOTAL if counts else "")
    metric.description = family.documentation
    known = BY_NAME.get(metric.name)
    metric.unit = _UNITS.get(known.unit, "") if known else ""
    if family.type in ("histogram", "summary"):
        _add_distributions(metric, family, now)
        return
    if counts:
        metric.sum.is_monotonic = True
        metric.sum.aggregation_temporality = pb.AGGREGATION_TEMPORALITY_CUMULATIVE
    points = metric.sum.data_points if counts else metric.gauge.data_points
    for sample in family.samples:
        if sample.name != metric.name:
            continue  # the time of creation, where the client writes it
        point = points.add(time_unix_nano=now, as_double=sample.value)
        point.attributes.extend(_attributes(sample.labels.items()))


def _add_distributions(metric: Any, family: Family, now: int) -> None:
    """Add the points of a histogram or a summary: their samples are grouped by labels."""
    sums: defaultdict[_Labels, dict[str, float]] = defaultdict(dict)
    buckets: defaultdict[_Labels, dict[float, int]] = defaultdict(dict)
    for sample in family.samples:
        labels = tuple((name, value) for name, value in sample.labels.items() if name != "le")
        if "le" in sample.labels:
            buckets[labels][float(sample.labels["le"])] = int(sample.value)
        else:
            sums[labels][sample.name.removeprefix(family.name)] = sample.value
    points = metric.histogram.data_points if family.type == "histogram" else metric.summary.data_points
    for labels, found in sums.items():
        point = points.add(time_unix_nano=now, count=int(found["_count"]), sum=found["_sum"])
        point.attributes.extend(_attributes(labels))
        if family.type == "histogram":
            before = 0
            for bound, cumulated in sorted(buckets[labels].items()):
                point.bucket_counts.append(cumulated - before)
                before = cumulated
                if not math.isinf(bound):
                    point.explicit_bounds.append(bound)
    if family.type == "histogram":
        metric.histogram.aggregation_temporality = pb.AGGREGATION_TEMPORALITY_CUMULATIVE


def _attributes(labels: Iterable[tuple[str, str]]) -> Iterable[KeyValue]:
    return (KeyValue(key=name, value=AnyValue(string_value=value)) for name, value in labels)
