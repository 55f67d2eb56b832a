# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Accounts that read over HTTP: made, listed, revoked; their accesses noted for the web process, which only reads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, date, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from veilleuse.collector.enrolment.register import ACCOUNT_REVOKED, RegisterEntry
from veilleuse.collector.enrolment.tokens import checked_name
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.model.accounts import (
    DEFAULT_DAYS,
    ENTITY_SEPARATOR,
    JOURNAL_DAYS,
    MAX_DAYS,
    MAX_ENTITIES,
    NAME,
    Account,
    Role,
    new_token,
    token_sha256,
)
from veilleuse.wire.units import MILLISECONDS_PER_DAY, MILLISECONDS_PER_SECOND

if TYPE_CHECKING:
    from veilleuse.collector.admin.operations import Operations

log = logging.getLogger(__name__)

MAX_LINES: Final = 10_000
"""Of the journal in one answer."""
MAX_TEXT: Final = 512
_EXPIRED_AT_ONCE: Final = 1_000


def create(
    operations: Operations,
    *,
    name: str,
    role: str = Role.READER.value,
    entities: Sequence[str] = (),
    days: float = DEFAULT_DAYS,
    who: str = "",
    why: str = "",
) -> dict[str, Any]:
    """An account and its token, which is shown this once. `warnings`: entities that no machine is of yet."""
    if (
        not NAME.fullmatch(name) or name.isdigit()
    ):  # accounts have numbers too: one would be revoked for the other
        raise UsageError(
            f"the name {name!r} must be 1 to 64 of a-z, 0-9, '.', '_' and '-', and no number: name a use (grafana, bilan-carbone), no person"
        )
    wanted, scope = Role(role), _scope(entities)
    if scope and wanted is not Role.READER:
        raise UsageError("--entity is for readers: an admin sees the whole fleet")
    if not 0 < days <= MAX_DAYS:
        raise UsageError(f"--days must be more than 0 and at most {MAX_DAYS}, not {days:g}")
    token, office = new_token(), operations.office
    now = office.now_unix_milliseconds()

    named = [one.name for one in operations.alone(operations.inventory.snapshot).entities] if scope else []

    def job() -> tuple[Account, list[str]]:
        if any(
            one.name == name and one.revoked_unix_milliseconds is None
            for one in operations.accounts.accounts()
        ):
            raise UsageError(
                f"there is an account '{name}': take another name, or 'veilleuse account revoke {name}'"
            )
        made = operations.accounts.insert_account(
            name=name,
            role=wanted,
            entities=scope,
            token_sha256=token_sha256(token),
            created_unix_milliseconds=now,
            expires_unix_milliseconds=now + round(days * MILLISECONDS_PER_DAY),
        )
        _note(operations, who, f"account {made.account_id} '{name}' created", why)
        return made, _warnings(operations, scope, named)

    made, warnings = office.commit(job)
    log.info("account created", extra={"account_id": made.account_id, "account": name, "role": wanted.value})
    return {**_described(made, now), "token": token, "warnings": warnings}


def list_all(operations: Operations) -> list[dict[str, Any]]:
    """All that ever were, oldest first; never their tokens."""
    now = operations.office.now_unix_milliseconds()
    return [_described(one, now) for one in operations.office.commit(operations.accounts.accounts)]


def show(operations: Operations, *, account: str) -> dict[str, Any]:
    """One of them, by name or number."""
    now = operations.office.now_unix_milliseconds()
    return _described(operations.office.commit(lambda: _find(operations, account)), now)


def revoke(operations: Operations, *, account: str, who: str = "", why: str = "") -> dict[str, Any]:
    """End it: its next request is refused, also after a restored backup."""
    office = operations.office
    now = office.now_unix_milliseconds()

    def job(note: RegisterEntry) -> Account:
        found = _find(operations, account)
        day = office.now().date().isoformat()
        note(ACCOUNT_REVOKED, sha256=found.token_sha256.hex(), day=day)
        operations.accounts.revoke_account(found.token_sha256, now)
        _note(operations, who, f"account {found.account_id} '{found.name}' revoked", why)
        ended = operations.accounts.account(found.account_id)
        assert ended is not None
        return ended

    ended = office.commit_noted(job)
    log.info("account revoked", extra={"account_id": ended.account_id, "account": ended.name})
    return _described(ended, now)


def journal(
    operations: Operations,
    *,
    account: str | None = None,
    first: str | None = None,
    end: str | None = None,
    limit: int = 1_000,
) -> list[dict[str, Any]]:
    """Who read what, the newest first; UTC days [first, end)."""
    if not 0 < limit <= MAX_LINES:
        raise UsageError(f"--limit must be from 1 to {MAX_LINES}, not {limit}")
    since = _start("--from", first) if first else 0
    until = _start("--to", end) if end else 2**62

    def job() -> list[dict[str, Any]]:
        account_id = None if account is None else _find(operations, account).account_id
        found = operations.accounts.accesses(since, until, account_id=account_id, limit=limit)
        return [{name: getattr(line, name) for name in line.__slots__} for line in found]

    return operations.office.commit(job)


def note_access(
    operations: Operations, *, account_id: int, route: str, query: str, status: int, rows: int
) -> dict[str, Any]:
    """Of the web process: this account is about to be answered. Raises AdminError when it is no longer good."""
    office, now = operations.office, operations.office.now_unix_milliseconds()

    def job() -> None:
        found = operations.accounts.account(account_id)
        if found is None or not found.is_good(now):
            raise AdminError(f"account {account_id} is not good any more")
        operations.accounts.note_access(
            account_id,
            now,
            route=route[:MAX_TEXT],
            query=query[:MAX_TEXT],
            status=int(status),
            rows=int(rows),
        )

    office.commit(job)
    return {"noted": True}


def note_use(operations: Operations, *, account_id: int) -> dict[str, Any]:
    """Of the web process: this account was used for a page or /metrics today."""
    office = operations.office
    now = office.now_unix_milliseconds()
    office.commit(lambda: operations.accounts.note_use(account_id, now))
    return {"noted": True}


def expire(operations: Operations) -> int:
    """Take lines of the journal out that are older than a year, some at a time; how many. Raises what the store raises."""
    office = operations.office
    before = office.now_unix_milliseconds() - JOURNAL_DAYS * MILLISECONDS_PER_DAY
    gone = 0
    while done := office.commit(lambda: operations.accounts.expire_accesses(before, _EXPIRED_AT_ONCE)):
        gone += done
    if gone:
        log.info("access journal trimmed", extra={"lines": gone})
    return gone


# --- helpers


def _scope(entities: Sequence[str]) -> tuple[str, ...]:
    """The entities, once each. Raises UsageError."""
    found = tuple(sorted({checked_name("entity", one) for one in entities}))
    if len(found) > MAX_ENTITIES:
        raise UsageError(f"{len(found)} entities: at most {MAX_ENTITIES}; give one that is above them")
    return found


def _warnings(operations: Operations, scope: Sequence[str], named: Collection[str]) -> list[str]:
    """Entities of which there is nothing, nor below them; `named`: those of the inventory. In a job of the writer."""
    registry = operations.office.registry
    known = {host.org_entity for host in registry.hosts()} | {token.org_entity for token in registry.tokens()}
    known |= set(named)
    above = {
        ENTITY_SEPARATOR.join(parts[:depth])
        for parts in (one.split(ENTITY_SEPARATOR) for one in known)
        for depth in range(1, len(parts) + 1)
    }
    found = []
    for entity in scope:
        if entity not in above:
            near = get_close_matches(entity, above, n=1)
            found.append(
                f"no machine is of '{entity}' yet, and no token or inventory names it"
                + (f": did you mean '{near[0]}'?" if near else "")
            )
    return found


def _find(operations: Operations, account: str) -> Account:
    """By number, else by name: the one in force, else the newest that was. Raises AdminError."""
    known = operations.accounts.accounts()
    matches = [one for one in known if str(one.account_id) == account] or [
        one for one in known if one.name == account
    ]
    if not matches:
        raise AdminError(f"no account '{account}': see 'veilleuse account list'")
    return max(matches, key=lambda one: (one.revoked_unix_milliseconds is None, one.account_id))


def _described(account: Account, now: int) -> dict[str, Any]:
    revoked = account.revoked_unix_milliseconds is not None
    day = account.last_used_day
    return {
        "account_id": account.account_id,
        "name": account.name,
        "role": account.role.value,
        "entities": list(account.entities),
        "state": "revoked" if revoked else "good" if account.is_good(now) else "expired",
        "created_unix_milliseconds": account.created_unix_milliseconds,
        "expires_unix_milliseconds": account.expires_unix_milliseconds,
        "revoked_unix_milliseconds": account.revoked_unix_milliseconds,
        "last_used_on": None if day is None else date.fromordinal(day).isoformat(),
    }


def _note(operations: Operations, who: str, what: str, why: str) -> None:
    """To the journal of identity.db, beside what else administrators did."""
    operations.office.registry.write_journal(
        now_unix_milliseconds=operations.office.now_unix_milliseconds(),
        who=who[:128],
        what=what,
        why=why[:256],
    )


def _start(option: str, text: str) -> int:
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{option} '{text}' is not a date: write it like 2026-01-31") from error
    return round(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * MILLISECONDS_PER_SECOND)


OPERATIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "account_create": create,
    "account_list": list_all,
    "account_show": show,
    "account_revoke": revoke,
    "account_journal": journal,
    "account_access": note_access,
    "account_use": note_use,
}
"""Name on the socket → what it does."""
