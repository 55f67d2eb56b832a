# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks the machines by the reports of their agents: versions, identities, undelivered records, silence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Final

from veilleuse.collector import clock
from veilleuse.collector.cli.doctor.findings import Finding, Outcome, outcome_of
from veilleuse.collector.cli.shared import names_of
from veilleuse.collector.documents.text import words
from veilleuse.collector.errors import AdminError
from veilleuse.collector.ipc import START, ask
from veilleuse.collector.logs import product_version
from veilleuse.collector.model.clones import find_twin_groups
from veilleuse.collector.model.hosts import Host, HostStatus
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.silence import Silence, SilenceLevel, judge_of, sentence_of
from veilleuse.collector.store import open_reader
from veilleuse.wire.units import MILLISECONDS_PER_HOUR, MILLISECONDS_PER_MINUTE, MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Population

BACKLOG_BYTES: Final = 32 * 1024 * 1024
"""Half of an agent's default spool: when the other half is full too, the oldest records are dropped."""
CLOCK_MILLISECONDS: Final = 5 * MILLISECONDS_PER_MINUTE
"""Largest clock difference without a warning; agents have the same limit."""
BALANCE_DAYS: Final = 28
"""Days of the balance: four weeks, because workstations are balanced by the week."""
SILENCE_REMEDY: Final = (
    "check first, from one of them: the network and its firewall up to {address}, the DNS entry of that "
    "name, the certificates and the ports (above), then 'veilleuse-agent doctor' there; for machines that "
    "are gone for good: 'veilleuse hosts revoke'"
)
SILENCE_STOPPED: Final = f"no collector runs here, so no machine can call: {START}"
SILENCE_UNJUDGED: Final = (
    "the collector was stopped or suspended until recently: run doctor again {when} after its start"
)


def check_work(settings: CollectorSettings) -> Iterator[Finding]:
    """Report the enrolled machines, the records, and the periods that wait to be derived."""
    with open_reader(settings.data_dir) as store:
        hosts, records, dirty = store.data.hosts(), store.data.record_count(), store.data.dirty_count()
        simulated = store.data.data_kind().simulated
    kind = ", simulated" if simulated else ""
    yield Finding("work", "good", f"{_status_counts(hosts)}; {records} record(s){kind}")
    outcome = outcome_of("derivation_late", dirty)
    if outcome == "good":
        yield Finding("work", "good", f"{dirty} period(s) wait to be derived")
    else:
        remedy = "let 'veilleuse serve' run; it catches up"
        yield Finding("work", outcome, f"{dirty} periods wait to be derived", remedy)


def check_clock(settings: CollectorSettings) -> Iterator[Finding]:
    """Find contacts in the future: this clock was ahead then, or is behind now.

    Certificates depend on the clock.
    """
    now = clock.unix_milliseconds()
    latest = max((host.last_contact_unix_milliseconds or 0 for host in _hosts(settings)), default=0)
    if latest > now + CLOCK_MILLISECONDS:
        hours = (latest - now) / MILLISECONDS_PER_HOUR
        text = (
            f"the newest contact of a machine is {hours:.1f} h in the future: this clock was ahead then, or "
            "is behind"
        )
        yield Finding("clock", "warning", text, "check with 'timedatectl', set the clock and synchronise it")
    else:
        yield Finding("clock", "good", f"{clock.now():%Y-%m-%d %H:%M} UTC, no machine was seen later")


def check_versions(settings: CollectorSettings) -> Iterator[Finding]:
    """Compare the versions of agents: this version and the one before are supported (docs/wire.md §5)."""
    agents = Counter(host.health.agent_version for host in _active(settings) if host.health is not None)
    ours = _minor(product_version())
    told = ", ".join(f"{number} with {version or 'none'}" for version, number in sorted(agents.items()))
    yield Finding("versions", "good", f"collector {product_version()}; agents: {told or 'none heard yet'}")
    if ours is None:
        return
    older = sum(number for version, number in agents.items() if _is_too_old(_minor(version), ours))
    newer = sum(number for version, number in agents.items() if (minor := _minor(version)) and minor > ours)
    if older:
        yield Finding(
            "versions",
            "warning",
            f"{older} agent(s) are older than the version before this one",
            "update them: the collector keeps what they send, and may not serve them after its next update",
        )
    if newer:
        yield Finding(
            "versions",
            "warning",
            f"{newer} agent(s) are newer than this collector",
            "update the collector: it goes first",
        )


def _minor(version: str) -> tuple[int, int] | None:
    """Return (major, minor); None when the version is not a release."""
    match = re.match(r"(\d+)\.(\d+)\.", version)
    return (int(match[1]), int(match[2])) if match else None


def _is_too_old(minor: tuple[int, int] | None, ours: tuple[int, int]) -> bool:
    return minor is not None and minor < (ours[0], max(0, ours[1] - 1))


def check_balance(settings: CollectorSettings) -> Iterator[Finding]:
    """Check that produced = stored + declared gaps, over the last whole days and weeks.

    docs/guarantees.md R18.
    """
    today = clock.today()
    with open_reader(settings.data_dir) as store:
        rows = list(store.data.balance(today - timedelta(days=BALANCE_DAYS), today - timedelta(days=1)))
    unexplained = sum(row.unexplained_milliseconds for row in rows)
    machines = len({row.host_id for row in rows if row.unexplained_milliseconds})
    text = (
        f"{unexplained / MILLISECONDS_PER_HOUR:.1f} h of the last {BALANCE_DAYS} days are neither stored nor "
        "declared lost"
    )
    if not rows:
        yield Finding(
            "balance", "good", f"no machine has a whole day or week in the last {BALANCE_DAYS} days yet"
        )
    elif unexplained:
        remedy = "every loss must be declared: read the logs of those days, then report it"
        outcome = outcome_of("time_unexplained", unexplained / MILLISECONDS_PER_SECOND)
        yield Finding("balance", outcome, f"{text}, on {machines} machine(s)", remedy)
    else:
        yield Finding("balance", "good", f"{text}, of {len(rows)} machine-days and machine-weeks")


def check_identities(settings: CollectorSettings) -> Iterator[Finding]:
    """Report identities with two holders or one pseudonym, machines that wait for approval, and copies."""
    with open_reader(settings.data_dir) as store:
        hosts, kind = store.data.hosts(), store.data.data_kind()
    disputed = [host for host in hosts if host.conflicts and host.status is not HostStatus.REVOKED]
    pending = [host for host in hosts if host.status is HostStatus.PENDING]
    copies = sum(host.copy_of is not None for host in hosts)
    if disputed:
        yield Finding(
            "identities",
            "warning",
            f"{len(disputed)} machine(s) share their identity with another holder: {names_of(disputed)}",
            "'veilleuse hosts list --conflicts'; find out which machine is the right one, revoke the "
            "identity, enrol that machine again",
        )
    if twins := find_twin_groups(hosts, kind, clock.now().date()):
        number = len({host.host_id for group in twins for host in group})
        yield Finding(
            "identities",
            "warning",
            f"{number} identities in use have the serial number or UUID of another one: "
            + "; ".join(map(names_of, twins)),
            "one machine with two agents, a copy, or a number that its maker gave twice: revoke those too many "
            "('veilleuse hosts revoke')",
        )
    if pending:
        yield Finding(
            "identities",
            outcome_of("machine_waiting", len(pending)),
            f"{len(pending)} machine(s) wait for approval: {names_of(pending)}",
            "'veilleuse hosts activate' those you know",
        )
    yield Finding("identities", "good", f"{len(hosts)} machine(s), {copies} of them copies of another")


def check_agents(settings: CollectorSettings) -> Iterator[Finding]:
    """Report records that wait on the machines: in quarantine after a refusal, or not delivered yet."""
    hosts = _active(settings)
    holding = [host for host in hosts if host.health is not None and host.health.quarantine_records]
    full = [host for host in hosts if host.health is not None and host.health.spool_bytes > BACKLOG_BYTES]
    waiting = sum(host.health.spool_records for host in hosts if host.health is not None)
    if holding:
        records = sum((host.health and host.health.quarantine_records) or 0 for host in holding)
        yield Finding(
            "agents",
            outcome_of("records_quarantined", records),
            f"{len(holding)} machine(s) keep {records} record(s) that were refused: {names_of(holding)}",
            "veilleuse_records_refused_total on /metrics says why; gaps replace them, no figure is wrong",
        )
    if full:
        yield Finding(
            "agents",
            "warning",
            f"{len(full)} machine(s) hold more than {BACKLOG_BYTES // 2**20} MiB of records: "
            f"{names_of(full)}",
            "find out why they do not deliver: 'veilleuse hosts show', then 'veilleuse-agent doctor' there",
        )
    yield Finding(
        "agents",
        "good",
        f"{waiting} record(s) wait on {len(hosts)} active machine(s), as of their last contact",
    )


def _status_counts(hosts: Sequence[Host]) -> str:
    """Return the number of machines, in all and by status."""
    counts = Counter(host.status for host in hosts)
    parts = ", ".join(f"{counts[status]} {status.value}" for status in HostStatus if counts[status])
    return f"{len(hosts)} machine(s)" + (f": {parts}" if parts else "")


def _active(settings: CollectorSettings) -> list[Host]:
    return [host for host in _hosts(settings) if host.status is HostStatus.ACTIVE]


def _hosts(settings: CollectorSettings) -> tuple[Host, ...]:
    with open_reader(settings.data_dir) as store:
        return store.data.hosts()


def check_silence(settings: CollectorSettings) -> Iterator[Finding]:
    """Report each population that can be judged; name the others with the reason."""
    health = _health(settings)
    k = settings.reporting.k_anonymity
    with open_reader(settings.data_dir) as store:
        judge = judge_of(store.data.data_kind(), health, clock.unix_milliseconds(), k)
        rollouts = {rollout.population: rollout for rollout in store.data.rollouts()}
        hosts = store.data.contacts()
        conditions = judge.conditions(hosts, rollouts)
    yield from (_silence_finding(one, settings, runs=health is not None) for one in conditions)
    present = {host.population for host in hosts if host.status is HostStatus.ACTIVE} - {
        one.population for one in conditions
    }
    for population in sorted(present):
        text = f"{population}: not judged, "
        if judge.past.told is None:
            text += "'veilleuse serve' checks PCs once a day and has not yet"
        else:
            text += f"fewer than {k} machines had enrolled two open days before {judge.past.day}"
        yield Finding("silence", "good", text)
    if not hosts:
        yield Finding("silence", "good", "no machine is enrolled")


def _silence_finding(one: Silence, settings: CollectorSettings, *, runs: bool) -> Finding:
    is_server = one.population is Population.SERVER
    least = "" if is_server else "at least "
    numbers = f"{one.population}: {least}{one.silent} of {least}{one.machines}"
    if one.level is SilenceLevel.GOOD:
        text = f"{numbers} silent" + ("" if is_server else f" since {one.since}, not more than usual")
        return Finding("silence", "good", text)
    if one.level is SilenceLevel.WAITING:
        when = "two contact intervals" if is_server else "two whole open days"
        remedy = SILENCE_UNJUDGED.format(when=when) if runs else SILENCE_STOPPED
        return Finding("silence", "warning", f"{numbers} have not called yet; not judged", remedy)
    text = sentence_of(one, words("en")).rstrip(".")
    text += f": {names_of(one.hosts)}" if one.hosts else ""
    address = settings.grpc.advertised_address or settings.grpc.address
    outcome: Outcome = "failed" if one.level is SilenceLevel.FAILED else "warning"
    return Finding("silence", outcome, text, SILENCE_REMEDY.format(address=address))


def _health(settings: CollectorSettings) -> dict[str, Any] | None:
    try:
        health: dict[str, Any] = ask(settings.data_dir, "health")
    except AdminError:  # check_service says why
        return None
    return health
