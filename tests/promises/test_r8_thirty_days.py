# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R8: thirty days without a collector, a record a minute."""

from __future__ import annotations

import time

import pytest

from tests.promises.support.killed_agent import held
from tests.support import clock
from tests.support.records import clock_record, count_pending
from tests.support.stack import Stack
from veilleuse.agent.spool.database import FILE_NAME, Bounds
from veilleuse.agent.spool.recovery import open_spool

MINUTE, RECORDS, AT_ONCE = 60_000, 43_200, 240
BOUND = 64 * 2**20
"""The default."""


@pytest.mark.long
@pytest.mark.promise("R8", "R18")
def test_all_kept_and_drained(tmp_path, figure):
    """All 43,200 records fit in the bound, and one contact delivers them in less than five minutes."""
    with Stack(tmp_path, {"VEILLEUSE__STORE__FREE_BYTES_MINIMUM": "0"}) as stack:
        stack.start_collector()
        stack.enrol()
        first = clock.unix_milliseconds() // MINUTE * MINUTE - (RECORDS + 120) * MINUTE
        starts = [first + number * MINUTE for number in range(RECORDS)]
        spool = open_spool(stack.state / FILE_NAME, Bounds(BOUND, 0), clock.unix_milliseconds())
        for begin in range(0, RECORDS, AT_ONCE):
            several = starts[begin : begin + AT_ONCE]
            spool.append(
                [clock_record(s, MINUTE, metered_millijoules=s % 9_973).to_json() for s in several], {}
            )
        kept = count_pending(spool)
        spool.close()
        size = sum(file.stat().st_size for file in stack.state.glob("spool*"))
        began = time.monotonic()
        done = stack.start("veilleuse-agent", "send").wait(600)
        seconds = time.monotonic() - began
        found = held(stack.data)
    stored = [start for start in starts if sum(found.periods[start].values()) == MINUTE]
    figure(
        f"{kept:,} records kept in {size / 2**20:.1f} MiB, delivered in {seconds:.0f} s, {len(stored):,} stored, "
        f"{found.duplicates} duplicated"
    )
    assert done == 0, stack.log("veilleuse-agent")[-2_000:]
    assert (kept, len(stored), found.duplicates) == (RECORDS, RECORDS, 0)
    assert size <= BOUND
    assert seconds < 300
