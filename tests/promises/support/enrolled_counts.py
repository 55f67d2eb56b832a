# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Counts the enrolled machines of a published cell, which are public: docs/methodology.md §6."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Final

from tests.promises.support.read_together import Place, Row, Version
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.model.query import GroupKey
from veilleuse.wire.vocabulary import Population

LABELS: Final = ("zone", "population", "entity", "device_class", "autres")
SCREENS: Final = "monitor"


class EnrolledCounts:
    """An EnrolledCounts knows the cells of the months that were told, and counts their enrolled machines."""

    def __init__(self, versions: Sequence[Version], released: Mapping[Slice, Sequence[int]]) -> None:
        """`released`: month → the looks at which it was published."""
        self._versions, self._released = versions, released
        self._cells: defaultdict[tuple[int, date], set[GroupKey]] = defaultdict(set)
        """Version and month → its cells."""

    def add(self, row: Row) -> None:
        """Note a cell of a month's content; other rows tell none."""
        if row.table == "cells":
            zone, population, entity, device_class, autres = (row.labels[name] for name in LABELS)
            key = _key(Place(population, zone, entity, device_class))._replace(autres=autres == "True")
            self._cells[row.version, date.fromisoformat(row.labels["period_from"])].add(key)

    def of(self, row: Row) -> int:
        """Return the number of enrolled machines of a cell; on /metrics, of the newest month's cells."""
        first = row.labels.get("period_from")
        known = {
            part: looks[-1]
            for part, published in self._released.items()
            if (looks := [one for one in published if one <= row.version])
            and first in (None, part.first.isoformat())
        }
        if not known:
            return 0
        part = max(known, key=lambda one: one.first)
        return enrolled_in(row, part, self._versions[known[part]], self._cells[row.version, part.first])


def enrolled_in(row: Row, part: Slice, published: Version, cells: Collection[GroupKey]) -> int:
    """Return the number of enrolled machines of a month's cells that have the labels of a row.

    `published`: the fleet as the month was published. `cells`: those of the month.
    """
    words = [(name, word) for name in LABELS if (word := row.labels.get(name))]
    screens = row.labels.get("device_class") == SCREENS
    places = [published.places[host] for host, since in published.counted.items() if since < part.end]
    told = [_told_in(place._replace(device_class=SCREENS) if screens else place, cells) for place in places]
    return sum(
        one is not None and all(str(getattr(one, name)) == word for name, word in words) for one in told
    )


def _told_in(place: Place, cells: Collection[GroupKey]) -> GroupKey | None:
    """Return the published cell that holds a place: its own, else the nearest merged one above it."""
    own = _key(place)
    return next((key for key in (own, *own.merged_above) if key in cells), None)


def _key(place: Place) -> GroupKey:
    return GroupKey(
        zone=place.zone,
        population=Population(place.population),
        entity=place.entity,
        device_class=place.device_class,
    )
