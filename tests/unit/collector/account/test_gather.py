# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Groups from stored sums: days, shared weeks, enrolment, nights, and groups too small to be published."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.memory_store import DAY, HOUR, MemoryReader, gather, host, site
from veilleuse.collector.account.group_sums import Tally, merge_small_groups
from veilleuse.collector.calendars.periods import Slice, enrolled_milliseconds, evening_of, slices
from veilleuse.collector.disclosure.parts import NO_PARTS
from veilleuse.collector.errors import UsageError
from veilleuse.collector.model.hosts import HostStatus
from veilleuse.collector.model.query import AUTRES, GroupKey, Query
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import Detail, EnergySums, Group, StateSums
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

MONDAY = date(2026, 3, 2)
LATE = round(datetime(2030, 1, 1, tzinfo=UTC).timestamp() * 1000)
SERVER = Population.SERVER


def ask(reader: MemoryReader, first: date, end: date, *dimensions: str, k: int = 10) -> tuple[Group, ...]:
    """Return the groups of a period."""
    return gather(reader, Query(first, end, dimensions, k, now_unix_milliseconds=LATE)).groups


def test_a_day_is_inside_or_outside():
    """The period is [from, to): its end is not part of it."""
    reader = MemoryReader([host(1, DeviceClass.SERVER, SERVER)])
    for day in (1, 2, 3):
        reader.energy(1, date(2026, 3, day), Band.OPEN, State.ON_IDLE, Method.METERED, HOUR, 10**day)
    (group,) = ask(reader, date(2026, 3, 2), date(2026, 3, 3))
    assert [sums.energy_millijoules for sums in group.sums.energies.values()] == [100]
    assert (group.sums.hosts, group.sums.derived_milliseconds) == (1, HOUR)


def test_years_and_months_divide():
    """Factors are yearly, so a period over New Year gives two rows; months divide further."""
    first, end = date(2025, 12, 30), date(2026, 2, 2)
    assert slices(first, end) == (Slice(first, date(2026, 1, 1)), Slice(date(2026, 1, 1), end))
    assert [part.first for part in slices(first, end, by_month=True)] == [
        first,
        date(2026, 1, 1),
        date(2026, 2, 1),
    ]


def test_enrolled_time():
    """Time runs from the day of enrolment to the end, to now or to a departed machine's last contact.
    A pending machine has none."""
    part, now = Slice(date(2026, 3, 1), date(2026, 4, 1)), LATE
    place = site()
    assert enrolled_milliseconds(host(1), place, part, now) == 31 * DAY - HOUR  # the clock change
    assert enrolled_milliseconds(host(1, enrolled=date(2026, 3, 31)), place, part, now) == DAY
    assert enrolled_milliseconds(host(1, enrolled=date(2026, 5, 1)), place, part, now) == 0
    noon = round(datetime(2026, 3, 1, 11, tzinfo=UTC).timestamp() * 1000)
    assert enrolled_milliseconds(host(1), place, part, noon) == 12 * HOUR
    assert enrolled_milliseconds(host(1, status=HostStatus.PENDING), place, part, now) == 0
    gone = host(1, status=HostStatus.REVOKED, last_contact=noon)
    assert enrolled_milliseconds(gone, place, part, now) == DAY
    assert enrolled_milliseconds(host(1, status=HostStatus.FORGOTTEN), place, part, now) == 0


def test_groups_by_what_was_asked():
    """Entity and site divide rows on request, population and zone always; virtual machines are a memo."""
    hosts = [
        host(1, DeviceClass.SERVER, SERVER, entity="A"),
        host(2, DeviceClass.VIRTUAL_MACHINE, SERVER, entity="A"),
        host(3, DeviceClass.SERVER, SERVER, entity="B", place="annex"),
    ]
    reader = MemoryReader(hosts, [site(), site("annex", "DE")])
    groups = ask(reader, MONDAY, date(2026, 3, 3))
    assert [(one.key.zone, one.key.memo) for one in groups] == [("DE", False), ("FR", False), ("FR", True)]
    named = ask(reader, MONDAY, date(2026, 3, 3), "entity", "site", "device_class")
    assert [(one.key.entity, one.key.site, one.key.device_class) for one in named] == [
        ("A", "hq", "server"),
        ("A", "hq", "virtual_machine"),
        ("B", "annex", "server"),
    ]


def test_a_machine_that_enrolled_meanwhile_waits():
    """Rows of a host that is not yet in the list are left to the next report."""
    reader = MemoryReader([host(1, DeviceClass.SERVER, SERVER)])
    reader.energy(2, MONDAY, Band.OPEN, State.ON_IDLE, Method.METERED, HOUR, 5)
    reader.state(2, MONDAY, Band.OPEN, State.ON_IDLE, HOUR)
    (group,) = ask(reader, MONDAY, date(2026, 3, 3))
    assert (group.sums.hosts, group.sums.derived_milliseconds) == (0, 0)


def test_a_machine_that_was_measured_was_there():
    """Records before enrolment count as enrolled time, so coverage is at most 1."""
    reader = MemoryReader([host(1, DeviceClass.SERVER, SERVER, enrolled=date(2026, 3, 3))])
    for day in (2, 3):
        reader.state(1, date(2026, 3, day), Band.OPEN, State.ON_IDLE, DAY)
    (group,) = ask(reader, MONDAY, date(2026, 3, 4))
    assert group.sums.observed_milliseconds == group.sums.enrolled_milliseconds == 2 * DAY
    (group,) = ask(reader, MONDAY, date(2026, 3, 5))
    assert (group.sums.observed_milliseconds, group.sums.enrolled_milliseconds) == (2 * DAY, 2 * DAY)


def test_unknown_time_is_not_observed():
    """A machine known only as unknown contributes nothing."""
    reader = MemoryReader([host(1, DeviceClass.SERVER, SERVER)])
    reader.state(1, MONDAY, Band.OPEN, State.UNKNOWN, HOUR)
    (group,) = ask(reader, MONDAY, date(2026, 3, 3))
    assert (group.sums.hosts, group.sums.observed_milliseconds) == (0, 0)


def test_an_evening_runs_from_noon_to_noon():
    """With a timetable until 20:00, 06:00 to 08:00 is night: such a morning ends the night before."""
    evenings = {
        datetime(2026, 3, 2, 21, tzinfo=UTC): MONDAY,  # 22:00 in Paris
        datetime(2026, 3, 3, 4, tzinfo=UTC): MONDAY,
        datetime(2026, 3, 3, 6, tzinfo=UTC): MONDAY,  # 07:00
        datetime(2026, 3, 3, 17, tzinfo=UTC): date(2026, 3, 3),  # 18:00
        datetime(2026, 3, 29, 3, tzinfo=UTC): date(2026, 3, 28),  # the night of the clock change
    }
    for start, evening in evenings.items():
        assert evening_of(round(start.timestamp() * 1000), "Europe/Paris") == evening


def test_servers_have_no_nights():
    """Servers are meant to be on."""
    reader = MemoryReader([host(1, DeviceClass.SERVER, SERVER)])
    reader.state(1, MONDAY, Band.NIGHT, State.ON_IDLE, 8 * HOUR)
    (group,) = ask(reader, MONDAY, date(2026, 3, 3))
    assert group.sums.nights is None


def test_a_question_that_makes_no_sense_is_refused():
    """An unknown dimension, an empty period or a date out of range raises UsageError."""
    with pytest.raises(UsageError, match="cannot group by 'color'"):
        Query(MONDAY, date(2026, 3, 3), ("color",))
    with pytest.raises(UsageError, match="must be before"):
        Query(MONDAY, MONDAY)
    with pytest.raises(UsageError, match="--from 0001-01-01 must be between"):
        Query(date.min, MONDAY)
    with pytest.raises(UsageError, match="--to 9999-12-31 must be between"):
        Query(MONDAY, date.max)


# --- groups too small to be published


def key(entity: str, population: Population = Population.WORKSTATION, **more: bool) -> GroupKey:
    """Return the key of one entity's group."""
    return GroupKey(MONDAY, date(2026, 3, 3), "FR", population, more.get("memo", False), entity=entity)


def tally(*numbers: int, energies: dict[int, int] | None = None) -> Tally:
    """Return a group of machines, each on for an hour and drawing 1 mJ or what `energies` says."""
    made = Tally(enrolled=Counter({HostId(number): HOUR for number in numbers}))
    for number in numbers:
        made.add_state(HostId(number), (Band.OPEN, State.ON_ACTIVE), StateSums(HOUR))
    for number, energy in (dict.fromkeys(numbers, 1) if energies is None else energies).items():
        made.add_energy(HostId(number), DRAWN, EnergySums(HOUR, energy))
    return made


DRAWN = (DeviceClass.SFF, Method.LOAD_MODELLED, Band.OPEN, State.ON_ACTIVE)


def shown(groups: dict[GroupKey, Tally], k: int = 10) -> dict[str | None, int]:
    """Return entity → machines of the published groups."""
    return {group.key.entity: group.sums.hosts for group in merge_small_groups(groups, k)[0]}


def test_small_groups_merge_until_they_hide():
    """3 + 4 < 10, so the smallest sibling (11) joins and the larger one stays."""
    groups = {
        key("a"): tally(*range(3)),
        key("b"): tally(*range(10, 14)),
        key("c"): tally(*range(20, 31)),
        key("d"): tally(*range(40, 60)),
    }
    found, withheld = merge_small_groups(groups, 10)
    assert withheld == ()
    assert {group.key.entity: group.sums.hosts for group in found} == {"d": 20, AUTRES: 18}
    assert {group.sums.enrolled_milliseconds for group in found if group.key.autres} == {18 * HOUR}


def test_a_population_too_small_is_withheld():
    """Five classroom PCs have no row, and no total from which to subtract others."""
    groups = {key("a", Population.CLASSROOM): tally(*range(5)), key("s", SERVER): tally(99)}
    found, withheld = merge_small_groups(groups, 10)
    assert [group.key for group in found] == [key("s", SERVER)]
    assert withheld == (key("a", Population.CLASSROOM)._replace(entity=None),)


def test_groups_nobody_contributed_to_stay_where_they_are_large():
    """Ten silent machines are a row of zero; one silent machine alone has none, or it would show one desk."""
    silent = {number: Tally(enrolled=Counter(map(HostId, range(number)))) for number in (1, 10)}
    found, withheld = merge_small_groups({key(f"of {number}"): one for number, one in silent.items()}, 10)
    assert ([group.key for group in found], withheld) == ([key("of 10")], ())


def test_a_machine_that_draws_almost_all_is_not_shown_in_a_crowd():
    """A group of ten in which one has over 85 % of the energy shows that one: it merges like a small group
    (P4)."""
    heavy = tally(*range(10), energies={number: 1000 if number == 0 else 1 for number in range(10)})
    assert shown({key("a"): heavy}) == {}
    even = tally(*range(20, 40), energies=dict.fromkeys(range(20, 40), 100))
    assert shown({key("a"): heavy, key("b"): even}) == {AUTRES: 30}


def test_energy_of_few_machines_is_not_shown_as_that_of_many():
    """When three of twelve observed machines have energy, the row's kWh would be theirs."""
    few = tally(*range(12), energies={0: 5, 1: 5, 2: 5})
    assert shown({key("a"): few, key("b"): tally(*range(20, 40))}) == {AUTRES: 32}
    assert shown({key("a"): few}) == {}


def test_energy_without_a_known_state_counts_as_well():
    """Nine machines with metered energy and unknown state are nine; a measured zero shows nobody."""
    blind = Tally()
    for number in range(9):
        blind.add_energy(HostId(number), DRAWN, EnergySums(HOUR, 5))
    assert shown({key("a"): blind}) == {}
    zero = Tally()
    zero.add_energy(HostId(1), DRAWN, EnergySums(HOUR, 0))
    assert shown({key("a"): zero, key("b"): tally(*range(20, 40))}) == {"b": 20}


def test_an_entity_may_be_named_autres():
    """Its machines stay in its own row beside the merged `autres`, and none is lost from the total."""
    groups = {
        key(AUTRES): tally(*range(20)),
        key("b"): tally(*range(30, 35)),
        key("c"): tally(*range(40, 46)),
    }
    found, _ = merge_small_groups(groups, 10)
    assert sorted((group.key.entity, group.key.autres, group.sums.hosts) for group in found) == [
        (AUTRES, False, 20),
        (AUTRES, True, 11),
    ]


def test_parts_of_a_figure_that_few_stand_behind_are_withheld():
    """One metered machine among twelve, idle at night, shows neither its meter nor its night."""
    crowd = tally(*range(12))
    assert crowd.unsafe_details(10) == frozenset()
    assert crowd.level(10).withheld == frozenset()
    crowd.add_energy(HostId(3), (DeviceClass.SFF, Method.METERED, *DRAWN[2:]), EnergySums(HOUR, 1))
    crowd.add_state(HostId(3), (Band.NIGHT, State.ON_IDLE), StateSums(HOUR))
    (group,), _ = merge_small_groups({key("a"): crowd}, 10)
    assert group.sums.withheld == NO_PARTS | {Detail.METHODS} - {Detail.USE}
    (group,), _ = merge_small_groups({key("a", SERVER): crowd}, 10)
    assert group.sums.withheld == frozenset()
    (group,), _ = merge_small_groups({key("a"): crowd}, 1)
    assert group.sums.withheld == frozenset()


@given(st.lists(st.integers(0, 25), min_size=1, max_size=8), st.integers(10, 12))
def test_nothing_shown_holds_fewer_than_k(sizes: list[int], k: int):
    """Every group with machines has at least k; otherwise all are withheld. None is lost."""
    groups: dict[GroupKey, Tally] = {}
    start = 0
    for place, size in enumerate(sizes):
        groups[key(f"e{place}")] = tally(*range(start, start + size))
        start += size
    found, withheld = merge_small_groups(groups, k)
    assert all(group.sums.hosts >= k for group in found if group.sums.hosts)
    if withheld:
        assert not any(group.sums.hosts for group in found)
        assert start < k
    else:
        assert sum(group.sums.hosts for group in found) == start
        assert sum(group.sums.derived_milliseconds for group in found) == start * HOUR
