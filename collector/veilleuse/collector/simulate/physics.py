# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes the true power of simulated machines, and their sensors' readings (pure).

Truth = the priors of the derivation × errors that are drawn once. The errors have the size and correlations
of docs/methodology.md §6: common to a hardware model, half common within a class. So a report's interval
should contain the truth in 95 of 100 simulations. For metered or battery energy, the sensor has the error and
the truth has none.
"""

from __future__ import annotations

import math
import random
from typing import Final, NamedTuple

from veilleuse.collector import shipped_tables
from veilleuse.collector.derive import priors
from veilleuse.collector.fleet.estimator import class_defaults
from veilleuse.collector.fleet.samples import DAY_TYPES
from veilleuse.collector.model.calibration import WALL, Fit, Hardware, KeptFit, Provenance
from veilleuse.collector.model.figures import SCREEN_STANDBY_MICROWATTS
from veilleuse.collector.model.months import DayType
from veilleuse.collector.simulate.fleet import SimulatedDevice, SimulationOrder
from veilleuse.collector.simulate.places import VENDOR, Model
from veilleuse.collector.simulate.routines import IDLE_LOAD, Span
from veilleuse.wire.vocabulary import DeviceClass, State, Supply

_MILLION: Final = priors.MILLION
_HALF: Final = math.sqrt(0.5)
"""Correlation 0.5 between two models of a class: docs/methodology.md §6."""
CALIBRATED_U: Final = 0.03
"""Relative standard uncertainty of the simulated calibration."""
UNIT_U: Final = 0.06
"""Relative spread between units of one model."""
_SCREEN_WATTS: Final = shipped_tables.SCREEN_MICROWATTS[1] / _MILLION
_STANDBY_WATTS: Final = SCREEN_STANDBY_MICROWATTS / _MILLION
_DC_SHARE: Final = 0.88
"""DC share of a laptop's power at the wall: its adapter, as in priors."""


class Watts(NamedTuple):
    """Mean powers of one state."""

    wall: float
    """True power at the socket; for battery time, the power that recharges it."""
    package: float = 0.0
    dram: float = 0.0
    battery: float = 0.0
    """Power out of the battery."""


class Physics:
    """Physics of one simulation: each error is drawn at its first use, from its own name."""

    def __init__(self, order: SimulationOrder) -> None:
        self._seed = order.seed
        self._errors: dict[str, float] = {}

    def machine(self, device: SimulatedDevice) -> SimulatedMachine:
        """Return a machine of the fleet."""
        return SimulatedMachine(device, self)

    def screens_watts(self, screens: int, on: int) -> float:
        """Return the power of some screens, `on` of them on."""
        error = self._error("screens", priors.SCREEN_U_PPM[1])
        return on * _SCREEN_WATTS * error + (screens - on) * _STANDBY_WATTS

    def other_device_watts(self, kind: str, day_type: DayType) -> float:
        """Return the power of one device known only by an inventory: its class default with an error."""
        default = class_defaults()[kind]
        watts = default.microwatts[DAY_TYPES.index(day_type)] / _MILLION
        return watts * self._error(f"default/{kind}", priors.u_ppm(default.gsd2))

    def meter_gain(self, fine: bool) -> float:
        """Return reading ÷ truth of PDUs (`fine`), or of BMCs and UPS."""
        u = priors.METER_U_PPM if fine else priors.MACHINE_METER_U_PPM
        return self._error(f"meter/{fine}", u)

    def calibration(self, model: Model) -> KeptFit:
        """Return the calibration of a few units with a meter: near the truth, within its own uncertainty."""
        prior = priors.WALL_PRIORS[model.device_class]
        scale = self.of_model(model, "wall", prior.u_ppm) * math.exp(
            CALIBRATED_U * self._normal(f"fit/{model.name}")
        )
        base, slope = round(prior.base_microwatts * scale), round(prior.slope_ppm * scale)
        u = round(CALIBRATED_U * _MILLION)
        fit = Fit(
            f"{WALL}package+dram",
            base,
            slope,
            base_variance=round((base * CALIBRATED_U) ** 2),
            covariance=round(base * slope * CALIBRATED_U**2),
            slope_variance=round((slope * CALIBRATED_U) ** 2),
            expansion_ppm=_MILLION,
            meter_u_ppm=0,
            floor_u_ppm=u // 2,
            ceiling_u_ppm=prior.u_ppm,
        )
        provenance = Provenance(
            "readings", "simulated meter", 4, 4_000, 96, "2021-01-01", "2021-01-05", 3_000, 200_000, u
        )
        return KeptFit(
            Hardware(VENDOR.casefold(), model.name.casefold(), model.device_class), fit, provenance
        )

    def unit(self, device: SimulatedDevice) -> float:
        """Return the power of a unit relative to the mean of its model."""
        return math.exp(UNIT_U * self._normal(f"unit/{device.number}"))

    def of_model(self, model: Model, what: str, u_ppm: int) -> float:
        """Return exp of an error with correlation 0.5 to that of other models of its class."""
        own = self._normal(f"{what}/{model.name}")
        common = self._normal(f"{what}/class/{model.device_class}")
        return math.exp(u_ppm / _MILLION * _HALF * (own + common))

    def _error(self, name: str, u_ppm: int) -> float:
        return math.exp(u_ppm / _MILLION * self._normal(name))

    def _normal(self, name: str) -> float:
        """Return one draw of the normal law for each name."""
        found = self._errors.get(name)
        if found is None:
            found = self._errors[name] = random.Random(f"{self._seed}/{name}").gauss(0, 1)
        return found


class SimulatedMachine:
    """True powers of one machine in any state."""

    def __init__(self, device: SimulatedDevice, physics: Physics) -> None:
        model = device.model
        self._model = model
        self._unit = physics.unit(device)
        self._prior = priors.WALL_PRIORS.get(model.device_class) if model.has_counters else None
        self._powers = shipped_tables.STATE_POWERS.get(model.device_class)
        self._disks = _disks_microwatts(model)
        u = priors.STATE_POWER_U_PPM if self._powers else priors.THREAD_U_PPM
        self._wall = self._unit * (
            physics.of_model(model, "wall", self._prior.u_ppm)
            if self._prior
            else physics.of_model(model, "load", u)
        )
        self._battery = physics.of_model(model, "battery", priors.BATTERY_U_PPM)
        at_rest = "standby" if self._prior else "load"
        standby = physics.of_model(model, at_rest, priors.STATE_POWER_U_PPM)
        plugged = 1.0
        if model.device_class is DeviceClass.LAPTOP:
            share = priors.DEFAULT_PLUGGED_SHARE_PPM / _MILLION
            plugged = min(1.0, share * physics.of_model(model, "plugged", priors.PLUGGED_SHARE_U_PPM))
        self._standby = {
            (state, supply): Watts(
                self._rest_watts(state) * standby * (1 if supply is Supply.AC else plugged)
            )
            for state in (State.OFF, State.ASLEEP)
            for supply in (Supply.AC, Supply.UNKNOWN)
        }
        self._idle = {supply: self._on(IDLE_LOAD, State.ON_IDLE, supply) for supply in Supply}

    def powers(self, span: Span) -> tuple[Watts, Watts]:
        """Return the power (while active, while idle); both equal where it is neither."""
        if span.state is State.ON_ACTIVE:
            return self._on(span.load, State.ON_ACTIVE, span.supply), self._idle[span.supply]
        if span.state is State.ON_IDLE:
            idle = self._idle[span.supply]
            return idle, idle
        at_rest = self._standby[span.state, span.supply]
        return at_rest, at_rest

    def _on(self, load: float, state: State, supply: Supply) -> Watts:
        if self._prior is None:
            return Watts(self._modelled(load, state) * self._wall)
        model = self._model
        share = shipped_tables.curve_ppm(round(load * _MILLION)) / _MILLION
        package = model.package_idle_watts + (model.package_full_watts - model.package_idle_watts) * share
        counted = package + model.dram_watts
        prior = self._prior
        wall = (prior.base_microwatts + self._disks + prior.slope_ppm * counted) / _MILLION * self._wall
        if supply is not Supply.BATTERY:
            return Watts(wall, package, model.dram_watts)
        drained = wall * _DC_SHARE
        again = drained * priors.BATTERY_TO_WALL_PPM / _MILLION * self._battery
        return Watts(again, package, model.dram_watts, drained)

    def _modelled(self, load: float, state: State) -> float:
        """Return the load model's power, for a machine without counters."""
        if self._powers is None:
            low, high = shipped_tables.thread_microwatts()
            return self._model.cpu_count * (low + (high - low) * load) / _MILLION
        rest = self._powers.idle_microwatts if state is State.ON_IDLE else self._powers.light_microwatts
        share = shipped_tables.curve_ppm(round(load * _MILLION)) / _MILLION
        return (rest + (self._powers.active_microwatts - rest) * share) / _MILLION

    def _rest_watts(self, state: State) -> float:
        if self._powers is None:
            return 0.0
        microwatts = self._powers.off_microwatts if state is State.OFF else self._powers.sleep_microwatts or 0
        return microwatts / _MILLION


def _disks_microwatts(model: Model) -> int:
    if model.device_class is not DeviceClass.SERVER:
        return 0
    hard = model.hard_disks * priors.HARD_DISK_MICROWATTS
    return hard + model.solid_state_disks * priors.SOLID_STATE_DISK_MICROWATTS
