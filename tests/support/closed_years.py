# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Create data directories with records of 2025 that can be closed, for the tests of closing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.filled import Filled
from tests.support.machines import settings_in
from tests.support.rolled import roll, server_day, workstation_days
from veilleuse.collector.app.data_directory import initialise
from veilleuse.collector.cli.main import run
from veilleuse.collector.closed_years.signatures import sign, signing_key
from veilleuse.collector.enrolment.ca import Authority
from veilleuse.collector.model.closed_years import (
    ClosedFile,
    ClosedYear,
    YearState,
    canonical,
    pack,
    sha256,
)
from veilleuse.collector.settings import CollectorSettings, settings_environment
from veilleuse.collector.store.sqlite.closed_years import SqliteClosingsReader
from veilleuse.wire.vocabulary import DeviceClass, Population

Command = Callable[..., tuple[int, str, str]]
"""`veilleuse("close", "2025")` returns (exit code, output, errors)."""

YEAR = 2025
PERIOD = ("--from", f"{YEAR}-01-01", "--to", f"{YEAR + 1}-01-01")
TODAY = date(2026, 6, 1)
"""On this day the factor of 2025 is published, and the machines' months of 2025 are all kept."""


def filled_year(settings: CollectorSettings, machines: int = 12) -> None:
    """Fill a data directory: workstations of two entities over four weeks of 2025, and a server for two days.
    The records are derived and rolled up to months."""
    initialise(settings)
    with Filled(settings.data_dir) as filled:
        for number in range(machines):
            host = filled.add_host(
                Population.WORKSTATION,
                DeviceClass.TOWER,
                entity="Voirie" if number % 3 else "Eau",
                enrolled_on=date(2025, 1, 1),
            )
            workstation_days(filled, host, date(2025, 1, 6), date(2025, 2, 3), watts=20 + number)
        server = filled.add_host(enrolled_on=date(2025, 3, 1))
        for day in (date(2025, 3, 3), date(2025, 3, 4)):
            server_day(filled, server, day)
        filled.derive()
        roll(filled, TODAY)


def two_years(settings: CollectorSettings) -> None:
    """Fill a data directory for each month of 2024 and 2025: a week of twelve workstations, a day of a
    server. The workstations stay on at night until June 2024. Records are derived and rolled up to months."""
    initialise(settings, site="Lyon")
    with Filled(settings.data_dir) as filled:
        server = filled.add_host(
            Population.SERVER, DeviceClass.SERVER, site="Lyon", enrolled_on=date(2024, 1, 1)
        )
        machines = [
            filled.add_host(
                Population.WORKSTATION, DeviceClass.TOWER, site="Lyon", enrolled_on=date(2024, 1, 1)
            )
            for _ in range(12)
        ]
        for month in range(24):
            year, number = 2024 + month // 12, month % 12 + 1
            monday = date(year, number, 8 - date(year, number, 1).weekday())
            server_day(filled, server, monday)
            for host in machines:
                workstation_days(
                    filled, host, monday, monday + timedelta(days=7), night_on=month < 6, watts=20
                )
        filled.derive()
        roll(filled, date(2026, 1, 5))


def watch(filled: Filled, year: int) -> None:
    """Add five weeks from March of `year` for every machine: enough to compare that year with another one."""
    monday = date(year, 3, 1) + timedelta(days=-date(year, 3, 1).weekday() % 7)
    for host in filled.store.registry.hosts():
        if host.population is Population.WORKSTATION:
            workstation_days(
                filled, host.host_id, monday, monday + timedelta(days=35), watts=20 + host.host_id
            )
        else:
            for day in range(35):
                server_day(filled, host.host_id, monday + timedelta(days=day), watts=100)
    filled.derive()
    roll(filled, TODAY)


def copied(folder: Path, template: Path, monkeypatch: pytest.MonkeyPatch) -> CollectorSettings:
    """Copy the data directory `template` below `folder` and set the environment for the commands. Its
    settings require no coverage for closing. Return the settings."""
    settings = settings_in(folder, **{"closing.coverage_minimum_ratio": "0"})
    shutil.copytree(template, settings.data_dir)
    lead_commands_to(settings, monkeypatch)
    return settings


def lead_commands_to(settings: CollectorSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment so that commands use these settings."""
    for name, value in settings_environment(settings).items():
        monkeypatch.setenv(name, value)


def command(capsys: pytest.CaptureFixture[str], *group: str) -> Command:
    """Return a function that runs `veilleuse`, or a group of its commands, in this process: it returns (exit
    code, output, errors)."""

    def call(*words: str) -> tuple[int, str, str]:
        code = run((*group, *words))
        return code, *capsys.readouterr()

    return call


def told(veilleuse: Command, *words: str, code: int = 0) -> Any:
    """Run a command with `--json`, check its exit code, and return its parsed output. A provisional closing
    that nobody signed off has an open point: code 3."""
    found, out, err = veilleuse(*words, "--json")
    unsigned = words[0] == "close" and code == 0 and "--sign-off" not in words
    assert found == code or (unsigned and found == 3), err
    return json.loads(out)


SIGN_OFF = """
[organisation]
name = "Métropole"
control = "operational"
boundary = "Postes et serveurs de la métropole, sans les collèges."
exclusion_threshold_percent = 5
[base_year]
year = 2019
why = "Première année avec un bilan."
recalculation_threshold_percent = 2.5
kgco2e = 4000
[gwp]
edition = "IPCC AR5"
source = "Documentation of the factors"
[preparer]
function = "Chargée de mission numérique responsable"
name = "Ada Un"
date = 2026-02-01
[reviewer]
function = "Contrôleur de gestion"
name = "Bob Deux"
date = 2026-02-10
[approver]
function = "Directrice générale adjointe"
name = "Cléo Trois"
date = "2026-02-20"
"""
"""Complete sign-off of the year 2025."""


def signed_off(settings: CollectorSettings, text: str = SIGN_OFF) -> tuple[str, ...]:
    """Write a sign-off beside the data directory. Return the options of a definitive closing with it."""
    path = settings.data_dir.parent / "sign_off.toml"
    path.write_text(text)
    return "--definitive", "--sign-off", str(path)


def report(veilleuse: Command, *words: str) -> dict[str, Any]:
    """Return the emissions report of the year 2025 as parsed JSON, and check that the command succeeds."""
    code, out, err = veilleuse("report", "emissions", *PERIOD, "--format", "json", *words)
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def verified(found: list[dict[str, Any]]) -> list[Any]:
    """Check that every revision in `found` is verified; return their totals in the same order."""
    assert all(one["verified"] for one in found), found
    return [one["totals"] for one in found]


def stored(settings: CollectorSettings, revision: int = 1) -> tuple[ClosedYear, ClosedFile]:
    """Return a stored revision of the year 2025 and its file."""
    with closing(SqliteClosingsReader(settings.data_dir)) as reader:
        one = reader.revisions(YEAR)[revision - 1]
        return one, reader.file(one)


def put(settings: CollectorSettings, document: dict[str, Any], statistics: bytes) -> None:
    """Sign a revision with the directory's own key and store it."""
    unsigned = ClosedFile(canonical(document), statistics, b"")
    content = unsigned.content
    signature = sign(content, signing_key(settings.data_dir), Authority(settings.data_dir, settings.pki))
    made = ClosedYear(
        document["year"],
        document["revision"],
        YearState(document["state"]),
        document["closed_unix_milliseconds"],
        sha256(statistics),
        sha256(content),
    )
    with Filled(settings.data_dir) as filled:
        filled.store.closings.put(made, pack(replace(unsigned, signature=signature)))
