# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Compares an import with the factors in force (pure), and converts a factor to JSON for the way to the
collector.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.factors import COMPONENTS, Factor, FactorBasis, FactorStatus, FactorVersion
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

MAXIMUM_FACTORS: Final = 1_000
"""Factors in one import: some 15 zones and 30 years, with a margin."""
_MAXIMUM_KGCO2E_PER_KWH: Final = 3
_TEXTS: Final = ("factor_id", "zone", "series", "source", "published", "licence", "element_id")
_TEXT_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True)
class FactorChange:
    """One factor of an import, compared with the one in force."""

    kind: str
    """new; confirmed (as shipped); restated (another value, uncertainty, split or origin); archived; same."""
    factor: Factor
    before: Factor | None


def changes(
    brought: Iterable[Factor], shipped: Mapping[str, Factor], current: Mapping[str, FactorVersion]
) -> tuple[FactorChange, ...]:
    """Compare each factor with the version in force, else the shipped one. `same` is not to be written.

    An archived factor enters only where it is in force: it still serves its own year.
    """
    return tuple(_change(factor, shipped, current) for factor in brought)


def _change(
    factor: Factor, shipped: Mapping[str, Factor], current: Mapping[str, FactorVersion]
) -> FactorChange:
    version = current.get(factor.factor_id)
    before = version.factor if version is not None else shipped.get(factor.factor_id)
    if factor.status is FactorStatus.ARCHIVED and (version is None or version.factor.status is factor.status):
        return FactorChange("same", factor, before)
    if before is None:
        return FactorChange("new", factor, None)
    if version is not None and replace(before, version=0) == factor:
        return FactorChange("same", factor, before)
    if _figures(before) != _figures(factor):
        return FactorChange("restated", factor, before)
    if factor.status is FactorStatus.ARCHIVED:
        return FactorChange("archived", factor, before)
    return FactorChange("confirmed" if version is None else "restated", factor, before)


def _figures(factor: Factor) -> tuple[object, ...]:
    """Return the fields that change a number of a report."""
    return (
        factor.total_kgco2e_per_kwh,
        factor.components,
        factor.estimated_shares,
        factor.uncertainty_percent,
        factor.series,
        factor.valid_from,
        factor.valid_to,
    )


def factor_document(factor: Factor) -> dict[str, Any]:
    """Convert a factor to JSON: decimals and dates as text."""
    return {
        **{name: getattr(factor, name) for name in _TEXTS},
        "valid_from": factor.valid_from.isoformat(),
        "valid_to": factor.valid_to.isoformat(),
        "total_kgco2e_per_kwh": str(factor.total_kgco2e_per_kwh),
        "components": {name: str(value) for name, value in factor.components},
        "estimated_shares": {name: str(value) for name, value in factor.estimated_shares},
        "uncertainty_percent": str(factor.uncertainty_percent),
        "uncertainty_inherited": factor.uncertainty_inherited,
        "basis": factor.basis.value,
        "status": factor.status.value,
        **({"accessed": factor.accessed} if factor.accessed else {}),
    }


def factor_from_document(document: Mapping[str, Any]) -> Factor:
    """Build the factor of `factor_document`.

    Raises UsageError for a value out of range, without licence or source.
    """
    try:
        factor = Factor(
            factor_id=_text(document["factor_id"]),
            zone=_text(document["zone"]),
            series=_text(document["series"]),
            source=_text(document["source"]),
            published=_text(document["published"]),
            licence=_text(document["licence"]),
            element_id=_text(document["element_id"]),
            accessed=_text(document.get("accessed", "")),
            valid_from=date.fromisoformat(document["valid_from"]),
            valid_to=date.fromisoformat(document["valid_to"]),
            total_kgco2e_per_kwh=_amount(document["total_kgco2e_per_kwh"]),
            components=_parts(document["components"]),
            estimated_shares=_parts(document["estimated_shares"]),
            uncertainty_percent=_amount(document["uncertainty_percent"]),
            uncertainty_inherited=document["uncertainty_inherited"] is True,
            basis=FactorBasis(document["basis"]),
            status=FactorStatus(document["status"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, InvalidOperation) as error:
        raise UsageError(f"no factor: {error}") from error
    if not factor.licence.strip() or not factor.source.strip():
        raise UsageError(f"factor {factor.factor_id} has no licence or no source: it is not loaded")
    if not 0 < factor.total_kgco2e_per_kwh <= _MAXIMUM_KGCO2E_PER_KWH or not factor.factor_id:
        raise UsageError(f"factor '{factor.factor_id}' of {factor.total_kgco2e_per_kwh} kgCO2e/kWh")
    if not 0 < factor.uncertainty_percent <= 200 or factor.valid_to < factor.valid_from:
        raise UsageError(f"factor {factor.factor_id}: its uncertainty or its validity cannot be")
    return factor


def _parts(document: Mapping[str, Any]) -> tuple[tuple[str, Decimal], ...]:
    if not document:
        return ()
    if set(document) != set(COMPONENTS):
        raise ValueError(f"components {', '.join(document)}")
    return tuple((name, _amount(document[name])) for name in COMPONENTS)


def _amount(text: Any) -> Decimal:
    value = Decimal(text)
    if not isinstance(text, str) or not value.is_finite() or value < 0:
        raise ValueError(f"'{text}' is not an amount")
    return value


def _text(text: Any) -> str:
    if not isinstance(text, str) or len(text) > _TEXT_CHARACTERS or not text.isprintable():
        raise ValueError("a text that is none, too long or not printable")
    return text


@dataclass(frozen=True, slots=True)
class InForce:
    """One value of a factor and the half-open time in which it was in force."""

    factor: Factor
    from_unix_milliseconds: int | None
    """None: since the product ships it."""
    until_unix_milliseconds: int | None
    """None: still in force."""
    version: FactorVersion | None
    """The import, with who, from what and why; None: shipped."""


def end_of_day_unix_milliseconds(day: date) -> int:
    """Return the first millisecond of the next day, UTC."""
    following = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    return round(following.timestamp() * MILLISECONDS_PER_SECOND)


def in_force(versions: Iterable[FactorVersion], day: date | None = None) -> dict[str, FactorVersion]:
    """Return factor_id → the version in force at the end of a day in UTC (None: now), without withdrawn ones.

    `versions` in the order of import.
    """
    end = None if day is None else end_of_day_unix_milliseconds(day)
    newest: dict[str, FactorVersion] = {}
    for one in versions:
        if end is None or one.imported_unix_milliseconds < end:
            newest[one.factor.factor_id] = one
    return {name: one for name, one in newest.items() if one.factor.status is not FactorStatus.WITHDRAWN}


def before_withdrawal(versions: Iterable[FactorVersion], factor_id: str) -> FactorVersion | None:
    """Return the version that would be in force without the present one; None: no imported one.

    Withdrawn versions, and copies that restore others, are skipped.
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
    """Tell whether a shipped factor was published by then. Without a known day of publication, always."""
    if day is None:
        return True
    try:
        return date.fromisoformat(shipped.published) <= day
    except ValueError:
        return True


def history(shipped: Iterable[Factor], versions: Iterable[FactorVersion]) -> dict[str, tuple[InForce, ...]]:
    """Return factor_id → all its values, oldest first.

    After a withdrawal the shipped value is in force again.
    """
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
