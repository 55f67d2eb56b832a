# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes the trend of a value of the REEN sheet since its baseline, where that is demonstrated (pure)."""

from __future__ import annotations

from veilleuse.collector.account.demonstrated import NotDemonstrated, Observed, why_not_demonstrated
from veilleuse.collector.indicators import COVERAGE
from veilleuse.collector.reports.reen_values import SheetValue


def trend_of(value: float | None, baseline: float | None) -> float | None:
    """Return the relative change since a baseline; None where one is missing."""
    return (value - baseline) / abs(baseline) if value is not None and baseline else None


def why_no_trend(
    indicator: str, value: SheetValue, baseline: float | None, restated: SheetValue | None
) -> NotDemonstrated | None:
    """Return why a trend is not told; None where it is, or where there is none.

    A published baseline has no interval of its own: it lies outside the value's. Counts of the inventory are
    exact, and the coverage is a measure of itself.
    """
    has_baseline = baseline is not None or (restated is not None and restated.value is not None)
    if value.value is None or not has_baseline or (value.interval is None and value.coverage_states is None):
        return None
    now = Observed({} if indicator == COVERAGE else _share(value), (value.interval,))
    if restated is not None and restated.value is not None:
        return why_not_demonstrated(Observed(_share(restated), (restated.interval,)), now)
    return why_not_demonstrated(Observed({}, (None if baseline is None else (baseline, baseline),)), now)


def _share(value: SheetValue) -> dict[str, float]:
    return {} if value.coverage_states is None else {"": value.coverage_states}
