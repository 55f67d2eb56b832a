# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Both access journals, for who must see that they are used as they may: operators' of identity.db, readers' over HTTP of data.db."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from veilleuse.collector.calendars.periods import day_start_unix_milliseconds
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.model.accounts import MAX_JOURNAL_LINES, Journal

if TYPE_CHECKING:
    from veilleuse.collector.admin.operations import Operations

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
