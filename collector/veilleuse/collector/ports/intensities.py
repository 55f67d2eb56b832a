# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The seams of the indicative ledger: where intensities are kept, and hours of machines beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from veilleuse.collector.model.figures import EnergySums
from veilleuse.collector.model.grid import Intensity, PollState, Replaced, SeriesState, Stored
from veilleuse.collector.model.records import Host, HostId, Site
from veilleuse.wire.vocabulary import Population


class IntensityReader(Protocol):
    """What was published of grids; read-only, any process. All empty where nothing ever came."""

    def values(self, zone: str, series: str, start: int, end: int) -> Iterator[Intensity]:
        """Those that overlap [start, end), Unix ms, in order; what was not published is not there."""

    def replaced(self, zone: str, series: str, start: int, end: int) -> Iterator[Replaced]:
        """What began in [start, end) and gave way to another value, in order."""

    def states(self) -> tuple[SeriesState, ...]:
        """Each series and status that has a value."""

    def polls(self) -> tuple[PollState, ...]:
        """Each connector that ever tried."""

    def calls(self, connector: str, month: int) -> int:
        """Calls counted of a UTC month (year × 12 + month − 1)."""


class Intensities(IntensityReader, Protocol):
    """The same with its writes. Used like the Registry."""

    def put(self, values: Sequence[Intensity], now_unix_milliseconds: int) -> Stored:
        """Each in the place of those that it overlaps, which are kept in the log; left out where a more final one stands.

        Raises ValueError for what is no value, AdminError for a dataset that is not its series'.
        """

    def count_call(self, connector: str, month: int, at_most: int) -> bool:
        """Count one more, before it is made; False, and nothing counted, when the month has had `at_most`."""

    def note(self, connector: str, outcome: str, now_unix_milliseconds: int) -> None:
        """How its poll ended."""


class HourReader(Protocol):
    """Hours of machines beside the grid, for the indicative ledger; read-only, any process."""

    def hosts(self) -> tuple[Host, ...]: ...
    def sites(self) -> tuple[Site, ...]: ...
    def hour_sums(
        self, labels: Mapping[int, int], population: Population | None = None
    ) -> Iterator[tuple[HostId, int, EnergySums]]:
        """(host, label, derived energy) of the hours given: hour, Unix ms → label. Hours of one label are added up.

        Of one population alone, or of all machines; the same pair may come more than once.
        """

    def oldest_hours(self) -> dict[HostId, int]:
        """Start of the oldest hour with energy still kept of each host, Unix ms. Machines without hours are not there."""

    def intensities(self) -> IntensityReader:
        """The same store's; for the thread that asks."""
