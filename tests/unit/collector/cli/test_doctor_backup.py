# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse doctor` tells the age of backups and of their copies elsewhere, and a lost register."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support import clock
from tests.support.backups import ORDER, directory, make_backup, put_back
from tests.unit.collector.cli.test_doctor import DAY_MILLISECONDS, NOW, SEALING, found, warnings
from veilleuse.collector.admin.operations import AdminServer
from veilleuse.collector.app.data_directory import open_collector
from veilleuse.collector.cli.doctor import check_service
from veilleuse.collector.cli.doctor.storage import check_backup
from veilleuse.collector.errors import StoreFailing
from veilleuse.collector.settings import CollectorSettings


def copied(settings: CollectorSettings, days: int) -> Path:
    """Note a copy elsewhere of a backup of so many days ago, as docs/install-debian.md does."""
    made = clock.now() - timedelta(days=days)
    note = settings.data_dir / "backup.elsewhere"
    note.write_text(f"{'0f' * 32}  veilleuse-{made:%Y%m%dT%H%M%SZ}.backup\n", encoding="ascii")
    note.chmod(0o600)
    return note


def test_the_age_of_the_last_backup(tmp_path):
    """No backup or one of 8 days warns, one of a day does not; a restore is mentioned."""
    settings = directory(tmp_path, overrides=SEALING)
    copied(settings, days=0)
    assert "no backup was ever made" in warnings(check_backup, settings)[0]
    for days, count in ((8, 1), (1, 0)):
        with open_collector(settings) as collector:
            made = NOW - days * DAY_MILLISECONDS
            collector.operations.perform("backup_done", {"made_unix_milliseconds": made})
        assert len(warnings(check_backup, settings)) == count
    put_back(settings, make_backup(settings, tmp_path / "b"))
    assert any("restored 1 time(s)" in text for _, text in found(check_backup, settings))


def test_the_age_of_the_newest_copy_elsewhere(tmp_path):
    """It is judged like a backup; where nobody noted one, or in words of his own, it is not known."""
    settings = directory(tmp_path, overrides=SEALING)
    with open_collector(settings) as collector:
        collector.operations.perform("backup_done", {"made_unix_milliseconds": NOW})
    (text,) = warnings(check_backup, settings)
    assert "on another machine is not known; copy each backup" in text
    note = copied(settings, 0)
    for days, outcome in ((1, "good"), (8, "warning"), (31, "failed")):
        copied(settings, days)
        (said,) = [each for each, text in found(check_backup, settings) if "newest copy" in text]
        assert said == outcome
    line = note.read_text()
    for damaged in ("", "copied today\n", line * 2, line.replace("T", "T9")):
        note.write_text(damaged)
        assert "not known" in warnings(check_backup, settings)[0]


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_register_that_cannot_be_written_has_failed(tmp_path, is_replaced):
    """It is told before somebody needs it. A missing one is not begun anew without its lines."""
    folder = tmp_path / "other-disk"
    folder.mkdir()
    settings = directory(tmp_path, overrides={"pki.register_file": str(folder / "register.jsonl")})
    register = folder / "register.jsonl"
    lines = register.read_text().count("token")
    with open_collector(settings) as collector, closing(AdminServer(settings.data_dir, collector.operations)):
        assert not [text for text in warnings(check_service, settings) if "register" in text]
        register.unlink()
        if is_replaced:
            register.mkdir()
        (text,) = [text for text in warnings(check_service, settings) if "register" in text]
        with pytest.raises(StoreFailing, match="cannot write the register"):
            collector.operations.perform("token_create", ORDER)
        if is_replaced:
            register.rmdir()
    assert f"the register {register} cannot be written: " in text
    assert "then restart the collector" in text
    with open_collector(settings) as collector, closing(AdminServer(settings.data_dir, collector.operations)):
        assert not [text for text in warnings(check_service, settings) if "register" in text]
    assert register.read_text().count("token") == lines


def test_backups_that_nobody_seals_are_a_warning(tmp_path):
    """Backups contain names and keys, and the remedy makes a key to seal them."""
    settings = directory(tmp_path)
    (text,) = [one for one in warnings(check_backup, settings) if "not sealed" in one]
    assert "'veilleuse backup --new-key FILE'" in text
    sealing = directory(tmp_path / "sealing", overrides=SEALING)
    assert not any("sealed" in text for _, text in found(check_backup, sealing))


def test_the_first_backup_restored_is_a_backup(tmp_path):
    """A backup cannot contain the note that it was made, but its restore proves it."""
    settings = directory(tmp_path)
    put_back(settings, make_backup(settings, tmp_path / "b"))
    assert not any("no backup was ever made" in text for text in warnings(check_backup, settings))


def test_simulated_data_need_no_backup(tmp_path):
    """Simulated data can be made again."""
    assert warnings(check_backup, directory(tmp_path, simulated=True)) == []
