# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The timetable of a site that has declared none: Monday to Friday, 08:00 to 18:00, no dated closures."""

from __future__ import annotations

from veilleuse.wire.bands import DEFAULT_CALENDAR, Calendar


def default_calendar(time_zone: str = DEFAULT_CALENDAR.time_zone) -> Calendar:
    """The default timetable in a time zone. Raises CalendarError on an unknown one."""
    return DEFAULT_CALENDAR._replace(time_zone=time_zone)
