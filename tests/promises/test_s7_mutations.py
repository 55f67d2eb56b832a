# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""S7: mutated messages go over the wire to a real collector. A second validator without shared code judges
them too; any disagreement is a failure.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from tests.promises.support.mutating import mutants
from tests.promises.support.oracle import Sender, complaint
from tests.promises.support.served import served
from tests.support import clock
from tests.support.machines import Machine, hello_request, refusal
from tests.support.pushes import Stream
from tests.support.sound import ACCEPTED
from tests.support.stack import Stack
from tests.support.waiting import PATIENCE_SECONDS
from veilleuse.collector.model.records import HostId
from veilleuse.wire.v1 import telemetry_pb2 as pb

A_PUSH = 600
MOST_BYTES = 500 * 1024
STORED_RUNS = 5
"""First pushes, after which a machine sends its sound mutants alone, so that they reach the store too."""
RSS_GROWTH_MIB = 32
ONLY_THE_STORE = {"period_full", "too_many_points_of_host"}
CLASSES = {"server": "server", "classroom": "tower", "laptop": "laptop", "workstation": "tower"}


@dataclass
class Found:
    """Results of one machine."""

    messages: int = 0
    taken: int = 0
    wrong: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)


class Mutant:
    """One enrolled machine that sends mutants."""

    def __init__(self, name: str, machine: Machine, seed: int) -> None:
        population = "classroom" if name == "laptop" else name
        self.sender = Sender(population, CLASSES[name])
        self.machine = machine
        self.found = Found()
        self._chance = random.Random(seed)
        own = [r for r, m in ACCEPTED.values() if m.population == population]
        sound = [record.SerializeToString() for record in 4 * own + [r for r, _ in ACCEPTED.values()]]
        self._mutants = mutants(self._chance, sound)

    def run(self, number: int) -> Found:
        """Send so many mutants."""
        with self.machine.telemetry() as stub:
            greeting = hello_request()
            word: Any = pb.DeviceClass.Value(f"DEVICE_CLASS_{self.sender.device_class.upper()}")
            greeting.facts.device_class = word
            greeting.instance_id = self.machine.nonce
            self.machine.nonce = stub.Hello(greeting, timeout=PATIENCE_SECONDS).next_instance_id
            while self.found.messages < number:
                self._push(stub)
        return self.found

    def _push(self, stub: Any) -> None:
        wires: list[bytes] = []
        size = 0
        for wire in islice(self._mutants, A_PUSH):
            size += len(wire)
            if size > MOST_BYTES:
                break
            wires.append(wire)
        wires.append(b"")  # always refused: the answer of a stored push names no record
        stream = Stream(HostId(0))
        stream.add(*wires)
        call = stub.Push.future(stream.request(), timeout=PATIENCE_SECONDS)
        now = clock.unix_milliseconds()
        expected = [complaint(wire, self.sender, now) for wire in wires]
        answer = call.result()
        assert answer.outcome == pb.PUSH_OUTCOME_REFUSED, answer.outcome
        refused = {one.seq - 1: one.reason for one in answer.refusals}
        for place, (wire, wrong) in enumerate(zip(wires, expected, strict=True)):
            if (wrong is None) == (place in refused):
                self.found.wrong.append(f"{self.sender} {wire.hex()}: {wrong} / {refused.get(place)}")
        self.found.messages += len(wires)
        self.found.taken += len(wires) - len(refused)
        self.found.reasons.update(refused.values())
        if self.found.messages < STORED_RUNS * A_PUSH:
            self._store(stub, [wire for wire, wrong in zip(wires, expected, strict=True) if wrong is None])

    def _store(self, stub: Any, sound: list[bytes]) -> None:
        """Push the mutants that both find sound: they are stored, or too much for their hour or host."""
        stream = Stream(HostId(0))
        stream.add(*sound)
        answer = stub.Push(stream.request(), timeout=PATIENCE_SECONDS)
        if answer.outcome == pb.PUSH_OUTCOME_REFUSED:
            assert {one.reason for one in answer.refusals} <= ONLY_THE_STORE
        else:
            assert answer.outcome == pb.PUSH_OUTCOME_STORED


def enrolled(stack: Stack, population: str) -> Machine:
    """Return one more enrolled machine."""
    join = stack.folder / f"join-{population}"
    where = ("--entity", "test", "--site", "test", "--population", population)
    stack.must("veilleuse", "token", "create", *where, "--uses", "2", "--output", str(join))
    machine = Machine(json.loads(join.read_text()))
    machine.enrol()
    return machine


def mutate(folder: Path, number: int, figure: Callable[[str], None]) -> None:
    """Send `number` mutants from four machines at once; assert that collector and oracle agree on all."""
    with served(folder) as (stack, server, process):
        classroom = enrolled(stack, "classroom")
        laptop = Machine(classroom.join)
        laptop.enrol()
        machines = {
            "server": server,
            "classroom": classroom,
            "laptop": laptop,
            "workstation": enrolled(stack, "workstation"),
        }
        senders = [Mutant(name, machine, seed) for seed, (name, machine) in enumerate(machines.items())]
        with ThreadPoolExecutor(len(senders)) as pool:
            list(pool.map(lambda one: one.run(number // 20), senders))
            warm = _rss_mib(process)
            found = list(pool.map(lambda one: one.run(number // 4), senders))
        grown = _rss_mib(process) - warm
        messages, wrong = sum(one.messages for one in found), [line for one in found for line in one.wrong]
        reasons = sum((one.reasons for one in found), Counter[str]())
        figure(
            f"{len(wrong)} of {messages:,} mutated messages judged differently by collector and oracle, "
            f"{sum(one.taken for one in found):,} valid for both, {len(reasons)} reasons of refusal, resident memory "
            f"{grown:+.0f} MiB"
        )
        assert wrong == []
        assert process.is_running()
        assert server.hello() is not None
        assert "call failed" not in stack.log("veilleuse"), "nothing unforeseen was met"
        assert sum(one.taken for one in found) > messages // 20, "the mutants are not all hopeless"
        assert len(reasons) > 35, "nor all refused for the same thing"
        assert grown < RSS_GROWTH_MIB


def _rss_mib(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 2**20


@pytest.mark.promise("S7")
def test_mutants_over_the_wire(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """The collector and the oracle agree on 40,000 mutants."""
    mutate(tmp_path, 40_000, figure)


@pytest.mark.long
@pytest.mark.promise("S7")
def test_a_million_mutants_over_the_wire(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """The collector and the oracle agree on 10^6 mutants."""
    mutate(tmp_path, 1_000_000, figure)


@pytest.mark.promise("S7")
def test_mutants_of_whole_requests(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """1,000 mutants of a Push and a Hello get an answer or a documented refusal, never INTERNAL."""
    chance = random.Random(7)
    stream = Stream(HostId(0))
    stream.add(*(record for record, machine in ACCEPTED.values() if machine.population == "server"))
    greeting = hello_request()
    greeting.facts.device_class = pb.DEVICE_CLASS_SERVER
    greeting.health.agent_version = "0.2.0"
    sound = [stream.request(1, 2).SerializeToString(), greeting.SerializeToString()]
    reasons: Counter[str] = Counter()
    with served(tmp_path) as (stack, machine, _), machine.channel() as channel:
        calls: dict[str, Any] = {
            name: channel.unary_unary(f"/veilleuse.wire.v1.TelemetryService/{name}")
            for name in ("Push", "Hello")
        }
        for turn in range(1_000):
            wire = bytearray(sound[turn % 2])
            for _ in range(chance.choice((1, 1, 3))):
                wire[chance.randrange(min(len(wire), 60))] = chance.randrange(256)
            try:
                calls["Hello" if turn % 2 else "Push"](bytes(wire), timeout=PATIENCE_SECONDS)
                reasons["answered"] += 1
            except grpc.RpcError as error:
                code, reason = refusal(error)
                reasons[f"{code.name} {reason}"] += 1
        assert "call failed" not in stack.log("veilleuse")
    figure(f"0 of 1,000 mutated whole requests answered INTERNAL, {len(reasons)} kinds of answers")
    assert not [name for name in reasons if name.startswith(("INTERNAL", "UNKNOWN", "UNAVAILABLE"))], reasons
    assert len(reasons) >= 4, reasons
