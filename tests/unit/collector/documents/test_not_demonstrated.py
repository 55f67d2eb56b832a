# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""An interval is called 95 % only where the measured machines are shown to represent the others:
methodology.md, section 6."""

from __future__ import annotations

import csv
import io
import json
import math
import random as random_numbers
import re
from dataclasses import replace
from typing import Any

import pytest

from tests.support.report_files import Page, pdf_text, sheet_rows, workbook
from tests.support.simulated_fleets import Shape, simulated
from tests.support.year import END, FIRST, census, figures, worked, workstation
from veilleuse.collector.account.rounding import format_row
from veilleuse.collector.account.row import PeriodFigures
from veilleuse.collector.account.statement import StatementTerms, build_statement
from veilleuse.collector.documents.document import BINARY, FORMATS, LANGUAGES, Document, renderer
from veilleuse.collector.documents.text import words
from veilleuse.collector.factors.book import choose
from veilleuse.collector.fleet.estimate import Estimate, Representativeness
from veilleuse.collector.fleet.estimator import Assumptions
from veilleuse.collector.model.figures import EmissionsRow, EmissionsStatement
from veilleuse.collector.reports.emissions_document import SAMPLE_NOTES, document
from veilleuse.wire.vocabulary import DeviceClass

CLAIM = re.compile(r"95[\s\u00a0\u202f]*%|(lo|hi)_?95")
"""Text or names that a report of a non-random sample must not contain."""
FULL = ("kwh_lo95", "kwh_hi95", "kgco2e_lo95", "kgco2e_hi95", "gsd2")
SAMPLE = tuple(
    f"{unit}_{end}_{kind}"
    for unit in ("kwh", "kgco2e")
    for kind in ("sample", "sensitivity")
    for end in ("lo", "hi")
)


def period(*, measured: int, random: bool = False, also_all_of: DeviceClass | None = None) -> PeriodFigures:
    """Return the figures of sixty laptops, `measured` of them measured, and of twelve machines of another
    class, all measured."""
    hosts = [workstation(n, device_class=DeviceClass.LAPTOP) for n in range(1, 61)]
    sample = hosts[:measured]
    if also_all_of is not None:
        others = [workstation(n, device_class=also_all_of) for n in range(101, 113)]
        hosts, sample = hosts + others, sample + others
    standings = census(*hosts)
    by_host = {one.host_id: one for one in standings}
    machines = [
        (worked(one, 20 + number % 7, days=261), by_host[one.host_id]) for number, one in enumerate(sample)
    ]
    known = Assumptions(random_roll_out=random)
    return figures(FIRST, END, ("device_class",), standings, machines, assumptions=known, k_anonymity=10)


def stated(made: PeriodFigures) -> EmissionsStatement:
    """Return the statement with its factor."""
    return build_statement([made], StatementTerms(choose, "real"))


def written(statement: EmissionsStatement, language: str = "fr") -> Document:
    """Return the report with its texts for people."""
    texts = [format_row(row) for row in (*statement.rows, *statement.totals)]
    head = {"from": "2025-01-01", "to": "2026-01-01", "data": "real"}
    return replace(document(statement, head, texts), language=language)


def whole_estimate() -> Estimate:
    """Return the total's estimate for twenty measured machines of sixty."""
    total = period(measured=20).total
    assert total is not None
    return total.estimate


def names(row: EmissionsRow) -> set[str]:
    """Return the interval columns that a row has."""
    return {name for name in (*FULL, *SAMPLE) if row.columns[name] is not None}


def test_the_sensitivity_by_hand():
    """1,000 kWh are 400 measured, 100 at the class default and 500 from the sample.
    At 1/1.5 and 1.5 times these 500 are 333.3 and 750, which gives 833.3 to 1,250 kWh. A sample interval of ÷
    and × 1.1 widens each end in quadrature on the log scale, and so does the factor's error.
    """
    one = replace(
        whole_estimate(),
        energy_millijoules=1_000,
        extrapolated_millijoules=600,
        default_millijoules=100,
        low_log=0.0,
        high_log=0.0,
    )
    assert one.sensitivity() == pytest.approx((1 - 500 / 3 / 1_000, 1.25))
    sampled = replace(one, low_log=math.log(1.1), high_log=math.log(1.1))
    low, high = sampled.sensitivity()
    assert math.log(low) ** 2 == pytest.approx(math.log(1.1) ** 2 + math.log(833.333333333333 / 1_000) ** 2)
    assert math.log(high) ** 2 == pytest.approx(math.log(1.1) ** 2 + math.log(1.25) ** 2)
    _, emitted = sampled.sensitivity(0.05)
    assert math.log(emitted) ** 2 == pytest.approx(math.log(high) ** 2 + (1.959964 * 0.05) ** 2)
    measured = replace(sampled, extrapolated_millijoules=100)
    assert measured.sensitivity() == pytest.approx(
        (1 / 1.1, 1.1)
    )  # the rest has the class default's own error
    nothing = replace(one, energy_millijoules=0, extrapolated_millijoules=0, default_millijoules=0)
    assert nothing.sensitivity() == (1.0, 1.0)


def test_volunteers_are_outside_the_sample_interval_and_inside_the_sensitivity():
    """Where machines that draw half as much are twice as likely to be measured, the figure is 13 % too low.
    The sample interval of ± 5 % contains the true value in none of 40 fleets, the sensitivity in all. So the
    sample interval is not called 95 %.
    """
    chance = random_numbers.Random(5)
    shape = Shape(((300, 60), (800, 150), (200, 20), (100, 8)), volunteers=-1, random_roll_out=False)
    held = wider_held = 0
    for _ in range(40):
        fleet = simulated(shape, chance)
        total, truth = fleet.estimate().total(), sum(fleet.truth.values())
        assert not total.is_demonstrated
        low, high = total.bounds_millijoules
        held += low <= truth <= high
        low, high = (end * total.energy_millijoules for end in total.sensitivity())
        wider_held += low <= truth <= high
    assert (held, wider_held) == (0, 40)


@pytest.mark.parametrize(
    ("measured", "random", "told"),
    [(20, False, "not demonstrated"), (20, True, "demonstrated"), (60, False, "census")],
)
def test_columns_say_what_the_interval_may_claim(measured: int, random: bool, told: str):
    """The ends are the same, but only a census and a random sample call them 95 %.
    Only they have a GSD², whose definition says 95 %."""
    made = period(measured=measured, random=random)
    statement = stated(made)
    rows: list[Any] = [*statement.rows, *statement.totals]
    for row in rows:
        assert row.activity.representativeness == told
        is_sample = told == Representativeness.NOT_DEMONSTRATED
        assert (row.uncertainty.interval, names(row)) == (
            ("sample only", set(SAMPLE)) if is_sample else ("95 %", set(FULL))
        )
        assert made.total is not None
        low, high = (end / 3.6e9 for end in made.total.estimate.bounds_millijoules)
        assert row.uncertainty.kwh.ends == pytest.approx((low, high))
        if is_sample:
            assert row.uncertainty.kwh.lo_sensitivity < row.uncertainty.kwh.lo_sample < row.energy.kwh_total
            assert row.energy.kwh_total < row.uncertainty.kwh.hi_sample < row.uncertainty.kwh.hi_sensitivity
            assert (
                row.uncertainty.kgco2e.hi_sensitivity / row.emissions.kgco2e_total
                > row.uncertainty.kwh.hi_sensitivity / row.energy.kwh_total
            )


def texts_of(name: str, content: bytes) -> str:
    """Return all text of a file; for JSON and CSV, its names and notes."""
    if name == "json":
        told = json.loads(content)
        keys = {key for table in ("rows", "totals") for row in told[table] for key in row}
        words_of = {str(row["interval"]) for table in ("rows", "totals") for row in told[table]}
        return "\n".join([*keys, *words_of, *told["assumptions"]])
    if name == "csv":
        lines = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
        return "\n".join([*lines[0], *(row["interval"] for row in lines)])
    if name == "xlsx":
        cells = [
            cell for sheet in workbook(content) for line in sheet.iter_rows(values_only=True) for cell in line
        ]
        return "\n".join(cell for cell in cells if isinstance(cell, str))
    if name == "pdf":
        return pdf_text(content)
    if name == "html":
        return Page(content).text
    assert name not in BINARY, f"add a branch for the text of {name} to texts_of of this file"
    return content.decode()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", FORMATS)
def test_no_file_claims_95_percent_of_volunteers(name: str, language: str):
    """Twenty of sixty were measured, not at random: no heading, note, name or definition says 95 %.
    A random roll-out's report does. Readers see the kind of interval, and the sensitivity with its 1.5.
    """
    content = renderer(name)(written(stated(period(measured=20)), language))
    text = texts_of(name, content)
    assert CLAIM.findall(text) == []
    if language == "fr":
        drawn = renderer(name)(written(stated(period(measured=20, random=True)), language))
        assert CLAIM.search(texts_of(name, drawn))
    if name in ("csv", "json"):
        assert {"kwh_lo_sample", "kgco2e_hi_sensitivity", "sample only"} <= set(text.split("\n"))
        return
    flat = "".join(text.split())  # pypdf reports no spaces
    wanted = {
        "fr": ("intervalle d’échantillonnage seulement", "consomment de 1/1,5 à 1,5 fois"),
        "en": ("sample interval only", "draw 1/1.5 to 1.5 times"),
    }
    missing = [one for one in wanted[language] if "".join(one.split()) not in flat]
    assert missing == [] or (name not in ("html", "pdf", "xlsx") and "kwh_lo_sample" in text)


def test_a_table_of_both_has_each_where_it_is_true():
    """Twelve of twelve small desktops and twenty of sixty laptops were measured: only desktops have 95 %."""
    statement = stated(period(measured=20, also_all_of=DeviceClass.SFF))
    book = workbook(renderer("xlsx")(written(statement)))
    laptops, desktops = sheet_rows(book["Lignes"])
    (total,) = sheet_rows(book["Totaux"])
    assert (laptops["interval"], desktops["interval"], total["interval"]) == (
        "d’échantillonnage seulement",
        words("fr").word("interval", "95 %"),
        "d’échantillonnage seulement",
    )
    for row, wanted, other in ((laptops, SAMPLE, FULL), (desktops, FULL, SAMPLE), (total, SAMPLE, FULL)):
        assert set(wanted) <= row.keys()
        assert row.keys().isdisjoint(other)
    notes = written(statement).assumptions
    assert [note for note in notes if str(note).startswith("95 % intervals")]
    assert set(SAMPLE_NOTES.values()) <= set(notes)


def test_a_total_is_rounded_by_the_interval_that_it_shows():
    """A total shows two digits of the sample interval's half-width; its sensitivity has the same rounding."""
    row = EmissionsRow.of(
        {
            "period_from": "2025-01-01",
            "period_to": "2026-01-01",
            "level": "total",
            "n": 10,
            "interval": "sample only",
            "kwh_total": 104_123.4,
            "kwh_lo_sample": 98_222.2,
            "kwh_hi_sample": 110_444.4,
            "kwh_lo_sensitivity": 81_234.5,
            "kwh_hi_sensitivity": 134_567.8,
        }
    )
    assert format_row(row)["kwh_total"]["en"] == (
        "104,100\u00a0kWh (sample interval only: 98,200 to 110,400; sensitivity, if machines not measured draw 1/1.5 to 1.5 times what "
        "measured ones say: 81,200 to 134,600)"
    )
    assert format_row(row)["kwh_hi_sensitivity"]["en"] == "134,600"


def test_its_notes_are_in_french():
    """The notes appear on the page of a French authority."""
    assert [note for note in SAMPLE_NOTES.values() if words("fr").text(note)[1] != "fr"] == []
