# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""An agent that behaves as badly as one may: it repeats, overlaps, loses patience, begins new epochs, goes
back in time, is refused.

Its records are correct all the same: with a good collector none is lost or duplicated. As a real agent, it
sends only unacknowledged records again after a conflict. Shares no code with the product.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from tests.promises.support.contract import CONFLICT, REFUSED, STORED, HelloRequest, PushRequest
from tests.promises.support.history import Log
from tests.promises.support.measured import REFUSED as REASON_REFUSED
from tests.promises.support.measured import SPOOL_CAP, Measured, gap_for, measured

PATIENCE_SECONDS: Final = (5.0, 5.0, 5.0, 0.02)
MOST_EPOCHS: Final = 8


@dataclass
class Stream:
    """One branch of one epoch."""

    epoch: bytes
    branch: int = 0
    records: list[Measured] = field(default_factory=list)
    shas: list[str] = field(default_factory=list)
    chains: list[bytes] = field(default_factory=list)
    acknowledged: int = 0

    def __post_init__(self) -> None:
        if not self.chains:
            self.chains = [hashlib.sha256(self.epoch).digest()]

    @property
    def name(self) -> str:
        """The name of the stream in the history."""
        return f"{self.epoch.hex()}/{self.branch}"

    @property
    def last(self) -> int:
        """The highest number given to a record."""
        return len(self.records)

    def cut(self, at: int) -> Stream:
        """Return another branch, with the records up to number `at`."""
        return Stream(
            self.epoch,
            self.branch + 1,
            self.records[:at],
            self.shas[:at],
            self.chains[: at + 1],
            min(self.acknowledged, at),
        )


@dataclass
class Pace:
    """The pauses of an agent; they may change while it runs."""

    pause_seconds: float
    """Mean pause between two calls."""
    longest_retry_seconds: float
    """Longest pause after failed calls, from a tenth of a second up, doubled. Real agents wait minutes."""
    patience_seconds: float
    """Time to wait for the last answers, once no records are made any more."""


class Agent:
    """An agent that makes one call per `exchange`; when `done`, no record waits."""

    def __init__(
        self, agent_id: str, population: str, call: Any, log: Log, seed: int, first_number: int = 0
    ) -> None:
        """`call(method, request, response name, seconds)`: a call; `first_number`: the first period."""
        self.failed = False
        self.agent_id = agent_id
        self._population = population
        self._call = call
        self._log = log
        self._chance = random.Random(f"{seed}/{agent_id}")
        self._number = first_number
        self._epochs = 0
        self._instance = b""
        self._hello_due = False
        """True after an unanswered Hello: no push is sent until a Hello is answered."""
        self.stream = self._new_stream()

    @property
    def done(self) -> bool:
        """True when every record that it made is acknowledged."""
        return self.stream.acknowledged >= self.stream.last

    async def exchange(self, *, making: bool) -> bool:
        """Make one call; return True when it was answered. `making` allows new records and random faults."""
        chance = self._chance
        if making:
            self._whims()
            for _ in range(chance.randrange(4)):
                self._make()
        try:
            if self._hello_due or (self.failed and chance.random() < 0.7) or chance.random() < 0.05:
                await self._hello()
            elif self.stream.records:
                await self._push()
        except grpc.aio.AioRpcError as error:
            self.failed = True
            self._log.write("failed", a=self.agent_id, s=self.stream.name, why=error.code().name)
            return False
        self.failed = False
        return True

    # --- records

    def _whims(self) -> None:
        chance, stream = self._chance, self.stream
        if self._epochs < MOST_EPOCHS and chance.random() < 0.01:
            self._new_epoch(chance.randrange(30))
        elif self._epochs < MOST_EPOCHS and stream.acknowledged > 3 and self.done and chance.random() < 0.01:
            # Its disk is put back to a snapshot: its next records get numbers that were used.
            self._branch(stream.acknowledged - chance.randrange(1, 4))
            for _ in range(6):
                self._make()

    def _make(self) -> None:
        chance = self._chance
        record = measured(self._population, self._number, chance, impossible=chance.random() < 0.01)
        self._number += 1
        sha = self._made(record)
        if chance.random() < 0.02:  # its spool is full
            record = gap_for(self._population, record, sha, SPOOL_CAP)
            sha = self._made(record)
        self._put(record, sha)

    def _made(self, record: Measured) -> str:
        sha = hashlib.sha256(record.wire).hexdigest()
        self._log.write(
            "made",
            a=self.agent_id,
            h=sha,
            day=record.day,
            ms=record.milliseconds,
            cells=record.cells,
            of=record.of,
        )
        return sha

    def _put(self, record: Measured, sha: str) -> None:
        stream = self.stream
        stream.records.append(record)
        stream.shas.append(sha)
        stream.chains.append(hashlib.sha256(stream.chains[-1] + record.wire).digest())
        self._log.write("put", a=self.agent_id, s=stream.name, q=stream.last, h=sha)

    def _new_stream(self) -> Stream:
        self._epochs += 1
        return Stream(self._chance.randbytes(8))

    def _new_epoch(self, again: int = 0) -> None:
        """Number unacknowledged records anew, and the last `again` others, as if their answers were lost."""
        old = self.stream
        first = max(0, old.acknowledged - again)
        self.stream = self._new_stream()
        for record, sha in zip(old.records[first:], old.shas[first:], strict=True):
            self._put(record, sha)

    def _branch(self, at: int) -> None:
        old = self.stream
        self.stream = old.cut(at)
        self._log.write("branch", a=self.agent_id, s=self.stream.name, **{"from": old.name}, at=at)

    # --- calls

    async def _hello(self) -> None:
        stream = self.stream
        request = HelloRequest(epoch=stream.epoch, last_seq=stream.last, instance_id=self._instance)
        request.protocol.minimum = request.protocol.maximum = 1
        sent, self._hello_due = time.monotonic(), True
        answer = await self._call("Hello", request, "HelloResponse", 5.0)
        self._hello_due = False
        self._instance = answer.next_instance_id
        self._note(sent, answer, STORED if self._agrees(answer) else CONFLICT, hello=True)
        if self._agrees(answer) and answer.mark >= stream.acknowledged:
            stream.acknowledged = answer.mark
        else:
            self._new_epoch()

    async def _push(self) -> None:
        chance, stream = self._chance, self.stream
        first = max(1, min(stream.acknowledged + 1, stream.last) - chance.choice((0,) * 8 + (1, 7)))
        last = min(stream.last, first + chance.randrange(20))
        request = PushRequest(epoch=stream.epoch, first_seq=first, chain_before=stream.chains[first - 1])
        request.records.extend(record.wire for record in stream.records[first - 1 : last])
        sent = self._log.write("sent", a=self.agent_id, s=stream.name, f=first, l=last)
        answer = await self._call("Push", request, "PushResponse", chance.choice(PATIENCE_SECONDS))
        # The run may end below the mark, where both branches agree, while the mark is another branch's.
        stored = answer.outcome == STORED and self._agrees(answer)
        outcome = CONFLICT if answer.outcome == STORED and not stored else answer.outcome
        self._note(sent, answer, outcome, hello=False)
        if outcome == REFUSED:
            self._replace([refusal.seq for refusal in answer.refusals])
        elif stored:
            stream.acknowledged = max(stream.acknowledged, answer.mark)
        else:  # acknowledged records are deleted: only waiting ones can be sent again
            self._new_epoch()

    def _agrees(self, answer: Any) -> bool:
        """Return whether the collector's chain at its mark is this stream's."""
        return bool(answer.mark <= self.stream.last and self.stream.chains[answer.mark] == answer.chain)

    def _note(self, sent: float, answer: Any, outcome: int, *, hello: bool) -> None:
        self._log.write(
            "ack",
            sent=round(sent, 6),
            a=self.agent_id,
            s=self.stream.name,
            m=answer.mark,
            h=answer.chain.hex(),
            o=outcome,
            hello=hello,
        )

    def _replace(self, refused: list[int]) -> None:
        """Put a gap at each refused number, in a new branch with a new chain from the first one on."""
        old = self.stream
        self._branch(min(refused) - 1)
        for seq in range(min(refused), old.last + 1):
            record, sha = old.records[seq - 1], old.shas[seq - 1]
            if seq in refused:
                record = gap_for(self._population, record, sha, REASON_REFUSED)
                sha = self._made(record)
            self._put(record, sha)


async def live(agent: Agent, stop: asyncio.Event, pace: Pace) -> None:
    """Make calls until `stop`, then without new records until all is acknowledged or patience ends."""
    chance = random.Random(f"pauses of {agent.agent_id}")
    failures = 0
    until = float("inf")
    while not (stop.is_set() and agent.done) and time.monotonic() < until:
        if stop.is_set() and until == float("inf"):
            until = time.monotonic() + pace.patience_seconds
        failures = 0 if await agent.exchange(making=not stop.is_set()) else failures + 1
        pause = pace.pause_seconds if not stop.is_set() else 0.0
        if failures:
            pause = min(pace.longest_retry_seconds, 0.05 * 2**failures)
        seconds = chance.uniform(0, 2 * pause)
        if stop.is_set():
            await asyncio.sleep(seconds)
        else:  # `stop` ends a long pause, so that the agent delivers its last records
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await stop.wait()
