# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A restore returns everything a backup holds; a damaged, foreign or incompatible backup changes nothing."""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import tarfile
from contextlib import closing
from datetime import UTC, datetime

import pytest

from tests.promises.support.disks import MIB, fill, tmpfs
from tests.support.backups import (
    NOW,
    add_tokens,
    content_of,
    directory,
    edit_manifest,
    make_backup,
    put_back,
    rewritten,
    tokens_in,
)
from tests.support.machines import settings_in
from tests.support.pushes import enrol
from veilleuse.collector.app.data_directory import open_collector
from veilleuse.collector.backup.destination import (
    destination,
    new_backup,
    only_backup,
    require_outside,
    require_room,
    rotate,
)
from veilleuse.collector.cli.main import run
from veilleuse.collector.cli.shared import EXIT_WARNINGS
from veilleuse.collector.errors import (
    BackupUnusable,
    CollectorError,
    DataDirectoryError,
    StoreFailing,
    StoreTooNew,
    UsageError,
)
from veilleuse.collector.store.directory import database_bytes
from veilleuse.collector.store.sqlite.reader import SqliteReader
from veilleuse.wire.vocabulary import Population

KEY = bytes(range(32))


@pytest.mark.parametrize("key", [None, KEY], ids=["open", "sealed"])
def test_what_was_backed_up_comes_back(tmp_path, key):
    """Databases, fleet key and authority are as they were, with private modes.
    The files of the directory before the restore are moved aside."""
    settings = directory(tmp_path, tokens=3)
    path = make_backup(settings, tmp_path / "b", key)
    keys = {name: text for name, text in content_of(settings.data_dir).items() if not name.endswith(".db")}
    add_tokens(settings, 4)
    (settings.data_dir / "fleet.key").write_text("00" * 32)
    newer = content_of(settings.data_dir)
    # a restore moves neither the register nor the publications beside it
    beside = {name: newer.pop(name) for name in ("register.jsonl", "register.jsonl.publications")}

    restored, carried_on = put_back(settings, path, key)
    assert not carried_on
    assert tokens_in(settings.data_dir) == 3
    assert restored.replaced == settings.data_dir / "replaced-20260301T120000Z"
    assert content_of(restored.replaced) == newer
    now = content_of(settings.data_dir)
    keys |= beside
    assert {name: now[name] for name in keys} == keys
    for file in settings.data_dir.rglob("*"):
        assert file.stat().st_mode & 0o777 == (0o700 if file.is_dir() else 0o600), file
    with open_collector(settings) as collector:
        assert len(collector.operations.perform("token_list", {})) == 7  # from the register


def test_nothing_but_the_set_is_in_it(tmp_path):
    """Lock, socket, register and files replaced by a restore are not in the backup.
    The databases have no WAL, so that any SQLite opens them."""
    settings = directory(tmp_path)
    (settings.data_dir / "replaced-20250101T000000Z").mkdir()
    (settings.data_dir / "replaced-20250101T000000Z/data.db").write_bytes(b"old")
    (settings.data_dir / "register.jsonl").touch(0o600)
    path = make_backup(settings, tmp_path / "b")
    with tarfile.open(path) as tar:
        names = set(tar.getnames())
        tar.extractall(tmp_path / "out", filter="data")
    assert {
        "manifest.json",
        "data.db",
        "identity.db",
        "fleet.key",
        "ca/root.pem",
        "ca/intermediate.key",
    } <= names
    assert not [
        name for name in names if name.startswith(("lock", "admin", "register", "replaced")) or "wal" in name
    ]
    with closing(sqlite3.connect(f"file:{tmp_path}/out/data.db?mode=ro&immutable=1", uri=True)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert connection.execute("SELECT count(*) FROM tokens").fetchone() == (1,)


def test_a_restore_is_noted_in_the_data(tmp_path):
    """The number of restores, the last one's time and its backup's time are stored for doctor and reports."""
    settings = directory(tmp_path)
    path = make_backup(settings, tmp_path / "b")
    for _ in range(2):
        put_back(settings, make_backup(settings, path))
    with closing(SqliteReader(settings.data_dir)) as reader:
        extra = reader.data_kind().extra
    moment = str(round(NOW.timestamp() * 1000))
    assert extra["restores"] == "2"
    assert extra["last_restore_unix_milliseconds"] == extra["restored_backup_unix_milliseconds"] == moment


def test_two_restores_in_one_second_replace_nothing_twice(tmp_path):
    """Each restore has its own folder for what it replaces."""
    settings = directory(tmp_path)
    path = make_backup(settings, tmp_path / "b")
    folders = {put_back(settings, path)[0].replaced for _ in range(3)}
    assert len(folders) == 3


def test_a_new_machine_needs_no_init(tmp_path):
    """A directory that does not exist becomes the collector of the backup, real or simulated."""
    for simulated in (False, True):
        source = directory(tmp_path / f"source{simulated}", simulated=simulated)
        path = make_backup(source, tmp_path / f"b{simulated}")
        fresh = settings_in(tmp_path / f"fresh{simulated}")
        restored, _ = put_back(fresh, path)
        assert restored.replaced is None
        with open_collector(fresh) as collector:
            assert collector.simulated is simulated
            assert collector.issuing.authority.root_sha256


def test_simulated_never_takes_the_place_of_real(tmp_path):
    """Real never replaces simulated either; nothing is changed."""
    real, simulated = directory(tmp_path / "r"), directory(tmp_path / "s", simulated=True)
    for source, target in ((real, simulated), (simulated, real)):
        path = make_backup(source, tmp_path / "b")
        before = content_of(target.data_dir)
        with pytest.raises(BackupUnusable, match="never mixed"):
            put_back(target, path)
        assert content_of(target.data_dir) == before


def test_another_collector_s_backup_takes_no_machine_s_place(tmp_path):
    """Once a machine is enrolled, another collector's backup is refused and nothing is changed.
    Before that, an `init` by mistake is no obstacle."""
    other = make_backup(directory(tmp_path / "other"), tmp_path / "b")
    settings = directory(tmp_path / "mine")
    with open_collector(settings) as collector:
        collector.issuing.commit(lambda: enrol(collector.store.registry, Population.SERVER, "Lyon"))
    before = content_of(settings.data_dir)
    with pytest.raises(BackupUnusable, match="of another collector"):
        put_back(settings, other)
    assert content_of(settings.data_dir) == before
    put_back(settings, make_backup(settings, tmp_path / "own"))
    put_back(directory(tmp_path / "empty"), other)


def test_a_damaged_directory_is_replaced(tmp_path):
    """A damaged file does not show its kind, so the restore goes ahead and moves the file aside unchanged."""
    settings = directory(tmp_path)
    path = make_backup(settings, tmp_path / "b")
    (settings.data_dir / "data.db").write_bytes(b"rubbish" * 1000)
    restored, _ = put_back(settings, path)
    assert tokens_in(settings.data_dir) == 1
    assert restored.replaced is not None
    assert (restored.replaced / "data.db").read_bytes() == b"rubbish" * 1000


def test_a_running_collector_is_not_restored(tmp_path):
    """The refusal names the process that holds the lock."""
    settings = directory(tmp_path)
    path = make_backup(settings, tmp_path / "b")
    with open_collector(settings), pytest.raises(DataDirectoryError, match=f"in use by pid {os.getpid()}"):
        put_back(settings, path)


def _flip(name):
    def change(members):
        content = bytearray(members[name])
        content[len(content) // 2] ^= 1
        members[name] = bytes(content)

    return change


def _newer_schema(members):
    """Make the database one of a later release, with a manifest that agrees."""
    raw = bytearray(members["data.db"])
    raw[60:64] = (99).to_bytes(4, "big")  # user_version, sqlite.org/fileformat.html §1.3
    members["data.db"] = bytes(raw)

    def told(manifest):
        manifest["schema"]["data.db"] = 99
        for file in manifest["files"]:
            if file["name"] == "data.db":
                file["sha256"] = hashlib.sha256(raw).hexdigest()

    edit_manifest(members, told)


def _damaged_inside(members):
    """Damage the database under a correct hash: only quick_check detects the damage."""
    raw = bytearray(members["data.db"])
    raw[4096 * 2 : 4096 * 4] = b"\xff" * 8192
    members["data.db"] = bytes(raw)

    def told(manifest):
        for file in manifest["files"]:
            if file["name"] == "data.db":
                file["sha256"] = hashlib.sha256(raw).hexdigest()

    edit_manifest(members, told)


def _renamed(name, new):
    def change(members):
        members[new] = members.pop(name)

        def told(manifest):
            for file in manifest["files"]:
                if file["name"] == name:
                    file["name"] = new

        edit_manifest(members, told)

    return change


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (_flip("data.db"), "data.db is damaged"),
        (_flip("fleet.key"), "fleet.key is damaged"),
        (_newer_schema, "newer schema.*install veilleuse 0.2.0"),
        (_damaged_inside, "the copy of data.db is damaged"),
        (lambda members: members.pop("identity.db"), "lacks identity.db"),
        (lambda members: members.update({"data.db": members["data.db"] + b"x"}), "differs from its manifest"),
        (lambda members: members.update(extra=b"x"), "'extra', which differs from"),
        (lambda members: members.pop("manifest.json"), "no backup of veilleuse"),
        (lambda members: members.update({"manifest.json": b"{}"}), "manifest cannot be read"),
        (lambda members: members.update({"manifest.json": b"[" * 60_000}), "manifest cannot be read"),
        (lambda members: members.update({"manifest.json": b" " * (1 << 21)}), "too long"),
        (lambda members: edit_manifest(members, lambda told: told.update(format=2)), "its format is 2"),
        (lambda members: edit_manifest(members, lambda told: told["files"].pop()), "lacks|other than"),
        (lambda members: edit_manifest(members, lambda told: told.update(schema={})), "contradicts"),
        (_renamed("ca/root.key", "../escaped"), "not a file of a collector"),
        (_renamed("ca/root.key", "ca/../../escaped"), "not a file of a collector"),
        (_renamed("ca/root.key", "/etc/escaped"), "not a file of a collector"),
        (_renamed("ca/root.key", "lock"), "not a file of a collector"),
        (_renamed("fleet.key", "ca/fleet.key"), "lacks fleet.key"),
    ],
)
def test_what_is_not_whole_touches_nothing(tmp_path, change, error):
    """Each is refused with one line that names the file; the directory is unchanged, without a left-over."""
    settings = directory(tmp_path)
    path = rewritten(make_backup(settings, tmp_path / "b"), change)
    before = content_of(tmp_path)
    with pytest.raises(BackupUnusable, match=error) as caught:
        put_back(settings, path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert content_of(tmp_path) == before


def test_a_cut_backup_touches_nothing(tmp_path):
    """A backup cut at any place is refused, sealed or not."""
    settings = directory(tmp_path)
    for key in (None, KEY):
        whole = make_backup(settings, tmp_path / "b", key).read_bytes()
        before = content_of(settings.data_dir)
        for size in [
            *range(0, len(whole) - 10_240, len(whole) // 15),
            len(whole) - (20_000 if key is None else 1),
        ]:
            (tmp_path / "cut").write_bytes(whole[:size])
            with pytest.raises(BackupUnusable):
                put_back(settings, tmp_path / "cut", key)
        assert content_of(settings.data_dir) == before


def test_the_key_is_asked_for(tmp_path):
    """A sealed backup needs its own key; an open one ignores a key; a missing or foreign file is refused."""
    settings = directory(tmp_path)
    sealed = make_backup(settings, tmp_path / "sealed", KEY)
    with pytest.raises(BackupUnusable, match="--key-file"):
        put_back(settings, sealed)
    with pytest.raises(BackupUnusable, match="another key"):
        put_back(settings, sealed, bytes(32))
    put_back(settings, make_backup(settings, tmp_path / "open"), KEY)
    with pytest.raises(BackupUnusable, match="no backup"):
        put_back(settings, tmp_path / "none")
    (tmp_path / "other").write_bytes(b"something else" * 1000)
    with pytest.raises(BackupUnusable, match="no backup of veilleuse"):
        put_back(settings, tmp_path / "other")


@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
def test_an_open_backup_that_others_can_change_is_refused(tmp_path, mode):
    """Its keys would be anybody's. A sealed one cannot be changed, and one of mode 0644 only be read."""
    settings = directory(tmp_path)
    open_one = make_backup(settings, tmp_path / "open")
    open_one.chmod(mode)
    before = content_of(settings.data_dir)
    with pytest.raises(BackupUnusable, match=rf"has mode {mode:04o} .*chmod 600.*; nothing was touched"):
        put_back(settings, open_one)
    assert content_of(settings.data_dir) == before
    sealed = make_backup(settings, tmp_path / "sealed", KEY)
    sealed.chmod(mode)
    put_back(settings, sealed, KEY)
    open_one.chmod(0o644)
    put_back(settings, open_one)


def test_a_damaged_store_gives_no_backup(tmp_path):
    """A copy that quick_check finds damaged is refused, because older backups are better."""
    settings = directory(tmp_path, tokens=300)
    with (settings.data_dir / "data.db").open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(size - 8192)
        file.write(b"\xff" * 8192)
    with pytest.raises(CollectorError, match="damaged"):
        make_backup(settings, tmp_path / "b")


def test_copies_are_private_and_go_away(tmp_path):
    """Copies have modes 0700 and 0600; the next backup replaces those of a cut one, then removes them."""
    settings = directory(tmp_path)
    left = settings.data_dir / "backup.work"
    left.mkdir()
    (left / "data.db").write_bytes(b"half a copy")
    with open_collector(settings) as collector:
        copied = collector.operations.perform("backup_copy", {})
        assert copied["folder"] == str(left)
        assert left.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in left.rglob("*") if path.is_file()} == {0o600}
        assert (left / "data.db").read_bytes().startswith(b"SQLite format 3")
        collector.operations.perform("backup_done", {"made_unix_milliseconds": None})
        assert not left.exists()
    with closing(SqliteReader(settings.data_dir)) as reader:
        assert "last_backup_unix_milliseconds" not in reader.data_kind().extra


def test_no_room_for_a_copy_is_said_before(tmp_path):
    """The copy never uses the reserve that the collector needs to accept records."""
    with tmpfs(tmp_path / "disk", 16) as disk:
        settings = directory(
            disk, overrides={"store.free_bytes_minimum": str(2**62), "store.free_ratio_minimum": "0.5"}
        )
        fill(disk, 7 * MIB)
        with (
            open_collector(settings) as collector,
            pytest.raises(DataDirectoryError, match="free some space"),
        ):
            collector.operations.perform("backup_copy", {})
        assert not (settings.data_dir / "backup.work").exists()


def test_a_backup_that_fills_the_disk_leaves_no_copies(tmp_path, capsys):
    """With a little less or more room than it needs, a backup is whole and noted, or nothing of it stays."""
    with tmpfs(tmp_path / "disk", 64) as disk:
        settings = directory(disk)
        config = tmp_path / "collector.toml"
        limits = "[store]\nfree_bytes_minimum = 0\nfree_ratio_minimum = 0.0\n"
        config.write_text(f"data_dir = '{settings.data_dir}'\n{limits}")
        (to := disk / "backups").mkdir()
        codes = set()
        for room in range(-4096, 65536, 4096):
            filler = fill(disk, 2 * database_bytes(settings.data_dir) + room)
            code = run(["backup", str(to / f"{room}.backup"), "--config", str(config)])
            told = capsys.readouterr().err
            filler.unlink()
            codes.add(code)
            assert not (settings.data_dir / "backup.work").exists(), told
            assert len(list(to.iterdir())) == (code == EXIT_WARNINGS), told
            assert "nothing of it is left" in told or "MiB are free" in told or "not sealed" in told
            with closing(SqliteReader(settings.data_dir)) as reader:
                noted = "last_backup_unix_milliseconds" in reader.data_kind().extra
            assert noted == (EXIT_WARNINGS in codes)
            (to / f"{room}.backup").unlink(missing_ok=True)
        assert codes == {1, EXIT_WARNINGS}
        assert tokens_in(settings.data_dir) == 1


def test_copies_that_cannot_be_written_are_one_line(tmp_path):
    """A file in place of the folder, for instance, gives an error that names the folder."""
    settings = directory(tmp_path)
    (settings.data_dir / "backup.work").touch()
    with (
        open_collector(settings) as collector,
        pytest.raises((DataDirectoryError, StoreFailing), match=r"backup\.work"),
    ):
        collector.operations.perform("backup_copy", {})


# --- the destination


def test_the_name_is_ours_in_a_directory(tmp_path):
    """In a directory the name has UTC time and kind; a named file keeps its name and is never replaced."""
    made = destination(tmp_path, simulated=False, now=NOW)
    assert made.path == tmp_path / "veilleuse-20260301T120000Z.backup"
    assert (
        destination(tmp_path, simulated=True, now=NOW).path.name
        == "veilleuse-simulated-20260301T120000Z.backup"
    )
    named = tmp_path / "mine"
    assert destination(named, simulated=False, now=NOW).path == named
    named.touch()
    with pytest.raises(UsageError, match="exists"):
        destination(named, simulated=False, now=NOW)
    with pytest.raises(UsageError, match="no directory"):
        destination(tmp_path / "none/mine", simulated=False, now=NOW)
    require_outside(made, tmp_path / "data")
    with pytest.raises(UsageError, match="lost with it"):
        require_outside(made, tmp_path)


def test_it_appears_whole_or_not_at_all(tmp_path):
    """A whole file has its name and mode 0600. A part that failed or was killed is removed; a part that
    another process writes is not."""
    target = destination(tmp_path, simulated=False, now=NOW)
    with pytest.raises(ZeroDivisionError), new_backup(target) as file:
        file.write(bytes(1 // 0))
    assert list(tmp_path.iterdir()) == []
    killed, writing = tmp_path / ".killed.backup.part", tmp_path / ".writing.backup.part"
    killed.touch()
    with writing.open("wb") as other:
        fcntl.flock(other.fileno(), fcntl.LOCK_EX)
        with new_backup(target) as file:
            file.write(b"whole")
            assert not target.path.exists()
    assert {path.name for path in tmp_path.iterdir()} == {target.path.name, writing.name}
    assert target.path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="exists"), new_backup(target) as file:
        file.write(b"another")
    assert target.path.read_bytes() == b"whole"


def test_the_oldest_of_ours_go(tmp_path):
    """With --keep 2 the two newest of this kind stay, and so do all files with other names."""
    for name in (
        "veilleuse-20260101T000000Z.backup",
        "veilleuse-20260102T000000Z.backup",
        "veilleuse-20260103T000000Z.backup",
        "veilleuse-simulated-20250101T000000Z.backup",
        "veilleuse-before-the-move.backup",
        "other",
    ):
        (tmp_path / name).touch()
    target = destination(tmp_path, simulated=False, now=datetime(2026, 1, 4, tzinfo=UTC))
    assert [path.name[10:18] for path in rotate(target, 2)] == ["20260101"]
    assert len(list(tmp_path.iterdir())) == 5


def test_room_is_asked_for_before(tmp_path):
    """On one disk a backup needs twice the room: the copies and the file."""
    target = destination(tmp_path, simulated=False, now=NOW)
    disk = os.statvfs(tmp_path)
    free = disk.f_bavail * disk.f_frsize
    require_room(target, free // 4, beside=tmp_path)
    with pytest.raises(DataDirectoryError, match="on one disk"):
        require_room(target, free * 3 // 4, beside=tmp_path)


def test_one_backup_at_a_time(tmp_path):
    """A second backup is refused at once."""
    (tmp_path / "fleet.key").touch()
    with (
        only_backup(tmp_path),
        pytest.raises(DataDirectoryError, match="another backup"),
        only_backup(tmp_path),
    ):
        pass
    with only_backup(tmp_path):
        pass
    with pytest.raises(DataDirectoryError, match="veilleuse init"), only_backup(tmp_path / "none"):
        pass


def test_a_newer_store_is_not_opened_for_a_backup(tmp_path):
    """A schema of a later release is refused, as by every command."""
    settings = directory(tmp_path)
    with closing(sqlite3.connect(settings.data_dir / "data.db")) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreTooNew):
        make_backup(settings, tmp_path / "b")
