# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Readings that one process makes and another takes: slow or heavy sources, and those that need more rights.

One small JSON file, replaced whole. Who writes it is another process of ours (`veilleuse-agent poll`) or a helper with more
rights; who reads it is the resident, which cannot be stopped by a BMC that does not answer. Readings carry the boot-time at
which they were made: a new value counts once, an old one not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from veilleuse.agent.model import EnergyCounter, GpuBusyReading, Point, PowerGauge, Reading
from veilleuse.wire.vocabulary import Boundary, PointKind

VERSION: Final = 1
LARGEST_BYTES: Final = 256 * 1024


class Published(NamedTuple):
    """One reading, and when it was made."""

    reading: Reading
    """EnergyCounter, PowerGauge or GpuBusyReading."""
    boottime_milliseconds: int
    every_milliseconds: int
    """How long until the next one of this source is due."""


class Outcome(NamedTuple):
    """How one source of the writer fares."""

    name: str
    """The source's, followed by the meter's where there are several: `snmp_meter rack-a`."""
    word: str
    """ok, failed, or as SourceUnavailable has it."""
    reason: str = ""
    remedy: str = ""


class Publication(NamedTuple):
    """What the file says."""

    readings: tuple[Published, ...]
    points: tuple[Point, ...]
    """All that the sources offer, readable now or not."""
    outcomes: tuple[Outcome, ...]


def publish(path: Path, publication: Publication, *, mode: int = 0o600) -> None:
    """Replace the file in one step; a reader sees the former or this one, whole. Raises OSError."""
    points = list(publication.points)
    text = json.dumps(
        {
            "version": VERSION,
            "points": [[p.kind, p.domain, p.boundary, p.subject] for p in points],
            "readings": [_to_plain(one, points) for one in publication.readings],
            "outcomes": [list(one) for one in publication.outcomes],
        },
        separators=(",", ":"),
    )
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    with open(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)
        file.write(text)
    fresh.replace(path)


def read_publication(path: str) -> Publication:
    """Inverse of `publish`. Raises OSError, or ValueError on anything that is not one."""
    with open(path, "rb") as file:
        text = file.read(LARGEST_BYTES + 1)
    if len(text) > LARGEST_BYTES:
        raise ValueError(f"{path} is larger than {LARGEST_BYTES} bytes")
    try:
        raw = json.loads(text)
        if raw["version"] != VERSION:
            raise ValueError(f"{path} is of version {raw['version']}, not {VERSION}: update both programs")
        points = tuple(Point(PointKind(k), str(d), Boundary(b), str(s)) for k, d, b, s in raw["points"])
        return Publication(
            tuple(_from_plain(one, points) for one in raw["readings"]),
            points,
            tuple(Outcome(*map(str, one)) for one in raw["outcomes"]),
        )
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"{path} is no publication: {error}") from error


def _to_plain(one: Published, points: Sequence[Point]) -> list[Any]:
    times = [one.boottime_milliseconds, one.every_milliseconds]
    reading = one.reading
    if isinstance(reading, EnergyCounter):
        counter = [reading.energy_microjoules, reading.range_microjoules, reading.ceiling_watts]
        return ["counter", *times, points.index(reading.point), *counter]
    if isinstance(reading, PowerGauge):
        return ["gauge", *times, points.index(reading.point), reading.power_milliwatts]
    if isinstance(reading, GpuBusyReading):
        return ["gpu_busy", *times, reading.busy_ratio]
    raise ValueError(f"cannot be published: {reading!r}")


def _from_plain(raw: list[Any], points: Sequence[Point]) -> Published:
    reading: Reading
    match raw:
        case [
            "counter",
            int(at),
            int(every),
            int(index),
            int(energy),
            int() | None as turn,
            int() | float() as ceiling,
        ]:
            reading = EnergyCounter(points[index], energy, turn, float(ceiling))
        case ["gauge", int(at), int(every), int(index), int(power)]:
            reading = PowerGauge(points[index], power)
        case ["gpu_busy", int(at), int(every), int() | float() as ratio]:
            reading = GpuBusyReading(float(ratio))
        case _:
            raise ValueError(f"not a reading: {raw!r}")
    return Published(reading, at, every)
