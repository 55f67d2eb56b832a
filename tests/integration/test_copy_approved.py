# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""An operator decides on a clone of a machine that enrolled with a one-time token: the installed commands,
docs/wire.md §7."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.support.stack import Stack
from tests.unit.agent.identity.test_copies import COPY, ORIGINAL, become


def hosts(stack: Stack) -> list[dict[str, Any]]:
    """Return the hosts as the operator sees them."""
    listed: list[dict[str, Any]] = json.loads(stack.must("veilleuse", "hosts", "list", "--json"))
    return listed


def clone_of(stack: Stack, folder: Path) -> dict[str, str]:
    """Return the environment of a machine with the same disk in other hardware."""
    folder.mkdir()
    become(folder, COPY)
    shutil.copytree(stack.state, folder / "state")
    return {
        "VEILLEUSE_AGENT__PATHS__STATE": str(folder / "state"),
        "VEILLEUSE_AGENT__PATHS__SYSFS": str(folder / "sys"),
    }


def test_a_copy_waits_for_its_approval(tmp_path):
    """The clone learns that it waits for approval, and the operator whose copy it is. After activation it has
    its own identity."""
    become(tmp_path, ORIGINAL)
    with Stack(tmp_path, {"VEILLEUSE_AGENT__PATHS__SYSFS": str(tmp_path / "sys")}) as stack:
        stack.start_collector()
        stack.enrol()
        original = (stack.state / "id/agent_id").read_text()
        clone = clone_of(stack, tmp_path / "clone")
        stack.must("veilleuse-agent", "run", "--check", **clone)
        assert "waits for an operator's approval" in stack.run("veilleuse-agent", "send", **clone).stderr
        [waiting] = [host for host in hosts(stack) if host["agent_id"] != original]
        assert (waiting["status"], waiting["copy_of"]) == ("pending", original)
        doctor = json.loads(stack.run("veilleuse-agent", "doctor", "--json", **clone).stdout)
        assert not doctor["identity"]["enrolled"]
        assert f"veilleuse hosts activate {waiting['agent_id'][:12]}" in doctor["spool"]["standing"]
        stack.must("veilleuse", "hosts", "activate", waiting["agent_id"][:8])
        stack.must("veilleuse-agent", "send", **clone)
        assert (tmp_path / "clone/state/id/agent_id").read_text() == waiting["agent_id"]
        stack.must("veilleuse-agent", "send")
        assert (stack.state / "id/agent_id").read_text() == original


def test_a_copy_of_a_revoked_machine_stays_outside(tmp_path):
    """A copy of a revoked machine is refused; the message names a join file as the remedy, which works."""
    become(tmp_path, ORIGINAL)
    with Stack(tmp_path, {"VEILLEUSE_AGENT__PATHS__SYSFS": str(tmp_path / "sys")}) as stack:
        stack.start_collector()
        stack.enrol()
        original = (stack.state / "id/agent_id").read_text()
        clone = clone_of(stack, tmp_path / "clone")
        stack.must("veilleuse", "hosts", "revoke", original[:8], "--yes")
        stack.must("veilleuse-agent", "run", "--check", **clone)
        refused = stack.run("veilleuse-agent", "send", **clone)
        assert refused.returncode == 1
        assert "revoked" in refused.stderr
        assert "veilleuse-agent enrol JOINFILE" in refused.stderr
        assert len(hosts(stack)) == 1
        where = ("--entity", "DSI", "--site", "test", "--population", "server")
        join = str(tmp_path / "clone/state/join.json")
        stack.must("veilleuse", "token", "create", *where, "--output", join)
        stack.must("veilleuse-agent", "send", **clone)
        assert not (tmp_path / "clone/state/original").exists()
        assert len(hosts(stack)) == 2
