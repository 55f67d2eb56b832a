# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A year is signed off by people: read, required, frozen, shown, and hidden where it is published."""

from __future__ import annotations

import csv
import io
import json
from datetime import date
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from tests.support.closed_years import PERIOD, SIGN_OFF, YEAR, Command, signed_off, stored, told
from tests.support.filled import Filled
from tests.support.publishing import publish_months
from tests.unit.collector.closed_years.test_closing_tampering import _changed
from veilleuse.collector.account.ghg_items import DEFAULT_MAPPING, ENTERED, with_line
from veilleuse.collector.closed_years import preconditions
from veilleuse.collector.closed_years.sign_off import read_sign_off, write_template
from veilleuse.collector.closed_years.sign_off_conditions import of_sign_off
from veilleuse.collector.closed_years.signed_year import SignedYear, add_sign_off, read_signed_year
from veilleuse.collector.documents.document import Document
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.closed_years import ClosedFile, ClosedYear, YearState, canonical
from veilleuse.collector.model.factors import BilanItem, ContextMapping
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.settings import CollectorSettings

FIGURES: dict[str, Any] = {
    "rows": [
        {"device_class": "other", "n": 0, "n_fleet": 14},
        {"device_class": "sff", "energy_millijoules": 1, "n": 3},
    ],
    "memo": [{"kwh_total": "12.5"}],
    "totals": [{"energy_millijoules": 3_600_000_000_000, "kwh_total": "1000", "kgco2e_total": "50"}],
}
EXCLUSION = (
    '[[exclusion]]\nwhat = "Réseau"\nwhy = "Sans inventaire"\nkwh = {}\nestimated_by = "40 W par baie"\n'
)


# --- reading


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ("[preparer]", "[prepare]", "unknown table 'prepare': did you mean 'preparer'?"),
        ("function = ", "fonction = ", "[preparer]: unknown key 'fonction': did you mean 'function'?"),
        ('"operational"', '"operationel"', "control = 'operationel': write one of operational, financial"),
        ('"IPCC AR5"', '"AR5"', "[gwp] edition = 'AR5': write one of IPCC AR4, IPCC AR5"),
        ("2026-02-01", '"01/02/2026"', "[preparer] date: '01/02/2026' is no date: write YYYY-MM-DD"),
        ("4000", "4000.5", "[base_year] kgco2e = 4000.5: write a whole number"),
        ("2019", "201", "[base_year] year = 201: write 1990 to 2099"),
        ("2.5", "250", "recalculation_threshold_percent = 250: write per cent"),
        ('"Ada Un"', "3", "[preparer] name: write a text"),
        ('name = "Ada Un"', "publish_name = 1", "[preparer] publish_name = 1: write true or false"),
        ("[organisation]", "exclusion = 3\n[organisation]", "must be a table: write [[exclusion]]"),
        ("[gwp]", "gwp", "no TOML"),
    ],
)
def test_what_is_wrong_in_a_file(before: str, after: str, why: str):
    """The error names file, table and key, and what to write instead."""
    with pytest.raises(UsageError, match=r"^mine\.toml: ") as error:
        read_sign_off(SIGN_OFF.replace(before, after, 1), "mine.toml")
    assert why in str(error.value)


def test_a_template_is_read_as_it_was_written():
    """A template lacks every answer; filled from an earlier sign-off it lacks only the days of signature."""
    assert read_sign_off(write_template(YEAR, {}, FIGURES), "new").keys() == {
        "organisation",
        "base_year",
        "exclusion",
    }
    before = read_sign_off(SIGN_OFF + EXCLUSION.format(7), "before")
    before["approver"]["publish_name"] = True
    text = write_template(YEAR, before, FIGURES)
    again = read_sign_off(text, "again")
    for role in ("preparer", "reviewer", "approver"):
        again[role]["date"] = before[role]["date"]
    assert again == before
    assert "other (14)" in text
    assert "12 kWh" in text
    assert "1000 kWh, 50 kgCO2e" in text


# --- what a definitive closing requires


def _points(text: str, base: dict[str, Any] | None = None, **more: Any) -> list[str]:
    signed = read_sign_off(text, "mine.toml")
    report = {"year": YEAR, "figures": FIGURES, "sign_off": signed}
    return list(of_sign_off(report, SignedYear(signed, base, ()), more.get("before"), date(2026, 3, 1)))


def _replaced(before: str, after: str) -> str:
    assert before in SIGN_OFF
    return SIGN_OFF.replace(before, after) + EXCLUSION.format(50)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (_replaced('"operational"', '""'), "[organisation] control is missing: operational, financial or"),
        (_replaced("2026-02-01", '"2025-12-31"'), "[preparer] date 2025-12-31 is before the end of 2025"),
        (_replaced('"2026-02-20"', "2026-03-03"), "[approver] date 2026-03-03 is in the future"),
        (
            _replaced("2026-02-10", "2026-01-10"),
            "[reviewer] date 2026-01-10 is before that of [preparer], 2026-02-01",
        ),
        (_replaced('"Cléo Trois"', '"ada  un"'), "[approver] name is the preparer's"),
        (_replaced("2019", "2026"), "[base_year] year 2026 is after 2025"),
        (
            _replaced("kgco2e = 4000", ""),
            "[base_year] 2019 is not closed here: close it, or write its kgco2e",
        ),
        (SIGN_OFF, "no [[exclusion]] names what has no energy in the figure, other (14)"),
        (SIGN_OFF + EXCLUSION.format(53), "exclusions of 53 kWh are 5.0 % of the total with them, above"),
        (SIGN_OFF + EXCLUSION.format(0), "[[exclusion]] number 1 kwh is missing: estimated kWh of the year"),
    ],
)
def test_what_a_definitive_closing_requires(text: str, why: str):
    """Each fault gives one line, with its remedy; a complete sign-off gives none."""
    (point,) = _points(text)
    assert why in point


def test_a_complete_sign_off_has_no_open_point():
    """52 of 1,052 kWh are 4.94 %: below 5. A base year that is closed here has its figure already."""
    assert _points(SIGN_OFF + EXCLUSION.format(52)) == []
    base = {"report_id": "2019-r1"}
    assert _points(_replaced("kgco2e = 4000", ""), base) == []
    assert "Veilleuse has the figure of 2019, remove the line" in _points(_replaced("", ""), base)[0]


def test_all_that_is_missing_is_told_at_once():
    """An empty file lists all keys, and no table is told twice."""
    points = _points('[gwp]\nedition = "IPCC AR6"\n')
    assert len([one for one in points if "is missing" in one]) == 4 + 3 + 1 + 9


def test_items_from_memory_are_confirmed_by_naming_them():
    """A context in use whose item is from memory refuses, also where the mapping was confirmed as a whole."""
    (point,) = preconditions._of_mapping(DEFAULT_MAPPING, {PowerContext.OWN_SITE, PowerContext.HOSTED})
    assert "for hosted: ours is from memory" in point
    assert "factors mapping confirm --item hosted=4.5/3.1 --eple authority'" in point
    line = ContextMapping(PowerContext.HOSTED, BilanItem("4.5", "3.1"), None, False, True, ENTERED)
    assert not list(preconditions._of_mapping(with_line(DEFAULT_MAPPING, line), {PowerContext.HOSTED}))


# --- frozen and shown


def test_a_definitive_closing_needs_a_sign_off(place: CollectorSettings, veilleuse: Command):
    """Without one it is refused; a later one is a revision; the template has the answers of before."""
    found = told(veilleuse, "close", str(YEAR), "--definitive", code=1)
    assert "veilleuse close template 2025 > sign_off.toml" in found["open_points"][-1]
    words = signed_off(place)
    assert told(veilleuse, "close", str(YEAR), *words)["sign_off"]["approver"]["name"] == "Cléo Trois"
    assert told(veilleuse, "close", str(YEAR), *words)["changed"] is False
    assert told(veilleuse, "close", str(YEAR))["changed"] is False
    code, template, _ = veilleuse("close", "template", str(YEAR))
    assert (code, 'name = "Cléo Trois"' in template) == (0, True)
    other = signed_off(place, template.replace('date = ""', 'date = "2026-03-01"'))
    assert "date" not in read_sign_off(template, "template")["approver"]
    found = told(veilleuse, "close", str(YEAR), *other, "--why", "approved again")
    assert (found["revision"], found["sign_off"]["approver"]["date"]) == (2, "2026-03-01")
    assert told(veilleuse, "verify", str(YEAR))[1]["sign_off"] == found["sign_off"]
    assert (
        "approver: Directrice générale adjointe, Cléo Trois, 2026-03-01" in veilleuse("verify", str(YEAR))[1]
    )


def test_a_changed_letter_of_a_name_is_found(place: CollectorSettings, veilleuse: Command):
    """The names stand inside the signature."""
    told(veilleuse, "close", str(YEAR), *signed_off(place))
    path = place.data_dir / "closed" / "2025-r1.json"
    key = told(veilleuse, "close", "--key")["public_key"]
    assert veilleuse("verify", str(path), "--key", key)[0] == 0

    def rename(document: dict[str, Any]) -> None:
        document["report"]["sign_off"]["approver"]["name"] = "Cléa Trois"

    _changed(path, rename)
    code, out, _ = veilleuse("verify", str(path), "--key", key)
    assert (code, "WRONG" in out, "Cléa" in out) == (1, True, False)


def _report(veilleuse: Command, kind: str, form: str, folder: Path, *words: str) -> bytes:
    path = folder / f"{kind}.{form}"
    code, _, err = veilleuse("report", kind, *PERIOD, "--format", form, "-o", str(path), *words)
    assert code == 0, err
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["emissions", "reen"])
def test_the_sheet_shows_it_in_every_format(
    kind: str, place: CollectorSettings, veilleuse: Command, tmp_path: Path
):
    """People, boundary, exclusions at the total's factor: the same in JSON, CSV, XLSX and HTML."""
    told(veilleuse, "close", str(YEAR), *signed_off(place, SIGN_OFF + 2 * EXCLUSION.format(1)))
    found = json.loads(_report(veilleuse, kind, "json", tmp_path))
    by_name = {row["declaration"]: row for row in (*found["sign_off"], *found["exclusions"])}
    assert by_name["approver"] == {
        "declaration": "approver",
        "declared": "Directrice générale adjointe",
        "person": "Cléo Trois",
        "declared_on": "2026-02-20",
    }
    total = json.loads(stored(place)[1].report)["figures"]["totals"][0]
    factor = float(total["kgco2e_total"]) / float(total["kwh_total"])
    assert by_name["exclusion"]["declared_kgco2e"] == pytest.approx(factor)
    assert by_name["exclusions"]["declared_share"] == pytest.approx(2 / (2 + float(total["kwh_total"])))
    lines = list(csv.DictReader(io.StringIO(_report(veilleuse, kind, "csv", tmp_path).decode())))
    assert [line["person"] for line in lines if line["declaration"] == "reviewer"] == ["Bob Deux"]
    book = openpyxl.load_workbook(io.BytesIO(_report(veilleuse, kind, "xlsx", tmp_path)))
    assert "Cléo Trois" in [cell.value for row in book["Déclaration"] for cell in row]
    page = _report(veilleuse, kind, "html", tmp_path).decode()
    for words in (
        "contrôle opérationnel",
        "Approuvé par",
        "20 février 2026",
        "IPCC AR5",
        "2,5\u00a0%",
        "4\u202f000\u00a0kgCO₂e",
    ):
        assert words in page


def test_a_published_report_names_who_agreed(place: CollectorSettings, veilleuse: Command, tmp_path: Path):
    """--public shows functions and days, and only the names of people who publish them."""
    text = SIGN_OFF.replace('name = "Bob Deux"', 'name = "Bob Deux"\npublish_name = true')
    with Filled(place.data_dir) as filled:
        assert publish_months(filled, date(2026, 2, 1)) == []
    told(veilleuse, "close", str(YEAR), *signed_off(place, text))
    rows = json.loads(_report(veilleuse, "emissions", "json", tmp_path, "--public"))["sign_off"]
    people = {row["declaration"]: row.get("person") for row in rows if "declared_on" in row}
    assert people == {"preparer": None, "reviewer": "Bob Deux", "approver": None}
    # A month of it that is computed anew could be subtracted from the closed one.
    code, _, error = veilleuse("published", "take-back", f"{YEAR}-03-01", f"{YEAR}-04-01", "--why", "a meter")
    assert (code, f"{YEAR} is closed with its released months" in error) == (1, True)


# --- base year


class _Closings:
    """Closed years in memory: the base year 2019, closed at `closed`, and two revisions of 2025."""

    def __init__(self, closed: int, method: str) -> None:
        kilograms = [{"kgco2e_total": "4000"}]
        self._base = {"report_id": "2019-r1", "year": 2019, "method_version": method}
        self._base |= {"closed_unix_milliseconds": closed, "figures": {"totals": kilograms}}

    def revisions(self, year: int) -> tuple[ClosedYear, ...]:
        numbers = (1,) if year == 2019 else (1, 2)
        return tuple(ClosedYear(year, one, YearState.CLOSED_DEFINITIVE, 100 * one, "", "") for one in numbers)

    def file(self, _: ClosedYear) -> ClosedFile:
        return ClosedFile(canonical(self._base), b"", b"")


def _declared(closed: int, method: str, moved: str) -> SignedYear:
    """Declare 2025-r2 of 1,025 kgCO2e, whose boundary moved its total by `moved`."""
    effects = {"method": {"exact": "0/1"}, "perimeter": {"exact": moved}, "factor": {"exact": "1/1"}}
    report = {
        "year": YEAR,
        "revision": 2,
        "report_id": "2025-r2",
        "method_version": "0.6",
        "difference": {"kgco2e": effects},
        "figures": {"totals": [{"kgco2e_total_exact": "1025"}]},
        "sign_off": read_sign_off(SIGN_OFF.replace("kgco2e = 4000", ""), "mine"),
    }
    found = read_signed_year(_Closings(closed, method), report)  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("closed", "method", "moved", "notes"),
    [
        (50, "0.6", "24/1", []),  # 24 of 1,000 kgCO2e: below 2.5 %
        (50, "0.6", "-27/1", ["method and boundary change the total of 2025 by more than 2.5 %"]),
        (150, "0.6", "-27/1", []),  # closed again after the first revision of 2025
        (50, "0.4", "24/1", ["2019-r1 is of method 0.4, 2025-r2 of method 0.6"]),
    ],
)
def test_when_the_base_year_is_to_be_recalculated(closed: int, method: str, moved: str, notes: list[str]):
    """Another method, or a change above the threshold since the base year was closed, gives a note."""
    found = [note["en"] for note in _declared(closed, method, moved).notes]
    assert len(found) == len(notes)
    assert all(said in note for said, note in zip(notes, found, strict=True))


def test_the_figure_of_the_base_year_is_not_published_exactly():
    """A published sheet names the revision of the base year, not its exact total."""
    empty = Document({}, (), {}, ())
    for public, kilograms in ((False, "4000 kgCO2e"), (True, None)):
        made = add_sign_off(empty, _declared(50, "0.6", "0/1"), (), public=public)
        (row,) = [row for row in made.tables["sign_off"] if row["declaration"] == "base_year_figure"]
        assert (row.get("declared"), row["declared_detail"]) == (kilograms, "2019-r1")
