# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test R3: a sender killed at any line of a change to the spool leaves the state before or after it."""

from __future__ import annotations

import pytest

from tests.support.killing import run_program

pytestmark = pytest.mark.any_date

PROGRAM = """
import sys
import sqlite3
from contextlib import closing
from pathlib import Path
from shutil import copy
from tests.support.fakes.agent import EPOCH_START, record
from tests.support.killing import changes_of, dies_at, in_child, lines_of
from veilleuse.agent.sending.encode import WireEncoder
from veilleuse.agent.spool.outbox import Outbox, Ring
from veilleuse.agent.spool.database import FileSpool, Bounds, connect
from veilleuse.wire.chain import chain_next, chain_start
from veilleuse.wire.v1 import telemetry_pb2 as pb

folder, name, arguments = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
parts = ("agent/spool/outbox.py", "agent/spool/epochs.py", "agent/spool/database.py", "agent/sending/encode.py")
path, first = folder / "spool.db", folder / "first.db"

def outbox(where):
    connection = connect(where)
    connection.execute("PRAGMA synchronous = OFF")
    return Outbox(connection, where, WireEncoder(), Ring(milliseconds=1000, records=3, max_bytes=1 << 20))

def measure(box, begin, end):
    rows = [(record(index).to_json(),) for index in range(begin, end)]
    box._connection.executemany("INSERT INTO pending (body) VALUES (?)", rows)

def unnamed(wire):
    one = pb.Record.FromString(wire)
    if one.HasField("gap"):
        one.gap.ClearField("gap_id")  # random
    return one.SerializeToString(deterministic=True)

def content(where):
    with closing(connect(where)) as db:
        assert db.execute("PRAGMA quick_check").fetchone() == ("ok",)
        (epoch,) = db.execute("SELECT value FROM control WHERE key = 'epoch'").fetchone()
        rows = db.execute("SELECT seq, wire, chain, acknowledged_unix_milliseconds FROM outbox ORDER BY seq").fetchall()
        chain = chain_start(bytes.fromhex(epoch))
        for place, row in enumerate(rows):
            assert row[0] == rows[0][0] + place
            assert place == 0 and row[0] > 1 or chain_next(chain, row[1]) == row[2]
            chain = row[2]
        return (
            db.execute("SELECT body FROM pending ORDER BY id").fetchall(),
            [(row[0], unnamed(row[1]), row[3]) for row in rows],
            db.execute("SELECT seq, wire, reason FROM quarantine").fetchall(),
            [
                (key, value.replace(epoch, "this epoch"))  # random
                for key, value in db.execute("SELECT key, value FROM control WHERE key <> 'epoch' ORDER BY key")
            ],
        )

with closing(outbox(first)._connection) as db:
    box = Outbox(db, first, WireEncoder(), Ring(milliseconds=1000, records=3, max_bytes=1 << 20))
    measure(box, 0, 9)
    box.number_pending(99)
    box.acknowledge(6, EPOCH_START)
    box.acknowledge(7, EPOCH_START + 2000)
    measure(box, 9, 12)

def work():
    box = outbox(path)
    getattr(box, name)(*eval(arguments))

before = content(first)
copy(first, path)
assert in_child(work) == 0
after = content(path)
assert after != before
copy(first, path)
if sys.argv[4] == "every line":
    lines = range(lines_of(work, parts, folder / "note"), 0, -1)
else:
    lines = changes_of(work, parts, path, folder / "note")
seen = {"before": 0, "after": 0}
for line in lines:
    copy(first, path)
    (folder / "spool.db-journal").unlink(missing_ok=True)
    def dies():
        dies_at(line, parts)
        work()
    assert in_child(dies) == -9, line
    found = content(path)
    assert found in (before, after), (line, found)
    seen["before" if found == before else "after"] += 1
assert seen["before"] and seen["after"], seen
print(len(lines), seen)
"""


@pytest.mark.promise("R3")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("number_pending", "(99,)"),
        ("acknowledge", "(9, EPOCH_START + 5000)"),
        ("rewind", "(5,)"),
        ("replace_with_gap", "(8, 'bad')"),
        ("new_epoch", "()"),
        ("new_epoch", "(1,)"),
        ("new_stream", "()"),
    ],
)
@pytest.mark.parametrize("at", ["each change", pytest.param("every line", marks=pytest.mark.long)])
def test_killed_at_every_line(tmp_path, name, arguments, at, figure):
    """The file is intact, in the state before or after. Kills between two changes of the files are one."""
    said = run_program(PROGRAM, str(tmp_path), name, arguments, at)
    kills = int(said.split()[0])
    figure(f"{kills:,} kills inside {name}, the file in the state before or after each time")
