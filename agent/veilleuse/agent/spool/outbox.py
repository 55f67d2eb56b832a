# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The sender's half of the spool: number, chain, hand out, acknowledge, go back. docs/wire.md §1 and §2.

Every call is its own IMMEDIATE transaction, so that the resident process is never held up by the network. The last
row is never trimmed: numbers and chain are always known from the rows themselves, and no number is given twice.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from veilleuse.agent.errors import SpoolDamaged
from veilleuse.agent.model import Gap
from veilleuse.agent.ports import ControlKey, Encoder, WireRecord
from veilleuse.agent.spool.database import counted, new_epoch, translated
from veilleuse.agent.spool.epochs import (
    control,
    edge,
    epoch_of,
    former_epochs,
    gaps_are_noted,
    note_gaps,
    records_between,
    set_control,
    set_former_epochs,
)
from veilleuse.wire.chain import chain_next, chain_start
from veilleuse.wire.limits import MAX_RECORD_BYTES
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.vocabulary import GapReason

QUARANTINE_ROWS: Final = 256
"""Bound of the quarantine: the oldest go."""
QUARANTINE_BYTES: Final = 2 * 1024 * 1024
TRIMMED_ROWS: Final = 4_096
"""Of how many records that left the ring it is still known when they were: some 40 bytes each."""

_TRIMMED: Final = "CREATE TABLE IF NOT EXISTS trimmed (seq INTEGER PRIMARY KEY, spans BLOB NOT NULL) STRICT"
"""When the records were that left the ring: for the gap that a collector restored too far back is told. Since 0.2; 0.1 does
not look at it, so the schema keeps its number."""


@dataclass(frozen=True, slots=True)
class Ring:
    """How long acknowledged records are kept, for a collector that is restored from a backup; and what was refused."""

    milliseconds: int = 72 * MILLISECONDS_PER_HOUR
    records: int = 14
    """Kept in any case."""
    max_bytes: int = 16 * 1024 * 1024
    """Older ones go earlier than `milliseconds` when the ring is larger."""
    quarantine_bytes: int = QUARANTINE_BYTES


class Outbox:
    """SenderSpool on the spool's file. Raises SpoolBusy, SpoolFull, SpoolDamaged."""

    def __init__(self, connection: sqlite3.Connection, path: Path, encoder: Encoder, ring: Ring) -> None:
        """`connection` as made by `spool.connect`."""
        self._connection = connection
        self._path = path
        self._encoder = encoder
        self._ring = ring
        self._file = _inode(path)

    # ------------------------------------------------------------------------------- out

    def number_pending(self, limit: int) -> int:
        """Encode, number and chain unnumbered rows while fewer than `limit` are unacknowledged; how many were."""
        with self._transaction() as db:
            seq, chain = self._tip(db)
            room = limit - (seq - _acknowledged(db))
            if room <= 0:
                return 0
            rows = db.execute("SELECT id, body FROM pending ORDER BY id LIMIT ?", (room,)).fetchall()
            drops: dict[str, int] = {}
            numbered: list[tuple[int, bytes]] = []
            if rows:  # first, so that the file need not grow
                db.execute("DELETE FROM pending WHERE id <= ?", (rows[-1][0],))
            for _, body in rows:
                seq += 1
                wire = self._encoded(db, seq, body, drops)
                chain = chain_next(chain, wire)
                db.execute("INSERT INTO outbox (seq, wire, chain) VALUES (?, ?, ?)", (seq, wire, chain))
                numbered.append((seq, wire))
            _add_drops(db, drops)
            self._note(db, numbered)
        return len(rows)

    def unacknowledged(self, after_seq: int, limit: int, max_bytes: int) -> tuple[WireRecord, ...]:
        """A contiguous run after `after_seq`, at most `limit` records and `max_bytes` (at least one record)."""
        run: list[WireRecord] = []
        size = 0
        with self._reading() as db:
            rows = db.execute(
                "SELECT seq, wire, chain FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?", (after_seq, limit)
            )
            for seq, wire, chain in rows:
                size += len(wire)
                if run and size > max_bytes:
                    break
                run.append(WireRecord(seq, wire, chain))
        return tuple(run)

    # ---------------------------------------------------------------------------- answers

    def acknowledge(self, seq: int, now_unix_milliseconds: int) -> None:
        """Everything up to `seq` is durable on the collector: it moves to the ring, which is trimmed."""
        with self._transaction() as db:
            db.execute(
                "UPDATE outbox SET acknowledged_unix_milliseconds = ?"
                " WHERE seq <= ? AND acknowledged_unix_milliseconds IS NULL",
                (now_unix_milliseconds, seq),
            )
            self._trim(db, now_unix_milliseconds)

    def rewind(self, seq: int) -> bool:
        """The collector went back to `seq`: un-acknowledge what the ring has after it; False when it lacks some."""
        with self._transaction() as db:
            if _oldest(db) > seq + 1:
                return False
            db.execute("UPDATE outbox SET acknowledged_unix_milliseconds = NULL WHERE seq > ?", (seq,))
        return True

    def replace_with_gap(self, seq: int, reason: str, *, damaged: bool = False) -> None:
        """Put Gap{refused} at its own number, the original in quarantine, and re-chain what follows.

        `damaged`: its bytes are not what was numbered; Gap{spool_damaged}, for nothing in them can be believed.
        """
        with self._transaction() as db:
            row = db.execute("SELECT wire FROM outbox WHERE seq = ?", (seq,)).fetchone()
            if row is None:
                return
            self._quarantine(db, seq, row[0], reason)
            gap = self._in_place_of_damaged(db, seq) if damaged else self._encoder.refused(row[0])
            _add_drops(db, {GapReason.SPOOL_DAMAGED if damaged else GapReason.REFUSED: 1})
            before = db.execute("SELECT chain FROM outbox WHERE seq = ?", (seq - 1,)).fetchone()
            if before is not None or seq == 1:
                self._chain_again(db, seq, gap, chain_start(epoch_of(db)) if before is None else before[0])
            else:  # the record before it left the ring: nothing to chain to but a new beginning
                db.execute("UPDATE outbox SET wire = ? WHERE seq = ?", (gap, seq))
                self._renumber(db, [wire for wire, _ in self._sound(db)], left_at=seq - 1)

    def new_epoch(self, lost_after: int | None = None, former: Mapping[bytes, int] | None = None) -> None:
        """Start a new epoch: everything kept, ring included, is numbered again from 1; the collector knows what it has.

        With `lost_after` the collector stands there, before the oldest that is kept: a Gap{ring_expired} comes first.
        Without, an acknowledged gap of 0.1 without dates is left out: no collector could tell that it has it already.
        `former`: where the collector stands in epochs left before; what it lacks of them is in that gap too, undated.
        """
        with self._transaction() as db:
            if lost_after is None:
                wires = [
                    wire
                    for wire, acknowledged in self._sound(db)
                    if acknowledged is None or not self._encoder.is_nameless_gap(wire)
                ]
                self._renumber(db, wires, left_at=_oldest(db) - 1)
                return
            before, stands = former_epochs(db), former or {}
            first = sum(
                records_between(db, epoch, stands.get(epoch, number) + 1, number)
                for epoch, number in before.items()
            )
            lost = records_between(db, epoch_of(db), lost_after + 1, _oldest(db) - 1)
            spans = self._spans(db, lost_after + 1, _oldest(db) - 1)
            wires = [wire for wire, _ in self._sound(db)]
            drops: dict[str, int] = {}
            if first + lost > 0:
                wires.insert(0, self._encoder.lost(GapReason.RING_EXPIRED, first + lost, spans))
                drops[GapReason.RING_EXPIRED] = first + lost
            set_former_epochs(
                db, {epoch: min(number, stands.get(epoch, number)) for epoch, number in before.items()}
            )
            self._renumber(db, wires, left_at=lost_after)
            _add_drops(db, drops)

    def new_stream(self) -> None:
        """Start a new epoch under another identity: what was delivered under the former one is not sent again."""
        with self._transaction() as db:
            self._renumber(db, [wire for wire, acknowledged in self._sound(db) if acknowledged is None])
            set_former_epochs(db, {})

    # ------------------------------------------------------------------------------ state

    def epoch(self) -> bytes:
        """8 random bytes, made when the spool was created."""
        with self._reading() as db:
            return epoch_of(db)

    def last_seq(self) -> int:
        """Highest number given in this epoch, 0 when none."""
        with self._reading() as db:
            return self._tip(db)[0]

    def acknowledged_seq(self) -> int:
        """Highest number acknowledged in this epoch, 0 when none."""
        with self._reading() as db:
            return _acknowledged(db)

    def oldest_seq(self) -> int:
        """Lowest number still kept, ring included; `last_seq` + 1 when none is."""
        with self._reading() as db:
            return _oldest(db)

    def former(self) -> dict[bytes, int]:
        """Epochs left → number of the last record in it that was delivered and is not kept any more."""
        with self._reading() as db:
            return former_epochs(db)

    def chain_at(self, seq: int) -> bytes | None:
        """The agent's own chain at `seq`, None when not kept any more."""
        with self._reading() as db:
            if seq == 0:
                return chain_start(epoch_of(db))
            row = db.execute("SELECT chain FROM outbox WHERE seq = ?", (seq,)).fetchone()
            return None if row is None else bytes(row[0])

    def waiting(self) -> tuple[int, int]:
        """(records not yet acknowledged, numbered or not; bytes of the spool's file)."""
        with self._reading() as db:
            pending = db.execute("SELECT COUNT(*) FROM pending").fetchone()[0]
            numbered = self._tip(db)[0] - _acknowledged(db)
        return pending + numbered, os.stat(self._path).st_size

    def quarantined(self) -> int:
        """Originals of refused records that are kept."""
        with self._reading() as db:
            return int(db.execute("SELECT COUNT(*) FROM quarantine").fetchone()[0])

    def control(self, key: str) -> str | None:
        """A control value."""
        with self._reading() as db:
            return control(db, key)

    def set_control(self, values: Mapping[str, str | None]) -> None:
        """Set control keys (None deletes) in one transaction."""
        with self._transaction() as db:
            for key, value in values.items():
                set_control(db, key, value)

    def exchange(self, expected: Mapping[str, str | None], values: Mapping[str, str | None]) -> bool:
        """Set control keys if those of `expected` stand as told, in one transaction; whether they did."""
        with self._transaction() as db:
            if any(control(db, key) != value for key, value in expected.items()):
                return False
            for key, value in values.items():
                set_control(db, key, value)
        return True

    # --------------------------------------------------------------------------- internals

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with translated(self._path):
            yield self._connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with translated(self._path):
            if _inode(self._path) != self._file:
                raise SpoolDamaged(
                    f"the spool {self._path} was replaced meanwhile: this sender ends, the next one goes on"
                )
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def _tip(self, db: sqlite3.Connection) -> tuple[int, bytes]:
        row = db.execute("SELECT seq, chain FROM outbox ORDER BY seq DESC LIMIT 1").fetchone()
        return (0, chain_start(epoch_of(db))) if row is None else (row[0], bytes(row[1]))

    def _encoded(self, db: sqlite3.Connection, seq: int, body: str, drops: dict[str, int]) -> bytes:
        try:
            wire = self._encoder.encode(body)
            if body.startswith('{"gap"'):
                gap = Gap.from_json(body)
                drops[gap.reason] = drops.get(gap.reason, 0) + gap.records
        except ValueError as error:
            self._quarantine(db, seq, body.encode()[:MAX_RECORD_BYTES], f"unreadable: {error}")
            drops[GapReason.SPOOL_DAMAGED] = drops.get(GapReason.SPOOL_DAMAGED, 0) + 1
            return self._encoder.lost(GapReason.SPOOL_DAMAGED, 1)
        return wire

    def _trim(self, db: sqlite3.Connection, now_unix_milliseconds: int) -> None:
        keep_from = _acknowledged(db) - max(self._ring.records, 1) + 1
        rows = db.execute(
            "SELECT seq, wire FROM outbox WHERE seq < ? AND acknowledged_unix_milliseconds <= ? ORDER BY seq",
            (keep_from, now_unix_milliseconds - self._ring.milliseconds),
        ).fetchall()
        self._forget(db, rows)
        if _used_bytes(db) > self._ring.max_bytes:
            self._shrink(db, keep_from)

    def _shrink(self, db: sqlite3.Connection, keep_from: int) -> None:
        size = 0
        rows = db.execute(
            "SELECT seq, LENGTH(wire) FROM outbox WHERE seq < ? ORDER BY seq DESC", (keep_from,)
        ).fetchall()
        for seq, length in rows:
            size += length
            if size > self._ring.max_bytes:
                old = db.execute(
                    "SELECT seq, wire FROM outbox WHERE seq <= ? ORDER BY seq", (seq,)
                ).fetchall()
                self._forget(db, old)
                return

    def _forget(self, db: sqlite3.Connection, rows: Sequence[tuple[int, bytes]]) -> None:
        """Let records leave the ring; when they were is kept a while longer."""
        if not rows:
            return
        db.execute(_TRIMMED)
        db.executemany(
            "INSERT OR REPLACE INTO trimmed (seq, spans) VALUES (?, ?)",
            [(seq, self._encoder.spans(wire)) for seq, wire in rows[-TRIMMED_ROWS:]],
        )
        db.execute("DELETE FROM trimmed WHERE seq <= ?", (rows[-1][0] - TRIMMED_ROWS,))
        (chain,) = db.execute("SELECT hex(chain) FROM outbox WHERE seq = ?", (rows[-1][0],)).fetchone()
        set_control(db, ControlKey.EDGE, json.dumps([rows[-1][0], chain]))
        db.executemany("DELETE FROM outbox WHERE seq = ?", [(seq,) for seq, _ in rows])

    def _chain_again(self, db: sqlite3.Connection, seq: int, gap: bytes, chain: bytes) -> None:
        """Put `gap` at `seq`, after `chain`, and chain what follows anew; a gap too for what is not what its chain said."""
        rows = db.execute(
            "SELECT seq, wire, chain FROM outbox WHERE seq >= ? ORDER BY seq", (seq,)
        ).fetchall()
        former = b""
        for number, wire, own in rows:
            if number == seq:
                wire = gap
            elif chain_next(former, wire) != own:
                wire = self._in_place_of_damaged(db, number)
                _add_drops(db, {GapReason.SPOOL_DAMAGED: 1})
            former, chain = own, chain_next(chain, wire)
            db.execute("UPDATE outbox SET wire = ?, chain = ? WHERE seq = ?", (wire, chain, number))

    def _sound(self, db: sqlite3.Connection) -> list[tuple[bytes, int | None]]:
        """(bytes, when acknowledged) in order. In place of what the chain shows to be damaged is a gap."""
        found: list[tuple[bytes, int | None]] = []
        before = edge(db)
        rows = db.execute("SELECT seq, wire, chain, acknowledged_unix_milliseconds FROM outbox ORDER BY seq")
        for seq, wire, chain, acknowledged in rows.fetchall():
            if seq == before[0] + 1 and chain_next(before[1], wire) != chain:
                wire = self._in_place_of_damaged(db, seq)
            found.append((wire, acknowledged))
            before = (seq, chain)
        return found

    def _in_place_of_damaged(self, db: sqlite3.Connection, seq: int) -> bytes:
        """A gap without dates, for as many records as were numbered there."""
        return self._encoder.lost(GapReason.SPOOL_DAMAGED, records_between(db, epoch_of(db), seq, seq))

    def _note(self, db: sqlite3.Connection, numbered: Sequence[tuple[int, bytes]]) -> None:
        """How many records the gaps among these stand for: still known when they are damaged, or not kept any more."""
        if not gaps_are_noted(db):
            numbered = db.execute("SELECT seq, wire FROM outbox").fetchall()
        told = [(seq, self._encoder.records(wire)) for seq, wire in numbered]
        note_gaps(db, {seq: records for seq, records in told if records > 1})

    def _spans(self, db: sqlite3.Connection, first: int, last: int) -> list[bytes]:
        """When the records first … last were, as far as it is known."""
        db.execute(_TRIMMED)
        rows = db.execute("SELECT spans FROM trimmed WHERE seq BETWEEN ? AND ? ORDER BY seq", (first, last))
        return [row[0] for row in rows]

    def _renumber(self, db: sqlite3.Connection, wires: Sequence[bytes], left_at: int = 0) -> None:
        """These records and no others, from 1 on under another epoch; none of them is acknowledged in it.

        `left_at`: up to there the collector has this epoch, and what it has is not kept.
        """
        left = former_epochs(db) | {epoch_of(db): left_at}
        epoch = new_epoch()
        db.execute("DELETE FROM outbox")
        db.execute(_TRIMMED)
        db.execute("DELETE FROM trimmed")
        set_control(db, ControlKey.EPOCH, epoch)
        set_former_epochs(db, left)
        set_control(db, ControlKey.DROPS, None)
        set_control(db, ControlKey.EDGE, None)
        chain = chain_start(bytes.fromhex(epoch))
        for seq, wire in enumerate(wires, start=1):
            chain = chain_next(chain, wire)
            db.execute("INSERT INTO outbox (seq, wire, chain) VALUES (?, ?, ?)", (seq, wire, chain))
        self._note(db, list(enumerate(wires, start=1)))

    def _quarantine(self, db: sqlite3.Connection, seq: int, wire: bytes, reason: str) -> None:
        epoch = control(db, ControlKey.EPOCH) or ""
        sizes = db.execute("SELECT rowid, LENGTH(wire) FROM quarantine ORDER BY rowid DESC").fetchall()
        size = len(wire)
        for kept, (row, length) in enumerate(sizes, start=1):
            size += length
            if kept >= QUARANTINE_ROWS or size > self._ring.quarantine_bytes:
                db.execute("DELETE FROM quarantine WHERE rowid <= ?", (row,))
                break
        row = (seq, epoch, wire, reason)
        db.execute("INSERT INTO quarantine (seq, epoch, wire, reason) VALUES (?, ?, ?, ?)", row)


def adopt_identity(outbox: Outbox, agent_id: bytes, population: str) -> None:
    """The spool under this identity: under a new one another stream, and what was delivered before is not sent again.

    Called at every contact too, so that an enrolment that was cut, or a spool that was lost, is mended by the next one.
    """
    if outbox.control(ControlKey.AGENT_ID) == agent_id.hex():
        return
    outbox.new_stream()
    outbox.set_control(
        {
            ControlKey.AGENT_ID: agent_id.hex(),
            ControlKey.POPULATION: population,
            ControlKey.INSTANCE_ID: None,
            ControlKey.FACTS_SHA256: None,
            ControlKey.CALENDAR_SHA256: None,
            ControlKey.CALENDAR: None,
            ControlKey.CALENDAR_STATE: None,
            ControlKey.CONFIGURATION: None,
            ControlKey.CONFIGURATION_CANDIDATE: None,
            ControlKey.CONFIGURATION_TRIAL: None,
            ControlKey.CONFIGURATION_FAILED: None,
            ControlKey.COLLECTOR_VERSION: None,
            ControlKey.NEXT_SEND: None,
            ControlKey.STANDING: "enrolled, nothing sent yet",
            ControlKey.FAILURES: None,
        }
    )


def _used_bytes(db: sqlite3.Connection) -> int:
    """Bytes of the file that hold something: cheap, unlike summing the rows."""
    pages, free, size = (
        int(db.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _acknowledged(db: sqlite3.Connection) -> int:
    row = db.execute(
        "SELECT seq FROM outbox WHERE acknowledged_unix_milliseconds IS NOT NULL ORDER BY seq DESC LIMIT 1"
    ).fetchone()
    if row is not None:
        return int(row[0])
    first = db.execute("SELECT MIN(seq) FROM outbox").fetchone()[0]
    return 0 if first is None else int(first) - 1


def _inode(path: Path) -> int | None:
    """Which file is there: another one after a damaged spool was set aside."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def _oldest(db: sqlite3.Connection) -> int:
    first = db.execute("SELECT MIN(seq) FROM outbox").fetchone()[0]
    return 1 if first is None else int(first)


def _add_drops(db: sqlite3.Connection, drops: Mapping[str, int]) -> None:
    if drops:
        totals = counted(control(db, ControlKey.DROPS))
        for reason, records in drops.items():
            totals[reason] = totals.get(reason, 0) + records
        set_control(db, ControlKey.DROPS, json.dumps(totals, sort_keys=True))
