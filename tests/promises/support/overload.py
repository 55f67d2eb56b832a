# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Offers more than a collector can carry, by cheap clients: records are made before the clock starts.

One process, one JSON line.

    python -m tests.promises.support.overload <plan.json> <manner> <seconds> <records> <rate> <pushes>

Manners: `closed` finds the capacity, with `rate` pushes at once; `open` offers `rate` pushes a second,
whatever the answers are; `live` offers as many and waits for the delays in the answers.

`records` is the number in one push, `pushes` the number that each agent of the plan prepares.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import sys
import time
from collections import Counter, deque
from contextlib import AsyncExitStack
from functools import cache
from pathlib import Path
from typing import Any, Final

import grpc

from tests.promises.support.contract import STORED, PushRequest, PushResponse, Record
from tests.promises.support.load import SERVICE, Identity, Plan, channel_options
from tests.promises.support.measured import FIRST_MILLISECONDS

PATIENCE_SECONDS: Final = 15.0
PERIOD: Final = 60_000
RETRY_SECONDS: Final = 1.0
"""Delay after an error that gives none."""


def run_of_pushes(identity: Identity, pushes: int, records: int, seed: int) -> deque[bytes]:
    """Return so many requests of one new epoch, in order.

    All agents measure the same: each record is made once for all of them.
    """
    epoch = random.Random(f"{seed}/{identity.agent_id}").randbytes(8)
    number = random.Random(seed).randrange(500_000)
    chain, seq = hashlib.sha256(epoch).digest(), 1
    made: deque[bytes] = deque()
    for _ in range(pushes):
        request = PushRequest(epoch=epoch, first_seq=seq, chain_before=chain)
        for _ in range(records):
            wire = _record(number)
            request.records.append(wire)
            chain, number = hashlib.sha256(chain + wire).digest(), number + 1
        seq += records
        made.append(request.SerializeToString())
    return made


@cache
def _record(number: int) -> bytes:
    record = Record()
    body = record.measurement
    body.period.clock.start_unix_milliseconds = FIRST_MILLISECONDS + number * PERIOD
    body.period.clock.duration_milliseconds = PERIOD
    body.calendar_sha256, body.idle_rule_version = bytes(32), 1
    body.points.add(kind=1, domain="package-0", boundary=3, subject="machine")
    cell = body.cells.add(band=1, state=1, supply=1, milliseconds=PERIOD)
    cell.energies.add(point_index=0, energy_millijoules=number * 7_919 % 100_000, covered_milliseconds=PERIOD)
    return bytes(record.SerializeToString(deterministic=True))


class Client:
    """One agent with its next pushes."""

    def __init__(self, identity: Identity, channel: Any, pushes: int, records: int, seed: int) -> None:
        self._call = channel.unary_unary(SERVICE + "Push", response_deserializer=PushResponse.FromString)
        self._requests = run_of_pushes(identity, pushes, records, seed)

    @property
    def exhausted(self) -> bool:
        """True when nothing is left to send: the plan was too small."""
        return not self._requests

    async def push(self, results: Results, made: float = 0.0) -> float:
        """Send the next push; return 0, or after a refusal the seconds to wait.

        `made`: start of its time, monotonic seconds; 0: now.
        """
        began = made or time.monotonic()
        try:
            answer = await self._call(self._requests[0], timeout=PATIENCE_SECONDS)
        except grpc.aio.AioRpcError as error:
            told = dict(error.trailing_metadata() or ())
            reason = str(told.get("veilleuse-reason") or error.code().name)
            wait = int(told.get("retry-after-milliseconds", 0)) / 1000
            results.refused[reason] += 1
            results.told_when += wait > 0
            return wait or RETRY_SECONDS
        if answer.outcome != STORED:
            results.refused[f"outcome {answer.outcome}"] += 1
            return RETRY_SECONDS
        self._requests.popleft()
        results.seconds.append(time.monotonic() - began)
        return 0.0


class Results:
    """Results of all clients."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        """Duration of each stored push."""
        self.refused: Counter[str] = Counter()
        self.told_when = 0
        """Refusals with a delay."""

    def as_json(self, elapsed: float) -> str:
        """Return one line."""
        ordered = sorted(self.seconds) or [0.0]
        return json.dumps(
            {
                "stored": len(self.seconds),
                "stored_per_second": len(self.seconds) / elapsed,
                "p50_seconds": ordered[len(ordered) // 2],
                "p99_seconds": ordered[len(ordered) * 99 // 100],
                "refused": dict(self.refused),
                "told_when": self.told_when,
            }
        )


async def _closed(clients: list[Client], until: float, results: Results, at_once: float) -> None:
    """Keep so many pushes under way: each client sends again as soon as its last push was answered."""

    async def one(client: Client) -> None:
        while time.monotonic() < until and not client.exhausted:
            await client.push(results)

    await asyncio.gather(*(one(client) for client in clients[: int(at_once)]))


async def _open(clients: list[Client], until: float, results: Results, per_second: float) -> None:
    """Begin so many pushes a second, answered or not, by clients without one under way."""
    idle = deque(clients)
    under_way: set[asyncio.Task[None]] = set()

    async def one(client: Client) -> None:
        await client.push(results)
        if not client.exhausted:
            idle.append(client)

    due = time.monotonic()
    while due < until:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        if idle:
            task = asyncio.ensure_future(one(idle.popleft()))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        due += 1 / per_second
    await asyncio.gather(*under_way)


async def _live(clients: list[Client], until: float, results: Results, per_second: float) -> None:
    """Push at an interval, and again after each refusal's delay. A push's time begins when it is made."""
    interval = len(clients) / per_second

    async def one(client: Client, phase: float) -> None:
        await asyncio.sleep(phase)
        while time.monotonic() < until and not client.exhausted:
            made = time.monotonic()
            wait = await client.push(results, made)
            while wait:
                await asyncio.sleep(wait)
                wait = await client.push(results, made)
            await asyncio.sleep(max(0.0, made + interval - time.monotonic()))

    await asyncio.gather(*(one(client, interval * n / len(clients)) for n, client in enumerate(clients)))


async def _run(plan: Plan, mode: str, seconds: float, records: int, rate: float, pushes: int) -> str:
    async with AsyncExitStack() as cleanup:
        clients = []
        for identity in plan.agents:
            credentials = grpc.ssl_channel_credentials(
                plan.roots_pem.encode(), identity.key_pem.encode(), identity.chain_pem.encode()
            )
            channel = grpc.aio.secure_channel(plan.address, credentials, channel_options(plan.fleet))
            await cleanup.enter_async_context(channel)
            await channel.channel_ready()
            clients.append(Client(identity, channel, pushes, records, plan.seed))
        results = Results()
        began = time.monotonic()
        run = {"closed": _closed, "open": _open, "live": _live}[mode]
        await run(clients, began + seconds, results, rate)
        if any(client.exhausted for client in clients):
            results.refused["the plan was too small"] += 1
        return results.as_json(time.monotonic() - began)


if __name__ == "__main__":
    _, file, chosen, for_seconds, each, how_many, prepared = sys.argv
    loaded = Plan.load(Path(file))
    print(
        asyncio.run(
            _run(loaded, chosen, float(for_seconds), int(each), float(how_many), int(prepared)),
        )
    )
