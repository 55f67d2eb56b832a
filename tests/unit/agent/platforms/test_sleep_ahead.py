# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test with real processes and signals that the agent records a suspend and a shutdown before they happen.

No test suspends the machine; test_state.py and test_dst_states.py use fake clocks for that.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.processes import HANGS
from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.agent.commands.main import main
from veilleuse.agent.platforms.locks import RUN_LOCK, lock_holder
from veilleuse.agent.service import systemd
from veilleuse.agent.service.systemd import SystemdNotifier
from veilleuse.agent.spool.database import FILE_NAME

ROOT = Path(__file__).parents[4]
CONFIG = """
[paths]
state = "{state}"
[measure]
population = "server"
sources = ["fake"]
fake_watts = 5.0
"""


RUNS = """
import sys
from veilleuse.agent.commands.main import main
from veilleuse.agent.resident.process import Resident
Resident.milliseconds_to_next_tick = lambda _: 3_600_000
raise SystemExit(main(sys.argv[1:]))
"""


class Service:
    """Runs an agent whose tick is an hour."""

    def __init__(self, folder: Path) -> None:
        self.config, self.state = folder / "agent.toml", folder / "state"
        self.config.write_text(CONFIG.format(state=self.state))
        path = os.pathsep.join(str(ROOT / root) for root in ("agent", "proto"))
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUNS, "run", "--config", str(self.config)],
            env={**os.environ, "PYTHONPATH": path},
            stderr=subprocess.DEVNULL,
        )
        until(lambda: self.why() == "tick", "the agent did not begin")

    def why(self) -> str:
        """Return the reason in the last sign of life."""
        try:
            with closing(sqlite3.connect(f"file:{self.state / FILE_NAME}?mode=ro", uri=True)) as db:
                row = db.execute("SELECT value FROM control WHERE key = 'last_sign'").fetchone()
        except sqlite3.Error:
            return ""
        return "" if row is None else str(json.loads(row[0])["why"])


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Run an agent and end it afterwards, even if it is stopped."""
    made = Service(tmp_path)
    yield made
    made.process.send_signal(signal.SIGCONT)
    made.process.terminate()
    made.process.wait(PATIENCE_SECONDS)


def test_the_sign_is_written_before_the_machine_sleeps(service):
    """`before-sleep` returns once the agent has written `suspend`, before its next tick, also when
    repeated."""
    for _ in range(2):
        assert main(["before-sleep", "--config", str(service.config), "--timeout", "30"]) == 0
        assert service.why() == "suspend"
    assert service.process.poll() is None


def test_an_agent_that_does_not_answer_holds_nothing_up(service, capsys, monkeypatch):
    """For a frozen agent the command gives up after its timeout, with code 1 and one line."""
    service.process.send_signal(signal.SIGSTOP)
    waits: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(waits), sleep=waits.append)
    monkeypatch.setattr("veilleuse.agent.commands.before_sleep.time", clock)
    assert main(["before-sleep", "--config", str(service.config), "--timeout", "0.3"]) == 1
    assert 0.3 <= sum(waits) < 0.33
    assert "not written within 0.3 s" in capsys.readouterr().err


def test_without_a_service_there_is_nothing_to_write(tmp_path, capsys):
    """Without a state directory or a live process in the lock, the command gives 0 and creates nothing."""
    config = tmp_path / "agent.toml"
    config.write_text(CONFIG.format(state=tmp_path / "state"))
    command = ["before-sleep", "--config", str(config)]
    assert main(command) == 0
    assert not (tmp_path / "state").exists()
    (tmp_path / "state").mkdir()
    gone = subprocess.Popen(["/bin/true"])
    gone.wait()
    for text in ("", "x", f"{gone.pid}\n"):
        (tmp_path / "state" / RUN_LOCK).write_text(text)
        assert lock_holder(tmp_path / "state", RUN_LOCK) is None
        assert main(command) == 0
    assert "no service runs here" in capsys.readouterr().out


def test_the_signal_kills_nobody(tmp_path):
    """SIGURG is ignored by default: it does not end a process without a handler, such as a starting agent."""
    (tmp_path / "agent.toml").write_text(CONFIG.format(state=tmp_path / "state"))
    (tmp_path / "state").mkdir()
    other = subprocess.Popen([sys.executable, "-c", HANGS])
    try:
        (tmp_path / "state" / RUN_LOCK).write_text(f"{other.pid}\n")
        assert main(["before-sleep", "--config", str(tmp_path / "agent.toml"), "--timeout", "0.1"]) == 1
    finally:
        other.kill()
    assert other.wait() == -signal.SIGKILL, "it ended before"


@pytest.mark.parametrize("seconds", ["0", "-1", "31", "nan", "x"])
def test_the_wait_is_bounded(seconds, tmp_path):
    """Anything but a time of up to 30 s gives code 2."""
    assert main(["before-sleep", "--timeout", seconds]) == 2


@pytest.mark.parametrize(
    ("script", "going_down"),
    [
        ("echo stopping; exit 1", True),
        ("echo running", False),
        ("echo degraded; exit 1", False),
        ("exit 1", False),  # the bus does not answer any more
    ],
)
def test_whose_end_it_is(tmp_path, monkeypatch, script, going_down):
    """With a fake systemctl, only the state `stopping` makes this stop a shutdown."""
    program = tmp_path / "systemctl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(systemd, "_STATE_TIMEOUT_SECONDS", PATIENCE_SECONDS)
    notifier = SystemdNotifier({})
    notifier._booted = True
    assert notifier.machine_is_going_down() is going_down
