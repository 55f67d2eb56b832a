# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test snmp_meter against a fake agent with false and invalid answers. For a real one:
tests/integration/test_snmp.py."""

from __future__ import annotations

import sys

import pytest

from tests.support.fakes.snmp_agent import fake_agent
from tests.support.metering import context_of, in_a_hurry, secret_file
from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import Delta, EnergyCounter, Point, PowerGauge, difference
from veilleuse.agent.sources.snmp_meter import SnmpMeter
from veilleuse.agent.sources.snmp_profiles import PROFILES
from veilleuse.wire.vocabulary import Boundary, PointKind

WH = 3_600_000_000
"""Microjoules per Wh."""
APC_OUTLET_POWER = "1.3.6.1.4.1.318.1.1.26.9.4.3.1.7"
APC_OUTLET_ENERGY = "1.3.6.1.4.1.318.1.1.26.9.4.3.1.11"
APC_DEVICE_POWER = "1.3.6.1.4.1.318.1.1.26.4.3.1.5"
APC_DEVICE_ENERGY = "1.3.6.1.4.1.318.1.1.26.4.3.1.9"
APC_PHASE_POWER = "1.3.6.1.4.1.318.1.1.26.6.3.1.7"
APC_UPS_POWER = "1.3.6.1.4.1.318.1.1.1.4.2.8.0"
APC_UPS_ENERGY = "1.3.6.1.4.1.318.1.1.1.4.3.6.0"
EATON_OUTLET_WATTS = "1.3.6.1.4.1.534.6.6.7.6.5.1.3"
EATON_OUTLET_WH = "1.3.6.1.4.1.534.6.6.7.6.5.1.4"
EATON_TOTAL_WH = "1.3.6.1.4.1.534.6.6.7.3.5.1.5"
EATON_INPUT_WATTS = "1.3.6.1.4.1.534.6.6.7.3.4.1.4"
RARITAN = "1.3.6.1.4.1.13742.6"
UPS_OUTPUT_POWER = "1.3.6.1.2.1.33.1.4.4.1.4"
UPS_OUTPUT_LINES = "1.3.6.1.2.1.33.1.4.3.0"
UPS_INPUT_POWER = "1.3.6.1.2.1.33.1.3.3.1.5"
UPS_INPUT_LINES = "1.3.6.1.2.1.33.1.3.2.0"
GENERIC = "1.3.6.1.4.1.99999.1.1.0"


def raritan(place, index, sensor, value, digits, unit):
    """Return the three objects of a sensor: value, decimal digits, unit."""
    values, settings = {"inlet": ("5.2.3.1.4", "3.3.4.1"), "outlet": ("5.4.3.1.4", "3.5.4.1")}[place]
    return {
        f"{RARITAN}.{values}.{index}.{sensor}": ("Unsigned32", value),
        f"{RARITAN}.{settings}.7.{index}.{sensor}": ("Unsigned32", digits),
        f"{RARITAN}.{settings}.6.{index}.{sensor}": unit,
    }


def reading(values, **options):
    """Return the reading of an opened source from an agent with these values."""
    with fake_agent(values) as agent:
        source = SnmpMeter(context_of("snmp_meter", agent.address, **options))
        try:
            (point,) = source.open()
            (one,) = source.read()
        finally:
            source.close()
    assert isinstance(one, (EnergyCounter, PowerGauge))
    assert one.point == point
    return one


@pytest.mark.parametrize(
    ("values", "options", "watts"),
    [
        ({f"{APC_OUTLET_POWER}.7": 96}, {"profile": "apc_rpdu2", "outlet": 7}, 96),
        ({f"{APC_DEVICE_POWER}.1": 42}, {"profile": "apc_rpdu2"}, 420),
        ({f"{APC_DEVICE_POWER}.2": 42}, {"profile": "apc_rpdu2", "pdu": 2}, 420),
        ({f"{APC_PHASE_POWER}.3": 11}, {"profile": "apc_rpdu2", "phase": 3}, 110),
        ({APC_UPS_POWER: 812}, {"profile": "apc_ups"}, 812),
        ({f"{EATON_OUTLET_WATTS}.0.4": 35}, {"profile": "eaton_epdu", "outlet": 4}, 35),
        ({f"{EATON_INPUT_WATTS}.0.1.2": 735}, {"profile": "eaton_epdu", "phase": 2}, 735),
        (raritan("outlet", "1.5", 5, 61, 0, 3), {"profile": "raritan_px", "outlet": 5}, 61),
        (raritan("inlet", "1.1", 5, 15_234, 1, 3), {"profile": "raritan_px"}, 1523.4),
        ({UPS_OUTPUT_LINES: 1, f"{UPS_OUTPUT_POWER}.1": 640}, {"profile": "ups_mib"}, 640),
        (
            {UPS_OUTPUT_LINES: 3, **{f"{UPS_OUTPUT_POWER}.{n}": 1_000 + n for n in (1, 2, 3)}},
            {"profile": "ups_mib"},
            3_006,
        ),
        ({UPS_INPUT_LINES: 1, f"{UPS_INPUT_POWER}.1": 700}, {"profile": "ups_mib", "side": "input"}, 700),
        ({GENERIC: ("Gauge32", 1234)}, {"profile": "generic", "oid": GENERIC, "unit": "W", "scale": "0.1"}, 123.4),
        (
            {GENERIC: 200, f"{GENERIC}.1": 300},
            {"profile": "generic", "oid": f".{GENERIC}, {GENERIC}.1", "unit": "mW"},
            0.5,
        ),
    ],
)  # fmt: skip
def test_power_in_the_unit_of_the_mib(values, options, watts):
    """Power follows the MIB's unit, to the mW; lines and OIDs that belong together add up."""
    one = reading(values, **options)
    assert isinstance(one, PowerGauge)
    assert one.power_milliwatts == round(watts * 1000)


@pytest.mark.parametrize(
    ("values", "options", "watt_hours"),
    [
        ({f"{EATON_OUTLET_WH}.0.4": ("Unsigned32", 123)}, {"profile": "eaton_epdu", "outlet": 4}, 123),
        ({f"{EATON_TOTAL_WH}.0.1": ("Unsigned32", 9)}, {"profile": "eaton_epdu"}, 9),
        (raritan("outlet", "1.5", 8, 61_000, 0, 5), {"profile": "raritan_px", "outlet": 5}, 61_000),
        (raritan("inlet", "2.1", 8, 123, 2, 5), {"profile": "raritan_px", "pdu": 2}, 1.23),
        ({f"{APC_OUTLET_ENERGY}.7": 15}, {"profile": "apc_rpdu2", "outlet": 7}, 1_500),
        ({f"{APC_DEVICE_ENERGY}.1": 15}, {"profile": "apc_rpdu2"}, 1_500),
        ({APC_UPS_ENERGY: ("Unsigned32", 3)}, {"profile": "apc_ups"}, 30),
        (
            {GENERIC: ("Counter64", 5 * 10**9)},
            {"profile": "generic", "oid": GENERIC, "unit": "mJ"},
            5e6 / 3600,
        ),
        ({GENERIC: ("Counter32", 5)}, {"profile": "generic", "oid": GENERIC, "unit": "kWh"}, 5_000),
    ],
)
def test_energy_in_the_unit_of_the_mib(values, options, watt_hours):
    """Counters follow the MIB's unit, in µJ."""
    one = reading(values, **options)
    assert isinstance(one, EnergyCounter)
    assert one.energy_microjoules == int(watt_hours * WH)
    assert one.range_microjoules is None


def test_every_object_of_the_table_lies_in_its_makers_tree():
    """Each OID of the table is below its maker's or RFC 1628's arc and occurs once."""
    arcs = {
        "apc_rpdu2": "1.3.6.1.4.1.318.1.1.26.",
        "apc_ups": "1.3.6.1.4.1.318.1.1.1.",
        "raritan_px": "1.3.6.1.4.1.13742.6.",
        "eaton_epdu": "1.3.6.1.4.1.534.6.6.7.",
        "ups_mib": "1.3.6.1.2.1.33.1.",
    }
    assert arcs.keys() == PROFILES.keys()
    everything = [
        oid.format(pdu=1, inlet=1, phase=1, outlet=1)
        for profile, places in PROFILES.items()
        for place in places.values()
        for objects in (place.power, place.energy)
        if objects is not None
        for oid in objects.oids
        if oid.startswith(arcs[profile])
    ]
    assert len(everything) == len(set(everything)) == 23


# ------------------------------------------------------------------------------------ counter or gauge

BOTH = {f"{APC_OUTLET_POWER}.7": 96, f"{APC_OUTLET_ENERGY}.7": 1_234}
FINE = {f"{EATON_OUTLET_WATTS}.0.4": 35, f"{EATON_OUTLET_WH}.0.4": ("Unsigned32", 123)}
EATON = {"profile": "eaton_epdu", "outlet": 4}
APC = {"profile": "apc_rpdu2", "outlet": 7}


@pytest.mark.parametrize(
    ("values", "options", "kind"),
    [
        (FINE, EATON, EnergyCounter),
        (FINE, EATON | {"quantity": "power"}, PowerGauge),
        (BOTH, APC, PowerGauge),
        (BOTH, APC | {"quantity": "energy"}, EnergyCounter),
        (BOTH, APC | {"ceiling_watts": 40_000.0}, EnergyCounter),
        ({f"{APC_OUTLET_ENERGY}.7": 1_234}, APC, EnergyCounter),
        (BOTH | {f"{APC_OUTLET_ENERGY}.7": -1}, APC, PowerGauge),
        (BOTH | {f"{APC_OUTLET_POWER}.7": -1}, APC, EnergyCounter),
    ],
)
def test_a_counter_where_it_is_fine_enough(values, options, kind):
    """1 Wh is read as a counter; 0.1 kWh, an hour at 100 W, only if requested or nothing else exists."""
    assert isinstance(reading(values, **options), kind)


def test_a_step_of_a_coarse_counter_is_no_jump():
    """One step of 0.1 kWh within 20 or 10 s is an advance; three steps within 10 s are a jump."""
    options = APC | {"quantity": "energy", "ceiling_watts": 1_000.0}
    before, after, jump = (
        reading({f"{APC_OUTLET_ENERGY}.7": count}, **options) for count in (1_234, 1_235, 1_237)
    )
    assert difference(before, after, 20_000) == Delta(100 * WH)
    assert difference(before, after, 10_000) == Delta(100 * WH)
    assert not isinstance(difference(before, jump, 10_000), Delta)


def test_a_counter_that_goes_round_says_where():
    """The range is counter_range in the counter's own unit, times its scale."""
    options = {"profile": "generic", "oid": GENERIC, "unit": "Wh", "scale": "10", "counter_range": 65_536}
    assert reading({GENERIC: ("Counter32", 5)}, **options).range_microjoules == 655_360 * WH


def test_the_choice_stays(agent):
    """While a counter is missing, power is not read instead: that time would count twice."""
    agent.values.update(FINE)
    source = made(agent, **EATON)
    source.open()
    del agent.values[f"{EATON_OUTLET_WH}.0.4"]
    with pytest.raises(ReadFailed, match="noSuchInstance"):
        source.read()
    source.close()


def test_the_point_is_the_meters():
    """The kind comes from profile or option; name, boundary and subject from the meters file."""
    one = reading(BOTH, subject="meter:rack-a", boundary=Boundary.MACHINE_DC, **APC)
    assert one.point == Point(PointKind.PDU, "rack-a", Boundary.MACHINE_DC, "meter:rack-a")
    assert reading({APC_UPS_POWER: 1}, profile="apc_ups").point.kind is PointKind.UPS
    generic = {"profile": "generic", "oid": GENERIC, "unit": "W", "kind": "plug"}
    assert reading({GENERIC: 1}, **generic).point.kind is PointKind.PLUG


# -------------------------------------------------------------------------------------- wrong settings


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({}, "profile is one of apc_rpdu2"),
        ({"profile": "apc"}, "no profile 'apc': profile is one of"),
        ({"profile": "apc_ups", "outlet": 1}, "has no outlet; it has device"),
        ({"profile": "apc_rpdu2", "outlet": -1}, "outlet is the number"),
        ({"profile": "apc_rpdu2", "side": "input"}, "has no input"),
        ({"profile": "apc_ups", "quantity": "current"}, "quantity is"),
        ({"profile": "generic"}, "oid is"),
        ({"profile": "generic", "oid": "sysUpTime.0", "unit": "W"}, "oid is"),
        ({"profile": "generic", "oid": ",".join([GENERIC] * 13), "unit": "W"}, "oid is"),
        ({"profile": "generic", "oid": GENERIC, "unit": "VA"}, "unit is one of"),
        ({"profile": "generic", "oid": GENERIC, "unit": "W", "scale": "1e3"}, "scale is"),
        ({"profile": "generic", "oid": GENERIC, "unit": "W", "scale": "0.0"}, "scale is"),
        ({"profile": "generic", "oid": GENERIC, "unit": "W", "kind": "bmc"}, "kind is"),
        ({"profile": "generic", "oid": GENERIC, "unit": "Wh", "counter_range": -1}, "counter_range is"),
        ({"profile": "apc_ups", "address": "rack:161x"}, "is not an address: host:port"),
    ],
)
def test_wrong_settings_are_unavailable_with_a_remedy(options, what):
    """The message names the option and its valid values."""
    with pytest.raises(SourceUnavailable, match=what) as caught:
        SnmpMeter(context_of("snmp_meter", options.pop("address", "127.0.0.1:9"), **options)).open()
    assert caught.value.word == "no_device"
    assert "meters.toml" in caught.value.remedy


def test_without_the_library_it_is_said(monkeypatch, agent):
    """The message names the extra that is missing."""
    monkeypatch.setitem(sys.modules, "pysnmp.entity.engine", None)
    with pytest.raises(SourceUnavailable) as caught:
        made(agent, **APC).open()
    assert caught.value.word == "missing_library"
    assert "veilleuse[snmp]" in caught.value.remedy


def test_short_secrets_of_v3_are_refused(tmp_path, agent):
    """Secrets under 8 characters (RFC 3414) and unknown algorithms are refused."""
    for text, options in (
        ("watcher:short", {}),
        ("watcher:long enough", {"authentication": "md5"}),
        ("watcher:long enough", {"privacy": "des"}),
    ):
        path = secret_file(tmp_path / "secret", text)
        with pytest.raises(SourceUnavailable, match=r"8 characters|authentication is|privacy is"):
            made(agent, credentials_file=path, **APC, **options).open()


# ------------------------------------------------------------------------------------------ lying agents


@pytest.fixture(scope="module")
def device():
    """Run a fake agent with an open source, shared by the module: pysnmp's engine takes 50 ms to make."""
    with fake_agent(dict(BOTH)) as one:
        source = made(one, **APC)
        source.open()
        yield one, source
        source.close()


@pytest.fixture
def agent(device):
    """Reset the fake agent to an APC outlet of 96 W."""
    one, _ = device
    one.values = dict(BOTH)
    one.listen()
    return one


@pytest.fixture
def opened(agent, device):
    """Return a source that reads the fake agent."""
    _, source = device
    assert source.read()[0].power_milliwatts == 96_000
    return source


def made(agent, **options):
    """Return a source for that agent."""
    return SnmpMeter(context_of("snmp_meter", agent.address, **options))


LIES = {
    "nothing there": None,
    "negative": -1,
    "very negative": -(2**31),
    "text": "96",
    "empty text": "",
    "above the ceiling": 4_001,
    "65535": 65_535,
    "the largest": ("Gauge32", 2**32 - 1),
    "64 bits": ("Counter64", 2**64 - 1),
    "an address": ("TimeTicks", 96),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_value_that_is_none_is_a_gap(agent, opened, lie):
    """Anything but an integer from 0 to the ceiling raises ReadFailed; later reads work."""
    agent.values[f"{APC_OUTLET_POWER}.7"] = LIES[lie]
    with pytest.raises(ReadFailed, match="rack-a"):
        opened.read()
    agent.values[f"{APC_OUTLET_POWER}.7"] = 97
    assert opened.read()[0].power_milliwatts == 97_000


def garbles(agent):
    """Return ways to spoil an answer."""
    return {
        "hang": lambda _: None,
        "empty": lambda _: b"",
        "cut short": lambda response: response[:-7],
        "garbage": lambda _: b"\x30\x82\xff\xff" + b"\xff" * 60_000,
        "nested": lambda _: b"\x30\x80" * 2_000,
        "text": lambda _: b"HTTP/1.1 200 OK\r\n\r\n",
        "another version": lambda response: response.replace(b"\x02\x01\x01", b"\x02\x01\x00", 1),
    }


@pytest.mark.parametrize("how", sorted(garbles(None)))
def test_an_answer_that_is_none_costs_the_timeout(agent, opened, how):
    """An invalid answer raises ReadFailed, by the timeout at the latest; later reads work."""
    agent.garble = garbles(agent)[how]
    with in_a_hurry(opened), pytest.raises(ReadFailed, match=r"rack-a \("):
        opened.read()
    agent.listen()
    assert opened.read()


@pytest.mark.parametrize("status", [1, 2, 5, 13, 6, 16])
def test_an_error_status_is_a_gap(agent, opened, status):
    """Each error status raises ReadFailed; noAccess and authorizationError make `open` give no_permission."""
    agent.status = status
    with pytest.raises(ReadFailed, match="rack-a"):
        opened.read()
    with pytest.raises((ReadFailed, SourceUnavailable)) as caught:
        made(agent, **APC).open()
    assert (getattr(caught.value, "word", "") == "no_permission") == (status in (6, 16))


@pytest.mark.parametrize("other", [f"{APC_OUTLET_POWER}.8", ""])
def test_an_answer_about_something_else_is_a_gap(agent, opened, other):
    """An answer about another outlet, or without objects, raises ReadFailed."""
    agent.rename = lambda _: other
    with pytest.raises(ReadFailed, match="other objects"):
        opened.read()


def test_lines_units_and_digits_that_cannot_be():
    """0 or 4 lines, volt-amperes, 99 decimals and a missing line are refused."""
    for lines in (0, 4, -1):
        with pytest.raises((ReadFailed, SourceUnavailable)):
            reading({UPS_OUTPUT_LINES: lines, f"{UPS_OUTPUT_POWER}.1": 5}, profile="ups_mib")
    with pytest.raises(SourceUnavailable, match="unit 4"):
        reading(raritan("outlet", "1.5", 5, 61, 0, 4), profile="raritan_px", outlet=5)
    with pytest.raises(ReadFailed, match="99 decimals"):
        reading(raritan("outlet", "1.5", 5, 61, 99, 3), profile="raritan_px", outlet=5)
    with pytest.raises(SourceUnavailable, match="noSuchInstance"):
        reading({UPS_OUTPUT_LINES: 3, f"{UPS_OUTPUT_POWER}.1": 5}, profile="ups_mib")


def test_an_impossible_counter_is_a_gap():
    """A counter above 63 bits of µJ raises ReadFailed."""
    options = {"profile": "generic", "oid": GENERIC, "unit": "MWh"}
    with pytest.raises(ReadFailed, match="larger than any meter"):
        reading({GENERIC: ("Counter64", 2**63)}, **options)


def test_a_device_that_goes_and_comes_back(agent, opened):
    """A silent device raises ReadFailed, which also names the community; later reads work without `open`."""
    agent.refuse()
    with in_a_hurry(opened), pytest.raises(ReadFailed, match="community"):
        opened.read()
    agent.listen()
    assert opened.read()


@pytest.mark.parametrize("address", ["", "nowhere.invalid:161", "127.0.0.1:0"])
def test_an_address_without_a_device(address):
    """An unusable address is unavailable or a failed read."""
    with pytest.raises((SourceUnavailable, ReadFailed)):
        SnmpMeter(context_of("snmp_meter", address, profile="apc_rpdu2", outlet=7)).open()


def test_a_read_before_open_is_a_failure(agent):
    """A read without `open` raises ReadFailed; `open` and `close` may be repeated."""
    source = made(agent, **APC)
    source.close()
    with pytest.raises(ReadFailed):
        source.read()
    source.open()
    source.open()
    assert source.read()
    source.close()
    source.close()
    with pytest.raises(ReadFailed):
        source.read()
