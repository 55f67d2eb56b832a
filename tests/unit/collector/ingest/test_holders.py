# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of machines that share one identity: docs/wire.md, docs/decisions/0017."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilleuse.collector.ingest.admission import Buckets
from veilleuse.collector.model.clones import (
    NONCES_KEPT,
    Holders,
    NonceVerdict,
    judge_nonce,
    pack_nonces,
    unpack_nonces,
)

REFUSED = (NonceVerdict.WAITS, NonceVerdict.CONFLICT)


@dataclass
class World:
    """The collector's side of one identity."""

    holders: Holders = field(default_factory=Holders)
    records: int = 0
    silent: bool = False
    stored: list[str] = field(default_factory=list)
    """Machines whose records were stored, in order."""

    def hello(self, shown: bytes) -> tuple[NonceVerdict, bytes]:
        """Return the verdict and the nonce of the answer."""
        made = random.randbytes(8)
        meeting, self.holders = judge_nonce(self.holders, shown, made, self.records, silent=self.silent)
        if meeting not in REFUSED:
            self.silent = False
        return meeting, self.holders.current

    def push(self, who: str = "") -> None:
        """Store records of a machine."""
        self.records += 1
        self.stored.append(who)


EVENTS = st.lists(
    st.one_of(
        st.just(("contact",)),
        st.just(("empty",)),  # a contact with nothing to deliver
        st.just(("lost",)),  # the answer, or the machine crashed before it kept the answer
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
    """One machine that loses any answers and is set back at any time waits at most, and is then served."""
    world, nonce, snapshots = World(), b"", [b""]
    backup = world
    for event in events:
        match event:
            case ("contact",) | ("empty",):
                meeting, following = world.hello(nonce)
                assert meeting is not NonceVerdict.CONFLICT
                if meeting is NonceVerdict.WAITS:
                    world.silent = True
                    meeting, following = world.hello(nonce)
                    assert meeting is NonceVerdict.STALE
                nonce = following
                if event == ("contact",):
                    world.push()
            case ("lost",):
                assert world.hello(nonce)[0] is not NonceVerdict.CONFLICT
            case ("snapshot",):
                snapshots.append(nonce)
            case ("back", int(number)):
                del snapshots[max(1, len(snapshots) - number) :]  # what was done since is discarded
                nonce = snapshots[-1]
            case ("wiped",):
                nonce, snapshots = b"", [b""]
            case ("backup",):
                backup = replace(world)
            case ("restored",):
                world = replace(backup)
            case _:
                pass
    assert len(world.holders.waiting) <= NONCES_KEPT
    assert len(world.holders.copies) <= NONCES_KEPT


def test_lost_answers_wait_for_nobody():
    """A machine whose answers are lost is served at once, as long as it could deliver nothing."""
    world = World()
    _, nonce = world.hello(b"")
    world.push()
    lost = [world.hello(nonce)[0] for _ in range(3 * NONCES_KEPT)]
    assert lost == [NonceVerdict.CURRENT, *[NonceVerdict.STALE] * (len(lost) - 1)]


def test_an_abandoned_hello_that_comes_late_costs_nothing():
    """A Hello that the machine abandoned may be answered after a later one. The nonce that the machine has
    stays valid as long as nothing was stored."""
    world = World()
    _, nonce = world.hello(b"")
    world.push()
    _, nonce = world.hello(nonce)
    shown = nonce
    _, nonce = world.hello(shown)
    world.hello(shown)
    assert world.hello(nonce)[0] is NonceVerdict.STALE


def test_a_machine_that_was_set_back_waits_once():
    """The first Hello of a machine that was set back waits until no other holder calls; later ones do not."""
    world = World()
    _, old = world.hello(b"")
    _, new = world.hello(old)
    world.push()
    assert [world.hello(old)[0] for _ in range(3)] == [NonceVerdict.WAITS] * 3
    world.silent = True
    assert world.hello(old)[0] is NonceVerdict.STALE
    world.push()
    assert world.hello(old)[0] is NonceVerdict.STALE
    assert world.hello(new)[0] is NonceVerdict.WAITS  # a holder of the newer state waits now


def turn(world: World, nonces: dict[str, bytes], who: str, kind: str) -> NonceVerdict:
    """Make one contact of a machine: it delivers, has nothing to deliver, or loses the answer."""
    meeting, following = world.hello(nonces[who])
    if meeting not in REFUSED and kind != "lost":
        nonces[who] = following
        if kind == "delivers":
            world.push(who)
    return meeting


@pytest.mark.parametrize("turns", [2, 3, 4, 5])
@pytest.mark.parametrize("before", ["no contact", "a contact", "a delivery"])
def test_records_of_two_holders_are_never_mixed(turns, before):
    """Two machines with the same state call in every order, and deliver, are empty or lose the answer. All
    records since the copy are of one machine; after two answered calls each, the other one is refused."""
    for order in product(product("AB", ("delivers", "empty", "lost")), repeat=turns):
        world, start = World(), b""
        if before != "no contact":
            _, start = world.hello(b"")
        if before == "a delivery":
            world.push("before")
        nonces = {"A": start, "B": start}
        for who, kind in (*order, *[("A", "delivers"), ("B", "delivers")] * 3):
            turn(world, nonces, who, kind)
        assert len(set(world.stored) - {"before"}) == 1, order
        assert {turn(world, nonces, who, "empty") for who in "AB"} == {
            NonceVerdict.CURRENT,
            NonceVerdict.CONFLICT,
        }, order


def test_a_holder_that_delivers_without_hello_is_heard():
    """A sender that keeps its connection says Hello once; its next delivery exposes the waiting copy."""
    world = World()
    _, start = world.hello(b"")
    world.hello(start)
    world.push()
    assert world.hello(start)[0] is NonceVerdict.WAITS
    world.push()
    world.silent = True
    assert world.hello(start)[0] is NonceVerdict.CONFLICT


@given(st.lists(st.sampled_from("ABC"), min_size=3, max_size=60), st.floats(0, 0.4), st.randoms())
def test_of_three_holders_one_is_served(order, loss, chance):
    """Only one of several copies delivers, when they lose up to 40 % of the answers."""
    world, nonces = World(), {"C": b""}
    _, nonces["B"] = world.hello(b"")
    world.push("before")
    _, nonces["A"] = world.hello(nonces["B"])
    world.push("before")
    for who in order:
        turn(world, nonces, who, "lost" if chance.random() < loss else "delivers")
    assert len(set(world.stored) - {"before"}) <= 1


def test_a_number_nobody_gave_is_no_number():
    """Random nonces of version 0.1 and forged numbers do not stop the numbering."""
    world = World()
    for shown in (b"\7" * 16, b"\0\0\0" + b"\xff" * 13, bytes(16)):
        assert len(world.hello(shown)[1]) in (0, 16)
    _, nonce = world.hello(world.holders.current)
    assert world.hello(nonce)[0] is NonceVerdict.CURRENT


def test_nonces_are_packed():
    """Packed nonces are unpacked unchanged, an empty one too."""
    nonces = (b"\1" * 16, b"", b"\2" * 16)
    assert unpack_nonces(pack_nonces(nonces)) == nonces
    assert unpack_nonces(pack_nonces(())) == ()


def test_buckets_are_bounded_and_refill():
    """A bucket allows a number of calls at once, then one per interval; each id has its own bucket."""
    now = 0.0
    buckets = Buckets(3, 10.0, lambda: now)
    assert [buckets.take(b"a") for _ in range(5)] == [True, True, True, False, False]
    assert buckets.take(b"b")
    now = 10.0
    assert [buckets.take(b"a") for _ in range(2)] == [True, False]
    now = 1000.0
    assert [buckets.take(b"a") for _ in range(4)] == [True, True, True, False]
