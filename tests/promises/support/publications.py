# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Publishes what is due at each look of read_together.py, and keeps what was published of which machines."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date
from functools import cache
from typing import NamedTuple

from tests.promises.support.month_machines import pcs_of_month
from tests.support.filled import Filled
from tests.support.publishing import Publishing
from tests.support.rolled import roll
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.model.indicators import IndicatorMachine
from veilleuse.collector.model.publications import PublicationKind
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.ports.months import PublicationSummary
from veilleuse.collector.release.counts import count_fleet
from veilleuse.collector.release.fleet import FleetCount
from veilleuse.collector.release.format import FORM as RELEASE
from veilleuse.collector.release.indicator_rows import INDICATORS, IndicatorMonth
from veilleuse.collector.release.rows import FLEET, FleetMonth, is_ruled
from veilleuse.collector.release.tables import Month
from veilleuse.collector.reports.fleet_year import fleet_devices
from veilleuse.collector.reports.readers import sobriety_sources_of
from veilleuse.collector.settings import ReportingSettings
from veilleuse.collector.store import open_reader


class FleetOfMonth(NamedTuple):
    """What is published of a month, with the fleet of the day of its publication."""

    content: str | None
    """The release; None where nothing of it is published."""
    rows: FleetMonth
    fleet: Mapping[GroupKey, FleetCount]
    indicators: IndicatorMonth | None = None
    machines: Mapping[int, IndicatorMachine] = {}
    """Physical PCs that its indicators may count, as they were at their publication."""
    told_at: int = 0
    """Number of the look that published its indicators."""


def released_month(part: Slice, month: FleetOfMonth) -> Month:
    """Return the release of a month; empty where nothing of it is published."""
    return Month(part, (), (), (), ()) if month.content is None else _decode(month.content, part)


@cache
def _decode(content: str, part: Slice) -> Month:
    return RELEASE.decode(json.loads(content), part.first, part.end)


class Publications:
    """All publications of a collector, look by look."""

    def __init__(self, data: Filled, clock: Callable[[], float]) -> None:
        """`clock`: Unix seconds."""
        self._data, self._clock = data, clock
        self._before: dict[PublicationSummary, int] = {}
        """Publication → the look that published it."""
        self.fleets: list[Mapping[Slice, FleetOfMonth]] = []
        """What is published at each look."""
        self.released: dict[Slice, list[int]] = {}
        """Month → looks that published it: more than one where it was taken back."""

    def publish(self, day: date, look: int, *, alone: bool = False) -> None:
        """Publish what is due, as the collector does each day.

        `alone`: new months without what goes with them, as a collector that stops in between.
        """
        roll(self._data, day)
        Publishing(self._data, self._clock).publish_months(day)
        if alone:
            self._delete_all_but_months()
        published = {one: self._before.get(one, look) for one in self._data.store.publications.summaries()}
        for one, since in published.items():
            if one.kind is PublicationKind.RELEASE and one not in self._before:
                self.released.setdefault(Slice(one.first, one.end), []).append(since)
        self._before = published
        self.fleets.append(
            {
                Slice(one.first, one.end): self._read(one, look, day)
                for one in published
                if one.kind is PublicationKind.FLEET
            }
        )

    def _delete_all_but_months(self) -> None:
        new = set(self._data.store.publications.summaries()) - self._before.keys()
        with self._data.store.transaction():
            for one in new:
                if one.kind is PublicationKind.RELEASE:
                    self._data.store.data.connection.execute(
                        "DELETE FROM published_periods WHERE kind <> 'release' AND first_day = ?",
                        (one.first.toordinal(),),
                    )

    def _read(self, fleet: PublicationSummary, look: int, day: date) -> FleetOfMonth:
        part, last = Slice(fleet.first, fleet.end), self.fleets[-1] if self.fleets else {}
        told_at = next(
            (
                since
                for one, since in self._before.items()
                if one.kind is PublicationKind.INDICATORS and one.first == part.first
            ),
            look,
        )
        with open_reader(self._data.directory) as store:
            sources = sobriety_sources_of(store, ReportingSettings())
            month, rows, indicators = (
                store.publications.find(kind, part.first, part.end)
                for kind in (PublicationKind.RELEASE, PublicationKind.FLEET, PublicationKind.INDICATORS)
            )
            assert rows is not None
            return FleetOfMonth(
                None if month is None else month.content,
                FLEET.decode(json.loads(rows.content), part.first, part.end),
                {
                    key: count
                    for key, count in count_fleet(fleet_devices(sources.base, part, day)).items()
                    if is_ruled(key)
                }
                if self._before[fleet] == look
                else last[part].fleet,
                None
                if indicators is None
                else INDICATORS.decode(json.loads(indicators.content), part.first, part.end),
                pcs_of_month(sources, part) if told_at == look else last[part].machines,
                told_at,
            )
