# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests that the network needs the token, and that errors do not contain it."""

from __future__ import annotations

import base64

import pytest

from veilleuse.collector.errors import ConfigurationError
from veilleuse.collector.settings import Http, read_settings
from veilleuse.collector.web.access import MetricsAuth, read_metrics_auth, secret_of

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def token_file(tmp_path):
    """Return a token's file as an administrator writes it, with a newline."""
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o640)
    return file


@pytest.mark.parametrize("address", ["0.0.0.0:8640", "[::]:8640", "192.0.2.1:8640", "collector.example:80"])
def test_off_loopback_needs_a_token(address, token_file):
    """Without a token the address is refused, with one it is accepted."""
    with pytest.raises(ConfigurationError, match="metrics_token_file"):
        read_metrics_auth(Http(address=address))
    assert read_metrics_auth(Http(address=address, metrics_token_file=str(token_file))).token == TOKEN


@pytest.mark.parametrize("address", ["127.0.0.1:8640", "[::1]:0", "localhost:1", "127.1.2.3:8640"])
def test_loopback_needs_none(address):
    """Only this machine can connect."""
    assert read_metrics_auth(Http(address=address)).on_loopback


@pytest.mark.parametrize(
    "address", ["", "8640", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:99999", ":8640", "h:-1", "h:٣"]
)
def test_bad_addresses(address):
    """The settings refuse a bad address in one line that says what it must be."""
    with pytest.raises(ConfigurationError, match=r"http\.address.*must be"):
        read_settings(None, {}, {"http.address": address})


@pytest.mark.parametrize("content", ["", "s3cr3t", "two words of enough length", "x" * 20 + "\u00e9"])
def test_bad_tokens(tmp_path_factory, content):
    """A token that is too short, or not one word, is refused without being repeated."""
    file = tmp_path_factory.mktemp("bad") / "file"
    file.write_text(content, encoding="utf-8")
    file.chmod(0o600)
    with pytest.raises(ConfigurationError) as caught:
        read_metrics_auth(Http(metrics_token_file=str(file)))
    assert "openssl" in str(caught.value)
    assert not content or content not in str(caught.value)


@pytest.mark.parametrize("mode", [0o666, 0o644, 0o642, 0o660])
def test_a_token_that_others_can_read_or_change_is_refused(token_file, mode):
    """Whoever reads the file reads the pages; its group may read it, for the scraper."""
    token_file.chmod(mode)
    with pytest.raises(ConfigurationError, match="chmod o=,g-w") as caught:
        read_metrics_auth(Http(metrics_token_file=str(token_file)))
    assert TOKEN not in str(caught.value)


def test_missing_token_file(tmp_path):
    """The error names the file."""
    with pytest.raises(ConfigurationError, match="nowhere"):
        read_metrics_auth(Http(metrics_token_file=str(tmp_path / "nowhere")))


def basic(password: str) -> str:
    """Return a header as browsers send it."""
    return "Basic " + base64.b64encode(f"any:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("header", "admitted"),
    [
        (None, False),
        ("", False),
        (f"Bearer {TOKEN}", True),
        (f"bearer  {TOKEN}", True),
        (f"Bearer {TOKEN}x", False),
        ("Bearer ", False),
        ("Bearer é", False),
        (TOKEN, False),
        (basic(TOKEN), True),
        (basic("wrong"), False),
        ("Basic not-base64!", False),
        ("Basic " + base64.b64encode(b"\xff\xfe:x").decode(), False),
    ],
)
def test_admission(header, admitted):
    """Bearer or Basic with the exact token is admitted."""
    given = secret_of(header)
    assert (given is not None and MetricsAuth("192.0.2.1", 80, TOKEN).opens_to(given)) is admitted


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:8640", True),
        ("localhost:8640", True),
        ("LOCALHOST", True),
        ("[::1]:8640", True),
        ("[::1]", True),
        ("evil.example", False),
        ("evil.example:8640", False),
        ("127.0.0.1.evil.example:8640", False),
        ("", False),
    ],
)
def test_loopback_answers_to_loopback_names_only(host, known):
    """A foreign page cannot read ours by pointing its own name at this machine."""
    assert MetricsAuth("127.0.0.1", 8640, None).knows_host(host) is known
    assert MetricsAuth("192.0.2.1", 8640, TOKEN).knows_host(host)
