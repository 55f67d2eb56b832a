# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R20: the real agent and the real collector with a bad wire between them: each record arrives once."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from tests.promises.support.networks import FarStack, Wire, wire
from tests.support.fakes.agent import record
from veilleuse.agent.spool.database import connect

pytestmark = [pytest.mark.promise("R20"), pytest.mark.long]

RECORDS = 1_500
BAD_SECONDS = 60.0
FROZEN_SECONDS = 10.0
DRAIN_SECONDS = 120.0
"""Longer than the back-off of an agent that could not deliver for a while."""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[tuple[FarStack, Wire]]:
    """Yield a running collector and a machine, enrolled over a good wire, with records to send."""
    with wire() as between, FarStack(tmp_path, between) as far:
        far.serve()
        join = tmp_path / "join"
        where = ("--entity", "test", "--site", "test", "--population", "server", "--output", str(join))
        far.must("veilleuse", "token", "create", *where)
        far.far("veilleuse-agent", "enrol", str(join))
        with closing(connect(far.state / "spool.db")) as spool:
            rows = [(record(index).to_json(),) for index in range(RECORDS)]
            spool.executemany("INSERT INTO pending (body) VALUES (?)", rows)
        yield far, between


def _freezes(between: Wire, stop: threading.Event) -> None:
    """Block all packets for 10 s and pass them for 5 s, until `stop`."""
    while not stop.is_set():
        between.lose(1.0)
        stop.wait(FROZEN_SECONDS)
        between.mend()
        stop.wait(FROZEN_SECONDS / 2)


CONDITIONS: dict[str, Callable[[Wire], None]] = {
    "30 % loss": lambda between: between.lose(0.3),
    "256 kbit/s": lambda between: between.narrow(256),
    "10 s freezes": lambda between: None,
    "MTU 576": lambda between: between.shorten(576),
    "no DNS": lambda between: between.forget_name(),
}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_bad_wire_loses_nothing(
    stack: tuple[FarStack, Wire], condition: str, figure: Callable[[str], None]
) -> None:
    """Each waiting and each new record arrives once after a minute of a bad wire, with little CPU."""
    far, between = stack
    CONDITIONS[condition](between)
    stop = threading.Event()
    freezer = threading.Thread(target=_freezes, args=(between, stop))
    if condition == "10 s freezes":
        freezer.start()
    agent = far.run_agent()
    far.wait_for(lambda: " measuring " in far.log("agent"), "the agent measures")
    began, spent = time.monotonic(), _cpu_seconds(agent)
    stop.wait(BAD_SECONDS)
    share = (_cpu_seconds(agent) - spent) / (time.monotonic() - began)
    stop.set()
    if freezer.ident is not None:
        freezer.join()
    arrived_in_bad = _stored(far)
    between.mend()
    far.wait_for(lambda: _stored(far) >= RECORDS, "everything has arrived", seconds=DRAIN_SECONDS)
    took = time.monotonic() - began - BAD_SECONDS
    far.stop(far.processes[-1])
    far.far("veilleuse-agent", "send")
    lost, other = _compared(far)
    figure(
        f"{condition}: {lost} records lost, {other} stored twice or never sent, {arrived_in_bad:,} arrived meanwhile, the others "
        f"within {took:.0f} s afterwards, agent CPU {100 * share:.2f} %"
    )
    assert (lost, other) == (0, 0)
    assert share < 0.01


def _cpu_seconds(agent: psutil.Process) -> float:
    """Return the CPU time of resident and senders, also ended ones (`ip netns exec` becomes the agent)."""
    own = agent.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in agent.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            times = child.cpu_times()
            total += times.user + times.system
    return float(total)


def _stored(far: FarStack) -> int:
    with closing(sqlite3.connect(f"file:{far.data / 'data.db'}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT count(*) FROM records").fetchone()[0])


def _compared(far: FarStack) -> tuple[int, int]:
    """Return (records of the agent that the collector lacks, its records that are twice or never sent)."""
    with closing(sqlite3.connect(far.state / "spool.db")) as spool:
        sent = [bytes(row[0]) for row in spool.execute("SELECT wire FROM outbox ORDER BY seq")]
        waiting = spool.execute("SELECT count(*) FROM pending").fetchone()[0]
    with closing(sqlite3.connect(f"file:{far.data / 'data.db'}?mode=ro", uri=True)) as db:
        stored = [bytes(row[0]) for row in db.execute("SELECT wire FROM records ORDER BY stream_id, seq")]
    missing = len(set(sent) - set(stored)) + waiting
    return missing, len(stored) - len(set(stored)) + len(set(stored) - set(sent))
