# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The buffer on disk: order, bound, reserve, damage. Real SQLite, real files."""

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

from tests.fakes.measuring import NOON
from veilleuse.agent.errors import SpoolBusy, SpoolDamaged, SpoolError, SpoolFull
from veilleuse.agent.model import Cell, ClockPeriod, DatePeriod, Gap, Period, Record, body_from_json
from veilleuse.agent.ports import ControlKey
from veilleuse.agent.spool import Bounds, FileSpool, _create, connect, gap_over, open_spool, translated
from veilleuse.wire.vocabulary import Band, GapReason, State, Supply

MIB = 1024 * 1024
BOUNDS = Bounds(64 * MIB, 0)
MINUTE = 60_000


def body(period: Period, milliseconds: int = MINUTE, *, padding: int = 0) -> str:
    """A spool row over one period."""
    cells = {(Band.OPEN, State.ON_IDLE, Supply.AC): Cell(milliseconds)}
    return Record(period, "c" * padding, 1, cells, {}).to_json()


def minute(number: int, *, padding: int = 0) -> str:
    """The row of one minute."""
    return body(ClockPeriod(NOON + number * MINUTE, MINUTE, 3600), padding=padding)


def rows(path: Path) -> list[str]:
    """What waits for its number."""
    with closing(sqlite3.connect(path)) as db:
        return [str(row[0]) for row in db.execute("SELECT body FROM pending ORDER BY id")]


def opened(path: Path, bounds: Bounds = BOUNDS) -> FileSpool:
    """The resident's spool."""
    return open_spool(path, bounds, NOON)


def test_a_disk_that_fills_while_the_spool_is_made_is_no_damage(tmp_path):
    """SQLite has rolled back by itself: the line is about the room, not about the rollback."""
    path = tmp_path / "spool.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA max_page_count = 2")
        with pytest.raises(SpoolFull, match="no room"), translated(path):
            _create(db)


def test_rows_and_control_in_one_transaction(tmp_path):
    """In order, kept over a restart; control values set, replaced and deleted; the file is for its owner."""
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
        assert spool.pending() == 3
        assert (spool.control(ControlKey.LAST_SIGN), spool.control(ControlKey.OPEN_FOLD)) == ("c", None)
        assert spool.control(ControlKey.EPOCH) == epoch
        assert len(bytes.fromhex(epoch or "")) == 8
    assert rows(path) == [minute(0), minute(1), minute(2)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_busy_keeps_the_row_with_the_caller(tmp_path):
    """The other process writes: SpoolBusy, and afterwards the same rows go in once."""
    path = tmp_path / "spool.db"
    with closing(FileSpool(connect(path, busy_timeout_milliseconds=20), path, BOUNDS)) as spool:
        with closing(connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(SpoolBusy):
                spool.append([minute(0)], {})
            other.execute("COMMIT")
        spool.append([minute(0)], {})
        assert spool.pending() == 1


@settings(max_examples=8, deadline=None)
@given(batches=st.lists(st.integers(1, 60), min_size=5, max_size=30), padding=st.integers(0, 6_000))
def test_order_and_bound(tmp_path_factory, batches, padding):
    """However rows come, the file stays below its bound, order is kept, and rows + gaps = what was given."""
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
        assert gaps[0].spans == (
            (ClockPeriod(NOON, gaps[0].records * MINUTE, 3600), gaps[0].records * MINUTE),
        )
    starts = [r.period.start_unix_milliseconds for r in records if isinstance(r.period, ClockPeriod)]
    assert starts == sorted(starts)
    assert starts[-1] == NOON + (number - 1) * MINUTE


def test_the_disk_reserve(tmp_path):
    """A disk down to its reserve: the file does not grow, the oldest rows make room for the newest."""
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
        assert spool.pending() > 100
        with pytest.raises(SpoolFull, match="free some disk space"):
            spool.append(["x" * 2 * size], {})
    assert body_from_json(rows(path)[-1]) == body_from_json(minute(299, padding=2_000))


def test_gaps_join_what_touches():
    """Touching clock spans join, equal days add up, other gaps' spans are taken over, nonsense counts without a date."""
    other = Gap(GapReason.SPOOL_CAP, ((None, 7),), 4).to_json()
    day = body(DatePeriod(date(2026, 11, 25)))
    gap = gap_over(GapReason.SPOOL_CAP, [minute(0), minute(1), minute(3), day, day, other, "nonsense"])
    assert gap.records == 10
    assert gap.spans == (
        (ClockPeriod(NOON, 2 * MINUTE, 3600), 2 * MINUTE),
        (ClockPeriod(NOON + 3 * MINUTE, MINUTE, 3600), MINUTE),
        (DatePeriod(date(2026, 11, 25)), 2 * MINUTE),
        (None, 7),
    )


def damaged_copy(path: Path, change: bytes | None) -> None:
    """Other content, or half of it."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if change is None else change)


@pytest.mark.parametrize("change", [b"not a database at all, but long enough to be taken for one", b"", None])
def test_damage_is_set_aside(tmp_path, change):
    """Nonsense, nothing, or half of it: a new spool with another epoch begins, a gap says so, the old file is kept."""
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
        first = body_from_json(rows(path)[0])
        assert isinstance(first, Gap)
        assert first.reason is GapReason.SPOOL_DAMAGED
    assert [file.name for file in tmp_path.glob("spool.db.damaged-*")] == [f"spool.db.damaged-{NOON // 1000}"]


def test_what_can_be_read_is_kept(tmp_path):
    """A schema of another version, or one table gone: unnumbered rows and the enrolment's words survive."""
    path = tmp_path / "spool.db"
    with closing(opened(path)) as spool:
        spool.append([minute(0), minute(1)], {ControlKey.POPULATION: "server", ControlKey.CALENDAR: "{}"})
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(SpoolDamaged, match="schema 99"):
        connect(path)
    with closing(opened(path)) as spool:
        assert spool.control(ControlKey.POPULATION) == "server"
    assert rows(path)[1:] == [minute(0), minute(1)]
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE outbox")
    with closing(opened(path)) as spool:
        assert spool.pending() == 4  # two rows, two gaps
    assert len(list(tmp_path.glob("spool.db.damaged-*"))) == 1


def test_the_gap_of_a_damaged_spool_counts_what_was_numbered_and_not_acknowledged(tmp_path):
    """They are not taken over, for they may have arrived: the gap says how many they are, the file has them."""
    path = tmp_path / "spool.db"
    with closing(opened(path)) as spool:
        spool.append([minute(5)], {})
    with closing(sqlite3.connect(path)) as db:
        numbered = [(seq, b"wire", bytes(32), NOON if seq == 1 else None) for seq in range(1, 5)]
        db.executemany("INSERT INTO outbox VALUES (?, ?, ?, ?)", numbered)
        db.execute("PRAGMA user_version = 99")
        db.commit()
    with closing(opened(path)) as spool:
        assert spool.pending() == 2
    gap, kept = rows(path)
    assert body_from_json(gap) == Gap(GapReason.SPOOL_DAMAGED, (), 3)
    assert kept == minute(5)


def test_an_unusable_directory_is_one_clear_line(tmp_path):
    """No directory: an error with exit code 1 that says what to do, not a traceback."""
    with pytest.raises(SpoolError, match="check that its directory exists") as caught:
        opened(tmp_path / "missing" / "spool.db")
    assert not isinstance(caught.value, SpoolDamaged)


def test_random_damage_always_starts(tmp_path):
    """R14 in small: whatever byte flips or cuts hit the file, the spool opens, takes a row and gives it back."""
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
