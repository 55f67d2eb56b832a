# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Open the store of every backend for the conformance tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.backends import BACKENDS, Backend
from tests.support.pushes import site


@pytest.fixture(params=BACKENDS)
def store(request: Any, tmp_path: Path) -> Iterator[Backend]:
    """Give an empty store with one site."""
    for backend in BACKENDS[request.param](tmp_path / "data"):
        backend.registry.put_site(site())
        yield backend
