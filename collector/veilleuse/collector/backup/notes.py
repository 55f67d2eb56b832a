# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Notes about backups, restores and lost databases: keys in the table meta, and one file."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from veilleuse.collector.model.records import DataKind
from veilleuse.wire.files import read_owned, replace_owned
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

BACKUP_NOTE: Final = "last_backup_unix_milliseconds"
"""Time when the last backup was complete, sealed or not."""
RESTORES_COUNT: Final = "restores"
"""Number of times that this data was restored from a backup."""
RESTORE_NOTE: Final = "last_restore_unix_milliseconds"
RESTORED_BACKUP_NOTE: Final = "restored_backup_unix_milliseconds"
"""Creation time of the backup that was restored last."""


LOSS_FILE: Final = "loss.note"
"""File in the data directory: Unix milliseconds at which a collector ended because its store was replaced.

The database that is there now may be another one, so it cannot hold the note.
"""
_MOST_DIGITS: Final = 32
ELSEWHERE_FILE: Final = "backup.elsewhere"
"""File in the data directory: the line of `sha256sum` of the newest copy on another machine.

What makes the copies writes it, after that machine's hash was compared with the backup here.
"""
_COPY: Final = re.compile(rb"[0-9a-f]{64} [ *](?:[^\n]*/)?veilleuse-([0-9]{8}T[0-9]{6}Z)\.backup\n?")
_MOST_COPY_BYTES: Final = 4096


def note_loss(data_dir: Path, unix_milliseconds: int) -> None:
    """Write the note; without effect where the folder does not take it."""
    with suppress(OSError):
        replace_owned(data_dir / LOSS_FILE, b"%d\n" % unix_milliseconds)


def last_loss(data_dir: Path) -> int | None:
    """Return the time of the last loss, Unix milliseconds; None without one."""
    try:
        return int(read_owned(data_dir / LOSS_FILE, _MOST_DIGITS))
    except (OSError, ValueError):
        return None


def newest_copy(data_dir: Path) -> datetime | None:
    """Return when the newest backup with a copy on another machine was made; None where it is not known."""
    try:
        line = _COPY.fullmatch(read_owned(data_dir / ELSEWHERE_FILE, _MOST_COPY_BYTES))
        return line and datetime.strptime(line[1].decode(), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except (OSError, ValueError):
        return None


def last_backup(kind: DataKind) -> datetime | None:
    """Return when the last backup was made, or the restored one: a copy does not hold its own note."""
    notes = (kind.extra.get(note) for note in (BACKUP_NOTE, RESTORED_BACKUP_NOTE))
    made = max((int(note) for note in notes if note is not None), default=None)
    return None if made is None else datetime.fromtimestamp(made / MILLISECONDS_PER_SECOND, UTC)
