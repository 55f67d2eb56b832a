# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""P16: one figure has the same digits at every outlet, for every reader.

`veilleuse simulate` makes a fleet, `veilleuse serve` publishes it in March 2026 (libfaketime), a year is
closed, a real Prometheus scrapes. Each number that two outlets give is compared: `one_table.txt` has them.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
import subprocess
import sys
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from fractions import Fraction
from html import unescape
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.promises.support.equipment import compare_equipment
from tests.promises.support.outlets import (
    PAGE,
    TABLES,
    Figure,
    OneTable,
    Row,
    csv_rows,
    indicator_gauges,
    json_rows,
    page_rows,
    samples,
    smaller_units,
    sum_rows,
    text_of,
    told,
    value_of,
    xlsx_rows,
)
from tests.support.clock import environment_at
from tests.support.peers import peer
from tests.support.ports import free_ports
from tests.support.processes import ran
from tests.support.stack import Stack, get, program
from veilleuse.collector.documents.text import words
from veilleuse.wire.units import JOULES_PER_KWH

TODAY: Final = datetime(2026, 3, 6, 10, tzinfo=UTC)
FIRST, DAYS = "2025-01-01", 428
"""A whole year, and January and February of the next one."""
DECLARED: Final = """
[[perimeter]]
name = "collèges"
entity = "Métropole > Collèges"
[[perimeter]]
name = "direction de l'eau"
entity = "Métropole > Direction de l'eau"
[[perimeter]]
name = "centre de données"
population = "server"
[[perimeter]]
name = "postes des agents"
population = "workstation"
"""
SEVERAL_COMMANDS: Final = """
import json, sys
from veilleuse.collector.cli.main import run
for line in json.load(sys.stdin):
    code = run(line)
    assert code == 0, (code, line)
"""
"""One process writes many reports, by the program's own entry."""
PATIENCE_SECONDS: Final = 900
GROUPINGS: Final[tuple[tuple[str, ...], ...]] = (
    ("--group-by", "perimeter"),
    ("--group-by", "entity"),
    ("--group-by", "device_class"),
    ("--group-by", "entity", "--level", "2"),
    ("--group-by", "entity,device_class"),
    ("--group-by", "perimeter,population,device_class"),
)
OF_SERIES: Final = GROUPINGS[-1]
OTHER_FORMATS: Final = ("csv", "xlsx", "html")
OF_INDICATORS: Final = ("I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I13")


class Period(NamedTuple):
    """A period with its name in the table."""

    name: str
    first: str
    end: str


CLOSED: Final = Period("2025, closed", "2025-01-01", "2026-01-01")
TO_DATE: Final = Period("2026 to date", "2026-01-01", "2027-01-01")
MONTH: Final = Period("February 2026", "2026-02-01", "2026-03-01")
PERIODS: Final = (CLOSED, TO_DATE, MONTH)


class Fleet(Stack):
    """A simulated fleet and its collector, on the clock of TODAY."""

    def __init__(self, folder: Path) -> None:
        """Set the clock of all commands."""
        super().__init__(folder, environment_at(TODAY) | {"VEILLEUSE__STORE__FREE_BYTES_MINIMUM": "0"})
        self.table = OneTable()

    def fill(self, hosts: int, seed: int) -> None:
        """Simulate and publish."""
        self.must("veilleuse", "init", "--simulated")
        size = ("--from", FIRST, "--days", str(DAYS), "--hosts", str(hosts), "--seed", str(seed))
        subprocess.run(
            [program("veilleuse"), "simulate", *size],
            env=self.environment,
            check=True,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
        )
        file = self.folder / "perimeters.toml"
        file.write_text(DECLARED)
        process = self.start_collector()
        self.must("veilleuse", "perimeters", "declare", str(file), "--year", "2025", "--why", "test")
        self.wait_for(
            self.is_published, "all months are published", seconds=PATIENCE_SECONDS, process=process
        )
        listed = self.must("veilleuse", "published", "list")
        assert all(f"{kind}\t{MONTH.first}" in listed for kind in ("fleet", "indicators"))
        self.must(
            "veilleuse", "factors", "mapping", "confirm", "--item", "home=3.3/3.7", "--eple", "authority"
        )
        closed = self.run("veilleuse", "close", "2025")
        assert closed.returncode == 3, closed.stderr  # nobody has signed it off
        verified = self.run("veilleuse", "verify", "2025")
        assert verified.returncode in (0, 3), verified.stdout + verified.stderr

    def is_published(self) -> bool:
        """Return whether the last month of the fleet is published, and its indicators."""
        return all(self.published(kind, date.fromisoformat(MONTH.first)) for kind in ("fleet", "indicators"))

    def write_reports(self, reports: Mapping[str, Sequence[str]]) -> None:
        """Write reports: file → words of the command."""
        lines = [[*line, "-o", str(self.folder / name)] for name, line in reports.items()]
        done = ran(
            [sys.executable, "-c", SEVERAL_COMMANDS],
            input=json.dumps(lines),
            env=self.environment,
            timeout=PATIENCE_SECONDS,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def token(self, role: str) -> str:
        """Return the token of a new account."""
        file = self.folder / f"{role}.token"
        made = ("--role", role, "--days", "30", "--output", str(file))
        self.must("veilleuse", "account", "create", role, *made)
        return file.read_text().strip()

    def ask(self, token: str, kind: str, period: Period, grouping: Sequence[str]) -> str:
        """Return an answer of the API."""
        names = [word.removeprefix("--").replace("-", "_") for word in grouping]
        query = {"from": period.first, "to": period.end, **dict(zip(names[::2], grouping[1::2], strict=True))}
        url = f"{self.url}api/v1/{kind}?{urllib.parse.urlencode(query)}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(answer.read().decode())


def question(kind: str, period: Period, grouping: Sequence[str]) -> str:
    """Return the name of a question."""
    return f"{kind}, {period.name}, by {' '.join(grouping[1:]).replace(' --', ' ')}"


def file_of(kind: str, period: Period, grouping: Sequence[str], suffix: str) -> str:
    """Return the name of a report's file."""
    return f"{kind}-{period.first}-{'-'.join(grouping[1:])}.{suffix}".replace(",", "+")


def compare_reports(fleet: Fleet, *, every_format: bool) -> None:
    """Emissions and indicators of each period and grouping, by format and account.

    `every_format`: else each question is asked as JSON and in one of the other formats.
    """
    asked = [
        (kind, period, grouping)
        for kind, groupings in (("emissions", GROUPINGS), ("indicators", GROUPINGS[:3]))
        for period in PERIODS
        for grouping in groupings
    ]
    others = {
        one: OTHER_FORMATS if every_format else (OTHER_FORMATS[number % len(OTHER_FORMATS)],)
        for number, one in enumerate(asked)
    }
    fleet.write_reports(
        {
            file_of(*one, suffix): (
                *("report", one[0], "--from", one[1].first, "--to", one[1].end, *one[2], "--format", suffix),
            )
            for one, formats in others.items()
            for suffix in ("json", *formats)
        }
    )
    compare_equipment(fleet, GROUPINGS[4], PERIODS[:2])
    accounts = {role: fleet.token(role) for role in ("admin", "reader")}
    keep = functools.partial(filter, lambda row: row.get("indicator", "I1") in OF_INDICATORS)
    for one, formats in others.items():
        name, add = question(*one), fleet.table.add
        document = json.loads((fleet.folder / file_of(*one, "json")).read_text())
        rows = json_rows(document)
        add("command, JSON", name, keep(rows))
        last_day(fleet, "command, JSON", one[1], document)
        for suffix in formats:
            content = (fleet.folder / file_of(*one, suffix)).read_bytes()
            if suffix == "csv":
                add("command, CSV", name, keep(csv_rows(content.decode(), len(rows))))
            elif suffix == "xlsx":
                add("XLSX", name, keep(xlsx_rows(content, rows)))
            else:
                counts = [len(document.get(table, ())) for table in TABLES]
                add(PAGE, name, keep(page_rows(content, rows, counts)))
        for role, token in accounts.items():
            answer = json.loads(fleet.ask(token, *one))
            add(f"API, {role}", name, json_rows(answer))
            last_day(fleet, f"API, {role}", one[1], answer)
            assert role == "admin" or not answer.get("year"), (
                f"{name}: a year's own estimate is for administrators"
            )


def last_day(fleet: Fleet, outlet: str, period: Period, document: Mapping[str, Any]) -> None:
    """Add the last day that a document says its figures go to."""
    if period is TO_DATE:
        fleet.table.put(outlet, Figure("last day", period.name, "day"), document["report"]["under_way_until"])


def command_rows(fleet: Fleet, period: Period, grouping: Sequence[str]) -> list[Row]:
    """Return the rows of the command's report of emissions."""
    return json_rows(json.loads((fleet.folder / file_of("emissions", period, grouping, "json")).read_text()))


def compare_closed_file(fleet: Fleet) -> None:
    """The signed file has exact energies and emissions, and twelve digits of the rest."""
    grouping = GROUPINGS[4]
    name = question("signed file", CLOSED, grouping)
    released = json.loads((fleet.data / "closed" / "2025-r1.json").read_text())["report"]["released"][
        "figures"
    ]
    columns = (
        "energy_millijoules", "kwh_total", "kwh_lo_sample", "kwh_hi_sample", "kgco2e_total", "kgco2e_lo_sample", "kgco2e_hi_sample",
    )  # fmt: skip
    exact = "kgco2e_total_exact"
    for one in GROUPINGS:
        told_first = [
            (row["as_published_kgco2e"], row["kgco2e_total"]) for row in command_rows(fleet, CLOSED, one)
        ]
        assert [pair for pair in told_first if pair[0] != pair[1]] == [], f"revision 1, {one}"
    rows = command_rows(fleet, CLOSED, grouping)
    shown = [
        {**row, **{column: float(f"{row[column]:.12g}") for column in columns[1:] if column in row}}
        for row in rows
    ]
    frozen = [*released["rows"], *released["totals"]]
    for outlet, found in (("command, JSON", shown), ("closed file", frozen)):
        fleet.table.add(
            outlet,
            name,
            [
                {key: value for key, value in row.items() if key in columns or key not in _numbers(row)}
                for row in found
            ],
        )
    of_command = {row["energy_millijoules"]: row for row in rows}
    for row in frozen:
        digits = repr(float(Fraction(row[exact])))
        assert repr(float(of_command[row["energy_millijoules"]]["kgco2e_total"])) == digits, row


def _numbers(row: Row) -> set[str]:
    return {name for name in row if name.startswith(("kwh", "kgco2e", "energy", "value", "n", "coverage"))}


def compare_series(fleet: Fleet, prometheus: Callable[[], list[Any]]) -> None:
    """Groups, perimeters, years and months of /metrics and of Prometheus."""
    for period, kind, when in (
        (CLOSED, "year", "2025"),
        (TO_DATE, "year", "2026"),
        (MONTH, "month", "2026-02"),
    ):
        name = f"series of {period.name}"
        found = {"/metrics": list(samples(get(f"{fleet.url}metrics"))), "Prometheus": _series(prometheus())}
        for outlet, series in found.items():
            fleet.table.asked.setdefault(name, {"command, JSON"}).add(outlet)
            for metric, labels, digits in series:
                if labels.get(kind) == when and not metric.endswith("_info"):
                    ending = metric.removeprefix(f"veilleuse_fleet_{kind}_")
                    ends = "_low_" in ending or "_high_" in ending
                    where = " · ".join(
                        labels.get(one, "") for one in ("perimeter", "population", "device_class")
                    )
                    asked = f"intervals of {period.name}" if ends else name
                    fleet.table.put(outlet, Figure(asked, where.strip(" ·"), ending), digits)
        if kind == "year":
            _of_perimeters(fleet, period, f"intervals of {period.name}")
        for where, row in sum_rows(command_rows(fleet, period, OF_SERIES)).items():
            for ending, digits in smaller_units(row, ends=False):
                fleet.table.put("command, JSON", Figure(name, where.strip(" ·"), ending), digits)


def _series(result: Sequence[Any]) -> list[tuple[str, dict[str, str], str]]:
    return [(one["metric"]["__name__"], one["metric"], repr(float(one["value"][1]))) for one in result]


def _of_perimeters(fleet: Fleet, period: Period, name: str) -> None:
    """Ends of intervals, and sums, of perimeters: the sheet and the command."""
    sheet = json.loads((fleet.folder / f"reen-{period.first}.json").read_text())["perimeters"]
    parts: defaultdict[str, list[Row]] = defaultdict(list)
    for row in command_rows(fleet, period, GROUPINGS[0]):
        parts["total" if row["level"] == "total" else row.get("perimeter", "several")].append(row)
    for row in sheet:
        where = row["perimeter"]
        for column, value in row.items():
            if column.startswith(("kwh", "kgco2e", "energy_millijoules")):
                figure = Figure(f"perimeters of {period.name}", where, column)
                fleet.table.put("REEN sheet", figure, text_of(column, value))
                summed = math.fsum(one.get(column, one.get(_whole(column), 0)) for one in parts[where])
                fleet.table.put("command, JSON", figure, text_of(column, summed))
        for ending, digits in smaller_units(row, ends=True):
            fleet.table.put("REEN sheet", Figure(name, where, ending), digits)
    assert {row["perimeter"] for row in sheet} == set(parts)


def _whole(column: str) -> str:
    """Return the column of a row that is observed whole: its only interval is 95 %."""
    return column.replace("_sample", "95").replace("_sensitivity", "95")


def compare_indicators_of_sheet(fleet: Fleet, period: Period) -> None:
    """Indicators of the sheet are the sums of the report's rows of its populations, or withheld by both.

    By perimeter: a class can withhold months in which all machines together have a figure.
    """
    document = json.loads((fleet.folder / f"reen-{period.first}.json").read_text())
    last_day(fleet, "REEN sheet", period, document)
    sheet = document["rows"]
    report = json.loads((fleet.folder / file_of("indicators", period, GROUPINGS[0], "json")).read_text())
    of = json_rows(report)
    for name in ("I1", "I2", "I3", "I4", "I6"):
        found = [row for row in sheet if row.get("indicator") == name]
        rows = [
            row
            for row in of
            if row["indicator"] == name and (row["population"] == "server") is (name == "I6")
        ]
        figure = Figure(f"sheet of {period.name}", "all", name)
        said = repr(found[0]["value"]) if found and "value" in found[0] else "none"
        fleet.table.put("REEN sheet", figure, said)
        fleet.table.put("command, JSON", figure, value_of([row for row in rows if row["level"] != "memo"]))


def compare_gauges_of_indicators(fleet: Fleet) -> None:
    """I3, I4 and I6 of the last released month."""
    report = json.loads((fleet.folder / file_of("indicators", MONTH, GROUPINGS[2], "json")).read_text())
    gauges = indicator_gauges(get(f"{fleet.url}metrics"))
    for name in ("I3", "I4", "I6"):
        for population in ("workstation", "classroom", "server"):
            rows = [
                one
                for one in json_rows(report)
                if (one["indicator"], one.get("population")) == (name, population)
            ]
            value = value_of([row for row in rows if row["level"] != "memo"])
            if name == "I6" and value != "none":
                value = repr(sum(row["numerator"] for row in rows if row["level"] != "memo"))
            unit = JOULES_PER_KWH if name == "I4" else 1
            shown = gauges.get((name, population))
            figure = Figure(f"gauges of {MONTH.name}", population, name)
            told = None if value == "none" else float(value) * unit
            for outlet, number in (("command, JSON", told), ("/metrics", shown)):
                fleet.table.put(outlet, figure, "none" if number is None else f"{number:.7g}")


def compare_pages(fleet: Fleet) -> None:
    """The first page and Bilan have the emissions of the year to date, and Bilan those of each perimeter."""
    addresses = ("?lang=fr", f"bilan?lang=fr&by=perimeter&year={TO_DATE.first[:4]}")
    first, balance = (unescape(get(f"{fleet.url}{address}")) for address in addresses)
    w = words("fr")
    name = f"shown, {TO_DATE.name}"
    for row in json.loads((fleet.folder / f"reen-{TO_DATE.first}.json").read_text())["perimeters"]:
        text = w.grams(Fraction(repr(row["kgco2e_total"])) * 1000)
        where = row["perimeter"]
        figure = Figure(name, where, "kgco2e")
        fleet.table.put("REEN sheet", figure, text)
        if where == "total":
            fleet.table.put("first page", figure, text if f">{text}<" in first else "another")
            line = balance.partition('<dd class="value">')[2]
        else:
            line = balance.partition(f">{w.word('perimeter', where)}</th>")[2].partition("</tr>")[0]
        fleet.table.put("Bilan", figure, text if re.search(rf"(^|>){re.escape(text)}<", line) else "another")


@contextmanager
def scraping(fleet: Fleet) -> Iterator[Callable[[], list[Any]]]:
    """Run Prometheus; yield a function that returns its newest series of the fleet."""
    (port,) = free_ports(1)
    config, target = fleet.folder / "prometheus.yml", urllib.parse.urlsplit(fleet.url).netloc
    config.write_text(
        "global: {scrape_interval: 1s}\nscrape_configs:\n"
        f"  - job_name: veilleuse\n    static_configs: [{{targets: ['{target}']}}]\n"
    )
    url = f"http://127.0.0.1:{port}/"

    def series() -> list[Any]:
        query = urllib.parse.urlencode({"query": '{__name__=~"veilleuse_fleet_.*"}'})
        found: list[Any] = json.loads(get(f"{url}api/v1/query?{query}"))["data"]["result"]
        return found

    def is_scraped() -> bool:
        try:
            return {"2025", "2026"} <= {one["metric"].get("year") for one in series()}
        except OSError:
            return False

    with (fleet.folder / "prometheus-own.log").open("wb") as log:
        options = (f"--config.file={config}", f"--storage.tsdb.path={fleet.folder / 'tsdb'}")
        process = subprocess.Popen(
            [peer("prometheus"), *options, f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"],
            env=dict(os.environ),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    fleet.processes.append(process)
    fleet.wait_for(is_scraped, "Prometheus has the fleet's series", seconds=PATIENCE_SECONDS, process=process)
    yield series


OUTLETS: Final = {
    *("command, JSON", "command, CSV", "XLSX", PAGE, "API, admin", "API, reader"),
    *("closed file", "/metrics", "Prometheus", "REEN sheet", "first page", "Bilan", "NumEcoEval file"),
}
QUICK: Final = (30, 15)
LONG: Final = ((60, 16), (90, 17))
"""Machines with an agent, and seed."""


def check_fleet(folder: Path, hosts: int, seed: int, *, every_format: bool) -> OneTable:
    """Collect the whole table of one fleet, write it, and assert that no two outlets differ."""
    peer("faketime")
    with Fleet(folder) as fleet:
        fleet.fill(hosts, seed)
        compare_reports(fleet, every_format=every_format)
        years = (CLOSED, TO_DATE)
        reen = ("report", "reen", "--format", "json")
        fleet.write_reports(
            {f"reen-{one.first}.json": (*reen, "--from", one.first, "--to", one.end) for one in years}
        )
        compare_closed_file(fleet)
        with scraping(fleet) as series:
            compare_series(fleet, series)
        for one in years:
            compare_indicators_of_sheet(fleet, one)
        compare_gauges_of_indicators(fleet)
        compare_pages(fleet)
    table = fleet.table
    table.write(folder / "one_table.txt")
    assert table.differing() == []
    assert table.missing() == []
    assert table.outlets.keys() == OUTLETS
    return table


@pytest.mark.promise("P16")
def test_one_figure_behind_every_outlet(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """A small fleet: no figure differs."""
    figure(told([check_fleet(tmp_path, *QUICK, every_format=False)]))


@pytest.mark.long
@pytest.mark.promise("P16")
def test_one_figure_of_larger_fleets(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """Two larger fleets: no figure differs."""
    tables = []
    for hosts, seed in LONG:
        folder = tmp_path / str(hosts)
        folder.mkdir()
        tables.append(check_fleet(folder, hosts, seed, every_format=True))
    figure(told(tables))
