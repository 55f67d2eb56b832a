# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Imports the calendar of a site, all or nothing; shows it by day, and renews it once a year."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from difflib import get_close_matches
from typing import Any, Final
from zoneinfo import ZoneInfo

from veilleuse.collector.admin.context import AdminContext
from veilleuse.collector.admin.sites import new_site
from veilleuse.collector.calendars.compose import calendar_year, compose, declaration_of, first_day
from veilleuse.collector.calendars.files import WEEKDAYS, read_calendar, span_text, write_calendar
from veilleuse.collector.calendars.school import (
    SchoolHolidays,
    holidays_of,
    merge_periods,
    read_school_holidays,
)
from veilleuse.collector.calendars.show import (
    DayView,
    WindowView,
    changes,
    closure_text,
    weekly_text,
    windows_of,
    year_of,
)
from veilleuse.collector.enrolment.register import SITE, RegisterEntry
from veilleuse.collector.enrolment.register_replay import site_facts
from veilleuse.collector.errors import AdminError, UsageError
from veilleuse.collector.model.calendars import BEFORE_ALL, CalendarVersion, Declaration, SchoolPeriod
from veilleuse.collector.model.hosts import Site
from veilleuse.collector.model.query import PERIOD_YEARS
from veilleuse.wire.bands import Calendar, CalendarError

log = logging.getLogger(__name__)

MAXIMUM_YEARS_AHEAD: Final = 20
_NAMED: Final = 10
"""Most sites that an error names."""


@dataclass(frozen=True, slots=True)
class _SiteCalendars:
    """Stored calendars of a site."""

    site: Site
    versions: tuple[CalendarVersion, ...]
    has_machines: bool
    imported: tuple[SchoolPeriod, ...]
    is_new: bool = False

    @property
    def declaration(self) -> Declaration:
        newest = self.versions[-1]
        return newest.declaration or declaration_of(newest.calendar)

    @property
    def school(self) -> SchoolHolidays | None:
        zone = self.declaration.school_zone
        return None if zone is None else holidays_of(zone, self.imported)


def import_calendar(
    context: AdminContext,
    *,
    site: str,
    text: str,
    name: str,
    who: str,
    why: str = "",
    dry_run: bool = False,
    create: bool = False,
    zone: str | None = None,
    time_zone: str | None = None,
) -> dict[str, Any]:
    """Declare the calendar of a site, all of a file or nothing. Raises UsageError.

    `create`: make the site when it does not exist.
    """
    if not create and (zone or time_zone):
        raise UsageError("--zone and --time-zone are for a new site: add --create")
    known = _read_site(context, site, create=create, zone=zone, time_zone=time_zone)
    for option, given, has in (
        ("--zone", zone, known.site.zone),
        ("--time-zone", time_zone, known.site.time_zone),
    ):
        if given not in (None, has):
            raise UsageError(f"site '{site}' exists already, with {option} {has}: leave {option} out")
    declaration = read_calendar(text, name, known.declaration)
    today = _today(context, known.site)
    made = _make_version(known, declaration, today)
    after = replace(known, versions=_with_version(known, made))
    found = changes(known.declaration, declaration)
    distributed = known.is_new or made.calendar != known.versions[-1].calendar
    changed = bool(found) or distributed or made.year != known.versions[-1].year
    if changed and not dry_run:
        _store(context, known, after, who, why)
        log.info("calendar imported", extra={"site": site, "distributed": distributed})
    return {
        "site": site,
        "created": known.is_new,
        "changed": changed,
        "changes": found,
        "distributed": distributed,
        "from": _iso(made.from_day) if distributed else None,
        "calendar_sha256": _sha256(made.calendar),
        "closures": len(made.calendar.closures),
        "known_to": date(made.year + 1, 12, 31).isoformat(),
        "warnings": list(_warnings(after, made)),
        "imported": changed and not dry_run,
        "dry_run": dry_run,
    }


def show(context: AdminContext, *, site: str, year: int | None = None) -> dict[str, Any]:
    """Return a civil year of a site, its update windows (reported by machines or not), and its calendars."""
    known = _read_site(context, site)
    newest, today = known.versions[-1], _today(context, known.site)
    year = year or max(today, newest.from_day).year
    if not PERIOD_YEARS.first <= year <= today.year + MAXIMUM_YEARS_AHEAD:
        raise UsageError(
            f"--year {year}: use one from {PERIOD_YEARS.first} to {today.year + MAXIMUM_YEARS_AHEAD}"
        )
    versions = known.versions
    if newest.declaration is not None and year > newest.year + 1:  # machines do not have this year yet
        coming = compose(newest.declaration, known.site.time_zone, year)
        versions += (CalendarVersion(date(year, 1, 1), coming, newest.declaration, year),)
    days = list(year_of(versions, known.school, year))
    count = Counter("unknown" if day.kind is None else day.kind.value for day in days)
    school = known.school
    return {
        "site": known.site.site,
        "zone": known.site.zone,
        "time_zone": known.site.time_zone,
        "declared": newest.declaration is not None,
        "year": year,
        "open": weekly_text(newest.calendar.open_spans),
        "public_holidays": known.declaration.public_holidays,
        "alsace_moselle": known.declaration.alsace_moselle,
        "closures": [closure_text(one) for one in known.declaration.closures],
        "known_to": date(newest.year + 1, 12, 31).isoformat() if newest.declaration is not None else None,
        "school_zone": None if school is None else school.zone.value,
        "school_known_from": None if school is None else school.known_from.isoformat(),
        "school_known_to": None if school is None else school.known_to.isoformat(),
        "day_types": dict(sorted(count.items())),
        "days": [_day(day) for day in days],
        "update_windows": [_window(window) for window in windows_of(newest.calendar)],
        "versions": [
            {"from": _iso(one.from_day), "calendar_sha256": _sha256(one.calendar)} for one in known.versions
        ],
    }


def export(context: AdminContext, *, site: str) -> dict[str, Any]:
    """Return the declared calendar of a site, as a file that `import_calendar` takes."""
    known = _read_site(context, site)
    return {"site": site, "text": write_calendar(known.declaration, known.site.site)}


def renew(context: AdminContext, today: date) -> list[str]:
    """Give every declared site the closures of the new calendar year (from 1 October).

    Returns the sites whose calendar changed. A calendar changes at most once a year by this; the same day
    again changes nothing. Raises errors of the store.
    """
    renewed = []
    for site in context.issuing.commit(context.issuing.registry.sites):
        known = _read_site(context, site.site)  # one job of the writer per site, so that pushes do not wait
        newest = known.versions[-1]
        if newest.declaration is None or newest.year >= calendar_year(today):
            continue
        try:
            made = _make_version(known, known.declaration, today)
        except CalendarError as error:  # declared under another version's rules: it must not stop other sites
            log.error("calendar not renewed", extra={"site": site.site, "reason": str(error)})
            continue
        _store(context, known, replace(known, versions=_with_version(known, made)))
        if made.calendar != newest.calendar:
            renewed.append(site.site)
            log.info(
                "calendar renewed",
                extra={"site": site.site, "year": made.year, "from": made.from_day.isoformat()},
            )
    return renewed


# --- what is stored


def _read_site(
    context: AdminContext,
    name: str,
    *,
    create: bool = False,
    zone: str | None = None,
    time_zone: str | None = None,
) -> _SiteCalendars:
    """Read a site, in a job of the writer. Raises UsageError for an unknown site without `create`."""
    issuing = context.issuing

    def job() -> _SiteCalendars | None:
        sites = {site.site: site for site in issuing.registry.sites()}
        if name not in sites:
            if create:
                return None
            near = get_close_matches(name, sites, n=1)
            known = ", ".join(sorted(sites)[:_NAMED]) or "none"
            hint = f"did you mean '{near[0]}'?" if near else f"known: {known}"
            raise UsageError(f"no site '{name}': {hint}; 'veilleuse calendar import --create' makes one")
        site = sites[name]
        calendars = context.store.calendars
        return _SiteCalendars(
            site, calendars.versions(site), calendars.has_machines(name), calendars.school_periods()
        )

    if (known := issuing.commit(job)) is not None:
        return known

    site = issuing.commit(
        lambda: new_site(context.settings, name, zone, time_zone, context.known_factors.choose)
    )
    first = CalendarVersion(BEFORE_ALL, Calendar.from_json(site.calendar_json))
    return _SiteCalendars(
        site, (first,), False, issuing.commit(context.store.calendars.school_periods), is_new=True
    )


def _make_version(known: _SiteCalendars, declaration: Declaration, today: date) -> CalendarVersion:
    """Make the calendar for machines. Raises CalendarError, never for a declaration that was just read."""
    year = calendar_year(today)
    calendar = compose(declaration, known.site.time_zone, year)
    from_day = first_day(today) if known.has_machines else BEFORE_ALL
    return CalendarVersion(from_day, calendar, declaration, year)


def _with_version(known: _SiteCalendars, made: CalendarVersion) -> tuple[CalendarVersion, ...]:
    """Return the versions with a new one; it replaces one that waits for the same day, as machines do."""
    newest = known.versions[-1]
    if made.calendar == newest.calendar:
        return (*known.versions[:-1], replace(made, from_day=newest.from_day))
    return (*(one for one in known.versions if one.from_day < made.from_day), made)


def _store(
    context: AdminContext, known: _SiteCalendars, after: _SiteCalendars, who: str = "", why: str = ""
) -> None:
    issuing, calendars = context.issuing, context.store.calendars
    site = replace(known.site, calendar_json=after.versions[-1].calendar.to_json())

    def job(note: RegisterEntry) -> None:
        present = {one.site: one for one in issuing.registry.sites()}.get(site.site)
        if present is None and known.is_new:
            note(SITE, **site_facts(site))
        elif present != known.site or calendars.versions(known.site) != known.versions:
            raise AdminError(f"the calendar of site '{site.site}' was changed meanwhile: try again")
        issuing.registry.put_site(site)
        calendars.put(site.site, after.versions)
        if who:
            context.note(who, f"calendar of site {site.site} imported", why)

    issuing.commit_with_register(job)


def _today(context: AdminContext, site: Site) -> date:
    return context.issuing.now().astimezone(ZoneInfo(site.time_zone)).date()


# --- words


def _warnings(known: _SiteCalendars, made: CalendarVersion) -> list[str]:
    declaration, school = known.declaration, known.school
    found = list(_window_warnings(made.calendar))
    if made.from_day != BEFORE_ALL:
        past = [one for one in declaration.closures if one.last < made.from_day]
        found += [
            f"[[closure]] {closure_text(one)}: it is before {made.from_day}, the first day of this calendar, "
            "and has no effect"
            for one in past
        ]
    if not declaration.open_spans:
        found.append("[open] is empty: all time of the site is in the bands closed and night")
    if school is not None and school.known_to < date(made.year, 12, 31):
        found.append(
            f"[school_holidays] zone {school.zone} is known until {school.known_to}: import the ministry's "
            "file with 'veilleuse calendar school-holidays FILE'"
        )
    return found


def _window_warnings(calendar: Calendar) -> Iterator[str]:
    """Yield the update windows that machines will not report, once for equal ordinary and closed days."""
    said: set[tuple[int, str, str]] = set()
    for window in windows_of(calendar):
        when = f"{'a closed ' if window.closed_day else ''}{WEEKDAYS[window.iso_weekday - 1]}"
        where = (
            f"[updates] {when}, {window.inside_minutes} min of the band {window.band} inside, "
            f"{window.outside_minutes} outside"
        )
        for who, why in (("workstations", window.workstation), ("machines that send hours", window.hourly)):
            if why and (window.iso_weekday, window.band.value, why) not in said:
                said.add((window.iso_weekday, window.band.value, why))
                yield f"{where}: {who} will not report: {why}"


def _day(day: DayView) -> dict[str, Any]:
    return {
        "date": day.day.isoformat(),
        "type": None if day.kind is None else day.kind.value,
        "open": [span_text(span) for span in day.spans],
        "name": day.why,
    }


def _window(window: WindowView) -> dict[str, Any]:
    return {
        "weekday": WEEKDAYS[window.iso_weekday - 1],
        "closed_day": window.closed_day,
        "band": window.band.value,
        "inside_minutes": window.inside_minutes,
        "outside_minutes": window.outside_minutes,
        "workstations_tell": not window.workstation,
        "workstations_why": window.workstation,
        "hourly_why": window.hourly,
    }


def _iso(day: date) -> str | None:
    return None if day == BEFORE_ALL else day.isoformat()


def _sha256(calendar: Calendar) -> str:
    return hashlib.sha256(calendar.to_json().encode()).hexdigest()


def import_school_holidays(
    context: AdminContext, *, text: str, name: str, who: str, why: str = "", dry_run: bool = False
) -> dict[str, Any]:
    """Import school holidays. Raises UsageError.

    The file replaces the periods of a zone in the span that it has; earlier imports outside it stay.
    """
    brought = read_school_holidays(text, name)
    issuing, calendars = context.issuing, context.store.calendars

    def job() -> bool:
        stored = calendars.school_periods()
        wanted = merge_periods(stored, brought)
        if wanted == stored or dry_run:
            return wanted != stored
        calendars.replace_school_periods(wanted)
        context.note(who, f"school holidays imported: {len(brought)} periods", why)
        return True

    changed = issuing.commit(job)
    imported = changed and not dry_run
    if imported:
        log.info("school holidays imported", extra={"periods": len(brought)})
    zones = sorted({one.zone for one in brought})
    return {
        "periods": len(brought),
        "zones": [
            {
                "zone": zone.value,
                "from": min(one.first for one in brought if one.zone is zone).isoformat(),
                "to": max(one.last for one in brought if one.zone is zone).isoformat(),
            }
            for zone in zones
        ],
        "changed": changed,
        "imported": imported,
        "dry_run": dry_run,
    }
