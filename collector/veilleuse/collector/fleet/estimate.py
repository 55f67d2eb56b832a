# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The fleet's figure as it is told: parts, coverage, uncertainty, interval, and what may be said of it (pure). docs/methodology.md §6 and §10."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from veilleuse.collector.fleet.samples import Stratum
from veilleuse.collector.fleet.strata import KnownSums
from veilleuse.collector.quantiles import Z95
from veilleuse.wire.ladder import Method

ESTIMATED_ABOVE: Final = 0.2
"""Share of imputed energy."""
SELECTION: Final = 1.5
"""Machines that nobody measured may draw 1/1.5 to 1.5 times what measured ones say, where these are not demonstrated to stand for them: ours."""


class Representativeness(StrEnum):
    """Whether the sample may stand for the fleet."""

    CENSUS = "census"
    """All machine time in service was observed: there is nothing to stand for."""
    DEMONSTRATED = "demonstrated"
    """The roll-out was random, and model × age of the sample do not contradict it."""
    NOT_DEMONSTRATED = "not demonstrated"


class EstimateBasis(StrEnum):
    """What a figure is made of."""

    CENSUS = "census"
    SAMPLE = "sample"
    CLASS_DEFAULT = "class_default"


class DataType(StrEnum):
    """The ABC's types of data; which one a figure is, is ours: that of its largest part."""

    REAL = "réelle"
    EXTRAPOLATED = "extrapolée"
    STATISTICAL = "statistique"
    APPROXIMATE = "approchée"


class Interval(NamedTuple):
    """Factors of the figure, and its uncertainty: 95 % of a census or a random sample; else it lacks how machines were chosen."""

    low: float
    high: float
    u: float
    """k = 1, log scale."""

    @property
    def gsd2(self) -> float:
        """exp(2u)."""
        return math.exp(2 * self.u)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Energy of some strata, integer millijoules: measured + modelled + imputed + extrapolated, exactly."""

    energy_millijoules: int
    measured_millijoules: int
    modelled_millijoules: int
    imputed_millijoules: int
    extrapolated_millijoules: int
    default_millijoules: int
    """Of the extrapolated: at the class default, for want of any sample of the class."""
    methods: Mapping[Method, int]
    """Derived energy by method: measured and modelled."""
    machines_fleet: int
    """N."""
    machines_sampled: int
    """n: those with energy in the period."""
    fleet_milliseconds: int
    """ΣM."""
    observed_milliseconds: int
    derived_milliseconds: int
    sampling_variance: float
    """mJ²."""
    degrees_of_freedom: float
    """Of the sampling variance, by Satterthwaite; math.inf where nothing is estimated."""
    u_sampling: float
    u_model: float
    low_log: float
    """Interval on the log scale, ≥ 0: the figure × exp(−low_log) to × exp(high_log)."""
    high_log: float
    representativeness: Representativeness
    basis: EstimateBasis
    data_type: DataType
    unestimated: tuple[Stratum, ...]
    """Strata with machine time of which nothing is known, and without a default: not in the energy."""

    @property
    def u_kwh(self) -> float:
        """Sampling and models together."""
        return math.hypot(self.u_sampling, self.u_model)

    @property
    def coverage_states(self) -> float | None:
        """Time of known state ÷ the fleet's; None without a fleet."""
        return self.observed_milliseconds / self.fleet_milliseconds if self.fleet_milliseconds else None

    @property
    def coverage_energy(self) -> float | None:
        """Time with derived energy ÷ the fleet's; imputed time is not covered."""
        return self.derived_milliseconds / self.fleet_milliseconds if self.fleet_milliseconds else None

    @property
    def imputed_share(self) -> float | None:
        """Of the observed machines' energy; None without any."""
        known = self.energy_millijoules - self.extrapolated_millijoules
        return self.imputed_millijoules / known if known else None

    @property
    def is_estimated(self) -> bool:
        """Above 20 % imputed a figure is labelled so. docs/methodology.md §4."""
        return (self.imputed_share or 0.0) > ESTIMATED_ABOVE

    @property
    def method_mix(self) -> dict[str, float] | None:
        """Method, `imputed` and `extrapolated` → share of the energy, best first; None without energy."""
        if not self.energy_millijoules:
            return None
        parts = {method.value: self.methods[method] for method in Method if method in self.methods}
        parts |= {"imputed": self.imputed_millijoules, "extrapolated": self.extrapolated_millijoules}
        return {name: part / self.energy_millijoules for name, part in parts.items() if part}

    def interval(self, factor_u: float = 0.0) -> Interval:
        """Of the energy; with the factor's u, of its product with the factor: once, on the total."""
        more = Z95 * factor_u
        return Interval(
            math.exp(-math.hypot(self.low_log, more)),
            math.exp(math.hypot(self.high_log, more)),
            math.hypot(self.u_kwh, factor_u),
        )

    @property
    def is_demonstrated(self) -> bool:
        """Whether the interval may be called 95 %."""
        return self.representativeness is not Representativeness.NOT_DEMONSTRATED

    def sensitivity(self, factor_u: float = 0.0) -> tuple[float, float]:
        """The interval's ends as factors, if what the sample stands for draws 1/SELECTION to SELECTION times as much; in quadrature.

        What was measured stays as it is, and so does what is at the class default: that has its own GSD² 2.0.
        """
        sampled = self.extrapolated_millijoules - self.default_millijoules
        share = sampled / self.energy_millijoules if self.energy_millijoules else 0.0
        down, up = -math.log1p(share * (1 / SELECTION - 1)), math.log1p(share * (SELECTION - 1))
        more = Z95 * factor_u
        return math.exp(-math.hypot(self.low_log, down, more)), math.exp(math.hypot(self.high_log, up, more))

    @property
    def bounds_millijoules(self) -> tuple[float, float]:
        """Interval of the energy."""
        interval = self.interval()
        return self.energy_millijoules * interval.low, self.energy_millijoules * interval.high


def data_type(known: KnownSums, extrapolated: int, default: float) -> DataType:
    """Of the largest part; of equals the less sure. Imputed energy counts as extrapolated: the machine's own other days stand for it."""
    sizes = (
        (DataType.REAL, known.measured_millijoules),
        (DataType.EXTRAPOLATED, known.imputed_millijoules + extrapolated - default),
        (DataType.STATISTICAL, known.modelled_millijoules),
        (DataType.APPROXIMATE, default),
    )
    return max(reversed(sizes), key=lambda size: size[1])[0]
