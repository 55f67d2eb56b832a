# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A machine's rights, as an administrator serves them: forget it, say what is known of it. docs/guarantees.md P9."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from veilleuse.collector.calendars.periods import day_start_unix_milliseconds
from veilleuse.collector.enrolment.authorise import agent_id_sha256
from veilleuse.collector.enrolment.register import FORGOTTEN, RegisterEntry
from veilleuse.collector.enrolment.register_replay import rewrite
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.ipc.unix_socket import one_host
from veilleuse.collector.model.accounts import MAX_JOURNAL_LINES, Journal
from veilleuse.collector.model.hosts import Host, HostStatus
from veilleuse.collector.ports import HostEraser, Registry

if TYPE_CHECKING:
    from veilleuse.collector.admin.operations import Operations


log = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 30.0
"""Longest wait for readers of the old state: a page of the web process takes seconds at most."""


def forget(operations: Operations, *, host: str, who: str, why: str) -> dict[str, Any]:
    """Take everything of a machine out of the data directory; its certificate is refused as `forgotten` from now on.

    `swept`: whether the files were cleared of it too; else they are by the next checkpoint. `compact`: whether they were written anew,
    so that no trace is left beside their rows. A forgetting that was cut is
    ended by the next start. Raises AdminError.
    """
    if not why.strip():
        raise AdminError("say why: it is kept in the access journal")
    office, forgetting = operations.office, operations.forgetting
    found = office.commit_noted(lambda note: _begin(operations, host, who, why, note))
    slices = 0
    while office.commit(lambda: _step(forgetting, found)):
        slices += 1
    operations.alone(lambda: rewrite(office.register, office.registry))
    swept = _swept(operations)
    log.info("machine forgotten", extra={"population": found.population.value, "slices": slices})
    return {
        "agent_id_sha256": agent_id_sha256(found.agent_id).hex(),
        "population": found.population.value,
        "swept": swept,
        "compact": forgetting.is_compact,
    }


def decide_copies(operations: Operations, *, original: str, status: str) -> dict[str, Any]:
    """Approve (`active`) or refuse (`revoked`) all that wait as copies of one machine. Raises AdminError, UsageError.

    Those of a machine that was put out are not approved all at once: a thief of its key may be among them.
    """
    wanted, office = HostStatus(status), operations.office
    if wanted not in (HostStatus.ACTIVE, HostStatus.REVOKED):
        raise UsageError(f"copies are made active or revoked, not {wanted}")

    def job(note: RegisterEntry) -> tuple[Host, list[Host]]:
        known = office.registry.hosts()
        found = one_host(known, original)
        if wanted is HostStatus.ACTIVE and found.status is not HostStatus.ACTIVE:
            raise AdminError(
                f"host {found.agent_id.hex()} is {found.status}: a thief of its key may be among its copies; activate those "
                "you know one by one"
            )
        waiting = [
            host for host in known if host.copy_of == found.host_id and host.status is HostStatus.PENDING
        ]
        operations.set_status(waiting, wanted, note)
        return found, waiting

    found, waiting = office.commit_noted(job)
    log.info("copies decided", extra={"status": wanted.value, "hosts": len(waiting)})
    return {
        "copy_of": found.agent_id.hex(),
        "status": wanted.value,
        "hosts": [host.agent_id.hex() for host in waiting],
    }


def forget_left(registry: Registry, forgetting: HostEraser) -> None:
    """Ends what was cut, or what the register asks for. Before the writer starts."""
    left = [host for host in registry.hosts() if host.status is HostStatus.FORGOTTEN]
    for host in left:
        while _step(forgetting, host):
            pass
        log.info("machine forgotten", extra={"population": host.population.value})
    if left:
        forgetting.sweep()


def identity(operations: Operations, *, host: str, who: str, why: str) -> dict[str, Any]:
    """What identity.db holds of a machine, for its export; who asked and why goes to its journal."""
    office = operations.office
    registry = office.registry

    def job() -> dict[str, Any]:
        found = one_host(registry.hosts(), host)
        agent_id = found.agent_id.hex()
        registry.write_journal(
            now_unix_milliseconds=office.now_unix_milliseconds(),
            who=who[:128],
            what=f"export of {agent_id}",
            why=why[:256],
        )
        chassis, smbios = registry.pseudonyms(found.agent_id)
        return {
            "agent_id": agent_id,
            "host_name": registry.names().get(found.agent_id),
            "chassis_pseudonym": chassis.hex() or None,
            "smbios_pseudonym": smbios.hex() or None,
            "journal": registry.journal_of(found.agent_id),
        }

    return office.commit(job)


def _begin(operations: Operations, host: str, who: str, why: str, note: RegisterEntry) -> Host:
    """From here on it is refused; a start carries on from here."""
    office = operations.office
    found = one_host(office.registry.hosts(), host)
    sha256, today = agent_id_sha256(found.agent_id), office.now().date()
    note(FORGOTTEN, agent_id_sha256=sha256.hex(), day=today.isoformat())
    office.registry.put_forgotten(sha256, today.toordinal())
    office.registry.set_status(found.host_id, HostStatus.FORGOTTEN)
    office.standings.forget(found.agent_id)
    office.registry.write_journal(
        now_unix_milliseconds=office.now_unix_milliseconds(),
        who=who[:128],
        what=f"forget {found.agent_id.hex()}",
        why=why[:256],
    )
    return found


def _step(forgetting: HostEraser, host: Host) -> bool:
    """One job. True while there is more to do."""
    if forgetting.forget_slice(host.host_id):
        return True
    return not forgetting.forget_host(host, agent_id_sha256(host.agent_id))


def _swept(operations: Operations) -> bool:
    end = time.monotonic() + SWEEP_SECONDS
    while not operations.alone(operations.forgetting.sweep):
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


_END: Final = 2**62
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def read(
    operations: Operations,
    *,
    since: str | None = None,
    until: str | None = None,
    who: str | None = None,
    of: str | None = None,
    limit: int = MAX_JOURNAL_LINES,
    reader: str = "",
    why: str = "",
) -> dict[str, Any]:
    """Lines of civil days [since, until) in the reporting zone, the newest first; `reader` and `why` are noted before it is read.

    `of`: operators, api, or both. `who`: an operator's login, or an account's name. `cut`: older ones were left out.
    Raises UsageError, AdminError.
    """
    wanted = tuple(Journal) if of is None else (Journal(of),)
    if not 0 < limit <= MAX_JOURNAL_LINES:
        raise UsageError(f"--limit must be from 1 to {MAX_JOURNAL_LINES}, not {limit}")
    if not why.strip():
        raise AdminError("say why: it is kept in the access journal")
    zone = operations.settings.reporting.time_zone
    first, end = _start(since, zone, 0), _start(until, zone, _END)
    if first >= end:
        raise UsageError(f"--until {until} must be after --since {since}: it is the day after the last")

    def job() -> list[dict[str, Any]]:
        registry = operations.office.registry
        registry.write_journal(
            now_unix_milliseconds=operations.office.now_unix_milliseconds(),
            who=reader[:128],
            what=_asked(since, until, who, wanted),
            why=why[:256],
        )
        found: list[dict[str, Any]] = []
        if Journal.OPERATORS in wanted:
            found += (
                {"of": Journal.OPERATORS.value, **one}
                for one in registry.journal(first, end, who=who, limit=limit + 1)
            )
        if Journal.API in wanted:
            found += _of_api(operations, first, end, who, limit + 1)
        return sorted(found, key=lambda one: one["unix_milliseconds"], reverse=True)

    found = operations.office.commit(job)
    lines = [{"time": _told(one["unix_milliseconds"], zone), **one} for one in found[:limit]]
    return {"lines": lines, "cut": len(found) > limit}


def _of_api(
    operations: Operations, first: int, end: int, who: str | None, limit: int
) -> list[dict[str, Any]]:
    """Filed under their last moment. Accounts that followed each other under one name are all of that name."""
    accounts = operations.accounts
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


def _told(unix_milliseconds: int, zone: str) -> str:
    """ISO 8601 with its offset: days are those of the zone."""
    moment = _EPOCH + timedelta(milliseconds=unix_milliseconds)
    return moment.astimezone(ZoneInfo(zone)).isoformat(timespec="seconds")


def _asked(since: str | None, until: str | None, who: str | None, wanted: Sequence[Journal]) -> str:
    parts = [f"access journal of {' and '.join(wanted)} read"]
    parts += [
        f"{word} {value}" for word, value in (("since", since), ("until", until), ("who", who)) if value
    ]
    return ", ".join(parts)[:512]


OPERATIONS: Final[Mapping[str, Callable[..., Any]]] = {"journal": read}
"""Name on the socket → what it does."""
