# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the fleet's energy of released months, for every outlet: docs/methodology.md §6."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from veilleuse.collector.account.row import PeriodFigures
from veilleuse.collector.calendars.periods import Slice, add_months, slices
from veilleuse.collector.errors import StoreDamaged
from veilleuse.collector.gc_pause import without_garbage_collection
from veilleuse.collector.model.months import WAIT_DAYS
from veilleuse.collector.model.query import Basis, Query
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


class FleetReader(Protocol):
    """Fleet of released months."""

    def has(self, part: Slice, k: int) -> bool:
        """Return whether a month is released with groups of k machines or more."""

    def rows(self, part: Slice) -> FleetMonth:
        """Return the rows of a released month; () where it was taken back meanwhile. Raises StoreDamaged."""


@dataclass(frozen=True, slots=True)
class PublishedFleet:
    """Fleet of months as published."""

    published: PublicationReader

    def has(self, part: Slice, k: int) -> bool:
        """See FleetReader."""
        summary = self.published.summary(FLEET.kind, part.first, part.end)
        return summary is not None and summary.format == FLEET.format and summary.k_anonymity >= k

    def rows(self, part: Slice) -> FleetMonth:
        """See FleetReader."""
        found = self.published.find(FLEET.kind, part.first, part.end)
        if found is None:
            return ()
        try:
            return FLEET.decode(json.loads(found.content), part.first, part.end)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StoreDamaged(
                f"published {found.name} cannot be read ({type(error).__name__}: {error}): restore a backup, or have it "
                f"computed anew with 'veilleuse published take-back {found.first} {found.end} --why TEXT'"
            ) from error


def find_stretches(fleet: FleetReader, query: Query, *, cut: bool = False) -> tuple[ReleasedStretch, ...]:
    """Return the released months that answer a question; () where they cannot.

    They answer where the question begins with one: a later part that is not released yet is left out. `cut`:
    months inside the period answer for it, whatever else it holds.
    """
    if query.basis is Basis.UNRELEASED or query.current_tree or not DIMENSIONS.issuperset(query.dimensions):
        return ()
    if not cut and (query.first.day, query.end.day) != (1, 1):
        return ()
    found = []
    for part in slices(query.first, query.end, by_month="month" in query.dimensions):
        months = [one for one in _months(part) if fleet.has(one, query.k_anonymity)]
        run = tuple(
            one
            for number, one in enumerate(months)
            if one.first == add_months(months[0].first, number)  # after a hole there is another stretch
        )
        if run and (cut or run[0].first == part.first):
            found.append(ReleasedStretch(run))
        elif not cut and not found:
            return ()
    return tuple(found)


def _months(part: Slice) -> Iterator[Slice]:
    """Yield the whole calendar months inside a period."""
    first = part.first if part.first.day == 1 else add_months(part.first.replace(day=1), 1)
    while (end := add_months(first, 1)) <= part.end:
        yield Slice(first, end)
        first = end


def read_figures(
    fleet: FleetReader, stretches: Iterable[ReleasedStretch], query: Query, *, random_roll_out: bool
) -> tuple[PeriodFigures, ...]:
    """Return the figures of each stretch; the query holds its perimeters. Raises StoreDamaged."""
    with without_garbage_collection():
        return tuple(
            sum_fleet(
                stretch.part,
                ((part, fleet.rows(part)) for part in stretch.months),
                query,
                random_roll_out=random_roll_out,
            )
            for stretch in stretches
        )


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
