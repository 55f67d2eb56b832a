# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines results of the collector: sums per group, figures and rows, between account,
indicators and the outlets. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Final, TypeAlias

from veilleuse.collector.model.records import Grain, HostId
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State, Word

AUTRES: Final = "autres"
"""Name of the row of the groups too small to publish."""
SINCE_PUBLICATION: Final = "since_publication"
"""Level of the row with the difference between a year's total and the sum of its months' totals."""
OBSERVED: Final = "observed"
"""Basis of a row that sums observations of machines with an agent, without imputation or extrapolation."""
FULL_INTERVAL: Final = "95 %"
"""`interval` of a figure observed completely, or with a random sample."""
SAMPLE_INTERVAL: Final = "sample only"
"""`interval` of any other figure: it does not cover the selection of machines,
so its confidence level is not known.
"""
Ends: TypeAlias = tuple[float, float]
"""Lower and upper end."""
ON_STATES: Final = frozenset({State.ON_ACTIVE, State.ON_IDLE})
REST_STATES: Final = frozenset({State.ASLEEP, State.OFF})
KNOWN_STATES: Final = ON_STATES | REST_STATES
SCREEN_STANDBY_MICROWATTS: Final = 300_000
"""Standby power of an external screen, off or asleep: 0.3 W, docs/methodology.md §6."""


@dataclass(frozen=True, slots=True)
class GroupKey:
    """Key of a row. A dimension that was not requested is None."""

    period_from: date
    period_to: date
    """Exclusive."""
    zone: str
    """Grid zone: a row has one factor."""
    population: Population
    memo: bool
    """Virtual machines: their host has the energy, so they are in no total."""
    entity: str | None = None
    site: str | None = None
    device_class: str | None = None
    autres: bool = False
    """True for the row of the groups too small to publish; an entity may have that name itself."""


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


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Settings of the indicators."""

    out_of_hours_target_ratio: float = 0.05


@dataclass(frozen=True, slots=True)
class IndicatorMeta:
    """Metadata of an indicator."""

    indicator: str
    """I1, I2, I13."""
    name: str
    unit: str
    direction: str
    """"lower" or "higher" is better."""
    owner: str
    """Role that acts on it."""


@dataclass(frozen=True, slots=True)
class IndicatorFigure:
    """One indicator of one group."""

    value: float | None
    """None when its denominator is zero, or it is withheld: absent, never zero."""
    numerator_milliseconds: int | None
    """None when it is withheld, as the other two: a part of it has few machines."""
    denominator_milliseconds: int | None
    details: Mapping[str, float | int | str] = field(default_factory=dict)


GaugeParts: TypeAlias = tuple[Mapping[str, float], ...]
"""Gauge by gauge, value of the label that parts it ("" where none does) → amount, in kWh where the gauge is
in joules. What is not known
is absent."""


def known_part(value: float | str | None, label: str = "") -> dict[str, float]:
    """Return the only part of a gauge; none where its value is not known."""
    return {} if value is None else {label: float(value)}


@dataclass(frozen=True, slots=True)
class EmissionsRow:
    """One row of the yearly export: docs/methodology.md §10's columns, in its order.
    None = absent, never zero.
    """

    period_from: str
    period_to: str
    level: str
    """row, autres, memo or total; SINCE_PUBLICATION for the difference between a year's total and its
    months'.
    """
    n: int
    """Machines observed."""
    machine_days_observed: float | None
    """Days of 24 h with a known state; None for screens separate from their machines."""
    entity: str | None = None
    site: str | None = None
    zone: str | None = None
    """Grid zone; None for a total over several."""
    population: str | None = None
    device_class: str | None = None
    power_context: str | None = None
    """inventory.PowerContext; None for a total over several."""
    beges_item: str | None = None
    """Item of the BEGES (décret 2022-982) of the row's use phase, e.g.
    2.1; for a split row, of its combustion.
    """
    ghg_category: str | None = None
    """Scope of the GHG Protocol likewise, e.g. 2."""
    beges_item_upstream: str | None = None
    """Item of upstream, losses and the split's residual, where it differs, e.g.
    4.1; None: all goes to beges_item.
    """
    ghg_category_upstream: str | None = None
    """Scope of these likewise, e.g. 3.3."""
    n_fleet: int | None = None
    """docs/methodology.md §6's N: machines in service; without an inventory, enrolled ones."""
    machine_days_fleet: float | None = None
    days_observed: float | None = None
    """Days of the period that k of its machines cover (for servers, one); None for rooms."""
    coverage_states: float | None = None
    """Known state ÷ the fleet's time, 0 to 1; I13."""
    coverage_energy: float | None = None
    """Derived time ÷ the fleet's time."""
    representativeness: str | None = None
    """"demonstrated", "not demonstrated" or "census"."""
    energy_millijoules: int | None = None
    """Energy of the whole row: measured + modelled + imputed + extrapolated, exactly."""
    measured_millijoules: int | None = None
    """None, like all values by method, also when a part has fewer than k machines."""
    modelled_millijoules: int | None = None
    imputed_millijoules: int | None = None
    extrapolated_millijoules: int | None = None
    kwh_measured: float | None = None
    kwh_modelled: float | None = None
    kwh_imputed: float | None = None
    kwh_extrapolated: float | None = None
    kwh_total: float | None = None
    interval: str | None = None
    """FULL_INTERVAL: …_lo95 and …_hi95 are set; SAMPLE_INTERVAL: …_sample and …_sensitivity are."""
    kwh_lo95: float | None = None
    kwh_hi95: float | None = None
    kwh_lo_sample: float | None = None
    kwh_hi_sample: float | None = None
    kwh_lo_sensitivity: float | None = None
    """Bound where machines without measurement draw 1/1.5 to 1.5 times the mean of measured ones."""
    kwh_hi_sensitivity: float | None = None
    kwh_it: float | None = None
    kwh_ups_loss: float | None = None
    kwh_overhead: float | None = None
    overhead: str | None = None
    """"measured", "pue" or "not_included"."""
    pue: float | None = None
    factor_id: str | None = None
    factor_series: str | None = None
    factor_source: str | None = None
    factor_published: str | None = None
    factor_kgco2e_per_kwh: float | None = None
    provisional: bool | None = None
    kgco2e_total: float | None = None
    kgco2e_combustion: float | None = None
    kgco2e_upstream: float | None = None
    kgco2e_losses: float | None = None
    split_residual_kgco2e: float | None = None
    split_estimated: bool | None = None
    kgco2e_market: float | None = None
    """Market-based, from contracts that the user entered."""
    kgco2e_lo95: float | None = None
    kgco2e_hi95: float | None = None
    kgco2e_lo_sample: float | None = None
    kgco2e_hi_sample: float | None = None
    kgco2e_lo_sensitivity: float | None = None
    kgco2e_hi_sensitivity: float | None = None
    u_sampling: float | None = None
    u_model: float | None = None
    u_factor: float | None = None
    gsd2: float | None = None
    """None with a SAMPLE_INTERVAL."""
    pedigree: str | None = None
    """Scores of the activity data, as data/uncertainty_pedigree_abc.csv names them."""
    data_type: str | None = None
    """ABC: réelle, extrapolée, statistique or approchée."""
    method_mix: Mapping[str, float] | None = None
    """Method → share of the energy, with `imputed` and `extrapolated`."""
    imputed_share: float | None = None
    estimated: bool | None = None
    """True above 20 % imputed."""
    basis: str | None = None
    """For fleet figures: census (every machine measured), sample, or class_default (inventory-only classes).

    OBSERVED: not a fleet figure.
    """
    incomplete: bool | None = None
    """True for a total without the measured energy of a withheld zone;
    for an observed sum, some of whose machines are in `autres`.

    Otherwise None.
    """
    in_beges_energie: bool | None = None
    in_bilan_numerique: bool | None = None
    not_compared: str | None = None
    """Reason without a change from the year before: one of account.change.NoComparison."""
    days_observed_before: float | None = None
    """Covered days of the year before."""
    change_kwh: float | None = None
    """Change from the year before: the sum of the four effects."""
    change_margin_kwh: float | None = None
    """Half-width of its interval; each effect below has its own."""
    fleet_effect_kwh: float | None = None
    fleet_effect_margin_kwh: float | None = None
    mix_effect_kwh: float | None = None
    mix_effect_margin_kwh: float | None = None
    hours_effect_kwh: float | None = None
    hours_effect_margin_kwh: float | None = None
    watts_effect_kwh: float | None = None
    watts_effect_margin_kwh: float | None = None
    factor_effect_kgco2e: float | None = None
    top_down_kwh: float | None = None
    apportioned: bool | None = None
    report_id: str | None = None
    revision: int | None = None
    state: str | None = None
    """open, closed_provisional or closed_definitive."""
    as_published_kgco2e: float | None = None
    data: str | None = None
    """real or simulated."""
    method_version: str | None = None
    sha256: str | None = None

    @property
    def kwh_interval(self) -> Ends | None:
        """Interval of the energy, of either kind."""
        return _ends(self.kwh_lo95, self.kwh_hi95) or _ends(self.kwh_lo_sample, self.kwh_hi_sample)

    @property
    def kgco2e_interval(self) -> Ends | None:
        """Interval of the emissions, of either kind."""
        return _ends(self.kgco2e_lo95, self.kgco2e_hi95) or _ends(
            self.kgco2e_lo_sample, self.kgco2e_hi_sample
        )

    @property
    def kwh_sensitivity(self) -> Ends | None:
        """Sensitivity of the energy; None where it has none."""
        return _ends(self.kwh_lo_sensitivity, self.kwh_hi_sensitivity)

    @property
    def kgco2e_sensitivity(self) -> Ends | None:
        """Sensitivity of the emissions; None where they have none."""
        return _ends(self.kgco2e_lo_sensitivity, self.kgco2e_hi_sensitivity)


@dataclass(frozen=True, slots=True)
class EmissionsStatement:
    """Rows with their factors, items and contracts."""

    rows: tuple[EmissionsRow, ...]
    totals: tuple[EmissionsRow, ...]
    """One per period; none without fleet rows."""
    memo: tuple[EmissionsRow, ...]
    factors: tuple[Mapping[str, str | float | int | bool], ...]
    withheld: tuple[Mapping[str, str], ...]
    """Zones with too few machines to publish in a period."""
    items: tuple[Mapping[str, str | float | bool], ...] = ()
    """kgCO2e of all rows of a period by item of the bilan carbone; they sum to the total's."""
    contracts: tuple[Mapping[str, str | float | bool], ...] = ()
    """Energy of a period covered by each contract."""
    homes: tuple[Mapping[str, str | float | bool], ...] = ()
    """Shares of laptops' energy at home that divided rows."""
    year: tuple[EmissionsRow, ...] = ()
    """In addition to all months of a year: its own total, and the difference from theirs."""


def _ends(low: float | None, high: float | None) -> Ends | None:
    return None if low is None or high is None else (low, high)


def _plus(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else one + other
