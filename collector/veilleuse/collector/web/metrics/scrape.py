# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Answers /metrics with the Prometheus client, in the format that the scraper accepts.

It also counts the most series that the answer can hold (S11).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from math import prod
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    Summary,
    disable_created_metrics,
)
from prometheus_client import Metric as MetricFamily
from prometheus_client.exposition import choose_encoder

from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.conditions import TABLE, add_levels
from veilleuse.collector.exposition.metric import Metric, MetricType
from veilleuse.collector.indicators.avoidable_energy import CAUSES
from veilleuse.collector.ingest.counters import COMMIT_BUCKETS_SECONDS
from veilleuse.collector.model.grid import CONNECTORS
from veilleuse.collector.model.hosts import HostStatus
from veilleuse.collector.model.indicators import ServerVerdict
from veilleuse.collector.model.remote_config import HostState
from veilleuse.collector.settings import OtlpSettings
from veilleuse.collector.web.metrics.fleet import FleetView
from veilleuse.collector.web.metrics.health import MAXIMUM_LABELS
from veilleuse.collector.web.metrics.otlp import OtlpSender
from veilleuse.collector.web.metrics.released_month import MonthView
from veilleuse.collector.web.metrics.samples import fleet_exposition
from veilleuse.collector.web.metrics.snapshot import Snapshot, SnapshotCache
from veilleuse.wire.ladder import Method
from veilleuse.wire.units import MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import SOURCES, DeviceClass, Population, State

PROCESS_SERIES: Final = 48
"""process_* and python_* of the Prometheus client: one process, three garbage collector generations."""
ROUTES, CODES = 13, 16
"""Numbers of routes, `other` included, and of their status codes."""

_VALUES: Final = {
    "method": len(Method),
    "state": max(len(State), len(HostState)) + 1,
    "ledger": 1,
    "machines": 2,
    "kind": 2,
    "period": 4,
    "population": len(Population),
    "status": len(HostStatus),
    "statistic": 2,
    "source": len(SOURCES) + 1,  # other
    "outcome": MAXIMUM_LABELS + 1,
    "reason": MAXIMUM_LABELS + 1,
    "version": c.VERSIONS + 1,
    "month": 19,  # retention.pc_monthly_months, and one under way
    "name": MAXIMUM_LABELS + 1,
    "route": ROUTES,
    "code": CODES,
    "connector": len(CONNECTORS),
    "condition": len(TABLE),
    "audience": 1,
    "part": 2,
    "direction": 2,
    "cause": len(CAUSES) + 1,  # mixed
    "verdict": len(ServerVerdict),  # I6 has the most verdicts
    "at": 1,  # of each period's process the last one alone
    "step": 1,
    "signal": 1,
}
"""Label → number of its values: our closed lists, and lists cut to a length."""
_SAMPLES: Final = {
    MetricType.COUNTER: 1,
    MetricType.GAUGE: 1,
    MetricType.SUMMARY: 2,
    MetricType.HISTOGRAM: len(COMMIT_BUCKETS_SECONDS) + 3,
}
_OF_A_ZONE: Final = {c.FACTOR, c.FACTOR_INFO, c.FACTOR_KNOWN, c.FACTOR_DUE}
_OF_THE_GRID: Final = {c.INTENSITY, c.INTENSITY_NEWEST}
_ALONE: Final = {c.BUILD_INFO}


_RELEASED_CLASSES: Final = len(DeviceClass) + 2
"""Classes of a released month: screens and `autres` included."""
_OTHER_VERSION: Final = re.compile(r";\s*version=(?!(0\.0\.[14]|1\.0\.0)\s*(;|$))")
"""Media ranges with a version that the client does not write, or cannot compare."""


class SnapshotCollector:
    """Custom collector of the Prometheus client: the catalogue's metrics of one snapshot."""

    def __init__(self, snapshots: SnapshotCache, version: str, k: int) -> None:
        """Take the program's `version` and the `k` of the disclosure rule."""
        self._snapshots = snapshots
        self._version = version
        self._k = k
        self.render_seconds: float | None = None
        """Seconds spent rendering the answer before this one."""
        self.otlp: OtlpSender | None = None
        """Sender of the same families, if there is one."""

    def collect(self) -> Iterator[MetricFamily]:
        """Take a snapshot and return its metric families. Raises StoreDamaged, another DataDirectoryError."""
        snapshot = self._snapshots.take_snapshot()
        out = fleet_exposition(snapshot, self._version, self._k)
        registry = (snapshot.day_start if snapshot.has_few_pcs(self._k) else snapshot).fleet
        out.add(c.SERIES_BOUND, (), series_bound(registry, snapshot.month))
        if self.otlp is not None:
            out.add(c.OTLP_FAILURES, (), self.otlp.failures)
            if self.otlp.sent_unix_seconds is not None:
                out.add(c.OTLP_SENT, (), self.otlp.sent_unix_seconds)
        add_levels(out, snapshot.fleet.now_unix_milliseconds / MILLISECONDS_PER_SECOND)
        out.add(c.SERIES, (), out.series() + 1)
        if self.render_seconds is not None:
            out.add(c.RENDER, (), self.render_seconds)
        return out.collect()


class MetricsWriter:
    """Writes the answers of /metrics. Not thread-safe: one caller at a time."""

    def __init__(self, snapshots: SnapshotCache, version: str, k: int) -> None:
        """Read nothing yet."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the client leaves it untyped
        self._snapshots = snapshots
        self._snapshot_collector = SnapshotCollector(snapshots, version, k)
        self._registry = CollectorRegistry()
        self._registry.register(self._snapshot_collector)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self.durations = Summary(
            c.HTTP_DURATION.name, c.HTTP_DURATION.help, c.HTTP_DURATION.labels, registry=self._registry
        )
        """Seconds of HTTP requests, by route and status code."""
        self._written: tuple[Snapshot, dict[str, bytes]] | None = None
        """Content type → answer of the last snapshot: 300 requests within a second share one text."""

    def make_sender(self, settings: OtlpSettings) -> OtlpSender:
        """Return a sender of what `write` writes; it may run in another thread."""
        sender = OtlpSender(settings, self._registry.collect)
        self._snapshot_collector.otlp = sender
        return sender

    def write(self, accept: str, began: float) -> tuple[bytes, str]:
        """Return (answer, its content type) for an Accept header.

        `began` is the start of the request, a value of time.perf_counter.
        """
        known = [one for one in accept.split(",") if not _OTHER_VERSION.search(one)]
        encoder, content_type = choose_encoder(",".join(known))
        snapshot = self._snapshots.take_snapshot()
        if self._written is None or self._written[0] is not snapshot:
            self._written = (snapshot, {})
        answers = self._written[1]
        if content_type not in answers:
            answers[content_type] = encoder(self._registry)
            self._snapshot_collector.render_seconds = time.perf_counter() - began
        return answers[content_type], content_type


def series_bound(fleet: FleetView, month: MonthView | None = None) -> int:
    """Return the most series: entities × sites × populations of the registry and its history × closed lists.

    Entities of the released month count too, since they may have older names. Agents cannot raise the bound.
    """
    places = fleet.places | {(entry.org_entity, entry.site, entry.population) for entry in fleet.ledger}
    places |= {(entity, site, Population.SERVER) for entity, site, _ in fleet.state_totals}
    families = month.families if month else ()
    zones = len({site.zone for site in fleet.sites.values()} | {one.zone for one in families}) + 1
    entities = {(entity, population) for entity, _, population in places}
    entities |= {(row.entity, Population(row.population)) for row in (month.cells if month else ())}
    released = (
        (len(entities) + len(Population)) * zones * _RELEASED_CLASSES
    )  # and `autres` of each population
    counted = {*c.PER_HOST, *c.RELEASED_FLEET, *c.HISTORY}
    metrics = (metric for metric in c.CATALOGUE if metric not in counted)
    return (
        PROCESS_SERIES
        + c.FLEET_SERIES
        + sum(_most(metric, len(places), zones, released) for metric in metrics)
    )


def _most(metric: Metric, places: int, zones: int, released: int) -> int:
    if metric in _ALONE:
        return 1
    if metric in _OF_A_ZONE:
        return zones
    if metric is c.CHILD_KILLED:
        return 2  # its values are of a month and of a year
    if metric in _OF_THE_GRID:
        return c.GRID_SERIES
    labels = [label for label in metric.labels if label not in {*c.GROUP, *c.RELEASED}]
    classes = len(DeviceClass) + 1 if "device_class" in metric.labels else 1
    group = 1
    if metric.labels[:4] == c.RELEASED or metric is c.MONTH_OUTSIDE_OPENING:
        group = released
    elif "entity" in metric.labels:
        group = places * classes
    elif "population" in metric.labels:
        group = _VALUES["population"]
    elif classes > 1:
        group = classes
    return _SAMPLES[metric.kind] * group * prod(_VALUES[label] for label in labels)
