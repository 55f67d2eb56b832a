# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Laptops at home have rows of their own by declared days, exact to the millijoule, and none for few
machines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.memory_store import host
from tests.support.year import DAY, END, FIRST, census, figures, worked
from veilleuse.collector.account.row import FigureRow, PeriodFigures
from veilleuse.collector.account.server_rooms import with_rooms
from veilleuse.collector.account.statement import StatementTerms, build_statement
from veilleuse.collector.account.telework import HomeShare, merge_shares
from veilleuse.collector.closed_years.document import statistics_document, statistics_from_document
from veilleuse.collector.closed_years.reduce import YearReducer
from veilleuse.collector.closed_years.restate import restate_year
from veilleuse.collector.closed_years.year_statistics import YearStatistics
from veilleuse.collector.factors.book import choose
from veilleuse.collector.fleet.census import FleetDevice
from veilleuse.collector.fleet.estimator import Assumptions
from veilleuse.collector.fleet.observations import ObservedMachine, Place
from veilleuse.collector.fleet.rooms import RoomFigure
from veilleuse.collector.fleet.samples import InService
from veilleuse.collector.model.closed_years import canonical
from veilleuse.collector.model.factors import Contract
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.inventory import Headcount, PowerContext
from veilleuse.collector.model.query import AUTRES
from veilleuse.collector.model.sums import Detail
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import DeviceClass, Population

ALL = ("entity", "site", "population", "device_class")
BY_CLASS = ("entity", "device_class")
USERS = 10**8
"""So many that rounding moves a share by less than a millionth."""
LAPTOP, SFF = DeviceClass.LAPTOP, DeviceClass.SFF


def declared(**days: str) -> list[Headcount]:
    """Return telework days a week by entity."""
    return [Headcount(entity, date(2024, 1, 1), USERS, Decimal(number)) for entity, number in days.items()]


def machines(*groups: tuple[str, DeviceClass, int], **more: object) -> list[Host]:
    """Return so many workstations of an entity and class, for each group."""
    return [
        host(100 * at + number, kind, entity=entity, enrolled=FIRST, **more)  # type: ignore[arg-type]
        for at, (entity, kind, size) in enumerate(groups, 1)
        for number in range(size)
    ]


def year(
    hosts: Sequence[Host],
    headcounts: Sequence[Headcount] = (),
    dimensions: tuple[str, ...] = BY_CLASS,
    *,
    k: int = 10,
    measured: int | None = None,
    standings: list[FleetDevice] | None = None,
    seen: Sequence[tuple[ObservedMachine, FleetDevice]] | None = None,
) -> PeriodFigures:
    """Return figures of 2025; `seen`: the measurements, else the first `measured` hosts are measured,
    alternately by two methods.
    """
    stood = census(*hosts) if standings is None else standings
    return figures(
        FIRST,
        END,
        dimensions,
        stood,
        placed(hosts[:measured], stood) if seen is None else seen,
        assumptions=Assumptions(),
        k_anonymity=k,
        headcounts=headcounts,
    )


def placed(
    hosts: Iterable[Host], standings: Sequence[FleetDevice]
) -> list[tuple[ObservedMachine, FleetDevice]]:
    """Return the measurements of these hosts with their place in the fleet."""
    by_host = {one.host_id: one for one in standings}
    return [
        (
            worked(
                one,
                watts=30 + 7 * number % 11,
                method=Method.METERED if number % 2 else Method.LOAD_MODELLED,
                imputed_energy_millijoules=12_347 * number,
                imputed_milliseconds=1_234 * number,
            ),
            by_host[one.host_id],
        )
        for number, one in enumerate(hosts)
    ]


def energy(rows: Iterable[FigureRow], context: PowerContext | None = None) -> int:
    """Return the energy in millijoules of the rows of a context, or of all."""
    return sum(row.estimate.energy_millijoules for row in rows if context in (None, row.key.power_context))


def at_home(made: PeriodFigures) -> list[FigureRow]:
    """Return the rows at home."""
    return [row for row in made.rows if row.key.power_context is PowerContext.HOME]


def test_a_laptop_row_is_two():
    """Two days of five put two fifths of energy, of each part and of time at home.
    Relative errors equal those of the undivided row."""
    hosts = machines(("E1", LAPTOP, 40))
    (whole,) = year(hosts, measured=30).rows
    made = year(hosts, declared(E1="2"), measured=30)
    home, site = sorted(made.rows, key=lambda row: row.key.order)
    assert (home.key.power_context, site.key) == (PowerContext.HOME, whole.key)
    assert (home.key.entity, home.key.device_class, home.machines) == ("E1", "laptop", 30)
    names = (
        *("energy_millijoules", "measured_millijoules", "modelled_millijoules", "imputed_millijoules"),
        *("extrapolated_millijoules", "fleet_milliseconds", "observed_milliseconds", "derived_milliseconds"),
    )
    for name in names:
        mine, theirs, both = (getattr(row.estimate, name) for row in (home, site, whole))
        assert mine + theirs == both > 0, name
        assert mine == pytest.approx(both * 2 / 5, rel=1e-6), name
    for row in (home, site):
        told = row.estimate
        assert told.energy_millijoules == (
            told.measured_millijoules
            + told.modelled_millijoules
            + told.imputed_millijoules
            + told.extrapolated_millijoules
        )
        assert sum(told.methods.values()) == told.measured_millijoules + told.modelled_millijoules
        assert told.interval() == whole.estimate.interval()
        assert told.coverage_energy == pytest.approx(whole.estimate.coverage_energy)
        assert row.class_energies == {"laptop": (told.fleet_milliseconds, told.energy_millijoules)}
    assert made.total == year(hosts, measured=30).total
    ((entity, _, share, declared_by),) = made.homes
    assert (entity, declared_by) == ("E1", "E1")
    assert share == pytest.approx(2 / 5, abs=1e-6)


def test_all_groupings_have_one_figure_at_home():
    """Laptops of three entities, two with a declaration, are among desktops.
    In every grouping the rows have one sum, and so have those at home."""
    groups = [(name, kind, 20) for name in ("E1", "E2", "E3") for kind in (LAPTOP, SFF)]
    hosts = machines(*groups)
    days = declared(E1="1.2", E2="3")
    totals, homes = set(), set()
    for size in range(len(ALL) + 1):
        for dimensions in combinations(ALL, size):
            made = year(hosts[::2], days, dimensions)
            assert made.total is not None
            assert energy(made.rows) == made.total.estimate.energy_millijoules
            totals.add(energy(made.rows))
            homes.add(energy(made.rows, PowerContext.HOME))
    assert (len(totals), len(homes)) == (1, 1)
    assert homes.pop() > 0


def test_without_declared_days_nothing_changes():
    """No declaration, another entity's, one from mid-year on, or zero days leave the rows as they were."""
    hosts = machines(("E1", LAPTOP, 20), ("E1", SFF, 20))
    before = year(hosts)
    late = [Headcount("E1", date(2025, 7, 1), 10, Decimal(2))]
    for headcounts in ([], declared(E2="2"), late, declared(E1="0"), [Headcount("E1", FIRST, 10)]):
        assert year(hosts, headcounts) == before


def test_who_carries_nothing_home():
    """Desktops, a classroom's laptops, and hosted or already-home laptops are not divided."""
    days = declared(E1="2")
    assert not at_home(year(machines(("E1", SFF, 20)), days))
    assert not at_home(year(machines(("E1", LAPTOP, 20), population=Population.CLASSROOM), days))
    hosts = machines(("E1", LAPTOP, 20))
    for context in (PowerContext.HOSTED, PowerContext.HOME):
        standings = [replace(one, power_context=context) for one in census(*hosts)]
        (row,) = year(hosts, days, standings=standings).rows
        assert row.key.power_context is context
        assert row.estimate.energy_millijoules == energy(year(hosts).rows)


def test_who_is_always_at_home_has_no_row_on_site():
    """Five days of five put 20 laptops at home, in one row with 20 that the inventory has there."""
    hosts = machines(("E1", LAPTOP, 20), ("E1", LAPTOP, 20))
    standings = [
        replace(one, power_context=PowerContext.HOME if at < 20 else PowerContext.OWN_SITE)
        for at, one in enumerate(census(*hosts))
    ]
    (row,) = year(hosts, declared(E1="5"), standings=standings).rows
    assert (row.key.power_context, row.machines) == (PowerContext.HOME, 40)
    assert row.estimate.energy_millijoules == energy(year(hosts).rows)
    home, site = year(hosts, declared(E1="1"), standings=standings).rows
    inventoried = energy(year(hosts, standings=standings).rows, PowerContext.HOME)
    assert home.estimate.energy_millijoules > inventoried
    assert energy([home, site]) == row.estimate.energy_millijoules


def test_few_machines_are_not_told_by_a_difference():
    """Both figures and the share would reveal the 3 desktops beside 20 laptops in one row.
    They form one cell, which has the mean share of its fleet.
    """
    hosts = machines(("E1", LAPTOP, 20), ("E1", SFF, 3))
    made = year(hosts, declared(E1="2"), ("entity",))
    (home,) = at_home(made)
    assert (home.key.entity, home.machines) == (AUTRES, 23)
    ((stratum, share),) = keep(hosts, declared(E1="2"), 10).homes.items()
    assert stratum.device_class == AUTRES
    assert home.estimate.energy_millijoules == pytest.approx(energy(made.rows) * float(share.share), rel=1e-6)
    apart = year(machines(("E1", LAPTOP, 20), ("E1", SFF, 12)), declared(E1="2"), ("entity",))
    assert [row.key.entity for row in at_home(apart)] == ["E1"]


def test_two_shares_in_one_row_are_two_equations():
    """One row has 40 laptops at two fifths and 4 at one fifth: the 4 could be solved for, so all have one
    share. With 12 each keeps its own.
    """
    for size, shares in ((4, 1), (12, 2)):
        hosts = machines(("E1", LAPTOP, 40), ("E2", LAPTOP, size))
        kept = keep(hosts, declared(E1="2", E2="1"), 10)
        assert len({one.share for one in kept.homes.values()}) == shares
        assert at_home(year(hosts, declared(E1="2", E2="1"), ("device_class",)))


@pytest.mark.parametrize("heavy", [0, 31])
def test_one_that_draws_almost_all_is_not_told(heavy):
    """20 laptops and 12 desktops are separate, unless one machine draws nearly all of its class's energy."""
    hosts = machines(("E1", LAPTOP, 20), ("E1", SFF, 12))
    standings = census(*hosts)
    seen = placed(hosts, standings)
    for at, (one, standing) in enumerate(zip(hosts, standings, strict=True)):
        if (at < 20) is not (heavy < 20):
            seen[at] = (worked(one, watts=800), standing)
    for watts, told in ((30, {"laptop", "sff"}), (9_000, {AUTRES})):
        seen[heavy] = (worked(hosts[heavy], watts=watts), standings[heavy])
        made = year(hosts, declared(E1="2"), standings=standings, seen=seen)
        assert {row.key.device_class for row in made.rows} == told
        assert at_home(made)


def test_methods_of_few_are_hidden_at_home_too():
    """Ten of 20 laptops are modelled, and twelve or five of 24 desktops. With five desktops the site row and
    the total hide methods; the home row does not.
    """
    hosts = machines(("E1", LAPTOP, 20), ("E1", SFF, 24))
    standings = census(*hosts)
    by_host = {one.host_id: one for one in standings}
    for metered, hidden in ((12, False), (19, True)):
        seen = [
            (
                worked(
                    one,
                    method=Method.METERED if at < 10 or at >= len(hosts) - metered else Method.LOAD_MODELLED,
                ),
                by_host[one.host_id],
            )
            for at, one in enumerate(hosts)
        ]
        made = year(hosts, declared(E1="2"), ("entity",), standings=standings, seen=seen)
        (home,) = at_home(made)
        (site,) = [row for row in made.rows if row is not home]
        assert (home.withheld, site.withheld) == (frozenset(), frozenset({Detail.METHODS} if hidden else ()))
        assert made.total is not None
        assert made.total.withheld == site.withheld


# --- kept statistics


def keep(
    hosts: Sequence[Host], headcounts: Sequence[Headcount], k: int, standings: list[FleetDevice] | None = None
) -> YearStatistics:
    """Return the kept statistics of the same year."""
    standings = standings or census(*hosts)
    keeper = YearReducer(FIRST, END, k, headcounts)
    for standing in standings:
        keeper.add_device(standing)
    for one, standing in placed(hosts, standings):
        keeper.add_machine(one, standing)
    return keeper.statistics()


def test_a_closed_year_has_the_same_rows():
    """With nothing merged, rows, totals and declared shares are equal to the last digit, also after JSON."""
    hosts = machines(("E1", LAPTOP, 20), ("E1", SFF, 12), ("E2", LAPTOP, 15), ("E3", LAPTOP, 15))
    days = declared(E1="2", E2="1.2", E3="5")
    standings = [
        replace(one, power_context=PowerContext.HOME) if at < 8 else one
        for at, one in enumerate(census(*hosts))
    ]
    kept = keep(hosts, days, 1, standings)
    read = statistics_from_document(statistics_document(kept))
    assert read == kept
    assert canonical(statistics_document(read)) == canonical(statistics_document(kept))
    for dimensions in ((), ("entity",), ("device_class",), BY_CLASS):
        opened = year(hosts, days, dimensions, k=1, standings=standings)
        closed = restate_year(read, dimensions, Assumptions())
        assert (closed.rows, closed.total, closed.homes) == (opened.rows, opened.total, opened.homes)
        assert at_home(closed)


def test_what_is_kept_says_nothing_of_telework_where_there_is_none():
    """Statistics of such a year have no telework key, as before telework was supported."""
    kept = keep(machines(("E1", LAPTOP, 20)), [], k=10)
    assert "homes" not in statistics_document(kept)


def test_merged_entities_have_a_share_of_their_fleet():
    """20 laptops at two fifths and 4 at one fifth have (20 × 2 + 4) ÷ (24 × 5), by machine-days, not
    energy."""
    hosts = machines(("E1", LAPTOP, 20), ("E2", LAPTOP, 4))
    kept = keep(hosts, declared(E1="2", E2="1"), k=10)
    ((stratum, share),) = kept.homes.items()
    assert Place.of(stratum).entity == AUTRES
    assert share.declared_by == AUTRES
    assert share.share == pytest.approx(44 / 120, abs=1e-6)
    made = restate_year(kept, BY_CLASS, Assumptions())
    assert energy(made.rows, PowerContext.HOME) == pytest.approx(energy(made.rows) * 44 / 120, rel=1e-5)


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(1, 100)), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_a_merged_share_lies_between_its_own(members: list[tuple[int, int]]):
    """The share is exact where all members have the same."""
    place = Place("E", "hq", "FR", Population.WORKSTATION, PowerContext.OWN_SITE)
    into = place.stratum("laptop")
    found = merge_shares(
        (
            InService(place._replace(entity=f"E{at}").stratum("laptop"), 1, (days * DAY,) * 3),
            into,
            HomeShare(Fraction(tenths, 10), "E") if tenths else None,
        )
        for at, (tenths, days) in enumerate(members)
    )
    share = found[into].share if found else Fraction(0)
    shares = [Fraction(tenths, 10) for tenths, _ in members]
    assert min(shares) <= share <= max(shares)
    assert len(set(shares)) > 1 or share == shares[0]


# --- the bilan carbone and contracts


def whole_contract(kwh: int = 10**9, **more: object) -> Contract:
    """Return a contract for everything at 0 kgCO2e/kWh."""
    made = Contract(1, "green", "S", FIRST, END, Decimal(kwh), Decimal(0), Decimal(10), True, "GO", "bill")
    return replace(made, **more)  # type: ignore[arg-type]


def test_items_of_the_bilan_carbone():
    """On site combustion is 2.1 and the rest 4.1; at home all is 3.3 and outside Énergie.
    Items sum to the total."""
    made = year(machines(("E1", LAPTOP, 20), ("E1", SFF, 20)), declared(E1="2"))
    stated = build_statement([made], StatementTerms(choose, "real"))
    (total,) = stated.totals
    for row in stated.rows:
        home = row.key.power_context == "home"
        items = (
            row.items.beges_item,
            row.items.ghg_category,
            row.items.beges_item_upstream,
            row.items.ghg_category_upstream,
        )
        assert items == (("3.3", "3.7", None, None) if home else ("2.1", "2", "4.1", "3.3"))
        assert (row.items.in_beges_energie, row.items.in_bilan_numerique) == (not home, True)
        assert total.emissions.kgco2e_total is not None
        assert row.uncertainty.gsd2 is not None
    by_item = {one["beges_item"]: one for one in stated.items}
    assert [(name, one["ghg_category"], one["in_beges_energie"]) for name, one in by_item.items()] == [
        ("2.1", "2", True),
        ("3.3", "3.7", False),
        ("4.1", "3.3", True),
    ]
    assert math.fsum(float(one["kgco2e_total"]) for one in stated.items) == pytest.approx(
        total.emissions.kgco2e_total
    )
    (home_row,) = [row for row in stated.rows if row.key.power_context == "home"]
    assert by_item["3.3"]["kgco2e_total"] == pytest.approx(home_row.emissions.kgco2e_total)
    assert total.items.beges_item_upstream is None
    (told,) = stated.homes
    assert (told["entity"], told["declared_by"]) == ("E1", "E1")
    assert told["home_share"] == pytest.approx(0.4, abs=1e-6)


def test_a_contract_covers_what_is_bought():
    """At home others buy, so the location's factor applies; on site the contract's zero does."""
    made = year(machines(("E1", LAPTOP, 20)), declared(E1="2"))
    stated = build_statement([made], StatementTerms(choose, "real", contracts=(whole_contract(),)))
    home, site = sorted(stated.rows, key=lambda row: row.key.power_context or "")
    (total,) = stated.totals
    assert home.emissions.kgco2e_market == home.emissions.kgco2e_total
    assert site.emissions.kgco2e_market == 0
    assert total.emissions.kgco2e_market == home.emissions.kgco2e_total


def test_a_contract_covers_rooms():
    """A contract for everything or for its site covers a room, an entity's does not; totals contain it."""
    room = RoomFigure("DC1", "hq", "FR", 9 * 10**12, 3 * 10**12, 10**12, None, "not_included", 0)
    made = with_rooms(year(machines(("E1", SFF, 20))), [room], BY_CLASS)
    located = build_statement([made], StatementTerms(choose, "real"))
    (of_room,) = [row.emissions.kgco2e_total for row in located.rows if row.key.device_class == "other_room"]
    (of_pcs,) = [row.emissions.kgco2e_total for row in located.rows if row.key.device_class == "sff"]
    for contract, expected in (
        (whole_contract(), 0),
        (whole_contract(site="hq"), 0),
        (whole_contract(entity="E1"), of_room),
        (whole_contract(site="annexe"), None),
    ):
        (total,) = build_statement([made], StatementTerms(choose, "real", contracts=(contract,))).totals
        assert total.emissions.kgco2e_market == (None if expected is None else pytest.approx(expected))
    halved = whole_contract(kwh=round(float(made.total.estimate.energy_millijoules) / 3.6e9 / 2))  # type: ignore[union-attr]
    (total,) = build_statement([made], StatementTerms(choose, "real", contracts=(halved,))).totals
    assert total.emissions.kgco2e_market == pytest.approx(((of_room or 0) + (of_pcs or 0)) / 2, rel=1e-3)


def test_a_college_on_its_own_contract_is_not_covered():
    """No contract covers a college until its contract is declared to be the authority's."""
    hosts = machines(("C1", SFF, 20), population=Population.CLASSROOM)
    terms = StatementTerms(choose, "real", contracts=(whole_contract(),))
    (row,) = build_statement([year(hosts)], terms).rows
    assert row.key.power_context == "eple"
    assert row.emissions.kgco2e_market is None
    assert row.items.beges_item is None
