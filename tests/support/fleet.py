# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Run many real agents in one process: identity, spool and sender, composed as in `veilleuse-agent send`,
with a settable clock. Every record has a different energy, so that stored records can be identified."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from tests.support import clock
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
    """Return this machine's clock in Unix milliseconds."""
    return clock.unix_milliseconds()


class FleetAgent:
    """This agent is one machine with its own state folder, identity and spool."""

    def __init__(self, number: int, state: Path, now: Callable[[], int]) -> None:
        self.number = number
        self.state = state
        self.settings = read_settings(None, {}, {"paths.state": str(state)})
        self.agent_id = b""
        self.made: list[int] = []
        """Millijoules of each measured record, in order."""
        self._now = now

    def enrol(self, join: Path) -> None:
        """Enrol with a group token's join file; keeps the identity and its agent id."""
        self.agent_id = bytes(enrol(self.settings, join, keep=True).agent_id)

    def measure(self, starts: Iterable[int]) -> None:
        """Append a record of five minutes to the spool for each start (aligned Unix milliseconds)."""
        bodies = []
        for start in starts:
            millijoules = 1_000_000 + self.number * 10_000 + len(self.made)
            self.made.append(millijoules)
            bodies.append(clock_record(start, PERIOD_MILLISECONDS, metered_millijoules=millijoules).to_json())
        with closing(spool_of(self.state)) as spool:
            spool.append(bodies, {})

    def contact(self) -> bool:
        """Make one contact as the sender process does; return whether it succeeded."""
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
        """The result of the last contact: "ok", or the reason why it failed; empty before the first."""
        with closing(connect(self.state / FILE_NAME)) as connection:
            ring = Ring(0, 0, 0, 0)
            return (
                Outbox(connection, self.state / FILE_NAME, WireEncoder(), ring).control(ControlKey.STANDING)
                or ""
            )


class Fleet:
    """A fleet is several agents of one collector."""

    def __init__(self, stack: Stack, now: Callable[[], int] = now_unix_milliseconds) -> None:
        self.stack = stack
        self.agents: list[FleetAgent] = []
        self._now = now

    def enrol(self, count: int) -> list[FleetAgent]:
        """Enrol `count` further agents with one group token, and return them."""
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
        """Append records of the same periods to the spool of each agent (all of them by default)."""
        moments = list(starts)
        self._all(lambda agent: agent.measure(moments), agents)

    def contact(self, agents: Iterable[FleetAgent] | None = None) -> int:
        """Make one contact with each agent (all of them by default); return how many succeeded."""
        return sum(self._all(lambda agent: agent.contact(), agents))

    def _all(self, work: Callable[[FleetAgent], T], agents: Iterable[FleetAgent] | None) -> list[T]:
        with ThreadPoolExecutor(WORKERS) as pool:
            return list(pool.map(work, self.agents if agents is None else agents))


def stored(data_dir: Path) -> dict[str, Counter[int]]:
    """Return agent id (hex) → energies of its stored records in millijoules, with their counts."""
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
    """Return the millijoules in the table of hourly sums."""
    with closing(sqlite3.connect(f"{(data_dir / 'data.db').as_uri()}?mode=ro", uri=True)) as database:
        row = database.execute("SELECT sum(energy_millijoules) FROM point_sums WHERE grain = 1").fetchone()
        return int(row[0] or 0)


def statuses(stack: Stack) -> dict[str, str]:
    """Return agent id → status, as `veilleuse hosts list` shows it."""
    hosts = json.loads(stack.must("veilleuse", "hosts", "list", "--json"))
    return {host["agent_id"]: host["status"] for host in hosts}


def compared(agents: Iterable[FleetAgent], data_dir: Path) -> tuple[int, int, int]:
    """Compare the records that the agents made with the stored ones; return (lost, duplicated, expected)."""
    have = stored(data_dir)
    lost = twice = expected = 0
    for agent in agents:
        kept = have.get(agent.agent_id.hex(), Counter())
        expected += len(agent.made)
        lost += len(set(agent.made) - set(kept))
        twice += sum(number - 1 for number in kept.values())
    return lost, twice, expected
