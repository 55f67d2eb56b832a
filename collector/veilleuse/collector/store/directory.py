# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Manages the data directory: its files, permissions, lock and free space."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from veilleuse.collector.errors import DataDirectoryError, StoreFull
from veilleuse.wire.files import open_owned

DATA_FILE: Final = "data.db"
IDENTITY_FILE: Final = "identity.db"
LOCK_FILE: Final = "lock"
FLEET_KEY_FILE: Final = "fleet.key"
BACKUP_FOLDER: Final = "backup.work"
"""Folder of copies that will go into a backup; the backup, or the next one, removes it."""
RESTORE_UNPACKED: Final = "restore.unpacked"
"""Folder of a backup that is being unpacked and checked. It may be deleted: nothing else has changed yet."""
RESTORE_TAKING: Final = "restore.taking"
"""Folder of a checked backup while the old files are moved away: the directory is neither old nor new."""
RESTORE_PLACING: Final = "restore.placing"
"""Folder of a checked backup while its files are moved into place; the old files are away."""
REPLACED_PREFIX: Final = "replaced-"
"""Prefix of the folder of replaced files; a UTC time follows."""
RESCUED: Final = ".rescued-"
"""Part of the name of a copy that a collector wrote of its removed database; a UTC time follows."""
_UNWANTED: Final = ".unwanted"
"""Suffix of a rescued copy that the operator does not want."""
NO_DATA_DIRECTORY: Final = (
    "point VEILLEUSE__DATA_DIR, or data_dir in the file of --config, to the collector's; where there is "
    "none yet run 'veilleuse init' as the collector's user"
)
"""Remedy for a setting that names a directory without a collector."""


def make_directory(directory: Path) -> None:
    """Create the directory, or narrow it, to mode 0700. Raises DataDirectoryError."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if directory.stat().st_mode & 0o077:
            directory.chmod(0o700)
    except OSError as error:
        why = "it is a file" if isinstance(error, FileExistsError) else error.strerror
        raise DataDirectoryError(
            f"cannot use the data directory {directory}: {why}; give it to this user or set data_dir"
        ) from error


def is_half_restored(directory: Path) -> bool:
    """Tell whether a restore was interrupted between the old files and the new ones."""
    return any((directory / name).exists() for name in (RESTORE_TAKING, RESTORE_PLACING))


def require_whole_directory(directory: Path) -> None:
    """Raise DataDirectoryError when the directory is half restored."""
    if is_half_restored(directory):
        raise DataDirectoryError(
            f"{directory} is half restored: run 'veilleuse restore' to carry it on, it needs no file for that"
        )


def explain_missing(database: Path) -> str:
    """Explain a missing database: the setting names another directory, or this one has lost the file."""
    directory = database.parent
    if any((directory / name).exists() for name in (DATA_FILE, IDENTITY_FILE)):
        return f"{directory} has lost {database.name}: {name_remedy(database)}"
    return f"{directory} is no data directory: {NO_DATA_DIRECTORY}"


def name_remedy(*databases: Path) -> str:
    """Name the remedy for missing databases: the newest rescued copy of each, else a backup."""
    names, steps, first = [], [], ""
    for database in databases:
        if not (rescued := _rescued_copies(database)):
            first = "restore a backup with 'veilleuse restore FILE'"
            continue
        *older, newest = rescued
        names.append(newest.name)
        steps.append(f"rm -f {database}-wal {database}-shm, mv {newest} {database}")
        steps += [f"mv {each} {each}{_UNWANTED}" for each in older]
    if not names:
        return first
    begin = f"first {first}; then: " if first else ""
    return (
        f"{begin}what the collector still held of it is in {' and '.join(names)}: stop 'veilleuse serve' if it runs, "
        f"{', '.join(steps)}, and start it again"
    )


def find_undecided(directory: Path) -> tuple[str, str] | None:
    """Return a message and its remedies for a directory with a rescued copy that nobody took or put away;
    else None.

    Only the operator knows which file is right: the older one under the database's name, or the copy.
    """
    databases = [path for name in (DATA_FILE, IDENTITY_FILE) if _rescued_copies(path := directory / name)]
    if not databases:
        return None
    each = [rescued for database in databases for rescued in _rescued_copies(database)]
    lies = " and ".join(str(rescued) for rescued in each)
    unwanted = ", ".join(f"mv {rescued} {rescued}{_UNWANTED}" for rescued in each)
    names = " and ".join(database.name for database in databases)
    return (
        (
            f"{lies} holds what a collector saved when it lost {names}, which may be older or damaged; 'veilleuse serve' does not start "
            "before one of them is chosen"
        ),
        f"to take it: {name_remedy(*databases)}; where it is not wanted: {unwanted}",
    )


def _rescued_copies(database: Path) -> list[Path]:
    """Return the rescued copies, oldest first."""
    return sorted(database.parent.glob(f"{database.name}{RESCUED}*Z"))


class DirectoryLock:
    """The right to write in a data directory: an flock on the folder itself, held until `release`.

    A lock on a file would go with that file. The file `lock` is locked too: it names the owner, and earlier
    versions knew no other lock.
    """

    def __init__(self, directory: Path) -> None:
        """Raises DataDirectoryError at once when another process holds the lock."""
        self._descriptors: list[int] = []
        try:
            self._descriptors.append(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            self._descriptors.append(open_owned(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT))
            for descriptor in self._descriptors:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            refused = self._refused(directory, error)
            self.release()
            raise DataDirectoryError(refused) from error
        lock = self._descriptors[-1]
        with suppress(OSError):  # on a full disk the lock still holds, but cannot name its owner
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)

    def _refused(self, directory: Path, error: OSError) -> str:
        if isinstance(error, BlockingIOError):
            holder = os.read(self._descriptors[-1], 32).decode("ascii", "replace").strip() or "unknown"
            return (
                f"the data directory {directory} is in use by pid {holder}: stop it, or use another data_dir"
            )
        remedy = (
            "run 'veilleuse init'"
            if isinstance(error, FileNotFoundError)
            else "look at its rights and at the disk"
        )
        return f"cannot lock the data directory {directory}: {error.strerror}; {remedy}"

    def release(self) -> None:
        """Release the lock; the death of the process releases it too."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


@dataclass(frozen=True, slots=True)
class Reserve:
    """Free space that records may not use: reads and revocations still need some."""

    directory: Path
    free_bytes_minimum: int
    free_ratio_minimum: float
    """Share of the disk, 0 to 1; the smaller of both limits counts."""

    def floor_bytes(self) -> int:
        """Return the reserve on this disk, in bytes. Raises OSError."""
        return self._floor(os.statvfs(self.directory))

    def free_bytes(self) -> int:
        """Return the bytes that an ordinary user may still write. Raises OSError."""
        disk = os.statvfs(self.directory)
        return disk.f_bavail * disk.f_frsize

    def check(self) -> None:
        """Raise StoreFull when less is free."""
        try:
            disk = os.statvfs(self.directory)
        except OSError:
            return  # the write itself reports the error
        free, floor = disk.f_bavail * disk.f_frsize, self._floor(disk)
        if free < floor:
            raise StoreFull(
                f"{free // 2**20} MiB free under {self.directory}, less than the reserve of {floor // 2**20} MiB: "
                "free some space; the agents keep their records"
            )

    def _floor(self, disk: os.statvfs_result) -> int:
        return min(self.free_bytes_minimum, int(self.free_ratio_minimum * disk.f_blocks * disk.f_frsize))


def database_bytes(directory: Path) -> int:
    """Return the size of both databases with their WAL on the disk; 0 when there is none."""
    return sum(
        path.stat().st_size
        for name in (DATA_FILE, IDENTITY_FILE)
        for path in (directory / name, directory / f"{name}-wal")
        if path.exists()
    )
