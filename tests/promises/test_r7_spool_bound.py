# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R7: the agent's spool on a small disk, without a collector for too long."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.promises.disks import fill, free_bytes, tmpfs
from tests.promises.killed_agent import KilledAgent, held
from tests.records import clock_record
from tests.stack import Stack
from veilleuse.agent.salvage import open_spool
from veilleuse.agent.spool import FILE_NAME, Bounds

BOUND = 8 * 2**20
DISK_MIB = 64
RESERVE = DISK_MIB * 2**20 // 20
"""5 % of the disk: less than the 500 MB of the default."""
PERIOD, RECORDS, AT_ONCE = 10_000, 13_500, 250
ACTIVE, IDLE = 1, 2
SETTINGS = {
    "VEILLEUSE_AGENT__SPOOL__MAX_BYTES": str(BOUND),
    "VEILLEUSE_AGENT__MEASURE__SOURCES": "fake",
    "VEILLEUSE_AGENT__MEASURE__TICK_SECONDS": "1",
    "VEILLEUSE_AGENT__MEASURE__PERIOD_SECONDS": "10",
    "VEILLEUSE_AGENT__MEASURE__CHECKPOINT_SECONDS": "1",
    "VEILLEUSE__STORE__FREE_BYTES_MINIMUM": "0",
}


@pytest.mark.promise("R7", "R18")
def test_full_spool_on_a_full_disk(tmp_path, figure):
    """Never a byte over the bound nor into the reserve; what went is a gap; it measures on, restarts too, and delivers after."""
    (tmp_path / "agent").mkdir(mode=0o700)
    with tmpfs(tmp_path / "agent", DISK_MIB), Stack(tmp_path, SETTINGS) as stack:
        stack.must("veilleuse", "init", "--simulated")
        collector = stack.start_collector()
        stack.enrol()
        stack.stop(collector)
        produced, largest = overfill(stack.state)
        agent = KilledAgent(stack, seed=1)
        agent.start()
        agent.kill_resident()  # and again, while full
        filler = fill(stack.state, RESERVE - 100_000)
        before = free_bytes(stack.state)
        agent.kill_resident()  # a disk that is full when it starts
        time.sleep(1.5)
        while_full = int(time.time() * 1000) // PERIOD * PERIOD
        time.sleep((while_full + PERIOD) / 1000 + 1.2 - time.time())  # a record ends
        taken = before - free_bytes(stack.state)
        largest = max(largest, size(stack.state))
        filler.unlink()
        time.sleep(1.2)
        stack.start_collector()
        agent.stop()
        largest = max(largest, size(stack.state))
        found = held(stack.data)
    stored = sum(sum(found.periods[start].values()) for start in produced)
    measured = found.periods[while_full][ACTIVE] + found.periods[while_full][IDLE]
    lost = sum(produced.values()) - stored
    figure(
        f"{largest:,} of {BOUND:,} bytes at most; {max(0, taken):,} bytes of the reserve; {lost // PERIOD:,} of {RECORDS:,} records went, "
        f"{found.gap_milliseconds - lost} ms unexplained, {measured} ms measured in a period that ended while the disk was full"
    )
    assert largest <= BOUND
    assert taken <= 0
    assert lost > 0
    assert lost == found.gap_milliseconds
    assert found.duplicates == 0
    assert sorted(produced)[-1000:] == [s for s in sorted(found.periods) if s in produced][-1000:], (
        "the newest"
    )
    assert measured >= 1_000
    assert sum(found.periods[while_full].values()) <= PERIOD


def overfill(state: Path) -> tuple[dict[int, int], int]:
    """What was appended, start → ms, and the largest size seen on the way."""
    first = int(time.time() * 1000) // PERIOD * PERIOD - (RECORDS + 360) * PERIOD
    starts = [first + number * PERIOD for number in range(RECORDS)]
    spool = open_spool(state / FILE_NAME, Bounds(BOUND, RESERVE), int(time.time() * 1000))
    largest = 0
    for begin in range(0, RECORDS, AT_ONCE):
        several = starts[begin : begin + AT_ONCE]
        spool.append([clock_record(s, PERIOD, metered_millijoules=s % 9_973).to_json() for s in several], {})
        largest = max(largest, size(state))
    spool.close()
    return dict.fromkeys(starts, PERIOD), largest


def size(state: Path) -> int:
    """Bytes of all files of the spool."""
    return sum(file.stat().st_size for file in state.glob("spool*"))
