# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Exports the indicative ledger and the grid intensity to /metrics: servers only, last closed civil day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.prometheus import Exposition
from veilleuse.collector.grid.ledger import DIMENSIONS, indicative
from veilleuse.collector.model.grid import CONSOLIDATED, LedgerLine, PollState, SeriesState, Sums
from veilleuse.collector.model.query import Query
from veilleuse.collector.ports.store import HourReader
from veilleuse.collector.settings import CollectorSettings
from veilleuse.wire.units import GRAMS_PER_KILOGRAM, MILLIGRAMS_PER_GRAM, MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Population

INDICATIVE: Final = "indicative"


@dataclass(frozen=True, slots=True)
class GridView:
    """Indicative ledger and grid intensity at one time."""

    states: tuple[SeriesState, ...] = ()
    polls: tuple[PollState, ...] = ()
    lines: tuple[LedgerLine, ...] = ()
    """Lines of yesterday's servers; virtual machines are memo lines."""


def read_grid(reader: HourReader, settings: CollectorSettings, now: float) -> GridView:
    """Read the view at a time in Unix seconds; too slow for a look. Raises the store's errors."""
    grid = reader.intensities()
    states, polls = grid.states(), grid.polls()
    if not states:
        return GridView((), polls)
    today = datetime.fromtimestamp(now, ZoneInfo(settings.reporting.time_zone)).date()
    query = Query(
        today - timedelta(days=1),
        today,
        DIMENSIONS,
        settings.reporting.k_anonymity,
        now_unix_milliseconds=int(now * MILLISECONDS_PER_SECOND),
    )
    found = indicative(reader, query, settings.intensity.series, frozenset({Population.SERVER}))
    return GridView(states, polls, found.ledger.lines)


def add_grid(out: Exposition, view: GridView) -> None:
    """Add the samples of the grid. Energy without an intensity has no grams: absent is not zero."""
    total = Sums()
    for line in view.lines:
        key, kilograms = line.key, line.sums.kgco2e
        if kilograms is not None:
            labels = (
                key.entity or "",
                key.site or "",
                key.population or "",
                key.device_class or "",
                INDICATIVE,
            )
            out.add(c.INDICATIVE_DAY_EMISSIONS, labels, float(kilograms * GRAMS_PER_KILOGRAM))
        if not key.memo:
            total += line.sums
    if total.coverage is not None:
        out.add(c.INDICATIVE_DAY_COVERAGE, (Population.SERVER.value,), float(total.coverage))
    for state in view.states[: c.GRID_SERIES]:
        where = (state.zone, state.series, state.status.value)
        out.add(c.INTENSITY, where, state.newest_milligrams_per_kwh / MILLIGRAMS_PER_GRAM)
        out.add(c.INTENSITY_NEWEST, where, state.newest_unix_milliseconds / MILLISECONDS_PER_SECOND)
    for poll in view.polls:
        out.add(c.INTENSITY_FAILURES, (poll.connector,), poll.failures)
        if poll.connector != CONSOLIDATED:  # its calls are counted as ODRÉ's
            out.add(c.INTENSITY_CALLS, (poll.connector,), poll.calls_this_month)
