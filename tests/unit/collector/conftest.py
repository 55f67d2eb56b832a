# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Data directories for the tests of commands; the service of :8641, for the tests of the receiver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.closed_years import Command, command, copied, filled_year, lead_commands_to, two_years
from tests.support.fakes.authority import TestAuthority
from tests.support.machines import make, settings_in
from tests.support.service import Service, serving
from veilleuse.collector.app.data_directory import Collector, open_collector
from veilleuse.collector.settings import CollectorSettings, read_settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CollectorSettings:
    """Return the settings of an initialised data directory with the site hq, named in the environment too."""
    monkeypatch.setenv("VEILLEUSE__DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("VEILLEUSE__STORE__FREE_BYTES_MINIMUM", "0")
    made = read_settings(None)
    make(made, "hq")
    return made


@pytest.fixture
def lyon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CollectorSettings:
    """Return the settings of a data directory with the site Lyon, which commands find."""
    made = settings_in(tmp_path)
    make(made, "Lyon")
    lead_commands_to(made, monkeypatch)
    return made


@pytest.fixture
def opened(lyon: CollectorSettings) -> Iterator[Collector]:
    """Open the collector of the data directory."""
    with open_collector(lyon) as collector:
        yield collector


@pytest.fixture(scope="module")
def authority() -> TestAuthority:
    """Return one authority for all tests of a module: making keys is slow."""
    return TestAuthority()


@pytest.fixture
def service(tmp_path: Path, authority: TestAuthority, request: pytest.FixtureRequest) -> Iterator[Service]:
    """Run the service over an empty store with one site. The parameter of the fixture gives gRPC options."""
    with serving(tmp_path, authority, options=getattr(request, "param", ())) as made:
        yield made


# Fixtures of the tests of closing; other modules define their own fixtures by these names.


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data directory with some weeks of one year; tests copy it."""
    settings = settings_in(tmp_path_factory.mktemp("year"))
    filled_year(settings)
    return settings.data_dir


@pytest.fixture(scope="session")
def measured_years(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data directory with a week of every month of two years; tests copy it."""
    settings = settings_in(tmp_path_factory.mktemp("years"))
    two_years(settings)
    return settings.data_dir


@pytest.fixture
def place(tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> CollectorSettings:
    """Return a copy of `template`, with no required coverage."""
    return copied(tmp_path, template, monkeypatch)


@pytest.fixture
def veilleuse(capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a runner of the `veilleuse` command."""
    return command(capsys)
