# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Run an agent without its measuring part: put records into its spool, and its sender in this process."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.clock import unix_milliseconds
from tests.support.fakes.collector import FakeCollector
from veilleuse.agent.identity.store import Identity, IdentityStore
from veilleuse.agent.model import Cell, ClockPeriod, Gap, Point, Record
from veilleuse.agent.sending import enrol
from veilleuse.agent.sending.encode import WireEncoder
from veilleuse.agent.sending.process import SenderProcess
from veilleuse.agent.settings import AgentSettings, read_settings
from veilleuse.agent.spool.database import connect
from veilleuse.agent.spool.outbox import Outbox, Ring
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Band, Boundary, PointKind, State, Supply

EPOCH_START = 1_767_225_600_000
"""2026-01-01T00:00:00Z in Unix milliseconds."""
PACKAGE = Point(PointKind.RAPL, "package-0", Boundary.COMPONENT)


def record(index: int, energy_millijoules: int | None = None) -> Record:
    """Return the record of minute `index` of 2026, with 1,000 + index millijoules unless given."""
    energy = 1_000 + index if energy_millijoules is None else energy_millijoules
    cell = Cell(
        60_000,
        {PACKAGE: (energy, 60_000)},
        {"cpu_covered_milliseconds": 60_000, "cpu_busy_milliseconds": 300},
    )
    return Record(
        period=ClockPeriod(EPOCH_START + index * 60_000, 60_000),
        calendar_sha256="",
        idle_rule_version=1,
        cells={(Band.NIGHT, State.ON_IDLE, Supply.AC): cell},
        gaps={},
    )


def energies(records: list[pb.Record]) -> list[int]:
    """Return the millijoules of each measurement, in order, without gaps."""
    return [
        energy.energy_millijoules
        for one in records
        for cell in one.measurement.cells
        for energy in cell.energies
    ]


def enrolled(folder: Path, join: dict[str, Any]) -> Agent:
    """Return an agent that is enrolled with this content of a join file."""
    made = Agent(folder / "state")
    (folder / "join").touch(mode=0o600)
    (folder / "join").write_text(json.dumps({key: value for key, value in join.items() if key != "token_id"}))
    enrol.enrol(made.settings, folder / "join")
    return made


class Agent:
    """One agent with its own state directory."""

    def __init__(self, state: Path, **settings: str) -> None:
        self.state = state
        state.mkdir(mode=0o700, exist_ok=True)
        (state.parent / "empty").mkdir(exist_ok=True)
        overrides = {
            "paths.state": str(state),
            "paths.sysfs": str(state.parent / "empty"),
            "collector.deadline_seconds": "5",
        }
        self.settings: AgentSettings = read_settings(None, {}, overrides | settings)
        self.path = state / "spool.db"
        self.now = EPOCH_START + 86_400_000
        self.ring = Ring()

    def enrol(self, collector: FakeCollector) -> Identity:
        return self.enrol_with(collector.join_file(self.state.parent / "join"))

    def enrol_with(self, join: Path) -> Identity:
        return enrol.enrol(self.settings, join)

    @property
    def identity(self) -> Identity:
        return IdentityStore(self.state).load()

    def connection(self) -> sqlite3.Connection:
        return connect(self.path)

    def measure(self, *records: Record | Gap) -> None:
        """Append records as the resident process does."""
        with closing(self.connection()) as db:
            db.executemany("INSERT INTO pending (body) VALUES (?)", [(one.to_json(),) for one in records])

    def with_outbox(self, work: Callable[[Outbox], object]) -> object:
        with closing(self.connection()) as db:
            return work(Outbox(db, self.path, WireEncoder(), self.ring))

    def send(self, clock: Callable[[], int] | None = None) -> bool:
        """Make one contact with the collector; return whether it succeeded. `clock`: Unix milliseconds."""

        now = clock or (unix_milliseconds)
        with closing(self.connection()) as db:
            outbox = Outbox(db, self.path, WireEncoder(), self.ring)
            return SenderProcess(self.settings, outbox, now=now, uniform=lambda low, high: high).contact()

    def control(self) -> dict[str, str]:
        with closing(self.connection()) as db:
            return dict(db.execute("SELECT key, value FROM control"))

    def rows(self) -> list[tuple[int, bytes, bytes, int | None]]:
        with closing(self.connection()) as db:
            return db.execute("SELECT * FROM outbox ORDER BY seq").fetchall()
