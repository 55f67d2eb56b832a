# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""P15: estimates that use more of the machines than what is published are found (fleet_answers.py)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Final

import pytest

from tests.promises.support.fleet_answers import K, unexplained_rows
from tests.promises.support.hours import NIGHT
from tests.promises.support.publications import FleetOfMonth
from tests.promises.support.read_together import Watched
from tests.promises.support.stories import IN_OCTOBER, SEP
from tests.support.released import LATER
from veilleuse.collector.account.observations import tally_periods
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.fleet.estimator import class_microwatts
from veilleuse.collector.fleet.observations import group_by_machine, machine
from veilleuse.collector.fleet.samples import DAY_TYPES, Stratum
from veilleuse.collector.model.months import DayType
from veilleuse.collector.model.query import Query
from veilleuse.collector.months.reader import Periods
from veilleuse.collector.release import tables
from veilleuse.collector.release.fleet import ReleaseAssumptions
from veilleuse.collector.release.format import FORM
from veilleuse.collector.release.months import ReleasedMonth, estimate_months
from veilleuse.collector.release.rows import FleetRow
from veilleuse.collector.release.tables import PARTITION, make_month
from veilleuse.wire.vocabulary import DeviceClass, State

ASSUMPTIONS: Final = ReleaseAssumptions(class_microwatts(), K)
PART: Final = Slice(SEP, date(2026, 10, 1))


def released(month: FleetOfMonth) -> ReleasedMonth:
    """Return what a month's estimate may use."""
    assert month.content is not None
    content = FORM.decode(json.loads(month.content), PART.first, PART.end)
    return ReleasedMonth(content.cells, content.hidden_cells, month.fleet)


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
    hosts = [*data.machines(14), *data.machines(3, "B"), *data.machines(8, "B", DeviceClass.TOWER)]
    data.nights(SEP, hosts)
    data.look(IN_OCTOBER, [SEP])


def by_day_type(data: Watched, month: FleetOfMonth) -> Sequence[FleetRow]:
    """Extrapolate open and closed days separately, as the estimate of an open period does."""
    sums: defaultdict[DayType, list[int]] = defaultdict(lambda: [0, 0])
    with closing(data.data.reader()) as reader:
        for one in Periods(reader).host_periods(PART.first, PART.end):
            (seen,) = group_by_machine([one])
            made = machine(seen, one.values, Stratum("laptop", ""))
            sums[one.day_type][0] += sum(made.accounted_milliseconds)
            sums[one.day_type][1] += sum(made.energy_millijoules)
    (count_of,) = month.fleet.values()
    more = 0
    for kind, in_service in zip(DAY_TYPES, count_of.milliseconds, strict=True):
        time, energy = sums[kind]
        more += (in_service - time) * energy // time if time else 0
    return [replace(row, extrapolated_millijoules=more) for row in month.rows]


def with_true_times(data: Watched, month: FleetOfMonth) -> Sequence[FleetRow]:
    """Use known time as it was measured, not as it is published."""
    with pytest.MonkeyPatch.context() as patch, closing(data.data.reader()) as reader:
        patch.setattr(tables, "round_to_machine_days", lambda tally, _: tally)
        exact = make_month(reader, PART, K)
        return list(estimate_months([replace(released(month), cells=exact.cells)], ASSUMPTIONS)[0])


def with_hidden_machines(data: Watched, month: FleetOfMonth) -> Sequence[FleetRow]:
    """Take laptops of `autres` into the mean of their class."""
    with closing(data.data.reader()) as reader:
        query = Query(PART.first, PART.end, PARTITION, K, now_unix_milliseconds=LATER)
        groups = tally_periods(reader, Periods(reader), query, screens=True)
    mine = [one for one in groups.items() if one[0].entity == "B" and one[0].device_class == "laptop"]
    ((key, tally),) = mine
    more = tables._cell(key._replace(entity="hidden"), tally, [tally], K)
    told = released(month)
    made = estimate_months([replace(told, cells=(*told.cells, more))], ASSUMPTIONS)[0]
    return [row for row in made if row.key.entity != "hidden"]


def with_true_counts(data: Watched, month: FleetOfMonth) -> Sequence[FleetRow]:
    """Count the machines that were measured at each place."""
    return [replace(row, hosts=3) if row.key.entity == "B" else row for row in month.rows]


@pytest.mark.promise("P15")
@pytest.mark.parametrize(
    ("story", "mutant", "number"),
    [
        (one_sunday, by_day_type, "extrapolated_millijoules"),
        (one_silent, with_true_times, "known_milliseconds"),
        (hidden, with_hidden_machines, "extrapolated_millijoules"),
        (hidden, with_true_counts, "hosts"),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_an_estimate_that_uses_more_of_the_machines_is_found(
    story: Callable[[Watched], object],
    mutant: Callable[[Watched, FleetOfMonth], Sequence[FleetRow]],
    number: str,
    tmp_path: Path,
) -> None:
    """The number that follows from no publication is named, and the product's own rows have none."""
    with Watched(tmp_path, 1) as data:
        story(data)
        month = data.fleets[-1][PART]
        more = tuple(mutant(data, month))
    assert unexplained_rows({PART: month}) == []
    assert any(f": {number} " in one for one in unexplained_rows({PART: month._replace(rows=more)}))
