# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test when the sender makes its next contact: docs/wire.md §3."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from veilleuse.agent.sending.session import next_contact_unix_milliseconds, retry_delay_milliseconds

NOW = 1_772_442_000_000
DAY = 86_400_000


def longest(failures: int, interval: int = 900_000, asked: int = 0) -> int:
    """Return the longest wait that chance can give."""
    return retry_delay_milliseconds(failures, interval, asked, lambda low, high: high)


def test_the_first_reconnect_is_spread_over_two_minutes_at_most():
    """The first wait is uniform between 0 and min(interval, 120 s)."""
    assert longest(1) == 120_000
    assert longest(1, interval=30_000) == 30_000
    assert retry_delay_milliseconds(1, 900_000, 0, lambda low, high: low) == 0


def test_then_it_doubles_from_five_seconds_to_fifteen_minutes():
    """The wait doubles from 5 s up to 15 min before its jitter, and is never below the first wait's."""
    exponential = [5_000, 10_000, 20_000, 640_000, 900_000, 900_000]
    for interval, first in ((5_000, 5_000), (30_000, 30_000), (900_000, 120_000)):
        waits = [longest(failures, interval) for failures in (2, 3, 4, 9, 10, 50)]
        assert waits == [max(first, wait) for wait in exponential]


def test_what_the_collector_asks_for_is_a_minimum():
    """The collector's wait is a minimum, so that it never shortens the agent's."""
    assert retry_delay_milliseconds(3, 900_000, 60_000, lambda low, high: low) == 60_000
    assert longest(9, asked=60_000) == 700_000


@given(st.integers(1, 40), st.integers(10_000, DAY), st.integers(0, 3_600_000))
def test_a_wait_is_always_within_its_bounds(failures, interval, asked):
    """The wait is between the collector's wait and 15 min more."""
    delay = retry_delay_milliseconds(failures, interval, asked, random.uniform)
    assert asked <= delay <= asked + 900_000


@given(st.binary(min_size=16, max_size=16), st.integers(10_000, 3_600_000), st.integers(NOW, NOW + DAY))
def test_an_agent_keeps_its_own_phase(agent_id, interval, now):
    """The next contact is within one interval, and the one after it exactly one interval later."""
    first = next_contact_unix_milliseconds(now, interval, 0, agent_id, random.uniform)
    assert now < first <= now + interval
    assert next_contact_unix_milliseconds(first, interval, 0, agent_id, random.uniform) == first + interval


def test_ten_thousand_agents_started_together_spread_out():
    """The phases fill the interval evenly: no tenth of it gets more than 12 % of them."""
    chance = random.Random(1)
    tenths = [0] * 10
    for _ in range(10_000):
        due = next_contact_unix_milliseconds(NOW, 900_000, 0, chance.randbytes(16), chance.uniform)
        tenths[min(9, (due - NOW - 1) * 10 // 900_000)] += 1
    assert max(tenths) <= 1_200


@given(st.integers(NOW, NOW + 400 * DAY))
def test_a_workstation_comes_once_on_each_date(now):
    """The contact falls at a random moment of the next UTC date or the one after."""
    due = next_contact_unix_milliseconds(now, DAY, 0, bytes(16), random.uniform)
    assert due // DAY - now // DAY in (1, 2)
    assert (
        next_contact_unix_milliseconds(now, DAY, 0, bytes(16), lambda low, high: low) // DAY == now // DAY + 1
    )
