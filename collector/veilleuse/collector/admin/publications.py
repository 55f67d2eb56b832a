# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Stores publications for the web process, which cannot write; an operator may take one back. docs/api.md."""

from __future__ import annotations

import logging
from datetime import date, timedelta
from typing import Any, Final

from veilleuse.collector.admin.context import AdminContext, require_reason
from veilleuse.collector.backup.publication_lines import PublicationKey
from veilleuse.collector.calendars.periods import months_before
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.model.publications import (
    MAXIMUM_BYTES,
    MAXIMUM_DAYS,
    Publication,
    PublicationKind,
    content_of,
)

log = logging.getLogger(__name__)

MAXIMUM_WORD: Final = 64


def receive_part(context: AdminContext, *, upload: str, number: int, data: str) -> dict[str, Any]:
    """Receive a piece of a content (UTF-8) in base64; the first has number 0.

    Raises UsageError, AdminError.
    """
    return {"bytes": context.publishing.add(upload, number, data, MAXIMUM_BYTES)}


def publish(
    context: AdminContext,
    *,
    kind: str,
    first: str,
    end: str,
    format: int,  # noqa: A002  # the word of the store
    k_anonymity: int,
    method_version: str,
    upload: str,
) -> dict[str, Any]:
    """Store the content that `publish_part` received, unless the period is already published.

    It is noted outside the backups first. A content that was noted before, but not stored, is stored instead.
    `kept`: True when something was stored. Raises UsageError, AdminError, StoreFailing.
    """
    one = Publication(
        PublicationKind(kind),
        date.fromisoformat(first),
        date.fromisoformat(end),
        int(format),
        int(k_anonymity),
        method_version[:MAXIMUM_WORD],
        context.issuing.now_unix_milliseconds(),
        content_of(context.publishing.take(upload)),
    )
    least = _least_k(context, one)
    if one.k_anonymity < least or one.format < 1:
        raise UsageError(f"{one.name}: reporting.k_anonymity is {least}, and formats are numbered from 1")
    if not 0 < (one.end - one.first).days <= MAXIMUM_DAYS:
        raise UsageError(f"{one.name}: a period has from 1 to {MAXIMUM_DAYS} days")
    if one.end > context.issuing.now().date() + timedelta(days=1):  # a day of margin for the reports' zone
        raise UsageError(f"{one.name}: the period is not over")
    kept = context.issuing.commit(lambda: _note_and_put(context, one))
    if kept:
        log.info("period published", extra={"period": one.name, "bytes": len(one.content)})
    return {"kept": kept}


def _least_k(context: AdminContext, one: Publication) -> int:
    """Return the least k of a publication: the present one; of the fleet that of its month's cells."""
    least, store = context.settings.reporting.k_anonymity, context.store.publications
    cells = None
    if one.kind is PublicationKind.FLEET and one.k_anonymity < least:
        cells = context.issuing.commit(lambda: store.find(PublicationKind.RELEASE, one.first, one.end))
    return least if cells is None else min(least, cells.k_anonymity)


def _note_and_put(context: AdminContext, one: Publication) -> bool:
    """Note a publication, then store it: nobody reads what is not noted. Part of a job of the writer."""
    store, noted = context.store.publications, context.published.find(one)
    is_replaced = one.kind is PublicationKind.FLEET
    if not is_replaced and store.find(one.kind, one.first, one.end) is not None:
        return False
    if noted is not None and not is_replaced:
        return store.put(noted)
    hold = context.published.hold
    if noted is None and hold is not None and hold.covers(one.first, one.end):
        raise AdminError(f"{one.name} stays unpublished since the restore")
    if noted is None or noted.content != one.content:
        context.published.append(one)
    return store.put(one)


def list_all(context: AdminContext) -> list[dict[str, Any]]:
    """List all publications by period, without their content."""
    return [
        {
            "kind": one.kind.value,
            "period_from": one.first.isoformat(),
            "period_to": one.end.isoformat(),
            "k_anonymity": one.k_anonymity,
            "method_version": one.method_version,
            "published_unix_milliseconds": one.published_unix_milliseconds,
            "bytes": one.content_bytes,
        }
        for one in context.issuing.commit(context.store.publications.summaries)
    ]


def take_back(context: AdminContext, *, first: str, end: str, who: str, why: str) -> dict[str, Any]:
    """Delete the publications inside [first, end): the collector computes them anew within minutes.

    What was measured of servers and rooms stays where readings of its month may be deleted. Raises
    AdminError, also where the months of PCs are deleted: nothing could be computed.
    """
    if not why.strip():
        raise AdminError("give a reason: the access journal keeps it")
    since, until = date.fromisoformat(first), date.fromisoformat(end)
    issuing, kept = context.issuing, context.settings.retention
    today = issuing.now().date()
    servers_from = months_before(today, kept.server_records_months)
    gone_before = months_before(today, kept.pc_monthly_months)

    def job() -> int:
        closed = {one.year for one in context.store.closings.revisions()}
        if taken := closed.intersection(range(since.year, until.year + (until > date(until.year, 1, 1)))):
            raise AdminError(
                f"{min(taken)} is closed with its released months: what was computed anew could be subtracted from them"
            )
        known = context.store.publications.summaries()
        inside = [
            one
            for one in known
            if since <= one.first
            and one.end <= until
            and (one.kind is not PublicationKind.SERVERS or one.first >= servers_from)
        ]
        if gone := [one.end for one in inside if one.end <= gone_before]:
            raise AdminError(
                f"months of PCs that ended by {gone_before} are deleted (retention.pc_monthly_months): nothing could be "
                f"computed instead of what is published until {max(gone)}"
            )
        if not inside:
            raise AdminError(f"nothing is published of {since} to {until}: see 'veilleuse published list'")
        context.published.take_back(PublicationKey(one.kind, one.first, one.end) for one in inside)
        number = context.store.publications.take_back(since, until, servers_from)
        context.note(who, f"published {since} to {until} taken back", why)
        return number

    gone = issuing.commit(job)
    context.months_changed.set()
    log.warning("published periods taken back", extra={"from": first, "to": end, "periods": gone})
    return {"periods": gone}


def allow(context: AdminContext, *, first: str, end: str, who: str, why: str) -> dict[str, Any]:
    """Let months inside [first, end) be published that stay unpublished since a restore.

    Raises AdminError where none is held, or without a reason.
    """
    require_reason(why)
    since, until = date.fromisoformat(first), date.fromisoformat(end)

    def job() -> None:
        hold = context.published.hold
        if hold is None or until <= since or since >= hold.until:
            raise AdminError(f"no month of {since} to {until} stays unpublished: see 'veilleuse doctor'")
        context.published.set_hold(hold.allow(since, until))
        context.note(who, f"published {since} to {until} allowed after a restore", why)

    context.issuing.commit(job)
    context.months_changed.set()
    log.warning("months allowed after a restore", extra={"from": first, "to": end})
    return {"first": first, "end": end}


def expire(context: AdminContext, today: date) -> int:
    """Delete publications as old as removed months of machines; returns their number.

    Raises errors of the store.
    """
    # A day later than the machines' months: the web process counts days of the reports' zone.
    until = months_before(today - timedelta(days=1), context.settings.retention.pc_monthly_months)

    def job() -> int:
        return context.store.publications.expire(until, context.store.closings.definitive_years())

    return context.issuing.commit(job)
