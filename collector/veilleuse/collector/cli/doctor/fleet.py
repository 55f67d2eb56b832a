# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The machines, as their agents say: versions, identities, what waits on them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from veilleuse.collector.cli.doctor.findings import Finding
from veilleuse.collector.cli.shared import names_of
from veilleuse.collector.logs import product_version
from veilleuse.collector.model.hosts import Host, HostStatus
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.wire.units import MILLISECONDS_PER_HOUR, MILLISECONDS_PER_MINUTE, MILLISECONDS_PER_SECOND

BACKLOG_PERIODS: Final = 10_000
"""Periods waiting to be derived that are worth a word: some minutes of work."""
BACKLOG_BYTES: Final = 32 * 1024 * 1024
"""Half of an agent's spool as it comes: beyond the other half the oldest records go."""
CLOCK_MILLISECONDS: Final = 5 * MILLISECONDS_PER_MINUTE
"""What the agents' clocks are allowed, too."""
BALANCE_DAYS: Final = 28
"""Four weeks: workstations are accounted for by the week."""


def check_work(settings: CollectorSettings) -> Iterator[Finding]:
    """How much waits to be derived, and who is enrolled."""
    with open_reader(settings.data_dir) as store:
        hosts, records, dirty = store.data.hosts(), store.data.record_count(), store.data.dirty_count()
        simulated = store.data.data_kind().simulated
    kind = ", simulated" if simulated else ""
    yield Finding("work", "good", f"{_standing(hosts)}; {records} record(s){kind}")
    if dirty > BACKLOG_PERIODS:
        yield Finding(
            "work",
            "warning",
            f"{dirty} periods wait to be derived",
            "let 'veilleuse serve' run; it catches up",
        )
    else:
        yield Finding("work", "good", f"{dirty} period(s) wait to be derived")


def check_clock(settings: CollectorSettings) -> Iterator[Finding]:
    """A contact in the future: this clock was ahead then, or is behind now. Certificates depend on it."""
    now = datetime.now(UTC).timestamp() * MILLISECONDS_PER_SECOND
    latest = max((host.last_contact_unix_milliseconds or 0 for host in _hosts(settings)), default=0)
    if latest > now + CLOCK_MILLISECONDS:
        hours = (latest - now) / MILLISECONDS_PER_HOUR
        text = f"the newest contact of a machine is {hours:.1f} h in the future: this clock was ahead then, or is behind"
        yield Finding("clock", "warning", text, "'timedatectl' here: set the clock, let it be synchronised")
    else:
        yield Finding("clock", "good", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, no machine was seen later")


def check_versions(settings: CollectorSettings) -> Iterator[Finding]:
    """Agents of this version and of the one before are served (docs/wire.md §5); others may miss something."""
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
    """(major, minor); None for what is no release."""
    match = re.match(r"(\d+)\.(\d+)\.", version)
    return (int(match[1]), int(match[2])) if match else None


def _is_too_old(minor: tuple[int, int] | None, ours: tuple[int, int]) -> bool:
    return minor is not None and minor < (ours[0], max(0, ours[1] - 1))


def check_balance(settings: CollectorSettings) -> Iterator[Finding]:
    """Produced = stored + declared gaps, over the last whole days and weeks: docs/guarantees.md R18."""
    today = datetime.now(UTC).date()
    with open_reader(settings.data_dir) as store:
        rows = list(store.data.balance(today - timedelta(days=BALANCE_DAYS), today - timedelta(days=1)))
    unexplained = sum(row.unexplained_milliseconds for row in rows)
    machines = len({row.host_id for row in rows if row.unexplained_milliseconds})
    text = f"{unexplained / MILLISECONDS_PER_HOUR:.1f} h of the last {BALANCE_DAYS} days are accounted for by nobody"
    if not rows:
        yield Finding(
            "balance", "good", f"no machine has a whole day or week in the last {BALANCE_DAYS} days yet"
        )
    elif unexplained:
        remedy = "nothing may be lost in silence: look at the logs of those days, then report it"
        yield Finding("balance", "warning", f"{text}, on {machines} machine(s)", remedy)
    else:
        yield Finding("balance", "good", f"{text}, of {len(rows)} machine-days and machine-weeks")


def check_identities(settings: CollectorSettings) -> Iterator[Finding]:
    """Two holders of one identity, and machines that said to be copies."""
    hosts = _hosts(settings)
    disputed = [host for host in hosts if host.conflicts and host.status is not HostStatus.REVOKED]
    pending = [host for host in hosts if host.status is HostStatus.PENDING]
    copies = sum(host.copy_of is not None for host in hosts)
    if disputed:
        yield Finding(
            "identities",
            "warning",
            f"{len(disputed)} machine(s) share their identity with another holder: {names_of(disputed)}",
            "'veilleuse hosts list --conflicts'; find out which one is right, revoke the identity, enrol the right one again",
        )
    if pending:
        yield Finding(
            "identities",
            "warning",
            f"{len(pending)} machine(s) wait for approval: {names_of(pending)}",
            "'veilleuse hosts activate' those you know",
        )
    yield Finding("identities", "good", f"{len(hosts)} machine(s), {copies} of them copies of another")


def check_agents(settings: CollectorSettings) -> Iterator[Finding]:
    """What waits on the machines: refused records in quarantine, records not delivered yet."""
    hosts = _active(settings)
    holding = [host for host in hosts if host.health is not None and host.health.quarantine_records]
    full = [host for host in hosts if host.health is not None and host.health.spool_bytes > BACKLOG_BYTES]
    waiting = sum(host.health.spool_records for host in hosts if host.health is not None)
    if holding:
        records = sum((host.health and host.health.quarantine_records) or 0 for host in holding)
        yield Finding(
            "agents",
            "warning",
            f"{len(holding)} machine(s) keep {records} record(s) that were refused: {names_of(holding)}",
            "veilleuse_records_refused_total on /metrics says why; gaps stand in their place, no figure is wrong",
        )
    if full:
        yield Finding(
            "agents",
            "warning",
            f"{len(full)} machine(s) hold more than {BACKLOG_BYTES // 2**20} MiB of records: {names_of(full)}",
            "see why they do not deliver: 'veilleuse hosts show', then 'veilleuse-agent doctor' there",
        )
    yield Finding(
        "agents",
        "good",
        f"{waiting} record(s) wait on {len(hosts)} active machine(s), as of their last contact",
    )


def _standing(hosts: Sequence[Host]) -> str:
    """How many machines, and of which status."""
    counts = Counter(host.status for host in hosts)
    parts = ", ".join(f"{counts[status]} {status.value}" for status in HostStatus if counts[status])
    return f"{len(hosts)} machine(s)" + (f": {parts}" if parts else "")


def _active(settings: CollectorSettings) -> list[Host]:
    return [host for host in _hosts(settings) if host.status is HostStatus.ACTIVE]


def _hosts(settings: CollectorSettings) -> tuple[Host, ...]:
    with open_reader(settings.data_dir) as store:
        return store.data.hosts()
