# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Models errors that a larger sample does not reduce: priors, calibrations, meters (pure).
docs/methodology.md §6.

Prior errors correlate 1 within a hardware model, 0.5 between models of a class, 0 between classes. A
calibration's error, gᵀΣg, is its model's own; the gain of its meter is common to all fits made with the
meter. Readings of a meter or a battery have an error common to their class. There is no finite-population
correction: a census made with a wrong model is as wrong as a sample. Values are standard uncertainties,
millijoules.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, TypeAlias

from veilleuse.collector.fleet.samples import Alike, CalibratedWall, HardwareModel, Key
from veilleuse.wire.ladder import MEASURED, Method

BETWEEN_MODELS: Final = 0.5
"""Correlation of prior errors of two hardware models of a class. docs/methodology.md §6."""
DEFAULT_U: Final = math.log(2.0) / 2
"""Standard uncertainty of a class default, log scale: GSD² 2.0, docs/methodology.md §7."""
DECLARED_U: Final = math.log(4.0) / 2
"""Standard uncertainty of a declared power, log scale: GSD² 4.0, docs/methodology.md §7."""
STANDBY_U: Final = math.log(1.5) / 2
"""Standard uncertainty of a power by state, log scale: GSD² 1.5, docs/methodology.md §2."""
CLASS_DEFAULT: Final = ""
"""Key that replaces the hardware model where a class default was used."""


class Origin(Enum):
    """Source of an error."""

    PRIOR = auto()
    SPREAD = auto()
    """Error of a calibration, without that of its meter."""
    GAIN = auto()
    READING = auto()
    """Error of metered energy, or of energy reported by a battery."""


ErrorKey: TypeAlias = tuple[Origin, str, str]
"""(origin, device class, hardware model); for a gain (GAIN, "", meter);
for a reading (READING, device class, method).
"""


@dataclass(slots=True)
class Errors:
    """Standard uncertainties by common cause: within a key they add up linearly."""

    u: dict[ErrorKey, float] = field(default_factory=dict)

    def add(self, other: Errors, factor: float = 1.0) -> None:
        """Add `factor` times the errors of another part."""
        for key, value in other.u.items():
            self.u[key] = self.u.get(key, 0.0) + factor * value

    def variance(self) -> float:
        """Return the variance of the sum, mJ²."""
        linear: defaultdict[str, float] = defaultdict(float)
        found = []
        for (origin, device_class, _), value in sorted(
            self.u.items(), key=lambda item: (item[0][0].value, *item[0][1:])
        ):
            if origin is Origin.PRIOR:
                linear[device_class] += value
                found.append((1 - BETWEEN_MODELS) * value**2)
            else:
                found.append(value**2)
        found += [BETWEEN_MODELS * value**2 for value in linear.values()]
        return math.fsum(found)


@dataclass(slots=True)
class _Sums:
    """Sums of one hardware model, integers."""

    prior_u: int = 0
    calibrated: int = 0
    calibrated_u: int = 0
    readings_u: defaultdict[Method, int] = field(default_factory=lambda: defaultdict(int))
    derived: int = 0
    imputed: int = 0
    counters_milliseconds: int = 0
    counters_millijoules: int = 0

    def add(self, group: Alike) -> None:
        for method, sums in group.methods.items():
            self.derived += sums.energy_millijoules
            if method is Method.COUNTER_CALIBRATED:
                self.calibrated += sums.energy_millijoules
                self.calibrated_u += sums.uncertainty_millijoules
            elif method in MEASURED:
                self.readings_u[method] += sums.uncertainty_millijoules
            else:
                self.prior_u += sums.uncertainty_millijoules
        self.imputed += group.imputed_millijoules
        self.counters_milliseconds += group.counters_milliseconds
        self.counters_millijoules += group.counters_millijoules


class ErrorModel:
    """Relative errors of each calibrated hardware model of the sample."""

    def __init__(
        self, machines: Iterable[tuple[Key, Alike]], calibrations: Mapping[HardwareModel, CalibratedWall]
    ) -> None:
        self._meters = {key: wall.meter for key, wall in calibrations.items()}
        self._relative = {
            key: _relative(sums, calibrations.get(key)) for key, sums in _by_model(machines).items()
        }

    def errors(self, machines: Iterable[tuple[Key, Alike]]) -> Errors:
        """Return the errors of the energy of some machines of the sample.
        Imputed energy has the relative error of derived energy.
        """
        found: dict[ErrorKey, float] = {}
        for (device_class, hardware), sums in sorted(_by_model(machines).items()):
            if not sums.derived:
                if sums.imputed:
                    found[Origin.PRIOR, device_class, hardware] = sums.imputed * DEFAULT_U
                continue
            whole = 1 + sums.imputed / sums.derived
            if sums.prior_u:
                found[Origin.PRIOR, device_class, hardware] = sums.prior_u * whole
            for method, u in sums.readings_u.items():
                key = (Origin.READING, device_class, method.value)
                found[key] = found.get(key, 0.0) + u * whole
            if sums.calibrated:
                spread, gain = self._relative[device_class, hardware]
                found[Origin.SPREAD, device_class, hardware] = sums.calibrated * whole * spread
                key = (Origin.GAIN, "", self._meters.get((device_class, hardware), ""))
                found[key] = found.get(key, 0.0) + sums.calibrated * whole * gain
        return Errors(found)


def default_u(device_class: str, declared: Collection[str]) -> float:
    """Return the standard uncertainty of a class default; `declared`: classes at a declared power."""
    return DECLARED_U if device_class in declared else DEFAULT_U


def by_default(device_class: str, energy_millijoules: float, u: float = DEFAULT_U) -> Errors:
    """Return the errors of energy at the class default."""
    return Errors({(Origin.PRIOR, device_class, CLASS_DEFAULT): energy_millijoules * u})


def _by_model(machines: Iterable[tuple[Key, Alike]]) -> dict[HardwareModel, _Sums]:
    found: defaultdict[HardwareModel, _Sums] = defaultdict(_Sums)
    for key, group in machines:
        found[key.stratum.device_class, key.cell.hardware].add(group)
    return found


def _relative(sums: _Sums, wall: CalibratedWall | None) -> tuple[float, float]:
    """Return the relative errors of a model's calibrated energy: (its own, its meter's gain).

    They are √gᵀΣg ÷ E, g over all machines of the model, within the floor and the ceiling of the fit. Without
    a fit: the derived uncertainty, all of it the model's own.
    """
    if not sums.calibrated:
        return 0.0, 0.0
    energy, u = (
        (0, 0) if wall is None else wall.fit.energy(sums.counters_millijoules, sums.counters_milliseconds)
    )
    if wall is None or not energy:
        return sums.calibrated_u / sums.calibrated, 0.0
    gain = min(u, energy * wall.fit.meter_u_ppm / 1_000_000)
    return math.sqrt(u**2 - gain**2) / energy, gain / energy
