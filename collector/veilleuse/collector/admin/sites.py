# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Declares sites."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from veilleuse.collector import clock
from veilleuse.collector.admin.context import AdminContext
from veilleuse.collector.calendars.compose import default_calendar
from veilleuse.collector.enrolment.register import SITE, RegisterEntry
from veilleuse.collector.enrolment.register_replay import site_facts
from veilleuse.collector.enrolment.tokens import checked_name
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.factors import ChosenFactor
from veilleuse.collector.model.hosts import Site
from veilleuse.collector.settings import CollectorSettings
from veilleuse.wire.bands import CalendarError


def put(
    context: AdminContext, *, site: str, zone: str | None = None, time_zone: str | None = None
) -> dict[str, Any]:
    """Declare a site, or change its zones. An argument of None keeps the present value.

    A known site keeps its timetable, a new one gets the default. Raises UsageError for another time zone of a
    site with machines: their records are stored by its civil days.
    """
    site = checked_name("site", site)

    def job(note: RegisterEntry) -> Site:
        known = {known.site: known for known in context.issuing.registry.sites()}.get(site)
        made = new_site(
            context.settings,
            site,
            zone or (known.zone if known else None),
            time_zone or (known.time_zone if known else None),
            context.known_factors.choose,
        )
        if known is not None and known.time_zone == made.time_zone:
            made = Site(site, made.zone, made.time_zone, known.calendar_json)
        elif known is not None and any(host.site == site for host in context.issuing.registry.hosts()):
            raise UsageError(
                f"site '{site}' has machines: its time zone must stay {known.time_zone}; declare another "
                "site for new machines"
            )
        note(SITE, **site_facts(made))
        context.issuing.registry.put_site(made)
        return made

    made = context.issuing.commit_with_register(job)
    return {"site": made.site, "zone": made.zone, "time_zone": made.time_zone}


def ensure_site(
    context: AdminContext, site: str, zone: str | None, time_zone: str | None, note: RegisterEntry
) -> Site | None:
    """Declare a site unless it is declared; return it if new. Part of a job.

    Raises UsageError when it has other zones.
    """
    known = {known.site: known for known in context.issuing.registry.sites()}.get(site)
    if known is None:
        made = new_site(context.settings, site, zone, time_zone, context.known_factors.choose)
        note(SITE, **site_facts(made))
        context.issuing.registry.put_site(made)
        return made
    if (zone or known.zone, time_zone or known.time_zone) != (known.zone, known.time_zone):
        raise UsageError(
            f"site '{site}' exists with zone {known.zone} and time zone {known.time_zone}: leave out --zone "
            "and --time-zone"
        )
    return None


def new_site(
    settings: CollectorSettings,
    site: str,
    zone: str | None,
    time_zone: str | None,
    choose_factor: Callable[[str, int], ChosenFactor],
) -> Site:
    """Return a site with the default timetable; `choose_factor` chooses from the factors in force.

    Raises UsageError or UnknownZone for zones that do not exist.
    """
    zone, time_zone = zone or settings.reporting.zone, time_zone or settings.reporting.time_zone
    # Store the code of the zone. An unknown zone raises here, because its records would have no factor.
    zone = choose_factor(zone, clock.today().year).factor.zone
    try:
        return Site(checked_name("site", site), zone, time_zone, default_calendar(time_zone).to_json())
    except CalendarError as error:
        raise UsageError(f"site '{site}': {error}") from error
