# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Release tables of a month: no sum of published rows is of fewer than k machines. docs/decisions/0046."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.filled import Filled, cell, civil
from tests.support.fleet_rows import released_periods
from tests.support.publishing import publish_months
from tests.support.reading import Reading
from tests.unit.collector.cli.test_published import publication
from veilleuse.collector.account.group_sums import Tally, merge_small_groups
from veilleuse.collector.account.observations import ObservedGroups, u_model
from veilleuse.collector.account.statement import StatementTerms, build_statement
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.disclosure.parts import (
    LEVELS,
    ON,
    PART_OF,
    REST,
    Part,
    may_be_told_together,
)
from veilleuse.collector.factors.book import book_of
from veilleuse.collector.model.accounts import Role
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import Detail, EnergyClass, EnergySums, Group, GroupSums, StateSums
from veilleuse.collector.release.tables import Month, build_month
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

K = 3
HOUR = 3_600_000
FIRST, END = date(2026, 10, 1), date(2026, 11, 1)
PART = Slice(FIRST, END)
OCTOBER = "from=2026-10-01&to=2026-11-01"
NOW = datetime(2026, 11, 25, 10, 30, tzinfo=UTC)
CELLS = tuple(
    (band, state)
    for band in (Band.OPEN, Band.CLOSED)
    for state in (State.OFF, State.ON_IDLE, State.ON_ACTIVE)
)
UNIT = 1 << 200
"""Milliseconds of each machine in each part. Each adds its own bit, so a sum shows its machines' parts."""


# --- all sums of published numbers


@dataclass(frozen=True)
class Machine:
    """A machine's entity, zone, and parts of the month."""

    entity: str
    zone: str
    parts: frozenset[int]
    """Indices of CELLS."""


def machines() -> st.SearchStrategy[list[Machine]]:
    """Draw up to 24 machines in four entities and two zones; most have similar parts, so some groups pass."""
    usual = st.frozensets(st.integers(0, 5), min_size=4)
    rare = st.frozensets(st.integers(0, 5), min_size=1)
    one = st.builds(
        Machine, st.sampled_from("ABCD"), st.sampled_from(("FR", "FR", "FR", "DE")), st.one_of(usual, rare)
    )
    return st.lists(one, min_size=3, max_size=24)


def bit(host: int, part: int) -> int:
    """Return the bit of one machine's part."""
    return 1 << (host * len(CELLS) + part)


def tallies(fleet: Sequence[Machine]) -> dict[GroupKey, Tally]:
    """Return the machines' tallies by entity."""
    found: dict[GroupKey, Tally] = {}
    for host, machine in enumerate(fleet):
        key = GroupKey(
            FIRST, END, machine.zone, Population.WORKSTATION, False, machine.entity, None, "laptop"
        )
        tally = found.setdefault(key, Tally())
        tally.enrolled[HostId(host)] += sum(UNIT + bit(host, part) for part in machine.parts)
        for part in machine.parts:
            tally.add_state(HostId(host), CELLS[part], StateSums(UNIT + bit(host, part)))
            drawn = DeviceClass.LAPTOP, Method.LOAD_MODELLED, *CELLS[part]
            tally.add_energy(HostId(host), drawn, EnergySums(UNIT, UNIT + bit(host, part)))
    return found


def decoded(number: int) -> frozenset[tuple[int, int]]:
    """Return the (machine, part) pairs in a sum."""
    bits = number % UNIT
    return frozenset(divmod(place, len(CELLS)) for place in range(bits.bit_length()) if bits >> place & 1)


def told(rows: Iterable[Group]) -> list[list[frozenset[tuple[int, int]]]]:
    """Return the pairs in each row's times, and in its energies."""
    return [
        [decoded(number) for number in numbers]
        for row in rows
        for numbers in (
            [one.milliseconds for one in row.sums.states.values()],
            [one.energy_millijoules for one in row.sums.energies.values()],
        )
    ]


COUNTED: Counter[str] = Counter()
"""Number of fleets and sums that the property has checked."""


def fewest(found: Month) -> int:
    """Return the fewest machines in any sum of whole cells less a sum of parts of one row of `uses`.
    Weights of 0 and 1 are enough (may_be_told_together). Energy at rest may be subtracted, because it follows
    from time.
    """
    counts = [len({host for host, _ in part}) for row in told(found.cells) for part in row]
    COUNTED["fleets"] += 1
    totals = [part for row in told(found.cells) for part in row]
    for parts in told(found.uses):
        inside = frozenset().union(*parts)
        within = [total for total in totals if total <= inside]
        for chosen in subsets(parts):
            for cells in subsets(within):
                left = frozenset().union(*cells) ^ frozenset().union(*chosen)
                for some in (left, {(host, part) for host, part in left if CELLS[part][1] is not State.OFF}):
                    counts.append(len({host for host, _ in some}))
    COUNTED["sums"] += len(counts)
    return min((count for count in counts if count), default=K)


def subsets(items: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Yield all subsets."""
    return itertools.chain.from_iterable(
        itertools.combinations(items, size) for size in range(len(items) + 1)
    )


@pytest.mark.promise("P5")
def test_no_sum_of_what_is_told_is_of_few(figure):
    """Cells less parts and parts less cells, with time at rest or without, are of k machines or none.
    Nothing is published twice or lost."""
    before = COUNTED.copy()
    _sums_of_a_fleet()
    since = COUNTED - before
    assert since["sums"] > since["fleets"]
    figure(
        f"0 of {since['sums']:,} sums of cells less sums of parts are of fewer than {K} machines, in {since['fleets']} fleets of "
        "up to 24 machines"
    )


@settings(max_examples=50, deadline=None)
@given(machines())
def _sums_of_a_fleet(fleet):
    found = build_month(PART, tallies(fleet), K)
    assert fewest(found) >= K
    cells, uses = ({decoded(number) for number in numbers(rows)} for rows in (found.cells, found.uses))
    assert frozenset().union(*cells) == frozenset().union(*uses)
    for row in (*found.cells, *found.uses, *found.whole):
        assert row.sums.hosts >= K
        assert {fleet[host].zone for number in numbers([row]) for host, _ in decoded(number)} <= {
            row.key.zone
        }


def numbers(rows: Iterable[Group]) -> list[int]:
    """Return the milliseconds of rows."""
    return [one.milliseconds for row in rows for one in row.sums.states.values()]


def test_the_check_finds_parts_told_of_each_cell_as_it_may():
    """One of eight machines is on at night: with the finest parts in each cell, a sum is of that one."""
    all_day, no_night = frozenset(range(6)), frozenset({0, 1, 2, 3})
    fleet = [Machine("A", "FR", all_day)] * 4 + [Machine("B", "FR", no_night)] * 3
    fleet += [Machine("B", "FR", all_day)]
    found = build_month(PART, tallies(fleet), K)
    assert fewest(found) >= K
    fine = [
        Group(key, tally.freeze(key.population, frozenset(), exact=False))
        for key, tally in tallies(fleet).items()
    ]
    assert fewest(replace(found, uses=tuple(fine))) == 1


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 15), min_size=2, max_size=6).map(Counter), min_size=2, max_size=4),
    st.integers(2, 4),
)
def test_what_may_be_told_together_cannot_be_solved(cells: list[Counter[int]], k: int):
    """Where it says yes, any weights of cells and of four parts leave k machines or none.
    Where it says no, some weights leave fewer."""
    parts = (Part.IDLE_OPEN, Part.ACTIVE_OPEN, Part.IDLE_OUTSIDE, Part.ACTIVE_OUTSIDE)
    named = [Counter({_mask(bits, parts): number for bits, number in one.items()}) for one in cells]
    each = all(one.total() >= k for one in cells)
    of_parts = [sum(n for one in cells for bits, n in one.items() if bits >> place & 1) for place in range(4)]
    if not each or any(0 < number < k for number in of_parts):
        return
    weights = itertools.product(range(2), repeat=len(cells))
    left = {
        sum(
            n
            for a, one in zip(of_cells, cells, strict=True)
            for bits, n in one.items()
            if any(bits >> place & 1 and a != b for place, b in enumerate(b_of_parts))
        )
        for of_cells in weights
        for b_of_parts in itertools.product(range(2), repeat=4)
    }
    if may_be_told_together(named, parts, k):
        assert min(left - {0}, default=k) >= k
    elif len(cells) == 2:
        assert min(left - {0}) < k


def _mask(bits: int, parts: Sequence[Part]) -> Part:
    return Part(sum(part for place, part in enumerate(parts) if bits >> place & 1))


def test_parts_are_all_there_is():
    """Each band and state belongs to one part, and the parts of each level cover all known time."""
    assert set(PART_OF.values()) == set(Part)
    for level in LEVELS:
        assert sum(level.parts) == REST | ON


# --- numbers that revealed one machine


def of(hosts: Iterable[int], on: Mapping[int, int], *, enrolled: int = 744, energy: bool = True) -> Tally:
    """Return a month of machines, off at 0.5 W except for hours in use at 50 W."""
    tally = Tally()
    for host in map(HostId, hosts):
        used = on.get(host, 0)
        tally.enrolled[host] += enrolled * HOUR
        for state, hours, watts in ((State.OFF, 744 - used, 0.5), (State.ON_ACTIVE, used, 50)):
            if hours:
                key = Band.OPEN, state
                tally.add_state(host, key, StateSums(hours * HOUR))
                if energy:
                    drawn = EnergySums(
                        hours * HOUR, *(round(hours * HOUR * watts * part) for part in (1, 0.12))
                    )
                    tally.add_energy(host, (DeviceClass.SFF, Method.LOAD_MODELLED, *key), drawn)
    return tally


def key(entity: str, zone: str = "FR") -> GroupKey:
    """Return the key of one entity's towers."""
    return GroupKey(FIRST, END, zone, Population.WORKSTATION, False, entity, None, "tower")


USED = dict.fromkeys(range(20, 40), 124)


def test_constants_do_not_hide_the_one_that_is_used():
    """Eleven machines off at 0.5 W have 94 % of the hours and 54 % of the energy beside one used for 124 h.
    Their 0.5 W are known, which would reveal the one, so its group is not published alone.
    """
    one = of(range(12), {3: 124})
    found = build_month(PART, {key("a"): one}, 10)
    assert (found.cells, found.withheld) == ((), (key("a")._replace(entity=None, device_class=None),))
    (row,) = build_month(PART, {key("a"): one, key("b"): of(range(20, 40), USED)}, 10).cells
    assert (row.key.entity, row.sums.hosts) == ("autres", 32)
    groups, withheld = merge_small_groups({key("a"): one}, 10)
    assert (groups, len(withheld)) == ((), 1)


def test_the_share_of_constants_is_nobodys():
    """One of twelve has 90 % of the energy in use; with the others' 0.5 W at rest its share would be 84 %."""
    heavy = of(range(12), {host: 90 if host else 110 for host in range(12)})
    heavy.add_energy(
        HostId(0),
        (DeviceClass.SFF, Method.LOAD_MODELLED, Band.OPEN, State.ON_ACTIVE),
        EnergySums(0, 9 * 11 * 90 * 50 * HOUR),
    )
    assert build_month(PART, {key("a"): heavy}, 10).cells == ()


def test_silence_of_few_is_not_told():
    """The last day of one of 32 machines is in no coverage, not even that it is told; ten silent days are."""

    def of_silent(silent: int) -> Group:
        groups = {
            key("b"): of(range(20, 40), USED),
            key("c"): of(range(40, 52), dict.fromkeys(range(40, 52), 9)),
        }
        for host in range(40, 52):
            groups[key("c")].enrolled[HostId(host)] += 24 * HOUR
        for host in range(40 + silent, 52):
            groups[key("c")].add_state(HostId(host), (Band.OPEN, State.OFF), StateSums(24 * HOUR))
        (whole,) = build_month(PART, groups, 10).whole
        return whole

    enrolled = (32 * 744 + 12 * 24) * HOUR
    for silent, missing in ((0, 0), (1, 0), (10, 240), (12, 288)):
        told = of_silent(silent).sums
        assert (told.hosts, told.enrolled_milliseconds) == (32, enrolled)
        assert told.observed_milliseconds == enrolled - missing * HOUR


def test_one_silent_month_changes_no_count_and_no_row():
    """One of thirteen machines is silent all month: thirteen count, and known time is in their days."""
    silent = Tally()
    silent.enrolled[HostId(40)] += 744 * HOUR
    (row,) = build_month(PART, {key("a"): of(range(20, 32), USED), key("b"): silent}, 10).cells
    known = sum(one.milliseconds for one in row.sums.states.values())
    assert (row.key.entity, row.sums.hosts, known) == ("autres", 13, 29 * 13 * 24 * HOUR)
    every = of([*range(20, 32), 40], USED | {40: 9})
    (alone,) = build_month(PART, {key("a"): every}, 10).cells
    assert (alone.key.entity, alone.sums.hosts) == ("a", 13)


def test_time_without_an_energy_of_few_is_not_told():
    """One machine has no energy yet: known time less derived time would be its time."""
    groups = {key("b"): of(range(20, 40), USED), key("c"): of(range(40, 41), {40: 100}, energy=False)}
    (whole,) = build_month(PART, groups, 10).whole
    assert (whole.sums.derived_milliseconds, Detail.DERIVED in whole.sums.withheld) == (0, True)
    assert Detail.COVERAGE not in whole.sums.withheld


def test_a_cell_tells_no_method():
    """One metered machine of twenty would narrow the interval, so the uncertainty is rounded up to a step."""
    metered = of(range(20, 40), USED)
    drawn = DeviceClass.SFF, Method.METERED, Band.OPEN, State.ON_ACTIVE
    metered.add_energy(HostId(20), drawn, EnergySums(HOUR, 50 * HOUR, 1))
    modelled = of(range(20, 40), USED)
    modelled.add_energy(
        HostId(20), (drawn[0], Method.LOAD_MODELLED, *drawn[2:]), EnergySums(HOUR, 50 * HOUR, 6 * HOUR)
    )
    assert build_month(PART, {key("a"): metered}, 10) == build_month(PART, {key("a"): modelled}, 10)


# --- answers to a reader


def one_used(data: Filled, others: int = 20) -> None:
    """Add twelve PCs of A, one of them on for 124 h, and `others` of B, in use in and out of hours."""
    for number in range(12 + others):
        entity = "A" if number < 12 else "B"
        host = data.add_host(Population.WORKSTATION, DeviceClass.LAPTOP, entity=entity)
        for day in range(1, 32):
            cells = [cell(State.OFF, 20 * HOUR, Band.NIGHT), cell(State.OFF, 4 * HOUR, Band.CLOSED)]
            if number == 3:
                cells[1] = cell(State.ON_ACTIVE, 4 * HOUR, Band.CLOSED)
            elif number >= 12:
                cells[1:] = [
                    cell(State.ON_ACTIVE, 3 * HOUR + number, Band.CLOSED),
                    cell(State.ON_IDLE, HOUR, Band.CLOSED),
                ]
            data.push(host, [(civil(date(2026, 10, day)), cells)])
    data.derive()


ONE_MACHINE = 31 * 4 * HOUR
"""Its time on: 446,400,000 ms."""


def every_number(value: Any) -> Iterator[float]:
    """Yield every number of an answer."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from every_number(one)
    elif isinstance(value, int | float):
        yield value


@pytest.mark.parametrize("role", [Role.READER, Role.ADMIN])
def test_a_withheld_figure_carries_nothing(tmp_path: Path, role: Role):
    """I2 of twelve machines with one on had no value, but that one's time on as its denominator.
    No number of any answer is that time."""
    with (
        Filled(tmp_path / "data", clock=lambda: datetime(2026, 9, 1, tzinfo=UTC).timestamp()) as data,
        Reading(data, clock=NOW.timestamp) as reading,
    ):
        one_used(data)
        publish_months(data, NOW.date())
        token = reading.account("a", role, days=100)
        for grouping in ("entity,device_class", "entity", "population", "device_class,month"):
            answer = reading.get(f"/api/v1/indicators?{OCTOBER}&group_by={grouping}", token).json()
            assert answer["rows"]
            assert ONE_MACHINE not in set(every_number(answer["rows"])), grouping
            for row in answer["rows"]:
                assert row["n"] >= 10
                assert "withheld" not in row or not {
                    name for name in row if name.endswith(("milliseconds", "kwh", "ratio", "nights_on"))
                }
        found = reading.get(f"/api/v1/indicators?{OCTOBER}&group_by=entity,device_class", token).json()[
            "rows"
        ]
        assert {(row["indicator"], row["entity"], row["n"]) for row in found} >= {
            ("I1", "autres", 32),
            ("I2", "autres", 32),
        }


def test_a_month_of_the_older_format_is_not_shown(tmp_path: Path):
    """The older format published more than is allowed now. The reason is `older_rule`, as after a larger k.
    The month is available again after take-back.
    """
    with (
        Filled(tmp_path / "data", clock=lambda: datetime(2026, 9, 1, tzinfo=UTC).timestamp()) as data,
        Reading(data, clock=NOW.timestamp) as reading,
    ):
        one_used(data)
        data.store.publications.put(publication('{"groups":[],"withheld":[]}', format=1))
        token = reading.account("a", days=100)
        question = f"/api/v1/indicators?{OCTOBER}"
        answer = reading.get(question, token).json()
        assert (answer["rows"], [one["reason"] for one in answer["withheld"]]) == ([], ["older_rule"])
        assert data.store.publications.take_back(FIRST, END) == 1
        publish_months(data, NOW.date())
        assert reading.get(f"{question}&group_by=entity", token).json()["rows"]


# --- uncertainty and coverage of sums


def measured(
    entity: str, device_class: DeviceClass, first: int, number: int, u: float
) -> dict[GroupKey, Tally]:
    """Return machines that draw 1 kWh each with this relative uncertainty."""
    key = GroupKey(FIRST, END, "FR", Population.WORKSTATION, False, entity, None, device_class.value)
    tally = Tally()
    for host in range(first, first + number):
        tally.enrolled[HostId(host)] += HOUR
        tally.add_state(HostId(host), (Band.OPEN, State.ON_ACTIVE), StateSums(HOUR))
        drawn = device_class, Method.LOAD_MODELLED, Band.OPEN, State.ON_ACTIVE
        sums = EnergySums(HOUR, 3_600_000_000, round(3_600_000_000 * u))
        tally.add_energy(HostId(host), drawn, sums)
    return {key: tally}


def test_a_sum_is_not_better_known_because_a_class_is_in_autres():
    """The sum of laptops and towers, each at 20 %, has 20 % in separate rows and in `autres`.
    It had 14.1 % separately and 15 % merged."""
    apart = {
        **measured("A", DeviceClass.LAPTOP, 0, 3, 0.2),
        **measured("A", DeviceClass.TOWER, 3, 3, 0.2),
    }
    assert u_model(build_month(PART, apart, K).cells) == pytest.approx(0.2)
    few = {**measured("A", DeviceClass.LAPTOP, 0, 2, 0.2), **measured("B", DeviceClass.TOWER, 3, 2, 0.2)}
    (row,) = build_month(PART, few, K).cells
    assert row.key.autres
    assert u_model([row]) == pytest.approx(0.2)


def test_autres_is_no_better_known_than_its_groups():
    """6 % and 4 % are published as 10 % and 5 %, together 7.5 %, which is rounded up to 10 %."""
    few = {**measured("A", DeviceClass.TOWER, 0, 2, 0.06), **measured("B", DeviceClass.TOWER, 3, 2, 0.04)}
    (row,) = build_month(PART, few, K).cells
    assert u_model([row]) == pytest.approx(0.1)


def test_energy_is_not_known_of_more_time_than_states_are():
    """A millisecond of rounding in each machine raised coverage_energy above coverage_states."""
    fleet = measured("A", DeviceClass.LAPTOP, 0, 3, 0.1)
    (tally,) = fleet.values()
    for host in range(3):
        drawn = DeviceClass.LAPTOP, Method.LOAD_MODELLED, Band.OPEN, State.ON_ACTIVE
        tally.add_energy(HostId(host), drawn, EnergySums(1))
    (whole,) = build_month(PART, fleet, K).whole
    assert whole.sums.derived_milliseconds == whole.sums.observed_milliseconds == 3 * HOUR


def test_screens_apart_have_no_days_of_known_state():
    """Rows of screens showed 0 machine-days, but have none."""
    key = GroupKey(FIRST, END, "FR", Population.WORKSTATION, False, "A", None, "monitor")
    drawn = EnergyClass.MONITOR, Method.LOAD_MODELLED, Band.OPEN, State.OFF
    group = Group(key, GroupSums(3, 0, {}, {drawn: EnergySums(0, 1_000, 50)}))
    periods = released_periods(ObservedGroups((group,), ()))
    made = build_statement(periods, StatementTerms(book_of(()).choose, "real"))
    days = [(row.activity.machine_days_observed, row.activity.machine_days_fleet) for row in made.rows]
    assert days == [(None, None)]
