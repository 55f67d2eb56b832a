# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Verification detects any change of a closed year: a byte, figure, statistic, row, name or order."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.closed_years import YEAR, copied, filled_year, put, signed_off, stored, told, verified
from tests.support.filled import Filled
from tests.support.machines import settings_in
from veilleuse.collector.cli.main import run
from veilleuse.collector.closed_years.signatures import sign, signing_key
from veilleuse.collector.enrolment.ca import Authority
from veilleuse.collector.model.closed_years import canonical
from veilleuse.collector.settings import CollectorSettings


@contextmanager
def writing(settings: CollectorSettings) -> Iterator[sqlite3.Connection]:
    """Open the database as an attacker who has dropped the triggers."""
    with closing(sqlite3.connect(settings.data_dir / "data.db")) as connection, connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            if name.startswith("closed_"):
                connection.execute(f"DROP TRIGGER {name}")
        yield connection


def test_a_closed_year_is_not_changed_by_sql(place, veilleuse):
    """Triggers refuse UPDATE and DELETE."""
    told(veilleuse, "close", str(YEAR))
    with closing(sqlite3.connect(place.data_dir / "data.db")) as connection:
        for table in ("closed_years", "closed_statistics"):
            for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET sha256 = 'x'"):
                with pytest.raises(sqlite3.IntegrityError, match="never"):
                    connection.execute(statement)


@pytest.fixture(scope="module")
def closed_folder(template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the folder with two revisions of the year, and the path of the key."""
    folder = tmp_path_factory.mktemp("closed")
    with pytest.MonkeyPatch.context() as patch:
        settings = copied(folder, template, patch)
        assert run(["close", str(YEAR)]) == 3
        assert run(["close", str(YEAR), *signed_off(settings), "--why", "complete"]) == 0
    key = (settings.data_dir / "closed" / "key.pem").read_text()
    (folder / "key.pem").write_text(key)
    return settings.data_dir / "closed", str(folder / "key.pem")


def _copied(closed_folder: tuple[Path, str], tmp_path: Path) -> Path:
    shutil.copytree(closed_folder[0], tmp_path / "closed")
    return tmp_path / "closed" / "2025-r2.json"


def test_any_changed_byte_is_found(closed_folder, tmp_path, veilleuse):
    """A changed byte is found anywhere in the file and its signature, and so is a cut or longer file."""
    path = _copied(closed_folder, tmp_path)
    assert veilleuse("verify", str(path), "--key", closed_folder[1])[0] == 0
    for file in (path, path.with_name("2025-r2.json.sig")):
        sound = file.read_bytes()
        step = max(1, len(sound) // 90)
        changes = [sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :] for at in range(0, len(sound), step)]
        changes += [sound[:-1], sound[: len(sound) // 2], b"", sound + b"\n", sound.swapcase()]
        for changed in changes:
            file.write_bytes(changed)
            assert veilleuse("verify", str(path), "--key", closed_folder[1])[0] == 1
        file.write_bytes(sound)
    assert veilleuse("verify", str(path), "--key", closed_folder[1])[0] == 0


def _changed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(path.read_bytes())
    change(document)
    path.write_bytes(
        b'{"report":'
        + canonical(document["report"])
        + b',"statistics":'
        + canonical(document["statistics"])
        + b"}\n"
    )


def test_a_statistic_or_a_figure_is_changed(closed_folder, tmp_path, veilleuse):
    """The signature detects a change in the exact form that this program writes."""
    path = _copied(closed_folder, tmp_path)
    sound = path.read_bytes()

    def more_machines(document: dict[str, Any]) -> None:
        document["statistics"]["fleet"][0]["machines"] += 1

    def less_carbon(document: dict[str, Any]) -> None:
        document["report"]["figures"]["totals"][0]["kgco2e_total"] = "1"

    for change in (more_machines, less_carbon):
        _changed(path, change)
        code, _, err = veilleuse("verify", str(path), "--key", closed_folder[1])
        assert code == 1, err
        path.write_bytes(sound)


def test_figures_that_are_not_those_of_the_statistics(place, veilleuse):
    """Wrong figures under the true key's signature are found, because they are computed again."""
    told(veilleuse, "close", str(YEAR))
    one, file = stored(place)
    document = json.loads(file.report) | {
        "revision": 2,
        "report_id": "2025-r2",
        "previous_sha256": one.sha256,
    }
    document["figures"]["totals"][0]["kwh_total"] = "1"
    put(place, document, file.statistics)
    found = told(veilleuse, "verify", str(YEAR), code=1)
    assert [entry["verified"] for entry in found] == [True, False]
    assert "not those of its statistics" in found[1]["wrong"][0]


def test_an_older_revision_is_played_again(closed_folder, tmp_path, veilleuse):
    """The first revision is refused under the second's name; under its own it is valid but superseded."""
    path = _copied(closed_folder, tmp_path)
    for ending in ("", ".sig"):
        shutil.copy(path.with_name(f"2025-r1.json{ending}"), f"{path}{ending}")
    code, _, err = veilleuse("verify", str(path), "--key", closed_folder[1])
    assert (code, "under the name of another" in err) == (1, True)
    path = _copied(closed_folder, tmp_path / "again")
    code, out, _ = veilleuse("verify", str(path.with_name("2025-r1.json")), "--key", closed_folder[1])
    assert (code, "it is superseded" in out) == (3, True)


def test_two_years_are_swapped(closed_folder, tmp_path, veilleuse):
    """A file under another year's name is refused."""
    path = _copied(closed_folder, tmp_path)
    for ending in ("", ".sig"):
        path.with_name(f"{path.name}{ending}").rename(path.with_name(f"2024-r2.json{ending}"))
    code, _, err = veilleuse("verify", str(path.with_name("2024-r2.json")), "--key", closed_folder[1])
    assert (code, "under the name of another" in err) == (1, True)


def test_the_store_is_tampered_with(place, veilleuse):
    """A changed year, a deleted or replaced revision and replaced statistics are found."""
    told(veilleuse, "close", str(YEAR))
    told(veilleuse, "close", str(YEAR), *signed_off(place), "--why", "complete")
    sound = (place.data_dir / "data.db").read_bytes()
    statements = (
        "UPDATE closed_years SET year = 2024 WHERE revision = 2",
        "DELETE FROM closed_years WHERE revision = 2",
        "DELETE FROM closed_years WHERE revision = 1",
        "UPDATE closed_years SET state = 'closed_definitive' WHERE revision = 1",
        (
            "UPDATE closed_years SET (report, signature, sha256) = (SELECT report, signature, sha256 FROM closed_years WHERE revision = 1)"
            " WHERE revision = 2"
        ),
        "UPDATE closed_statistics SET json = x'00'",
        "UPDATE closed_years SET report = x'789c03000000000001' WHERE revision = 2",
    )
    for statement in statements:
        with writing(place) as connection:
            connection.execute("PRAGMA foreign_keys = OFF")
            connection.execute(statement)
        codes = {veilleuse("verify", year)[0] for year in ("2025", "2024")}
        assert 1 in codes, statement
        for ending in ("-wal", "-shm"):
            place.data_dir.joinpath(f"data.db{ending}").unlink(missing_ok=True)
        (place.data_dir / "data.db").write_bytes(sound)
    verified(told(veilleuse, "verify", str(YEAR)))


def test_signed_by_a_stranger(place, tmp_path, veilleuse):
    """A valid file signed with another directory's key and authority is refused once the key is named."""
    told(veilleuse, "close", str(YEAR))
    key = told(veilleuse, "close", "--key")["public_key"]
    _, file = stored(place)
    (tmp_path / "other").mkdir()
    other = settings_in(tmp_path / "other")
    filled_year(other, machines=0)
    content = file.content
    path = tmp_path / "2025-r1.json"
    path.write_bytes(content)
    path.with_name("2025-r1.json.sig").write_bytes(
        sign(content, signing_key(other.data_dir), Authority(other.data_dir, other.pki))
    )
    assert veilleuse("verify", str(path))[0] == 3
    code, _, err = veilleuse("verify", str(path), "--key", key)
    assert (code, "signed by another key" in err) == (1, True)


def test_workstation_hosts_are_in_no_file(place, veilleuse):
    """The file holds no agent id and no host number, and no cell of fewer than 10 machines but servers'."""
    told(veilleuse, "close", str(YEAR))
    content = (place.data_dir / "closed" / "2025-r1.json").read_text()
    with Filled(place.data_dir) as filled:
        for host in filled.store.registry.hosts():
            assert host.agent_id.hex() not in content
    document = json.loads(content)
    assert "host" not in json.dumps(document["statistics"])
    for cell in document["statistics"]["cells"]:
        assert cell["machines"] >= 10 or cell["stratum"]["population"] == "server"
