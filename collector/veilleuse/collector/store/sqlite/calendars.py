# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Stores the calendar versions of each site, and imported school holidays. Implements ports.Calendars."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date
from typing import Any

from veilleuse.collector.model.calendars import CalendarVersion, Declaration, SchoolPeriod, SchoolZone
from veilleuse.collector.model.hosts import Site
from veilleuse.collector.sqlite_library import sqlite3
from veilleuse.collector.store.sqlite.connection import DataTables, damaged
from veilleuse.collector.store.sqlite.months import mark_kept
from veilleuse.wire.bands import Calendar, CalendarError


class SqliteCalendars(DataTables):
    """Reads and writes calendars. Each write is a transaction, or part of the caller's."""

    def versions(self, site: Site) -> tuple[CalendarVersion, ...]:
        """Return the versions of a site, oldest first, never empty; machines get the last.

        Raises StoreDamaged.
        """
        rows = self._data.rows(
            "SELECT from_day, calendar_json, declaration_json, year FROM calendars WHERE site = ? ORDER BY from_day",
            site.site,
        )
        try:
            if not rows or rows[-1][1] != site.calendar_json:  # another time zone begins a new list
                return (CalendarVersion(date.min, Calendar.from_json(site.calendar_json)),)
            return tuple(map(_version, rows))
        except CalendarError as error:
            raise damaged(self._data.path, f"a calendar of site {site.site}: {error}") from error

    def put(self, site: str, versions: Sequence[CalendarVersion]) -> None:
        """Replace all versions of a site. The caller stores the last one with the site."""
        with self._data.transaction() as connection:
            mark_kept(connection, site, self._changed_from(site, versions), date.max.toordinal())
            connection.execute("DELETE FROM calendars WHERE site = ?", (site,))
            connection.executemany(
                "INSERT INTO calendars (site, from_day, calendar_json, declaration_json, year) VALUES (?, ?, ?, ?, ?)",
                [
                    (
                        site,
                        version.from_day.toordinal(),
                        version.calendar.to_json(),
                        None if version.declaration is None else version.declaration.to_json(),
                        version.year,
                    )
                    for version in versions
                ],
            )

    def has_machines(self, site: str) -> bool:
        """Tell whether any machine was enrolled there and not forgotten since."""
        return bool(self._data.row("SELECT EXISTS (SELECT 1 FROM hosts WHERE site = ?)", site)[0])

    def school_periods(self) -> tuple[SchoolPeriod, ...]:
        """Return the imported periods, sorted."""
        rows = self._data.rows(
            "SELECT zone, first_day, last_day, name FROM school_holidays ORDER BY zone, first_day"
        )
        return tuple(
            SchoolPeriod(SchoolZone(zone), date.fromordinal(first), date.fromordinal(last), name)
            for zone, first, last, name in rows
        )

    def replace_school_periods(self, periods: Sequence[SchoolPeriod]) -> None:
        """Replace all imported periods."""
        with self._data.transaction() as connection:
            self._mark_schools(connection, set(periods) ^ set(self.school_periods()))
            connection.execute("DELETE FROM school_holidays")
            connection.executemany(
                "INSERT INTO school_holidays (zone, first_day, last_day, name) VALUES (?, ?, ?, ?)",
                [(one.zone.value, one.first.toordinal(), one.last.toordinal(), one.name) for one in periods],
            )

    def _changed_from(self, site: str, versions: Sequence[CalendarVersion]) -> int:
        """Return the first day (day number) on which new and stored versions may differ, compared as text."""
        rows = self._data.connection.execute(
            "SELECT from_day, calendar_json, coalesce(declaration_json, '') FROM calendars WHERE site = ?",
            (site,),
        )
        new = {
            (
                version.from_day.toordinal(),
                version.calendar.to_json(),
                "" if version.declaration is None else version.declaration.to_json(),
            )
            for version in versions
        }
        return min((from_day for from_day, *_ in new ^ set(rows)), default=date.max.toordinal())

    def _mark_schools(self, connection: sqlite3.Connection, changed: Collection[SchoolPeriod]) -> None:
        """Mark the months of the sites whose school zone changes."""
        rows = connection.execute(
            "SELECT site, declaration_json FROM calendars WHERE declaration_json IS NOT NULL"
        )
        zones = {(site, Declaration.from_json(text).school_zone) for site, text in rows.fetchall()}
        for zone in {period.zone for period in changed}:
            mine = [period for period in changed if period.zone is zone]
            first, last = min(one.first for one in mine), max(one.last for one in mine)
            for site in sorted(site for site, of in zones if of is zone):
                mark_kept(connection, site, first.toordinal(), last.toordinal())


def _version(row: Any) -> CalendarVersion:
    from_day, calendar, declaration, year = row
    return CalendarVersion(
        date.fromordinal(from_day),
        Calendar.from_json(calendar),
        None if declaration is None else Declaration.from_json(declaration),
        year,
    )
