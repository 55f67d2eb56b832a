# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Promises are kept on a disk: what is measured of them is what an agent and a collector have."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not where tests/conftest.py keeps the others."""
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, on_the_disk: None) -> Iterator[Path]:
    """A folder on the disk; it stays when the test fails."""
    failed = request.session.testsfailed
    folder = Path(tempfile.mkdtemp(prefix="veilleuse-promise-")).resolve()
    yield folder
    if request.session.testsfailed == failed:
        shutil.rmtree(folder, ignore_errors=True)
