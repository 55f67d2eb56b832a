# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A real agent whose two processes are killed, and its collector's records, read without product code."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.promises.support.contract import Record
from tests.support.stack import Stack
from tests.support.waiting import PATIENCE_SECONDS, until

OFF: Final = 4
UNKNOWN: Final = 5
"""Values of State: the machine was off; unknown time."""


class KilledAgent:
    """The resident process, the senders it starts, and one-shot senders of an impatient administrator."""

    def __init__(self, stack: Stack, seed: int) -> None:
        self.kills: Counter[str] = Counter()
        self.down_milliseconds = 0
        """Time from each kill of the resident until it measures again."""
        self._stack = stack
        self._chance = random.Random(seed)
        self.orphans = 0
        """Killed residents' process groups with a sender alive at the end; a service manager would end it."""
        self._resident: subprocess.Popen[bytes] | None = None
        self._former: list[int] = []
        self._shot: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the resident; return when it measures."""
        before = self._times_measuring()
        resident = self._resident = self._stack.start("veilleuse-agent", "run")
        until(
            lambda: self._times_measuring() > before or resident.poll() is not None,
            "the agent does not measure",
            every=0.01,
        )
        assert resident.poll() is None, self._stack.log("veilleuse-agent")[-2_000:]

    def shoot(self) -> None:
        """Start a one-shot sender unless one of ours runs; it ends at once when another holds the lock."""
        if self._shot is None or self._shot.poll() is not None:
            self._shot = self._stack.start("veilleuse-agent", "send")

    def kill(self) -> None:
        """Send SIGKILL to the resident, to the senders, or to both."""
        whom = self._chance.choice(("resident", "senders", "both"))
        self.kills[whom] += 1
        senders = self._senders()
        if whom != "resident":
            for pid in senders:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if whom != "senders":
            self.kill_resident()

    def kill_resident(self) -> None:
        """Send SIGKILL to the resident, and start it again."""
        assert self._resident is not None
        killed = time.monotonic()
        self._former.append(self._resident.pid)
        self._resident.kill()
        self._resident.wait()
        self.start()
        self.down_milliseconds += round(1000 * (time.monotonic() - killed))

    def kill_beside_new_sender(self) -> int:
        """Start the resident, send it SIGKILL once its sender runs, and return the sender's process id."""
        self._resident = self._stack.start("veilleuse-agent", "run")
        senders: list[int] = []

        def is_sending() -> bool:
            senders[:] = self._senders()
            return bool(senders)

        until(is_sending, "no sender was started", every=0)
        self._former.append(self._resident.pid)
        self._resident.kill()
        self._resident.wait()
        return senders[0]

    def stop(self) -> None:
        """Send SIGTERM to the resident, then deliver everything that waits in a last contact."""
        assert self._resident is not None
        self._stack.stop(self._resident)
        for group in self._former:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
                self.orphans += 1
        if self._shot is not None:
            self._shot.wait(PATIENCE_SECONDS)
        until(lambda: not self._stack.run("veilleuse-agent", "send").returncode, "records cannot be sent")

    def close(self) -> None:
        """End the process groups that are left."""
        for group in self._former:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)

    def _senders(self) -> list[int]:
        pids = [self._shot.pid] if self._shot is not None and self._shot.poll() is None else []
        if self._resident is not None:
            children = Path(f"/proc/{self._resident.pid}/task/{self._resident.pid}/children")
            with suppress(OSError):
                pids += [int(pid) for pid in children.read_text().split() if _sends(int(pid))]
        return pids

    def _times_measuring(self) -> int:
        log = self._stack.folder / "veilleuse-agent.log"
        return log.read_text(errors="replace").count(" measuring ") if log.exists() else 0


def _sends(pid: int) -> bool:
    """Return whether a process is a sender yet: a child begins as a copy of its parent."""
    return b"send" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


@dataclass
class Held:
    """The records of one agent in a collector."""

    records: int = 0
    duplicates: int = 0
    """Rows whose bytes another row already has."""
    epochs: int = 0
    holes: int = 0
    """Numbers up to the mark without a row."""
    periods: dict[int, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    """Start of a clock period, Unix ms → state → ms."""
    rows: dict[tuple[str, int], str] = field(default_factory=dict)
    """(epoch, seq) → SHA-256."""
    gap_milliseconds: int = 0


def held(data_dir: Path) -> Held:
    """Return the records in a copy of the database."""
    found = Held()
    seen: Counter[str] = Counter()
    with closing(_copy(data_dir / "data.db")) as database:
        streams = database.execute("SELECT hex(epoch), mark FROM streams").fetchall()
        rows = database.execute("SELECT hex(epoch), seq, wire FROM records JOIN streams USING (stream_id)")
        for epoch, seq, wire in rows:
            sha = hashlib.sha256(wire).hexdigest()
            seen[sha] += 1
            found.rows[epoch.lower(), seq] = sha
            record = Record.FromString(wire)
            found.gap_milliseconds += sum(span.milliseconds for span in record.gap.spans)
            for cell in record.measurement.cells:
                start = record.measurement.period.clock.start_unix_milliseconds
                found.periods[start][cell.state] += cell.milliseconds
    found.records = sum(seen.values())
    found.duplicates = sum(number - 1 for number in seen.values())
    found.epochs = len(streams)
    found.holes = sum(mark for _, mark in streams) - found.records
    return found


def numbered(spool: Path) -> dict[tuple[str, int], str]:
    """Return the numbers that the agent's spool still holds: (epoch, seq) → SHA-256."""
    with closing(_copy(spool)) as database:
        (epoch,) = database.execute("SELECT value FROM control WHERE key = 'epoch'").fetchone()
        rows = database.execute("SELECT seq, wire FROM outbox")
        return {(epoch, seq): hashlib.sha256(wire).hexdigest() for seq, wire in rows}


def _copy(file: Path) -> sqlite3.Connection:
    """Return a copy in memory of the database, journal included, of a program that runs or was killed."""
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("", "-wal", "-journal"):
            if (source := file.with_name(file.name + suffix)).exists():
                shutil.copy(source, folder)
        memory = sqlite3.connect(":memory:")
        with closing(sqlite3.connect(Path(folder) / file.name)) as database:
            database.backup(memory)
    return memory
