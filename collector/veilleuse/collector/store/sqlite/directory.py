# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The data directory: its files, its rights, its lock, its free space."""

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
"""Copies on their way into a backup; removed with it, or by the next one."""
RESTORE_UNPACKED: Final = "restore.unpacked"
"""A backup being unpacked and looked at. Nothing was touched yet: it may be thrown away."""
RESTORE_TAKING: Final = "restore.taking"
"""It is good, and what was there is being taken away: the directory is neither the old one nor the new one."""
RESTORE_PLACING: Final = "restore.placing"
"""What was there is away; the new files are being put in their place."""
REPLACED_PREFIX: Final = "replaced-"
"""What a restore took away, with its UTC time behind."""
NO_DATA_DIRECTORY: Final = (
    "point VEILLEUSE__DATA_DIR, or data_dir in the file of --config, to the collector's ('make run' keeps it in "
    "var/collector); where there is none yet run 'veilleuse init'"
)
"""What to do about a setting that names a directory without a collector in it."""


def make_directory(directory: Path) -> None:
    """Create it, or narrow it, to mode 0700. Raises DataDirectoryError."""
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
    """Whether a restore was cut between the old files and the new ones."""
    return any((directory / name).exists() for name in (RESTORE_TAKING, RESTORE_PLACING))


def require_whole_directory(directory: Path) -> None:
    """Raises DataDirectoryError when it is half restored."""
    if is_half_restored(directory):
        raise DataDirectoryError(
            f"{directory} is half restored: run 'veilleuse restore' to carry it on, it needs no file for that"
        )


def missing(database: Path) -> str:
    """One line about a database that is not there: the setting names another directory, or this one has lost it."""
    directory = database.parent
    if any((directory / name).exists() for name in (DATA_FILE, IDENTITY_FILE)):
        return f"{directory} has lost {database.name}: restore a backup with 'veilleuse restore FILE'"
    return f"{directory} is no data directory: {NO_DATA_DIRECTORY}"


class DirectoryLock:
    """The right to write in a data directory: an flock on its file `lock`, held until `release`."""

    def __init__(self, directory: Path) -> None:
        """Raises DataDirectoryError at once when another process holds it."""
        path = directory / LOCK_FILE
        try:
            self._descriptor = open_owned(path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            remedy = "run 'veilleuse init'" if missing else "look at its rights and at the disk"
            raise DataDirectoryError(
                f"cannot lock the data directory {directory}: {error.strerror}; {remedy}"
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise DataDirectoryError(
                f"the data directory {directory} is in use by pid {holder}: stop it, or use another data_dir"
            ) from error
        with suppress(OSError):  # a full disk: the lock holds all the same, it only cannot say whose it is
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let it go; a killed process does so by dying."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


@dataclass(frozen=True, slots=True)
class Reserve:
    """Free space that records may not take: reads and revocations still need some."""

    directory: Path
    free_bytes_minimum: int
    free_ratio_minimum: float
    """Share of the disk, 0 to 1; the smaller of both counts."""

    def floor_bytes(self) -> int:
        """The reserve on this disk. Raises OSError."""
        return self._floor(os.statvfs(self.directory))

    def free_bytes(self) -> int:
        """Free on this disk for an ordinary user. Raises OSError."""
        disk = os.statvfs(self.directory)
        return disk.f_bavail * disk.f_frsize

    def check(self) -> None:
        """Raises StoreFull when less is free."""
        try:
            disk = os.statvfs(self.directory)
        except OSError:
            return  # the write itself will say what is wrong
        free, floor = disk.f_bavail * disk.f_frsize, self._floor(disk)
        if free < floor:
            raise StoreFull(
                f"{free // 2**20} MiB free under {self.directory}, less than the reserve of {floor // 2**20} MiB: "
                "free some space; the agents keep their records"
            )

    def _floor(self, disk: os.statvfs_result) -> int:
        return min(self.free_bytes_minimum, int(self.free_ratio_minimum * disk.f_blocks * disk.f_frsize))


def database_bytes(directory: Path) -> int:
    """Both databases with their WAL, as the disk has them; 0 when there is none."""
    return sum(
        path.stat().st_size
        for name in (DATA_FILE, IDENTITY_FILE)
        for path in (directory / name, directory / f"{name}-wal")
        if path.exists()
    )
