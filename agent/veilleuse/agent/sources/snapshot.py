# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Passes readings from one process to another: for slow or heavy sources, and those that need more rights.

They are in one small JSON file, replaced as a whole. The writer is another process (`veilleuse-agent poll`)
or a privileged helper. The reader is the resident process, which a BMC that does not answer cannot block.
Each reading has the boot-time when it was made: a new value counts once, an old one is ignored.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from veilleuse.agent.model import EnergyCounter, Point, PowerGauge, Reading
from veilleuse.agent.platforms import here
from veilleuse.wire.files import TooLong, open_owned, read_with_status
from veilleuse.wire.limits import FACT_PATTERN
from veilleuse.wire.vocabulary import Boundary, PointKind

PUBLISHED_FILE: Final = "published.json"
"""Name below `paths.state`."""
EXIT_NOTHING: Final = 4
"""Exit code of a polling process that found nothing to read: its restart waits an hour, not seconds."""

VERSION: Final = 1
LARGEST_BYTES: Final = 256 * 1024
_OF_FORMER_HELPERS: Final = "gpu_busy"
"""A kind of reading that the powermetrics helper wrote up to 0.1, and writes until it is restarted."""
_LARGEST_INTEGER: Final = 2**63 - 1


class SnapshotReading(NamedTuple):
    """One reading with its time."""

    reading: Reading
    """EnergyCounter or PowerGauge."""
    boottime_milliseconds: int
    every_milliseconds: int
    """Time until the next reading of this source is due."""


class Outcome(NamedTuple):
    """Outcome of one source of the writer."""

    name: str
    """Name of the source, then the meter's when there are several: `snmp_meter rack-a`."""
    word: str
    """ok, failed, or a word of SourceUnavailable."""
    reason: str = ""
    remedy: str = ""
    successes: int = 0
    """Successful reads since the writer started."""
    failures: int = 0


class Publication(NamedTuple):
    """Content of the file."""

    readings: tuple[SnapshotReading, ...]
    points: tuple[Point, ...]
    """All points of the sources, readable now or not."""
    outcomes: tuple[Outcome, ...]
    boot_id: str = ""
    """Boot id of the times; empty = unknown. It never leaves the machine."""
    not_counted: tuple[tuple[str, str], ...] = ()
    """(name, why) of sensors that the writer found and does not count: for `doctor`."""


def is_publishable(reading: Reading) -> bool:
    """Tell whether `read_publication` accepts the reading: one refused value refuses the whole file."""
    if isinstance(reading, EnergyCounter):
        turn = reading.range_microjoules
        wholes = (reading.energy_microjoules, 0 if turn is None else turn)
        return all(map(_is_whole, wholes)) and 0 < reading.ceiling_watts < float("inf")
    return isinstance(reading, PowerGauge) and _is_whole(reading.power_milliwatts)


def publish(path: Path, publication: Publication, *, mode: int = 0o600) -> None:
    """Replace the file in one step, so that a reader sees the old or the new one, complete.

    Raises OSError.
    """
    points = list(publication.points)
    text = json.dumps(
        {
            "version": VERSION,
            "points": [[p.kind, p.domain, p.boundary, p.subject] for p in points],
            "readings": [_to_plain(one, points) for one in publication.readings],
            "outcomes": [list(one) for one in publication.outcomes],
            "boot": publication.boot_id,
            "not_counted": publication.not_counted,
        },
        separators=(",", ":"),
    )
    fresh = path.with_name(f".{path.name}.new")
    descriptor = open_owned(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        if hasattr(os, "fchmod"):  # missing on Windows before 3.13
            os.fchmod(descriptor, mode)
        file.write(text)
    here.replace(fresh, path)


def read_publication(path: str) -> Publication:
    """Inverse of `publish`. Raises OSError, or ValueError on anything else."""
    try:
        text, _ = read_with_status(Path(path), LARGEST_BYTES, regular=True)
    except TooLong as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    try:
        raw = json.loads(text)
        if raw["version"] != VERSION:
            raise ValueError(f"it is of version {raw['version']}, not {VERSION}: update both programs")
        points = tuple(_point(*one) for one in raw["points"])
        return Publication(
            tuple(_from_plain(one, points) for one in raw["readings"] if one[:1] != [_OF_FORMER_HELPERS]),
            points,
            tuple(_outcome(*one) for one in raw["outcomes"]),
            str(raw.get("boot", "")),
            tuple((str(name), str(why)) for name, why in raw.get("not_counted", ())),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{path} is not a publication: {error}") from error


def _point(kind: str, domain: str, boundary: str, subject: str) -> Point:
    prefix, _, meter = subject.partition(":")
    named = subject == "machine" or (prefix == "meter" and FACT_PATTERN.fullmatch(meter))
    if not FACT_PATTERN.fullmatch(domain) or not named:
        raise ValueError(f"not a point: {domain!r} of {subject!r}")
    return Point(PointKind(kind), domain, Boundary(boundary), subject)


def _outcome(
    name: str, word: str, reason: str, remedy: str, successes: int = 0, failures: int = 0
) -> Outcome:
    return Outcome(str(name), str(word), str(reason), str(remedy), _whole(successes), _whole(failures))


def _to_plain(one: SnapshotReading, points: Sequence[Point]) -> list[Any]:
    times = [one.boottime_milliseconds, one.every_milliseconds]
    reading = one.reading
    if isinstance(reading, EnergyCounter):
        counter = [reading.energy_microjoules, reading.range_microjoules, reading.ceiling_watts]
        return ["counter", *times, points.index(reading.point), *counter]
    if isinstance(reading, PowerGauge):
        return ["gauge", *times, points.index(reading.point), reading.power_milliwatts]
    raise ValueError(f"cannot be published: {reading!r}")


def _from_plain(raw: list[Any], points: Sequence[Point]) -> SnapshotReading:
    reading: Reading
    match raw:
        case ["counter", at, every, index, energy, turn, int() | float() as ceiling]:
            around = None if turn is None else _whole(turn)
            reading = EnergyCounter(_of(points, index), _whole(energy), around, float(ceiling))
            if not 0 < reading.ceiling_watts < float("inf"):
                raise ValueError(f"not a reading: {raw!r}")
        case ["gauge", at, every, index, power]:
            reading = PowerGauge(_of(points, index), _whole(power))
        case _:
            raise ValueError(f"not a reading: {raw!r}")
    return SnapshotReading(reading, _whole(at), _whole(every))


def _of(points: Sequence[Point], index: object) -> Point:
    position = _whole(index)
    if position >= len(points):
        raise ValueError(f"there is no point {position}")
    return points[position]


def _whole(value: object) -> int:
    """Return an integer from 0 to 2^63 - 1. Raises ValueError: others would count backwards, or for ever."""
    if not isinstance(value, int) or not _is_whole(value):
        raise ValueError(f"not a whole number: {value!r}")
    return value


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST_INTEGER
