# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Indicators of groups of machines as rows: the same for the command and the API."""

from __future__ import annotations

from collections.abc import Iterable

from veilleuse.collector.documents.document import Row
from veilleuse.collector.indicators import BUILTIN, load
from veilleuse.collector.model.figures import Group, Thresholds
from veilleuse.collector.reports import indicators_document as indicators_report
from veilleuse.collector.settings import CollectorSettings


def indicator_rows(groups: Iterable[Group], settings: CollectorSettings, data: str) -> list[Row]:
    """Every built-in indicator of every group it applies to, with the group's coverage; `data`: real or simulated."""
    thresholds = Thresholds(settings.indicators.out_of_hours_target_ratio)
    coverage, chosen = load("I13"), tuple(groups)
    rows: list[Row] = []
    for indicator in map(load, BUILTIN):
        for group in chosen:
            figure = indicator.figure(group.key, group.sums)
            covered = coverage.figure(group.key, group.sums)
            if figure is not None:
                rows.append(
                    indicators_report.row(
                        indicator.meta,
                        indicator.threshold(thresholds),
                        group.key,
                        group.sums.hosts,
                        figure,
                        coverage_states=None if covered is None else covered.value,
                        incomplete=group.sums.incomplete,
                        data=data,
                    )
                )
    return rows
