# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Removes this machine's data from the state directory before the disk becomes an image. docs/wire.md §7.

The configuration stays. Deleted data may remain in free blocks of the disk. The identity of an enrolled
machine therefore has to be revoked on the collector.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from veilleuse.agent.errors import AgentError, AlreadyRunning
from veilleuse.agent.identity.clone import DROPPED, ORIGINAL
from veilleuse.agent.identity.join_file import MAX_BYTES, read_join_file
from veilleuse.agent.identity.store import DIRECTORY, as_owner_of, write_private
from veilleuse.agent.platforms import here
from veilleuse.agent.platforms.locks import POLL_LOCK, RUN_LOCK, SEND_LOCK, ProcessLock
from veilleuse.agent.settings import AgentSettings, join_file_path
from veilleuse.agent.sources.snapshot import PUBLISHED_FILE
from veilleuse.agent.spool.database import FILE_NAME
from veilleuse.wire.files import read_named, read_owned


@dataclass(frozen=True, slots=True)
class WipeResult:
    """Result of `wipe`: what was removed, and what is left for the clones."""

    agent_id: str
    """Id of the removed identity, hexadecimal; empty when there was none."""
    removed: tuple[Path, ...]
    join_file: Path | None
    """Join file left for the clones to enrol with."""


def wipe(settings: AgentSettings, join_file: Path | None = None) -> WipeResult:
    """Remove all data of this machine; with `join_file`, leave a copy of it for the clones. May be repeated.

    Raises IdentityError for an invalid join file, AlreadyRunning while the service or a sender runs, and
    AgentError.
    """
    state, content = settings.paths.state, b""
    if join_file is not None:
        read_join_file(join_file)
        content = read_named(join_file, MAX_BYTES)
    with as_owner_of(state):
        run, send = _take_locks(state)
        with run, send:
            agent_id = _agent_id(state)
            removed = tuple(_remove(path) for path in _belongings(state))
            left = join_file_path(settings)
            if join_file is not None:
                write_private(left, content)
            _delete_locks(state)
        return WipeResult(agent_id, removed, left if left.exists() else None)


def _take_locks(state: Path) -> tuple[ProcessLock, ProcessLock]:
    try:
        run = ProcessLock(state, RUN_LOCK, what="veilleuse-agent run")
        try:
            return run, ProcessLock(state, SEND_LOCK, what="veilleuse-agent send")
        except AgentError:
            run.release()
            raise
    except AlreadyRunning as error:
        raise AlreadyRunning(f"{error}; under systemd: `systemctl stop veilleuse-agent`") from error


def _belongings(state: Path) -> Iterator[Path]:
    """List the identity first: if interrupted after it, the rest is a spool that nobody can send."""
    for name in (DIRECTORY, ORIGINAL, DROPPED):
        if (state / name).exists():
            yield state / name
    yield from sorted(state.glob(f"{FILE_NAME}*"))
    yield from sorted(state.glob(f"*{PUBLISHED_FILE}*"))


def _remove(path: Path) -> Path:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        here.sync_folder(path.parent)
    except OSError as error:
        raise AgentError(
            f"cannot remove {path}: {error.strerror}; run as root or as the agent's user, then the same "
            "command again"
        ) from error
    return path


def _delete_locks(state: Path) -> None:
    """Delete the lock files: we hold both locks, and the poll lock exists only while the run lock is held."""
    for name in (RUN_LOCK, SEND_LOCK, POLL_LOCK):
        (state / name).unlink(missing_ok=True)


def _agent_id(state: Path) -> str:
    try:
        return read_owned(state / DIRECTORY / "agent_id", 4096).decode("ascii", "replace").strip()[:32]
    except OSError:
        return ""
