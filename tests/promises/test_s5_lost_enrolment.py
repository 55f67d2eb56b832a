# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""S5: the answer to an enrolment is lost after the collector wrote it. docs/wire.md §6, spiffe/spire#2454."""

from __future__ import annotations

import json

import pytest

from tests.promises.support.proxy import Proxy
from tests.support.stack import Stack


@pytest.mark.promise("S5")
def test_a_lost_enrolment_reply_does_not_burn_the_token(tmp_path, figure):
    """The same command, run again, gets the identity made the first time; another machine gets none."""
    with Stack(tmp_path) as stack:
        stack.start_collector()
        join = tmp_path / "join"
        where = ("--entity", "DSI", "--site", "test", "--population", "server")
        stack.must("veilleuse", "token", "create", *where, "--output", str(join))
        host, _, port = stack.environment["VEILLEUSE__GRPC__ENROLMENT_ADDRESS"].rpartition(":")
        with Proxy((host, int(port)), handshake_answers=1) as proxy:
            through = {"VEILLEUSE_AGENT__COLLECTOR__ENROLMENT_ADDRESS": proxy.address}
            codes = list[int]()
            while not _hosts(
                stack
            ):  # a handshake in two pieces may be cut instead: then nothing was asked yet
                assert len(codes) < 10
                proxy.lose_next_answer()
                codes.append(stack.run("veilleuse-agent", "enrol", "--keep", str(join), **through).returncode)
            [made] = _hosts(stack)
            second = json.loads(
                stack.must("veilleuse-agent", "enrol", "--keep", "--json", str(join), **through)
            )
            other = {"VEILLEUSE_AGENT__PATHS__STATE": str(tmp_path / "other")}
            thief = stack.run("veilleuse-agent", "enrol", str(join), **other)
        figure(
            f"{proxy.counts['lost']} answer lost, {len(_hosts(stack))} identity created, "
            f"{'the same' if second['agent_id'] == made['agent_id'] else 'another'} given to the repeated command"
        )
        assert set(codes) == {1}
        assert proxy.counts["lost"] == len(codes)
        assert second["agent_id"] == made["agent_id"]
        assert [host["agent_id"] for host in _hosts(stack)] == [made["agent_id"]]
        assert thief.returncode == 1
        assert "used" in thief.stderr
        assert stack.must("veilleuse-agent", "send") == ""


@pytest.mark.promise("S5")
def test_a_machine_that_enrols_by_itself_asks_again(tmp_path, figure):
    """A machine whose answer is lost gets its identity at the next contact, by its join file."""
    with Stack(tmp_path) as stack:
        stack.start_collector()
        stack.state.mkdir(mode=0o700)
        where = ("--entity", "DSI", "--site", "test", "--population", "server")
        stack.must("veilleuse", "token", "create", *where, "--output", str(stack.state / "join.json"))
        host, _, port = stack.environment["VEILLEUSE__GRPC__ENROLMENT_ADDRESS"].rpartition(":")
        with Proxy((host, int(port)), handshake_answers=1) as proxy:
            through = {"VEILLEUSE_AGENT__COLLECTOR__ENROLMENT_ADDRESS": proxy.address}
            proxy.lose_next_answer()
            first = stack.run("veilleuse-agent", "send", **through)
            second = stack.run("veilleuse-agent", "send", **through)
        identities = {host["agent_id"] for host in _hosts(stack)}
        figure(
            f"{proxy.counts['lost']} answer lost, {len(identities)} identity created at the next contact, without a command"
        )
        assert (first.returncode, second.returncode) == (1, 0), second.stderr
        assert identities == {(stack.state / "id/agent_id").read_text()}
        assert not (stack.state / "join.json").exists()


def _hosts(stack: Stack) -> list[dict[str, str]]:
    listed: list[dict[str, str]] = json.loads(stack.must("veilleuse", "hosts", "list", "--json"))
    return listed
