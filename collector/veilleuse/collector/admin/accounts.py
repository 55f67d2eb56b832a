# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Creates, lists and revokes accounts that read over HTTP.

Notes their accesses for the web process, which cannot write.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime
from difflib import get_close_matches
from typing import Any, Final

from veilleuse.collector.admin.context import AdminContext
from veilleuse.collector.enrolment.register import ACCOUNT, ACCOUNT_REVOKED, RegisterEntry
from veilleuse.collector.enrolment.register_replay import account_facts
from veilleuse.collector.enrolment.tokens import checked_name
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.model.accounts import (
    DEFAULT_DAYS,
    JOURNAL_DAYS,
    MAX_DAYS,
    MAX_ENTITIES,
    NAME,
    Account,
    Role,
    new_token,
    token_sha256,
)
from veilleuse.collector.model.inventory import ENTITY_SEPARATOR
from veilleuse.wire.units import MILLISECONDS_PER_DAY, MILLISECONDS_PER_SECOND
from veilleuse.wire.values import parse_day

log = logging.getLogger(__name__)

MAX_LINES: Final = 10_000
"""Most lines of the journal in one answer."""
MAX_TEXT: Final = 512
_EXPIRED_AT_ONCE: Final = 1_000


def create(
    context: AdminContext,
    *,
    name: str,
    role: str = Role.READER.value,
    entities: Sequence[str] = (),
    days: float = DEFAULT_DAYS,
    who: str = "",
    why: str = "",
) -> dict[str, Any]:
    """Create an account; only here its token is returned. `warnings`: entities without a machine yet."""
    # A name that is a number could be taken for the number of another account.
    if not NAME.fullmatch(name) or name.isdigit():
        raise UsageError(
            f"the name {name!r} must be 1 to 64 of a-z, 0-9, '.', '_' and '-', and not a number: name a use "
            "(grafana, bilan-carbone), not a person"
        )
    wanted, scope = Role(role), _scope(entities)
    if scope and wanted is Role.ADMIN:
        raise UsageError("--entity is for readers and owners: an admin sees the whole fleet")
    if not 0 < days <= MAX_DAYS:
        raise UsageError(f"--days must be more than 0 and at most {MAX_DAYS}, not {days:g}")
    token, issuing = new_token(), context.issuing
    now = issuing.now_unix_milliseconds()

    named = [one.name for one in context.alone(context.store.inventory.snapshot).entities] if scope else []

    def job(note: RegisterEntry) -> tuple[Account, list[str]]:
        if any(
            one.name == name and one.revoked_unix_milliseconds is None
            for one in context.store.accounts.accounts()
        ):
            raise UsageError(
                f"there is an account '{name}': take another name, or 'veilleuse account revoke {name}'"
            )
        made = context.store.accounts.insert_account(
            name=name,
            role=wanted,
            entities=scope,
            token_sha256=token_sha256(token),
            created_unix_milliseconds=now,
            expires_unix_milliseconds=now + round(days * MILLISECONDS_PER_DAY),
        )
        note(ACCOUNT, **account_facts(made))
        context.note(who, f"account {made.account_id} '{name}' created", why)
        return made, _warnings(context, scope, named)

    made, warnings = issuing.commit_with_register(job)
    log.info("account created", extra={"account_id": made.account_id, "account": name, "role": wanted.value})
    return {**_describe(made, now), "token": token, "warnings": warnings}


def list_all(context: AdminContext) -> list[dict[str, Any]]:
    """List all accounts, ended ones too, oldest first, without their tokens."""
    now = context.issuing.now_unix_milliseconds()
    return [_describe(one, now) for one in context.issuing.commit(context.store.accounts.accounts)]


def show(context: AdminContext, *, account: str) -> dict[str, Any]:
    """Return one account, by name or number."""
    now = context.issuing.now_unix_milliseconds()
    return _describe(context.issuing.commit(lambda: _find(context, account)), now)


def revoke(context: AdminContext, *, account: str, who: str = "", why: str = "") -> dict[str, Any]:
    """End an account: its next request is refused, also after the restore of an older backup."""
    issuing = context.issuing
    now = issuing.now_unix_milliseconds()

    def job(note: RegisterEntry) -> Account:
        found = _find(context, account)
        day = issuing.now().date().isoformat()
        note(ACCOUNT_REVOKED, sha256=found.token_sha256.hex(), day=day)
        context.store.accounts.revoke_account(found.token_sha256, now)
        context.note(who, f"account {found.account_id} '{found.name}' revoked", why)
        ended = context.store.accounts.account(found.account_id)
        assert ended is not None
        return ended

    ended = issuing.commit_with_register(job)
    log.info("account revoked", extra={"account_id": ended.account_id, "account": ended.name})
    return _describe(ended, now)


def journal(
    context: AdminContext,
    *,
    account: str | None = None,
    first: str | None = None,
    end: str | None = None,
    limit: int = 1_000,
) -> list[dict[str, Any]]:
    """Return the access journal for UTC days [first, end), newest first."""
    if not 0 < limit <= MAX_LINES:
        raise UsageError(f"--limit must be from 1 to {MAX_LINES}, not {limit}")
    since = _start("--from", first) if first else 0
    until = _start("--to", end) if end else 2**62

    def job() -> list[dict[str, Any]]:
        account_id = None if account is None else _find(context, account).account_id
        found = context.store.accounts.accesses(since, until, account_id=account_id, limit=limit)
        return [{name: getattr(line, name) for name in line.__slots__} for line in found]

    return context.issuing.commit(job)


def note_access(
    context: AdminContext, *, account_id: int, route: str, query: str, status: int, rows: int
) -> dict[str, Any]:
    """Note, for the web process, an access that is about to be answered.

    Raises AdminError for an ended account.
    """
    issuing, now = context.issuing, context.issuing.now_unix_milliseconds()

    def job() -> None:
        found = context.store.accounts.account(account_id)
        if found is None or not found.is_good(now):
            raise AdminError(f"account {account_id} has ended")
        context.store.accounts.note_access(
            account_id,
            now,
            route=route[:MAX_TEXT],
            query=query[:MAX_TEXT],
            status=int(status),
            rows=int(rows),
        )

    issuing.commit(job)
    return {"noted": True}


def note_use(context: AdminContext, *, account_id: int) -> dict[str, Any]:
    """Note, for the web process, that the account was used for a page or /metrics today."""
    issuing = context.issuing
    now = issuing.now_unix_milliseconds()
    issuing.commit(lambda: context.store.accounts.note_use(account_id, now))
    return {"noted": True}


def expire(context: AdminContext) -> int:
    """Delete lines of the journal older than a year, in slices; returns their number.

    Raises errors of the store.
    """
    issuing = context.issuing
    before = issuing.now_unix_milliseconds() - JOURNAL_DAYS * MILLISECONDS_PER_DAY
    gone = 0
    while done := issuing.commit(lambda: context.store.accounts.expire_accesses(before, _EXPIRED_AT_ONCE)):
        gone += done
    if gone:
        log.info("access journal trimmed", extra={"lines": gone})
    return gone


# --- helpers


def _scope(entities: Sequence[str]) -> tuple[str, ...]:
    """Return the entities, without duplicates. Raises UsageError."""
    found = tuple(sorted({checked_name("entity", one) for one in entities}))
    if len(found) > MAX_ENTITIES:
        raise UsageError(f"{len(found)} entities: give at most {MAX_ENTITIES}, or one that is above them")
    return found


def _warnings(context: AdminContext, scope: Sequence[str], named: Collection[str]) -> list[str]:
    """Warn of entities without a machine or token in or below them. Part of a job of the writer.

    `named`: entities of the inventory.
    """
    registry = context.issuing.registry
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
                f"no machine belongs to '{entity}' yet, and no token or inventory names it"
                + (f": did you mean '{near[0]}'?" if near else "")
            )
    return found


def _find(context: AdminContext, account: str) -> Account:
    """Find an account by number, else by name: the one in force, else the newest. Raises AdminError."""
    known = context.store.accounts.accounts()
    matches = [one for one in known if str(one.account_id) == account] or [
        one for one in known if one.name == account
    ]
    if not matches:
        raise AdminError(f"no account '{account}': see 'veilleuse account list'")
    return max(matches, key=lambda one: (one.revoked_unix_milliseconds is None, one.account_id))


def _describe(account: Account, now: int) -> dict[str, Any]:
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


def _start(option: str, text: str) -> int:
    try:
        day = parse_day(text)
    except ValueError as error:
        raise UsageError(f"{option} '{text}': {error}") from error
    return round(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * MILLISECONDS_PER_SECOND)
