# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the bytes of a CSV file into columns and rows of text: any usual encoding and separator, bounded in
size.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from veilleuse.collector.errors import UsageError
from veilleuse.collector.inventory.cells import tidy
from veilleuse.collector.inventory.rows import MAXIMUM_ROWS

MAXIMUM_BYTES: Final = 64 * 1024 * 1024
MAXIMUM_COLUMNS: Final = 500
SEPARATORS: Final = (";", ",", "\t", "|")
"""Column separators: GLPI offers the first two, spreadsheets the others."""


@dataclass(frozen=True, slots=True)
class CsvRow:
    """One row of a file, its cells unchanged."""

    line: int
    """Line of the file where the row ends, from 1."""
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CsvTable:
    """A file with a heading."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[CsvRow, ...]

    def where(self, row: CsvRow) -> str:
        """Return the place of a row as an error message names it."""
        return f"{self.name}, line {row.line}"


def text_of(data: bytes, name: str) -> str:
    """Decode a file: UTF-8 with or without BOM, UTF-16 with BOM, else Windows-1252, which contains Latin-1.

    Raises UsageError for a file that is no text, is too large, or is UTF-8 with a broken character. Another
    encoding would change all accents of that last file, and each entity with an accent would become a new
    entity.
    """
    if len(data) > MAXIMUM_BYTES:
        raise UsageError(f"{name} has {len(data)} bytes, at most {MAXIMUM_BYTES}: import it in parts")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise UsageError(f"{name} begins as UTF-16 and is none: save it as UTF-8") from error
    if data.count(b"\0") * 10 > len(data):
        raise UsageError(f"{name} is not text: export it as CSV, in UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        read = data.decode("utf-8", "replace")
        whole = sum(map(len, re.findall("[^\x00-\x7f\ufffd]+", read)))
        if whole > read.count("\ufffd"):  # Windows-1252 text hardly ever forms valid UTF-8 characters
            line = data.count(b"\n", 0, error.start) + 1
            raise UsageError(
                f"{name}, line {line}: a broken character of UTF-8: the file was cut or mixed; export it again"
            ) from error
    try:
        return data.decode("cp1252")
    except (
        UnicodeDecodeError
    ):  # Windows-1252 leaves five bytes undefined; in Latin-1 they are control characters, refused in names
        return data.decode("latin-1")


def table_of(data: bytes, name: str) -> CsvTable:
    """Read all rows of a CSV file.

    Raises UsageError without a heading, with too many rows or an unclosed quote.
    """
    text = text_of(data, name)
    rows = _rows(text, name)
    heading = next(rows, None)
    if heading is None:
        raise UsageError(f"{name} is empty: export it with its columns' names in the first line")
    columns = tuple(map(tidy, heading.cells))
    while columns and not columns[-1]:  # GLPI ends its heading with a separator
        columns = columns[:-1]
    if not columns or len(columns) > MAXIMUM_COLUMNS:
        raise UsageError(f"{name} has {len(columns)} columns: 1 to {MAXIMUM_COLUMNS} with names are needed")
    return CsvTable(name, columns, tuple(rows))


def _rows(text: str, name: str) -> Iterator[CsvRow]:
    separator = _separator(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    before = csv.field_size_limit(MAXIMUM_BYTES)
    number = 0
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                number += 1
                if number > MAXIMUM_ROWS + 1:  # the heading is one row
                    raise UsageError(f"{name}: more than {MAXIMUM_ROWS} rows: import it in parts")
                yield CsvRow(reader.line_num, tuple(cells))
    except csv.Error as error:
        raise UsageError(
            f"{name}, after line {reader.line_num}: {error}: correct the quotes there"
        ) from error
    finally:
        csv.field_size_limit(before)


def _separator(text: str) -> str:
    """Return the separator that cuts the first line into most columns."""
    head = re.split(r"[\r\n]", text.lstrip("\r\n")[:65_536], maxsplit=1)[0]
    counts = {one: len(next(csv.reader([head], delimiter=one), [])) for one in SEPARATORS}
    return max(SEPARATORS, key=lambda one: counts[one])
