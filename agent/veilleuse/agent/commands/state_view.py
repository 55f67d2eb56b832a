# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Read-only views of the spool and the identity for `doctor` and `show`; nothing is created."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from veilleuse.agent.errors import AgentError, NotEnrolled, SpoolError
from veilleuse.agent.identity.store import Identity, IdentityStore
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.settings import AgentSettings, allowed_population, join_file_path
from veilleuse.agent.spool.database import FILE_NAME, open_read_only, set_aside
from veilleuse.wire.vocabulary import Population


@dataclass(frozen=True, slots=True)
class SpoolView:
    """Content of the spool."""

    path: Path
    trouble: str = ""
    """Reason why nothing could be read; empty otherwise."""
    missing: bool = False
    """True when there is no spool yet: nothing was measured."""
    size_bytes: int = 0
    pending: int = 0
    """Rows without a number."""
    unacknowledged: int = 0
    """Numbered records, not yet acknowledged."""
    ring: int = 0
    """Acknowledged records that are still kept."""
    quarantine: int = 0
    quarantine_bytes: int = 0
    unsent_bytes: int = 0
    """Bytes of the waiting rows, numbered or not."""
    row_bytes: float | None = None
    """Mean bytes of a row without a number, over the newest hundred; None when there is none."""
    files_bytes: int = 0
    """Bytes of all files: the spool, its journal, and spools set aside."""
    control: dict[str, str] = field(default_factory=dict)
    newest_pending: str | None = None
    """JSON of the newest row without a number."""
    newest_unacknowledged: bytes | None = None
    newest_acknowledged: bytes | None = None
    acknowledged_unix_milliseconds: int | None = None

    @property
    def sources(self) -> list[dict[str, Any]]:
        """Rows of control SOURCES: the state of each source in the service; empty when absent or damaged."""
        try:
            rows = json.loads(self.control.get(ControlKey.SOURCES) or "{}").get("sources", ())
            return [row for row in rows if isinstance(row, dict)]
        except (ValueError, TypeError, AttributeError):
            return []


def read_spool(settings: AgentSettings) -> SpoolView:
    """Read the spool; `trouble` says what is wrong. Never raises, never writes."""
    path = settings.paths.state / FILE_NAME
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return SpoolView(
            path, trouble=f"no spool at {path} yet: `veilleuse-agent run` makes it", missing=True
        )
    except OSError as error:
        return SpoolView(
            path, trouble=f"cannot read {path} ({error.strerror}): run as root or as the agent's user"
        )
    try:
        with closing(open_read_only(path, 2)) as db:
            return _read(db, path, size)
    except SpoolError as error:
        return SpoolView(path, trouble=str(error), size_bytes=size)
    except sqlite3.Error as error:
        return SpoolView(
            path, trouble=f"cannot read {path} ({error}): it is set aside at the next start", size_bytes=size
        )


@dataclass(frozen=True, slots=True)
class QuarantineEntry:
    """Original of a refused record."""

    seq: int
    epoch: str
    reason: str
    wire: bytes


def read_quarantine(settings: AgentSettings) -> list[QuarantineEntry]:
    """Read the quarantine, oldest first. Raises AgentError."""
    path = settings.paths.state / FILE_NAME
    if not path.exists():
        return []
    try:
        with closing(open_read_only(path, 2)) as db:
            rows = db.execute("SELECT seq, epoch, reason, wire FROM quarantine ORDER BY rowid").fetchall()
    except sqlite3.Error as error:
        raise AgentError(
            f"cannot read {path} ({error}): run as the agent's user; a damaged one is set aside at the next "
            "start"
        ) from error
    return [QuarantineEntry(*row) for row in rows]


def read_identity(settings: AgentSettings) -> tuple[Identity | None, str]:
    """Return (identity, "") or (None, the reason why it is absent or unreadable). Never raises."""
    try:
        return IdentityStore(settings.paths.state).load(), ""
    except NotEnrolled as error:
        waiting = join_file_path(settings)
        with suppress(OSError):
            if waiting.exists():
                return None, f"this machine is not enrolled yet: the service tries with {waiting}"
        return None, str(error)
    except (AgentError, OSError) as error:
        return None, str(error)


def measured_population(settings: AgentSettings, spool: SpoolView) -> Population:
    """Return the population that sets how finely the service measures now."""
    return allowed_population(settings, spool.control.get(ControlKey.POPULATION))


def _files_bytes(path: Path) -> int:
    files = (path, path.with_name(f"{path.name}-journal"), *set_aside(path))
    return sum(file.stat().st_size for file in files if file.exists())


def _read(db: sqlite3.Connection, path: Path, size: int) -> SpoolView:
    def one(query: str) -> Any:
        row = db.execute(query).fetchone()
        return row if row is not None else (None, None)

    sent = one(
        "SELECT wire, acknowledged_unix_milliseconds FROM outbox"
        " WHERE acknowledged_unix_milliseconds IS NOT NULL ORDER BY seq DESC LIMIT 1"
    )
    return SpoolView(
        path=path,
        size_bytes=size,
        pending=one("SELECT COUNT(*) FROM pending")[0],
        unacknowledged=one("SELECT COUNT(*) FROM outbox WHERE acknowledged_unix_milliseconds IS NULL")[0],
        ring=one("SELECT COUNT(*) FROM outbox WHERE acknowledged_unix_milliseconds IS NOT NULL")[0],
        quarantine=one("SELECT COUNT(*) FROM quarantine")[0],
        quarantine_bytes=one("SELECT COALESCE(SUM(LENGTH(wire)), 0) FROM quarantine")[0],
        unsent_bytes=one(
            "SELECT (SELECT COALESCE(SUM(LENGTH(body)), 0) FROM pending)"
            " + (SELECT COALESCE(SUM(LENGTH(wire)), 0) FROM outbox WHERE acknowledged_unix_milliseconds IS "
            "NULL)"
        )[0],
        row_bytes=one("SELECT AVG(LENGTH(body)) FROM (SELECT body FROM pending ORDER BY id DESC LIMIT 100)")[
            0
        ],
        files_bytes=_files_bytes(path),
        control=dict(db.execute("SELECT key, value FROM control")),
        newest_pending=one("SELECT body FROM pending ORDER BY id DESC LIMIT 1")[0],
        newest_unacknowledged=one(
            "SELECT wire FROM outbox WHERE acknowledged_unix_milliseconds IS NULL ORDER BY seq DESC LIMIT 1"
        )[0],
        newest_acknowledged=sent[0],
        acknowledged_unix_milliseconds=sent[1],
    )
