# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes market-based emissions: covered energy at the contracts' factors,
the rest at the grid's (pure). docs/methodology.md §8.

GHG Protocol, Scope 2 Guidance (2015), requires the residual mix where no contract covers. No residual mix is
in our tables, so the location factor replaces it, and the result says so. Fractions: covered + rest = the
energy, exactly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction
from itertools import pairwise
from typing import TypeAlias

from veilleuse.collector.model.factors import Contract, Factor
from veilleuse.collector.model.inventory import ENTITY_SEPARATOR
from veilleuse.collector.model.query import is_within

_Days: TypeAlias = tuple[date, date]
"""[first, end)."""


@dataclass(frozen=True, slots=True)
class Consumption:
    """Energy of one place over one period."""

    entity: str
    site: str
    period_from: date
    period_to: date
    """Exclusive."""
    kwh: Fraction
    factor: Factor
    """Factor of the location, for energy without a contract."""
    bought: bool = True
    """False: somebody else buys the energy (home, host, lessor, college), so no contract of ours covers it.
    """


@dataclass(frozen=True, slots=True)
class MarketLine:
    """Market-based result of one consumption."""

    kwh_covered: Fraction
    kwh_rest: Fraction
    """Energy at the location's factor; covered + rest = the energy."""
    kgco2e_market: Fraction
    by_contract: tuple[tuple[int, Fraction], ...] = ()
    """(contract, covered kWh); they sum to `kwh_covered`."""

    @property
    def coverage(self) -> str:
        """contract (all energy is covered), mixed, or location (no energy is covered)."""
        if not self.by_contract:
            return "location"
        return "mixed" if self.kwh_rest else "contract"


@dataclass(slots=True)
class _Open:
    """Uncovered part of a consumption."""

    rests: list[Fraction]
    """Uncovered energy of each stretch between contract bounds, in order, kWh.
    Contracts of the same days do not cover it twice.
    """
    parts: dict[int, Fraction] = field(default_factory=dict)


def market(
    consumptions: Sequence[Consumption], contracts: Iterable[Contract]
) -> tuple[MarketLine, ...] | None:
    """Return one line per consumption, in order; None without a contract that meets any of them in time and
    place.

    A contract's kWh are even over its days, and so is the energy of a period. A contract gives a period the
    kWh of their common days, in proportion to the energy of the places it covers, and never twice. The
    narrowest contract gives first: site, then the deepest entity, then the lowest number. Surplus kWh of a
    contract are not used. Raises ValueError for periods that overlap without being equal.
    """
    known = {contract.contract_id: contract for contract in contracts}
    periods = _periods(consumptions)
    stretches = {period: _stretches(period, known.values()) for period in periods}
    opened = [_uncovered(one, stretches[one.period_from, one.period_to]) for one in consumptions]
    met = False
    for contract in sorted(known.values(), key=_narrowest_first):
        for period, places in periods.items():
            common = [place for place, part in enumerate(stretches[period]) if _common_days(contract, part)]
            mine = [opened[place] for place in places if _covers(contract, consumptions[place])]
            if common and mine:
                met = True
                _give(contract, _common_days(contract, period), common, mine)
    if not met:
        return None
    return tuple(_line(one, state, known) for one, state in zip(consumptions, opened, strict=True))


def _stretches(period: _Days, contracts: Iterable[Contract]) -> list[_Days]:
    """Cut a period where a contract begins or ends."""
    bounds = {day for one in contracts for day in (one.valid_from, one.valid_to)}
    return list(pairwise(sorted({*period, *(day for day in bounds if period[0] < day < period[1])})))


def _uncovered(one: Consumption, stretches: Sequence[_Days]) -> _Open:
    whole = (one.period_to - one.period_from).days
    return _Open([one.kwh * Fraction((end - start).days, whole) for start, end in stretches])


def _give(contract: Contract, days: int, common: Sequence[int], states: Sequence[_Open]) -> None:
    """Spread a contract's kWh of `days` days of one period over the uncovered energy of its stretches."""
    available = Fraction(contract.kwh) * Fraction(days, (contract.valid_to - contract.valid_from).days)
    wants = [sum((state.rests[place] for place in common), Fraction(0)) for state in states]
    wanted = sum(wants, Fraction(0))
    if not wanted or not available:
        return
    ratio = min(Fraction(1), available / wanted)
    for state, want in zip(states, wants, strict=True):
        if want:
            state.parts[contract.contract_id] = want * ratio
            for place in common:
                state.rests[place] *= 1 - ratio


def _line(one: Consumption, state: _Open, contracts: Mapping[int, Contract]) -> MarketLine:
    covered, rest = sum(state.parts.values(), Fraction(0)), sum(state.rests, Fraction(0))
    emitted = sum(
        (kwh * Fraction(contracts[number].factor_kgco2e_per_kwh) for number, kwh in state.parts.items()),
        rest * Fraction(one.factor.total_kgco2e_per_kwh),
    )
    return MarketLine(covered, rest, emitted, tuple(sorted(state.parts.items())))


def _periods(consumptions: Sequence[Consumption]) -> dict[_Days, list[int]]:
    found: defaultdict[_Days, list[int]] = defaultdict(list)
    for place, one in enumerate(consumptions):
        if one.kwh < 0 or one.period_to <= one.period_from:
            raise ValueError(f"a consumption of {one.kwh} kWh from {one.period_from} to {one.period_to}")
        found[one.period_from, one.period_to].append(place)
    ordered = sorted(found)
    for (_, end), (start, _) in pairwise(ordered):
        if start < end:
            raise ValueError(f"periods overlap at {start}: a contract would be counted twice")
    return dict(found)


def _common_days(contract: Contract, period: _Days) -> int:
    start, end = max(contract.valid_from, period[0]), min(contract.valid_to, period[1])
    return max(0, (end - start).days)


def may_cover(contract: Contract, one: Consumption) -> bool:
    """Return whether a contract with a site may be that of a consumption whose site is not known."""
    if not (contract.site and one.bought and not one.site):
        return False
    return _is_in_entity(contract, one) and _common_days(contract, (one.period_from, one.period_to)) > 0


def _covers(contract: Contract, one: Consumption) -> bool:
    is_there = not contract.site or contract.site == one.site
    return one.bought and is_there and _is_in_entity(contract, one)


def _is_in_entity(contract: Contract, one: Consumption) -> bool:
    return not contract.entity or is_within(one.entity, (contract.entity,))


def _narrowest_first(contract: Contract) -> tuple[bool, int, int]:
    depth = len(contract.entity.split(ENTITY_SEPARATOR)) if contract.entity else 0
    return (not contract.site, -depth, contract.contract_id)
