# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Whether what is too old has gone: PROMISES.md §3.2, P7."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from typing import Final

from veilleuse.collector.cli.doctor.findings import Finding
from veilleuse.collector.months.retention import limits
from veilleuse.collector.months.worker import ended_by
from veilleuse.collector.ports.months import Limits, OldestKept
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store.sqlite import SqliteReader
from veilleuse.wire.vocabulary import Population

GRACE_DAYS: Final = 2
"""A day for the daily run, and one for the time zones."""


def check_retention(settings: CollectorSettings) -> Iterator[Finding]:
    """The oldest rows of each population against their limits."""
    today = datetime.now(UTC).date()
    zone = settings.reporting.time_zone
    with closing(SqliteReader(settings.data_dir)) as reader:
        present = {host.population for host in reader.hosts()}
        for population in (one for one in Population if one in present):
            oldest = reader.oldest(population, ended_by(today - timedelta(days=GRACE_DAYS)))
            bounds = limits(settings.retention, population, zone, today - timedelta(days=GRACE_DAYS))
            yield from _of(population, oldest, bounds)


def _of(population: Population, oldest: OldestKept, bounds: Limits) -> Iterator[Finding]:
    late = [words for words, is_late in _late(oldest, bounds) if is_late]
    if late:
        remedy = "let 'veilleuse serve' run, it removes them every day"
        if oldest.stale_months:
            remedy = (
                "'veilleuse derive' keeps the months that these days wait for; then let 'veilleuse serve' run"
            )
        yield Finding(
            "retention", "warning", f"{population}: {', '.join(late)} are older than they may be", remedy
        )
        return
    if oldest.day is None:
        yield Finding("retention", "good", f"{population}: no day is kept yet")
        return
    month = f", the oldest month {date.fromordinal(oldest.month):%Y-%m}" if oldest.month else ""
    day = date.fromordinal(oldest.day)
    yield Finding("retention", "good", f"{population}: the oldest day is {day}{month}; nothing is too old")


def _late(oldest: OldestKept, bounds: Limits) -> Iterator[tuple[str, bool]]:
    """(what it is, whether some of it is too old)."""
    yield "days", oldest.day is not None and oldest.day < bounds.days
    yield "weeks", oldest.week is not None and oldest.week + 7 <= bounds.days
    yield "months", oldest.month is not None and oldest.month + 31 <= bounds.months
    hour = oldest.hour_unix_milliseconds
    yield "hours", hour is not None and hour < bounds.hours_unix_milliseconds
