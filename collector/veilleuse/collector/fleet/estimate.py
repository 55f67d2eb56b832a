# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Holds the estimate of the fleet's energy: parts, coverage, uncertainty, interval,
representativeness (pure). docs/methodology.md §6 and §10.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from veilleuse.collector.fleet.samples import Stratum
from veilleuse.collector.fleet.strata import KnownSums
from veilleuse.collector.model.figures import OBSERVED
from veilleuse.collector.quantiles import Z95
from veilleuse.wire.ladder import MEASURED, Method

ESTIMATED_ABOVE: Final = 0.2
"""Share of imputed energy above which a figure is labelled as estimated."""
SELECTION: Final = 1.5
"""Bound for selection bias where the sample is not demonstrated representative: machines without measurement
draw 1/1.5 to 1.5 times the sample's mean. Our choice.
"""


class Representativeness(StrEnum):
    """Degree to which the sample represents the fleet."""

    CENSUS = "census"
    """All machine time in service was observed: nothing is extrapolated."""
    DEMONSTRATED = "demonstrated"
    """The roll-out was random, and the sample's composition by model × age does not contradict it."""
    NOT_DEMONSTRATED = "not demonstrated"


class EstimateBasis(StrEnum):
    """Basis of a figure."""

    OBSERVED = OBSERVED
    """No figure of a fleet: what machines with an agent were observed to use."""
    CENSUS = "census"
    SAMPLE = "sample"
    CLASS_DEFAULT = "class_default"
    DECLARED = "declared_power"
    """All at class defaults, of which one at least is a power that an inventory declared."""


class DataType(StrEnum):
    """Data types of ADEME's Base Carbone (ABC). A figure takes the type of its largest part: our rule."""

    REAL = "réelle"
    EXTRAPOLATED = "extrapolée"
    STATISTICAL = "statistique"
    APPROXIMATE = "approchée"


class Interval(NamedTuple):
    """Ends of the interval as factors of the figure, with its uncertainty.

    The interval is 95 % for a census or a random sample. Otherwise it does not cover the selection of
    machines.
    """

    low: float
    high: float
    u: float
    """Standard uncertainty (k = 1), log scale."""

    @property
    def gsd2(self) -> float:
        """Geometric standard deviation squared: exp(2u)."""
        return math.exp(2 * self.u)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Energy of some strata, integer millijoules: exactly measured + modelled + imputed + extrapolated."""

    energy_millijoules: int
    measured_millijoules: int
    modelled_millijoules: int
    imputed_millijoules: int
    extrapolated_millijoules: int
    default_millijoules: int
    """Part of the extrapolated energy at the class default, where the class has no sample."""
    methods: Mapping[Method, int]
    """Derived energy by method: measured and modelled."""
    machines_fleet: int
    """N."""
    machines_sampled: int
    """n: machines with energy in the period."""
    fleet_milliseconds: int
    """ΣM."""
    observed_milliseconds: int
    derived_milliseconds: int
    sampling_variance: float
    """Sampling variance, mJ²."""
    degrees_of_freedom: float
    """Satterthwaite degrees of freedom of the sampling variance; math.inf where nothing is estimated."""
    u_sampling: float
    u_model: float
    low_log: float
    """Interval on the log scale, ≥ 0: the figure × exp(−low_log) to × exp(high_log)."""
    high_log: float
    representativeness: Representativeness
    basis: EstimateBasis
    data_type: DataType
    unestimated: tuple[Stratum, ...]
    """Strata with machine time, without data and without a default: they are not in the energy."""

    @classmethod
    def of_known(
        cls,
        methods: Mapping[Method, int],
        u_model: float,
        basis: EstimateBasis,
        representativeness: Representativeness = Representativeness.CENSUS,
        *,
        fleet_milliseconds: int = 0,
        observed_milliseconds: int = 0,
        derived_milliseconds: int = 0,
    ) -> Estimate:
        """Return the estimate of energy that is all known: nothing is imputed or extrapolated."""
        energy = sum(methods.values())
        measured = sum(part for method, part in methods.items() if method in MEASURED)
        return cls(
            energy_millijoules=energy,
            measured_millijoules=measured,
            modelled_millijoules=energy - measured,
            imputed_millijoules=0,
            extrapolated_millijoules=0,
            default_millijoules=0,
            methods=methods,
            machines_fleet=0,
            machines_sampled=0,
            fleet_milliseconds=fleet_milliseconds,
            observed_milliseconds=observed_milliseconds,
            derived_milliseconds=derived_milliseconds,
            sampling_variance=0.0,
            degrees_of_freedom=math.inf,
            u_sampling=0.0,
            u_model=u_model,
            low_log=Z95 * u_model,
            high_log=Z95 * u_model,
            representativeness=representativeness,
            basis=basis,
            data_type=DataType.REAL,
            unestimated=(),
        )

    @property
    def u_kwh(self) -> float:
        """Standard uncertainty of sampling and models together, log scale."""
        return math.hypot(self.u_sampling, self.u_model)

    @property
    def coverage_states(self) -> float | None:
        """Time of known state ÷ the fleet's time; None without a fleet."""
        return self.observed_milliseconds / self.fleet_milliseconds if self.fleet_milliseconds else None

    @property
    def coverage_energy(self) -> float | None:
        """Time with derived energy ÷ the fleet's time. Imputed time is not covered. None without a fleet."""
        return self.derived_milliseconds / self.fleet_milliseconds if self.fleet_milliseconds else None

    def interval(self, factor_u: float = 0.0) -> Interval:
        """Return the interval of the energy; with the factor's u, of its product with the emission factor.

        Apply the factor's u once, on the total: factor errors are common to all parts.
        """
        more = Z95 * factor_u
        return Interval(
            math.exp(-math.hypot(self.low_log, more)),
            math.exp(math.hypot(self.high_log, more)),
            math.hypot(self.u_kwh, factor_u),
        )

    @property
    def is_demonstrated(self) -> bool:
        """True when the interval may be called 95 %."""
        return self.representativeness is not Representativeness.NOT_DEMONSTRATED

    def sensitivity(self, factor_u: float = 0.0) -> tuple[float, float]:
        """Return the interval's ends as factors under the selection bound, in quadrature.

        The extrapolated energy is 1/SELECTION to SELECTION times as high. Measured energy stays as it is, and
        so does energy at the class default: that has its own GSD².
        """
        sampled = self.extrapolated_millijoules - self.default_millijoules
        share = sampled / self.energy_millijoules if self.energy_millijoules else 0.0
        down, up = -math.log1p(share * (1 / SELECTION - 1)), math.log1p(share * (SELECTION - 1))
        more = Z95 * factor_u
        return math.exp(-math.hypot(self.low_log, down, more)), math.exp(math.hypot(self.high_log, up, more))

    @property
    def bounds_millijoules(self) -> tuple[float, float]:
        """Interval of the energy, mJ."""
        interval = self.interval()
        return self.energy_millijoules * interval.low, self.energy_millijoules * interval.high


def data_type(known: KnownSums, extrapolated: int, default: float) -> DataType:
    """Return the data type of the largest part; between equal parts, the less certain one.

    Imputed energy counts as extrapolated: it comes from the machine's own other days.
    """
    sizes = (
        (DataType.REAL, known.measured_millijoules),
        (DataType.EXTRAPOLATED, known.imputed_millijoules + extrapolated - default),
        (DataType.STATISTICAL, known.modelled_millijoules),
        (DataType.APPROXIMATE, default),
    )
    return max(reversed(sizes), key=lambda size: size[1])[0]
