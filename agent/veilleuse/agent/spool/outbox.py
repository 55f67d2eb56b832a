# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The sender's half of the spool: number, chain, hand out, acknowledge, rewind. docs/wire.md §1 and §2.

Each call is one IMMEDIATE transaction, so the network never delays the resident process. The last row is
never trimmed: numbers and chain always follow from the rows, and no number is given twice.
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
from veilleuse.agent.model import CLOCK, Gap
from veilleuse.agent.ports import ControlKey, Encoder, WireRecord
from veilleuse.agent.spool.database import new_epoch, parse_counts, translate_errors
from veilleuse.agent.spool.epochs import (
    acknowledged_seq,
    control,
    edge,
    epoch_of,
    former_epochs,
    has_gap_counts,
    oldest_seq,
    records_between,
    set_control,
    set_former_epochs,
    store_gap_counts,
)
from veilleuse.wire.chain import chain_next, chain_start
from veilleuse.wire.limits import MAX_RECORD_BYTES
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.vocabulary import GapReason, Population

QUARANTINE_ROWS: Final = 256
"""Largest number of quarantined records; the oldest are deleted."""
QUARANTINE_BYTES: Final = 2 * 1024 * 1024
TRIMMED_ROWS: Final = 4_096
"""Number of records trimmed from the ring whose times are still kept, about 40 bytes each."""

_TRIMMED: Final = "CREATE TABLE IF NOT EXISTS trimmed (seq INTEGER PRIMARY KEY, spans BLOB NOT NULL) STRICT"
"""Times of the trimmed records, for the gap sent to a collector that was restored too far back.

The table exists since 0.2. Version 0.1 ignores it, so the schema number stays the same.
"""


@dataclass(frozen=True, slots=True)
class Ring:
    """Limits of the ring and of the quarantine.

    The ring holds acknowledged records, for a collector that is restored from a backup.
    """

    milliseconds: int = 72 * MILLISECONDS_PER_HOUR
    records: int = 14
    """Smallest number of records kept, whatever their age."""
    max_bytes: int = 16 * 1024 * 1024
    """Older ones are deleted before `milliseconds` when the ring is larger."""
    quarantine_bytes: int = QUARANTINE_BYTES


class Outbox:
    """Implements `ports.SenderSpool` on the spool file. Raises SpoolBusy, SpoolFull, SpoolDamaged."""

    def __init__(self, connection: sqlite3.Connection, path: Path, encoder: Encoder, ring: Ring) -> None:
        """Take a `connection` opened by `spool.database.connect`."""
        self._connection = connection
        self._path = path
        self._encoder = encoder
        self._ring = ring
        self._file = _inode(path)

    # -------------------------------------------------------------------------- to the collector

    def number_pending(self, limit: int) -> int:
        """Encode, number and chain rows while fewer than `limit` are unacknowledged.

        Return the number of rows. Rows finer than the population enrolled allows are summed first.
        """
        with self._transaction() as db:
            seq, chain = self._tip(db)
            room = limit - (seq - acknowledged_seq(db))
            if room <= 0:
                return 0
            rows = db.execute("SELECT id, body FROM pending ORDER BY id LIMIT ?", (room,)).fetchall()
            drops: dict[str, int] = {}
            numbered: list[tuple[int, bytes]] = []
            if rows:  # delete first, so that the file need not grow
                db.execute("DELETE FROM pending WHERE id <= ?", (rows[-1][0],))
            for body in _in_grain(db, [body for _, body in rows]):
                seq += 1
                wire = self._encode(db, seq, body, drops)
                chain = chain_next(chain, wire)
                db.execute("INSERT INTO outbox (seq, wire, chain) VALUES (?, ?, ?)", (seq, wire, chain))
                numbered.append((seq, wire))
            _add_drops(db, drops)
            self._store_gap_counts(db, numbered)
        return len(rows)

    def unacknowledged(self, after_seq: int, limit: int, max_bytes: int) -> tuple[WireRecord, ...]:
        """Return the records that follow `after_seq`: at most `limit` and `max_bytes`, but at least one."""
        run: list[WireRecord] = []
        size = 0
        with self._translate_errors() as db:
            rows = db.execute(
                "SELECT seq, wire, chain FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?", (after_seq, limit)
            )
            for seq, wire, chain in rows:
                size += len(wire)
                if run and size > max_bytes:
                    break
                run.append(WireRecord(seq, wire, chain))
        return tuple(run)

    # ------------------------------------------------------------------------- from the collector

    def acknowledge(self, seq: int, now_unix_milliseconds: int) -> None:
        """Move the records up to `seq`, now durable on the collector, to the ring, and trim the ring."""
        with self._transaction() as db:
            db.execute(
                "UPDATE outbox SET acknowledged_unix_milliseconds = ?"
                " WHERE seq <= ? AND acknowledged_unix_milliseconds IS NULL",
                (now_unix_milliseconds, seq),
            )
            self._trim(db, now_unix_milliseconds)

    def rewind(self, seq: int) -> bool:
        """Un-acknowledge the records after `seq`, to which the collector went back;

        False when the ring lacks some.
        """
        with self._transaction() as db:
            if oldest_seq(db) > seq + 1:
                return False
            db.execute("UPDATE outbox SET acknowledged_unix_milliseconds = NULL WHERE seq > ?", (seq,))
        return True

    def replace_with_gap(self, seq: int, reason: str, *, damaged: bool = False) -> None:
        """Replace a record by a gap, quarantine the original, and re-chain the records after it.

        The gap is Gap{refused}. It is Gap{spool_damaged} with `damaged`: the bytes are not those that were
        numbered.
        """
        with self._transaction() as db:
            row = db.execute("SELECT wire FROM outbox WHERE seq = ?", (seq,)).fetchone()
            if row is None:
                return
            self._quarantine(db, seq, row[0], reason)
            gap = self._encode_damage_gap(db, seq) if damaged else self._encoder.refused(row[0])
            _add_drops(db, {GapReason.SPOOL_DAMAGED if damaged else GapReason.REFUSED: 1})
            before = db.execute("SELECT chain FROM outbox WHERE seq = ?", (seq - 1,)).fetchone()
            if before is not None or seq == 1:
                self._chain_again(db, seq, gap, chain_start(epoch_of(db)) if before is None else before[0])
            else:  # the record before it left the ring, so there is no chain: start a new epoch
                db.execute("UPDATE outbox SET wire = ? WHERE seq = ?", (gap, seq))
                self._renumber(db, [wire for wire, _ in self._sound(db)], left_at=seq - 1)

    def new_epoch(self, lost_after: int | None = None, former: Mapping[bytes, int] | None = None) -> None:
        """Start a new epoch: all kept records are numbered from 1; the collector skips those it has.

        With `lost_after`, the collector has this epoch only up to there, before the oldest record kept. A
        Gap{ring_expired} then comes first, for the records between. Without `lost_after`, an acknowledged gap
        of 0.1 that has no dates is left out. No collector could recognise it as received. `former` maps
        former epochs to the last number that the collector has. Records it lacks of them are added to that
        gap, undated.
        """
        with self._transaction() as db:
            if lost_after is None:
                wires = [
                    wire
                    for wire, acknowledged in self._sound(db)
                    if acknowledged is None or not self._encoder.is_nameless_gap(wire)
                ]
                self._renumber(db, wires, left_at=oldest_seq(db) - 1)
                return
            before, stands = former_epochs(db), former or {}
            first = sum(
                records_between(db, epoch, stands.get(epoch, number) + 1, number)
                for epoch, number in before.items()
            )
            lost = records_between(db, epoch_of(db), lost_after + 1, oldest_seq(db) - 1)
            spans = self._spans(db, lost_after + 1, oldest_seq(db) - 1)
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
        """Start a new epoch under another identity.

        Records delivered under the former one are not sent again.
        """
        with self._transaction() as db:
            self._renumber(db, [wire for wire, acknowledged in self._sound(db) if acknowledged is None])
            set_former_epochs(db, {})

    # ------------------------------------------------------------------------------ state

    def epoch(self) -> bytes:
        """Return the present epoch, 8 random bytes."""
        with self._translate_errors() as db:
            return epoch_of(db)

    def last_seq(self) -> int:
        """Return the highest number given in this epoch, 0 if none."""
        with self._translate_errors() as db:
            return self._tip(db)[0]

    def acknowledged_seq(self) -> int:
        """Return the highest number acknowledged in this epoch, 0 if none."""
        with self._translate_errors() as db:
            return acknowledged_seq(db)

    def oldest_seq(self) -> int:
        """Return the lowest number still kept, ring included; `last_seq` + 1 if none."""
        with self._translate_errors() as db:
            return oldest_seq(db)

    def former(self) -> dict[bytes, int]:
        """Return, per former epoch, the number of its last record delivered and no longer kept."""
        with self._translate_errors() as db:
            return former_epochs(db)

    def chain_at(self, seq: int) -> bytes | None:
        """Return the agent's own chain at `seq`, or None when it is no longer kept."""
        with self._translate_errors() as db:
            if seq == 0:
                return chain_start(epoch_of(db))
            row = db.execute("SELECT chain FROM outbox WHERE seq = ?", (seq,)).fetchone()
            return None if row is None else bytes(row[0])

    def count_waiting(self) -> tuple[int, int]:
        """Return (records not yet acknowledged, numbered or not; bytes of the spool file)."""
        with self._translate_errors() as db:
            pending = db.execute("SELECT COUNT(*) FROM pending").fetchone()[0]
            numbered = self._tip(db)[0] - acknowledged_seq(db)
        return pending + numbered, os.stat(self._path).st_size

    def count_quarantined(self) -> int:
        """Count the refused records whose originals are kept."""
        with self._translate_errors() as db:
            return int(db.execute("SELECT COUNT(*) FROM quarantine").fetchone()[0])

    def control(self, key: str) -> str | None:
        """Return a control value, or None."""
        with self._translate_errors() as db:
            return control(db, key)

    def set_control(self, values: Mapping[str, str | None]) -> None:
        """Set control keys in one transaction; None deletes a key."""
        with self._transaction() as db:
            for key, value in values.items():
                set_control(db, key, value)

    def exchange(self, expected: Mapping[str, str | None], values: Mapping[str, str | None]) -> bool:
        """Set control keys if the keys of `expected` have the expected values; return whether they had."""
        with self._transaction() as db:
            if any(control(db, key) != value for key, value in expected.items()):
                return False
            for key, value in values.items():
                set_control(db, key, value)
        return True

    # --------------------------------------------------------------------------- internals

    @contextmanager
    def _translate_errors(self) -> Iterator[sqlite3.Connection]:
        with translate_errors(self._path):
            yield self._connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with translate_errors(self._path):
            if _inode(self._path) != self._file:
                raise SpoolDamaged(
                    f"the spool {self._path} was replaced meanwhile: this sender ends, the next one continues"
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

    def _encode(self, db: sqlite3.Connection, seq: int, body: str, drops: dict[str, int]) -> bytes:
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
        keep_from = acknowledged_seq(db) - max(self._ring.records, 1) + 1
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
        """Delete records from the ring, but keep their times for TRIMMED_ROWS more records."""
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
        """Put `gap` at `seq` after `chain` and re-chain the records behind it.

        A record that does not match its own chain becomes a gap too.
        """
        rows = db.execute(
            "SELECT seq, wire, chain FROM outbox WHERE seq >= ? ORDER BY seq", (seq,)
        ).fetchall()
        former = b""
        for number, wire, own in rows:
            if number == seq:
                wire = gap
            elif chain_next(former, wire) != own:
                wire = self._encode_damage_gap(db, number)
                _add_drops(db, {GapReason.SPOOL_DAMAGED: 1})
            former, chain = own, chain_next(chain, wire)
            db.execute("UPDATE outbox SET wire = ?, chain = ? WHERE seq = ?", (wire, chain, number))

    def _sound(self, db: sqlite3.Connection) -> list[tuple[bytes, int | None]]:
        """Return (bytes, time of acknowledgement) in order, with a gap for each damaged record."""
        found: list[tuple[bytes, int | None]] = []
        before = edge(db)
        rows = db.execute("SELECT seq, wire, chain, acknowledged_unix_milliseconds FROM outbox ORDER BY seq")
        for seq, wire, chain, acknowledged in rows.fetchall():
            if seq == before[0] + 1 and chain_next(before[1], wire) != chain:
                wire = self._encode_damage_gap(db, seq)
            found.append((wire, acknowledged))
            before = (seq, chain)
        return found

    def _encode_damage_gap(self, db: sqlite3.Connection, seq: int) -> bytes:
        """Encode an undated gap that covers the records of this number."""
        return self._encoder.lost(GapReason.SPOOL_DAMAGED, records_between(db, epoch_of(db), seq, seq))

    def _store_gap_counts(self, db: sqlite3.Connection, numbered: Sequence[tuple[int, bytes]]) -> None:
        """Store how many records the gaps among these cover, in case a gap is damaged or deleted."""
        if not has_gap_counts(db):
            numbered = db.execute("SELECT seq, wire FROM outbox").fetchall()
        told = [(seq, self._encoder.records(wire)) for seq, wire in numbered]
        store_gap_counts(db, {seq: records for seq, records in told if records > 1})

    def _spans(self, db: sqlite3.Connection, first: int, last: int) -> list[bytes]:
        """Return the times of the records first … last, as far as they are known."""
        db.execute(_TRIMMED)
        rows = db.execute("SELECT spans FROM trimmed WHERE seq BETWEEN ? AND ? ORDER BY seq", (first, last))
        return [row[0] for row in rows]

    def _renumber(self, db: sqlite3.Connection, wires: Sequence[bytes], left_at: int = 0) -> None:
        """Start a new epoch that holds exactly these records, numbered from 1, none acknowledged.

        `left_at`: number up to which the collector has the present epoch and the records are not kept.
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
        self._store_gap_counts(db, list(enumerate(wires, start=1)))

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
    """Bind the spool to this identity; a new one starts a new stream without records delivered before.

    It is called at every contact too, which repairs an interrupted enrolment or a lost spool.
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
    """Return the used bytes of the file; cheaper than summing the rows."""
    pages, free, size = (
        int(db.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _in_grain(db: sqlite3.Connection, bodies: list[str]) -> list[str]:
    """Return rows no finer than the enrolled population allows: they may be older than the enrolment."""
    population = control(db, ControlKey.POPULATION)
    if population in (None, Population.SERVER) or not any(CLOCK in body for body in bodies):
        return bodies
    from veilleuse.agent.spool.coarsen import coarsen

    return coarsen(bodies, str(population), control(db, ControlKey.CALENDAR))


def _inode(path: Path) -> int | None:
    """Return the inode of the file; it changes when a damaged spool is set aside."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def _add_drops(db: sqlite3.Connection, drops: Mapping[str, int]) -> None:
    if drops:
        totals = parse_counts(control(db, ControlKey.DROPS))
        for reason, records in drops.items():
            totals[reason] = totals.get(reason, 0) + records
        set_control(db, ControlKey.DROPS, json.dumps(totals, sort_keys=True))
