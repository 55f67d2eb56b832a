# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the rows of a period: complete, consistent between groupings, and without small groups.
docs/methodology.md §6, docs/privacy.md §3."""

from __future__ import annotations

import math
from itertools import combinations

import pytest

from tests.support.memory_store import host
from tests.support.year import DAY, END, FIRST, asset, census, figures, vector, worked, workstation
from veilleuse.collector.account.row import PeriodFigures
from veilleuse.collector.fleet.census import FleetDevice, device_of_host
from veilleuse.collector.fleet.estimate import EstimateBasis
from veilleuse.collector.fleet.estimator import Assumptions
from veilleuse.collector.fleet.observations import (
    MONITOR,
    FleetBook,
    ObservedMachine,
    Place,
    group_by_machine,
)
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.inventory import Asset, Placement, PowerContext
from veilleuse.collector.model.months import DayType, HostPeriod
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import Detail
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

ALL = ("entity", "site", "population", "device_class")


def asked(
    standings: list[FleetDevice],
    machines: list[ObservedMachine],
    dimensions: tuple[str, ...] = ("entity", "device_class"),
    *,
    k: int = 10,
    assumptions: Assumptions | None = None,
) -> PeriodFigures:
    """Return the figures of 2025."""
    by_host = {one.host_id: one for one in standings}
    placed = [(one, by_host[one.host_id]) for one in machines]
    return figures(
        FIRST,
        END,
        dimensions,
        standings,
        placed,
        assumptions=assumptions or Assumptions(),
        k_anonymity=k,
    )


def fleet(*sizes: int) -> list[Host]:
    """Return the given numbers of workstations, in E1, E2, …"""
    return [
        workstation(100 * entity + number, f"E{entity + 1}")
        for entity, size in enumerate(sizes)
        for number in range(1, size + 1)
    ]


def test_rows_sum_to_the_total_in_every_grouping():
    """Every grouping has the same total, and its rows sum to it in millijoules."""
    hosts = fleet(20, 30)
    standings = census(*hosts)
    machines = [worked(one, watts=40 + number) for number, one in enumerate(hosts[::2])]
    totals = set()
    for size in range(len(ALL) + 1):
        for dimensions in combinations(ALL, size):
            made = asked(standings, machines, dimensions)
            assert made.total is not None
            energy = made.total.estimate.energy_millijoules
            assert sum(row.estimate.energy_millijoules for row in made.rows) == energy
            totals.add(energy)
    assert len(totals) == 1


def test_half_of_the_fleet_stands_for_all():
    """With 25 of 50 like machines measured, the other 25 are extrapolated in a separate part."""
    hosts = fleet(50)
    made = asked(census(*hosts), [worked(one) for one in hosts[:25]])
    (row,) = made.rows
    told = row.estimate
    assert (row.machines, told.machines_fleet) == (25, 50)
    assert told.extrapolated_millijoules >= told.modelled_millijoules > 0
    assert told.energy_millijoules == told.modelled_millijoules + told.extrapolated_millijoules
    assert row.class_energies == {"sff": (told.fleet_milliseconds, told.energy_millijoules)}


def test_few_machines_merge():
    """Entities of four and six merge into a row of ten; four and five also merge with the next one."""
    for sizes, shown in (
        ((4, 6, 30), [("E3", False, 30), ("autres", True, 10)]),
        ((4, 5, 30), [("autres", True, 39)]),
    ):
        hosts = fleet(*sizes)
        made = asked(census(*hosts), [worked(one) for one in hosts])
        assert [(row.key.entity, row.key.autres, row.machines) for row in made.rows] == shown
        assert made.total is not None
        assert made.total.machines == sum(sizes)


def test_a_zone_with_too_few_is_incomplete():
    """Nine workstations in all are in no measured figure, and the total is incomplete; servers stay."""
    hosts = fleet(9)
    server = host(900, DeviceClass.SERVER, Population.SERVER, entity="E1", enrolled=FIRST)
    made = asked(census(*hosts, server), [worked(one) for one in (*hosts, server)])
    assert [(row.key.device_class, row.machines) for row in made.rows] == [("server", 1), ("sff", 0)]
    assert [key.zone for key in made.withheld] == ["FR"]
    assert made.incomplete
    assert made.total is not None
    assert made.total.machines == 1
    everything = asked(census(*hosts, server), [worked(one) for one in (*hosts, server)], k=1)
    assert everything.total is not None
    assert everything.total.machines == 10
    assert not everything.incomplete


def test_a_small_population_joins_the_others():
    """Six classroom PCs and fourteen workstations make one row of twenty, and the total is complete."""
    classrooms = [workstation(500 + number, "C1", population=Population.CLASSROOM) for number in range(6)]
    hosts = [*fleet(14), *classrooms]
    made = asked(census(*hosts), [worked(one) for one in hosts])
    assert [(row.key.population, row.key.autres, row.machines) for row in made.rows] == [(None, True, 20)]
    whole = asked(census(*hosts), [worked(one) for one in hosts], k=1)
    assert made.total is not None
    assert whole.total is not None
    assert made.total.estimate.energy_millijoules == whole.total.estimate.energy_millijoules
    assert not made.incomplete


def test_one_metered_machine_is_not_told_apart():
    """With 29 modelled machines and one metered, energy by method is hidden: it would be one machine's."""
    hosts = fleet(30)
    machines = [worked(hosts[0], method=Method.METERED), *(worked(one) for one in hosts[1:])]
    made = asked(census(*hosts), machines)
    assert [row.withheld for row in made.rows] == [{Detail.METHODS}]
    assert made.total is not None
    assert made.total.withheld == {Detail.METHODS}


def test_an_unmatched_machine_is_one_of_the_inventory():
    """Three unmatched assets and two machines of their class and place count as three, four as four."""
    assets = tuple(
        asset(number, device_class="sff", placements=(Placement(FIRST, "E1", "hq"),))
        for number in range(1, 4)
    )
    for machines, expected in ((2, 3), (4, 4)):
        hosts = fleet(machines)
        standings = census(*hosts, assets=assets)
        made = asked(standings, [worked(one) for one in hosts], k=1)
        assert made.total is not None
        assert made.total.estimate.machines_fleet == expected


def test_coverage_is_never_above_one():
    """A machine that reported more days than the inventory gives it was in service on them."""
    (one,) = fleet(1)
    matched = asset(
        1,
        device_class="sff",
        host_id=one.host_id,
        in_service_on=FIRST,
        out_of_service_on=FIRST.replace(month=2),
    )
    made = asked(census(one, assets=(matched,)), [worked(one)], k=1)
    assert made.total is not None
    assert made.total.estimate.coverage_energy == 1


def test_virtual_machines_are_a_memo():
    """A virtual machine is in no total, and has a memo row."""
    physical = host(1, DeviceClass.SERVER, Population.SERVER, enrolled=FIRST)
    guest = host(2, DeviceClass.VIRTUAL_MACHINE, Population.SERVER, enrolled=FIRST)
    (standing,) = census(physical, guest)
    made = figures(
        FIRST,
        END,
        ("device_class",),
        [standing],
        [(worked(physical), standing)],
        assumptions=Assumptions(),
        k_anonymity=10,
        virtual=[(worked(guest), device_of_host(guest, {}, ""))],
    )
    assert made.total is not None
    assert made.total.machines == 1
    (memo,) = made.memo
    assert (memo.key.device_class, memo.key.memo, memo.machines) == ("virtual_machine", True, 1)
    assert memo.estimate.energy_millijoules == made.total.estimate.energy_millijoules


def test_screens_are_rows_of_their_own():
    """Screens of 20 measured machines are all screens; with 20 unmeasured machines more, they double."""
    hosts = fleet(40)
    seen = 100 * DAY
    machines = [
        worked(
            one,
            screens_milliseconds=seen,
            screens_energy_millijoules=seen * 20,
            screens_uncertainty_millijoules=seen,
        )
        for one in hosts[:20]
    ]
    made = asked(census(*hosts[:20]), machines)
    by_class = {row.key.device_class: row for row in made.rows}
    assert by_class["monitor"].estimate.energy_millijoules == 20 * seen * 20
    assert by_class["monitor"].estimate.extrapolated_millijoules == 0
    assert made.total is not None
    assert made.total.machines == 20
    assert set(made.total.class_energies) == {"sff", "monitor"}
    more = asked(census(*hosts), machines)
    shown = {row.key.device_class: row for row in more.rows}["monitor"].estimate
    assert shown.energy_millijoules == pytest.approx(2 * 20 * seen * 20)
    assert shown.extrapolated_millijoules == pytest.approx(20 * seen * 20)


def test_screens_of_a_place_where_nobody_was_measured():
    """PCs of an entity without agents have screens as the others have; its servers have none."""
    hosts = fleet(20, 10)
    server = host(900, DeviceClass.SERVER, Population.SERVER, entity="E3", enrolled=FIRST)
    seen = 100 * DAY
    machines = [
        worked(one, screens_milliseconds=seen, screens_energy_millijoules=seen * 20) for one in hosts[:20]
    ]
    made = asked(census(*hosts, server), machines)
    screens = {row.key.entity: row.estimate for row in made.rows if row.key.device_class == "monitor"}
    assert set(screens) == {"E1", "E2"}
    assert screens["E2"].energy_millijoules == pytest.approx(10 * seen * 20)
    assert screens["E2"].measured_millijoules == screens["E2"].modelled_millijoules == 0


def test_states_of_a_row():
    """A row holds time and energy by state and class; screens have no states."""
    hosts = fleet(10)
    (row,) = asked(census(*hosts), [worked(one) for one in hosts], ()).rows
    assert set(row.states) == {"sff"}
    time, energy = row.states["sff"][State.ON_ACTIVE]
    assert (time, energy) == (10 * 261 * DAY // 2, 10 * 261 * DAY // 2 * 50)


def test_nobody_was_there():
    """Without fleet and machines there is no row and no total."""
    made = asked([], [])
    assert (made.rows, made.memo, made.total, made.withheld) == ((), (), None, ())


def test_a_machine_is_its_periods_together():
    """Bands of a day type and months are added; a machine is apportioned when any of its rows is."""
    rows = [
        HostPeriod(HostId(1), FIRST, DayType.OPEN, band, vector(nights_on=1), apportioned=band is Band.OPEN)
        for band in (Band.OPEN, Band.NIGHT)
    ]
    rows.append(HostPeriod(HostId(1), FIRST, DayType.CLOSED, Band.CLOSED, vector(nights_on=5)))
    rows.append(HostPeriod(HostId(2), FIRST, DayType.CLOSED, Band.CLOSED, vector(nights_on=9)))
    first, second = group_by_machine(rows)
    assert first.by_day_type == {DayType.OPEN: vector(nights_on=2), DayType.CLOSED: vector(nights_on=5)}
    assert first.days(sum) == (2, 0, 5)
    assert (first.total, first.apportioned, second.apportioned) == (vector(nights_on=7), True, False)


def test_a_place_is_its_stratum():
    """A place is written into a stratum and read back, whatever its entity is called."""
    for population in (None, Population.CLASSROOM):
        place = Place("A > B é", "", "FR", population, PowerContext.HOME)
        assert Place.of(place.stratum("tower")) == place


def screens_of(*hosts: Host, lit_hours: int) -> list[ObservedMachine]:
    """Return machines whose one screen is on for `lit_hours` of the year, at 10 W."""
    time = lit_hours * 3_600_000
    return [
        worked(
            one,
            screens_milliseconds=time,
            screens_energy_millijoules=10 * time,
            screens_uncertainty_millijoules=time,
        )
        for one in hosts
    ]


def monitors(number: int, entity: str = "E1") -> tuple[Asset, ...]:
    """Return that many monitors of the inventory."""
    return tuple(asset(1_000 + one, entity, device_class=MONITOR, population=None) for one in range(number))


def test_screens_of_the_inventory_are_in_standby_for_the_rest():
    """Twelve screens, on for 1,760 h each, draw 12 × (17.6 + 0.3 × 7) kWh; standby is modelled, GSD² 1.5."""
    hosts = fleet(12)
    machines = screens_of(*hosts, lit_hours=1_760)
    (alone, _) = asked(census(*hosts), machines).rows
    made = asked(census(*hosts, assets=monitors(12)), machines)
    (row, _) = made.rows
    assert (alone.key.device_class, row.key.device_class) == (MONITOR, MONITOR)
    told, watt_hour = row.estimate, 3_600_000
    assert alone.estimate.energy_millijoules == 12 * 17_600 * watt_hour
    assert told.energy_millijoules - alone.estimate.energy_millijoules == 12 * 2_100 * watt_hour
    assert told.modelled_millijoules == told.energy_millijoules
    assert told.methods == {Method.LOAD_MODELLED: told.energy_millijoules}
    assert told.coverage_energy == alone.estimate.coverage_energy == 1
    assert made.total is not None
    assert made.total.estimate.energy_millijoules == sum(one.estimate.energy_millijoules for one in made.rows)
    # Screens have no model: the errors of their priors add linearly.
    lit = alone.estimate.u_model * alone.estimate.energy_millijoules
    standby = 12 * 2_100 * watt_hour * math.log(1.5) / 2
    assert told.u_model * told.energy_millijoules == pytest.approx(lit + standby)


def test_screens_that_nobody_tells_of_are_at_the_class_default():
    """Nine screens of E7, where no PC reports any, are at the class default. Where the inventory lists fewer
    screens than there are, standby is zero."""
    hosts = fleet(12)
    machines = screens_of(*hosts, lit_hours=1_760)
    defaults = Assumptions(class_microwatts={MONITOR: (5_000_000,) * 3})
    without = asked(census(*hosts), machines).total
    elsewhere = asked(census(*hosts, assets=monitors(9, "E7")), machines, assumptions=defaults)
    assert elsewhere.total is not None
    assert without is not None
    told = elsewhere.total.estimate
    assert told.default_millijoules == 9 * 5 * 365 * DAY
    assert told.energy_millijoules == without.estimate.energy_millijoules + told.default_millijoules
    (row,) = [row for row in elsewhere.rows if row.key.entity == "E7"]
    assert (row.estimate.basis, row.estimate.coverage_energy) == (EstimateBasis.CLASS_DEFAULT, 0)
    few = asked(census(*hosts, assets=monitors(2)), machines)
    assert few.total is not None
    assert few.total.estimate.energy_millijoules == without.estimate.energy_millijoules


def test_standby_is_shared_by_the_time_that_screens_are_on():
    """Standby is shared by time on: two to one between workstations and classroom PCs of one place."""
    hosts = [*fleet(12), *(workstation(500 + one, population=Population.CLASSROOM) for one in range(12))]
    machines = [*screens_of(*hosts[:12], lit_hours=1_000), *screens_of(*hosts[12:], lit_hours=500)]
    without, made = (asked(census(*hosts, assets=monitors(one)), machines).rows for one in (0, 24))
    more = {
        row.key.population: row.estimate.energy_millijoules - bare.estimate.energy_millijoules
        for row, bare in zip(made, without, strict=True)
        if row.key.device_class == MONITOR
    }
    assert more[Population.WORKSTATION] == 2 * more[Population.CLASSROOM] > 0


def test_standby_does_not_follow_the_order_of_a_set():
    """A millisecond that cannot be halved goes to the same PCs in each run: reports once differed by 1 mJ."""
    places = [Place("DSI", "lyon", "FR", one, PowerContext.OWN_SITE) for one in (*Population,)[:2]]
    books = []
    for order in (places, places[::-1]):
        book = FleetBook()
        for place in order:
            book.times[place.stratum(MONITOR)]["open"] = 100
        book.listed["DSI", "lyon"].append((places[0].stratum(MONITOR), {DayType.OPEN: 301}))
        book._standby()
        books.append(book)
    assert books[0].standby == books[1].standby
    assert sum(books[0].standby.values()) == 101


def test_how_long_unseen_screens_are_on_is_as_unsure_as_pcs_differ():
    """20 of 40 PCs have screens that are on for 500 or 1,500 h. The relative variance is c² = 0.25 × 20/19,
    times 1/20 + 1/20 for the other half."""
    hosts = fleet(40)
    half = [screens_of(one, lit_hours=500 + 1_000 * (number % 2))[0] for number, one in enumerate(hosts[:20])]
    (row, _) = asked(census(*hosts), half).rows
    told = row.estimate
    assert row.key.device_class == MONITOR
    assert told.extrapolated_millijoules == pytest.approx(told.energy_millijoules / 2, rel=0.01)
    relative = math.sqrt(0.25 * 20 / 19 * (1 / 20 + 1 / 20))
    assert told.u_sampling == pytest.approx(relative / 2, rel=0.02)
    assert told.u_sampling**2 * told.energy_millijoules**2 == pytest.approx(told.sampling_variance)


def test_the_inventory_says_how_many_screens_there_are():
    """Fifteen screens listed for twelve measured PCs count as fifteen."""
    hosts = fleet(12)
    made = asked(census(*hosts, assets=monitors(15)), screens_of(*hosts, lit_hours=1_000))
    (row, _) = made.rows
    assert (row.machines, row.estimate.machines_sampled, row.estimate.machines_fleet) == (12, 12, 15)


@pytest.mark.parametrize(("measured", "expected"), [(12, 0), (3, 23)])
def test_a_place_whose_pcs_have_no_screens(measured, expected):
    """Where ten or more measured PCs have no screen, the PCs beside them have none; with three, the other
    places are extrapolated."""
    hosts = fleet(20, measured + 20)
    machines = [
        *screens_of(*hosts[:20], lit_hours=1_000),
        *(worked(one) for one in hosts[20 : 20 + measured]),
    ]
    made = asked(census(*hosts), machines, k=1)
    assert made.total is not None
    screens = sum(row.estimate.energy_millijoules for row in made.rows if row.key.device_class == MONITOR)
    assert screens == pytest.approx((20 + expected) * 1_000 * 10 * 3_600_000, rel=0.01)
