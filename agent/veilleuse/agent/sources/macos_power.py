# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the processor's energy on macOS, published by the helper that may run `powermetrics`.

The helper is commands/powermetrics_helper.py. Each value counts once; a new one comes every 10 s. Between two
values the ticker waits for the next one and shares it by time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import Instant, Point, Reading
from veilleuse.agent.platforms import instant_now
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources.polled import PolledSources
from veilleuse.agent.sources.snapshot import read_publication
from veilleuse.wire.vocabulary import PointKind

_REMEDY: Final = "load the helper's launchd job as root: `veilleuse-agent powermetrics-helper`"


class MacosPower:
    """`ports.Source`: the helper's counter."""

    name = "macos_power"
    KINDS: ClassVar = (PointKind.POWERMETRICS,)

    def __init__(self, context: SourceContext, now: Callable[[], Instant] = instant_now) -> None:
        self._path = context.helper
        self._virtualisation = context.virtualisation
        self._snapshot = PolledSources(context._replace(published=context.helper, helper=""), now)

    def open(self) -> tuple[Point, ...]:
        """Return the helper's point.

        Raises SourceUnavailable: virtual_machine, or no_permission without a helper.
        """
        if self._virtualisation not in ("none", "container"):
            raise SourceUnavailable(
                "virtual_machine", "virtual machine: energy is its host's", "measure the host"
            )
        if not self._path:
            raise SourceUnavailable("no_permission", "only root may run powermetrics", _REMEDY)
        try:
            publication = read_publication(self._path)
        except (OSError, ValueError) as error:
            raise SourceUnavailable(
                "no_permission", f"the helper publishes nothing at {self._path}", _REMEDY
            ) from error
        points = tuple(point for point in publication.points if point.kind is PointKind.POWERMETRICS)
        if not points:
            raise SourceUnavailable("no_device", "the helper offers no power of the processor", _REMEDY)
        self._snapshot.open()
        return points

    def read(self) -> tuple[Reading, ...]:
        """Return the counter when it is new. Raises ReadFailed when the helper has been silent."""
        try:
            return self._snapshot.read()
        except ReadFailed as error:
            raise ReadFailed(f"the helper has nothing recent in {self._path}: {error}") from error

    def close(self) -> None:
        """Do nothing: nothing stays open."""
