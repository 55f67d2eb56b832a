# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Exports the health of agents and of the collector. Summaries per population, never per host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any, Final

from veilleuse.collector.disclosure.rule import EXEMPT
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.metric import Metric
from veilleuse.collector.exposition.prometheus import Exposition
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.records import AppendResult, Reason
from veilleuse.collector.model.remote_config import Rollout, state_of
from veilleuse.collector.silence import SilenceLevel, last_sign
from veilleuse.collector.web.metrics.fleet import FleetView
from veilleuse.collector.web.metrics.snapshot import Snapshot
from veilleuse.wire.units import MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import SOURCES, Population

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
_FROM_THE_START: Final[dict[str, tuple[str, ...]]] = {
    "pushes": tuple(result.value for result in AppendResult),
    "records": ("duplicate", "replayed", "stored"),
    "records_refused": tuple(reason.value for reason in Reason),
    "copies": ("again", "fresh", "pending"),
    "identity_conflicts": ("generation", "instance"),
    "collector_behind": ("certificate",),
    "store_errors": ("damaged", "failing", "full", "lost"),
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
    fleet, day_start = snapshot.fleet, snapshot.day_start
    statuses = Counter(
        (host.population.value, host.status.value)
        for seen, exempt in ((fleet, True), (day_start, False))
        for host in seen.hosts.values()
        if (host.population in EXEMPT) is exempt
    )
    for labels, number in sorted(statuses.items()):
        out.add(c.HOSTS, labels, number)
    servers = [host for host in fleet.active if host.population in EXEMPT]
    for population in EXEMPT:
        members = [host for host in servers if host.population is population]
        if members:
            _configuration(out, fleet.rollouts.get(population) or Rollout(population), members)
            _spool(out, population, members)
            _gaps(out, population, fleet)
    for account in snapshot.accounts:
        out.add(
            c.UNEXPLAINED,
            (account.population.value,),
            account.unexplained_milliseconds / MILLISECONDS_PER_SECOND,
        )
        out.add(c.EXCESS, (account.population.value,), account.excess_milliseconds / MILLISECONDS_PER_SECOND)
    _silence(out, snapshot)
    _versions(out, servers)
    _sources(out, servers)


def _silence(out: Exposition, snapshot: Snapshot) -> None:
    """Add the silence level that the page and `doctor` show.

    Populations that cannot be judged now have no sample.
    """
    for one in snapshot.silence:
        if one.level is not SilenceLevel.WAITING:
            out.add(c.SILENT, (one.population.value,), one.silent)
            out.add(c.SILENCE_LEVEL, (one.population.value,), LEVELS[one.level])
    servers = (host for host in snapshot.fleet.active if host.population in EXEMPT)
    now = snapshot.fleet.now_unix_milliseconds
    ages = [max(0.0, (now - last_sign(host)) / MILLISECONDS_PER_SECOND) for host in servers]
    if ages:
        out.add(c.CONTACT_AGE, (Population.SERVER.value, "median"), median(ages))
        out.add(c.CONTACT_AGE, (Population.SERVER.value, "max"), max(ages))


def _configuration(out: Exposition, rollout: Rollout, members: Iterable[Host]) -> None:
    states = Counter(state_of(rollout, host).value for host in members)
    for state, number in sorted(states.items()):
        out.add(c.CONFIGURATION_HOSTS, (rollout.population.value, state), number)


def _spool(out: Exposition, population: Population, members: Iterable[Host]) -> None:
    healths = [host.health for host in members if host.health is not None]
    if not healths:
        return
    out.add(c.SPOOL_RECORDS, (population.value,), sum(one.spool_records for one in healths))
    out.add(c.SPOOL_BYTES, (population.value,), sum(one.spool_bytes for one in healths))
    kept = [one.quarantine_records for one in healths if one.quarantine_records is not None]
    if kept:
        out.add(c.QUARANTINE, (population.value,), sum(kept))
    drops: Counter[str] = Counter()
    for one in healths:
        for reason, records in one.drops:
            drops[reason.value] += records
    for reason_name, records in sorted(drops.items()):
        out.add(c.DROPPED, (population.value, reason_name), records)


def _gaps(out: Exposition, population: Population, fleet: FleetView) -> None:
    records: Counter[str] = Counter()
    times: Counter[str] = Counter()
    for host_id, reason, number, milliseconds in fleet.gaps:
        host = fleet.hosts.get(host_id)
        if host is not None and host.population is population:
            records[reason] += number
            times[reason] += milliseconds
    for reason in sorted(records):
        out.add(c.GAP_RECORDS, (population.value, reason), records[reason])
        out.add(c.GAP_SECONDS, (population.value, reason), times[reason] / MILLISECONDS_PER_SECOND)


def _versions(out: Exposition, servers: Iterable[Host]) -> None:
    versions = Counter(host.health.agent_version for host in servers if host.health is not None)
    kept = dict(versions.most_common(c.VERSIONS))
    rest = sum(versions.values()) - sum(kept.values())
    for version, number in sorted(kept.items()):
        out.add(c.AGENT_INFO, (version,), number)
    if rest:
        out.add(c.AGENT_INFO, (c.OTHER,), rest)


def _sources(out: Exposition, servers: Iterable[Host]) -> None:
    found: Counter[tuple[str, str]] = Counter()
    for host in servers:
        for source in host.health.sources if host.health else ():
            name = source.name if source.name in SOURCES else c.OTHER
            if source.unavailable is not None:
                found[name, "unavailable"] += 1
                continue
            # One source of one host may have both: some reads succeeded and some failed.
            found[name, "success"] += source.successes > 0
            found[name, "failure"] += source.failures > 0
    for labels, number in sorted(found.items()):
        out.add(c.SOURCE_SUCCESS, labels, number)


def add_collector(out: Exposition, snapshot: Snapshot, k: int) -> None:
    """Add the samples of the receiving process and of the store's disk usage.

    Where fewer than k PCs are enrolled, values that each call changes come from the first snapshot of the
    day. Live values would reveal when one of few people's machines was on (docs/privacy.md).
    """
    few = snapshot.has_few_pcs(k)
    seen, calls = (snapshot.day_start, snapshot.day_health) if few else (snapshot.fleet, snapshot.health)
    disk = snapshot.day_disk if few else snapshot.disk
    out.add(c.COLLECTOR_UP, (), int(snapshot.health is not None))
    for key, metric in _COUNTERS:
        _counter(out, metric, key, calls if key in _CALLS else snapshot.health)
    _commits(out, calls)
    if snapshot.health is not None:
        _certificates(out, snapshot.health)
    out.add(c.RECORDS_STORED, (), seen.records)
    out.add(c.DIRTY, (), seen.dirty)
    if not few:
        out.add(c.STORE_BYTES, (), snapshot.disk.size_bytes)
    out.add(c.STORE_FREE, (), disk.free_bytes)
    out.add(c.STORE_RESERVE, (), disk.reserve_bytes)


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
