# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""RAPL counters as the helper with the rights to read them publishes them (helpers/rapl.py): the points and values of `linux_rapl`.

A value counts once; a new one comes every 10 s. Between two the ticker waits for the next, and shares it by time.
"""

from __future__ import annotations

from collections.abc import Callable

from veilleuse.agent.errors import PointsChanged, ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Instant, Point, Reading
from veilleuse.agent.platforms.clock import instant_now
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources.polled import PolledSources
from veilleuse.agent.sources.snapshot import read_publication
from veilleuse.wire.vocabulary import PointKind

_REMEDY = "see `systemctl status veilleuse-rapl`"


class RaplSnapshot:
    """`ports.Source`: what the helper reads. Made by `linux_rapl` where the files themselves cannot be read."""

    name = "linux_rapl"

    def __init__(self, context: SourceContext, now: Callable[[], Instant] = instant_now) -> None:
        self._path = context.helper
        self._context = context._replace(published=context.helper, helper="")
        self._now = now
        self._published = PolledSources(self._context, now)

    def open(self) -> tuple[Point, ...]:
        """The helper's points. Raises SourceUnavailable (no_permission) when it offers none, or is silent."""
        try:
            said = read_publication(self._path)
        except (OSError, ValueError) as error:
            raise SourceUnavailable(
                "no_permission", f"the RAPL helper publishes nothing at {self._path}", _REMEDY
            ) from error
        look = PolledSources(self._context, self._now)  # a counter is given once: `read` shall have it
        points = _of_rapl(look.open())
        if not points:
            told = "; ".join(one.reason for one in said.outcomes if one.reason) or "it offers nothing"
            raise SourceUnavailable("no_permission", f"the RAPL helper says: {told}", _REMEDY)
        try:
            look.read()
        except (
            ReadFailed,
            PointsChanged,
        ) as error:  # replaced between two looks: asked again at the next one
            raise SourceUnavailable(
                "no_permission", f"the RAPL helper has written nothing recent to {self._path}", _REMEDY
            ) from error
        self._published.open()
        return points

    def read(self) -> tuple[Reading, ...]:
        """Counters that are new since the last time, perhaps none. Raises ReadFailed when the helper has been silent."""
        try:
            readings = self._published.read()
        except ReadFailed as error:
            raise ReadFailed(f"the RAPL helper has nothing recent in {self._path}; {_REMEDY}") from error
        return tuple(one for one in readings if isinstance(one, EnergyCounter) and _of_rapl((one.point,)))

    def close(self) -> None:
        """Nothing is held."""

    def not_counted(self) -> tuple[tuple[str, str], ...]:
        """`ports.SeesMore`: as the helper publishes it; an older helper publishes none."""
        try:
            return read_publication(self._path).not_counted
        except (OSError, ValueError):
            return ()


def _of_rapl(points: tuple[Point, ...]) -> tuple[Point, ...]:
    return tuple(point for point in points if point.kind is PointKind.RAPL)
