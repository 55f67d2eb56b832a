# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Finds the parts of a period whose data are not stored, for figures from the present data of machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from veilleuse.collector.account.server_rooms import OTHER_ROOM
from veilleuse.collector.calendars.periods import Slice, add_months, civil_day, slices
from veilleuse.collector.documents.text import words
from veilleuse.collector.model.query import Query
from veilleuse.collector.reports.inputs import Sources, first_stored_months
from veilleuse.collector.reports.year_statistics_file import find_sole_statistics, read_kept_rooms
from veilleuse.wire.vocabulary import Population


def missing_data(sources: Sources, query: Query) -> Iterator[str]:
    """Yield "PART FIRST END" of each stretch [FIRST, END) without data: none was received, or it is gone.

    PART is a population, or other_room for the meters of rooms. A year whose statistics are kept lacks
    nothing. Raises UsageError as `find_sole_statistics`.
    """
    end = max(query.first, min(query.end, query.today))
    for part in slices(query.first, end, by_month=False):
        if find_sole_statistics(sources, part.first, part.end) is None:
            yield from _months(sources, part)
            yield from _readings(sources, part)


def _months(sources: Sources, part: Slice) -> Iterator[str]:
    first = part.first.replace(day=1)
    end = add_months((part.end - timedelta(days=1)).replace(day=1), 1)
    found = first_stored_months(sources.periods, (first, end), sources.hosts)
    for population, stored in sorted(found.items()):
        yield f"{population} {part.first} {min(stored, part.end)}"


def _readings(sources: Sources, part: Slice) -> Iterator[str]:
    oldest = sources.metering.first_read()
    if oldest is None or read_kept_rooms(sources, part.first, part.end) is not None:
        return
    stored = date.fromordinal(civil_day(ZoneInfo(sources.reporting.time_zone), oldest))
    if part.first < stored:
        yield f"{OTHER_ROOM} {part.first} {min(stored, part.end)}"


def missing_data_warning(missing: Iterable[str]) -> dict[str, str]:
    """Return the warning that nothing measured stands for these parts of a period (`missing_data`)."""
    parts = [one.split() for one in missing]
    french = "; ".join(f"{_name('fr', name)}, du {first} au {end} (exclu)" for name, first, end in parts)
    english = "; ".join(f"{_name('en', name)}, {first} to {end} (exclusive)" for name, first, end in parts)
    return {
        "fr": f"Attention : sans aucune donnée (rien de reçu, ou supprimé à échéance) : {french}. Ces parties sont estimées d’après d’autres données, ou absentes du chiffre.",
        "en": f"Warning: no data is stored (none was received, or retention removed it): {english}. These parts are estimated from other data, or are not in the figure.",
    }


def _name(language: str, name: str) -> str:
    of = "population" if name in {one.value for one in Population} else "device_class"
    return words(language).word(of, name)
