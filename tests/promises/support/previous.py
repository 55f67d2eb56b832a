# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Runs the previous release beside this one: its wheel in an offline virtual environment, and its records.

Its dependencies are those of the present environment: only our own code and files are under test.
"""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import sysconfig
import threading
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from tests.support import clock
from tests.support.processes import ran
from tests.support.stack import Stack
from veilleuse.wire.chain import chain_next, chain_start
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.v1 import telemetry_pb2 as pb

RELEASES: Final = Path(__file__).parents[2] / "fixtures" / "releases"
WHEELS: Final = sorted(
    RELEASES.glob("*.whl"), key=lambda file: tuple(map(int, file.name.split("-")[1].split(".")))
)
"""Released wheels, the oldest first."""
VERSION: Final = WHEELS[-1].name.split("-")[1]
PERIOD: Final = 10_000
COMMANDS: Final = ("veilleuse", "veilleuse-agent")

BODIES: Final = """
import json, sys
from veilleuse.agent.model import Cell, ClockPeriod, Point, Record
from veilleuse.wire.vocabulary import Band, Boundary, PointKind, State, Supply

meter = Point(PointKind.HWMON, "power_meter", Boundary.WALL)
for start, millijoules in json.load(sys.stdin):
    cell = Cell(10_000)
    cell.add_sum("cpu_covered_milliseconds", 10_000)
    cell.add_sum("cpu_busy_milliseconds", 4_000)
    cell.add_energy(meter, millijoules, 10_000)
    cells = {(Band.CLOSED, State.ON_ACTIVE, Supply.AC): cell}
    period = ClockPeriod(*(start, 10_000, 3600)[: len(ClockPeriod._fields)])  # 0.1 has the third
    print(Record(period, "", 1, cells, {}).to_json())
"""
"""Program for its interpreter: [[start, millijoules], …] of stdin become records of PERIOD ms, one a line."""


def install(folder: Path, wheel: Path = WHEELS[-1]) -> Path:
    """Install a released wheel in a virtual environment, and return its folder of programs."""
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, "--no-index", "--no-deps", "--no-cache-dir", str(wheel)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A path in a .pth comes last. Its own .pth files, e.g. that of the present checkout, are not read.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


class Fleet(Stack):
    """One collector and one agent, each of either release, and a history of the records made."""

    def __init__(self, folder: Path, programs: Path, **settings: str) -> None:
        """`programs`: folder of the previous release's programs."""
        super().__init__(folder, settings)
        self._previous = programs
        self.fed: dict[int, int] = {}
        """Start of each record made, Unix ms → its energy in mJ."""
        self._chance = random.Random(7)
        self.serving: subprocess.Popen[bytes] | None = None
        self.use_previous(*COMMANDS)

    def use_previous(self, *commands: str) -> None:
        """Use the previous release for these commands from now on."""
        self.programs |= {command: self._previous / command for command in commands}

    def use_present(self, *commands: str) -> None:
        """Use this version for these commands from now on."""
        for command in commands:
            self.programs.pop(command, None)

    def bodies(self, count: int) -> list[str]:
        """Return records of 10 s as the previous release's resident writes them, and note them as made."""
        hour = clock.unix_milliseconds() // MILLISECONDS_PER_HOUR * MILLISECONDS_PER_HOUR
        first = hour - 40 * MILLISECONDS_PER_HOUR + len(self.fed) * PERIOD
        made = {first + number * PERIOD: self._chance.randrange(3_000_000) for number in range(count)}
        self.fed |= made
        done = ran(
            [str(self._previous / "python"), "-c", BODIES], input=json.dumps(list(made.items())), check=True
        )
        return done.stdout.splitlines()

    def feed(self, count: int) -> None:
        """Append records to the spool, as if they were measured before."""
        self.append(self.bodies(count))

    def append(self, bodies: list[str]) -> None:
        """Append rows to the spool."""
        with closing(sqlite3.connect(self.state / "spool.db", timeout=30)) as db, db:
            db.executemany("INSERT INTO pending (body) VALUES (?)", [(body,) for body in bodies])

    def waiting(self) -> int:
        """Count the records that the collector has not acknowledged."""
        with closing(sqlite3.connect(self.state / "spool.db", timeout=30)) as db:
            query = "SELECT count(*) FROM outbox WHERE acknowledged_unix_milliseconds IS NULL"
            (numbered,) = db.execute(query).fetchone()
            (pending,) = db.execute("SELECT count(*) FROM pending").fetchone()
        return int(numbered + pending)

    def received(self) -> int:
        """Count the records that the collector has stored."""
        return len(self._stored())

    def drain(self, contacts: int = 10) -> None:
        """Make contacts until nothing waits; fail after so many."""
        for _ in range(contacts):
            self.must("veilleuse-agent", "send")
            if self.waiting() == 0:
                return
        raise AssertionError(f"{self.waiting()} records still wait after {contacts} contacts")

    def compare(self) -> str:
        """Compare both databases and the history by our own reading of the bytes; return the figure, or fail.

        Each record made is stored once with its millijoules. The agent's numbered records are the
        collector's, byte by byte, without a hole in the numbers. The chain over them is the stored one.
        Nothing was declared lost.
        """
        stored = self._stored()
        numbers = sorted(seq for _, seq in stored)
        epochs = {epoch for epoch, _ in stored}
        assert len(epochs) == 1, "the spool lived on"
        assert numbers == list(range(1, len(numbers) + 1))
        (epoch,) = epochs
        chain = chain_start(epoch)
        energies: dict[int, list[int]] = {}
        for seq in numbers:
            chain = chain_next(chain, stored[epoch, seq])
            record = pb.Record.FromString(stored[epoch, seq])
            assert record.HasField("measurement"), "a declared gap"
            start = record.measurement.period.clock.start_unix_milliseconds
            energy = sum(one.energy_millijoules for cell in record.measurement.cells for one in cell.energies)
            energies.setdefault(start, []).append(energy)
        lost = [start for start in self.fed if start not in energies]
        doubled = [start for start in self.fed if len(energies.get(start, ())) > 1]
        figure = f"{len(lost)} of {len(stored):,} records lost, {len(doubled)} duplicated"
        assert not lost, figure
        assert not doubled, figure
        assert {start: energies[start] for start in self.fed} == {
            start: [millijoules] for start, millijoules in self.fed.items()
        }
        assert self._rows("SELECT mark, chain FROM streams") == [(numbers[-1], chain)]
        with closing(sqlite3.connect(self.state / "spool.db")) as db:
            kept = db.execute("SELECT seq, wire FROM outbox").fetchall()
            assert db.execute("SELECT count(*) FROM quarantine").fetchone() == (0,)
        assert {seq: stored[epoch, seq] for seq, _ in kept} == {seq: bytes(wire) for seq, wire in kept}
        return figure

    def _stored(self) -> dict[tuple[bytes, int], bytes]:
        rows = self._rows("SELECT epoch, seq, wire FROM records JOIN streams USING (stream_id)")
        stored = {(bytes(epoch), seq): bytes(wire) for epoch, seq, wire in rows}
        assert len(stored) == len(rows)
        return stored

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.data / 'data.db'}?mode=ro", uri=True, timeout=30)) as db:
            return db.execute(query).fetchall()


class Feeder:
    """Appends records to the spool all the time, beside the agent's own. A context manager."""

    def __init__(self, fleet: Fleet, bodies: list[str], at_once: int = 20, seconds: float = 0.25) -> None:
        self._fleet = fleet
        self._bodies = bodies
        self._at_once = at_once
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.failed: BaseException | None = None

    def __enter__(self) -> Feeder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._fleet.append(self._bodies)  # the rest, which the history already contains
        assert self.failed is None

    def _run(self) -> None:
        try:
            while self._bodies and not self._stop.wait(self._seconds):
                now, self._bodies = self._bodies[: self._at_once], self._bodies[self._at_once :]
                self._fleet.append(now)
        except BaseException as error:  # noqa: BLE001  # said in the test's own thread
            self.failed = error
