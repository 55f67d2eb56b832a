# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test meters.toml: its valid content, and the messages for invalid content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from veilleuse.agent.errors import ConfigurationError, SourceUnavailable
from veilleuse.agent.polling.process import options_of
from veilleuse.agent.ports import MeterSpec
from veilleuse.agent.sources.meters_file import MAX_METERS, read_credentials, read_meters
from veilleuse.wire.vocabulary import POLLED_SOURCES, Boundary

OPTIONS: dict[str, dict[str, type]] = {
    "nut_ups": {"ups": str},
    "snmp_meter": {"outlet": int, "tls_verify": bool},
}


def options(source: str) -> dict[str, type] | None:
    """Return a source's options as the polling process does; None = its library is missing."""
    if source == "without_library":
        return None
    if source not in OPTIONS:
        raise ConfigurationError(f"unknown source '{source}'")
    return OPTIONS[source]


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], tuple[MeterSpec, ...]]:
    """Return a function that reads a text as a meters file."""

    def reading(text: str) -> tuple[MeterSpec, ...]:
        file = tmp_path / "meters.toml"
        file.write_text(text)
        return read_meters(file, options)

    return reading


PLAIN = '[[meter]]\nname = "ups-1"\nsource = "nut_ups"\naddress = "192.0.2.7:3493"\n'


def test_the_least_that_says_a_meter(read):
    """Name, source and address suffice: the machine's own meter, at the wall, every 20 s, below 4 kW."""
    assert read(PLAIN) == (
        MeterSpec("ups-1", "nut_ups", "192.0.2.7:3493", "machine", Boundary.WALL, 20, 5.0, 4_000.0, "", {}),
    )


def test_everything_said(read, tmp_path):
    """A shared meter's subject is `meter:<name>`; options reach the source unchanged."""
    secret = tmp_path / "secret"
    secret.write_text("monitor:s3cret\n")
    secret.chmod(0o640)
    text = f"""
    [[meter]]
    name = "rack-a"
    source = "snmp_meter"
    address = "pdu.example:161"
    shared = true
    boundary = "machine_dc"
    every_seconds = 30
    timeout_seconds = 2
    ceiling_watts = 7360
    credentials_file = "{secret}"
    outlet = 7
    tls_verify = false
    {PLAIN}"""
    rack, ups = read(text)
    assert rack == MeterSpec(
        "rack-a", "snmp_meter", "pdu.example:161", "meter:rack-a", Boundary.MACHINE_DC, 30, 2.0, 7_360.0, str(secret),
        {"outlet": 7, "tls_verify": False},
    )  # fmt: skip
    assert ups.meter == "ups-1"
    shared = read(PLAIN + "shared = true\n")[0]
    assert shared.ceiling_watts == 25_000.0


def test_no_file_is_no_meters(tmp_path):
    """A machine without the file has no meters."""
    assert read_meters(tmp_path / "nowhere.toml", options) == ()


def test_an_empty_file_is_no_meters(read):
    """A file of comments has no meters."""
    assert read("# [[meter]]\n") == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[meter]", r"is not TOML: .*poll --once"),
        ("[[meters]]\nname = 'a'", r"unknown key 'meters' .*\[\[meter\]\]"),
        ("[meter]\nname = 'a'", r"not a list of tables"),
        ("meter = 3", r"not a list of tables"),
        ("[[meter]]\nname = 'a'", r"\[\[meter\]\] 1 \('a'\) of .*has no source; add source"),
        ("[[meter]]\nsource = 'nut_ups'", r"\[\[meter\]\] 1 of .*has no name; add name"),
        (PLAIN.replace("nut_ups", "nut"), r"\[\[meter\]\] 1 \('ups-1'\) of .*: unknown source 'nut'"),
        (PLAIN + "adress = 'x'", r"unknown key 'adress' in \[\[meter\]\] 1 .*nearest known one is 'address'"),
        (PLAIN + "usp = 'x'", r"nearest known one is 'ups'"),
        (PLAIN + "zzzzz = 'x'", r"unknown key 'zzzzz' .*nut_ups knows name, source"),
        (PLAIN + "outlet = 3", r"unknown key 'outlet'"),
        (PLAIN + "ups = 3", r"ups = 3 .*: ups is a text"),
        (PLAIN + "shared = 'yes'", r"shared = 'yes' .*is true or false"),
        (PLAIN + "boundary = 'rack'", r"boundary is one of wall, machine_dc, component"),
        (PLAIN + "every_seconds = 5", r"every_seconds is 10 to 60"),
        (PLAIN + "every_seconds = 300", r"every_seconds is 10 to 60"),
        (PLAIN + "every_seconds = 20.5", r"every_seconds is a whole number"),
        (PLAIN + "every_seconds = true", r"every_seconds is a whole number"),
        (PLAIN + "timeout_seconds = 11", r"at most half of every_seconds \(20\)"),
        (PLAIN + "timeout_seconds = nan", r"timeout_seconds is 0\.1 to 30"),
        (PLAIN + "ceiling_watts = 0", r"ceiling_watts is 1 to"),
        (PLAIN + "ceiling_watts = inf", r"ceiling_watts is 1 to"),
        (PLAIN + "credentials_file = 'secret'", r"credentials_file is an absolute path"),
        (PLAIN.replace("ups-1", "rack/a"), r"name is 1 to 40 letters"),
        (PLAIN.replace("ups-1", "a" * 41), r"name is 1 to 40 letters"),
        (PLAIN + PLAIN, r"2 meters named 'ups-1'; give each a name of its own"),
        (PLAIN * (MAX_METERS + 1), rf"{MAX_METERS + 1} meters, at most {MAX_METERS}"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_remedy(read, text, said):
    """The message is one line with file, table, key and remedy."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        read(text)
    assert "meters.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_source_without_its_library_does_not_stop_the_others(read):
    """Options of a source without its library are accepted unchecked, so that other meters work."""
    first, second = read("[[meter]]\nname = 'a'\nsource = 'without_library'\noid = 'x'\n" + PLAIN)
    assert first.options == {"oid": "x"}
    assert second.meter == "ups-1"
    with pytest.raises(ConfigurationError, match="oid is a text"):
        read("[[meter]]\nname = 'a'\nsource = 'without_library'\noid = ['x']\n")


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o601])
def test_a_secret_that_everybody_can_read_is_refused(read, tmp_path, mode):
    """The secret is refused when the file is read and when the meter is opened, and is never shown."""
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    secret.chmod(mode)
    with pytest.raises(ConfigurationError, match=rf"mode 0{mode:o}: everybody.*chmod o-rwx") as said:
        read(PLAIN + f"credentials_file = '{secret}'\n")
    with pytest.raises(SourceUnavailable, match="everybody") as caught:
        read_credentials(str(secret))
    assert caught.value.word == "no_permission"
    assert "s3cret" not in f"{said.value}{caught.value}"


@pytest.mark.parametrize(
    ("content", "credentials"),
    [
        ("monitor:s3cret\n", ("monitor", "s3cret")),
        ("monitor:s3:cret", ("monitor", "s3:cret")),
        ("public", ("", "public")),
        (":a:b\nsecond line", ("", "a:b")),
        ("reader:é\r\n", ("reader", "é")),
    ],
)
def test_credentials(tmp_path, content, credentials):
    """The first line is `name:secret` or only a secret; spaces belong to it."""
    secret = tmp_path / "secret"
    secret.write_bytes(content.encode())
    secret.chmod(0o600)
    assert read_credentials(str(secret)) == credentials


@pytest.mark.parametrize("content", [b"", b"\n", b"name:", b"\xff\xfe"])
def test_no_credentials(tmp_path, content):
    """Empty or binary credentials give a remedy."""
    secret = tmp_path / "secret"
    secret.write_bytes(content)
    secret.chmod(0o600)
    with pytest.raises(SourceUnavailable) as caught:
        read_credentials(str(secret))
    assert caught.value.remedy


def test_credentials_that_are_not_there(read, tmp_path):
    """Missing credentials do not invalidate the meters file; the meter itself is unavailable."""
    missing = tmp_path / "missing"
    assert read(PLAIN + f"credentials_file = '{missing}'\n")[0].credentials_file == str(missing)
    with pytest.raises(SourceUnavailable, match="No such file"):
        read_credentials(str(missing))


@pytest.mark.parametrize("source", sorted(POLLED_SOURCES))
def test_every_source_tells_its_keys(source):
    """Each polled source's options are texts, whole numbers or booleans, with no common key."""
    told = options_of(source) or {}  # None if its library is not installed
    assert set(told.values()) <= {str, int, bool}
    assert not set(told) & {"name", "source", "address", "shared", "boundary", "every_seconds"}


def test_an_unknown_source_has_a_nearest_one():
    """The message gives the nearest known source."""
    with pytest.raises(ConfigurationError, match="unknown source 'shelly' in the meters file; the nearest"):
        options_of("shelly")
