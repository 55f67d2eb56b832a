# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Adds the sobriety indicators to `veilleuse report indicators` and `veilleuse report reen`."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from veilleuse.collector.documents.document import Document
from veilleuse.collector.model.figures import Thresholds
from veilleuse.collector.reports.emissions import today
from veilleuse.collector.reports.indicators import SobrietyQuery, compute_indicators
from veilleuse.collector.reports.indicators_document import (
    servers_document,
    sobriety_row,
    with_rows,
    withheld_row,
)
from veilleuse.collector.reports.inputs import sobriety_sources_of, targets_of
from veilleuse.collector.reports.machines import server_rows
from veilleuse.collector.reports.reen import reen_document
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader


def add_sobriety(document: Document, settings: CollectorSettings) -> Document:
    """Add the other indicators to a report of I1, I2 and I13; the head of the report has the query."""
    with open_reader(settings.data_dir) as store:
        sources = sobriety_sources_of(store, settings.reporting)
        found = compute_indicators(
            sources, _indicators_query(document, settings), targets_of(settings.indicators)
        )
    data = str(document.head["data"])
    rows = [sobriety_row(one.meta, one.scope, one.figure, data=data) for one in found.figures]
    return with_rows(document, rows, [withheld_row(scope) for scope in found.withheld])


def servers_of(document: Document, settings: CollectorSettings) -> Document:
    """Return the report of the same query, server by server."""
    with open_reader(settings.data_dir) as store:
        sources = sobriety_sources_of(store, settings.reporting)
        targets = targets_of(settings.indicators)
        found = compute_indicators(sources, _indicators_query(document, settings), targets)
    rows = server_rows(found.machines, targets, data=str(document.head["data"]))
    left_out = ("kind", "group_by", "k_anonymity")
    return servers_document(
        rows, {name: value for name, value in document.head.items() if name not in left_out}
    )


def reen_sheet(settings: CollectorSettings, first: date, end: date) -> Document:
    """Return the follow-up sheet. Raises UsageError, UnknownZone."""
    with open_reader(settings.data_dir) as store:
        sources = sobriety_sources_of(store, settings.reporting)
        return reen_document(
            sources,
            first,
            end,
            settings.reporting.k_anonymity,
            today(),
            targets_of(settings.indicators),
            Thresholds(settings.indicators.out_of_hours_target_ratio),
        )


def _indicators_query(document: Document, settings: CollectorSettings) -> SobrietyQuery:
    head = document.head
    asked = head["group_by"]
    assert not isinstance(asked, str)
    return replace(
        SobrietyQuery(
            date.fromisoformat(str(head["from"])),
            date.fromisoformat(str(head["to"])),
            (),
            settings.reporting.k_anonymity,
            today(),
        ),
        dimensions=tuple(map(str, asked or ())),  # type: ignore[arg-type]
    )
