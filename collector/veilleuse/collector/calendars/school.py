# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Holds school holidays: the shipped table of zones A, B, C, and the ministry's own file for later years.

That file is `fr-en-calendrier-scolaire` of data.education.gouv.fr, as CSV (Licence Ouverte 2.0). Its format
is known from records that others have published. There is one row per académie. `start_date` is midnight of
Paris before the first free day, written in UTC. `end_date` is the day of return, so it is not a holiday,
except for a bridge of one day. Rows for teachers have their own dates. The summer may have only its
beginning. Pupils return on 1 September at the earliest (arrêté of 7 December 2022, as reported by AEF info):
until then it is summer.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo

from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.calendars import SchoolPeriod, SchoolZone
from veilleuse.collector.shipped_tables import load_table

TABLE: Final = "school_holidays_fr"
MAXIMUM_PERIODS: Final = 5_000
LONGEST_TERM_DAYS: Final = 100
"""Greatest gap between two holidays: eight weeks in the table,
eleven without the bridge of Ascension. Our choice.

A longer gap means that the file of a year in between was not imported.
"""
_PARIS: Final = ZoneInfo("Europe/Paris")
_SUMMER_BEGINS: Final = "début des vacances d'été"
_SUMMER: Final = "Vacances d'été"
_LABELS: Final = {
    "description": "name",
    "population": "population",
    "start_date": "first",
    "date de début": "first",
    "end_date": "return",
    "date de fin": "return",
    "zones": "zone",
    "zone": "zone",
    "first": "first",
    "last": "last",
    "name": "name",
}
"""Column name in lower case, of the ministry's file under either kind of heading or of ours → its meaning.

Other columns are not read.
"""


@dataclass(frozen=True, slots=True)
class SchoolHolidays:
    """School holidays of one zone."""

    zone: SchoolZone
    periods: tuple[SchoolPeriod, ...]
    """Sorted."""

    @property
    def known_from(self) -> date:
        """First day covered by the table."""
        return self.periods[0].first if self.periods else date.max

    @property
    def known_to(self) -> date:
        """Last day covered by the table."""
        return self.periods[-1].last if self.periods else date.min

    def name_on(self, day: date) -> str | None:
        """Return the name of a day's holidays; "" on a school day,
        None where the table does not reach or has a gap.
        """
        found = next((one.name for one in self.periods if one.first <= day <= one.last), None)
        if found is not None:
            return found
        back = max((one.last for one in self.periods if one.last < day), default=None)
        away = min((one.first for one in self.periods if one.first > day), default=None)
        at_school = back is not None and away is not None and (away - back).days <= LONGEST_TERM_DAYS
        return "" if at_school else None


@cache
def load_shipped() -> tuple[SchoolPeriod, ...]:
    """Return the shipped table, sorted. Raises ConfigurationError when it is damaged."""
    rows = load_table(TABLE).rows
    return tuple(sorted(_period(row["zone"], row["first"], row["last"], row["name"]) for row in rows))


def holidays_of(zone: SchoolZone, imported: Sequence[SchoolPeriod] = ()) -> SchoolHolidays:
    """Return the holidays of a zone: shipped, replaced by imported ones over their span."""
    return SchoolHolidays(
        zone, tuple(one for one in merge_periods(load_shipped(), imported) if one.zone is zone)
    )


def merge_periods(old: Sequence[SchoolPeriod], new: Sequence[SchoolPeriod]) -> tuple[SchoolPeriod, ...]:
    """Merge both, sorted; over the span of a zone in `new`, only `new` counts."""
    found = set(new)
    for period in old:
        mine = [one for one in new if one.zone is period.zone]
        if (
            not mine
            or period.last < min(one.first for one in mine)
            or period.first > max(one.last for one in mine)
        ):
            found.add(period)
    return tuple(sorted(found))


def read_school_holidays(text: str, name: str) -> tuple[SchoolPeriod, ...]:
    """Read the periods of zones A, B and C: the ministry's CSV, or one with zone,first,last,name.
    Raises UsageError.
    """
    try:
        found = _read(text.removeprefix("\ufeff"), name)
    except csv.Error as error:
        raise UsageError(f"{name}: {error}") from error
    if not found:
        raise UsageError(f"{name} has no row of the zones A, B, C")
    return tuple(_merge_overlapping(found))


def _read(text: str, name: str) -> list[SchoolPeriod]:
    head = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=";" if ";" in head else ",")
    columns = [_LABELS.get(column.strip().lower(), "") for column in next(reader, [])]
    end = "return" if "return" in columns else "last"
    if missing := [column for column in ("zone", "first", end, "name") if column not in columns]:
        raise UsageError(
            f"{name}, line 1: no column '{missing[0]}': give the CSV of fr-en-calendrier-scolaire, or "
            "zone,first,last,name"
        )
    found: list[SchoolPeriod] = []
    for cells in reader:
        row = {column: cell.strip() for column, cell in zip(columns, cells, strict=False) if column}
        try:
            found += _periods(row)
        except (ValueError, KeyError, OverflowError) as error:
            raise UsageError(f"{name}, line {reader.line_num}: {error}: write dates as YYYY-MM-DD") from error
        if len(found) > MAXIMUM_PERIODS:
            raise UsageError(
                f"{name} has more than {MAXIMUM_PERIODS} rows of zones A, B, C: leave out the past years"
            )
    return found


def _periods(row: Mapping[str, str]) -> Iterator[SchoolPeriod]:
    """Yield the period of a row; none for another zone or for teachers."""
    zone = row.get("zone", "").removeprefix("Zone").strip()
    if zone not in set(SchoolZone) or "enseignant" in row.get("population", "").lower():
        return
    first, name = _paris_date(row["first"]), row["name"]
    if "last" in row:
        last = _paris_date(row["last"])
    elif name.lower().replace("’", "'") == _SUMMER_BEGINS:
        name, last = _SUMMER, date(first.year, 8, 31)
    else:
        last = max(first, _paris_date(row["return"]) - timedelta(days=1))
    if last < first or (last - first).days > 100:
        raise ValueError(f"{first} to {last} are no holidays")
    yield SchoolPeriod(SchoolZone(zone), first, last, name[:64])


def _paris_date(text: str) -> date:
    if len(text) == 10:
        return date.fromisoformat(text)
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        return moment.date()
    return moment.astimezone(_PARIS).date()


def _merge_overlapping(periods: Iterable[SchoolPeriod]) -> Iterator[SchoolPeriod]:
    """Sort and merge overlapping periods of a zone: its académies repeat the same periods, and the summer has
    two rows.
    """
    open_one: SchoolPeriod | None = None
    for period in sorted(periods):
        if open_one is not None and period.zone is open_one.zone and period.first <= open_one.last:
            if period.last > open_one.last:
                open_one = SchoolPeriod(period.zone, open_one.first, period.last, open_one.name)
            continue
        if open_one is not None:
            yield open_one
        open_one = period
    if open_one is not None:
        yield open_one


def _period(zone: str, first: str, last: str, name: str) -> SchoolPeriod:
    return SchoolPeriod(SchoolZone(zone), date.fromisoformat(first), date.fromisoformat(last), name)
