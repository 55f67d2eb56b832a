# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Says what is wrong now, one sentence each, from the snapshot: what `veilleuse doctor` finds in detail.

For readers of the whole fleet. Of PCs only the counts of silent machines, as at the first read of the day.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Final

from veilleuse.collector.backup.notes import LATE, last_backup
from veilleuse.collector.calendars.periods import Slice, add_months
from veilleuse.collector.documents.text import Words, instant
from veilleuse.collector.enrolment.ca import SOON
from veilleuse.collector.release.tables import released_on
from veilleuse.collector.silence import SilenceLevel, sentence_of
from veilleuse.collector.web.metrics.released_month import last_month
from veilleuse.collector.web.metrics.snapshot import Snapshot

_LATE_DAYS: Final = 2
"""Days after its day of release until a month is late: the collector tries every hour."""


def find_conditions(snapshot: Snapshot, months: Sequence[Slice], w: Words) -> Iterator[str]:
    """Yield a sentence about each condition that somebody should mend; `months`: the newest released ones."""
    if snapshot.health is None:
        yield w("conditions.service")
    for one in snapshot.silence:
        if one.level in (SilenceLevel.WARNING, SilenceLevel.FAILED):
            yield f"{sentence_of(one, w)} {w('silence.remedy')}"
    yield from _months(snapshot, months, w)
    yield from _store(snapshot, w)
    yield from _certificates(snapshot, w)
    zones = {site.zone for site in snapshot.fleet.sites.values()}
    for zone in sorted(zones - {zone for zone, _ in snapshot.factors_now()}):
        yield w("conditions.factor", zone=zone)


def waiting_silences(snapshot: Snapshot, w: Words) -> Iterator[str]:
    """Yield a sentence about each population whose silence cannot be judged yet."""
    return (sentence_of(one, w) for one in snapshot.silence if one.level is SilenceLevel.WAITING)


def _months(snapshot: Snapshot, months: Sequence[Slice], w: Words) -> Iterator[str]:
    health, today = snapshot.health or {}, snapshot.today
    failing = bool(health.get("months_not_published"))
    if months and (due := _due(months[-1].end, today)) is not None:
        key = "months_failing" if failing else "month_late"
        yield w(f"conditions.{key}", month=w.of_month(due), day=w.long_day(released_on(due)))
    elif failing:
        yield w("conditions.some_month_failing" if months else "conditions.first_month_failing")
    if snapshot.month_is_of_older_rule:
        first, end = last_month(today)
        yield w("conditions.older_rule", of_month=w.of_month(first), first=first, end=end)
    for year in sorted(health.get("years_not_kept", {})):
        yield w("conditions.year", year=year)


def _due(end: date, today: date) -> date | None:
    """Return the month after the released ones where it should be released by now."""
    due = end if end.day == 1 else add_months(end.replace(day=1), 1)
    return due if today >= released_on(due) + timedelta(days=_LATE_DAYS) else None


def _certificates(snapshot: Snapshot, w: Words) -> Iterator[str]:
    for name, unix_milliseconds in (snapshot.health or {}).get("certificates", {}).items():
        end = instant(unix_milliseconds).date()
        if end - snapshot.today < SOON[name]:
            yield w(f"conditions.{name}_certificate", day=w.long_day(end))


def _store(snapshot: Snapshot, w: Words) -> Iterator[str]:
    disk, health, kind = snapshot.disk, snapshot.health or {}, snapshot.fleet.kind
    if disk.free_bytes < disk.reserve_bytes:
        yield w("conditions.disk_full")
    elif disk.free_bytes < 2 * disk.reserve_bytes:
        yield w("conditions.disk")
    if any(health.get("store_errors", {}).values()):
        yield w("conditions.store")
    if (last := last_backup(kind)) is not None:
        made = last.date()
        if snapshot.today - made > LATE:
            yield w("conditions.old_backup", day=w.long_day(made))
    elif not kind.simulated and snapshot.fleet.places:
        yield w("conditions.no_backup")
