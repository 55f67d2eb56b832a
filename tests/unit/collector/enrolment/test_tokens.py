# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of tokens: what makes one valid, and how many failures an address may have."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilleuse.collector.enrolment.tokens import (
    MAX_ADDRESSES,
    FailureLimiter,
    TokenOrder,
    check_token,
    in_networks,
    new_token,
    peer_address,
    token_sha256,
)
from veilleuse.collector.errors import EnrolmentRefused, UsageError
from veilleuse.collector.model.hosts import Token
from veilleuse.wire.vocabulary import Population

TOKEN = Token(
    1, b"\0" * 32, 0, 1000, 1, 0, (), "DSI", "Lyon", Population.SERVER, approve=False, revoked=False
)
HERE = ip_address("192.0.2.9")


def reason(*arguments, **more) -> str:
    """Return the reason why check_token refuses; empty when it accepts."""
    try:
        check_token(*arguments, **more)
    except EnrolmentRefused as error:
        return error.reason
    return ""


def test_tokens_are_long_and_differ():
    """A token has 43 URL-safe characters (256 bits), and its stored hash 32 bytes."""
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert {len(token) for token in tokens} == {43}
    assert len(token_sha256(tokens.pop())) == 32


@pytest.mark.parametrize(
    ("token", "now", "expected"),
    [
        (TOKEN, 999, ""),
        (None, 0, "unknown_token"),
        (TOKEN, 1000, "expired_token"),
        (replace(TOKEN, uses=1), 0, "used_token"),
        (replace(TOKEN, revoked=True), 0, "revoked_token"),
        (replace(TOKEN, networks=("198.51.100.0/24",)), 0, "wrong_network"),
        (replace(TOKEN, networks=("198.51.100.0/24", "192.0.2.0/24")), 0, ""),
    ],
)
def test_check(token, now, expected):
    """Each way of being wrong has its own word."""
    assert reason(token, HERE, now) == expected


def test_a_bound_key_outlives_the_token_but_not_its_revocation():
    """A machine that returns with its key needs no use left; a revoked token stops at once."""
    ended = replace(TOKEN, uses=1)
    assert reason(ended, HERE, 5000, known_key=True) == ""
    assert reason(replace(ended, revoked=True), HERE, 5000, known_key=True) == "revoked_token"
    assert reason(replace(ended, networks=("::/0",)), HERE, 5000, known_key=True) == "wrong_network"


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("ipv4:192.0.2.1:5000", "192.0.2.1"),
        ("ipv6:%5B2001:db8::1%5D:5000", "2001:db8::1"),
        ("ipv6:[fe80::1%25eth0]:5000", "fe80::1"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:5000", "192.0.2.1"),
        ("unix:/run/x", None),
        ("ipv4:rubbish:1", None),
        ("", None),
    ],
)
def test_peer_address(peer, expected):
    """Addresses are read in gRPC's notation; a mapped IPv4 address is read as IPv4."""
    found = peer_address(peer)
    assert (None if found is None else str(found)) == expected


@given(st.text(max_size=60))
def test_peer_address_never_raises(peer):
    """Any text gives an address, never a mapped one, or None."""
    assert getattr(peer_address(peer), "ipv4_mapped", None) is None


def test_no_network_means_any_and_unknown_addresses_are_in_none():
    """An unknown address passes where no network is required, and is in no network."""
    assert in_networks(None, ())
    assert not in_networks(None, ("0.0.0.0/0",))
    assert not in_networks(ip_address("::1"), ("0.0.0.0/0",))


def test_ten_failures_a_minute():
    """The eleventh try waits until the oldest failure is a minute old; other addresses are not limited."""
    clock = [0.0]
    limiter = FailureLimiter(lambda: clock[0])
    for second in range(10):
        clock[0] = float(second)
        limiter.check(HERE)
        limiter.count_failure(HERE)
    with pytest.raises(EnrolmentRefused) as refused:
        limiter.check(HERE)
    assert refused.value.reason == "rate_limited"
    limiter.check(ip_address("192.0.2.10"))
    clock[0] = 60.0
    limiter.check(HERE)


def test_ipv6_is_counted_per_site():
    """A /64 counts as one address, because its holder has 2^64 of them."""
    limiter = FailureLimiter(lambda: 0.0)
    for last in range(10):
        limiter.count_failure(ip_address(f"2001:db8::{last:x}"))
    with pytest.raises(EnrolmentRefused):
        limiter.check(ip_address("2001:db8::ffff"))
    limiter.check(ip_address("2001:db8:0:1::1"))


def test_memory_is_bounded():
    """The number of remembered addresses is bounded."""
    limiter = FailureLimiter(lambda: 0.0)
    for number in range(MAX_ADDRESSES + 50):
        limiter.count_failure(ip_address(number + 1))
    assert len(limiter._failures) == MAX_ADDRESSES


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({"uses": 0}, "from 1 to 100000"),
        ({"uses": 10**9}, "from 1 to 100000"),
        ({"hours": 0}, "at most 720"),
        ({"hours": 721}, "at most 720"),
        ({"hours": float("nan")}, "at most 720"),
        ({"networks": ("192.0.2.0/33",)}, "like 192.0.2.0/24"),
        ({"networks": ("192.0.2.1/24",)}, "like 192.0.2.0/24"),
        ({"org_entity": ""}, "1 to 128 printable"),
        ({"org_entity": "a\nb"}, "1 to 128 printable"),
        ({"site": " Lyon"}, "1 to 128 printable"),
        ({"site": "x" * 129}, "1 to 128 printable"),
    ],
)
def test_orders_out_of_range_are_wrong_usage(changes, allowed):
    """An order out of range is refused in one line that says what is allowed."""
    good: dict[str, Any] = {"org_entity": "DSI", "site": "Lyon", "population": Population.SERVER}
    TokenOrder(**good)
    with pytest.raises(UsageError, match=allowed) as refused:
        TokenOrder(**(good | changes))
    assert "\n" not in str(refused.value)
