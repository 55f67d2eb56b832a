# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Conservation over real processes: every record of a machine is stored, or a gap gives the reason."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from tests.support import clock
from tests.support.records import clock_record, spool_of
from tests.support.stack import Stack
from tests.support.waiting import random_moment
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.v1 import telemetry_pb2 as pb

PERIOD_MILLISECONDS = 10_000
AN_HOUR = MILLISECONDS_PER_HOUR // PERIOD_MILLISECONDS


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, Path]]:
    """Give a collector and an enrolled agent, both stopped, and a copy of their files. They are made once,
    because that takes six processes."""
    folder = tmp_path_factory.mktemp("stack")
    with Stack(folder) as made:
        collector = made.start_collector()
        made.enrol()
        assert made.stop(collector) == 0
        made.keep(folder / "kept")
        yield made, folder / "kept"


@pytest.fixture
def stack(enrolled: tuple[Stack, Path]) -> Iterator[Stack]:
    """Give a collector and an enrolled agent, both stopped, without any record."""
    made, kept = enrolled
    made.put_back(kept)
    yield made
    for process in reversed(made.processes):
        made.stop(process)


def fill(stack: Stack, count: int, seed: int) -> list[int]:
    """Spool `count` records of 10 s from an hour of yesterday, metered at the wall; return millijoules."""
    chance = random.Random(seed)
    start = (clock.unix_milliseconds() // MILLISECONDS_PER_HOUR - 24) * MILLISECONDS_PER_HOUR
    metered = [chance.choice((0, 1, chance.randrange(4_000_000))) for _ in range(count)]
    bodies = [
        clock_record(
            start + number * PERIOD_MILLISECONDS,
            PERIOD_MILLISECONDS,
            metered_millijoules=millijoules,
            busy_ratio=chance.random(),
        ).to_json()
        for number, millijoules in enumerate(metered)
    ]
    spool = spool_of(stack.state)
    try:
        for first in range(0, count, 60):
            spool.append(bodies[first : first + 60], {})
    finally:
        spool.close()
    return metered


def stored(stack: Stack, query: str, *values: object) -> tuple[int, ...]:
    """Return one row of the collector's database."""
    with closing(sqlite3.connect(f"file:{stack.data / 'data.db'}?mode=ro", uri=True)) as db:
        row: tuple[int, ...] = db.execute(query, values).fetchone()
    return row


def spooled(stack: Stack, query: str) -> tuple[int, ...]:
    """Return one row of the agent's spool."""
    with closing(sqlite3.connect(f"file:{stack.state / 'spool.db'}?mode=ro", uri=True)) as db:
        row: tuple[int, ...] = db.execute(query).fetchone()
    return row


def waiting(stack: Stack) -> int:
    """Return the number of records that the collector has not acknowledged."""
    (count,) = spooled(
        stack,
        "SELECT (SELECT COUNT(*) FROM pending)"
        " + (SELECT COUNT(*) FROM outbox WHERE acknowledged_unix_milliseconds IS NULL)",
    )
    return count


def wait(stack: Stack, count: int) -> bool:
    """Return whether `count` records wait; false while the agent's spool has no tables yet."""
    try:
        return waiting(stack) >= count
    except sqlite3.OperationalError:
        return False


def drain(stack: Stack, contacts: int = 10) -> None:
    """Make contacts until no record waits; fails after `contacts`."""
    for _ in range(contacts):
        stack.must("veilleuse-agent", "send")
        if waiting(stack) == 0:
            return
    raise AssertionError(f"{waiting(stack)} records still wait after {contacts} contacts")


def assert_conserved(stack: Stack, metered: list[int]) -> None:
    """Check that records, hours and days have the sent millijoules and milliseconds, without a gap."""
    count, highest, milliseconds = stored(stack, "SELECT COUNT(*), MAX(seq), SUM(milliseconds) FROM records")
    assert count == highest == len(metered)
    assert milliseconds == len(metered) * PERIOD_MILLISECONDS
    for grain in (1, 2):
        assert stored(stack, "SELECT SUM(milliseconds) FROM sums WHERE grain = ?", grain) == (milliseconds,)
        assert stored(
            stack,
            "SELECT SUM(energy_millijoules), SUM(covered_milliseconds) FROM point_sums WHERE grain = ?",
            grain,
        ) == (sum(metered), milliseconds)
    assert stored(stack, "SELECT COUNT(*) FROM gap_sums") == (0,)


def test_nothing_on_either_side_is_readable_by_others(stack):
    """S20: with a common umask, keys, spool and databases have no permission for group or others."""
    fill(stack, 1, seed=0)
    stack.run("veilleuse-agent", "send")
    paths = [path for top in (stack.state, stack.data) for path in (top, *top.rglob("*"))]
    assert [str(path) for path in paths if path.stat().st_mode & 0o077] == []


def test_a_collector_away_for_an_hour_loses_nothing(stack):
    """An hour of 10 s records waits while the collector is away (exit code 1, one line), then arrives
    complete, once."""
    metered = fill(stack, AN_HOUR, seed=1)
    away = stack.run("veilleuse-agent", "send")
    assert away.returncode == 1
    (line,) = [line for line in away.stderr.splitlines() if "Traceback" not in line][-1:]
    assert "collector" in line
    assert waiting(stack) == AN_HOUR

    collector = stack.start_collector()
    drain(stack)
    stack.wait_for(lambda: stored(stack, "SELECT COUNT(*) FROM dirty") == (0,), "everything is derived")
    assert stack.stop(collector) == 0
    assert_conserved(stack, metered)
    # A wall meter needs no model: metered energy equals derived energy.
    assert stored(stack, "SELECT SUM(derived_energy_millijoules) FROM records") == (sum(metered),)
    for grain in (1, 2):
        assert stored(stack, "SELECT SUM(energy_millijoules) FROM derived WHERE grain = ?", grain) == (
            sum(metered),
        )
    assert stored(stack, "SELECT SUM(energy_millijoules) FROM ledger") == (sum(metered),)


def test_a_collector_killed_while_it_receives_loses_nothing(stack):
    """After five kill -9 of the collector during delivery of an hour, each record is stored exactly once."""
    metered = fill(stack, AN_HOUR, seed=2)
    chance = random.Random(3)
    for _ in range(5):
        collector = stack.start_collector()
        sender = stack.start("veilleuse-agent", "send")
        random_moment(chance, 0.6)
        os.killpg(collector.pid, signal.SIGKILL)
        collector.wait()
        stack.stop(sender)
    stack.start_collector()
    drain(stack)
    assert_conserved(stack, metered)


def test_the_agent_measures_while_the_collector_is_away(stack):
    """`run` makes records without a collector; when it returns they are delivered in order, without a gap."""
    settings = {
        "VEILLEUSE_AGENT__MEASURE__TICK_SECONDS": "2",
        "VEILLEUSE_AGENT__MEASURE__PERIOD_SECONDS": "10",
        "VEILLEUSE_AGENT__COLLECTOR__CONTACT_SECONDS": "10",
    }
    agent = stack.start("veilleuse-agent", "run", **settings)
    stack.wait_for(partial(wait, stack, 2), "two records wait", seconds=120, process=agent)
    stack.start_collector()
    assert stack.stop(agent) == 0
    drain(stack)
    made, highest = stored(stack, "SELECT COUNT(*), MAX(seq) FROM records")
    assert made == highest >= 2
    assert stored(stack, "SELECT SUM(milliseconds) FROM records") == stored(
        stack, "SELECT SUM(milliseconds) FROM sums WHERE grain = 1"
    )


def test_what_is_refused_becomes_a_declared_gap(stack):
    """A collector of real data refuses records of the fake source. Each becomes a gap at its own number, and
    the agent keeps it in quarantine."""
    settings = {
        "VEILLEUSE_AGENT__MEASURE__TICK_SECONDS": "2",
        "VEILLEUSE_AGENT__MEASURE__PERIOD_SECONDS": "10",
        "VEILLEUSE_AGENT__MEASURE__SOURCES": "fake",
        "VEILLEUSE_AGENT__MEASURE__FAKE_WATTS": "50",
    }
    agent = stack.start("veilleuse-agent", "run", **settings)
    stack.wait_for(partial(wait, stack, 1), "a record waits", seconds=120, process=agent)
    assert stack.stop(agent) == 0
    stack.start_collector()
    drain(stack)
    (aside,) = spooled(stack, "SELECT COUNT(*) FROM quarantine")
    assert aside >= 1
    assert stored(stack, "SELECT SUM(records) FROM gap_sums WHERE reason = 1") == (aside,)
    assert stored(stack, "SELECT COUNT(*) FROM point_sums") == (0,)
    # Produced = stored + declared gaps: no number of the stream is missing.
    (mark,) = stored(stack, "SELECT MAX(mark) FROM streams")
    (numbered,) = spooled(stack, "SELECT MAX(seq) FROM outbox")
    assert mark == numbered


def test_simulated_data_take_the_fake_source_and_conserve_it(tmp_path):
    """A collector made with `init --simulated` accepts a fake meter: millijoules sent = stored = derived."""
    settings = {
        "VEILLEUSE_AGENT__MEASURE__TICK_SECONDS": "2",
        "VEILLEUSE_AGENT__MEASURE__PERIOD_SECONDS": "10",
        "VEILLEUSE_AGENT__MEASURE__SOURCES": "fake",
        "VEILLEUSE_AGENT__MEASURE__FAKE_WATTS": "50",
        "VEILLEUSE_AGENT__COLLECTOR__CONTACT_SECONDS": "10",
    }
    with Stack(tmp_path, settings) as stack:
        stack.must("veilleuse", "init", "--simulated")
        stack.start_collector()
        stack.enrol()
        agent = stack.start("veilleuse-agent", "run")
        stack.wait_for(
            lambda: stored(stack, "SELECT COUNT(*) FROM records") >= (2,),
            "two records are stored",
            seconds=120,
            process=agent,
        )
        assert stack.stop(agent) == 0
        drain(stack)
        stack.wait_for(lambda: stored(stack, "SELECT COUNT(*) FROM dirty") == (0,), "everything is derived")
        with closing(sqlite3.connect(f"file:{stack.state / 'spool.db'}?mode=ro", uri=True)) as db:
            sent = [
                pb.Record.FromString(wire).measurement for (wire,) in db.execute("SELECT wire FROM outbox")
            ]
        energies = [energy for record in sent for cell in record.cells for energy in cell.energies]
        metered = sum(energy.energy_millijoules for energy in energies)
        covered = sum(energy.covered_milliseconds for energy in energies)
        assert metered == pytest.approx(50 * covered, rel=0.01), "50 W"
        for grain in (1, 2):
            assert stored(
                stack,
                "SELECT SUM(energy_millijoules), SUM(covered_milliseconds) FROM point_sums WHERE grain = ?",
                grain,
            ) == (metered, covered)
            assert stored(
                stack,
                "SELECT SUM(energy_millijoules) FROM derived WHERE grain = ? AND method = 'metered'",
                grain,
            ) == (metered,)
        assert stored(stack, "SELECT COUNT(*) FROM gap_sums") == (0,)
