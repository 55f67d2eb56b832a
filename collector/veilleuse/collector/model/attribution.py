# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What attribution takes and gives, between the store, derive and the report: docs/attribution.md. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from veilleuse.collector.model.figures import EnergySums
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import State, Word


@dataclass(frozen=True, slots=True)
class HostHour:
    """One UTC hour of one machine: what it drew, and who used its processors."""

    start: int
    """Unix milliseconds."""
    energies: Mapping[tuple[State, Method], EnergySums] = field(default_factory=dict)
    """Derived energy, in whatever band and supply."""
    on_milliseconds: int = 0
    """Time on, with derived energy or not."""
    cpu_covered_milliseconds: int = 0
    """Of it, the time with a known load."""
    cpu_busy_milliseconds: int = 0
    """All processors together count as one: 0 to `cpu_covered_milliseconds`."""
    units: Mapping[str, int] = field(default_factory=dict)
    """Unit or guest → CPU ms, each processor for itself; empty = nobody told, which is not zero."""


class IdleBasis(Word):
    """Where an idle power comes from."""

    OBSERVED = "observed"
    """The machine's own mean power while it was on-idle."""
    MODEL = "model"
    """The load model at no load; the energy is that model's too."""
    CLASS = "class"
    """The same, for energy that was measured: the machine was never long enough on-idle to tell."""


class Why(Word):
    """Why a dynamic part is nobody's."""

    NO_UNITS = "no_units"
    """No CPU time of any unit was told in that hour."""
    NO_LOAD = "no_load"
    """The load is not known for half of the hour's time on, or the number of processors is not: what the units did not
    use cannot be told."""
    NO_IDLE_POWER = "no_idle_power"
    """What the machine draws without load is not known."""
    NO_WORK = "no_work"
    """No CPU time at all beside energy above the idle part."""


@dataclass(frozen=True, slots=True)
class IdlePower:
    """What a machine draws on, without load."""

    basis: IdleBasis
    microwatts: int


@dataclass(frozen=True, slots=True)
class AttributionShare:
    """What one unit, one guest, or the rest of the system has of the dynamic part."""

    cpu_milliseconds: int
    """In the hours that could be shared."""
    energy_millijoules: int


@dataclass(frozen=True, slots=True)
class Attribution:
    """One machine over a period. `energy_millijoules` = not_on + Σ idle + Σ units + rest + Σ not_attributed, exactly."""

    energy_millijoules: int
    uncertainty_millijoules: int
    """k = 1, of the whole; what sharing adds to it nobody knows."""
    not_on_millijoules: int
    """Off, asleep, unknown."""
    idle: Mapping[tuple[Method, IdleBasis], int]
    units: Mapping[str, AttributionShare]
    """Services, guests, `unit:containers`; `unit:other` = those too small, too many, or not to be told apart by name."""
    rest: AttributionShare
    """CPU time that no unit had: the kernel, sessions, what lives outside the services."""
    not_attributed: Mapping[Why, int]
    powers: Mapping[Method, IdlePower]
    """While on-active."""
    methods: Mapping[Method, int]
    """mJ of the whole, by how they are known."""
    on_milliseconds: int
    derived_milliseconds: int
    """Of them, those with an energy."""
    shared_milliseconds: int
    """Of them, those in hours whose dynamic part was shared, or was none."""
