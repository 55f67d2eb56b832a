# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Metrics of the agents, of the collector and of its web process."""

from __future__ import annotations

from typing import Final

from veilleuse.collector.exposition.metric import Origin, counter, gauge, histogram, summary

OTHER: Final = "other"
"""Label value of what is not in a closed list."""
VERSIONS: Final = 5
"""Agent versions told apart; the rarer ones are `other`."""

CONTACT_AGE: Final = gauge(
    "veilleuse_agent_last_contact_age_seconds",
    "Age of the last contact over the active servers; of one that never called, the time since the day it enrolled on.",
    ("population", "statistic"),
    Origin.REGISTRY,
)
SILENT: Final = gauge(
    "veilleuse_agents_silent",
    "Active servers without a contact for two contact intervals; PCs without one on their last two open days: at least so many, "
    "a multiple of k, once a day. Absent while the collector has not listened for as long.",
    ("population",),
    Origin.REGISTRY,
)
SILENCE_LEVEL: Final = gauge(
    "veilleuse_silence_level",
    "What `veilleuse doctor` says of a population's silence: 0 good, 1 warning, 2 failed; absent where it cannot be judged.",
    ("population",),
    Origin.REGISTRY,
)
AGENT_INFO: Final = gauge(
    "veilleuse_agent_version_hosts",
    "Active servers by agent version.",
    ("version",),
    Origin.REGISTRY,
)
SOURCE_SUCCESS: Final = gauge(
    "veilleuse_source_success",
    "Servers on which a source was read (success), failed at its last count (failure) or is not there (unavailable).",
    ("source", "outcome"),
    Origin.REGISTRY,
)
CONFIGURATION_HOSTS: Final = gauge(
    "veilleuse_configuration_hosts",
    "Active servers by where they stand with the remote configuration they should run: confirmed, applied, failed, waiting, "
    "unaware (agents before 0.2), own_file (nothing is set).",
    ("population", "state"),
    Origin.REGISTRY,
)
SPOOL_RECORDS: Final = gauge(
    "veilleuse_spool_backlog_records",
    "Records waiting on the agents of servers at their last contact.",
    ("population",),
    Origin.REGISTRY,
)
SPOOL_BYTES: Final = gauge(
    "veilleuse_spool_backlog_bytes",
    "Bytes of the spools of servers' agents at their last contact.",
    ("population",),
    Origin.REGISTRY,
)
QUARANTINE: Final = gauge(
    "veilleuse_agent_quarantine_records",
    "Originals of refused records that servers' agents keep for a human to look at, at their last contact; of PCs, `veilleuse doctor` tells.",
    ("population",),
    Origin.REGISTRY,
)
DROPPED: Final = gauge(
    "veilleuse_spool_dropped_records",
    "Records servers' agents say they dropped, by reason, since each agent's spool was made.",
    ("population", "reason"),
    Origin.REGISTRY,
)
GAP_RECORDS: Final = gauge(
    "veilleuse_gap_records",
    "Declared gaps of servers stored, in records.",
    ("population", "reason"),
    Origin.SUMS,
)
GAP_SECONDS: Final = gauge(
    "veilleuse_gap_seconds",
    "Declared gaps of servers stored, in time.",
    ("population", "reason"),
    Origin.SUMS,
)
UNEXPLAINED: Final = gauge(
    "veilleuse_unexplained_seconds",
    "Time of the last 7 whole days of servers that is neither stored nor in a declared gap: 0, or something was lost; of PCs, `veilleuse doctor` tells.",
    ("population",),
    Origin.SUMS,
)
EXCESS: Final = gauge(
    "veilleuse_excess_seconds",
    "Time of the same days that was told twice: clocks set back, machines put back to a snapshot.",
    ("population",),
    Origin.SUMS,
)
RECORDS_STORED: Final = gauge(
    "veilleuse_store_records",
    "Records in the store.",
    (),
    Origin.SUMS,
)
DIRTY: Final = gauge(
    "veilleuse_derive_backlog_periods",
    "Periods waiting to be derived again.",
    (),
    Origin.SUMS,
)
STORE_BYTES: Final = gauge(
    "veilleuse_store_size_bytes",
    "Size of the database and its write-ahead log on disk.",
    (),
    Origin.WEB,
)
STORE_FREE: Final = gauge(
    "veilleuse_store_free_bytes",
    "Free space on the disk of the data directory.",
    (),
    Origin.WEB,
)
STORE_RESERVE: Final = gauge(
    "veilleuse_store_reserve_bytes",
    "Free space under which no record is accepted any more.",
    (),
    Origin.WEB,
)
COLLECTOR_UP: Final = gauge(
    "veilleuse_collector_up",
    "1 when the receiving process answered on its administration socket, else 0.",
    (),
    Origin.COLLECTOR,
)
PUSHES: Final = counter(
    "veilleuse_collector_pushes_total",
    "Push calls answered, by outcome.",
    ("outcome",),
    Origin.COLLECTOR,
)
RECORDS: Final = counter(
    "veilleuse_collector_records_total",
    "Records received, by outcome.",
    ("outcome",),
    Origin.COLLECTOR,
)
REFUSED_CALLS: Final = counter(
    "veilleuse_collector_refused_calls_total",
    "Calls refused before anything was read, by reason.",
    ("reason",),
    Origin.COLLECTOR,
)
REFUSED_RECORDS: Final = counter(
    "veilleuse_collector_refused_records_total",
    "Records refused by validation, by reason.",
    ("reason",),
    Origin.COLLECTOR,
)
HELLOS: Final = counter(
    "veilleuse_collector_hellos_total",
    "Hello calls answered, by outcome.",
    ("outcome",),
    Origin.COLLECTOR,
)
RENEWALS: Final = counter(
    "veilleuse_collector_renewals_total",
    "Certificates renewed, by outcome.",
    ("outcome",),
    Origin.COLLECTOR,
)
ENROLMENTS: Final = counter(
    "veilleuse_collector_enrolments_total",
    "Enrolments answered, by outcome.",
    ("outcome",),
    Origin.COLLECTOR,
)
COPIES: Final = counter(
    "veilleuse_collector_copies_total",
    "Copies of enrolled machines that asked for an identity of their own, by outcome.",
    ("outcome",),
    Origin.COLLECTOR,
)
IDENTITY_CONFLICTS: Final = counter(
    "veilleuse_collector_identity_conflicts_total",
    "Calls refused because another machine uses the same identity, by what showed it: generation, instance.",
    ("reason",),
    Origin.COLLECTOR,
)
BEHIND: Final = counter(
    "veilleuse_collector_behind_total",
    "Signs that this collector was restored from an older backup, by reason.",
    ("reason",),
    Origin.COLLECTOR,
)
STORE_ERRORS: Final = counter(
    "veilleuse_collector_store_errors_total",
    "Transactions the disk or the database refused, by reason.",
    ("reason",),
    Origin.COLLECTOR,
)
JOBS: Final = counter(
    "veilleuse_collector_jobs_total",
    "Writes other than pushes (derivation, enrolment, administration), by outcome.",
    ("outcome",),
    Origin.COLLECTOR,
)
COMMIT: Final = histogram(
    "veilleuse_collector_commit_seconds",
    "Time of durable commits, fsync included.",
    Origin.COLLECTOR,
)
QUEUE: Final = gauge(
    "veilleuse_collector_queue_pushes",
    "Pushes waiting for the writer.",
    (),
    Origin.COLLECTOR,
)
CERTIFICATE: Final = gauge(
    "veilleuse_certificate_expiry_timestamp_seconds",
    "When the collector's own certificates end, Unix time.",
    ("name",),
    Origin.COLLECTOR,
)
RENDER: Final = gauge(
    "veilleuse_exposition_render_seconds",
    "Time it took to gather and render the previous exposition.",
    (),
    Origin.WEB,
)
SERIES: Final = gauge(
    "veilleuse_exposition_series",
    "Series of this exposition, those of the process itself apart.",
    (),
    Origin.WEB,
)
SERIES_BOUND: Final = gauge(
    "veilleuse_exposition_series_bound",
    "Most series this registry of hosts and sites can make; agents cannot raise it.",
    (),
    Origin.WEB,
)
AGENTS: Final = (
    CONTACT_AGE,
    SILENT,
    SILENCE_LEVEL,
    AGENT_INFO,
    CONFIGURATION_HOSTS,
    SOURCE_SUCCESS,
    SPOOL_RECORDS,
    SPOOL_BYTES,
    QUARANTINE,
    DROPPED,
    GAP_RECORDS,
    GAP_SECONDS,
    UNEXPLAINED,
    EXCESS,
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
    COPIES,
    IDENTITY_CONFLICTS,
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
    SERIES,
    SERIES_BOUND,
)
HTTP_DURATION: Final = summary(
    "veilleuse_web_request_seconds",
    "Time to answer HTTP requests, by route and status code.",
    ("route", "code"),
    Origin.WEB,
)
