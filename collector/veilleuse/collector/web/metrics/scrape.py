# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Answers /metrics with the Prometheus client, in the format that the scraper accepts."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Metric,
    PlatformCollector,
    ProcessCollector,
    Summary,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.web.metrics.samples import fleet_exposition
from veilleuse.collector.web.metrics.series_bound import series_bound
from veilleuse.collector.web.metrics.snapshot import Snapshot, SnapshotCache

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

    def collect(self) -> Iterator[Metric]:
        """Take a snapshot and return its metric families. Raises StoreDamaged, another DataDirectoryError."""
        snapshot = self._snapshots.take_snapshot()
        out = fleet_exposition(snapshot, self._version, self._k)
        registry = snapshot.day_start if snapshot.has_few_pcs(self._k) else snapshot.fleet
        out.add(c.SERIES_BOUND, (), series_bound(registry, snapshot.month))
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
