# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Fixtures of the agent's tests: a fake collector, and an agent that it can enrol."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fakes.agent import Agent
from tests.support.fakes.collector import FakeCollector


@pytest.fixture
def collector() -> Iterator[FakeCollector]:
    """Run a fake collector."""
    with FakeCollector() as running:
        yield running


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    """Return an agent that is not enrolled."""
    return Agent(tmp_path / "state")
