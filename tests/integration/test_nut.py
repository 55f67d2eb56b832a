# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Read a real upsd with real drivers (dummy-ups) by nut_ups: values, changes, stale data, dead processes."""

from __future__ import annotations

from functools import partial

import pytest

from tests.support.metering import context_of, in_a_hurry, secret_file
from tests.support.nut_server import NutServer
from tests.support.waiting import until
from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import PowerGauge
from veilleuse.agent.sources.nut_ups import NutUps
from veilleuse.wire.vocabulary import PointKind

DEVICES = ("real_power", "load_only", "volt_amperes", "three_phases", "epdu")


@pytest.fixture(scope="module")
def nut(tmp_path_factory):
    """Give the server with its drivers, and a UPS without a driver."""
    server = NutServer(tmp_path_factory.mktemp("nut"), *DEVICES)
    try:
        yield server
    finally:
        server.close()


def opened(nut, ups, **options):
    """Return the source, opened."""
    source = NutUps(context_of("nut_ups", nut.address, ups=ups, **{"ceiling_watts": 25_000.0, **options}))
    fresh(source.open)
    return source


def fresh(work):
    """Return the result of an open or a read once it succeeds: on a machine that stalls, a driver's data may
    be stale."""
    found = []

    def succeeds():
        try:
            found.append(work())
        except ReadFailed:
            return False
        return True

    until(succeeds, "its data stays stale")
    return found[0]


def watts(source):
    """Return the watts of a read."""
    (reading,) = fresh(source.read)
    assert isinstance(reading, PowerGauge)
    return reading.power_milliwatts / 1000


def fails(source, text):
    """Return whether a read fails with this text."""
    try:
        source.read()
    except ReadFailed as error:
        return text in str(error)
    return False


def succeeds(source):
    """Return whether a read succeeds."""
    return not fails(source, "")


@pytest.mark.parametrize(
    ("ups", "options", "expected"),
    [
        ("real_power", {}, 187.5),
        ("real_power", {"outlet": 1}, 120.5),
        ("real_power", {"side": "input"}, 205),
        ("load_only", {}, 39.6),
        ("volt_amperes", {"power_factor_percent": 90}, 1080),
        ("three_phases", {}, 6100),
        ("epdu", {}, 1510),
        ("epdu", {"outlet": 2}, 700),
    ],
)
def test_the_watts_of_a_real_server(nut, ups, options, expected):
    """The source reads the device's power to the milliwatt."""
    assert watts(opened(nut, ups, **options)) == expected


def test_the_kind_is_the_devices(nut):
    """A UPS has the kind UPS, an ePDU the kind PDU."""
    kinds = [
        fresh(NutUps(context_of("nut_ups", nut.address, ups=ups)).open)[0].kind
        for ups in ("load_only", "epdu")
    ]
    assert kinds == [PointKind.UPS, PointKind.PDU]


def test_what_the_server_does_not_have(nut):
    """A wrong name lists the right ones; a device without power or outlet is unavailable. A missing driver is
    a failed read, because it may start later."""
    with pytest.raises(SourceUnavailable, match="it has: epdu, load_only, orphan, real_power"):
        opened(nut, "rack")
    with pytest.raises(SourceUnavailable, match="reports no power"):
        opened(nut, "volt_amperes")
    with pytest.raises(SourceUnavailable, match=r"outlet\.2\.realpower"):
        opened(nut, "real_power", outlet=2)
    orphan = NutUps(context_of("nut_ups", nut.address, ups="orphan"))
    with pytest.raises(ReadFailed, match=r"DRIVER-NOT-CONNECTED.*upsdrvctl"):
        orphan.open()


def test_a_change_is_seen(nut):
    """A changed value of the device is read; a value above the ceiling is a failed read."""
    source = opened(nut, "load_only", ceiling_watts=300.0)
    nut.tell("load_only", ups__load=50)
    until(lambda: watts(source) == 165, "the change was not seen")
    nut.tell("load_only", ups__load=99)
    until(lambda: fails(source, "above its ceiling"), "326 W were read with a ceiling of 300 W")
    nut.tell("load_only", ups__load=12)
    until(partial(succeeds, source), "it did not come back")
    assert watts(source) == 39.6


def test_drivers_that_fall_silent_or_die(nut):
    """DATA-STALE and DRIVER-NOT-CONNECTED are failed reads, while others succeed; later the value returns."""
    silent, dead, other = (opened(nut, ups) for ups in ("three_phases", "epdu", "real_power"))
    nut.freeze("three_phases")
    nut.kill("epdu")
    try:
        until(lambda: fails(dead, "DRIVER-NOT-CONNECTED"), "a dead driver's value was read")
        until(lambda: fails(silent, "DATA-STALE"), "stale data was read")
        assert watts(other) == 187.5
    finally:
        nut.thaw("three_phases")
        nut.start_driver("epdu")
    for source, value in ((silent, 6100), (dead, 1510)):
        until(partial(succeeds, source), "it did not come back")
        assert watts(source) == value


def test_a_server_that_hangs_costs_the_timeout(nut):
    """A read of a stopped upsd, whose kernel still accepts connections, ends after the timeout."""
    source = opened(nut, "real_power")
    nut.freeze("upsd")
    try:
        with in_a_hurry(source), pytest.raises(ReadFailed, match=r"no answer within 0\.4 s"):
            source.read()
    finally:
        nut.thaw("upsd")
    until(partial(succeeds, source), "it did not come back")


def test_a_server_that_dies_comes_back_with_tls(nut, tmp_path):
    """A dead server is a failed read; when it returns, it is read in clear, and over TLS on request."""
    source = opened(nut, "real_power")
    with pytest.raises(SourceUnavailable, match="no TLS"):
        opened(nut, "real_power", tls=True)
    nut.kill("upsd")
    assert fails(source, "is upsd up")
    nut.secure()
    nut.start()
    until(partial(succeeds, source), "it did not come back")
    options = {
        "tls": True,
        "credentials_file": secret_file(tmp_path / "secret", "watcher:secret word\n"),
    }
    with pytest.raises(SourceUnavailable, match="not trusted"):
        opened(nut, "real_power", **options)
    assert watts(opened(nut, "real_power", tls_ca_file=str(nut.certificate), **options)) == 187.5
