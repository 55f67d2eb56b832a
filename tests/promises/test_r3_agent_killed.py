# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R3: the agent's two processes are killed at random moments."""

from __future__ import annotations

import json
import random
from contextlib import closing
from pathlib import Path

import pytest

from tests.promises.results import in_words
from tests.promises.support.killed_agent import UNKNOWN, KilledAgent, held, numbered
from tests.promises.support.proxy import Proxy
from tests.support import clock
from tests.support.records import clock_record, spool_of
from tests.support.stack import Stack
from tests.support.waiting import random_moment, until

PERIOD = 10_000
TICK = CHECKPOINT = 1_000
SETTINGS = {
    "VEILLEUSE_AGENT__MEASURE__SOURCES": "fake",
    "VEILLEUSE_AGENT__MEASURE__FAKE_WATTS": "50",
    "VEILLEUSE_AGENT__MEASURE__TICK_SECONDS": "1",
    "VEILLEUSE_AGENT__MEASURE__PERIOD_SECONDS": "10",
    "VEILLEUSE_AGENT__MEASURE__CHECKPOINT_SECONDS": "1",
    "VEILLEUSE_AGENT__SPOOL__DISK_RESERVE_BYTES": "0",
    "VEILLEUSE__STORE__FREE_BYTES_MINIMUM": "0",
}


def killed(folder, figure, time_bound, *, kills: int, backlog: int, pause: float) -> None:
    """Kill the agent so often; check that periods after the first are whole, and no record is there twice."""
    with Stack(folder, SETTINGS) as stack:
        stack.must("veilleuse", "init", "--simulated")
        stack.start_collector()
        stack.enrol()
        host, _, port = stack.environment["VEILLEUSE__GRPC__ADDRESS"].rpartition(":")
        with Proxy((host, int(port))) as proxy:
            proxy.bytes_per_second = 200_000  # senders are killed in the middle of a contact
            stack.environment["VEILLEUSE_AGENT__COLLECTOR__ADDRESS"] = proxy.address
            before = fill(stack, backlog)
            with closing(KilledAgent(stack, seed=7)) as agent:
                agent.start()
                began = clock.unix_milliseconds()
                chance = random.Random(kills)
                for _ in range(kills):
                    agent.shoot()
                    random_moment(chance, pause)
                    agent.kill()
                present = clock.unix_milliseconds() // PERIOD * PERIOD
                until(lambda: last_closed(stack) >= present, "no period ended after the kills")
                agent.stop()
        found = held(stack.data)
        given = numbered(stack.state / "spool.db")
    live = {start: states for start, states in found.periods.items() if start not in before}
    first, *whole = sorted(live)
    unknown = sum(states[UNKNOWN] for states in live.values())
    may = agent.down_milliseconds + (agent.kills["resident"] + agent.kills["both"]) * (CHECKPOINT + TICK)
    may += round(began - first)  # the time before the first start is unknown
    figure(
        f"{found.duplicates} of {found.records:,} records duplicated by {kills} kills ({in_words(agent.kills)}), "
        f"{unknown:,} ms unknown of {may:,} ms allowed, 0 ms unexplained in {1 + len(whole)} live periods"
    )
    assert set(before) <= set(found.periods), "records that waited were lost"
    assert all(sum(found.periods[start].values()) == PERIOD for start in before)
    assert (found.duplicates, found.holes, found.epochs, found.gap_milliseconds) == (0, 0, 1, 0)
    assert all(found.rows.get(number, sha) == sha for number, sha in given.items()), "a number was used twice"
    assert whole == [first + PERIOD * (number + 1) for number in range(len(whole))]
    assert all(sum(live[start].values()) == PERIOD for start in whole), "produced = stored"
    assert first + PERIOD - began - TICK <= sum(live[first].values()) <= PERIOD
    time_bound(unknown, may, "unknown milliseconds")


def last_closed(stack: Stack) -> int:
    """Return the start of the agent's last period with a record, Unix ms; 0 without one."""
    fold = json.loads(stack.control("open_fold") or "{}")
    return max(fold.get("closed", {}).values(), default=0)


def fill(stack, records: int) -> list[int]:
    """Add records of earlier hours to the spool; return the starts of their periods, Unix ms."""
    first = clock.unix_milliseconds() // PERIOD * PERIOD - (records + 360) * PERIOD
    starts = [first + number * PERIOD for number in range(records)]
    spool = spool_of(stack.state)
    bodies = [clock_record(start, PERIOD, metered_millijoules=start % 9_973).to_json() for start in starts]
    spool.append(bodies, {})
    spool.close()
    return starts


@pytest.mark.promise("R3", "R18")
def test_ten_kills(tmp_path, figure, time_bound):
    """A kill loses at most a checkpoint and a tick, as unknown; no record and no number is used twice."""
    killed(tmp_path, figure, time_bound, kills=10, backlog=4_000, pause=0.25)


@pytest.mark.long
@pytest.mark.promise("R3", "R18")
def test_two_hundred_kills(tmp_path, figure, time_bound):
    """200 kills over many periods keep the same promise."""
    killed(tmp_path, figure, time_bound, kills=200, backlog=20_000, pause=3.5)


@pytest.mark.promise("R3")
def test_a_sender_ends_when_its_resident_died_while_it_started(tmp_path):
    """A held sender whose resident was killed during the sender's imports ends too, and releases its lock."""
    with Stack(tmp_path, SETTINGS) as stack:
        stack.must("veilleuse", "init", "--simulated")
        stack.start_collector()
        stack.enrol()
        with closing(KilledAgent(stack, seed=1)) as agent:
            sender = agent.kill_beside_new_sender()
            until(lambda: not Path(f"/proc/{sender}").exists(), "the sender outlives its resident")
