# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Every metric once: name, type, unit, help, labels, and where its value comes from.

The exposition, the Grafana panels, the alert rules and docs/metrics.md all take their names from here.
`python -m veilleuse.collector.exposition.document` prints docs/metrics.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """Type of a metric, in Prometheus' words."""

    COUNTER = "counter"
    GAUGE = "gauge"
    SUMMARY = "summary"
    """Only _sum and _count."""
    HISTOGRAM = "histogram"
    """_bucket by `le`, _sum and _count."""


class Origin(StrEnum):
    """What computes the value."""

    LEDGER = "ledger"
    RECORDS = "records"
    SUMS = "sums"
    INDICATORS = "indicators"
    FACTORS = "factors"
    REGISTRY = "registry"
    COLLECTOR = "collector"
    WEB = "web"


@dataclass(frozen=True, slots=True)
class Metric:
    """One family."""

    name: str
    """With its unit; `_total` on counters."""
    kind: Kind
    unit: str
    """As in the name; `1` for a plain number or a ratio, `info` for an information metric."""
    help: str
    """One sentence, English."""
    labels: tuple[str, ...]
    origin: Origin


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


def _counter(name: str, text: str, labels: tuple[str, ...], origin: Origin) -> Metric:
    return Metric(name, Kind.COUNTER, _unit(name), text, labels, origin)


def _gauge(name: str, text: str, labels: tuple[str, ...], origin: Origin) -> Metric:
    return Metric(name, Kind.GAUGE, _unit(name), text, labels, origin)


def _summary(name: str, text: str, labels: tuple[str, ...], origin: Origin) -> Metric:
    return Metric(name, Kind.SUMMARY, _unit(name), text, labels, origin)


def _histogram(name: str, text: str, origin: Origin) -> Metric:
    return Metric(name, Kind.HISTOGRAM, _unit(name), text, (), origin)


GROUP: Final = ("entity", "site", "population", "device_class")
"""The labels of a group of machines, from our own registry only."""

OTHER: Final = "other"
"""Label value of what is not in a closed list."""
VERSIONS: Final = 5
"""Agent versions told apart; the rarer ones are `other`."""

ENERGY: Final = _counter(
    "veilleuse_energy_joules_total",
    "Wall energy of servers as first derived, by method and state; populations under the k rule have day and week gauges.",
    (*GROUP, "method", "state"),
    Origin.LEDGER,
)
EMISSIONS: Final = _counter(
    "veilleuse_emissions_grams_total",
    "CO2 equivalent of veilleuse_energy_joules_total, at the factor each joule was booked with.",
    (*GROUP, "method", "state", "ledger"),
    Origin.LEDGER,
)
POWER: Final = _gauge(
    "veilleuse_power_watts",
    "Mean wall power of servers over their newest complete record; absent when not known, never 0 for not known.",
    GROUP,
    Origin.RECORDS,
)
POWER_HOSTS: Final = _gauge(
    "veilleuse_power_hosts",
    "Servers whose newest record is recent enough to be part of veilleuse_power_watts.",
    GROUP,
    Origin.RECORDS,
)
# No device class: it can change with what a machine says of itself, and would take its past along: a counter that falls.
STATE_SECONDS: Final = _counter(
    "veilleuse_state_seconds_total",
    "Time servers spent in each state, as recorded; virtual machines included.",
    ("entity", "site", "population", "state"),
    Origin.SUMS,
)
DAY_ENERGY: Final = _gauge(
    "veilleuse_day_energy_joules",
    "Wall energy of the last closed civil day, as currently derived, in published groups; workstations: its closed hours.",
    (*GROUP, "method", "state"),
    Origin.SUMS,
)
DAY_EMISSIONS: Final = _gauge(
    "veilleuse_day_emissions_grams",
    "CO2 equivalent of veilleuse_day_energy_joules at the factor of the day's year.",
    (*GROUP, "method", "state", "ledger"),
    Origin.SUMS,
)
DAY_STATE: Final = _gauge(
    "veilleuse_day_state_seconds",
    "Time in each state over the last closed civil day, in published groups; workstations: its closed hours.",
    (*GROUP, "state"),
    Origin.SUMS,
)
DAY_HOSTS: Final = _gauge(
    "veilleuse_day_hosts",
    "Machines that contributed to the last closed civil day, in published groups.",
    GROUP,
    Origin.SUMS,
)
WEEK_ENERGY: Final = _gauge(
    "veilleuse_week_energy_joules",
    "Wall energy of the open hours of the last closed ISO week, for populations that send them by the week.",
    (*GROUP, "method", "state"),
    Origin.SUMS,
)
HOSTS: Final = _gauge(
    "veilleuse_hosts",
    "Machines in the registry.",
    ("population", "status"),
    Origin.REGISTRY,
)
SUPPRESSED: Final = _gauge(
    "veilleuse_suppressed_groups",
    "Groups below k machines, merged or withheld.",
    ("population", "period", "outcome"),
    Origin.SUMS,
)
COVERAGE: Final = _gauge(
    "veilleuse_coverage_ratio",
    "I13: observed share of the fleet's machine-time, for states and for energy.",
    ("population", "machines", "period", "kind"),
    Origin.INDICATORS,
)
OUTSIDE_OPENING: Final = _gauge(
    "veilleuse_outside_opening_ratio",
    "I1: share of the time outside opening hours during which machines were on; servers excluded.",
    ("population", "machines", "period"),
    Origin.INDICATORS,
)
OUTSIDE_OPENING_ENERGY: Final = _gauge(
    "veilleuse_outside_opening_energy_joules",
    "I1: wall energy drawn while on outside opening hours; servers excluded.",
    ("population", "machines", "period"),
    Origin.INDICATORS,
)
IDLE_WHILE_ON: Final = _gauge(
    "veilleuse_idle_while_on_ratio",
    "I2: share of the time on during which machines were idle.",
    ("population", "machines", "period"),
    Origin.INDICATORS,
)
IDLE_WHILE_ON_ENERGY: Final = _gauge(
    "veilleuse_idle_while_on_energy_joules",
    "I2: wall energy drawn while on and idle.",
    ("population", "machines", "period"),
    Origin.INDICATORS,
)
FACTOR: Final = _gauge(
    "veilleuse_factor_gco2e_per_kwh",
    "Electricity factor applied now.",
    ("zone", "factor_id", "year", "provisional"),
    Origin.FACTORS,
)
FACTOR_INFO: Final = _gauge(
    "veilleuse_factor_info",
    "Where the factor applied now comes from.",
    ("zone", "factor_id", "year", "series", "factor_source"),
    Origin.FACTORS,
)
CONTACT_AGE: Final = _gauge(
    "veilleuse_agent_last_contact_age_seconds",
    "Age of the last contact over the active hosts of a population; max for servers only.",
    ("population", "statistic"),
    Origin.REGISTRY,
)
SILENT: Final = _gauge(
    "veilleuse_agents_silent",
    "Active hosts not heard of for three times the longest contact interval of their population.",
    ("population",),
    Origin.REGISTRY,
)
AGENT_INFO: Final = _gauge(
    "veilleuse_agent_version_hosts",
    "Active servers by agent version.",
    ("version",),
    Origin.REGISTRY,
)
SOURCE_SUCCESS: Final = _gauge(
    "veilleuse_source_success",
    "Servers on which a source was read (success), failed at its last count (failure) or is not there (unavailable).",
    ("source", "outcome"),
    Origin.REGISTRY,
)
SPOOL_RECORDS: Final = _gauge(
    "veilleuse_spool_backlog_records",
    "Records waiting on the agents at their last contact.",
    ("population",),
    Origin.REGISTRY,
)
SPOOL_BYTES: Final = _gauge(
    "veilleuse_spool_backlog_bytes",
    "Bytes of the agents' spools at their last contact.",
    ("population",),
    Origin.REGISTRY,
)
DROPPED: Final = _gauge(
    "veilleuse_spool_dropped_records",
    "Records agents say they dropped, by reason, since each agent's spool was made.",
    ("population", "reason"),
    Origin.REGISTRY,
)
GAP_RECORDS: Final = _gauge(
    "veilleuse_gap_records",
    "Declared gaps stored, in records.",
    ("population", "reason"),
    Origin.SUMS,
)
GAP_SECONDS: Final = _gauge(
    "veilleuse_gap_seconds",
    "Declared gaps stored, in time.",
    ("population", "reason"),
    Origin.SUMS,
)
RECORDS_STORED: Final = _gauge(
    "veilleuse_store_records",
    "Records in the store.",
    (),
    Origin.SUMS,
)
DIRTY: Final = _gauge(
    "veilleuse_derive_backlog_periods",
    "Periods waiting to be derived again.",
    (),
    Origin.SUMS,
)
STORE_BYTES: Final = _gauge(
    "veilleuse_store_size_bytes",
    "Size of the database and its write-ahead log on disk.",
    (),
    Origin.WEB,
)
STORE_FREE: Final = _gauge(
    "veilleuse_store_free_bytes",
    "Free space on the disk of the data directory.",
    (),
    Origin.WEB,
)
STORE_RESERVE: Final = _gauge(
    "veilleuse_store_reserve_bytes",
    "Free space under which no record is accepted any more.",
    (),
    Origin.WEB,
)
COLLECTOR_UP: Final = _gauge(
    "veilleuse_collector_up",
    "1 when the receiving process answered on its administration socket, else 0.",
    (),
    Origin.COLLECTOR,
)
PUSHES: Final = _counter(
    "veilleuse_collector_pushes_total",
    "Push calls answered, by outcome.",
    ("outcome",),
    Origin.COLLECTOR,
)
RECORDS: Final = _counter(
    "veilleuse_collector_records_total",
    "Records received, by outcome.",
    ("outcome",),
    Origin.COLLECTOR,
)
REFUSED_CALLS: Final = _counter(
    "veilleuse_collector_refused_calls_total",
    "Calls refused before anything was read, by reason.",
    ("reason",),
    Origin.COLLECTOR,
)
REFUSED_RECORDS: Final = _counter(
    "veilleuse_collector_refused_records_total",
    "Records refused by validation, by reason.",
    ("reason",),
    Origin.COLLECTOR,
)
HELLOS: Final = _counter(
    "veilleuse_collector_hellos_total",
    "Hello calls answered, by outcome.",
    ("outcome",),
    Origin.COLLECTOR,
)
RENEWALS: Final = _counter(
    "veilleuse_collector_renewals_total",
    "Certificates renewed, by outcome.",
    ("outcome",),
    Origin.COLLECTOR,
)
ENROLMENTS: Final = _counter(
    "veilleuse_collector_enrolments_total",
    "Enrolments answered, by outcome.",
    ("outcome",),
    Origin.COLLECTOR,
)
BEHIND: Final = _counter(
    "veilleuse_collector_behind_total",
    "Signs that this collector was restored from an older backup, by reason.",
    ("reason",),
    Origin.COLLECTOR,
)
STORE_ERRORS: Final = _counter(
    "veilleuse_collector_store_errors_total",
    "Transactions the disk or the database refused, by reason.",
    ("reason",),
    Origin.COLLECTOR,
)
JOBS: Final = _counter(
    "veilleuse_collector_jobs_total",
    "Writes other than pushes (derivation, enrolment, administration), by outcome.",
    ("outcome",),
    Origin.COLLECTOR,
)
COMMIT: Final = _histogram(
    "veilleuse_collector_commit_seconds",
    "Time of durable commits, fsync included.",
    Origin.COLLECTOR,
)
QUEUE: Final = _gauge(
    "veilleuse_collector_queue_pushes",
    "Pushes waiting for the writer.",
    (),
    Origin.COLLECTOR,
)
CERTIFICATE: Final = _gauge(
    "veilleuse_certificate_expiry_timestamp_seconds",
    "When the collector's own certificates end, Unix time.",
    ("name",),
    Origin.COLLECTOR,
)
BUILD_INFO: Final = _gauge(
    "veilleuse_build_info",
    "Version of the collector, and whether the data is simulated.",
    ("version", "simulated"),
    Origin.WEB,
)
RENDER: Final = _gauge(
    "veilleuse_exposition_render_seconds",
    "Time it took to gather and render the previous exposition.",
    (),
    Origin.WEB,
)
SERIES_BOUND: Final = _gauge(
    "veilleuse_exposition_series_bound",
    "Most series this registry of hosts and sites can make; agents cannot raise it.",
    (),
    Origin.WEB,
)
HOST_POWER: Final = _gauge(
    "veilleuse_host_power_watts",
    "Mean wall power of one server over its newest complete record; /metrics/hosts only.",
    ("host", *GROUP),
    Origin.RECORDS,
)
HOST_DAY_ENERGY: Final = _gauge(
    "veilleuse_host_day_energy_joules",
    "Wall energy of one server over the last closed civil day; /metrics/hosts only.",
    ("host", *GROUP, "method"),
    Origin.SUMS,
)

FLEET: Final = (
    BUILD_INFO,
    ENERGY,
    EMISSIONS,
    POWER,
    POWER_HOSTS,
    STATE_SECONDS,
    DAY_ENERGY,
    DAY_EMISSIONS,
    DAY_STATE,
    DAY_HOSTS,
    WEEK_ENERGY,
    SUPPRESSED,
    HOSTS,
    COVERAGE,
    OUTSIDE_OPENING,
    OUTSIDE_OPENING_ENERGY,
    IDLE_WHILE_ON,
    IDLE_WHILE_ON_ENERGY,
    FACTOR,
    FACTOR_INFO,
)
AGENTS: Final = (
    CONTACT_AGE,
    SILENT,
    AGENT_INFO,
    SOURCE_SUCCESS,
    SPOOL_RECORDS,
    SPOOL_BYTES,
    DROPPED,
    GAP_RECORDS,
    GAP_SECONDS,
)
COLLECTOR: Final = (
    COLLECTOR_UP,
    PUSHES,
    RECORDS,
    REFUSED_CALLS,
    REFUSED_RECORDS,
    HELLOS,
    RENEWALS,
    ENROLMENTS,
    BEHIND,
    STORE_ERRORS,
    JOBS,
    COMMIT,
    QUEUE,
    CERTIFICATE,
    RECORDS_STORED,
    DIRTY,
    STORE_BYTES,
    STORE_FREE,
    STORE_RESERVE,
    RENDER,
    SERIES_BOUND,
)
PER_HOST: Final = (HOST_POWER, HOST_DAY_ENERGY)

HTTP_DURATION: Final = _summary(
    "veilleuse_web_request_seconds",
    "Time to answer HTTP requests, by route and status code.",
    ("route", "code"),
    Origin.WEB,
)

CATALOGUE: Final[tuple[Metric, ...]] = (*FLEET, *AGENTS, *COLLECTOR, *PER_HOST, HTTP_DURATION)
BY_NAME: Final[Mapping[str, Metric]] = {metric.name: metric for metric in CATALOGUE}
