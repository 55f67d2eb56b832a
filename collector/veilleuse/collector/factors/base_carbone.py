# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads electricity factors from an export of ADEME's Base Carbone (pure). docs/factors.md.

The file is the CSV as downloaded: Latin-1, `;`, decimal comma, one `Elément` row and one `Poste` row a
component, 67 columns found by name. UTF-8 and `,` are accepted too. Factors in kgCO2e/kWh of Electricité,
`mix moyen`, `consommation`, of mainland France, Corsica and overseas are taken. The other rows, some 18,000,
are counted and left.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from veilleuse.collector.errors import UsageError
from veilleuse.collector.factors.base_carbone_rows import (
    COLUMNS,
    OPTIONAL,
    Element,
    ElementPart,
    ElementRow,
    RowError,
    factor_of,
)
from veilleuse.collector.factors.static import fold
from veilleuse.collector.model.factors import Factor, FactorStatus

UNIT: Final = "kgco2e/kwh"
MAXIMUM_BYTES: Final = 128 * 1024 * 1024
"""Largest file in bytes; V23 has some 30 million."""
_CELL_CHARACTERS: Final = 131_072
"""A longer cell has an unclosed quote."""
_ELEMENT: Final = "element"
_PART: Final = "poste"
_ROW_BEGINS: Final = re.compile(r'[\r\n]"?(?:[EÉ]l[eé]ment|Poste)"?[;,]', re.IGNORECASE)
"""Start of a row inside a cell: a quote before it was not closed."""


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row of electricity that cannot be taken."""

    where: str
    why: str


@dataclass(slots=True)
class FactorFile:
    """Factors and refusals of one file."""

    factors: tuple[Factor, ...] = ()
    """Sorted by zone and year."""
    refused: list[RefusedRow] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    """Reason → number of elements of no concern."""
    notes: list[str] = field(default_factory=list)


def read_base_carbone(raw: bytes, licence: str, leave_out: Collection[str] = ()) -> FactorFile:
    """Return the factors in a file's bytes; `leave_out`: numbers of elements that the user excludes.

    Raises UsageError when the whole file is unusable: encoding, columns, no electricity in it, no licence.
    """
    if not licence.strip():
        raise UsageError("a factor without licence is not loaded: give --licence")
    found = FactorFile()
    text = _decoded(raw, found)
    rows = _rows(text, found)
    unwanted = frozenset(leave_out)
    elements, parts = _collect(rows, found, unwanted)
    if not elements and not found.refused:
        raise UsageError(
            "no electricity factor (kgCO2e/kWh, 'mix moyen', 'consommation', a place in France) is in this file: is it the whole "
            "Base Carbone?"
        )
    found.left["left out as asked"] += sum(one.element_id in unwanted for one in elements)
    kept = _made([one for one in elements if one.element_id not in unwanted], parts, licence.strip(), found)
    found.factors = tuple(sorted(kept, key=lambda one: (one.zone, one.valid_from)))
    return found


def _decoded(raw: bytes, found: FactorFile) -> str:
    """Decode the text. Latin-1 text with accents is never valid UTF-8, which tells them apart."""
    if len(raw) > MAXIMUM_BYTES:
        raise UsageError(f"the file has {len(raw)} bytes: at most {MAXIMUM_BYTES}")
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in raw[:4096]:
        raise UsageError("the file is UTF-16 or no text: give the CSV as ADEME's portal exports it")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            return raw.decode("cp1252")  # Latin-1 with Windows quotes and euro sign
        except UnicodeDecodeError:
            return raw.decode("latin-1")
    if not text.isascii():
        found.notes.append(
            "the file is UTF-8, where ADEME's own is Latin-1: it was exported again by something"
        )
    return text


def _rows(text: str, found: FactorFile) -> Iterator[ElementRow]:
    """Yield every row with its line number. Raises UsageError for another header than the Base Carbone's."""
    header_line = text[: text.find("\n") if "\n" in text else None]
    delimiter = ";" if header_line.count(";") >= header_line.count(",") else ","
    csv.field_size_limit(_CELL_CHARACTERS)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise UsageError(f"the first line is no header of the Base Carbone: {error}") from error
    places = _places(header)
    width = len(header)
    line = reader.line_num + 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            found.refused.append(
                RefusedRow(f"line {line}", f"{error}: a quote is not closed, or the file is cut")
            )
            return
        if cells is None:
            return
        yield ElementRow(line, cells, places, width)
        line = reader.line_num + 1


def _places(header: list[str]) -> Mapping[str, int]:
    """Return column → index. Raises UsageError that names missing columns, and mojibake as such."""
    names = {fold(name.strip("\ufeff")): place for place, name in enumerate(header)}
    places = {key: names[fold(name)] for key, name in {**COLUMNS, **OPTIONAL}.items() if fold(name) in names}
    missing = [name for key, name in COLUMNS.items() if key not in places]
    if not missing:
        return places
    whole = " ".join(header)
    if "\ufffd" in whole or re.search("Ã.|Â.", whole):
        raise UsageError(
            "the accents of the header are broken (mojibake): the file was opened and saved with the wrong encoding; "
            "download it again, and import it without opening it"
        )
    raise UsageError(
        f"not the Base Carbone: no column {', '.join(repr(name) for name in missing[:4])}"
        + (" …" if len(missing) > 4 else "")
    )


def _collect(
    rows: Iterator[ElementRow], found: FactorFile, leave_out: frozenset[str]
) -> tuple[list[Element], dict[str, list[ElementPart]]]:
    """Collect elements of electricity, and components of all elements per kWh, by element."""
    elements: list[Element] = []
    parts: dict[str, list[ElementPart]] = {}
    for row in rows:
        if _has_swallowed(row):
            _look_at_swallowing(row, found, leave_out)
            continue
        if len(row.cells) != row.width:
            _look_at_ragged(row, found, leave_out)
            continue
        if row.cells[row.places["unit"]].strip().lower() != UNIT:
            found.left["other units and subjects"] += 1
            continue
        kind = fold(row["kind"])
        if kind == _PART:
            parts.setdefault(row["id"], []).append(ElementPart.of(row))
        elif kind == _ELEMENT:
            _look_at_element(row, found, elements)
        else:
            found.refused.append(
                RefusedRow(row.where, f"a row is 'Elément' or 'Poste', not '{row['kind'][:20]}'")
            )
    return elements, parts


def _has_swallowed(row: ElementRow) -> bool:
    """Tell whether a cell contains other rows of electricity after an unclosed quote."""
    inside = [cell for cell in row.cells if "\n" in cell and _ROW_BEGINS.search(cell)]
    return bool(inside) and "electricit" in fold(" ".join(row.cells))


def _look_at_swallowing(row: ElementRow, found: FactorFile, leave_out: frozenset[str]) -> None:
    if leave_out.intersection(row.cells[row.places["id"] :][:1]):
        found.left["left out as asked"] += 1
        return
    found.refused.append(
        RefusedRow(
            row.where,
            "a quote in it is not closed, and the rows behind it are lost in it: download the file again",
        )
    )


def _look_at_ragged(row: ElementRow, found: FactorFile, leave_out: frozenset[str]) -> None:
    """Refuse a row with too few or too many cells, unless it is clearly not of electricity."""
    if not any(cell.strip() for cell in row.cells):
        return
    if leave_out.intersection(row.cells[row.places["id"] :][:1]):
        found.left["left out as asked"] += 1
        return
    base = row.places["base"]
    name = fold(row.cells[base]) if len(row.cells) > base + 1 else ""  # the last cell may be truncated
    if name and not name.startswith("electricit"):
        found.left["damaged rows of other subjects"] += 1
        return
    found.refused.append(RefusedRow(row.where, f"the row is cut: {len(row.cells)} cells of {row.width}"))


def _look_at_element(row: ElementRow, found: FactorFile, elements: list[Element]) -> None:
    if not fold(row["base"]).startswith("electricit"):
        found.left["other energies per kWh"] += 1
    elif row.is_mojibake:
        found.refused.append(
            RefusedRow(row.where, "its accents are broken (mojibake): download the file again")
        )
    elif fold(row["what"]).startswith("donnee"):
        found.left["source data, no factor"] += 1
    elif "mix moyen" not in fold(row["attribute"]) or fold(row["boundary"]) != "consommation":
        found.left["electricity by use, by plant or at production"] += 1
    elif row.is_foreign:
        found.left["electricity of other countries"] += 1
    else:
        elements.append(Element(row))


def _made(
    elements: list[Element], parts: Mapping[str, list[ElementPart]], licence: str, found: FactorFile
) -> list[Factor]:
    """Build factors.

    Refuses a repeated number, two valid elements of a zone and year, and errors in the rows.
    """
    numbers = Counter(one.element_id for one in elements)
    made: dict[tuple[str, int], list[Factor]] = {}
    for one in elements:
        try:
            if numbers[one.element_id] > 1:
                raise RowError(f"element {one.element_id} is in the file {numbers[one.element_id]} times")
            factor = factor_of(one, parts.get(one.element_id, []), licence, found.notes)
        except RowError as error:
            found.refused.append(RefusedRow(one.where, str(error)))
            continue
        made.setdefault((factor.zone, factor.valid_from.year), []).append(factor)
    return [factor for same in made.values() for factor in _one_of(same, found)]


def _one_of(same: list[Factor], found: FactorFile) -> list[Factor]:
    """Return the valid factor of one zone and year; none where there are several."""
    valid = [one for one in same if one.status is FactorStatus.VALID]
    if len(valid) == 1:
        found.left["archived, another one is valid"] += len(same) - 1
        return valid
    if len(same) == 1:
        return same
    numbers = ", ".join(one.element_id for one in same)
    what = "are valid" if valid else "are archived and none is valid"
    found.refused.append(
        RefusedRow(
            f"elements {numbers}",
            f"several factors of zone {same[0].zone} in {same[0].valid_from.year} {what}: choose with --leave-out NUMBER",
        )
    )
    return []
