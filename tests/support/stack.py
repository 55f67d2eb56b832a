# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Run the installed commands as processes in a temporary folder, on free ports. For tests and benches."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import closing, suppress
from datetime import date
from pathlib import Path
from typing import Self

from tests.support.ports import free_ports
from tests.support.processes import ran
from tests.support.waiting import PATIENCE_SECONDS, comes

Environment = dict[str, str]

COMMAND_SECONDS = 120
"""Timeout of a command that takes a second or two, because a test machine may stall."""


def program(name: str) -> str:
    """Return the path of the command installed beside this Python interpreter."""
    return str(Path(sys.executable).with_name(name))


def get(url: str, timeout_seconds: float = PATIENCE_SECONDS) -> str:
    """Return the body of a page. Raises OSError."""
    with urllib.request.urlopen(url, timeout=timeout_seconds) as answer:
        return str(answer.read().decode())


class Stack:
    """One collector and one agent. As a context manager it ends all processes that it started."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        """`settings`: further environment variables, which override those set here."""
        http, grpc, enrolment = free_ports(3)
        self.folder = folder
        self.data = folder / "collector"
        self.state = folder / "agent"
        self.url = f"http://127.0.0.1:{http}/"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("VEILLEUSE")}
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        self.environment: Environment = kept | {
            "VEILLEUSE__DATA_DIR": str(self.data),
            "VEILLEUSE__HTTP__ADDRESS": f"127.0.0.1:{http}",
            "VEILLEUSE__GRPC__ADDRESS": f"127.0.0.1:{grpc}",
            "VEILLEUSE__GRPC__ENROLMENT_ADDRESS": f"127.0.0.1:{enrolment}",
            "VEILLEUSE_AGENT__PATHS__STATE": str(self.state),
            "NO_COLOR": "1",
            **(settings or {}),
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        self.programs: dict[str, Path] = {}
        """Command → program of another release that replaces it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.processes):
            self.stop(process)

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, for 120 s at most, whatever its exit code."""
        return ran(
            [self._program(command[0]), *command[1:]],
            env=self.environment | environment,
            timeout=COMMAND_SECONDS,
            stdin=subprocess.DEVNULL,
        )

    def control(self, key: str) -> str | None:
        """Return a value of the agent's control table, or None."""
        with closing(sqlite3.connect(self.state / "spool.db", timeout=PATIENCE_SECONDS)) as db:
            row = db.execute("SELECT value FROM control WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def published(self, kind: str, first: date) -> bool:
        """Return whether the database has a publication: cheaper than a command, for those who wait."""
        file = f"file:{self.data / 'data.db'}?mode=ro"
        with closing(sqlite3.connect(file, uri=True, timeout=PATIENCE_SECONDS)) as db:
            asked = "SELECT 1 FROM published_periods WHERE kind = ? AND first_day = ?"
            return db.execute(asked, (kind, first.toordinal())).fetchone() is not None

    def must(self, *command: str, **environment: str) -> str:
        """Run a command and return its standard output; fails if the exit code is not 0."""
        done = self.run(*command, **environment)
        assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a process in its own process group; its log is <folder>/<command>.log."""
        with (self.folder / f"{command[0]}.log").open("ab") as log:
            process = subprocess.Popen(
                [self._program(command[0]), *command[1:]],
                env=self.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def stop(self, process: subprocess.Popen[bytes], seconds: float = PATIENCE_SECONDS) -> int:
        """Send SIGTERM, wait, kill the whole process group; return the exit code."""
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait()

    def log(self, command: str) -> str:
        """Return the output of a started command so far."""
        return (self.folder / f"{command}.log").read_text(encoding="utf-8", errors="replace")

    def start_collector(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start the collector, initialise it first if needed, and wait until it answers."""
        if not (self.data / "data.db").exists():
            self.must("veilleuse", "init", **environment)
        process = self.start("veilleuse", "serve", **environment)
        self.wait_for(self.answers, f"the collector answers at {self.url}", process=process)
        return process

    def enrol(self, population: str = "server") -> None:
        """Enrol the agent with a new join file."""
        join = self.folder / "join"
        where = ("--entity", "test", "--site", "test", "--population", population)
        self.must("veilleuse", "token", "create", *where, "--output", str(join))
        self.must("veilleuse-agent", "enrol", str(join))

    def keep(self, folder: Path) -> None:
        """Copy the files of both sides for `put_back`; no process may be running."""
        shutil.copytree(self.data, folder / "collector")
        shutil.copytree(self.state, folder / "agent")

    def put_back(self, folder: Path) -> None:
        """Stop all processes, restore the files that `keep` copied, and delete the logs."""
        for process in reversed(self.processes):
            self.stop(process)
        self.processes.clear()
        for name, place in (("collector", self.data), ("agent", self.state)):
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(folder / name, place)
        for log in self.folder.glob("*.log"):
            log.unlink()

    def wait_for(
        self,
        condition: object,
        what: str,
        *,
        seconds: float = PATIENCE_SECONDS,
        process: subprocess.Popen[bytes] | None = None,
    ) -> None:
        """Wait until `condition()` is true. Fails with the logs after `seconds`, or when `process` ends."""
        assert callable(condition)

        def holds() -> bool:
            ended = process is not None and process.poll() is not None
            if condition():
                return True
            assert not ended, f"the process ended before {what}:\n{self._logs()}"
            return False

        assert comes(holds, seconds, every=0.1), f"not within {seconds:g} s: {what}\n{self._logs()}"

    def _program(self, name: str) -> str:
        return str(self.programs.get(name) or program(name))

    def answers(self) -> bool:
        """Return whether the collector's pages answer and its enrolment port accepts connections."""
        try:
            get(self.url + "healthz")
            host, _, port = self.environment["VEILLEUSE__GRPC__ENROLMENT_ADDRESS"].rpartition(":")
            socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS).close()
        except OSError:
            return False
        return True

    def _logs(self) -> str:
        return "".join(
            f"--- {log.name}\n{log.read_text(errors='replace')[-3000:]}" for log in self.folder.glob("*.log")
        )


def orphans(marker: str) -> list[str]:
    """Return the command lines of processes whose environment contains `marker` (a temporary folder)."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with suppress(OSError):
                if marker.encode() in (folder / "environ").read_bytes():
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found
