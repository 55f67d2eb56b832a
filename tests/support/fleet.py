# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Many real agents in one process: identity, spool and sender as `veilleuse-agent send` composes them, with a
settable clock.

Every record has an energy of its own, so that a stored one can be told from every other.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from tests.support.records import clock_record, spool_of
from tests.support.stack import Stack
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.sending.encode import WireEncoder
from veilleuse.agent.sending.enrol import enrol
from veilleuse.agent.sending.process import SenderProcess
from veilleuse.agent.settings import read_settings
from veilleuse.agent.spool.database import FILE_NAME, connect
from veilleuse.agent.spool.outbox import Outbox, Ring
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.v1 import telemetry_pb2 as pb

T = TypeVar("T")

PERIOD_MILLISECONDS = 5 * 60_000
WORKERS = 4


def now_unix_milliseconds() -> int:
    """Of this machine."""
    return time.time_ns() // 1_000_000


class FleetAgent:
    """One machine."""

    def __init__(self, number: int, state: Path, now: Callable[[], int]) -> None:
        self.number = number
        self.state = state
        self.settings = read_settings(None, {}, {"paths.state": str(state)})
        self.agent_id = b""
        self.made: list[int] = []
        """Millijoules of each record."""
        self._now = now

    def enrol(self, join: Path) -> None:
        """With a group token's join file."""
        self.agent_id = bytes(enrol(self.settings, join, keep=True).agent_id)

    def measure(self, starts: Iterable[int]) -> None:
        """A record of five minutes from each of these on (Unix ms, aligned)."""
        bodies = []
        for start in starts:
            millijoules = 1_000_000 + self.number * 10_000 + len(self.made)
            self.made.append(millijoules)
            bodies.append(clock_record(start, PERIOD_MILLISECONDS, metered_millijoules=millijoules).to_json())
        with closing(spool_of(self.state)) as spool:
            spool.append(bodies, {})

    def contact(self) -> bool:
        """As the sender process makes one; whether it went well."""
        path = self.state / FILE_NAME
        with closing(connect(path)) as connection:
            spool = self.settings.spool
            ring = Ring(
                spool.ring_hours * MILLISECONDS_PER_HOUR, spool.ring_records, spool.max_bytes // 2, 1 << 20
            )
            return SenderProcess(
                self.settings, Outbox(connection, path, WireEncoder(), ring), self._now
            ).contact()

    @property
    def standing(self) -> str:
        """What the last contact ended with: "ok", or why not."""
        with closing(connect(self.state / FILE_NAME)) as connection:
            ring = Ring(0, 0, 0, 0)
            return (
                Outbox(connection, self.state / FILE_NAME, WireEncoder(), ring).control(ControlKey.STANDING)
                or ""
            )


class Fleet:
    """Agents of one collector."""

    def __init__(self, stack: Stack, now: Callable[[], int] = now_unix_milliseconds) -> None:
        self.stack = stack
        self.agents: list[FleetAgent] = []
        self._now = now

    def enrol(self, count: int) -> list[FleetAgent]:
        """So many more, on one token."""
        join = self.stack.folder / f"join-{len(self.agents)}"
        where = ("--entity", "test", "--site", "test", "--population", "server")
        made = ("token", "create", *where, "--uses", str(count), "--output", str(join))
        self.stack.must("veilleuse", *made)
        first = len(self.agents)
        new = [
            FleetAgent(number, self.stack.folder / f"agent-{number}", self._now)
            for number in range(first, first + count)
        ]
        self.agents += new
        self._all(lambda agent: agent.enrol(join), new)
        return new

    def measure(self, starts: Iterable[int], agents: Iterable[FleetAgent] | None = None) -> None:
        """The same periods on all of them."""
        moments = list(starts)
        self._all(lambda agent: agent.measure(moments), agents)

    def contact(self, agents: Iterable[FleetAgent] | None = None) -> int:
        """One each; how many went well."""
        return sum(self._all(lambda agent: agent.contact(), agents))

    def _all(self, work: Callable[[FleetAgent], T], agents: Iterable[FleetAgent] | None) -> list[T]:
        with ThreadPoolExecutor(WORKERS) as pool:
            return list(pool.map(work, self.agents if agents is None else agents))


def stored(data_dir: Path) -> dict[str, Counter[int]]:
    """Agent id → the energies of its stored records."""
    found: dict[str, Counter[int]] = {}
    with closing(sqlite3.connect(f"{(data_dir / 'data.db').as_uri()}?mode=ro", uri=True)) as database:
        for agent_id, wire in database.execute(
            "SELECT agent_id, wire FROM records JOIN hosts USING (host_id)"
        ):
            of_agent = found.setdefault(bytes(agent_id).hex(), Counter())
            for cell in pb.Record.FromString(wire).measurement.cells:
                of_agent.update(energy.energy_millijoules for energy in cell.energies)
    return found


def summed(data_dir: Path) -> int:
    """Millijoules in the tables of sums."""
    with closing(sqlite3.connect(f"{(data_dir / 'data.db').as_uri()}?mode=ro", uri=True)) as database:
        row = database.execute("SELECT sum(energy_millijoules) FROM point_sums WHERE grain = 1").fetchone()
        return int(row[0] or 0)


def statuses(stack: Stack) -> dict[str, str]:
    """Agent id → status, as the operator sees it."""
    hosts = json.loads(stack.must("veilleuse", "hosts", "list", "--json"))
    return {host["agent_id"]: host["status"] for host in hosts}


def compared(agents: Iterable[FleetAgent], data_dir: Path) -> tuple[int, int, int]:
    """(lost, duplicated, expected): what the agents made against what is stored."""
    have = stored(data_dir)
    lost = twice = expected = 0
    for agent in agents:
        kept = have.get(agent.agent_id.hex(), Counter())
        expected += len(agent.made)
        lost += len(set(agent.made) - set(kept))
        twice += sum(number - 1 for number in kept.values())
    return lost, twice, expected
