# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads Electricity Maps v3, an optional connector: its token, and its answers.

Its values may not be redistributed.

`/v3/carbon-intensity/history?zone=FR` (header `auth-token`): `{zone, history: [{zone, carbonIntensity,
datetime, …, isEstimated}]}`, the last 24 hours, hourly; `/latest` is one such row. Values are life-cycle
intensity of consumption. docs/indicative.md; samples of pluginsGLPI/carbon@cdca124.
"""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from veilleuse.collector.grid.values import (
    GridValues,
    Unreadable,
    current,
    merge_duplicates,
    milligrams,
    step_minutes,
    unix_milliseconds,
)
from veilleuse.collector.http_client import FetchError
from veilleuse.collector.model.grid import ELECTRICITY_MAPS, GridIntensity, IntensityKind, IntensityStatus
from veilleuse.wire.files import TooLong, is_secret, read_with_status

DATASET: Final = "electricity-maps-v3"
TOKEN_HEADER: Final = "auth-token"
_HOUR_MINUTES: Final = 60
_TOKEN_BYTES: Final = 4096


def read_token(path: str) -> str:
    """Read a token from a file that only its owner can read. Raises FetchError, not_configured."""
    try:
        raw, found = read_with_status(Path(path), _TOKEN_BYTES)
    except TooLong as error:
        why = f"{path} does not hold a token: {error.strerror}"
        raise FetchError("not_configured", why) from error
    except OSError as error:
        raise FetchError("not_configured", f"cannot read {path}: {error.strerror or error}") from error
    if not is_secret(found):
        mode = stat.S_IMODE(found.st_mode)
        raise FetchError(
            "not_configured", f"{path} has mode {mode:04o}: others can read it; chmod 600 {path}"
        )
    token = raw.strip().decode("ascii", "replace")
    if not token or not token.isprintable() or " " in token or "\ufffd" in token:
        raise FetchError("not_configured", f"{path} does not hold a token: one line of ASCII, without spaces")
    return token


def history_path(zone: str) -> str:
    """Return the path of the last 24 hours: one call where `latest` needs 24, and a missed poll loses
    nothing.
    """
    return f"/v3/carbon-intensity/history?{urlencode({'zone': zone})}"


def read(zone: str, answer: Any, now_unix_milliseconds: int) -> GridValues:
    """Return the values of an answer of `history` or `latest`.

    Raises Unreadable, also for another zone than asked.
    """
    if not isinstance(answer, dict) or answer.get("zone") != zone:
        raise Unreadable(f"it is no answer of Electricity Maps v3 about {zone}")
    rows = answer.get("history", [answer] if "carbonIntensity" in answer else None)
    if not isinstance(rows, list):
        raise Unreadable("an answer without carbonIntensity")
    left: Counter[str] = Counter()
    by_status: dict[IntensityStatus, list[tuple[int, int | None]]] = {}
    for status, start, value in _cells(zone, rows, left):
        by_status.setdefault(status, []).append((start, value))
    if rows and not by_status:
        raise Unreadable("no row has datetime, carbonIntensity and isEstimated")
    step = step_minutes((start for each in by_status.values() for start, _ in each), _HOUR_MINUTES)
    values: list[GridIntensity] = []
    for status, raw in by_status.items():
        found = merge_duplicates(raw, left)
        left["missing"] += sum(value is None for value in found.values())
        values += (
            GridIntensity(
                zone,
                ELECTRICITY_MAPS,
                DATASET,
                IntensityKind.CONSUMPTION,
                status,
                start,
                step,
                value,
            )
            for start, value in found.items()
            if value is not None
        )
    left["missing"] -= left["conflicting"]
    ended = sorted(
        current(values, now_unix_milliseconds, left),
        key=lambda one: (one.start_unix_milliseconds, one.status.rank),
    )
    return GridValues(tuple(ended), left)


def _cells(
    zone: str, rows: list[Any], left: Counter[str]
) -> Iterator[tuple[IntensityStatus, int, int | None]]:
    for row in rows:
        try:
            if not isinstance(row, dict) or row.get("zone", zone) != zone:
                raise Unreadable("no row of the zone")
            estimated = row["isEstimated"]
            if not isinstance(estimated, bool):
                raise Unreadable("isEstimated is neither true nor false")
            start = unix_milliseconds(row["datetime"], naive_is_utc=False)
            status = IntensityStatus.ESTIMATED if estimated else IntensityStatus.REALTIME
            yield status, start, milligrams(row["carbonIntensity"])
        except (KeyError, Unreadable):
            left["unreadable"] += 1
