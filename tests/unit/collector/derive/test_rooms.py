# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The balance of a room counts every joule of the highest meter once, in one class."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from veilleuse.collector.derive.rooms import RoomBalance, room_balance, whole_hours, with_servers
from veilleuse.collector.model.meters import (
    FOR_EVER,
    WHOLE_PPM,
    DeclaredMeter,
    MeterBoundary,
    MeterDeclarations,
    MeterReading,
    MeterShare,
    Pue,
    SharePart,
)
from veilleuse.collector.model.records import HostId
from veilleuse.wire.vocabulary import PointKind

HOUR = 3_600_000
DAY = date(2026, 3, 2)
FACILITY, ROOM, UPS_IN, UPS_OUT, OUTLET, OVERHEAD = MeterBoundary


def meter(
    name: str, boundary: MeterBoundary, parent: str | None = None, efficiency: int | None = None
) -> DeclaredMeter:
    """Return a meter of room DC1."""
    return DeclaredMeter(name, "lyon", "DC1", boundary, parent, efficiency)


def share(of: str, ppm: int = WHOLE_PPM, host: int = 1) -> MeterShare:
    """Return a machine's share of a meter."""
    return MeterShare(of, HostId(host), SharePart.MACHINE, ppm, date(2026, 1, 1), FOR_EVER)


def balance(
    meters: list[DeclaredMeter],
    energies: dict[str, int],
    shares: list[MeterShare] | None = None,
    pues: list[Pue] | None = None,
    covered: dict[str, int] | None = None,
) -> RoomBalance:
    """Return the balance of one hour."""
    hours = {
        name: {0: MeterReading(name, PointKind.PDU, energy, (covered or {}).get(name, HOUR))}
        for name, energy in energies.items()
    }
    declared = MeterDeclarations(tuple(meters), tuple(shares or ()), tuple(pues or ()))
    return room_balance("DC1", declared, hours, {0: DAY.toordinal()})


RACK = [
    meter("room", ROOM),
    meter("ups-in", UPS_IN, "room"),
    meter("ups-out", UPS_OUT, "ups-in"),
    meter("a", OUTLET, "ups-out"),
    meter("b", OUTLET, "ups-out"),
]
READ = {"room": 1_100, "ups-in": 1_000, "ups-out": 940, "a": 500, "b": 400}


def test_every_joule_of_the_room_once():
    """1,100 are 500 of a machine, 60 lost in the UPS, and the rest: 400 of an outlet without a machine, 40
    and 100 unmetered."""
    found = balance(RACK, READ, [share("a")])
    assert (found.machines_millijoules, found.ups_loss_millijoules) == (500, 60)
    assert found.other_room_millijoules == 400 + 40 + 100
    assert found.it_millijoules == 1_040
    assert found.it_millijoules + 60 == READ["room"]
    assert (found.overhead_millijoules, found.overhead) == (None, "not_included")
    assert found.sensitivity_millijoules == 572
    assert found.notes == ()


def test_a_machine_on_an_outlet_and_on_what_feeds_it_counts_once():
    """A machine counts at its outlet, as in derive; its share of the UPS is ignored while both hold."""
    found = balance(RACK, READ, [share("a"), share("ups-out", 300_000)])
    assert found.machines_millijoules == 500
    assert found.it_millijoules + 60 == READ["room"]
    ended = replace(share("a"), valid_to=date(2026, 3, 1))
    assert balance(RACK, READ, [ended, share("ups-out", 300_000)]).machines_millijoules == 282
    other = balance(RACK, READ, [share("a"), share("ups-out", 30_000, host=2)])
    assert other.machines_millijoules == 500 + 28


def test_children_that_count_more_are_an_error_below_five_per_cent():
    """A residual of −4 % is within the meters' error, −6 % is reported; other_room is never negative."""
    near = balance(
        [*RACK[3:], meter("ups-out", UPS_OUT, None, 950000)], {"ups-out": 1_000, "a": 600, "b": 440}
    )
    wrong = balance(
        [*RACK[3:], meter("ups-out", UPS_OUT, None, 950000)], {"ups-out": 1_000, "a": 600, "b": 460}
    )
    assert [node.is_wrong for node in near.nodes] == [False, False, False]
    assert [node.meter for node in wrong.nodes if node.is_wrong] == ["ups-out"]
    assert any("more than 5 %" in note for note in wrong.notes)
    assert wrong.other_room_millijoules == 1_060  # the outlets, which have no machine; nothing negative


def test_a_ups_says_its_output_unless_declared_and_its_loss_is_taken_out_of_the_room():
    """With 94 % declared at the output, 60 of the room's remaining 200 are the UPS's loss, once."""
    meters = [meter("room", ROOM), meter("ups", UPS_OUT, "room", 940_000)]
    found = balance(meters, {"room": 1_140, "ups": 940}, [share("ups", 500_000)])
    assert found.ups_loss_millijoules == 60
    assert found.machines_millijoules == 470
    assert found.other_room_millijoules == 470 + 140
    assert found.it_millijoules + 60 == 1_140


def test_the_loss_of_a_ups_below_a_facility_is_no_overhead():
    """1,500 are 940 behind the UPS, 60 of its loss, and 500 of cooling."""
    found = balance(
        [meter("site", FACILITY), meter("ups", UPS_OUT, "site", 940_000)], {"site": 1_500, "ups": 940}
    )
    assert (found.it_millijoules, found.ups_loss_millijoules, found.overhead_millijoules) == (940, 60, 500)


def test_a_ups_whose_loss_is_not_known_says_so():
    """Without an efficiency and a meter at its input the loss is None, never 0, with a note."""
    found = balance([meter("ups", UPS_OUT)], {"ups": 940})
    assert found.ups_loss_millijoules is None
    assert found.notes == ("ups: the loss of the UPS is not known",)


def test_a_ups_declared_at_its_input():
    """The efficiency gives its loss, and the remainder behind it is other_room."""
    meters = [meter("ups", UPS_IN, None, 900_000), meter("a", OUTLET, "ups")]
    found = balance(meters, {"ups": 1_000, "a": 850}, [share("a")])
    assert (found.machines_millijoules, found.ups_loss_millijoules, found.other_room_millijoules) == (
        850,
        100,
        50,
    )


def test_overhead_is_what_the_facility_has_beyond_its_machines():
    """Overhead is the facility less its children, and contains the cooling's own meter once."""
    meters = [meter("site", FACILITY), meter("cold", OVERHEAD, "site"), meter("a", OUTLET, "site")]
    found = balance(meters, {"site": 1_500, "cold": 300, "a": 1_000}, [share("a")])
    assert (found.overhead_millijoules, found.overhead) == (500, "measured")
    assert found.it_millijoules == 1_000


def test_with_a_pue_the_ups_loss_is_inside_it():
    """IT is at the PUE's metering point, ups_loss is 0, and overhead is (PUE − 1) × IT.
    GSD² 1.1 applies to the PUE: the uncertainty is IT × PUE × u, not (PUE − 1) × IT × u.
    """
    pue = Pue("DC1", DAY, DAY, 1_500_000, UPS_OUT)
    found = balance(RACK, READ, [share("a")], [pue])
    assert (found.it_millijoules, found.ups_loss_millijoules) == (940, 0)
    assert (found.overhead_millijoules, found.overhead) == (470, "pue")
    assert found.overhead_u_millijoules == round(940 * 1.5 * math.log(1.1) / 2)
    assert found.sensitivity_millijoules is None
    assert found.machines_millijoules + found.other_room_millijoules == found.it_millijoules


def test_with_a_pue_of_some_days_the_balance_is_of_these_days():
    """With a PUE for the second of two days, all classes are of that day, and a note says so."""
    pue = Pue("DC1", date(2026, 3, 3), date(2026, 3, 3), 1_500_000, UPS_OUT)
    hours = {
        name: {at: MeterReading(name, PointKind.PDU, energy, HOUR) for at in (0, 24 * HOUR)}
        for name, energy in READ.items()
    }
    days = {0: DAY.toordinal(), 24 * HOUR: DAY.toordinal() + 1}
    found = room_balance("DC1", MeterDeclarations(tuple(RACK), (share("a"),), (pue,)), hours, days)
    assert (found.it_millijoules, found.machines_millijoules, found.overhead_millijoules) == (940, 500, 470)
    assert found.machines_millijoules + found.other_room_millijoules == found.it_millijoules
    assert found.notes == ("1 hours of the period have no PUE: they are not in it",)


def test_the_input_of_a_ups_alone_says_that_its_loss_is_not_known():
    """The remainder behind it contains the loss, which is not 0 but unknown, with a note."""
    found = balance([meter("ups", UPS_IN), meter("a", OUTLET, "ups")], {"ups": 1_000, "a": 850}, [share("a")])
    assert (found.ups_loss_millijoules, found.other_room_millijoules) == (None, 150)
    assert found.notes == ("ups: the loss of the UPS is not known",)


def test_a_share_of_the_cooling_is_no_overhead():
    """No import accepts such a share, but a store that has one counts no joule twice."""
    found = balance([meter("cold", OVERHEAD)], {"cold": 300}, [share("cold", 500_000)])
    assert (found.machines_millijoules, found.overhead_millijoules) == (150, 150)


def test_a_pue_of_other_days_says_nothing_of_these():
    """The balance is the same as without a PUE."""
    pue = Pue("DC1", date(2025, 1, 1), date(2025, 12, 31), 1_500_000, UPS_OUT)
    found = balance(RACK, READ, pues=[pue])
    assert found.overhead == "not_included"
    assert found.ups_loss_millijoules == 60
    assert found.notes == ()


def test_a_pue_whose_point_is_not_metered_says_so():
    """The PUE multiplies nothing, and a note gives the reason."""
    pue = Pue("DC1", DAY, DAY, 1_500_000, UPS_OUT)
    found = balance([meter("a", OUTLET)], {"a": 500}, pues=[pue])
    assert found.overhead == "not_included"
    assert found.notes == ("no meter was read at the PUE's metering point",)


def test_hours_are_compared_over_the_time_all_were_read():
    """A child read for half the hour is compared with half of its parent.
    An hour without a child's reading is left out, with a note."""
    meters = [meter("ups-out", UPS_OUT, None, 950_000), meter("a", OUTLET, "ups-out")]
    half = balance(meters, {"ups-out": 1_000, "a": 450}, covered={"a": HOUR // 2})
    node = half.nodes[0]
    assert (node.energy_millijoules, node.children_millijoules, node.residual_ppm) == (500, 450, 100_000)
    none = balance(meters, {"ups-out": 1_000})
    node = none.nodes[0]
    assert (node.hours, node.hours_left_out) == (0, 1)
    assert any("1 hours without" in note for note in none.notes)


def hours_of(energies: dict[str, dict[int, int]], covered: int = HOUR) -> dict[str, dict[int, MeterReading]]:
    """Return meter → hour → reading."""
    return {
        name: {at: MeterReading(name, PointKind.PDU, energy, covered) for at, energy in read.items()}
        for name, read in energies.items()
    }


def test_a_room_is_whole_where_all_its_meters_were_read():
    """An hour without one feed is not whole; cooling alone is no feed.
    With a PUE the hours of its days with the meters at its point are whole."""
    feeds = [meter("a", UPS_OUT), meter("b", UPS_OUT), meter("cold", OVERHEAD)]
    read = hours_of({"a": {0: 500, 1: 500}, "b": {0: 500}, "cold": {}})
    day_of = {0: DAY.toordinal(), 1: DAY.toordinal(), 2: DAY.toordinal()}
    assert whole_hours("DC1", MeterDeclarations(tuple(feeds)), read, day_of) == {0: HOUR}
    inside = [meter("ups", UPS_OUT), meter("a", OUTLET, "ups")]
    pue = Pue("DC1", DAY, DAY, 1_500_000, UPS_OUT)
    read = hours_of({"ups": {0: 900, 1: 900}, "a": {}}, HOUR // 2)
    day_of = {0: DAY.toordinal(), 1: DAY.toordinal() + 1}
    assert whole_hours("DC1", MeterDeclarations(tuple(inside), pues=(pue,)), read, day_of) == {0: HOUR // 2}
    assert whole_hours("DC1", MeterDeclarations(tuple(inside)), read, day_of) == {}


@given(st.integers(0, 10**9), st.integers(1, WHOLE_PPM), st.integers(0, 10**9), st.integers(0, 10**9))
def test_what_servers_tell_is_taken_out_of_what_their_room_has(energy: int, ppm: int, told: int, placed: int):
    """A classroom PC keeps its share, servers have what they report, and the rest remains.
    The parts sum to the meter's energy in millijoules while servers report no more than there is.
    """
    placed = min(told, placed)
    declared = MeterDeclarations(
        (meter("ups", UPS_OUT),), (share("ups", ppm, host=7), share("ups", WHOLE_PPM - ppm))
    )
    read = hours_of({"ups": {0: energy}})
    made = with_servers(
        "DC1", declared, read, {0: DAY.toordinal()}, {0: HOUR}, frozenset({HostId(1)}), told, placed
    )
    assert made.others_millijoules == energy * ppm // WHOLE_PPM
    assert made.metered_millijoules == energy - made.others_millijoules
    assert made.other_millijoules == max(0, made.metered_millijoules - told)
    assert made.balance.it_millijoules == energy


@given(
    st.lists(st.integers(0, 10**9), min_size=2, max_size=6),
    st.integers(0, 10**8),
    st.integers(0, 10**8),
    st.integers(0, 10**8),
    st.lists(st.integers(1, WHOLE_PPM), min_size=6, max_size=6),
)
def test_the_classes_of_any_room_sum_to_its_meter(
    outlets: list[int], lost: int, unmetered: int, beside: int, shares: list[int]
):
    """machines + other_room + UPS loss is the room's meter in millijoules, for any tree."""
    meters, read = RACK[:3], {"ups-out": sum(outlets) + unmetered}
    read |= {"ups-in": read["ups-out"] + lost}
    read |= {"room": read["ups-in"] + beside}
    names = [f"o{number}" for number in range(len(outlets))]
    meters = meters + [meter(name, OUTLET, "ups-out") for name in names]
    read |= dict(zip(names, outlets, strict=True))
    declared = [share(name, ppm) for name, ppm in zip(names, shares, strict=False)]
    found = balance(meters, read, declared)
    assert found.ups_loss_millijoules == lost
    assert found.machines_millijoules + found.other_room_millijoules + lost == read["room"]
    assert found.machines_millijoules == sum(
        energy * ppm // WHOLE_PPM for energy, ppm in zip(outlets, shares, strict=False)
    )
    assert not any(node.is_wrong for node in found.nodes)
