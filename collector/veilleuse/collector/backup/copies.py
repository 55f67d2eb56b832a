# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The running collector's part of a backup: consistent copies in a private folder of the data directory.

The command packs them, because the service may write nowhere else (ProtectSystem=strict), and says when it
has done.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from veilleuse.collector import settings
from veilleuse.collector.enrolment.ca_files import MOST_BYTES
from veilleuse.collector.enrolment.root_key import FOLDER
from veilleuse.collector.errors import AdminError, DataDirectoryError
from veilleuse.collector.ports.stages import Committer
from veilleuse.collector.store.directory import (
    BACKUP_FOLDER,
    FLEET_KEY_FILE,
    Reserve,
    database_bytes,
)
from veilleuse.wire.files import FileRefused, make_own_folder, open_owned, read_owned

log = logging.getLogger(__name__)


class CopyableStore(Protocol):
    """What a backup needs of a store."""

    def copy_into(self, folder: Path, between: Callable[[], None]) -> None:
        """Copy its files there; `between` runs between two steps and may raise to give up.

        In the writer's thread.
        """


class PatientCommitter(Committer, Protocol):
    """A writer that serves others in the middle of a long job."""

    def serve_waiting(self) -> bool:
        """Commit one group of what waits; False when the job should give up."""


@dataclass(frozen=True, slots=True)
class Backups:
    """Makes copies of an open data directory."""

    data_dir: Path
    limits: settings.Store
    store: CopyableStore
    writer: PatientCommitter

    def copy(self) -> Path:
        """A folder of data_dir with a copy of both databases, the fleet key and the authority; replaces a
        left-over one.

        Raises DataDirectoryError when the disk has no room for it, AdminError when the collector stops
        meanwhile.
        """
        folder = self.data_dir / BACKUP_FOLDER
        self.discard()
        self._require_room()
        try:
            make_own_folder(folder)
            self.writer.submit(lambda: self._copy_into(folder), alone=True).result()
        except BaseException as error:
            self.discard()
            if isinstance(error, FileRefused):
                raise DataDirectoryError(f"cannot copy {error.filename}: {error.strerror}") from error
            if isinstance(error, OSError):
                raise DataDirectoryError(f"cannot copy to {folder}: {error.strerror or error}") from error
            raise
        log.info("copies for a backup made", extra={"bytes": database_bytes(folder)})
        return folder

    def discard(self) -> None:
        """Remove the copies, whole or not."""
        if (folder := self.data_dir / BACKUP_FOLDER).exists():
            remove_copies(folder)
            log.info("copies of a backup removed")

    def _copy_into(self, folder: Path) -> None:
        self.store.copy_into(folder, self._let_others_in)
        keys = _steady_content(self.data_dir / FOLDER)
        keys[FLEET_KEY_FILE] = read_owned(self.data_dir / FLEET_KEY_FILE, MOST_BYTES)
        for name, content in keys.items():
            _write_private(folder / name, content)

    def _let_others_in(self) -> None:
        if not self.writer.serve_waiting():
            raise AdminError("the collector is stopping: the backup was given up, run it again later")

    def _require_room(self) -> None:
        reserve = Reserve(self.data_dir, self.limits.free_bytes_minimum, self.limits.free_ratio_minimum)
        needed, free, floor = database_bytes(self.data_dir), reserve.free_bytes(), reserve.floor_bytes()
        if free - needed < floor:
            raise DataDirectoryError(
                f"a backup needs {_mebibytes(needed)} for a copy in {self.data_dir} beside the reserve of "
                f"{_mebibytes(floor)}, {_mebibytes(free)} are free: free some space there"
            )


def remove_copies(folder: Path) -> None:
    """Remove a folder of copies, as far as that is possible."""
    shutil.rmtree(folder, ignore_errors=True)


def _steady_content(folder: Path) -> dict[str, bytes]:
    """Every file of a flat folder, of one moment: `<folder>/<name>` → content. Raises OSError.

    A change of several files leaves its journal among them until it is whole (enrolment/ca_files.py), so that
    two equal looks are either of a whole change or hold that journal.
    """
    before = _content(folder)
    while (now := _content(folder)) != before:
        before = now
    return now


def _content(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in folder.iterdir():
        if path.suffix != ".new":  # half written
            with suppress(FileNotFoundError):  # removed since: the next look differs
                found[f"{folder.name}/{path.name}"] = read_owned(path, MOST_BYTES)
    return found


def _write_private(path: Path, content: bytes) -> None:
    make_own_folder(path.parent)
    with os.fdopen(open_owned(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(content)


def _mebibytes(number: int) -> str:
    return f"{number / 2**20:.0f} MiB"
