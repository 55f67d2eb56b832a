# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of misleading content of inventories: no machine is lost, doubled or retired by it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.inventories import WORDS, read
from veilleuse.collector import settings
from veilleuse.collector.errors import OvertakenImport, StoreFull, UsageError
from veilleuse.collector.inventory.cells import CellError, decimal_of
from veilleuse.collector.inventory.mapping import InventoryMapping, read_mapping
from veilleuse.collector.inventory.plan import Plan, plan
from veilleuse.collector.inventory.rows import AssetRow, InventoryReading, Refusal, RetirementRow, Value
from veilleuse.collector.model.inventory import (
    AssetRecord,
    InventorySnapshot,
    Placement,
    Retirement,
    StoredRetirement,
)
from veilleuse.collector.store import create_store
from veilleuse.collector.store.sqlite import inventory_rows as store_rows

DAY = date(2026, 3, 17)
LIST = "ID;Nom;Entité;Numéro d'inventaire;Numéro de série\n"


def mark(text: str) -> bytes:
    """Return a readable pseudonym."""
    return text.encode().ljust(32, b"_")


def kept(*assets: AssetRecord, **more: Any) -> InventorySnapshot:
    """Return a snapshot with these assets."""
    parts = {"entities": (), "purchases": (), "retirements": (), "headcounts": (), **more}
    return InventorySnapshot(4, assets, next_asset_id=len(assets) + 1, **parts)


def known(asset_id: int, key: str, item: str = "computer", **more: Any) -> AssetRecord:
    """Return an asset that was imported on 1 January."""
    place = (Placement(date(2026, 1, 1), "A", "Lyon"),)
    return AssetRecord(asset_id, "glpi", item, key, **{"raw": "{}", "placements": place, **more})


def listed(*rows: AssetRow, refused: tuple[Refusal, ...] = ()) -> InventoryReading:
    """Return a complete list of computers and monitors."""
    made = InventoryReading("glpi", len(rows), list(rows), refused=list(refused), refused_count=len(refused))
    made.complete = {"computer", "monitor"}
    return made


def row(key: str, **values: Value) -> AssetRow:
    """Return a row at the known asset's place."""
    return AssetRow(f"line {key}", "computer", key, {"entity": "A", "site": "Lyon", **values})


def planned(reading: InventoryReading, before: InventorySnapshot, **options: bool) -> Plan:
    """Return the plan of an import on DAY."""
    return plan(reading, before, DAY, mark, **options)


def xml(serial: str, tag: str) -> str:
    """Return the XML of one machine, as an agent writes it."""
    bios = f"<SSN>{serial}</SSN><ASSETTAG>{tag}</ASSETTAG><SMODEL>M</SMODEL>"
    return f"<REQUEST><CONTENT><BIOS>{bios}</BIOS><HARDWARE><NAME>pc</NAME></HARDWARE></CONTENT></REQUEST>"


@pytest.mark.parametrize("tag", ["No Asset Tag", "No Asset Information", "Asset-1234567890", "COL-77"])
def test_machines_of_one_asset_tag_are_several(tag):
    """Firmware writes the same tag into every machine, VMware into every guest; the serial number
    distinguishes them, in one import and in two."""
    first = planned(read(xml("SN1X", tag), words=InventoryMapping(default_entity="A")), kept())
    (one,) = first.added
    second = planned(read(xml("SN2X", tag), words=InventoryMapping(default_entity="A")), kept(one))
    assert ([other.asset_id for other in second.added], second.changed) == ([2], [])
    assert one.inventory_number == ("COL77" if tag == "COL-77" else "")


def test_what_lists_write_for_nothing_is_no_number():
    """`-` and `N/A` count as blank in columns of numbers and names, so that serial numbers identify."""
    reading = read(f"{LIST};-;A;-;SN1X\n;N/A;A;-;SN2X\n;c;-;n/a;SN3X\n", form="glpi_csv")
    made = planned(reading, kept())
    assert [(one.name, one.inventory_number) for one in made.added] == [("", ""), ("", "")]
    assert [(one.where, one.what) for one in made.refused] == [("parc, line 4", "no entity")]


@pytest.mark.parametrize(
    "text", ["12.05.2024", "1,2,3", "1.2.3", "1,23.456", "12 34", "1.234.5", "1 234.567,8"]
)
def test_what_is_no_number_is_none(text):
    """Thousands need groups of three digits and one separator: a date once became an amount of 12 million."""
    with pytest.raises(CellError, match="no number"):
        decimal_of(text)


@pytest.mark.parametrize(
    ("text", "column", "what"),
    [
        ("day;destination;device_class;units\n2025-01-01;reuse;tower;0\n", "units", "0 units"),
        (
            "entity;users;from_day\nA;10;2025-01-01\nB;1;2025-01-01\nA;20;2025-01-01\n",
            "entity",
            "a row before",
        ),
    ],
)
def test_rows_that_would_count_wrongly(text, column, what):
    """0 retired units once counted as one; of two headcounts of one day one was lost."""
    (refused,) = read(text).refused
    assert (refused.column, what in refused.what) == (column, True)


def test_an_export_of_several_inventories_doubles_nothing():
    """Rows of another inventory are left out and counted."""
    text = "source;key;device_class;entity\nglpi;Computer:1;tower;A\nplain;K1;switch;A\n"
    reading = read(text, source="glpi")
    assert ([one.key for one in reading.assets], reading.unknown) == (
        ["Computer:1"],
        {"source": {"plain": 1}},
    )
    assert [one.key for one in read(text).assets] == ["K1"]


def test_a_site_that_a_rule_invents_is_none():
    """An unknown site of a rule is listed, and a value that is no text is refused."""
    words = read_mapping('[[site]]\nlocation = "Lyon*"\nsite = "Lion"\n', "m.toml", WORDS.sites)
    reading = read("ID;Nom;Entité;Lieu\n1;a;A;Lyon > 12\n", words=words, form="glpi_csv")
    assert (reading.assets[0].values["site"], reading.unknown["site"]) == ("", {"Lion": 1})
    with pytest.raises(UsageError, match="'site' must be a text"):
        read_mapping('[[entity]]\nentity = "A"\nsite = 5\n', "m.toml")
    with pytest.raises(UsageError, match="unknown 'manufacturer'"):
        read_mapping('[columns]\n"Constructeur" = "manufacturer"\n', "m.toml")


def test_utf_8_with_a_broken_character_is_not_read_as_another_encoding():
    """Another encoding would rename every entity with an accent, and move all that is in it."""
    whole = f"{LIST}1;a;Métropole;;SN1X\n2;b;Collège;;SN2X\n".encode()
    assert len(read(whole, form="glpi_csv").assets) == 2
    with pytest.raises(UsageError, match=r"line 3: a broken character of UTF-8"):
        read(whole.replace("è".encode(), b"\xc3"), form="glpi_csv")
    windows = f"{LIST}1;a;Métropole À É\xa0: œ;;SN1X\n".encode("cp1252")
    assert read(windows, form="glpi_csv").assets[0].values["entity"] == "Métropole À É : œ"


def test_rows_are_counted_while_they_are_read(monkeypatch: pytest.MonkeyPatch):
    """64 MiB of `x` lines would take 4 GB of memory if they were counted afterwards."""
    monkeypatch.setattr("veilleuse.collector.inventory.csv_table.MAXIMUM_ROWS", 10)
    with pytest.raises(UsageError, match="parc: more than 10 rows"):
        read("key;device_class\n" + "K;tower\n" * 11)
    assert read("key;device_class\n" + "K;tower\n" * 10).rows == 10


def test_a_template_that_a_spreadsheet_saved():
    """A spreadsheet puts quotes around a comment with a separator in it."""
    reading = read('"# key: yours; for life"\n# more;;\nkey;device_class;entity\nK;tower;A\n')
    assert reading.assets[0].where == "parc, line 4"


def test_a_list_that_names_nothing_retires_nothing():
    """A user who lost the right to read monitors gets an empty list of them."""
    before = kept(known(1, "1"), known(2, "2"), known(3, "m", "monitor"))
    made = planned(listed(row("1")), before, retire_absent=True)
    assert ([one.key for one in made.absent], [one.key for one in made.retired]) == (["2", "m"], ["2"])
    empty = planned(listed(), before, retire_absent=True)
    assert (len(empty.absent), empty.retired) == (3, [])


def test_a_machine_that_is_listed_again_is_in_service_again():
    """A listed asset that --retire-absent retired is in service again; an explicit retirement stays."""
    gone = known(1, "1", absent_since=date(2026, 2, 1), out_of_service_on=date(2026, 2, 1))
    assert planned(listed(row("1")), kept(gone)).changed[0].out_of_service_on is None
    slip = RetirementRow("line 1", Retirement(date(2026, 2, 1), "tower", 1, "reuse", True), "1")
    retired = planned(InventoryReading("glpi", retirements=[slip]), kept(known(1, "1"))).change
    assert retired is not None
    before = kept(gone, retirements=retired.retirements)
    assert planned(listed(row("1")), before).changed[0].out_of_service_on == date(2026, 2, 1)


def test_a_retirement_that_is_corrected_moves_the_end_of_service():
    """A corrected slip moves the day that it set; a day that the inventory gave stays."""
    slip = Retirement(date(2026, 2, 1), "tower", 1, "reuse", True, asset_id=1)
    mended = [RetirementRow("line 1", replace(slip, day=date(2026, 1, 20), asset_id=None), "1")]
    for out, then in ((slip.day, date(2026, 1, 20)), (date(2026, 1, 5), date(2026, 1, 5))):
        before = kept(known(1, "1", out_of_service_on=out), retirements=(StoredRetirement("glpi", slip),))
        made = planned(InventoryReading("glpi", retirements=mended), before).change
        assert made is not None
        assert [one.out_of_service_on for one in made.assets] == [then] * (then != out)


def test_a_day_to_come_is_no_end_of_service():
    """Until the end of a lease, an unlisted asset is absent."""
    leased = known(1, "1", out_of_service_on=DAY + timedelta(days=1))
    assert [one.key for one in planned(listed(), kept(leased)).absent] == ["1"]
    over = replace(leased, out_of_service_on=DAY)
    assert planned(listed(), kept(over)).absent == []


def test_a_refused_row_is_no_absent_asset():
    """A refused row that is known by its serial number alone does not make its asset absent."""
    asset = known(1, f"pseudonym:{mark('SN1X').hex()}", chassis_pseudonym=mark("SN1X"))
    refused = Refusal("line 2", "name", "x", "y", ("SN1X",))
    assert planned(listed(refused=(refused,)), kept(asset)).absent == []


def test_a_move_to_come_can_still_be_a_correction():
    """--correct applies to a future move; a move that took effect stays."""
    to_come = (Placement(date(2026, 1, 1), "A", "Lyon"), Placement(date(2026, 4, 1), "B", "Lyon"))
    made = planned(listed(row("1", entity="B")), kept(known(1, "1", placements=to_come)), correct=True)
    assert made.changed[0].placements == (Placement(date(2026, 1, 1), "B", "Lyon"),)
    done = (to_come[0], replace(to_come[1], from_day=date(2026, 3, 1)))
    made = planned(listed(row("1", entity="B")), kept(known(1, "1", placements=done)), correct=True)
    assert made.change is None


def test_an_import_that_data_db_could_not_take_is_not_lost_under_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """When the disk is full under the first of two plans, it is completed and the second is refused."""
    limits = settings.Store(free_bytes_minimum=0)
    with closing(create_store(tmp_path, limits, simulated=False, now_unix_milliseconds=1)) as store:
        empty = store.inventory.snapshot()
        one, two = (planned(listed(row(key)), empty).change for key in ("1", "2"))
        assert one is not None
        assert two is not None
        with monkeypatch.context() as full:
            full.setattr(store_rows, "write", _fails)
            with pytest.raises(StoreFull, match="written down"):
                store.inventory.apply(one)
        with pytest.raises(OvertakenImport):
            store.inventory.apply(two)
        assert [asset.key for asset in store.inventory.snapshot().assets] == ["1"]


def _fails(*_: Any) -> None:
    raise StoreFull("no room")
