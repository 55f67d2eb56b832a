# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Checks the data directory, its databases, its disk, the retention and the backups."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

from veilleuse.collector import clock
from veilleuse.collector.app.data_directory import is_initialised, what_is_missing
from veilleuse.collector.backup.destination import is_in_progress
from veilleuse.collector.backup.notes import (
    RESTORE_NOTE,
    RESTORED_BACKUP_NOTE,
    RESTORES_COUNT,
    last_backup,
    newest_copy,
)
from veilleuse.collector.backup.publication_register import publication_file
from veilleuse.collector.calendars.periods import months_before
from veilleuse.collector.cli.doctor.findings import Finding, outcome_of
from veilleuse.collector.enrolment.register import register_file
from veilleuse.collector.enrolment.root_key import FOLDER
from veilleuse.collector.months.retention import limits
from veilleuse.collector.months.worker import ended_by
from veilleuse.collector.ports.months import Limits, OldestKept
from veilleuse.collector.release.publications import held_months
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.sqlite_library import sqlite3
from veilleuse.collector.store import MINIMUM_SQLITE, WAL_RESET_FIXED, check_database, open_reader
from veilleuse.collector.store.directory import (
    BACKUP_FOLDER,
    DATA_FILE,
    FLEET_KEY_FILE,
    IDENTITY_FILE,
    REPLACED_PREFIX,
    RESTORE_UNPACKED,
    find_undecided,
    is_half_restored,
)
from veilleuse.collector.web.metrics.disk import HISTORY_DAYS, read_disk
from veilleuse.wire.files import FileRefused, check_owned
from veilleuse.wire.units import MILLISECONDS_PER_SECOND, SECONDS_PER_DAY
from veilleuse.wire.vocabulary import Population


def check_directory(settings: CollectorSettings) -> Iterator[Finding]:
    """Check that the data directory is complete, and that only its owner can read and write in it."""
    data_dir = settings.data_dir
    if is_half_restored(data_dir):
        yield Finding(
            "directory", "failed", f"{data_dir} is half restored", "run 'veilleuse restore' to carry it on"
        )
        return
    if not is_initialised(data_dir):
        what, remedy = what_is_missing(data_dir)
        yield Finding("directory", "failed", what, remedy)
        return
    foreign = list(_foreign_paths(data_dir))
    if foreign:
        user, group = _owner(data_dir)
        names = ", ".join(str(path) for path in foreign[:3])
        yield Finding(
            "directory",
            "failed",
            f"{names}: not owned by {user}, the owner of {data_dir}",
            f"as root: chown -R {user}:{group} {data_dir}",
        )
    yield from _refused_files(data_dir)
    open_to_others = [path for path in (data_dir, *data_dir.rglob("*")) if _is_open(path)]
    if open_to_others:
        names = ", ".join(str(path) for path in open_to_others[:3])
        yield Finding(
            "directory", "warning", f"{names} can be read by others", f"run 'chmod -R go= {data_dir}'"
        )
    else:
        yield Finding("directory", "good", str(data_dir))


def _foreign_paths(data_dir: Path) -> Iterator[Path]:
    """Yield the paths of another owner: the service cannot write these."""
    owner = data_dir.stat().st_uid
    return (path for path in sorted(data_dir.rglob("*")) if path.lstat().st_uid != owner)


def _refused_files(data_dir: Path) -> Iterator[Finding]:
    """Yield a finding for each key or certificate that commands refuse: wrong owner or mode."""
    for path in (data_dir / FLEET_KEY_FILE, *sorted((data_dir / FOLDER).iterdir())):
        try:
            check_owned(path)
        except FileRefused as error:
            why, _, remedy = str(error.strerror).partition(": ")
            yield Finding("directory", "failed", f"{path}: {why}", remedy)


def _owner(path: Path) -> tuple[str, str]:
    """Return user and group, by number where these have no name."""
    try:
        return path.owner(), path.group()
    except KeyError:
        facts = path.stat()
        return str(facts.st_uid), str(facts.st_gid)


def _is_open(path: Path) -> bool:
    mode = path.lstat().st_mode
    return not stat.S_ISLNK(mode) and bool(mode & (stat.S_IRWXG | stat.S_IRWXO))


def check_sqlite(settings: CollectorSettings) -> Iterator[Finding]:
    """Check the version of the library and the integrity of both database files."""
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
        yield Finding(
            "sqlite", "failed", f"SQLite {version} is too old", "update libsqlite3 to 3.37 or newer"
        )
    elif sqlite3.sqlite_version_info < WAL_RESET_FIXED:
        text = f"SQLite {version} has the WAL-reset race, fixed in 3.51.3"
        yield Finding("sqlite", "good", f"{text}: only the collector may write to its files")
    else:
        yield Finding("sqlite", "good", f"SQLite {version}")
    for name, kind in ((DATA_FILE, "data"), (IDENTITY_FILE, "identity")):
        path = settings.data_dir / name
        if found := check_database(path, kind):
            yield Finding(
                "sqlite",
                "failed",
                f"{path} is damaged: {found}",
                "stop the collector and restore a backup",
            )
        else:
            yield Finding("sqlite", "good", f"{name} is whole, {path.stat().st_size / 2**20:.1f} MiB")


def check_disk(settings: CollectorSettings) -> Iterator[Finding]:
    """Compare the free space with the reserve: below the reserve no record is accepted."""
    disk = read_disk(settings, ())
    text = f"{disk.free_bytes / 2**20:.0f} MiB free, reserve {disk.reserve_bytes / 2**20:.0f} MiB"
    outcome = outcome_of("disk_low", disk.free_bytes / (disk.reserve_bytes or 1))
    if outcome == "failed":
        yield Finding(
            "disk",
            "failed",
            f"{text}: no record is accepted",
            "free some space; agents keep their records until then",
        )
    else:
        yield Finding("disk", outcome, text, "free some space soon" if outcome == "warning" else "")


def check_forecast(settings: CollectorSettings) -> Iterator[Finding]:
    """Estimate when the free space reaches the reserve."""
    with open_reader(settings.data_dir) as store:
        history = store.data.sizes()
    yield _forecast(read_disk(settings, history).days_until_full, len(history))


def _forecast(days: float | None, days_known: int) -> Finding:
    if days is None:
        known = f"{days_known} day(s) of sizes are known"
        return Finding("forecast", "good", f"not enough history: {known}, {HISTORY_DAYS} are needed")
    if days == float("inf"):
        return Finding("forecast", "good", "the databases do not grow")
    text = f"at this growth the reserve is reached in {days:.0f} day(s)"
    outcome = outcome_of("disk_forecast", days * SECONDS_PER_DAY)
    remedy = "give the data directory a larger disk, or free some space on it"
    return Finding("forecast", outcome, text, "" if outcome == "good" else remedy)


GRACE_DAYS: Final = 2
"""Days after its limit until a row is too old: one for the daily run, one for the time zones."""


def check_retention(settings: CollectorSettings) -> Iterator[Finding]:
    """Compare the oldest rows of each population with their retention limits."""
    today = clock.today()
    zone = settings.reporting.time_zone
    with open_reader(settings.data_dir) as store:
        present = {host.population for host in store.data.hosts()}
        for population in (one for one in Population if one in present):
            oldest = store.data.oldest(population, ended_by(today - timedelta(days=GRACE_DAYS)))
            bounds = limits(settings.retention, population, zone, today - timedelta(days=GRACE_DAYS))
            yield from _check_population(population, oldest, bounds)


def _check_population(population: Population, oldest: OldestKept, bounds: Limits) -> Iterator[Finding]:
    late = [words for words, is_late in _late_kinds(oldest, bounds) if is_late]
    if late:
        remedy = "let 'veilleuse serve' run, it removes them every day"
        if oldest.stale_months:
            remedy = (
                "'veilleuse derive' stores the months of these days first; then let 'veilleuse serve' run"
            )
        yield Finding(
            "retention", "warning", f"{population}: {', '.join(late)} are older than they may be", remedy
        )
        return
    if oldest.day is None:
        yield Finding("retention", "good", f"{population}: no day is kept yet")
        return
    month = f", the oldest month {date.fromordinal(oldest.month):%Y-%m}" if oldest.month else ""
    day = date.fromordinal(oldest.day)
    yield Finding("retention", "good", f"{population}: the oldest day is {day}{month}; nothing is too old")


def _late_kinds(oldest: OldestKept, bounds: Limits) -> Iterator[tuple[str, bool]]:
    """Yield (kind of row, True when the oldest is past its limit)."""
    yield "days", oldest.day is not None and oldest.day < bounds.days
    yield "weeks", oldest.week is not None and oldest.week + 7 <= bounds.days
    yield "months", oldest.month is not None and oldest.month + 31 <= bounds.months
    hour = oldest.hour_unix_milliseconds
    yield "hours", hour is not None and hour < bounds.hours_unix_milliseconds


def check_sums(settings: CollectorSettings) -> Iterator[Finding]:
    """Compare the sums of servers that `/metrics` and the first page show with the tables."""
    with open_reader(settings.data_dir) as store:
        wrong = store.data.server_sums().wrong_tables()
    if wrong:
        yield Finding(
            "sums",
            "failed",
            f"{', '.join(wrong)}: not the sums of their records; /metrics and the first page are wrong, no report is",
            "report it to the developers; sums of days are right again after three days",
        )
    else:
        yield Finding("sums", "good", "the sums of servers are those of their records")


def check_backup(settings: CollectorSettings) -> Iterator[Finding]:
    """Check the age of the last backup, and that backups are encrypted."""
    with open_reader(settings.data_dir) as store:
        kind = store.data.data_kind()
    remedy = "'veilleuse backup DEST', or each night: 'systemctl enable --now veilleuse-backup.timer'"
    made = last_backup(kind)
    if kind.simulated and made is None:
        yield Finding("backup", "good", "simulated data: no backup was made")
    elif made is None:
        yield Finding("backup", "warning", "no backup was ever made", remedy)
    else:
        age = clock.now() - made
        outcome = outcome_of("backup_old", age.total_seconds())
        text = f"the last backup was made on {made:%Y-%m-%d}, {_ago(age / timedelta(days=1))}"
        yield Finding("backup", outcome, text, "" if outcome == "good" else remedy)
        yield _copy_elsewhere(newest_copy(settings.data_dir))
    if not settings.backup.key_file and not (kind.simulated and made is None):
        yield Finding(
            "backup",
            "warning",
            "backup.key_file is not set: backups are not sealed, anyone who reads one has names and keys",
            "'veilleuse backup --new-key FILE', then set it",
        )
    if kind.extra.get(RESTORES_COUNT):
        times = [kind.extra.get(note, "0") for note in (RESTORE_NOTE, RESTORED_BACKUP_NOTE)]
        restored, of = (datetime.fromtimestamp(int(each) / MILLISECONDS_PER_SECOND, UTC) for each in times)
        text = (
            f"restored {kind.extra[RESTORES_COUNT]} time(s), last on {restored:%Y-%m-%d} "
            f"to the backup of {of:%Y-%m-%d}"
        )
        yield Finding("backup", "good", text)


def check_held_months(settings: CollectorSettings) -> Iterator[Finding]:
    """Name the months that stay unpublished since a restore, and why."""
    since = months_before(clock.now().date(), settings.retention.pc_monthly_months)
    with open_reader(settings.data_dir) as store:
        hold, held = (
            store.publications.hold(),
            held_months(store.publications, store.closings, store.data.hosts, since),
        )
    if hold is None or not held:
        return
    file = publication_file(register_file(settings.data_dir, settings.pki.register_file))
    names = ", ".join(f"{month:%Y-%m}" for month in held)
    yield Finding(
        "months",
        outcome_of("month_held", 1),
        f"unpublished since the restore, perhaps published before: {names}",
        f"put {file} back and restore again; if it is lost: 'veilleuse published allow FROM TO --why TEXT'",
    )


def _copy_elsewhere(made: datetime | None) -> Finding:
    """Judge the newest copy on another machine like a backup; one that nobody noted is not known."""
    remedy = "copy each backup to another machine: 'Copies elsewhere' in docs/install-debian.md"
    if made is None:
        return Finding(
            "backup", "warning", "whether a backup is also on another machine is not known", remedy
        )
    age = clock.now() - made
    outcome = outcome_of("backup_old", age.total_seconds())
    text = f"the newest copy on another machine is of {made:%Y-%m-%d}, {_ago(age / timedelta(days=1))}"
    return Finding("backup", outcome, text, "" if outcome == "good" else remedy)


def _ago(days: float) -> str:
    return f"{days * 24:.0f} hour(s) ago" if days < 2 else f"{days:.0f} day(s) ago"


def check_leftovers(settings: CollectorSettings) -> Iterator[Finding]:
    """Find folders with keys and names that are no longer needed."""
    data_dir = settings.data_dir
    if rescue := find_undecided(data_dir):
        yield Finding("leftovers", "failed", *rescue)
    for path in sorted(data_dir.glob(f"{REPLACED_PREFIX}*")):
        size = sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
        yield Finding(
            "leftovers",
            "warning",
            f"{path} holds what a restore replaced, {size / 2**20:.0f} MiB with keys and names",
            f"when the restore is confirmed good: rm -r {path}",
        )
    left = [name for name in (BACKUP_FOLDER, RESTORE_UNPACKED) if (data_dir / name).exists()]
    if left and not is_in_progress(data_dir):
        yield Finding(
            "leftovers",
            "warning",
            f"{data_dir / left[0]} was left by an interrupted backup or restore",
            "the next backup or restore removes it",
        )
