# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks the conditions of the first page and of the alerts that no other check tells in detail."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import groupby
from typing import Final

from veilleuse.collector.cli.condition_words import as_clause
from veilleuse.collector.cli.doctor.findings import OUTCOMES, Finding
from veilleuse.collector.documents.text import words
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.collector.web.metrics.indicators_monthly import MonthlyFigures
from veilleuse.collector.web.metrics.snapshot import SnapshotCache
from veilleuse.collector.web.pages.conditions import occurrences_of, remedy_of, text_of

TOLD_ELSEWHERE: Final = frozenset(
    {
        "collector_down",
        "servers_silent",
        "population_silent",
        "backup_missing",
        "backup_old",
        "register_unwritable",
        "derivation_late",
        "month_held",
        "publication_failing",
        "disk_low",
        "disk_forecast",
        "store_errors",
        "root_certificate",
        "intermediate_certificate",
        "server_certificate",
        "intensity_failing",
        "machine_waiting",
        "otlp_failing",
        "time_unexplained",
        "records_quarantined",
    }
)
"""Conditions that another check judges by the same bounds, and tells with names and reasons."""
_NAMED: Final = 3
"""Series of a condition that get a line; the others are counted."""


def check_conditions(settings: CollectorSettings) -> Iterator[Finding]:
    """Judge the samples of /metrics by the table of conditions."""
    with open_reader(settings.data_dir) as store:
        monthly = MonthlyFigures(settings, partial(open_reader, settings.data_dir), store.publications)
        monthly.refresh_month()
        snapshot = SnapshotCache(
            store.data,
            settings,
            machine_figures=monthly.figures,
            month=monthly.month,
            month_is_of_older_rule=monthly.is_of_older_rule,
            month_facts=monthly.month_facts,
        ).take_snapshot()
    w = words("en")
    found = [
        one
        for one in occurrences_of(snapshot, settings.reporting.k_anonymity)
        if one.condition.name not in TOLD_ELSEWHERE
    ]
    for _, group in groupby(found, key=lambda one: one.condition.name):
        several = list(group)
        for one in several[:_NAMED]:
            yield Finding(
                "conditions",
                OUTCOMES[one.severity],
                as_clause(text_of(one, w)),
                as_clause(remedy_of(one, snapshot, w)),
            )
        if (left := len(several) - _NAMED) > 0:
            yield Finding("conditions", OUTCOMES[several[0].severity], f"and {left} more of these")
    if not found:
        yield Finding(
            "conditions", "good", "coverage, sources, released months and factors: nothing to report"
        )
