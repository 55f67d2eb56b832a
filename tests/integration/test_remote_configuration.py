# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Follow a configuration from the operator's command to a real agent: on trial, confirmed, withdrawn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.stack import Stack

SETTINGS = {
    "VEILLEUSE_AGENT__MEASURE__TICK_SECONDS": "1",
    "VEILLEUSE_AGENT__MEASURE__PERIOD_SECONDS": "60",
    "VEILLEUSE_AGENT__MEASURE__CHECKPOINT_SECONDS": "1",
    "VEILLEUSE_AGENT__COLLECTOR__CONTACT_SECONDS": "86400",  # tests make the contacts
}


def servers(stack: Stack) -> dict[str, Any]:
    """Return the part of `configuration show` about servers."""
    shown = json.loads(stack.must("veilleuse", "configuration", "show", "--json"))
    return next(one for one in shown if one["population"] == "server")


def contact(stack: Stack) -> None:
    """Make one contact, as soon as no other is under way."""
    stack.wait_for(lambda: stack.run("veilleuse-agent", "send").returncode == 0, "a contact")


@pytest.mark.promise("S18")
def test_a_configuration_reaches_a_real_agent_and_is_confirmed(tmp_path: Path, figure):
    """A configuration is pulled at a contact, applied by the running resident and confirmed at the next
    contact; `configuration show` shows each step, and the agent's log the longer period. After its withdrawal
    the machine's own file applies again.
    """
    population = ("--population", "server")
    with Stack(tmp_path, SETTINGS) as stack:
        stack.start_collector()
        stack.enrol()
        agent = stack.start("veilleuse-agent", "run")
        stack.wait_for(lambda: (stack.state / "spool.db").exists(), "the agent measures", process=agent)
        contact(stack)
        stack.must("veilleuse", "configuration", "set", *population, "--period", "10min")
        assert servers(stack)["candidate_hosts"] == {"waiting": 1}

        contact(stack)
        stack.wait_for(lambda: stack.control("configuration_trial") is not None, "on trial", process=agent)
        contact(stack)  # reports the trial, and is the successful contact that confirms it
        assert servers(stack)["candidate_hosts"] == {"applied": 1}
        contact(stack)
        assert servers(stack)["candidate_hosts"] == {"confirmed": 1}
        assert "period_milliseconds=600000" in stack.log("veilleuse-agent")

        for words in (("rollout", "10"), ("rollout", "100")):
            stack.must("veilleuse", "configuration", *words, *population)
        stack.must("veilleuse", "configuration", "withdraw", *population)
        contact(stack)
        stack.wait_for(
            lambda: stack.control("configuration_trial") is not None, "on trial again", process=agent
        )
        for _ in range(2):
            contact(stack)
        assert servers(stack)["active_hosts"] == {"confirmed": 1}
        assert "period_milliseconds=60000 " in stack.log("veilleuse-agent").replace("\n", " ")
        assert stack.stop(agent) == 0
    figure("1 configuration set, applied, confirmed and withdrawn with the real commands")
