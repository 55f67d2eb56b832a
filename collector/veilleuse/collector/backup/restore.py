# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A backup put in place of what a data directory holds, whatever moment it is cut at.

Three folders of the data directory, each renamed into the next when its step is whole and durable:
`restore.unpacked` (being unpacked and looked at: thrown away by the next restore), `restore.taking` (decided: the old files
go to `replaced-<UTC time>/` one by one), `restore.placing` (the new ones come in one by one). Every move is a rename within
the directory and may be done twice. While one of the last two exists nothing opens the directory
(directory.require_whole_directory), and `carry_on` ends what was begun.

The register of enrolments and revocations is not in the set: it stays where it is, and is replayed at every start.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Final

from veilleuse.collector.backup.archive import (
    MANIFEST_BYTES_MAXIMUM,
    MANIFEST_FILE,
    Archive,
    Manifest,
    manifest_from_json,
    open_archive,
    require_usable,
)
from veilleuse.collector.enrolment.ca import DRAFT, FOLDER
from veilleuse.collector.errors import BackupUnusable, CollectorError, DataDirectoryError, UsageError
from veilleuse.collector.store.sqlite.connection import Database
from veilleuse.collector.store.sqlite.directory import (
    DATA_FILE,
    FLEET_KEY_FILE,
    IDENTITY_FILE,
    REPLACED_PREFIX,
    RESTORE_PLACING,
    RESTORE_TAKING,
    RESTORE_UNPACKED,
    DirectoryLock,
    make_directory,
)
from veilleuse.collector.store.sqlite.registry_rows import read_data_kind
from veilleuse.wire.files import (
    make_own_folder,
    open_owned,
    own_folder,
    read_owned,
    rename_owned,
    replace_owned,
    sync_folder,
)
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

RESTORES_COUNT: Final = "restores"
"""Key in the table meta: how often this data was put back from a backup."""
RESTORE_NOTE: Final = "last_restore_unix_milliseconds"
RESTORED_BACKUP_NOTE: Final = "restored_backup_unix_milliseconds"
"""When the backup was made that was put back last."""
_PLAN_FILE: Final = "plan.json"
_FILES: Final = "files"
_ENDINGS: Final = ("-wal", "-shm", "-journal", "")
_REPLACED: Final = (
    *(database + ending for database in (DATA_FILE, IDENTITY_FILE) for ending in _ENDINGS),
    FLEET_KEY_FILE,
    FOLDER,
    DRAFT,
)


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """A restore that came to its end."""

    manifest: Manifest
    replaced: Path | None
    """Where what was there is now; None when there was nothing."""


def restore(
    data_dir: Path, file: Path | None, key_of: Callable[[], bytes | None], now: datetime
) -> tuple[RestoreResult, bool]:
    """Put `file` in place, and whether that carried on an earlier, cut restore of it; None: only carry on.

    `key_of` is asked for the key of a sealed backup. Raises DataDirectoryError while a collector runs, BackupUnusable with
    nothing touched, UsageError when there is neither a file nor something to carry on, StoreFull or OSError from the disk.
    """
    make_directory(data_dir)
    with DirectoryLock(data_dir):
        begun = carry_on(data_dir)
        if file is None:
            if begun is None:
                raise UsageError("no restore was cut here: name the backup, veilleuse restore FILE")
            return begun, True
        with open_archive(file, key_of) as archive:
            if begun is not None and begun.manifest == archive.manifest:
                return begun, True
            unpack(archive, data_dir, now)
        return put_in_place(data_dir), False


def unpack(archive: Archive, data_dir: Path, now: datetime) -> None:
    """Everything but touching: extract, look at every file and at what is in place. Raises BackupUnusable. Under the lock."""
    folder = data_dir / RESTORE_UNPACKED
    throw_away_unpacked(data_dir)
    manifest = archive.manifest
    _require_kind(data_dir, manifest)
    _require_room(data_dir, manifest)
    try:
        files = folder / _FILES
        make_own_folder(folder)
        make_own_folder(files)
        archive.extract(files)
        require_usable(files, manifest)
        _require_same_collector(data_dir, files)
        _note(files / DATA_FILE, manifest, now)
        replace_owned(folder / MANIFEST_FILE, manifest.to_json())
        plan = {"replaced": _new_replaced(data_dir, now)}
        replace_owned(folder / _PLAN_FILE, json.dumps(plan).encode())
        hand_over(folder, data_dir)
        _sync_tree(folder)
    except BaseException:
        throw_away_unpacked(data_dir)
        raise


def put_in_place(data_dir: Path) -> RestoreResult:
    """Take away what is there, put in what `unpack` left. Cut at any line, `carry_on` ends it. Raises OSError."""
    rename_owned(data_dir / RESTORE_UNPACKED, data_dir / RESTORE_TAKING)
    sync_folder(data_dir)
    restored = carry_on(data_dir)
    assert restored is not None
    return restored


def carry_on(data_dir: Path) -> RestoreResult | None:
    """End a restore that was cut; None when there is none. Under the directory's lock. Raises OSError."""
    taking, placing = data_dir / RESTORE_TAKING, data_dir / RESTORE_PLACING
    if taking.exists():
        _take_away(data_dir, _replaced_folder(data_dir, taking))
        rename_owned(taking, placing)
        sync_folder(data_dir)
    if not placing.exists():
        return None
    replaced = _replaced_folder(data_dir, placing)
    for path in sorted((placing / _FILES).iterdir()):
        rename_owned(path, data_dir / path.name)
    sync_folder(data_dir)
    manifest = manifest_from_json(read_owned(placing / MANIFEST_FILE, MANIFEST_BYTES_MAXIMUM))
    throw_away_unpacked(data_dir)
    rename_owned(placing, data_dir / RESTORE_UNPACKED)  # from here it counts as done; what is left is rubbish
    sync_folder(data_dir)
    throw_away_unpacked(data_dir)
    return RestoreResult(manifest, replaced if replaced.exists() else None)


def throw_away_unpacked(data_dir: Path) -> None:
    """Remove what a restore unpacked that never came to touch anything. Raises OSError."""
    if (folder := data_dir / RESTORE_UNPACKED).exists():
        shutil.rmtree(folder)


def _take_away(data_dir: Path, replaced: Path) -> None:
    present = [name for name in _REPLACED if (data_dir / name).exists()]
    if not present:
        return
    make_own_folder(replaced)
    for name in present:
        rename_owned(data_dir / name, replaced / name)
    sync_folder(replaced)
    sync_folder(data_dir)


def _replaced_folder(data_dir: Path, folder: Path) -> Path:
    """As the plan says. Raises DataDirectoryError when somebody changed it."""
    plan: Any = json.loads(read_owned(folder / _PLAN_FILE, 4096))
    name = str(plan["replaced"])
    if not name.startswith(REPLACED_PREFIX) or "/" in name:
        raise DataDirectoryError(f"{folder / _PLAN_FILE} is not what a restore writes: look at it by hand")
    return data_dir / name


def _new_replaced(data_dir: Path, now: datetime) -> str:
    """A name nobody has: what one restore took away is never written over by another."""
    name = f"{REPLACED_PREFIX}{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    return next(name for name in names if not (data_dir / name).exists())


def _require_kind(data_dir: Path, manifest: Manifest) -> None:
    """Simulated data never take the place of real ones, nor the other way round. Raises BackupUnusable."""
    path = data_dir / DATA_FILE
    if not path.exists() or path.stat().st_size == 0:
        return
    try:
        with closing(Database(path, writing=False)) as database:
            simulated = read_data_kind(database.connection).simulated
    except (CollectorError, sqlite3.Error, ValueError):
        return  # it cannot tell any more: that may be why somebody restores, and it is kept as it is
    if simulated is not manifest.simulated:
        words = {False: "real", True: "simulated"}
        raise BackupUnusable(
            f"it holds {words[manifest.simulated]} data, {data_dir} holds {words[simulated]} data: "
            "they are never mixed; use another data_dir"
        )


def _require_same_collector(data_dir: Path, files: Path) -> None:
    """Another collector's backup never takes the place of one that machines know: they would not believe it.

    Raises BackupUnusable. Whether it is another one tells the fleet key, which a collector has from its `init` to its end.
    """
    path = data_dir / DATA_FILE
    try:
        here = _key_text(data_dir)
        if len(bytes.fromhex(here)) != 32 or here == _key_text(files):
            return
        with closing(Database(path, writing=False)) as database:
            (machines,) = database.connection.execute("SELECT count(*) FROM hosts").fetchone()
    except (OSError, CollectorError, sqlite3.Error, ValueError):
        return  # nothing is there, or it cannot tell any more: that may be why somebody restores
    if machines:
        raise BackupUnusable(
            f"it is of another collector than the one in {data_dir}, whose {machines} machine(s) would refuse it: "
            "set data_dir to another directory, or move what is in this one away first"
        )


def _require_room(data_dir: Path, manifest: Manifest) -> None:
    disk = os.statvfs(data_dir)
    needed, free = sum(file.bytes for file in manifest.files), disk.f_bavail * disk.f_frsize
    if free < needed:
        raise BackupUnusable(
            f"it needs {needed / 2**20:.1f} MiB under {data_dir}, {free / 2**20:.1f} MiB are free: free some space"
        )


def _note(path: Path, manifest: Manifest, now: datetime) -> None:
    """In the data themselves: that they were put back, how often, and of when they are."""
    with closing(Database(path, writing=True)) as database:
        with database.transaction() as connection:
            notes = {
                RESTORES_COUNT: str(int(read_data_kind(connection).extra.get(RESTORES_COUNT, "0")) + 1),
                RESTORE_NOTE: str(round(now.timestamp() * MILLISECONDS_PER_SECOND)),
                RESTORED_BACKUP_NOTE: str(manifest.created_unix_milliseconds),
            }
            connection.executemany(
                "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                sorted(notes.items()),
            )
        database.checkpoint()


def _key_text(folder: Path) -> str:
    return read_owned(folder / FLEET_KEY_FILE, 4096).decode("ascii").strip()


def hand_over(folder: Path, data_dir: Path) -> None:
    """All below `folder` belongs to whom the data directory belongs to: root may restore for the service. Raises OSError."""
    if os.geteuid() != 0:
        return
    owner = data_dir.stat()
    with own_folder(folder) as at:
        for _, _, names, descriptor in os.fwalk(".", dir_fd=at):
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
            for name in names:
                if os.lstat(name, dir_fd=descriptor).st_nlink == 1:  # else it may be a file elsewhere
                    os.chown(name, owner.st_uid, owner.st_gid, dir_fd=descriptor, follow_symlinks=False)


def _sync_tree(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            _sync_tree(path)
        else:
            descriptor = open_owned(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    sync_folder(folder)
