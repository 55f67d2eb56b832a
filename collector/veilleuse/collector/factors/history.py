# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Which version of a factor was in force when: the restatement log, and what was known on a day (pure)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from veilleuse.collector.model.factors import FactorStatus, FactorVersion
from veilleuse.collector.ports import Factor


@dataclass(frozen=True, slots=True)
class InForce:
    """One value of a factor and the time it ruled; half-open."""

    factor: Factor
    from_unix_milliseconds: int | None
    """None: since the product ships it."""
    until_unix_milliseconds: int | None
    """None: it still rules."""
    version: FactorVersion | None
    """Who imported it from what, and why; None: shipped."""


def end_of_day_unix_milliseconds(day: date) -> int:
    """First millisecond of the next day, UTC."""
    following = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    return round(following.timestamp() * 1000)


def in_force(versions: Iterable[FactorVersion], day: date | None = None) -> dict[str, FactorVersion]:
    """factor_id → the version in force at the end of a day, UTC (None: now); a withdrawn one is not.

    `versions` in the order they came.
    """
    end = None if day is None else end_of_day_unix_milliseconds(day)
    newest: dict[str, FactorVersion] = {}
    for one in versions:
        if end is None or one.imported_unix_milliseconds < end:
            newest[one.factor.factor_id] = one
    return {name: one for name, one in newest.items() if one.factor.status is not FactorStatus.WITHDRAWN}


def before_withdrawal(versions: Iterable[FactorVersion], factor_id: str) -> FactorVersion | None:
    """What ruled before the version in force, and would rule again without it; None: no imported one.

    A version that was withdrawn, and the copies that put others back, are passed over.
    """
    standing: list[FactorVersion] = []
    for one in versions:
        if one.factor.factor_id != factor_id:
            continue
        if one.factor.status is FactorStatus.WITHDRAWN:
            standing.clear()
        elif one.restores is not None:
            while standing and standing[-1].version != one.restores:
                standing.pop()
        else:
            standing.append(one)
    return standing[-2] if len(standing) > 1 else None


def known_on(shipped: Factor, day: date | None) -> bool:
    """Whether a shipped factor was published by then. One whose day of publication is not known always was."""
    if day is None:
        return True
    try:
        return date.fromisoformat(shipped.published) <= day
    except ValueError:
        return True


def history(shipped: Iterable[Factor], versions: Iterable[FactorVersion]) -> dict[str, tuple[InForce, ...]]:
    """factor_id → every value it ever had, oldest first. While an import is withdrawn, the shipped value rules again."""
    own = {factor.factor_id: factor for factor in shipped}
    of_name: defaultdict[str, list[FactorVersion]] = defaultdict(list)
    for one in versions:
        of_name[one.factor.factor_id].append(one)
    return {name: _of_one(own.get(name), of_name[name]) for name in sorted({*own, *of_name})}


def _of_one(shipped: Factor | None, versions: list[FactorVersion]) -> tuple[InForce, ...]:
    starts = [None, *(one.imported_unix_milliseconds for one in versions)]
    ends = [*(one.imported_unix_milliseconds for one in versions), None]
    found: list[InForce] = []
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        version = versions[place - 1] if place else None
        if version is not None and version.factor.status is not FactorStatus.WITHDRAWN:
            found.append(InForce(version.factor, start, end, version))
        elif shipped is not None:
            found.append(InForce(shipped, start, end, version))
    return tuple(found)
