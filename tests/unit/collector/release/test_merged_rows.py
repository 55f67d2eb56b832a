# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests that small cells of a released month merge along the path of their entity. docs/privacy.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from veilleuse.collector.disclosure.partition import merge_along_path
from veilleuse.collector.disclosure.rule import DisclosureCell, merge_cells
from veilleuse.collector.model.query import AUTRES, GroupKey
from veilleuse.collector.model.records import HostId
from veilleuse.wire.vocabulary import Population

K = 3
Machines = Mapping[tuple[str, str], int]
"""(entity, device class) → machines."""


def cells_of(machines: Machines, heavy: Sequence[int] = ()) -> list[DisclosureCell[GroupKey]]:
    """Return the cells of these machines; `heavy`: numbers of machines that draw a hundred times as much."""
    found, number = [], 0
    for (entity, device_class), size in machines.items():
        key = GroupKey(zone="FR", population=Population.WORKSTATION, entity=entity, device_class=device_class)
        hosts = range(number, number + size)
        found.append(DisclosureCell(key, {HostId(host): 100 if host in heavy else 1 for host in hosts}))
        number += size
    return found


def rows_of(machines: Machines) -> dict[tuple[str | None, str | None, bool], int]:
    """Return (entity, class, merged) → number of cells."""
    rows = merge_along_path(cells_of(machines), K)
    return {(key.entity, key.device_class, key.autres): len(inside) for key, inside in (rows or {}).items()}


def test_small_cells_merge_in_their_branch_and_class():
    """A flat `autres` took small colleges out of their branch, and towers out of their class."""
    assert rows_of(
        {
            ("L > Colleges > 1", "laptop"): 2,
            ("L > Colleges > 2", "laptop"): 2,
            ("L > Colleges > 3", "laptop"): 3,
            ("L > Roads", "laptop"): 1,
            ("L > Roads", "tower"): 1,
            ("L > Water", "laptop"): 2,
            ("L > Water", "tower"): 2,
            ("M", "laptop"): 3,
        }
    ) == {
        ("L > Colleges", "laptop", True): 2,
        ("L > Colleges > 3", "laptop", False): 1,
        ("L", "laptop", True): 2,
        ("L", "tower", True): 2,
        ("M", "laptop", False): 1,
    }


def test_other_classes_merge_last():
    """One tower has no tower beside it: it takes a merged row, and leaves cells as they are."""
    laptops = {("A > 1", "laptop"): 2, ("A > 2", "laptop"): 2, ("B", "laptop"): 3}
    assert rows_of(laptops | {("B", "tower"): 1}) == {
        ("B", "laptop", False): 1,
        (AUTRES, AUTRES, True): 3,
    }
    assert rows_of({("A > 1", "laptop"): 3, ("A > 2", "tower"): 1}) == {("A", AUTRES, True): 2}
    assert merge_along_path(cells_of({("A", "laptop"): 1, ("B", "tower"): 1}), K) is None


def test_an_entity_named_autres_has_no_row_of_its_name_twice():
    """Its branch and the row of all entities have one name: they are one row."""
    rows = rows_of({(f"{AUTRES} > {number}", "laptop"): 2 for number in (1, 2)} | {("B", "laptop"): 1})
    assert rows == {(AUTRES, "laptop", True): 3}


def test_perimeters_merge_only_where_one_is_too_small():
    """The colleges' laptop once merged with an office's."""
    colleges = {("L > Colleges > 1", "laptop"): 2, ("L > Colleges > 2", "tower"): 2}
    offices = {("L > Roads", "laptop"): 2, ("L > Water", "laptop"): 2, ("L > Water", "tower"): 3}

    def perimeter_of(key: GroupKey) -> str:
        return "colleges" if "Colleges" in key.path else "offices"

    def perimeters(machines: Machines) -> list[set[str]]:
        rows = merge_along_path(cells_of(machines), K, perimeter_of) or {}
        return [{perimeter_of(one) for one in inside} for inside in rows.values()]

    assert all(len(names) == 1 for names in perimeters(colleges | offices))
    assert {"colleges", "offices"} in perimeters({("L > Colleges", "laptop"): 1} | offices)


@given(
    st.dictionaries(
        st.tuples(
            st.sampled_from(("A", "A > 1", "A > 1 > x", "A > 1 > y", "A > 2", "B", "B > 1", "C")),
            st.sampled_from(("laptop", "tower", "sff")),
        ),
        st.integers(1, 5),
        max_size=14,
    ),
    st.sets(st.integers(0, 40), max_size=2),
)
def test_each_cell_is_in_the_nearest_merged_row_above_it(
    machines: dict[tuple[str, str], int], heavy: set[int]
):
    """Rows are safe and hold each cell once. A cell that was in another row than its name says counted twice
    in the fleet's time."""
    cells = {cell.key: cell for cell in cells_of(machines, sorted(heavy))}
    rows = merge_along_path(list(cells.values()), K)
    if rows is None:
        return
    assert sorted(map(str, (one for inside in rows.values() for one in inside))) == sorted(map(str, cells))
    for row, inside in rows.items():
        assert merge_cells([cells[one] for one in inside], row).is_safe(K)
        assert row.autres or inside == (row,)
    classes = {(row.entity, one.device_class) for row, inside in rows.items() if row.autres for one in inside}
    row_of = {one: row for row, inside in rows.items() for one in inside}
    for key in cells:
        above = (
            one
            for one in key.merged_above
            if one.device_class != AUTRES or (one.entity, key.device_class) in classes
        )
        assert row_of[key] == (key if key in rows else next(one for one in above if one in rows))
