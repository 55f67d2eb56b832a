# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Keys in the table meta about backups and restores, and when the last backup was made (pure)."""

from __future__ import annotations

from datetime import UTC, datetime
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


def last_backup(kind: DataKind) -> datetime | None:
    """Return when the last backup was made, or the restored one: a copy does not hold its own note."""
    notes = (kind.extra.get(note) for note in (BACKUP_NOTE, RESTORED_BACKUP_NOTE))
    made = max((int(note) for note in notes if note is not None), default=None)
    return None if made is None else datetime.fromtimestamp(made / MILLISECONDS_PER_SECOND, UTC)
