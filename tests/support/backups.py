# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Data directories with something in them, their backups and what a directory holds: for the tests of backup
and restore."""

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
    """A data directory below `folder`, with so many tokens in it."""
    folder.mkdir(exist_ok=True)
    settings = settings_in(folder, **(overrides or {}))
    initialise(settings, site="Lyon", simulated=simulated)
    add_tokens(settings, tokens)
    return settings


def add_tokens(settings: CollectorSettings, tokens: int) -> None:
    """So many more."""
    with open_collector(settings) as collector:
        for _ in range(tokens):
            collector.operations.perform("token_create", ORDER)


def make_backup(settings: CollectorSettings, path: Path, key: bytes | None = None) -> Path:
    """As the command does, in this process."""
    with open_collector(settings) as collector:
        folder = Path(collector.operations.perform("backup_copy", {})["folder"])
        manifest = describe_copies(
            folder, product="0.2.0", created_unix_milliseconds=round(NOW.timestamp() * 1000)
        )
        with path.open("wb") as file:
            write_archive(folder, manifest, file, key)
        collector.operations.perform("backup_done", {"made_unix_milliseconds": None})
    return path


def put_back(
    settings: CollectorSettings, path: Path | None, key: bytes | None = None
) -> tuple[RestoreResult, bool]:
    """As the command does, in this process."""
    return restore(settings.data_dir, path, lambda: key, NOW)


def tokens_in(data_dir: Path) -> int:
    """How many there are."""
    with closing(sqlite3.connect(f"{(data_dir / 'data.db').as_uri()}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM tokens").fetchone()[0])


def content_of(folder: Path) -> dict[str, str]:
    """Every file below: its name and its hash; but the lock, and what a reader of SQLite leaves: -shm and an
    empty -wal."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock" and not path.name.endswith("-shm")
        if path.stat().st_size or not path.name.endswith("-wal")
    }


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """A copy of an open backup whose members were changed."""
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
    """Change what it says, as JSON."""
    told = json.loads(members["manifest.json"])
    change(told)
    members["manifest.json"] = json.dumps(told).encode()
