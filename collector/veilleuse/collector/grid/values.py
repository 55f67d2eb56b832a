# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Grams and instants as publishers write them: numbers as texts, null or 0 for what is missing, times in any zone. Pure."""

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
    MILLIGRAMS_PER_GRAM,
    MINUTES,
    GridIntensity,
)
from veilleuse.wire.units import MILLISECONDS_PER_MINUTE

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FINEST: Final = min(MINUTES)


@dataclass(frozen=True, slots=True)
class GridValues:
    """What an answer or a file held."""

    values: tuple[GridIntensity, ...] = ()
    left: Counter[str] = field(default_factory=Counter)
    """Reason → rows without a value: missing (null or 0), future, conflicting (twice, and not the same), unreadable."""


class Unreadable(ValueError):
    """It is not what was asked for."""


def milligrams(value: Any) -> int | None:
    """mg/kWh of a number of grams, also as text; None for null, blank and 0, which mean missing. Raises Unreadable."""
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
    """Of an ISO 8601 instant. Raises Unreadable, also for one without an offset unless that is UTC there."""
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


def only_once(rows: Iterable[tuple[int, int | None]], left: Counter[str]) -> dict[int, int | None]:
    """Start → value, in order. An instant that comes twice with two values is missing: nobody knows which."""
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
    """Distance of the instants of one answer: the largest that all of them lie on. `otherwise`: of a lone one, or none.

    Raises Unreadable when it is no whole part of an hour.
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
    """Those whose time is over: what lies ahead is a forecast, and the running one is not whole."""
    for one in values:
        if one.end_unix_milliseconds <= now_unix_milliseconds:
            yield one
        else:
            left["future"] += 1
