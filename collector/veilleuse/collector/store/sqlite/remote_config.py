# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Stores the configuration of each population, and what each host answered.

Implements ports.Configurations.
"""

from __future__ import annotations

from typing import Any

from veilleuse.collector.model.hosts import AppliedConfiguration
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.remote_config import Rollout
from veilleuse.collector.store.sqlite.connection import DataTables, damaged
from veilleuse.collector.wire_codec import POPULATIONS, number
from veilleuse.wire.configuration import Configuration, ConfigurationOutOfBounds


class SqliteConfigurations(DataTables):
    """Reads and writes configurations. Each write is a transaction, or part of the caller's."""

    def rollouts(self) -> tuple[Rollout, ...]:
        """Return all rollouts in the order of the populations. Raises StoreDamaged."""
        rows = self._data.rows(
            "SELECT population, active_json, candidate_json, candidate_percent, candidate_reach,"
            " changed_unix_milliseconds FROM configurations ORDER BY population"
        )
        try:
            return tuple(map(_rollout, rows))
        except (ConfigurationOutOfBounds, KeyError) as error:
            raise damaged(self._data.path, f"a configuration in it: {error}") from error

    def put(self, rollout: Rollout) -> None:
        """Insert or replace a rollout."""
        candidate = None if rollout.candidate is None else rollout.candidate.to_json()
        self._data.write(
            "INSERT OR REPLACE INTO configurations (population, active_json, candidate_json, candidate_percent,"
            " candidate_reach, changed_unix_milliseconds) VALUES (?, ?, ?, ?, ?, ?)",
            number(rollout.population),
            rollout.active.to_json(),
            candidate,
            rollout.percent,
            rollout.reach,
            rollout.changed_unix_milliseconds,
        )

    def note(self, host_id: HostId, said: AppliedConfiguration | None) -> None:
        """Store a host's answer; an equal answer writes nothing."""
        sha256, state = (None, None) if said is None else (said.sha256, said.state.value)
        sql = (
            "UPDATE hosts SET configuration_sha256 = ?, configuration_state = ? WHERE host_id = ?"
            " AND (configuration_sha256 IS NOT ? OR configuration_state IS NOT ?)"
        )
        self._data.write(sql, sha256, state, host_id, sha256, state)


def _rollout(row: Any) -> Rollout:
    population, active, candidate, percent, reach, changed = row
    return Rollout(
        population=POPULATIONS[population],
        active=Configuration.from_json(active),
        candidate=None if candidate is None else Configuration.from_json(candidate),
        percent=percent,
        reach=reach,
        changed_unix_milliseconds=changed,
    )
