# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads inventory files into neutral rows. A new format is one file here and one line in FORMATS.

The command parses files in its own process: the collector receives rows (rows.py), never the bytes of a file.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from veilleuse.collector.errors import UsageError
from veilleuse.collector.inventory import fusioninventory, glpi_files, plain_csv
from veilleuse.collector.inventory.assets import add_entities
from veilleuse.collector.inventory.csv_table import table_of
from veilleuse.collector.inventory.mapping import InventoryMapping
from veilleuse.collector.inventory.rows import InventoryReading

FORMATS: Final = ("glpi_csv", "glpi_json", "fusioninventory", "csv")
_SOURCES: Final = {
    "glpi_csv": glpi_files.SOURCE,
    "glpi_json": glpi_files.SOURCE,
    "fusioninventory": fusioninventory.SOURCE,
    "csv": plain_csv.SOURCE,
}


def read_files(
    files: Iterable[tuple[str, bytes]],
    words: InventoryMapping,
    *,
    form: str | None = None,
    item: str = "computer",
    source: str | None = None,
) -> InventoryReading:
    """Read files of one format, given as (name, content). Raises UsageError.

    `form` None: the first file decides. `item`: kind of a GLPI list, which the list itself does not name.
    `source`: name of the inventory, where it differs from the format's.
    """
    reading: InventoryReading | None = None
    for name, data in files:
        form = form or format_of(name, data, words)
        reading = reading or InventoryReading(source or _SOURCES[form])
        match form:
            case "glpi_csv":
                glpi_files.read_csv(reading, words, data, name, item)
            case "glpi_json":
                glpi_files.read_json(reading, words, data, name, item)
            case "fusioninventory":
                fusioninventory.read(reading, words, data, name)
            case _:
                plain_csv.read(reading, words, data, name)
    if reading is None:
        raise UsageError("no file to import")
    return finished(reading, words)


def finished(reading: InventoryReading, words: InventoryMapping) -> InventoryReading:
    """Add what the mapping says of the named entities."""
    add_entities(reading, words)
    return reading


def format_of(name: str, data: bytes, words: InventoryMapping) -> str:
    """Recognise a format by the content, never by the name. Raises UsageError for an unknown format."""
    if fusioninventory.looks_like(data):
        return "fusioninventory"
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{"):
        return "glpi_json"
    table = table_of(plain_csv.without_notes(data), name)
    if plain_csv.kind_of(table) is not None:
        return "csv"
    if glpi_files.fits(table, words.columns):
        return "glpi_csv"
    raise UsageError(
        f"{name} has no heading that is known (a list of GLPI, or one of 'veilleuse inventory template'): "
        f"say which with --format {'|'.join(FORMATS)}, or name its columns in a mapping"
    )
