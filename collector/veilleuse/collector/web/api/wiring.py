# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the objects of /api: its read-only connections, and its way to write to the access journal."""

from __future__ import annotations

import secrets
from typing import Any

from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.factors.book import KnownFactors
from veilleuse.collector.ipc import ask, pieces_of
from veilleuse.collector.model.publications import MAXIMUM_BYTES, Publication
from veilleuse.collector.ports.store import OpenReadStore, ReadStore
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.web.access import AccessControl, MetricsAuth
from veilleuse.collector.web.api.answers import Figures
from veilleuse.collector.web.api.handlers import ApiContext
from veilleuse.collector.web.publications import Publish


def build_api(
    settings: CollectorSettings,
    metrics_auth: MetricsAuth,
    version: str,
    store: ReadStore,
    open_store: OpenReadStore,
) -> tuple[ApiContext, AccessControl]:
    """Build the handlers and the access control of /api.

    `store` stays open as long as /api runs; `open_store` opens one for one answer. Raises DataDirectoryError,
    StoreTooNew, StoreDamaged.
    """
    reader = store.bounded

    def note_access(account_id: int, route: str, query: str, status: int, rows: int) -> None:
        _send_operation(
            settings,
            "account_access",
            account_id=account_id,
            route=route,
            query=query,
            status=status,
            rows=rows,
        )

    def note_use(account_id: int) -> None:
        _send_operation(settings, "account_use", account_id=account_id)

    figures = Figures(
        reader,
        open_store,
        settings,
        KnownFactors(reader.factor_versions).latest,
        store.publications,
        publisher(settings),
    )
    context = ApiContext(figures, settings, version, note_access)
    return context, AccessControl(metrics_auth, store.accounts, note_use)


def publisher(settings: CollectorSettings) -> Publish:
    """Return a function that sends a publication to the running collector: its content in pieces, then its
    key.

    The collector stores nothing before the key.
    """

    def publish(one: Publication) -> None:
        content = one.content.encode()
        if len(content) > MAXIMUM_BYTES:
            raise AdminError(f"{one.name} has {len(content)} bytes, {MAXIMUM_BYTES} at most may be kept")
        upload = secrets.token_hex(16)
        for piece in pieces_of(upload, content):
            _send_operation(settings, "publish_part", **piece)
        _send_operation(
            settings,
            "publish",
            kind=one.kind.value,
            first=one.first.isoformat(),
            end=one.end.isoformat(),
            format=one.format,
            k_anonymity=one.k_anonymity,
            method_version=one.method_version,
            upload=upload,
        )

    return publish


def _send_operation(settings: CollectorSettings, operation: str, **arguments: Any) -> None:
    """Send one operation to the running collector, the only writer. Raises AdminError for any refusal."""
    try:
        ask(settings.data_dir, operation, **arguments)
    except UsageError as error:
        raise AdminError(str(error)) from error
