# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse-agent prepare-image`: the last command on a machine whose disk becomes an image.

It removes this machine's data from the state directory. The configuration stays. Deleted data may remain in
free blocks of the disk. The identity of an enrolled machine therefore has to be revoked on the collector.
docs/wire.md §7.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from veilleuse.agent.commands.language import print_lines
from veilleuse.agent.commands.state_view import read_spool
from veilleuse.agent.errors import AgentError, AlreadyRunning
from veilleuse.agent.identity.clone import DROPPED, ORIGINAL
from veilleuse.agent.identity.join_file import read_join_file
from veilleuse.agent.identity.store import DIRECTORY, as_owner_of, write_private
from veilleuse.agent.platforms import here
from veilleuse.agent.platforms.locks import POLL_LOCK, RUN_LOCK, SEND_LOCK, ProcessLock
from veilleuse.agent.settings import MAX_JOIN_FILE_BYTES, AgentSettings, join_file_path
from veilleuse.agent.sources.snapshot import PUBLISHED_FILE
from veilleuse.agent.spool.database import FILE_NAME
from veilleuse.wire.files import read_named, read_owned
from veilleuse.wire.limits import AGENT_ID_DIGITS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --join, --json."""
    parser.add_argument(
        "--join",
        type=Path,
        metavar="FILE",
        help="leave this join file, of a token for a group, for the clones to enrol with by themselves",
    )
    parser.add_argument("--json", action="store_true", help="for a machine")


def run(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    """Return 0 when no data of this machine is left."""
    before = read_spool(settings)
    undelivered = before.pending + before.unacknowledged
    wiped = _wipe(settings, parsed.join)
    if parsed.json:
        result = {
            "state": str(settings.paths.state),
            "removed": [str(path) for path in wiped.removed],
            "agent_id": wiped.agent_id or None,
            "undelivered_records": undelivered,
            "join_file": None if wiped.join_file is None else str(wiped.join_file),
        }
        print(json.dumps(result, ensure_ascii=False))
    else:
        print_lines(_lines(settings.paths.state, wiped, undelivered))
    return 0


@dataclass(frozen=True, slots=True)
class _WipeResult:
    """Result of `_wipe`: what was removed, and what is left for the clones."""

    agent_id: str
    """Id of the removed identity, hexadecimal; empty when there was none."""
    removed: tuple[Path, ...]
    join_file: Path | None
    """Join file left for the clones to enrol with."""


def _lines(state: Path, wiped: _WipeResult, undelivered: int) -> Iterator[str]:
    if not wiped.removed:
        yield f"nothing of this machine was in {state}"
    for path in wiped.removed:
        yield f"removed {path}"
    if undelivered:
        yield f"{undelivered} record(s) had not been delivered: they are gone"
    if wiped.agent_id:
        yield (
            "this machine was enrolled: on the collector, `veilleuse hosts revoke "
            f"{wiped.agent_id[:AGENT_ID_DIGITS]}`"
        )
    if wiped.join_file is not None:
        yield f"the clones enrol with {wiped.join_file}, each under an identity of its own"
    else:
        yield (
            "the clones measure and wait: enrol each with `veilleuse-agent enrol JOINFILE`, or run this "
            "again with --join"
        )
    yield f"next: do not start the service again here; {here.BEFORE_THE_IMAGE}."
    yield "Started by mistake? The same command again."


def _wipe(settings: AgentSettings, join_file: Path | None = None) -> _WipeResult:
    """Remove all data of this machine; with `join_file`, leave a copy of it for the clones. May be repeated.

    Raises IdentityError for an invalid join file, AlreadyRunning while the service or a sender runs, and
    AgentError.
    """
    state, content = settings.paths.state, b""
    if join_file is not None:
        read_join_file(join_file)
        content = read_named(join_file, MAX_JOIN_FILE_BYTES)
    with as_owner_of(state):
        run, send = _take_locks(state)
        with run, send:
            agent_id = _agent_id(state)
            removed = tuple(_remove(path) for path in _belongings(state))
            left = join_file_path(settings)
            if join_file is not None:
                write_private(left, content)
            _delete_locks(state)
        return _WipeResult(agent_id, removed, left if left.exists() else None)


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
