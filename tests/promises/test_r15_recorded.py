# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R15: today's receiver accepts the bytes that agents of released versions sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.fakes.authority import TestAuthority
from tests.support.service import Service, serving
from tests.support.stored_sums import SqliteSumReader
from tests.support.waiting import PATIENCE_SECONDS
from veilleuse.collector.model.records import Grain
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population

RECORDED = Path(__file__).parents[1] / "fixtures" / "golden" / "wire"
VERSIONS = sorted(file.name.removesuffix("_push.binpb") for file in RECORDED.glob("*_push.binpb"))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Yield a running service over an empty store."""
    with serving(tmp_path, TestAuthority()) as made:
        yield made


@pytest.mark.promise("R15")
@pytest.mark.parametrize("version", VERSIONS)
def test_a_recorded_exchange_is_accepted(version, service, figure):
    """Hello and Push of each recorded version are accepted: each record is stored with its sums, and facts
    and health are read.
    """
    hello = pb.HelloRequest.FromString((RECORDED / f"{version}_hello.binpb").read_bytes())
    recorded = pb.PushRequest.FromString((RECORDED / f"{version}_push.binpb").read_bytes())
    stored = milliseconds = 0
    for population, kinds in (
        (Population.SERVER, {"clock"}),
        (Population.WORKSTATION, {"date", "week", "gap"}),
    ):
        stub, stream = service.agent(population)
        wires = [wire for wire in recorded.records if kind_of(wire) in kinds]
        stream.add(*wires)
        hello.epoch = stream.epoch
        assert stub.Hello(hello, timeout=PATIENCE_SECONDS).mark == 0
        answer = stub.Push(stream.request(), timeout=PATIENCE_SECONDS)
        assert (answer.outcome, answer.mark) == (pb.PUSH_OUTCOME_STORED, len(wires)), answer
        stored += len(wires)
        milliseconds += sum(
            cell.milliseconds for wire in wires for cell in pb.Record.FromString(wire).measurement.cells
        )
    with closing(SqliteSumReader(service.directory)) as reader:
        assert reader.record_count() == stored == len(recorded.records)
        sums = [row for grain in (Grain.HOUR, Grain.WEEK) for row in reader.sums(grain, 0, 2**62)]
        days = [row for row in reader.sums(Grain.DAY, 0, 2**62) if row.host_id == 2]
        assert sum(row.cell.milliseconds for row in [*sums, *days]) == milliseconds
        assert {host.facts.model for host in reader.hosts()} == {"PowerEdge R640"}
        assert all(host.health and host.health.drops for host in reader.hosts())
    figure(f"{stored} records of servers and workstations accepted, as recorded from {version}")


def kind_of(wire: bytes) -> str:
    """Return clock, date, week, or gap."""
    record = pb.Record.FromString(wire)
    return str(record.measurement.period.WhichOneof("kind")) if record.HasField("measurement") else "gap"
