# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test values that people write: host:port, URLs, days."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veilleuse.wire.values import (
    check_addresses,
    check_reachable,
    is_host_name,
    parse_day,
    parse_proxy,
    parse_url,
    split_address,
    split_addresses,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8641", ("127.0.0.1", 8641)),
        ("localhost:0", ("localhost", 0)),
        ("collector.example.org.:65535", ("collector.example.org.", 65535)),
        ("[::1]:8641", ("::1", 8641)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
        ("0.0.0.0:8641", ("0.0.0.0", 8641)),
    ],
)
def test_addresses(text, expected):
    """Names, IPv4 and bracketed IPv6 addresses are split."""
    assert split_address(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "foo", ":8641", "::1", "::1:8641", "[::1:8641", "::1]:8641", "[x]:1", "[127.0.0.1]:1", "a b:1", "a:", "a:-1",
        "a:65536", "a:99999999999", "a:http", "a:١", "unix:/run/x:1", "dns:///a:1", "a/b:1", "é.fr:1", "a..b:1", "-a:1",
        "*:1", "a" * 64 + ":1", "a:1\n",
    ],
)  # fmt: skip
def test_what_is_no_address(text):
    """Other texts are refused: gRPC would take some for another port, another host, or a file."""
    with pytest.raises(ValueError, match=r"must be|not an IPv6 address"):
        split_address(text)


@pytest.mark.parametrize("text", ["a:0", "0.0.0.0:1", "[::]:1", "a"])
def test_what_nobody_can_connect_to(text):
    """Port 0 and wildcard addresses are only for listening."""
    with pytest.raises(ValueError, match="must be"):
        check_reachable(text)
    check_reachable("collector.example.org:8641")


def test_several_addresses():
    """They are separated by commas, each one is checked, and there are four at most."""
    check_addresses(" a:1,[::1]:2 , c:3")
    assert split_addresses(" a:1,[::1]:2 , c:3") == ["a:1", "[::1]:2", "c:3"]
    for text in ("", ",", "a:1,a:2,a:3,a:4,a:5", "a:1;b:2", "a:1,0.0.0.0:2", "a:1 b:2"):
        with pytest.raises(ValueError, match="must be"):
            check_addresses(text)


@given(st.text(max_size=80))
def test_nothing_but_a_value_error(text):
    """Any text gives an address or ValueError."""
    try:
        host, port = split_address(text)
    except ValueError:
        return
    assert 0 <= port <= 65535
    assert is_host_name(host) or ":" in host


@pytest.mark.parametrize(
    "text",
    [
        "", "0000-00-00", "2026-02-30", "2026-13-01", "20260131", "2026-W05-6", "2026-1-31", "2026-01-31 ", "2026-01-31T00:00",
        "٢٠٢٦-٠١-٣١", "２０２６-01-31", "२०२६-01-31", "²026-01-31", "0001-01-01", "1979-12-31", "3000-01-01", "-026-01-01",
    ],
)  # fmt: skip
def test_what_is_no_day(text):
    """Only YYYY-MM-DD in ASCII digits is a day, of a year that can be meant."""
    with pytest.raises(ValueError, match=r"2026-01-31|1980 to 2999"):
        parse_day(text)
    assert parse_day("2026-01-31").isoformat() == "2026-01-31"


@given(st.text(max_size=12))
def test_a_day_is_what_was_written(text):
    """Any text is refused, or is the day that it spells."""
    with suppress(ValueError):
        assert parse_day(text).isoformat() == text


@pytest.mark.parametrize(
    "text",
    [
        "javascript:x", "ftp://127.0.0.1", "https://", "https://a b", "https://a/\r\nX: y", "https://a/<b>", "https://é.fr",
        "https://a..b", "https://user:secret@a", "https://a?x", "https://a#x", "https://a:0", "https://a:٨", "//a", "http://a",
        "https://[::zz]",
    ],
)  # fmt: skip
def test_what_is_no_url(text):
    """Another scheme, another host, a user, a query, a line break: none of it reaches the network."""
    with pytest.raises(ValueError, match=r"https|neither a user") as caught:
        parse_url(text)
    assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match=r"http://proxy.example.org:3128$|neither a user"):
        parse_proxy(text if text != "http://a" else "https://a")
