# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks a device's values: numbers become whole milliwatts and microjoules, other values a ReadFailed.

Also holds what polled meters share: the format of addresses, explanations of network errors, one quantity per
point, and a limit on the rate of requests.
"""

from __future__ import annotations

import errno
import re
import socket
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Point, PowerGauge, Reading
from veilleuse.agent.ports import MeterSpec, SourceContext
from veilleuse.wire.limits import fact_text
from veilleuse.wire.units import MICROJOULES_PER_JOULE, MILLIWATTS_PER_WATT
from veilleuse.wire.vocabulary import PointKind

LARGEST_ENERGY_MICROJOULES: Final = 2**63 - 1
"""2.6 GWh: no meter has counted so much."""
_ADDRESS: Final = re.compile(
    r"\[(?P<six>[0-9A-Fa-f:.]+)\](?::(?P<six_port>\d{1,5}))?"
    r"|(?P<host>[A-Za-z0-9][A-Za-z0-9._-]*)(?::(?P<port>\d{1,5}))?"
)
_NO_WAY: Final = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})


def meter_of(context: SourceContext, source: str) -> MeterSpec:
    """Return the source's meter. Raises SourceUnavailable."""
    if context.meter is None:
        raise SourceUnavailable(
            "no_device", f"{source} reads configured meters only", "add one to meters.toml"
        )
    if not context.meter.address:
        raise SourceUnavailable(
            "no_device",
            f"meter {context.meter.meter} has no address",
            'set address = "host:port" in meters.toml',
        )
    return context.meter


def point_of(kind: PointKind, meter: MeterSpec) -> Point:
    """Return the only point of a meter."""
    return Point(kind, fact_text(meter.meter) or "meter", meter.boundary, meter.subject)


def split_address(address: str, default_port: int) -> tuple[str, int]:
    """Split `host`, `host:port` or `[v6]:port` into (host, port). Raises ValueError."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise ValueError(f"'{address}' is not an address: host:port")
    port = int(match["six_port"] or match["port"] or default_port)
    if not 0 < port < 65536:
        raise ValueError(f"'{address}' has no possible port")
    return match["six"] or match["host"], port


def address_of(meter: MeterSpec, default_port: int) -> tuple[str, int]:
    """Return (host, port) of a configured meter. Raises SourceUnavailable."""
    try:
        return split_address(meter.address, default_port)
    except ValueError as error:
        raise SourceUnavailable(
            "no_device", f"meter {meter.meter}: {error}", "correct address in meters.toml"
        ) from error


def explain_network_error(error: OSError) -> str:
    """Explain a network error, and what to do about it."""
    if isinstance(error, socket.gaierror):
        return "its name is not known here; correct it in meters.toml, or give a numeric address"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens at this port (Connection refused); is the service up, is the port right?"
    if error.errno in _NO_WAY:
        return (
            f"it cannot be reached from here ({error.strerror}); check its address, the network and firewalls"
        )
    return str(error.strerror or error)


def inside(document: Any, *keys: str | int) -> Any:
    """Return the value below these keys; None when one is missing or of another type."""
    for key in keys:
        if isinstance(document, dict) and isinstance(key, str):
            document = document.get(key)
        elif isinstance(document, list) and isinstance(key, int) and 0 <= key < len(document):
            document = document[key]
        else:
            return None
    return document


def number(value: Any, what: str) -> Decimal | None:
    """Return a finite number ≥ 0; None when the value is null or missing.

    Raises ReadFailed otherwise, also for a text that looks like a number.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise ReadFailed(f"{what} is not a number")
    exact = Decimal(value)
    if exact < 0:
        raise ReadFailed(f"{what} is negative")
    if exact.adjusted() > 18:  # before any arithmetic: 1e999999 would fill the memory
        raise ReadFailed(f"{what} is impossibly large")
    return exact


def milliwatts(value: Any, what: str, ceiling_watts: float) -> int | None:
    """Return whole milliwatts, at most the ceiling; None when null or missing. Raises ReadFailed."""
    exact = number(value, what)
    if exact is None:
        return None
    if exact > Decimal(ceiling_watts):
        raise ReadFailed(f"{what} is above the meter's ceiling of {ceiling_watts:g} W")
    return int(exact * MILLIWATTS_PER_WATT)


class OneQuantity:
    """Chooses the counter or the gauge of one point, never both in turns.

    A gauge between two counter values would count that time twice. So after the first counter value only the
    counter is used, and a moment without it is a gap. A counter is usable only when its step is small against
    the ceiling's energy between two reads. Otherwise each step looks like a jump (model.difference), and its
    energy is lost.
    """

    def __init__(self, point: Point, meter: MeterSpec) -> None:
        self._point = point
        self._meter = meter
        self._largest_step = Decimal(meter.ceiling_watts) * meter.every_seconds * MICROJOULES_PER_JOULE / 2
        self._step: Decimal | None = None
        self._counted = False

    def reading(self, energy: Any, unit_microjoules: int, power: Any) -> Reading:
        """Return the reading of the raw energy (in units of `unit_microjoules`), else of the raw power in W.

        Raises ReadFailed when neither is usable.
        """
        exact = number(energy, "the energy counter")
        if exact is not None and self._is_fine(exact, unit_microjoules):
            microjoules = int(exact * unit_microjoules)
            if microjoules > LARGEST_ENERGY_MICROJOULES:
                raise ReadFailed("the energy counter is impossibly large")
            self._counted = True
            return EnergyCounter(self._point, microjoules, None, self._meter.ceiling_watts)
        if self._counted:
            raise ReadFailed("the energy counter is missing")
        gauge = milliwatts(power, "the power", self._meter.ceiling_watts)
        if gauge is not None:
            return PowerGauge(self._point, gauge)
        if exact is not None:
            raise ReadFailed(
                "the energy counter is too coarse for this ceiling and interval, and there is no power"
            )
        raise ReadFailed("the answer holds neither energy nor power")

    def _is_fine(self, exact: Decimal, unit_microjoules: int) -> bool:
        """Tell whether the counter's step is small enough.

        The finest step ever seen counts: 12.50 may be written 12.5.
        """
        exponent = exact.as_tuple().exponent
        places = min(18, max(0, -exponent)) if isinstance(exponent, int) else 0
        step = unit_microjoules / Decimal(10**places)
        self._step = step if self._step is None else min(self._step, step)
        return self._step <= self._largest_step


class RateLimiter:
    """Limits the rate of requests to a device; in between it repeats the last reading or failure."""

    def __init__(self, ask: Callable[[], tuple[Reading, ...]]) -> None:
        self._ask = ask
        self._asked_at: float | None = None
        self._readings: tuple[Reading, ...] = ()
        self._failure = ""

    def read(self, pause_seconds: float) -> tuple[Reading, ...]:
        """Return the readings.

        Raises ReadFailed. The pause is one second shorter: the scheduler is never exact.
        """
        now = time.monotonic()
        if self._asked_at is None or now - self._asked_at >= pause_seconds - 1:
            self._asked_at, self._readings, self._failure = now, (), ""
            try:
                self._readings = self._ask()
            except ReadFailed as error:
                self._failure = str(error)
                raise
        if self._failure:
            raise ReadFailed(self._failure)
        return self._readings

    def forget(self) -> None:
        """Make the next read ask the device."""
        self._asked_at = None
