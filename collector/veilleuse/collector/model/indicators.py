# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What the sobriety indicators I3 to I12 are made of, and what they say. docs/methodology.md §12. No I/O.

I1, I2 and I13 are made of sums of groups (figures.GroupSums); these, of what each machine and each asset did or is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

from veilleuse.collector.model.inventory import Purchase, Retirement, ServerRole
from veilleuse.collector.model.months import IDLE_COLUMNS, METHOD_COLUMNS, PLACE, Vector
from veilleuse.collector.model.records import HostId
from veilleuse.wire.ladder import Method
from veilleuse.wire.limits import IDLE_RUN_EDGES_MINUTES
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State, Supply

Contributions: TypeAlias = Mapping[int, int]
"""Machine or asset → what it put into a figure, ≥ 0: what the rule of disclosure looks at."""
Detail: TypeAlias = "float | int | str"

PCS: Final = frozenset({Population.WORKSTATION, Population.CLASSROOM})
PC_CLASSES: Final = frozenset(
    {
        DeviceClass.LAPTOP.value,
        DeviceClass.MINI_PC.value,
        DeviceClass.SFF.value,
        DeviceClass.TOWER.value,
        DeviceClass.ALL_IN_ONE.value,
        DeviceClass.THIN_CLIENT.value,
    }
)
"""What a user works at; I12."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a figure is of. A dimension that was not asked for, or does not apply, is None."""

    period_from: date
    period_to: date
    """Exclusive."""
    entity: str | None = None
    site: str | None = None
    population: Population | None = None
    device_class: str | None = None
    memo: bool = False
    """Virtual machines."""
    autres: bool = False
    """The groups too small to be shown, together."""


class BandUse(NamedTuple):
    """What one machine did in one band of the timetable, over whole months. Milliseconds, millijoules."""

    on_active_milliseconds: int = 0
    on_idle_milliseconds: int = 0
    known_milliseconds: int = 0
    """Of all states but `unknown`."""
    on_active_millijoules: int = 0
    on_idle_millijoules: int = 0
    derived_milliseconds: int = 0
    derived_millijoules: int = 0
    derived_uncertainty_millijoules: int = 0
    beyond_15_minutes_milliseconds: int = 0
    beyond_30_minutes_milliseconds: int = 0
    beyond_60_minutes_milliseconds: int = 0
    """On-idle time in idle runs beyond their first minutes."""
    screens_milliseconds: int = 0
    """Display-milliseconds of external screens that were on."""
    screens_millijoules: int = 0
    window_millijoules: int = 0
    """Wall energy inside declared update windows, of all states."""

    def beyond(self, minutes: int) -> int:
        """One of the three; `minutes` is one of wire.limits.IDLE_RUN_EDGES_MINUTES. Raises ValueError."""
        place = IDLE_RUN_EDGES_MINUTES.index(minutes)
        return min(self.on_idle_milliseconds, self[_BEYOND + place])

    @property
    def on_milliseconds(self) -> int:
        """Active and idle."""
        return self.on_active_milliseconds + self.on_idle_milliseconds

    @property
    def on_millijoules(self) -> int:
        """The same of the energy: that of machines off or asleep is a model's, by class, and would hide the one that is used."""
        return self.on_active_millijoules + self.on_idle_millijoules


_BEYOND: Final = BandUse._fields.index("beyond_15_minutes_milliseconds")
NO_USE: Final = BandUse()


def added(one: BandUse, more: BandUse) -> BandUse:
    """Field by field."""
    return BandUse(*map(int.__add__, one, more))


def _places(state: State) -> list[int]:
    return [PLACE[f"{state}_{supply}_milliseconds"] for supply in Supply]


_STATES: Final = {state: _places(state) for state in State}
_KNOWN: Final = [place for state, places in _STATES.items() if state is not State.UNKNOWN for place in places]
_METHODS: Final = {
    what: [PLACE[f"{method}_{what}"] for method in Method]
    for what in ("milliseconds", "energy_millijoules", "uncertainty_millijoules")
}
assert len(METHOD_COLUMNS) == 3 * len(Method), "one triple of columns per method"


def use_of(vector: Vector) -> BandUse:
    """What a kept vector says of its band; imputed time and energy left out: docs/methodology.md §4, rule 4."""

    def total(places: Sequence[int]) -> int:
        return sum([vector[place] for place in places])

    time, energy, uncertainty = (total(places) for places in _METHODS.values())
    beyond_15, beyond_30, beyond_60 = (vector[PLACE[column]] for column in IDLE_COLUMNS)
    return BandUse(
        total(_STATES[State.ON_ACTIVE]),
        total(_STATES[State.ON_IDLE]),
        total(_KNOWN),
        vector[PLACE["on_active_energy_millijoules"]],
        vector[PLACE["on_idle_energy_millijoules"]],
        time,
        energy,
        uncertainty,
        beyond_15,
        beyond_30,
        beyond_60,
        vector[PLACE["screens_milliseconds"]],
        vector[PLACE["screens_energy_millijoules"]],
        vector[PLACE["update_window_energy_millijoules"]],
    )


class PowerPlan(NamedTuple):
    """Of a machine on mains, seconds; 0 = never, None = not known."""

    display_off_seconds: int | None
    sleep_seconds: int | None


UNKNOWN_PLAN: Final = PowerPlan(None, None)


class Load(NamedTuple):
    """How busy a server was while on, over its last days. Milliseconds; empty or 0 where nothing was measured."""

    window_milliseconds: int = 0
    """Length of the civil days asked, at the server's site."""
    known_milliseconds: int = 0
    """Of a known state in them."""
    on_milliseconds: int = 0
    cpu_covered_milliseconds: int = 0
    cpu_busy_milliseconds: int = 0
    cpu_buckets: tuple[int, ...] = ()
    """By wire.limits.CPU_BUCKET_EDGES_PERCENT."""
    memory_buckets: tuple[int, ...] = ()
    network_buckets: tuple[int, ...] = ()
    """Of others' traffic, by wire.limits.NETWORK_RATE_EDGES_BYTES_PER_SECOND."""
    any_core_busy_milliseconds: int | None = None
    """Some core ≥ 80 %."""


@dataclass(frozen=True, slots=True)
class IndicatorMachine:
    """One enrolled machine."""

    host_id: HostId
    label: str
    """Beginning of its agent id."""
    entity: str
    site: str
    population: Population
    device_class: DeviceClass
    power_plan: PowerPlan = UNKNOWN_PLAN
    off_microwatts: int | None = None
    """Off at the wall: calibrated for its model, else its class's."""
    sleep_microwatts: int | None = None
    bands: Mapping[Band, BandUse] = field(default_factory=dict)
    loads: Mapping[int, Load] = field(default_factory=dict)
    """Servers: days → load over the last so many days."""
    role: ServerRole | None = None
    observed_milliseconds: int = 0

    @property
    def is_virtual(self) -> bool:
        """A virtual machine: its host carries the energy."""
        return self.device_class is DeviceClass.VIRTUAL_MACHINE

    def use(self, *bands: Band) -> BandUse:
        """In these bands together."""
        whole = NO_USE
        for band in bands or tuple(Band):
            whole = added(whole, self.bands.get(band, NO_USE))
        return whole


@dataclass(frozen=True, slots=True)
class IndicatorDevice:
    """One asset in service on the last day of the period."""

    asset_id: int
    entity: str
    site: str
    population: Population | None
    device_class: str
    age_years: float | None
    """On that day; None: its date of service is not known."""
    displays: int | None = None
    """External screens that hang on it; None: not said."""


@dataclass(frozen=True, slots=True)
class Disposal:
    """Equipment retired, of one year N. I11."""

    year: int
    stock: int | None
    """Retired stock on 1 January N that counts; None: not entered."""
    retirements: tuple[Retirement, ...]
    """Of year N, all."""


class SiteEnergy(NamedTuple):
    """Of one site, over the machines that were there before an action and after it. I14. Millijoules."""

    site: str
    frozen_millijoules: int
    """Its energy per machine-day of before, by class and day type, times its machine-days of after."""
    actual_millijoules: int
    """After."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """An action, and what it is compared with. I14."""

    action_id: str
    what: str
    touched: tuple[SiteEnergy, ...]
    untouched: tuple[SiteEnergy, ...]
    weeks_before: float
    weeks_after: float
    machine_days: float
    """Of touched machines, after."""
    model_u: float
    """Relative standard uncertainty of the energies themselves, common to before and after."""
    touched_machines: Contributions
    """Of people, as those below: servers are nobody's."""
    untouched_machines: Contributions
    machines: int = 0
    """Touched ones, all."""
    renewals: int = 0
    """Machines of touched sites that came since: what they draw less is the renewal's."""
    renewals_millijoules: int = 0
    """Frozen - actual energy of these."""
    renewed_machines: Contributions = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SobrietyGroup:
    """What one row of figures is made of."""

    scope: Scope
    machines: tuple[IndicatorMachine, ...] = ()
    devices: tuple[IndicatorDevice, ...] = ()
    users: int | None = None
    """Headcount in force on the last day; None: nobody told."""
    purchases: tuple[Purchase, ...] = ()
    """Of `year`."""
    year: int | None = None
    """The civil year that the period is; None where it is none."""
    disposal: Disposal | None = None
    comparison: Comparison | None = None


@dataclass(frozen=True, slots=True)
class Targets:
    """The settings of the indicators: section [indicators]."""

    display_off_minutes: int = 15
    sleep_minutes: int = 30
    comatose_cpu_percent: int = 5
    comatose_network_bytes_per_second: int = 1_000
    underused_mean_cpu_ratio: float = 0.10
    underused_cpu_percent: int = 30
    oversized_cpu_percent: int = 20
    oversized_memory_percent: int = 40
    oversized_core_ratio: float = 0.01
    observed_ratio: float = 0.9
    lifetime_years: float = 8.0
    reused_purchases: tuple[tuple[str, int, float], ...] = ()
    """(legal category, from which year, share)."""
    reused_retirements_ratio: float = 0.5


class ServerVerdict(StrEnum):
    """Of a server, by I6."""

    COMATOSE = "comatose"
    """180 days."""
    SUSPECT = "suspect"
    """30 days: the owner is to confirm."""
    IN_SERVICE = "in_service"
    EXCLUDED = "excluded"
    """Its role may be idle: standby, batch, licence, backup."""
    NOT_JUDGED = "not_judged"
    """Not observed for long enough, or not on, or never measured."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One indicator of one group. None = not known, or withheld: never zero."""

    value: float | None
    n: int
    """Machines, assets or units it is about."""
    numerator: float | None = None
    denominator: float | None = None
    counted_in: str = "machines"
    """Unit of both."""
    details: Mapping[str, Detail] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    """95 %, where it can be told."""
    threshold: float | None = None
    """The target as set, in the indicator's unit; None when there is none."""
    withheld: bool = False
    behind: tuple[Contributions, ...] = ()
    """What stands behind the value: each must be nobody's, or of k at least."""
    behind_details: Mapping[str, Contributions] = field(default_factory=dict)
    """The same of details; those that are not here stand or fall with the value."""


def contributions(pairs: Iterable[tuple[IndicatorMachine, int]]) -> Contributions:
    """Machine by machine."""
    return {machine.host_id: amount for machine, amount in pairs}
