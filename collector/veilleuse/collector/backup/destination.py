# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Destination of a backup: its name, room and mode, and the number of backups kept."""

from __future__ import annotations

import fcntl
import io
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from veilleuse.collector.backup.encryption import Writable
from veilleuse.collector.errors import CollectorError, DataDirectoryError, UsageError
from veilleuse.collector.store.directory import FLEET_KEY_FILE, NO_DATA_DIRECTORY
from veilleuse.wire.files import FileRefused, open_owned, sync_folder

SYNC_BYTES: Final = 8 << 20
"""Bytes that may be on their way to the disk at once."""
_ENDING: Final = ".backup"
_PART: Final = ".part"
_KIND: Final = {False: "", True: "simulated-"}
_STAMP: Final = r"\d{8}T\d{6}Z"


@dataclass(frozen=True, slots=True)
class Destination:
    """File to create; in a directory, one of several backups."""

    path: Path
    simulated: bool
    is_named: bool
    """True when the operator named the file; else its name is generated, in a directory."""


def destination(wanted: Path, *, simulated: bool, now: datetime) -> Destination:
    """Return DEST as a file: itself, or `veilleuse-<UTC time>.backup` in a directory.

    Raises UsageError if it exists.
    """
    is_directory = wanted.is_dir()
    name = f"veilleuse-{_KIND[simulated]}{now.astimezone(UTC):%Y%m%dT%H%M%SZ}{_ENDING}"
    path = wanted / name if is_directory else wanted
    if path.exists():
        raise UsageError(f"{path} exists: choose another name, or a directory")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is no directory: make it first")
    return Destination(path, simulated, not is_directory)


def require_outside(target: Destination, data_dir: Path) -> None:
    """Raise UsageError for a backup inside the data directory, with which it would be lost."""
    if target.path.parent.resolve().is_relative_to(data_dir.resolve()):
        raise UsageError(
            f"{target.path} is in the data directory and would be lost with it: choose another place"
        )


class _SyncedFile:
    """Syncs to the disk in parts: one sync of the whole at the end would delay the collector's commits."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self._unsynced = 0

    def write(self, data: bytes) -> int:
        """Write all of `data`."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._unsynced += len(data)
        if self._unsynced >= SYNC_BYTES:
            os.fdatasync(self._file.fileno())
            self._unsynced = 0
        return len(data)


@contextmanager
def new_backup(target: Destination) -> Iterator[Writable]:
    """Yield a file, 0600, that gets its name durably when the block succeeds; otherwise nothing is left.

    Parts left by a killed backup are removed first. Raises CollectorError for errors of the disk.
    """
    part = target.path.with_name(f".{target.path.name}{_PART}")
    try:
        _remove_parts(target.path.parent)
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                with suppress(OSError):  # not every network share supports locks: parts left there stay
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield _SyncedFile(file)
                os.fsync(descriptor)
                if target.path.exists():
                    raise UsageError(f"{target.path} exists: choose another name, or a directory")
                part.rename(target.path)
            sync_folder(target.path.parent)
        except BaseException:
            with suppress(OSError):
                part.unlink()
            raise
    except OSError as error:
        raise CollectorError(
            f"cannot write {target.path}: {error.strerror or error}; nothing of it is left, choose another place"
        ) from error


def require_room(target: Destination, needed_bytes: int, *, beside: Path) -> None:
    """Raise DataDirectoryError when the disk lacks room for the backup.

    The copies in `beside` count too, if they are on the same disk.
    """
    parent = target.path.parent
    disk = os.statvfs(parent)
    same = parent.stat().st_dev == beside.stat().st_dev
    needed, free = needed_bytes * (2 if same else 1), disk.f_bavail * disk.f_frsize
    if free < needed:
        raise DataDirectoryError(
            f"a backup needs {needed / 2**20:.0f} MiB under {parent}"
            f"{' (the copies and the file are on one disk)' if same else ''}, {free / 2**20:.0f} MiB are "
            "free: "
            "free some space, or choose another place"
        )


def rotate(target: Destination, keep: int) -> list[Path]:
    """Delete all but the newest `keep` ≥ 1 backups of this kind with generated names.

    Returns the deleted ones. Raises OSError.
    """
    pattern = re.compile(rf"veilleuse-{_KIND[target.simulated]}{_STAMP}{re.escape(_ENDING)}")
    ours = sorted(path for path in target.path.parent.iterdir() if pattern.fullmatch(path.name))
    removed = ours[: max(0, len(ours) - keep)]
    for path in removed:
        path.unlink()
    return removed


@contextmanager
def only_backup(data_dir: Path) -> Iterator[None]:
    """Hold the right to make a backup of this directory. Raises DataDirectoryError during another backup.

    The lock is on the fleet key, which every backup contains: the lock on the folder is the collector's.
    """
    try:
        descriptor = open_owned(data_dir / FLEET_KEY_FILE, os.O_RDONLY)
    except OSError as error:
        # FileRefused contains its own remedy
        remedy = "" if isinstance(error, FileRefused) else f"; {NO_DATA_DIRECTORY}"
        raise DataDirectoryError(
            f"cannot open {data_dir / FLEET_KEY_FILE}: {error.strerror}{remedy}"
        ) from error
    try:
        if not _take_lock(descriptor):
            raise DataDirectoryError(f"another backup of {data_dir} is being made: wait for its end")
        yield
    finally:
        os.close(descriptor)


def _take_lock(descriptor: int) -> bool:
    """Take the lock; False when another process holds it for longer than `is_in_progress` does."""
    for wait_seconds in (0.05, 0.2, 0.0):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(wait_seconds)
    return False


def is_in_progress(data_dir: Path) -> bool:
    """Return True while a backup is being made."""
    try:
        with only_backup(data_dir):
            return False
    except DataDirectoryError:
        return True


def _remove_parts(directory: Path) -> None:
    """Remove parts of killed backups; a part being written is locked."""
    for path in directory.glob(f".*{_ENDING}{_PART}"):
        with suppress(OSError), os.fdopen(open_owned(path, os.O_RDONLY), "rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
