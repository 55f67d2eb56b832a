# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the fleet's energy of released months, for every outlet: docs/methodology.md §6."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from veilleuse.collector.account.row import PeriodFigures
from veilleuse.collector.calendars.periods import Slice, add_months, slices
from veilleuse.collector.errors import StoreDamaged
from veilleuse.collector.gc_pause import without_garbage_collection
from veilleuse.collector.model.months import WAIT_DAYS
from veilleuse.collector.model.query import Basis, Query, is_within
from veilleuse.collector.ports.months import PublicationReader
from veilleuse.collector.release.figures import sum_fleet
from veilleuse.collector.release.rows import FLEET, FleetMonth

DIMENSIONS: Final = frozenset(
    {"entity", "device_class", "population", "perimeter", "power_context", "year", "month"}
)
"""Dimensions of released rows; `site` would be a second partition."""


@dataclass(frozen=True, slots=True)
class ReleasedStretch:
    """Consecutive released months inside one stretch of a question."""

    months: tuple[Slice, ...]

    @property
    def part(self) -> Slice:
        """Period of the rows."""
        return Slice(self.months[0].first, self.months[-1].end)


def find_stretches(
    published: PublicationReader, query: Query, *, cut: bool = False
) -> tuple[ReleasedStretch, ...]:
    """Return the released months that answer a question; () where they cannot.

    A stretch that is over is answered as a whole or not at all; the one that runs, by the months released so
    far. `cut`: months inside the period answer for it, whatever else it holds.
    """
    if query.basis is Basis.UNRELEASED or query.current_tree or not DIMENSIONS.issuperset(query.dimensions):
        return ()
    if not cut and (query.first.day, query.end.day) != (1, 1):
        return ()
    found = []
    for part in slices(query.first, query.end, by_month="month" in query.dimensions):
        months = [one for one in _months(part) if _is_released(published, one, query.k_anonymity)]
        run = tuple(
            one
            for number, one in enumerate(months)
            if one.first == add_months(months[0].first, number)  # after a hole there is another stretch
        )
        if run and (cut or (run[0].first == part.first and run[-1].end >= _due(part, query.today))):
            found.append(ReleasedStretch(run))
        elif not cut and _due(part, query.today) > part.first:
            return ()
    return tuple(found)


def _months(part: Slice) -> Iterator[Slice]:
    """Yield the whole calendar months inside a period."""
    first = part.first if part.first.day == 1 else add_months(part.first.replace(day=1), 1)
    while (end := add_months(first, 1)) <= part.end:
        yield Slice(first, end)
        first = end


def _due(part: Slice, today: date) -> date:
    """Return the end of the last month inside a period that is long enough over to be released."""
    return min(part.end, (today - timedelta(days=WAIT_DAYS)).replace(day=1))


def _is_released(published: PublicationReader, part: Slice, k: int) -> bool:
    summary = published.summary(FLEET.kind, part.first, part.end)
    return summary is not None and summary.format == FLEET.format and summary.k_anonymity >= k


def read_figures(
    published: PublicationReader, stretches: Iterable[ReleasedStretch], query: Query, *, random_roll_out: bool
) -> tuple[PeriodFigures, ...]:
    """Return the figures of each stretch; the query holds its perimeters. Raises StoreDamaged."""
    asked = (lambda entity: is_within(entity, query.entities)) if query.entities else None
    with without_garbage_collection():
        return tuple(
            sum_fleet(
                stretch.part,
                ((part, read_month(published, part)) for part in stretch.months),
                query.group,
                asked,
                random_roll_out=random_roll_out,
                is_observed=query.basis is Basis.OBSERVED,
            )
            for stretch in stretches
        )


def read_month(published: PublicationReader, part: Slice) -> FleetMonth:
    """Return the fleet's rows of a released month; () where it was taken back meanwhile.

    Raises StoreDamaged.
    """
    found = published.find(FLEET.kind, part.first, part.end)
    if found is None:
        return ()
    try:
        return FLEET.decode(json.loads(found.content), part.first, part.end)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreDamaged(
            f"published {found.name} cannot be read ({type(error).__name__}: {error}): restore a backup, or have it "
            f"computed anew with 'veilleuse published take-back {found.first} {found.end} --why TEXT'"
        ) from error


def missing_months(stretches: Iterable[ReleasedStretch], query: Query) -> Iterator[dict[str, str]]:
    """Yield the parts of a question without released months, and the day on which more may be released."""
    may_group = DIMENSIONS.issuperset(query.dimensions)
    running = (query.today - timedelta(days=WAIT_DAYS)).replace(day=1)
    at = query.first
    for stretch in (*stretches, None):
        end = query.end if stretch is None else stretch.part.first
        if at < end:
            month = max(at, running)
            on = add_months(month.replace(day=1), 1) + timedelta(days=WAIT_DAYS)
            yield {
                "period_from": at.isoformat(),
                "period_to": end.isoformat(),
                "reason": "period" if may_group else "grouping",
                **({"released_on": on.isoformat()} if may_group and month < end else {}),
            }
        if stretch is not None:
            at = stretch.part.end
