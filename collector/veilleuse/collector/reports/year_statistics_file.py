# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds and reads the file of the statistics that the collector keeps of an open year, and finds what is
stored of a period neither there nor as months. docs/closing.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from veilleuse.collector.account.server_rooms import OTHER_ROOM
from veilleuse.collector.calendars.periods import Slice, add_months, civil_day, slices
from veilleuse.collector.closed_years.document import (
    assumptions_document,
    assumptions_from_document,
    statistics_document,
    statistics_from_document,
)
from veilleuse.collector.closed_years.year_statistics import YearStatistics
from veilleuse.collector.documents.text import words
from veilleuse.collector.errors import StoreDamaged, UsageError
from veilleuse.collector.fleet.estimator import Assumptions
from veilleuse.collector.fleet.rooms import RoomFigure
from veilleuse.collector.logs import product_version
from veilleuse.collector.model.closed_years import ClosedFile, KeptYear, canonical, sha256
from veilleuse.collector.model.query import Query
from veilleuse.collector.ports.months import ClosedYearReader
from veilleuse.collector.reports.inputs import Sources, first_stored_months, is_enrolled
from veilleuse.wire.vocabulary import Population

KIND: Final = "veilleuse kept year"
FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class KeptStatistics:
    """Stored statistics of an open year."""

    kept_year: KeptYear
    facts: Mapping[str, Any]
    """Declarations in force when the statistics were kept."""
    kept: YearStatistics
    statistics: bytes
    """`kept` as stored, whatever program wrote it."""
    calibrated: Assumptions
    """Assumptions with the calibrations that the machines' energy was derived with."""

    def with_stored_calibrations(self, present: Assumptions) -> Assumptions:
        """Return the present assumptions with the stored calibrations: today's derive other energy."""
        return replace(present, calibrations=self.calibrated.calibrations)


def build_kept_file(
    year: int, kept: YearStatistics, facts: Mapping[str, Any], known: Assumptions
) -> ClosedFile:
    """Build the file stored for a year, without a signature."""
    statistics = canonical(statistics_document(kept))
    about = {
        "kind": KIND,
        "format": FORMAT,
        "year": year,
        "product_version": product_version(),
        "statistics_sha256": sha256(statistics),
        "rooms": len(kept.rooms),
        "facts": dict(facts),
        "assumptions": assumptions_document(known),
    }
    return ClosedFile(canonical(about), statistics, b"")


def has_rooms(file: ClosedFile) -> bool:
    """Return true when the file has rooms, without reading the statistics."""
    return bool(json.loads(file.report)["rooms"])


def load_kept(reader: ClosedYearReader, kept_year: KeptYear) -> KeptStatistics:
    """Read the statistics of a kept year. Raises StoreDamaged when they contradict themselves."""
    file = reader.kept_file(kept_year)
    try:
        about, document = json.loads(file.report), json.loads(file.statistics)
        written = (about["kind"], about["format"], about["year"], about["statistics_sha256"])
        if written != (KIND, FORMAT, kept_year.year, kept_year.statistics_sha256):
            raise ValueError("its facts are of something else")
        if sha256(file.statistics) != kept_year.statistics_sha256:
            raise ValueError("its statistics were changed")
        kept = statistics_from_document(document)
        if (kept.first, kept.end) != (date(kept_year.year, 1, 1), date(kept_year.year + 1, 1, 1)):
            raise ValueError(f"its statistics are of {kept.first} to {kept.end}")
        known = assumptions_from_document(about["assumptions"])
        return KeptStatistics(kept_year, dict(about["facts"]), kept, file.statistics, known)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UsageError) as error:
        raise StoreDamaged(
            f"what is kept of {kept_year.year} cannot be read ({error}): restore a backup"
        ) from error


def require_answerable(found: KeptStatistics, *, k: int, current_tree: bool) -> None:
    """Raise UsageError for a query that the statistics of a year cannot answer."""
    year = found.kept_year.year
    if current_tree:
        raise UsageError(
            f"months of machines of {year} are gone: machines stand where they stood then, leave out --tree now"
        )
    if k > found.kept.k:
        raise UsageError(
            f"{year} was kept with cells of {found.kept.k} machines or more: reporting.k_anonymity {k} cannot be shown of it"
        )


def find_sole_statistics(sources: Sources, first: date, end: date) -> KeptYear | None:
    """Return the kept year [first, end) when only its statistics are left; None when months are.

    Raises UsageError for a part of a year whose first month is deleted for a population enrolled by that
    month's end.
    """
    kept_year = next((one for one in sources.closings.kept_years() if one.year == first.year), None)
    if kept_year is None or not kept_year.stands_alone:
        return None
    if (first, end) == (date(kept_year.year, 1, 1), date(kept_year.year + 1, 1, 1)):
        return kept_year
    month = first.replace(day=1)
    following = add_months(month, 1)
    for population in {host.population for host in sources.hosts if is_enrolled(host, following)}:
        if not sources.closings.has_months(month, following, (population,)):
            raise UsageError(
                f"months of {kept_year.year} are gone: what was kept of it on {kept_year.kept_on} is the whole year, not {first} to {end}; ask for "
                "the year, without 'month'"
            )
    return None


def read_kept_rooms(sources: Sources, first: date, end: date) -> Sequence[RoomFigure] | None:
    """Return the kept rooms of an open year whose meter readings are deleted; None when they are stored."""
    kept_year = next((one for one in sources.closings.kept_years() if one.year == first.year), None)
    whole = (first, end) == (date(first.year, 1, 1), date(first.year + 1, 1, 1))
    if kept_year is None or not whole or not kept_year.readings_may_go or kept_year.statistics_sha256 is None:
        return None
    return (
        load_kept(sources.closings, kept_year).kept.rooms
        if has_rooms(sources.closings.kept_file(kept_year))
        else ()
    )


def statistics_of(sources: Sources, first: date, end: date) -> list[str]:
    """Return "YEAR (DAY KEPT)" of each whole year of the period with only its statistics left."""
    return [
        f"{one.year} ({one.kept_on})"
        for one in sources.closings.kept_years()
        if one.stands_alone and first <= date(one.year, 1, 1) and date(one.year + 1, 1, 1) <= end
    ]


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
