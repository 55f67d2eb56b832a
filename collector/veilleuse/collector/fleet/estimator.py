# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Estimates the energy of all machines in service from the observed ones, with its interval (pure).

docs/methodology.md §6; decision 0030 settles what that section leaves open. Energies are integer millijoules
whose parts sum exactly to the whole. Uncertainties are standard uncertainties (k = 1) on the log scale.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from itertools import groupby
from typing import Final, NamedTuple

from veilleuse.collector.fleet.composition import Composition, compute_composition, is_balanced
from veilleuse.collector.fleet.errors import ErrorModel, Errors, default_u
from veilleuse.collector.fleet.estimate import Estimate, EstimateBasis, Representativeness, data_type
from veilleuse.collector.fleet.pool import Pool, is_mixed
from veilleuse.collector.fleet.prediction import (
    Prediction,
    predict,
    scale_prediction,
    with_errors,
    with_time_on,
)
from veilleuse.collector.fleet.rooms import RoomFigure, Silent, settle_rooms
from veilleuse.collector.fleet.samples import (
    DAY_TYPES,
    CalibratedWall,
    Days,
    HardwareModel,
    InService,
    Sample,
    SampleCell,
    SampleMachine,
    Stratum,
)
from veilleuse.collector.fleet.strata import (
    KnownSums,
    StratumPart,
    class_rates,
    missing_share,
    parts,
    unseen_share,
)
from veilleuse.collector.fleet.variance import sampling
from veilleuse.collector.model.inventory import DeclaredPower
from veilleuse.collector.model.sums import EnergyClass
from veilleuse.collector.shipped_tables import load_table

MOST_UNSEEN: Final = 0.25
"""Greatest unseen share of the sampled machines' time in service for a representative sample. Our choice."""
MOST_AT_STAKE: Final = 0.25
"""Share of the half-width that the figure may fall by if machines were off for all their missing time. Our
choice.
"""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Assumptions of the estimate, in addition to machines and fleet."""

    random_roll_out: bool = False
    """True: agents were installed on machines drawn at random within their strata, and somebody answers for
    that.
    """
    class_microwatts: Mapping[str, Days] = field(default_factory=dict)
    """Device class → mean power by day type of the class default; GSD² 2.0."""
    calibrations: Mapping[HardwareModel, CalibratedWall] = field(default_factory=dict)
    declared: frozenset[str] = frozenset()
    """Classes whose default is a declared power; GSD² 4.0."""


class Fleet:
    """Estimates of strata, of any group of strata, and of the whole fleet: their energies always sum up."""

    def __init__(
        self,
        machines: Iterable[SampleMachine] | Sample,
        in_service: Iterable[InService],
        assumptions: Assumptions | None = None,
        rooms: Collection[RoomFigure] = (),
    ) -> None:
        """Estimate all strata. `rooms`: rooms with servers. Raises ValueError for a duplicate stratum."""
        self._known = assumptions or Assumptions()
        self._sample = machines if isinstance(machines, Sample) else Sample.of(machines)
        self._parts = parts(self._sample, in_service)
        self._models = ErrorModel(
            (machine for part in self._parts.values() for machine in part.members), self._known.calibrations
        )
        self._pools: dict[str, Pool] = {}
        self._compositions: dict[str, Composition] = {}
        self._demonstrated: dict[str, bool] = {}
        self._seen: dict[str, bool] = {}
        self._missing: dict[str, float] = {}
        self._predictions: dict[Stratum, Prediction] = {}
        by_pool = sorted(self._parts.values(), key=lambda part: (self._pool_of(part), part.stratum))
        for name, strata in groupby(by_pool, self._pool_of):
            self._predict(name, list(strata))
        self._extrapolated = _whole(
            {stratum: one.extrapolated + one.default for stratum, one in self._predictions.items()}
        )
        self.rooms = self._settle(rooms)

    @property
    def strata(self) -> tuple[Stratum, ...]:
        """All strata, in order."""
        return tuple(self._parts)

    @property
    def pools(self) -> dict[str, list[StratumPart]]:
        """Name of a device class → the strata that its sample represents."""
        found: defaultdict[str, list[StratumPart]] = defaultdict(list)
        for part in self._parts.values():
            found[self._pool_of(part)].append(part)
        return dict(found)

    def part(self, stratum: Stratum) -> StratumPart:
        """Return the fleet and the sample of a stratum. Raises KeyError."""
        return self._parts[stratum]

    def total(self) -> Estimate:
        """Return the estimate of all strata."""
        return self.of(self.strata)

    def energy_millijoules(self, stratum: Stratum) -> int:
        """Return the energy of one stratum, without its interval. Raises KeyError."""
        known = self._predictions[stratum].part.known
        return known.energy_millijoules + known.standby_millijoules + self._extrapolated[stratum]

    def of(self, strata: Iterable[Stratum]) -> Estimate:
        """Return the estimate of some strata, each counted once. Raises KeyError for an unknown stratum."""
        chosen = [self._predictions[stratum] for stratum in set(strata)]
        chosen.sort(key=lambda one: (self._class_of(one), one.part.stratum))
        known = sum((one.part.known for one in chosen), KnownSums())
        extrapolated = sum(self._extrapolated[one.part.stratum] for one in chosen)
        default = sum(one.default for one in chosen)
        energy = known.energy_millijoules + known.standby_millijoules + extrapolated
        sampled = sampling(
            [(self._pools[name], list(group)) for name, group in groupby(chosen, self._class_of)],
            self._compositions,
        )
        errors = Errors()
        for one in chosen:
            errors.add(one.errors)
        modelled = errors.variance()
        low, high = sampled.ends(modelled, energy, energy - extrapolated)
        return Estimate(
            energy_millijoules=energy,
            measured_millijoules=known.measured_millijoules,
            modelled_millijoules=known.modelled_millijoules,
            imputed_millijoules=known.imputed_millijoules,
            extrapolated_millijoules=extrapolated,
            default_millijoules=min(extrapolated, round(default)),
            methods=dict(known.methods_with_standby),
            machines_fleet=sum(one.part.machines_fleet for one in chosen),
            machines_sampled=known.machines,
            fleet_milliseconds=sum(sum(one.part.fleet) + sum(one.part.by_default) for one in chosen),
            observed_milliseconds=known.observed_milliseconds,
            derived_milliseconds=known.derived_milliseconds,
            sampling_variance=sampled.variance,
            degrees_of_freedom=sampled.degrees_of_freedom,
            u_sampling=math.sqrt(sampled.variance) / energy if energy else 0.0,
            u_model=math.sqrt(modelled) / energy if energy else 0.0,
            low_log=low,
            high_log=high,
            representativeness=self._representativeness(chosen, energy * -math.expm1(-low)),
            basis=_basis(chosen, self._known.declared),
            data_type=data_type(known, extrapolated, default),
            unestimated=tuple(one.part.stratum for one in chosen if one.unestimated),
        )

    def _pool_of(self, part: StratumPart) -> str:
        """Return the name of the device class whose sample represents a stratum."""
        device_class = part.stratum.device_class
        return self._sample.stands_for.get(device_class, device_class)

    def _class_of(self, prediction: Prediction) -> str:
        return self._pool_of(prediction.part)

    def _predict(self, device_class: str, strata: list[StratumPart]) -> None:
        """Predict one class: its composition, its pool, its strata."""
        always_on = self._sample.always_on.get(device_class)
        mixed = is_mixed(strata) or always_on is not None
        rates = class_rates(strata)
        made = compute_composition(strata, rates)
        self._demonstrated[device_class] = self._known.random_roll_out and is_balanced(strata, made)
        adjusted = not self._demonstrated[device_class] and any(part.cells for part in strata)
        for part in strata:
            if adjusted:
                part.scale = made.unobserved_scale(part)
            part.fill(made.scale if adjusted else _as_it_is, mixed=mixed)
        # PCs report the display-on time of screens: an inventory has none to compare that time with.
        self._seen[device_class] = device_class == EnergyClass.MONITOR or unseen_share(strata) <= MOST_UNSEEN
        self._missing[device_class] = missing_share(strata)
        pool = self._pools[device_class] = Pool(device_class, strata, mixed=mixed, always_on=always_on)
        if adjusted:
            self._compositions[device_class] = made
        errors = self._models.errors(machine for part in strata for machine in part.members)
        energy = sum(part.known.energy_millijoules for part in strata)
        for part in strata:
            name = part.stratum.device_class
            one = predict(part, pool, self._known.class_microwatts.get(name), made if adjusted else None)
            u = default_u(name, self._known.declared)
            self._predictions[part.stratum] = with_errors(one, self._models, errors, energy, u)
        if device_class == EnergyClass.MONITOR:
            with_time_on([self._predictions[part.stratum] for part in strata], pool)

    def _settle(self, rooms: Collection[RoomFigure]) -> tuple[RoomFigure, ...]:
        """Subtract the servers' energy from their rooms;
        extrapolated servers take at most what the meters leave.
        """
        strata = {stratum for room in rooms if room.servers for stratum, _ in room.servers.silent}
        made, kept = settle_rooms(
            rooms, {stratum: self._silent(stratum) for stratum in strata if stratum in self._parts}
        )
        for stratum, energy in kept.items():
            if energy < self._extrapolated[stratum]:
                one = self._predictions[stratum]
                own = self._models.errors(one.part.members)
                self._predictions[stratum] = scale_prediction(one, energy / self._extrapolated[stratum], own)
                self._extrapolated[stratum] = energy
        return made

    def _silent(self, stratum: Stratum) -> Silent:
        part, estimate = self._parts[stratum], self.of((stratum,))
        return Silent(
            sum(part.fleet) - part.known.derived_milliseconds,
            part.known.imputed_millijoules,
            self._extrapolated[stratum],
            math.sqrt(estimate.sampling_variance),
        )

    def _representativeness(self, chosen: Sequence[Prediction], half_width: float) -> Representativeness:
        """Return the representativeness of some strata; `half_width`: of the interval, downward, mJ."""
        at_stake = math.fsum(map(self._at_stake, chosen))
        if at_stake > MOST_AT_STAKE * half_width:
            return Representativeness.NOT_DEMONSTRATED
        if _is_census(chosen):
            return Representativeness.CENSUS
        stand = [one for one in chosen if one.extrapolated]
        if stand and all(self._is_representative(self._class_of(one)) and one.part.n for one in stand):
            return Representativeness.DEMONSTRATED
        return Representativeness.NOT_DEMONSTRATED

    def _at_stake(self, one: Prediction) -> float:
        """Return the greatest fall of a stratum's figure if its machines were off for all their missing time,
        mJ.
        """
        missing, known = self._missing[self._class_of(one)], one.part.known
        return min(known.imputed_millijoules, missing * known.energy_millijoules) + missing * one.extrapolated

    def _is_representative(self, device_class: str) -> bool:
        return self._demonstrated[device_class] and self._seen[device_class]


def _as_it_is(_: SampleCell) -> float:
    return 1.0


def _is_census(chosen: Sequence[Prediction]) -> bool:
    seen = any(one.part.known.machines for one in chosen)
    return seen and not any(any(one.part.missing) or any(one.part.by_default) for one in chosen)


def _basis(chosen: Sequence[Prediction], declared: Collection[str]) -> EstimateBasis:
    if _is_census(chosen):
        return EstimateBasis.CENSUS
    seen = any(one.part.known.machines or one.extrapolated for one in chosen)
    if seen:
        return EstimateBasis.SAMPLE
    is_declared = any(one.default and one.part.stratum.device_class in declared for one in chosen)
    return EstimateBasis.DECLARED if is_declared else EstimateBasis.CLASS_DEFAULT


def _whole(values: Mapping[Stratum, float]) -> dict[Stratum, int]:
    """Round to whole millijoules that sum to the rounded sum, by largest remainders."""
    found = {stratum: math.floor(value) for stratum, value in values.items()}
    left = round(math.fsum(values.values())) - sum(found.values())
    by_remainder = sorted(values, key=lambda stratum: (found[stratum] - values[stratum], stratum))
    for stratum in by_remainder[:left]:
        found[stratum] += 1
    return found


MICROWATTS: Final = 1_000_000
"""Microwatts per watt."""


class ClassDefault(NamedTuple):
    """Default mean power of one device class."""

    microwatts: Days
    """Mean power over a day, by day type."""
    gsd2: float
    origin: str
    """Origin of the figure: R read in a source, C computed from a source, P our own choice."""
    basis: str


@cache
def class_defaults() -> Mapping[str, ClassDefault]:
    """Return the default of each device class. Raises ConfigurationError."""
    return {
        row["device_class"]: ClassDefault(
            tuple(round(Decimal(row[f"{day}_watts"]) * MICROWATTS) for day in DAY_TYPES),
            float(row["gsd2"]),
            row["origin"],
            row["basis"],
        )
        for row in load_table("inventory_class_defaults").rows
    }


def class_microwatts(declared: Iterable[DeclaredPower] = ()) -> dict[str, Days]:
    """Return the default mean power of each device class by day type, microwatts, for `Assumptions`.

    A declared power takes the place of the shipped default.
    """
    shipped = {name: one.microwatts for name, one in class_defaults().items()}
    return shipped | {one.device_class: one.microwatts for one in declared}
