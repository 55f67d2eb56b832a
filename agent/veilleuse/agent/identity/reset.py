# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What happens before measuring begins: is this state directory this machine's own? docs/wire.md §7, decision 0014.

A copy measures from the first moment, in a spool, an epoch and a fold of its own; what it was copied with is set aside and
never sent by it. Every step can be cut and is done again: the mark says what was begun, the spool's epoch how far it came.
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

from veilleuse.agent.errors import AgentError, AlreadyRunning, IdentityError, SpoolBusy, SpoolError
from veilleuse.agent.host.hardware_ids import MACHINE_ID, Roots, hardware_ids, require_machine_id
from veilleuse.agent.identity.clone import CONFLICT, HARDWARE, Copies, Mark
from veilleuse.agent.identity.store import IdentityStore, as_owner_of
from veilleuse.agent.model import ClockPeriod, DatePeriod, Gap, Period, WeekPeriod
from veilleuse.agent.platforms import here
from veilleuse.agent.platforms.locks import RUN_LOCK, SEND_LOCK, ProcessLock
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.settings import AgentSettings
from veilleuse.agent.spool.database import FILE_NAME, connect, gap_over, gap_row, translated
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import GapReason

log = logging.getLogger(__name__)

COPIED: Final = f"{FILE_NAME}.copied-"
"""A spool that was set aside; the time of it in seconds behind. One is kept."""
FRESH: Final = f"{FILE_NAME}.new"
_SENDER_SECONDS: Final = 20.0
"""A sender that runs is waited for: it ends by itself when the mark is there."""


def settle(settings: AgentSettings) -> bool:
    """Before measuring: whether this was a copy and has begun again. Raises AgentError; AlreadyRunning when it measures."""
    state = settings.paths.state
    with as_owner_of(state), ProcessLock(state, RUN_LOCK, what="veilleuse-agent run"):
        _warn_of_an_image()
        if not _is_copy(settings):
            return False
        with _sender_ended(state):
            begin_again(settings)
        return True


def settle_for_enrolment(settings: AgentSettings) -> None:
    """The same before `enrol`, which holds the sender's lock. What cannot be read of the hardware begins anew.

    Raises IdentityError while the service measures into a copied spool.
    """
    state, copies = settings.paths.state, Copies(settings.paths.state)
    try:
        copies.changed({})
    except IdentityError:
        copies.forget_hardware()
    if not _is_copy(settings):
        return
    try:
        with ProcessLock(state, RUN_LOCK, what="veilleuse-agent run"):
            begin_again(settings)
    except AlreadyRunning as error:
        raise IdentityError(
            "this is a copy of another machine, and its service still measures for that one: "
            "`systemctl restart veilleuse-agent`, then enrol"
        ) from error


def begin_again(settings: AgentSettings, now_unix_milliseconds: int | None = None) -> None:
    """Set aside what was copied. The caller holds both locks. Raises IdentityError."""
    now = time.time_ns() // 1_000_000 if now_unix_milliseconds is None else now_unix_milliseconds
    state, copies = settings.paths.state, Copies(settings.paths.state)
    hardware = hardware_ids(Roots(settings.paths.sysfs, MACHINE_ID))
    mark = copies.marked() or Mark(HARDWARE, now)
    _spool_aside(state, copies, mark, now)
    copies.begin_again(copies.marked() or mark)
    copies.keep(hardware)
    log.warning(
        "this is a copy of another machine: begun again without its identity and its spool",
        extra={"why": mark.why, "next": "an identity of its own is asked for at the first contact"},
    )


def _is_copy(settings: AgentSettings) -> bool:
    """Whether it has to begin again. What cannot be told is no reason not to measure."""
    copies = Copies(settings.paths.state)
    hardware = hardware_ids(Roots(settings.paths.sysfs, MACHINE_ID))
    try:
        if copies.marked() is not None or copies.is_other_hardware(hardware):
            return True
        if IdentityStore(settings.paths.state).is_enrolled():
            copies.drop_original()
        copies.keep(hardware)
    except IdentityError as error:
        log.warning("whether this machine is a copy cannot be told", extra={"reason": str(error)})
    return False


def _warn_of_an_image() -> None:
    try:
        require_machine_id(MACHINE_ID)
    except IdentityError as error:
        log.warning("measured and kept, not enrolled and not sent", extra={"reason": str(error)})


def _sender_ended(state: Path) -> ProcessLock:
    """The sender's lock, once the sender has let it go. Raises AlreadyRunning."""
    until = time.monotonic() + _SENDER_SECONDS
    while True:
        try:
            return ProcessLock(state, SEND_LOCK, what="veilleuse-agent send")
        except AlreadyRunning:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


# ---------------------------------------------------------------------------------------- the spool


def _spool_aside(state: Path, copies: Copies, mark: Mark, now: int) -> None:
    """Put a new spool in the copied one's place, and that one beside it. Raises IdentityError."""
    path, fresh = state / FILE_NAME, state / FRESH
    if mark.epoch and _epoch(path) == mark.epoch:
        return  # cut after this step
    try:
        if not (mark.epoch and not path.exists() and _epoch(fresh) == mark.epoch):
            if not path.exists():
                return  # never measured, or set aside without a new one
            _remove(fresh)
            copies.mark(replace(mark, epoch=_make(fresh, path, mark)))
            _set_aside(path, now)
        fresh.rename(path)
        here.sync_folder(state)
    except (SpoolError, OSError) as error:  # no room for another: this one goes all the same
        log.error("copied spool set aside, no gap says what was in it", extra={"reason": str(error)})
        _remove(fresh)
        with suppress(OSError):
            _set_aside(path, now)


def _make(fresh: Path, copied: Path, mark: Mark) -> str:
    """The new spool, whole; its epoch. Raises SpoolError."""
    population, gaps = _left_behind(copied, of_this_machine=mark.why == CONFLICT)
    with closing(connect(fresh)) as db, translated(fresh):
        db.execute("BEGIN IMMEDIATE")
        if population is not None:  # the collector places a copy where its original is
            db.execute("INSERT INTO control VALUES (?, ?)", (ControlKey.POPULATION, population))
        db.executemany("INSERT INTO pending (body) VALUES (?)", [(gap_row(gap),) for gap in gaps])
        db.execute("COMMIT")
    return _epoch(fresh)


def _left_behind(path: Path, *, of_this_machine: bool) -> tuple[str | None, list[Gap]]:
    """(population, what stands for the rows that were never acknowledged). Of other hardware they are all the original's.

    Raises SpoolBusy.
    """
    try:
        with closing(connect(path)) as db, translated(path):
            row = db.execute("SELECT value FROM control WHERE key = ?", (ControlKey.POPULATION,)).fetchone()
            population = None if row is None else str(row[0])
            if not of_this_machine:
                return population, []
            from veilleuse.agent.identity.reset import gaps_of  # protobuf: in this rare case only

            return population, gaps_of(db)
    except SpoolBusy:
        raise
    except (SpoolError, ValueError) as error:
        log.error("copied spool not readable", extra={"reason": str(error)})
        return None, [Gap(GapReason.SPOOL_DAMAGED, (), 1)] if of_this_machine else []


def _epoch(path: Path) -> str:
    """The epoch of a spool; empty when there is none, or it cannot be read."""
    if not path.exists():
        return ""
    try:
        with closing(connect(path)) as db, translated(path):
            row = db.execute("SELECT value FROM control WHERE key = ?", (ControlKey.EPOCH,)).fetchone()
            return "" if row is None else str(row[0])
    except AgentError:
        return ""


def _set_aside(path: Path, now_unix_milliseconds: int) -> None:
    """Rename the file and its journal; one such file is kept, older ones go. Raises OSError."""
    for older in path.parent.glob(f"{COPIED}*"):
        older.unlink(missing_ok=True)
    aside = path.with_name(f"{COPIED}{now_unix_milliseconds // 1000}")
    for end in ("", "-journal"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + end).rename(aside.with_name(aside.name + end))


def _remove(path: Path) -> None:
    for end in ("", "-journal"):
        with suppress(OSError):
            path.with_name(path.name + end).unlink()


MAX_GAP_SPANS: Final = 1_024
"""Of one gap, as the collector takes it: docs/wire.md."""


def gaps_of(db: sqlite3.Connection) -> list[Gap]:
    """One gap over the records that have a number, one over the others and those still open; none when there are none."""
    numbered = db.execute("SELECT wire FROM outbox WHERE acknowledged_unix_milliseconds IS NULL ORDER BY seq")
    wires = [bytes(row[0]) for row in numbered]
    rows = [str(row[0]) for row in db.execute("SELECT body FROM pending ORDER BY id")]
    checkpoint = db.execute("SELECT value FROM control WHERE key = ?", (ControlKey.OPEN_FOLD,)).fetchone()
    rows += _open_records(None if checkpoint is None else str(checkpoint[0]))
    gaps = [gap_over_wires(GapReason.REFUSED, wires)] if wires else []
    return [*gaps, gap_over(GapReason.REFUSED, rows)] if rows else gaps


def gap_over_wires(reason: GapReason, wires: Sequence[bytes]) -> Gap:
    """One gap that stands for all these records; where their spans are too many, or unreadable, the time is not dated."""
    spans: list[tuple[Period | None, int]] = []
    records = 0
    for wire in wires:
        record = pb.Record()
        with suppress(DecodeError):
            record.ParseFromString(wire)
        records += max(1, record.gap.records)
        if record.HasField("measurement"):
            milliseconds = sum(cell.milliseconds for cell in record.measurement.cells)
            spans.append((_decoded(record.measurement.period), milliseconds))
        spans += [(_decoded(span.period), span.milliseconds) for span in record.gap.spans]
    if len(spans) > MAX_GAP_SPANS:
        spans = [(None, sum(lost for _, lost in spans))]
    return Gap(reason, tuple(span for span in spans if span[1] > 0), records)


def _decoded(period: pb.Period) -> Period | None:
    """Inverse of `encode.encode_period`; None when it says none."""
    match period.WhichOneof("kind"):
        case "clock":
            clock = period.clock
            return ClockPeriod(
                clock.start_unix_milliseconds, clock.duration_milliseconds, clock.utc_offset_seconds
            )
        case "date":
            return DatePeriod(date(period.date.year, period.date.month, period.date.day))
        case "week":
            return WeekPeriod(period.week.year, period.week.week)
        case _:
            return None


def _open_records(checkpoint: str | None) -> list[str]:
    """The records of a checkpoint as they stand, as rows."""
    try:
        return [str(line) for line in json.loads(checkpoint or '{"open": []}')["open"]]
    except (ValueError, TypeError, KeyError):
        return []
