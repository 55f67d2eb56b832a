# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks years that are over and not closed: retention removes their months and readings. docs/closing.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import date, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from veilleuse.collector import clock
from veilleuse.collector.calendars.periods import civil_day, months_before
from veilleuse.collector.cli.doctor.findings import Finding
from veilleuse.collector.cli.doctor.storage import GRACE_DAYS
from veilleuse.collector.closed_years.preconditions import not_over
from veilleuse.collector.errors import AdminError
from veilleuse.collector.ipc import ask
from veilleuse.collector.model.closed_years import KeptYear
from veilleuse.collector.months.worker import ended_by
from veilleuse.collector.ports.months import ClosedYearReader
from veilleuse.collector.reports.kept_years import has_deleted_months, years_due
from veilleuse.collector.reports.readers import sources_of
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.wire.vocabulary import Population

SOON_DAYS: Final = 90
"""Days before a removal from which a warning is given.

Readings of meters are removed from January on, months of PCs from May on.
"""
_PCS: Final = (Population.WORKSTATION, Population.CLASSROOM)


def check_closing(settings: CollectorSettings) -> Iterator[Finding]:
    """Report each year that may be closed and is not, and how long it can still be closed whole."""
    return check_closing_on(settings, clock.today())


def check_closing_on(settings: CollectorSettings, today: date) -> Iterator[Finding]:
    """Report the open years, as of a given day."""
    with open_reader(settings.data_dir) as store:
        if store.data.data_kind().simulated:
            yield Finding("closing", "good", "simulated data need not be closed")
            return
        month = _earliest(store.data.oldest(one, ended_by(today)).month for one in _PCS)
    with open_reader(settings.data_dir) as store:
        hour = store.metering.first_read() if store.metering.declarations().meters else None
    read = None if hour is None else date.fromordinal(civil_day(ZoneInfo("UTC"), hour))
    with open_reader(settings.data_dir) as store:
        closed = {one.year for one in store.closings.revisions()}
        kept = {one.year: one for one in store.closings.kept_years()}
        late = tuple(years_due(store.closings, settings.retention, today - timedelta(days=GRACE_DAYS)))
        first = min((one.year for one in (month, read) if one), default=today.year)
        years = {*range(first, today.year), *(one.year for one in kept.values() if one.statistics_sha256)}
        open_years = [year for year in sorted(years - closed) if not not_over(year, today)]
        months = {year: _oldest_month(store.closings, year) for year in open_years}
        readings = {year: _oldest_reading(store.closings, year, read) for year in open_years}
    held = {one.year for one in late if one.readings_may_go or one.months_may_go}
    for year in open_years:
        told = kept.get(year)
        if year in held:
            yield _held_finding(settings, year)
        elif told is not None and told.statistics_sha256 is not None:
            yield _kept_finding(settings, told, today, months[year])
        elif (told is not None and told.months_may_go) or _is_gone(settings, year, today):
            yield _too_late_finding(year)
        else:
            yield _open_finding(settings, year, today, months[year], readings[year])
    if not open_years:
        yield Finding("closing", "good", "no year that is over waits to be closed")


def _open_finding(
    settings: CollectorSettings, year: int, today: date, month: date | None, read: date | None
) -> Finding:
    """Report a year whose statistics are not kept.

    `month`, `read`: the oldest month of PCs and the oldest reading of shared meters that are left of the
    year.
    """
    kept, going = settings.retention, []
    if month is not None:
        going.append(("months of PCs", removal_day(_next_month(month), kept.pc_monthly_months)))
    if read is not None:
        going.append(
            ("readings of shared meters", removal_day(read + timedelta(days=1), kept.server_records_months))
        )
    told = ", ".join(f"{what} are removed {_from_day(day, today)}" for what, day in going)
    text = f"{year} is over and not closed: {told or 'it has no months of PCs or readings to remove'}"
    first = min((day for _, day in going), default=date.max)
    if first - today > timedelta(days=SOON_DAYS):
        return Finding("closing", "good", text)
    when = "before that day" if first > today else "now"
    remedy = (
        f"'veilleuse close {year}' {when}, or let 'veilleuse serve' run: it keeps the year by itself; "
        "docs/closing.md"
    )
    return Finding("closing", "warning", text, remedy)


def _kept_finding(settings: CollectorSettings, told: KeptYear, today: date, month: date | None) -> Finding:
    """Report a year whose statistics are kept: it loses nothing, closed or not."""
    text = f"{told.year} is over and not closed: its statistics were kept on {told.kept_on}"
    if told.months_may_go:
        return Finding("closing", "good", f"{text}, 'veilleuse close {told.year}' uses them")
    if month is not None:
        day = removal_day(_next_month(month), settings.retention.pc_monthly_months)
        text += f", and are kept again before months of PCs are removed {_from_day(day, today)}"
    return Finding("closing", "good", text)


def _held_finding(settings: CollectorSettings, year: int) -> Finding:
    """Report a year whose old rows stay until its statistics are kept, with the collector's reason."""
    why = ""
    with suppress(AdminError):
        why = ask(settings.data_dir, "health")["years_not_kept"].get(str(year), "")
    text = (
        f"{year}: months of machines or readings of meters are too old, and stay until its statistics are "
        "kept"
    )
    remedy = f"let 'veilleuse serve' run, it tries again every hour; or 'veilleuse close {year}'"
    return Finding("closing", "warning", f"{text}: {why}" if why else text, remedy)


def _too_late_finding(year: int) -> Finding:
    """Report a year that `veilleuse close` refuses."""
    text = f"{year} was never closed, and its first months of PCs have gone: it cannot be closed any more"
    return Finding("closing", "warning", text, "'veilleuse report emissions' of the months that are left")


def _is_gone(settings: CollectorSettings, year: int, today: date) -> bool:
    with open_reader(settings.data_dir) as store:
        sources = sources_of(store, settings.reporting)
        return has_deleted_months(sources, settings.retention, year, today)


def _from_day(day: date, today: date) -> str:
    return f"from {day} on" if day > today else "from now on"


def removal_day(end: date, months: int) -> date:
    """Return the first day on which retention removes rows that ended by `end`, exclusive.

    `months`: months for which these rows are kept.
    """
    day = months_before(end, -months)
    while months_before(day, months) < end:  # a 31st, in a month that has none
        day += timedelta(days=1)
    return day


def _oldest_month(closings: ClosedYearReader, year: int) -> date | None:
    """Return the oldest month of PCs that is left of the year."""
    months = [date(year, month, 1) for month in range(1, 13)]
    return next((one for one in months if closings.has_months(one, _next_month(one), _PCS)), None)


def _oldest_reading(closings: ClosedYearReader, year: int, read: date | None) -> date | None:
    """Return the first day of the year that may have readings of shared meters.

    `read`: day of the oldest reading of all years.
    """
    january, end = date(year, 1, 1), date(year + 1, 1, 1)
    return max(read, january) if read is not None and closings.has_readings(january, end) else None


def _earliest(days: Iterator[int | None]) -> date | None:
    known = [day for day in days if day is not None]
    return date.fromordinal(min(known)) if known else None


def _next_month(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)
