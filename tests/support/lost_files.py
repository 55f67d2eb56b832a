# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Damage or remove the files of a data directory while a collector writes in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import BinaryIO, Final

from tests.support.waiting import until

TIMES: Final = 15
"""Damage is repeated so often: damage to a WAL just before SQLite restarts it has no effect."""


def remove(path: Path) -> None:
    """Remove a file or folder, as `rm -r` does."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def remove_both(path: Path) -> None:
    """Remove a file and the identity.db beside it, as `rm data.db identity.db` does."""
    path.unlink()
    path.with_name("identity.db").unlink()


def zero(path: Path) -> None:
    """Overwrite the first half of the file with zeros, in place."""
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size // 2))


def put_older(path: Path) -> None:
    """Overwrite the file in place with its content before many changes. Somebody must be writing it."""
    older = path.read_bytes()
    contents = {older}

    def has_changed_often() -> bool:
        contents.add(path.read_bytes())
        return len(contents) > 10

    until(has_changed_often, "nobody writes it")
    with path.open("r+b") as file:
        file.write(older)


def move(path: Path) -> None:
    """Rename a file or folder, as `mv` does."""
    path.rename(path.with_name(f"{path.name}.elsewhere"))


def replace(path: Path) -> None:
    """Replace the file under its name by a copy of itself, which is another file and gets older."""
    copy = path.with_name(f"{path.name}.copy")
    shutil.copy(path, copy)
    copy.rename(path)


def truncate(path: Path) -> None:
    """Cut the file to half its length, TIMES times."""
    _again_and_again(path, lambda file, size: file.truncate(size // 2))


def garble(path: Path) -> None:
    """Write random bytes at about 64 places of the file, TIMES times."""

    def noise(file: BinaryIO, size: int) -> None:
        for at in range(0, size, max(1, size // 64)):
            file.seek(at)
            file.write(os.urandom(48))

    _again_and_again(path, noise)


def _again_and_again(path: Path, do: Callable[[BinaryIO, int], object]) -> None:
    times = count(1)

    def damage() -> bool:
        with path.open("r+b") as file:
            do(file, path.stat().st_size)
        return next(times) == TIMES

    until(damage)  # others write between two of them


DONE: Final = {
    "remove": "removed",
    "remove_both": "and identity.db removed",
    "move": "moved",
    "replace": "replaced",
    "truncate": "truncated",
    "garble": "garbled",
    "zero": "zeroed",
    "put_older": "written over by an older one",
}


@dataclass(frozen=True, slots=True)
class Lost:
    """A fault is one way in which a file or the data directory is lost or damaged."""

    file: str
    """Path within the data directory; empty for the folder itself."""
    do: Callable[[Path], None]
    left: str
    """The remaining data, as the collector must report it: rescued (a new file), whole (the file itself),
    damaged, or goes on (nothing is lost)."""

    def __str__(self) -> str:
        return f"{self.file or 'the folder'} {DONE[self.do.__name__]}"

    def apply(self, data_dir: Path) -> None:
        """Apply the fault to the data directory of a running collector."""
        self.do(data_dir / self.file if self.file else data_dir)


LOST: Final = (
    Lost("data.db", remove, "rescued"),
    Lost("data.db", remove_both, "rescued"),
    Lost("data.db", move, "whole"),
    Lost("data.db", replace, "rescued"),
    Lost("data.db", truncate, "damaged"),
    Lost("data.db", garble, "damaged"),
    Lost("data.db-wal", remove, "whole"),
    Lost("data.db-wal", move, "whole"),
    Lost("data.db-wal", truncate, "rescued"),
    Lost("data.db-wal", garble, "rescued"),
    Lost("data.db-shm", remove, "whole"),
    Lost("data.db-shm", zero, "whole"),
    Lost("data.db-shm", put_older, "whole"),
    Lost("data.db-shm", garble, "whole"),
    Lost("identity.db", remove, "rescued"),
    Lost("identity.db", move, "whole"),
    Lost("identity.db", truncate, "damaged"),
    Lost("identity.db", garble, "damaged"),
    Lost("identity.db-wal", remove, "whole"),
    Lost("", remove, "rescued"),
    Lost("", move, "whole"),
    Lost("lock", remove, "goes on"),
)
"""The faults cover each file and the folder. They never truncate the index of a WAL (-shm), because it is
mapped in memory, and truncation would end the process (SIGBUS)."""
