# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""S8: small messages that need much memory. The receiving process's memory under 100 such calls at once."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import psutil
import pytest

from tests.promises.support.raw import PUSH, Connection
from tests.promises.support.served import peak_bytes, served
from tests.support.machines import Machine
from tests.support.waiting import PATIENCE_SECONDS
from veilleuse.wire.v1 import telemetry_pb2 as pb

pytestmark = pytest.mark.promise("S8")

CONNECTIONS, STREAMS = 25, 4
AT_ONCE = CONNECTIONS * STREAMS
MOST_MIB = 64
HELLO = "/veilleuse.wire.v1.TelemetryService/Hello"
INVALID, EXHAUSTED = "3", "8"
"""gRPC's numbers of INVALID_ARGUMENT and RESOURCE_EXHAUSTED."""
REFUSED = "0"
"""gRPC's OK: the answer names each record with its reason, or `one_at_a_time`."""


def _field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field."""
    length, size = len(content), b""
    while length > 0x7F:
        size, length = size + bytes([length & 0x7F | 0x80]), length >> 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + content


def _nested() -> bytes:
    """Return a valid push of 512 KiB: eight records of 64 KiB, each a measurement of 32,000 empty cells."""
    cells = _field(1, b"\x2a\x00" * 32_000)
    head = pb.PushRequest(epoch=bytes(8), first_seq=1, chain_before=bytes(32)).SerializeToString()
    return head + _field(4, cells) * 8


METADATA = "40 kB of metadata"


@cache
def bombs() -> dict[str, tuple[str, bytes, bool, set[str]]]:
    """Return name → (method, message, True when compressed, permitted status codes)."""
    zeros = gzip.compress(bytes(200 * 2**20), 1)
    return {
        "200 MiB of zeros in gzip": (PUSH, zeros, True, {EXHAUSTED}),
        "1 MiB of 524,288 empty records": (PUSH, b"\x22\x00" * 524_288, False, {EXHAUSTED}),
        "528 KiB of 270,000 empty records": (PUSH, b"\x22\x00" * 270_000, False, {INVALID, EXHAUSTED}),
        "256,000 empty cells in 8 records": (PUSH, _nested(), False, {REFUSED, EXHAUSTED}),
        "1 MiB of empty points in a Hello": (HELLO, _field(8, b"\xa2\x01\x00" * 349_000), False, {EXHAUSTED}),
    }


@contextmanager
def peak_mib(process: psutil.Process) -> Iterator[list[float]]:
    """Yield a list that holds the process's growth in MiB after the block."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # the peak begins anew
    before = process.memory_info().rss
    grown: list[float] = []
    yield grown
    grown.append((peak_bytes(process.pid) - before) / 2**20)


def _burst(machine: Machine, method: str, message: bytes, *, zipped: bool) -> Counter[str]:
    """Make 100 calls at once over 25 connections; return status → count."""
    connections = [Connection(machine, machine.join["address"]) for _ in range(CONNECTIONS)]

    def four(connection: Connection) -> Counter[str]:
        for _ in range(STREAMS):
            connection.call(method, message, gzip=zipped)
        return Counter(answer.get("grpc-status", str(answer)) for answer in connection.answers().values())

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        found = sum(pool.map(four, connections), Counter[str]())
    for connection in connections:
        connection.close()
    return found


def _metadata(machine: Machine) -> Counter[str]:
    """Make as many calls with 40 kB of metadata each; return status → count."""
    with ExitStack() as open_channels:
        stubs = [open_channels.enter_context(machine.telemetry()) for _ in range(CONNECTIONS)]
        calls = [
            stub.Push.future(pb.PushRequest(), timeout=PATIENCE_SECONDS, metadata=(("x-long", "y" * 40_000),))
            for stub in stubs * STREAMS
        ]
        return Counter(str(call.exception().code().value[0]) for call in calls)


def test_a_hundred_bombs_at_once(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """100 bombs at once of each kind, over 25 connections of one enrolled machine, add less than 64 MiB.

    Every call is refused with a documented code, and the machine's next call is answered.
    """
    with served(tmp_path) as (_, machine, process):
        machine.hello()
        with peak_mib(process) as grown:
            answers = {METADATA: _metadata(machine)}
            for name, (method, message, zipped, _) in bombs().items():
                answers[name] = _burst(machine, method, message, zipped=zipped)
        figure(
            f"{grown[0]:+.0f} MiB by {AT_ONCE} calls at once of each of {len(answers)} kinds ({', '.join(answers)})"
        )
        for name, codes in {
            METADATA: {EXHAUSTED},
            **{name: bomb[3] for name, bomb in bombs().items()},
        }.items():
            assert answers[name].total() == AT_ONCE
            assert set(answers[name]) <= codes, (name, answers[name])
        assert grown[0] < MOST_MIB
        assert machine.hello().mark == 0
