# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Restores a backup into a data directory; the restore may be interrupted at any time.

It uses three folders of the data directory. Each is renamed to the next when its step is complete and
durable:

- `restore.unpacked`: being unpacked and checked; the next restore deletes it.
- `restore.taking`: decided; the old files are moved to `replaced-<UTC time>/` one by one.
- `restore.placing`: the new files are moved in one by one.

Every move is a rename within the directory and may be repeated. While one of the last two folders exists,
nothing opens the directory (directory.require_whole_directory). `complete_restore` completes an interrupted
restore. The register of enrolments and revocations is not in the backup: it stays, and is replayed at every
start.
"""

from __future__ import annotations

import json
import os
import shutil
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
from veilleuse.collector.backup.notes import RESTORE_NOTE, RESTORED_BACKUP_NOTE, RESTORES_COUNT
from veilleuse.collector.enrolment.ca import DRAFT
from veilleuse.collector.enrolment.root_key import FOLDER
from veilleuse.collector.errors import BackupUnusable, CollectorError, DataDirectoryError, UsageError
from veilleuse.collector.sqlite_library import sqlite3
from veilleuse.collector.store.directory import (
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
from veilleuse.collector.store.sqlite.connection import Database
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
    """Result of a completed restore."""

    manifest: Manifest
    replaced: Path | None
    """Folder with the former files; None when there were none."""


def restore(
    data_dir: Path, file: Path | None, key_of: Callable[[], bytes | None], now: datetime
) -> tuple[RestoreResult, bool]:
    """Restore `file`; return whether this only completed an interrupted restore of it.

    With `file` None, only an interrupted restore is completed. `key_of` returns the key of a sealed backup.
    Raises DataDirectoryError while a collector runs, BackupUnusable with nothing changed, StoreFull or
    OSError from the disk. Raises UsageError when there is neither a file nor a restore to complete.
    """
    make_directory(data_dir)
    with DirectoryLock(data_dir):
        begun = complete_restore(data_dir)
        if file is None:
            if begun is None:
                raise UsageError("there is no interrupted restore: name the backup, 'veilleuse restore FILE'")
            return begun, True
        with open_archive(file, key_of) as archive:
            if begun is not None and begun.manifest == archive.manifest:
                return begun, True
            unpack(archive, data_dir, now)
        return put_in_place(data_dir), False


def unpack(archive: Archive, data_dir: Path, now: datetime) -> None:
    """Extract and check all files without changing any in place; the caller holds the lock.

    Raises BackupUnusable.
    """
    folder = data_dir / RESTORE_UNPACKED
    delete_unpacked(data_dir)
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
        _record_restore(files / DATA_FILE, manifest, now)
        replace_owned(folder / MANIFEST_FILE, manifest.to_json())
        plan = {"replaced": _new_replaced_name(data_dir, now)}
        replace_owned(folder / _PLAN_FILE, json.dumps(plan).encode())
        give_to_owner(folder, data_dir)
        _sync_tree(folder)
    except BaseException:
        delete_unpacked(data_dir)
        raise


def put_in_place(data_dir: Path) -> RestoreResult:
    """Replace the present files by those of `unpack`. Raises OSError.

    `complete_restore` completes an interruption.
    """
    rename_owned(data_dir / RESTORE_UNPACKED, data_dir / RESTORE_TAKING)
    sync_folder(data_dir)
    restored = complete_restore(data_dir)
    assert restored is not None
    return restored


def complete_restore(data_dir: Path) -> RestoreResult | None:
    """Complete an interrupted restore, under the directory's lock; None if there is none. Raises OSError."""
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
    delete_unpacked(data_dir)
    rename_owned(placing, data_dir / RESTORE_UNPACKED)  # the restore is now complete; the rest is deleted
    sync_folder(data_dir)
    delete_unpacked(data_dir)
    return RestoreResult(manifest, replaced if replaced.exists() else None)


def delete_unpacked(data_dir: Path) -> None:
    """Delete the files that a restore unpacked without changing anything in place. Raises OSError."""
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
    """Return the folder named in the plan. Raises DataDirectoryError when the plan was changed."""
    plan: Any = json.loads(read_owned(folder / _PLAN_FILE, 4096))
    name = str(plan["replaced"])
    if not name.startswith(REPLACED_PREFIX) or "/" in name:
        raise DataDirectoryError(f"{folder / _PLAN_FILE} was not written by a restore: examine it")
    return data_dir / name


def _new_replaced_name(data_dir: Path, now: datetime) -> str:
    """Return an unused name, so that no restore overwrites the files of an earlier one."""
    name = f"{REPLACED_PREFIX}{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    return next(name for name in names if not (data_dir / name).exists())


def _require_kind(data_dir: Path, manifest: Manifest) -> None:
    """Raise BackupUnusable when simulated data would replace real data, or the reverse."""
    path = data_dir / DATA_FILE
    if not path.exists() or path.stat().st_size == 0:
        return
    try:
        with closing(Database(path, writing=False)) as database:
            simulated = read_data_kind(database.connection).simulated
    except (CollectorError, sqlite3.Error, ValueError):
        # unreadable: perhaps the reason of the restore; it is kept as it is
        return
    if simulated is not manifest.simulated:
        words = {False: "real", True: "simulated"}
        raise BackupUnusable(
            f"it holds {words[manifest.simulated]} data, {data_dir} holds {words[simulated]} data: "
            "they are never mixed; use another data_dir"
        )


def _require_same_collector(data_dir: Path, files: Path) -> None:
    """Raise BackupUnusable for another collector's backup, when machines know the present collector.

    They would refuse another one. The fleet key distinguishes collectors: it stays the same from `init` on.
    """
    path = data_dir / DATA_FILE
    try:
        here = _key_text(data_dir)
        if len(bytes.fromhex(here)) != 32 or here == _key_text(files):
            return
        with closing(Database(path, writing=False)) as database:
            (machines,) = database.connection.execute("SELECT count(*) FROM hosts").fetchone()
    except (OSError, CollectorError, sqlite3.Error, ValueError):
        # absent or unreadable: perhaps the reason of the restore
        return
    if machines:
        raise BackupUnusable(
            f"it is of another collector than the one in {data_dir}, whose {machines} machine(s) would "
            "refuse it: "
            "set data_dir to another directory, or move what is in this one away first"
        )


def _require_room(data_dir: Path, manifest: Manifest) -> None:
    disk = os.statvfs(data_dir)
    needed, free = sum(file.bytes for file in manifest.files), disk.f_bavail * disk.f_frsize
    if free < needed:
        raise BackupUnusable(
            f"it needs {needed / 2**20:.1f} MiB under {data_dir}, {free / 2**20:.1f} MiB are free: free some "
            "space"
        )


def _record_restore(path: Path, manifest: Manifest, now: datetime) -> None:
    """Record the restore in the data: that it happened, how often, and the age of the data."""
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


def give_to_owner(folder: Path, data_dir: Path) -> None:
    """Give all below `folder` to the owner of the data directory: root may restore for the service.

    Raises OSError.
    """
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
