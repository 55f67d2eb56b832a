# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Powers of GLPI's plugin Carbon and of OCS GreenIT: read, refused line by line, taken where they may be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from veilleuse.collector.errors import UsageError
from veilleuse.collector.inventory.declared_powers import (
    CARBON,
    GREENIT,
    PowerReading,
    outcomes,
    read_carbon,
    read_greenit,
)
from veilleuse.collector.inventory.mapping import InventoryMapping, read_mapping
from veilleuse.collector.model.inventory import DeclaredPower

USUAL = {"switch": 40_000, "laptop": 17_000}
HEAD = '"Nom";"Type";"Modèle";"ID";"Puissance consommée";\n'
SWITCHES = HEAD + (
    '"a";"Switch";"C9200";"1";"65 W";\n'
    '"b";"Commutateur";"C9200";"2";"100,5\N{NO-BREAK SPACE}W";\n'
    '"c";"Routeur";"ISR";"3";"45,5";\n'
    '"d";"Pare-feu";"Forti";"4";"0";\n'
    '"e";"Switch";"C9200";"5";"";\n'
    '"f";"Routeur";"ISR";"6";"1\N{NO-BREAK SPACE}100\N{NO-BREAK SPACE}W";\n'
)


def carbon(
    data: str | list[Any],
    item: str = "network_equipment",
    words: InventoryMapping | None = None,
    column: str | None = None,
) -> PowerReading:
    """Read a file of GLPI's plugin Carbon."""
    reading = PowerReading(CARBON, "f", USUAL)
    raw = (data if isinstance(data, str) else json.dumps(data)).encode()
    read_carbon(reading, words or InventoryMapping(), raw, "f", item, column)
    return reading


def greenit(rows: str, unit: str = "J", k: int = 10) -> PowerReading:
    """Read sums of OCS GreenIT."""
    reading = PowerReading(GREENIT, "f", USUAL)
    read_greenit(
        reading, InventoryMapping(), f"type;machines;consumption;uptime\n{rows}".encode(), "f", unit, k
    )
    return reading


def watts(reading: PowerReading) -> dict[str, list[float]]:
    """Return device class → the watts declared."""
    return {name: [one.milliwatts / 1000 for one in found] for name, found in reading.declared.items()}


def refusals(reading: PowerReading) -> list[str]:
    """Return what is refused, as the command prints it."""
    return [f"{one.where}, {one.column}: {one.what}: {one.remedy}" for one in reading.rows.refused]


def test_a_list_of_glpi_is_read():
    """French numbers and units are read; a row without a power, or with zero, declares none."""
    found = carbon(SWITCHES)
    assert watts(found) == {"switch": [65, 100.5], "other": [45.5, 1100]}
    assert (found.rows.rows, found.without, found.rows.refused) == (6, 2, [])
    named = carbon(SWITCHES.replace("Puissance consommée", "Carbon - Power consumption"))
    other = carbon(SWITCHES.replace("Puissance consommée", "Watts"), column="watts")
    assert watts(named) == watts(other) == watts(found)


def test_types_of_the_rest_api_are_read():
    """A type is one item; one that GLPI ignores declares nothing, nor does a virtual machine."""
    found = carbon(
        [
            {"id": 1, "computertypes_id": "Ordinateur portable", "power_consumption": 40, "is_ignore": 0},
            {"id": 2, "computertypes_id": "Serveur", "power_consumption": 300, "is_ignore": 1},
            {"id": 3, "computertypes_id": "VMware", "power_consumption": 5, "is_ignore": 0},
            {"id": 4, "monitortypes_id": "LCD", "power_consumption": 25},
            {"id": 5, "networkequipmenttypes_id": "Switch", "power_consumption": None},
        ]
    )
    assert watts(found) == {"laptop": [40], "monitor": [25]}
    assert (found.without, found.rows.refused) == (3, [])


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("beaucoup", "'beaucoup' is no number: write it like 1234.56 or 1234,56"),
        ("-5", "-5 W: a device draws 0.1 to 10000 W"),
        ("10001", "1.00e+4 W: a device draws 0.1 to 10000 W"),
        ("1.234", "'1.234' may be thousands or a fraction"),
        ("1e400", "1e+400 W: a device draws"),
        ("65 VA", "'65 VA' is no number"),
        ("=1+1", "'=1+1' is no number"),
        ("9" * 5_000, "is no number"),
    ],
)
def test_a_wrong_power_is_refused_with_its_place(cell: str, said: str):
    """It names line and column, and the others are read."""
    found = carbon(f'{HEAD}"a";"Switch";"C";"1";"{cell}";\n"b";"Switch";"C";"2";"70 W";\n')
    (refusal,) = refusals(found)
    assert refusal.startswith("f, line 2, Puissance consommée: ")
    assert said in refusal
    assert watts(found) == {"switch": [70]}


def test_words_that_nobody_knows_are_in_no_power():
    """They are listed until a mapping defines them; a short row is refused whole."""
    data = f'{HEAD}"a";"Grille-pain";"T";"1";"800";\n"b";"Switch"\n'
    found = carbon(data)
    assert (dict(found.rows.unknown["device class"]), found.declared) == ({"Grille-pain T": 1}, {})
    assert refusals(found)[0].startswith("f, line 3, : 2 cells, and the heading has 5")
    mapped = read_mapping('[[class]]\ntype = "grille*"\nclass = "other"\n', "m")
    assert watts(carbon(data, words=mapped)) == {"other": [800]}


def test_a_device_or_type_counts_once():
    """A device of two lists, a type of two exports and a sum of two queries are refused with both places."""
    row = '"a";"Switch";"C";"{}";"{} W";\n'
    found = carbon(HEAD + row.format(1, 60) + row.format(1, 60) + row.format("", 70) + row.format("", 70))
    assert watts(found) == {"switch": [60, 70, 70]}, "without a number nobody knows"
    assert refusals(found) == [
        "f, line 3, Puissance consommée: 1 is counted already: f, line 2: leave out one, or sum both in one row"
    ]
    read_carbon(found, InventoryMapping(), f"{HEAD}{row.format(1, 60)}".encode(), "g", "monitor", None)
    assert found.rows.refused_count == 1, "a monitor has numbers of its own"
    types = [{"id": 4, "computertypes_id": "Laptop", "power_consumption": 40}] * 2
    assert watts(carbon(types)) == {"laptop": [40]}
    sums = greenit("Laptop;40;80000000;4000000\nlaptop ;40;80000000;4000000\n")
    assert (watts(sums), len(sums.rows.refused)) == ({"laptop": [20]}, 1)


def test_a_power_far_from_the_usual_one_of_its_class_is_refused():
    """A tenth to ten times of it is taken; a class without a default has the wide bounds alone."""
    row = '"a";"{}";"C";"{}";"{} W";\n'
    cells = [("Switch", 3), ("Switch", 4), ("Switch", 400), ("Switch", 401), ("Routeur", 9000)]
    found = carbon(HEAD + "".join(row.format(name, at, power) for at, (name, power) in enumerate(cells)))
    assert watts(found) == {"switch": [4, 400], "other": [9000]}
    assert refusals(found) == [
        f"f, line {line}, Puissance consommée: {power} W for switch: one draws 4 to 400 W while on: correct it,"
        " or give its type another class with --mapping"
        for line, power in ((2, 3), (5, 401))
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("Nom;Type\na;Switch\n", r"no column Power consumption \(Puissance consommée\)"),
        ("Nom;Puissance consommée\na;65\n", "no column Type"),
        ("", "is empty"),
        ("\x00\x01\x02\x00" * 50, "is not text"),
        ("{\n  'a': 1}", "is no JSON: look at line 2, column 3$"),
        ("[" * 100_000, "is no JSON: it is nested too deeply$"),
        (f"[{'9' * 5_000}]", "is no JSON: a part of it cannot be read$"),
        ('{"a": 1}', "holds no list of types"),
    ],
)
def test_another_file_is_refused(data: str, said: str):
    """The error says what is missing, and where to add it."""
    with pytest.raises(UsageError, match=said):
        carbon(data)


def test_other_json_is_refused_thing_by_thing():
    """A thing that is no type, and a type by its number, are refused; the rest is read."""
    types = [7, {"id": 1}, {"computertypes_id": 3, "power_consumption": 40}]
    found = carbon([*types, {"monitortypes_id": "LCD", "power_consumption": "20"}])
    assert [one.split(": ")[0] for one in refusals(found)] == [
        "f, type 1, ",
        "f, type 2, ",
        "f, type 3, computertypes_id",
    ]
    assert watts(found) == {"monitor": [20]}


def test_sums_of_greenit_give_the_mean_power_while_on():
    """Joules or Wh ÷ seconds, by device class; few machines could be one person's, and are refused."""
    month = "Notebook;40;{};4000000\nLaptop;10;{};1000000\nDesktop;9;1;1\n"
    joules, hours = (
        greenit(month.format(80_000_000, 5_000_000)),
        greenit(month.format("22222,2", 1388.9), "Wh"),
    )
    for found in (joules, hours):
        assert watts(found)["laptop"] == pytest.approx([20, 5], rel=1e-4)
        assert refusals(found) == [
            "f, line 4, machines: 9 machines, fewer than 10: sum more of them in one type"
        ]
    (made,) = outcomes(joules, (), (), 8 * 60)
    assert made.power == DeclaredPower("laptop", 17_000, 480, 50, 5_000, 20_000, GREENIT, "f")
    (refusal,) = refusals(greenit("Laptop;40;22222;4000000\n"))
    assert "--unit says so" in refusal
    with pytest.raises(UsageError, match="no column consumption, uptime: export it with the query"):
        read_greenit(joules, InventoryMapping(), b"type;machines\nLaptop;3\n", "f", "J", 10)


def test_a_declared_power_displaces_nothing_by_itself():
    """A class keeps its shipped default unless it is named; time on must be said, if not always on."""
    found = carbon(SWITCHES)
    found.declared["projector"] = found.declared["other"]

    def taken(replaced: tuple[str, ...], minutes: int | None) -> dict[str, Any]:
        return {
            one.device_class: one.power.minutes_on if one.power else one.why.partition(":")[0]
            for one in outcomes(found, {"switch", "projector"}, replaced, minutes)
        }

    stays = "the shipped default stays"
    assert taken((), None) == {"other": 1440, "projector": stays, "switch": stays}
    assert taken(("switch", "projector"), None) == {
        "other": 1440,
        "projector": "nobody says how long it is on",
        "switch": 1440,
    }
    assert taken(("projector",), 90) == {"other": 1440, "projector": 90, "switch": stays}


def test_the_mean_power_of_a_day_follows_the_time_on():
    """What is always on draws on closed days too; another device only on open ones."""
    power = DeclaredPower("printer", 48_000, 120, 3, 40_000, 60_000, CARBON, "f")
    assert power.microwatts == (4_000_000, 4_000_000, 0)
    always = DeclaredPower("switch", 48_000, 1440, 3, 40_000, 60_000, CARBON, "f")
    assert always.microwatts == (48_000_000,) * 3
    for wrong in ({"milliwatts": 0}, {"minutes_on": 1441}, {"items": 0}, {"lowest_milliwatts": 50_000}):
        with pytest.raises(ValueError, match="printer"):
            DeclaredPower(**power.document | wrong)
