# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R21: two copies of the service on one state directory, as real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE_SECONDS
from veilleuse.agent.platforms.locks import SEND_LOCK, ProcessLock

CONFIG = '[paths]\nstate = "{state}"\n[measure]\nsources = ["fake"]\nfake_watts = 5.0\n'


def agent(folder: Path, word: str, **environment: str) -> subprocess.Popen[str]:
    """Start `veilleuse-agent <word>`."""
    return subprocess.Popen(
        [sys.executable, "-m", "veilleuse.agent", word, "--config", str(folder / "agent.toml")],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.promise("R21")
def test_the_second_copy_ends_with_a_clear_message(tmp_path, figure):
    """The second copy ends with code 1 and one line that names the first, which goes on.

    After kill -9 of the first copy, another one starts.
    """
    (tmp_path / "agent.toml").write_text(CONFIG.format(state=tmp_path / "state"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_SECONDS)
        first = agent(tmp_path, "run", NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert manager.recv(100) == b"READY=1"
        second = agent(tmp_path, "run")
        _, said = second.communicate(timeout=PATIENCE_SECONDS)
        figure(
            f"exit code {second.returncode} of the second instance, with the message: {said.strip()[:60]}…"
        )
        assert second.returncode == 1
        assert said.count("\n") == 1
        assert f"process {first.pid} holds" in said
        assert "stop it first" in said
        assert first.poll() is None
        first.kill()
        first.communicate(timeout=PATIENCE_SECONDS)
        third = agent(tmp_path, "run", NOTIFY_SOCKET=str(tmp_path / "notify"))
        while manager.recv(100) != b"READY=1":
            pass
        third.send_signal(signal.SIGTERM)
        third.communicate(timeout=PATIENCE_SECONDS)
        assert third.returncode == 0


@pytest.mark.promise("R21")
def test_a_second_sender_ends_too(tmp_path):
    """A second sender ends, and names the process that holds the lock."""
    state = tmp_path / "state"
    (state / "id").mkdir(parents=True)
    (state / "id" / "certificate.pem").write_text("x")
    (tmp_path / "agent.toml").write_text(CONFIG.format(state=state))
    with ProcessLock(state, SEND_LOCK, what="this test"):
        second = agent(tmp_path, "send")
        _, said = second.communicate(timeout=PATIENCE_SECONDS)
    assert second.returncode == 1
    assert said.count("\n") == 1
    assert f"process {os.getpid()} holds" in said
