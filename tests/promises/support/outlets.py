# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the same figures from every outlet of a running collector into one table: figure → outlet → text.

Nothing is rounded here. Numbers are compared by the text of the double; joules and grams as the decimal
digits of the kWh and kg in the other unit. Of pages for people, the text is compared with the words that
the product has for the number.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from tests.support.report_files import Page, sheet_rows, workbook
from veilleuse.collector.documents.cells import sheet_name
from veilleuse.collector.documents.document import read_columns
from veilleuse.collector.documents.text import words
from veilleuse.wire.units import GRAMS_PER_KILOGRAM, JOULES_PER_KWH

IDENTITY: Final = (
    *("indicator", "level", "zone", "perimeter", "entity", "population", "device_class", "power_context"),
)
NUMBERS: Final = re.compile(
    "(energy_millijoules|kwh|(kwh|kgco2e)_(total|(lo|hi)(95|_sample|_sensitivity))|value|n|numerator|denominator"
    "|(numerator|denominator)_milliseconds|coverage_(states|energy))"
)
PAGE: Final = "page"
"""The report as HTML."""
TABLES: Final = ("rows", "totals")

Row = Mapping[str, Any]


class Figure(NamedTuple):
    """One number of one group."""

    question: str
    group: str
    name: str


@dataclass
class OneTable:
    """Every figure, as each outlet gives it."""

    cells: dict[Figure, dict[str, str]] = field(default_factory=dict)
    asked: dict[str, set[str]] = field(default_factory=dict)
    """Question → outlets that must give every figure of it."""

    def add(self, outlet: str, question: str, rows: Iterable[Row]) -> None:
        """Add the numbers of an outlet's rows. It must give every figure of this question."""
        self.asked.setdefault(question, set()).add(outlet)
        for group, row in named(rows):
            for name, value in row.items():
                if NUMBERS.fullmatch(name) and value is not None and value != "":
                    self.put(outlet, Figure(question, group, name), text_of(name, value))

    def put(self, outlet: str, figure: Figure, text: str) -> None:
        """Add one number. An outlet says it once."""
        assert self.cells.setdefault(figure, {}).setdefault(outlet, text) == text, (outlet, figure)

    def differing(self) -> list[str]:
        """Return the figures that two outlets give otherwise."""
        return [f"{figure}: {said}" for figure, said in self.cells.items() if len(set(said.values())) > 1]

    def missing(self) -> list[str]:
        """Return the figures that an outlet does not give, of a question that it answers, or gives alone."""
        return [
            f"{figure}: {', '.join(lacking)}"
            for figure, said in self.cells.items()
            if (
                lacking := {one for one in self.asked.get(figure.question, ()) if gives(one, figure)}
                - said.keys()
            )
        ]

    @property
    def outlets(self) -> Counter[str]:
        """Outlet → number of its figures."""
        return Counter(outlet for said in self.cells.values() for outlet in said)

    def write(self, file: Path) -> None:
        """Write the table: a line for each figure, a column for each outlet."""
        outlets = list(self.outlets)
        lines = ["\t".join(("question", "group", "figure", *outlets, "equal"))]
        for figure, said in sorted(self.cells.items()):
            equal = "yes" if len(set(said.values())) == 1 else "NO"
            lines.append("\t".join((*figure, *(said.get(outlet, "–") for outlet in outlets), equal)))
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def gives(outlet: str, figure: Figure) -> bool:
    """Return whether an outlet has figures of this kind: exact integers are on no page."""
    return outlet != PAGE or not figure.name.endswith(("_millijoules", "_milliseconds"))


def named(rows: Iterable[Row]) -> Iterator[tuple[str, Row]]:
    """Yield each row with the name of its group; rooms and their servers may have one key."""
    seen: Counter[str] = Counter()
    for row in rows:
        group = ", ".join(f"{name} {row[name]}" for name in IDENTITY if row.get(name))
        seen[group] += 1
        yield group + (f" ({seen[group]})" if seen[group] > 1 else ""), row


def text_of(name: str, value: Any) -> str:
    """Return a number's digits: integers as they are, others as a double."""
    if name.endswith(("_millijoules", "_milliseconds")) or name == "n":
        return str(int(value))
    return repr(float(value))


def in_unit(number: float | Fraction, factor: int) -> str:
    """Return the digits of a number in a unit that is `factor` times smaller."""
    exact = number if isinstance(number, Fraction) else Fraction(repr(float(number)))
    return repr(float(exact * factor))


# ------------------------------------------------------------------------------------------- the files


def json_rows(document: Mapping[str, Any]) -> list[Row]:
    """Return the rows and totals of a JSON report or answer."""
    return [row for table in TABLES for row in document.get(table, ())]


def csv_rows(content: str, count: int) -> Sequence[Row]:
    """Return the first `count` rows of a CSV report; a year's own estimate and what is withheld follow."""
    rows = list(csv.DictReader(io.StringIO(content, newline="")))
    totals = [(row["period_from"], row["period_to"]) for row in rows if row["level"] == "total"]
    assert len(totals) == len(set(totals)), "two totals of one period would be added up"
    return rows[:count]


def xlsx_rows(content: bytes, rows: Sequence[Row]) -> list[Row]:
    """Return the rows and totals of a workbook, as openpyxl reads them.

    `rows`: of the JSON report, which name the groups: a workbook has their words, which are compared here.
    """
    book, taken = workbook(content), set[str]()
    titles = [sheet_name(words("fr")(f"tables.{table}"), taken) for table in TABLES]
    found = [row for title in titles if title in book.sheetnames for row in sheet_rows(book[title])]
    made: list[Row] = []
    for row, cells in zip(rows, found, strict=True):
        names = {name: row[name] for name in IDENTITY if name in row}
        said = {name: words("fr").word(read_columns()[name].words, value) for name, value in names.items()}
        assert said == {name: cells[name] for name in IDENTITY if name in cells}
        made.append({**cells, **names})
    return made


def page_rows(content: bytes, rows: Sequence[Row], tables: Sequence[int]) -> list[Row]:
    """Return the rows of the first sections of a page, with the unrounded number of each cell.

    `rows`: of the JSON report, which name the groups: a page has words. `tables`: rows of each section.
    """
    page = Page(content)
    found = [
        {name: cell.raw for name, cell in cells.items() if cell.raw is not None}
        for number, count in enumerate(filter(None, tables), 1)
        for cells in page.by_row(f"table-{number}", count)
    ]
    return [
        {name: row[name] for name in IDENTITY if name in row} | cells
        for row, cells in zip(rows, found, strict=True)
    ]


# ----------------------------------------------------------------------------------------- /metrics


def samples(exposition: str, prefix: str = "veilleuse_fleet_") -> Iterator[tuple[str, dict[str, str], str]]:
    """Yield (metric, labels, digits) of series; by default the fleet's."""
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if sample.name.startswith(prefix):
                yield sample.name, dict(sample.labels), repr(sample.value)


def smaller_units(row: Row, *, ends: bool) -> Iterator[tuple[str, str]]:
    """Yield (metric's ending, digits) of a row's energy and emissions, or of their intervals' ends."""
    if not ends:
        yield "energy_joules", repr(float(Fraction(int(row["energy_millijoules"]), 1000)))
        yield "emissions_grams", in_unit(row["kgco2e_total"], GRAMS_PER_KILOGRAM)
        return
    for kind in ("95", "_sample"):
        for end, name in (("lo", "low"), ("hi", "high")):
            if f"kwh_{end}{kind}" in row:
                yield f"energy_{name}_joules", in_unit(row[f"kwh_{end}{kind}"], JOULES_PER_KWH)
                yield f"emissions_{name}_grams", in_unit(row[f"kgco2e_{end}{kind}"], GRAMS_PER_KILOGRAM)


def told(tables: Sequence[OneTable]) -> str:
    """Return the promise's figure."""
    numbers = sum(len(said) for one in tables for said in one.cells.values())
    figures = sum(len(one.cells) for one in tables)
    differing = sum(len(one.differing()) for one in tables)
    return (
        f"{differing} of {figures:,} figures differ between outlets ({numbers:,} readings from {len(tables[0].outlets)} outlets, "
        f"{len(tables)} simulated fleet{'s' if len(tables) > 1 else ''})"
    )


def value_of(rows: Sequence[Row]) -> str:
    """Return the figure of several rows together: none where one withholds it.

    Incomplete rows are of the months that tell; those that withhold have rows of their own beside them.
    """
    told = [row for row in rows if "value" in row]
    of_some_months = any(row.get("incomplete") for row in told)
    if not told or (any(row.get("withheld") for row in rows) and not of_some_months):
        return "none"
    if told[0]["unit"] == "kWh":
        return repr(sum(row["value"] for row in told))
    ending = "_milliseconds" if "numerator_milliseconds" in told[0] else ""
    part, whole = (sum(row[f"{name}{ending}"] for row in told) for name in ("numerator", "denominator"))
    return repr(part / whole)


def indicator_gauges(metrics: str) -> dict[tuple[str, str], float]:
    """Return (indicator, population) → value of I3, I4 in joules and comatose servers (I6)."""
    gauges: defaultdict[tuple[str, str], float] = defaultdict(float)
    for metric, labels, digits in samples(metrics, "veilleuse_"):
        if metric == "veilleuse_month_avoidable_energy_joules":
            gauges["I4", labels["population"]] += float(digits)
        elif metric == "veilleuse_power_plan_compliance_ratio":
            gauges["I3", labels["population"]] = float(digits)
        elif (labels.get("verdict"), labels.get("machines")) == ("comatose", "physical"):
            gauges["I6", "server"] = float(digits)
    return gauges


def sum_rows(rows: Sequence[Row]) -> dict[str, Row]:
    """Sum rows by perimeter, population and class: a report divides them by power context too."""
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["level"] != "total":
            where = (row.get("perimeter", "several"), row.get("population", ""), row.get("device_class", ""))
            groups[" · ".join(where)].append(row)
    return {
        where: {
            "energy_millijoules": sum(row["energy_millijoules"] for row in parts),
            "kgco2e_total": sum(Fraction(repr(row["kgco2e_total"])) for row in parts),
        }
        for where, parts in groups.items()
    }
