# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""How many machines speak under one identity: decision 0017."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from veilleuse.collector.buckets import Buckets
from veilleuse.collector.holders import LOST_KEPT, Holders, Meeting, meet


@dataclass
class World:
    """The collector's side of one identity."""

    holders: Holders = field(default_factory=Holders)
    made: int = 0

    def hello(self, shown: bytes) -> tuple[Meeting, bytes]:
        """What it tells, and the nonce of the answer."""
        self.made += 1
        following = self.made.to_bytes(16, "big")
        meeting, self.holders = meet(self.holders, shown, following)
        return meeting, following


EVENTS = st.lists(
    st.one_of(
        st.just(("hello",)),
        st.just(("lost",)),  # the answer, or the machine crashed before it kept it
        st.just(("snapshot",)),
        st.tuples(st.just("back"), st.integers(0, 5)),
        st.just(("wiped",)),  # its spool was damaged: a new one, without nonce
        st.just(("restored",)),  # the collector, from a backup
        st.just(("backup",)),
    ),
    max_size=80,
)


@given(EVENTS)
def test_one_machine_is_never_refused(events):
    """Whatever answers it loses and however often it goes back, in whatever order."""
    world, nonce = World(), b""
    snapshots: list[bytes] = []
    backup = Holders()
    for event in events:
        match event:
            case ("hello",):
                meeting, nonce = world.hello(nonce)
                assert meeting is not Meeting.CONFLICT
            case ("lost",):
                assert world.hello(nonce)[0] is not Meeting.CONFLICT
            case ("snapshot",):
                snapshots.append(nonce)
            case ("back", int(number)) if snapshots:
                del snapshots[max(1, len(snapshots) - number) :]  # what was done since is thrown away
                nonce = snapshots[-1]
            case ("wiped",):
                nonce = b""
            case ("backup",):
                backup = world.holders
            case ("restored",):
                world.holders = backup
            case _:
                pass
    assert len(world.holders.lost) <= LOST_KEPT


def test_one_machine_may_go_back_and_forth_once():
    """Back to an older snapshot, and then to the newer one after all: believed; what it looks like is counted."""
    world = World()
    _, old = world.hello(b"")
    _, new = world.hello(old)
    assert world.hello(old)[0] is Meeting.STALE
    meeting, after = world.hello(new)
    assert meeting is Meeting.RETURNED
    assert world.hello(after)[0] is Meeting.CURRENT
    assert world.holders.returns == 1


@given(st.lists(st.integers(1, 6), min_size=4, max_size=12), st.booleans())
def test_two_holders_are_told_apart(turns, empty):
    """Two machines take turns with the same state: from the fourth turn on one of them is refused, always the same."""
    world = World()
    _, start = world.hello(b"")
    nonces = [start, b"" if empty else start]
    refused: set[int] = set()
    for turn, hellos in enumerate(turns):
        who = turn % 2
        for _ in range(hellos):
            meeting, following = world.hello(nonces[who])
            if meeting is Meeting.CONFLICT:
                refused.add(who)
            else:
                assert who not in refused, "a holder is refused for good"
                nonces[who] = following
    assert len(refused) == 1


@given(st.integers(0, 2**32), st.floats(0, 0.4))
def test_two_holders_with_lost_answers_are_told_apart_in_the_end(seed, loss):
    """In random turns, losing up to 40 % of the answers: exactly one is refused within 200 Hellos, and never both."""
    chance, world = random.Random(seed), World()
    _, start = world.hello(b"")
    nonces, last = [start, start], [Meeting.CURRENT, Meeting.CURRENT]
    for _ in range(200):
        who = chance.randrange(2)
        last[who], following = world.hello(nonces[who])
        assert last != [Meeting.CONFLICT, Meeting.CONFLICT]
        if last[who] is not Meeting.CONFLICT and chance.random() >= loss:
            nonces[who] = following
    assert Meeting.CONFLICT in last


def test_the_proof_outlives_lost_answers_of_the_other():
    """A refused machine that tries on is refused on, however many answers the served one loses in between."""
    world = World()
    _, start = world.hello(b"")
    _, first = world.hello(start)
    _, second = world.hello(start)
    _, served = world.hello(first)
    for _ in range(3 * LOST_KEPT):
        assert world.hello(second)[0] is Meeting.CONFLICT
        assert world.hello(served)[0] is not Meeting.CONFLICT  # its answer is lost


def test_buckets_are_bounded_and_refill():
    """So many at once, then one each while; each id has its own."""
    now = 0.0
    buckets = Buckets(3, 10.0, lambda: now)
    assert [buckets.take(b"a") for _ in range(5)] == [True, True, True, False, False]
    assert buckets.take(b"b")
    now = 10.0
    assert [buckets.take(b"a") for _ in range(2)] == [True, False]
    now = 1000.0
    assert [buckets.take(b"a") for _ in range(4)] == [True, True, True, False]
