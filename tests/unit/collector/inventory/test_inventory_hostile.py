# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of hostile files: nothing is executed, opened, fetched or expanded; each error is one line."""

from __future__ import annotations

import gzip
import sys
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.inventories import read
from veilleuse.collector.errors import UsageError
from veilleuse.collector.inventory.cells import CellError, date_of, decimal_of, entity_of, name_of
from veilleuse.collector.inventory.fusioninventory import MAXIMUM_BYTES

LAUGHS = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9)
)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (
            f"{LAUGHS}]><REQUEST><CONTENT><BIOS><SSN>&j;</SSN></BIOS></CONTENT></REQUEST>",
            "document type or entities",
        ),
        ('<!DOCTYPE x SYSTEM "file:///etc/passwd"><REQUEST/>', "document type or entities"),
        (
            '<!DOCTYPE x [<!ENTITY % e SYSTEM "http://127.0.0.1:1/">%e;]><REQUEST/>',
            "document type or entities",
        ),
        ("<REQUEST><CONTENT><BIOS>", "no XML"),
        ("<html><body>login</body></html>", "no inventory of a machine"),
        ("<a>" * 50, "too many elements"),
        ("<REQUEST><CONTENT>" + "<X/>" * 500_001, "too many elements"),
        ('<?xml version="1.0" encoding="klingon"?><REQUEST/>', "no XML"),
        (gzip.compress(b"<REQUEST>" + b" " * (40 * 1024 * 1024)), "unpacks to more than"),
        (gzip.compress(b"<REQUEST/>" * 100)[:-12], "is cut"),
        (b"\x1f\x8b\x08\x00" + b"\xff" * 50, "is damaged"),
    ],
    ids=[
        "laughs",
        "external",
        "parameter",
        "cut",
        "html",
        "deep",
        "many",
        "encoding",
        "bomb",
        "cut gzip",
        "damaged",
    ],
)
def test_hostile_xml(data, why):
    """Hostile XML is refused with its reason; nothing is opened or fetched, and memory stays bounded."""
    touched: list[str] = []
    watching = [True]
    sys.addaudithook(
        lambda event, given: (
            touched.append(f"{event} {given[:2]}")
            if watching and event.startswith(("open", "socket.", "subprocess.", "os.system", "urllib."))
            else None
        )
    )
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match=why):
            read(data, form="fusioninventory")
        assert tracemalloc.get_traced_memory()[1] < 2.2 * MAXIMUM_BYTES
    finally:
        tracemalloc.stop()
        watching.clear()
    assert touched == []


HOSTILE = {
    "formula": ('=cmd|" /C calc"!A0', None),
    "markup": ("<script>alert(1)</script>", None),
    "path": ("../../etc/passwd", None),
    "SQL": ("x'; DROP TABLE hosts; --", None),
    "NUL": ("PC\0", "U+0000"),
    "escape": ("PC\x1b[2J", "U+001B"),
    "right-to-left": ("PC\u202egnp.exe", "U+202E"),
    "zero width": ("PC\u200b1", "U+200B"),
    "line break": ("PC\n1", "U+000A"),
    "megabyte": ("A" * 1_000_000, "1000000 characters"),
    "long": ("A" * 129, "129 characters"),
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_names(name):
    """Text stays text, since writers guard it; hidden characters and overlong cells are refused."""
    cell, refusal = HOSTILE[name]
    quoted = cell.replace('"', '""')
    reading = read(f'ID;Nom;Entité;Numéro de série\n7;"{quoted}";A;SN1\n8;"PC8";A;SN2\n', form="glpi_csv")
    assert any(row.values["name"] == "PC8" for row in reading.assets)
    if refusal is None:
        assert [row.values["name"] for row in reading.assets] == [cell, "PC8"]
    else:
        (refused,) = reading.refused
        assert refusal in refused.what
        assert refused.what.isprintable()
        assert refused.keys == ("Computer:7", "SN1")


def test_a_hostile_heading_never_reaches_the_terminal():
    """Unprintable characters of a heading are in neither the report nor the kept row."""
    reading = read("ID;\x1b]0;own\x07Nom;Entité;Num\u202ero\n1;x;A;y\n", form="glpi_csv")
    assert all(text.isprintable() for found in reading.unknown.values() for text in found)
    assert all(key.isprintable() for row in reading.assets for key in row.raw)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 500, "is not text"),
        (b'ID;Nom\n1;"never closed\n2;x\n', "correct the quotes"),
        (b"a;b\n1;2\n", "no heading that is known"),
        (b";".join([b"c"] * 501) + b"\n", "501 columns"),
        (b"\xff\xfea", "as UTF-16 and is none"),
        (b'{"a": 1}', "no list of items"),
        (b"[" * 100_000, "no JSON"),
        (b"[1" + b"1" * 5_000 + b"]", "no JSON"),
        (b"key;device_clas;key\nK;x;y\n", "no heading that is known"),
        (b"key;device_class;colour\nK;x;y\n", "column 'colour'"),
    ],
)
def test_files_that_are_none(data, why):
    """The refusal is one line that says what to do."""
    with pytest.raises(UsageError, match=why):
        read(data)


def test_bounds():
    """Files above 64 MiB or 200,000 rows are refused."""
    with pytest.raises(UsageError, match="at most"):
        read(b" " * (64 * 1024 * 1024 + 1), form="csv")
    with pytest.raises(UsageError, match="more than 200000 rows"):
        read("key;device_class\n" + "K\n" * 200_001)


@given(st.text(max_size=300))
def test_cells_never_break(text):
    """Any cell gives a value or a refusal with a remedy; an accepted name is printable and short."""
    for parse in (name_of, entity_of, date_of, decimal_of):
        value, refusal = outcome(partial(parse, text), CellError)
        assert refusal is None or all(refusal.args)
        if parse is name_of and refusal is None:
            assert value.isprintable()
            assert len(value) <= 128


@given(st.binary(max_size=400), st.sampled_from(["glpi_csv", "glpi_json", "fusioninventory", "csv"]))
def test_files_never_break(data, form):
    """Any file gives a reading or a refusal of one line."""
    _, refusal = outcome(lambda: read(data, form=form), UsageError)
    assert refusal is None or len(str(refusal).splitlines()) == 1


def outcome(work: Callable[[], Any], refusal: type[Exception]) -> tuple[Any, Exception | None]:
    """Return the result of the work or its refusal; any other exception is a failure."""
    try:
        return work(), None
    except refusal as error:
        return None, error


def test_nothing_named_like_a_path_is_opened():
    """S15: a cell or a file name that looks like a path stays text."""
    opened: list[str] = []
    watching = [True]
    sys.addaudithook(
        lambda event, given: opened.append(str(given[0])) if event == "open" and watching else None
    )
    heading = "ID;Nom;Entité;Numéro de série\n"
    read(f"{heading}1;../../etc/passwd;/etc > shadow;SN\n", name="../../etc/passwd", form="glpi_csv")
    watching.clear()
    assert [name for name in opened if "passwd" in name or "shadow" in name] == []
