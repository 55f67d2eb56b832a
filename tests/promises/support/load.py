# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Runs many agents over real gRPC and mutual TLS in few processes.

    python -m tests.promises.support.load <plan.json>
SIGTERM ends the making of records. The process then ends with 0 when every record is acknowledged, else with
1. SIGUSR1 slows it down to the plan's calm pace, on the same connections.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import grpc

from tests.promises.support.agents import Agent, Pace, live
from tests.promises.support.contract import STORED, message
from tests.promises.support.history import Log

SERVICE: Final = "/veilleuse.wire.v1.TelemetryService/"
OWN_CONNECTION: Final = ("grpc.use_local_subchannel_pool", 1)
RECONNECT_MILLISECONDS: Final = 4
"""Longest pause before an agent reconnects, per agent: a handshake costs both sides some 5 ms."""


def channel_options(agents: int) -> list[tuple[str, int]]:
    """Return options of one connection per agent, which reconnects sooner than a real one's two minutes."""
    longest = max(250, RECONNECT_MILLISECONDS * agents)
    return [
        OWN_CONNECTION,
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", longest),
    ]


@dataclass(frozen=True)
class Identity:
    """The identity of an enrolled agent."""

    agent_id: str
    population: str
    key_pem: str
    chain_pem: str


@dataclass(frozen=True)
class Plan:
    """The task of one process."""

    address: str
    roots_pem: str
    agents: tuple[Identity, ...]
    history: str
    beat: str
    """File with the monotonic time of the last acknowledgement, and their number: 16 bytes."""
    pushes_per_second: float
    """Rate of all agents of this process together, roughly."""
    patience_seconds: float
    fleet: int
    """Agents of all processes together."""
    seed: int
    first_number: int = 0
    """First period that its agents measure."""
    calm_pushes_per_second: float = 0.0
    """Rate after SIGUSR1; 0: unchanged."""

    def save(self, path: Path) -> None:
        """Write the plan as JSON, keys included: mode 0600."""
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Return the plan that `save` wrote."""
        values = json.loads(path.read_text(encoding="utf-8"))
        agents = tuple(Identity(**agent) for agent in values.pop("agents"))
        return cls(agents=agents, **values)


class Beat(NamedTuple):
    """The acknowledgements of a process so far."""

    last: float = 0.0
    """Monotonic time of the last one."""
    number: int = 0

    @classmethod
    def read(cls, path: Path) -> Beat:
        """Return the present content of a plan's file."""
        found = path.read_bytes() if path.exists() else b""
        return cls(*struct.unpack("dq", found)) if len(found) == 16 else cls()


async def _run(plan: Plan) -> int:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    beat = os.open(plan.beat, os.O_CREAT | os.O_WRONLY)
    async with AsyncExitStack() as cleanup:
        log = cleanup.enter_context(Log(Path(plan.history)))
        agents = []
        count = itertools.count(1)
        options = channel_options(plan.fleet)
        for identity in plan.agents:
            credentials = grpc.ssl_channel_credentials(
                plan.roots_pem.encode(), identity.key_pem.encode(), identity.chain_pem.encode()
            )
            channel = grpc.aio.secure_channel(plan.address, credentials, options)
            await cleanup.enter_async_context(channel)
            call = _caller(channel, beat, count)
            agents.append(
                Agent(identity.agent_id, identity.population, call, log, plan.seed, plan.first_number)
            )
        pace = Pace(
            len(agents) / plan.pushes_per_second,
            max(0.1, RECONNECT_MILLISECONDS * plan.fleet / 1000),
            plan.patience_seconds,
        )
        if plan.calm_pushes_per_second:
            calm_seconds = len(agents) / plan.calm_pushes_per_second
            asyncio.get_running_loop().add_signal_handler(
                signal.SIGUSR1, setattr, pace, "pause_seconds", calm_seconds
            )
        async with asyncio.TaskGroup() as group:
            for agent in agents:
                group.create_task(live(agent, stop, pace))
        await asyncio.sleep(0)
    undelivered = sum(not agent.done for agent in agents)
    if undelivered:
        print(f"{undelivered} agents could not deliver everything", file=sys.stderr)
    return 1 if undelivered else 0


def _caller(channel: Any, beat: int, count: Iterator[int]) -> Any:
    methods: dict[str, Any] = {}

    async def call(method: str, request: Any, response: str, seconds: float) -> Any:
        if method not in methods:
            methods[method] = channel.unary_unary(
                SERVICE + method,
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=message(response).FromString,
            )
        answer = await methods[method](request, timeout=seconds)
        if method == "Push" and answer.outcome == STORED:
            os.pwrite(beat, struct.pack("dq", time.monotonic(), next(count)), 0)
        return answer

    return call


if __name__ == "__main__":
    sys.exit(asyncio.run(_run(Plan.load(Path(sys.argv[1])))))
