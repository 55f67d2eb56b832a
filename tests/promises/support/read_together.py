# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Collects all numbers that each role gets of PCs over simulated months, and each machine's true amounts.
The real store and the real derivation fill the data directory. The real application is asked on several
dates, each time by a newly started service. Between two dates a test may deliver late records, and move,
retire and forget machines.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from prometheus_client.parser import text_string_to_metric_families

from tests.promises.support.hours import HOUR, METERED_WATTS, MINUTE, Hours, days_from, hourly
from tests.promises.support.publications import Publications
from tests.support.filled import METER, Filled, cell, civil, week
from tests.support.inventories import Listed, put_inventory
from tests.support.reading import DOOR_TOKEN, Reading
from veilleuse.collector.calendars.periods import Slice, enrolled_milliseconds
from veilleuse.collector.disclosure.rule import EXEMPT
from veilleuse.collector.enrolment.tokens import new_token as enrolment_token
from veilleuse.collector.model.accounts import Role
from veilleuse.collector.model.hosts import Host, HostStatus
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.store import open_reader
from veilleuse.collector.wire_codec import BANDS, STATES, number
from veilleuse.wire.ladder import MEASURED
from veilleuse.wire.limits import BUCKETS
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

GROUPINGS: Final = ("population", "entity", "device_class", "entity,device_class")
OF_FLEET: Final = ("emissions", "energy", "coverage")
KINDS: Final = (*OF_FLEET, "indicators")
OBSERVED: Final = ("entity,device_class&basis=observed", "device_class&basis=observed")
ROLL_UPS: Final = ("entity&level=1", "perimeter")
FLEET_GROUPINGS: Final = (*ROLL_UPS, "perimeter,power_context", *OBSERVED)
"""Further groupings of questions about the fleet."""
PRODUCTS: Final = ("items", "equivalents", "home_shares", "contracts")
DERIVED: Final = ("factors", "withheld", "group_by", "assumptions", *PRODUCTS)
"""Lists of an answer without numbers of their own: products of its rows and of constants."""
FLEET: Final = ("/metrics", "/")
MONTH_LAG_DAYS: Final = 3
"""Whole days between a month's end and its publication."""


class What(NamedTuple):
    """One quantity of a machine."""

    unit: str
    """"ms" or "mJ"."""
    band: Band
    state: State
    kind: str = ""
    """Of an energy: "measured", "modelled" or "screen"."""


class Key(NamedTuple):
    """One quantity of one machine in one day or week."""

    host: int
    grain: Grain
    start: int
    what: What


class Place(NamedTuple):
    """The place in which a machine is counted."""

    population: str
    zone: str
    entity: str
    device_class: str


@dataclass(frozen=True)
class Version:
    """The true amounts at one moment."""

    moment: datetime
    amounts: Mapping[Key, int]
    places: Mapping[int, Place]
    enrolled: Mapping[tuple[int, Slice], int]
    """(machine, month) → enrolled milliseconds."""
    counted: Mapping[int, date]
    """Machine that a month counts by what an administrator did → first day of its enrolment."""


@dataclass(frozen=True)
class Row:
    """Numbers of one row of an answer."""

    version: int
    """Number of the version at the time of the question."""
    outlet: str
    answer: str
    """Who asked, and the question."""
    roles: frozenset[str]
    table: str
    labels: Mapping[str, str]
    numbers: Mapping[str, float]


class Watched:
    """A collector over simulated months. A context manager."""

    def __init__(self, folder: Path, seed: int, entities: Sequence[str] = ()) -> None:
        """`entities`: each has a reader of its own."""
        self.now = [datetime(2026, 1, 1, tzinfo=UTC).timestamp()]
        self.data = Filled(folder / "data", clock=lambda: self.now[0])
        self.data.add_site("nancy", "FR")
        self.data.add_site("köln", "DE")
        self.chance = random.Random(seed)
        self.rows: list[Row] = []
        self.versions: list[Version] = []
        self.months: list[Slice] = []
        self.entities = entities
        self.publications = Publications(self.data, lambda: self.now[0])
        self.fleets = self.publications.fleets
        self._classroom: set[HostId] = set()
        """Machines that send records of an hour."""
        self._accounts = itertools.count(1)
        self._is_listed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.data.__exit__()

    # --- events

    def machines(
        self,
        number: int,
        entity: str = "A",
        device_class: DeviceClass = DeviceClass.LAPTOP,
        *,
        site: str = "lyon",
        population: Population = Population.WORKSTATION,
        enrolled_on: date = date(2026, 1, 1),
    ) -> list[HostId]:
        """Add so many machines, and return their ids."""
        where: dict[str, Any] = {"entity": entity, "site": site, "enrolled_on": enrolled_on}
        made = [self.data.add_host(population, device_class, **where) for _ in range(number)]
        self._classroom.update(made if population is Population.CLASSROOM else ())
        return made

    def month(
        self,
        first: date,
        done: Iterable[tuple[HostId, Hours]],
        *,
        unmetered: Collection[HostId] = (),
        screens: Collection[HostId] = (),
        lit: Mapping[HostId, Sequence[int]] = {},
        steps: Mapping[HostId, int] = {},
    ) -> None:
        """Store the records that machines send of a month: the night of its tenth, and the first whole week.

        Amounts are random, so that a sum identifies its machines. `lit`: sizes of the screens that are on as
        long as their machine. `steps`: step of the scale in which all load is; without one none is reported.
        """
        monday = first + timedelta(days=-first.weekday() % 7)
        for host, hours in done:
            told = host not in unmetered, host in screens, lit.get(host, ()), steps.get(host)
            night = [*self._cells(hours.night, Band.NIGHT, *told, window=hours.window)]
            opening = [*self._cells(hours.opening, Band.OPEN, *told, beyond=hours.beyond)]
            tenth = first.replace(day=10)
            if host in self._classroom:
                records = [*hourly(night, [tenth], 17), *hourly(opening, days_from(monday, 5), 8)]
            else:
                records = [(civil(tenth), night), (week(monday), opening)]
            self.data.push(host, [one for one in records if one[1]], METER)
        self.data.derive()

    def day(self, day: date, done: Iterable[tuple[HostId, Mapping[State, float]]]) -> None:
        """Store one more night."""
        for host, hours in done:
            cells = [*self._cells(hours, Band.NIGHT)]
            records = [*hourly(cells, [day], 17)] if host in self._classroom else [(civil(day), cells)]
            self.data.push(host, records, METER)
        self.data.derive()

    def whole_days(self, first: date, done: Mapping[HostId, int]) -> None:
        """Store so many hours off on each of 30 days."""
        for host, hours in done.items():
            days = days_from(first, 30)
            self.data.push(host, [(civil(day), [cell(State.OFF, hours * HOUR, Band.NIGHT)]) for day in days])
        self.data.derive()

    def nights(self, first: date, hosts: Iterable[HostId], number: int = 24) -> None:
        """Store so many days of each machine, idle for some hours: enough to be a sample of the month."""
        for host in hosts:
            records = []
            for day in days_from(first, number):
                on = self.chance.randrange(2 * HOUR, 8 * HOUR)
                watts = self.chance.uniform(*METERED_WATTS)
                idle = cell(State.ON_IDLE, on, Band.NIGHT, energy_millijoules=round(on * watts))
                off = 24 * HOUR - on - self.chance.randrange(HOUR)
                records.append((civil(day), [idle, cell(State.OFF, off, Band.NIGHT)]))
            self.data.push(host, records, METER)
        self.data.derive()

    def list_devices(self, listed: Sequence[Listed], day: date) -> None:
        """Import an inventory on a day."""
        self._is_listed = True
        put_inventory(self.data, listed, day)

    def move(self, host: HostId, entity: str) -> None:
        """Move a machine to another entity."""
        with self.data.store.transaction():
            self.data.store.data.connection.execute(
                "UPDATE hosts SET org_entity = ? WHERE host_id = ?", (entity, host)
            )

    def plan(self, hosts: Iterable[HostId], complies: bool) -> None:
        """Record a power plan that complies, or one that never sleeps."""
        for host in hosts:
            known = self.data.store.registry.host(host)
            assert known is not None
            self._say(host, known.facts.device_class, 600, 1200 if complies else 0)

    def retire(self, host: HostId) -> None:
        """Refuse a machine's certificate from now on."""
        with self.data.store.transaction():
            self.data.store.registry.set_status(host, HostStatus.REVOKED)

    def forget(self, host: HostId) -> None:
        """Forget a machine, as `veilleuse hosts forget` does."""
        gone = self.data.store.registry.host(host)
        assert gone is not None
        while self.data.store.forgetting.forget_slice(host):
            pass
        while not self.data.store.forgetting.forget_host(gone, host.to_bytes(32)):
            pass

    def _cells(
        self,
        hours: Mapping[State, float],
        band: Band,
        measured: bool = True,
        screens: bool = False,
        lit: Sequence[int] = (),
        step: int | None = None,
        *,
        beyond: float = 0,
        window: float = 0,
    ) -> Iterator[Any]:
        for state, long in hours.items():
            milliseconds = round(long * HOUR * self.chance.uniform(0.8, 1)) + self.chance.randrange(MINUTE)
            on = state in (State.ON_ACTIVE, State.ON_IDLE)
            energy = round(milliseconds * self.chance.uniform(*METERED_WATTS)) if on and measured else None
            one = cell(state, milliseconds, band, energy_millijoules=energy, busy_ratio=0.2 if on else None)
            if screens and on:
                one.displays.add(size=1, milliseconds=milliseconds - self.chance.randrange(HOUR))
            for size, together in Counter(lit if on else ()).items():
                one.displays.add(size=size, milliseconds=together * milliseconds)
            if on and step is not None:
                length = BUCKETS["cpu_bucket_milliseconds"]
                one.cpu_bucket_milliseconds.extend(milliseconds * (at == step) for at in range(length))
            if state is State.ON_IDLE and beyond:
                one.idle_beyond_15_minutes_milliseconds = one.idle_beyond_30_minutes_milliseconds = min(
                    milliseconds, round(beyond * HOUR * self.chance.uniform(0.8, 1))
                )
            if state is State.ON_IDLE and window:
                one.update_window_milliseconds = min(milliseconds, round(window * HOUR))
                for told in one.energies:
                    inside = told.energy_millijoules * one.update_window_milliseconds // milliseconds
                    one.update_window_energies.add(point_index=0, energy_millijoules=inside)
            yield one

    # --- looks

    def look(self, day: date, months: Sequence[date] = ()) -> None:
        """Ask all questions in all roles at noon of `day`: /metrics, and the API over each of these
        months and over all of them together."""
        self._set_day(day)
        parts = self._add_months(months)
        self.versions.append(self._truth())
        self.publications.publish(day, len(self.versions) - 1)
        wide: dict[str, Any] = {"api_requests_per_minute": 60_000}
        with Reading(self.data, door_token=DOOR_TOKEN, clock=lambda: self.now[0], **wide) as reading:
            periods = [*parts, Slice(parts[0].first, parts[-1].end)] if len(parts) > 1 else parts
            for who, role, inside in self._readers() if parts else ():
                token = reading.account(f"{who} {next(self._accounts)}", role, *inside)
                # An administrator's numbers over several months are no sums of months: asked month by month.
                asked = (periods, KINDS) if role is Role.READER else (parts, ("indicators",))
                self._ask_api(reading, who, token, itertools.product(*asked, GROUPINGS))
                if role is Role.READER:
                    for kinds, groupings in ((OF_FLEET, FLEET_GROUPINGS), (KINDS[-1:], ROLL_UPS)):
                        more = itertools.product(periods, kinds, groupings)
                        self._ask_api(reading, who, token, more)
            self._strangers(reading)
            reading.indicators.refresh()
            self._scrape(reading)

    def _set_day(self, day: date) -> None:
        self.now[0] = datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp()

    def _add_months(self, months: Iterable[date]) -> list[Slice]:
        parts = [Slice(first, (first + timedelta(days=31)).replace(day=1)) for first in months]
        self.months = sorted({*self.months, *parts}, key=lambda part: part.first)
        return parts

    def release(self, day: date, months: Iterable[date]) -> None:
        """Publish these months alone, as a collector that stops before it publishes what goes with them."""
        self._set_day(day)
        self._add_months(months)
        self.versions.append(self._truth())
        self.publications.publish(day, len(self.versions) - 1, alone=True)

    def say_again(self, host: HostId, device_class: DeviceClass) -> None:
        """Record facts that change how a machine's energy is derived."""
        self._say(host, device_class)
        self.data.derive()

    def _say(self, host: HostId, device_class: DeviceClass, *plan: int) -> None:
        form: Any = number(device_class)
        facts = pb.Facts(device_class=form, cpu_count=8 if plan else 4)
        if plan:
            facts.display_off_ac_seconds, facts.sleep_ac_seconds = plan
        with self.data.store.transaction():
            self.data.store.registry.record_hello(
                host,
                facts_wire=facts.SerializeToString(),
                health_wire=None,
                now_unix_milliseconds=round(self.now[0] * 1000),
            )

    def take_back(self, first: date) -> None:
        """Take back a month's publications, as `veilleuse published take-back` does."""
        end = (first + timedelta(days=31)).replace(day=1)
        assert self.data.store.publications.take_back(first, end)

    def _readers(self) -> Iterator[tuple[str, Role, tuple[str, ...]]]:
        yield "reader", Role.READER, ()
        if not self._is_listed:  # an administrator's indicators are at the places of enrolment
            yield "admin", Role.ADMIN, ()
        for entity in self.entities:
            yield f"reader of {entity}", Role.READER, (entity,)

    @staticmethod
    def _strangers(reading: Reading) -> None:
        """Check that nobody without a token, and no agent with its enrolment token, gets an answer."""
        for token in (None, enrolment_token()):
            for url in (*FLEET, *(f"/api/v1/{kind}?from=2026-09-01&to=2026-10-01" for kind in KINDS)):
                assert reading.get(url, token).status_code == 401

    def _ask_api(
        self, reading: Reading, who: str, token: str, questions: Iterable[tuple[Slice, str, str]]
    ) -> None:
        for part, kind, grouping in questions:
            url = f"/api/v1/{kind}?from={part.first}&to={part.end}&group_by={grouping}"
            answer = reading.get(url, token)
            assert answer.status_code == 200, (url, answer.text)
            for table, rows in answer.json().items():
                if isinstance(rows, list) and table not in DERIVED:
                    self.rows += [
                        self.row(f"{who}: {kind} by {grouping} {part.first}/{part.end}", who, table, one)
                        for one in rows
                        if isinstance(one, dict) and one.get("population") != Population.SERVER.value
                    ]

    def row(self, answer: str, who: str, table: str, one: Mapping[str, Any]) -> Row:
        """Return a row of an answer, its numbers apart from its labels."""
        flat: dict[str, Any] = {}
        for name, value in one.items():
            inner = value.items() if isinstance(value, dict) else [("", value)]
            flat |= {f"{name}.{word}" if word else name: inside for word, inside in inner}
        numbers = {
            name: value
            for name, value in flat.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        labels = {name: str(value) for name, value in flat.items() if name not in numbers}
        return Row(len(self.versions) - 1, "api", answer, frozenset({who}), table, labels, numbers)

    def _scrape(self, reading: Reading) -> None:
        text = reading.get("/metrics", DOOR_TOKEN).text
        places: defaultdict[tuple[tuple[str, str], ...], dict[str, float]] = defaultdict(dict)
        of_place = {"entity", "site", "population", "device_class", "zone"}
        exempt = {population.value for population in EXEMPT}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.labels.get("population", "server") in exempt:
                    continue
                place = tuple(sorted((n, v) for n, v in sample.labels.items() if n in of_place))
                rest = ",".join(f"{n}={v}" for n, v in sorted(sample.labels.items()) if n not in of_place)
                places[place][f"{sample.name}{{{rest}}}"] = sample.value
        roles = frozenset({"door", "reader"})
        self.rows += [
            Row(len(self.versions) - 1, "metrics", "scrape", roles, "samples", dict(place), numbers)
            for place, numbers in places.items()
        ]

    def _truth(self) -> Version:
        amounts: Counter[Key] = Counter()
        with closing(self.data.reader()) as reader:
            sites = {site.site: site for site in reader.sites()}
            hosts = {host.host_id: host for host in reader.hosts() if host.population not in EXEMPT}
            for grain in (Grain.DAY, Grain.WEEK):
                span = (grain, date(2026, 1, 1).toordinal(), date(2027, 1, 1).toordinal())
                for sums in reader.sums(*span):
                    what = What("ms", sums.cell.band, sums.cell.state)
                    amounts[Key(sums.host_id, grain, sums.start, what)] += sums.cell.milliseconds
                for row in reader.derived(*span):
                    kind = "measured" if row.cell.method in MEASURED else "modelled"
                    what = What("mJ", row.cell.band, row.cell.state, kind)
                    amounts[Key(row.host_id, grain, row.start, what)] += row.cell.energy_millijoules
                for host_id, start, band, state, energy in self.data.store.data.connection.execute(
                    "SELECT host_id, start, band, state, energy_millijoules FROM derived_screens WHERE grain = ?",
                    (grain,),
                ):
                    what = What("mJ", BANDS[band], STATES[state], "screen")
                    amounts[Key(HostId(host_id), grain, start, what)] += energy
        now = round(self.now[0] * 1000)
        with open_reader(self.data.directory) as store:
            devices = store.inventory.assets()
        last = max((part.end for part in self.months), default=date.max) - timedelta(days=1)
        same = {host: one.host_ids[-1] for one in devices for host in one.host_ids}
        listed = {one.host_ids[-1]: one.placement_on(last).entity for one in devices if one.host_ids}
        together: Counter[Key] = Counter()
        for key, value in amounts.items():
            if value and key.host in hosts:
                together[key._replace(host=same.get(HostId(key.host), key.host))] += value
        return Version(
            datetime.fromtimestamp(self.now[0], UTC),
            together,
            {one: _place(host, sites[host.site].zone, listed) for one, host in hosts.items()},
            {
                (last, part): max(
                    enrolled_milliseconds(host, sites[host.site], part, now)
                    for host_id, host in hosts.items()
                    if same.get(host_id, host_id) == last
                )
                for last in {same.get(host_id, host_id) for host_id in hosts}
                for part in self.months
            },
            self._counted(hosts.values(), same),
        )

    @staticmethod
    def _counted(hosts: Iterable[Host], same: Mapping[HostId, HostId]) -> dict[int, date]:
        """Return the machines that a month counts: docs/methodology.md, *Released months*."""
        found: dict[int, date] = {}
        for host in hosts:
            has_left = host.status in (HostStatus.REVOKED, HostStatus.FORGOTTEN)
            if host.host_id in same if has_left else host.status is not HostStatus.PENDING:
                last = same.get(host.host_id, host.host_id)
                found[last] = min(host.enrolled_on, found.get(last, date.max))
        return found


def _place(host: Host, zone: str, listed: Mapping[HostId, str]) -> Place:
    """Return where a machine counts: at the inventory's entity, else at that of its enrolment."""
    entity = listed.get(host.host_id, host.org_entity)
    return Place(host.population.value, zone, entity, host.facts.device_class.value)
