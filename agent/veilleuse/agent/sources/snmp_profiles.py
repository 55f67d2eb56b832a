# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""SNMP objects of PDUs and UPSs: one row per maker and place, each object with its MIB, OID and unit.

Sources: PowerNet-MIB 4.5.2 (2023, APC/Schneider), PDU2-MIB of 2022-09-21 (Raritan/Legrand), EATON-EPDU-MIB
(Eaton G3 and later), UPS-MIB (RFC 1628). Units are those of the objects' DESCRIPTION, unless said otherwise.
No counter here wraps in practice: the smallest has 31 bits of 0.1 kWh.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final, NamedTuple

from veilleuse.wire.units import (
    MICROJOULES_PER_KILOWATT_HOUR,
    MICROJOULES_PER_MILLIJOULE,
    MICROJOULES_PER_WATT_HOUR,
    MILLIJOULES_PER_UNIT,
)
from veilleuse.wire.vocabulary import PointKind

MILLIWATTS: Final = {"mW": 1, "W": 1_000, "kW": 1_000_000}
"""Unit → milliwatts: the gauges of the profile `generic`."""
MICROJOULES: Final = {
    unit: millijoules * MICROJOULES_PER_MILLIJOULE for unit, millijoules in MILLIJOULES_PER_UNIT.items()
}
"""Unit → microjoules: the counters of the profile `generic`."""


class Objects(NamedTuple):
    """One quantity: objects that are summed."""

    name: str
    """Name in the MIB."""
    oids: tuple[str, ...]
    """OIDs, with {pdu}, {inlet}, {phase}, {outlet} in place of the row's index."""
    scale: Fraction
    """Milliwatts, or microjoules, per unit of the object."""
    lines: str = ""
    """OID of the number of `oids` that exist; empty = all."""
    digits: str = ""
    """OID of the number of decimals; empty = none."""
    unit: str = ""
    """OID of the unit; empty = the device does not report it."""
    unit_is: int = 0
    """Required value of `unit`."""


class SnmpMeterPoint(NamedTuple):
    """A point that is measured: an outlet, a phase, the whole device."""

    kind: PointKind
    power: Objects
    energy: Objects | None = None
    options: tuple[tuple[str, int | None], ...] = ()
    """Options that fill the OIDs, and their defaults; None = required."""


def _one(name: str, oid: str, scale: Fraction | int) -> Objects:
    return Objects(name, (oid,), Fraction(scale))


# ------------------------------------------------------------------------ APC: PowerNet-MIB, 1.3.6.1.4.1.318

_APC: Final = "1.3.6.1.4.1.318.1.1"
_HUNDREDTH_OF_KW: Final = Fraction(MILLIWATTS["kW"], 100)
_TENTH_OF_KWH: Final = Fraction(MICROJOULES_PER_KILOWATT_HOUR, 10)
_HUNDREDTH_OF_KWH: Final = Fraction(MICROJOULES_PER_KILOWATT_HOUR, 100)

_APC_RPDU2: Final = {
    "device": SnmpMeterPoint(
        PointKind.PDU,
        _one("rPDU2DeviceStatusPower", f"{_APC}.26.4.3.1.5.{{pdu}}", _HUNDREDTH_OF_KW),
        _one("rPDU2DeviceStatusEnergy", f"{_APC}.26.4.3.1.9.{{pdu}}", _TENTH_OF_KWH),
        (("pdu", 1),),
    ),
    "phase": SnmpMeterPoint(
        PointKind.PDU,
        _one("rPDU2PhaseStatusPower", f"{_APC}.26.6.3.1.7.{{phase}}", _HUNDREDTH_OF_KW),
        None,
        (("phase", None),),
    ),
    "outlet": SnmpMeterPoint(
        PointKind.PDU,
        # The MIB does not give the unit. LibreNMS and the users of Grid'5000's AP8653 use watts.
        _one("rPDU2OutletMeteredStatusPower", f"{_APC}.26.9.4.3.1.7.{{outlet}}", MILLIWATTS["W"]),
        _one("rPDU2OutletMeteredStatusEnergy", f"{_APC}.26.9.4.3.1.11.{{outlet}}", _TENTH_OF_KWH),
        (("outlet", None),),
    ),
}
_APC_UPS: Final = {
    "device": SnmpMeterPoint(
        PointKind.UPS,
        _one("upsAdvOutputActivePower", f"{_APC}.1.4.2.8.0", MILLIWATTS["W"]),
        _one("upsHighPrecOutputEnergyUsage", f"{_APC}.1.4.3.6.0", _HUNDREDTH_OF_KWH),
    ),
}

# ---------------------------------------------------------------------- Raritan: PDU2-MIB,
# 1.3.6.1.4.1.13742.6

_RARITAN: Final = "1.3.6.1.4.1.13742.6"
_ACTIVE_POWER: Final = 5
_ACTIVE_ENERGY: Final = 8
"""Value of SensorTypeEnumeration."""
_WATT: Final = 3
_WATT_HOUR: Final = 5
"""Value of SensorUnitsEnumeration."""


def _raritan(place: str, values: str, settings: str, index: str) -> SnmpMeterPoint:
    """Build a point.

    `values`: measurements…SensorValue; `settings`: …SensorConfigurationEntry, 6 = units, 7 = decimal digits.
    """

    def sensor(type_: int, scale: int, unit: int) -> Objects:
        row = f"{index}.{type_}"
        return Objects(
            f"measurements{place}SensorValue",
            (f"{_RARITAN}.{values}.{row}",),
            Fraction(scale),
            digits=f"{_RARITAN}.{settings}.7.{row}",
            unit=f"{_RARITAN}.{settings}.6.{row}",
            unit_is=unit,
        )

    return SnmpMeterPoint(
        PointKind.PDU,
        sensor(_ACTIVE_POWER, MILLIWATTS["W"], _WATT),
        sensor(_ACTIVE_ENERGY, MICROJOULES_PER_WATT_HOUR, _WATT_HOUR),
        (("pdu", 1), ("inlet", 1)) if place == "Inlet" else (("pdu", 1), ("outlet", None)),
    )


_RARITAN_PX: Final = {
    "device": _raritan("Inlet", "5.2.3.1.4", "3.3.4.1", "{pdu}.{inlet}"),
    "outlet": _raritan("Outlet", "5.4.3.1.4", "3.5.4.1", "{pdu}.{outlet}"),
}

# --------------------------------------------------------------- Eaton: EATON-EPDU-MIB, 1.3.6.1.4.1.534.6.6.7

_EATON: Final = "1.3.6.1.4.1.534.6.6.7"


def _eaton(
    name: str, row: str, columns: tuple[int, int], index: tuple[tuple[str, int | None], ...]
) -> SnmpMeterPoint:
    """Build a point from the `columns` of watts and watt-hours.

    strappingIndex is 0 for a unit that is not in a chain.
    """
    suffix = ".".join(f"{{{option}}}" for option, _ in index)
    return SnmpMeterPoint(
        PointKind.PDU,
        _one(f"{name}Watts", f"{_EATON}.{row}.{columns[0]}.{suffix}", MILLIWATTS["W"]),
        _one(f"{name}Wh", f"{_EATON}.{row}.{columns[1]}.{suffix}", MICROJOULES_PER_WATT_HOUR),
        index,
    )


_EATON_EPDU: Final = {
    "device": _eaton("inputTotal", "3.5.1", (4, 5), (("pdu", 0), ("inlet", 1))),
    "phase": _eaton("input", "3.4.1", (4, 5), (("pdu", 0), ("inlet", 1), ("phase", None))),
    "outlet": _eaton("outlet", "6.5.1", (3, 4), (("pdu", 0), ("outlet", None))),
}

# ----------------------------------------------------------------------- any UPS: UPS-MIB, RFC 1628,
# 1.3.6.1.2.1.33

_UPS_MIB: Final = "1.3.6.1.2.1.33.1"
_LINES: Final = (1, 2, 3)


def _ups_lines(name: str, row: str, lines: str) -> SnmpMeterPoint:
    oids = tuple(f"{_UPS_MIB}.{row}.{line}" for line in _LINES)
    return SnmpMeterPoint(
        PointKind.UPS, Objects(name, oids, Fraction(MILLIWATTS["W"]), lines=f"{_UPS_MIB}.{lines}.0")
    )


_UPS: Final = {
    "device": _ups_lines("upsOutputPower", "4.4.1.4", "4.3"),
    "input": _ups_lines("upsInputTruePower", "3.3.1.5", "3.2"),
}

PROFILES: Final[dict[str, dict[str, SnmpMeterPoint]]] = {
    "apc_rpdu2": _APC_RPDU2,
    "apc_ups": _APC_UPS,
    "raritan_px": _RARITAN_PX,
    "eaton_epdu": _EATON_EPDU,
    "ups_mib": _UPS,
}
"""Profile → place → objects. For a missing maker use the profile `generic`, or add a table here."""
