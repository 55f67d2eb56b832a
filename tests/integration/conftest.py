# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Give each test its own collector, and its commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.machines import Served, served, settings_in
from veilleuse.collector.cli.main import run
from veilleuse.collector.settings import settings_environment


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
    for name, value in settings_environment(settings_in(tmp_path)).items():
        monkeypatch.setenv(name, value)

    def call(*words: str) -> tuple[int, str, str]:
        code = run(words)
        out, err = capsys.readouterr()
        return code, out, err

    return call
