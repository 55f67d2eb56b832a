# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines calibrations of hardware models, and their application. Integers only, no I/O. docs/calibration.md.

A fit exists per hardware model and quantity: the wall line of one sum of counters (`wall:package+dram`), the
power off, the power asleep. veilleuse.collector.derive.calibration computes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from math import isqrt
from typing import Any, Final, NamedTuple

from veilleuse.collector.model.hosts import MachineFacts
from veilleuse.wire.vocabulary import DeviceClass, State

THOUSAND: Final = 1_000
"""As in `_milli`."""
MILLION: Final = 1_000_000
"""As in `_ppm`."""
WALL: Final = "wall:"
"""Prefix of the quantity of a wall line; the names of the summed counters follow."""
_LARGEST: Final = 2**62
_LONGEST: Final = 128
_QUANTITY: Final = re.compile(r"wall:[a-z]{1,16}(\+[a-z]{1,16}){0,3}|off|asleep")
_RANGES: Final = {
    "base_microwatts": (-(10**10), 10**10),
    "slope_ppm": (0, 10**7),
    "base_variance": (0, _LARGEST),
    "covariance": (-_LARGEST, _LARGEST),
    "slope_variance": (0, _LARGEST),
    "expansion_ppm": (MILLION, 7 * MILLION),
    "meter_u_ppm": (0, MILLION),
    "floor_u_ppm": (0, MILLION),
    "ceiling_u_ppm": (0, MILLION),
}
"""Ranges of the fields of `Fit`; expansion: 12.7 ÷ 1.96 = 6.48 at one degree of freedom."""
STANDBY: Final = {State.OFF: "off", State.ASLEEP: "asleep"}
"""State → quantity of its power."""


class Hardware(NamedTuple):
    """One hardware model; case and repeated spaces do not count."""

    vendor: str
    model: str
    device_class: DeviceClass

    @classmethod
    def of(cls, facts: MachineFacts) -> Hardware | None:
        """Return the hardware of a machine; None without vendor or model:
        such a machine is never calibrated.
        """
        vendor, model = _plain(facts.vendor), _plain(facts.model)
        return cls(vendor, model, facts.device_class) if vendor and model else None

    def __str__(self) -> str:
        """Return a text for readers."""
        return f"{self.vendor} {self.model} ({self.device_class})"


@dataclass(frozen=True, slots=True)
class Fit:
    """One fitted quantity of one hardware model: P_wall = base + slope·P_counters, or a power alone (slope
    0).

    The covariance is of the mean over the units of the model, k = 1, without the meter's gain error.
    """

    quantity: str
    base_microwatts: int
    slope_ppm: int
    """1,000,000 = one watt at the wall per watt of the counters."""
    base_variance: int
    """µW²."""
    covariance: int
    """µW·ppm."""
    slope_variance: int
    """ppm²."""
    expansion_ppm: int
    """t quantile ÷ 1.959964 × 10⁶ for the degrees of freedom.

    k = 1.96 of a derived value then covers 95 %, however few the units.
    """
    meter_u_ppm: int
    """Gain error of the meter, k = 1: common to all fits made with it."""
    floor_u_ppm: int
    """Least uncertainty of the result."""
    ceiling_u_ppm: int
    """Greatest uncertainty of the result: that of the class's prior, which the fit beat."""

    def energy(self, counted_millijoules: int, milliseconds: int) -> tuple[int, int]:
        """Return (wall mJ, its standard uncertainty in mJ), both ≥ 0,
        for the counters' energy over these milliseconds.
        """
        product = self.base_microwatts * milliseconds + self.slope_ppm * counted_millijoules
        energy = max(0, _round_quotient(product))
        variance = (
            self.base_variance * milliseconds**2
            + 2 * self.covariance * milliseconds * counted_millijoules
            + self.slope_variance * counted_millijoules**2
        )
        spread = _round_quotient(self.expansion_ppm * isqrt(max(0, variance)), MILLION**2)
        gain = _round_quotient(energy * self.meter_u_ppm)
        u = isqrt(spread**2 + gain**2)
        return energy, min(
            max(u, _round_quotient(energy * self.floor_u_ppm)), _round_quotient(energy * self.ceiling_u_ppm)
        )

    def power(self) -> tuple[int, int]:
        """Return (µW, its standard uncertainty in µW) of a power alone."""
        return self.energy(0, MILLION)


@dataclass(frozen=True, slots=True)
class Calibration:
    """All calibrated quantities of one hardware model."""

    hardware: Hardware
    fits: dict[str, Fit] = field(default_factory=dict)
    """Fit by quantity."""

    def wall_for(self, signal: str) -> Fit | None:
        """Return the wall line of this sum of counters (derive.wall names it)."""
        return self.fits.get(WALL + signal)

    def standby(self, state: State) -> Fit | None:
        """Return the power off or asleep, by `Fit.power`; None for other states too."""
        return self.fits.get(STANDBY.get(state, ""))


class CalibrationBook:
    """Calibrations in force, by hardware model."""

    def __init__(self, fits: Iterable[tuple[Hardware, Fit]] = ()) -> None:
        """Take the fits: at most one per hardware model and quantity."""
        self._calibrations: dict[Hardware, Calibration] = {}
        for hardware, fit in fits:
            self._calibrations.setdefault(hardware, Calibration(hardware)).fits[fit.quantity] = fit

    def of(self, facts: MachineFacts) -> Calibration | None:
        """Return the calibration of a machine's model; None without one."""
        if not self._calibrations:
            return None
        hardware = Hardware.of(facts)
        return None if hardware is None else self._calibrations.get(hardware)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Origin of a fit, and its error out of sample. Names no machine."""

    reference: str
    """readings (a file), meters (in the store) or battery."""
    meter: str
    """Meter, as the operator names it, or its kind."""
    units: int
    samples: int
    hours: int
    first_day: str
    last_day: str
    """ISO dates, UTC, of the first and the last sample."""
    degrees_of_freedom_milli: int
    """0 = the spread between units is the prior's (one unit)."""
    error_before_ppm: int
    error_after_ppm: int
    """Relative errors out of sample, root mean square over units: of the prior, and of the fit."""
    source_sha256: str = ""
    """SHA-256 of the file, hexadecimal."""


@dataclass(frozen=True, slots=True)
class KeptFit:
    """A fit as stored."""

    hardware: Hardware
    fit: Fit
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class StoredFit:
    """A stored calibration, in force or ended."""

    calibration_id: int
    kept: KeptFit
    applied_unix_milliseconds: int
    ended_unix_milliseconds: int | None
    """None = in force."""
    ended_by: int | None
    """calibration_id of its successor."""
    marking: bool
    """True until every period of its machines is marked for derivation."""


def facts_of(kept: KeptFit) -> dict[str, Any]:
    """Return a fit for JSON."""
    hardware = {**kept.hardware._asdict(), "device_class": kept.hardware.device_class.value}
    return {**hardware, **asdict(kept.fit), "provenance": asdict(kept.provenance)}


def from_facts(facts: Mapping[str, Any]) -> KeptFit:
    """Parse the result of `facts_of`. Raises ValueError for an impossible fit."""
    provenance = facts.get("provenance")
    if not isinstance(provenance, Mapping):
        raise ValueError("provenance is missing")
    names = {"vendor", "model", "device_class", "quantity", "provenance", *_RANGES}
    if strange := sorted(set(facts) ^ names):
        raise ValueError(f"unknown or missing: {', '.join(strange)}")
    quantity = _text(facts, "quantity")
    if not _QUANTITY.fullmatch(quantity):
        raise ValueError(f"quantity {quantity!r} is none")
    hardware = Hardware(
        _plain(_text(facts, "vendor")),
        _plain(_text(facts, "model")),
        DeviceClass(_text(facts, "device_class")),
    )
    if not hardware.vendor or not hardware.model:
        raise ValueError("vendor or model is empty")
    fit = Fit(quantity, **{name: _whole(facts, name, *bounds) for name, bounds in _RANGES.items()})
    return KeptFit(hardware, fit, _provenance(provenance))


def _provenance(facts: Mapping[str, Any]) -> Provenance:
    if strange := sorted(set(facts) ^ {one.name for one in fields(Provenance)}):
        raise ValueError(f"provenance, unknown or missing: {', '.join(strange)}")
    return Provenance(
        reference=_text(facts, "reference"),
        meter=_text(facts, "meter"),
        units=_whole(facts, "units", 1, _LARGEST),
        samples=_whole(facts, "samples", 1, _LARGEST),
        hours=_whole(facts, "hours", 0, _LARGEST),
        first_day=_text(facts, "first_day"),
        last_day=_text(facts, "last_day"),
        degrees_of_freedom_milli=_whole(facts, "degrees_of_freedom_milli", 0, _LARGEST),
        error_before_ppm=_whole(facts, "error_before_ppm", 0, _LARGEST),
        error_after_ppm=_whole(facts, "error_after_ppm", 0, _LARGEST),
        source_sha256=_text(facts, "source_sha256"),
    )


def _text(facts: Mapping[str, Any], name: str) -> str:
    value = facts.get(name)
    if not isinstance(value, str) or len(value) > _LONGEST or not value.isprintable():
        raise ValueError(f"{name} is no text of at most {_LONGEST} printable characters")
    return value


def _whole(facts: Mapping[str, Any], name: str, lowest: int, highest: int) -> int:
    value = facts.get(name)
    if type(value) is not int or not lowest <= value <= highest:
        raise ValueError(f"{name} is no whole number from {lowest} to {highest}")
    return value


def _plain(text: str | None) -> str:
    return " ".join((text or "").casefold().split())


def _round_quotient(product: int, scale: int = MILLION) -> int:
    """Return product ÷ scale, to the nearest integer."""
    return (product + scale // 2) // scale
