# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Lists every metric once: name, type, unit, help, labels, and the origin of its value.

The exposition, the Grafana panels, the alert rules and docs/metrics.md all take their names from here.
`python -m veilleuse.collector.exposition.document` prints docs/metrics.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from veilleuse.collector.exposition.fleet_metrics import *  # noqa: F403  # the names of all metrics, under one roof
from veilleuse.collector.exposition.fleet_metrics import FLEET, GRID, PER_HOST
from veilleuse.collector.exposition.metric import Metric, MetricOrigin, MetricType
from veilleuse.collector.exposition.service_metrics import *  # noqa: F403  # idem
from veilleuse.collector.exposition.service_metrics import AGENTS, COLLECTOR, HTTP_DURATION

__all__ = [
    "AGENTS",
    "COLLECTOR",
    "FLEET",
    "GRID",
    "HTTP_DURATION",
    "PER_HOST",
    "Metric",
    "MetricOrigin",
    "MetricType",
]

CATALOGUE: Final[tuple[Metric, ...]] = (*FLEET, *GRID, *AGENTS, *COLLECTOR, *PER_HOST, HTTP_DURATION)
BY_NAME: Final[Mapping[str, Metric]] = {metric.name: metric for metric in CATALOGUE}
