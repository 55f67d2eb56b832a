# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The service of :8641, for the tests of the receiver."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.fakes.authority import TestAuthority
from tests.pushes import NOW, site
from tests.service import Service
from veilleuse.collector import settings
from veilleuse.collector.store.sqlite import create_store


@pytest.fixture(scope="module")
def authority() -> TestAuthority:
    """One for all: keys take time."""
    return TestAuthority()


@pytest.fixture
def service(tmp_path: Path, authority: TestAuthority) -> Iterator[Service]:
    """A running service over an empty store with one site."""
    limits = settings.Store(free_bytes_minimum=0)
    with closing(create_store(tmp_path, limits, simulated=False, now_unix_milliseconds=NOW)) as store:
        store.registry.put_site(site())
        made = Service(tmp_path, store, authority)
        made.writer.start()
        made.server.start()
        yield made
        for channel in made.channels:
            channel.close()
        made.server.stop(0).wait()
        made.servicer.close()
        made.writer.stop()
