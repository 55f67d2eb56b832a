# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads plain CSV: assets, entities, purchases, retirements and headcounts; writes assets in the same form.

One file holds one kind, named by its heading. `veilleuse inventory template KIND` writes an empty, documented
one.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final, TypeVar

from veilleuse.collector.documents.formats.csv import SIGNS
from veilleuse.collector.errors import UsageError
from veilleuse.collector.inventory.assets import AssetFields, add_asset
from veilleuse.collector.inventory.cells import (
    CellError,
    boolean_of,
    date_of,
    decimal_of,
    entity_of,
    folded,
    integer_of,
    is_blank,
    name_of,
    tidy,
)
from veilleuse.collector.inventory.csv_table import CsvTable, table_of
from veilleuse.collector.inventory.glpi_files import wrong_width
from veilleuse.collector.inventory.mapping import DEVICE_CLASSES, ITEMS, InventoryMapping
from veilleuse.collector.inventory.rows import EntityRow, InventoryReading, Refusal, RetirementRow
from veilleuse.collector.model.inventory import (
    LEAST_TELEWORK_USERS,
    RETIREMENT_DESTINATIONS,
    Asset,
    Headcount,
    PowerContext,
    Purchase,
    Retirement,
)
from veilleuse.collector.model.query import ENTERED_YEARS
from veilleuse.wire.vocabulary import Population

SOURCE: Final = "plain"
TOLD: Final = frozenset({"asset", "absent_since", "matched"})
"""Columns of `veilleuse inventory export` that an import does not read."""
MAXIMUM_UNITS: Final = 1_000_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FileKind:
    """One kind of file."""

    required: tuple[str, ...]
    """Columns that identify the kind, together."""
    columns: Mapping[str, str]
    """Column → what to write in it."""


_POPULATIONS: Final = ", ".join(one.value for one in Population)
_CONTEXTS: Final = ", ".join(one.value for one in PowerContext)
KINDS: Final[Mapping[str, FileKind]] = {
    "assets": FileKind(
        ("key", "device_class"),
        {
            "key": "a number of yours that stays for life; what a second import recognises it by",
            "item": f"kind of list: {', '.join(ITEMS)}; blank: computer, or what its class is",
            "device_class": "laptop, mini_pc, sff, tower, all_in_one, thin_client, server, virtual_machine, monitor, switch, "
            "wifi_access_point, storage, printer, ip_phone, projector, tablet, smartphone, other, unknown",
            "entity": "path from the root: Métropole > Direction A",
            "site": "as its machines were enrolled; blank: the entity's",
            "population": f"{_POPULATIONS}; blank: the entity's, else by class",
            "power_context": f"{_CONTEXTS}; blank: the entity's, else own_site",
            "vendor": "maker",
            "model": "as the maker calls it",
            "in_service_on": "YYYY-MM-DD",
            "out_of_service_on": "first day it was no longer in service",
            "refurbished": "yes or no",
            "displays": "external screens that hang on it",
            "server_role": "standby, batch, licence or backup, of a server that may be idle",
            "inventory_number": "kept in identity.db alone",
            "name": "likewise",
            "serial": "its pseudonym alone is kept, in identity.db: what an agent's machine is matched by",
            "uuid": "SMBIOS UUID; likewise",
        },
    ),
    "entities": FileKind(
        ("entity", "power_context"),
        {
            "entity": "path from the root: Métropole > Direction A",
            "site": "of assets below it that name none",
            "power_context": f"{_CONTEXTS}; blank: as the entity above",
            "population": f"{_POPULATIONS}; blank: as the entity above",
        },
    ),
    "purchases": FileKind(
        ("year", "category", "amount_excluding_vat_eur", "reused"),
        {
            "year": "of the order",
            "category": "legal category (AGEC art. 58), as your table names it",
            "amount_excluding_vat_eur": "euros excl. VAT: 1234.56 or 1 234,56",
            "reused": "yes: reused, refurbished or with recycled parts, as the law counts",
            "units": "how many",
            "entity": "who bought",
        },
    ),
    "retirements": FileKind(
        ("day", "destination"),
        {
            "day": "YYYY-MM-DD",
            "device_class": "as for assets; blank: the asset's",
            "units": "how many; blank: 1",
            "destination": ", ".join(RETIREMENT_DESTINATIONS),
            "reuse_committed": "yes: the taker committed to reuse it",
            "proof": "reference of the slip or certificate",
            "entity": "whose it was",
            "asset": "its key, inventory number or serial number: it is then out of service from that day",
            "age_years": "when it left",
            "security_restricted": "yes: it may not be reused for security's sake",
        },
    ),
    "headcounts": FileKind(
        ("entity", "users"),
        {
            "entity": "path from the root",
            "from_day": "YYYY-MM-DD, from when",
            "users": "people with equipment of the authority",
            "telework_days_per_week": f"declared days per user, 0 to 7, of {LEAST_TELEWORK_USERS} people or more: never told by a machine",
        },
    ),
}


def template(kind: str) -> str:
    """Build an empty file of `kind`: a heading, and above it one comment a column, which the import skips.

    Raises UsageError for an unknown kind.
    """
    if kind not in KINDS:
        raise UsageError(f"no template '{kind}': use {', '.join(KINDS)}")
    columns = KINDS[kind].columns
    notes = "".join(f"# {name}: {what}\n" for name, what in columns.items())
    return f"# {kind}: remove what you do not need but {', '.join(KINDS[kind].required)}\n{notes}{';'.join(columns)}\n"


def kind_of(table: CsvTable) -> str | None:
    """Return the kind whose identifying columns are all present; None: not one of ours."""
    columns = {folded(column).replace(" ", "_") for column in table.columns}
    return next((name for name, kind in KINDS.items() if columns >= set(kind.required)), None)


def without_notes(data: bytes) -> bytes:
    """Blank the template's comments. Their lines stay, so that later rows keep their line numbers."""
    lines = data.split(b"\n")
    for place, line in enumerate(lines):
        if not line.removeprefix(b"\xef\xbb\xbf").startswith((b"#", b'"#')):  # spreadsheets may add quotes
            break
        lines[place] = b""
    return b"\n".join(lines)


def read(reading: InventoryReading, words: InventoryMapping, data: bytes, name: str) -> None:
    """Read all rows of a file of one kind. Raises UsageError when the heading belongs to no kind."""
    table = table_of(without_notes(data), name)
    kind = kind_of(table)
    if kind is None:
        raise UsageError(
            f"{name} has a heading of none of {', '.join(KINDS)}: see 'veilleuse inventory template'"
        )
    columns = _columns(table, kind)
    add = _ADD[kind]
    if kind == "assets":
        reading.complete.update(ITEMS)
    for row in table.rows:
        where = table.where(row)
        if refusal := wrong_width(table, row):
            reading.more(where)
            reading.refuse(refusal)
            continue
        cells = {column: row.cells[place] for place, column in columns.items()}
        add(reading, words, _Row(where, cells))


def _columns(table: CsvTable, kind: str) -> dict[int, str]:
    known = KINDS[kind].columns
    found: dict[int, str] = {}
    for place, heading in enumerate(table.columns):
        column = folded(heading).replace(" ", "_")
        if kind == "assets" and column in TOLD:
            continue
        is_told = kind == "assets" and column == "source"
        if (column not in known and not is_told) or column in found.values():
            near = difflib.get_close_matches(column, known, n=1)
            hint = (
                f"did you mean '{near[0]}'?"
                if near and column not in known
                else f"use each of {', '.join(known)} once"
            )
            raise UsageError(f"{table.name}: column '{heading[:64]}': {hint}")
        found[place] = column
    return found


@dataclass(frozen=True, slots=True)
class _Row:
    where: str
    cells: Mapping[str, str]

    def get(self, column: str, parse: Callable[[str], T], blank: T) -> T:
        """Return the value of a cell; `blank` for an empty cell or a missing column."""
        cell = self.cells.get(column, "")
        if is_blank(cell):
            return blank
        try:
            return parse(cell)
        except CellError as error:
            raise _BadCell(column, error.what, error.remedy) from error

    def need(self, column: str, parse: Callable[[str], T]) -> T:
        """Return the value of a cell that must not be empty."""
        if is_blank(self.cells.get(column, "")):
            raise _BadCell(column, "it is blank", "fill it in")
        return self.get(column, parse, None)  # type: ignore[return-value]


class _BadCell(Exception):
    def __init__(self, column: str, what: str, remedy: str) -> None:
        super().__init__(column)
        self.column, self.what, self.remedy = column, what, remedy


def _guarded(
    add: Callable[[InventoryReading, InventoryMapping, _Row], None],
) -> Callable[[InventoryReading, InventoryMapping, _Row], None]:
    def guarded(reading: InventoryReading, words: InventoryMapping, row: _Row) -> None:
        reading.more(row.where)
        try:
            add(reading, words, row)
        except _BadCell as bad:
            reading.refuse(Refusal(row.where, bad.column, bad.what, bad.remedy))

    return guarded


_ITEM_OF_CLASS: Final = {
    "monitor": "monitor",
    "printer": "printer",
    "switch": "network_equipment",
    "wifi_access_point": "network_equipment",
    "storage": "storage",
    "ip_phone": "phone",
    "smartphone": "phone",
    "projector": "peripheral",
    "other": "other",
}


def _asset(reading: InventoryReading, words: InventoryMapping, row: _Row) -> None:
    cells = dict(row.cells)
    source = tidy(cells.pop("source", ""))
    if source and source != reading.source:  # an export holds several inventories: keep this one's rows
        reading.more(row.where)
        reading.not_known("source", source)
        return
    item = folded(cells.pop("item", "")).replace(" ", "_")
    device_class = folded(cells.get("device_class", "")).replace(" ", "_")
    if item and item not in ITEMS:
        reading.more(row.where)
        remedy = f"use {', '.join(ITEMS)}"
        reading.refuse(Refusal(row.where, "item", "no kind of list", remedy, (cells.get("key", ""),)))
        return
    found = AssetFields(row.where, item or _ITEM_OF_CLASS.get(device_class, "computer"), cells, {})
    add_asset(reading, words, found)


def _entity(reading: InventoryReading, words: InventoryMapping, row: _Row) -> None:
    site = row.get("site", name_of, "") if "site" in row.cells else None
    if site and site not in words.sites:
        reading.not_known("site", site)
        site = None
    context = row.get("power_context", lambda cell: _word(cell, PowerContext), None)
    population = row.get("population", lambda cell: _word(cell, Population), None)
    reading.entities.append(EntityRow(row.where, row.need("entity", entity_of), site, context, population))


def _purchase(reading: InventoryReading, words: InventoryMapping, row: _Row) -> None:
    amount = row.need("amount_excluding_vat_eur", decimal_of)
    if not Decimal(0) <= amount < Decimal(10) ** 10 or amount != round(amount, 4):
        raise _BadCell(
            "amount_excluding_vat_eur", f"{amount} is no amount of euros", "write 0 or more, with cents"
        )
    reading.purchases.append(
        Purchase(
            year=row.need("year", _year),
            category=row.need("category", name_of),
            amount_excluding_vat_eur=amount,
            reused=row.need("reused", boolean_of),
            units=row.get("units", _units, None),
            entity=row.get("entity", entity_of, ""),
        )
    )


def _retired(reading: InventoryReading, words: InventoryMapping, row: _Row) -> None:
    asset = row.get("asset", lambda cell: name_of(cell, 200), "")
    age = row.get("age_years", decimal_of, None)
    if age is not None and not 0 <= age <= 100:
        raise _BadCell("age_years", f"{age} is no age in years", "write 0 to 100")
    units = row.get("units", _units, 1)
    if not units:
        raise _BadCell("units", "0 units left", "write 1 or more, or remove the row")
    retirement = Retirement(
        day=row.need("day", _day_of(words)),
        device_class=row.get("device_class", lambda cell: _one_of(cell, DEVICE_CLASSES), ""),
        units=units,
        destination=row.need("destination", lambda cell: _one_of(cell, frozenset(RETIREMENT_DESTINATIONS))),
        reuse_committed=row.get("reuse_committed", boolean_of, False),
        proof=row.get("proof", name_of, ""),
        entity=row.get("entity", entity_of, ""),
        age_years=None if age is None else float(age),
        security_restricted=row.get("security_restricted", boolean_of, False),
    )
    if not retirement.device_class and not asset:
        raise _BadCell("device_class", "it is blank, and no asset is named", "say what was retired")
    reading.retirements.append(RetirementRow(row.where, retirement, asset))


def _headcount(reading: InventoryReading, words: InventoryMapping, row: _Row) -> None:
    days = row.get("telework_days_per_week", decimal_of, None)
    if days is not None and not 0 <= days <= 7:
        raise _BadCell("telework_days_per_week", f"{days} days a week", "write 0 to 7")
    from_day = row.need("from_day", _day_of(words))
    users = row.need("users", _units)
    entity = row.need("entity", entity_of)
    if days is not None and users < LEAST_TELEWORK_USERS:
        raise _BadCell(
            "telework_days_per_week",
            f"days of {users} people",
            f"leave it blank, and declare the days of an entity above: those of fewer than {LEAST_TELEWORK_USERS} "
            "people may be one person's, and are published",
        )
    if (entity, from_day) in reading.users_told:
        raise _BadCell("entity", f"a row before has {entity} from {from_day}", "write one row for both")
    reading.users_told.add((entity, from_day))
    reading.headcounts.append(Headcount(entity, from_day, users, days))


def _day_of(words: InventoryMapping) -> Callable[[str], date]:
    def parse(cell: str) -> date:
        day = date_of(cell, day_first=words.day_first)
        if day is None:
            raise CellError("it is blank", "write YYYY-MM-DD")
        return day

    return parse


def _units(cell: str) -> int:
    return integer_of(cell, MAXIMUM_UNITS)


def _year(cell: str) -> int:
    year = integer_of(cell, ENTERED_YEARS.last)
    if not ENTERED_YEARS.holds(year):
        raise CellError(
            f"{year} is no year of a purchase", f"write {ENTERED_YEARS.first} to {ENTERED_YEARS.last}"
        )
    return year


def _one_of(cell: str, allowed: frozenset[str]) -> str:
    word = folded(cell).replace(" ", "_")
    if word not in allowed:
        raise CellError(f"'{name_of(cell)}' is none of the words for it", f"use {', '.join(sorted(allowed))}")
    return word


def _word(cell: str, words: type[T]) -> T:
    return words(_one_of(cell, frozenset(one.value for one in words)))  # type: ignore[attr-defined, call-arg]


_ADD: Final[Mapping[str, Callable[[InventoryReading, InventoryMapping, _Row], None]]] = {
    "assets": _asset,
    "entities": _guarded(_entity),
    "purchases": _guarded(_purchase),
    "retirements": _guarded(_retired),
    "headcounts": _guarded(_headcount),
}


_EXPORTED_NAMES: Final = ("source", "key", "name", "inventory_number")
_FORMULA: Final = re.compile(rf"\s*[{re.escape(SIGNS)}]|['\t\r\n]")
"""Beginnings that a spreadsheet may take for a formula; the import removes the guarding apostrophe."""
_EXPORTED: Final = (
    "asset", "device_class", "entity", "site", "population", "power_context", "vendor", "model", "in_service_on",
    "out_of_service_on", "refurbished", "displays", "server_role", "absent_since", "matched",
)  # fmt: skip


def csv_of(assets: Iterable[Asset], names: Mapping[str, Sequence[str]]) -> str:
    """Write one line for each asset.

    `names`: asset number → source, key, name and inventory number. When it is empty, these columns are left
    out.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([*(_EXPORTED_NAMES if names else ()), *_EXPORTED])
    for one in assets:
        called = names.get(str(one.asset_id), ("",) * len(_EXPORTED_NAMES)) if names else ()
        writer.writerow([_without_formula(cell) for cell in (*called, *_asset_cells(one))])
    return text.getvalue()


def _without_formula(cell: str) -> str:
    """Put an apostrophe before a cell that a spreadsheet might execute."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def _asset_cells(one: Asset) -> tuple[str, ...]:
    place = one.placements[-1]
    return (
        str(one.asset_id),
        one.device_class,
        place.entity,
        place.site,
        one.population.value if one.population else "",
        one.power_context.value,
        one.vendor,
        one.model,
        _day_text(one.in_service_on),
        _day_text(one.out_of_service_on),
        "" if one.refurbished is None else "yes" if one.refurbished else "no",
        "" if one.displays is None else str(one.displays),
        one.server_role.value if one.server_role else "",
        _day_text(one.absent_since),
        "yes" if one.host_id is not None else "no",
    )


def _day_text(day: date | None) -> str:
    return "" if day is None else day.isoformat()
