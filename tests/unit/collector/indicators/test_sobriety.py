# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of I3 to I12: each worked example is the docstring's, and I4's causes are disjoint."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tests.support.reported import require_columns
from veilleuse.collector.documents.text import words
from veilleuse.collector.indicators import TABLE, load_indicator, server_loads
from veilleuse.collector.indicators.avoidable_energy import causes_of
from veilleuse.collector.indicators.comatose_server import verdict
from veilleuse.collector.model.indicators import (
    BandUse,
    Disposal,
    Figure,
    IndicatorGroup,
    IndicatorMachine,
    Load,
    PowerPlan,
    ServerVerdict,
    Targets,
)
from veilleuse.collector.model.inventory import DeviceGroup, PowerContext, Purchase, Retirement, ServerRole
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import Detail, EnergyKey, EnergySums, GroupSums, StateSums
from veilleuse.wire.ladder import Method
from veilleuse.wire.limits import CPU_BUCKET_EDGES_PERCENT, MEMORY_BUCKET_EDGES_PERCENT
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

HOUR = 3_600_000
DAY = 24 * HOUR
WATT = 1
"""Millijoules per millisecond."""
TARGETS = Targets()
SCOPE = GroupKey(date(2026, 1, 1), date(2027, 1, 1))


def machine(number: int = 1, device_class: DeviceClass = DeviceClass.TOWER, **more: Any) -> IndicatorMachine:
    """Return a tower of 0.8 W off and 2 W asleep."""
    values: dict[str, Any] = {
        "population": Population.WORKSTATION,
        "off_microwatts": 800_000,
        "sleep_microwatts": 2_000_000,
    } | more
    return IndicatorMachine(HostId(number), f"{number:012x}", "E1", "hq", device_class=device_class, **values)


def server(number: int = 1, **more: Any) -> IndicatorMachine:
    """Return a server."""
    return machine(number, DeviceClass.SERVER, population=Population.SERVER, **more)


def the(identifier: str, group: IndicatorGroup, targets: Targets = TARGETS) -> Figure:
    """Return the only figure of an indicator."""
    (figure,) = load_indicator(identifier).figures(group, targets)
    require_columns(figure.details)
    if figure.counted_in:
        assert figure.counted_in in words("fr").texts["words"]["counted_in"], (
            f"add {figure.counted_in!r} to [words.counted_in] of documents/locale/fr.toml and en.toml"
        )
    return figure


def of(*machines: IndicatorMachine) -> IndicatorGroup:
    """Return a group of machines."""
    return IndicatorGroup(SCOPE, machines)


def load(days: int = 180, **more: Any) -> Load:
    """Return the load of a server that is always on, below 1 % CPU, 20 % memory and 1 kB/s."""
    time = days * DAY
    values: dict[str, Any] = {
        "window_milliseconds": time,
        "known_milliseconds": time,
        "on_milliseconds": time,
        "cpu_covered_milliseconds": time,
        "cpu_busy_milliseconds": time // 200,
        "cpu_buckets": (time, *(0,) * 12),
        "memory_buckets": (time, 0, 0, 0, 0),
        "network_buckets": (time, 0, 0, 0),
        "any_core_busy_milliseconds": 0,
    } | more
    return Load(**values)


def below(percent: int, share: float, days: int) -> tuple[int, ...]:
    """Return CPU buckets with that share of the time just below an edge, the rest in the highest."""
    buckets = [0] * 13
    buckets[CPU_BUCKET_EDGES_PERCENT.index(percent)] = round(share * days * DAY)
    buckets[-1] = days * DAY - sum(buckets)
    return tuple(buckets)


def test_power_plans():
    """I3 is 1 of 4: a timeout of 0 means never, and unknown plans are excluded."""
    plans = [(600, 1800), (900, 0), (0, 1800), (300, None), (1200, None), (None, None)]
    figure = the("I3", of(*(machine(n, power_plan=PowerPlan(*plan)) for n, plan in enumerate(plans))))
    assert (figure.value, figure.numerator, figure.denominator) == (0.25, 1, 4)
    assert figure.details == {"not_known": 2}
    assert list(load_indicator("I3").figures(of(server()), TARGETS)) == []


def test_avoidable_energy():
    """I4 is 1.92 kWh at night plus 0.18 kWh in open hours."""
    night = BandUse(
        on_idle_milliseconds=100 * HOUR,
        on_idle_millijoules=20 * 100 * HOUR,
        derived_millijoules=20 * 100 * HOUR,
    )
    opened = BandUse(
        on_idle_milliseconds=40 * HOUR,
        on_idle_millijoules=20 * 40 * HOUR,
        derived_millijoules=20 * 40 * HOUR,
        beyond_15_minutes_milliseconds=20 * HOUR,
        beyond_30_minutes_milliseconds=10 * HOUR,
    )
    figure = the("I4", of(machine(bands={Band.NIGHT: night, Band.OPEN: opened})))
    assert figure.value == pytest.approx(2.1)
    assert figure.details["closed_bands_kwh"] == pytest.approx(1.92)
    assert figure.details["open_idle_kwh"] == pytest.approx(0.18)
    assert figure.details["screens_kwh"] == 0
    assert figure.denominator == pytest.approx(2.8)


def test_a_laptop_is_compared_with_sleep_and_windows_are_not_claimed():
    """A laptop saves (20 - 2) W × 100 h, less the 0.5 kWh drawn in update windows."""
    night = BandUse(
        on_idle_milliseconds=100 * HOUR,
        on_idle_millijoules=20 * 100 * HOUR,
        derived_millijoules=20 * 100 * HOUR,
        window_millijoules=500 * HOUR,
    )
    figure = the("I4", of(machine(device_class=DeviceClass.LAPTOP, bands={Band.CLOSED: night})))
    assert figure.value == pytest.approx(1.8 - 0.5)


def test_screens_are_dark_after_their_timeout():
    """A screen of 10 W, on for 100 h idle and 100 h active, counts for the idle half, and for nothing with an
    effective timeout."""
    night = BandUse(
        on_active_milliseconds=100 * HOUR,
        on_idle_milliseconds=100 * HOUR,
        on_idle_millijoules=20 * 100 * HOUR,
        derived_millijoules=20 * 200 * HOUR,
        beyond_15_minutes_milliseconds=100 * HOUR,
        screens_milliseconds=200 * HOUR,
        screens_millijoules=10 * 200 * HOUR,
    )
    bands = {Band.NIGHT: night}
    assert the("I4", of(machine(bands=bands))).details["screens_kwh"] == pytest.approx((10 - 0.3) * 0.1)
    dark = machine(bands=bands, power_plan=PowerPlan(900, None))
    assert the("I4", of(dark)).details["screens_kwh"] == 0


def test_avoidable_energy_of_what_nobody_measured_is_not_known():
    """Idle nights of unknown energy give no value and no share, not 0 kWh."""
    night = BandUse(on_idle_milliseconds=100 * HOUR, known_milliseconds=100 * HOUR)
    figure = the("I4", of(machine(bands={Band.NIGHT: night})))
    assert (figure.value, figure.interval) == (None, None)
    assert "avoidable_share" not in figure.details


def test_a_comatose_server_is_avoidable_and_one_that_cannot_be_judged_is_not_known():
    """A comatose server's whole energy is avoidable, one in service has 0, and one not judged no figure."""
    use = BandUse(on_idle_millijoules=100 * HOUR, derived_millijoules=120 * HOUR, on_idle_milliseconds=HOUR)
    loads = {30: load(30), 180: load()}
    figure = the("I4", of(server(bands={Band.NIGHT: use}, loads=loads)))
    assert figure.value == pytest.approx(0.1)
    busy = {30: load(30, cpu_buckets=below(90, 1, 30)), 180: load(cpu_buckets=below(90, 1, 180))}
    assert the("I4", of(server(bands={Band.NIGHT: use}, loads=busy))).value == 0
    assert list(load_indicator("I4").figures(of(server(bands={Band.NIGHT: use})), TARGETS)) == []


def test_servers_that_cannot_be_judged_are_in_no_share():
    """The share is 100 of 120 kWh of the judged server; the two others are not in the denominator."""
    use = BandUse(on_idle_millijoules=100 * HOUR, derived_millijoules=120 * HOUR, on_idle_milliseconds=HOUR)
    bands, loads = {Band.NIGHT: use}, {30: load(30), 180: load()}
    group = of(
        server(1, bands=bands, loads=loads),
        server(2, bands=bands),
        server(3, bands=bands, loads=loads, role=ServerRole.BACKUP),
    )
    figure = the("I4", group)
    assert figure.value == pytest.approx(0.1)
    assert figure.n == 3
    assert figure.denominator == pytest.approx(0.12)
    assert figure.details["avoidable_share"] == pytest.approx(100 / 120)
    assert (figure.details["not_judged"], figure.details["excluded"]) == (1, 1)
    assert figure.behind[1] == {1: 120 * HOUR}


milliseconds = some.integers(0, 40 * DAY)


@some.composite
def uses(draw: Any) -> BandUse:
    """Draw a possible band: idle runs lie within idle time, energies sum, windows lie within the energy."""
    idle, active = draw(milliseconds), draw(milliseconds)
    idle_energy, active_energy, rest = (draw(some.integers(0, 10**11)) for _ in range(3))
    beyond = sorted((draw(some.integers(0, idle)) for _ in range(3)), reverse=True)
    energy = idle_energy + active_energy + rest
    return BandUse(
        active,
        idle,
        active + idle + draw(milliseconds),
        active_energy,
        idle_energy,
        idle + active,
        energy,
        energy // 5,
        beyond[0],
        beyond[1],
        beyond[2],
        draw(some.integers(0, 10**10)),
        draw(some.integers(0, 10**11)),
        draw(some.integers(0, energy)),
    )


@given(
    some.dictionaries(some.sampled_from(Band), uses()),
    some.sampled_from([one for one in DeviceClass if one is not DeviceClass.VIRTUAL_MACHINE]),
    some.sampled_from([15, 30, 60]),
    some.sampled_from([None, 0, 300, 1200, 7200]),
)
def test_causes_are_disjoint_and_within_the_energy(bands, device_class, minutes, timeout):
    """No millisecond is claimed twice, none that was not idle, and no energy that was not drawn."""
    one = machine(device_class=device_class, bands=bands, power_plan=PowerPlan(timeout, None))
    causes = causes_of(one, Targets(sleep_minutes=minutes))
    for band in Band:
        idle = one.use(band).on_idle_milliseconds
        claims = [cause for cause in causes if cause.machine_milliseconds and band in cause.bands]
        assert len(claims) <= 1
        assert sum(cause.machine_milliseconds for cause in claims if cause.bands == (band,)) <= idle
    outside = one.use(Band.NIGHT, Band.CLOSED)
    assert causes[0].machine_milliseconds <= outside.on_idle_milliseconds
    assert sum(cause.machine_milliseconds for cause in causes) <= one.use().on_idle_milliseconds
    assert causes[0].millijoules <= outside.on_idle_millijoules
    machines = sum(cause.millijoules for cause in causes if cause.name != "screens")
    assert machines <= one.use().derived_millijoules
    assert sum(cause.millijoules for cause in causes) <= (
        one.use().derived_millijoules + one.use().screens_millijoules
    )
    assert causes[2].screen_milliseconds <= one.use().screens_milliseconds
    assert min(cause.millijoules for cause in causes) >= 0
    for cause in causes[:2]:
        outside_windows = (
            max(0, one.use(band).on_idle_millijoules - one.use(band).window_millijoules)
            for band in cause.bands
        )
        assert cause.millijoules <= sum(outside_windows)


def nights(**more: Any) -> IndicatorGroup:
    """Return the sums of a week at 40 W in 50 open hours and at 10 W in the other 118."""
    hours = {Band.OPEN: (50 * HOUR, 40), Band.NIGHT: (68 * HOUR, 10), Band.CLOSED: (50 * HOUR, 10)}
    states = {(band, State.OFF): StateSums(time) for band, (time, _) in hours.items()}
    energies: dict[EnergyKey, EnergySums] = {
        (DeviceClass.TOWER, Method.LOAD_MODELLED, band, State.OFF): EnergySums(time, time * watts)
        for band, (time, watts) in hours.items()
    }
    sums = replace(GroupSums(12, 0, states, energies), **more)
    return IndicatorGroup(SCOPE, sums=sums)


def test_the_night_against_the_day():
    """I5 is 10 W ÷ 40 W, withheld where hours are hidden, and unknown where energy is missing."""
    figure = the("I5", nights())
    assert (figure.value, figure.numerator, figure.denominator) == (0.25, 10, 40)
    for hidden in (Detail.OUTSIDE, Detail.ENERGIES):
        assert the("I5", nights(withheld=frozenset({hidden}))).withheld
    states = {(band, State.OFF): StateSums(2 * 68 * HOUR) for band in Band}
    assert the("I5", nights(states=states)) == Figure(None, 12, counted_in="W")


def test_comatose_servers():
    """I6 is 1 of 3, with one suspect, one server excluded by its role and one not judged."""
    asleep = {30: load(30), 180: load()}
    lately = {30: load(30), 180: load(cpu_buckets=below(90, 0.5, 180))}
    busy = {30: load(30, cpu_buckets=below(90, 1, 30)), 180: load(cpu_buckets=below(90, 1, 180))}
    group = of(
        server(1, loads=asleep),
        server(2, loads=lately),
        server(3, loads=busy),
        server(4, loads=asleep, role=ServerRole.BACKUP),
        server(5),
    )
    figure = the("I6", group)
    assert (figure.value, figure.numerator, figure.denominator) == (0.3333333333333333, 1, 3)
    assert figure.details == {"suspects": 1, "excluded": 1, "not_judged": 1, "suspects_not_judged": 0}


@pytest.mark.parametrize(
    "more",
    [
        {"known_milliseconds": 161 * DAY},
        {"cpu_buckets": (161 * DAY, *(0,) * 12)},
        {"network_buckets": (0, 0, 0, 0)},
        {"on_milliseconds": 0},
    ],
    ids=["seldom observed", "CPU not measured", "network never measured", "never on"],
)
def test_a_server_that_was_not_seen_is_not_judged(more):
    """A server with less than 90 % of its time measured has no verdict: absent is never zero."""
    assert verdict(server(loads={180: load(**more)}), TARGETS) is ServerVerdict.NOT_JUDGED


def test_a_server_that_was_put_to_use_lately_is_not_comatose():
    """A server that was quiet for 172 days and busy for 8 is in service, although 95.6 % are quiet."""
    busy = (0,) * 11
    loads = {
        30: load(30, cpu_buckets=(22 * DAY, *busy, 8 * DAY)),
        180: load(cpu_buckets=(172 * DAY, *busy, 8 * DAY)),
    }
    assert verdict(server(loads={180: loads[180]}), TARGETS) is ServerVerdict.COMATOSE
    assert verdict(server(loads=loads), TARGETS) is ServerVerdict.IN_SERVICE


def test_traffic_keeps_a_server_in_service():
    """A server above 1 kB/s for 6 % of the time is in service."""
    time = 180 * DAY
    loads = {180: load(network_buckets=(time * 94 // 100, time * 6 // 100, 0, 0))}
    assert verdict(server(loads=loads), TARGETS) is ServerVerdict.IN_SERVICE


def test_underused_servers():
    """I7 is 1 of 3: mean 4 % and 97 % below the edge; 94 % below; mean 12 %."""
    time = 30 * DAY
    one = load(30, cpu_buckets=below(30, 0.97, 30), cpu_busy_milliseconds=time * 4 // 100)
    two = load(30, cpu_buckets=below(30, 0.94, 30), cpu_busy_milliseconds=time * 4 // 100)
    three = load(30, cpu_buckets=below(30, 1, 30), cpu_busy_milliseconds=time * 12 // 100)
    figure = the("I7", of(*(server(n, loads={30: each}) for n, each in enumerate((one, two, three)))))
    assert figure.value == 0.3333333333333333


def test_oversized_servers():
    """I8 is 2 of 3: exactly 1 % of a busy core is allowed; a server without memory readings is not judged."""
    time = 90 * DAY
    buckets = {
        "cpu_buckets": below(20, 0.96, 90),
        "memory_buckets": (0, time * 96 // 100, time * 4 // 100, 0, 0),
    }
    loads = [
        load(90, any_core_busy_milliseconds=time // 200, **buckets),
        load(90, any_core_busy_milliseconds=time // 50, **buckets),
        load(90, any_core_busy_milliseconds=time // 100, **buckets),
        load(90, any_core_busy_milliseconds=0, **(buckets | {"memory_buckets": (0,) * 5})),
    ]
    figure = the("I8", of(*(server(n, loads={90: each}) for n, each in enumerate(loads))))
    assert (figure.value, figure.details) == (0.6666666666666666, {"not_judged": 1})


def test_a_busy_core_is_a_share_of_what_was_measured():
    """0.95 of 90 % measured is more than 1 % of it: unmeasured time does not count as idle."""
    time = 90 * DAY
    part = load(
        90,
        cpu_buckets=(time * 9 // 10, *(0,) * 12),
        memory_buckets=(time * 9 // 10, 0, 0, 0, 0),
        any_core_busy_milliseconds=time * 95 // 10_000,
    )
    assert the("I8", of(server(loads={90: part}))).value == 0.0


def test_p95_is_read_from_the_edges():
    """Exactly 95 % is below the edge; an edge that no bucket has raises ValueError."""
    assert server_loads.is_p95_below((0, 95, 5, 0, 0), MEMORY_BUCKET_EDGES_PERCENT, 40)
    assert not server_loads.is_p95_below((0, 94, 6, 0, 0), MEMORY_BUCKET_EDGES_PERCENT, 40)
    assert server_loads.p95_edge((0, 94, 6, 0, 0), MEMORY_BUCKET_EDGES_PERCENT) == 60
    assert server_loads.p95_edge((0, 0, 0, 0, 0), MEMORY_BUCKET_EDGES_PERCENT) is None
    with pytest.raises(ValueError, match="tuple"):
        server_loads.is_p95_below((1, 0, 0, 0, 0), MEMORY_BUCKET_EDGES_PERCENT, 41)


def devices(number: int, device_class: str = "laptop", age: float | None = None, **more: Any) -> DeviceGroup:
    """Return assets of workstations."""
    ages = {age: number}
    facts = {"population": Population.WORKSTATION, "power_context": PowerContext.OWN_SITE, **more}
    return DeviceGroup("E1", "hq", "", device_class=device_class, ages_years=ages, **facts)


def test_ages():
    """The median age is 5.25 years; the device of unknown age is counted apart."""
    group = IndicatorGroup(SCOPE, devices=tuple(devices(1, age=age) for age in (9, 2, 4, 6.5, None)))
    figure = the("I9", group)
    assert (figure.value, figure.threshold, figure.n) == (5.25, 8.0, 5)
    assert figure.details == {
        "not_known": 1,
        "share_over_5_years": 0.5,
        "share_over_6_years": 0.5,
        "share_over_8_years": 0.25,
        "share_over_10_years": 0.0,
    }
    assert the("I9", IndicatorGroup(SCOPE, devices=(devices(1),))).value is None


def test_purchases():
    """I10 is 40 % of the euros and 57 % of the units; a threshold applies from its year on."""
    bought = (
        Purchase(2026, "laptops", Decimal("60000.00"), reused=True, units=200),
        Purchase(2026, "laptops", Decimal(90000), reused=False, units=150),
        Purchase(2026, "screens", Decimal(0), reused=False),
    )
    group = IndicatorGroup(SCOPE, purchases=bought, year=2026)
    first, second = load_indicator("I10").figures(group, TARGETS)
    assert (first.value, first.threshold) == (0.4, None)
    assert first.details == {"category": "laptops", "units_ratio": 0.5714285714285714}
    assert (second.value, second.details) == (None, {"category": "screens"})
    entered = Targets(
        reused_purchases=(("laptops", 2025, 0.2), ("laptops", 2026, 0.3), ("laptops", 2027, 0.4))
    )
    first, second = load_indicator("I10").figures(group, entered)
    assert (first.threshold, second.threshold) == (0.3, None)


def retired(
    units: int, destination: str, *, committed: bool = False, age: float | None = 6, secret: bool = False
) -> Retirement:
    """Return a retirement of laptops."""
    return Retirement(
        date(2026, 5, 1), "laptop", units, destination, committed, age_years=age, security_restricted=secret
    )


def test_retirements():
    """I11 is 230 ÷ 400 of the stock, and 230 ÷ 340 of the departures."""
    left = (
        retired(230, "reuse", committed=True),
        retired(20, "reuse"),
        retired(90, "recycling"),
        retired(15, "recycling", age=12),
        retired(7, "reuse", committed=True, secret=True),
        retired(3, "reuse", committed=True, age=None),
    )
    figure = the("I11", IndicatorGroup(SCOPE, disposal=Disposal(2026, 400, left)))
    assert (figure.value, figure.threshold) == (0.575, 0.5)
    assert figure.details == {"age_not_known": 3, "share_of_departures": 0.6764705882352942}
    assert the("I11", IndicatorGroup(SCOPE, disposal=Disposal(2026, None, left))).value is None


def test_a_stock_of_which_nothing_left():
    """With 400 retired devices and no departure, I11 is 0 and the share of departures is absent."""
    figure = the("I11", IndicatorGroup(SCOPE, disposal=Disposal(2026, 400, ())))
    assert (figure.value, figure.numerator, figure.denominator) == (0, 0, 400)
    assert figure.details == {"age_not_known": 0}
    assert (
        list(load_indicator("I11").figures(IndicatorGroup(SCOPE, disposal=Disposal(2026, None, ())), TARGETS))
        == []
    )


def test_equipment_per_user():
    """I12 is 1.5 devices and 0.9 screens per user, and 6 hours of screen a day."""
    listed = (devices(120), devices(30, "tower"), devices(90, "monitor", population=None))
    use = {Band.OPEN: BandUse(screens_milliseconds=60 * HOUR)}
    machines = tuple(machine(n, bands=use, observed_milliseconds=10 * DAY) for n in range(15))
    figure = the("I12", IndicatorGroup(SCOPE, machines, listed, users=100))
    assert (figure.value, figure.details["screens_per_user"]) == (1.5, 0.9)
    assert figure.details["screen_hours_per_machine_day"] == 6.0
    assert list(load_indicator("I12").figures(IndicatorGroup(SCOPE, devices=listed), TARGETS)) == []


def test_an_entity_whose_equipment_nobody_listed_is_not_known():
    """Ten users without a listed PC give no figure: not 0 devices or 0 screens each."""
    figure = the("I12", IndicatorGroup(SCOPE, users=10))
    assert (figure.value, figure.numerator) == (None, 0)
    assert figure.details == {"users": 10}


def test_screens_that_hang_on_pcs_stand_in_for_a_list_of_monitors():
    """Screens connected to PCs count where the inventory lists no monitors."""
    figure = the("I12", IndicatorGroup(SCOPE, devices=(devices(1, displays=2), devices(1)), users=1))
    assert figure.details["screens_per_user"] == 2.0


@pytest.mark.parametrize("name", TABLE)
def test_an_indicator_says_what_it_is(name):
    """The docstring has id, formula, period, unit, threshold, direction, owner and a worked example."""
    indicator = load_indicator(name)
    text = type(indicator).__doc__ or ""
    assert indicator.meta.indicator == name
    assert indicator.meta.direction in ("lower", "higher")
    for word in ("Formula:", "Period:", "Unit:", "Threshold:", "Direction:", "Owner:", "Worked example:"):
        assert word in " ".join(text.split()), word
    assert indicator.meta.unit in text
