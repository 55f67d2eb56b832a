# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test what every store does with shared meters: ports.MeteringStore."""

from __future__ import annotations

from datetime import date

import pytest

from tests.conformance.backends import Backend
from tests.support.pushes import HOUR, MONDAY_10H, Stream, enrol, realistic
from veilleuse.collector.model.meters import (
    FOR_EVER,
    NOT_SHARED,
    DeclaredMeter,
    MeterBoundary,
    MeterReading,
    MeterShare,
    PsysCheck,
    Pue,
    RoomServer,
    SharedEnergy,
    SharePart,
)
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.model.sums import DirtyPeriod
from veilleuse.wire.vocabulary import PointKind

FIRST = date(2026, 1, 1)


def pdu(name: str = "pdu-1", parent: str | None = None) -> DeclaredMeter:
    """Return a meter at an outlet of the room DC1."""
    return DeclaredMeter(name, "lyon", "DC1", MeterBoundary.OUTLET, parent)


def share(
    host_id: HostId,
    ppm: int = 1_000_000,
    meter: str = "pdu-1",
    part: SharePart = SharePart.MACHINE,
    first: date = FIRST,
    last: date = FOR_EVER,
) -> MeterShare:
    """Return a machine's share of a meter, in parts per million."""
    return MeterShare(meter, host_id, part, ppm, first, last)


def hour(host_id: HostId, start: int = MONDAY_10H) -> DirtyPeriod:
    """Return an hour of a machine."""
    return DirtyPeriod(host_id, Grain.HOUR, start)


def read(
    energy: int, covered: int = HOUR, meter: str = "pdu-1", kind: PointKind = PointKind.PDU
) -> MeterReading:
    """Return an agent's reading in millijoules, over `covered` milliseconds."""
    return MeterReading(meter, kind, energy, covered)


def clean(store: Backend) -> None:
    """Put aside all periods that wait for derive."""
    for period in store.derive.dirty(100):
        store.derive.put_aside(period)


def test_shares_sum_to_the_meter_to_the_millijoule(store: Backend):
    """Three machines share all but a millionth of a meter: their parts are integers whose sum is that share
    of the reading."""
    hosts = [enrol(store.registry) for _ in range(3)]
    store.metering.declare([pdu()], [share(host, 333_333) for host in hosts], [])
    store.metering.put_readings(hour(hosts[2]), [read(1_000_003)])
    found = [store.metering.shared_readings(hour(host)).machine for host in hosts]
    assert all(one is not None and not one.whole for one in found)
    assert sum(one.energy_millijoules for one in found if one) == 1_000_003 * 999_999 // 1_000_000
    assert store.metering.shared_readings(hour(hosts[0], MONDAY_10H + HOUR)).machine is None


def test_a_reading_marks_the_hour_of_the_machines_on_it(store: Backend):
    """Late readings of the polling agent mark the same hour of the machine on the meter, once; other hours
    and machines are not marked."""
    poller, fed, other = (enrol(store.registry) for _ in range(3))
    for host in (fed, other):
        store.ingest.append([Stream(host).send(realistic(MONDAY_10H), realistic(MONDAY_10H + HOUR))])
    store.metering.declare([pdu()], [share(fed)], [])
    clean(store)
    store.metering.put_readings(hour(poller), [read(5)])
    assert store.derive.dirty(10) == (hour(fed),)
    clean(store)
    store.metering.put_readings(hour(poller), [read(5)])
    assert store.derive.dirty(10) == ()
    store.metering.put_readings(hour(poller), [read(6)])
    assert store.derive.dirty(10) == (hour(fed),)


def test_an_hour_without_records_is_not_marked(store: Backend):
    """A reading marks no hour of a machine without records, because nothing can be derived."""
    poller, fed = enrol(store.registry), enrol(store.registry)
    store.metering.declare([pdu()], [share(fed)], [])
    store.metering.put_readings(hour(poller), [read(5)])
    assert store.derive.dirty(10) == ()


def test_a_declaration_marks_who_was_and_who_is_on_the_meter(store: Backend):
    """A share that moves from one machine to another lets the hours of both be derived again."""
    poller, before, after = (enrol(store.registry) for _ in range(3))
    for host in (before, after):
        store.ingest.append([Stream(host).send(realistic(MONDAY_10H))])
    store.metering.declare([pdu()], [share(before)], [])
    store.metering.put_readings(hour(poller), [read(5)])
    clean(store)
    assert store.metering.shared_readings(hour(before)).machine is not None
    store.metering.declare([pdu()], [share(after)], [])
    assert set(store.derive.dirty(10)) == {hour(before), hour(after)}
    assert store.metering.shared_readings(hour(before)) == NOT_SHARED
    assert store.metering.shared_readings(hour(after)).machine == SharedEnergy(
        PointKind.PDU, 5, HOUR, whole=True
    )


def test_a_meter_between_two_others_that_moves_marks_the_machines_below(store: Backend):
    """A machine is on the UPS and on an outlet far below it: the meter between them decides whether the UPS
    counts for it."""
    host = enrol(store.registry)
    store.ingest.append([Stream(host).send(realistic(MONDAY_10H))])
    feeds = [share(host, 500_000, meter="ups"), share(host, meter="a")]
    store.metering.declare([pdu("ups"), pdu("strip"), pdu("a", "strip")], feeds, [])
    store.metering.put_readings(hour(host), [read(90, meter="ups"), read(40, meter="a")])
    both = store.metering.shared_readings(hour(host)).machine
    assert both
    assert both.energy_millijoules == 45 + 40
    clean(store)
    store.metering.declare([pdu("strip", "ups")], [], [])
    assert store.derive.dirty(10) == (hour(host),)
    below = store.metering.shared_readings(hour(host)).machine
    assert below
    assert below.energy_millijoules == 40
    clean(store)
    store.metering.declare([pdu("strip")], [], [])
    assert store.derive.dirty(10) == (hour(host),)


def test_shares_hold_on_their_days_of_the_site(store: Backend):
    """Shares end with valid_to inclusive, in the site's zone: 1 March, 23:00 UTC is 2 March in Lyon."""
    host = enrol(store.registry)
    last = date(2026, 3, 1)
    store.metering.declare([pdu()], [share(host, last=last)], [])
    evening = MONDAY_10H - 11 * HOUR  # 2026-03-01T23:00Z
    for start in (evening - HOUR, evening):
        store.metering.put_readings(hour(host, start), [read(7)])
    assert store.metering.shared_readings(hour(host, evening - HOUR)).machine is not None
    assert store.metering.shared_readings(hour(host, evening)) == NOT_SHARED


def test_two_feeds_of_a_machine_add_up_and_what_feeds_them_does_not(store: Backend):
    """The outlets A and B add up; the PDU and the UPS above them do not count again. With a reading of one
    feed only, the machine has none."""
    host = enrol(store.registry)
    meters = [pdu("ups"), pdu("strip", "ups"), pdu("a", "strip"), pdu("b", "strip")]
    store.metering.declare(meters, [share(host, meter=name) for name in ("ups", "strip", "a", "b")], [])
    store.metering.put_readings(
        hour(host), [read(99, meter="ups"), read(98, meter="strip"), read(40, meter="a")]
    )
    assert store.metering.shared_readings(hour(host)).machine is None
    store.metering.put_readings(hour(host), [read(50, meter="b")])
    assert store.metering.shared_readings(hour(host)).machine == SharedEnergy(
        PointKind.PDU, 90, HOUR, whole=True
    )


def test_two_agents_that_read_one_meter_are_two_views(store: Backend):
    """Two agents' readings of one meter are never added: the longer one counts."""
    one, two = enrol(store.registry), enrol(store.registry)
    store.metering.declare([pdu()], [share(one)], [])
    store.metering.put_readings(hour(one), [read(100, HOUR // 2)])
    store.metering.put_readings(hour(two), [read(190, HOUR)])
    assert store.metering.shared_readings(hour(one)).machine == SharedEnergy(
        PointKind.PDU, 190, HOUR, whole=True
    )


def test_a_plug_shared_with_a_screen(store: Backend):
    """Machine and screen have their parts; the screen is known to be metered even without a reading."""
    host = enrol(store.registry)
    shares = [share(host, 800_000), share(host, 200_000, part=SharePart.MONITOR)]
    store.metering.declare([pdu()], shares, [])
    assert store.metering.shared_readings(hour(host)).monitor_declared
    store.metering.put_readings(hour(host), [read(1_000, kind=PointKind.PLUG)])
    found = store.metering.shared_readings(hour(host))
    assert found.machine
    assert found.monitor
    assert (found.machine.energy_millijoules, found.monitor.energy_millijoules) == (800, 200)


def test_declarations_come_back_as_they_were(store: Backend):
    """Meters, shares, PUEs and servers in rooms are read unchanged; a new declaration of a meter or room
    replaces the old one, and the others stay."""
    host = enrol(store.registry)
    servers = [
        RoomServer("DC1", "lyon", None, None, FIRST, FOR_EVER),
        RoomServer("bench", "lyon", host, None, FIRST, FIRST),
        RoomServer("bench", "lyon", None, 175, FIRST, FOR_EVER),
    ]
    ups = DeclaredMeter("ups", "lyon", "DC1", MeterBoundary.UPS_OUTPUT, None, 940_000)
    pue = Pue("DC1", FIRST, FOR_EVER, 1_400_000, MeterBoundary.UPS_OUTPUT)
    store.metering.declare([ups, pdu(parent="ups")], [share(host, 500_000)], [pue], servers)
    store.metering.declare([pdu(parent="ups")], [share(host, 250_000)], [], servers[1:2])
    found = store.metering.declarations()
    assert found.meters == (pdu(parent="ups"), ups)
    assert found.shares == (share(host, 250_000),)
    assert found.pues == (pue,)
    assert found.servers == (servers[0], servers[1])


def test_what_psys_says_is_kept_by_period(store: Backend):
    """A period that is derived again replaces its own check; the result is the sum over all periods."""
    host = enrol(store.registry)
    store.metering.put_psys(hour(host), PsysCheck(10, 9, 8, 7, 6))
    store.metering.put_psys(hour(host), PsysCheck(20, 10, 5, -4, 3))
    store.metering.put_psys(hour(host, MONDAY_10H + HOUR), PsysCheck(1, 1, 1, 1, 1))
    assert store.metering.psys_seen(host) == PsysCheck(21, 11, 6, -3, 4)
    assert store.metering.psys_seen(enrol(store.registry)) == PsysCheck()


def test_what_is_beside_a_machine_is_forgotten_with_it(store: Backend):
    """No share, reading, check or room names a forgotten machine any more; those of other machines stay."""
    gone, stays = enrol(store.registry), enrol(store.registry)
    servers = [RoomServer("DC1", "lyon", host_id, None, FIRST, FOR_EVER) for host_id in (gone, stays)]
    store.metering.declare([pdu()], [share(gone, 500_000), share(stays, 500_000)], [], servers)
    store.metering.put_readings(hour(gone), [read(100)])
    store.metering.put_psys(hour(gone), PsysCheck(1, 1, 1))
    host = store.registry.host(gone)
    assert host is not None
    while store.forgetting.forget_slice(gone):
        pass
    assert store.forgetting.forget_host(host, b"x" * 32)
    assert [one.host_id for one in store.metering.declarations().shares] == [stays]
    assert [one.host_id for one in store.metering.declarations().servers] == [stays]
    assert store.metering.shared_readings(hour(stays)).machine is None
    assert store.metering.psys_seen(gone) == PsysCheck()


@pytest.mark.parametrize("share_ppm", [0, 1_000_001])
def test_a_share_that_cannot_be_is_not_stored(store: Backend, share_ppm: int):
    """An impossible share is refused with its whole declaration."""
    host = enrol(store.registry)
    with pytest.raises(Exception, match="CHECK"):
        store.metering.declare([pdu()], [share(host, share_ppm)], [])
    assert store.metering.declarations().meters == ()
