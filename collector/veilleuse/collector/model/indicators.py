# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines inputs and results of the sobriety indicators I3 to I12. docs/methodology.md §12. No I/O.

I1, I2 and I13 use sums of groups (figures.GroupSums); these use each machine's and each asset's data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import reduce
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias

from veilleuse.collector.model.inventory import DeviceGroup, PowerContext, Purchase, Retirement, ServerRole
from veilleuse.collector.model.months import IDLE_COLUMNS, METHOD_COLUMNS, PLACE, Vector
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import GroupSums
from veilleuse.wire.limits import IDLE_RUN_EDGES_MINUTES
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State, Supply

Contributions: TypeAlias = Mapping[int, int]
"""Machine, or a number for an asset → its contribution to a figure, ≥ 0: the input of the disclosure rule."""
Detail: TypeAlias = "float | int | str"
Pair: TypeAlias = tuple[float, float]
"""(part, whole) of a ratio, of one machine."""

MILLISECONDS: Final = "milliseconds"
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
"""Classes of a user's main computer; I12."""


class BandUse(NamedTuple):
    """Use of one machine in one band of the timetable, over whole months. Milliseconds, millijoules."""

    on_active_milliseconds: int = 0
    on_idle_milliseconds: int = 0
    known_milliseconds: int = 0
    """Time of all states except `unknown`."""
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
        """Return one of the three; `minutes` is one of wire.limits.IDLE_RUN_EDGES_MINUTES.
        Raises ValueError.
        """
        place = IDLE_RUN_EDGES_MINUTES.index(minutes)
        return min(self.on_idle_milliseconds, self[_BEYOND + place])

    @property
    def on_milliseconds(self) -> int:
        """Time on, active and idle."""
        return self.on_active_milliseconds + self.on_idle_milliseconds

    @property
    def on_millijoules(self) -> int:
        """Energy while on. Energy while off or asleep comes from a model by class, and would hide the one
        machine in use.
        """
        return self.on_active_millijoules + self.on_idle_millijoules


_BEYOND: Final = BandUse._fields.index("beyond_15_minutes_milliseconds")
NO_USE: Final = BandUse()


def add_uses(one: BandUse, more: BandUse) -> BandUse:
    """Add field by field."""
    return BandUse(*map(int.__add__, one, more))


def _sum_of(columns: Iterable[str]) -> Callable[[Vector], int]:
    pick = itemgetter(*(PLACE[column] for column in columns))
    return lambda vector: sum(pick(vector))


_TIMES: Final = {state: _sum_of(f"{state}_{supply}_milliseconds" for supply in Supply) for state in State}
_KNOWN: Final = _sum_of(
    f"{state}_{supply}_milliseconds" for state in State for supply in Supply if state is not State.UNKNOWN
)
_TIME, _ENERGY, _UNCERTAINTY = (_sum_of(METHOD_COLUMNS[what::3]) for what in range(3))
_AS_STORED: Final = itemgetter(
    *(
        PLACE[column]
        for column in (
            *IDLE_COLUMNS,
            "screens_milliseconds",
            "screens_energy_millijoules",
            "update_window_energy_millijoules",
        )
    )
)


def use_of(vector: Vector) -> BandUse:
    """Return the use of a stored vector's band, without imputed time and energy:
    docs/methodology.md §4, rule 4.
    """
    return BandUse(
        _TIMES[State.ON_ACTIVE](vector),
        _TIMES[State.ON_IDLE](vector),
        _KNOWN(vector),
        vector[PLACE["on_active_energy_millijoules"]],
        vector[PLACE["on_idle_energy_millijoules"]],
        _TIME(vector),
        _ENERGY(vector),
        _UNCERTAINTY(vector),
        *_AS_STORED(vector),
    )


class PowerPlan(NamedTuple):
    """Power plan of a machine on mains, seconds; 0 = never, None = not known."""

    display_off_seconds: int | None
    sleep_seconds: int | None


UNKNOWN_PLAN: Final = PowerPlan(None, None)


class Load(NamedTuple):
    """Load of a server while on, over its last days. Milliseconds; empty or 0 where nothing was measured."""

    window_milliseconds: int = 0
    """Length of the requested civil days, at the server's site."""
    known_milliseconds: int = 0
    """Part of it with a known state."""
    on_milliseconds: int = 0
    cpu_covered_milliseconds: int = 0
    cpu_busy_milliseconds: int = 0
    cpu_buckets: tuple[int, ...] = ()
    """Buckets by wire.limits.CPU_BUCKET_EDGES_PERCENT."""
    memory_buckets: tuple[int, ...] = ()
    network_buckets: tuple[int, ...] = ()
    """Buckets of network traffic other than the agent's, by wire.limits.NETWORK_RATE_EDGES_BYTES_PER_SECOND.
    """
    any_core_busy_milliseconds: int | None = None
    """Time with some core ≥ 80 %."""


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
    """Power off at the wall: calibrated for its model, else its class's."""
    sleep_microwatts: int | None = None
    bands: Mapping[Band, BandUse] = field(default_factory=dict)
    loads: Mapping[int, Load] = field(default_factory=dict)
    """Servers: days → load over the last so many days."""
    role: ServerRole | None = None
    observed_milliseconds: int = 0
    own_cpu_milliseconds: int = 0
    """CPU time of the agent's own processes; 0 of an agent that does not report it."""
    thread_slope_microwatts: int | None = None
    """Power that one busy logical CPU adds: derive.loadmodel."""
    power_context: PowerContext | None = None

    @property
    def is_virtual(self) -> bool:
        """True for a virtual machine: its host has the energy."""
        return self.device_class is DeviceClass.VIRTUAL_MACHINE

    def use(self, *bands: Band) -> BandUse:
        """Return the use in these bands together; in all bands without any."""
        found = [self.bands[band] for band in bands or Band if band in self.bands]
        return reduce(add_uses, found) if found else NO_USE


@dataclass(frozen=True, slots=True)
class Disposal:
    """Retired equipment of one year N. I11."""

    year: int
    stock: int | None
    """Retired stock on 1 January N that counts; None: not entered."""
    retirements: tuple[Retirement, ...]
    """All retirements of year N."""


class SiteEnergy(NamedTuple):
    """Energy of one site, over machines present both before and after an action. I14. Millijoules."""

    site: str
    frozen_millijoules: int
    """Energy per machine-day before, by class and day type, times the machine-days after."""
    actual_millijoules: int
    """Energy after."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """An action and its comparison. I14."""

    action_id: str
    what: str
    touched: tuple[SiteEnergy, ...]
    untouched: tuple[SiteEnergy, ...]
    weeks_before: float
    weeks_after: float
    machine_days: float
    """Machine-days of affected machines, after."""
    model_u: float
    """Relative standard uncertainty of the energies themselves, common to before and after."""
    touched_machines: Contributions
    """Contributions of machines of people, like those below: servers have no personal user."""
    untouched_machines: Contributions
    machines: int = 0
    """All affected machines."""
    renewals: int = 0
    """Machines that arrived at affected sites since: their lower energy is due to the renewal."""
    renewals_millijoules: int = 0
    """Frozen - actual energy of these."""
    renewed_machines: Contributions = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IndicatorGroup:
    """Inputs of one row of figures."""

    key: GroupKey
    machines: tuple[IndicatorMachine, ...] = ()
    devices: tuple[DeviceGroup, ...] = ()
    """Assets in service on the last day of the period."""
    users: int | None = None
    """Headcount in force on the last day; None: not declared."""
    purchases: tuple[Purchase, ...] = ()
    """Purchases of `year`."""
    year: int | None = None
    """Civil year that equals the period; None where none does."""
    disposal: Disposal | None = None
    comparison: Comparison | None = None
    sums: GroupSums | None = None
    """Sums of its machines over any days."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Settings of the indicators: section [indicators]."""

    out_of_hours_target_ratio: float = 0.05
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
    """Verdict of I6 on a server."""

    COMATOSE = "comatose"
    """Over 180 days."""
    SUSPECT = "suspect"
    """Over 30 days: the owner is to confirm. Not judged, unless it was busy earlier in its 180 days."""
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
    """Machines, assets or units of the figure."""
    numerator: float | None = None
    denominator: float | None = None
    counted_in: str = "machines"
    """Unit of numerator and denominator; MILLISECONDS for sums of time."""
    details: Mapping[str, Detail] = field(default_factory=dict)
    interval: tuple[float, float] | None = None
    """95 % interval, where it is known."""
    threshold: float | None = None
    """The configured target, in the indicator's unit; None when there is none."""
    withheld: bool = False
    incomplete: bool = False
    """True where the figure of some of its machines is withheld, or in another row."""
    behind: tuple[Contributions, ...] = ()
    """Contributions to the value: each must be empty, or of at least k machines."""
    behind_details: Mapping[str, Contributions] = field(default_factory=dict)
    """Contributions to details; a detail without an entry is withheld with the value."""


def add_figures(figures: Sequence[Figure], *, same_time: bool, is_ratio: bool) -> Figure:
    """Add figures of one indicator: of other machines, or of later months of the same ones (the largest n).

    Numbers of details are sums, but for counts over months, the largest, and shares, which are left out.
    Withheld figures are not in the sum. Errors add linearly.
    """
    shown = [one for one in figures if not one.withheld]
    if not shown:
        return replace(figures[-1], n=sum(one.n for one in figures) if same_time else figures[-1].n)
    numerator, denominator = (
        _sum_known(one.numerator for one in shown),
        _sum_known(one.denominator for one in shown),
    )
    values = [one.value for one in shown if one.value is not None]
    value = _sum_known(values) if values else None
    if is_ratio:
        value = numerator / denominator if numerator is not None and denominator else None
    details: dict[str, Detail] = {}
    for one in shown:
        for name, amount in one.details.items():
            if not isinstance(amount, str) and "share" not in name:
                found = details.get(name, 0)
                is_count = isinstance(amount, int) and not same_time
                details[name] = max(amount, found) if is_count else amount + found  # type: ignore[operator]
    return Figure(
        value,
        (sum if same_time else max)(one.n for one in shown),
        numerator,
        denominator,
        shown[-1].counted_in,
        details,
        _add_errors(shown),
        shown[-1].threshold,
        incomplete=len(shown) < len(figures) or any(one.incomplete for one in shown),
    )


def _sum_known(values: Iterable[float | None]) -> float | None:
    """Return the sum; None where one is not known."""
    known = list(values)
    return None if None in known else sum(known)  # type: ignore[arg-type]


def _add_errors(figures: Iterable[Figure]) -> tuple[float, float] | None:
    """Return the interval of a sum of values that all have one: intervals are factors around the value."""
    value = error = 0.0
    for one in figures:
        if one.value:
            if one.interval is None:
                return None
            value += one.value
            error += one.value * math.log(one.interval[1] / one.value)
    return (value * math.exp(-error / value), value * math.exp(error / value)) if value else None


def is_reached(
    value: float | None, goal: float | None, direction: str | None, suspects: float = 0
) -> bool | None:
    """Tell if a value is at its goal; None without one of them.

    None also for a value at its goal while there are suspects of I6: they may be comatose.
    """
    if value is None or goal is None or direction is None:
        return None
    found = value <= goal if direction == "lower" else value >= goal
    return None if found and suspects else found


def judged(found: bool | None) -> Pair:
    """Return (verdict, 1) of a machine with a verdict; (0, 0) without one."""
    return (0.0, 0.0) if found is None else (float(found), 1.0)


def contributions(pairs: Iterable[tuple[IndicatorMachine, int]]) -> Contributions:
    """Return the contribution of each machine."""
    return {machine.host_id: amount for machine, amount in pairs}


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


GaugeParts: TypeAlias = tuple[Mapping[str, float], ...]
"""Gauge by gauge, value of the label that parts it ("" where none does) → amount, in kWh where the gauge is
in joules. What is not known
is absent."""


def known_part(value: float | str | None, label: str = "") -> dict[str, float]:
    """Return the only part of a gauge; none where its value is not known."""
    return {} if value is None else {label: float(value)}
