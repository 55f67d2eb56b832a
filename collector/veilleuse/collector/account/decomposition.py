# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Decomposes the change of a figure between two periods into effects (pure, exact). docs/methodology.md §10.

E = M · Σ_c s_c · Σ_s h_cs · w_cs, with M the fleet's machine time and s_c each class's share of it. h_cs is
each state's share of the class's time, and w_cs the watts in that state. The effects are taken in that order,
each at the new values of the previous ones, so that they sum exactly to E1 − E0. The factor's effect, (F1 −
F0) · E1, is separate: it is in kgCO2e and is no saving.

E0 must be derived with E1's method and perimeter: the caller ensures that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

from veilleuse.collector.account.emissions import kwh
from veilleuse.wire.vocabulary import State


@dataclass(frozen=True, slots=True)
class ClassYear:
    """One device class over a period."""

    fleet_milliseconds: int
    """Machine time in service, ≥ 0."""
    energy_millijoules: int
    """Energy of the fleet with its extrapolated part, ≥ 0."""
    states: Mapping[State, tuple[int, int]] = field(default_factory=dict)
    """State → (milliseconds, millijoules) of the measured machines. Only shares and ratios are used, not
    sums. Time of unknown state is ignored.
    """


@dataclass(frozen=True, slots=True)
class Effects:
    """Effects in kWh, signed; they sum to the change."""

    fleet_kwh: Fraction
    """Effect of the number of machines, at the old mix of classes."""
    mix_kwh: Fraction
    """Effect of the mix of classes."""
    hours_kwh: Fraction
    """Effect of the share of time in each state."""
    watts_kwh: Fraction
    """Effect of the power in each state."""

    @property
    def total_kwh(self) -> Fraction:
        """E1 − E0."""
        return self.fleet_kwh + self.mix_kwh + self.hours_kwh + self.watts_kwh


@dataclass(frozen=True, slots=True)
class _Rates:
    """Rates of one class by state: shares of its time, and energy per millisecond.

    Σ share × rate = energy ÷ machine time.
    """

    shares: Mapping[State, Fraction]
    rates: Mapping[State, Fraction]

    @property
    def mean(self) -> Fraction:
        """Mean power, millijoules per millisecond."""
        return sum((share * self.rates[state] for state, share in self.shares.items()), Fraction(0))


def decompose(before: Mapping[str, ClassYear], after: Mapping[str, ClassYear]) -> Effects | None:
    """Compute the effects between two periods, class by class; None when either has no machine time."""
    time0 = sum(one.fleet_milliseconds for one in before.values())
    time1 = sum(one.fleet_milliseconds for one in after.values())
    if not time0 or not time1:
        return None
    old, new = _rates(before), _rates(after)
    fleet = mix = hours = watts = Fraction(0)
    for name in {**old, **new}:
        share0, share1 = _time(before, name), _time(after, name)
        # A class of only one period has no rates in the other: its effect is mix alone.
        rates0 = old.get(name) or new[name]
        rates1 = new.get(name) or rates0
        fleet += (time1 - time0) * Fraction(share0, time0) * rates0.mean
        mix += time1 * (Fraction(share1, time1) - Fraction(share0, time0)) * rates0.mean
        hours += share1 * (_at_old_watts(rates0, rates1) - rates0.mean)
        watts += share1 * (rates1.mean - _at_old_watts(rates0, rates1))
    return Effects(*(kwh(1) * effect for effect in (fleet, mix, hours, watts)))


def factor_effect_kgco2e(factor0: Decimal, factor1: Decimal, energy1_kwh: Fraction) -> Fraction:
    """Return (F1 − F0) · E1, kgCO2e; factors in kgCO2e/kWh."""
    return (Fraction(factor1) - Fraction(factor0)) * energy1_kwh


def _time(of: Mapping[str, ClassYear], name: str) -> int:
    return of[name].fleet_milliseconds if name in of else 0


def _rates(of: Mapping[str, ClassYear]) -> dict[str, _Rates]:
    """Return the rates of the classes that have machine time."""
    return {name: _rates_of(one) for name, one in of.items() if one.fleet_milliseconds}


def _rates_of(one: ClassYear) -> _Rates:
    mean = Fraction(one.energy_millijoules, one.fleet_milliseconds)
    seen = {state: pair for state, pair in one.states.items() if pair[0] and state is not State.UNKNOWN}
    time = sum(milliseconds for milliseconds, _ in seen.values())
    energy = sum(millijoules for _, millijoules in seen.values())
    if not energy:  # no measured energy by state: one state for all
        return _Rates({State.UNKNOWN: Fraction(1)}, {State.UNKNOWN: mean})
    # The fleet's mean differs from the sample's by the weights of day types; the difference counts as watts.
    scale = mean / Fraction(energy, time)
    return _Rates(
        {state: Fraction(milliseconds, time) for state, (milliseconds, _) in seen.items()},
        {state: scale * Fraction(*reversed(pair)) for state, pair in seen.items()},
    )


def _at_old_watts(old: _Rates, new: _Rates) -> Fraction:
    """Return the mean power of the new time shares at the old watts; a new state counts at its own watts."""
    return sum(
        (share * old.rates.get(state, new.rates[state]) for state, share in new.shares.items()), Fraction(0)
    )
