# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test nut_ups against a fake upsd with false, slow and missing answers. For a real one:
tests/integration/test_nut.py."""

from __future__ import annotations

import ssl
import subprocess
from itertools import cycle, repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes.upsd import SILENCE, fake_upsd
from tests.support.metering import HURRIED_SECONDS, context_of, in_a_hurry, secret_file
from tests.support.peers import peer
from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import Point, PowerGauge
from veilleuse.agent.sources.nut_ups import NutUps, quote_word, words_of
from veilleuse.wire.vocabulary import Boundary, PointKind

WATTS = {"ups.realpower": "187.5", "ups.status": "OL"}


@pytest.fixture
def upsd():
    """Run a fake upsd that gives 187.5 W."""
    with fake_upsd(dict(WATTS)) as fake:
        yield fake


def source(fake, **changes):
    """Return the source for that server."""
    return NutUps(context_of("nut_ups", fake.address, **changes))


def watts(fake, **changes):
    """Return the power that an opened source reads, in W."""
    one = source(fake, **changes)
    (point,) = one.open()
    (reading,) = one.read()
    assert isinstance(reading, PowerGauge)
    assert reading.point == point
    return reading.power_milliwatts / 1000


# ------------------------------------------------------------------------------------------- which variables


@pytest.mark.parametrize(
    ("variables", "options", "expected"),
    [
        ({"ups.realpower": "187.5", "output.realpower": "1", "ups.load": "99"}, {}, 187.5),
        ({"ups.realpower": "0042"}, {}, 42),
        ({"output.realpower": "1200.25", "ups.load": "30", "ups.realpower.nominal": "9"}, {}, 1200.25),
        ({f"output.L{n}.realpower": str(100 * n) for n in (1, 2, 3)}, {}, 600),
        ({"ups.load": "23.4", "ups.realpower.nominal": "800"}, {}, 187.2),
        ({"ups.load": "10", "ups.realpower.nominal": "800", "ups.power.nominal": "1000"}, {}, 80),
        ({"ups.load": "50", "ups.power.nominal": "1000"}, {"power_factor_percent": 90}, 450),
        ({"ups.load": "0", "ups.realpower.nominal": "800"}, {}, 0),
        ({"ups.realpower": "500", "outlet.2.realpower": "28"}, {"outlet": 2}, 28),
        ({"ups.realpower": "500", "outlet.realpower": "400"}, {"outlet": 0}, 400),
        ({"ups.realpower": "500", "input.realpower": "550"}, {"side": "input"}, 550),
        ({"device.type": "pdu", "input.realpower": "900", "outlet.1.realpower": "3"}, {}, 900),
    ],
)
def test_the_watts_come_from_the_best_variable(variables, options, expected):
    """The order is real power, phases, percentage of watts, then of volt-amperes; an outlet only if named."""
    with fake_upsd(variables) as fake:
        assert watts(fake, **options) == expected


@pytest.mark.parametrize(
    ("variables", "options", "remedy"),
    [
        ({}, {}, "upsc"),
        ({"ups.load": "20"}, {}, "upsc"),
        ({"ups.load": "20", "ups.power.nominal": "1000"}, {}, "power_factor_percent"),
        ({"output.L1.realpower": "5", "output.L3.realpower": "5"}, {}, "upsc"),
        ({"ups.realpower": "5"}, {"outlet": 1}, "upsc"),
        ({"ups.realpower": "5"}, {"side": "input"}, "upsc"),
        ({"ups.realpower": "5"}, {"side": "top"}, "correct side"),
        ({"ups.realpower": "5"}, {"power_factor_percent": 0}, "correct power_factor_percent"),
    ],
)
def test_no_watts_is_said_with_the_remedy(variables, options, remedy):
    """Volt-amperes are not taken for watts, nor two phases for three: unavailable with a remedy."""
    with fake_upsd(variables) as fake, pytest.raises(SourceUnavailable) as caught:
        source(fake, **options).open()
    assert caught.value.word == "no_device"
    assert remedy in caught.value.remedy


def test_the_point_is_the_meters(upsd):
    """Name, boundary and subject come from the meters file; the kind is ups, or pdu for an ePDU."""
    one = source(upsd, subject="meter:rack-a", boundary=Boundary.MACHINE_DC)
    assert one.open() == (Point(PointKind.UPS, "rack-a", Boundary.MACHINE_DC, "meter:rack-a"),)
    upsd.variables |= {"device.type": "pdu"}
    assert one.open()[0].kind is PointKind.PDU


# ------------------------------------------------------------------------------------------------ the server


def test_the_only_ups_needs_no_name(upsd):
    """Without the option `ups` the only UPS is read; a wrong name gives the list of names."""
    assert watts(upsd) == 187.5
    with pytest.raises(SourceUnavailable, match=r"no UPS named tower \(it has: rack\)"):
        source(upsd, ups="tower").open()


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("DATA-STALE", "cable"),
        ("DRIVER-NOT-CONNECTED", "upsdrvctl"),
        ("VAR-NOT-SUPPORTED", "upsc"),
        ("UNKNOWN-UPS", "upsc -l"),
        ("ACCESS-DENIED", "log"),
        ("", "log"),
    ],
)
def test_every_refusal_of_a_read_is_a_gap_with_a_remedy(upsd, word, remedy):
    """Each ERR raises ReadFailed with its remedy, and the next read works."""
    one = source(upsd)
    one.open()
    upsd.says(f"ERR {word}\n".encode())()
    with pytest.raises(ReadFailed, match=remedy):
        one.read()
    upsd.listen()
    assert one.read()


@pytest.mark.parametrize("word", ["ACCESS-DENIED", "USERNAME-REQUIRED", "INVALID-PASSWORD"])
def test_access_denied_is_no_permission(upsd, word):
    """A lack of permission is unavailable; a passing error is a failed read."""
    upsd.answer = lambda _: [f"ERR {word}\n".encode()]
    with pytest.raises(SourceUnavailable) as caught:
        source(upsd).open()
    assert caught.value.word == "no_permission"
    upsd.answer = lambda _: [b"ERR DATA-STALE\n"]
    with pytest.raises(ReadFailed, match="DATA-STALE"):
        source(upsd).open()


def test_a_driver_that_has_told_nothing_yet(upsd):
    """While upsd says WAIT for a new driver, opening fails, so that no worse variable is chosen for good."""
    upsd.variables = {"ups.status": "WAIT", "ups.load": "20", "ups.realpower.nominal": "800"}
    one = source(upsd)
    with pytest.raises(ReadFailed, match="no values yet"):
        one.open()
    upsd.variables |= {"ups.status": "OL", "ups.realpower": "187.5"}
    one.open()
    assert one.read()[0].power_milliwatts == 187_500


LIES = {
    "negative": b'VAR rack ups.realpower "-5"\n',
    "nan": b'VAR rack ups.realpower "NaN"\n',
    "exponent": b'VAR rack ups.realpower "1e9"\n',
    "infinite": b'VAR rack ups.realpower "inf"\n',
    "comma": b'VAR rack ups.realpower "187,5"\n',
    "text": b'VAR rack ups.realpower "a lot"\n',
    "other digits": 'VAR rack ups.realpower "١٨٧"\n'.encode(),
    "empty": b'VAR rack ups.realpower ""\n',
    "no value": b"VAR rack ups.realpower\n",
    "above the ceiling": b'VAR rack ups.realpower "4000.001"\n',
    "65535 W": b'VAR rack ups.realpower "65535"\n',
    "another variable": b'VAR rack ups.load "12"\n',
    "another ups": b'VAR tower ups.realpower "12"\n',
    "two values": b'VAR rack ups.realpower "12" "13"\n',
    "empty line": b"\n",
    "not text": b"\xff\xfe\x00\x01\n",
    "10 MB in a line": b'VAR rack ups.realpower "' + b"1" * 10_000_000 + b'"\n',
    "a long line in one piece": b"VAR rack ups.realpower " + b" " * 3_000 + b'"12"\n',
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_server_gives_gaps(upsd, lie):
    """Anything but a number from 0 to the ceiling for the requested variable raises ReadFailed."""
    one = source(upsd)
    one.open()
    upsd.says(LIES[lie])()
    with pytest.raises(ReadFailed, match="rack-a"):
        one.read()


@pytest.mark.parametrize("load", ["201", "65535", "-1", "nan"])
def test_an_absurd_load_is_a_gap(load):
    """Drivers write percentages beyond 200 for an unknown load: ReadFailed."""
    with fake_upsd({"ups.load": load, "ups.realpower.nominal": "100"}) as fake, pytest.raises(ReadFailed):
        watts(fake)


@pytest.mark.parametrize(
    "answer",
    [
        [b"BEGIN LIST UPS\n", *repeat(b'UPS rack "x"\n', 5_000)],
        [b"BEGIN LIST UPS\nVAR rack a b\nEND LIST UPS\n"],
        [b"OK\n"],
        [b"BEGIN LIST VAR rack\n"],
        [b"BEGIN LIST UPS\nUPS rack"],
    ],
    ids=["endless", "other rows", "no list", "another list", "cut short"],
)
def test_a_list_that_is_none_is_a_failure(upsd, answer):
    """A list without an end, with too many rows, or with rows of another kind raises ReadFailed."""
    upsd.answer = lambda _: answer
    with pytest.raises(ReadFailed):
        source(upsd, timeout_seconds=HURRIED_SECONDS).open()


@pytest.mark.parametrize("how", ["hang", "dribble", "stop in the middle"])
def test_a_slow_server_costs_no_more_than_the_timeout(upsd, how):
    """The timeout holds for the whole read, however the bytes arrive."""
    one = source(upsd)
    one.open()
    upsd.answer = {
        "hang": lambda _: SILENCE,
        "dribble": lambda _: cycle([b"", b" "]),
        "stop in the middle": lambda line: (
            [b"VAR rack ups.rea", *upsd.reply("again")] if line != "again" else SILENCE
        ),
    }[how]
    with in_a_hurry(one), pytest.raises(ReadFailed, match=r"within 0\.4 s"):
        one.read()
    upsd.listen()
    assert one.read()


def test_a_server_that_goes_and_comes_back(upsd):
    """A refused connection raises ReadFailed with the address; later reads work without another open."""
    one = source(upsd)
    one.open()
    upsd.refuse()
    with pytest.raises(ReadFailed, match=r"rack-a \(127\.0\.0\.1:\d+\): .*LISTEN"):
        one.read()
    upsd.listen()
    assert one.read()


@pytest.mark.parametrize("address", ["", "127.0.0.1:port", "127.0.0.1:99999", "nowhere.invalid:3493"])
def test_an_address_that_is_none(address):
    """An invalid address is unavailable or a failed read."""
    with pytest.raises((SourceUnavailable, ReadFailed)):
        NutUps(context_of("nut_ups", address)).open()


def test_a_read_before_open_is_a_failure(upsd):
    """A source that is not open raises ReadFailed; `close` may be called at any time and twice."""
    one = source(upsd)
    one.close()
    with pytest.raises(ReadFailed):
        one.read()
    one.open()
    one.close()
    one.close()


# ------------------------------------------------------------------------------------- words and secrets


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=40))
def test_any_word_survives_quoting(word):
    """A quoted word is read back as one word, unchanged."""
    assert words_of(f"GET {quote_word(word)} x") == ["GET", word, "x"]


@pytest.mark.parametrize("word", ["rack\nFSD rack", "a\x00", "a\rb"])
def test_a_word_cannot_be_a_second_command(word):
    """A word with a line break is refused: it could hold the command FSD, which shuts machines down."""
    with pytest.raises(ValueError, match="control character"):
        quote_word(word)


def test_credentials_are_said_when_they_are_given(upsd, tmp_path):
    """Credentials are sent as USERNAME and PASSWORD, without LOGIN."""
    path = secret_file(tmp_path / "secret", 'watcher:pass "word\\\n')
    assert watts(upsd, credentials_file=path) == 187.5
    assert upsd.heard[:2] == ["USERNAME watcher", 'PASSWORD "pass \\"word\\\\"']
    assert not any(line.startswith("LOGIN") for line in upsd.heard)


def test_a_password_does_not_cross_a_network_in_clear(tmp_path):
    """Without TLS, credentials are sent only to this machine."""
    path = secret_file(tmp_path / "secret", "watcher:pass")
    with pytest.raises(SourceUnavailable, match="in clear") as caught:
        NutUps(context_of("nut_ups", "192.0.2.1:3493", credentials_file=path)).open()
    assert caught.value.word == "no_permission"
    assert "tls" in caught.value.remedy


def test_credentials_that_went_away_are_a_failed_read(upsd, tmp_path):
    """Deleted credentials raise ReadFailed at the next read."""
    path = secret_file(tmp_path / "secret", "watcher:pass")
    one = source(upsd, credentials_file=path)
    one.open()
    (tmp_path / "secret").unlink()
    with pytest.raises(ReadFailed, match="credentials_file"):
        one.read()


# ------------------------------------------------------------------------------------------------------ TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return the path of a PEM file with a self-signed certificate for 127.0.0.1 and its key."""
    folder = tmp_path_factory.mktemp("tls")
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=upsd -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        [peer("openssl"), *words.split(), "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True,
        capture_output=True,
    )
    both = folder / "both.pem"
    both.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return both


@pytest.fixture
def secured(upsd, certificate):
    """Return a fake upsd with TLS."""
    upsd.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    upsd.tls.load_cert_chain(certificate)
    return upsd


def test_tls_is_spoken_with_a_trusted_server(secured, certificate, tmp_path):
    """STARTTLS comes first, before the credentials."""
    path = secret_file(tmp_path / "secret", "watcher:pass")
    options = {"tls": True, "tls_ca_file": str(certificate), "credentials_file": path}
    assert watts(secured, **options) == 187.5
    assert secured.heard[:2] == ["STARTTLS", "USERNAME watcher"]


def test_a_server_that_is_not_trusted_hears_nothing(secured):
    """An untrusted server gets only STARTTLS: unavailable with a remedy, unless tls_verify = false."""
    with pytest.raises(SourceUnavailable, match="not trusted") as caught:
        source(secured, tls=True).open()
    assert caught.value.word == "no_permission"
    assert set(secured.heard) == {"STARTTLS"}
    assert watts(secured, tls=True, tls_verify=False) == 187.5


def test_a_server_without_tls_is_not_spoken_to_in_clear(upsd):
    """With tls = true, a server without TLS gets only STARTTLS."""
    with pytest.raises(SourceUnavailable, match="no TLS"):
        source(upsd, tls=True).open()
    upsd.answer = lambda _: [b"OK STARTTLS\nBEGIN LIST UPS\n"]
    with pytest.raises(ReadFailed, match="more than an OK"):
        source(upsd, tls=True).open()
    assert set(upsd.heard) == {"STARTTLS"}


def test_a_ca_file_that_is_none_is_said(upsd, tmp_path):
    """A missing CA file and one that is not PEM are unavailable."""
    (tmp_path / "text").write_text("not PEM")
    for name in ("absent", "text"):
        with pytest.raises(SourceUnavailable, match="cannot be read"):
            source(upsd, tls=True, tls_ca_file=str(tmp_path / name)).open()
