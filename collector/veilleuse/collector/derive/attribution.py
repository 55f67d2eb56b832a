# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Attributes a server's energy to its services and guests (pure, integers only).
docs/attribution.md.

Each hour is attributed separately. Its energy while on is an idle part, which no workload causes, and a
dynamic part. The dynamic part is shared in proportion to the CPU time of that hour. This is a convention, not
a measurement: nothing meters a service.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from veilleuse.collector.derive.counters import ON_STATES, round_quotient
from veilleuse.collector.derive.loadmodel import rest_microwatts
from veilleuse.collector.derive.priors import MILLION
from veilleuse.collector.model.attribution import (
    Attribution,
    AttributionShare,
    HostHour,
    IdleBasis,
    IdlePower,
    Why,
)
from veilleuse.collector.model.hosts import MachineFacts
from veilleuse.collector.model.sums import EnergySums
from veilleuse.wire.ladder import Method
from veilleuse.wire.sums import apportion
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.vocabulary import State

OBSERVED_MILLISECONDS: Final = MILLISECONDS_PER_HOUR
"""Least on-idle time by one method to use its mean power as the machine's idle power: an hour, our choice."""
MODELLED: Final = frozenset({Method.LOAD_MODELLED, Method.CLASS_DEFAULT})
"""Methods of the load model: the idle power of such energy is the model's own."""
_REST: Final = ""
"""Key of the rest of the system, among the names of units."""


def attribution(hours: Sequence[HostHour], machine: MachineFacts) -> Attribution:
    """Attribute the energy of one machine's hours."""
    powers = idle_powers(hours, machine)
    sums = _Sums()
    for hour in hours:
        sums.add(hour, powers, machine)
    every = [(state, method, one) for hour in hours for (state, method), one in hour.energies.items()]
    return Attribution(
        energy_millijoules=sum(one.energy_millijoules for _, _, one in every),
        uncertainty_millijoules=sum(one.uncertainty_millijoules for _, _, one in every),
        not_on_millijoules=sum(one.energy_millijoules for state, _, one in every if state not in ON_STATES),
        idle=dict(sums.idle),
        units={
            name: AttributionShare(spent, sums.energies[name]) for name, spent in sums.spent.items() if name
        },
        rest=AttributionShare(sums.spent[_REST], sums.energies[_REST]),
        not_attributed={why: energy for why, energy in sums.lost.items() if energy},
        powers=powers,
        methods=_by_method((method, one) for _, method, one in every),
        on_milliseconds=sum(hour.on_milliseconds for hour in hours),
        derived_milliseconds=sum(one.milliseconds for state, _, one in every if state in ON_STATES),
        shared_milliseconds=sums.shared_milliseconds,
    )


class _Sums:
    """Sums over the hours."""

    def __init__(self) -> None:
        self.idle: Counter[tuple[Method, IdleBasis]] = Counter()
        self.spent: Counter[str] = Counter()
        """Unit, or _REST, → CPU ms."""
        self.energies: Counter[str] = Counter()
        """Unit, or _REST, → mJ."""
        self.lost: Counter[Why] = Counter()
        self.shared_milliseconds = 0

    def add(self, hour: HostHour, powers: Mapping[Method, IdlePower], machine: MachineFacts) -> None:
        """Add one hour: every millijoule of its time on has exactly one destination."""
        dynamic = 0
        for method, basis, at_rest, more in _split(hour, powers, machine):
            if basis is None:
                self.lost[Why.NO_IDLE_POWER] += more
            else:
                self.idle[method, basis] += at_rest
                dynamic += more
        weights = _weights(hour, machine)
        if isinstance(weights, Why):
            self.lost[weights] += dynamic
            return
        self.shared_milliseconds += hour.on_milliseconds
        parts = apportion(dynamic, list(weights.values()))
        for (name, spent), part in zip(weights.items(), parts, strict=True):
            self.spent[name] += spent
            self.energies[name] += part


def idle_powers(hours: Iterable[HostHour], machine: MachineFacts) -> dict[Method, IdlePower]:
    """Return the idle power of an on-active hour by method of its energy;
    a method is absent where it is not known.

    Measured energy: the mean power of the machine's on-idle time by the same method in the period, with at
    least an hour of it. Otherwise the load model's power at no load. Modelled energy: always the load model's
    power, which is part of the sum.
    """
    seen: dict[Method, EnergySums] = {}
    methods: set[Method] = set()
    for hour in hours:
        for (state, method), sums in hour.energies.items():
            methods |= {method} if state in ON_STATES else set()
            if state is State.ON_IDLE:
                seen[method] = seen.get(method, EnergySums()) + sums
    at_rest = rest_microwatts(machine, State.ON_ACTIVE)
    powers: dict[Method, IdlePower] = {}
    for method in sorted(methods):
        sums = seen.get(method, EnergySums())
        if method not in MODELLED and sums.milliseconds >= OBSERVED_MILLISECONDS:
            microwatts = round_quotient(sums.energy_millijoules * MILLION, sums.milliseconds)
            powers[method] = IdlePower(IdleBasis.OBSERVED, microwatts)
        elif at_rest is not None:
            powers[method] = IdlePower(IdleBasis.MODEL if method in MODELLED else IdleBasis.CLASS, at_rest)
    return powers


def _split(
    hour: HostHour, powers: Mapping[Method, IdlePower], machine: MachineFacts
) -> Iterable[tuple[Method, IdleBasis | None, int, int]]:
    """Yield (method, basis, idle mJ, dynamic mJ) of the hour's time on;
    basis None = the division is not known.
    """
    for (state, method), sums in hour.energies.items():
        if state not in ON_STATES:
            continue
        energy, power = sums.energy_millijoules, powers.get(method)
        if power is None:
            yield method, None, 0, energy
            continue
        microwatts: int | None = power.microwatts
        if state is State.ON_IDLE:
            # Observed: the mean of exactly this time. Variation around it is no workload.
            microwatts = None if power.basis is IdleBasis.OBSERVED else rest_microwatts(machine, state)
        at_rest = (
            energy if microwatts is None else min(energy, round_quotient(microwatts * sums.milliseconds))
        )
        yield method, power.basis, at_rest, energy - at_rest


def _weights(hour: HostHour, machine: MachineFacts) -> dict[str, int] | Why:
    """Return CPU ms of each unit and of the rest of the system, or the reason why they are not known."""
    if not hour.units:
        return Why.NO_UNITS
    if machine.cpu_count is None or 2 * hour.cpu_covered_milliseconds < hour.on_milliseconds:
        return Why.NO_LOAD
    units = sum(hour.units.values())
    busy = 0
    if hour.cpu_covered_milliseconds:
        # Missing load of a part of the hour is taken as that of the rest.
        product = hour.cpu_busy_milliseconds * machine.cpu_count * hour.on_milliseconds
        busy = round_quotient(product, hour.cpu_covered_milliseconds)
    # The scheduler counts units and timer samples count the whole: the units' sum may be larger.
    weights = {**hour.units, _REST: max(0, busy - units)}
    return weights if any(weights.values()) else Why.NO_WORK


def _by_method(energies: Iterable[tuple[Method, EnergySums]]) -> dict[Method, int]:
    found: Counter[Method] = Counter()
    for method, sums in energies:
        found[method] += sums.energy_millijoules
    return dict(found)
