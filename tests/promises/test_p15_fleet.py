# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""P15: figures of the fleet's released months reveal no more of machines than the published cells.

Each number of a figure is computed again from the stored publications and the fleet's counts alone
(released_oracle.py), and its known part is read together with all other numbers (test_p15_attacker.py).
Estimates that use more of the machines are found.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from datetime import date
from pathlib import Path
from typing import Final

import pytest

from tests.promises.support.read_together import NIGHT, Row, Watched
from tests.promises.test_p15_attacker import (
    IN_OCTOBER,
    SEP,
    K,
    drawn,
    entities,
    explained,
    leaks,
    screens,
    solved,
    watts,
    zones,
)
from tests.support.released import LATER
from tests.support.released_oracle import Counts, unexplained
from tests.support.year import weekday
from veilleuse.collector.account.observations import tally_periods
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.fleet.census import Census, DayTypes
from veilleuse.collector.fleet.estimator import class_microwatts
from veilleuse.collector.fleet.observations import MONITOR, group_by_machine, machine
from veilleuse.collector.fleet.samples import DAY_TYPES, Stratum
from veilleuse.collector.model.months import DayType
from veilleuse.collector.model.publications import PublicationKind
from veilleuse.collector.model.query import Query
from veilleuse.collector.months.reader import Periods
from veilleuse.collector.release import tables
from veilleuse.collector.release.counts import count_fleet
from veilleuse.collector.release.fleet import ReleaseAssumptions
from veilleuse.collector.release.format import FORM
from veilleuse.collector.release.months import ReleasedMonth, estimate_months
from veilleuse.collector.release.rows import FleetRow, Source
from veilleuse.collector.release.tables import PARTITION, make_month
from veilleuse.collector.store import open_reader
from veilleuse.wire.bands import DEFAULT_CALENDAR
from veilleuse.wire.vocabulary import DeviceClass, State

ASSUMPTIONS: Final = ReleaseAssumptions(class_microwatts(), K)


@dataclass(frozen=True)
class Told:
    """What the fleet's figures may use."""

    parts: tuple[Slice, ...]
    contents: tuple[str, ...]
    months: tuple[ReleasedMonth, ...]

    @property
    def counts(self) -> list[Counts]:
        """The fleet of each month, as the oracle reads it."""
        return [
            {(key.zone, str(key.population), str(key.entity), str(key.device_class)): one
             for key, one in month.fleet.items()}
            for month in self.months
        ]  # fmt: skip

    def unexplained(self, rows: Sequence[Sequence[FleetRow]]) -> list[str]:
        """Return the numbers of rows that nothing public gives."""
        return unexplained(rows, self.contents, self.counts, ASSUMPTIONS.class_microwatts, K)


def told(data: Watched) -> Told:
    """Return the months that were published, with the fleet of each."""
    parts, contents, months = [], [], []
    with open_reader(data.data.directory) as store:
        sites = store.data.sites()
        for part in data.months:
            found = store.publications.find(PublicationKind.RELEASE, part.first, part.end)
            if found is not None:
                month = FORM.decode(json.loads(found.content), part.first, part.end)
                zone = DEFAULT_CALENDAR.time_zone
                days = DayTypes(part.first, part.end, {}, weekday, default_time_zone=zone)
                census = Census(days, sites, default_zone="FR", today=date.max)
                fleet = count_fleet(census.devices((), store.data.hosts()))
                parts.append(part)
                contents.append(found.content)
                months.append(ReleasedMonth(month.cells, month.hidden_cells, fleet))
    return Told(tuple(parts), tuple(contents), tuple(months))


def known(data: Watched, public: Told, rows: Sequence[Sequence[FleetRow]]) -> Iterator[Row]:
    """Yield the known parts of rows with a cell of their own, as an answer to a reader."""
    for part, of_month in zip(public.parts, rows, strict=True):
        for row in of_month:
            if row.source is Source.OWN and row.known_millijoules:
                labels = {
                    "period_from": part.first.isoformat(),
                    "period_to": part.end.isoformat(),
                    "zone": row.key.zone,
                    "population": str(row.key.population),
                    "entity": str(row.key.entity),
                    "device_class": str(row.key.device_class),
                }
                numbers = {"known_millijoules": row.energy_millijoules - row.extrapolated_millijoules}
                if row.key.device_class != MONITOR:  # the time of screens is that of their PCs
                    numbers["known_milliseconds"] = row.known_milliseconds
                yield Row(
                    len(data.versions) - 1,
                    "api",
                    "reader: fleet",
                    frozenset({"reader"}),
                    "rows",
                    labels,
                    numbers,
                )


def over_a_month(data: Watched) -> None:
    """Draw a fleet of one month."""
    drawn(data, ("A", "A > 1", "B"), (SEP,))


@pytest.mark.promise("P15")
@pytest.mark.parametrize(
    "story", [entities, screens, watts, zones, over_a_month], ids=lambda one: one.__name__
)
def test_figures_of_the_fleet_are_sums_of_what_is_published(
    story: Callable[[Watched], object], tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """Every number follows from publications and counts; with all others it isolates k machines or none."""
    with Watched(tmp_path, 1) as data:
        story(data)
        public = told(data)
        rows = estimate_months(public.months, ASSUMPTIONS)
        found = solved(data)
        found.add(known(data, public, rows))
    numbers = sum(map(len, rows))
    assert numbers
    assert public.unexplained(rows) == []
    explained(found)
    assert leaks(found) == {}
    figure(f"{numbers} figures of the fleet, all of published cells and the inventory")


# --- estimates that use more of the machines


def one_sunday(data: Watched) -> None:
    """One machine of fourteen has a Sunday."""
    hosts = data.machines(14)
    data.month(SEP, [(host, NIGHT) for host in hosts])
    data.day(date(2026, 9, 20), [(hosts[0], {State.ON_IDLE: 5})])
    data.look(IN_OCTOBER, [SEP])


def one_silent(data: Watched) -> None:
    """One machine of twelve is silent for 120 hours."""
    hosts, others = data.machines(12), data.machines(12, "B")
    data.whole_days(SEP, {host: 20 if host == hosts[0] else 24 for host in hosts + others})
    data.look(IN_OCTOBER, [SEP])


def hidden(data: Watched) -> None:
    """Fourteen laptops of A are published, three of B are in `autres` with towers."""
    hosts = [
        *data.machines(14),
        *data.machines(3, "B"),
        *data.machines(8, "B", DeviceClass.TOWER),
    ]
    data.month(SEP, [(host, NIGHT) for host in hosts])
    data.look(IN_OCTOBER, [SEP])


def by_day_type(data: Watched, public: Told, rows: Sequence[FleetRow]) -> list[FleetRow]:
    """Extrapolate open and closed days separately, as the estimate of an open period does."""
    (part,), (month,) = public.parts, public.months
    sums: defaultdict[DayType, list[int]] = defaultdict(lambda: [0, 0])
    with closing(data.data.reader()) as reader:
        for one in Periods(reader).host_periods(part.first, part.end):
            (seen,) = group_by_machine([one])
            made = machine(seen, one.values, Stratum("laptop", ""))
            sums[one.day_type][0] += sum(made.accounted_milliseconds)
            sums[one.day_type][1] += sum(made.energy_millijoules)
    (count_of,) = month.fleet.values()
    more = 0
    for kind, in_service in zip(DAY_TYPES, count_of.milliseconds, strict=True):
        time, energy = sums[kind]
        more += (in_service - time) * energy // time if time else 0
    return [replace(row, extrapolated_millijoules=more) for row in rows]


def with_true_times(data: Watched, public: Told, rows: Sequence[FleetRow]) -> list[FleetRow]:
    """Use known time as it was measured, not as it is published."""
    with pytest.MonkeyPatch.context() as patch, closing(data.data.reader()) as reader:
        patch.setattr(tables, "round_to_machine_days", lambda tally, _: tally)
        (part,), (month,) = public.parts, public.months
        exact = make_month(reader, part, K, round(data.now[0] * 1000))
        return list(estimate_months([replace(month, cells=exact.cells)], ASSUMPTIONS)[0])


def with_hidden_machines(data: Watched, public: Told, rows: Sequence[FleetRow]) -> list[FleetRow]:
    """Take laptops of `autres` into the mean of their class."""
    (part,), (month,) = public.parts, public.months
    with closing(data.data.reader()) as reader:
        query = Query(part.first, part.end, PARTITION, K, now_unix_milliseconds=LATER)
        groups = tally_periods(reader, Periods(reader), query, screens=True)
    mine = [one for one in groups.items() if one[0].entity == "B" and one[0].device_class == "laptop"]
    ((key, tally),) = mine
    more = tables._cell(key._replace(entity="hidden"), tally, [tally])
    made = estimate_months([replace(month, cells=(*month.cells, more))], ASSUMPTIONS)[0]
    return [row for row in made if row.key.entity != "hidden"]


@dataclass(frozen=True)
class WithDays(FleetRow):
    """A row that tells the mean days of the machines that have most."""

    days_observed: float = 0.0


def with_days(data: Watched, public: Told, rows: Sequence[FleetRow]) -> list[FleetRow]:
    """Tell the days of the ten machines that have most: the others' follow from the cell's time."""
    values = [{one.name: getattr(row, one.name) for one in fields(row)} for row in rows]
    return [WithDays(**one, days_observed=21.5) for one in values]


@pytest.mark.promise("P15")
@pytest.mark.parametrize(
    ("story", "mutant", "number"),
    [
        (one_sunday, by_day_type, "extrapolated_millijoules"),
        (one_silent, with_true_times, "known_milliseconds"),
        (hidden, with_hidden_machines, "extrapolated_millijoules"),
        (one_sunday, with_days, "days_observed"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_an_estimate_that_uses_more_of_the_machines_is_found(
    story: Callable[[Watched], object],
    mutant: Callable[[Watched, Told, Sequence[FleetRow]], list[FleetRow]],
    number: str,
    tmp_path: Path,
) -> None:
    """The number that follows from no publication is named, and the product's own rows have none."""
    with Watched(tmp_path, 1) as data:
        story(data)
        public = told(data)
        (rows,) = estimate_months(public.months, ASSUMPTIONS)
        more = mutant(data, public, rows)
    assert public.unexplained([rows]) == []
    assert any(f": {number} " in one for one in public.unexplained([more]))
