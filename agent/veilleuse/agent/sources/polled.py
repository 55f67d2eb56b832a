# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the file of the polling process (polling/process.py): BMC, GPU, UPS, PDU, plugs. docs/decisions/0023.

The file is small, and read only when it was replaced. A counter value is returned once, so that the ticker
closes the stretch between two values. A gauge is valid for three of its intervals, then it is missing. A
value made before a suspend, in another boot or too long ago is never returned.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from veilleuse.agent.errors import PointsChanged, ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Instant, Point, Reading, asleep_milliseconds
from veilleuse.agent.platforms import here, instant_now
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources.snapshot import Publication, SnapshotReading, read_publication
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

INTERVALS_HELD: Final = 3
"""A reading older than this number of its intervals is no longer valid."""
BEGINNING_MILLISECONDS: Final = 60_000
"""The polling process starts with the agent: during this time an empty file is no failure."""


class PolledSources:
    """`ports.Source` over the publication of the polling process."""

    name = "polled"

    def __init__(self, context: SourceContext, now: Callable[[], Instant] = instant_now) -> None:
        self._path = context.published
        self._procfs = context.procfs
        self._now = now
        self._boot_id = ""
        self._began = 0
        self._points: tuple[Point, ...] = ()
        self._stamp: tuple[int, int, int] | None = None
        self._publication: Publication | None = None
        self._returned_at: dict[Point, int] = {}
        """Boot-time of the last returned value of each counter, ms."""
        self._previous: Instant | None = None
        self._valid_from = 0
        """Boot-time of the last suspend's end, ms: an older value does not belong to this stretch."""

    def open(self) -> tuple[Point, ...]:
        """Return the known points: empty until the first publication; `read` raises when points are added.

        Raises SourceUnavailable when there is nothing to poll on this machine.
        """
        if not self._path:
            raise SourceUnavailable(
                "no_device",
                "no meter is configured, and no GPU or BMC of this machine was found",
                "add the meters, if there are any, to the meters file (paths.meters)",
            )
        if not self._began:
            self._began = max(1, self._now().boottime_milliseconds)
            self._boot_id = here.boot_id(self._procfs)
        try:
            known = self._read_file().points
        except ReadFailed:
            known = ()
        # A point that was offered once and is gone must show as a gap: the meter may have stopped answering.
        self._points = (*self._points, *(point for point in known if point not in self._points))
        return self._points

    def read(self) -> tuple[Reading, ...]:
        """Return the new counters and the valid gauges.

        Raises ReadFailed when no published reading is recent; PointsChanged when points were added.
        """
        now = self._now()
        self._notice_suspend(now)
        beginning = now.boottime_milliseconds - self._began < BEGINNING_MILLISECONDS
        try:
            publication = self._read_file()
        except ReadFailed:
            if beginning and not self._points:
                return ()
            raise
        if any(point not in self._points for point in publication.points):
            raise PointsChanged("the polling process offers other points")
        recent = [one for one in publication.readings if self._is_recent(one, now)]
        if not recent:
            if not self._points and (beginning or _offers_nothing(publication)):
                return ()
            raise ReadFailed(_explain_silence(publication, now))
        return tuple(one.reading for one in recent if self._is_due(one))

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _read_file(self) -> Publication:
        """Return the publication; the file is parsed again only when it was replaced. Raises ReadFailed."""
        try:
            status = os.stat(self._path)
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            if stamp != self._stamp or self._publication is None:
                self._publication = None
                self._publication = read_publication(self._path)
                self._stamp = stamp
        except FileNotFoundError as error:
            self._publication = None
            raise ReadFailed(
                f"{self._path} does not exist: `veilleuse-agent poll` has published nothing"
            ) from error
        except OSError as error:
            raise ReadFailed(f"cannot read {self._path}: {error.strerror}") from error
        except ValueError as error:
            raise ReadFailed(str(error)) from error
        if self._publication.boot_id and self._boot_id and self._publication.boot_id != self._boot_id:
            raise ReadFailed(f"{self._path} is of another boot")
        return self._publication

    def _notice_suspend(self, now: Instant) -> None:
        if self._previous is not None and asleep_milliseconds(self._previous, now):
            self._valid_from = now.boottime_milliseconds
        self._previous = now

    def _is_recent(self, one: SnapshotReading, now: Instant) -> bool:
        age = now.boottime_milliseconds - one.boottime_milliseconds
        return (
            0 <= age <= INTERVALS_HELD * one.every_milliseconds
            and one.boottime_milliseconds >= self._valid_from
        )

    def _is_due(self, one: SnapshotReading) -> bool:
        if not isinstance(one.reading, EnergyCounter):
            return True
        # A value from before our start would add earlier energy to our first stretch.
        if one.boottime_milliseconds <= self._returned_at.get(one.reading.point, self._began):
            return False
        self._returned_at[one.reading.point] = one.boottime_milliseconds
        return True


def _offers_nothing(publication: Publication) -> bool:
    """Tell whether nothing to poll exists on this machine.

    This is no failure: `veilleuse-agent doctor` shows why.
    """
    return all(outcome.word not in ("ok", "failed") for outcome in publication.outcomes)


def _explain_silence(publication: Publication, now: Instant) -> str:
    """Explain why nothing is recent: the failures, or the time since the last reading."""
    failing = [
        f"{outcome.name}: {outcome.reason or outcome.word}"
        for outcome in publication.outcomes
        if outcome.word != "ok"
    ]
    if failing:
        return "; ".join(failing)
    if not publication.readings:
        return "the polling process has read nothing yet"
    youngest = max(one.boottime_milliseconds for one in publication.readings)
    seconds = (now.boottime_milliseconds - youngest) // MILLISECONDS_PER_SECOND
    return f"the polling process last read something {seconds} s ago"
