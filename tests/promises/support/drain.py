# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Thousands of agents that return with many records, or live agents, contact by contact.

One process, one JSON line.

    python -m tests.promises.support.drain
        <plan.json> <seconds> <records a push> <pushes each> <seconds between contacts> <threads>

A contact is as the real sender's: a connection of its own, a Hello, then pushes until nothing waits. A
refusal ends it. The agent then waits for the delay in the answer and a random time: up to two minutes, and up
to 15 minutes after many failures. `seconds between contacts` 0: agents drain, and first come at a random
moment of two minutes. Otherwise agents are live, and have one more push to deliver each time. `threads`
bounds the contacts at a time: further agents wait for a thread, and are late. Shares no code with the
product.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import random
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Final

from tests.promises.support.contract import (
    STORED,
    HelloRequest,
    HelloResponse,
    PushRequest,
    PushResponse,
    Record,
)
from tests.promises.support.load import Identity, Plan
from tests.promises.support.measured import FIRST_MILLISECONDS
from tests.promises.support.swift import Answer, Contexts, Line

CALL_SECONDS: Final = 15.0
FIRST_RETRY_SECONDS: Final = 120.0
BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 5.0, 900.0
PERIOD: Final = 60_000
POINTS: Final = 8
"""Sensors of a record: so many make some 400 bytes, as in a server's."""


def wires(number: int) -> list[bytes]:
    """Return `number` records of one minute each, the same for every agent."""
    made = []
    for index in range(number):
        record = Record()
        body = record.measurement
        body.period.clock.start_unix_milliseconds = FIRST_MILLISECONDS + index * PERIOD
        body.period.clock.duration_milliseconds = PERIOD
        body.calendar_sha256, body.idle_rule_version = bytes(32), 1
        cell = body.cells.add(band=1, state=1, supply=1, milliseconds=PERIOD, cpu_covered_milliseconds=PERIOD)
        for point in range(POINTS):
            body.points.add(kind=1, domain=f"package-{point}", boundary=3, subject="machine")
            cell.energies.add(
                point_index=point, energy_millijoules=index * POINTS + point, covered_milliseconds=PERIOD
            )
        made.append(bytes(record.SerializeToString(deterministic=True)))
    return made


class Stats:
    """Results of all agents, counted from any thread."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.contacts = self.records = self.told_when = 0
        self.ended: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self.delays: list[float] = []
        """Seconds from the making of a live agent's push to its acknowledgement."""


class Agent:
    """One machine between two contacts."""

    def __init__(self, identity: Identity, common: list[bytes], a_push: int, pushes: int, seed: int) -> None:
        self._identity = identity
        self._chance = random.Random(f"{seed}/{identity.agent_id}")
        self._common = common
        self._a_push, self._left = a_push, pushes
        self._epoch = self._chance.randbytes(8)
        self._instance = b""
        self._seq = 0
        self._chain = hashlib.sha256(self._epoch).digest()
        self._failures = 0
        self.made: list[float] = []
        """Times at which a live agent's waiting pushes were made, one each."""

    @property
    def waits(self) -> bool:
        """True when there is something to deliver."""
        return self._left > 0

    def contact(self, contexts: Contexts, address: str, stats: Stats, *, live: bool) -> float | None:
        """Make a contact; return the seconds to the next one, or None when everything was delivered."""
        line = None
        try:
            line = Line(contexts(self._identity), address)
            return self._exchange(line, stats, live=live)
        except OSError as error:
            return self._failed(Answer(-1, type(error).__name__, 0.0, b""), stats)
        finally:
            if line is not None:
                line.close()

    def _exchange(self, line: Line, stats: Stats, *, live: bool) -> float | None:
        hello = HelloRequest(epoch=self._epoch, last_seq=self._seq, instance_id=self._instance)
        hello.protocol.minimum = hello.protocol.maximum = 1
        answer = line.ask("Hello", hello.SerializeToString(), CALL_SECONDS)
        if answer.status:
            return self._failed(answer, stats)
        self._instance = HelloResponse.FromString(answer.message).next_instance_id
        while self._left and (self.made or not live):
            answer = line.ask("Push", self._request(), CALL_SECONDS)
            if answer.status:
                return self._failed(answer, stats)
            stored = PushResponse.FromString(answer.message)
            if stored.outcome != STORED:
                return self._failed(Answer(-1, f"outcome {stored.outcome}", 0.0, b""), stats)
            self._stored(stats)
        self._failures = 0
        stats.ended["all delivered"] += 1
        return None

    def _request(self) -> bytes:
        run = self._common[self._seq : self._seq + self._a_push]
        request = PushRequest(
            epoch=self._epoch, first_seq=self._seq + 1, chain_before=self._chain, records=run
        )
        return bytes(request.SerializeToString())

    def _stored(self, stats: Stats) -> None:
        for wire in self._common[self._seq : self._seq + self._a_push]:
            self._chain = hashlib.sha256(self._chain + wire).digest()
        self._seq += self._a_push
        self._left -= 1
        with stats.lock:
            stats.records += self._a_push
            if self.made:
                stats.delays.append(time.monotonic() - self.made.pop(0))

    def _failed(self, answer: Answer, stats: Stats) -> float:
        with stats.lock:
            stats.ended[answer.reason or f"status {answer.status}"] += 1
            stats.told_when += answer.wait_seconds > 0
        self._failures += 1
        ceiling = FIRST_RETRY_SECONDS
        if self._failures > 1:
            ceiling = max(ceiling, min(LONGEST_BACKOFF_SECONDS, BACKOFF_SECONDS * 2 ** (self._failures - 2)))
        return answer.wait_seconds + self._chance.uniform(0, ceiling)

    def first(self, seconds: float) -> float:
        """Return a random moment of so many seconds."""
        return self._chance.uniform(0, seconds)


class Fleet:
    """Agents in the order of their next contacts, and the threads that make the contacts."""

    def __init__(self, plan: Plan, a_push: int, pushes: int, interval: float) -> None:
        common = wires(a_push * pushes)
        self.stats = Stats()
        self._contexts, self._address = Contexts(plan.roots_pem), plan.address
        self._interval = interval
        self._next: list[tuple[float, int, Agent]] = []
        self._changed = threading.Condition()
        began = time.monotonic()
        for tie, identity in enumerate(plan.agents):
            agent = Agent(identity, common, a_push, pushes, plan.seed)
            first = began + agent.first(interval or FIRST_RETRY_SECONDS)
            if interval:
                agent.made.append(first)
            heapq.heappush(self._next, (first, tie, agent))

    def run(self, seconds: float, threads: int) -> None:
        """Begin contacts for so many seconds, and finish those under way."""
        until = time.monotonic() + seconds
        workers = [threading.Thread(target=self._work, args=(until,)) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def _work(self, until: float) -> None:
        while (due := self._take(until)) is not None:
            tie, agent = due
            stats = self.stats
            with stats.lock:
                stats.contacts += 1
                stats.at_once += 1
                stats.most_at_once = max(stats.most_at_once, stats.at_once)
            began = time.monotonic()
            wait = agent.contact(self._contexts, self._address, stats, live=bool(self._interval))
            with stats.lock:
                stats.at_once -= 1
            if wait is None and self._interval:
                wait = max(0.0, began + self._interval - time.monotonic())
                agent.made.append(time.monotonic() + wait)
            if wait is not None and agent.waits:
                with self._changed:
                    heapq.heappush(self._next, (time.monotonic() + wait, tie, agent))
                    self._changed.notify()

    def _take(self, until: float) -> tuple[int, Agent] | None:
        with self._changed:
            while (now := time.monotonic()) < until:
                if self._next and self._next[0][0] <= now:
                    _, tie, agent = heapq.heappop(self._next)
                    return tie, agent
                at = min(until, self._next[0][0] if self._next else until)
                self._changed.wait(max(0.01, at - now))
        return None


def main() -> None:
    """Run the agents as the module's docstring says, and print the results."""
    _, file, seconds, a_push, pushes, interval, threads = sys.argv
    fleet = Fleet(Plan.load(Path(file)), int(a_push), int(pushes), float(interval))
    fleet.run(float(seconds), int(threads))
    stats = fleet.stats
    ordered = sorted(stats.delays) or [float("inf")]
    print(
        json.dumps(
            {
                "contacts": stats.contacts,
                "records": stats.records,
                "ended": dict(stats.ended),
                "told_when": stats.told_when,
                "most_at_once": stats.most_at_once,
                "delivered": len(stats.delays),
                "p99_seconds": ordered[len(ordered) * 99 // 100],
            }
        )
    )


if __name__ == "__main__":
    main()
