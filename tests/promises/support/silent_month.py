# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads two fleets at every outlet that are equal but for one PC's silent month, and compares them.

All that names, labels or counts machines is equal. `may_differ` says what is not, by the PCs enrolled:
- k or more: numbers that follow from energy, time and nights of all its machines (ENERGY, SUMS). What it is
  called (census or sample) and which interval it has (INTERVAL) differ only where its energy at times that
  nobody measured is 0 in one of the two fleets: they follow from that sum.
- fewer: energy alone, which is that of published groups of k or more (`unexplained_rows` checks that).
A value that is there in one fleet alone is no number. Texts are compared without numbers of these kinds.
"""

from __future__ import annotations

import csv
import html
import io
import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from tests.promises.support.fleet_answers import K, unexplained_rows
from tests.promises.support.hours import HOUR, METERED_WATTS, days_from
from tests.promises.support.outlets import TABLES, json_rows, page_rows, samples, xlsx_rows
from tests.promises.support.read_together import Watched
from tests.support.filled import METER, cell, civil
from tests.support.inventories import Listed
from tests.support.machines import settings_in
from tests.support.reading import Reading
from tests.support.report_files import Page, workbook
from tests.support.sources import opened, opened_for_sobriety
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.documents.document import Document, renderer
from veilleuse.collector.documents.text import words
from veilleuse.collector.exposition.otlp import export_request
from veilleuse.collector.model.accounts import Role
from veilleuse.collector.model.indicators import Targets
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.model.query import AUTRES, DEFAULT_PERIMETERS, GroupKey, Query, is_within
from veilleuse.collector.model.records import HostId
from veilleuse.collector.reports.emissions import emissions_report_of, prepare_for_publication
from veilleuse.collector.reports.exchange.numecoeval import DIMENSIONS, equipment_file
from veilleuse.collector.reports.reen import reen_document
from veilleuse.collector.web.pages.table import PAGES
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

AUG, SEP, OCT = (date(2026, month, 1) for month in (8, 9, 10))
DAY: Final = date(2026, 10, 5)
"""Day of the look: both months are published."""
SITES: Final = {"lyon": "FR", "köln": "DE", "liège": "BE"}
PLACES: Final = {
    "twelve": ("A", "lyon", Population.WORKSTATION, DeviceClass.LAPTOP, 13),
    "alone": ("B > Archives", "lyon", Population.WORKSTATION, DeviceClass.LAPTOP, 1),
    "beside": ("B > Voirie", "lyon", Population.WORKSTATION, DeviceClass.LAPTOP, 13),
    "small": ("C > Musée", "lyon", Population.WORKSTATION, DeviceClass.LAPTOP, 5),
    "branch": ("C > Parc", "lyon", Population.WORKSTATION, DeviceClass.LAPTOP, 7),
    "abroad": ("D", "köln", Population.WORKSTATION, DeviceClass.LAPTOP, 14),
    "class": ("D > Atelier", "köln", Population.WORKSTATION, DeviceClass.TOWER, 1),
    "zone": ("E", "liège", Population.WORKSTATION, DeviceClass.LAPTOP, 1),
    "population": ("F", "lyon", Population.CLASSROOM, DeviceClass.LAPTOP, 1),
}
"""Name → entity, site, population, class and number of PCs."""
PILOT: Final = {"alone": ("A", "lyon", Population.WORKSTATION, DeviceClass.LAPTOP, 1)}
"""A fleet of one PC."""
LAPTOPS: Final = {name: PLACES[name] for name in ("twelve", "beside", "zone")}
"""Two entities of laptops, and a PC abroad that is in no cell."""
Places = Mapping[str, tuple[str, str, Population, DeviceClass, int]]
Row = Mapping[str, Any]
EMISSIONS: Final = (
    *("entity,device_class", "entity", "population,month", "perimeter,power_context", "entity&level=1"),
    *("entity,device_class&basis=observed", "device_class&basis=observed"),
)
INDICATORS: Final = ("population", "entity", "entity,device_class,month")
READERS: Final = {
    "reader": (),
    "reader of B": ("B",),
    "reader of B > Archives": ("B > Archives",),
    "reader of F": ("F",),
}
ENERGY: Final = re.compile(
    "(energy|extrapolated|default)_millijoules|(shown\\.)?(kwh|kgco2e)_.*|gsd2|u_(sampling|model|factor)"
    "|split_residual.*|number|veilleuse_.*(energy.*_joules|emissions.*_grams)"
)
"""Numbers that follow from the energy of published groups of k machines or more."""
SUMS: Final = re.compile(
    f"{ENERGY.pattern}|machine_days_observed|coverage_(states|energy)|derived_milliseconds"
    "|value(_(lo|hi)_sample)?|(numerator|denominator)(_milliseconds)?|nights_on|veilleuse_month_state_seconds|veilleuse_.*_ratio"
)
"""Numbers that follow from time, energy and nights of all machines of a row."""
INTERVAL: Final = re.compile("basis|representativeness|interval|gsd2|.*_(lo|hi)(95|_sample|_sensitivity)")
"""What follows from a row's energy at times that nobody measured being 0, or not."""
NOTES: Final = re.compile(
    "Les intervalles à |# % intervals|Intervalle d’|Sensibilité|Le déploiement n’est pas|(kwh|kgco#e)_(lo|hi)|gsd#"
)
"""Beginnings of notes on INTERVAL, and of its columns: an answer has them where one of its rows has it."""
OF_THE_COLLECTOR: Final = re.compile("veilleuse_(store|web|exposition|process)_.*")
"""Series of the collector itself: of a fleet of k PCs or more they change with each call (privacy.md §4)."""
OF_THE_HOST: Final = re.compile("veilleuse_(store_free|web_request_seconds|process|exposition_render)_.*")
"""Of these, what depends on the machine that runs this test."""
GROUPS: Final = ("entity", "population", "device_class", "zone", "perimeter")
NAMES: Final = (
    *("period_from", "month", "level", "indicator", "reason", "part", "power_context", "server", "item"),
    *("own_part", "measure", "objective", "table"),
)
_OF_THE_LARGEST: Final = re.compile(r"Small groups of|A #%|.* \(#% of the uncertainty\)")
"""Texts about the groups of k machines with the largest figures, or uncertainties."""
_ON_SITE: Final = GroupKey(power_context=PowerContext.OWN_SITE)
_NOT_OF_THE_FLEET: Final = re.compile("generated_unix_milliseconds|report_id|created.*")


class Told(NamedTuple):
    """One row that an outlet gives."""

    outlet: str
    answer: str
    row: str


@dataclass
class Read:
    """All that was read of one fleet."""

    values: dict[Told, dict[str, Any]] = field(default_factory=dict)
    machines: dict[Told, int] = field(default_factory=dict)
    """Row → PCs enrolled in it."""
    texts: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    """(outlet, answer) → its texts in any order, since rows are sorted by numbers."""
    unexplained: list[str] = field(default_factory=list)

    def put(self, outlet: str, answer: str, row: str, values: Row, machines: int) -> None:
        """Add a row; several of one name are numbered."""
        number = 1
        while (key := Told(outlet, answer, f"{row}{f' #{number}' if number > 1 else ''}")) in self.values:
            number += 1
        self.values[key], self.machines[key] = dict(values), machines


def _flat(row: Row, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        elif not _NOT_OF_THE_FLEET.fullmatch(name) and value not in (None, ""):
            yield f"{before}{name}", value if not isinstance(value, list) else json.dumps(value)


class Twin:
    """A fleet of `places` over two months, in which one PC may be silent in the second. A context manager."""

    def __init__(
        self, folder: Path, places: Places, *, silent: str, days: int, listed: bool, odd: str
    ) -> None:
        """`silent`: the place whose first PC is silent in the last `days` of September. `odd`: the place with
        the only PC that has a meter, and a screen that is not on as long as the PC is."""
        self.data = Watched(folder, 1)
        self.places, self.odd, self.listed = places, odd, listed  # an inventory has one zone
        self.data.data.add_site("liège", "BE")
        self.hosts: dict[str, list[HostId]] = {}
        for name, (entity, site, population, device_class, number) in places.items():
            self.hosts[name] = [
                self.data.data.add_host(
                    population, device_class, entity=entity, site=site, enrolled_on=date(2026, 1, 1),
                    power_plan=(600, 1200 if one % 13 else 0),
                )
                for one in range(number)
            ]  # fmt: skip
        every = [host for hosts in self.hosts.values() for host in hosts]
        if listed:
            self.data.list_devices(
                [
                    Listed((host,), places[name][0], places[name][3].value, places[name][2])
                    for name, hosts in self.hosts.items()
                    for host in hosts
                ],
                DAY,
            )
        for host in every:
            is_silent = bool(silent) and host == self.hosts[silent][0]
            chance = random.Random(int(host))
            for first, number in ((AUG, 31), (SEP, 30 - (days if is_silent else 0))):
                self._push(host, days_from(first, number), chance)
        self.data.data.derive()

    def __enter__(self) -> Twin:
        return self

    def __exit__(self, *_: object) -> None:
        self.data.__exit__()

    def _push(self, host: HostId, days: Iterable[date], chance: random.Random) -> None:
        """Store whole days. Every third machine is metered; each has a screen on for half its time."""
        is_odd = bool(self.odd) and host == self.hosts[self.odd][0]
        is_metered = is_odd if self.odd else host % 3 == 0
        records = []
        for day in days:
            on, idle = (chance.randrange(2 * HOUR, 4 * HOUR) for _ in range(2))
            watts = chance.uniform(*METERED_WATTS)
            energy = round(on * watts) if is_metered else None
            active = cell(State.ON_ACTIVE, on, Band.OPEN, busy_ratio=0.2, energy_millijoules=energy)
            active.displays.add(size=1, milliseconds=on if self.odd and not is_odd else on // 2)
            asleep = cell(State.OFF, 24 * HOUR - on - idle, Band.NIGHT)
            records.append((civil(day), [active, cell(State.ON_IDLE, idle, Band.NIGHT), asleep]))
        self.data.data.push(host, records, METER)

    # --- reading

    def read(self) -> Read:
        """Publish, and read every outlet."""
        found, data = Read(), self.data
        data._set_day(DAY)
        data.publications.publish(DAY, 0)
        for months in data.fleets:
            found.unexplained += unexplained_rows(months)
            for part, month in months.items():
                self._contents(found, part, json.loads(month.content or "{}"))
        with Reading(data.data, clock=lambda: data.now[0], api_requests_per_minute=60_000) as reading:
            for who, entities in READERS.items():
                self._ask(found, reading, who, reading.account(who, Role.READER, *entities), *entities)
            reading.indicators.refresh()
            self._metrics(found, reading.get("/metrics").text)
            for page in PAGES:
                for query in ("?lang=en", "?lang=en&name=B+%3E+Archives", "?lang=en&by=entity"):
                    url = f"{page.path}{query}"
                    found.texts["page", url] = _texts(_lines(reading.get(url).text), _OF_ENERGY)
        self._files(found)
        return found

    def machines(self, row: Row, scope: str = "") -> int:
        """Return the PCs enrolled in a row; `scope`: entity of the reader. A merged row has its number."""
        if row.get("level") == AUTRES:
            return int(row.get("n", 0))
        named = {name: row[name] for name in GROUPS if row.get(name) not in (None, "", AUTRES)}
        found = 0
        for entity, site, population, device_class, count in self.places.values():
            own = {
                "population": (population.value,),
                "device_class": (device_class.value, "monitor"),
                "zone": ("FR" if self.listed else SITES[site],),
                "perimeter": (DEFAULT_PERIMETERS.of(_ON_SITE._replace(population=population)),),
            }
            is_inside = all(is_within(entity, (name,)) for name in (named.get("entity"), scope) if name)
            if is_inside and all(named.get(name, some[0]) in some for name, some in own.items()):
                found += count
        return found

    def _rows(self, found: Read, outlet: str, answer: str, rows: Iterable[Row], scope: str = "") -> None:
        for row in rows:
            flat = dict(_flat(row))
            of = " · ".join(str(flat[name]) for name in (*NAMES, *GROUPS) if name in flat)
            found.put(outlet, answer, of, flat, self.machines(flat, scope))

    def _answer(self, found: Read, outlet: str, name: str, answer: Row, scope: str = "") -> None:
        """Add the tables and texts of a JSON answer."""
        for table, rows in answer.items():
            if table == "assumptions":
                found.texts[outlet, name] = _texts(rows, _NUMBER)
            elif isinstance(rows, list) and all(isinstance(one, dict) for one in rows):
                self._rows(found, outlet, name, ({**row, "table": table} for row in rows), scope)
            else:
                self._rows(found, outlet, name, [{"table": table, "value of it": rows}], scope)

    def _contents(self, found: Read, part: Slice, content: Row) -> None:
        """Add what the publication of a month names and counts."""
        for table in ("cells", "uses", "whole"):
            for row in content.get(table, ()):
                of = f"{part.first} {table}: " + " · ".join(str(row.get(name)) for name in GROUPS)
                told = {"n": row["hosts"], "withheld": row["details_withheld"]}
                found.put("contents", table, of, told, 0)
        for name in ("hidden_cells", "hidden_uses", "withheld"):
            found.put("contents", name, str(part.first), {"names": content.get(name)}, 0)

    def _ask(self, found: Read, reading: Reading, who: str, token: str, scope: str = "") -> None:
        asked = [("emissions", group) for group in EMISSIONS]
        asked += [(kind, group) for kind in ("energy", "coverage") for group in EMISSIONS[:1]]
        asked += [("indicators", group) for group in INDICATORS]
        for kind, group in asked:
            for first, end in ((SEP, OCT), (AUG, OCT)):
                url = f"/api/v1/{kind}?from={first}&to={end}&group_by={group}"
                answer = reading.get(url, token)
                assert answer.status_code == 200, (url, answer.text)
                self._answer(found, "api", f"{who}: {kind} by {group} from {first}", answer.json(), scope)

    def _metrics(self, found: Read, text: str) -> None:
        """Add all series, and what OTLP sends of them."""
        fleet = sum(place[4] for place in self.places.values())
        left_out = OF_THE_HOST if fleet < K else OF_THE_COLLECTOR
        told = [("metrics", *one) for one in samples(text, "veilleuse_")]
        request = export_request(text_string_to_metric_families(text), {"service.name": "veilleuse"}, 0)
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in (*metric.gauge.data_points, *metric.sum.data_points):
                        labels = {one.key: one.value.string_value for one in point.attributes}
                        told.append(("otlp", metric.name, labels, repr(point.as_double or point.as_int)))
        for outlet, name, labels, digits in told:
            if name.startswith("veilleuse_") and not left_out.fullmatch(name):
                of = json.dumps(labels, sort_keys=True)
                found.put(outlet, name, of, {name: digits}, self.machines(labels))

    def _files(self, found: Read) -> None:
        """Add the files of `report … --public` in each format, the file for NumEcoEval and the REEN sheet."""
        directory = self.data.data.directory
        reporting = settings_in(directory.parent).reporting
        with opened(directory, reporting) as sources:
            for group in ("entity", "device_class", "entity,device_class", "population"):
                question = Query(SEP, OCT, tuple(group.split(",")), K, DAY)
                made = prepare_for_publication(emissions_report_of(sources, question)).document
                self._document(found, f"emissions by {group}", made)
            question = Query(date(2026, 1, 1), date(2027, 1, 1), DIMENSIONS, K, DAY)
            report = emissions_report_of(sources, question)
            if report.statement.rows:
                content = equipment_file(report.document).content.decode()
                for row in csv.DictReader(io.StringIO(content), delimiter=";"):
                    values = {"kwh_each": row.pop("consoElecAnnuelle"), **row}
                    number = sum(place[4] for place in self.places.values() if place[0] == row["nomEntite"])
                    found.put("numecoeval", "equipment", row["nomEquipementPhysique"], values, number)
        with opened_for_sobriety(directory, reporting) as sobriety:
            sheet = reen_document(sobriety, AUG, OCT, K, DAY, Targets())
            for table, rows in sheet.tables.items():
                self._rows(found, "reen", table, rows)

    def _document(self, found: Read, name: str, document: Document) -> None:
        """Add a report in each format. A workbook and a page have words for the names that JSON has."""
        contents = {form: renderer(form)(document) for form in ("json", "csv", "xlsx", "html")}
        read = json.loads(contents["json"])
        self._answer(found, "file, json", name, read)
        self._rows(
            found, "file, csv", name, csv.DictReader(io.StringIO(contents["csv"].decode(), newline=""))
        )
        named, counts = json_rows(read), [len(read[one]) for one in TABLES]
        self._rows(found, "file, xlsx", name, xlsx_rows(contents["xlsx"], named))
        self._rows(found, "file, html", name, page_rows(contents["html"], named, counts))
        told = {words("fr")(f"tables.{one}") for one in TABLES}
        sheets = (sheet.values for sheet in workbook(contents["xlsx"]) if sheet.title not in told)
        lines = (filter(None, line) for sheet in sheets for line in sheet)
        found.texts["file, xlsx", name] = _texts((" ".join(map(str, line)) for line in lines), _NUMBER)
        shown = Page(contents["html"]).sections.items()
        tables = (one for section, some in shown if section not in ("table-1", "table-2") for one in some)
        texts = (" ".join(line) for table in tables for line in table.texts)
        found.texts["file, html", name] = _texts(texts, _NUMBER)


_NUMBER: Final = re.compile(r"\d[\d.,\u202f\u00a0]*")
_OF_ENERGY: Final = re.compile(rf"^{_NUMBER.pattern}$|{_NUMBER.pattern}(?=\s?([kMm]?Wh|[mkt]?g?CO₂e|%))")
"""Number of an energy, an emission or a share; alone in its line: of an equivalent."""
_UNIT: Final = re.compile(r"# ?[kM]?(gCO₂e|Wh)")


def _texts(lines: Iterable[str], left_out: re.Pattern[str]) -> Counter[str]:
    """Return texts without these numbers."""
    texts = (_UNIT.sub(r"# \1", left_out.sub("#", line)) for line in lines)
    return Counter(text for text in texts if not _OF_THE_LARGEST.match(text))


def _lines(page: str) -> list[str]:
    """Return the texts of a page."""
    body = re.sub(r"<svg.*?</svg>|<style.*?</style>", "", page, flags=re.DOTALL)
    lines = re.split(r"</(?:tr|p|li|div|dd|dt|h\d)>", body)
    return [" ".join(html.unescape(re.sub(r"<[^>]+>", " ", line)).split()) for line in lines]


def _is_number(value: Any) -> bool:
    return bool(re.fullmatch(r"-?\d[\d.,\s]*(e[-+]?\d+)?", str(value)))


def is_census(key: Told, read: Read) -> bool:
    """Return whether a row has no energy of unmeasured times: of coverage by energy, of REEN by interval."""
    row = read.values.get(key._replace(answer=key.answer.replace(": coverage ", ": energy ")), {})
    return float(row.get("kwh_extrapolated", 0)) == 0 and "kwh_lo_sample" not in row


def may_differ(name: str, values: Iterable[Any], machines: int, *, is_turned: bool) -> bool:
    """Return whether a value of a row of so many PCs may tell whether one of them was silent.

    `is_turned`: the row is a census of one fleet alone."""
    are_numbers = all(map(_is_number, values))
    if machines < K:
        return are_numbers and bool(ENERGY.fullmatch(name))
    return (are_numbers and bool(SUMS.fullmatch(name))) or (is_turned and bool(INTERVAL.fullmatch(name)))


def differences(one: Read, other: Read) -> list[str]:
    """Return what differs between two reads and may not, as text."""
    found, turned = [*one.unexplained, *other.unexplained], set[tuple[str, ...]]()
    for key in sorted({**one.values, **other.values}):
        rows = one.values.get(key, {}), other.values.get(key, {})
        machines = min(read.machines.get(key, 0) for read in (one, other))
        is_turned = is_census(key, one) != is_census(key, other)
        if is_turned and machines >= K:
            turned.add(key[:2])
        for name in {**rows[0], **rows[1]}:
            before, after = (row.get(name) for row in rows)
            if before != after and not may_differ(name, (before, after), machines, is_turned=is_turned):
                found.append(f"{' | '.join(key)} | {name}: {before!r} → {after!r}")
    for place in sorted({**one.texts, **other.texts}):
        lines = one.texts.get(place, Counter()), other.texts.get(place, Counter())
        gone, new = lines[0] - lines[1], lines[1] - lines[0]
        follow = {text for text in gone | new if place in turned and NOTES.match(text)}
        found += [f"{' | '.join(place)}: {text}" for text in {**gone, **new} if text not in follow]
    return found


def told_of_few(read: Read) -> list[str]:
    """Return counts, coverages and machine-days of rows of fewer than k PCs, and each n above n_fleet."""
    counts = re.compile("n|coverage_.*|machine_days_.*")
    found = []
    for key, row in read.values.items():
        if 0 < read.machines[key] < K:
            found += [f"{key} {name} = {value!r}" for name, value in row.items() if counts.fullmatch(name)]
        if "n_fleet" in row and float(row.get("n", 0)) > float(row["n_fleet"]):
            found.append(f"{key} n = {row['n']!r} of {row['n_fleet']!r}")
    return found


def compared(
    folder: Path,
    places: Places,
    silent: Sequence[str],
    *,
    days: int = 30,
    listed: bool = False,
    odd: str = "",
) -> list[str]:
    """Return what its silence changes for one PC of each of these places, and what rows of few tell."""

    def read(name: str) -> Read:
        own = folder / (name or "none")
        own.mkdir(parents=True)
        with Twin(own, places, silent=name, days=days, listed=listed, odd=odd) as twin:
            return twin.read()

    heard = read("")
    found = told_of_few(heard)
    for name in silent:
        one = read(name)
        found += [f"{name} silent: {text}" for text in (*differences(heard, one), *told_of_few(one))]
    return found


def measure(folder: Path) -> str:
    """Return how many values a reader has that tell the silent month of the only PC of an entity."""
    found = compared(folder, PLACES, ["alone"])
    return f"{len(found):,} values tell of one person's PC"
