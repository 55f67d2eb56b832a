# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A data directory for the tests of commands; the service of :8641, for the tests of the receiver."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.fakes.authority import TestAuthority
from tests.pushes import NOW, site
from tests.service import Service
from veilleuse.collector.assembly import initialise
from veilleuse.collector.settings import CollectorSettings, Store, read_settings
from veilleuse.collector.store.sqlite import create_store


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CollectorSettings:
    """Of an initialised data directory with the site hq, for the commands too."""
    monkeypatch.setenv("VEILLEUSE__DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("VEILLEUSE__STORE__FREE_BYTES_MINIMUM", "0")
    made = read_settings(None)
    initialise(made, site="hq")
    return made


@pytest.fixture(scope="module")
def authority() -> TestAuthority:
    """One for all: keys take time."""
    return TestAuthority()


@pytest.fixture
def service(tmp_path: Path, authority: TestAuthority) -> Iterator[Service]:
    """A running service over an empty store with one site."""
    limits = Store(free_bytes_minimum=0)
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
