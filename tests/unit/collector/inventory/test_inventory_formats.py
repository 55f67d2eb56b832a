# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests that every format gives the same rows: GLPI's CSV and JSON, FusionInventory's XML, plain CSV."""

from __future__ import annotations

import gzip
import json
import subprocess
import zlib
from datetime import date
from decimal import Decimal

import pytest

from tests.support.fakes.glpi import computer
from tests.support.inventories import WORDS, read
from tests.support.peers import peer
from veilleuse.collector.errors import UsageError
from veilleuse.collector.inventory import format_of
from veilleuse.collector.inventory.cells import decimal_of
from veilleuse.collector.inventory.mapping import InventoryMapping, read_mapping
from veilleuse.collector.inventory.plain_csv import KINDS, template

FRENCH = (
    '"Nom";"Entité";"Statut";"Fabricant";"Numéro de série";"Type";"Modèle";"Lieu";"Numéro d\'inventaire";"ID";"UUID";'
    '"Informations financières et administratives - Date de mise en service";"Usager"'
)
ENGLISH = (
    "Name,Entity,Status,Manufacturer,Serial number,Type,Model,Location,Inventory number,ID,UUID,"
    "Financial and administrative information - Startup date,Alternate username"
)
CELLS = (
    "PC0001", "Métropole > Collèges", "En service", "Dell Inc.", "SN000001X", "Mini Tower", "OptiPlex 7090",
    "Lyon > Salle 12", "INV-1", "1", "4c4c4544-0000-1000-8000-000000000001", "2021-09-01", "dupont",
)  # fmt: skip
EXPECTED = {
    "name": "PC0001",
    "inventory_number": "INV-1",
    "serial": "SN000001X",
    "uuid": "4c4c4544000010008000000000000001",
    "device_class": "tower",
    "entity": "Métropole > Collèges",
    "site": "Lyon",
    "vendor": "Dell Inc.",
    "model": "OptiPlex 7090",
    "in_service_on": date(2021, 9, 1),
    "is_out": False,
}


def csv_text(heading: str, separator: str, cells: tuple[str, ...] = CELLS) -> str:
    """Return a list of one row in GLPI's form: with a separator after the last cell."""
    line = separator.join(f'"{cell}"' for cell in cells)
    return f"{heading}{separator}\r\n{line}{separator}\r\n"


@pytest.mark.parametrize("heading", [FRENCH, ENGLISH], ids=["French", "English"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16"])
def test_a_list_of_glpi_as_csv(heading, encoding):
    """French and English, `;` and `,`, and every encoding give the same row, without a user's name."""
    text = csv_text(heading, ";" if heading is FRENCH else ",")
    reading = read(text.encode(encoding))
    (row,) = reading.assets
    assert (row.item, row.key, dict(row.values)) == ("computer", "Computer:1", EXPECTED)
    assert reading.complete == {"computer"}
    assert "dupont" not in repr(reading)
    assert "SN000001X" not in repr(row.raw)


def test_the_same_list_as_json():
    """JSON is read in the API's form, as an object with `data`, by item type, or with headings as keys."""
    thing = computer(1, use_date="2021-09-01 00:00:00")
    by_heading = dict(zip(ENGLISH.split(","), CELLS, strict=True))
    for document in ([thing], {"data": [thing]}, {"Computer": [thing]}, [by_heading]):
        (row,) = read(json.dumps(document)).assets
        assert (row.key, dict(row.values)) == ("Computer:1", EXPECTED)


def test_json_with_numbers_instead_of_names_is_refused():
    """The refusal names the missing option of GLPI, and the refused row does not count as absent."""
    reading = read(json.dumps([computer(5, entities_id=12)]))
    (refused,) = reading.refused
    assert (refused.column, refused.keys, "expand_dropdowns" in refused.remedy) == (
        "entities_id",
        ("Computer:5",),
        True,
    )


def test_other_lists_of_glpi():
    """Monitors, switches, printers and phones get their classes; an unknown type is listed, not guessed."""
    heading = "Nom;Entité;Type;Modèle;ID"
    for item, kind, expected in (
        ("monitor", "LCD", "monitor"),
        ("network_equipment", "Commutateur", "switch"),
        ("network_equipment", "Borne Wi-Fi", "wifi_access_point"),
        ("printer", "Multifonction", "printer"),
        ("phone", "Téléphone IP", "ip_phone"),
        ("phone", "Smartphone", "smartphone"),
        ("peripheral", "Vidéoprojecteur", "projector"),
        ("peripheral", "Machine à café", "other"),
        ("computer", "Bidule", "unknown"),
        ("computer", "Machine virtuelle", "virtual_machine"),
    ):
        reading = read(f"{heading}\nX;A;{kind};M;1\n", item=item, form="glpi_csv")
        (row,) = reading.assets
        assert (row.item, row.values["device_class"]) == (item, expected)
        unknown = kind in ("Machine à café", "Bidule")
        assert bool(reading.unknown.get("type")) == unknown


MAPPING = """
date_format = "month_first"
[defaults]
entity = "Métropole"
[columns]
"Mise en prod" = "in_service_on"
"Reconditionné" = "refurbished"
[statuses]
out_of_service = ["Chez Emmaüs"]
[[class]]
type = "UC*"
model = "OptiPlex * Micro*"
class = "mini_pc"
[[class]]
type = "uc*"
class = "tower"
[[site]]
location = "Collège Jean*"
site = "Bron"
[[entity]]
entity = "Métropole*"
power_context = "own_site"
population = "workstation"
[[entity]]
entity = "Métropole > Collèges*"
power_context = "eple"
population = "classroom"
"""


def test_a_mapping_says_what_words_mean():
    """A mapping sets columns, types by pattern, statuses, places and entities; a later [[entity]] wins."""
    words = read_mapping(MAPPING, "m.toml", ["Lyon", "Bron"])
    reading = read(
        "ID;Type;Modèle;Statut;Lieu;Entité;Mise en prod;Reconditionné\n"
        "1;UC fixe;OptiPlex 7090 Micro;Chez Emmaüs;Collège Jean Moulin > S1;Métropole > Collèges > JM;09/01/2021;oui\n"
        "2;UC fixe;autre;En service;Ailleurs;;13/09/2021;\n"
        "3;UC fixe;autre;Prêté;Lyon;;;non\n",
        words=words,
        form="glpi_csv",
    )
    first, third = (dict(row.values) for row in reading.assets)
    assert (first["device_class"], first["is_out"], first["site"]) == ("mini_pc", True, "Bron")
    assert (first["in_service_on"], first["refurbished"]) == (date(2021, 9, 1), True)
    assert (third["device_class"], third["entity"], third["refurbished"]) == ("tower", "Métropole", False)
    (refused,) = reading.refused
    assert "month first" not in refused.remedy
    assert (refused.where, refused.column) == ("parc, line 3", "Mise en prod")
    assert reading.unknown["status"] == {"Prêté": 1}
    said = {row.name: (row.power_context, row.population) for row in reading.entities}
    assert said["Métropole > Collèges > JM"] == ("eple", "classroom")
    assert said["Métropole"] == ("own_site", "workstation")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[class]]\ntipe = 'x'\nclass = 'tower'", "did you mean 'type'"),
        ("[[class]]\ntype = 'x'\nclass = 'towr'", "did you mean 'tower'"),
        ("[[class]]\nclass = 'tower'", "at least one of"),
        ("[[entity]]\nentity = 'x'", "what to say of it"),
        ("[[entity]]\nentity = 'x'\npower_context = 'college'", "unknown 'college'"),
        ("[columns]\nX = 'password'", "unknown 'password'"),
        ("date_format = 'iso'", "day_first or month_first"),
        ("[statuses]\nin_service = 'x'", "a list of texts"),
        ("x = ", "no TOML"),
        ("a = " + "[" * 20_000, "no TOML"),
        ("[defaults]\nentity = 'a > > b'", "without a name"),
    ],
)
def test_a_mapping_that_says_nothing_is_refused(text, why):
    """The refusal names the nearest known word."""
    with pytest.raises(UsageError, match=why):
        read_mapping(text, "m.toml")


@pytest.fixture(scope="module")
def inventory_of_this_machine() -> bytes:
    """Return the file that Debian's fusioninventory-agent writes of this machine, with a tag."""
    leave_out = "software,process,environment,user,package,storage,network,drive,firewall"
    command = [str(peer("fusioninventory-inventory")), "--tag=COL-012", f"--no-category={leave_out}"]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


def test_a_real_file_of_fusioninventory(inventory_of_this_machine):
    """The real file is read, plain, as gzip and as zlib, and nothing but hardware and names is kept."""
    for data in (
        inventory_of_this_machine,
        gzip.compress(inventory_of_this_machine),
        zlib.compress(inventory_of_this_machine),
    ):
        assert format_of("x", data, WORDS) == "fusioninventory"
        reading = read(data, words=InventoryMapping(tags={"COL-012": "DSI"}))
        (row,) = reading.assets
        assert row.values["name"]
        assert row.values["entity"] == "DSI"
        assert set(row.raw) <= {
            "DEVICEID", "HARDWARE/NAME", "BIOS/SMANUFACTURER", "BIOS/SMODEL", "HARDWARE/CHASSIS_TYPE",
            "HARDWARE/VMSYSTEM", "MONITORS", "BIOS/ASSETTAG",
            "ACCOUNTINFO",
        }  # fmt: skip
        assert reading.complete == set()


def laptop(**more: str) -> str:
    """Return the XML of a laptop with its own and one external screen, as GLPI's agent writes it."""
    hardware = {
        "NAME": "pc-12",
        "UUID": "4C4C4544-0042-3510-8051-B4C04F4A5A31",
        "CHASSIS_TYPE": "Notebook",
        "VMSYSTEM": "Physical",
    }
    told = "".join(f"<{key}>{value}</{key}>" for key, value in {**hardware, **more}.items())
    return (
        '<?xml version="1.0" encoding="UTF-8"?><REQUEST><CONTENT>'
        "<ACCOUNTINFO><KEYNAME>TAG</KEYNAME><KEYVALUE>COL-012</KEYVALUE></ACCOUNTINFO>"
        "<BIOS><SMANUFACTURER>Dell Inc.</SMANUFACTURER><SMODEL>Latitude 5420</SMODEL><SSN>ABC1234</SSN></BIOS>"
        f"<HARDWARE>{told}</HARDWARE><MONITORS><SERIAL>1</SERIAL></MONITORS><MONITORS><SERIAL>2</SERIAL></MONITORS>"
        "<USERS><LOGIN>dupont</LOGIN></USERS><SOFTWARES><NAME>Jeu</NAME></SOFTWARES>"
        "</CONTENT><DEVICEID>pc-12-2024-01-01-00-00-00</DEVICEID><QUERY>INVENTORY</QUERY></REQUEST>"
    )


def test_what_the_xml_tells():
    """Serial, class, external screens and the entity of the tag are read; users and software are not."""
    words = read_mapping('[tags]\n"COL-012" = "Métropole > Collèges"', "m.toml")
    reading = read(laptop(), words=words)
    (row,) = reading.assets
    assert (row.values["serial"], row.values["device_class"], row.values["displays"]) == (
        "ABC1234",
        "laptop",
        1,
    )
    assert (row.values["entity"], row.values["model"], row.key) == (
        "Métropole > Collèges",
        "Latitude 5420",
        "",
    )
    assert "dupont" not in repr(reading)
    (virtual,) = read(laptop(VMSYSTEM="VMware"), words=words).assets
    assert virtual.values["device_class"] == "virtual_machine"
    assert read(laptop()).unknown["tag"] == {"COL-012": 1}


def test_plain_csv_of_each_kind():
    """The columns of the templates give assets, entities, purchases, retirements and headcounts."""
    assets = read(
        "key;device_class;entity;site;population;serial;displays;server_role\nK1;server;A > B;Bron;server;SN77;0;backup\n"
    )
    assert dict(assets.assets[0].values)["server_role"] == "backup"
    assert assets.assets[0].item == "computer"
    entities = read("entity,power_context,population\nA > B,eple,classroom\n")
    assert [(row.name, row.power_context) for row in entities.entities if row.power_context] == [
        ("A > B", "eple")
    ]
    bought = read("year;category;amount_excluding_vat_eur;reused;units\n2025;Ordinateurs;1 234,50 €;oui;3\n")
    assert bought.purchases[0].amount_excluding_vat_eur == Decimal("1234.50")
    gone = read(
        "day;destination;asset;reuse_committed;proof\n01/03/2026;reuse;INV-1;yes;BSD 12\n"
    ).retirements[0]
    assert (gone.asset, gone.retirement.day, gone.retirement.proof) == ("INV-1", date(2026, 3, 1), "BSD 12")
    people = read("entity;users;from_day;telework_days_per_week\nA;120;2026-01-01;1,5\n").headcounts[0]
    assert (people.users, people.telework_days_per_week) == (120, Decimal("1.5"))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_template_is_a_file_without_rows(kind):
    """A template is read as an empty file of its kind."""
    reading = read(template(kind))
    assert (reading.rows, reading.refused) == (0, [])


@pytest.mark.parametrize(
    ("text", "column", "what"),
    [
        ("key;device_class\nK;lap top computer", "device_class", "none of the words"),
        ("key;device_class;displays\nK;tower;-2", "displays", "no whole number"),
        ("key;device_class;in_service_on\nK;tower;31/02/2020", "in_service_on", "no date"),
        ("key;device_class;in_service_on\nK;tower;0000-00-00", "in_service_on", "no date"),
        ("key;device_class;in_service_on\nK;tower;٢٠٢٠-٠١-٠٢", "in_service_on", "no date"),
        ("key;device_class;in_service_on\nK;tower;２０２０-01-02", "in_service_on", "no date"),
        ("key;device_class;in_service_on\nK;tower;1970-01-01", "in_service_on", "before 1980"),
        (
            "key;device_class;in_service_on;out_of_service_on\nK;tower;2024-01-01;2020-01-01",
            "out_of_service_on",
            "before it came",
        ),
        ("key;device_class;power_context\nK;tower;moon", "power_context", "none of the words"),
        ("key;device_class\n;tower", "key", "nothing to recognise"),
        ("key;device_class;item\nK;tower;car", "item", "no kind of list"),
        ("key;device_class\nK;tower;x", "", "3 cells, and the heading has 2"),
        ("key;device_class\nK", "", "1 cells, and the heading has 2"),
        (
            "year;category;amount_excluding_vat_eur;reused\n2025;PC;1.234;no",
            "amount_excluding_vat_eur",
            "thousands or a fraction",
        ),
        (
            "year;category;amount_excluding_vat_eur;reused\n2025;PC;-5;no",
            "amount_excluding_vat_eur",
            "no amount",
        ),
        ("year;category;amount_excluding_vat_eur;reused\n25;PC;5;no", "year", "no year"),
        ("year;category;amount_excluding_vat_eur;reused\n2025;PC;5;", "reused", "blank"),
        ("day;destination\n2025-01-01;moon", "destination", "none of the words"),
        ("day;destination\n2025-01-01;reuse", "device_class", "no asset is named"),
        ("entity;users;from_day\nA;ten;2025-01-01", "users", "no whole number"),
        (
            "entity;users;from_day;telework_days_per_week\nA;1;2025-01-01;8",
            "telework_days_per_week",
            "8 days",
        ),
        (
            "entity;users;from_day;telework_days_per_week\nA;9;2025-01-01;2",
            "telework_days_per_week",
            "days of 9 people",
        ),
    ],
)
def test_a_refused_row_says_which_cell_and_what_to_do(text, column, what):
    """The refusal has line, column, defect and remedy."""
    reading = read(text)
    (refused,) = reading.refused
    assert (refused.where, refused.column) == ("parc, line 2", column)
    assert what in refused.what
    assert refused.remedy


@pytest.mark.parametrize(
    ("text", "value"),
    [("1234.56", "1234.56"), ("1 234,56", "1234.56"), ("1.234,56", "1234.56"), ("1,234.56 €", "1234.56"), ("4,74E-3", "0.00474"),
     ("1.234.567", "1234567"), ("0,500", "0.500"), ("12", "12"), ("1'234.5", "1234.5")],
)  # fmt: skip
def test_numbers_as_people_write_them(text, value):
    """Points, commas, spaces and apostrophes have one meaning, or the number is refused."""
    assert decimal_of(text) == Decimal(value)
