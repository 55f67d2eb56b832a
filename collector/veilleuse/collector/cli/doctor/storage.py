# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The data directory, its databases, its disk."""

from __future__ import annotations

import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from veilleuse.collector.app.data_directory import is_initialised, what_is_missing
from veilleuse.collector.cli.doctor.findings import Finding
from veilleuse.collector.cli.doctor.forecast import HISTORY_DAYS, days_until_full
from veilleuse.collector.enrolment.ca import FOLDER
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store.sqlite.connection import MINIMUM_SQLITE, WAL_RESET_FIXED, Database, quick_check
from veilleuse.collector.store.sqlite.directory import (
    DATA_FILE,
    FLEET_KEY_FILE,
    IDENTITY_FILE,
    is_half_restored,
)
from veilleuse.collector.store.sqlite.migrations import require_current
from veilleuse.collector.store.sqlite.upkeep import sizes
from veilleuse.wire.files import FileRefused, check_owned

SOON_DAYS: Final = 30
"""A disk that will be full so soon is worth a word."""


def check_directory(settings: CollectorSettings) -> Iterator[Finding]:
    """The data directory and everything in it belongs to its owner alone."""
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
    foreign = list(_foreign(data_dir))
    if foreign:
        user, group = _owner(data_dir)
        names = ", ".join(str(path) for path in foreign[:3])
        yield Finding(
            "directory",
            "failed",
            f"{names}: not {user}'s, whose {data_dir} is",
            f"as root: chown -R {user}:{group} {data_dir}",
        )
    yield from _refused(data_dir)
    open_to_others = [path for path in (data_dir, *data_dir.rglob("*")) if _is_open(path)]
    if open_to_others:
        names = ", ".join(str(path) for path in open_to_others[:3])
        yield Finding(
            "directory", "warning", f"{names} can be read by others", f"run 'chmod -R go= {data_dir}'"
        )
    else:
        yield Finding("directory", "good", str(data_dir))


def _foreign(data_dir: Path) -> Iterator[Path]:
    """What somebody else has put there: the service cannot write it."""
    owner = data_dir.stat().st_uid
    return (path for path in sorted(data_dir.rglob("*")) if path.lstat().st_uid != owner)


def _refused(data_dir: Path) -> Iterator[Finding]:
    """Keys and certificates that no command opens as they are."""
    for path in (data_dir / FLEET_KEY_FILE, *sorted((data_dir / FOLDER).iterdir())):
        try:
            check_owned(path)
        except FileRefused as error:
            why, _, remedy = str(error.strerror).partition(": ")
            yield Finding("directory", "failed", f"{path}: {why}", remedy)


def _owner(path: Path) -> tuple[str, str]:
    """User and group, by number where they have no name."""
    try:
        return path.owner(), path.group()
    except KeyError:
        facts = path.stat()
        return str(facts.st_uid), str(facts.st_gid)


def _is_open(path: Path) -> bool:
    mode = path.lstat().st_mode
    return not stat.S_ISLNK(mode) and bool(mode & (stat.S_IRWXG | stat.S_IRWXO))


def check_sqlite(settings: CollectorSettings) -> Iterator[Finding]:
    """The library's version, and both files whole."""
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
        yield Finding(
            "sqlite", "failed", f"SQLite {version} is too old", "update libsqlite3 to 3.37 or newer"
        )
    elif sqlite3.sqlite_version_info < WAL_RESET_FIXED:
        text = f"SQLite {version} has the WAL-reset race, fixed in 3.51.3"
        yield Finding("sqlite", "good", f"{text}: harmless while only the collector writes to its files")
    else:
        yield Finding("sqlite", "good", f"SQLite {version}")
    for name, kind in ((DATA_FILE, "data"), (IDENTITY_FILE, "identity")):
        path = settings.data_dir / name
        with closing(Database(path, writing=False)) as database:
            found = quick_check(database)
            if not found:
                require_current(database, kind)
        if found:
            yield Finding(
                "sqlite",
                "failed",
                f"{path} is damaged: {found[0]}",
                "stop 'veilleuse serve' and restore a backup",
            )
        else:
            yield Finding("sqlite", "good", f"{name} is whole, {path.stat().st_size / 2**20:.1f} MiB")


def check_disk(settings: CollectorSettings) -> Iterator[Finding]:
    """Free space against the reserve under which no record is accepted."""
    usage = shutil.disk_usage(settings.data_dir)
    reserve = _reserve(settings, usage.total)
    text = f"{usage.free / 2**20:.0f} MiB free, reserve {reserve / 2**20:.0f} MiB"
    if usage.free < reserve:
        yield Finding(
            "disk",
            "failed",
            f"{text}: no record is accepted",
            "free some space; the agents keep their records",
        )
    elif usage.free < 2 * reserve:
        yield Finding("disk", "warning", text, "free some space soon")
    else:
        yield Finding("disk", "good", text)


def check_forecast(settings: CollectorSettings) -> Iterator[Finding]:
    """When the reserve will be reached."""
    usage = shutil.disk_usage(settings.data_dir)
    yield _forecast(settings, usage.free - _reserve(settings, usage.total))


def _reserve(settings: CollectorSettings, total_bytes: int) -> int:
    return min(settings.store.free_bytes_minimum, int(settings.store.free_ratio_minimum * total_bytes))


def _forecast(settings: CollectorSettings, room_bytes: int) -> Finding:
    with closing(Database(settings.data_dir / DATA_FILE, writing=False)) as database:
        history = sizes(database)
    days = days_until_full(history, room_bytes)
    if days is None:
        known = f"{len(history)} day(s) of sizes are known"
        return Finding("forecast", "good", f"not enough history: {known}, {HISTORY_DAYS} are needed")
    if days == float("inf"):
        return Finding("forecast", "good", "the databases do not grow")
    text = f"at this growth the reserve is reached in {days:.0f} day(s)"
    if days < SOON_DAYS:
        return Finding(
            "forecast", "warning", text, "give the data directory a larger disk, or free some space on it"
        )
    return Finding("forecast", "good", text)
