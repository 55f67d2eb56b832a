# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Changes the status of machines, forgets and exports them, and reads the access journals.

docs/guarantees.md P9.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from veilleuse.collector.admin.context import AdminContext, require_reason
from veilleuse.collector.calendars.periods import day_start_unix_milliseconds
from veilleuse.collector.enrolment.authorise import agent_id_sha256
from veilleuse.collector.enrolment.register import ADMITTED, EXCLUDED, FORGOTTEN, RegisterEntry
from veilleuse.collector.enrolment.register_replay import rewrite
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.ipc import one_host
from veilleuse.collector.model.accounts import MAX_JOURNAL_LINES, Journal
from veilleuse.collector.model.hosts import Host, HostStatus
from veilleuse.collector.ports.registry import HostEraser, Registry

log = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 30.0
"""Longest wait for readers of the old state: a page of the web process takes some seconds at most."""
ALLOWED_FROM: Final = {
    HostStatus.ACTIVE: {HostStatus.PENDING, HostStatus.SUSPENDED, HostStatus.ACTIVE},
    HostStatus.SUSPENDED: {HostStatus.PENDING, HostStatus.ACTIVE, HostStatus.SUSPENDED},
    HostStatus.REVOKED: {HostStatus.PENDING, HostStatus.ACTIVE, HostStatus.SUSPENDED, HostStatus.REVOKED},
}
"""Wanted status → status before. Revoked is final: the holder may be a thief.

A revoked machine enrols again, with a new identity.
"""


def change_status(context: AdminContext, *, host: str, status: str) -> dict[str, Any]:
    """Suspend, revoke or (re)activate a host, from its next call on. `host`: agent id or its first digits."""
    wanted = HostStatus(status)

    def job(note: RegisterEntry) -> Host:
        found = one_host(context.issuing.registry.hosts(), host)
        if found.status not in ALLOWED_FROM.get(wanted, set()):
            raise AdminError(f"host {found.agent_id.hex()} is {found.status}: it cannot become {wanted}")
        set_status(context, [found], wanted, note)
        return found

    found = context.issuing.commit_with_register(job)
    log.info("host status set", extra={"agent_id": found.agent_id.hex(), "status": wanted.value})
    return {"agent_id": found.agent_id.hex(), "before": found.status.value, "status": wanted.value}


def read_name(context: AdminContext, *, host: str, who: str, why: str) -> dict[str, Any]:
    """Return the name that a server sent, from identity.db. The journal notes `who` and `why`."""
    registry = context.issuing.registry

    def job() -> dict[str, Any]:
        found = one_host(context.issuing.registry.hosts(), host)
        context.note(who, f"name of {found.agent_id.hex()}", why)
        return {"agent_id": found.agent_id.hex(), "host_name": registry.names().get(found.agent_id)}

    return context.issuing.commit(job)


def set_status(context: AdminContext, hosts: Sequence[Host], status: HostStatus, note: RegisterEntry) -> None:
    """Set the status of each host; the changes go to the register together. Part of a job."""
    kind = ADMITTED if status is HostStatus.ACTIVE else EXCLUDED
    day = context.issuing.now().date().isoformat()
    changed = [host.agent_id.hex() for host in hosts if host.status is not status]
    note.add_all(kind, [{"agent_id": agent_id, "status": status.value, "day": day} for agent_id in changed])
    for host in hosts:
        if status is HostStatus.ACTIVE:  # an operator has checked the conflicts
            context.issuing.registry.clear_conflicts(host.host_id)
        context.issuing.registry.set_status(host.host_id, status)
        context.issuing.access_table.set_status(host.agent_id, status)


def forget(context: AdminContext, *, host: str, who: str, why: str) -> dict[str, Any]:
    """Delete all data of a machine; from now on its certificate is refused as `forgotten`.

    `swept`: True when the files no longer hold its data; else the next checkpoint removes them. `compact`:
    True when the files were rewritten, so that no deleted bytes are left. The next start completes an
    interrupted deletion. Raises AdminError.
    """
    require_reason(why)
    issuing, forgetting = context.issuing, context.store.forgetting
    found = issuing.commit_with_register(lambda note: _begin(context, host, who, why, note))
    slices = 0
    while issuing.commit(lambda: _step(forgetting, found)):
        slices += 1
    context.alone(lambda: rewrite(issuing.register, issuing.registry))
    swept = _sweep(context)
    log.info("machine forgotten", extra={"population": found.population.value, "slices": slices})
    return {
        "agent_id_sha256": agent_id_sha256(found.agent_id).hex(),
        "population": found.population.value,
        "swept": swept,
        "compact": forgetting.is_compact,
    }


def decide_copies(context: AdminContext, *, original: str, status: str) -> dict[str, Any]:
    """Approve (`active`) or refuse (`revoked`) all machines that wait as copies of one machine.

    Raises AdminError for the approval of copies of a machine that is not active: a thief of its key may be
    among them. Raises UsageError for another status.
    """
    wanted, issuing = HostStatus(status), context.issuing
    if wanted not in (HostStatus.ACTIVE, HostStatus.REVOKED):
        raise UsageError(f"copies can become active or revoked, not {wanted}")

    def job(note: RegisterEntry) -> tuple[Host, list[Host]]:
        known = issuing.registry.hosts()
        found = one_host(known, original)
        if wanted is HostStatus.ACTIVE and found.status is not HostStatus.ACTIVE:
            raise AdminError(
                f"host {found.agent_id.hex()} is {found.status}: a thief of its key may be among its copies; "
                "activate the copies that you know one by one"
            )
        waiting = [
            host for host in known if host.copy_of == found.host_id and host.status is HostStatus.PENDING
        ]
        set_status(context, waiting, wanted, note)
        return found, waiting

    found, waiting = issuing.commit_with_register(job)
    log.info("copies decided", extra={"status": wanted.value, "hosts": len(waiting)})
    return {
        "copy_of": found.agent_id.hex(),
        "status": wanted.value,
        "hosts": [host.agent_id.hex() for host in waiting],
    }


def complete_forgetting(registry: Registry, forgetting: HostEraser) -> None:
    """Complete interrupted deletions, and those of the register. Call it before the writer starts."""
    left = [host for host in registry.hosts() if host.status is HostStatus.FORGOTTEN]
    for host in left:
        while _step(forgetting, host):
            pass
        log.info("machine forgotten", extra={"population": host.population.value})
    if left:
        forgetting.sweep()


def read_identity(context: AdminContext, *, host: str, who: str, why: str) -> dict[str, Any]:
    """Return the data of a machine in identity.db, for its export. The journal notes `who` and `why`."""
    issuing = context.issuing
    registry = issuing.registry

    def job() -> dict[str, Any]:
        found = one_host(registry.hosts(), host)
        agent_id = found.agent_id.hex()
        context.note(who, f"export of {agent_id}", why)
        chassis, smbios = registry.pseudonyms(found.agent_id)
        return {
            "agent_id": agent_id,
            "host_name": registry.names().get(found.agent_id),
            "chassis_pseudonym": chassis.hex() or None,
            "smbios_pseudonym": smbios.hex() or None,
            "journal": registry.journal_of(found.agent_id),
        }

    return issuing.commit(job)


def _begin(context: AdminContext, host: str, who: str, why: str, note: RegisterEntry) -> Host:
    """Begin to forget a machine: its calls are refused from now on.

    After an interruption the next start of the collector continues.
    """
    issuing = context.issuing
    found = one_host(issuing.registry.hosts(), host)
    sha256, today = agent_id_sha256(found.agent_id), issuing.now().date()
    note(FORGOTTEN, agent_id_sha256=sha256.hex(), day=today.isoformat())
    issuing.registry.put_forgotten(sha256, today.toordinal())
    issuing.registry.set_status(found.host_id, HostStatus.FORGOTTEN)
    issuing.access_table.forget(found.agent_id)
    context.note(who, f"forget {found.agent_id.hex()}", why)
    return found


def _step(forgetting: HostEraser, host: Host) -> bool:
    """Delete one slice, in a job of the writer; returns True while there is more to delete."""
    if forgetting.forget_slice(host.host_id):
        return True
    return not forgetting.forget_host(host, agent_id_sha256(host.agent_id))


def _sweep(context: AdminContext) -> bool:
    end = time.monotonic() + SWEEP_SECONDS
    while not context.alone(context.store.forgetting.sweep):
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


_END: Final = 2**62
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def read_journal(
    context: AdminContext,
    *,
    since: str | None = None,
    until: str | None = None,
    who: str | None = None,
    of: str | None = None,
    limit: int = MAX_JOURNAL_LINES,
    reader: str = "",
    why: str = "",
) -> dict[str, Any]:
    """Return journal lines of civil days [since, until) in the reporting zone, newest first.

    The journal notes `reader` and `why` before it is read. `of`: operators, api, or None for both. `who`:
    login of an operator or name of an account. `cut`: True when older lines were left out. Raises UsageError,
    AdminError.
    """
    wanted = tuple(Journal) if of is None else (Journal(of),)
    if not 0 < limit <= MAX_JOURNAL_LINES:
        raise UsageError(f"--limit must be from 1 to {MAX_JOURNAL_LINES}, not {limit}")
    require_reason(why)
    zone = context.settings.reporting.time_zone
    first, end = _start(since, zone, 0), _start(until, zone, _END)
    if first >= end:
        raise UsageError(f"--until {until} must be after --since {since}: it is the day after the last")

    def job() -> list[dict[str, Any]]:
        registry = context.issuing.registry
        context.note(reader, _journal_text(since, until, who, wanted), why)
        found: list[dict[str, Any]] = []
        if Journal.OPERATORS in wanted:
            found += (
                {"of": Journal.OPERATORS.value, **one}
                for one in registry.journal(first, end, who=who, limit=limit + 1)
            )
        if Journal.API in wanted:
            found += _api_lines(context, first, end, who, limit + 1)
        return sorted(found, key=lambda one: one["unix_milliseconds"], reverse=True)

    found = context.issuing.commit(job)
    lines = [{"time": _iso_time(one["unix_milliseconds"], zone), **one} for one in found[:limit]]
    return {"lines": lines, "cut": len(found) > limit}


def _api_lines(
    context: AdminContext, first: int, end: int, who: str | None, limit: int
) -> list[dict[str, Any]]:
    """Return lines of the API, dated by their last access.

    A name stands for all accounts that ever had it.
    """
    accounts = context.store.accounts
    ids = [None] if who is None else [one.account_id for one in accounts.accounts() if one.name == who]
    found: list[dict[str, Any]] = []
    for account_id in ids:
        for line in accounts.accesses(first, end, account_id=account_id, limit=limit):
            facts = asdict(line)
            moment, name = facts.pop("last_unix_milliseconds"), facts.pop("account")
            found.append({"of": Journal.API.value, "unix_milliseconds": moment, "who": name, **facts})
    return found


def _start(day: str | None, zone: str, without: int) -> int:
    return without if day is None else day_start_unix_milliseconds(date.fromisoformat(day), zone)


def _iso_time(unix_milliseconds: int, zone: str) -> str:
    """Format a time of the zone as ISO 8601, with its offset."""
    moment = _EPOCH + timedelta(milliseconds=unix_milliseconds)
    return moment.astimezone(ZoneInfo(zone)).isoformat(timespec="seconds")


def _journal_text(since: str | None, until: str | None, who: str | None, wanted: Sequence[Journal]) -> str:
    parts = [f"access journal of {' and '.join(wanted)} read"]
    parts += [
        f"{word} {value}" for word, value in (("since", since), ("until", until), ("who", who)) if value
    ]
    return ", ".join(parts)[:512]


def note_query(context: AdminContext, *, sql: str, who: str, why: str) -> dict[str, Any]:
    """Note in the access journal, before the query, that an operator reads names. Raises AdminError."""
    require_reason(why)
    issuing = context.issuing
    issuing.commit(lambda: context.note(who, f"query with names: {' '.join(sql.split())}"[:512], why))
    return {}
