# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads a PDU or UPS over SNMP: its energy counter when that is fine enough, else its power.

The objects are in snmp_profiles.py. A counter loses nothing between two reads, but moves in steps. 0.1 kWh on
an APC outlet is one step an hour at 100 W: a record of five minutes would show 0 W or 1.2 kW. Such a counter
is read only when there is nothing else, or when the configuration asks for it. Its ceiling then allows one
step, so that a step is never taken for a counter set back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn

from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Point, PowerGauge, Reading
from veilleuse.agent.ports import MeterSpec, SourceContext
from veilleuse.agent.sources.meters_file import read_credentials
from veilleuse.agent.sources.readings import (
    LARGEST_ENERGY_MICROJOULES,
    address_of,
    explain_network_error,
    meter_of,
    point_of,
)
from veilleuse.agent.sources.snmp_profiles import MICROJOULES, MILLIWATTS, PROFILES, Objects, SnmpMeterPoint
from veilleuse.wire.units import MICROJOULES_PER_JOULE
from veilleuse.wire.vocabulary import PointKind

if TYPE_CHECKING:
    from veilleuse.agent.sources.snmp_client import Client, Community, User

GENERIC: Final = "generic"
_OID: Final = re.compile(r"\.?[0-2](\.[0-9]{1,10}){2,60}")
_SCALE: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_KINDS: Final = {"pdu": PointKind.PDU, "ups": PointKind.UPS, "plug": PointKind.PLUG}
_LARGEST_SUM: Final = 12
"""Largest number of OIDs of `generic` that are summed: the phases of four inlets."""
_MOST_DIGITS: Final = 6
_SHORTEST_SECRET: Final = 8
"""Smallest length of a secret, RFC 3414, §11.2."""


class SnmpMeter:
    """`ports.Source`: one counter or gauge of an outlet, a phase, a whole PDU or UPS."""

    name = "snmp_meter"
    OPTIONS: ClassVar[Mapping[str, type]] = {
        "profile": str,
        "outlet": int,
        "phase": int,
        "inlet": int,
        "pdu": int,
        "side": str,
        "quantity": str,
        "oid": str,
        "unit": str,
        "scale": str,
        "counter_range": int,
        "kind": str,
        "authentication": str,
        "privacy": str,
        "privacy_file": str,
        "context": str,
    }
    """`profile`: one of PROFILES or generic. quantity: energy or power; default = energy if it is counted."""

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._client: Client | None = None
        self._point: Point | None = None
        self._objects: Objects | None = None
        self._reads_energy = False

    def open(self) -> tuple[Point, ...]:
        """Find the quantity that the device counts.

        Raises SourceUnavailable, or ReadFailed without an answer now.
        """
        self.close()
        meter = meter_of(self._context, self.name)
        place = _place(meter)
        client = self._client = _client(meter)
        try:
            self._reads_energy = self._choose_energy(meter, client, place)
        except BaseException:
            self.close()
            raise
        self._objects = place.energy if self._reads_energy else place.power
        self._point = point_of(place.kind, meter)
        return (self._point,)

    def read(self) -> tuple[Reading, ...]:
        """Return one reading.

        Raises ReadFailed when it is missing, no integer, negative or above the meter's ceiling.
        """
        meter, client, point, objects = self._context.meter, self._client, self._point, self._objects
        if meter is None or client is None or point is None or objects is None:
            raise ReadFailed("the meter is not open")
        try:
            value, step = _amount(client, meter, objects)
        except SourceUnavailable as error:
            raise ReadFailed(str(error)) from error
        if not self._reads_energy:
            if value > meter.ceiling_watts * MILLIWATTS["W"]:
                raise ReadFailed(
                    f"{_where(meter)}: {objects.name} is {float(value) / MILLIWATTS['W']:g} W,"
                    f" above the meter's ceiling of {meter.ceiling_watts:g} W;"
                    " raise ceiling_watts if it is true"
                )
            return (PowerGauge(point, round(value)),)
        if value > LARGEST_ENERGY_MICROJOULES:
            raise ReadFailed(f"{_where(meter)}: {objects.name} is larger than any meter counts")
        turn = int(meter.options.get("counter_range", 0))
        return (
            EnergyCounter(point, int(value), int(turn * objects.scale) or None, _ceiling_watts(meter, step)),
        )

    def close(self) -> None:
        """Close the socket; may be called twice."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _choose_energy(self, meter: MeterSpec, client: Client, place: SnmpMeterPoint) -> bool:
        """Return True to read energy, False to read power.

        The configured quantity comes first. Otherwise energy is read if it is counted finely, or if there is
        no power.
        """
        wanted = str(meter.options.get("quantity", ""))
        missing: list[str] = []
        coarse = False
        for quantity, objects in (("energy", place.energy), ("power", place.power)):
            if objects is None or not objects.oids or wanted not in ("", quantity):
                continue
            try:
                _, step = _amount(client, meter, objects)
            except _Missing as error:
                missing.append(error.reason)
                continue
            if quantity == "power" or wanted or step <= _largest_step(meter):
                return quantity == "energy"
            coarse = True
        if coarse:
            return True
        raise SourceUnavailable(
            "no_device",
            f"{_where(meter)}: {'; '.join(missing) or f'this place has no {wanted}'}",
            "check profile, outlet and pdu against the device: snmpwalk shows what it has",
        )


class _Missing(ReadFailed):
    """The device answers, but without this quantity."""

    def __init__(self, meter: MeterSpec, reason: str) -> None:
        super().__init__(f"{_where(meter)}: {reason}")
        self.reason = reason


# ------------------------------------------------------------------------------------- what to ask


def _place(meter: MeterSpec) -> SnmpMeterPoint:
    """Return the objects that the options name, with complete OIDs. Raises SourceUnavailable."""
    options = meter.options
    if str(options.get("quantity", "")) not in ("", "energy", "power"):
        _refuse(meter, "quantity is energy or power")
    profile = str(options.get("profile", ""))
    if profile == GENERIC:
        return _generic(meter)
    if profile not in PROFILES:
        what = f"there is no profile {profile!r}: " if profile else ""
        _refuse(meter, f"{what}profile is one of {', '.join((*PROFILES, GENERIC))}")
    name = "outlet" if "outlet" in options else "phase" if "phase" in options else "device"
    if options.get("side", "output") == "input":
        name = "input"
    place = PROFILES[profile].get(name)
    if place is None:
        _refuse(meter, f"the profile {profile} has no {name}; it has {', '.join(PROFILES[profile])}")
    indices: dict[str, int] = {}
    for option, default in place.options:
        index = options.get(option, default)
        if not isinstance(index, int) or index < 0:
            _refuse(meter, f"{option} is the number of a row, 0 or more")
        indices[option] = index
    return place._replace(
        power=_fill_indices(place.power, indices),
        energy=place.energy and _fill_indices(place.energy, indices),
    )


def _fill_indices(objects: Objects, indices: Mapping[str, int]) -> Objects:
    return objects._replace(
        oids=tuple(oid.format(**indices) for oid in objects.oids),
        digits=objects.digits.format(**indices),
        unit=objects.unit.format(**indices),
    )


def _generic(meter: MeterSpec) -> SnmpMeterPoint:
    """Return the objects of the options: OIDs that are summed, a unit, a factor."""
    options = meter.options
    oids = tuple(oid.strip().removeprefix(".") for oid in str(options.get("oid", "")).split(","))
    if len(oids) > _LARGEST_SUM or not all(_OID.fullmatch(oid) for oid in oids):
        _refuse(meter, f"oid is an OID in numbers, or up to {_LARGEST_SUM} of them, with commas, that add up")
    unit, scale = str(options.get("unit", "")), str(options.get("scale", "1"))
    if unit not in MILLIWATTS and unit not in MICROJOULES:
        _refuse(meter, f"unit is one of {', '.join((*MILLIWATTS, *MICROJOULES))}")
    if not _SCALE.fullmatch(scale) or not Fraction(scale):
        _refuse(meter, 'scale is a decimal number above 0, in quotes, e.g. "0.1"')
    kind = str(options.get("kind", "pdu"))
    if kind not in _KINDS:
        _refuse(meter, f"kind is one of {', '.join(_KINDS)}")
    if not 0 <= int(options.get("counter_range", 0)) <= 2**64:
        _refuse(meter, "counter_range is the value after which the counter restarts at 0")
    name = f"the sum of {len(oids)} OIDs" if len(oids) > 1 else oids[0]
    nothing = Objects(name, (), Fraction(1))
    if unit in MILLIWATTS:
        return SnmpMeterPoint(_KINDS[kind], Objects(name, oids, Fraction(scale) * MILLIWATTS[unit]))
    return SnmpMeterPoint(_KINDS[kind], nothing, Objects(name, oids, Fraction(scale) * MICROJOULES[unit]))


def _refuse(meter: MeterSpec, must: str) -> NoReturn:
    raise SourceUnavailable("no_device", f"{meter.meter}: {must}", "correct its options in meters.toml")


# ---------------------------------------------------------------------------------------- the device


def _client(meter: MeterSpec) -> Client:
    """Build the client. Raises SourceUnavailable."""
    try:
        from veilleuse.agent.sources.snmp_client import DEFAULT_PORT, Client

        return Client(*address_of(meter, DEFAULT_PORT), meter.timeout_seconds, _security(meter))
    except ImportError as error:
        raise SourceUnavailable(
            "missing_library",
            f"snmp_meter needs pysnmp: {error}",
            "install the extra: pip install 'veilleuse[snmp]'",
        ) from error


def _security(meter: MeterSpec) -> Community | User:
    """Return v3 when the credentials have a name, else v2c; `public` without credentials."""
    from veilleuse.agent.sources.snmp_client import AUTHENTICATION, PRIVACY, Community, User

    if not meter.credentials_file:
        return Community("public")
    name, secret = read_credentials(meter.credentials_file)
    if not name:
        return Community(secret)
    authentication = str(meter.options.get("authentication", "sha"))
    privacy = str(meter.options.get("privacy", "aes128"))
    if authentication not in AUTHENTICATION:
        _refuse(meter, f"authentication is one of {', '.join(AUTHENTICATION)}")
    if privacy not in PRIVACY:
        _refuse(meter, f"privacy is one of {', '.join(PRIVACY)}")
    second = str(meter.options.get("privacy_file", ""))
    privacy_secret = read_credentials(second)[1] if second else secret
    if min(len(secret), len(privacy_secret)) < _SHORTEST_SECRET:
        _refuse(meter, f"the secrets of SNMP v3 have {_SHORTEST_SECRET} characters at least")
    return User(name, secret, privacy_secret, authentication, privacy, str(meter.options.get("context", "")))


def _amount(client: Client, meter: MeterSpec, objects: Objects) -> tuple[Fraction, Fraction]:
    """Return (value, step of the last digit), in milliwatts or microjoules, ≥ 0.

    Raises ReadFailed, SourceUnavailable.
    """
    extra = [oid for oid in (objects.lines, objects.digits, objects.unit) if oid]
    asked = (*objects.oids, *extra)
    values = dict(zip(asked, _ask_device(client, meter, asked), strict=True))
    count = len(objects.oids)
    if objects.lines:
        count = _whole(meter, objects, values[objects.lines])
        if not 1 <= count <= len(objects.oids):
            raise ReadFailed(f"{_where(meter)}: it reports {count} lines")
    scale = objects.scale
    if objects.unit and (unit := _whole(meter, objects, values[objects.unit])) != objects.unit_is:
        raise _Missing(meter, f"{objects.name} is in unit {unit}, not {objects.unit_is}")
    if objects.digits:
        digits = _whole(meter, objects, values[objects.digits])
        if digits > _MOST_DIGITS:
            raise ReadFailed(f"{_where(meter)}: {objects.name} is reported with {digits} decimals")
        scale = scale / 10**digits
    return sum(_whole(meter, objects, values[oid]) for oid in objects.oids[:count]) * scale, scale


def _whole(meter: MeterSpec, objects: Objects, value: object) -> int:
    """Return an integer ≥ 0.

    Raises _Missing when there is none, when it is of another type, or negative: makers use this for `not
    supported`.
    """
    number = getattr(value, "number", None)
    if number is None:
        raise _Missing(meter, f"{objects.name} is not an integer but {getattr(value, 'problem', value)}")
    if number < 0:
        raise _Missing(meter, f"{objects.name} is {number}: not measured by this device")
    return int(number)


def _ask_device(client: Client, meter: MeterSpec, oids: tuple[str, ...]) -> tuple[object, ...]:
    from veilleuse.agent.sources.snmp_client import Silent, SnmpAccessError, SnmpResponseError

    where = _where(meter)
    try:
        return client.get(oids)
    except Silent as error:
        likeness = "a wrong privacy secret" if _is_v3(meter) else "a wrong community"
        raise ReadFailed(
            f"{where}: no answer within {meter.timeout_seconds:g} s; is it on, is UDP open? "
            f"{likeness} looks the same, and so does the device's access list"
        ) from error
    except SnmpAccessError as error:
        raise SourceUnavailable(
            "no_permission",
            f"{where}: {error}",
            "check credentials_file, authentication, privacy and the device's user",
        ) from error
    except OSError as error:
        raise ReadFailed(f"{where}: {explain_network_error(error)}") from error
    except SnmpResponseError as error:
        raise ReadFailed(f"{where}: {error}") from error


def _is_v3(meter: MeterSpec) -> bool:
    try:
        return bool(meter.credentials_file and read_credentials(meter.credentials_file)[0])
    except SourceUnavailable:
        return False


def _where(meter: MeterSpec) -> str:
    return f"{meter.meter} ({meter.address})"


def _largest_step(meter: MeterSpec) -> Fraction:
    """Return the largest usable step, in µJ: the ceiling's energy in half the time between two reads.

    As in readings.OneQuantity.
    """
    return Fraction(meter.ceiling_watts) * meter.every_seconds * MICROJOULES_PER_JOULE / 2


def _ceiling_watts(meter: MeterSpec, step_microjoules: Fraction) -> float:
    """Return the meter's ceiling plus one step of the counter in half the time between two reads.

    Half the time, because a read that came early may have a step too.
    """
    step_watts = float(step_microjoules / MICROJOULES_PER_JOULE) / (meter.every_seconds / 2)
    return meter.ceiling_watts + step_watts
