# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Read a real SNMP agent (snmpsim) by snmp_meter: every profile, v2c and v3, slow, silent, dead, replaced."""

from __future__ import annotations

from functools import partial

import pytest

from tests.support.metering import HURRIED_SECONDS, context_of, in_a_hurry, secret_file
from tests.support.snmp_server import AUTHENTICATION_SECRET, PRIVACY_SECRET, USER, SnmpServer
from tests.support.waiting import until
from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import Delta, EnergyCounter, PowerGauge, difference
from veilleuse.agent.sources.snmp_meter import SnmpMeter

OUTLET_POWER = "1.3.6.1.4.1.318.1.1.26.9.4.3.1.7"
OUTLET_ENERGY = "1.3.6.1.4.1.318.1.1.26.9.4.3.1.11"
EATON_WH = "1.3.6.1.4.1.534.6.6.7.6.5.1.4.0.4"
WH = 3_600_000_000
"""1 Wh in microjoules."""


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    """Give an agent with all devices of the fixtures."""
    server = SnmpServer(tmp_path_factory.mktemp("snmp"))
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def opened(agent, tmp_path):
    """Give `opened("apc_rpdu2", outlet=1)`, which returns an opened source; the device names the profile."""
    made = []

    def make(device, credentials=None, **options):
        path = secret_file(tmp_path / "secret", credentials or device)
        options = {"profile": device, "ceiling_watts": 25_000.0} | options
        source = SnmpMeter(context_of("snmp_meter", agent.address, credentials_file=path, **options))
        made.append(source)
        source.open()
        return source

    yield make
    for source in made:
        source.close()


@pytest.fixture
def v3(tmp_path):
    """Return the options of SNMP v3, authPriv with two secrets."""
    second = secret_file(tmp_path / "privacy", PRIVACY_SECRET)
    return {
        "credentials": f"{USER}:{AUTHENTICATION_SECRET}",
        "authentication": "sha256",
        "privacy_file": second,
        "context": "apc_rpdu2",
    }


@pytest.mark.parametrize(
    ("device", "options", "watts"),
    [
        ("apc_rpdu2", {"ceiling_watts": 4_000.0}, 1_510),
        ("apc_rpdu2", {"phase": 1}, 1_510),
        ("apc_rpdu2", {"outlet": 1, "ceiling_watts": 4_000.0}, 96),
        ("apc_rpdu2", {"outlet": 2, "ceiling_watts": 4_000.0}, 0),
        ("apc_ups", {"quantity": "power"}, 812),
        ("raritan_px", {"quantity": "power"}, 1_520),
        ("raritan_px", {"quantity": "power", "outlet": 4}, 61.2),
        ("eaton_epdu", {"quantity": "power"}, 735),
        ("eaton_epdu", {"phase": 1}, 735),
        ("ups_mib", {}, 6_100),
        ("ups_mib", {"side": "input"}, 6_450),
    ],
)
def test_the_watts_of_every_profile(opened, device, options, watts):
    """The source reads the device's power, converted from the MIB's unit; a true 0 is 0."""
    (reading,) = opened(device, **options).read()
    assert isinstance(reading, PowerGauge)
    assert reading.power_milliwatts == watts * 1000


@pytest.mark.parametrize(
    ("device", "options", "watt_hours"),
    [
        ("apc_rpdu2", {"quantity": "energy"}, 4_821_300),
        ("apc_rpdu2", {"quantity": "energy", "outlet": 1}, 1_502_100),
        ("apc_ups", {}, 9_123_450),
        ("raritan_px", {}, 4_821_300),
        ("raritan_px", {"outlet": 4}, 61_234),
        ("eaton_epdu", {}, 2_345_678),
        ("eaton_epdu", {"outlet": 4}, 123_456),
    ],
)
def test_the_counters_of_every_profile(opened, device, options, watt_hours):
    """Energy is read where it is requested, or its counter is fine enough for this ceiling."""
    (reading,) = opened(device, **options).read()
    assert isinstance(reading, EnergyCounter)
    assert reading.energy_microjoules == watt_hours * WH


def test_a_counter_that_counts(agent, opened):
    """The difference of two reads is the counted energy; a counter back at 0 is a reset, never an advance."""
    source = opened("eaton_epdu", outlet=4)
    (before,) = source.read()
    agent.tell("eaton_epdu", EATON_WH, 123_457)
    until(lambda: source.read() != (before,), "the change was not seen")
    (after,) = source.read()
    assert difference(before, after, 20_000) == Delta(WH)
    agent.tell("eaton_epdu", EATON_WH, 0)
    until(lambda: source.read() != (after,), "the change was not seen")
    assert not isinstance(difference(after, source.read()[0], 20_000), Delta)


def test_a_counter_that_grows_by_itself(opened):
    """A counter of snmpsim's `numeric` never runs backwards."""
    source = opened("moving", profile="eaton_epdu", outlet=4)
    values = [source.read()[0].energy_microjoules for _ in range(20)]
    assert values == sorted(values)
    assert values[-1] > 0


def test_v3_reads_the_same(opened, v3):
    """v3 reads the same value with authPriv, SHA-256, AES-128, two secrets and a context."""
    (reading,) = opened("apc_rpdu2", outlet=1, ceiling_watts=4_000.0, **v3).read()
    assert reading.power_milliwatts == 96_000


@pytest.mark.parametrize(
    "wrong",
    [
        {"credentials": f"{USER}:not the secret"},
        {"credentials": f"nobody:{AUTHENTICATION_SECRET}"},
        {"privacy_file": ""},
        {"authentication": "sha"},
        {"privacy": "aes256"},
    ],
)
def test_wrong_secrets_of_v3_are_no_permission(opened, v3, wrong):
    """The device refuses wrong secrets at once; the error has a remedy."""
    with pytest.raises(SourceUnavailable) as caught:
        opened("apc_rpdu2", outlet=1, **(v3 | wrong))
    assert caught.value.word == "no_permission"
    assert "credentials_file" in caught.value.remedy


def test_a_wrong_community_is_silence(opened):
    """v2c cannot distinguish it from an absent device: the read ends, and names the community."""
    with pytest.raises(ReadFailed, match=r"within 0\.4 s.*community"):
        opened("not the community", profile="apc_rpdu2", timeout_seconds=HURRIED_SECONDS)


@pytest.mark.parametrize(
    ("device", "options", "why"),
    [
        ("apc_rpdu2", {"outlet": 3}, "is -1: not measured"),
        ("apc_rpdu2", {"outlet": 25}, "noSuchInstance"),
        ("apc_ups", {"profile": "raritan_px"}, "noSuchInstance"),
        ("failing", {"profile": "apc_rpdu2", "outlet": 3}, "not an integer but OctetString"),
    ],
)
def test_what_the_device_does_not_have(opened, device, options, why):
    """A missing object makes the source unavailable with the reason; it never gives 0 W."""
    with pytest.raises(SourceUnavailable, match=why) as caught:
        opened(device, **options)
    assert caught.value.word == "no_device"


def test_errors_and_absurd_values_are_gaps(agent, opened):
    """genErr and 99,999 W above the ceiling are failed reads; authorizationError means unavailable."""
    with pytest.raises(ReadFailed, match="genErr"):
        opened("failing", profile="apc_rpdu2", outlet=1)
    with pytest.raises(SourceUnavailable, match="authorizationError"):
        opened("failing", profile="apc_rpdu2", outlet=2)
    source = opened("failing", profile="apc_rpdu2", outlet=4)
    with pytest.raises(ReadFailed, match="99999 W, above"):
        source.read()
    agent.tell("failing", f"{OUTLET_POWER}.4", 75)
    until(lambda: _watts(source) == 75, "the change was not seen")


def test_a_device_that_hangs_and_goes_on(agent, opened):
    """A stopped device is a failed read; later the present value is read, not an old request's answer."""
    source = opened("apc_rpdu2", outlet=1, ceiling_watts=4_000.0)
    agent.freeze()
    with in_a_hurry(source), pytest.raises(ReadFailed):
        source.read()
    agent.thaw()
    agent.tell("apc_rpdu2", f"{OUTLET_POWER}.1", 97)
    until(lambda: _watts(source) == 97, "the change was not seen")
    agent.tell("apc_rpdu2", f"{OUTLET_POWER}.1", 96)
    until(lambda: _watts(source) == 96, "the change was not seen")


def test_a_device_that_dies_and_comes_back(agent, opened, v3):
    """A rebooted device has another engine time; v3 reads it without another open."""
    options = {"outlet": 1, "ceiling_watts": 4_000.0}
    sources = [opened("apc_rpdu2", **one) for one in (options, options | v3)]
    agent.kill()
    for source in sources:
        with in_a_hurry(source):
            assert _watts(source) is None
    agent.start()
    for source in sources:
        until(partial(_reads, source, 96), "it did not come back")


def test_a_device_that_is_replaced(agent, opened, v3):
    """A replaced device has another engine: v3 reads it after close and open, v2c at once."""
    options = {"outlet": 1, "ceiling_watts": 4_000.0}
    old, new = opened("apc_rpdu2", **options), opened("apc_rpdu2", **options, **v3)
    agent.kill()
    agent.start("80004fb8050504030201")
    until(partial(_reads, old, 96), "v2c did not read it")
    new.close()
    new.open()
    until(partial(_reads, new, 96), "v3 did not read it")


def test_a_slow_device_costs_the_timeout(agent, opened):
    """A device that has not answered after the timeout fails; one that needs 0.7 s is read with a longer
    one."""
    options = {"profile": "apc_rpdu2", "outlet": 1, "quantity": "power"}
    agent.freeze()
    try:
        with pytest.raises(ReadFailed, match=r"within 0\.4 s"):
            opened("slow", timeout_seconds=HURRIED_SECONDS, **options)
    finally:
        agent.thaw()
    assert _watts(opened("slow", **options)) == 96


def _reads(source, watts):
    return _watts(source) == watts


def _watts(source):
    try:
        (reading,) = source.read()
    except ReadFailed:
        return None
    return reading.power_milliwatts / 1000
