# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of P5 and P6 over HTTP: differences of answers, over readers and time, have k machines or more."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veilleuse.collector.account.group_sums import Tally
from veilleuse.collector.calendars.periods import Slice, slices
from veilleuse.collector.model.publications import Publication, PublicationKind
from veilleuse.collector.model.query import GroupKey, Query, is_within
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import Group, StateSums
from veilleuse.collector.ports.months import PublicationSummary
from veilleuse.collector.release.answer import sum_uses
from veilleuse.collector.release.format import FORM
from veilleuse.collector.release.publications import PublicationCache
from veilleuse.collector.release.tables import Month, build_month, is_month
from veilleuse.wire.vocabulary import Band, Population, State

K = 3
MONTHS = slices(date(2026, 1, 1), date(2026, 4, 1), by_month=True)
ENTITIES = ("A", "A > 1", "B", "B > 1", "B > 2")
CLASSES = ("laptop", "tower")
SCOPES = ((), ("A",), ("B",), ("B > 1",), ("A > 1", "B > 2"))
GROUPINGS = [
    tuple(words)
    for size in range(4)
    for words in itertools.combinations(("entity", "device_class", "month"), size)
]
UNIT = 1 << 60
"""Milliseconds of each machine in each month; an extra bit identifies the machine in a sum."""


class Seen(NamedTuple):
    """One machine in one month."""

    host: int
    month: int


@dataclass(frozen=True)
class Fleet:
    """The place of each machine, and the months in which it was measured."""

    places: tuple[tuple[str, str], ...]
    present: frozenset[Seen]


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    """Draw up to 14 machines, so that most groups are too small."""
    places = draw(
        st.lists(st.tuples(st.sampled_from(ENTITIES), st.sampled_from(CLASSES)), min_size=3, max_size=14)
    )
    everywhere = [Seen(host, month) for host in range(len(places)) for month in range(len(MONTHS))]
    absent = draw(st.sets(st.sampled_from(everywhere), max_size=len(places)))
    return Fleet(tuple(places), frozenset(everywhere) - absent)


def key_of(place: tuple[str, str], part: Slice) -> GroupKey:
    """Return the partition's cell of a machine."""
    return GroupKey(part.first, part.end, "FR", Population.WORKSTATION, False, place[0], None, place[1])


def tallies(fleet: Fleet, month: int, entities: Sequence[str] = ()) -> dict[GroupKey, Tally]:
    """Return the tallies of one month, of these entities only when given."""
    found: dict[GroupKey, Tally] = {}
    for host, place in enumerate(fleet.places):
        if Seen(host, month) in fleet.present and is_within(place[0], entities):
            tally = found.setdefault(key_of(place, MONTHS[month]), Tally())
            bit = 1 << (host * len(MONTHS) + month)
            tally.add_state(HostId(host), (Band.OPEN, State.ON_ACTIVE), StateSums(UNIT + bit))
            tally.enrolled[HostId(host)] += UNIT
    return found


def release(fleet: Fleet, entities: Sequence[str] = ()) -> list[Month]:
    """Return the release of Releases; with `entities`, an unsafe one that is checked inside them alone."""
    return [build_month(part, tallies(fleet, number, entities), K) for number, part in enumerate(MONTHS)]


def asked(dimensions: Sequence[str], entities: Sequence[str] = ()) -> Query:
    """Return a question about all months."""
    return Query(MONTHS[0].first, MONTHS[-1].end, tuple(dimensions), entities=tuple(entities))


def decoded(groups: Iterable[Group]) -> frozenset[Seen]:
    """Return the machines and months that a figure contains."""
    total = sum(sums.milliseconds for group in groups for sums in group.sums.states.values())
    bits = total % UNIT
    return frozenset(
        Seen(*divmod(position, len(MONTHS))) for position in range(bits.bit_length()) if bits >> position & 1
    )


def answers(months: Sequence[Month], entities: Sequence[str]) -> set[frozenset[Seen]]:
    """Return every row and total that a reader can get by any question."""
    found: set[frozenset[Seen]] = set()
    for first, last in itertools.combinations_with_replacement(MONTHS, 2):
        for dimensions in GROUPINGS:
            rows = sum_uses(
                [month for month in months if first.first <= month.part.first <= last.first],
                replace(asked(dimensions, entities), first=first.first, end=last.end),
            )
            found |= {decoded([group]) for group in rows}
            found.add(decoded(rows))
    return found - {frozenset()}


COUNTED: Counter[str] = Counter()
"""Counts of what the properties examined."""


def smallest(figures: Iterable[frozenset[Seen]]) -> int:
    """Return the fewest machines in a month of any figure, or of one figure without a part of it."""
    known = list(figures)
    COUNTED["fleets"] += 1
    COUNTED["pairs"] += len(known) * (len(known) - 1)
    parts = [*known, *(one - other for one in known for other in known if other < one)]
    counts = [
        len([seen for seen in part if seen.month == month]) for part in parts for month in range(len(MONTHS))
    ]
    return min((count for count in counts if count), default=K)


def counted(before: Counter[str]) -> str:
    """Return what was examined since."""
    since = COUNTED - before
    assert since["pairs"] > since["fleets"]
    return f"{since['pairs']:,} pairs of answers about {since['fleets']} fleets of up to 14 machines"


@pytest.mark.promise("P5")
def test_no_two_answers_leave_fewer_than_k(figure):
    """Each pair of answers, over periods, groupings and readers, differs by k machines or none a month."""
    before = COUNTED.copy()
    _answers_about_a_fleet()
    figure(
        f"0 differences of fewer than {K} machines in {counted(before)}, {len(GROUPINGS)} groupings × {len(SCOPES)} readers"
    )


@settings(max_examples=60)
@given(fleets())
def _answers_about_a_fleet(fleet):
    months = release(fleet)
    assert smallest(set().union(*(answers(months, scope) for scope in SCOPES))) >= K


@pytest.mark.long
@settings(max_examples=400)
@given(fleets())
def test_no_two_answers_leave_fewer_than_k_at_length(fleet):
    """The same property holds for more fleets."""
    months = release(fleet)
    assert smallest(set().union(*(answers(months, scope) for scope in SCOPES))) >= K


class Kept:
    """The store of publications, in memory."""

    def __init__(self) -> None:
        self.all: dict[tuple[PublicationKind, date, date], Publication] = {}

    def years(self) -> frozenset[int]:
        return frozenset(first.year for _, first, _ in self.all)

    def summary(self, kind: PublicationKind, first: date, end: date) -> PublicationSummary | None:
        one = self.find(kind, first, end)
        if one is None:
            return None
        head = {name: getattr(one, name) for name in PublicationSummary._fields if name != "content_bytes"}
        return PublicationSummary(**head, content_bytes=len(one.content))

    def find(self, kind: PublicationKind, first: date, end: date) -> Publication | None:
        return self.all.get((kind, first, end))

    def waits(self, first: date, end: date) -> bool:
        return False

    def hold(self) -> None:
        return None

    def put(self, one: Publication) -> None:
        self.all.setdefault((one.kind, one.first, one.end), one)


@dataclass(frozen=True)
class Later:
    """A fleet after changes (late records, moves, departures), with `over` ended months."""

    fleet: Fleet
    over: int


@st.composite
def stories(draw: st.DrawFn) -> list[Later]:
    """Draw a fleet and its changes between looks, each look by a restarted service."""
    fleet, over = draw(fleets()), draw(st.integers(1, len(MONTHS)))
    found = [Later(fleet, over)]
    hosts = range(len(fleet.places))
    for _ in range(draw(st.integers(1, 3))):
        everywhere = [Seen(host, month) for host in hosts for month in range(len(MONTHS))]
        late = draw(st.sets(st.sampled_from(everywhere), max_size=3))
        gone = draw(st.sets(st.sampled_from(hosts), max_size=2))
        moved = draw(
            st.dictionaries(
                st.sampled_from(hosts),
                st.tuples(st.sampled_from(ENTITIES), st.sampled_from(CLASSES)),
                max_size=3,
            )
        )
        places = tuple(moved.get(host, place) for host, place in enumerate(fleet.places))
        present = frozenset(seen for seen in fleet.present | late if seen.host not in gone)
        fleet, over = Fleet(places, present), draw(st.integers(over, len(MONTHS)))
        found.append(Later(fleet, over))
    return found


def looks(story: Sequence[Later], kept: Kept | None) -> set[frozenset[Seen]]:
    """Return all answers of all looks; without `kept`, each service computes them again."""
    found: set[frozenset[Seen]] = set()
    for later in story:
        made = release(later.fleet)[: later.over]
        store = kept or Kept()
        published = PublicationCache(FORM, store, store.put, K)
        months = [
            published.figures(one.part.first, one.part.end, date.max, partial(next, iter([one])))
            for one in made
        ]
        shown_months = [month for month in months if month is not None]
        found |= set().union(*(answers(shown_months, scope) for scope in SCOPES))
    return found


@pytest.mark.promise("P6")
def test_no_two_looks_leave_fewer_than_k(figure):
    """The property holds over restarts and new months, with late records, moves and departures."""
    before = COUNTED.copy()
    _looks_of_a_story()
    figure(
        f"0 differences of fewer than {K} machines in {counted(before)}, over months with late records, moves and departures"
    )


@settings(max_examples=40)
@given(stories())
def _looks_of_a_story(story):
    assert smallest(looks(story, Kept())) >= K


@pytest.mark.long
@settings(max_examples=300)
@given(stories())
def test_no_two_looks_leave_fewer_than_k_at_length(story):
    """The same property holds for more stories."""
    assert smallest(looks(story, Kept())) >= K


@pytest.mark.parametrize("what", ["late", "moved", "forgotten"])
def test_the_check_finds_a_month_that_is_computed_anew(what):
    """A machine that is late, moves or is forgotten is a difference, unless publications are kept."""
    places = (("A", "laptop"),) * 7 + (("B", "laptop"),) * 4
    whole = Fleet(places, frozenset(Seen(host, month) for host in range(11) for month in range(3)))
    less = Fleet(places, whole.present - {Seen(0, 1)})
    moved = Fleet((("B", "laptop"), *places[1:]), whole.present)
    before, after = {
        "late": (less, whole),
        "moved": (whole, moved),
        "forgotten": (whole, Fleet(places, frozenset(seen for seen in whole.present if seen.host))),
    }[what]
    story = [Later(before, 2), Later(after, 3)]
    assert smallest(looks(story, None)) == 1
    assert smallest(looks(story, Kept())) >= K


def test_the_check_finds_a_rule_applied_inside_an_entity():
    """Inside A, three and two machines merge; in the fleet the two merge with B's: two remain."""
    places = (("A", "laptop"),) * 3 + (("A > 1", "laptop"),) * 2 + (("B", "laptop"),) * 2
    everywhere = frozenset(Seen(host, month) for host in range(7) for month in range(3))
    fleet = Fleet(places, everywhere)
    whole = answers(release(fleet), ())
    naive = {decoded(month.cells) for month in release(fleet, ("A",))}
    assert smallest(whole) >= K
    assert smallest(whole | naive) == 2


def test_a_reader_of_an_entity_sees_whole_rows_inside_it_alone():
    """A reader of an entity gets its cells, what merged below it, and totals of both; nothing of others. A's
    total lacks its tower, which merged with C's; B's total was once incomplete for A's sake."""
    laptops = (("A", 4), ("A > 1", 2), ("A > 2", 2), ("B", 2), ("B > 1", 3))
    places = tuple((entity, "laptop") for entity, number in laptops for _ in range(number))
    places += (("A > 2", "tower"), ("C", "tower"), ("C", "tower"))
    fleet = Fleet(places, frozenset(Seen(host, month) for host in range(16) for month in range(3)))

    def seen(*entities: str) -> tuple[set[tuple[str | None, bool, int, bool]], set[bool]]:
        of_entities = sum_uses(release(fleet), asked(("entity",), entities))
        rows = {(one.key.entity, one.key.autres, one.sums.hosts, one.sums.incomplete) for one in of_entities}
        return rows, {one.sums.incomplete for one in sum_uses(release(fleet), asked((), entities))}

    assert seen("A") == ({("A", False, 4, False), ("A", True, 4, False)}, {True})
    assert seen("B") == ({("B", True, 5, False)}, {False})
    assert seen("B > 1") == (set(), set())
    assert seen("autres") == (set(), set())
    of_b = sum_uses(release(fleet), asked((), ("B",)))
    assert decoded(of_b) == {Seen(host, month) for host in range(8, 13) for month in range(3)}


def grown(*others: tuple[str, str]) -> tuple[Group, ...]:
    """Return the year's answer for four laptops of A, two of them from February on, beside others."""
    fleet = Fleet(
        (("A", "laptop"),) * 4 + others,
        frozenset(
            Seen(host, month)
            for host in range(4 + len(others))
            for month in range(3)
            if month > 0 or host not in (0, 1)
        ),
    )
    return sum_uses(release(fleet), asked(("entity",)))


def test_a_group_that_grew_is_shown_from_the_month_in_which_it_may_be():
    """A's row begins in February, January is in `autres`; beside a group of two it is not shown."""
    answer = grown(*(("B", "laptop"),) * 3, *(("B > 1", "laptop"),) * 3)
    (of_a,) = [group.key for group in answer if group.key.entity == "A"]
    assert (of_a.period_from, of_a.period_to) == (date(2026, 2, 1), date(2026, 4, 1))
    answer = grown(*(("B", "laptop"),) * 2)
    assert {group.key.entity for group in answer} == {"autres"}
    assert sum(len(decoded([group])) for group in answer) == 16


def test_a_month_in_which_a_group_may_not_be_shown_is_a_hole():
    """A is shown in January and March, in two dated rows; the total covers all three months."""
    places = (("A", "laptop"),) * 4 + (("B > 1", "laptop"),) * 2 + (("B > 2", "laptop"),) * 2
    everywhere = frozenset(Seen(host, month) for host in range(8) for month in range(3))
    fleet = Fleet(places, everywhere - {Seen(0, 1), Seen(1, 1)})
    answer = sum_uses(release(fleet), asked(("entity",)))
    of_a = [group for group in answer if group.key.entity == "A"]
    assert [(group.key.period_from.month, group.key.period_to.month) for group in of_a] == [(1, 2), (3, 4)]
    assert {seen.month for group in of_a for seen in decoded([group])} == {0, 2}
    assert decoded(sum_uses(release(fleet), asked(()))) == decoded(answer) == fleet.present


@pytest.mark.parametrize(
    ("first", "end", "whole"),
    [
        (date(2026, 1, 1), date(2026, 2, 1), True),
        (date(2026, 2, 1), date(2026, 3, 1), True),
        (date(2026, 12, 1), date(2027, 1, 1), True),
        (date(2026, 1, 2), date(2026, 2, 1), False),
        (date(2026, 1, 1), date(2026, 1, 31), False),
    ],
)
def test_what_a_month_is(first, end, whole):
    """A month is from a first to the next."""
    assert is_month(Slice(first, end)) is whole
