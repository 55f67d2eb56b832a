# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Spool on disk: its schema, its connection, and the resident's half. The sender's half is `spool/outbox.py`.

It is one SQLite file with a rollback journal and synchronous FULL. A row survives a power cut once `append`
has returned. Exception: a cut before the removal of the journal has reached the disk undoes that whole
transaction.
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
from veilleuse.wire.units import MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import GapReason

log = logging.getLogger(__name__)

FILE_NAME: Final = "spool.db"
"""File name inside `paths.state`."""
SCHEMA_VERSION: Final = 1
BUSY_TIMEOUT_MILLISECONDS: Final = 10_000
"""Longest wait for the other process's lock: docs/architecture.md §2."""

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
def translate_errors(path: Path) -> Iterator[None]:
    """Turn the errors of sqlite3 into SpoolBusy, SpoolFull, SpoolDamaged or SpoolError."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise to_spool_error(error, path) from error
    except UnicodeDecodeError as error:  # the message of sqlite3 quotes damaged text
        raise SpoolDamaged(f"the spool {path} is damaged (text that is not UTF-8): {ASIDE}") from error
    except OSError as error:  # from `os.stat` and the like
        raise SpoolFull(_disk_trouble(path, error)) from error


def to_spool_error(error: sqlite3.DatabaseError, path: Path) -> SpoolError:
    """Return the spool error that describes `error` for the file at `path`."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code
    if isinstance(error, sqlite3.ProgrammingError) and not code:
        # resident._replace_spool was interrupted
        return SpoolDamaged(f"the spool {path} is closed: a new one replaces it")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return SpoolBusy(f"the spool {path} is held by the other process: retried on the next tick")
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return SpoolFull(_disk_trouble(path, error))
    # SQLITE_ERROR: a table is missing
    if code in (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_ERROR,
    ):
        return SpoolDamaged(f"the spool {path} is damaged ({error}): {ASIDE}")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return SpoolError(
            f"cannot write the spool {path} ({error}): check that its directory exists and belongs to the "
            "agent"
        )
    return SpoolError(f"the spool {path} cannot be used: {error}")


def _disk_trouble(path: Path, error: Exception) -> str:
    return f"no room or a disk error under the spool {path} ({error}): free some space or check the disk"


def connect(path: Path, *, busy_timeout_milliseconds: int = BUSY_TIMEOUT_MILLISECONDS) -> sqlite3.Connection:
    """Open the spool in autocommit mode and create it if it is absent; callers issue BEGIN IMMEDIATE.

    Raises SpoolBusy, SpoolFull, SpoolDamaged (also for a schema of another version), or SpoolError.
    """
    with translate_errors(path):
        known = check_file(path)
        connection = sqlite3.connect(
            path, timeout=busy_timeout_milliseconds / MILLISECONDS_PER_SECOND, isolation_level=None
        )
        try:
            _prepare(connection, path)
            if known != (0, 0) and check_file(path) != known:
                raise SpoolError(f"the spool {path} was replaced while it was being opened: try again")
        except BaseException:
            connection.close()
            raise
    return connection


def open_read_only(path: Path, timeout_seconds: float) -> sqlite3.Connection:
    """Open an existing spool read-only. Raises SpoolError or sqlite3.Error."""
    check_file(path)
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=timeout_seconds)


def check_file(path: Path) -> tuple[int, int]:
    """Check that the spool and its journal are regular files of ours, and return (device, inode).

    SQLite opens both by name, so the caller compares this result before and after. Returns (0, 0) when
    absent. Raises SpoolError for a link, a special file, or a file of another user.
    """
    try:
        return check_owned(path, "-journal")
    except FileRefused as error:
        raise SpoolError(f"cannot open the spool {error.filename}: {error.strerror}") from error
    except OSError:
        return (0, 0)  # SQLite reports the cause


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA synchronous = FULL")
    # macOS only: fsync there does not flush the cache of the drive
    connection.execute("PRAGMA fullfsync = ON")
    connection.execute("PRAGMA cache_size = -256")  # KiB: limits the memory of the resident process
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
        if _version(connection) == 0:  # the other process may have created it
            for statement in SCHEMA.split(";\n"):
                if statement.strip():
                    connection.execute(statement)
            connection.execute(
                "INSERT INTO control (key, value) VALUES (?, ?)", (ControlKey.EPOCH, new_epoch())
            )
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def new_epoch() -> str:
    """Return 16 random hexadecimal digits that name one life of the spool."""
    return os.urandom(8).hex()


def parse_counts(text: str | None) -> dict[str, int]:
    """Parse {word: number} from a control value; damaged entries are left out."""
    try:
        raw = json.loads(text or "{}")
        return {str(word): number for word, number in raw.items() if type(number) is int and number >= 0}
    except (ValueError, AttributeError):
        return {}


def parse_whole_number(text: str | None) -> int:
    """Return the number ≥ 0 of a control value, or 0 when it is absent or damaged."""
    return int(text) if text and text.isascii() and text.isdigit() else 0


# ------------------------------------------------------------------------------- the resident's half

DROPPED_AT_ONCE: Final = 32
RING_FLOOR: Final = 14
"""Acknowledged records that stay even when there is no room: docs/wire.md §2."""
MAX_SPANS: Final = 256
"""Largest number of spans in one gap; further time is kept as one undated span."""
DISK_SHARE: Final = 0.05
"""Largest share of a disk that may be reserved, for disks of less than 10 GB: docs/decisions/0020."""
JOURNAL_BYTES: Final = 256 * 1024
"""Room for the journal of the resident's largest transaction; it exists only during that transaction."""
SALVAGED: Final = '{"wire"'
"""Start of a row that was already numbered in a spool set aside: its bytes, for the sender to check."""


class Bounds(NamedTuple):
    """Limits of the disk space of the spool: docs/decisions/0020."""

    max_bytes: int
    """All files together: the spool, its journal, one damaged spool set aside."""
    disk_reserve_bytes: int

    @property
    def ring_bytes(self) -> int:
        """Room for acknowledged records. A new epoch rewrites them, so the journal briefly takes as much."""
        return self.max_bytes // 8

    @property
    def quarantine_bytes(self) -> int:
        """Room for the originals of refused records."""
        return self.max_bytes // 32

    @property
    def rows_bytes(self) -> int:
        """Room for the rows of the resident, without the journal and the rows of the sender."""
        return self.max_bytes - self.ring_bytes - 2 * self.quarantine_bytes


class FileSpool:
    """Implements `ports.ResidentSpool` on the spool file."""

    def __init__(self, connection: sqlite3.Connection, path: Path, bounds: Bounds) -> None:
        """Take a `connection` opened by `connect`."""
        self._connection = connection
        self._path = path
        self._bounds = bounds
        self._page_bytes = int(connection.execute("PRAGMA page_size").fetchone()[0])
        self._aside_bytes = sum(file.stat().st_size for file in set_aside(path))

    def append(self, bodies: Sequence[str], control: Mapping[str, str | None]) -> None:
        """Append rows and set control keys in one transaction; drop the oldest rows when there is no room."""
        size = sum(map(len, bodies)) + sum(len(value) for value in control.values() if value)
        with translate_errors(self._path), _immediate(self._connection) as db:
            self._make_room(db, size)
            db.executemany("INSERT INTO pending (body) VALUES (?)", [(body,) for body in bodies])
            for key, value in control.items():
                if value is None:
                    db.execute("DELETE FROM control WHERE key = ?", (key,))
                else:
                    db.execute("INSERT OR REPLACE INTO control (key, value) VALUES (?, ?)", (key, value))

    def shrink_file(self) -> None:
        """Shrink a file that is larger than its bound. Raises like `append`."""
        if os.stat(self._path).st_size > self._bounds.max_bytes - self._bounds.ring_bytes:
            self.append((), {})
            with translate_errors(self._path):
                self._connection.execute("VACUUM")

    def control(self, key: str) -> str | None:
        """Return a control value, see ports.ControlKey."""
        with translate_errors(self._path):
            row = self._connection.execute("SELECT value FROM control WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _make_room(self, db: sqlite3.Connection, size: int) -> None:
        """Make room for `size` more bytes: delete spools set aside, then ring records, then unnumbered ones.

        Raises SpoolFull when nothing is left to remove.
        """
        needed = 2 * (size // self._page_bytes + 1)
        while self._allowed_pages(db) - _used_pages(db) < needed:
            if not (self._drop_aside() or _shrink_ring(db) or _drop_oldest(db)):
                raise SpoolFull(
                    f"no room left under the spool {self._path}: free some disk space, or raise "
                    "spool.max_bytes"
                )

    def _allowed_pages(self, db: sqlite3.Connection) -> int:
        """Return the largest size of the file.

        Its present size once the free disk space is down to the reserve.
        """
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
    """List spools set aside (`.damaged-*`, or `.copied-*` of a clone) and their journals."""
    return [*path.parent.glob(f"{path.name}.damaged-*"), *path.parent.glob(f"{path.name}.copied-*")]


@contextmanager
def _immediate(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # SQLite has rolled back already on a full disk
            connection.execute("ROLLBACK")
        raise


def _used_pages(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA page_count").fetchone()[0]) - int(
        db.execute("PRAGMA freelist_count").fetchone()[0]
    )


def _shrink_ring(db: sqlite3.Connection) -> bool:
    """Delete the oldest acknowledged records, all but RING_FLOOR; False when there are none."""
    rows = db.execute(
        "SELECT seq, hex(chain) FROM outbox WHERE acknowledged_unix_milliseconds IS NOT NULL AND seq <="
        " (SELECT max(seq) FROM outbox WHERE acknowledged_unix_milliseconds IS NOT NULL) - ? ORDER BY seq "
        "LIMIT ?",
        (RING_FLOOR, DROPPED_AT_ONCE),
    ).fetchall()
    if not rows:
        return False
    db.execute("DELETE FROM outbox WHERE seq <= ?", (rows[-1][0],))
    edge = json.dumps(rows[-1])
    db.execute("INSERT OR REPLACE INTO control (key, value) VALUES (?, ?)", (ControlKey.EDGE, edge))
    return True


def _drop_oldest(db: sqlite3.Connection) -> bool:
    """Replace the oldest records by one Gap{spool_cap}; False when there is none to drop."""
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
    """Encode a gap as a spool row with a random id, so that a resent gap is told from a similar one."""
    return gap._replace(gap_id=os.urandom(GAP_ID_BYTES).hex()).to_json()


def gap_over(reason: GapReason, bodies: Iterable[str]) -> Gap:
    """Build one gap that covers all these rows; adjoining spans are merged, unreadable rows undated."""
    spans: list[tuple[Period | None, int]] = []
    records = 0
    for text in bodies:
        try:
            body: Record | Gap = body_from_json(text)
        except ValueError:
            spans, records = _add_span(spans, None, 0), records + 1
            continue
        if isinstance(body, Gap):
            records += body.records
            for period, milliseconds in body.spans:
                spans = _add_span(spans, period, milliseconds)
        else:
            records += 1
            spans = _add_span(spans, body.period, sum(cell.milliseconds for cell in body.cells.values()))
    return Gap(reason, tuple(span for span in spans if span[1] > 0), max(1, records))


def _add_span(
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
    """Return the period that covers both when equal or when the second directly follows; else None."""
    if one is None or other is None:
        return None
    if one == other:
        return one
    if isinstance(one, ClockPeriod) and isinstance(other, ClockPeriod):
        end = one.start_unix_milliseconds + one.duration_milliseconds
        if end == other.start_unix_milliseconds:
            length = one.duration_milliseconds + other.duration_milliseconds
            return ClockPeriod(one.start_unix_milliseconds, length)
    return None
