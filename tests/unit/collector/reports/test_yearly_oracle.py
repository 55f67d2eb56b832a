# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the report against an independent computation of docs/methodology.md, over random fleets."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import yearly_oracle as oracle
from tests.support.memory_store import host
from tests.support.stored_year import StoredYear
from tests.support.year import vector
from veilleuse.collector.model.calendars import SchoolPeriod, SchoolZone
from veilleuse.collector.model.figures import EmissionsRow, EmissionsStatement
from veilleuse.collector.model.hosts import Host, HostStatus, Site
from veilleuse.collector.model.inventory import Asset, Placement, PowerContext
from veilleuse.collector.model.months import DayType, HostPeriod
from veilleuse.collector.model.query import Query
from veilleuse.collector.model.records import HostId
from veilleuse.collector.reports.emissions import emissions_report_of
from veilleuse.wire.bands import DEFAULT_CALENDAR
from veilleuse.wire.vocabulary import Band, DeviceClass, Population

CALENDAR = DEFAULT_CALENDAR.to_json()
SITES = {
    name: Site(name, zone, time_zone, CALENDAR)
    for name, zone, time_zone in (
        ("hq", "FR", "Europe/Paris"),
        ("annexe", "FR", "Europe/Paris"),
        ("tokyo", "JP", "Asia/Tokyo"),
        ("santiago", "CL", "America/Santiago"),  # its clocks change at midnight
    )
}
PLACES = (("E1", "hq"), ("E1 > A", "hq"), ("E1 > A", "annexe"), ("E2", "tokyo"), ("E3", "santiago"))
SCHOOL = frozenset({"hq"})
HOLIDAYS = tuple(
    SchoolPeriod(SchoolZone.A, date(year, *first), date(year + (last < first), *last), "away")
    for year in range(2022, 2027)
    for first, last in (
        ((2, 10), (2, 25)),
        ((4, 8), (4, 23)),
        ((7, 6), (8, 31)),
        ((10, 19), (11, 3)),
        ((12, 21), (1, 5)),
    )
)
ALMANAC = oracle.World(SITES, SCHOOL, HOLIDAYS, (), {}, (), date.max)
START = date(2023, 10, 1)
MONTHS = 20
GROUPING = ("entity", "device_class")


def month(number: int) -> date:
    """Return the 1st of the month `number` months after START, in later years too."""
    at = START.month - 1 + number
    return date(START.year + at // 12, at % 12 + 1, 1)


@dataclass(frozen=True)
class Batch:
    """Machines that are alike but for their power."""

    device_class: str
    count: int
    matched: int
    measured: int
    """Machines that reported, of the matched ones."""
    stays: tuple[tuple[int, int], ...]
    """(month, place) of each stay."""
    service: tuple[int | None, int | None]
    """Days after START: in service, out of service."""
    told: tuple[int, int]
    """Months with reports: first, end."""
    quarters: int
    """Quarters of each day that were reported."""
    watts: int
    metered: bool
    context: PowerContext


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Draw a batch, seldom one large enough for a mean of its own."""
    device_class = draw(st.sampled_from(["tower", "tower", "server", "printer", "other", "monitor"]))
    count = draw(st.sampled_from([1, 1, 2, 5, 9, 10, 60, 61]))
    has_agent = device_class in ("tower", "server")
    matched = draw(st.integers(0, count)) if has_agent else 0
    moves = sorted(draw(st.sets(st.integers(1, MONTHS), max_size=2)))
    begun = draw(st.none() | st.integers(0, 500))
    gone = draw(st.none() | st.integers(0, 600))
    first = draw(st.integers(0, MONTHS - 1))
    return Batch(
        device_class,
        count,
        matched,
        draw(st.integers(0, matched)) if draw(st.booleans()) else matched,
        (
            (0, draw(st.integers(0, len(PLACES) - 1))),
            *((at, draw(st.integers(0, len(PLACES) - 1))) for at in moves),
        ),
        (begun, gone),
        (first, draw(st.integers(first + 1, MONTHS))),
        draw(st.integers(1, 4)),
        draw(st.sampled_from([0, 1, 3, 40, 700])),
        draw(st.booleans()),
        draw(st.sampled_from([PowerContext.OWN_SITE, PowerContext.EPLE])),
    )


@dataclass(frozen=True)
class Strangers:
    """Machines without a matched asset, of their own class, with `assets` unmatched assets beside them."""

    count: int
    assets: int
    place: int
    enrolled: int
    told: tuple[int, int]
    left: int | None = None
    """Days after START of their last contact; None: they are still in service."""


@st.composite
def strangers(draw: st.DrawFn) -> Strangers:
    """Draw a few machines."""
    first = draw(st.integers(0, MONTHS - 1))
    return Strangers(
        draw(st.integers(0, 4)),
        draw(st.integers(0, 3)),
        draw(st.integers(0, len(PLACES) - 1)),
        draw(st.integers(0, 400)),
        (first, draw(st.integers(first + 1, MONTHS))),
        draw(st.none() | st.integers(0, 500)),
    )


def gone(one: Host, day: date) -> Host:
    """Return the host revoked, with its last contact at noon of that day, UTC."""
    noon = round(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp() * 1000)
    return replace(one, status=HostStatus.REVOKED, last_contact_unix_milliseconds=noon)


def population_of(device_class: str) -> Population | None:
    """Return the population of an asset's class."""
    return {
        "tower": Population.WORKSTATION,
        "mini_pc": Population.WORKSTATION,
        "server": Population.SERVER,
    }.get(device_class)


def worlds_of(drawn: list[Batch], others: Strangers, today: date) -> oracle.World:
    """Return the world of what was drawn."""
    assets: list[Asset] = []
    hosts: dict[HostId, Host] = {}
    rows: list[HostPeriod] = []
    for batch in drawn:
        for number in range(batch.count):
            host_id = HostId(len(hosts) + 1) if number < batch.matched else None
            assets.append(_asset(len(assets) + 1, batch, host_id))
            if host_id is not None:
                hosts[host_id] = _host(host_id, batch)
                if number < batch.measured:
                    rows += _months(hosts[host_id], batch, batch.watts + number % 7)
    entity, site = PLACES[others.place]
    for _ in range(others.count):
        host_id = HostId(len(hosts) + 1)
        enrolled = START + timedelta(days=others.enrolled)
        one = host(host_id, DeviceClass.MINI_PC, entity=entity, place=site, enrolled=enrolled)
        hosts[host_id] = one if others.left is None else gone(one, START + timedelta(days=others.left))
        rows += _told(hosts[host_id], others.told, 4, 9 + host_id % 5, metered=False)
    for _ in range(others.assets):
        assets.append(
            Asset(
                len(assets) + 1,
                "mini_pc",
                (Placement(START, entity, site),),
                population=Population.WORKSTATION,
                refurbished=True,
            )
        )
    return oracle.World(SITES, SCHOOL, HOLIDAYS, tuple(assets), hosts, tuple(rows), today)


def _asset(number: int, batch: Batch, host_id: HostId | None) -> Asset:
    begun, gone = (None if day is None else START + timedelta(days=day) for day in batch.service)
    return Asset(
        number,
        batch.device_class,
        tuple(Placement(month(at), *PLACES[place]) for at, place in batch.stays),
        population=population_of(batch.device_class),
        power_context=batch.context,
        host_id=host_id,
        in_service_on=begun,
        out_of_service_on=gone,
        refurbished=True,  # one age band, so that nothing is post-stratified
    )


def _host(host_id: HostId, batch: Batch) -> Host:
    entity, site = PLACES[batch.stays[0][1]]
    return host(
        host_id,
        DeviceClass(batch.device_class),
        population_of(batch.device_class) or Population.WORKSTATION,
        entity=entity,
        place=site,
        enrolled=month(batch.told[0]),
    )


def _months(one: Host, batch: Batch, watts: int) -> list[HostPeriod]:
    return _told(one, batch.told, batch.quarters, watts, metered=batch.metered)


def _told(one: Host, told: tuple[int, int], quarters: int, watts: int, *, metered: bool) -> list[HostPeriod]:
    """Return the months of a machine that is on for half of its reported time."""
    method = "metered" if metered else "load_modelled"
    rows = []
    for number in range(*told):
        for kind, whole in oracle.time_in(ALMANAC, one.site, month(number), month(number + 1)).items():
            time = whole * quarters // 4
            values = vector(
                on_active_ac_milliseconds=time // 2,
                off_ac_milliseconds=time - time // 2,
                **{
                    f"{method}_milliseconds": time,
                    f"{method}_energy_millijoules": time * watts,
                    f"{method}_uncertainty_millijoules": time * watts // 20,
                    "on_active_energy_millijoules": time * watts,
                },
            )
            rows.append(HostPeriod(one.host_id, month(number), DayType(kind), Band.OPEN, values))
    return rows


def report(
    world: oracle.World, first: date, end: date, grouping: tuple[str, ...] = GROUPING
) -> EmissionsStatement:
    """Return the statement of `veilleuse report emissions` with k = 1."""
    stored = StoredYear(
        tuple(SITES.values()), tuple(world.hosts.values()), world.assets, world.months, HOLIDAYS, SCHOOL
    )
    question = Query(first, end, grouping, 1, world.today)
    return emissions_report_of(stored.sources(), question).statement


def key(row: EmissionsRow) -> tuple[str, ...]:
    """Return the row's key in the oracle."""
    return tuple(
        one or ""
        for one in (
            row.key.entity,
            row.key.device_class,
            row.key.population,
            row.key.power_context,
            row.key.zone,
        )
    )


def near(one: float | int, other: Fraction) -> bool:
    """Return whether two energies agree to the rounding of strata and of floating point."""
    return abs(Fraction(one) - other) <= 20 + abs(other) / 10**9


def check(row: EmissionsRow, sums: oracle.Sums) -> None:
    """Check machines, time and energy of a row or a total."""
    assert (row.activity.n, row.activity.n_fleet) == (len(sums.hosts), sums.devices)
    assert row.activity.machine_days_fleet == pytest.approx(sum(sums.fleet.values()) / 86_400_000, rel=1e-12)
    assert row.activity.machine_days_observed == pytest.approx(
        sums.known_milliseconds / 86_400_000, rel=1e-12
    )
    observed = sum(sums.energy.values())
    assert near(row.energy.energy_millijoules or 0, sums.estimate) or not sums.is_plain
    if row.energy.energy_millijoules is None:
        return
    parts = (
        row.energy.measured_millijoules,
        row.energy.modelled_millijoules,
        row.energy.imputed_millijoules,
        row.energy.extrapolated_millijoules,
    )
    assert None not in parts
    assert sum(one or 0 for one in parts) == row.energy.energy_millijoules
    assert row.energy.energy_millijoules - (row.energy.extrapolated_millijoules or 0) == observed


def check_emissions(row: EmissionsRow, energies: dict[str, int], year: int) -> None:
    """Check each zone's energy × its factor, and the components where all factors have them."""
    factors = {zone: oracle.factor(zone, year) for zone in energies}
    total = sum(Fraction(energy, oracle.KWH) * factors[zone].total for zone, energy in energies.items())
    assert row.emissions.kgco2e_total == pytest.approx(float(total), rel=1e-12)
    used = {zone: one for zone, one in factors.items() if energies[zone]} or factors
    assert row.factor.provisional == any(one.provisional for one in used.values())
    parts = (row.emissions.kgco2e_combustion, row.emissions.kgco2e_upstream, row.emissions.kgco2e_losses)
    if any(one.parts is None for one in used.values()):
        assert parts == (None, None, None)
        return
    for place, told in enumerate(parts):
        expected = sum(
            Fraction(energies[zone], oracle.KWH) * one.parts[place] for zone, one in used.items() if one.parts
        )
        assert told == pytest.approx(float(expected), rel=1e-12)


@settings(max_examples=60)
@given(
    st.lists(batches(), min_size=1, max_size=5),
    strangers(),
    st.integers(0, MONTHS - 1),
    st.integers(1, 16),
    st.integers(-100, 300),
)
def test_the_report_is_the_method(
    drawn: list[Batch], others: Strangers, at: int, length: int, days_left: int
):
    """Rows and totals of each year of the period agree in N, M, n, m, energy and kgCO2e."""
    first, end = month(at), month(min(at + length, MONTHS))
    world = worlds_of(drawn, others, end + timedelta(days=days_left))
    made = report(world, first, end)
    edges = sorted(
        {first, end, *(date(year, 1, 1) for year in (2024, 2025) if first < date(year, 1, 1) < end)}
    )
    for begun, until in pairwise(edges):
        strata = oracle.strata(world, begun, until)
        oracle.estimate(strata)
        rows = {key(row): row for row in made.rows if row.key.period_from == begun}
        expected = oracle.grouped(strata, SITES)
        assert rows.keys() == expected.keys()
        energies: defaultdict[str, int] = defaultdict(int)
        for name, row in rows.items():
            check(row, expected[name])
            if row.energy.energy_millijoules is not None:
                energies[name[-1]] += row.energy.energy_millijoules
                check_emissions(row, {name[-1]: row.energy.energy_millijoules}, begun.year)
        totals = [row for row in made.totals if row.key.period_from == begun]
        if not expected:
            assert not totals
            continue
        (total,) = totals
        check(total, oracle.whole(expected.values()))
        assert (total.energy.energy_millijoules or 0) == sum(energies.values())
        if total.energy.energy_millijoules is not None:
            check_emissions(total, dict(energies), begun.year)


@settings(max_examples=40)
@given(
    st.lists(batches(), min_size=1, max_size=4),
    st.integers(12, MONTHS - 1),
    st.integers(1, 8),
    st.integers(-60, 60),
)
def test_a_change_is_fleet_mix_hours_and_watts(drawn: list[Batch], at: int, length: int, days_left: int):
    """Fleet is the old energy × growth of machine time, mix the time a class gained beyond it at its old
    power. All four sum to E1 − E0. An unfinished, hardly observed or unreported period has no change."""
    first, end = month(at), min(month(min(at + length, MONTHS)), date(month(at).year + 1, 1, 1))
    world = worlds_of(drawn, Strangers(0, 0, 0, 0, (0, 1)), end + timedelta(days=days_left))
    made = report(world, first, end).totals
    earlier = first.replace(year=first.year - 1), end.replace(year=end.year - 1)
    before = report(world, *earlier).totals
    effects = (
        [
            made[0].change.fleet_effect_kwh,
            made[0].change.mix_effect_kwh,
            made[0].change.hours_effect_kwh,
            made[0].change.watts_effect_kwh,
        ]
        if made
        else []
    )
    told = any(earlier[0] <= row.period_from < earlier[1] for row in world.months)
    comparable = told and days_left >= 0 and made and before and before[0].energy.energy_millijoules
    if not comparable or made[0].energy.energy_millijoules is None or made[0].change.not_compared:
        assert all(one is None for one in effects)
        assert not made or made[0].energy.energy_millijoules is None or made[0].change.not_compared
        return
    old, new = _classes(world, *earlier), _classes(world, first, end)
    time0, time1 = (sum(time for time, _ in one.values()) for one in (old, new))
    change = Fraction(
        (made[0].energy.energy_millijoules or 0) - (before[0].energy.energy_millijoules or 0), oracle.KWH
    )
    assert sum(Fraction(one or 0) for one in effects) == pytest.approx(float(change), rel=1e-9, abs=1e-6)
    growth = Fraction(time1 - time0, time0)
    assert effects[0] == pytest.approx(
        float(growth * (before[0].energy.energy_millijoules or 0) / oracle.KWH), rel=1e-9, abs=1e-6
    )
    mix = Fraction(0)
    for name in {**old, **new}:
        share0, energy0 = old.get(name, (0, Fraction(0)))
        share1, energy1 = new.get(name, (0, Fraction(0)))
        mean = energy0 / share0 if share0 else energy1 / share1
        mix += (share1 - Fraction(share0 * time1, time0)) * mean / oracle.KWH
    assert effects[1] == pytest.approx(float(mix), rel=1e-9, abs=1e-6)


def _classes(world: oracle.World, first: date, end: date) -> dict[str, tuple[int, Fraction]]:
    """Return class → (machine time, energy as the report rounds it), where there is machine time."""
    strata = oracle.strata(world, first, end)
    found: dict[str, tuple[int, Fraction]] = {}
    for stratum, sums in strata.items():
        time, _ = found.get(stratum.device_class, (0, 0))
        found[stratum.device_class] = (time + sum(sums.fleet.values()), Fraction(0))
    for row in report(world, first, end, ("device_class",)).rows:
        name = row.key.device_class or ""
        found[name] = (found[name][0], found[name][1] + (row.energy.energy_millijoules or 0))
    return {name: one for name, one in found.items() if one[0]}
