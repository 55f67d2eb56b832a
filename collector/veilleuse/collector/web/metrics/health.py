# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Exports the health of agents and of the collector. Summaries per population, never per host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from statistics import median
from typing import Any, Final

from veilleuse.collector.backup.notes import last_backup
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.metric import Metric
from veilleuse.collector.exposition.prometheus import Exposition
from veilleuse.collector.model.records import AppendResult, DataKind, Reason
from veilleuse.collector.silence import SilenceLevel, last_sign
from veilleuse.collector.web.metrics.servers import (
    CONFIGURATION,
    DROPPED,
    QUARANTINE,
    SOURCE,
    SOURCE_OF_CLASS,
    SPOOL_BYTES,
    SPOOL_RECORDS,
    STATUS,
    VERSION,
    ServerCounts,
)
from veilleuse.collector.web.metrics.snapshot import Snapshot
from veilleuse.wire.units import MILLISECONDS_PER_DAY, MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Population

_SERVER: Final = Population.SERVER.value
LEVELS: Final = {SilenceLevel.GOOD: 0, SilenceLevel.WARNING: 1, SilenceLevel.FAILED: 2}
_COUNTERS: Final = (
    ("pushes", c.PUSHES),
    ("records", c.RECORDS),
    ("calls_refused", c.REFUSED_CALLS),
    ("records_refused", c.REFUSED_RECORDS),
    ("hellos", c.HELLOS),
    ("renewals", c.RENEWALS),
    ("enrolments", c.ENROLMENTS),
    ("copies", c.COPIES),
    ("identity_conflicts", c.IDENTITY_CONFLICTS),
    ("collector_behind", c.BEHIND),
    ("store_errors", c.STORE_ERRORS),
    ("jobs", c.JOBS),
)
_CALLS: Final = frozenset({"pushes", "records", "hellos", "renewals", "enrolments", "copies", "jobs"})
"""Counters that successful calls increase; the other counters report faults."""
_CALL_REASONS: Final = (
    "backlog_full",
    "bad_nonce",
    "bad_request",
    "bad_signature",
    "chain_length",
    "deadline",
    "document_hash_length",
    "epoch_length",
    "expired",
    "expired_too_long",
    "expired_token",
    "forgotten",
    "hello_again",
    "identity_conflict",
    "instance_id_length",
    "internal",
    "key_reused",
    "message_too_large",
    "no_certificate",
    "not_a_message",
    "not_an_agent",
    "not_ours",
    "not_yet_valid",
    "older_instance",
    "one_at_a_time",
    "other_agent",
    "pending",
    "protocol_unsupported",
    "push_too_large",
    "put_off",
    "queue_full",
    "rate_limited",
    "record_count",
    "revoked",
    "revoked_token",
    "seq_out_of_range",
    "store_failing",
    "store_full",
    "superseded",
    "suspended",
    "too_many_calls",
    "too_many_copies",
    "too_many_epochs",
    "too_many_features",
    "unknown_agent",
    "unknown_token",
    "used_token",
    "wrong_network",
)
"""Why a call is refused: docs/wire.md, and enrolment. A test compares them with the code."""
_FROM_THE_START: Final[dict[str, tuple[str, ...]]] = {
    "pushes": (*(result.value for result in AppendResult), "expired"),
    "records": ("duplicate", "replayed", "stored"),
    "calls_refused": _CALL_REASONS,
    "records_refused": tuple(reason.value for reason in Reason),
    "hellos": ("ok", "stale_instance"),
    "renewals": ("expired",),
    "enrolments": ("again", "fresh", "pending"),
    "copies": ("again", "fresh", "pending"),
    "identity_conflicts": ("generation", "instance"),
    "collector_behind": ("certificate",),
    "store_errors": ("damaged", "failing", "full", "lost"),
    "jobs": ("done", "failed"),
}
"""Labels exported from 0 on, by counter.

An alert sees an increase only between two samples, so it would miss a first sample above 0.
"""
MAXIMUM_LABELS: Final = 96
"""Most labels of one collector counter; the rest is summed as `other`. Its closed lists are shorter."""


def add_agents(out: Exposition, snapshot: Snapshot) -> None:
    """Add the samples of agents: servers in full; of populations under the k rule only two counts.

    The two are the number of hosts and of silent hosts, from the first snapshot of the day. Any live value
    would reveal the scrape at which a PC connected.
    """
    fleet, servers = snapshot.fleet, snapshot.fleet.servers
    statuses = {(Population.SERVER.value, status): number for status, number in servers.of(STATUS).items()}
    for (population, status), number in snapshot.day_start.pcs.by_status.items():
        statuses[population.value, status.value] = number
    for labels, number in sorted(statuses.items()):
        out.add(c.HOSTS, labels, number)
    for state, number in servers.of(CONFIGURATION).items():
        out.add(c.CONFIGURATION_HOSTS, (_SERVER, state), number)
    _spool(out, servers)
    if servers.members:
        for reason, (records, milliseconds) in sorted(fleet.gaps.items()):
            out.add(c.GAP_RECORDS, (_SERVER, reason), records)
            out.add(c.GAP_SECONDS, (_SERVER, reason), milliseconds / MILLISECONDS_PER_SECOND)
    if snapshot.balance is not None:
        unexplained, excess = snapshot.balance.unexplained_milliseconds, snapshot.balance.excess_milliseconds
        out.add(c.UNEXPLAINED, (_SERVER,), unexplained / MILLISECONDS_PER_SECOND)
        out.add(c.EXCESS, (_SERVER,), excess / MILLISECONDS_PER_SECOND)
    _silence(out, snapshot)
    _versions(out, servers)
    for key, count in sorted(servers.counts.items()):
        if key[0] == SOURCE:
            out.add(c.SOURCE_SUCCESS, key[1:], count.amount)
        elif key[0] == SOURCE_OF_CLASS:
            out.add(c.SOURCE_FAILURES, key[1:], count.amount / count.servers)


def _silence(out: Exposition, snapshot: Snapshot) -> None:
    """Add the silence level that pages and `doctor` show.

    Populations that cannot be judged now have no sample.
    """
    for one in snapshot.silence:
        if one.level is not SilenceLevel.WAITING:
            out.add(c.SILENT, (one.population.value,), one.silent)
            out.add(c.SILENCE_LEVEL, (one.population.value,), LEVELS[one.level])
    if members := snapshot.fleet.servers.members:
        now, half = snapshot.fleet.now_unix_milliseconds, len(members) // 2
        ages = [
            max(0.0, (now - last_sign(host)) / MILLISECONDS_PER_SECOND)
            for host in (members[0], members[half], members[-half - 1])
        ]
        out.add(c.CONTACT_AGE, (_SERVER, "median"), median(ages[1:]))
        out.add(c.CONTACT_AGE, (_SERVER, "max"), ages[0])


def _spool(out: Exposition, servers: ServerCounts) -> None:
    for key, metric in (
        (SPOOL_RECORDS, c.SPOOL_RECORDS),
        (SPOOL_BYTES, c.SPOOL_BYTES),
        (QUARANTINE, c.QUARANTINE),
    ):
        for amount in servers.of(key).values():
            out.add(metric, (_SERVER,), amount)
    for reason, records in servers.of(DROPPED).items():
        out.add(c.DROPPED, (_SERVER, reason), records)


def _versions(out: Exposition, servers: ServerCounts) -> None:
    versions = Counter(servers.of(VERSION))
    kept = dict(versions.most_common(c.VERSIONS))
    rest = sum(versions.values()) - sum(kept.values())
    for version, number in sorted(kept.items()):
        out.add(c.AGENT_INFO, (version,), number)
    if rest:
        out.add(c.AGENT_INFO, (c.OTHER,), rest)


def add_collector(out: Exposition, snapshot: Snapshot, k: int) -> None:
    """Add the samples of the receiving process and of the store's disk usage.

    Where fewer than k PCs are enrolled, what adds up calls is absent: its steps would reveal the days on
    which one of few people's machines was on (docs/privacy.md). Other values that a call may change come from
    the first snapshot of the day.
    """
    is_of_few = snapshot.has_few_pcs(k)
    seen = snapshot.day_start if is_of_few else snapshot
    out.add(c.COLLECTOR_UP, (), int(snapshot.health is not None))
    for key, metric in _COUNTERS:
        if not (is_of_few and key in _CALLS):
            _counter(out, metric, key, snapshot.health)
    if not is_of_few:
        _commits(out, snapshot.health)
        out.add(c.RECORDS_STORED, (), snapshot.fleet.records)
        out.add(c.STORE_BYTES, (), snapshot.disk.size_bytes)
    if snapshot.health is not None:
        _certificates(out, snapshot.health)
        failing = bool(snapshot.health.get("months_not_published"))
        register = snapshot.health.get("register")
        if isinstance(register, dict):
            out.add(c.REGISTER_WRITABLE, (), int(not register.get("trouble")))
        out.add(c.PUBLICATION_FAILURES, ("month",), int(failing))
        out.add(c.PUBLICATION_FAILURES, ("year",), len(snapshot.health.get("years_not_kept", ())))
        for period, one in snapshot.health.get("children_killed", {}).items():
            labels = (period, str(one["at"]), str(one["step"]), str(one["signal"]))
            out.add(c.CHILD_KILLED, labels, one["memory_bytes"])
    out.add(c.DIRTY, (), seen.fleet.dirty)
    out.add(c.STORE_FREE, (), seen.disk.free_bytes)
    out.add(c.STORE_RESERVE, (), seen.disk.reserve_bytes)
    days = seen.disk.days_until_full
    if days is not None and days < float("inf"):
        full = seen.fleet.now_unix_milliseconds + days * MILLISECONDS_PER_DAY
        out.add(c.STORE_FULL, (), round(full / MILLISECONDS_PER_SECOND))
    if snapshot.disk.lost_unix_milliseconds is not None:
        out.add(c.STORE_LOST, (), snapshot.disk.lost_unix_milliseconds / MILLISECONDS_PER_SECOND)
    _backup(out, snapshot.fleet.kind)


def _backup(out: Exposition, kind: DataKind) -> None:
    made = last_backup(kind)
    if made is not None:
        out.add(c.BACKUP_NEWEST, (), made.timestamp())
    if made is not None or not kind.simulated:
        out.add(c.BACKUP_MADE, (), int(made is not None))


def _counter(out: Exposition, metric: Metric, key: str, health: Mapping[str, Any] | None) -> None:
    counts = (health or {}).get(key)
    if not isinstance(counts, dict):
        return
    ordered = sorted((dict.fromkeys(_FROM_THE_START.get(key, ()), 0) | counts).items())
    for label, number in ordered[:MAXIMUM_LABELS]:
        out.add(metric, (str(label),), int(number))
    if rest := sum(int(number) for _, number in ordered[MAXIMUM_LABELS:]):
        out.add(metric, (c.OTHER,), rest)


def _commits(out: Exposition, health: Mapping[str, Any] | None) -> None:
    health_values = health or {}
    buckets = health_values.get("commit_seconds_buckets")
    if isinstance(buckets, dict):
        out.add_histogram(
            c.COMMIT,
            {float(bound): int(number) for bound, number in buckets.items()},
            float(health_values["commit_seconds_sum"]),
        )
    if "queue_pushes" in health_values:
        out.add(c.QUEUE, (), int(health_values["queue_pushes"]))


def _certificates(out: Exposition, health: Mapping[str, Any]) -> None:
    expiries = health.get("certificates")
    if isinstance(expiries, dict):
        for name, unix_milliseconds in sorted(expiries.items())[:MAXIMUM_LABELS]:
            out.add(c.CERTIFICATE, (str(name),), int(unix_milliseconds) / MILLISECONDS_PER_SECOND)
