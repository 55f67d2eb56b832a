# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R14: after byte flips and truncations of any file of its state, the agent starts, measures, and reports in
one line what it cannot do."""

from __future__ import annotations

import logging
import os
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.promises.results import in_words
from tests.support.fakes.agent import Agent, record
from tests.support.fakes.collector import FakeCollector
from tests.support.fakes.measuring import FakeClock
from tests.support.waiting import PATIENCE_SECONDS
from veilleuse.agent.errors import AgentError
from veilleuse.agent.model import Gap
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.resident.process import NoServiceManager, Resident
from veilleuse.agent.resident.sender_child import Contacts
from veilleuse.agent.spool.database import connect
from veilleuse.wire.vocabulary import GapReason

SEED = 20_261_125
START_SECONDS = 5.0


class Damaged:
    """One complete state directory; each mutation starts from the same original."""

    def __init__(self, folder: Path, collector: FakeCollector) -> None:
        self.chance = random.Random(SEED)
        self.agent = Agent(
            folder / "state",
            **{"measure.population": "server", "measure.sources": "fake", "measure.fake_watts": "20"},
        )
        self.agent.enrol(collector)
        self._fill(collector)
        self.original = folder / "original"
        shutil.copytree(self.agent.state, self.original)
        self._leave_a_journal()
        self.files = sorted(
            path.relative_to(self.original)
            for path in self.original.rglob("*")
            if path.is_file() and path.stat().st_size and path.suffix != ".lock"
        )

    def _fill(self, collector: FakeCollector) -> None:
        """Add acknowledged, refused, numbered and unnumbered rows, a checkpoint and control values."""
        collector.refuse = lambda one: "bad" if one.measurement.cells and _energy(one) == 1_003 else ""
        self.agent.measure(*(record(index) for index in range(30)))
        assert self.agent.send()
        collector.refuse = lambda one: ""
        self.agent.measure(*(record(index) for index in range(30, 60)))
        self.agent.measure(Gap(GapReason.SPOOL_CAP, ((record(60).period, 60_000),), 1))
        self.agent.with_outbox(lambda outbox: outbox.number_pending(15))
        self.start()
        self.agent.with_outbox(
            lambda outbox: outbox.set_control({ControlKey.CONFIGURATION_FAILED: "ab" * 32})
        )

    def _leave_a_journal(self) -> None:
        """Leave a journal, as a power cut does in the middle of a transaction."""
        with closing(connect(self.agent.path)) as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("UPDATE pending SET body = body || ' '")
            db.execute("PRAGMA cache_size = 1")
            db.execute("UPDATE outbox SET wire = wire")
            for name in ("spool.db", "spool.db-journal"):
                shutil.copy(self.agent.state / name, self.original / name)
            db.execute("ROLLBACK")

    def mutate(self) -> str:
        """Damage one file in a fresh copy; return the file's name."""
        shutil.rmtree(self.agent.state)
        shutil.copytree(self.original, self.agent.state)
        chance = self.chance
        weights = [20 if str(name).startswith("spool.db") else 1 for name in self.files]
        name = chance.choices(self.files, weights)[0]
        path = self.agent.state / name
        if name.name != "spool.db-journal" and chance.random() < 0.8:
            (self.agent.state / "spool.db-journal").unlink()
        content = bytearray(path.read_bytes())
        if chance.random() < 0.3:
            del content[chance.randrange(len(content)) :]
        for _ in range(chance.choice([1, 1, 2, 8, 300]) if content else 0):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content)
        return str(name)

    def start(self) -> None:
        """Open the state as `run` does, make three ticks, and end."""
        clock = FakeClock()
        contacts = Contacts(self.agent.state, None, 0, command=[sys.executable, "-c", "pass"])
        resident = Resident(self.agent.settings, clock, contacts, NoServiceManager())
        resident.begin()
        for _ in range(3):
            clock.advance(40_000)
            resident.step()
        resident.end()

    def check(self) -> None:
        """Assert that the spool is sound and records the end of the service."""
        with closing(sqlite3.connect(self.agent.path)) as db:
            assert db.execute("PRAGMA quick_check").fetchone()[0] == "ok"
            (sign,) = db.execute("SELECT value FROM control WHERE key = 'last_sign'").fetchone()
        assert '"why":"stop"' in sign


def _energy(one: object) -> int:
    cells = one.measurement.cells  # type: ignore[attr-defined]  # protobuf
    return int(cells[0].energies[0].energy_millijoules) if cells and cells[0].energies else 0


@pytest.fixture
def damaged(tmp_path: Path) -> Iterator[Damaged]:
    """Yield a state directory, with a collector that runs."""
    logging.getLogger("veilleuse").setLevel(logging.CRITICAL)
    with FakeCollector() as collector:
        yield Damaged(tmp_path, collector)
    logging.getLogger("veilleuse").setLevel(logging.NOTSET)


def _mutations(damaged: Damaged, count: int) -> tuple[Counter[str], float]:
    """Try so many mutations; return (outcomes, longest start in seconds)."""
    outcomes: Counter[str] = Counter()
    longest = 0.0
    for number in range(count):
        name = damaged.mutate()
        begun = time.monotonic()
        try:
            damaged.start()
            longest = max(longest, time.monotonic() - begun)
            damaged.check()
            sent = _sent(damaged.agent)
            damaged.start()
            damaged.check()
        except Exception as error:
            raise AssertionError(f"mutation {number} of seed {SEED}, {name}: {error!r}") from error
        aside = any(damaged.agent.state.glob("spool.db.damaged-*"))
        outcomes["spools set aside" if aside else "spools read as before"] += 1
        outcomes["agents deliver" if sent else "agents measure without delivering"] += 1
    return outcomes, longest


def _sent(agent: Agent) -> bool:
    """Return whether the sender delivered; assert that a failure is one line."""
    try:
        if agent.send():
            return True
        said = agent.control()["standing"]
    except AgentError as error:
        said = str(error)
    assert said
    assert "\n" not in said
    return False


@pytest.mark.promise("R14")
def test_the_agent_always_starts(damaged, figure, time_bound):
    """After each of 25 mutations the agent starts twice; its sender delivers, or reports in one line."""
    outcomes, longest = _mutations(damaged, 25)
    figure(
        f"{outcomes.total() // 2} of 25 agents started, in {longest:.1f} s at most, {outcomes['spools set aside']} spools set aside"
    )
    time_bound(longest, START_SECONDS, "start")
    assert outcomes["spools set aside"] > 5


@pytest.mark.promise("R14")
@pytest.mark.long
def test_the_agent_always_starts_1000_times(damaged, figure):
    """After each of 1,000 mutations the agent starts twice and measures."""
    damaged.chance.seed(SEED + 1)
    outcomes, longest = _mutations(damaged, 1_000)
    figure(
        f"{outcomes.total() // 2:,} of 1,000 agents started, in {longest:.1f} s at most: {in_words(outcomes)}"
    )
    assert longest < START_SECONDS


@pytest.mark.promise("R14")
@pytest.mark.parametrize("count", [4, pytest.param(60, marks=pytest.mark.long)])
def test_the_real_process_always_starts(damaged, tmp_path, count, figure, time_bound):
    """`veilleuse-agent run` reports READY within 5 s and ends with 0 at SIGTERM, after any damage."""
    config = tmp_path / "agent.toml"
    config.write_text(
        f'[paths]\nstate = "{damaged.agent.state}"\n[measure]\npopulation = "server"\n'
        'sources = ["fake"]\nfake_watts = 5.0\n[log]\nlevel = "error"\n'
    )
    longest, ready = 0.0, False
    damaged.chance.seed(SEED + 2)
    for number in range(count):
        name = damaged.mutate()
        notify = tmp_path / f"notify-{number}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(notify))
            manager.settimeout(PATIENCE_SECONDS)
            begun = time.monotonic()
            process = subprocess.Popen(
                [sys.executable, "-m", "veilleuse.agent", "run", "--config", str(config)],
                env={**os.environ, "NOTIFY_SOCKET": str(notify)},
                stderr=subprocess.PIPE,
                text=True,
            )
            try:
                with suppress(TimeoutError):
                    ready = manager.recv(100) == b"READY=1"
                longest = max(longest, time.monotonic() - begun)
            finally:
                process.terminate()
                _, said = process.communicate(timeout=PATIENCE_SECONDS)
        assert ready, f"{number} {name}: {said}"
        assert process.returncode == 0, f"{number} {name}: {said}"
        assert "Traceback" not in said, f"{number} {name}: {said}"
    figure(f"{count} of {count} agent processes ready, in {longest:.1f} s at most")
    time_bound(longest, START_SECONDS, "start")
