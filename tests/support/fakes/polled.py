# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Fake a polled source that a test controls, and a third party's package that installs a polled source."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from tests.support.waiting import PATIENCE_SECONDS
from veilleuse.agent.model import Point, PowerGauge, Reading
from veilleuse.agent.polling.worker import Job
from veilleuse.agent.ports import SourceContext
from veilleuse.wire.vocabulary import Boundary, PointKind

POINT = Point(PointKind.PLUG, "desk", Boundary.WALL)


class ScriptedSource:
    """Implements `ports.Source`; a test sets its readings and errors."""

    name = "scripted"

    def __init__(self, *points: Point) -> None:
        self.points = points or (POINT,)
        self.opening: Exception | None = None
        self.reading: Exception | None = None
        self.readings: tuple[Reading, ...] | None = None
        self.opened = self.closed = self.reads = 0
        self.gate = threading.Event()
        self.gate.set()
        """A read waits while this is cleared, as with a device that never answers."""

    def open(self) -> tuple[Point, ...]:
        self.opened += 1
        if self.opening is not None:
            raise self.opening
        return self.points

    def read(self) -> tuple[Reading, ...]:
        self.reads += 1
        assert self.gate.wait(PATIENCE_SECONDS)
        if self.reading is not None:
            raise self.reading
        return self.readings if self.readings is not None else (PowerGauge(self.points[0], 40_000),)

    def close(self) -> None:
        self.closed += 1


def job(
    make: Callable[[], ScriptedSource] | ScriptedSource, name: str = "scripted desk", **more: float
) -> Job:
    """Return a polling job for a source, or for a function that makes one."""
    factory = make if callable(make) else lambda: make
    source, _, meter = name.partition(" ")
    timing = {"every_seconds": 10, "timeout_seconds": PATIENCE_SECONDS, **more}
    return Job(name, source, meter, factory, int(timing["every_seconds"]), timing["timeout_seconds"])


class FileMeter:
    """A third party's polled source, for tests with real processes; a file contains its power in watts.

    With `hang` in the file it never answers. A missing file is a device that is switched off.
    """

    name = "file_meter"
    OPTIONS: ClassVar[Mapping[str, type]] = {"file": str}

    def __init__(self, context: SourceContext) -> None:
        assert context.meter is not None
        self._file = Path(str(context.meter.options["file"]))
        self._point = Point(
            PointKind.PLUG, context.meter.meter, context.meter.boundary, context.meter.subject
        )

    def open(self) -> tuple[Point, ...]:
        return (self._point,)

    def read(self) -> tuple[Reading, ...]:
        from veilleuse.agent.errors import ReadFailed

        try:
            text = self._file.read_text()
        except OSError as error:
            raise ReadFailed(f"{self._file.name} does not answer") from error
        if text == "hang":
            threading.Event().wait()
        return (PowerGauge(self._point, round(float(text) * 1_000)),)

    def close(self) -> None:
        """Do nothing."""


def install_file_meter(folder: Path) -> None:
    """Write the files that pip writes for the package of FileMeter. `folder` and the repository's root must
    be in PYTHONPATH."""
    distribution = folder / "file_meter-1.0.dist-info"
    distribution.mkdir(parents=True)
    (distribution / "METADATA").write_text("Metadata-Version: 2.1\nName: file-meter\nVersion: 1.0\n")
    (distribution / "entry_points.txt").write_text(
        "[veilleuse.polled_sources]\nfile_meter = tests.support.fakes.polled:FileMeter\n"
    )
