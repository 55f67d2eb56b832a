# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Starts a clone again as a new machine, before it measures. docs/wire.md §7, decision 0017.

A clone measures from the first moment, in its own spool, epoch and fold. The data of its original is set
aside, and the clone never sends it. Each step can be interrupted and repeated: the mark tells what was
started, the spool epoch how far it came.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Final

from google.protobuf.message import DecodeError

from veilleuse.agent import clock
from veilleuse.agent.errors import AgentError, AlreadyRunning, IdentityError, SpoolBusy, SpoolError
from veilleuse.agent.host.hardware_ids import MACHINE_ID, Roots, hardware_ids, require_machine_id
from veilleuse.agent.identity.clone import CONFLICT, HARDWARE, CloneDetector, Mark
from veilleuse.agent.identity.store import IdentityStore, as_owner_of
from veilleuse.agent.model import ClockPeriod, DatePeriod, Gap, Period, WeekPeriod
from veilleuse.agent.platforms import here
from veilleuse.agent.platforms.locks import RUN_LOCK, SEND_LOCK, ProcessLock
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.settings import AgentSettings
from veilleuse.agent.spool.database import FILE_NAME, connect, gap_over, gap_row, translate_errors
from veilleuse.wire.units import MILLISECONDS_PER_SECOND
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import GapReason

log = logging.getLogger(__name__)

COPIED: Final = f"{FILE_NAME}.copied-"
"""Prefix of a spool set aside, followed by the Unix time in seconds. One such spool is kept."""
FRESH: Final = f"{FILE_NAME}.new"
_SENDER_SECONDS: Final = 20.0
"""Longest wait for a running sender, in seconds: it ends by itself when it sees the mark."""


def reset_if_clone(settings: AgentSettings) -> bool:
    """Start again before measuring if this is a clone; return whether it was.

    Raises AgentError; AlreadyRunning while another process measures.
    """
    state = settings.paths.state
    with as_owner_of(state), ProcessLock(state, RUN_LOCK, what="veilleuse-agent run"):
        _warn_if_image()
        if not _is_clone(settings):
            return False
        with _wait_for_sender(state):
            reset_identity(settings)
        return True


def reset_before_enrolment(settings: AgentSettings) -> None:
    """Do the same as `reset_if_clone` before `enrol`, which holds the sender's lock.

    Unreadable hardware ids are stored anew. Raises IdentityError while the service measures into a cloned
    spool.
    """
    state, copies = settings.paths.state, CloneDetector(settings.paths.state)
    try:
        copies.changed_ids({})
    except IdentityError:
        copies.forget_hardware()
    if not _is_clone(settings):
        return
    try:
        with ProcessLock(state, RUN_LOCK, what="veilleuse-agent run"):
            reset_identity(settings)
    except AlreadyRunning as error:
        raise IdentityError(
            "this is a copy of another machine, and its service still measures for that one: "
            "`systemctl restart veilleuse-agent`, then enrol"
        ) from error


def reset_identity(settings: AgentSettings, now_unix_milliseconds: int | None = None) -> None:
    """Set aside the data of the original. The caller holds both locks. Raises IdentityError."""
    now = clock.unix_milliseconds() if now_unix_milliseconds is None else now_unix_milliseconds
    state, copies = settings.paths.state, CloneDetector(settings.paths.state)
    hardware = hardware_ids(Roots(settings.paths.sysfs, MACHINE_ID))
    mark = copies.read_mark() or Mark(HARDWARE, now)
    _replace_spool(state, copies, mark, now)
    copies.reset_identity(copies.read_mark() or mark)
    copies.keep(hardware)
    log.warning(
        "this is a copy of another machine: begun again without its identity and its spool",
        extra={"why": mark.why, "next": "an identity of its own is asked for at the first contact"},
    )


def _is_clone(settings: AgentSettings) -> bool:
    """Return True when this machine has to start again. Measuring goes on when this cannot be determined."""
    copies = CloneDetector(settings.paths.state)
    hardware = hardware_ids(Roots(settings.paths.sysfs, MACHINE_ID))
    try:
        if copies.read_mark() is not None or copies.is_other_hardware(hardware):
            return True
        if IdentityStore(settings.paths.state).is_enrolled():
            copies.drop_original()
        copies.keep(hardware)
    except IdentityError as error:
        log.warning("whether this machine is a copy cannot be told", extra={"reason": str(error)})
    return False


def _warn_if_image() -> None:
    try:
        require_machine_id(MACHINE_ID)
    except IdentityError as error:
        log.warning("measured and kept, not enrolled and not sent", extra={"reason": str(error)})


def _wait_for_sender(state: Path) -> ProcessLock:
    """Wait until the sender releases its lock, and take it. Raises AlreadyRunning."""
    until = time.monotonic() + _SENDER_SECONDS
    while True:
        try:
            return ProcessLock(state, SEND_LOCK, what="veilleuse-agent send")
        except AlreadyRunning:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


# ---------------------------------------------------------------------------------------- the spool


def _replace_spool(state: Path, copies: CloneDetector, mark: Mark, now: int) -> None:
    """Put a new spool in the place of the cloned one, which is set aside. Raises IdentityError."""
    path, fresh = state / FILE_NAME, state / FRESH
    if mark.epoch and _epoch(path) == mark.epoch:
        return  # interrupted after this step
    try:
        if not (mark.epoch and not path.exists() and _epoch(fresh) == mark.epoch):
            if not path.exists():
                return  # never measured, or set aside without a new one
            _remove(fresh)
            copies.mark(replace(mark, epoch=_create_spool(fresh, path, mark)))
            _set_aside(path, now)
        fresh.rename(path)
        here.sync_folder(state)
    except (SpoolError, OSError) as error:
        # no room for a second spool: set the first one aside all the same
        log.error("copied spool set aside, no gap says what was in it", extra={"reason": str(error)})
        _remove(fresh)
        with suppress(OSError):
            _set_aside(path, now)


def _create_spool(fresh: Path, copied: Path, mark: Mark) -> str:
    """Create the complete new spool and return its epoch. Raises SpoolError."""
    population, gaps = _read_undelivered(copied, of_this_machine=mark.why == CONFLICT)
    with closing(connect(fresh)) as db, translate_errors(fresh):
        db.execute("BEGIN IMMEDIATE")
        # the collector places a clone where its original is
        if population is not None:
            db.execute("INSERT INTO control VALUES (?, ?)", (ControlKey.POPULATION, population))
        db.executemany("INSERT INTO pending (body) VALUES (?)", [(gap_row(gap),) for gap in gaps])
        db.execute("COMMIT")
    return _epoch(fresh)


def _read_undelivered(path: Path, *, of_this_machine: bool) -> tuple[str | None, list[Gap]]:
    """Return (population, gaps for the undelivered rows).

    On other hardware the rows are the original's, so there are no gaps. Raises SpoolBusy.
    """
    try:
        with closing(connect(path)) as db, translate_errors(path):
            row = db.execute("SELECT value FROM control WHERE key = ?", (ControlKey.POPULATION,)).fetchone()
            population = None if row is None else str(row[0])
            if not of_this_machine:
                return population, []
            return population, undelivered_gaps(db)
    except SpoolBusy:
        raise
    except (SpoolError, ValueError) as error:
        log.error("copied spool not readable", extra={"reason": str(error)})
        return None, [Gap(GapReason.SPOOL_DAMAGED, (), 1)] if of_this_machine else []


def _epoch(path: Path) -> str:
    """Return the epoch of a spool; empty when there is none or it is unreadable."""
    if not path.exists():
        return ""
    try:
        with closing(connect(path)) as db, translate_errors(path):
            row = db.execute("SELECT value FROM control WHERE key = ?", (ControlKey.EPOCH,)).fetchone()
            return "" if row is None else str(row[0])
    except AgentError:
        return ""


def _set_aside(path: Path, now_unix_milliseconds: int) -> None:
    """Rename the file and its journal; delete older ones set aside. Raises OSError."""
    for older in path.parent.glob(f"{COPIED}*"):
        older.unlink(missing_ok=True)
    aside = path.with_name(f"{COPIED}{now_unix_milliseconds // MILLISECONDS_PER_SECOND}")
    for end in ("", "-journal"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + end).rename(aside.with_name(aside.name + end))


def _remove(path: Path) -> None:
    for end in ("", "-journal"):
        with suppress(OSError):
            path.with_name(path.name + end).unlink()


MAX_GAP_SPANS: Final = 1_024
"""Largest number of spans that the collector takes in one gap: docs/wire.md."""


def undelivered_gaps(db: sqlite3.Connection) -> list[Gap]:
    """Build one gap over the numbered records, and one over the others and the open ones, if any."""
    numbered = db.execute("SELECT wire FROM outbox WHERE acknowledged_unix_milliseconds IS NULL ORDER BY seq")
    wires = [bytes(row[0]) for row in numbered]
    rows = [str(row[0]) for row in db.execute("SELECT body FROM pending ORDER BY id")]
    checkpoint = db.execute("SELECT value FROM control WHERE key = ?", (ControlKey.OPEN_FOLD,)).fetchone()
    rows += _open_records(None if checkpoint is None else str(checkpoint[0]))
    gaps = [gap_over_wires(GapReason.REFUSED, wires)] if wires else []
    return [*gaps, gap_over(GapReason.REFUSED, rows)] if rows else gaps


def gap_over_wires(reason: GapReason, wires: Sequence[bytes]) -> Gap:
    """Build one gap that covers all these records.

    It is undated when its spans are too many or unreadable.
    """
    spans: list[tuple[Period | None, int]] = []
    records = 0
    for wire in wires:
        record = pb.Record()
        with suppress(DecodeError):
            record.ParseFromString(wire)
        records += max(1, record.gap.records)
        if record.HasField("measurement"):
            milliseconds = sum(cell.milliseconds for cell in record.measurement.cells)
            spans.append((_decode_period(record.measurement.period), milliseconds))
        spans += [(_decode_period(span.period), span.milliseconds) for span in record.gap.spans]
    if len(spans) > MAX_GAP_SPANS:
        spans = [(None, sum(lost for _, lost in spans))]
    return Gap(reason, tuple(span for span in spans if span[1] > 0), records)


def _decode_period(period: pb.Period) -> Period | None:
    """Decode a period, the inverse of `encode.encode_period`; None when none is set."""
    match period.WhichOneof("kind"):
        case "clock":
            return ClockPeriod(period.clock.start_unix_milliseconds, period.clock.duration_milliseconds)
        case "date":
            return DatePeriod(date(period.date.year, period.date.month, period.date.day))
        case "week":
            return WeekPeriod(period.week.year, period.week.week)
        case _:
            return None


def _open_records(checkpoint: str | None) -> list[str]:
    """Return the open records of a checkpoint as rows."""
    try:
        return [str(line) for line in json.loads(checkpoint or '{"open": []}')["open"]]
    except (ValueError, TypeError, KeyError):
        return []
