# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Where a backup goes: its name, its room, its rights, and how many of them are kept."""

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
"""As much as is on its way to the disk at once."""
_ENDING: Final = ".backup"
_PART: Final = ".part"
_KIND: Final = {False: "", True: "simulated-"}
_STAMP: Final = r"\d{8}T\d{6}Z"


@dataclass(frozen=True, slots=True)
class Destination:
    """A file to be made; in a directory, one of ours among others."""

    path: Path
    simulated: bool
    is_named: bool
    """Named by the operator; else by us, in a directory."""


def destination(wanted: Path, *, simulated: bool, now: datetime) -> Destination:
    """DEST as a file: itself, or in a directory `veilleuse-<UTC time>.backup`. Raises UsageError when it exists."""
    is_directory = wanted.is_dir()
    name = f"veilleuse-{_KIND[simulated]}{now.astimezone(UTC):%Y%m%dT%H%M%SZ}{_ENDING}"
    path = wanted / name if is_directory else wanted
    if path.exists():
        raise UsageError(f"{path} exists: choose another name, or a directory")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is no directory: make it first")
    return Destination(path, simulated, not is_directory)


def require_outside(target: Destination, data_dir: Path) -> None:
    """Raises UsageError for a backup that would be lost with what it is a backup of."""
    if target.path.parent.resolve().is_relative_to(data_dir.resolve()):
        raise UsageError(
            f"{target.path} is in the data directory and would be lost with it: choose another place"
        )


class _Steady:
    """Writes through to the disk bit by bit: one sync of the whole at the end would hold up the collector's commits."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self._unsynced = 0

    def write(self, data: bytes) -> int:
        """All of it."""
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
    """A file, 0600, that appears under its name when the block ends well, durable; otherwise nothing is left.

    Parts that a killed backup left beside it are removed first. Raises CollectorError for what the disk says.
    """
    part = target.path.with_name(f".{target.path.name}{_PART}")
    try:
        _remove_parts(target.path.parent)
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as file:
                with suppress(OSError):  # not every network share knows locks: parts left there stay
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield _Steady(file)
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
            f"cannot write {target.path}: {error.strerror or error}; choose another place"
        ) from error


def require_room(target: Destination, needed_bytes: int, *, beside: Path) -> None:
    """Raises DataDirectoryError unless its disk has room for it, and for the copies in `beside` if that is the same disk."""
    parent = target.path.parent
    disk = os.statvfs(parent)
    same = parent.stat().st_dev == beside.stat().st_dev
    needed, free = needed_bytes * (2 if same else 1), disk.f_bavail * disk.f_frsize
    if free < needed:
        raise DataDirectoryError(
            f"a backup needs {needed / 2**20:.0f} MiB under {parent}"
            f"{' (the copies and the file are on one disk)' if same else ''}, {free / 2**20:.0f} MiB are free: "
            "free some space, or choose another place"
        )


def rotate(target: Destination, keep: int) -> list[Path]:
    """Remove all but the newest `keep` ≥ 1 backups of this kind that carry our names; those removed. Raises OSError."""
    pattern = re.compile(rf"veilleuse-{_KIND[target.simulated]}{_STAMP}{re.escape(_ENDING)}")
    ours = sorted(path for path in target.path.parent.iterdir() if pattern.fullmatch(path.name))
    removed = ours[: max(0, len(ours) - keep)]
    for path in removed:
        path.unlink()
    return removed


@contextmanager
def only_backup(data_dir: Path) -> Iterator[None]:
    """Hold the right to make a backup of this directory. Raises DataDirectoryError when another one is being made.

    A lock on the fleet key, which every backup has in it: the one on the folder is the collector's.
    """
    try:
        descriptor = open_owned(data_dir / FLEET_KEY_FILE, os.O_RDONLY)
    except OSError as error:
        remedy = "" if isinstance(error, FileRefused) else f"; {NO_DATA_DIRECTORY}"  # that says one itself
        raise DataDirectoryError(
            f"cannot open {data_dir / FLEET_KEY_FILE}: {error.strerror}{remedy}"
        ) from error
    try:
        if not _locked(descriptor):
            raise DataDirectoryError(f"another backup of {data_dir} is being made: wait for its end")
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    """False when somebody holds it for longer than `is_being_made` does."""
    for wait_seconds in (0.05, 0.2, 0.0):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(wait_seconds)
    return False


def is_being_made(data_dir: Path) -> bool:
    """Whether somebody holds the right to make a backup just now."""
    try:
        with only_backup(data_dir):
            return False
    except DataDirectoryError:
        return True


def _remove_parts(directory: Path) -> None:
    """Those of backups that were killed; one that is being written is locked."""
    for path in directory.glob(f".*{_ENDING}{_PART}"):
        with suppress(OSError), os.fdopen(open_owned(path, os.O_RDONLY), "rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
