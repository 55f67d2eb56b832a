# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Runs the tests of promises on a disk, as agents and collectors do."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the system's own folder for temporary files, instead of the one that tests/conftest.py sets."""
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, on_the_disk: None) -> Iterator[Path]:
    """Yield a folder on the disk; it stays when the test fails."""
    failed = request.session.testsfailed
    folder = Path(tempfile.mkdtemp(prefix="veilleuse-promise-")).resolve()
    yield folder
    if request.session.testsfailed == failed:
        shutil.rmtree(folder, ignore_errors=True)
