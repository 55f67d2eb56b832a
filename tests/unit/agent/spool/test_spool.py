# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the resident's half of the spool on real SQLite files: order, bound, reserve, damage."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fakes.measuring import NOON
from tests.support.records import count_pending
from veilleuse.agent.errors import SpoolBusy, SpoolDamaged, SpoolError, SpoolFull
from veilleuse.agent.model import Cell, ClockPeriod, DatePeriod, Gap, Period, Record, body_from_json
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.sending.encode import WireEncoder
from veilleuse.agent.spool.database import (
    RING_FLOOR,
    Bounds,
    FileSpool,
    _create,
    connect,
    gap_over,
    translate_errors,
)
from veilleuse.agent.spool.outbox import Outbox, Ring
from veilleuse.agent.spool.recovery import open_spool
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Band, GapReason, State, Supply

MIB = 1024 * 1024
BOUNDS = Bounds(64 * MIB, 0)
MINUTE = 60_000


def body(period: Period, milliseconds: int = MINUTE, *, padding: int = 0) -> str:
    """Return a spool row over one period."""
    cells = {(Band.OPEN, State.ON_IDLE, Supply.AC): Cell(milliseconds)}
    return Record(period, "c" * padding, 1, cells, {}).to_json()


def minute(number: int, *, padding: int = 0) -> str:
    """Return the row of one minute."""
    return body(ClockPeriod(NOON + number * MINUTE, MINUTE), padding=padding)


def rows(path: Path) -> list[str]:
    """Return the rows without a number."""
    with closing(sqlite3.connect(path)) as db:
        return [str(row[0]) for row in db.execute("SELECT body FROM pending ORDER BY id")]


def opened(path: Path, bounds: Bounds = BOUNDS) -> FileSpool:
    """Open the resident's spool."""
    return open_spool(path, bounds, NOON)


def test_a_disk_that_fills_while_the_spool_is_made_is_no_damage(tmp_path):
    """SQLite rolls back by itself: the error is about the room, not about the rollback."""
    path = tmp_path / "spool.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA max_page_count = 2")
        with pytest.raises(SpoolFull, match="no room"), translate_errors(path):
            _create(db)


def test_rows_and_control_in_one_transaction(tmp_path):
    """Rows and control values survive a restart in order; only the owner can read the file."""
    path = tmp_path / "spool.db"
    old = os.umask(0o077)
    try:
        with closing(opened(path)) as spool:
            spool.append([minute(0), minute(1)], {ControlKey.LAST_SIGN: "a", ControlKey.OPEN_FOLD: "b"})
            spool.append([minute(2)], {ControlKey.LAST_SIGN: "c", ControlKey.OPEN_FOLD: None})
            epoch = spool.control(ControlKey.EPOCH)
    finally:
        os.umask(old)
    with closing(opened(path)) as spool:
        assert count_pending(spool) == 3
        assert (spool.control(ControlKey.LAST_SIGN), spool.control(ControlKey.OPEN_FOLD)) == ("c", None)
        assert spool.control(ControlKey.EPOCH) == epoch
        assert len(bytes.fromhex(epoch or "")) == 8
    assert rows(path) == [minute(0), minute(1), minute(2)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_busy_keeps_the_row_with_the_caller(tmp_path):
    """While another process writes, `append` raises SpoolBusy; later the same rows are written once."""
    path = tmp_path / "spool.db"
    with closing(FileSpool(connect(path, busy_timeout_milliseconds=20), path, BOUNDS)) as spool:
        with closing(connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(SpoolBusy):
                spool.append([minute(0)], {})
            other.execute("COMMIT")
        spool.append([minute(0)], {})
        assert count_pending(spool) == 1


@settings(max_examples=8, deadline=None)
@given(batches=st.lists(st.integers(1, 60), min_size=5, max_size=30), padding=st.integers(0, 6_000))
def test_order_and_bound(tmp_path_factory, batches, padding):
    """For any rows the file stays below its bound, and records + gaps = rows, in order."""
    path = tmp_path_factory.mktemp("spool") / "spool.db"
    bounds = Bounds(MIB, 0)
    number = 0
    with closing(opened(path, bounds)) as spool:
        for size in batches:
            spool.append([minute(number + n, padding=padding) for n in range(size)], {})
            number += size
            assert path.stat().st_size <= MIB
    bodies = [body_from_json(text) for text in rows(path)]
    gaps = [row for row in bodies if isinstance(row, Gap)]
    records = [row for row in bodies if isinstance(row, Record)]
    assert len(records) + sum(gap.records for gap in gaps) == number
    assert len(gaps) <= 1
    if gaps:
        assert bodies[0] is gaps[0]
        assert gaps[0].spans == ((ClockPeriod(NOON, gaps[0].records * MINUTE), gaps[0].records * MINUTE),)
    starts = [r.period.start_unix_milliseconds for r in records if isinstance(r.period, ClockPeriod)]
    assert starts == sorted(starts)
    assert starts[-1] == NOON + (number - 1) * MINUTE


def test_the_disk_reserve(tmp_path):
    """On a disk at its reserve the file does not grow, and the oldest rows are dropped for the newest."""
    path = tmp_path / "spool.db"
    with closing(opened(path)) as spool:
        spool.append([minute(n, padding=2_000) for n in range(200)], {})
    size = path.stat().st_size
    nearly_full = Bounds(64 * MIB, 2**62)
    with closing(opened(path, nearly_full)) as spool, pytest.MonkeyPatch.context() as patch:
        real = os.statvfs(tmp_path)
        full = os.statvfs_result((*real[:3], 0, 0, *real[5:]))  # no free block
        patch.setattr("os.statvfs", lambda _: full)
        for n in range(200, 300):
            spool.append([minute(n, padding=2_000)], {})
        assert path.stat().st_size <= size
        assert count_pending(spool) > 100
        with pytest.raises(SpoolFull, match="free some disk space"):
            spool.append(["x" * 2 * size], {})
    assert body_from_json(rows(path)[-1]) == body_from_json(minute(299, padding=2_000))


def test_gaps_join_what_touches():
    """Adjacent spans join, equal days add up, other gaps' spans stay; an invalid row has no date."""
    other = Gap(GapReason.SPOOL_CAP, ((None, 7),), 4).to_json()
    day = body(DatePeriod(date(2026, 11, 25)))
    gap = gap_over(GapReason.SPOOL_CAP, [minute(0), minute(1), minute(3), day, day, other, "nonsense"])
    assert gap.records == 10
    assert gap.spans == (
        (ClockPeriod(NOON, 2 * MINUTE), 2 * MINUTE),
        (ClockPeriod(NOON + 3 * MINUTE, MINUTE), MINUTE),
        (DatePeriod(date(2026, 11, 25)), 2 * MINUTE),
        (None, 7),
    )


def damaged_copy(path: Path, change: bytes | None) -> None:
    """Replace the content, or keep half of it."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if change is None else change)


@pytest.mark.parametrize("change", [b"not a database at all, but long enough to be taken for one", b"", None])
def test_damage_is_set_aside(tmp_path, change):
    """A damaged file is kept, and a new spool with another epoch has a gap for it."""
    path = tmp_path / "spool.db"
    with closing(opened(path)) as spool:
        spool.append([minute(n, padding=200) for n in range(100)], {ControlKey.POPULATION: "server"})
        epoch = spool.control(ControlKey.EPOCH)
    damaged_copy(path, change)
    if change:
        with pytest.raises(SpoolDamaged):
            connect(path).execute("SELECT 1")
    with closing(opened(path)) as spool:
        assert spool.control(ControlKey.EPOCH) != epoch
        last = body_from_json(rows(path)[-1])
        assert isinstance(last, Gap)
        assert last.reason is GapReason.SPOOL_DAMAGED
    assert [file.name for file in tmp_path.glob("spool.db.damaged-*")] == [f"spool.db.damaged-{NOON // 1000}"]


def test_what_can_be_read_is_kept(tmp_path):
    """A spool with another schema or a missing table keeps unnumbered rows and the enrolment's values."""
    path = tmp_path / "spool.db"
    with closing(opened(path)) as spool:
        spool.append([minute(0), minute(1)], {ControlKey.POPULATION: "server", ControlKey.CALENDAR: "{}"})
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(SpoolDamaged, match="schema 99"):
        connect(path)
    with closing(opened(path)) as spool:
        assert spool.control(ControlKey.POPULATION) == "server"
    assert rows(path)[:2] == [minute(0), minute(1)]
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE outbox")
    with closing(opened(path)) as spool:
        assert count_pending(spool) == 4  # two rows, two gaps
    assert len(list(tmp_path.glob("spool.db.damaged-*"))) == 1


def test_numbered_rows_of_a_damaged_spool_go_on_and_are_checked(tmp_path):
    """Unacknowledged rows keep their bytes; a row that does not match its chain becomes a gap."""
    path = tmp_path / "spool.db"
    with closing(opened(path)) as spool:
        spool.append([minute(n) for n in range(4)], {})
    with closing(connect(path)) as db:
        outbox = Outbox(db, path, WireEncoder(), Ring())
        outbox.number_pending(3)
        outbox.acknowledge(1, NOON)
        wires = [one.wire for one in outbox.unacknowledged(1, 10, MIB)]
        db.execute("UPDATE outbox SET wire = x'00' WHERE seq = 3")
        db.execute("PRAGMA user_version = 99")
    opened(path).close()
    with closing(connect(path)) as db:
        outbox = Outbox(db, path, WireEncoder(), Ring())
        outbox.number_pending(10)
        run = [one.wire for one in outbox.unacknowledged(0, 10, MIB)]
    assert run[0] == wires[0]
    gap = pb.Record.FromString(run[1]).gap
    assert (gap.reason, gap.records) == (pb.GAP_REASON_SPOOL_DAMAGED, 1)
    assert run[2] == WireEncoder().encode(minute(3))
    assert pb.Record.FromString(run[3]).gap.reason == pb.GAP_REASON_SPOOL_DAMAGED
    assert len(run) == 4


def test_the_gap_says_when_the_missing_rows_were(tmp_path):
    """The gap covers the time between the readable rows, since records join without a hole."""
    path = tmp_path / "spool.db"
    with closing(opened(path)) as spool:
        spool.append([minute(n) for n in range(9)], {})
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE pending SET body = 'nonsense' WHERE id BETWEEN 4 AND 6")
        db.execute("PRAGMA user_version = 99")
        db.commit()
    opened(path).close()
    *kept, gap = rows(path)
    assert kept == [minute(n) for n in (0, 1, 2, 6, 7, 8)]
    body = body_from_json(gap)
    assert isinstance(body, Gap)
    assert body._replace(gap_id="") == Gap(
        GapReason.SPOOL_DAMAGED, ((ClockPeriod(NOON + 3 * MINUTE, 3 * MINUTE), 3 * MINUTE),), 3
    )


@pytest.mark.parametrize("step", ["link", "replace"])
def test_a_start_cut_while_it_mends_loses_nothing(tmp_path, step):
    """A start killed before the new spool replaces the old one is repeated by the next start."""
    path = tmp_path / "spool.db"
    with closing(opened(path)) as spool:
        spool.append([minute(0), minute(1)], {ControlKey.POPULATION: "server"})
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"veilleuse.agent.spool.recovery.os.{step}", _cut)
        with pytest.raises(KeyboardInterrupt):
            opened(path)
    with closing(opened(path)) as spool:
        assert spool.control(ControlKey.POPULATION) == "server"
    assert rows(path)[:2] == [minute(0), minute(1)]
    assert len(rows(path)) == 3


def _cut(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_what_was_set_aside_goes_first_then_the_ring_then_records(tmp_path):
    """The old copy is deleted first, then the ring, and undelivered records only after them."""
    path, bounds = tmp_path / "spool.db", Bounds(MIB, 0)
    aside = tmp_path / "spool.db.damaged-1"
    aside.write_bytes(bytes(300_000))
    with closing(opened(path, bounds)) as spool:
        spool.append([minute(n, padding=1_000) for n in range(200)], {})
        assert aside.exists()
        with closing(connect(path)) as db:
            outbox = Outbox(db, path, WireEncoder(), Ring(max_bytes=MIB))
            outbox.number_pending(150)
            db.execute("UPDATE outbox SET wire = zeroblob(2000)")
            outbox.acknowledge(150, NOON)
        made = 200
        while aside.exists():
            spool.append([minute(made, padding=1_000)], {})
            made += 1
        assert len(rows(path)) == made - 150
        with closing(sqlite3.connect(path)) as db:
            (ring,) = db.execute("SELECT count(*) FROM outbox").fetchone()
        assert ring == 150
        while ring > RING_FLOOR:
            spool.append([minute(made, padding=1_000)], {})
            made += 1
            with closing(sqlite3.connect(path)) as db:
                (ring,) = db.execute("SELECT count(*) FROM outbox").fetchone()
        assert len(rows(path)) == made - 150
        for _ in range(100):
            spool.append([minute(made, padding=1_000)], {})
            made += 1
    gap, *kept = map(body_from_json, rows(path))
    assert isinstance(gap, Gap)
    assert gap.records + len(kept) == made - 150
    assert path.stat().st_size <= MIB


def test_a_lower_bound_gives_the_disk_back(tmp_path):
    """With a lower spool.max_bytes the next start drops the oldest rows and shrinks the file."""
    path = tmp_path / "spool.db"
    with closing(opened(path)) as spool:
        spool.append([minute(n, padding=4_000) for n in range(1_000)], {})
    assert path.stat().st_size > 3 * MIB
    with closing(opened(path, Bounds(MIB, 0))) as spool:
        assert path.stat().st_size <= MIB
        assert count_pending(spool) > 100
    gap, *kept = map(body_from_json, rows(path))
    assert isinstance(gap, Gap)
    assert gap.records + len(kept) == 1_000


def test_an_unusable_directory_is_one_clear_line(tmp_path):
    """A missing directory gives an error that says what to do."""
    with pytest.raises(SpoolError, match="check that its directory exists") as caught:
        opened(tmp_path / "missing" / "spool.db")
    assert not isinstance(caught.value, SpoolDamaged)


def test_random_damage_always_starts(tmp_path):
    """R14: after any changed bytes or cuts, the spool opens, takes a row and returns it."""
    chance = random.Random(20261125)
    path = tmp_path / "spool.db"
    with closing(opened(path)) as spool:
        spool.append([minute(n, padding=100) for n in range(60)], {ControlKey.LAST_SIGN: "{}"})
    intact = path.read_bytes()
    for _ in range(60):
        content = bytearray(intact)
        for _ in range(chance.choice([1, 3, 200])):
            content[chance.randrange(len(content))] = chance.randrange(256)
        if chance.random() < 0.3:
            del content[chance.randrange(len(content)) :]
        path.write_bytes(content)
        with closing(opened(path)) as spool:
            spool.append([minute(999)], {ControlKey.LAST_SIGN: "x"})
            assert spool.control(ControlKey.LAST_SIGN) == "x"
        assert rows(path)[-1] == minute(999)
