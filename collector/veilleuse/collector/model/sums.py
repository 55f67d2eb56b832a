# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines sums of records, and the values derived from them.

Those of each record are NamedTuples, as in model.records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from veilleuse.collector.model.query import AUTRES, GroupKey
from veilleuse.collector.model.records import AgentId, Cell, Grain, HostId
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import (
    Band,
    DeviceClass,
    Population,
    State,
    Supply,
    Word,
)


class WallEnergy(NamedTuple):
    """Derived wall energy of one cell, or of the part that one method covers."""

    method: Method
    energy_millijoules: int
    uncertainty_millijoules: int
    """Standard uncertainty, k = 1. Errors of one machine's model are common to its cells,
    so it adds linearly.
    """
    milliseconds: int
    """Part of the cell of this method: parts of one cell have distinct methods and never overlap."""


class DirtyPeriod(NamedTuple):
    """A period to derive again."""

    host_id: HostId
    grain: Grain
    """HOUR, DAY or WEEK: the grain of its records."""
    start: int


class RecordCells(NamedTuple):
    """One stored record as derive sees it."""

    record_id: int
    first_time: bool
    """True until it has been derived once: only then does it advance the ledger."""
    cells: tuple[Cell, ...]


class DerivedCell(NamedTuple):
    """Derived energy of one key within a period."""

    band: Band
    state: State
    supply: Supply
    method: Method
    milliseconds: int
    energy_millijoules: int
    uncertainty_millijoules: int


class DerivedRecord(NamedTuple):
    """Energy of one record: the sum of its cells' integer millijoules; None when nothing could be derived."""

    record_id: int
    energy_millijoules: int | None


class LedgerEntry(NamedTuple):
    """An increment of the counters, as first derived."""

    org_entity: str
    site: str
    population: Population
    device_class: DeviceClass
    method: Method
    state: State
    factor_id: str
    factor_kgco2e_per_kwh: str
    """Decimal text, part of the key: a corrected factor never changes what was counted."""
    energy_millijoules: int


class PeriodResult(NamedTuple):
    """What derive writes of one period."""

    period: DirtyPeriod
    time_zone: str
    """Of the host's site: an hour counts in its civil day."""
    cells: Sequence[DerivedCell] = ()
    """Of distinct keys."""
    records: Sequence[DerivedRecord] = ()
    """All records that were read."""
    ledger: Sequence[LedgerEntry] = ()
    screens: Sequence[DerivedCell] = ()
    """Cells of external screens, in no sum of the machine."""
    has_hours: bool = False
    """True when the machine reports hours: its days are then their sums, and its own day records more."""


ON_STATES: Final = frozenset({State.ON_ACTIVE, State.ON_IDLE})
REST_STATES: Final = frozenset({State.ASLEEP, State.OFF})
KNOWN_STATES: Final = ON_STATES | REST_STATES


@dataclass(frozen=True, slots=True)
class StateSums:
    """Milliseconds of one band and state; None = never measured."""

    milliseconds: int = 0
    idle_beyond_15_minutes_milliseconds: int | None = None
    idle_beyond_30_minutes_milliseconds: int | None = None
    idle_beyond_60_minutes_milliseconds: int | None = None

    @property
    def values(self) -> tuple[int | None, ...]:
        """Values in the fields' order."""
        return (
            self.milliseconds,
            self.idle_beyond_15_minutes_milliseconds,
            self.idle_beyond_30_minutes_milliseconds,
            self.idle_beyond_60_minutes_milliseconds,
        )

    def __add__(self, other: StateSums) -> StateSums:
        """Add; a part stays absent only when neither measured it."""
        whole = self.milliseconds + other.milliseconds
        return StateSums(whole, *map(_plus, self.values[1:], other.values[1:]))

    def share(self, of: Callable[[int], int]) -> StateSums:
        """Return each value's share; a part never measured stays absent."""
        idle = (None if value is None else of(value) for value in self.values[1:])
        return StateSums(of(self.milliseconds), *idle)


@dataclass(frozen=True, slots=True)
class EnergySums:
    """Derived energy and its milliseconds."""

    milliseconds: int = 0
    energy_millijoules: int = 0
    uncertainty_millijoules: int = 0
    """k = 1, summed linearly: errors within one class and method are taken as common."""

    @property
    def values(self) -> tuple[int, int, int]:
        """Values in the fields' order."""
        return self.milliseconds, self.energy_millijoules, self.uncertainty_millijoules

    def __add__(self, other: EnergySums) -> EnergySums:
        """Sum."""
        return EnergySums(*(one + more for one, more in zip(self.values, other.values, strict=True)))

    def share(self, of: Callable[[int], int]) -> EnergySums:
        """Return each value's share."""
        return EnergySums(*map(of, self.values))


@dataclass(frozen=True, slots=True)
class BalanceRow:
    """R18 for one whole period of one machine, milliseconds ≥ 0:
    expected + excess = stored + gap + undated + unexplained.
    """

    host_id: HostId
    grain: Grain
    """DAY for servers and classroom PCs, WEEK for workstations."""
    start: int
    """Day number (date.toordinal) of the civil day, or of the Monday."""
    expected_milliseconds: int
    """Length of the period in the site's zone."""
    stored_milliseconds: int
    """Time of all states, `unknown` included: the agent reported it as unknown."""
    gap_milliseconds: int
    """Time of declared gaps with a known period."""
    undated_milliseconds: int
    """Missing time, explained by a later declared gap without a known date."""
    unexplained_milliseconds: int
    """Missing time without an explanation: 0, or data was lost silently."""
    excess_milliseconds: int
    """Time reported twice: after a clock was set back, or a machine was restored from a snapshot."""


class EnergyClass(Word):
    """Device classes without an agent: a machine or a meter measures their energy."""

    MONITOR = "monitor"
    """External screens, separate from their machine."""
    AUTRES = AUTRES
    """Several device classes that may not be separate."""


EnergyKey = tuple[DeviceClass | EnergyClass, Method, Band, State]


class Detail(StrEnum):
    """Part of a group's figures that may not be published where it or its complement has few machines."""

    METHODS = "methods"
    """Share of measured energy, and its methods."""
    USE = "use"
    """Time and energy on, separate from off and asleep."""
    OUTSIDE = "outside"
    """Time and energy outside opening hours."""
    IDLE = "idle"
    """Time and energy idle, separate from active."""
    ENERGIES = "energies"
    """Energy of any part: with its time and a model's watts the equations could be solved."""
    RUNS = "runs"
    """Lengths of idle runs."""
    NIGHTS = "nights"
    """Machine-nights on."""
    COVERAGE = "coverage"
    """Enrolled time, and so the unknown time."""
    DERIVED = "derived"
    """Share of the time with an energy."""


@dataclass(frozen=True, slots=True)
class GroupSums:
    """Sums of one group over its period."""

    hosts: int
    """Machines that contributed."""
    enrolled_milliseconds: int
    """Σ over machines of the enrolled part of the period, up to now."""
    states: Mapping[tuple[Band, State], StateSums] = field(default_factory=dict)
    energies: Mapping[EnergyKey, EnergySums] = field(default_factory=dict)
    nights: int | None = None
    """Machine-nights on for more than 4 h; None where nights are not counted (servers)."""
    nights_are: str | None = None
    """"evenings" (dated by the evening, hour grain) or "dates" (local dates, day grain)."""
    apportioned: bool = False
    """True when a week crosses the period's edge and was shared in proportion to the calendar's open time."""
    withheld: frozenset[Detail] = frozenset()
    """Parts of its figures that are not published.

    Values that may not be separate are under one band, state, class or method. Values that may not be
    published at all are absent.
    """
    incomplete: bool = False
    """True when machines of its entity or class are in `autres` instead."""

    def milliseconds(self, bands: frozenset[Band], states: frozenset[State]) -> int | None:
        """Return the milliseconds in these bands and states;
        None where they may not be separate from others.
        """
        if not self.separates(bands, states):
            return None
        return sum(
            sums.milliseconds
            for (band, state), sums in self.states.items()
            if band in bands and state in states
        )

    def millijoules(self, bands: frozenset[Band], states: frozenset[State]) -> int | None:
        """Return the energy in these bands and states; None where it may not be separate, or none is
        known.
        """
        found = [
            sums.energy_millijoules
            for (_, _, band, state), sums in self.energies.items()
            if band in bands and state in states
        ]
        part = len(bands) < len(Band) or not states >= KNOWN_STATES
        hidden = part and Detail.ENERGIES in self.withheld
        return sum(found) if found and self.separates(bands, states) and not hidden else None

    def separates(self, bands: frozenset[Band], states: frozenset[State]) -> bool:
        """Return whether these bands and states may be separate from the others."""
        return not (
            (0 < len(bands) < len(Band) and Detail.OUTSIDE in self.withheld)
            or (len(states & ON_STATES) == 1 and Detail.IDLE in self.withheld)
            or (0 < len(states & KNOWN_STATES) < len(KNOWN_STATES) and Detail.USE in self.withheld)
        )

    @property
    def observed_milliseconds(self) -> int:
        """Milliseconds of known state."""
        return sum(sums.milliseconds for (_, state), sums in self.states.items() if state in KNOWN_STATES)

    @property
    def derived_milliseconds(self) -> int:
        """Milliseconds of machines with known energy: a screen's time is no machine's."""
        return sum(
            sums.milliseconds
            for (device_class, *_), sums in self.energies.items()
            if device_class is not EnergyClass.MONITOR
        )


@dataclass(frozen=True, slots=True)
class Group:
    """A key and its sums."""

    key: GroupKey
    sums: GroupSums
    parts: tuple[GroupSums, ...] = ()
    """Sums of its months by what these withhold; empty where all withhold the same."""


# --- sums of servers, as each look shows them (/metrics, first page, `top`)


class ServerGroup(NamedTuple):
    """Labels of a group of servers, as text."""

    entity: str
    site: str
    population: str
    device_class: str


class GroupPower(NamedTuple):
    """Mean wall power of the servers of a group, each over its newest record."""

    servers: int
    """Servers with a recent record that has an energy; ≥ 1."""
    watts: float
    end_unix_milliseconds: int
    """End of the newest of these records."""


class ServerUse(NamedTuple):
    """One active server, and the sums of its civil day."""

    agent_id: AgentId
    group: ServerGroup
    watts: float | None
    """Mean wall power over its newest record; None without a recent record that has an energy: never 0."""
    last_contact_unix_milliseconds: int | None
    states: Mapping[State, int]
    """Milliseconds by state."""
    cpu_busy_milliseconds: int
    cpu_covered_milliseconds: int
    energy_millijoules: int | None
    """None when none was derived."""


def _plus(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else one + other
