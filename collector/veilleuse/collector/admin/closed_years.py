# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks, signs and stores a closed year that the command has computed, in the running collector."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any, Final

from veilleuse.collector.admin.context import AdminContext
from veilleuse.collector.closed_years.frozen import NotAClosedYear, read_report
from veilleuse.collector.closed_years.signatures import (
    known_public_key,
    missing_key,
    public_hex,
    sign,
    signing_key,
)
from veilleuse.collector.closed_years.verify import FOLDER, export
from veilleuse.collector.errors import AdminError, CollectorError, UsageError
from veilleuse.collector.model.closed_years import ClosedFile, KeptYear, PackedFile, YearState, sha256

log = logging.getLogger(__name__)

MAXIMUM_UPLOAD_BYTES: Final = 64 * 1024 * 1024
"""Largest upload, compressed."""


def receive_part(context: AdminContext, *, upload: str, number: int, data: str) -> dict[str, Any]:
    """Receive one piece of an upload, in base64."""
    return {"bytes": context.uploads.add(upload, number, data, MAXIMUM_UPLOAD_BYTES, "a closed or kept year")}


def put(context: AdminContext, *, upload: str, report_bytes: int) -> dict[str, Any]:
    """Sign and store the upload that `close_part` received, then export it to `<data_dir>/closed/`.

    The upload is the report, `report_bytes` long, then the statistics, each compressed with zlib. Raises
    UsageError when the upload is not a closed year, AdminError when another revision came first.
    """
    sent = context.uploads.take(upload)
    packed = PackedFile(sent[:report_bytes], sent[report_bytes:])
    try:
        file = packed.unpack()
        closed_year, report = read_report(file.report, sha256(file.statistics), sha256(file.content))
    except (NotAClosedYear, ValueError) as error:
        raise UsageError(f"not a closed year: {error}") from error
    now = context.issuing.now_unix_milliseconds()
    if closed_year.state is YearState.CLOSED_DEFINITIVE and any(
        one["provisional"] for one in report["terms"]["factors"]
    ):
        raise AdminError("a factor is provisional: the year cannot be closed definitively")
    if abs(now - closed_year.closed_unix_milliseconds) > _MOST_MILLISECONDS_AGO:
        raise AdminError("the clocks of the command and of the collector differ: set them, then close again")
    data_dir = context.settings.data_dir
    if known_public_key(data_dir) is None and context.issuing.commit(context.store.closings.revisions):
        raise AdminError(missing_key(data_dir))
    key = signing_key(data_dir)
    signature = sign(file.content, key, context.issuing.authority)

    def job() -> None:
        _require_next(context, closed_year.year, report["previous_sha256"], closed_year.state)
        context.store.closings.put(closed_year, replace(packed, signature=signature))

    context.issuing.commit(job)
    log.info(
        "year closed",
        extra={"year": closed_year.year, "revision": closed_year.revision, "state": closed_year.state.value},
    )
    signed = ClosedFile(file.report, file.statistics, signature)
    try:
        exported = str(export(data_dir / FOLDER, closed_year, signed, public_hex(key.public_key())))
    except CollectorError as error:  # the year is stored: `veilleuse close --export` can write it elsewhere
        log.warning("closed year not exported", extra={"reason": str(error)})
        exported = ""
    return {
        "report_id": closed_year.report_id,
        "sha256": closed_year.sha256,
        "public_key": public_hex(key.public_key()),
        "root_sha256": context.issuing.authority.root_sha256,
        "exported": exported,
    }


def keep(
    context: AdminContext,
    *,
    year: int,
    day: str,
    readings_may_go: bool = True,
    months_may_go: bool = True,
    statistics_sha256: str | None = None,
    upload: str = "",
    facts_bytes: int = 0,
) -> dict[str, Any]:
    """Store the statistics of an open year that `close_part` received.

    The upload is the terms in force, `facts_bytes` long, then the statistics, each compressed with zlib.
    Without `statistics_sha256`, note that the year can no longer be kept. Raises UsageError, AdminError.
    """
    one = KeptYear(
        int(year), date.fromisoformat(day), bool(readings_may_go), bool(months_may_go), statistics_sha256
    )
    packed: PackedFile | None = None
    if statistics_sha256 is not None:
        sent = context.uploads.take(upload)
        packed = PackedFile(sent[:facts_bytes], sent[facts_bytes:])
        if sha256(packed.unpack().statistics) != statistics_sha256:
            raise UsageError("the statistics of the year are not those that were announced")
    context.issuing.commit(lambda: context.store.closings.keep(one, packed))
    facts = {"year": one.year, "day": day, "months_may_go": one.months_may_go}
    if packed is None:
        log.warning("months of a year had gone before its statistics could be kept", extra=facts)
    else:
        log.info("statistics of a year kept", extra=facts)
    return {"kept": packed is not None}


_MOST_MILLISECONDS_AGO: Final = 600_000


def _require_next(context: AdminContext, year: int, previous: str | None, state: YearState) -> None:
    """Check, in the writer, that no other revision came first, and that a definitive year stays definitive.

    Raises AdminError.
    """
    revisions = context.store.closings.revisions(year)
    if (revisions[-1].sha256 if revisions else None) != previous:
        raise AdminError(f"another revision of {year} was made meanwhile: close it again")
    if (
        revisions
        and revisions[-1].state is YearState.CLOSED_DEFINITIVE
        and state is not YearState.CLOSED_DEFINITIVE
    ):
        raise AdminError(f"{year} is closed definitively: a revision of it is definitive too")


def read_key(context: AdminContext) -> dict[str, Any]:
    """Return the public key of the signatures of closed years; makes the key pair when there is none."""
    made = signing_key(context.settings.data_dir)
    until = context.issuing.authority.document_chain(made.public_key())[0].not_valid_after_utc
    return {
        "public_key": public_hex(made.public_key()),
        "root_sha256": context.issuing.authority.root_sha256,
        "certified_until": datetime.fromtimestamp(until.timestamp(), UTC).date().isoformat(),
    }
