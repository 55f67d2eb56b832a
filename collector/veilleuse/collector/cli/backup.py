# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse backup DEST` and `veilleuse restore FILE`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from veilleuse.collector import clock
from veilleuse.collector.app.data_directory import StartResult, open_collector, require_ours
from veilleuse.collector.backup.archive import Manifest, describe_copies, write_archive
from veilleuse.collector.backup.copies import remove_copies
from veilleuse.collector.backup.destination import (
    Destination,
    destination,
    new_backup,
    only_backup,
    require_outside,
    require_room,
    rotate,
)
from veilleuse.collector.backup.encryption import Writable, new_key_file, read_key_file
from veilleuse.collector.backup.losses import count_losses
from veilleuse.collector.backup.restore import RestoreResult, give_to_owner
from veilleuse.collector.backup.restore import restore as put_back
from veilleuse.collector.calendars.periods import months_before
from veilleuse.collector.cli.progress import ShowStep, shown_progress
from veilleuse.collector.cli.shared import (
    EXIT_WARNINGS,
    ConfigOption,
    JsonOption,
    load_settings,
    print_note,
    print_result,
    run_operation,
)
from veilleuse.collector.enrolment.register import register_file
from veilleuse.collector.errors import CollectorError, UsageError
from veilleuse.collector.model.hosts import HostStatus
from veilleuse.collector.release.publications import held_months
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader
from veilleuse.collector.store.directory import (
    DATA_FILE,
    database_bytes,
    is_half_restored,
    require_whole_directory,
)
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

COPY_SECONDS: Final = 6 * 3600.0
"""Longest wait for the copies of the collector: some terabytes."""
KeyFileOption = Annotated[
    Path | None, typer.Option("--key-file", help="key file of sealed backups (default: backup.key_file)")
]
RING_HOURS: Final = 72
"""Hours that agents keep acknowledged records: docs/wire.md §2."""


@dataclass(frozen=True, slots=True)
class _BackupResult:
    path: Path
    manifest: Manifest
    removed: list[Path]


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
        kept = (
            f"key file {new_key}: keep a copy off this machine, a sealed backup cannot be opened without it"
        )
        print_result({"key_file": str(new_key)}, kept, as_json)
        return
    if dest is None:
        raise UsageError("name the file or directory of the backup: veilleuse backup DEST")
    settings = load_settings(config)
    key = read_backup_key(settings, key_file)
    with shown_progress(is_shown=not as_json) as progress:
        made = _make_backup(settings, dest, key, keep, progress)
    line = (
        f"{made.path}  {made.path.stat().st_size / 2**20:.1f} MiB, of {made.manifest.created}, "
        f"{'sealed' if key is not None else 'NOT sealed'}"
    )
    lines = [line, *(f"removed {path}" for path in made.removed)]
    print_result(_facts(made, sealed=key is not None), "\n".join(lines), as_json)
    if key is None:
        print_note(
            "veilleuse: the backup is not sealed: anyone who reads it has the names of machines and the "
            "keys that sign their certificates; make a key with 'veilleuse backup --new-key FILE' and set "
            "backup.key_file"
        )
        raise typer.Exit(EXIT_WARNINGS)


def read_backup_key(settings: CollectorSettings, key_file: Path | None) -> bytes | None:
    """Return the key of --key-file, else of the settings; None without either. Raises ConfigurationError."""
    chosen = key_file or (Path(settings.backup.key_file) if settings.backup.key_file else None)
    return None if chosen is None else read_key_file(chosen)


def _make_backup(
    settings: CollectorSettings, dest: Path, key: bytes | None, keep: int | None, progress: ShowStep
) -> _BackupResult:
    data_dir = settings.data_dir
    require_whole_directory(data_dir)
    with only_backup(data_dir):
        target = destination(dest, simulated=_is_simulated(data_dir), now=clock.now())
        require_outside(target, data_dir)
        if keep is not None and target.is_named:
            raise UsageError("--keep is for a directory of backups: DEST is a file")
        require_room(target, database_bytes(data_dir), beside=data_dir)
        progress("copying the databases", 0, 0)
        with _hold_copies(settings) as copies:
            progress("checking the copies", 0, 0)
            now_unix_milliseconds = clock.unix_milliseconds()
            manifest = describe_copies(
                Path(copies["folder"]),
                product=copies["version"],
                created_unix_milliseconds=now_unix_milliseconds,
            )
            _write(target, Path(copies["folder"]), manifest, key, progress)
            copies |= {"made_unix_milliseconds": now_unix_milliseconds, "path": target.path}
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
        remove_copies(Path(copies["folder"]))  # first: the note below needs room on a full disk
        _end_backup(settings, copies)


def _end_backup(settings: CollectorSettings, copies: dict[str, Any]) -> None:
    """Have a finished backup noted. Raises CollectorError where it cannot be, and a backup was made."""
    made = copies.get("made_unix_milliseconds")
    try:
        run_operation(settings, "backup_done", made_unix_milliseconds=made)
    except CollectorError as error:
        if made is not None:  # else the reason why none was made is told
            raise CollectorError(
                f"{copies['path']} is whole and its copies are removed, but the backup could not be noted ({error}): "
                "'veilleuse doctor' tells an older one until the next"
            ) from error


def _write(
    target: Destination, folder: Path, manifest: Manifest, key: bytes | None, progress: ShowStep
) -> None:
    whole = sum(file.bytes for file in manifest.files)
    with new_backup(target) as file:
        counted = _CountedFile(file, lambda done: progress("writing the backup", min(done, whole), whole))
        write_archive(folder, manifest, counted, key)


class _CountedFile:
    """Passes what is written on to a file, and tells how many bytes that were."""

    def __init__(self, file: Writable, tell: Callable[[int], None]) -> None:
        self._file, self._tell, self._bytes = file, tell, 0

    def write(self, content: bytes, /) -> int:
        written = self._file.write(content)
        self._bytes += len(content)
        self._tell(self._bytes)
        return written


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


def restore(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="backup to restore; none: continue an interrupted restore"),
    ] = None,
    config: ConfigOption = None,
    key_file: KeyFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore a backup. The collector must be stopped; existing data are put aside, not deleted."""
    settings = load_settings(config)
    if file is not None and file.is_dir():
        raise UsageError(f"{file} is a directory: name one backup in it{_newest(file)}")
    data_dir, now = settings.data_dir, clock.now()
    if not (data_dir / DATA_FILE).exists() and not is_half_restored(data_dir):
        require_ours(data_dir)  # a mistyped data_dir must not change the rights of other files
    restored, carried_on = put_back(data_dir, file, lambda: read_backup_key(settings, key_file), now)
    register = register_file(data_dir, settings.pki.register_file)
    has_register = register.exists()
    # Migrates the databases, replays the register, and proves that the data directory opens.
    with open_collector(settings) as collector:
        statuses, start = _status_counts(collector.store.registry.hosts()), collector.start
    give_to_owner(data_dir, data_dir)
    facts = {
        **_restore_facts(settings, restored, start, now),
        "carried_on": carried_on,
        "register": str(register) if has_register else None,
        "hosts": statuses,
    }
    if not has_register:
        facts["gone"]["revoked"] = None
    print_result(facts, "\n".join(_restore_lines(restored, facts)), as_json)
    if not has_register:
        print_note(
            f"veilleuse: no register {register}: machines revoked since the backup are accepted again, "
            "machines enrolled since are unknown; put the register back and run 'veilleuse restore' again, "
            "or revoke and enrol them again"
        )
    if trouble := start.publications.read_back.trouble:
        print_note(
            "veilleuse: what was published since the backup is not known "
            f"({start.publications.path}: {trouble}); put the file back and run 'veilleuse restore' again"
        )
    if not has_register or trouble:
        raise typer.Exit(EXIT_WARNINGS)


def _restore_facts(
    settings: CollectorSettings, restored: RestoreResult, start: StartResult, now: datetime
) -> dict[str, Any]:
    """Return what was restored, what was read back of published months, and what is gone."""
    return {
        "data_dir": str(settings.data_dir),
        "created_unix_milliseconds": restored.manifest.created_unix_milliseconds,
        "age_hours": round(
            (now.timestamp() - restored.manifest.created_unix_milliseconds / MILLISECONDS_PER_SECOND) / 3600,
            2,
        ),
        "simulated": restored.manifest.simulated,
        "replaced": str(restored.replaced) if restored.replaced else None,
        "publications": {
            "file": str(start.publications.path),
            "trouble": start.publications.read_back.trouble or None,
            "read_back": start.publications.read_back.periods,
            "unpublished": [f"{month:%Y-%m}" for month in _held(settings, now)],
        },
        "gone": {
            **count_losses(restored.replaced, restored.manifest.created_unix_milliseconds),
            "revoked": start.register.revoked + start.register.forgotten,
        },
    }


def _held(settings: CollectorSettings, now: datetime) -> tuple[date, ...]:
    since = months_before(now.date(), settings.retention.pc_monthly_months)
    with open_reader(settings.data_dir) as store:
        return held_months(store.publications, store.closings, store.data.hosts, since)


def _newest(folder: Path) -> str:
    names = sorted(path.name for path in folder.glob("veilleuse-*.backup"))
    return f", the newest is {names[-1]}" if names else ""


def _status_counts(hosts: Any) -> dict[str, int]:
    """Count machines by status."""
    return {
        status.value: number
        for status in HostStatus
        if (number := sum(host.status is status for host in hosts))
    }


def _gone_lines(gone: Mapping[str, int | None]) -> Iterator[str]:
    """Yield what was entered since the backup and is gone: how often, or that it is not known."""
    for name, number in gone.items():
        if number and name != "revoked":
            yield f"gone since the backup: {name}, {number}"
    if unknown := [name for name, number in gone.items() if number is None and name != "revoked"]:
        yield f"gone since the backup, how many is not known here: {', '.join(unknown)}"
    if revoked := gone["revoked"]:
        yield f"machines that were revoked or forgotten since the backup: {revoked}; their later records are gone"


def _restore_lines(restored: RestoreResult, facts: dict[str, Any]) -> list[str]:
    """Return the result as lines for people, with the next step."""
    begun = "continued: " if facts["carried_on"] else ""
    of = f"the {'simulated ' if facts['simulated'] else ''}collector of {restored.manifest.created}"
    known = ", ".join(f"{number} {status}" for status, number in facts["hosts"].items()) or "none"
    since = (
        f"; enrolments and revocations made since come from {facts['register']}" if facts["register"] else ""
    )
    lines = [
        f"{begun}{facts['data_dir']} is {of} again, {facts['age_hours']:.1f} h old",
        f"machines: {known}{since}",
        f"published months: {facts['publications']['read_back']} read back from {facts['publications']['file']}",
    ]
    if held := facts["publications"]["unpublished"]:
        lines.append(
            f"months that stay unpublished, perhaps published before: {', '.join(held)}; 'veilleuse published allow "
            "FROM TO --why TEXT' has them published"
        )
    lines += _gone_lines(facts["gone"])
    if restored.replaced is not None:
        kept = f"the data that it replaced are in {restored.replaced}"
        lines.append(f"{kept}: remove the folder when the restore is confirmed good, it holds keys and names")
    lines.append(
        "start 'veilleuse serve': at its next contact, each agent sends the records that are missing here, "
        f"back to {RING_HOURS} h; records that no agent has any more become declared gaps. Do nothing on the "
        "machines."
    )
    return lines
