# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse backup DEST`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from veilleuse.collector.backup.archive import Manifest, describe_copies, write_archive
from veilleuse.collector.backup.destination import (
    Destination,
    destination,
    new_backup,
    only_backup,
    require_outside,
    require_room,
    rotate,
)
from veilleuse.collector.backup.encryption import new_key_file, read_key_file
from veilleuse.collector.cli.shared import (
    APP,
    EXIT_WARNINGS,
    ConfigOption,
    JsonOption,
    load_settings,
    print_json,
    run_operation,
)
from veilleuse.collector.errors import UsageError
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.collector.store.directory import database_bytes, require_whole_directory
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

app = typer.Typer(**APP)

COPY_SECONDS: Final = 6 * 3600.0
"""Longest wait for the copies of the collector: some terabytes."""
KeyFileOption = Annotated[
    Path | None, typer.Option("--key-file", help="key file of sealed backups (default: backup.key_file)")
]


@dataclass(frozen=True, slots=True)
class _BackupResult:
    path: Path
    manifest: Manifest
    removed: list[Path]


@app.command()
def backup(
    dest: Annotated[
        Path | None, typer.Argument(metavar="DEST", help="new file, or a directory for a new file")
    ] = None,
    config: ConfigOption = None,
    key_file: KeyFileOption = None,
    new_key: Annotated[
        Path | None, typer.Option("--new-key", metavar="FILE", help="make a key file, and no backup")
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(help="keep this number of the newest backups in a directory, remove the others", min=1),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Copy databases, keys and certificates into one file. The collector may run."""
    if new_key is not None:
        if dest is not None:
            raise UsageError("--new-key makes a key and no backup: leave out DEST")
        new_key_file(new_key)
        if as_json:
            print_json({"key_file": str(new_key)})
            return
        print(
            f"key file {new_key}: keep a copy off this machine, a sealed backup cannot be opened without it"
        )
        return
    if dest is None:
        raise UsageError("name the file or directory of the backup: veilleuse backup DEST")
    settings = load_settings(config)
    key = read_backup_key(settings, key_file)
    made = _make_backup(settings, dest, key, keep)
    if as_json:
        print_json(_facts(made, sealed=key is not None))
    else:
        print(
            f"{made.path}  {made.path.stat().st_size / 2**20:.1f} MiB, of {made.manifest.created}, "
            f"{'sealed' if key is not None else 'NOT sealed'}"
        )
        for path in made.removed:
            print(f"removed {path}")
    if key is None:
        print(
            "veilleuse: the backup is not sealed: anyone who reads it has the names of machines and the "
            "keys that sign their certificates; make a key with 'veilleuse backup --new-key FILE' and set "
            "backup.key_file",
            file=sys.stderr,
        )
        raise typer.Exit(EXIT_WARNINGS)


def read_backup_key(settings: CollectorSettings, key_file: Path | None) -> bytes | None:
    """Return the key of --key-file, else of the settings; None without either. Raises ConfigurationError."""
    chosen = key_file or (Path(settings.backup.key_file) if settings.backup.key_file else None)
    return None if chosen is None else read_key_file(chosen)


def _make_backup(
    settings: CollectorSettings, dest: Path, key: bytes | None, keep: int | None
) -> _BackupResult:
    data_dir = settings.data_dir
    require_whole_directory(data_dir)
    with only_backup(data_dir):
        target = destination(dest, simulated=_is_simulated(data_dir), now=datetime.now(UTC))
        require_outside(target, data_dir)
        if keep is not None and target.is_named:
            raise UsageError("--keep is for a directory of backups: DEST is a file")
        require_room(target, database_bytes(data_dir), beside=data_dir)
        with _hold_copies(settings) as copies:
            now_unix_milliseconds = round(datetime.now(UTC).timestamp() * MILLISECONDS_PER_SECOND)
            manifest = describe_copies(
                Path(copies["folder"]),
                product=copies["version"],
                created_unix_milliseconds=now_unix_milliseconds,
            )
            _write(target, Path(copies["folder"]), manifest, key)
            copies["made_unix_milliseconds"] = now_unix_milliseconds
        removed = rotate(target, keep) if keep is not None else []
    return _BackupResult(target.path, manifest, removed)


@contextmanager
def _hold_copies(settings: CollectorSettings) -> Iterator[dict[str, Any]]:
    """Hold the copies of the collector while the block runs.

    The block puts the time of a finished backup into `made_unix_milliseconds`: the collector notes it.
    """
    copies: dict[str, Any] = run_operation(settings, "backup_copy", timeout_seconds=COPY_SECONDS)
    try:
        yield copies
    finally:
        run_operation(settings, "backup_done", made_unix_milliseconds=copies.get("made_unix_milliseconds"))


def _write(target: Destination, folder: Path, manifest: Manifest, key: bytes | None) -> None:
    with new_backup(target) as file:
        write_archive(folder, manifest, file, key)


def _is_simulated(data_dir: Path) -> bool:
    with open_reader(data_dir) as store:
        return store.data.data_kind().simulated


def _facts(made: _BackupResult, *, sealed: bool) -> dict[str, Any]:
    manifest = made.manifest
    return {
        "path": str(made.path),
        "bytes": made.path.stat().st_size,
        "sealed": sealed,
        "created_unix_milliseconds": manifest.created_unix_milliseconds,
        "simulated": manifest.simulated,
        "product": manifest.product,
        "schema": dict(manifest.schema),
        "rows": {name: dict(tables) for name, tables in manifest.rows.items()},
        "removed": [str(path) for path in made.removed],
    }
