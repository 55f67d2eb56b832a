# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of server rooms in the yearly figure: docs/methodology.md §3 and §10."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.memory_store import host
from tests.support.year import FIRST
from tests.unit.collector.account.test_billing import TERMS, fleet, only, period
from veilleuse.collector.account.row import PeriodFigures
from veilleuse.collector.account.server_rooms import with_rooms
from veilleuse.collector.account.statement import build_statement
from veilleuse.collector.fleet.rooms import RoomFigure, RoomServers, Silent, settle_rooms
from veilleuse.collector.fleet.samples import Stratum
from veilleuse.wire.sums import apportion
from veilleuse.wire.units import MILLIJOULES_PER_KWH as KWH
from veilleuse.wire.vocabulary import DeviceClass, Population

ROOM = RoomFigure("R1", "hq", "FR", 100 * KWH, 30 * KWH, 5 * KWH, 20 * KWH, "measured", 0)
DIMENSIONS = ("site", "device_class")


def servers() -> PeriodFigures:
    """Return the figures of twenty servers."""
    return period(
        [host(n, DeviceClass.SERVER, Population.SERVER, entity="E1", enrolled=FIRST) for n in range(1, 21)]
    )


def test_a_room_is_a_row_of_its_own():
    """Unaccounted energy, loss and overhead of a room have their own columns, and all are in the total."""
    stated = build_statement([with_rooms(servers(), [ROOM], DIMENSIONS)], TERMS)
    machines, room = list[Any](stated.rows)
    assert (room.key.device_class, room.key.site, room.activity.n) == ("other_room", "hq", 0)
    assert (room.room.kwh_it, room.room.kwh_ups_loss, room.room.kwh_overhead, room.room.overhead) == (
        30,
        5,
        20,
        "measured",
    )
    assert (room.energy.kwh_total, room.energy.kwh_measured, room.room.top_down_kwh) == (55, 55, 100)
    assert room.emissions.kgco2e_total == pytest.approx(55 * 0.0461)
    total = only(stated.totals)
    assert (
        total.energy.energy_millijoules == machines.energy.energy_millijoules + room.energy.energy_millijoules
    )
    assert total.room.kwh_it == pytest.approx(machines.energy.kwh_total + 30)
    assert total.energy.kwh_total == pytest.approx(total.room.kwh_it + 25)
    assert total.uncertainty.kwh.lo95 < total.energy.kwh_total < total.uncertainty.kwh.hi95
    assert total.activity.n == 20


def test_what_is_not_known_is_absent():
    """An unknown loss and an unknown overhead are absent, not 0; the total says `not_included`."""
    unknown = replace(ROOM, ups_loss_millijoules=None, overhead_millijoules=None, overhead="not_included")
    stated = build_statement([with_rooms(servers(), [unknown], DIMENSIONS)], TERMS)
    for row in (stated.rows[-1], only(stated.totals)):
        assert (row.room.kwh_ups_loss, row.room.kwh_overhead, row.room.overhead) == (
            None,
            None,
            "not_included",
        )
    mixed = build_statement(
        [with_rooms(servers(), [ROOM, replace(unknown, room="R2", site="annexe")], DIMENSIONS)], TERMS
    )
    assert [row.key.site for row in mixed.rows[1:]] == ["annexe", "hq"]
    assert only(mixed.totals).room.overhead == "not_included"
    assert only(mixed.totals).room.kwh_overhead == 20


def test_overhead_by_pue_is_modelled():
    """A row with an overhead by PUE shows the PUE and contains its uncertainty (GSD² 1.1)."""
    pue = replace(
        ROOM, ups_loss_millijoules=0, overhead="pue", overhead_u_millijoules=8 * KWH, pue_ppm=1_550_000
    )
    row = build_statement([with_rooms(servers(), [pue], ())], TERMS).rows[-1]
    assert (row.room.pue, row.energy.kwh_modelled, row.energy.kwh_measured, row.room.kwh_ups_loss) == (
        1.55,
        20,
        30,
        0,
    )
    assert row.uncertainty.u_model == pytest.approx((8**2 + 0.3**2) ** 0.5 / 50)
    assert (row.key.site, row.key.device_class) == (None, None)


def test_a_room_without_machines():
    """A room without agents is the whole figure; rooms in two zones give a total without a zone."""
    stated = build_statement([with_rooms(period([]), [ROOM], DIMENSIONS)], TERMS)
    total = only(stated.totals)
    assert (total.energy.kwh_total, total.room.kwh_it, total.key.zone, total.activity.n) == (55, 30, "FR", 0)
    abroad = build_statement([with_rooms(period([]), [ROOM, replace(ROOM, zone="BE")], DIMENSIONS)], TERMS)
    assert (only(abroad.totals).key.zone, only(abroad.totals).energy.kwh_total) == ("", 110)


def test_no_room_changes_nothing():
    """No room changes nothing, and a room that counted nothing adds 0."""
    made = period(fleet())
    assert with_rooms(made, [], DIMENSIONS) is made
    idle = replace(
        ROOM, it_millijoules=0, other_millijoules=0, ups_loss_millijoules=None, overhead_millijoules=None
    )
    row = build_statement([with_rooms(period([]), [idle], DIMENSIONS)], TERMS).rows[-1]
    assert row.energy.kwh_total == 0


STRATA = [Stratum("server", f"place {number}") for number in range(3)]
AMOUNT = st.integers(0, 10**6)


@given(
    st.lists(st.tuples(AMOUNT, AMOUNT, AMOUNT), min_size=3, max_size=3),
    st.lists(st.tuples(AMOUNT, st.dictionaries(st.sampled_from(STRATA), AMOUNT)), min_size=1, max_size=4),
)
def test_servers_take_what_their_meters_leave(
    amounts: list[tuple[int, int, int]], rooms: list[tuple[int, dict[Stratum, int]]]
):
    """A room's servers and its remainder sum to what its meters left, to the millijoule. The rest of a
    stratum's estimate belongs to servers elsewhere. Nothing is reduced where the meter leaves enough."""
    silent = {stratum: Silent(*amount, 0.0) for stratum, amount in zip(STRATA, amounts, strict=True)}
    before = [
        replace(ROOM, other_millijoules=left, servers=RoomServers(left, 0, 0, tuple(times.items())))
        for left, times in rooms
    ]
    after, kept = settle_rooms(before, silent)
    taken = 0
    for old, new in zip(before, after, strict=True):
        assert new.servers is not None
        imputed = new.servers.known_millijoules
        taken += max(0, old.other_millijoules - imputed) - new.other_millijoules
        assert new.other_millijoules >= 0
    elsewhere = 0
    for stratum, energy in kept.items():
        here = sum(times.get(stratum, 0) for _, times in rooms)
        of = silent[stratum]
        elsewhere += apportion(of.extrapolated_millijoules, [here, max(0, of.milliseconds - here)])[1]
        assert 0 <= energy <= of.extrapolated_millijoules
    assert sum(kept.values()) == elsewhere + taken
    if all(room.other_millijoules for room in after):
        assert kept == {stratum: silent[stratum].extrapolated_millijoules for stratum in kept}


def test_a_server_outside_all_rooms_keeps_its_estimate():
    """Half of the time without energy is in the room, so that 40 of 80 mJ are; the meter leaves 10."""
    silent = {STRATA[0]: Silent(200, 0, 80, 4.0)}
    room = replace(ROOM, other_millijoules=10, servers=RoomServers(30, 20, 3, ((STRATA[0], 100),)))
    (made,), kept = settle_rooms([room], silent)
    assert (made.other_millijoules, kept[STRATA[0]]) == (0, 50)
    assert made.servers == RoomServers(30, 20, round((3**2 + (2 * 10 / 40) ** 2) ** 0.5))
    enough = replace(room, other_millijoules=100)
    (made,), kept = settle_rooms([enough], silent)
    assert (made.other_millijoules, kept[STRATA[0]]) == (60, 80)


def test_the_fleet_gives_way_to_the_meter():
    """Where the meter reduces a stratum's estimate, estimates still sum up and the sampling error falls."""
    hosts = [
        host(n, DeviceClass.SERVER, Population.SERVER, entity="E1", enrolled=FIRST) for n in range(1, 13)
    ]
    free = period(hosts, measured=10)
    assert free.total is not None
    stratum = free.total.places[0][0].stratum("server")
    inside = replace(ROOM, other_millijoules=10, servers=RoomServers(10, 0, 0, ((stratum, 10**15),)))
    bound = period(hosts, measured=10, rooms=(inside,))
    assert bound.total is not None
    was, now = free.total.estimate, bound.total.estimate
    assert now.extrapolated_millijoules == 10 < was.extrapolated_millijoules
    assert now.energy_millijoules == was.energy_millijoules - was.extrapolated_millijoules + 10
    assert now.u_sampling * now.energy_millijoules < was.u_sampling * was.energy_millijoules
    assert bound.rooms[0].other_millijoules == 0
