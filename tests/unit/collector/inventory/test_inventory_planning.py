# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of an import onto a kept inventory: matching, moves on the 1st, and absent assets that stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from veilleuse.collector.inventory.matching import match
from veilleuse.collector.inventory.plan import Plan, next_month, plan
from veilleuse.collector.inventory.rows import (
    AssetRow,
    EntityRow,
    InventoryReading,
    Refusal,
    RetirementRow,
    Value,
)
from veilleuse.collector.model.inventory import (
    AssetRecord,
    Candidate,
    Decision,
    Doubt,
    DoubtKind,
    Entity,
    InventoryChange,
    InventorySnapshot,
    MatchVerdict,
    Placement,
    PowerContext,
    Purchase,
    Retirement,
    StoredPurchase,
)
from veilleuse.collector.model.records import HostId

DAY = date(2026, 3, 17)
NEXT = date(2026, 4, 1)


def mark(text: str) -> bytes:
    """Return a readable pseudonym."""
    return text.encode().ljust(32, b"_")


def row(key: str, item: str = "computer", **values: Value) -> AssetRow:
    """Return a row, in the entity A by default."""
    told: dict[str, Value] = {"entity": "A", **values}
    return AssetRow(f"line {key}", item, key, {name: value for name, value in told.items() if value != "-"})


def reading(
    *rows: AssetRow, complete: Sequence[str] = ("computer",), refused: Sequence[Refusal] = ()
) -> InventoryReading:
    """Return a reading of one inventory."""
    return InventoryReading(
        "glpi",
        rows=len(rows),
        assets=list(rows),
        complete=set(complete),
        refused=list(refused),
        refused_count=len(refused),
    )


def kept(
    *assets: AssetRecord, entities: tuple[Entity, ...] = (Entity("A", None),), **more: tuple
) -> InventorySnapshot:
    """Return a snapshot with these assets."""
    parts = {"purchases": (), "retirements": (), "headcounts": (), **more}
    return InventorySnapshot(4, assets, entities, next_asset_id=len(assets) + 1, **parts)


def known(asset_id: int, key: str, item: str = "computer", **more: Any) -> AssetRecord:
    """Return an asset that was imported on 1 January."""
    place = (Placement(date(2026, 1, 1), "A", "Lyon"),)
    return AssetRecord(asset_id, "glpi", item, key, **{"raw": "{}", "placements": place, **more})


def planned(read: InventoryReading, before: InventorySnapshot, day: date = DAY, **options: bool) -> Plan:
    """Return the plan of an import on `day`."""
    return plan(read, before, day, mark, **options)


def after(made: Plan, before: InventorySnapshot) -> InventorySnapshot:
    """Return the snapshot after the plan was carried out."""
    change = made.change
    if change is None:
        return before
    assets = {one.asset_id: one for one in before.assets} | {one.asset_id: one for one in change.assets}
    entities = {one.name: one for one in before.entities} | {one.name: one for one in change.entities}
    return InventorySnapshot(
        change.generation,
        tuple(assets.values()),
        tuple(entities.values()),
        before.purchases if change.purchases is None else change.purchases,
        before.retirements if change.retirements is None else change.retirements,
        (*before.headcounts, *change.headcounts),
        max(assets, default=0) + 1,
    )


def change_of(made: Plan) -> InventoryChange:
    """Return the change of a plan that has one."""
    assert made.change is not None
    return made.change


def test_the_second_import_changes_nothing():
    """A repeated import has nothing to write."""
    read = reading(row("1", serial="SN1", model="M"), row("2", entity="A > B > C", displays=2))
    first = planned(read, kept())
    assert (len(first.added), len(first.changed)) == (2, 0)
    assert [one.name for one in change_of(first).entities] == ["A > B", "A > B > C"]
    second = planned(read, after(first, kept()), date(2026, 9, 1))
    assert (second.change, second.unchanged, second.absent) == (None, 2, [])


def test_a_move_takes_effect_on_the_1st_of_the_next_month():
    """A second move in the month replaces the first, and a move back cancels it; the past stays.
    docs/methodology.md §5."""
    before = kept(known(1, "1"))
    moved = planned(reading(row("1", entity="B")), before)
    places = moved.changed[0].placements
    assert [(one.from_day, one.entity) for one in places] == [(date(2026, 1, 1), "A"), (NEXT, "B")]
    assert (moved.moved, moved.moves_from) == (1, NEXT)
    again = planned(reading(row("1", entity="C")), after(moved, before), date(2026, 3, 20))
    assert [one.entity for one in again.changed[0].placements] == ["A", "C"]
    back = planned(reading(row("1", entity="A")), after(moved, before), date(2026, 3, 31))
    assert [one.entity for one in back.changed[0].placements] == ["A"]
    later = planned(reading(row("1", entity="A")), after(moved, before), date(2026, 4, 1))
    assert [(one.from_day, one.entity) for one in later.changed[0].placements][-1] == (date(2026, 5, 1), "A")


@pytest.mark.parametrize(
    ("day", "first"),
    [("2026-01-31", "2026-02-01"), ("2026-12-01", "2027-01-01"), ("2024-02-29", "2024-03-01")],
)
def test_the_next_month(day, first):
    """The next month of any day, the 1st included, is the following one, across the year too."""
    assert next_month(date.fromisoformat(day)) == date.fromisoformat(first)


def test_a_site_that_was_not_said_before_is_no_move():
    """A first site is filled in for the past, another site is a move, and --correct replaces the past."""
    unsaid = known(1, "1", placements=(Placement(date(2026, 1, 1), "A", ""),))
    filled = planned(reading(row("1", site="Lyon")), kept(unsaid))
    assert filled.changed[0].placements == (Placement(date(2026, 1, 1), "A", "Lyon"),)
    moved = planned(reading(row("1", site="Bron")), kept(known(1, "1")))
    assert len(moved.changed[0].placements) == 2
    corrected = planned(reading(row("1", site="Bron", entity="B")), kept(known(1, "1")), correct=True)
    assert corrected.changed[0].placements == (Placement(date(2026, 1, 1), "B", "Bron"),)
    blank = planned(reading(row("1", site="")), kept(known(1, "1")))
    assert (blank.change, blank.unchanged) == (None, 1)


def test_what_a_file_has_no_column_for_stays():
    """A list without a column erases nothing; a blank cell does."""
    before = kept(known(1, "1", in_service_on=date(2020, 1, 1), model="M", population=None))
    made = planned(reading(row("1", model="")), before)
    assert (made.changed[0].in_service_on, made.changed[0].model) == (date(2020, 1, 1), "")


def test_absent_ones_are_listed_and_stay():
    """Absent assets are counted and dated, and stay in service; they return when listed again."""
    before = kept(known(1, "1"), known(2, "2"), known(3, "m", "monitor"))
    made = planned(reading(row("1", site="Lyon")), before)
    assert [one.key for one in made.absent] == ["2"]
    gone = after(made, before)
    assert [(one.absent_since, one.out_of_service_on) for one in gone.assets] == [
        (None, None),
        (DAY, None),
        (None, None),
    ]
    again = planned(reading(row("1", site="Lyon")), gone, date(2026, 5, 1))
    assert (len(again.absent), again.change) == (1, None)
    back = planned(reading(row("1", site="Lyon"), row("2", site="Lyon")), gone)
    assert back.changed[0].absent_since is None


def test_absent_ones_retire_only_where_asked_and_nothing_was_refused():
    """With --retire-absent nothing retires when a row was refused; a refused row's asset is not absent."""
    before = kept(known(1, "1"), known(2, "2"), known(3, "3", inventory_number="INV3"))
    made = planned(reading(row("1", site="Lyon")), before, retire_absent=True)
    assert {one.key: one.out_of_service_on for one in made.retired} == {"2": DAY, "3": DAY}
    refused = Refusal("line 3", "", "x", "y", ("INV3",))
    made = planned(reading(row("1", site="Lyon"), refused=[refused]), before, retire_absent=True)
    assert ([one.key for one in made.absent], made.retired) == (["2"], [])


def test_an_incomplete_list_makes_nobody_absent():
    """One machine's XML is no list of the fleet."""
    assert planned(reading(row("1"), complete=()), kept(known(2, "2"))).absent == []


def test_found_again_by_inventory_number_or_serial():
    """Rows with and without IDs are matched to the same asset, and the permanent key is kept."""
    by_number = known(1, "inventory_number:INV1", inventory_number="INV1")
    made = planned(reading(row("Computer:9", inventory_number="INV1", site="Lyon")), kept(by_number))
    assert [(one.asset_id, one.key) for one in made.changed] == [(1, "Computer:9")]
    by_serial = known(1, "Computer:9", chassis_pseudonym=mark("SN1"))
    made = planned(reading(row("", serial="SN1", site="Lyon")), kept(by_serial))
    assert (made.added, made.change, made.unchanged) == ([], None, 1)
    two_ids = planned(reading(row("Computer:10", serial="SN1")), kept(by_serial))
    assert len(two_ids.added) == 1


def test_rows_that_cannot_come_in():
    """A row given twice and a new row without an entity are refused; the others are added."""
    made = planned(reading(row("1"), row("1"), row("2", entity="-"), row("3")), kept())
    assert [(one.where, one.what) for one in made.refused] == [
        ("line 1", "the same as line 1"),
        ("line 2", "no entity"),
    ]
    assert [one.key for one in made.added] == ["1", "3"]


def test_out_of_service_by_status():
    """A status without a day ends service at the import, and a later one resumes it; a day in the file
    wins."""
    before = kept(known(1, "1"))
    made = planned(reading(row("1", is_out=True)), before)
    assert (made.changed[0].out_of_service_on, made.out_without_day) == (DAY, 1)
    again = planned(reading(row("1", is_out=True)), after(made, before), date(2026, 8, 1))
    assert (again.change, again.out_without_day) == (None, 0)
    back = planned(reading(row("1", is_out=False)), after(made, before))
    assert back.changed[0].out_of_service_on is None
    dated = planned(reading(row("1", is_out=True, out_of_service_on=date(2026, 2, 2))), before)
    assert dated.changed[0].out_of_service_on == date(2026, 2, 2)


def test_entities_keep_what_was_said_of_them():
    """A later file without a context keeps the known one."""
    said = InventoryReading("glpi", entities=[EntityRow("l", "A > B", power_context=PowerContext.EPLE)])
    first = planned(said, kept(entities=()))
    assert change_of(first).entities == (
        Entity("A", None),
        Entity("A > B", "A", power_context=PowerContext.EPLE),
    )
    assert (
        planned(
            InventoryReading("glpi", entities=[EntityRow("l", "A > B")]), after(first, kept(entities=()))
        ).change
        is None
    )


def test_purchases_of_a_year_are_those_of_the_file():
    """Purchases of the named years are replaced; other years and other inventories stay."""
    pc, old = Purchase(2025, "PC", Decimal("10.50"), True), Purchase(2024, "PC", Decimal(1), False)
    other = StoredPurchase("plain", pc)
    before = kept(purchases=(StoredPurchase("glpi", pc), StoredPurchase("glpi", old), other))
    new = replace(pc, amount_excluding_vat_eur=Decimal("11.50"))
    made = planned(InventoryReading("glpi", purchases=[new]), before)
    assert made.other_rows["purchases"] == (1, 1)
    assert set(change_of(made).purchases or ()) == {
        StoredPurchase("glpi", old),
        other,
        StoredPurchase("glpi", new),
    }
    assert planned(InventoryReading("glpi", purchases=[pc]), before).change is None


def test_a_retirement_takes_its_asset_out_of_service():
    """An asset is found by inventory number or serial; a retirement of no asset is refused."""
    before = kept(
        known(1, "1", inventory_number="INV1", device_class="tower"),
        known(2, "2", chassis_pseudonym=mark("SN2X")),
    )
    gone = Retirement(date(2026, 2, 1), "", 1, "reuse", True)
    rows = [RetirementRow(f"line {asset}", gone, asset) for asset in ("INV1", "sn-2x", "nobody")]
    made = planned(InventoryReading("glpi", retirements=rows), before)
    assert [(one.asset_id, one.out_of_service_on) for one in change_of(made).assets] == [
        (1, date(2026, 2, 1)),
        (2, date(2026, 2, 1)),
    ]
    assert [one.retirement.device_class for one in change_of(made).retirements or ()] == ["tower", "unknown"]
    assert [one.where for one in made.refused] == ["line nobody"]
    assert planned(InventoryReading("glpi", retirements=rows), after(made, before)).change is None


# matching


def machine(
    number: int, chassis: str = "", smbios: str = "", device_class: str = "tower", model: str = ""
) -> Candidate:
    """Return an enrolled machine."""
    return Candidate(
        HostId(number),
        mark(chassis) if chassis else b"",
        mark(smbios) if smbios else b"",
        device_class,
        model,
    )


def asset(
    number: int, chassis: str = "", smbios: str = "", device_class: str = "tower", **more: Any
) -> AssetRecord:
    """Return an asset that an agent could run on."""
    return known(
        number, str(number), chassis_pseudonym=mark(chassis) if chassis else b"",
        smbios_pseudonym=mark(smbios) if smbios else b"", device_class=device_class, **more,
    )  # fmt: skip


def kinds(
    assets: Sequence[AssetRecord], machines: Sequence[Candidate], *decisions: Decision
) -> tuple[dict[int, int], list[tuple[str, int]]]:
    """Return (links, (doubt, asset))."""
    found = match(assets, machines, decisions, DAY)
    return dict(found.links), [(doubt.kind.value, doubt.asset_id) for doubt in found.doubts]


def test_one_to_one_is_a_match():
    """Machines match by serial, by UUID or by both."""
    assets = [asset(1, "S1"), asset(2, "", "U2"), asset(3, "S3", "U3"), asset(4, "S4")]
    machines = [
        machine(11, "S1"),
        machine(12, "S9", "U2"),
        machine(13, "S3", "U3"),
        machine(14),
        machine(15, "S5"),
    ]
    assert kinds(assets, machines) == ({1: 11, 2: 12, 3: 13}, [])


@pytest.mark.parametrize(
    ("assets", "machines", "doubts"),
    [
        ([asset(1, "S")], [machine(11, "S"), machine(12, "S")], [("several_hosts", 1)] * 2),
        ([asset(1, "S"), asset(2, "S")], [machine(11, "S")], [("several_assets", 1), ("several_assets", 2)]),
        ([asset(1, "S"), asset(2, "S")], [], [("pseudonym_twice", 2)]),
        ([asset(1, "S", "U")], [machine(11, "S"), machine(12, "", "U")], [("ids_disagree", 1)] * 2),
        (
            [asset(1, "S", model="OptiPlex 7090")],
            [machine(11, "S", model="Latitude 5420")],
            [("model_disagrees", 1)],
        ),
        ([asset(1, "S")], [machine(11, "S", device_class="laptop")], [("class_disagrees", 1)]),
        ([asset(1, "S", out_of_service_on=DAY)], [machine(11, "S")], [("out_of_service", 1)]),
        (
            [asset(1, "S", device_class="monitor"), asset(2, "S", device_class="monitor")],
            [],
            [("pseudonym_twice", 2)],
        ),
    ],
)
def test_what_is_doubtful_is_not_matched(assets, machines, doubts):
    """Each kind of doubt gives no link."""
    assert kinds(assets, machines) == ({}, doubts)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (asset(1, "S", model="Dell OptiPlex 7090"), machine(11, "S", model="OptiPlex-7090")),
        (asset(1, "S", model=""), machine(11, "S", model="X")),
        (asset(1, "S", device_class="sff"), machine(11, "S", device_class="mini_pc")),
        (asset(1, "S", device_class="unknown"), machine(11, "S", device_class="laptop")),
        (asset(1, "S", out_of_service_on=NEXT), machine(11, "S")),
    ],
)
def test_what_is_no_contradiction(ours, theirs):
    """A maker's name before the model, an unknown model or class, similar classes of desktop PCs and a future
    day out of service are no contradiction."""
    assert kinds([ours], [theirs]) == ({1: 11}, [])


def test_an_operators_word_stands():
    """MATCHED links in spite of contradictions; IGNORED gives no link and no doubt."""
    assets, machines = [asset(1, "S"), asset(2, "S")], [machine(11, "S", device_class="laptop")]
    told = Decision(1, HostId(11), MatchVerdict.MATCHED)
    assert kinds(assets, machines, told) == ({1: 11}, [("pseudonym_twice", 2)])
    ignored = Decision(2, None, MatchVerdict.IGNORED)
    assert kinds(assets, machines, told, ignored) == ({1: 11}, [])
    assert kinds(assets[:1], machines, Decision(1, HostId(11), MatchVerdict.IGNORED)) == ({}, [])
    without_serial = [asset(3)]
    assert kinds(without_serial, [machine(12)], Decision(3, HostId(12), MatchVerdict.MATCHED)) == (
        {3: 12},
        [],
    )
    assert kinds(assets[:1], [], told) == ({}, []), "the machine was forgotten"


def test_a_duplicate_is_nobody():
    """A duplicate is not matched and gives no doubt."""
    assert kinds([asset(1, "S"), asset(2, "S", is_duplicate=True)], [machine(11, "S")]) == ({1: 11}, [])


def test_doubts_name_who_it_is_about():
    """A doubt names the machine and the other asset."""
    found = match([asset(1, "S"), asset(2, "S")], [machine(11, "S")], [], DAY)
    assert found.doubts[0] == Doubt(DoubtKind.SEVERAL_ASSETS, 1, HostId(11), 2)


def test_what_machines_were_that_left():
    """Revoked machines become earlier machines of an asset by the same pseudonyms, beside its present one.
    Two possible assets, a contradiction or an operator's refusal prevent it without a doubt."""
    left = replace(machine(21, "S1"), has_left=True)
    assets = [asset(1, "S1", "U1"), asset(2, "S2"), asset(3, "S2"), asset(4, "S4", out_of_service_on=DAY)]
    machines = [
        machine(11, "S1"),
        left,
        replace(left, host_id=HostId(22), chassis_pseudonym=b"", smbios_pseudonym=mark("U1")),
        replace(machine(23, "S2"), has_left=True),
        replace(machine(24, "S4"), has_left=True),
        replace(machine(25, "S4", device_class="laptop"), has_left=True),
        replace(machine(26), has_left=True),
    ]
    found = match(assets, machines, [], DAY)
    assert (found.links, found.earlier) == ({1: 11}, {21: 1, 22: 1, 24: 4})
    assert {doubt.kind for doubt in found.doubts} == {DoubtKind.PSEUDONYM_TWICE}
    said = [
        Decision(1, HostId(21), MatchVerdict.IGNORED),
        Decision(4, HostId(25), MatchVerdict.MATCHED),
        Decision(4, None, MatchVerdict.IGNORED),
    ]
    assert match(assets, machines, said, DAY).earlier == {22: 1, 25: 4}
