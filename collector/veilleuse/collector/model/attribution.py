# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines inputs and results of attribution, between the store, derive and the report:
docs/attribution.md. No I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from veilleuse.collector.model.sums import EnergySums
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import State, Word


@dataclass(frozen=True, slots=True)
class HostHour:
    """One UTC hour of one machine: its energy, and the CPU time of its units."""

    start: int
    """Unix milliseconds."""
    energies: Mapping[tuple[State, Method], EnergySums] = field(default_factory=dict)
    """Derived energy, over all bands and supplies."""
    on_milliseconds: int = 0
    """Time on, with or without derived energy."""
    cpu_covered_milliseconds: int = 0
    """Part of it with a known load."""
    cpu_busy_milliseconds: int = 0
    """All processors together count as one: 0 to `cpu_covered_milliseconds`."""
    units: Mapping[str, int] = field(default_factory=dict)
    """Unit or guest → CPU ms, each processor counted; empty = no report, which is not zero."""


class IdleBasis(Word):
    """Source of an idle power."""

    OBSERVED = "observed"
    """Machine's own mean power while on-idle."""
    MODEL = "model"
    """The load model at no load; the energy is that model's too."""
    CLASS = "class"
    """The load model at no load for measured energy: the machine was not on-idle for long enough."""


class Why(Word):
    """Reason why a dynamic part is not attributed."""

    NO_UNITS = "no_units"
    """No unit reported CPU time in that hour."""
    NO_LOAD = "no_load"
    """The load is unknown for half of the hour's time on, or the number of processors is unknown.

    The CPU time outside the units is then not known.
    """
    NO_IDLE_POWER = "no_idle_power"
    """The machine's power without load is not known."""
    NO_WORK = "no_work"
    """No CPU time at all with energy above the idle part."""


@dataclass(frozen=True, slots=True)
class IdlePower:
    """Power of a machine on, without load."""

    basis: IdleBasis
    microwatts: int


@dataclass(frozen=True, slots=True)
class AttributionShare:
    """Part of the dynamic energy of one unit, one guest, or the rest of the system."""

    cpu_milliseconds: int
    """CPU time in the attributed hours."""
    energy_millijoules: int


@dataclass(frozen=True, slots=True)
class Attribution:
    """One machine over a period.

    `energy_millijoules` = not_on + Σ idle + Σ units + rest + Σ not_attributed, exactly.
    """

    energy_millijoules: int
    uncertainty_millijoules: int
    """k = 1, of the whole; the uncertainty that sharing adds is not known."""
    not_on_millijoules: int
    """Energy while off, asleep or unknown."""
    idle: Mapping[tuple[Method, IdleBasis], int]
    units: Mapping[str, AttributionShare]
    """Services, guests, `unit:containers`; `unit:other` = too small, too many, or without a distinct name."""
    rest: AttributionShare
    """CPU time outside units: the kernel, sessions, processes outside the services."""
    not_attributed: Mapping[Why, int]
    powers: Mapping[Method, IdlePower]
    """Idle power while on-active."""
    methods: Mapping[Method, int]
    """mJ of the whole, by method."""
    on_milliseconds: int
    derived_milliseconds: int
    """Part of `on_milliseconds` with an energy."""
    shared_milliseconds: int
    """Part of `on_milliseconds` in hours whose dynamic part was attributed, or was zero."""
