# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of ADEME's Base Carbone as its portal exports it, and of damaged files.
tests/fixtures/base_carbone/PROVENANCE.md."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.steps import counted
from veilleuse.collector.errors import UsageError
from veilleuse.collector.factors.base_carbone import FactorFile, read_base_carbone
from veilleuse.collector.factors.base_carbone_rows import french_decimal
from veilleuse.collector.factors.static import SHARES_2022, zones_named
from veilleuse.collector.model.factors import FactorStatus

RAW = (Path(__file__).parents[3] / "fixtures" / "base_carbone" / "base_carbone.csv").read_bytes()
LICENCE = "Licence Ouverte"


def read(raw: bytes = RAW, *leave_out: str) -> FactorFile:
    """Read the file with a licence."""
    return read_base_carbone(raw, LICENCE, leave_out)


def edited(*changes: tuple[str, str]) -> bytes:
    """Return the file with texts replaced; each text must be present."""
    text = RAW.decode("latin-1")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text.encode("latin-1")


def row_of(number: str, kind: str = "Elément") -> str:
    """Return the first row of an element, with its line end."""
    text = RAW.decode("latin-1")
    start = text.index(f"{kind};{number};")
    return text[start : text.index("\r\n", start) + 2]


def why(raw: bytes) -> str:
    """Return the one reason for which a row is refused."""
    (refused,) = read(raw).refused
    return f"{refused.where}: {refused.why}"


def test_what_is_ours_is_taken_and_nothing_else():
    """Consumption mixes of France are taken, by zone and year; other energies, uses, countries and units are
    counted."""
    found = read()
    assert [one.factor_id for one in found.factors] == [
        "ADEME-FR-2021-MOY",
        "ADEME-FR-2022-MOY",
        "ADEME-FR-2023-MOY",
        "ADEME-FR-2024-MOY",
        "ADEME-FR-20R-2022-MOY",
        "ADEME-GP-2022-MOY",
        "ADEME-RE-2022-MOY",
    ]
    assert not found.refused
    assert not found.notes
    assert {reason: number for reason, number in found.left.items() if number} == {
        "other units and subjects": 2,
        "electricity by use, by plant or at production": 3,
        "electricity of other countries": 1,
        "other energies per kWh": 1,
        "archived, another one is valid": 1,
    }


def test_the_element_that_was_read_at_the_source():
    """Element 42513 is 0.0520 = 0.0338 + 0.0135 + 0.00474 − 0.00004, ± 10 % (docs/methodology.md §8);
    `4,74E-3` is 0.00474."""
    one = next(one for one in read().factors if one.element_id == "42513")
    assert one.total_kgco2e_per_kwh == Decimal("0.0520")
    assert dict(one.components) == {
        "combustion": Decimal("0.0338"),
        "upstream": Decimal("0.0135"),
        "losses": Decimal("0.00474"),
    }
    assert one.split_residual_kgco2e_per_kwh == Decimal("-0.00004")
    assert (one.uncertainty_percent, one.uncertainty_inherited) == (Decimal(10), False)
    assert (one.published, one.licence, one.series, one.zone) == ("2023-04-24", LICENCE, "annual", "FR")
    assert one.source == "ADEME, Base Carbone, element 42513"


def test_a_publication_in_other_digits_is_no_date():
    """A date is in ASCII digits; else the day of publication is unknown."""
    text = RAW.decode("latin-1").replace("24/04/2023", "24/04/٢٠٢٣")
    one = next(one for one in read(text.encode()).factors if one.element_id == "42513")
    assert one.published == ""


def test_series_shares_and_inherited_uncertainty():
    """2024 is a four-year mean; a total alone takes the shares of 2022 on the mainland only; a blank
    uncertainty is 10 %."""
    found = {one.factor_id: one for one in read().factors}
    assert found["ADEME-FR-2023-MOY"].series == "annual"
    smoothed = found["ADEME-FR-2024-MOY"]
    assert (smoothed.series, smoothed.valid_from.year) == ("smoothed-4y", 2024)
    assert smoothed.uncertainty_percent == 12
    assert found["ADEME-FR-2023-MOY"].estimated_shares == SHARES_2022
    assert found["ADEME-FR-2023-MOY"].uncertainty_inherited
    assert found["ADEME-RE-2022-MOY"].estimated_shares == ()
    assert found["ADEME-RE-2022-MOY"].components == ()


def test_the_valid_one_counts_where_an_archived_one_stands_beside():
    """For 2021 the valid 0.0569 is taken; the archived 0.0571 only where it is alone."""
    one = next(one for one in read().factors if one.factor_id == "ADEME-FR-2021-MOY")
    assert (one.total_kgco2e_per_kwh, one.status) == (Decimal("0.0569"), FactorStatus.VALID)
    alone = read(edited((row_of("990022"), "")))
    one = next(one for one in alone.factors if one.factor_id == "ADEME-FR-2021-MOY")
    assert (one.total_kgco2e_per_kwh, one.status) == (Decimal("0.0571"), FactorStatus.ARCHIVED)


def test_utf8_and_commas_are_understood_and_said():
    """A file exported again as UTF-8, with or without byte order mark, gives the same factors and a note."""
    text = RAW.decode("latin-1")
    for again in (text.encode(), text.encode("utf-8-sig")):
        found = read(again)
        assert found.factors == read().factors
        assert "UTF-8" in found.notes[0]
    plain = text.replace("0,052;", "0.052;").encode("latin-1")
    assert read(plain).factors == read().factors


@pytest.mark.parametrize(
    "broken",
    [
        RAW.decode("latin-1").encode().decode("cp1252", "replace").encode(),
        RAW.decode("utf-8", "replace").encode(),
    ],
)
def test_mojibake_is_called_by_its_name(broken: bytes):
    """A file opened in a wrong encoding and saved is refused; nothing is guessed."""
    with pytest.raises(UsageError, match="mojibake"):
        read(broken)


def test_mojibake_in_one_row():
    """Where the header is whole and a row is not, that row is refused."""
    text = RAW.decode("latin-1").replace(row_of("990023"), row_of("990023").replace("é", "Ã©"))
    assert "accents are broken" in why(text.replace("ElÃ©ment", "Elément").encode())


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "no column"),
        (b"a;b\n1;2\n", "no column 'Type Ligne'"),
        (RAW.decode("latin-1").encode("utf-16"), "UTF-16"),
        (b"PK\x03\x04\0\0\0", "no text"),
        (RAW.split(b"\r\n")[0] + b"\r\n", "no electricity factor"),
        (edited(("kgCO2e/kWh;", "kgCO2e/MWh;")), "no electricity factor"),
    ],
)
def test_a_file_that_is_none_of_ademes(raw: bytes, reason: str):
    """The file is refused in one line."""
    with pytest.raises(UsageError, match=reason):
        read(raw)


def test_without_a_licence_nothing_is_loaded():
    """A factor without licence is refused."""
    with pytest.raises(UsageError, match="licence"):
        read_base_carbone(RAW, "  ")


def cut_before(text: str) -> Callable[[], bytes]:
    """Return a function that gives the file up to that text."""
    return lambda: RAW[: RAW.decode("latin-1").index(text)]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (lambda: edited((";0,0338;", ";0,0238;")), "add up to 0.04204, the total is 0.052"),
        (lambda: edited((";4,74E-3;", ";;")), "'Transport et distribution' is blank"),
        (lambda: edited((";4,74E-3;", ";4,74F-3;")), "is not a number"),
        (lambda: edited((";4,74E-3;", ";-4,74E-3;")), "below 0"),
        (lambda: edited(("Amont;;;;0,0135", "Aval;;;;0,0135")), "component 'Aval'"),
        (lambda: edited(("Amont;;;;0,0135", "Amont;;;;0,00675")), "add up to"),
        (lambda: edited((row_of("42513", "Poste"), row_of("42513", "Poste") * 2)), "given twice"),
        (lambda: edited((row_of("42513", "Poste"), "")), "no combustion"),
        (lambda: edited((row_of("990023"), row_of("990023") * 2)), None),
        (lambda: edited((";990023;", ";A1;")), "no number of an element"),
        (lambda: edited((";0,0580;", ";0;")), "no factor of a grid"),
        (lambda: edited((";0,0580;", ";-0,0580;")), "no factor of a grid"),
        (lambda: edited((";0,0580;", ";58,0;")), "no factor of a grid"),
        (lambda: edited((";0,0580;", ";1E400;")), "out of range|no number|not a number"),
        (lambda: edited((";0,0580;", ";;")), "the total is blank"),
        (lambda: edited(("Année 2023", "Année 2020")), "of 2023 by its name, of 2020"),
        (lambda: edited(("2023 - mix moyen", "mix moyen"), ("Année 2023", "déc-24")), "no year"),
        (lambda: edited((";12;", ";900;")), "an uncertainty of 900"),
        (
            lambda: edited((row_of("990023"), row_of("990023").replace("Valide générique", "En projet"))),
            "neither",
        ),
        (
            lambda: edited(
                (";Outre-mer;Guadeloupe;", ";Outre-mer;;"),
            ),
            "no grid zone known here",
        ),
        (lambda: edited((";Corse;", ';"France continentale";')), "told in several ways: FR, FR-20R"),
        (lambda: edited((';"La Réunion";', ';"La Réunion, Mayotte";')), "told in several ways"),
        (
            lambda: edited((row_of("990023"), row_of("990023").replace('"France continentale"', "France"))),
            "zone known",
        ),
        (cut_before("0,0580;"), "the row is cut"),
        (cut_before("Transport et distribution"), "not closed|the row is cut"),
    ],
)
def test_a_row_of_ours_that_is_broken_is_refused_with_its_reason(
    raw: Callable[[], bytes], reason: str | None
):
    """The refusal names the line and the reason."""
    found = read(raw())
    assert found.refused
    assert all(one.where.startswith("line ") for one in found.refused)
    said = "; ".join(one.why for one in found.refused)
    assert reason is None or re.search(reason, said), said


def test_a_number_given_twice_is_refused_both_times():
    """Neither of two rows with the same number is taken."""
    found = read(edited((row_of("990023"), row_of("990023") * 2)))
    assert [one.why for one in found.refused] == ["element 990023 is in the file 2 times"] * 2
    assert "ADEME-FR-2023-MOY" not in {one.factor_id for one in found.factors}


def test_two_valid_elements_of_one_year_are_for_the_user_to_choose():
    """Both elements are named, and one can be left out by its number."""
    doubled = edited((row_of("990023"), row_of("990023") + row_of("990023").replace("990023", "990024", 1)))
    doubled = doubled.replace(b';990024;"\xe9l\xe9ment d\xe9', b';990029;"\xe9l\xe9ment d\xe9')
    (refused,) = read(doubled).refused
    assert "990023, 990024" in refused.where
    assert "--leave-out" in refused.why
    assert not read(doubled, "990024").refused


def test_what_is_broken_can_be_left_out():
    """The rest of the file is taken."""
    found = read(edited((";0,0580;", ";58,0;")), "990023")
    assert not found.refused
    assert found.left["left out as asked"] == 1
    assert len(found.factors) == 6


def test_damage_elsewhere_is_not_ours():
    """A damaged row of another subject is counted, not refused."""
    row = row_of("990061")
    found = read(edited((row, row.replace(";0,227", ""))))
    assert not found.refused
    assert found.left["damaged rows of other subjects"] == 1


def test_other_elements_take_little():
    """Rows of other subjects cost a few steps each, however many they are, and give the same factors."""
    other = row_of("990062").replace("kgCO2e/kWh", "kgCO2e/tonne")
    raw = RAW + (other * 11_000).encode("latin-1")
    found, steps = counted(lambda: read(raw))
    assert steps < 11_000 * 200
    assert found.factors == read().factors
    assert found.left["other units and subjects"] == 11_002


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0,052", "0.052"),
        ("4,74E-3", "0.00474"),
        ("4.74e-03", "0.00474"),
        ("1 234,5", "1234.5"),
        ("1\u202f234", "1234"),
        ("-3", "-3"),
        (" 10 ", "10"),
    ],
)
def test_numbers_as_french_files_write_them(text: str, value: str):
    """Numbers in French notation are read exactly."""
    assert french_decimal(text) == Decimal(value)


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "1.234,5", "0x10", "NaN", "inf", "1e999", "12 34", "１２", "1_000"]
)
def test_what_is_no_number(text: str):
    """Text that is not clearly a number raises ValueError."""
    with pytest.raises(ValueError, match=r"not a number|out of range"):
        french_decimal(text)


@pytest.mark.parametrize("column", [2, 5, 60])
def test_a_quote_that_is_not_closed_loses_no_row_in_silence(column: int):
    """An unclosed quote in a row of another subject swallows the rows after it, and is reported wherever it
    stands."""
    lines = RAW.decode("latin-1").split("\n")
    (gas,) = (line for line in lines if line.startswith("Elément;990061;"))
    cells = gas.replace('"', "").split(";")
    cells[column] = f'"{cells[column]}'
    opened = [*lines[:3], ";".join(cells), *lines[3:]]
    found = read("\n".join(opened).encode("latin-1"))
    assert any("990061" in one.where and "quote" in one.why for one in found.refused), found
    assert read("\n".join(opened).encode("latin-1"), "990061").refused == []


def test_places_are_whole_words():
    """Corsica is found in a category path, and no island is found inside another word."""
    assert zones_named("Electricité > Mix réseau électrique > Corse > Moyen") == {"FR-20R"}
    assert zones_named("Outre-mer (Île de La Réunion)") == {"RE"}
    assert zones_named("Saint-Pierre-et-Miquelon") == {"PM"}
    assert zones_named("corsetage, France continentale") == frozenset()
