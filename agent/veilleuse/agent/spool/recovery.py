# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Opens the resident's spool; a damaged file is set aside and its readable rows go into a new one. R14.

The new file is complete before it replaces the old one, so a kill at any moment loses no readable row.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from veilleuse.agent.errors import SpoolBusy, SpoolDamaged
from veilleuse.agent.model import ClockPeriod, Gap, Period, Record, body_from_json
from veilleuse.agent.platforms import here
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.spool.database import (
    ASIDE,
    MAX_SPANS,
    SALVAGED,
    Bounds,
    FileSpool,
    check_file,
    connect,
    gap_row,
    parse_counts,
    set_aside,
    to_spool_error,
)
from veilleuse.wire.units import MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import GapReason

log = logging.getLogger(__name__)

EPOCH_BYTES: Final = 8
_BATCH: Final = 256
_UNREADABLE: Final = (sqlite3.Error, UnicodeDecodeError)
_OF_THE_STREAM: Final = (ControlKey.EPOCH, ControlKey.DROPS, ControlKey.EDGE)
"""Control values that are dropped when the epoch ends."""


def open_spool(path: Path, bounds: Bounds, now_unix_milliseconds: int) -> FileSpool:
    """Open the resident's spool. A damaged file is set aside, its readable rows are kept, and a gap is added.

    Raises SpoolBusy, SpoolFull or SpoolError (cannot be opened at all).
    """
    for aside in set_aside(path):  # left by an interrupted exchange
        if path.exists() and aside.samefile(path):
            aside.unlink()
    check_file(path)
    if not path.exists() or path.stat().st_size:
        try:
            return _open_and_check(path, bounds)
        except SpoolDamaged as error:
            log.error("damaged spool set aside", extra={"reason": str(error)})
    fresh = path.with_name(f"{path.name}.mending")
    for rest in (fresh, _journal(fresh)):
        rest.unlink(missing_ok=True)  # left by an interrupted start
    salvaged = _Salvage(path)
    with contextlib.closing(FileSpool(connect(fresh), fresh, bounds)) as spool:
        salvaged.write_into(spool)
    aside = _exchange(path, fresh, now_unix_milliseconds)
    facts = {"set_aside": str(aside), "rows_kept": salvaged.kept, "rows_lost": salvaged.lost}
    log.error("new spool begun", extra=facts)
    return FileSpool(connect(path), path, bounds)


def _open_and_check(path: Path, bounds: Bounds) -> FileSpool:
    """Open the spool and read it through once. Raises SpoolDamaged when any row cannot be read."""
    connection = connect(path)
    try:
        result = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if result != "ok":
            raise SpoolDamaged(f"the spool {path} is damaged ({result}): {ASIDE}")
        _read_through(connection)
    except SpoolDamaged:
        connection.close()
        raise
    except (sqlite3.DatabaseError, ValueError, KeyError) as error:
        connection.close()
        busy = isinstance(error, sqlite3.DatabaseError) and isinstance(to_spool_error(error, path), SpoolBusy)
        if busy:
            raise SpoolBusy(f"the spool {path} is held by another process: stop it and try again") from error
        raise SpoolDamaged(f"the spool {path} is damaged ({error}): {ASIDE}") from error
    spool = FileSpool(connection, path, bounds)
    spool.shrink_file()
    return spool


def _read_through(connection: sqlite3.Connection) -> None:
    for statement in (
        "SELECT id, body FROM pending",
        "SELECT key, value FROM control",
        "SELECT seq, chain, acknowledged_unix_milliseconds FROM outbox",
        "SELECT seq, epoch, reason FROM quarantine",
    ):
        for _ in connection.execute(statement):
            pass  # text that is not UTF-8 raises here
    row = connection.execute("SELECT value FROM control WHERE key = ?", (ControlKey.EPOCH,)).fetchone()
    if row is None or len(bytes.fromhex(row[0])) != EPOCH_BYTES:
        raise ValueError("no epoch")


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}-journal")


def _exchange(path: Path, fresh: Path, now_unix_milliseconds: int) -> Path:
    """Put `fresh` in the place of `path`.

    Set `path` and its journal aside, and delete older ones set aside.
    """
    for older in path.parent.glob(f"{path.name}.damaged-*"):
        older.unlink(missing_ok=True)
    aside = path.with_name(f"{path.name}.damaged-{now_unix_milliseconds // MILLISECONDS_PER_SECOND}")
    if _journal(path).exists():  # first: SQLite must never take it for the new file's journal
        _journal(path).rename(_journal(aside))
    try:
        os.link(path, aside)
    except OSError:  # a file system without links
        path.rename(aside)
    here.replace(fresh, path)
    here.sync_folder(path.parent)
    return aside


class _Salvage:
    """Reads a damaged spool. `kept` and `lost` count its rows once they have been read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.kept = 0
        self.lost = 0
        self._delivered = 0
        self._spans: list[tuple[Period | None, int]] = []
        self._end: ClockPeriod | None = None

    def write_into(self, spool: FileSpool) -> None:
        """Write all readable rows in order, then the gap for the lost ones.

        Raises only the SpoolError of `spool`.
        """
        former: dict[str, str | None] = {}
        with contextlib.ExitStack() as stack:
            try:
                db = stack.enter_context(
                    contextlib.closing(sqlite3.connect(self._path, isolation_level=None))
                )
                db.text_factory = bytes
                db.execute("PRAGMA query_only = ON")
            except sqlite3.Error:
                pass
            else:
                control = self._control(db)
                epoch = control.get(ControlKey.EPOCH) or ""
                spool.append((), {key: value for key, value in control.items() if key not in _OF_THE_STREAM})
                batch: list[str] = []
                for body in self._bodies(db, epoch):
                    batch.append(body)
                    if len(batch) >= _BATCH:
                        spool.append(batch, {})
                        batch.clear()
                spool.append(batch, {})
                if epoch and self._delivered:
                    left = parse_counts(control.get(ControlKey.FORMER)) | {epoch: self._delivered}
                    former[ControlKey.FORMER] = json.dumps(left)
        gap = Gap(GapReason.SPOOL_DAMAGED, tuple(self._spans[:MAX_SPANS]), max(1, self.lost))
        spool.append([gap_row(gap)], former)

    def _control(self, db: sqlite3.Connection) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        with contextlib.suppress(*_UNREADABLE):
            for key, value in db.execute("SELECT key, value FROM control"):
                with contextlib.suppress(ValueError, AttributeError):
                    found[ControlKey(key.decode("ascii"))] = value.decode("utf-8")
        return found

    def _bodies(self, db: sqlite3.Connection, epoch: str) -> Iterator[str]:
        """Yield numbered unacknowledged rows as bytes (the sender checks them), then unnumbered rows.

        Some numbered rows may have arrived: a collector recognises a record that comes again in another
        epoch.
        """
        before: tuple[int, bytes] = (0, b"")
        for seq, wire, chain, acknowledged in _rows(
            db, "seq", "seq, wire, chain, acknowledged_unix_milliseconds", "outbox"
        ):
            if not (isinstance(seq, int) and isinstance(wire, bytes) and isinstance(chain, bytes)):
                continue
            if acknowledged is None:
                self.lost += max(0, seq - before[0] - 1) if before[0] else 0
                self.kept += 1
                known = before[1].hex() if before[0] == seq - 1 else ""
                yield SALVAGED + (
                    f':"{wire.hex()}","chain":"{chain.hex()}","before":"{known}","seq":{seq},"epoch":{json.dumps(epoch)}}}'
                )
            else:
                self._delivered = seq
            before = (seq, chain)
        last = 0
        for row, body in _rows(db, "id", "id, body", "pending"):
            text = _decode_body(body)
            if text is None or not isinstance(row, int):
                continue
            missing = row - last - 1 if last else 0
            self.lost += missing
            self._track_period(text, hole=missing > 0)
            last = row
            self.kept += 1
            yield text
        with contextlib.suppress(*_UNREADABLE, TypeError):
            (highest,) = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'pending'").fetchone()
            self.lost += max(0, int(highest) - last) if last else 0

    def _track_period(self, text: str, *, hole: bool) -> None:
        """Date the missing rows.

        Clock periods adjoin, so a hole between two readable rows is their period.
        """
        if text.startswith(SALVAGED):
            return
        body: Record | Gap = body_from_json(text)
        period = body.period if isinstance(body, Record) and isinstance(body.period, ClockPeriod) else None
        if hole and period is not None and self._end is not None:
            start = self._end.start_unix_milliseconds + self._end.duration_milliseconds
            length = period.start_unix_milliseconds - start
            if length > 0:
                self._spans.append((ClockPeriod(start, length), length))
        if period is not None or hole:
            self._end = period


def _decode_body(body: Any) -> str | None:
    try:
        text = str(body.decode("utf-8"))
        if not text.startswith(SALVAGED):
            body_from_json(text)
    except (ValueError, AttributeError):
        return None
    return text


def _rows(db: sqlite3.Connection, key: str, columns: str, table: str) -> Iterator[tuple[Any, ...]]:
    """Yield rows in order.

    Forward up to the first unreadable one, then those that can be read from the end.
    """
    seen: int | None = None
    try:
        for row in db.execute(f"SELECT {columns} FROM {table} ORDER BY {key}"):
            seen = row[0]
            yield row
    except _UNREADABLE:
        rest: list[tuple[Any, ...]] = []
        with contextlib.suppress(*_UNREADABLE):
            for row in db.execute(f"SELECT {columns} FROM {table} ORDER BY {key} DESC"):
                if seen is not None and row[0] <= seen:
                    break
                rest.append(row)
        yield from reversed(rest)
