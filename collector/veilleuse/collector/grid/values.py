# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Parses publishers' grams and instants: numbers as text, null or 0 for missing, any time zone. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from math import gcd
from typing import Any, Final

from veilleuse.collector.model.grid import (
    HIGHEST_MILLIGRAMS_PER_KWH,
    MINUTES,
    GridIntensity,
)
from veilleuse.wire.units import MILLIGRAMS_PER_GRAM, MILLISECONDS_PER_MINUTE

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FINEST: Final = min(MINUTES)


@dataclass(frozen=True, slots=True)
class GridValues:
    """Values of an answer or a file."""

    values: tuple[GridIntensity, ...] = ()
    left: Counter[str] = field(default_factory=Counter)
    """Reason → rows without a value: missing (null or 0), future, conflicting (two values), unreadable."""


class Unreadable(ValueError):
    """An answer that is not the requested one."""


def milligrams(value: Any) -> int | None:
    """Convert grams, also as text, to mg/kWh; None for null, blank and 0, which mean missing.

    Raises Unreadable.
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise Unreadable(f"{value!r} is no intensity")
    try:
        grams = Decimal(str(value).strip())
    except InvalidOperation as error:
        raise Unreadable(f"{value!r} is no number") from error
    if not grams.is_finite() or not 0 <= grams <= HIGHEST_MILLIGRAMS_PER_KWH // MILLIGRAMS_PER_GRAM:
        raise Unreadable(f"{value} g/kWh is out of range")
    return int((grams * MILLIGRAMS_PER_GRAM).to_integral_value()) or None


def unix_milliseconds(value: Any, *, naive_is_utc: bool) -> int:
    """Convert an ISO 8601 instant. Raises Unreadable, also without an offset unless `naive_is_utc`."""
    if not isinstance(value, str):
        raise Unreadable(f"{value!r} is no instant")
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError as error:
        raise Unreadable(f"{value!r} is no instant") from error
    if moment.tzinfo is None:
        if not naive_is_utc:
            raise Unreadable(f"{value!r} does not say its time zone")
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def merge_duplicates(rows: Iterable[tuple[int, int | None]], left: Counter[str]) -> dict[int, int | None]:
    """Return start → value, in order. An instant with two values is missing: nobody knows which is right."""
    found: dict[int, int | None] = {}
    twice: set[int] = set()
    for start, value in rows:
        before = found.get(start)
        if before is not None and value is not None and before != value:
            twice.add(start)
        found[start] = value if before is None else before
    for start in twice:
        left["conflicting"] += 1
        found[start] = None
    return dict(sorted(found.items()))


def step_minutes(starts: Iterable[int], otherwise: int) -> int:
    """Return the step of the instants of one answer: the largest that fits all.

    `otherwise`: for one instant or none.

    Raises Unreadable when it does not divide an hour.
    """
    offsets = {start % (60 * MILLISECONDS_PER_MINUTE) for start in starts}
    if any(offset % (_FINEST * MILLISECONDS_PER_MINUTE) for offset in offsets):
        raise Unreadable("the instants lie on no 5 minutes of the hour")
    if len(offsets) < 2:
        return otherwise
    step = gcd(60, *(offset // MILLISECONDS_PER_MINUTE for offset in offsets))
    if step not in MINUTES:
        raise Unreadable(f"the instants are {step} min apart")
    return step


def current(
    values: Iterable[GridIntensity], now_unix_milliseconds: int, left: Counter[str]
) -> Iterator[GridIntensity]:
    """Keep values whose time is over: a later one is a forecast, and the present one is incomplete."""
    for one in values:
        if one.end_unix_milliseconds <= now_unix_milliseconds:
            yield one
        else:
            left["future"] += 1
