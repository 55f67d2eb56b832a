# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Create data directories with content, back them up, and read what they contain, for the backup tests."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support.machines import settings_in
from veilleuse.collector.app.data_directory import initialise, open_collector
from veilleuse.collector.backup.archive import describe_copies, write_archive
from veilleuse.collector.backup.restore import RestoreResult, restore
from veilleuse.collector.settings import CollectorSettings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ORDER = {"org_entity": "DSI", "site": "Lyon", "population": "server"}


def directory(
    folder: Path, *, tokens: int = 1, simulated: bool = False, overrides: dict[str, str] | None = None
) -> CollectorSettings:
    """Create a data directory below `folder` with `tokens` enrolment tokens; return its settings."""
    folder.mkdir(exist_ok=True)
    settings = settings_in(folder, **(overrides or {}))
    initialise(settings, site="Lyon", simulated=simulated)
    add_tokens(settings, tokens)
    return settings


def add_tokens(settings: CollectorSettings, tokens: int) -> None:
    """Create `tokens` further enrolment tokens in an existing data directory."""
    with open_collector(settings) as collector:
        for _ in range(tokens):
            collector.operations.perform("token_create", ORDER)


def make_backup(settings: CollectorSettings, path: Path, key: bytes | None = None) -> Path:
    """Write a backup to `path` as the command does, in this process, encrypted if `key` is given."""
    with open_collector(settings) as collector:
        folder = Path(collector.operations.perform("backup_copy", {})["folder"])
        manifest = describe_copies(
            folder, product="0.2.0", created_unix_milliseconds=round(NOW.timestamp() * 1000)
        )
        with path.open("wb") as file:
            path.chmod(0o600)
            write_archive(folder, manifest, file, key)
        collector.operations.perform("backup_done", {"made_unix_milliseconds": None})
    return path


def put_back(
    settings: CollectorSettings, path: Path | None, key: bytes | None = None
) -> tuple[RestoreResult, bool]:
    """Restore `path` into the data directory as the command does, in this process; return its result."""
    return restore(settings.data_dir, path, lambda: key, NOW)


def tokens_in(data_dir: Path) -> int:
    """Return the number of enrolment tokens in a data directory."""
    with closing(sqlite3.connect(f"{(data_dir / 'data.db').as_uri()}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM tokens").fetchone()[0])


def content_of(folder: Path) -> dict[str, str]:
    """Return relative path → SHA-256 of all files below `folder`. The lock and the files that a reader of
    SQLite leaves (-shm, an empty -wal) are left out."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock" and not path.name.endswith("-shm")
        if path.stat().st_size or not path.name.endswith("-wal")
    }


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """Write a changed copy of an unencrypted backup beside it; `change` edits its name → bytes."""
    with tarfile.open(path) as tar:
        members = {}
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            members[member.name] = content.read()
    change(members)
    copy = path.with_name(f"changed-{os.urandom(4).hex()}.backup")
    with tarfile.open(copy, "w") as tar:
        for name, content_bytes in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content_bytes)
            tar.addfile(member, io.BytesIO(content_bytes))
    return copy


def edit_manifest(members: dict[str, bytes], change: Callable[[dict[str, Any]], None]) -> None:
    """Apply `change` to the parsed manifest of a backup's members, in place."""
    told = json.loads(members["manifest.json"])
    change(told)
    members["manifest.json"] = json.dumps(told).encode()
