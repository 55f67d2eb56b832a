# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the bounds of what one machine costs a store, whatever it sends, and of what a scrape costs.
docs/guarantees.md S11, S12."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from tests.support.pushes import (
    HOUR,
    MONDAY_10H,
    NOW,
    WORKSTATION,
    Stream,
    cell,
    clock,
    day,
    enrol,
    gap,
    measurement,
    rapl,
    realistic,
    week,
)
from veilleuse.collector.model.records import AppendResult, Grain, ValidPush
from veilleuse.collector.validate import check_push
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population, State


def test_a_period_is_filled_four_times_over_and_no_more(store):
    """S12: without the bound a machine could claim 5 kW for one hour a thousand times. Refused records are
    named and nothing is stored; with gaps in their place the stream continues. Replays take no room, and a
    new epoch gives none."""
    stream = Stream(enrol(store.registry))
    hour = [measurement(clock(duration=HOUR), [cell(HOUR)], calendar_sha256=i.to_bytes(32)) for i in range(5)]
    store.ingest.append([stream.send(*hour[:3])])
    outcome, *_ = store.ingest.append([stream.send(hour[3], hour[4], realistic(MONDAY_10H + HOUR))])
    assert (outcome.result, outcome.mark, outcome.refusals) == (
        AppendResult.REFUSED,
        3,
        ((5, "period_full"),),
    )
    again = Stream(stream.host_id, epoch=stream.epoch)
    again.add(*hour[:4], gap(reason=pb.GAP_REASON_REFUSED), realistic(MONDAY_10H + HOUR))
    (outcome,) = store.ingest.append([again.push(4)])
    assert (outcome.result, outcome.mark) == (AppendResult.STORED, 6)
    assert (
        sum(row.cell.milliseconds for row in store.reader.sums(Grain.HOUR, MONDAY_10H, MONDAY_10H + 1))
        == 4 * HOUR
    )
    (replay,) = store.ingest.append([Stream(stream.host_id).send(*hour[:4])])
    assert replay.replayed_records == 4, "what is known already takes no room"
    (other,) = store.ingest.append([Stream(stream.host_id).send(hour[4])])
    assert other.refusals == ((1, "period_full"),), "a new epoch is no way around it"


def test_a_period_holds_1440_records_and_no_more(store):
    """Cells of a millisecond do not allow more records, because derivation reads a period as a whole."""
    stream = Stream(enrol(store.registry))
    tiny = [measurement(clock(), [cell(1)], calendar_sha256=i.to_bytes(32)) for i in range(1441)]
    store.ingest.append([stream.send(*tiny[:1000])])
    (outcome,) = store.ingest.append([stream.send(*tiny[1000:])])
    assert outcome.refusals == ((1441, "period_full"),)
    (outcome,) = store.ingest.append([stream.push(1001, 1440)])
    assert outcome.mark == 1440


class Compared(bytes):
    """A hash that counts how often it is compared."""

    times = 0

    def __eq__(self, other: object) -> bool:
        Compared.times += 1
        return bytes(self) == other

    __hash__ = bytes.__hash__


def counting(push: ValidPush) -> ValidPush:
    """Return the push with hashes that count their comparisons."""
    return replace(push, records=tuple(one._replace(hash=Compared(one.hash)) for one in push.records))


def test_a_replay_among_many_is_found_quickly(store):
    """A run that replays half of 2,000 gaps and most of an hour of 1,400 records compares each record a few
    times. The writer does not make 10^6 comparisons."""
    old = Stream(enrol(store.registry))
    gaps = [
        pb.Record(
            gap=pb.Gap(
                reason=pb.GAP_REASON_DISABLED,
                records=1,
                spans=[pb.GapSpan(period=clock(MONDAY_10H, 1000 + i), milliseconds=1)],
            )
        )
        for i in range(2000)
    ]
    crowd = [measurement(clock(), [cell(10_000)], calendar_sha256=i.to_bytes(32)) for i in range(1400)]
    for records in (gaps, crowd):
        for first in range(0, len(records), 1000):
            store.ingest.append([old.send(*records[first : first + 1000])])

    new = Stream(old.host_id)
    Compared.times = 0
    outcomes = store.ingest.append([counting(new.send(*gaps[1000:])), counting(new.send(*crowd[400:]))])
    assert [outcome.replayed_records for outcome in outcomes] == [1000, 1000]
    assert 2_000 <= Compared.times <= 10 * 2_000


def test_no_host_makes_rows_without_end_that_every_scrape_reads(store):
    """A thousand source names of one hostile host give one row per reason; an impossible gap is refused and
    does not break the reader."""
    stream = Stream(enrol(store.registry))
    for start in range(16):
        lost = [
            pb.GapTotal(reason=pb.GAP_REASON_SENSOR_LOST, milliseconds=5, source=f"s{start}_{i}")
            for i in range(64)
        ]
        store.ingest.append([stream.send(measurement(clock(MONDAY_10H + start * 60_000), gaps=lost))])
    stored = {"sensor_lost": (0, 16 * 64 * 5)}
    assert store.reader.server_sums().gaps() == stored
    huge = stream.send(gap(reason=pb.GAP_REASON_SENSOR_LOST))
    huge = replace(huge, records=(huge.records[0]._replace(gap_milliseconds=2**63 - 1),))
    (outcome,) = store.ingest.append([huge])
    assert (outcome.result, outcome.refusals) == (AppendResult.REFUSED, ((17, "not_storable"),))
    assert store.reader.server_sums().gaps() == stored


def test_a_host_has_256_points_and_no_more(store):
    """S11: records that bring a host's 257th point are refused by number, in any epoch. Points that the host
    has are accepted, and another host has its own 256."""
    stream = Stream(enrol(store.registry))

    def record(minute: int, first: int, count: int = 64) -> pb.Record:
        points = [rapl(f"package-{first + i}") for i in range(count)]
        energies = [(i, 1_000, 60_000) for i in range(count)]
        return measurement(clock(MONDAY_10H + minute * 60_000), [cell(energies=energies)], points)

    store.ingest.append([stream.send(*(record(i, i * 64) for i in range(4)))])
    (outcome,) = store.ingest.append([stream.send(record(4, 0), record(5, 255, 2), record(6, 300, 1))])
    assert outcome.result is AppendResult.REFUSED
    assert outcome.refusals == ((6, "too_many_points_of_host"), (7, "too_many_points_of_host"))
    (outcome,) = store.ingest.append([stream.push(5, 5)])
    assert outcome.mark == 5
    (outcome,) = store.ingest.append([Stream(stream.host_id).send(record(7, 400, 1))])
    assert outcome.refusals == ((1, "too_many_points_of_host"),)
    (outcome,) = store.ingest.append([Stream(enrol(store.registry)).send(record(8, 400, 1))])
    assert outcome.result is AppendResult.STORED


def test_a_host_names_1024_units_and_the_rest_are_other(store):
    """S11: a new unit name each second, as of transient services, fills no table. Later names count as other,
    in any epoch, and no time is lost; known names keep their rows, and another host has its own."""
    stream = Stream(enrol(store.registry))

    def record(minute: int, first: int, count: int = 64) -> pb.Record:
        units = [pb.UnitTime(name=f"unit:run-{first + i}", cpu_milliseconds=1) for i in range(count)]
        return measurement(clock(MONDAY_10H + minute * 60_000), [cell(units=units)])

    store.ingest.append([stream.send(*(record(i, i * 64) for i in range(15)))])
    (outcome,) = store.ingest.append([stream.send(record(15, 960), record(16, 1_000), record(17, 5_000))])
    assert outcome.stored_records == 3
    store.ingest.append([Stream(stream.host_id).send(record(18, 6_000, 2))])
    other = Stream(enrol(store.registry))
    store.ingest.append([other.send(record(19, 7_000, 1))])
    rows = list(store.reader.unit_sums(Grain.DAY, 0, 2**62))
    mine = {row.unit: row.cpu_milliseconds for row in rows if row.host_id == stream.host_id}
    assert len(mine) == 1_024 + 1
    assert sum(mine.values()) == 18 * 64 + 2
    assert mine["unit:other"] == 40 + 64 + 2
    assert mine["unit:run-1000"] == 2
    assert [row.unit for row in rows if row.host_id == other.host_id] == ["unit:run-7000"]


def test_a_host_begins_256_streams_a_day_and_no_more(store):
    """The next stream is postponed, not refused; existing streams continue; another host may begin one."""
    host = enrol(store.registry)
    streams = [Stream(host) for _ in range(257)]
    results = [
        store.ingest.append([stream.send(realistic(MONDAY_10H + i * 300_000))])[0].result
        for i, stream in enumerate(streams)
    ]
    assert results == [AppendResult.STORED] * 256 + [AppendResult.TOO_MANY_EPOCHS]
    assert store.ingest.append([streams[0].send(realistic(MONDAY_10H - HOUR))])[0].mark == 2
    assert store.ingest.append([Stream(enrol(store.registry)).send(gap())])[0].mark == 1


def test_gaps_of_ten_years_are_the_most_of_a_push(store):
    """One push may make the writer divide ten years into days; gaps beyond are refused and sent undated."""
    stream = Stream(enrol(store.registry))
    year = pb.GapSpan(period=clock(MONDAY_10H - 365 * 24 * HOUR, 365 * 24 * HOUR), milliseconds=1)
    stream.add(
        *(pb.Record(gap=pb.Gap(reason=pb.GAP_REASON_DISABLED, records=1, spans=[year])) for _ in range(13))
    )
    refused = check_push(stream.request(), stream.host_id, stream.machine, NOW)
    assert refused == tuple((seq, "gap_out_of_range") for seq in (11, 12, 13))
    assert store.ingest.append([stream.push(1, 10)])[0].mark == 10


def test_what_metrics_asks_is_kept_not_scanned(store):
    """State totals and the number of records change in the commit that stores them; replays and repeated
    pushes add nothing."""
    stream = Stream(enrol(store.registry))
    pc = Stream(enrol(store.registry, Population.WORKSTATION), WORKSTATION)
    closed = cell(3600_000, band=pb.BAND_CLOSED, state=pb.STATE_ON_IDLE)
    record = realistic(MONDAY_10H)
    store.ingest.append(
        [
            stream.send(record, measurement(clock(MONDAY_10H + HOUR)), gap()),
            pc.send(measurement(day(date(2026, 3, 4)), [closed]), measurement(week(2026, 10))),
            Stream(stream.host_id).send(record),
        ]
    )
    store.ingest.append([stream.push()])
    assert sorted(store.reader.state_totals()) == [
        (stream.host_id, State.ON_ACTIVE, 150_000 + 60_000),
        (stream.host_id, State.ON_IDLE, 150_000),
        (pc.host_id, State.ON_ACTIVE, 60_000),
        (pc.host_id, State.ON_IDLE, 3600_000),
    ]
    assert store.reader.record_count() == 5
