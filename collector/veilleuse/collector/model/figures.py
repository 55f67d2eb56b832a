# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines results of the collector: sums per group, figures and rows, between account,
indicators and the outlets. No I/O.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, Final, TypeAlias, get_args, get_type_hints

from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.model.query import AUTRES, GroupKey
from veilleuse.wire.vocabulary import Population

SINCE_PUBLICATION: Final = "since_publication"
ESTIMATE: Final = "estimate"
"""Level of the row with the difference between a year's total and the sum of its months' totals."""
OBSERVED: Final = "observed"
"""Basis of a row that sums observations of machines with an agent, without imputation or extrapolation."""
FULL_INTERVAL: Final = "95 %"
"""`interval` of a figure observed completely, or with a random sample."""
SAMPLE_INTERVAL: Final = "sample only"
"""`interval` of any other figure: it does not cover the selection of machines,
so its confidence level is not known.
"""
ColumnValue: TypeAlias = "str | int | float | bool | Mapping[str, float] | None"
"""Value of a column."""
Ends: TypeAlias = tuple[float, float]
"""Lower and upper end."""
SCREEN_STANDBY_MICROWATTS: Final = 300_000
"""Standby power of an external screen, off or asleep: 0.3 W, docs/methodology.md §6."""


@dataclass(frozen=True, slots=True)
class Activity:
    """Machines and time of a row."""

    n: int | None
    """Machines observed; None in a released row of fewer than k PCs."""
    machine_days_observed: float | None = None
    """Days of 24 h with a known state; None likewise, and for screens separate from their machines."""
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
    pedigree: str | None = None
    """Scores of the activity data, as data/uncertainty_pedigree_abc.csv names them."""
    data_type: str | None = None
    """ABC: réelle, extrapolée, statistique or approchée."""
    basis: str | None = None
    """For fleet figures: census (every machine measured), sample, or class_default (inventory-only classes).

    OBSERVED: not a fleet figure.
    """
    incomplete: bool | None = None
    """True for a total without the measured energy of a withheld zone; otherwise None."""
    apportioned: bool | None = None


@dataclass(frozen=True, slots=True)
class EnergyByOrigin:
    """Energy of a row and its parts. The parts are None where one has fewer than k machines."""

    energy_millijoules: int | None = None
    """Energy of the whole row: measured + modelled + imputed + extrapolated, exactly."""
    measured_millijoules: int | None = None
    modelled_millijoules: int | None = None
    imputed_millijoules: int | None = None
    extrapolated_millijoules: int | None = None
    kwh_measured: float | None = None
    kwh_modelled: float | None = None
    kwh_imputed: float | None = None
    kwh_extrapolated: float | None = None
    kwh_total: float | None = None
    method_mix: Mapping[str, float] | None = None
    """Method → share of the energy, with `imputed` and `extrapolated`."""
    imputed_share: float | None = None
    estimated: bool | None = None
    """True above 20 % imputed."""


@dataclass(frozen=True, slots=True)
class IntervalEnds:
    """Ends of the interval of one value, of the kind that Uncertainty.interval names."""

    lo95: float | None = None
    hi95: float | None = None
    lo_sample: float | None = None
    hi_sample: float | None = None
    lo_sensitivity: float | None = None
    """Bound where machines without measurement draw 1/1.5 to 1.5 times the mean of measured ones."""
    hi_sensitivity: float | None = None

    @property
    def ends(self) -> Ends | None:
        """Ends, of either kind."""
        return _ends(self.lo95, self.hi95) or _ends(self.lo_sample, self.hi_sample)

    @property
    def sensitivity(self) -> Ends | None:
        """Sensitivity; None where the value has none."""
        return _ends(self.lo_sensitivity, self.hi_sensitivity)


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """Intervals of a row and the relative standard uncertainties behind them."""

    interval: str | None = None
    """FULL_INTERVAL: the ends …95 are set; SAMPLE_INTERVAL: …_sample and …_sensitivity are."""
    kwh: IntervalEnds = IntervalEnds()
    kgco2e: IntervalEnds = IntervalEnds()
    u_sampling: float | None = None
    u_model: float | None = None
    u_factor: float | None = None
    gsd2: float | None = None
    """None with a SAMPLE_INTERVAL."""


@dataclass(frozen=True, slots=True)
class RoomEnergy:
    """Server rooms of a row."""

    kwh_it: float | None = None
    kwh_ups_loss: float | None = None
    kwh_overhead: float | None = None
    overhead: str | None = None
    """"measured", "pue" or "not_included"."""
    pue: float | None = None
    top_down_kwh: float | None = None


@dataclass(frozen=True, slots=True)
class AppliedFactor:
    """Factor of a row; over several factors only `provisional` is set."""

    factor_id: str | None = None
    factor_series: str | None = None
    factor_source: str | None = None
    factor_published: str | None = None
    factor_kgco2e_per_kwh: float | None = None
    provisional: bool | None = None


@dataclass(frozen=True, slots=True)
class RowEmissions:
    """Emissions of a row and their components."""

    kgco2e_total: float | None = None
    kgco2e_combustion: float | None = None
    kgco2e_upstream: float | None = None
    kgco2e_losses: float | None = None
    split_residual_kgco2e: float | None = None
    split_estimated: bool | None = None
    kgco2e_market: float | None = None
    """Market-based, from contracts that the user entered."""


@dataclass(frozen=True, slots=True)
class Items:
    """Places of a row's emissions in the bilan carbone."""

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
    in_beges_energie: bool | None = None
    in_bilan_numerique: bool | None = None


@dataclass(frozen=True, slots=True)
class RowChange:
    """Change of a row from the year before: the sum of the four effects, each with the half-width of its
    interval.
    """

    not_compared: str | None = None
    """Reason without a change: one of account.change.NoComparison."""
    days_observed_before: float | None = None
    """Covered days of the year before."""
    change_kwh: float | None = None
    change_margin_kwh: float | None = None
    fleet_effect_kwh: float | None = None
    fleet_effect_margin_kwh: float | None = None
    mix_effect_kwh: float | None = None
    mix_effect_margin_kwh: float | None = None
    hours_effect_kwh: float | None = None
    hours_effect_margin_kwh: float | None = None
    watts_effect_kwh: float | None = None
    watts_effect_margin_kwh: float | None = None
    factor_effect_kgco2e: float | None = None


@dataclass(frozen=True, slots=True)
class RowOrigin:
    """Report and program that a row comes from."""

    data: str | None = None
    """real or simulated."""
    method_version: str | None = None
    report_id: str | None = None
    revision: int | None = None
    state: str | None = None
    """open, closed_provisional or closed_definitive."""
    as_published_kgco2e: float | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class EmissionsRow:
    """One row of the yearly export. A value that is not known is None: absent, never zero."""

    key: GroupKey
    level: str
    """row, autres, memo or total; ESTIMATE for a closed year's own total beside its released one;
    SINCE_PUBLICATION for the difference between a year's total and its months'.
    """
    activity: Activity
    energy: EnergyByOrigin = EnergyByOrigin()
    uncertainty: Uncertainty = Uncertainty()
    room: RoomEnergy = RoomEnergy()
    factor: AppliedFactor = AppliedFactor()
    emissions: RowEmissions = RowEmissions()
    items: Items = Items()
    change: RowChange = RowChange()
    origin: RowOrigin = RowOrigin()

    @property
    def columns(self) -> dict[str, ColumnValue]:
        """Value of each column, in the order of COLUMNS; None where it is absent."""
        found = {name: value(self) for name, value in _VALUES.items()}
        return {**found, **self.key.columns}

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> EmissionsRow:
        """Return the row with these columns; unknown ones are left out. Raises KeyError, ValueError."""
        parts: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        for name, value in columns.items():
            part, _, field_name = COLUMNS.get(name, "").rpartition(".")
            parts[part][field_name] = value
        words, level = parts.pop("key"), str(columns["level"])
        key = GroupKey(
            date.fromisoformat(words["period_from"]),
            date.fromisoformat(words["period_to"]),
            words.get("zone") or "",
            Population(words["population"]) if words.get("population") else None,
            level == "memo",
            words.get("entity"),
            words.get("site"),
            words.get("device_class"),
            level == AUTRES,
            PowerContext(words["power_context"]) if words.get("power_context") else None,
            words.get("perimeter"),
        )
        for unit in ("kwh", "kgco2e"):
            parts["uncertainty"][unit] = IntervalEnds(**parts.pop(f"uncertainty.{unit}", {}))
        kinds = get_type_hints(cls)
        return cls(key, level, **{part: kinds[part](**found) for part, found in parts.items() if part})


def _at(part: str, *names: str) -> dict[str, str]:
    """Return column → path of its value, for columns named as the fields of a part."""
    return {name: f"{part}.{name}" for name in names}


def _ends_of(unit: str) -> dict[str, str]:
    return {f"{unit}_{one.name}": f"uncertainty.{unit}.{one.name}" for one in fields(IntervalEnds)}


COLUMNS: Final[Mapping[str, str]] = {
    **_at("key", "period_from", "period_to"),
    "level": "level",
    **_at("activity", "n", "machine_days_observed"),
    **_at("key", "entity", "site", "zone", "population", "device_class", "power_context"),
    **_at("key", "perimeter"),
    **_at("items", "beges_item", "ghg_category", "beges_item_upstream", "ghg_category_upstream"),
    **_at("activity", "n_fleet", "machine_days_fleet", "days_observed"),
    **_at("activity", "coverage_states", "coverage_energy", "representativeness"),
    **_at("energy", "energy_millijoules", "measured_millijoules", "modelled_millijoules"),
    **_at("energy", "imputed_millijoules", "extrapolated_millijoules"),
    **_at("energy", "kwh_measured", "kwh_modelled", "kwh_imputed", "kwh_extrapolated", "kwh_total"),
    **_at("uncertainty", "interval"),
    **_ends_of("kwh"),
    **_at("room", "kwh_it", "kwh_ups_loss", "kwh_overhead", "overhead", "pue"),
    **_at("factor", "factor_id", "factor_series", "factor_source", "factor_published"),
    **_at("factor", "factor_kgco2e_per_kwh", "provisional"),
    **_at("emissions", "kgco2e_total", "kgco2e_combustion", "kgco2e_upstream", "kgco2e_losses"),
    **_at("emissions", "split_residual_kgco2e", "split_estimated", "kgco2e_market"),
    **_ends_of("kgco2e"),
    **_at("uncertainty", "u_sampling", "u_model", "u_factor", "gsd2"),
    **_at("activity", "pedigree", "data_type"),
    **_at("energy", "method_mix", "imputed_share", "estimated"),
    **_at("activity", "basis", "incomplete"),
    **_at("items", "in_beges_energie", "in_bilan_numerique"),
    **_at("change", *(one.name for one in fields(RowChange))),
    **_at("room", "top_down_kwh"),
    **_at("activity", "apportioned"),
    **_at("origin", "report_id", "revision", "state", "as_published_kgco2e"),
    **_at("origin", "data", "method_version", "sha256"),
}
"""Column of the yearly export → path of its value in a row, in the order of docs/methodology.md §10."""
_VALUES: Final = {name: attrgetter(path) for name, path in COLUMNS.items()}


def column_type(name: str) -> Any:
    """Return the type of a column's values: str, int, float, bool or a mapping."""
    kind: Any = EmissionsRow
    for field_name in COLUMNS[name].split("."):
        kind = get_type_hints(kind)[field_name]
        if kind is GroupKey:
            return str
    return (
        next((one for one in get_args(kind) if one is not NoneType), kind)
        if isinstance(kind, UnionType)
        else kind
    )


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
