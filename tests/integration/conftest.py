# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Give each test its own collector, and its commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.closed_years import command, lead_commands_to
from tests.support.machines import Served, served, settings_in


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Served]:
    """Give a running collector."""
    with served(settings_in(tmp_path)) as collector:
        yield collector


@pytest.fixture
def veilleuse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Return a function: `veilleuse("hosts", "list")` returns (exit code, output, errors)."""
    lead_commands_to(settings_in(tmp_path), monkeypatch)
    return command(capsys)
