# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the XML that FusionInventory and GLPI's agent write for one machine, plain or compressed (.ocs: gzip,
zlib).

Only HARDWARE, BIOS, MONITORS and ACCOUNTINFO (the tag) of CONTENT are read: never users, software, processes
or networks. Document types and entities are refused: nothing in a file can grow, read another file or use the
network.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field
from typing import Any, Final
from xml.parsers import expat

from veilleuse.collector.errors import UsageError
from veilleuse.collector.inventory.assets import AssetFields, add_asset
from veilleuse.collector.inventory.mapping import InventoryMapping
from veilleuse.collector.inventory.rows import InventoryReading
from veilleuse.wire.pseudonym import normalise_serial, normalise_uuid

SOURCE: Final = "fusioninventory"
MAXIMUM_BYTES: Final = 32 * 1024 * 1024
"""Largest unpacked file, in bytes. A machine with all its software has 0.2 to 2 MB."""
MAXIMUM_DEPTH: Final = 12
MAXIMUM_ELEMENTS: Final = 500_000
MAXIMUM_TEXT: Final = 4_096
_READ: Final = frozenset({"HARDWARE", "BIOS", "MONITORS", "ACCOUNTINFO"})
_GZIP: Final = b"\x1f\x8b"
_ZLIB: Final = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_STARTED: Final = re.compile(r"-\d{4}(-\d\d){5}$")
_NO_TAG: Final = frozenset(
    {
        "NOASSETTAG", "NOASSETINFORMATION", "ASSETTAG", "CHASSISASSETTAG", "BASEBOARDASSETTAG", "ASSET1234567890",
        "ATN12345678901234567", "TOBEFILLED",
    }
)  # fmt: skip
"""Normalised placeholders of firmware and hypervisors for an asset tag that nobody has set."""
_INTERNAL_PANEL: Final = (
    "laptop",
    "notebook",
    "portable",
    "sub notebook",
    "convertible",
    "detachable",
    "all in one",
)
"""Chassis with a built-in panel: one of the listed monitors is this panel."""


@dataclass(slots=True)
class _Machine:
    """Sections of a file that are read."""

    sections: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    device_id: str = ""

    def first(self, section: str) -> dict[str, str]:
        return next((fields for name, fields in self.sections if name == section), {})

    def count(self, section: str) -> int:
        return sum(name == section for name, _ in self.sections)


def read(reading: InventoryReading, words: InventoryMapping, data: bytes, name: str) -> None:
    """Read one machine. Raises UsageError when the file is no inventory or is not safe."""
    machine = _parse(unpacked(data, name), name)
    hardware, bios = machine.first("HARDWARE"), machine.first("BIOS")
    if not hardware and not bios:
        raise UsageError(f"{name} is no inventory of a machine: it has neither HARDWARE nor BIOS")
    serial, uuid = _serial(bios), hardware.get("UUID", "")
    cells = {
        "key": "" if normalise_serial(serial) or normalise_uuid(uuid) else _lasting(machine.device_id),
        "name": hardware.get("NAME", ""),
        "serial": serial,
        "uuid": uuid,
        "vendor": bios.get("SMANUFACTURER", ""),
        "model": bios.get("SMODEL", ""),
        "type": hardware.get("CHASSIS_TYPE", "") or bios.get("TYPE", ""),
        "vm": hardware.get("VMSYSTEM", ""),
    }
    tag = machine.first("ACCOUNTINFO")
    if tag.get("KEYNAME") == "TAG" and (said := tag.get("KEYVALUE", "")):
        if said not in words.tags:
            reading.not_known("tag", said)
        cells["entity"] = words.tags.get(said, "")
    if (asset_tag := normalise_serial(bios.get("ASSETTAG", ""))) and asset_tag not in _NO_TAG:
        cells["inventory_number"] = asset_tag
    if machine.count("MONITORS"):
        cells["displays"] = str(_external(machine.count("MONITORS"), cells["type"]))
    headings = {
        "key": "DEVICEID", "name": "HARDWARE/NAME", "serial": "BIOS/SSN", "uuid": "HARDWARE/UUID",
        "vendor": "BIOS/SMANUFACTURER", "model": "BIOS/SMODEL", "type": "HARDWARE/CHASSIS_TYPE",
        "vm": "HARDWARE/VMSYSTEM", "displays": "MONITORS", "inventory_number": "BIOS/ASSETTAG", "entity": "ACCOUNTINFO",
    }  # fmt: skip
    add_asset(reading, words, AssetFields(name, "computer", cells, headings, by_hardware=True))


def _lasting(device_id: str) -> str:
    """Remove the agent's start time from a device id: an agent that keeps no state writes a new one each
    time.
    """
    return _STARTED.sub("", device_id)


def _serial(bios: dict[str, str]) -> str:
    """Return the serial number of the machine, else of its board, in the order that GLPI uses."""
    return next((text for key in ("SSN", "MSN") if normalise_serial(text := bios.get(key, ""))), "")


def _external(monitors: int, chassis: str) -> int:
    return max(0, monitors - (chassis.casefold().replace("-", " ") in _INTERNAL_PANEL))


def unpacked(data: bytes, name: str) -> bytes:
    """Unpack the XML of a file. Raises UsageError above MAXIMUM_BYTES, however small the packed file is."""
    if not data.startswith((_GZIP, *_ZLIB)):
        if len(data) > MAXIMUM_BYTES:
            raise UsageError(f"{name} has {len(data)} bytes, at most {MAXIMUM_BYTES}")
        return data
    unpacking = zlib.decompressobj(wbits=47)  # 32 + 15: gzip or zlib, by its header (zlib.h)
    try:
        text = unpacking.decompress(data, MAXIMUM_BYTES + 1)
    except zlib.error as error:
        raise UsageError(f"{name} is damaged: {error}") from error
    if len(text) > MAXIMUM_BYTES:
        raise UsageError(f"{name} unpacks to more than {MAXIMUM_BYTES} bytes: this is no inventory")
    if not unpacking.eof:
        raise UsageError(f"{name} is cut: copy it again")
    return text


def looks_like(data: bytes) -> bool:
    """Tell whether a file may be XML, plain or packed."""
    return data.startswith((_GZIP, *_ZLIB)) or data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<"


def _parse(data: bytes, name: str) -> _Machine:
    machine = _Machine()
    handler = _Handler(machine, name)
    parser = expat.ParserCreate()
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    parser.buffer_text = True
    parser.StartElementHandler = handler.start
    parser.EndElementHandler = handler.end
    parser.CharacterDataHandler = handler.text
    parser.StartDoctypeDeclHandler = handler.refuse
    parser.EntityDeclHandler = handler.refuse
    parser.ExternalEntityRefHandler = handler.refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        what = expat.ErrorString(error.code)
        raise UsageError(f"{name}, line {error.lineno}: no XML: {what}") from error
    except (LookupError, ValueError) as error:  # an unknown encoding
        raise UsageError(f"{name} is no XML: {str(error)[:80]}") from error
    return machine


class _Handler:
    """Keeps /REQUEST/CONTENT/<section>/<field> and /REQUEST/DEVICEID; counts all other elements."""

    def __init__(self, machine: _Machine, name: str) -> None:
        self._machine, self._name = machine, name
        self._path: list[str] = []
        self._elements = 0
        self._fields: dict[str, str] | None = None
        self._text: list[str] = []
        self._length = 0

    def start(self, tag: str, _: dict[str, str]) -> None:
        self._path.append(tag)
        self._elements += 1
        if len(self._path) > MAXIMUM_DEPTH or self._elements > MAXIMUM_ELEMENTS:
            raise UsageError(f"{self._name} has too many elements: this is no inventory")
        self._text, self._length = [], 0
        if len(self._path) == 3 and self._path[1] == "CONTENT" and tag in _READ:
            self._fields = {}

    def end(self, tag: str) -> None:
        text = "".join(self._text).strip()
        depth = len(self._path)
        if depth == 4 and self._fields is not None:
            self._fields.setdefault(tag, text)
        elif depth == 3 and self._fields is not None:
            self._machine.sections.append((tag, self._fields))
            self._fields = None
        elif depth == 2 and tag == "DEVICEID":
            self._machine.device_id = text
        self._path.pop()
        self._text, self._length = [], 0

    def text(self, piece: str) -> None:
        self._length += len(piece)
        if self._length <= MAXIMUM_TEXT:
            self._text.append(piece)
        elif self._fields is not None and self._length - len(piece) <= MAXIMUM_TEXT:
            self._text.append(piece[:MAXIMUM_TEXT])  # long enough to be refused as too long

    def refuse(self, *_: Any) -> int:
        raise UsageError(
            f"{self._name} declares a document type or entities: no inventory does; it is not read"
        )
