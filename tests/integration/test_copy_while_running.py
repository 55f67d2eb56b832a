# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A running service learns that it uses another machine's identity. docs/wire.md §7."""

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

import pytest

from tests.support.fakes.agent import Agent
from tests.support.fakes.collector import FakeCollector
from tests.support.processes import ran
from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.agent.commands.main import main


@pytest.fixture
def collector() -> Iterator[FakeCollector]:
    """Give a running fake collector."""
    with FakeCollector() as running:
        yield running


def control(agent: Agent, key: str) -> str:
    """Return a control value as it is now; empty if there is none."""
    try:
        with closing(sqlite3.connect(f"file:{agent.path}?mode=ro", uri=True)) as db:
            row = db.execute("SELECT value FROM control WHERE key = ?", (key,)).fetchone()
            return "" if row is None else str(row[0])
    except sqlite3.Error:
        return ""


@pytest.mark.parametrize("period", [60, 10], ids=["one contact at a time", "held"])
def test_it_begins_again_by_itself(tmp_path, collector, monkeypatch, period):
    """The process continues to measure in a new spool; the next contact delivers under a new identity."""
    agent = Agent(tmp_path / "state")
    old = agent.enrol(collector)
    environment = {
        "VEILLEUSE_AGENT__PATHS__STATE": str(agent.state),
        "VEILLEUSE_AGENT__PATHS__SYSFS": str(agent.settings.paths.sysfs),
        "VEILLEUSE_AGENT__MEASURE__TICK_SECONDS": "1",
        "VEILLEUSE_AGENT__MEASURE__PERIOD_SECONDS": str(period),
        "VEILLEUSE_AGENT__MEASURE__POPULATION": "server",
        "VEILLEUSE_AGENT__COLLECTOR__CONTACT_SECONDS": "2",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with (tmp_path / "log").open("wb") as log:
        service = subprocess.Popen(
            [sys.executable, "-m", "veilleuse.agent", "run"], stdout=log, stderr=log, env=dict(os.environ)
        )
    try:
        until(lambda: control(agent, "instance_id"), "a first contact")
        epoch = control(agent, "epoch")
        collector.conflicting.add(bytes.fromhex(control(agent, "instance_id")))
        collector.next_send_after_milliseconds = 0
        until(lambda: control(agent, "epoch") not in ("", epoch), "a new spool")
        until(lambda: control(agent, "last_sign"), "it measures again")
        assert not (agent.state / "id/certificate.pem").exists()
        [aside] = agent.state.glob("spool.db.copied-*")
        with closing(sqlite3.connect(aside)) as db:
            [[kept]] = db.execute("SELECT value FROM control WHERE key = 'epoch'").fetchall()
        assert kept == epoch
        until(lambda: main(["send"]) == 0, "an identity of its own", 120)  # the service waits up to a minute
        assert agent.identity.agent_id in collector.copies.values()
        assert agent.identity.agent_id != old.agent_id
        assert service.poll() is None
        assert json.loads(control(agent, "last_sign"))["unix"] > 0
    finally:
        service.send_signal(signal.SIGTERM)
        assert service.wait(PATIENCE_SECONDS) == 0, Path(tmp_path / "log").read_text()
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_an_image_measures_and_does_not_enrol(tmp_path, collector, monkeypatch):
    """On an image with an empty machine-id, `run` measures, `send` says why not; the join file stays."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for a mount namespace")
    agent = Agent(tmp_path / "state")
    collector.join_file(agent.state / "join.json")
    (tmp_path / "machine-id").write_text("")
    environment = dict(os.environ) | {
        "VEILLEUSE_AGENT__PATHS__STATE": str(agent.state),
        "VEILLEUSE_AGENT__MEASURE__TICK_SECONDS": "1",
    }
    inside = f'mount --bind {tmp_path}/machine-id /etc/machine-id && exec "$@"'
    agent_command = [sys.executable, "-m", "veilleuse.agent"]
    image = ["unshare", "--mount", "sh", "-c", inside, "sh", *agent_command]
    with (tmp_path / "log").open("wb") as log:
        service = subprocess.Popen([*image, "run"], stdout=log, stderr=log, env=environment)
    try:
        until(lambda: control(agent, "last_sign"), "it measures")
        sent = ran([*image, "send"], env=environment, timeout=PATIENCE_SECONDS)
    finally:
        service.send_signal(signal.SIGTERM)
        assert service.wait(PATIENCE_SECONDS) == 0
    assert sent.returncode == 1
    assert "has not finished its first start" in sent.stderr
    assert "measured and kept, not enrolled and not sent" in (tmp_path / "log").read_text()
    assert collector.requests == []
    assert (agent.state / "join.json").exists()
