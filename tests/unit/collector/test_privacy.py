# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""No published cell, and no difference of published cells, has fewer than k machines behind it (P4, P5)."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilleuse.collector.disclosure.rule import DisclosureCell, is_safe, publish
from veilleuse.collector.model.records import HostId

K = 10


def disjoint(sizes: list[int], value: int = 1) -> list[DisclosureCell[str]]:
    """Return cells of the given numbers of machines; no machine is in two cells."""
    cells, first = [], 0
    for number, size in enumerate(sizes):
        hosts = {HostId(first + i): value for i in range(size)}
        cells.append(DisclosureCell(f"g{number}", hosts))
        first += size
    return cells


FLEETS = st.lists(
    st.dictionaries(st.integers(0, 60).map(HostId), st.integers(0, 1_000), max_size=30), max_size=8
).map(lambda groups: [DisclosureCell(f"g{i}", hosts) for i, hosts in enumerate(groups)])


COUNTED: Counter[str] = Counter()
"""Counts of what the properties examined."""


@pytest.mark.promise("P4")
def test_every_published_cell_is_safe(figure):
    """Each cell has k contributing machines or more, none above 85 %, also when cells share machines."""
    _cells_of_a_fleet()
    figure(
        f"0 of {COUNTED['cells']:,} published cells of {COUNTED['fleets']} fleets with fewer than k machines or one above 85 %"
    )
    assert COUNTED["cells"] > 50


@given(FLEETS, st.integers(2, 12))
def _cells_of_a_fleet(cells, k):
    level = publish(cells, k)
    COUNTED["fleets"] += 1
    for cell in [*level.kept, *([level.others] if level.others else [])]:
        COUNTED["cells"] += 1
        assert is_safe(cell.contributions, k)


@given(FLEETS, st.integers(2, 12))
def test_nothing_is_lost_or_counted_twice(cells, k):
    """Published figures and `autres` sum to the whole, unless the level is withheld."""
    level = publish(cells, k)
    whole = sum(sum(cell.contributions.values()) for cell in cells)
    shown = sum(sum(cell.contributions.values()) for cell in level.kept)
    shown += sum(level.others.contributions.values()) if level.others else 0
    assert shown == (0 if level.withheld_keys else whole)
    assert not (level.withheld_keys and (level.kept or level.others))


@pytest.mark.promise("P5")
def test_no_difference_of_sums_isolates_few_machines(figure):
    """No difference of two sums of published cells is a sum of fewer than k machines, over all pairs."""
    _differences_of_a_level()
    figure(
        f"0 differences of fewer than k machines in {COUNTED['pairs']:,} pairs of sums of {COUNTED['levels']} levels"
    )
    assert COUNTED["pairs"] > COUNTED["levels"] > 50


@given(st.lists(st.integers(0, 25), max_size=6), st.integers(2, 12))
def _differences_of_a_level(sizes, k):
    COUNTED["levels"] += 1
    level = publish(disjoint(sizes), k)
    shown = [set(cell.contributions) for cell in level.kept]
    if level.others:
        shown.append(set(level.others.contributions))
    sums = [set().union(*chosen) for size in range(len(shown) + 1) for chosen in combinations(shown, size)]
    for larger, smaller in combinations(sums, 2):
        COUNTED["pairs"] += 1
        for difference in (larger - smaller, smaller - larger):
            assert not difference or len(difference) >= k


def test_small_groups_merge_with_the_smallest_sibling():
    """A group of 3 machines merges with the group of 11, not with the group of 50."""
    level = publish(disjoint([3, 50, 11]), K)
    assert [cell.key for cell in level.kept] == ["g1"]
    assert set(level.merged_keys) == {"g0", "g2"}
    assert level.others is not None
    assert len(level.others.contributions) == 14


def test_small_groups_together_are_enough():
    """Groups of 6 and 5 machines make `autres`; the third group stays as it is."""
    level = publish(disjoint([6, 5, 30]), K)
    assert [cell.key for cell in level.kept] == ["g2"]


def test_a_level_that_cannot_reach_k_is_withheld():
    """With 9 machines in all, nothing is published."""
    level = publish(disjoint([4, 5]), K)
    assert level.kept == ()
    assert level.others is None
    assert set(level.withheld_keys) == {"g0", "g1"}


@pytest.mark.promise("P4")
def test_a_machine_that_dominates_hides_its_cell(figure):
    """A cell of twelve machines is withheld when one machine has 90 % of its energy."""
    cells = disjoint([12])
    hosts = dict(cells[0].contributions)
    hosts[HostId(0)] = 99
    assert publish([DisclosureCell("g0", hosts)], K).withheld_keys == ("g0",)
    figure(
        f"1 cell withheld, where one of {len(hosts)} machines has {100 * 99 / sum(hosts.values()):.0f} % of the energy"
    )


def test_machines_that_contributed_nothing_do_not_count():
    """Ten machines, one of which contributed zero, count as nine."""
    hosts = {HostId(i): int(i > 0) for i in range(10)}
    assert not is_safe(hosts, K)
