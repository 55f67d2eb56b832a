# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines sums of servers as each look shows them (/metrics, first page, `top`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from veilleuse.collector.model.records import AgentId
from veilleuse.wire.vocabulary import State


class ServerGroup(NamedTuple):
    """Labels of a group of servers, as text."""

    entity: str
    site: str
    population: str
    device_class: str


class GroupPower(NamedTuple):
    """Mean wall power of the servers of a group, each over its newest record."""

    servers: int
    """Servers with a recent record that has an energy; ≥ 1."""
    watts: float
    end_unix_milliseconds: int
    """End of the newest of these records."""


class ServerUse(NamedTuple):
    """One active server, and the sums of its civil day."""

    agent_id: AgentId
    group: ServerGroup
    watts: float | None
    """Mean wall power over its newest record; None without a recent record that has an energy: never 0."""
    last_contact_unix_milliseconds: int | None
    states: Mapping[State, int]
    """Milliseconds by state."""
    cpu_busy_milliseconds: int
    cpu_covered_milliseconds: int
    energy_millijoules: int | None
    """None when none was derived."""
