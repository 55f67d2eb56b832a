# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The stream of a simulated agent: records numbered, chained, validated as those of any agent, and handed to the writer."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Final

from veilleuse.collector.errors import CollectorError
from veilleuse.collector.model.records import AppendOutcome, AppendResult, HostId
from veilleuse.collector.ports import Committer
from veilleuse.collector.validate import Machine, check_push
from veilleuse.wire.chain import chain_next, chain_start
from veilleuse.wire.v1 import telemetry_pb2 as pb

PUSH_RECORDS: Final = 256
"""As a sender reads from its spool: DESIGN.md §4."""
IN_FLIGHT: Final = 8


class Pushes:
    """What waits for the writer's answer."""

    def __init__(self, writer: Committer, now_unix_milliseconds: int, queue_pushes: int) -> None:
        """`now_unix_milliseconds`: of the validation; `queue_pushes`: how many the writer lets wait."""
        self._writer = writer
        self._now = now_unix_milliseconds
        self._in_flight = min(IN_FLIGHT, queue_pushes)
        self._waiting: deque[Future[AppendOutcome]] = deque()
        self.records = 0

    def send(self, request: pb.PushRequest, host_id: HostId, machine: Machine) -> None:
        """Validate and append. Raises CollectorError for what would be refused of any agent: a defect of the simulation."""
        checked = check_push(request, host_id, machine, self._now)
        if isinstance(checked, tuple):
            seq, reason = checked[0]
            raise CollectorError(
                f"a simulated record was refused: number {seq}, {reason.value}: this is a defect"
            )
        self._waiting.append(self._writer.append(checked))
        self.records += len(request.records)
        while len(self._waiting) >= self._in_flight:
            _require_stored(self._waiting.popleft())

    def wait(self) -> None:
        """Until all of it is durable."""
        while self._waiting:
            _require_stored(self._waiting.popleft())


def _require_stored(future: Future[AppendOutcome]) -> None:
    result = future.result().result
    if result is not AppendResult.STORED:
        raise CollectorError(f"simulated records were not stored: {result}: this is a defect")


class Stream:
    """One epoch of one host."""

    def __init__(self, pushes: Pushes, host_id: HostId, machine: Machine, epoch: bytes) -> None:
        self._pushes, self._host_id, self._machine, self._epoch = pushes, host_id, machine, epoch
        self._seq, self._chain = 0, chain_start(epoch)
        self._wires: list[bytes] = []

    def add(self, wires: Iterable[bytes]) -> None:
        """Send what is enough for a push."""
        self._wires += wires
        if len(self._wires) >= PUSH_RECORDS:
            self.flush()

    def flush(self) -> None:
        """Send all."""
        while self._wires:
            some, self._wires = self._wires[:PUSH_RECORDS], self._wires[PUSH_RECORDS:]
            request = pb.PushRequest(
                epoch=self._epoch, first_seq=self._seq + 1, chain_before=self._chain, records=some
            )
            self._pushes.send(request, self._host_id, self._machine)
            for wire in some:
                self._chain = chain_next(self._chain, wire)
            self._seq += len(some)
