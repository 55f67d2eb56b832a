# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reports on imported devices without a site or a day, and on machines that were revoked."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.closed_years import command, lead_commands_to
from tests.support.machines import served
from tests.unit.collector.cli.test_inventory_command import LIST, Command, Place, asked
from veilleuse.collector.cli.main import run
from veilleuse.wire.vocabulary import Population

WITHOUT_SITES = """\
key;device_class;entity;site
1;tower;Métropole > DSI;
2;tower;Métropole > DSI;Bron
3;tower;Métropole > DSI;Lyon
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Make the place, and set its settings in the environment."""
    made = Place(tmp_path)
    lead_commands_to(made.settings, monkeypatch)
    return made


@pytest.fixture
def veilleuse(capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function: `veilleuse("show")` → (exit code, output, errors)."""
    return command(capsys, "inventory")


@pytest.mark.parametrize("zone", ["FR", "DE"])
def test_a_list_without_sites_has_a_report(
    place: Place,
    veilleuse: Command,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    zone: str,
):
    """Devices without a site or at an undeclared one have the zone of the settings, and the report counts
    them."""
    monkeypatch.setenv("VEILLEUSE__REPORTING__ZONE", zone)
    with served(place.settings):
        asked(veilleuse, "import", place.file(WITHOUT_SITES), code=3)  # Bron is not declared
    words = ("report", "emissions", "--from", "2024-01-01", "--to", "2025-01-01", "--format")
    assert run([*words, "json"]) == 0, capsys.readouterr().err
    document = json.loads(capsys.readouterr().out)
    head = document["report"]
    assert (head["devices_without_day"], head["devices_without_site"], head["default_zone"]) == (3, 2, zone)
    assert {row["zone"] for row in document["rows"]} == {zone, "FR"}
    assert sum(row["n_fleet"] for row in document["rows"]) == 3
    for language, said in (
        ("fr", "sans site déclaré, comptés dans la zone électrique"),
        ("en", "without a declared site"),
    ):
        assert run([*words, "html", "--language", language]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert said in shown
        assert {"fr": "sans date de mise en service", "en": "without a day of service"}[language] in shown


def test_a_zone_without_a_factor_is_told_with_what_mends_it(
    place: Place, veilleuse: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """The error names the declared site, or the setting for devices without one."""
    with served(place.settings):
        asked(veilleuse, "import", place.file(WITHOUT_SITES), code=3)  # Bron is not declared
    words = ("report", "emissions", "--from", "2024-01-01", "--to", "2025-01-01")
    monkeypatch.setenv("VEILLEUSE__REPORTING__ZONE", "XX")
    assert run([*words]) != 0
    assert "reporting.zone" in capsys.readouterr().err
    monkeypatch.delenv("VEILLEUSE__REPORTING__ZONE")
    with closing(sqlite3.connect(place.settings.data_dir / "data.db")) as data:
        data.execute("UPDATE sites SET zone = 'XX' WHERE site = 'Lyon'")
        data.commit()
    assert run([*words]) != 0
    told = capsys.readouterr().err
    assert "zone 'XX'" in told
    assert "'Lyon'" in told
    assert "veilleuse factors import" in told


def test_a_machine_that_was_revoked_was_its_asset(place: Place, veilleuse: Command):
    """The asset then has no machine but remembers the revoked one. A machine that enrols with the same serial
    number is matched with it. A forgotten machine leaves no trace.
    """
    place.gives_serial(Population.SERVER, "SERIALCANARI1")
    old = place.hosts[Population.SERVER]
    with served(place.settings) as serving:
        assert asked(veilleuse, "import", place.file(LIST))["matching"]["matched"] == 1
        serving.collector.operations.perform("host_status", {"host": old.agent_id.hex(), "status": "revoked"})
        assert asked(veilleuse, "review", "list")["matched"] == 0
        asset = place.assets()[0]
        assert (asset.host_id, asset.earlier_host_ids) == (None, (old.host_id,))
    place.gives_serial(Population.CLASSROOM, "SERIALCANARI1")
    new = place.hosts[Population.CLASSROOM]
    with served(place.settings) as serving:
        again = asked(veilleuse, "review", "list")
        assert (again["matched"], again["doubts"], again["review"]) == (1, 0, [])
        asset = place.assets()[0]
        assert (asset.host_id, asset.earlier_host_ids, asset.host_ids) == (
            new.host_id,
            (old.host_id,),
            (old.host_id, new.host_id),
        )
        assert asked(veilleuse, "review", "list")["links_changed"] == 0
        wanted = {"host": old.agent_id.hex(), "who": "t", "why": "t"}
        serving.collector.operations.perform("host_forget", wanted)
        assert place.assets()[0].host_ids == (new.host_id,)
        assert asked(veilleuse, "review", "list")["links_changed"] == 0


def test_what_an_operator_said_of_a_machine_outlives_its_revocation(place: Place, veilleuse: Command):
    """A match by hand survives revocation; with its successor matched by hand too, both were that asset."""
    with served(place.settings) as serving:
        asked(veilleuse, "import", place.file(LIST))
        for population in (Population.WORKSTATION, Population.CLASSROOM):
            agent = place.agent(population)
            assert veilleuse("review", "match", "SRV-CANARI", agent)[0] == 0
            if population is Population.WORKSTATION:
                serving.collector.operations.perform("host_status", {"host": agent, "status": "revoked"})
        asset = place.assets()[0]
        assert asset.earlier_host_ids == (place.hosts[Population.WORKSTATION].host_id,)
        assert asset.host_id == place.hosts[Population.CLASSROOM].host_id
