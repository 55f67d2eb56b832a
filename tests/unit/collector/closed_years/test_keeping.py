# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The kept statistics of a year: no cell of fewer than k machines, nothing lost, the same estimator."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.year import DAY, END, FIRST, asset, census, figures, told, vector, worked, workstation
from veilleuse.collector.account.row import PeriodFigures
from veilleuse.collector.closed_years.document import statistics_document, statistics_from_document
from veilleuse.collector.closed_years.merge_strata import (
    ANY,
    Contributions,
    is_exempt,
    merge_cells,
    merge_strata,
)
from veilleuse.collector.closed_years.reduce import YearReducer, _rest_of
from veilleuse.collector.closed_years.restate import class_coverage, restate_year
from veilleuse.collector.closed_years.year_statistics import STACKED, W, YearStatistics, triangle
from veilleuse.collector.disclosure.rule import is_safe
from veilleuse.collector.fleet.census import FleetDevice
from veilleuse.collector.fleet.estimator import Assumptions
from veilleuse.collector.fleet.observations import MONITOR, ObservedMachine, Place
from veilleuse.collector.fleet.samples import SampleCell, Stratum
from veilleuse.collector.model.closed_years import canonical
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.inventory import Asset, Placement, PowerContext
from veilleuse.collector.model.months import PLACE, DayType, HostPeriod
from veilleuse.collector.model.query import AUTRES
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import Detail
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, DeviceClass, Population

Measured = list[tuple[ObservedMachine, FleetDevice]]
DIMENSIONS = ("entity", "device_class")


def fleet(
    numbers: dict[str, int], spare: int = 10, seed: int = 1, always_on: int = 0
) -> tuple[list[FleetDevice], Measured]:
    """Return measured workstations by entity, each an asset, and spare assets without measurement.
    The first `always_on` machines of each entity are always on."""
    chance = random.Random(seed)
    hosts: list[Host] = []
    assets: list[Asset] = []
    for place, (entity, n) in enumerate(numbers.items()):
        for number in range(n):
            one = workstation(1_000 * place + number + 1, entity)
            hosts.append(one)
            assets.append(asset(len(assets) + 1, entity, host_id=one.host_id))
        assets += [asset(len(assets) + 1 + extra, entity) for extra in range(spare)]
    standings = census(*hosts, assets=tuple(assets))
    stood = {standing.host_id: standing for standing in standings}
    measured: Measured = []
    seen: defaultdict[str, int] = defaultdict(int)
    for one in hosts:
        seen[one.org_entity] += 1
        observed = worked(one, watts=chance.randint(20, 80))
        if seen[one.org_entity] <= always_on:
            observed = told(one.host_id, {DayType.OPEN: _always_on(chance.randint(90, 140))})
        measured.append((observed, stood[one.host_id]))
    return standings, measured


def _always_on(watts: int) -> tuple[int, ...]:
    time = 261 * DAY
    return vector(
        on_active_ac_milliseconds=time,
        load_modelled_milliseconds=time,
        load_modelled_energy_millijoules=time * watts,
        load_modelled_uncertainty_millijoules=time * watts // 10,
        on_active_energy_millijoules=time * watts,
    )


def keep(standings: Iterable[FleetDevice], measured: Measured, k: int = 10) -> YearStatistics:
    """Return the kept statistics of these machines."""
    keeper = YearReducer(FIRST, END, k, in_groups=True)
    for standing in standings:
        keeper.add_device(standing)
    for one, standing in measured:
        keeper.add_machine(one, standing)
    return keeper.statistics()


def opened(standings: Sequence[FleetDevice], measured: Measured, k: int = 10) -> PeriodFigures:
    """Return the figures of the same year while it is open."""
    return figures(FIRST, END, DIMENSIONS, standings, measured, assumptions=Assumptions(), k_anonymity=k)


def test_with_nothing_merged_the_figure_is_the_same():
    """Figures from machines and from kept statistics are equal to the last digit, intervals included."""
    standings, measured = fleet({"E1": 30, "E2": 13, "E3": 4, "E4": 70}, always_on=3)
    of_machines = opened(standings, measured, k=1)
    of_kept = restate_year(keep(standings, measured, k=1), DIMENSIONS, Assumptions())
    assert of_kept.total == of_machines.total
    assert of_kept.rows == of_machines.rows


def test_what_is_written_reads_back_the_same():
    """JSON keeps every bit and holds no float."""
    standings, measured = fleet({"E1": 30, "E2": 13, "E3": 4}, always_on=12)
    kept = keep(standings, measured)
    document = statistics_document(kept)
    assert statistics_from_document(document) == kept
    assert canonical(statistics_document(statistics_from_document(document))) == canonical(document)
    with pytest.raises(TypeError, match="a float"):
        canonical({"a": [1, {"b": 0.5}]})


def test_a_small_entity_goes_with_the_smallest_other():
    """Four machines cannot be shown alone, nor by their difference from the total.
    Thirteen others merge with them, with their fleet."""
    standings, measured = fleet({"E1": 30, "E2": 13, "E3": 4})
    kept = keep(standings, measured)
    assert {Place.of(cell.stratum).entity: cell.machines for cell in kept.cells} == {"E1": 30, AUTRES: 17}
    assert {Place.of(one.stratum).entity: one.machines for one in kept.fleet} == {"E1": 40, AUTRES: 37}
    total, of_machines = (
        restate_year(kept, DIMENSIONS, Assumptions()).total,
        opened(standings, measured).total,
    )
    assert total is not None
    assert of_machines is not None
    known = total.estimate.energy_millijoules - total.estimate.extrapolated_millijoules
    assert known == of_machines.estimate.energy_millijoules - of_machines.estimate.extrapolated_millijoules
    assert total.estimate.energy_millijoules == pytest.approx(
        of_machines.estimate.energy_millijoules, rel=0.02
    )
    assert total.machines == 47


def test_small_ones_that_are_enough_together_are_kept_together():
    """Three entities of seven make one cell of twenty-one, and none of seven."""
    kept = keep(*fleet({"A": 7, "B": 7, "C": 7}))
    assert [(Place.of(cell.stratum).entity, cell.n) for cell in kept.cells] == [(AUTRES, 21)]


def test_a_zone_with_too_few_is_withheld():
    """With nine machines in all, their data are not kept, but the fleet is."""
    kept = keep(*fleet({"E1": 9}))
    assert kept.cells == ()
    assert [one.zone for one in kept.withheld] == ["FR"]
    assert sum(one.machines for one in kept.fleet) == 19
    shown = restate_year(kept, DIMENSIONS, Assumptions(class_microwatts={"tower": (30_000_000,) * 3}))
    assert shown.total is not None
    assert shown.total.machines == 0
    assert shown.total.estimate.energy_millijoules > 0


def test_servers_are_nobody_s():
    """One server is kept in a cell of its own, because k does not apply to servers."""
    server = replace(
        workstation(1),
        population=Population.SERVER,
        facts=replace(workstation(1).facts, device_class=DeviceClass.SERVER),
    )
    (standing,) = census(server)
    kept = keep([standing], [(worked(server), standing)])
    assert [(cell.stratum.device_class, cell.n) for cell in kept.cells] == [("server", 1)]


def test_screens_hide_no_machine():
    """Twelve machines with screens do not make three of another class anonymous: screens have no value in
    machine columns."""
    standings, measured = fleet({"E1": 15})
    for one, _ in measured[:12]:
        screens = vector(screens_milliseconds=DAY, screens_energy_millijoules=12 * DAY)
        one.rows.append(HostPeriod(one.host_id, FIRST, DayType.CLOSED, Band.CLOSED, screens))
    few = [(one, replace(standing, device_class="laptop")) for one, standing in measured[:3]]
    kept = keep(standings, [*few, *measured[3:]])
    assert {cell.stratum.device_class: cell.n for cell in kept.cells} == {AUTRES: 15, MONITOR: 12}
    (monitor,) = [cell for cell in kept.cells if cell.stratum.device_class == MONITOR]
    assert sum(v[PLACE["screens_energy_millijoules"]] for v in monitor.sums.values()) == 12 * 12 * DAY
    (machines,) = [cell for cell in kept.cells if cell.stratum.device_class == AUTRES]
    assert not any(v[PLACE["screens_energy_millijoules"]] for v in machines.sums.values())


def test_standby_is_kept():
    """The standby energy of inventoried screens is the same in a closed year as in an open one."""
    hosts = [workstation(number) for number in range(1, 16)]
    listed = tuple(asset(100 + number, device_class=MONITOR, population=None) for number in range(len(hosts)))
    standings = census(*hosts, assets=listed)
    by_id = {one.host_id: one for one in standings}
    time = 1_000 * 3_600_000
    lit = [worked(one, screens_milliseconds=time, screens_energy_millijoules=10 * time) for one in hosts]
    measured = [(one, by_id[one.host_id]) for one in lit]
    kept = keep(standings, measured)
    energies = {}
    for name, made in (
        ("kept", restate_year(kept, DIMENSIONS, Assumptions())),
        (
            "read",
            restate_year(statistics_from_document(statistics_document(kept)), DIMENSIONS, Assumptions()),
        ),
        (
            "open",
            figures(FIRST, END, DIMENSIONS, standings, measured, assumptions=Assumptions(), k_anonymity=10),
        ),
    ):
        (row,) = [one for one in made.rows if one.key.device_class == MONITOR]
        energies[name] = row.estimate.energy_millijoules
    expected = 15 * (10 * time + (365 * DAY - time) * 3 // 10)
    assert energies == {"kept": expected, "read": expected, "open": expected}


def test_methods_of_few_are_not_told_apart():
    """When three of thirty are metered, all methods merge, nothing counts as measured, and the row hides
    its parts."""
    standings, measured = fleet({"E1": 30})
    by_id = {one.host_id: standing for one, standing in measured}
    metered = [
        (worked(workstation(number + 1), method=Method.METERED), by_id[HostId(number + 1)])
        for number in range(3)
    ]
    (cell,) = keep(standings, [*metered, *measured[3:]]).cells
    assert cell.methods_hidden
    assert not any(values[PLACE["metered_energy_millijoules"]] for values in cell.sums.values())
    shown = restate_year(keep(standings, [*metered, *measured[3:]]), DIMENSIONS, Assumptions())
    assert shown.rows[0].withheld == {Detail.METHODS}
    assert shown.total is not None
    assert shown.total.withheld == {Detail.METHODS}
    assert not shown.total.estimate.measured_millijoules
    assert not keep(standings, measured).cells[0].methods_hidden


def test_products_are_of_one_machine_s_year():
    """Σwwᵀ of two machines is checked by hand, across components and day types."""
    standings, measured = fleet({"E1": 2})
    (cell,) = keep(standings, measured, k=1).cells
    energy, on = W.index("energy_millijoules"), W.index("on_active_mains_milliseconds")
    energies = [
        one.by_day_type[DayType.OPEN][PLACE["load_modelled_energy_millijoules"]] for one, _ in measured
    ]
    time = 261 * DAY // 2
    assert cell.products[triangle(energy, energy)] == sum(value**2 for value in energies)
    assert cell.products[triangle(energy, on)] == sum(value * time for value in energies)
    accounted_on_closed_days = 2 * len(W) + W.index("accounted_milliseconds")
    assert cell.products[triangle(energy, accounted_on_closed_days)] == sum(energies) * 104 * DAY
    assert max(cell.products) < triangle(STACKED - 1, STACKED - 1) + 1


def test_another_wall_model_is_applied_to_what_is_kept():
    """P = a·t + b·C and its variance are equal on kept sums and machine by machine, so no host is needed."""
    chance = random.Random(3)
    standings, measured = fleet({"E1": 12})
    for one, _ in measured:
        counted = vector(
            counters_energy_millijoules=chance.randint(10**10, 10**11),
            counters_covered_milliseconds=100 * DAY,
        )
        one.rows.append(HostPeriod(one.host_id, FIRST, DayType.OPEN, Band.OPEN, counted))
    (cell,) = keep(standings, measured).cells
    a, b = 3, 2
    each = [
        a * one.by_day_type[DayType.OPEN][PLACE["counters_covered_milliseconds"]]
        + b * one.by_day_type[DayType.OPEN][PLACE["counters_energy_millijoules"]]
        for one, _ in measured
    ]
    whole = [sum(values[PLACE[name]] for values in cell.sums.values()) for name in W[2:4]]
    assert b * whole[0] + a * whole[1] == sum(each)
    counters, covered_time = (
        W.index(name) for name in ("counters_energy_millijoules", "counters_covered_milliseconds")
    )
    squares = (
        b * b * cell.products[triangle(counters, counters)]
        + 2 * a * b * cell.products[triangle(counters, covered_time)]
        + a * a * cell.products[triangle(covered_time, covered_time)]
    )
    assert squares == sum(value**2 for value in each)


def test_always_on_machines_of_few_are_told_of_the_class_alone():
    """With two always-on machines of twenty in each of six entities, only their class's share is kept.
    Energy and sampling uncertainty stay close to those from machines."""
    standings, measured = fleet({f"E{n}": 20 for n in range(6)}, spare=100, always_on=2)
    kept = keep(standings, measured)
    assert {(cell.n, cell.always_on) for cell in kept.cells} == {(20, False)}
    alike = kept.always_on["tower"]
    assert alike is not None
    assert alike.n == 12
    total, of_machines = restate_year(kept, (), Assumptions()).total, opened(standings, measured).total
    assert total is not None
    assert of_machines is not None
    assert total.estimate.energy_millijoules == pytest.approx(
        of_machines.estimate.energy_millijoules, rel=0.03
    )
    assert 0.7 < total.estimate.u_sampling / of_machines.estimate.u_sampling < 1.5
    few = keep(*fleet({f"E{n}": 20 for n in range(3)}, always_on=2))
    assert few.always_on == {"tower": None}


def test_kinds_are_told_apart_where_enough_are_of_each():
    """With twelve always-on of forty in each entity, each kind has its cell."""
    kept = keep(*fleet({"E1": 40, "E2": 40}, always_on=12))
    assert sorted((cell.n, cell.always_on) for cell in kept.cells) == [(12, True)] * 2 + [(28, False)] * 2
    assert kept.always_on == {}


def test_hardware_of_few_is_of_any():
    """Cells of few merge over ages first, then over models."""
    shares = {
        SampleCell("big", "0"): _share(range(12)),
        SampleCell("big", "1"): _share(range(12, 15)),
        SampleCell("big", "2"): _share(range(15, 27)),
        SampleCell("odd", "0"): _share(range(27, 30)),
        SampleCell("rare", "0"): _share(range(30, 41)),
    }
    merged = merge_cells(shares, 10)
    assert merged[SampleCell("big", "2")] == SampleCell("big", "2")
    assert merged[SampleCell("big", "1")] == merged[SampleCell("big", "0")] == SampleCell("big", ANY)
    assert merged[SampleCell("odd", "0")] == merged[SampleCell("rare", "0")] == SampleCell(ANY, ANY)


def _share(
    hosts: Iterable[int], energy: int = 100, measured: int = 0, on: Mapping[int, int] | None = None
) -> Contributions:
    found = Contributions()
    for host in hosts:
        found.add(HostId(host), 1_000, energy, energy if on is None else on.get(host, 0), measured)
    return found


def test_machines_that_are_off_hide_none_that_is_used():
    """A sum of eleven machines that are off and one in use shows that one, though it has less than 85 % of
    the energy. It is kept once merged with other machines in use."""
    place = Place("E1", "hq", "FR", Population.WORKSTATION, PowerContext.OWN_SITE)
    used = dict.fromkeys(range(20, 40), 90)
    shares = {place.stratum("laptop"): _share(range(12), on={3: 90})}
    assert set(merge_strata(shares, 10).values()) == {None}
    shares[place.stratum("tower")] = _share(range(20, 40), on=used)
    assert len(set(merge_strata(shares, 10).values())) == 1


def test_coverage_is_of_the_classes_asked_for():
    """Coverage is observed and derived time over the fleet's, without classes that have no agent."""
    standings, measured = fleet({"E1": 30}, spare=30)
    switch = Asset(999, "switch", (Placement(date(2020, 1, 1), "E1", "hq"),))
    seen = class_coverage(keep([*standings, *census(assets=(switch,))], measured), {"tower"})
    assert seen.fleet == 60 * 365 * DAY
    assert seen.states == seen.energy == 30 * 365 * DAY


STRATA = st.tuples(
    st.sampled_from(["laptop", "sff", MONITOR]),
    st.sampled_from("ABC"),
    st.sampled_from(["hq", "annexe"]),
    st.sampled_from([Population.WORKSTATION, Population.CLASSROOM, Population.SERVER]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(STRATA, st.integers(1, 10**6)), max_size=60), st.integers(2, 6))
def test_no_kept_cell_stands_on_few(machines, k):
    """In random fleets every kept stratum has k machines, none with most of its energy, or is of servers.
    Each stratum is kept in one place, or withheld with all of its kind because together they are not safe.
    """
    shares: defaultdict[Stratum, Contributions] = defaultdict(Contributions)
    for host, ((device_class, entity, site, population), energy) in enumerate(machines):
        place = Place(entity, site, "FR", population, PowerContext.OWN_SITE)
        shares[place.stratum(device_class)].add(HostId(host), 1_000 + energy % 7, energy, energy, 0)
    found = merge_strata(shares, k)
    assert found.keys() == shares.keys()
    kept: defaultdict[Stratum, Contributions] = defaultdict(Contributions)
    for stratum, into in found.items():
        if into is None:
            assert not is_exempt(stratum)
            alone = Contributions()
            of_screens = stratum.device_class == MONITOR
            for one, other in found.items():
                if not is_exempt(one) and (one.device_class == MONITOR) is of_screens:
                    assert other is None
                    alone.merge(shares[one])
            assert not alone.is_safe(k)
        else:
            kept[into].merge(shares[stratum])
            assert is_exempt(into) == is_exempt(stratum)
            assert (into.device_class == MONITOR) is (stratum.device_class == MONITOR)
    for stratum, share in kept.items():
        assert is_exempt(stratum) or (is_safe(share.observed, k) and is_safe(share.energies, k))


def test_virtual_machines_are_a_memo():
    """Twelve virtual machines are in no total; a machine without data is nowhere."""
    standings, measured = fleet({"E1": 12})
    keeper = YearReducer(FIRST, END, 10)
    for standing in standings:
        keeper.add_device(standing)
    for one, standing in measured:
        keeper.add_machine(one, standing)
        keeper.add_virtual_machine(one, replace(standing, device_class=DeviceClass.VIRTUAL_MACHINE.value))
    keeper.add_machine(told(HostId(99), {DayType.OPEN: vector(unobserved_milliseconds=5)}), standings[0])
    kept = keeper.statistics()
    assert [(cell.memo, cell.n) for cell in kept.cells] == [(False, 12), (True, 12)]
    shown = restate_year(kept, DIMENSIONS, Assumptions())
    assert [(row.key.memo, row.machines) for row in shown.memo] == [(True, 12)]
    assert shown.total is not None
    assert shown.total.machines == 12


def test_a_reader_of_some_entities_sees_the_same_figures():
    """A reader of the entities below E1 sees their rows alone, and no merged row.
    A row of screens alone counts their machines."""
    standings, measured = fleet({"E1": 13, "E1 > a": 14, "E2": 12, "E3": 3})
    for one, _ in measured:
        screens = vector(screens_milliseconds=DAY, screens_energy_millijoules=12 * DAY)
        one.rows.append(HostPeriod(one.host_id, FIRST, DayType.CLOSED, Band.CLOSED, screens))
    kept = keep(standings, measured)
    whole = restate_year(kept, DIMENSIONS, Assumptions())
    some = restate_year(kept, DIMENSIONS, Assumptions(), lambda entity: entity.startswith("E1 >"))
    assert {row.key.entity for row in whole.rows} == {"E1", "E1 > a", AUTRES}
    assert [row for row in whole.rows if row.key.entity == "E1 > a"] == list(some.rows)
    assert {row.key.device_class: row.machines for row in some.rows} == {"tower": 14, MONITOR: 14}
    assert restate_year(kept, DIMENSIONS, Assumptions(), lambda _: False).total is None


def test_the_agents_own_cpu_time_is_in_no_statistics_of_a_year():
    """A closed year has the same bytes with agents that report it and without: nothing of it is kept for ever
    but the sum of each published month."""
    idle = vector(on_idle_ac_milliseconds=7)
    assert _rest_of(vector(on_idle_ac_milliseconds=7, own_cpu_milliseconds=5)) == idle
