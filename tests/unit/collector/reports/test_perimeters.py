# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Figures by perimeter and by level of the tree: nothing is lost or counted twice, and closed years stay."""

from __future__ import annotations

import json
import re
from datetime import date

import pytest

from tests.support.closed_years import PERIOD, YEAR, report, signed_off, told
from tests.support.year import END, FIRST, asset, census, worked, workstation
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.closed_years.document import statistics_document, statistics_from_document
from veilleuse.collector.closed_years.reduce import reduce_year
from veilleuse.collector.closed_years.restate import restate_year
from veilleuse.collector.closed_years.year_statistics import YearStatistics
from veilleuse.collector.disclosure.partition import merge_families
from veilleuse.collector.disclosure.rule import DisclosureCell
from veilleuse.collector.fleet.estimator import Assumptions
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.model.query import GroupKey, PerimeterRule, Perimeters, Query
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import Group, GroupSums
from veilleuse.collector.release.answer import sum_uses
from veilleuse.collector.release.tables import Hidden, Month
from veilleuse.wire.vocabulary import Population

BRANCH = Perimeters(
    (
        PerimeterRule("colleges", entity="Métropole > Collèges"),
        PerimeterRule("posts", population=Population.WORKSTATION),
    ),
    2025,
)
"""A desk in a college is the colleges': its branch comes before its population."""
DESKS = {
    "Métropole > Collèges > A": 4,
    "Métropole > Collèges > B": 5,
    "Métropole > Collèges > C": 6,
    "Métropole > DSI": 30,
    "Métropole > Voirie > Nord": 3,
}


def kept(k: int = 10) -> YearStatistics:
    """Return the statistics of a year of desks, each with an asset, and as many assets without an agent."""
    hosts = [
        workstation(1_000 * place + number + 1, entity)
        for place, (entity, desks) in enumerate(DESKS.items())
        for number in range(desks)
    ]
    assets = [asset(at, one.org_entity, host_id=one.host_id) for at, one in enumerate(hosts, 1)]
    assets += [asset(1_000 + at, one.org_entity) for at, one in enumerate(hosts)]
    standings = census(*hosts, assets=tuple(assets))
    of = {standing.host_id: standing for standing in standings}
    machines = [(worked(one, watts=20 + at % 7), of[one.host_id]) for at, one in enumerate(hosts)]
    return reduce_year(FIRST, END, standings, machines, k=k, perimeters=BRANCH)


@pytest.mark.parametrize("k", [1, 10])
@pytest.mark.parametrize(
    ("dimensions", "level"),
    [(("perimeter",), None), (("entity",), 1), (("entity",), 2), (("entity", "perimeter"), 2)],
)
def test_perimeters_and_levels_sum_to_the_total(k, dimensions, level):
    """No grouping loses or doubles a machine or a millijoule."""
    figures = restate_year(kept(k), dimensions, Assumptions(), level=level)
    whole = restate_year(kept(k), (), Assumptions()).total
    assert figures.total is not None
    assert whole is not None
    assert figures.total.estimate == whole.estimate
    energies = [row.estimate.energy_millijoules for row in figures.rows]
    assert sum(energies) == whole.estimate.energy_millijoules
    assert sum(row.estimate.machines_fleet for row in figures.rows) == 2 * sum(DESKS.values())


def test_small_colleges_still_count_in_the_colleges():
    """Colleges below k merge with each other, never with the directions beside them."""
    by_perimeter = restate_year(kept(), ("perimeter",), Assumptions()).rows
    assert {row.key.perimeter: row.estimate.machines_sampled for row in by_perimeter} == {
        "colleges": 15,
        "posts": 33,
    }
    found = statistics_from_document(json.loads(json.dumps(statistics_document(kept()))))
    assert found == kept()
    assert restate_year(found, ("perimeter",), Assumptions()).rows == by_perimeter


def test_a_level_is_a_branch_with_all_below_it():
    """With k = 1 the second level has one row of all colleges."""
    rows = restate_year(kept(1), ("entity",), Assumptions(), level=2).rows
    assert {row.key.entity: row.machines for row in rows} == {
        "Métropole > Collèges": 15,
        "Métropole > DSI": 30,
        "Métropole > Voirie": 3,
    }


def test_a_reader_of_one_college_reads_no_row_of_all():
    """A level above the reader's entity would name a row that holds only a part of it."""
    query = Query(date(2025, 1, 1), date(2026, 1, 1), level=2, entities=("Métropole > Collèges > A",))
    key = GroupKey(entity="Métropole > Collèges > A > Salle 1", device_class="tower")
    assert query.group(key).entity == "Métropole > Collèges > A"


@pytest.mark.parametrize(
    ("key", "perimeter"),
    [
        (GroupKey(population=Population.WORKSTATION, entity="Métropole > Collèges > A"), "colleges"),
        (GroupKey(population=Population.WORKSTATION, entity="autres", autres=True), None),
        (GroupKey(population=Population.SERVER, entity="Métropole > DSI"), "other"),
    ],
)
def test_a_group_of_several_perimeters_has_none(key, perimeter):
    """Machines merged from entities that nobody names are in no perimeter, rather than in a wrong one."""
    assert BRANCH.of(key._replace(power_context=PowerContext.OWN_SITE)) == perimeter


@pytest.mark.parametrize(
    ("left_out", "expected"),
    [
        ("Voirie", {("posts", "DSI", 30), ("colleges", "autres", 12)}),
        ("", {("posts", "DSI", 30), (None, "autres", 15)}),
    ],
)
def test_small_groups_of_an_indicator_merge_inside_their_perimeter(left_out, expected):
    """Two colleges are one row of the colleges, unless machines elsewhere are too few without them."""
    machines = {"A": range(6), "B": range(6, 12), "DSI": range(100, 130), "Voirie": range(200, 203)}
    perimeters = {"A": "colleges", "B": "colleges", "DSI": "posts", "Voirie": "depots"}
    groups = {
        GroupKey(population=Population.WORKSTATION, entity=name, perimeter=perimeters[name]): frozenset(own)
        for name, own in machines.items()
        if name != left_out
    }
    rows, withheld = merge_families(
        groups,
        10,
        lambda some: [DisclosureCell(key, {HostId(one): 1 for one in own}) for key, own in some.items()],
        lambda some: frozenset().union(*some),
    )
    assert withheld == []
    assert {(key.perimeter, key.entity, len(own)) for key, own in rows} == expected


def test_a_released_branch_says_what_is_missing_from_it():
    """At a level, a row lacks the machines of its entities that are in `autres`: it is incomplete."""
    family = GroupKey(FIRST, END, "FR", Population.WORKSTATION)
    key = family._replace(entity="A > 1", device_class="tower")
    hidden = Hidden(family, frozenset({"A > 2"}), frozenset({"tower"}))
    month = Month(Slice(FIRST, END), (), (Group(key, GroupSums(12, 1)),), (), (), hidden_uses=(hidden,))
    for level, incomplete in ((None, False), (1, True)):
        (row,) = sum_uses([month], Query(FIRST, END, level=level))
        assert (row.key.entity, row.sums.incomplete) == ("A > 1" if level is None else "A", incomplete)


def declare(place, name: str) -> tuple[str, ...]:
    """Write a file with a perimeter of workstations; return the words of the command that declares it."""
    path = place.data_dir.parent / "perimeters.toml"
    path.write_text(f'[[perimeter]]\nname = "{name}"\npopulation = "workstation"\n')
    return "perimeters", "declare", str(path), "--year", str(YEAR)


def perimeters_of(veilleuse) -> set[str]:
    """Return the perimeters of the year's report, whose rows sum to its total."""
    shown = report(veilleuse, "--group-by", "perimeter")
    (total,) = shown["totals"]
    assert sum(row["energy_millijoules"] for row in shown["rows"]) == total["energy_millijoules"]
    return {row["perimeter"] for row in shown["rows"]}


def test_a_closed_year_keeps_its_perimeters(place, veilleuse):
    """A declaration after a closing changes the year only by a revision, never once it is definitive."""
    assert perimeters_of(veilleuse) == {"agents_posts", "data_centre"}
    assert veilleuse(*declare(place, "Postes"))[0] == 0
    assert perimeters_of(veilleuse) == {"Postes", "other"}
    told(veilleuse, "close", str(YEAR))
    assert veilleuse(*declare(place, "Bureaux"))[0] == 0
    assert perimeters_of(veilleuse) == {"Postes", "other"}
    told(veilleuse, "close", str(YEAR), *signed_off(place), "--why", "other perimeters")
    assert perimeters_of(veilleuse) == {"Bureaux", "other"}
    code, _, err = veilleuse(*declare(place, "Postes"))
    assert (code, f"{YEAR} is closed definitively: its perimeters are frozen with it" in err) == (1, True)
    assert [one["perimeters"][0]["perimeter"] for one in told(veilleuse, "verify", str(YEAR))] == [
        "Postes",
        "Bureaux",
    ]


def test_the_sheet_splits_the_use_phase(place, veilleuse):
    """The perimeters sum to the total: in millijoules, and as shown on the page."""
    code, out, err = veilleuse("report", "reen", *PERIOD, "--format", "json")
    assert code == 0, err
    *parts, total = json.loads(out)["perimeters"]
    assert [one["perimeter"] for one in (*parts, total)] == ["agents_posts", "data_centre", "total"]
    assert sum(one["energy_millijoules"] for one in parts) == total["energy_millijoules"]
    assert sum(one["kgco2e_total"] for one in parts) == pytest.approx(total["kgco2e_total"], rel=1e-12)
    _, page, _ = veilleuse("report", "reen", *PERIOD, "--format", "html")
    section = page[page.index("La phase d’usage par périmètre</h2>") :]
    for column in ("kwh_total", "kgco2e_total"):
        shown = [re.search(f'<data value="{one[column]!r}">([^<]*)<', section) for one in (*parts, total)]
        *numbers, whole = [int(found[1].replace("\u202f", "")) for found in shown if found]
        assert (len(numbers), sum(numbers)) == (2, whole)
