# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads two fleets at every outlet that are equal but for one PC's silent month, and compares them.

What differs may be sums over k machines or more alone: energy, time and what follows from them. Everything
that names, labels or counts machines is equal, and so is all that is told of fewer than k.
"""

from __future__ import annotations

import csv
import html
import io
import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from tests.promises.support.fleet_answers import K, unexplained_rows
from tests.promises.support.hours import HOUR, METERED_WATTS, days_from
from tests.promises.support.outlets import samples
from tests.promises.support.read_together import Watched
from tests.support.filled import METER, cell, civil
from tests.support.inventories import Listed
from tests.support.machines import settings_in
from tests.support.reading import Reading
from tests.support.sources import opened, opened_for_sobriety
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.documents.document import Document, renderer
from veilleuse.collector.exposition.otlp import export_request
from veilleuse.collector.model.accounts import Role
from veilleuse.collector.model.indicators import Targets
from veilleuse.collector.model.query import Query
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
Places = Mapping[str, tuple[str, str, Population, DeviceClass, int]]
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
OF_ENERGY: Final = re.compile(
    "(extrapolated|default|energy)_millijoules|kwh_.*|kgco2e_.*|gsd2|u_(sampling|model|factor)|split_residual.*|share_of_total|number"
)
"""Numbers that follow from the energy of a published cell."""
OF_SUMS: Final = re.compile(
    f"{OF_ENERGY.pattern}|value.*|(numerator|denominator).*|kwh|nights_on|open_kwh|machine_days_observed"
    "|coverage_.*|representativeness|basis|interval|known_.*|avoidable.*|not_known|.*_kwh|cpu_hours|own_cpu_hours|derived_milliseconds|shown\\.(kgco2e|kwh).*"
)
"""Numbers of k machines or more, and labels that follow from them."""
SUMS_OF_SERIES: Final = re.compile(
    "veilleuse_(fleet_.*(joules|grams)(_total)?|month_(energy_joules|emissions_grams|state_seconds|outside.*)|own_.*"
    "|.*_ratio|month_avoidable_energy_joules|night_.*)"
)
OF_THE_COLLECTOR: Final = (
    "veilleuse_store_",
    "veilleuse_web_",
    "veilleuse_exposition_",
    "veilleuse_process_",
)
"""Series of the collector itself: of a fleet of k PCs or more they change with each call (privacy.md §4)."""
OF_ENTITY: Final = ("entity", "population", "device_class", "zone")
_OF_THE_LARGEST: Final = ("Small groups of", "A #%")
"""Texts about the groups of k machines with the largest figures."""
_NOT_OF_THE_FLEET: Final = re.compile("generated_unix_milliseconds|report_id|created.*")


class Told(NamedTuple):
    """One value that an outlet gives."""

    outlet: str
    of: str
    """Answer and group."""
    name: str


@dataclass
class Read:
    """All that was read of one fleet."""

    values: dict[Told, Any] = field(default_factory=dict)
    few: set[tuple[str, str]] = field(default_factory=set)
    """(outlet, of) of rows of an entity with fewer than k PCs."""
    unexplained: list[str] = field(default_factory=list)

    def put(self, outlet: str, of: str, name: str, value: Any) -> None:
        """Add a value; several of one name are numbered."""
        number = 0
        while (key := Told(outlet, of, f"{name}{f' ({number})' if number else ''}")) in self.values:
            number += 1
        self.values[key] = value

    def rows(self, outlet: str, answer: str, rows: Iterable[Mapping[str, Any]], few: Any = None) -> None:
        """Add rows of an answer; `few`: returns whether a row is of fewer than k PCs."""
        seen = Counter[str]()
        for row in rows:
            flat = dict(_flat(row))
            words = [
                str(flat.get(name))
                for name in (
                    *(
                        "period_from",
                        "month",
                        "level",
                        "indicator",
                        "reason",
                        "part",
                        "perimeter",
                        *OF_ENTITY,
                    ),
                    *("power_context", "server", "item", "own_part", "measure", "objective", "table"),
                )
                if flat.get(name) not in (None, "")
            ]
            of = f"{answer}: {' · '.join(words)}"
            seen[of] += 1
            of += f" #{seen[of]}" if seen[of] > 1 else ""
            if few is not None and few(flat):
                self.few.add((outlet, of))
            for name, value in flat.items():
                self.put(outlet, of, name, value)


def _flat(row: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        elif not _NOT_OF_THE_FLEET.fullmatch(name):
            yield f"{before}{name}", value if not isinstance(value, list) else json.dumps(value)


class Twin:
    """A fleet of `places` over two months, in which one PC may be silent in the second. A context manager."""

    def __init__(
        self, folder: Path, places: Places, *, silent: str = "", days: int = 30, listed: bool = False
    ) -> None:
        """`silent`: name of the place whose first PC is silent in the last `days` of September."""
        self.data = Watched(folder, 1)
        self.places = places
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
        records = []
        for day in days:
            on, idle = (chance.randrange(2 * HOUR, 4 * HOUR) for _ in range(2))
            watts = chance.uniform(*METERED_WATTS)
            energy = round(on * watts) if host % 3 == 0 else None
            active = cell(State.ON_ACTIVE, on, Band.OPEN, busy_ratio=0.2, energy_millijoules=energy)
            active.displays.add(size=1, milliseconds=on // 2)
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
            self._otlp(found, reading)
            for page in PAGES:
                for query in ("?lang=en", "?lang=en&name=B+%3E+Archives", "?lang=en&by=entity"):
                    text = reading.get(f"{page.path}{query}").text
                    found.put("pages", f"{page.path}{query}", "text", _masked(text))
        self._files(found)
        return found

    def _of_few(self, row: Mapping[str, Any], scope: str = "") -> bool:
        """Return whether a row has fewer than k of the PCs enrolled in `scope`."""
        named = {name: row[name] for name in OF_ENTITY if row.get(name)}
        if row.get("level") in ("autres", "withheld"):
            return False
        number = sum(
            count
            for entity, site, population, device_class, count in self.places.values()
            if ("entity" not in named or f"{entity} > ".startswith(f"{named['entity']} > "))
            and f"{entity} > ".startswith(f"{scope} > " if scope else "")
            and named.get("population", population.value) == population.value
            and named.get("device_class", device_class.value) in (device_class.value, "monitor")
            and named.get("zone", SITES[site]) == SITES[site]
        )
        return 0 < number < K

    def _contents(self, found: Read, part: Slice, content: Mapping[str, Any]) -> None:
        """Add what the publication of a month names and counts."""
        for table in ("cells", "uses", "whole"):
            for row in content.get(table, ()):
                of = f"{part.first} {table}: " + " · ".join(str(row[name]) for name in OF_ENTITY)
                found.put("contents", of, "n", row["hosts"])
                found.put("contents", of, "withheld", row["details_withheld"])
        for name in ("hidden_cells", "hidden_uses", "withheld"):
            found.put("contents", f"{part.first} {name}", "names", content.get(name))

    def _ask(self, found: Read, reading: Reading, who: str, token: str, scope: str = "") -> None:
        asked = [("emissions", group) for group in EMISSIONS]
        asked += [(kind, group) for kind in ("energy", "coverage") for group in EMISSIONS[:1]]
        asked += [("indicators", group) for group in INDICATORS]
        for kind, group in asked:
            for first, end in ((SEP, OCT), (AUG, OCT)):
                url = f"/api/v1/{kind}?from={first}&to={end}&group_by={group}"
                answer = reading.get(url, token)
                assert answer.status_code == 200, (url, answer.text)
                for table, rows in answer.json().items():
                    name = f"{who}: {kind} by {group} from {first}, {table}"
                    if isinstance(rows, list) and all(isinstance(one, dict) for one in rows):
                        is_of_fleet = kind != "indicators" and table in ("rows", "totals")
                        found.rows(
                            "api", name, rows, partial(self._of_few, scope=scope) if is_of_fleet else None
                        )
                    else:
                        found.rows("api", name, [rows if isinstance(rows, dict) else {"value": rows}])

    @staticmethod
    def _metrics(found: Read, text: str) -> None:
        for metric, labels, digits in samples(text, "veilleuse_"):
            found.put("metrics", metric, json.dumps(labels, sort_keys=True), digits)

    @staticmethod
    def _otlp(found: Read, reading: Reading) -> None:
        """Add the names and labels of OTLP's points; its numbers are those of /metrics."""
        families = text_string_to_metric_families(reading.get("/metrics").text)
        request = export_request(families, {"service.name": "veilleuse"}, 0)
        for resource in request.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    points = [*metric.gauge.data_points, *metric.sum.data_points]
                    for point in points:
                        labels = {one.key: one.value.string_value for one in point.attributes}
                        found.put("otlp", metric.name, json.dumps(labels, sort_keys=True), "")

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
                    energy = row.pop("consoElecAnnuelle")
                    of = row["nomEquipementPhysique"]
                    few = any(row["nomEntite"] == place[0] and place[4] < K for place in self.places.values())
                    if few:
                        found.few.add(("numecoeval", of))
                    for name, value in {**row, "kwh_each": energy}.items():
                        found.put("numecoeval", of, name, value)
        with opened_for_sobriety(directory, reporting) as sobriety:
            sheet = reen_document(sobriety, AUG, OCT, K, DAY, Targets())
            for table, rows in sheet.tables.items():
                found.rows("reen", table, rows)

    def _document(self, found: Read, name: str, document: Document) -> None:
        for form in ("json", "csv"):
            content = renderer(form)(document)
            outlet = f"file, {form}"
            if form == "json":
                read = json.loads(content)
                for table, rows in read.items():
                    if isinstance(rows, list) and all(isinstance(one, dict) for one in rows):
                        found.rows(
                            outlet, f"{name}, {table}", rows, self._of_few if table == "rows" else None
                        )
                    else:
                        found.rows(
                            outlet, f"{name}, {table}", [rows if isinstance(rows, dict) else {"": rows}]
                        )
            elif form == "csv":
                rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
                found.rows(outlet, name, ({k: v for k, v in row.items() if v} for row in rows), self._of_few)


def _masked(page: str) -> list[str]:
    """Return the texts of a page, numbers left out, in any order: rows are sorted by their numbers."""
    body = re.sub(r"<svg.*?</svg>|<style.*?</style>", "", page, flags=re.DOTALL)
    lines = re.split(r"</(?:tr|p|li|div|dd|dt|h\d)>", body)
    texts = (" ".join(html.unescape(re.sub(r"<[^>]+>", " ", line)).split()) for line in lines)
    numbers = re.compile(r"\d[\d.,\u202f\u00a0]*")
    units = re.compile(r"# ?[kM]?(gCO₂e|Wh)")
    texts = (units.sub(r"# \1", numbers.sub("#", text)) for text in texts)
    return sorted(text for text in texts if not text.startswith(_OF_THE_LARGEST))


def differences(one: Read, other: Read) -> list[str]:
    """Return what differs between two reads and is no sum over k machines or more, as text."""
    found = [*one.unexplained, *other.unexplained]
    for key in sorted({**one.values, **other.values}):
        before, after = one.values.get(key), other.values.get(key)
        if before == after:
            continue
        if key.outlet == "pages":
            lines = Counter(before or ()), Counter(after or ())
            gone, new = (list((one - two).keys()) for one, two in (lines, lines[::-1]))
            found += [f"{key.of}: {gone} → {new}"] if gone or new else []
            continue
        if key.outlet == "metrics" and key.of.startswith(OF_THE_COLLECTOR):
            continue
        if key.outlet == "metrics":
            is_sum = bool(SUMS_OF_SERIES.fullmatch(key.of)) and None not in (before, after)
        elif (key.outlet, key.of) in one.few | other.few:
            is_sum = bool(OF_ENERGY.fullmatch(key.name)) and None not in (before, after)
        elif key.name == "" and "assumptions" in key.of:
            is_sum = True  # texts about intervals of sums
        else:
            is_sum = bool(OF_SUMS.fullmatch(key.name))
        if not is_sum:
            found.append(f"{key.outlet} | {key.of} | {key.name}: {before!r} → {after!r}")
    return found


def told_of_few(read: Read) -> list[str]:
    """Return counts, coverages and machine-days of rows of fewer than k PCs, and each n above n_fleet."""
    counts = re.compile("n|coverage_.*|machine_days_.*")
    found = [
        f"{key} = {value!r}"
        for key, value in read.values.items()
        if (key.outlet, key.of) in read.few and counts.fullmatch(key.name) and value not in (None, "")
    ]
    for key, value in read.values.items():
        fleet = read.values.get(key._replace(name="n_fleet"))
        if key.name == "n" and fleet not in (None, "") and float(value or 0) > float(fleet):
            found.append(f"{key} = {value!r} of {fleet!r}")
    return found


def compared(
    folder: Path, places: Places, silent: Iterable[str], *, days: int = 30, listed: bool = False
) -> list[str]:
    """Return what its silence changes for one PC of each of these places, and what rows of few tell."""

    def read(name: str) -> Read:
        own = folder / (name or "none")
        own.mkdir(parents=True)
        with Twin(own, places, silent=name, days=days, listed=listed) as twin:
            return twin.read()

    heard, found = read(""), list[str]()
    found += told_of_few(heard)
    for name in silent:
        one = read(name)
        found += [f"{name} silent: {text}" for text in (*differences(heard, one), *told_of_few(one))]
    return found


def measure(folder: Path) -> str:
    """Return how many values a reader has that tell the silent month of the only PC of an entity."""
    found = compared(folder, PLACES, ["alone"])
    return f"{len(found):,} values tell of one person's PC"
