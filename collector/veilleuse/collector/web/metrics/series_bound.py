# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Counts the most series that /metrics can hold for a registry, from the catalogue's labels (S11)."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Final

from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.metric import Metric, MetricType
from veilleuse.collector.indicators.avoidable_energy import CAUSES
from veilleuse.collector.ingest.counters import COMMIT_BUCKETS_SECONDS
from veilleuse.collector.model.grid import CONNECTORS
from veilleuse.collector.model.hosts import HostStatus
from veilleuse.collector.model.indicators import ServerVerdict
from veilleuse.collector.model.remote_config import HostState
from veilleuse.collector.web.metrics.fleet import FleetView
from veilleuse.collector.web.metrics.health import MAXIMUM_LABELS
from veilleuse.collector.web.metrics.released_month import MonthFamily, MonthView
from veilleuse.wire.ladder import Method
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
    "period": 3,
    "population": len(Population),
    "status": len(HostStatus),
    "statistic": 2,
    "source": len(SOURCES) + 1,  # other
    "outcome": MAXIMUM_LABELS + 1,
    "reason": MAXIMUM_LABELS + 1,
    "version": c.VERSIONS + 1,
    "name": MAXIMUM_LABELS + 1,
    "route": ROUTES,
    "code": CODES,
    "connector": len(CONNECTORS),
    "cause": len(CAUSES) + 1,  # mixed
    "verdict": len(ServerVerdict),  # I6 has the most verdicts
}
"""Label → number of its values: our closed lists, and lists cut to a length."""
_SAMPLES: Final = {
    MetricType.COUNTER: 1,
    MetricType.GAUGE: 1,
    MetricType.SUMMARY: 2,
    MetricType.HISTOGRAM: len(COMMIT_BUCKETS_SECONDS) + 3,
}
_OF_A_ZONE: Final = {c.FACTOR, c.FACTOR_INFO}
_OF_THE_GRID: Final = {c.INTENSITY, c.INTENSITY_NEWEST}
_ALONE: Final = {c.BUILD_INFO}


_RELEASED_CLASSES: Final = len(DeviceClass) + 2
"""Classes of a released month: screens and `autres` included."""


def series_bound(fleet: FleetView, month: MonthView | None = None) -> int:
    """Return the most series: entities × sites × populations of the registry and its history × closed lists.

    Entities of the released month count too, since they may have older names. Agents cannot raise the bound.
    """
    places = {(host.org_entity, host.site, host.population) for host in fleet.hosts.values()}
    places |= {(entry.org_entity, entry.site, entry.population) for entry in fleet.ledger}
    places |= {(entity, site, Population.SERVER) for entity, site, _, _ in fleet.forgotten_states}
    zones = len({site.zone for site in fleet.sites.values()} | {one.zone for one in _families(month)}) + 1
    entities = {(entity, population) for entity, _, population in places}
    entities |= {(row.entity, Population(row.population)) for row in (month.cells if month else ())}
    released = (
        (len(entities) + len(Population)) * zones * _RELEASED_CLASSES
    )  # and `autres` of each population
    metrics = (metric for metric in c.CATALOGUE if metric not in c.PER_HOST)
    return PROCESS_SERIES + sum(_most(metric, len(places), zones, released) for metric in metrics)


def _families(month: MonthView | None) -> Iterable[MonthFamily]:
    return month.families if month else ()


def _most(metric: Metric, places: int, zones: int, released: int) -> int:
    if metric in _ALONE:
        return 1
    if metric in _OF_A_ZONE:
        return zones
    if metric in _OF_THE_GRID:
        return c.GRID_SERIES
    labels = [label for label in metric.labels if label not in {*c.GROUP, *c.RELEASED}]
    group = 1
    if metric.labels[:4] == c.RELEASED:
        group = released
    elif "entity" in metric.labels:
        group = places * (len(DeviceClass) + 1 if "device_class" in metric.labels else 1)
    elif "population" in metric.labels:
        group = _VALUES["population"]
    return _SAMPLES[metric.kind] * group * prod(_VALUES[label] for label in labels)
