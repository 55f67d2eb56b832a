# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Runs a trial of the collector: the real command, agents that send, faults at known times, the checker.
with Trial(tmp_path) as trial:
    trial.enrol(100)
    trial.start()
    trial.load(pushes_per_second=200)
    trial.kill(); trial.start()
    report = trial.end()
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from json import loads
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.promises.check import Report, check
from tests.promises.support.history import Log, read
from tests.promises.support.load import Beat, Identity, Plan
from tests.support.machines import Machine
from tests.support.stack import Stack
from tests.support.waiting import random_moment, until

ROOT: Final = Path(__file__).parents[3]
POPULATIONS: Final = ("server",) * 6 + ("classroom", "workstation")
FIRST_ACK_SECONDS: Final = 5.0
"""R1: time from the collector's start to its first acknowledgement."""
PERIODS_PER_LOAD: Final = 1_500
"""A second load measures later periods than the first, so that no record occurs twice."""
DRAIN_SECONDS: Final = 120.0


class Trial:
    """A context manager that ends the processes it started, by process id."""

    def __init__(
        self, folder: Path, settings: Mapping[str, str] | None = None, *, mutant: str = "", seed: int = 1
    ) -> None:
        """`settings`: environment of the collector; `mutant`: one of mutants.MUTANTS."""
        room = {"VEILLEUSE__STORE__FREE_BYTES_MINIMUM": "0", "VEILLEUSE__LOG__LEVEL": "warning"}
        self.stack = Stack(folder, room | dict(settings or {}))
        self.folder = folder
        self.chance = random.Random(seed)
        self.agents: list[Identity] = []
        self.collector: subprocess.Popen[bytes] | None = None
        self._mutant = mutant
        self._seed = seed
        self.roots = ""
        self.address = self.stack.environment["VEILLEUSE__GRPC__ADDRESS"]
        self._plans = 0
        self._first_number = 0
        self._loads: list[subprocess.Popen[bytes]] = []
        self._others: list[subprocess.Popen[str]] = []
        self._faults = Log(folder / "faults.jsonl")

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._loads:
            process.kill()
            process.wait()
        for other in self._others:
            other.kill()
            other.communicate()
        self.stack.__exit__()
        self._faults.close()

    # --- enrolment

    def enrol(self, agents: int) -> None:
        """Make and start a collector, enrol so many machines by tokens over gRPC, and kill the collector."""
        self.stack.start_collector()
        self.collector = self.stack.processes[-1]
        for population in sorted(set(POPULATIONS)):
            number = len([i for i in range(agents) if POPULATIONS[i % len(POPULATIONS)] == population])
            if number:
                self._enrol(population, number)
        self.kill()

    def _enrol(self, population: str, number: int) -> None:
        join = self.folder / f"join-{population}"
        where = ("--entity", "test", "--site", "test", "--population", population)
        self.stack.must("veilleuse", "token", "create", *where, "--uses", str(number), "--output", str(join))
        content = loads(join.read_text(encoding="utf-8"))
        self.roots = content["ca_pem"]

        def one(_: int) -> Identity:
            machine = Machine(content)
            machine.enrol()
            key = machine.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            return Identity(machine.agent_id.hex(), population, key.decode(), machine.chain.decode())

        with ThreadPoolExecutor(8) as pool:
            self.agents += pool.map(one, range(number))

    # --- the collector

    def start(self, wrapper: Sequence[str] = (), **environment: str) -> None:
        """Start the collector on the same ports, without waiting. `wrapper` runs it, e.g. fiu-run."""
        module = f"tests.promises.support.mutants {self._mutant or 'keeps_all'}"
        command = [*wrapper, sys.executable, "-m", *module.split(), "serve"]
        with (self.folder / "veilleuse.log").open("ab") as log:
            self.collector = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.stack.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.stack.processes.append(self.collector)
        self.note("start")

    def kill(self) -> None:
        """Send SIGKILL to the collector alone, as the kernel's OOM killer does; its web process then ends."""
        assert self.collector is not None
        self.collector.kill()
        self.note("kill")
        self.collector.wait()

    def note(self, what: str) -> float:
        """Log a fault, or the end of one; return its monotonic time."""
        at = self._faults.write("fault", what=what)
        self._faults.flush()
        return at

    def serves(self) -> bool:
        """Return whether something listens where agents connect."""
        host, _, port = self.address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            return False
        return True

    def wait_for_ack(self, since: float | None = None) -> float:
        """Return the seconds from `since` (monotonic; default: now) to a later acknowledgement."""
        since = time.monotonic() if since is None else since
        self._while_serving(lambda: self._last_ack() > since, "no acknowledgement")
        return self._last_ack() - since

    def wait_for_acks(self, number: int) -> None:
        """Wait until so many more pushes are acknowledged, of all agents together."""
        enough = self._acks() + number
        self._while_serving(lambda: self._acks() >= enough, f"not {number} acknowledgements")

    def _while_serving(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until the condition is true; fails when the collector ends."""
        collector = self.collector
        assert collector is not None
        until(lambda: condition() or collector.poll() is not None, what, every=0.005)
        assert condition(), f"{what}, the collector ended with {collector.poll()}:\n{self.said()}"

    def _last_ack(self) -> float:
        return max((Beat.read(file).last for file in self.folder.glob("beat-*")), default=0.0)

    def _acks(self) -> int:
        return sum(Beat.read(file).number for file in self.folder.glob("beat-*"))

    def said(self) -> str:
        """Return the end of the collector's log."""
        return self.stack.log("veilleuse")[-3_000:]

    # --- the agents

    def load(
        self,
        pushes_per_second: float,
        *,
        processes: int = 1,
        address: str = "",
        calm_pushes_per_second: float = 0.0,
    ) -> None:
        """Let all agents send, to `address` (a proxy) or the collector; after `calm`, at the calm rate."""
        for number in range(processes):
            file = self.plan(
                self.agents[number::processes],
                pushes_per_second / processes,
                address=address,
                calm=calm_pushes_per_second / processes,
            )
            with (self.folder / "load.log").open("ab") as log:
                command = [sys.executable, "-m", "tests.promises.support.load", str(file)]
                process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=self._environment(),
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                )
            self._loads.append(process)

    def calm(self) -> None:
        """Change the loads to their calm rate."""
        for process in self._loads:
            process.send_signal(signal.SIGUSR1)

    def plan(
        self,
        agents: Sequence[Identity],
        pushes_per_second: float = 1.0,
        *,
        address: str = "",
        calm: float = 0.0,
    ) -> Path:
        """Return a new plan file for a process, with a history and epochs of its own."""
        self._plans += 1
        plan = Plan(
            address or self.address,
            self.roots,
            tuple(agents),
            str(self.folder / f"history-{self._plans}.jsonl"),
            str(self.folder / f"beat-{self._plans}"),
            pushes_per_second,
            DRAIN_SECONDS,
            len(self.agents),
            self._seed * 1_000 + self._plans,
            self._first_number,
            calm,
        )
        file = self.folder / f"plan-{self._plans}.json"
        plan.save(file)
        return file

    def swift_load(
        self, agents: Sequence[Identity], seconds: float, records: int, rate: float, pushes: int, manner: str
    ) -> subprocess.Popen[str]:
        """Start swift_load.py; its output is one line of JSON."""
        numbers = (f"{seconds:g}", f"{records}", f"{rate:g}", f"{pushes}")
        return self._other("swift_load", str(self.plan(agents)), *numbers, manner)

    def drain(
        self,
        agents: Sequence[Identity],
        seconds: float,
        records: int,
        pushes: int,
        interval: float,
        threads: int,
    ) -> subprocess.Popen[str]:
        """Start drain.py; its output is one line of JSON."""
        numbers = (f"{seconds:g}", f"{records}", f"{pushes}", f"{interval:g}", f"{threads}")
        return self._other("drain", str(self.plan(agents)), *numbers)

    def _other(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", f"tests.promises.support.{module}", *arguments]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._others.append(process)
        return process

    def kill_and_start(self, kills: int, *, most_acks: int) -> None:
        """Repeat: a random number of acknowledgements, SIGKILL between two of them, start. One kill in six
        comes before it serves."""
        for _ in range(kills):
            if self.chance.random() < 1 / 6:
                random_moment(self.chance, 0.3)
            else:
                self.wait_for_acks(self.chance.randint(1, most_acks))
                random_moment(self.chance, 0.02)
            self.kill()
            self.start()
        self.wait_for_ack()

    def quiet(self) -> None:
        """End the making of records; return when all are acknowledged, and fail when they are not."""
        for process in self._loads:
            process.send_signal(signal.SIGTERM)
        ended = [process.wait(DRAIN_SECONDS + 20) for process in self._loads]
        self._loads.clear()
        self._first_number += PERIODS_PER_LOAD
        assert not any(ended), (self.folder / "load.log").read_text()[-3_000:] + self.said()

    def give_up(self) -> None:
        """Kill the agents and the collector."""
        for process in self._loads:
            process.kill()
            process.wait()
        self._loads.clear()
        self.kill()

    def end(self, *, drained: bool = True) -> Report:
        """Stop the agents, kill the collector, and compare. `drained`: all records must have arrived."""
        if drained:
            self.quiet()
        else:
            with suppress(AssertionError):
                self.quiet()
        self.kill()
        return self.compare()

    def compare(self, data_dir: Path | None = None, until: float = float("inf")) -> Report:
        """Compare the database, or its copy in `data_dir`, with the history up to `until` (monotonic, s)."""
        files = [*sorted(self.folder.glob("history-*.jsonl")), self.folder / "faults.jsonl"]
        return check(data_dir or self.stack.data, read(files, until))

    def _environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("VEILLEUSE")}
