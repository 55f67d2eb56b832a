# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A machine measures before it is enrolled: nothing of that time is refused, lost or too fine."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.records import milliseconds_of_states
from tests.support.stack import Stack
from veilleuse.agent.model import Record, body_from_json
from veilleuse.agent.ports import ControlKey

QUICK = {
    "VEILLEUSE_AGENT__MEASURE__TICK_SECONDS": "1",
    "VEILLEUSE_AGENT__MEASURE__CHECKPOINT_SECONDS": "1",
    "VEILLEUSE_AGENT__MEASURE__PERIOD_SECONDS": "10",
}


@pytest.mark.parametrize(
    ("own", "enrolled"),
    [("", "server"), ("", "classroom"), ("", "workstation"), ("server", "workstation")],
)
def test_installed_then_enrolled(tmp_path, own, enrolled):
    """Installed, two ticks, enrolled: 0 records refused, every millisecond stored or still waiting. A
    workstation's disk holds no clock but that of the open record's checkpoint."""
    with Stack(tmp_path, QUICK | {"VEILLEUSE_AGENT__MEASURE__POPULATION": own}) as stack:
        stack.start_collector()
        agent = stack.start("veilleuse-agent", "run")
        stack.wait_for(lambda: _measured(stack)[1] >= 2_000, "two ticks", process=agent)
        if own:
            stack.wait_for(lambda: _rows(stack, "pending"), "a record with a clock", process=agent)
        end, milliseconds = _measured(stack)
        begun = end - milliseconds
        stack.enrol(enrolled)
        stack.wait_for(lambda: _fold(stack)["population"] == enrolled, "the new grain", process=agent)
        stack.wait_for(lambda: stack.control(ControlKey.STANDING) == "ok", "a contact", process=agent)
        assert stack.stop(agent) == 0
        stack.must("veilleuse-agent", "send")
        assert _rows(stack, "quarantine") == 0
        stored = dict(_collected(stack, "SELECT grain, sum(milliseconds) FROM records GROUP BY grain"))
        end, milliseconds = _measured(stack)
        assert milliseconds + sum(stored.values()) == end - begun
        assert 0 not in stored  # no gap
        assert bool(stored) is ((own, enrolled) != ("", "workstation"))  # whose day and week are open
        if enrolled == "workstation":
            assert 1 not in stored
            assert "clock" not in _text_of(stack.state / "spool.db")


def _text_of(spool: Path) -> str:
    with closing(sqlite3.connect(spool)) as db:
        return "".join(row[0] for row in db.execute("SELECT body FROM pending"))


def _fold(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stack.control(ControlKey.OPEN_FOLD) or "{}")
    return found


def _measured(stack: Stack) -> tuple[int, int]:
    """Return (end of the measured time, Unix ms; time in the open records and the waiting rows, ms)."""
    try:
        spool = f"file:{stack.state / 'spool.db'}?mode=ro"  # never makes the file that the agent is to make
        with closing(sqlite3.connect(spool, uri=True, isolation_level=None)) as db:
            db.execute("BEGIN")
            fold = json.loads(
                db.execute("SELECT value FROM control WHERE key = ?", (ControlKey.OPEN_FOLD,)).fetchone()[0]
            )
            bodies = [body_from_json(row[0]) for row in db.execute("SELECT body FROM pending")]
    except (sqlite3.OperationalError, TypeError):  # no spool or no checkpoint yet
        return 0, 0
    records = [*map(Record.from_json, fold["open"]), *(body for body in bodies if isinstance(body, Record))]
    return int(fold["end"]), sum(milliseconds_of_states(records).values())


def _rows(stack: Stack, table: str) -> int:
    with closing(sqlite3.connect(stack.state / "spool.db")) as db:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def _collected(stack: Stack, query: str) -> list[Any]:
    with closing(sqlite3.connect(f"file:{stack.data / 'data.db'}?mode=ro", uri=True)) as db:
        return db.execute(query).fetchall()
