# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""When the last backup was made, and what backups and restores have left lying about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Final

from veilleuse.collector.admin.backup import BACKUP_NOTE
from veilleuse.collector.backup.destination import is_being_made
from veilleuse.collector.backup.restore import RESTORE_NOTE, RESTORED_BACKUP_NOTE, RESTORES_COUNT
from veilleuse.collector.cli.doctor.findings import Finding
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store.sqlite import SqliteReader
from veilleuse.collector.store.sqlite.directory import (
    BACKUP_FOLDER,
    REPLACED_PREFIX,
    RESTORE_UNPACKED,
    undecided,
)

OLD_DAYS: Final = 7
"""A backup older than this is worth a word. Agents send again what is younger than 3 days: the rest would be lost."""


def check_backup(settings: CollectorSettings) -> Iterator[Finding]:
    """How old the last backup is."""
    with closing(SqliteReader(settings.data_dir)) as reader:
        kind = reader.data_kind()
    remedy = "'veilleuse backup DEST', or the timer of deploy/systemd"
    notes = (
        kind.extra.get(note) for note in (BACKUP_NOTE, RESTORED_BACKUP_NOTE)
    )  # a copy does not hold its own note
    made = max((int(note) for note in notes if note is not None), default=None)
    if kind.simulated and made is None:
        yield Finding("backup", "good", "simulated data were never backed up")
    elif made is None:
        yield Finding("backup", "warning", "no backup was ever made", remedy)
    else:
        when = datetime.fromtimestamp(made / 1000, UTC)
        days = (datetime.now(UTC) - when).total_seconds() / 86_400
        old = days > OLD_DAYS
        text = f"the last backup was made on {when:%Y-%m-%d}, {_ago(days)}"
        yield Finding("backup", "warning" if old else "good", text, remedy if old else "")
    if not settings.backup.key_file and not (kind.simulated and made is None):
        yield Finding(
            "backup",
            "warning",
            "backup.key_file is not set: backups are not sealed, whoever reads one has names and keys",
            "'veilleuse backup --new-key FILE', then set it",
        )
    if kind.extra.get(RESTORES_COUNT):
        times = [kind.extra.get(note, "0") for note in (RESTORE_NOTE, RESTORED_BACKUP_NOTE)]
        restored, of = (datetime.fromtimestamp(int(each) / 1000, UTC) for each in times)
        text = f"restored {kind.extra[RESTORES_COUNT]} time(s), last on {restored:%Y-%m-%d} to the backup of {of:%Y-%m-%d}"
        yield Finding("backup", "good", text)


def _ago(days: float) -> str:
    return f"{days * 24:.0f} hour(s) ago" if days < 2 else f"{days:.0f} day(s) ago"


def check_leftovers(settings: CollectorSettings) -> Iterator[Finding]:
    """Folders that hold keys and names and that nobody needs any more."""
    data_dir = settings.data_dir
    if rescue := undecided(data_dir):
        yield Finding("leftovers", "failed", *rescue)
    for path in sorted(data_dir.glob(f"{REPLACED_PREFIX}*")):
        size = sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
        yield Finding(
            "leftovers",
            "warning",
            f"{path} holds what a restore replaced, {size / 2**20:.0f} MiB with keys and names",
            f"once you are content with the restore: rm -r {path}",
        )
    left = [name for name in (BACKUP_FOLDER, RESTORE_UNPACKED) if (data_dir / name).exists()]
    if left and not is_being_made(data_dir):
        yield Finding(
            "leftovers",
            "warning",
            f"{data_dir / left[0]} was left by a backup or a restore that was cut",
            "the next one removes it",
        )
