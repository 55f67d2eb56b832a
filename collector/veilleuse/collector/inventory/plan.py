# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Compares a reading with the stored inventory: what to write and what to report.

Pure: a dry run writes nothing.

A changed entity or site is a move, which takes effect on the 1st of the next month (docs/methodology.md §5). An asset
that a file does not name stays, and is listed as absent; it is retired only on request.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Final, TypeAlias, TypeVar

from veilleuse.collector.inventory.cells import parent_of
from veilleuse.collector.inventory.rows import AssetRow, InventoryReading, Refusal, RetirementRow, Value
from veilleuse.collector.model.inventory import (
    AssetRecord,
    Entity,
    InventoryChange,
    InventorySnapshot,
    Placement,
    PowerContext,
    ServerRole,
    StoredPurchase,
    StoredRetirement,
)
from veilleuse.wire.pseudonym import normalise_serial
from veilleuse.wire.vocabulary import Population

T = TypeVar("T")
Pseudonymiser: TypeAlias = Callable[[str], bytes]
"""Turns a normalised serial number or UUID into its pseudonym of 32 bytes."""

_PLAIN: Final = (
    "name",
    "inventory_number",
    "device_class",
    "vendor",
    "model",
    "in_service_on",
    "refurbished",
    "displays",
)
"""Fields that are copied unchanged."""


@dataclass
class Plan:
    """Result of one import."""

    change: InventoryChange | None = None
    """None: nothing to write."""
    added: list[AssetRecord] = field(default_factory=list)
    changed: list[AssetRecord] = field(default_factory=list)
    unchanged: int = 0
    absent: list[AssetRecord] = field(default_factory=list)
    """Known assets of a complete list that the list does not name."""
    retired: list[AssetRecord] = field(default_factory=list)
    """Those of `absent` that are retired now, on request."""
    moved: int = 0
    moves_from: date | None = None
    out_without_day: int = 0
    """Number of assets out of service by status, without a day: today counts."""
    other_rows: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Kind (purchases, retirements, …) → (number of new rows, number of removed rows)."""
    refused: list[Refusal] = field(default_factory=list)
    """Refusals in addition to those of the reading."""


def plan(
    reading: InventoryReading,
    kept: InventorySnapshot,
    day: date,
    pseudonym: Pseudonymiser,
    *,
    retire_absent: bool = False,
    correct: bool = False,
) -> Plan:
    """Plan an import on the civil day `day`.

    `retire_absent` has no effect when any row was refused: that row may be an absent asset. `correct`: a
    changed place corrects the old one instead of being a move.
    """
    made = Plan(moves_from=next_month(day))
    assets = _Assets(reading, kept, day, pseudonym, made, correct=correct)
    written = assets.plan()
    written |= _absent(
        reading, assets, made, day, retire_absent and not made.refused and not reading.refused_count
    )
    entities = _entities(reading, kept, written.values())
    purchases = _purchases(reading, kept, made)
    retirements, retired = _retirements(reading, kept, assets, made)
    told = {one.retirement.asset_id: one.retirement.day for one in kept.retirements}
    for record in retired:
        before = written.get(record.asset_id) or assets.by_id[record.asset_id]
        was, day_of_slip = before.out_of_service_on, record.out_of_service_on
        if was != day_of_slip and was in (None, told.get(record.asset_id)):  # the second: a correction
            written[record.asset_id] = replace(before, out_of_service_on=record.out_of_service_on)
    headcounts = [one for one in reading.headcounts if one not in set(kept.headcounts)]
    headcounts = list({(one.entity, one.from_day): one for one in headcounts}.values())
    if reading.headcounts:
        made.other_rows["headcounts"] = (len(headcounts), 0)
    if entities:
        made.other_rows["entities"] = (len(entities), 0)
    if written or entities or purchases is not None or retirements is not None or headcounts:
        made.change = InventoryChange(
            kept.generation + 1,
            day,
            tuple(written.values()),
            tuple(entities),
            purchases,
            retirements,
            tuple(headcounts),
        )
    return made


def next_month(day: date) -> date:
    """Return the 1st of the next month."""
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


class _Assets:
    """Finds rows among the stored assets."""

    def __init__(
        self,
        reading: InventoryReading,
        kept: InventorySnapshot,
        day: date,
        pseudonym: Pseudonymiser,
        made: Plan,
        *,
        correct: bool,
    ) -> None:
        self._reading, self._day, self._made = reading, day, made
        self.pseudonym, self._correct = pseudonym, correct
        self._next = kept.next_asset_id
        self._retired = {one.retirement.asset_id for one in kept.retirements}
        self.by_id = {one.asset_id: one for one in kept.assets}
        ours = [one for one in kept.assets if one.source == reading.source]
        self.ours = ours
        self._by_key = {one.key: one for one in ours}
        self._by_number = _unique((one.inventory_number, one) for one in ours)
        self._by_pseudonym = _unique(
            (mark, one) for one in ours for mark in (one.chassis_pseudonym, one.smbios_pseudonym)
        )
        self.seen: dict[int, str] = {}
        """Asset → place in the files that names it."""
        self.new: dict[str, AssetRecord] = {}
        """Key → asset that this reading adds."""

    def plan(self) -> dict[int, AssetRecord]:
        written: dict[int, AssetRecord] = {}
        for row in self._reading.assets:
            if (record := self._row(row)) is not None:
                written[record.asset_id] = record
        return written

    def _row(self, row: AssetRow) -> AssetRecord | None:
        """Return the record to write for a row; None: nothing to write, or refused."""
        chassis, smbios = (self._mark(row, name) for name in ("serial", "uuid"))
        number = str(row.values.get("inventory_number") or "")
        if row.by_hardware and (chassis or smbios):
            number = ""
        key = row.key or (
            f"inventory_number:{number}" if number else f"pseudonym:{(chassis or smbios or b'').hex()}"
        )
        known = self._by_key.get(key) or self._alias(row, key, number, chassis, smbios)
        if known is None and key in self.new:
            self._refuse(row, f"the same as {self.seen[self.new[key].asset_id]}", "each asset has one row")
            return None
        if known is not None and known.asset_id in self.seen:
            self._refuse(
                row, f"the same as {self.seen[known.asset_id]}", "each asset has one row: remove one of them"
            )
            return None
        if known is None and not row.values.get("entity"):
            self._refuse(row, "no entity", "add the column Entity, or give --entity for all")
            return None
        before = known or AssetRecord(self._next, self._reading.source, row.item, key)
        after = self._filled(row, before, key, chassis, smbios)
        self.seen[after.asset_id] = row.where
        if known is None:
            self._next += 1
            self.new[key] = after
            self._made.added.append(after)
        elif after == before:
            self._made.unchanged += 1
            return None
        else:
            self._made.changed.append(after)
        return after

    def _mark(self, row: AssetRow, name: str) -> bytes | None:
        """Return the pseudonym; empty for a blank cell, None without such a column."""
        if name not in row.values:
            return None
        text = str(row.values[name] or "")
        return self.pseudonym(text) if text else b""

    def _alias(
        self, row: AssetRow, key: str, number: str, chassis: bytes | None, smbios: bytes | None
    ) -> AssetRecord | None:
        """Find an asset under another number, when only one of two exports had IDs.

        One of both must lack a lasting number: two IDs are two devices.
        """
        found = self._by_number.get(number) or next(
            (self._by_pseudonym[mark] for mark in (chassis, smbios) if mark and mark in self._by_pseudonym),
            None,
        )
        if found is None or found.item != row.item or (_is_lasting(key) and _is_lasting(found.key)):
            return None
        return found

    def _refuse(self, row: AssetRow, what: str, remedy: str) -> None:
        self._made.refused.append(Refusal(row.where, "", what, remedy))

    def _filled(
        self, row: AssetRow, before: AssetRecord, key: str, chassis: bytes | None, smbios: bytes | None
    ) -> AssetRecord:
        values = row.values
        plain = {name: values[name] for name in _PLAIN if name in values}
        raw = json.dumps(dict(row.raw), ensure_ascii=False, sort_keys=True)
        filled = replace(
            before,
            key=key if _is_lasting(key) or not _is_lasting(before.key) else before.key,
            chassis_pseudonym=before.chassis_pseudonym if chassis is None else chassis,
            smbios_pseudonym=before.smbios_pseudonym if smbios is None else smbios,
            raw=raw,
            absent_since=None,
            **plain,  # type: ignore[arg-type]
        )
        for name, word in (
            ("population", Population),
            ("power_context", PowerContext),
            ("server_role", ServerRole),
        ):
            if name in values:
                filled = replace(filled, **{name: word(values[name]) if values[name] else None})  # type: ignore[arg-type]
        filled = replace(filled, out_of_service_on=self._out(values, before))
        return replace(filled, placements=self._placements(values, filled))

    def _out(self, values: Mapping[str, Value], before: AssetRecord) -> date | None:
        """Return the day of retirement: the row's; else, by its status, the day already known or today."""
        day = values.get("out_of_service_on")
        if isinstance(day, date):
            return day
        if values.get("is_out"):
            if before.out_of_service_on is None:
                self._made.out_without_day += 1
            return before.out_of_service_on or self._day
        if {"is_out", "out_of_service_on"} & values.keys():
            return None
        absent, out = before.absent_since, before.out_of_service_on
        # The file names it again, and only --retire-absent had retired it.
        is_back = absent and out and absent <= out <= self._day and before.asset_id not in self._retired
        return None if is_back else out

    def _placements(self, values: Mapping[str, Value], asset: AssetRecord) -> tuple[Placement, ...]:
        """Return the placements. A row that names another place adds a move on the 1st of the next month."""
        placements = asset.placements
        last = placements[-1] if placements else None
        entity = str(values.get("entity") or (last.entity if last else ""))
        site = str(values.get("site", last.site if last else ""))
        if last is None:
            begun = asset.in_service_on
            return (Placement(begun if begun and begun <= self._day else self._day, entity, site),)
        if entity == last.entity:
            site = site or last.site
        is_same = (last.entity, last.site) == (entity, site)
        if is_same and not (
            self._correct and last.from_day > self._day
        ):  # a move in the future may have been a correction
            return placements
        if self._correct:
            return (replace(placements[0], entity=entity, site=site),)
        if entity == last.entity and not last.site:  # the site was unknown before: no move
            return (*placements[:-1], replace(last, site=site))
        move = Placement(next_month(self._day), entity, site)
        earlier = tuple(one for one in placements if one.from_day < move.from_day)
        if earlier and (earlier[-1].entity, earlier[-1].site) == (entity, site):
            return earlier  # a move that was undone before it took effect
        self._made.moved += 1
        return (*earlier, move) if earlier else (replace(placements[0], entity=entity, site=site),)


def _is_lasting(key: str) -> bool:
    """Tell whether the inventory itself assigned the key."""
    return not key.startswith(("inventory_number:", "pseudonym:"))


def _unique(pairs: Iterable[tuple[str | bytes, AssetRecord]]) -> dict[str | bytes, AssetRecord]:
    """Return mark → asset for the marks that only one asset has."""
    found: dict[str | bytes, AssetRecord | None] = {}
    for mark, record in pairs:
        if mark:
            found[mark] = None if mark in found and found[mark] is not record else record
    return {mark: record for mark, record in found.items() if record is not None}


def _absent(
    reading: InventoryReading, assets: _Assets, made: Plan, day: date, retire: bool
) -> dict[int, AssetRecord]:
    """Return the assets of a complete list that it does not name. A refused row names those it may be.

    A list without rows retires nothing: a user who lost the right to read it gets an empty one.
    """
    refused = {key for refusal in reading.refused for key in refusal.keys}
    refused |= {f"pseudonym:{assets.pseudonym(key).hex()}" for key in refused}
    listed = {row.item for row in reading.assets}
    written: dict[int, AssetRecord] = {}
    for one in assets.ours:
        named = one.asset_id in assets.seen or bool({one.key, one.inventory_number} & refused - {""})
        is_out = one.out_of_service_on is not None and one.out_of_service_on <= day
        if one.item not in reading.complete or named or one.is_duplicate or is_out:
            continue
        made.absent.append(one)
        gone = replace(one, absent_since=one.absent_since or day)
        if retire and one.item in listed:
            gone = replace(gone, out_of_service_on=day)
            made.retired.append(gone)
        if gone != one:
            written[one.asset_id] = gone
    return written


def _entities(
    reading: InventoryReading, kept: InventorySnapshot, written: Iterable[AssetRecord]
) -> list[Entity]:
    """Return new entities, parents first, and known ones with new facts."""
    known = {one.name: one for one in kept.entities}
    said = {one.name: one for one in kept.entities}
    named = [placement.entity for record in written for placement in record.placements]
    named += [one.entity for one in reading.purchases if one.entity]
    named += [one.entity for one in reading.headcounts]
    named += [row.retirement.entity for row in reading.retirements if row.retirement.entity]
    for name in (*named, *(row.name for row in reading.entities)):
        path: str | None = name
        while path and path not in said:
            said[path] = Entity(path, parent_of(path))
            path = parent_of(path)
    for row in reading.entities:
        before = said[row.name]
        said[row.name] = replace(
            before,
            site=before.site if row.site is None else row.site,
            power_context=row.power_context or before.power_context,
            population=row.population or before.population,
        )
    changed = [one for name, one in said.items() if known.get(name) != one]
    return sorted(changed, key=lambda one: (one.name.count(">"), one.name))


def _purchases(
    reading: InventoryReading, kept: InventorySnapshot, made: Plan
) -> tuple[StoredPurchase, ...] | None:
    """Replace the purchases of each year in the file: a file is complete for its years."""
    if not reading.purchases:
        return None
    years = {one.year for one in reading.purchases}
    others = [one for one in kept.purchases if one.source != reading.source or one.purchase.year not in years]
    new = [StoredPurchase(reading.source, one) for one in reading.purchases]
    return _replaced("purchases", kept.purchases, others, new, made)


def _retirements(
    reading: InventoryReading, kept: InventorySnapshot, assets: _Assets, made: Plan
) -> tuple[tuple[StoredRetirement, ...] | None, list[AssetRecord]]:
    """Replace the retirements of each year in the file, and retire the assets that they name."""
    if not reading.retirements:
        return None, []
    find = _Finder(assets)
    new: list[StoredRetirement] = []
    retired: list[AssetRecord] = []
    for row in reading.retirements:
        asset = find.of(row)
        if row.asset and asset is None:
            remedy = "import it first, or leave the column blank"
            made.refused.append(Refusal(row.where, "asset", f"no asset '{row.asset}', or several", remedy))
            continue
        retirement = row.retirement
        if asset is not None:
            retirement = replace(
                retirement,
                asset_id=asset.asset_id,
                device_class=retirement.device_class or asset.device_class,
            )
            retired.append(replace(asset, out_of_service_on=retirement.day))
        new.append(StoredRetirement(reading.source, retirement))
    years = {row.retirement.day.year for row in reading.retirements}
    others = [
        one
        for one in kept.retirements
        if one.source != reading.source or one.retirement.day.year not in years
    ]
    return _replaced("retirements", kept.retirements, others, new, made), retired


class _Finder:
    """Finds the asset that a retirement names, in any inventory."""

    def __init__(self, assets: _Assets) -> None:
        self._assets = assets
        everything = assets.by_id.values()
        self._by_text = _unique((text, one) for one in everything for text in (one.key, one.inventory_number))
        self._by_mark = _unique((one.chassis_pseudonym, one) for one in everything)

    def of(self, row: RetirementRow) -> AssetRecord | None:
        if not row.asset:
            return None
        serial = normalise_serial(row.asset)
        by_serial = self._by_mark.get(self._assets.pseudonym(serial)) if serial else None
        return self._by_text.get(row.asset) or by_serial


def _replaced(
    name: str, before: tuple[T, ...], others: list[T], new: list[T], made: Plan
) -> tuple[T, ...] | None:
    after = (*others, *new)
    fresh, gone = Counter(after) - Counter(before), Counter(before) - Counter(after)
    made.other_rows[name] = (fresh.total(), gone.total())
    return after if fresh or gone else None
