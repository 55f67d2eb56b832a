# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""S2: a revocation holds from the next call on, on an open and busy connection."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.machines import SECONDS, Machine, Served, hello_request, refusal, served, settings_in
from tests.support.waiting import random_moment, until
from veilleuse.collector.ipc import ask
from veilleuse.wire.v1 import telemetry_pb2 as pb

RUNS = 100


class Caller:
    """A machine that calls without a pause on one connection; `calls` has each call's start and result."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub
        self.calls: list[tuple[float, str]] = []
        self.stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        request = hello_request()
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                if len(self.calls) % 2:
                    self._stub.Push(pb.PushRequest(), timeout=SECONDS)
                else:
                    request.instance_id = self._stub.Hello(request, timeout=SECONDS).next_instance_id
                ended = "served"
            except grpc.RpcError as error:
                ended = refusal(error)[1]
            self.calls.append((began, "served" if ended == "epoch_length" else ended))

    def end(self) -> None:
        """Stop, and wait for the last call."""
        self.stop.set()
        self._thread.join(SECONDS)


def revoked_in_a_stream(
    running: Served, join: dict[str, Any], chance: random.Random
) -> tuple[int, int, float]:
    """Return (calls begun after the revocation's answer, those of them not refused as revoked, seconds from
    the command to the first refusal)."""
    machine = Machine(join)
    machine.enrol()
    with machine.telemetry() as stub:
        caller = Caller(stub)
        try:
            until(lambda: sum(ended == "served" for _, ended in tuple(caller.calls)) >= 2, every=0.001)
            random_moment(chance, 0.02)
            asked = time.monotonic()
            ask(
                running.collector.settings.data_dir,
                "host_status",
                host=machine.agent_id.hex(),
                status="revoked",
            )
            held_from = time.monotonic()
            until(lambda: sum(began > held_from for began, _ in tuple(caller.calls)) >= 3, every=0.001)
        finally:
            caller.end()
    after = [ended for began, ended in caller.calls if began > held_from]
    first = min((began for began, ended in caller.calls if ended == "revoked"), default=float("inf"))
    return len(after), sum(ended != "revoked" for ended in after), first - asked


@pytest.mark.promise("S2")
def test_a_revoked_machine_is_refused_at_its_next_call(tmp_path: Path, figure, time_bound) -> None:
    """No call is served that begins after the command's answer, at 100 random moments of many calls."""
    chance = random.Random(2)
    with served(settings_in(tmp_path)) as running:
        join = running.token(uses=RUNS)
        runs = [revoked_in_a_stream(running, join, chance) for _ in range(RUNS)]
        refused = running.collector.health.snapshot()["calls_refused"]["revoked"]
    good = sum(wrong == 0 for _, wrong, _ in runs)
    slowest = max(seconds for _, _, seconds in runs)
    figure(
        f"{good} of {RUNS} refused at the next call, first refusal {slowest * 1000:.0f} ms after the command at most"
    )
    assert good == RUNS
    time_bound(slowest, 10, "first refusal after the command")
    assert refused >= sum(after for after, _, _ in runs)
