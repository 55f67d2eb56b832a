# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Parses the bytes of Windows calls. Pure: any bytes give a value or a ValueError.

Sources: emi.h (EMI_METADATA_V1 since Windows 10, EMI_METADATA_V2 since 1809), poclass.h (battery), winbase.h
(SYSTEM_POWER_STATUS), winioctl.h (storage). All are little-endian, in the default packing. Channels of
EMI_METADATA_V2 follow one another without padding (macro EMI_CHANNEL_V2_NEXT_CHANNEL). After a name of 2 mod
4 bytes, the next channel is not aligned.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

EMI_V1, EMI_V2 = 1, 2
EMI_PICOWATT_HOURS: Final = 0
LARGEST_METADATA_BYTES: Final = 64 * 1024
MAX_CHANNELS: Final = 512
"""Enough for a processor of 256 cores with two meters each."""
_NAME_BYTES: Final = 32
"""WCHAR[EMI_NAME_MAX]."""
_VERSION: Final = struct.Struct("<H")
_SIZE: Final = struct.Struct("<L")
_V1: Final = struct.Struct(f"<i{_NAME_BYTES}s{_NAME_BYTES}sHH")
_V2: Final = struct.Struct(f"<{_NAME_BYTES}s{_NAME_BYTES}sHH")
_CHANNEL: Final = struct.Struct("<iH")
_MEASUREMENT: Final = struct.Struct("<QQ")

BATTERY_TAG_BYTES: Final = 4
BATTERY_INFORMATION_BYTES: Final = 36
BATTERY_STATUS_BYTES: Final = 16
BATTERY_ON_LINE, BATTERY_DISCHARGING, BATTERY_CHARGING = 1, 2, 4
BATTERY_SYSTEM: Final = 0x80000000
BATTERY_RELATIVE: Final = 0x40000000
BATTERY_SHORT_TERM: Final = 0x20000000
"""Flag of a UPS."""
BATTERY_UNKNOWN_RATE: Final = -0x80000000
_STATUS: Final = struct.Struct("<LLLl")
_POWER_STATUS: Final = struct.Struct("<BBBBLL")

DISK_DESCRIPTOR_BYTES: Final = 32
"""STORAGE_DEVICE_DESCRIPTOR up to its bus type: later texts, such as the serial number, are cut off."""
SEEK_PENALTY_BYTES: Final = 12


class EnergyChannel(NamedTuple):
    """One meter of an EMI device."""

    name: str
    unit: int
    """EMI_PICOWATT_HOURS is the only defined unit."""


class EnergyValue(NamedTuple):
    """One EMI_CHANNEL_MEASUREMENT_DATA."""

    energy_picowatt_hours: int
    time_100ns: int
    """Time of the measurement in units of 100 ns, from any origin; 0 = not given."""


class BatteryStatus(NamedTuple):
    """BATTERY_STATUS."""

    flags: int
    rate_milliwatts: int | None
    """Rate as given, of any sign; None = BATTERY_UNKNOWN_RATE."""


class PowerStatus(NamedTuple):
    """SYSTEM_POWER_STATUS."""

    on_line: bool | None
    has_battery: bool | None


class Disk(NamedTuple):
    """Head of a STORAGE_DEVICE_DESCRIPTOR."""

    removable: bool
    bus: int
    """STORAGE_BUS_TYPE."""


# --------------------------------------------------------------------------------------------- EMI


def emi_version(answer: bytes) -> int:
    """Return 1 or 2. Raises ValueError, also for a later version, whose layout is not known."""
    version = int(_first(_VERSION, answer)[0])
    if version not in (EMI_V1, EMI_V2):
        raise ValueError(f"it speaks version {version} of the energy meter interface, not 1 or 2")
    return version


def emi_metadata_size(answer: bytes) -> int:
    """Return the number of bytes to request. Raises ValueError."""
    size = int(_first(_SIZE, answer)[0])
    if not 0 < size <= LARGEST_METADATA_BYTES:
        raise ValueError(f"its description would take {size} bytes")
    return size


def emi_channels(version: int, metadata: bytes) -> tuple[EnergyChannel, ...]:
    """Return the channels in the order of the measurements.

    Raises ValueError when any channel is truncated, as no index could be trusted.
    """
    if version == EMI_V1:
        unit, _, _, _, length = _first(_V1, metadata)
        return (EnergyChannel(_name(metadata, _V1.size, length), unit),)
    _, _, _, count = _first(_V2, metadata)
    if count > MAX_CHANNELS:
        raise ValueError(f"it has {count} channels")
    found: list[EnergyChannel] = []
    position = _V2.size
    for _ in range(count):
        unit, length = _first(_CHANNEL, metadata[position:])
        position += _CHANNEL.size
        found.append(EnergyChannel(_name(metadata, position, length), unit))
        position += length
    return tuple(found)


def measurement_bytes(channels: int) -> int:
    """Return the size of the answer to IOCTL_EMI_GET_MEASUREMENT."""
    return channels * _MEASUREMENT.size


def emi_measurements(answer: bytes, channels: int) -> tuple[EnergyValue, ...]:
    """Return one value per channel. Raises ValueError for missing bytes."""
    if len(answer) < measurement_bytes(channels):
        raise ValueError(f"{len(answer)} bytes for {channels} channels")
    whole = answer[: measurement_bytes(channels)]
    return tuple(EnergyValue(*pair) for pair in _MEASUREMENT.iter_unpack(whole))


def _name(metadata: bytes, position: int, length: int) -> str:
    """Decode a UTF-16 text with its null. The null may be missing, the bytes may not."""
    text = metadata[position : position + length]
    if len(text) < length or length % 2:
        raise ValueError("a name is cut off")
    return text.decode("utf-16-le", "replace").partition("\0")[0]


# ----------------------------------------------------------------------------------------- battery


def battery_tag(answer: bytes) -> int:
    """Return the tag of the battery in the slot; 0 = none. Raises ValueError."""
    return int(_first(_SIZE, answer)[0])


def information_request(tag: int) -> bytes:
    """Build BATTERY_QUERY_INFORMATION for the level BatteryInformation."""
    return struct.pack("<Lll", tag, 0, 0)


def status_request(tag: int) -> bytes:
    """Build BATTERY_WAIT_STATUS without a wait."""
    return struct.pack("<LLLLL", tag, 0, 0, 0, 0)


def battery_capabilities(answer: bytes) -> int:
    """Return the flags of BATTERY_INFORMATION. Raises ValueError."""
    if len(answer) < BATTERY_INFORMATION_BYTES:
        raise ValueError(f"{len(answer)} bytes of battery information")
    return int(_first(_SIZE, answer)[0])


def battery_status(answer: bytes) -> BatteryStatus:
    """Parse BATTERY_STATUS. Raises ValueError."""
    flags, _, _, rate = _first(_STATUS, answer)
    return BatteryStatus(flags, None if rate == BATTERY_UNKNOWN_RATE else rate)


def power_status(answer: bytes) -> PowerStatus:
    """Parse SYSTEM_POWER_STATUS. Raises ValueError."""
    line, battery, *_ = _first(_POWER_STATUS, answer)
    has = None if battery == 0xFF else not battery & 0x80
    return PowerStatus({0: False, 1: True}.get(line), has)


# ------------------------------------------------------------------------------------------- disks


def property_request(which: int) -> bytes:
    """Build STORAGE_PROPERTY_QUERY of the kind PropertyStandardQuery."""
    return struct.pack("<LLL", which, 0, 0)


def disk(answer: bytes) -> Disk:
    """Parse the head of a STORAGE_DEVICE_DESCRIPTOR. Raises ValueError."""
    if len(answer) < DISK_DESCRIPTOR_BYTES:
        raise ValueError(f"{len(answer)} bytes of a disk's description")
    return Disk(bool(answer[10]), struct.unpack_from("<L", answer, 28)[0])


def disk_serial(answer: bytes) -> str:
    """Return the serial number of a whole STORAGE_DEVICE_DESCRIPTOR; empty where the disk has none.

    It must never leave the machine. Raises ValueError.
    """
    disk(answer)
    (offset,) = struct.unpack_from("<L", answer, 24)
    if not DISK_DESCRIPTOR_BYTES <= offset < len(answer):
        return ""
    return answer[offset:].partition(b"\0")[0].decode("ascii", "replace").strip()


def seek_penalty(answer: bytes) -> bool:
    """Return True for a rotating disk. Raises ValueError."""
    if len(answer) < SEEK_PENALTY_BYTES - 3:  # the last three bytes are padding
        raise ValueError(f"{len(answer)} bytes of a disk's seek penalty")
    return bool(answer[8])


def _first(layout: struct.Struct, answer: bytes) -> tuple[int, ...]:
    try:
        return layout.unpack_from(answer)
    except struct.error as error:
        raise ValueError(f"{len(answer)} bytes where {layout.size} belong") from error
