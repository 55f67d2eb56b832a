# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""S12: values that no machine has never reach a total. The wire's integers cannot be NaN or infinite."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.promises.support.oracle import Sender, complaint
from tests.support.pushes import (
    HOUR,
    MONDAY_10H,
    NOW,
    SERVER,
    Stream,
    cell,
    clock,
    enrol,
    measurement,
    rapl,
    site,
)
from tests.support.stored_sums import SqliteSumReader
from veilleuse.collector import settings as collector_settings
from veilleuse.collector.errors import RecordRefused
from veilleuse.collector.model.records import AppendResult, Grain
from veilleuse.collector.store import create_store
from veilleuse.collector.validate import MachineLimits, check_push
from veilleuse.collector.validate.push import check_record
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import DeviceClass, Population

pytestmark = pytest.mark.promise("S12")

WATTS = {
    DeviceClass.LAPTOP: 300,
    DeviceClass.MINI_PC: 1_500,
    DeviceClass.SFF: 1_500,
    DeviceClass.TOWER: 1_500,
    DeviceClass.ALL_IN_ONE: 1_500,
    DeviceClass.THIN_CLIENT: 1_500,
    DeviceClass.SERVER: 1_500,
    DeviceClass.VIRTUAL_MACHINE: 1_500,
    DeviceClass.UNKNOWN: 1_500,
}
"""Ceilings of docs/wire.md for machines that did not enrol as servers."""
MINUTE = 60_000
SLACK = 1_000
SUMS = (
    "cpu_covered_milliseconds",
    "cpu_busy_milliseconds",
    "any_core_busy_milliseconds",
    "idle_beyond_15_minutes_milliseconds",
    "idle_beyond_30_minutes_milliseconds",
    "idle_beyond_60_minutes_milliseconds",
    "update_window_milliseconds",
)
POISON = st.one_of(
    st.integers(0, 70_000),
    st.sampled_from([10_000_000 * MINUTE, 2**31, 2**53, 2**63 - 1, 2**63, 2**64 - 1]),  # the first: 10 MW
)


def reason(record: pb.Record, machine: MachineLimits = SERVER) -> str | None:
    """Return why a record is refused; None when it is accepted."""
    try:
        check_record(1, record.SerializeToString(), bytes(32), machine, NOW)
    except RecordRefused as error:
        return error.reason
    return None


def test_no_field_can_say_nan_or_infinity() -> None:
    """The whole contract has no float."""
    found: list[str] = []

    def walk(message: Descriptor) -> None:
        for one in message.fields:
            if one.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
                found.append(one.full_name)
        for nested in message.nested_types:
            walk(nested)

    messages = pb.DESCRIPTOR.message_types_by_name.values()
    for message in messages:
        walk(message)
    assert len(messages) > 20
    assert found == []


@pytest.mark.parametrize("device_class", list(DeviceClass))
@pytest.mark.parametrize("population", [Population.CLASSROOM, Population.SERVER])
def test_the_ceiling_of_each_class_to_the_millijoule(
    population: Population, device_class: DeviceClass
) -> None:
    """A minute at the ceiling and one joule is accepted, one millijoule more is not.

    A server's token gives a server's ceiling, whatever class the machine reports; no other token does.
    """
    watts = 5_000 if population is Population.SERVER else WATTS[device_class]
    machine = MachineLimits(population, device_class, allow_fake=False)
    most = watts * MINUTE + SLACK
    for energy, expected in ((most, None), (most + 1, "energy_above_ceiling")):
        cells = [cell(MINUTE, energies=[(0, energy, MINUTE)])]
        assert reason(measurement(clock(duration=HOUR), cells, [rapl()]), machine) == expected


POISONED: dict[str, tuple[pb.Record, str]] = {
    "10 MW": (
        measurement(cells=[cell(energies=[(0, 10_000_000 * MINUTE, MINUTE)])], points=[rapl()]),
        "energy_above_ceiling",
    ),
    "2^64 - 1 mJ": (
        measurement(cells=[cell(energies=[(0, 2**64 - 1, MINUTE)])], points=[rapl()]),
        "energy_above_ceiling",
    ),
    "energy of no time": (
        measurement(cells=[cell(energies=[(0, 1_001, 0)])], points=[rapl()]),
        "energy_above_ceiling",
    ),
    "year 3000": (measurement(clock(32_503_680_000_000)), "period_in_future"),
    "before 1970": (measurement(clock(-60_000)), "period_too_old"),
    "the end of time": (measurement(clock(2**63 - 60_001)), "period_in_future"),
    "a cell of 2^64 - 1 ms": (measurement(cells=[cell(2**64 - 1)]), "cells_exceed_period"),
    "cells that wrap to nothing": (
        measurement(cells=[cell(2**64 - 1), cell(1, state=pb.STATE_ON_IDLE)]),
        "cells_exceed_period",
    ),
    "a duration of 0": (measurement(clock(duration=0)), "duration_out_of_range"),
    "a minus in an unsigned field": (
        measurement(cells=[cell(any_core_busy_milliseconds=2**64 - 5)]),
        "cpu_exceeds",
    ),
}


@pytest.mark.parametrize("name", POISONED)
def test_each_poison_has_its_reason(name: str) -> None:
    """Each poisoned record has its reason, and the oracle refuses it too."""
    record, expected = POISONED[name]
    assert reason(record) == expected
    assert complaint(record.SerializeToString(), Sender("server", "server"), NOW) is not None


@settings(max_examples=600, deadline=None)
@given(data=st.data())
def test_any_value_in_any_sum_is_taken_when_it_can_be_and_only_then(data: Any) -> None:
    """The validator and the oracle agree on every combination of values."""
    fields = {name: data.draw(POISON) for name in data.draw(st.sets(st.sampled_from(SUMS)))}
    energies = [(i, data.draw(POISON), data.draw(POISON)) for i in range(data.draw(st.integers(0, 2)))]
    start = data.draw(st.sampled_from([MONDAY_10H, 0, -1, NOW, NOW + 49 * HOUR, 2**62, 32_503_680_000_000]))
    record = measurement(
        clock(start, data.draw(st.sampled_from([MINUTE, 1, 0, HOUR, 2**40]))),
        [cell(data.draw(POISON), energies=energies, **fields)],
        [rapl(), rapl("dram")],
    )
    wrong = complaint(record.SerializeToString(), Sender("server", "server"), NOW)
    assert (reason(record) is None) == (wrong is None), wrong


def test_a_day_s_total_is_bounded_whatever_is_sent(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """A day's total is at most four times 5 kW, whatever a host sends; a poisoned record adds nothing.

    The host claims its ceiling in every hour, in ten streams. Further claims are refused with their reason.
    """
    limits = collector_settings.Store(free_bytes_minimum=0)
    claimed = refused = 0
    with closing(create_store(tmp_path, limits, simulated=False, now_unix_milliseconds=NOW)) as store:
        store.registry.put_site(site())
        host = enrol(store.registry)
        midnight = MONDAY_10H - 11 * HOUR
        for turn in range(10):
            for hour in range(24):
                stream = Stream(host)
                energy = 5_000 * HOUR
                cells = [cell(HOUR, energies=[(0, energy, HOUR)], idle_beyond_15_minutes_milliseconds=turn)]
                stream.add(measurement(clock(midnight + hour * HOUR, HOUR), cells, [rapl()]))
                claimed += energy
                (outcome,) = store.ingest.append([stream.push()])
                refused += outcome.result is AppendResult.REFUSED
                assert outcome.result is AppendResult.STORED or outcome.refusals == ((1, "period_full"),)
        poisoned = Stream(host)
        poisoned.add(*(record for record, _ in POISONED.values()))
        assert len(check_push(poisoned.request(), host, SERVER, NOW)) == len(POISONED)  # type: ignore[arg-type]  # refusals
        with closing(SqliteSumReader(tmp_path)) as reader:
            day = date(2026, 3, 2).toordinal()
            total = sum(row.energy_millijoules for row in reader.point_sums(Grain.DAY, day, day + 1))
    figure(
        f"{total / 3.6e9:,.0f} of {claimed / 3.6e9:,.0f} kWh claimed reached a day's total (bound: 4 × 24 h × 5 kW)"
    )
    assert total == 4 * 24 * HOUR * 5_000
    assert refused == 6 * 24
