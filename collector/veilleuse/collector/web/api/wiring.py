# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Puts /api together over a data directory: read-only connections of its own, and the way to the journal's writer."""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from typing import Any

from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.factors.book import KnownFactors
from veilleuse.collector.ipc.unix_socket import ask, pieces_of
from veilleuse.collector.model.publications import MAXIMUM_BYTES, Publication
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store.sqlite.accounts import SqliteAccountReader
from veilleuse.collector.store.sqlite.bounded_reader import BoundedReader
from veilleuse.collector.store.sqlite.publications import SqlitePublicationReader
from veilleuse.collector.web.access import AccessControl, MetricsAuth
from veilleuse.collector.web.api.answers import Figures
from veilleuse.collector.web.api.handlers import ApiContext
from veilleuse.collector.web.publications import Publish


def open_desk(
    settings: CollectorSettings, door: MetricsAuth, version: str, cleanup: ExitStack
) -> tuple[ApiContext, AccessControl]:
    """Both sides of /api; `cleanup` closes what is opened. Raises DataDirectoryError, StoreTooNew, StoreDamaged."""
    reader = BoundedReader(settings.data_dir)
    cleanup.callback(reader.close)
    accounts = SqliteAccountReader(settings.data_dir)
    cleanup.callback(accounts.close)
    published = SqlitePublicationReader(settings.data_dir)
    cleanup.callback(published.close)

    def note_access(account_id: int, route: str, query: str, status: int, rows: int) -> None:
        _told(
            settings,
            "account_access",
            account_id=account_id,
            route=route,
            query=query,
            status=status,
            rows=rows,
        )

    def note_use(account_id: int) -> None:
        _told(settings, "account_use", account_id=account_id)

    figures = Figures(
        reader, settings, KnownFactors(reader.factor_versions).latest, published, publisher(settings)
    )
    desk = ApiContext(figures, settings, version, note_access)
    return desk, AccessControl(door, accounts, note_use)


def publisher(settings: CollectorSettings) -> Publish:
    """The way to the running collector: the content in pieces, then what it is of. Until then nothing is kept."""

    def publish(one: Publication) -> None:
        content = one.content.encode()
        if len(content) > MAXIMUM_BYTES:
            raise AdminError(f"{one.name} has {len(content)} bytes, {MAXIMUM_BYTES} at most may be kept")
        upload = secrets.token_hex(16)
        for piece in pieces_of(upload, content):
            _told(settings, "publish_part", **piece)
        _told(
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


def _told(settings: CollectorSettings, operation: str, **arguments: Any) -> None:
    """To the running collector, which alone writes. Raises AdminError, whatever it answered."""
    try:
        ask(settings.data_dir, operation, **arguments)
    except UsageError as error:
        raise AdminError(str(error)) from error
