# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Lists every metric once: name, type, unit, help, labels, and the origin of its value.

It defines those of the agents, of the collector and of its web process; fleet_metrics defines the others.
The exposition, the Grafana panels, the alert rules and docs/metrics.md all take their names from here.
`python -m veilleuse.collector.exposition.document` prints docs/metrics.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from veilleuse.collector.exposition.fleet_metrics import *  # noqa: F403  # the names of all metrics, under one roof
from veilleuse.collector.exposition.fleet_metrics import FLEET, GRID, HISTORY, PER_HOST
from veilleuse.collector.exposition.metric import Metric, MetricGroup, MetricOrigin, MetricType

__all__ = ["FLEET", "GRID", "HISTORY", "PER_HOST", "Metric", "MetricOrigin", "MetricType"]  # of other files

OTHER: Final = "other"
"""Label value of everything outside a closed list."""
VERSIONS: Final = 5
"""Maximum agent versions with their own label value; the rarer ones are `other`."""

AGENTS: Final = MetricGroup(MetricOrigin.REGISTRY)
CONTACT_AGE: Final = AGENTS.gauge(
    "veilleuse_agent_last_contact_age_seconds",
    "Age of the last contact of the active servers; for a server that never called, the time since its day of "
    "enrolment.",
    ("population", "statistic"),
)
SILENT: Final = AGENTS.gauge(
    "veilleuse_agents_silent",
    "Active servers without a contact for two contact intervals. PCs without one on their last two open days: a "
    "lower bound, a multiple of k, once a day. Absent until the collector has listened for as long.",
    ("population",),
)
SILENCE_LEVEL: Final = AGENTS.gauge(
    "veilleuse_silence_level",
    "Level of a population's silence, as in `veilleuse doctor`: 0 good, 1 warning, 2 failed; absent where it "
    "cannot be judged.",
    ("population",),
)
AGENT_INFO: Final = AGENTS.gauge(
    "veilleuse_agent_version_hosts", "Active servers by agent version.", ("version",)
)
CONFIGURATION_HOSTS: Final = AGENTS.gauge(
    "veilleuse_configuration_hosts",
    "Active servers by state of their remote configuration: confirmed, applied, failed, waiting, unaware (agents "
    "before 0.2), own_file (nothing is set).",
    ("population", "state"),
)
SOURCE_SUCCESS: Final = AGENTS.gauge(
    "veilleuse_source_success",
    "Servers by outcome of a source: success (was read), failure (failed in the last report), unavailable (does "
    "not exist there).",
    ("source", "outcome"),
)
SOURCE_FAILURES: Final = AGENTS.gauge(
    "veilleuse_source_failure_ratio",
    "Of the servers of a device class that have a source: share where it failed in the last report.",
    ("device_class", "source"),
)
SPOOL_RECORDS: Final = AGENTS.gauge(
    "veilleuse_spool_backlog_records",
    "Records waiting on the agents of servers at their last contact.",
    ("population",),
)
SPOOL_BYTES: Final = AGENTS.gauge(
    "veilleuse_spool_backlog_bytes",
    "Bytes of the spools of servers' agents at their last contact.",
    ("population",),
)
QUARANTINE: Final = AGENTS.gauge(
    "veilleuse_agent_quarantine_records",
    "Refused records that servers' agents keep for inspection, at their last contact; for PCs, see `veilleuse "
    "doctor`.",
    ("population",),
)
DROPPED: Final = AGENTS.gauge(
    "veilleuse_spool_dropped_records",
    "Dropped records reported by servers' agents, by reason, since each agent's spool was created.",
    ("population", "reason"),
)
GAP_RECORDS: Final = AGENTS.gauge(
    "veilleuse_gap_records",
    "Stored gaps declared by servers, in records.",
    ("population", "reason"),
    origin=MetricOrigin.SUMS,
)
GAP_SECONDS: Final = AGENTS.gauge(
    "veilleuse_gap_seconds",
    "Stored gaps declared by servers, in seconds.",
    ("population", "reason"),
    origin=MetricOrigin.SUMS,
)
UNEXPLAINED: Final = AGENTS.gauge(
    "veilleuse_unexplained_seconds",
    "Time of servers' last 7 whole days that is neither stored nor in a declared gap; above 0, data was lost. For "
    "PCs, see `veilleuse doctor`.",
    ("population",),
    origin=MetricOrigin.SUMS,
)
EXCESS: Final = AGENTS.gauge(
    "veilleuse_excess_seconds",
    "Time of the same days that was reported twice: clocks set back, machines restored from a snapshot.",
    ("population",),
    origin=MetricOrigin.SUMS,
)

COLLECTOR: Final = MetricGroup(MetricOrigin.COLLECTOR)
COLLECTOR_UP: Final = COLLECTOR.gauge(
    "veilleuse_collector_up", "1 if the receiving process answered on its administration socket, else 0."
)
PUSHES: Final = COLLECTOR.counter(
    "veilleuse_collector_pushes_total", "Push calls answered, by outcome.", ("outcome",)
)
RECORDS: Final = COLLECTOR.counter(
    "veilleuse_collector_records_total", "Records received, by outcome.", ("outcome",)
)
REFUSED_CALLS: Final = COLLECTOR.counter(
    "veilleuse_collector_refused_calls_total",
    "Calls refused before their content was read, by reason.",
    ("reason",),
)
REFUSED_RECORDS: Final = COLLECTOR.counter(
    "veilleuse_collector_refused_records_total", "Records refused by validation, by reason.", ("reason",)
)
HELLOS: Final = COLLECTOR.counter(
    "veilleuse_collector_hellos_total", "Hello calls answered, by outcome.", ("outcome",)
)
RENEWALS: Final = COLLECTOR.counter(
    "veilleuse_collector_renewals_total", "Certificates renewed, by outcome.", ("outcome",)
)
ENROLMENTS: Final = COLLECTOR.counter(
    "veilleuse_collector_enrolments_total", "Enrolments answered, by outcome.", ("outcome",)
)
COPIES: Final = COLLECTOR.counter(
    "veilleuse_collector_copies_total",
    "Requests of clones of enrolled machines for their own identity, by outcome.",
    ("outcome",),
)
IDENTITY_CONFLICTS: Final = COLLECTOR.counter(
    "veilleuse_collector_identity_conflicts_total",
    "Calls refused because another machine uses the same identity, by evidence: generation, instance.",
    ("reason",),
)
BEHIND: Final = COLLECTOR.counter(
    "veilleuse_collector_behind_total",
    "Signs that this collector was restored from an older backup, by reason.",
    ("reason",),
)
STORE_ERRORS: Final = COLLECTOR.counter(
    "veilleuse_collector_store_errors_total",
    "Transactions that failed in the disk or the database, by reason.",
    ("reason",),
)
JOBS: Final = COLLECTOR.counter(
    "veilleuse_collector_jobs_total",
    "Writes other than pushes (derivation, enrolment, administration), by outcome.",
    ("outcome",),
)
COMMIT: Final = COLLECTOR.histogram(
    "veilleuse_collector_commit_seconds", "Time of durable commits, fsync included."
)
QUEUE: Final = COLLECTOR.gauge("veilleuse_collector_queue_pushes", "Pushes waiting for the writer.")
CERTIFICATE: Final = COLLECTOR.gauge(
    "veilleuse_certificate_expiry_timestamp_seconds",
    "Expiry of the collector's own certificates, Unix time.",
    ("name",),
)
RECORDS_STORED: Final = COLLECTOR.gauge(
    "veilleuse_store_records", "Records in the store.", origin=MetricOrigin.SUMS
)
DIRTY: Final = COLLECTOR.gauge(
    "veilleuse_derive_backlog_periods", "Periods waiting to be derived again.", origin=MetricOrigin.SUMS
)
STORE_BYTES: Final = COLLECTOR.gauge(
    "veilleuse_store_size_bytes",
    "Size of the database and its write-ahead log on disk.",
    origin=MetricOrigin.WEB,
)
STORE_FREE: Final = COLLECTOR.gauge(
    "veilleuse_store_free_bytes", "Free space on the disk of the data directory.", origin=MetricOrigin.WEB
)
STORE_RESERVE: Final = COLLECTOR.gauge(
    "veilleuse_store_reserve_bytes",
    "Free space below which records are no longer accepted.",
    origin=MetricOrigin.WEB,
)
STORE_FULL: Final = COLLECTOR.gauge(
    "veilleuse_store_full_timestamp_seconds",
    "Unix time at which free space reaches the reserve, at the growth of the last 30 days; absent without growth.",
    origin=MetricOrigin.WEB,
)
STORE_LOST: Final = COLLECTOR.gauge(
    "veilleuse_store_lost_timestamp_seconds",
    "Time at which the collector last ended because a file of its store was not the one that it had opened, Unix "
    "time; absent if never.",
    origin=MetricOrigin.WEB,
)
BACKUP_MADE: Final = COLLECTOR.gauge(
    "veilleuse_backup_made",
    "1 if this data was ever backed up, else 0; absent for simulated data.",
    origin=MetricOrigin.WEB,
)
BACKUP_NEWEST: Final = COLLECTOR.gauge(
    "veilleuse_backup_newest_timestamp_seconds",
    "Time of the last backup, Unix time.",
    origin=MetricOrigin.WEB,
)
REGISTER_WRITABLE: Final = COLLECTOR.gauge(
    "veilleuse_register_writable",
    "1 if the collector can write `pki.register_file` and its folder, else 0; absent while it does not answer.",
)
PUBLICATION_FAILURES: Final = COLLECTOR.gauge(
    "veilleuse_publication_failures",
    "Months (1 if any) that are due and cannot be released, and years whose statistics cannot be kept.",
    ("period",),
)
CHILD_KILLED: Final = COLLECTOR.gauge(
    "veilleuse_child_killed_memory_bytes",
    "Most memory of the daily process that a signal ended at its last try: what it kept or published (period), the month or "
    "year (at) and the step; absent while none was.",
    ("period", "at", "step", "signal"),
)
CONDITION_LEVEL: Final = COLLECTOR.gauge(
    "veilleuse_condition_level",
    "Level of each condition of docs/alerts.md now: 0 it does not hold, 1 info, 2 warning, 3 critical; absent where "
    "it cannot be judged. Without the time that an alert waits.",
    ("condition", "audience"),
    origin=MetricOrigin.WEB,
)
OTLP_FAILURES: Final = COLLECTOR.gauge(
    "veilleuse_otlp_failures",
    "Times in a row that the OTLP endpoint did not take the metrics; absent without an endpoint.",
    origin=MetricOrigin.WEB,
)
OTLP_SENT: Final = COLLECTOR.gauge(
    "veilleuse_otlp_sent_timestamp_seconds",
    "Time of the last metrics that the OTLP endpoint took, Unix time.",
    origin=MetricOrigin.WEB,
)
RENDER: Final = COLLECTOR.gauge(
    "veilleuse_exposition_render_seconds",
    "Duration of collecting and rendering the previous exposition.",
    origin=MetricOrigin.WEB,
)
SERIES: Final = COLLECTOR.gauge(
    "veilleuse_exposition_series",
    "Number of series of this exposition, without those of the process itself.",
    origin=MetricOrigin.WEB,
)
SERIES_BOUND: Final = COLLECTOR.gauge(
    "veilleuse_exposition_series_bound",
    "Maximum number of series for this registry of hosts and sites; agents cannot raise it.",
    origin=MetricOrigin.WEB,
)

OWN: Final = MetricGroup(MetricOrigin.RELEASE)
OWN_ENERGY: Final = OWN.gauge(
    "veilleuse_own_month_energy_joules",
    "Energy that Veilleuse itself used in the last published month, from its CPU time through the load model, to a "
    "factor of two; in no total, since the agents' is in that of their machines.",
    ("part", "population"),
)
OWN_CPU: Final = OWN.gauge(
    "veilleuse_own_month_cpu_seconds",
    "CPU time of Veilleuse's own processes in that month; absent where it would tell that of fewer than k PCs.",
    ("part", "population"),
)
OWN_BYTES: Final = OWN.gauge(
    "veilleuse_own_month_wire_bytes",
    "Bytes of the messages between the collector and the agents of servers in that month, without TLS and TCP; those "
    "of PCs are not counted.",
    ("population", "direction"),
)
OWN_AVOIDABLE: Final = OWN.gauge(
    "veilleuse_own_month_avoidable_ratio",
    "Avoidable energy (I4) that the month shows, over all energy that Veilleuse used in it; absent where either is "
    "not known.",
)
OWN_START: Final = OWN.gauge(
    "veilleuse_own_month_start_timestamp_seconds",
    "Begin of that month, Unix time; absent until one is known.",
)
OWN_COLLECTOR_CPU: Final = OWN.counter(
    "veilleuse_own_collector_cpu_seconds_total",
    "CPU time of the collector and its child processes since its start.",
    origin=MetricOrigin.COLLECTOR,
)
OWN_WIRE: Final = OWN.counter(
    "veilleuse_own_wire_bytes_total",
    "Bytes of the messages between the collector and the agents of servers since its start, without TLS and TCP; "
    "those of PCs are not counted.",
    ("population", "direction"),
    origin=MetricOrigin.COLLECTOR,
)

HTTP: Final = MetricGroup(MetricOrigin.WEB)
HTTP_DURATION: Final = HTTP.summary(
    "veilleuse_web_request_seconds",
    "Time to answer HTTP requests, by route and status code.",
    ("route", "code"),
)

CATALOGUE: Final[tuple[Metric, ...]] = (
    *FLEET,
    *GRID,
    *AGENTS,
    *COLLECTOR,
    *OWN,
    *PER_HOST,
    *HISTORY,
    *HTTP,
)
BY_NAME: Final[Mapping[str, Metric]] = {metric.name: metric for metric in CATALOGUE}
