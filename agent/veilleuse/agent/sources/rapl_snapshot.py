# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the RAPL counters that the privileged helper publishes (commands/rapl_helper.py), with the points of
`linux_rapl`.

Each value counts once; a new one comes every 10 s. Between two values the ticker waits for the next one and
shares it by time.
"""

from __future__ import annotations

from collections.abc import Callable

from veilleuse.agent.errors import PointsChanged, ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Instant, Point, Reading
from veilleuse.agent.platforms import instant_now
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources.polled import PolledSources
from veilleuse.agent.sources.snapshot import read_publication
from veilleuse.wire.vocabulary import PointKind

_REMEDY = "see `systemctl status veilleuse-rapl`"


class RaplSnapshot:
    """`ports.Source`: the helper's counters.

    `linux_rapl` uses it when the files themselves cannot be read.
    """

    name = "linux_rapl"

    def __init__(self, context: SourceContext, now: Callable[[], Instant] = instant_now) -> None:
        self._path = context.helper
        self._context = context._replace(published=context.helper, helper="")
        self._now = now
        self._snapshot = PolledSources(self._context, now)

    def open(self) -> tuple[Point, ...]:
        """Return the helper's points.

        Raises SourceUnavailable (no_permission) when it offers none, or is silent.
        """
        try:
            publication = read_publication(self._path)
        except (OSError, ValueError) as error:
            raise SourceUnavailable(
                "no_permission", f"the RAPL helper publishes nothing at {self._path}", _REMEDY
            ) from error
        # a counter is returned once, and `read` must return it
        probe = PolledSources(self._context, self._now)
        points = _rapl_points(probe.open())
        if not points:
            reasons = (
                "; ".join(one.reason for one in publication.outcomes if one.reason) or "it offers nothing"
            )
            raise SourceUnavailable("no_permission", f"the RAPL helper reports: {reasons}", _REMEDY)
        try:
            probe.read()
        except (
            ReadFailed,
            PointsChanged,
        ) as error:  # replaced between the two reads: the next `open` tries again
            raise SourceUnavailable(
                "no_permission", f"the RAPL helper has written nothing recent to {self._path}", _REMEDY
            ) from error
        self._snapshot.open()
        return points

    def read(self) -> tuple[Reading, ...]:
        """Return the counters that are new since the last read, perhaps none.

        Raises ReadFailed when the helper has been silent.
        """
        try:
            readings = self._snapshot.read()
        except ReadFailed as error:
            raise ReadFailed(f"the RAPL helper has nothing recent in {self._path}; {_REMEDY}") from error
        return tuple(one for one in readings if isinstance(one, EnergyCounter) and _rapl_points((one.point,)))

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def not_counted(self) -> tuple[tuple[str, str], ...]:
        """`ports.SeesMore`: the helper's list; an older helper publishes none."""
        try:
            return read_publication(self._path).not_counted
        except (OSError, ValueError):
            return ()


def _rapl_points(points: tuple[Point, ...]) -> tuple[Point, ...]:
    return tuple(point for point in points if point.kind is PointKind.RAPL)
