# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test `veilleuse-agent prepare-image`: it removes the machine's data and may leave a join file. docs/wire.md
§7."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from tests.support.fakes.agent import Agent, record
from veilleuse.agent.commands.main import main
from veilleuse.agent.platforms.locks import RUN_LOCK, SEND_LOCK, ProcessLock


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Agent:
    """Return the agent whose state the command prepares."""
    made = Agent(tmp_path / "state")
    monkeypatch.setenv("VEILLEUSE_AGENT__PATHS__STATE", str(made.state))
    return made


def test_everything_of_this_machine_goes(agent, collector, tmp_path, capsys):
    """The command removes identity, spool files and locks, keeps foreign files, and may be repeated."""
    identity = agent.enrol(collector)
    agent.measure(record(0))
    for name in ("spool.db-journal", "spool.db.damaged-1", "spool.db.copied-2", "spool.db.new", "run.lock"):
        (agent.state / name).write_text("x")
    for name in ("published.json", ".published.json.new", "poll.lock"):
        (agent.state / name).write_text("x")
    (agent.state / "original").mkdir()
    (agent.state / "original/key.pem").write_text("x")
    (agent.state / "notes").write_text("the operator's")
    (agent.state / "spool.db-journal").unlink()
    assert main(["prepare-image", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["agent_id"] == identity.agent_id.hex()
    assert said["undelivered_records"] == 1
    assert said["join_file"] is None
    assert [file.name for file in agent.state.iterdir()] == ["notes"]
    assert main(["prepare-image"]) == 0
    assert "nothing of this machine" in capsys.readouterr().out


def test_a_join_file_is_left_for_the_clones(agent, collector, tmp_path, capsys):
    """The join file is 0600, has the directory's owner and survives a second call; a clone enrols with it."""
    join = collector.join_file(tmp_path / "group")
    join.chmod(0o644)
    if os.geteuid() == 0:
        os.chown(agent.state, 65534, 65534)
        for path in (tmp_path, *tmp_path.parents):
            if path.owner() == "root" and path != Path("/"):
                path.chmod(path.stat().st_mode | 0o055)
    assert main(["prepare-image", "--join", str(join)]) == 0
    assert main(["prepare-image"]) == 0
    left = agent.state / "join.json"
    assert stat.S_IMODE(left.stat().st_mode) == 0o600
    assert left.stat().st_uid == agent.state.stat().st_uid
    assert left.read_bytes() == join.read_bytes()
    assert "the clones enrol with" in capsys.readouterr().out
    if os.geteuid() == 0:
        os.chown(agent.state, 0, 0)
        os.chown(left, 0, 0)
    assert agent.send()
    assert not left.exists()


def test_what_is_no_join_file_stops_it_before_anything_is_removed(agent, collector, tmp_path, capsys):
    """The command refuses an invalid join file and leaves the identity."""
    agent.enrol(collector)
    (tmp_path / "spoilt").write_text("{}")
    assert main(["prepare-image", "--join", str(tmp_path / "spoilt")]) == 1
    assert "is not a join file" in capsys.readouterr().err
    assert (agent.state / "id/certificate.pem").exists()


@pytest.mark.parametrize("lock", [RUN_LOCK, SEND_LOCK])
def test_a_service_that_runs_is_not_pulled_from_under(agent, collector, lock, capsys):
    """The command refuses a running service, names the command that stops it, and removes nothing."""
    agent.enrol(collector)
    with ProcessLock(agent.state, lock, what="x"):
        assert main(["prepare-image"]) == 1
    assert "systemctl stop veilleuse-agent" in capsys.readouterr().err
    assert (agent.state / "id/certificate.pem").exists()
