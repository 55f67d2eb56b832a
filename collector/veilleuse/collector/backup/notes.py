# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Notes about backups, restores and lost databases: keys in the table meta, and one file."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from veilleuse.collector.model.records import DataKind
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


def note_loss(data_dir: Path, unix_milliseconds: int) -> None:
    """Write the note; without effect where the folder does not take it."""
    with suppress(OSError):
        handle = os.open(data_dir / LOSS_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(f"{unix_milliseconds}\n")


def last_loss(data_dir: Path) -> int | None:
    """Return the time of the last loss, Unix milliseconds; None without one."""
    try:
        return int((data_dir / LOSS_FILE).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def last_backup(kind: DataKind) -> datetime | None:
    """Return when the last backup was made, or the restored one: a copy does not hold its own note."""
    notes = (kind.extra.get(note) for note in (BACKUP_NOTE, RESTORED_BACKUP_NOTE))
    made = max((int(note) for note in notes if note is not None), default=None)
    return None if made is None else datetime.fromtimestamp(made / MILLISECONDS_PER_SECOND, UTC)
