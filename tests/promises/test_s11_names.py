# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""S11: an enrolled agent invents names wherever a name can be: none of them becomes a series."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.promises.support.served import served
from tests.support.clock import today
from tests.support.machines import SECONDS, hello_request
from tests.support.pushes import Stream, cell, clock, measurement, rapl
from tests.support.stack import Stack, get
from tests.support.waiting import until
from veilleuse.collector.model.records import HostId
from veilleuse.wire.v1 import telemetry_pb2 as pb

NAMES = 100_000


def series(stack: Stack) -> set[str]:
    """Return names and labels of /metrics, without values."""
    kept, later = get(stack.url + "metrics"), [""]

    def is_fresh() -> bool:  # an answer is kept for a second; each new one counts the requests before it
        later[0] = get(stack.url + "metrics")
        return later[0] != kept

    until(is_fresh, "/metrics never changes")
    lines = later[0].splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


def bound(stack: Stack) -> int:
    """Return the present bound from /metrics; the log's bound is of the start, without a host."""
    assert "series_bound" in stack.log("veilleuse")
    (now,) = [
        line
        for line in get(stack.url + "metrics").splitlines()
        if line.startswith("veilleuse_exposition_series_bound ")
    ]
    return int(float(now.rpartition(" ")[2]))


def hostile(serial: count[int], start: int, turn: int) -> pb.Record:
    """Return a sound measurement of a minute with new names: 64 sources, 64 units and at first 2 points."""
    lost = [
        pb.GapTotal(reason=pb.GAP_REASON_SENSOR_LOST, milliseconds=5, source=f"source_{next(serial)}")
        for _ in range(64)
    ]
    units = [pb.UnitTime(name=f"unit:name{next(serial)}", cpu_milliseconds=1) for _ in range(64)]
    named = (next(serial), next(serial)) if turn < 100 else (1, 2)  # a host has at most 256 points
    points = [rapl("package-0"), *(rapl(f"package-{number}") for number in named)]
    cells = [cell(units=units, energies=[(index, 100, 60_000) for index in range(3)])]
    return measurement(clock(start + turn * 60_000), cells, points, gaps=lost)


@pytest.mark.promise("S11")
def test_a_hundred_thousand_names_make_no_series(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """New names of points, sensors, units, facts, versions and sources add no line to /metrics, which stays
    within its computed bound."""
    serial = count(1)
    with served(tmp_path) as (stack, machine, _), machine.telemetry() as stub:
        stream = Stream(HostId(0), epoch=hello_request().epoch)
        yesterday = today(ZoneInfo("Europe/Paris")) - timedelta(days=1)
        start = round(
            datetime(yesterday.year, yesterday.month, yesterday.day, 4, tzinfo=UTC).timestamp() * 1000
        )
        nonce = b""
        sent = accepted = 0
        before: set[str] = set()
        while next(serial) < NAMES:
            request = hello_request()
            request.instance_id = nonce
            request.facts.device_class = pb.DEVICE_CLASS_SERVER
            if sent:
                request.facts.vendor, request.facts.model = f"Vendor {next(serial)}", f"Model {next(serial)}"
                request.health.agent_version = f"9.{next(serial)}"
                for _ in range(64):
                    request.health.sources.add(name=f"s{next(serial)}", successes=1, failures=1)
            else:
                request.health.agent_version = "0.2.0"
                request.health.sources.add(name="a_source_of_its_own", successes=1, failures=1)
            nonce = stub.Hello(request, timeout=SECONDS, wait_for_ready=True).next_instance_id
            first = len(stream.wires) + 1
            stream.add(*(hostile(serial, start, turn) for turn in range(first - 1, first + 39)))
            answer = stub.Push(stream.request(first), timeout=SECONDS, wait_for_ready=True)
            assert answer.outcome == pb.PUSH_OUTCOME_STORED, answer
            sent, accepted = sent + 1, answer.mark
            if not before:
                _derived(stack)
                _looks_anew(stack)
                request.instance_id = nonce
                nonce = stub.Hello(request, timeout=SECONDS, wait_for_ready=True).next_instance_id
                series(stack)  # the request makes a series itself
                before = series(stack)
        _derived(stack)
        after = series(stack)
        most = bound(stack)
    more = len(after) - len(before)
    figure(f"{more} additional series after {NAMES:,} names, {len(after):,} series in all (bound: {most:,})")
    assert accepted == len(stream.wires) > 600
    assert [name for name in before if name.startswith("veilleuse_idle_while_on_ratio{")]
    # At most five agent versions have a series: a new version replaces an earlier one.
    assert {name.partition("{")[0] for name in after - before} <= {"veilleuse_agent_version_hosts"}
    assert more == 0
    assert len(after) <= most


def _derived(stack: Stack) -> None:
    """Wait until no row waits for derivation; /metrics reports this before the indicators have figures."""
    with closing(sqlite3.connect(f"file:{stack.data / 'data.db'}?mode=ro", uri=True)) as db:
        stack.wait_for(
            lambda: db.execute("SELECT count(*) FROM dirty").fetchone() == (0,), "everything is derived"
        )


def _looks_anew(stack: Stack) -> None:
    """Start the collector again: its pages keep yesterday's figures, also their first ones, for a minute."""
    stack.stop(stack.processes[-1])
    stack.start_collector()
