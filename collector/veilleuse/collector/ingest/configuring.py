# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Which configuration a Hello is answered with: decided from memory, loaded at start, changed by the writer's jobs."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from veilleuse.collector.model.records import AppliedConfiguration, AppliedState, Caller
from veilleuse.collector.model.remote_config import OWN_FILE, Rollout, sha256_of
from veilleuse.collector.ports import Configurations
from veilleuse.wire.configuration import Configuration
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population

_STATES = {
    pb.APPLIED_STATE_APPLIED: AppliedState.APPLIED,
    pb.APPLIED_STATE_CONFIRMED: AppliedState.CONFIRMED,
    pb.APPLIED_STATE_FAILED: AppliedState.FAILED,
}


class Configuring:
    """What is set for each population. `answer` from any thread; `note` and `put` inside jobs of the writer only."""

    def __init__(self, store: Configurations) -> None:
        """Loads. Raises StoreDamaged."""
        self._store = store
        self._rollouts = {rollout.population: rollout for rollout in store.rollouts()}

    def rollout(self, population: Population) -> Rollout:
        """What is set for a population; nothing, when nothing ever was."""
        return self._rollouts.get(population) or Rollout(population)

    def put(self, rollout: Rollout) -> None:
        """From the next Hello on."""
        self._store.put(rollout)
        self._rollouts = {**self._rollouts, rollout.population: rollout}

    def note(self, caller: Caller, status: Any) -> None:
        """Keep the DocumentStatus of a Hello."""
        self._store.note(caller.host_id, _said(status))

    def answer(self, caller: Caller, status: Any) -> Any:
        """The RemoteConfiguration for a Hello that came with this DocumentStatus; None when the agent names it already.

        So one that the agent has named as failed is not sent again before another one is wanted.
        """
        wanted = self.rollout(caller.population).wanted(caller.agent_id)
        said: bytes = status.sha256
        if said == sha256_of(wanted) or (not said and wanted == OWN_FILE):
            return None
        return _message(wanted)


def _said(status: Any) -> AppliedConfiguration | None:
    """None too for a state that we do not know: a newer agent's."""
    state = _STATES.get(status.state)
    return AppliedConfiguration(status.sha256, state) if status.sha256 and state is not None else None


@lru_cache(maxsize=64)
def _message(configuration: Configuration) -> Any:
    values = {name: value for name, value in configuration._asdict().items() if value is not None}
    return pb.RemoteConfiguration(**values, sha256=sha256_of(configuration))
