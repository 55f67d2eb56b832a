# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The buffer on disk: schema, connection, and the measuring process's half. The sender's half is `spool/outbox.py`.

One SQLite file, rollback journal, synchronous FULL: a row that `append` returned from survives a power cut, unless it comes
within the moment in which the journal's removal is not on the disk yet; then all that came with the row goes too.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from veilleuse.agent.errors import SpoolBusy, SpoolDamaged, SpoolError, SpoolFull
from veilleuse.agent.model import ClockPeriod, Gap, Period, Record, body_from_json
from veilleuse.agent.platforms import here
from veilleuse.agent.ports import ControlKey
from veilleuse.wire.files import FileRefused, check_owned
from veilleuse.wire.limits import GAP_ID_BYTES
from veilleuse.wire.vocabulary import Boundary, GapReason, PointKind

log = logging.getLogger(__name__)

FILE_NAME: Final = "spool.db"
"""Inside `paths.state`."""
SCHEMA_VERSION: Final = 1
BUSY_TIMEOUT_MILLISECONDS: Final = 10_000
"""docs/architecture.md §2."""

ASIDE: Final = "`veilleuse-agent run` sets it aside when it starts"

SCHEMA: Final = """
CREATE TABLE pending (           -- rows the resident made and the sender has not numbered yet, oldest first
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    body TEXT NOT NULL           -- Record.to_json or Gap.to_json
) STRICT;
CREATE TABLE outbox (            -- numbered, encoded once, never re-encoded
    seq INTEGER PRIMARY KEY,     -- 1, 2, 3 … within the epoch
    wire BLOB NOT NULL,          -- the record's bytes
    chain BLOB NOT NULL,         -- 32 bytes: the chain at this record
    acknowledged_unix_milliseconds INTEGER  -- NULL until the collector has committed it; then it is in the ring
) STRICT;
CREATE TABLE quarantine (        -- what the collector refused, for a human
    seq INTEGER NOT NULL,
    epoch TEXT NOT NULL,         -- 16 hexadecimal digits
    wire BLOB NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE TABLE control (           -- what the two processes tell each other: ports.ControlKey
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
"""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn sqlite3's errors into ours, once: SpoolBusy, SpoolFull, SpoolDamaged or SpoolError."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise translate(error, path) from error
    except UnicodeDecodeError as error:  # sqlite3 quotes damaged text in its message, and Python cannot
        raise SpoolDamaged(f"the spool {path} is damaged (text that is not UTF-8): {ASIDE}") from error
    except OSError as error:  # of our own looks at the disk
        raise SpoolFull(_disk_trouble(path, error)) from error


def translate(error: sqlite3.DatabaseError, path: Path) -> SpoolError:
    """The error of ours that says what `error` means for the file at `path`."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code
    if isinstance(error, sqlite3.ProgrammingError) and not code:
        return SpoolDamaged(
            f"the spool {path} is closed: another is begun"
        )  # resident._replace_spool did not end
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return SpoolBusy(f"the spool {path} is held by the other process: retried on the next tick")
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return SpoolFull(_disk_trouble(path, error))
    if code in (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_ERROR,
    ):  # the last: a table is gone
        return SpoolDamaged(f"the spool {path} is damaged ({error}): {ASIDE}")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return SpoolError(
            f"cannot write the spool {path} ({error}): check that its directory exists and belongs to the agent"
        )
    return SpoolError(f"the spool {path} cannot be used: {error}")


def _disk_trouble(path: Path, error: Exception) -> str:
    return f"no room or a disk error under the spool {path} ({error}): free some space or check the disk"


def connect(path: Path, *, busy_timeout_milliseconds: int = BUSY_TIMEOUT_MILLISECONDS) -> sqlite3.Connection:
    """A connection in autocommit mode (say BEGIN IMMEDIATE yourself) to the spool, made when it is not there yet.

    Raises SpoolBusy, SpoolFull, SpoolDamaged (also for the schema of another version), or SpoolError.
    """
    with translated(path):
        known = checked(path)
        connection = sqlite3.connect(path, timeout=busy_timeout_milliseconds / 1000, isolation_level=None)
        try:
            _prepare(connection, path)
            if known != (0, 0) and checked(path) != known:
                raise SpoolError(f"the spool {path} was exchanged while it was opened: try again")
        except BaseException:
            connection.close()
            raise
    return connection


def reading(path: Path, timeout_seconds: float) -> sqlite3.Connection:
    """A connection that changes nothing, to a spool that is there. Raises SpoolError, sqlite3.Error."""
    checked(path)
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=timeout_seconds)


def checked(path: Path) -> tuple[int, int]:
    """Which file it is; SQLite opens by name, its journal too. Raises SpoolError for what is no file of ours."""
    try:
        return check_owned(path, "-journal")
    except FileRefused as error:
        raise SpoolError(f"cannot open the spool {error.filename}: {error.strerror}") from error
    except OSError:
        return (0, 0)  # SQLite says what is wrong


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(
        "PRAGMA fullfsync = ON"
    )  # macOS alone knows it: fsync leaves the drive's cache alone there
    connection.execute("PRAGMA cache_size = -256")  # KiB: the resident's memory is bounded
    if _version(connection) == 0:
        _create(connection)
    if (version := _version(connection)) != SCHEMA_VERSION:
        raise SpoolDamaged(
            f"the spool {path} has schema {version}, this agent knows {SCHEMA_VERSION}: {ASIDE}"
        )


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _create(connection: sqlite3.Connection) -> None:
    with _immediate(connection):
        if _version(connection) == 0:  # the other process may have been faster
            for statement in SCHEMA.split(";\n"):
                if statement.strip():
                    connection.execute(statement)
            connection.execute(
                "INSERT INTO control (key, value) VALUES (?, ?)", (ControlKey.EPOCH, new_epoch())
            )
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def new_epoch() -> str:
    """16 hexadecimal digits at random: names one life of the spool."""
    return os.urandom(8).hex()


def counted(text: str | None) -> dict[str, int]:
    """{word: number} out of a control value; what is damaged does not count."""
    try:
        raw = json.loads(text or "{}")
        return {str(word): number for word, number in raw.items() if type(number) is int and number >= 0}
    except (ValueError, AttributeError):
        return {}


def whole(text: str | None) -> int:
    """The number ≥ 0 of a control value; 0 when it is absent or damaged."""
    return int(text) if text and text.isascii() and text.isdigit() else 0


def points_of(sources: str | None) -> list[tuple[str, str, str, str]]:
    """(kind, domain, boundary, subject) of every point in ControlKey.SOURCES; what is damaged is left out."""
    found = []
    try:
        for source in json.loads(sources or "{}").get("sources", ()):
            for kind, domain, boundary, subject in source.get("points") or ():
                point = (PointKind(kind).value, str(domain), Boundary(boundary).value, str(subject))
                found.append(point)
    except (ValueError, TypeError, AttributeError) as error:
        log.warning("points of the sources not readable", extra={"reason": str(error)})
    return found


# ------------------------------------------------------------------------------- the resident's half

DROPPED_AT_ONCE: Final = 32
RING_FLOOR: Final = 14
"""Acknowledged records that stay even when there is no room: docs/wire.md §2."""
MAX_SPANS: Final = 256
"""Of one gap; what does not fit is undated."""
DISK_SHARE: Final = 0.05
"""Never the last 5 % of a disk of less than 10 GB: docs/decisions/0020."""
JOURNAL_BYTES: Final = 256 * 1024
"""Of the resident's largest transactions: room that they take for a moment only."""
SALVAGED: Final = '{"wire"'
"""How a row begins that was numbered in a spool set aside since: its bytes, for the sender to check."""


class Bounds(NamedTuple):
    """How much of the disk the spool may take: docs/decisions/0020."""

    max_bytes: int
    """All files together: the spool, its journal, one damaged file set aside."""
    disk_reserve_bytes: int

    @property
    def ring_bytes(self) -> int:
        """For acknowledged records; a new epoch rewrites them, so the journal takes as much for a moment."""
        return self.max_bytes // 8

    @property
    def quarantine_bytes(self) -> int:
        """For the originals of what was refused."""
        return self.max_bytes // 32

    @property
    def rows_bytes(self) -> int:
        """For the file as the resident fills it; left out are the journal and the sender's own rows."""
        return self.max_bytes - self.ring_bytes - 2 * self.quarantine_bytes


class FileSpool:
    """`ports.ResidentSpool` on the spool's file."""

    def __init__(self, connection: sqlite3.Connection, path: Path, bounds: Bounds) -> None:
        """`connection` as made by `connect`."""
        self._connection = connection
        self._path = path
        self._bounds = bounds
        self._page_bytes = int(connection.execute("PRAGMA page_size").fetchone()[0])
        self._aside_bytes = sum(file.stat().st_size for file in set_aside(path))

    def append(self, bodies: Sequence[str], control: Mapping[str, str | None]) -> None:
        """Append rows and set control keys in one transaction; the oldest rows go when there is no room."""
        size = sum(map(len, bodies)) + sum(len(value) for value in control.values() if value)
        with translated(self._path), _immediate(self._connection) as db:
            self._make_room(db, size)
            db.executemany("INSERT INTO pending (body) VALUES (?)", [(body,) for body in bodies])
            for key, value in control.items():
                if value is None:
                    db.execute("DELETE FROM control WHERE key = ?", (key,))
                else:
                    db.execute("INSERT OR REPLACE INTO control (key, value) VALUES (?, ?)", (key, value))

    def shrink_file(self) -> None:
        """Give back to the disk what the file has beyond its bound: it was larger once. Raises like `append`."""
        if os.stat(self._path).st_size > self._bounds.max_bytes - self._bounds.ring_bytes:
            self.append((), {})
            with translated(self._path):
                self._connection.execute("VACUUM")

    def control(self, key: str) -> str | None:
        """A control value, see ports.ControlKey."""
        with translated(self._path):
            row = self._connection.execute("SELECT value FROM control WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def pending(self) -> int:
        """Rows not yet acknowledged, numbered or not."""
        with translated(self._path):
            row = self._connection.execute(
                "SELECT (SELECT count(*) FROM pending)"
                " + (SELECT count(*) FROM outbox WHERE acknowledged_unix_milliseconds IS NULL)"
            ).fetchone()
        return int(row[0])

    def close(self) -> None:
        """Let the file go."""
        self._connection.close()

    def _make_room(self, db: sqlite3.Connection, size: int) -> None:
        """Make `size` more bytes fit: what was set aside goes first, then the ring, then the oldest unnumbered records.

        Raises SpoolFull when nothing is left that could go.
        """
        needed = 2 * (size // self._page_bytes + 1)
        while self._allowed_pages(db) - _used_pages(db) < needed:
            if not (self._drop_aside() or _shrink_ring(db) or _drop_oldest(db)):
                raise SpoolFull(
                    f"no room left under the spool {self._path}: free some disk space, or raise spool.max_bytes"
                )

    def _allowed_pages(self, db: sqlite3.Connection) -> int:
        """What the file may hold: its bound; or only what it has already when the disk is down to its reserve."""
        bound = (self._bounds.rows_bytes - self._aside_bytes) // self._page_bytes
        disk_bytes, free_bytes = here.disk_room(self._path.parent)
        reserve = min(self._bounds.disk_reserve_bytes, int(disk_bytes * DISK_SHARE))
        if free_bytes >= reserve + JOURNAL_BYTES:
            return bound
        return min(bound, int(db.execute("PRAGMA page_count").fetchone()[0]))

    def _drop_aside(self) -> bool:
        if not self._aside_bytes:
            return False
        for file in set_aside(self._path):
            file.unlink(missing_ok=True)
        self._aside_bytes = 0
        log.warning("spool that was set aside removed: its room is needed")
        return True


def set_aside(path: Path) -> list[Path]:
    """Spools that are kept for a human, damaged or another machine's, with their journals."""
    return [*path.parent.glob(f"{path.name}.damaged-*"), *path.parent.glob(f"{path.name}.copied-*")]


@contextmanager
def _immediate(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # a full disk has rolled back already
            connection.execute("ROLLBACK")
        raise


def _used_pages(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA page_count").fetchone()[0]) - int(
        db.execute("PRAGMA freelist_count").fetchone()[0]
    )


def _shrink_ring(db: sqlite3.Connection) -> bool:
    """Forget the oldest acknowledged records, all but RING_FLOOR; False when there are no more."""
    rows = db.execute(
        "SELECT seq, hex(chain) FROM outbox WHERE acknowledged_unix_milliseconds IS NOT NULL AND seq <="
        " (SELECT max(seq) FROM outbox WHERE acknowledged_unix_milliseconds IS NOT NULL) - ? ORDER BY seq LIMIT ?",
        (RING_FLOOR, DROPPED_AT_ONCE),
    ).fetchall()
    if not rows:
        return False
    db.execute("DELETE FROM outbox WHERE seq <= ?", (rows[-1][0],))
    edge = json.dumps(rows[-1])
    db.execute("INSERT OR REPLACE INTO control (key, value) VALUES (?, ?)", (ControlKey.EDGE, edge))
    return True


def _drop_oldest(db: sqlite3.Connection) -> bool:
    """Put one Gap{spool_cap} at the place of the oldest records; False when there is none to drop."""
    cap = f'{{"gap":"{GapReason.SPOOL_CAP}"%'
    rows = db.execute(
        "SELECT id, body FROM pending WHERE body NOT LIKE '{\"gap\":%' OR body LIKE ? ORDER BY id LIMIT ?",
        (cap, DROPPED_AT_ONCE + 1),
    ).fetchall()
    if sum(not body.startswith('{"gap"') for _, body in rows) == 0:
        return False
    gap = gap_over(GapReason.SPOOL_CAP, (body for _, body in rows))
    db.executemany("DELETE FROM pending WHERE id = ?", [(row,) for row, _ in rows])
    db.execute("INSERT INTO pending (id, body) VALUES (?, ?)", (rows[-1][0], gap_row(gap)))
    log.error("spool at its bound, oldest records dropped", extra={"records": len(rows)})
    return True


def gap_row(gap: Gap) -> str:
    """A spool row of it, with an id of its own: it stays one gap, and another than its like, whatever is sent again."""
    return gap._replace(gap_id=os.urandom(GAP_ID_BYTES).hex()).to_json()


def gap_over(reason: GapReason, bodies: Iterable[str]) -> Gap:
    """One gap that stands for all these spool rows; spans that touch are joined, what is unreadable is undated."""
    spans: list[tuple[Period | None, int]] = []
    records = 0
    for text in bodies:
        try:
            body: Record | Gap = body_from_json(text)
        except ValueError:
            spans, records = _joined(spans, None, 0), records + 1
            continue
        if isinstance(body, Gap):
            records += body.records
            for period, milliseconds in body.spans:
                spans = _joined(spans, period, milliseconds)
        else:
            records += 1
            spans = _joined(spans, body.period, sum(cell.milliseconds for cell in body.cells.values()))
    return Gap(reason, tuple(span for span in spans if span[1] > 0), max(1, records))


def _joined(
    spans: list[tuple[Period | None, int]], period: Period | None, milliseconds: int
) -> list[tuple[Period | None, int]]:
    for position in (len(spans) - 1, len(spans) - 2) if len(spans) > 1 else range(len(spans)):
        joined = _join(spans[position][0], period)
        if joined is not None or (period is None and spans[position][0] is None):
            return [*spans[:position], (joined, spans[position][1] + milliseconds), *spans[position + 1 :]]
    if len(spans) >= MAX_SPANS:
        return [(None, sum(lost for _, lost in spans) + milliseconds)]
    return [*spans, (period, milliseconds)]


def _join(one: Period | None, other: Period | None) -> Period | None:
    """The period that covers both when they are the same or the second follows the first at once, else None."""
    if one is None or other is None:
        return None
    if one == other:
        return one
    if isinstance(one, ClockPeriod) and isinstance(other, ClockPeriod):
        end = one.start_unix_milliseconds + one.duration_milliseconds
        if end == other.start_unix_milliseconds:
            length = one.duration_milliseconds + other.duration_milliseconds
            return ClockPeriod(one.start_unix_milliseconds, length, one.utc_offset_seconds)
    return None
