# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The authority's folder: several of its files change as one, whatever line the process is killed at.

A change is written whole to `change.json` first (0600, fsynced, renamed into place): from then on it holds. Then each
file is written, and `change.json` removed. Who finds it there does all of it again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from veilleuse.collector.errors import DataDirectoryError
from veilleuse.wire.files import read_owned, remove_owned, replace_owned, sync_folder

CHANGE_FILE: Final = "change.json"
MOST_BYTES: Final = 4 << 20
"""Of a file of the authority; the journal of a change holds a dozen others."""


class Folder:
    """PEM files by name, flat. The caller holds the data directory's lock, and lets one thread at a time change something."""

    def __init__(self, path: Path) -> None:
        """Finishes the change that a killed process had begun. Raises DataDirectoryError."""
        self.path = path
        self._settle()

    def names(self, beginning: str) -> list[str]:
        """The names that begin so, sorted. Raises DataDirectoryError."""
        try:
            return sorted(path.name for path in self.path.iterdir() if path.name.startswith(beginning))
        except OSError as error:
            raise DataDirectoryError(
                f"cannot read {self.path} ({error.strerror}): restore it from a backup"
            ) from error

    def read(self, name: str) -> bytes | None:
        """The content; None when there is no such file. Raises DataDirectoryError."""
        try:
            return read_owned(self.path / name, MOST_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unreadable(self.path / name, error.strerror or str(error)) from error

    def change(self, files: Mapping[str, bytes | None]) -> None:
        """Write these contents, and remove the files that have None: all or nothing, durable. Raises DataDirectoryError.

        When it raises, nothing was changed, or the rest will be at the next change or start.
        """
        self._settle()
        plain = {
            name: None if content is None else content.decode("ascii") for name, content in files.items()
        }
        try:
            replace_owned(self.path / CHANGE_FILE, json.dumps(plain).encode())
        except OSError as error:
            raise DataDirectoryError(
                f"cannot write {self.path}: {error.strerror or error}; nothing was changed"
            ) from error
        self._settle()

    def _settle(self) -> None:
        journal = self.read(CHANGE_FILE)
        if journal is None:
            return
        try:
            for name, content in json.loads(journal).items():
                if content is None:
                    remove_owned(self.path / name)
                else:
                    replace_owned(self.path / name, content.encode("ascii"))
            sync_folder(self.path)  # what was removed must be before the journal is
            remove_owned(self.path / CHANGE_FILE)
            sync_folder(self.path)
        except (ValueError, AttributeError) as error:
            raise unreadable(self.path / CHANGE_FILE, "damaged") from error
        except OSError as error:
            raise DataDirectoryError(
                f"cannot write {self.path}: {error.strerror or error}; the change is finished at the next start"
            ) from error


def unreadable(path: Path, what: str) -> DataDirectoryError:
    """A file of the authority that cannot be used."""
    return DataDirectoryError(f"cannot read {path} ({what}): restore it from a backup")
