# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test Shelly and Tasmota plugs (sources/shelly_plug.py, tasmota_plug.py) and their HTTP client on fakes."""

from __future__ import annotations

import json
import socket
from contextlib import nullcontext
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes.devices import (
    Asked,
    FakeDevice,
    Handler,
    behind_basic,
    behind_digest,
    dripping,
    endless,
    page,
    reply,
)
from tests.support.metering import PATIENT_SECONDS, in_a_hurry
from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, PowerGauge, Reading
from veilleuse.agent.ports import MeterSpec, SourceContext
from veilleuse.agent.sources.http_json import LARGEST_ANSWER_BYTES, Endpoint, Exchange
from veilleuse.agent.sources.readings import OneQuantity, point_of, split_address
from veilleuse.agent.sources.shelly_plug import ShellyPlug
from veilleuse.agent.sources.tasmota_plug import TasmotaPlug
from veilleuse.wire.vocabulary import Boundary, PointKind

FIXTURES = Path(__file__).parents[3] / "fixtures" / "plugs"
NAME, SECRET = "admin", "pa:ss wörd"


def saved(name: str) -> Any:
    """Return a recorded answer."""
    return json.loads((FIXTURES / f"{name}.json").read_text())


def meter(source: str, address: str, credentials_file: str = "", **options: str | int | bool) -> MeterSpec:
    """Return the configuration of a plug of this machine."""
    return MeterSpec(
        "desk-12",
        source,
        address,
        "machine",
        Boundary.WALL,
        10,
        PATIENT_SECONDS,
        3680.0,
        credentials_file,
        options,
    )


def context_of_plug(
    source: str, device: FakeDevice, credentials_file: str = "", **options: str | int | bool
) -> SourceContext:
    """Return the context of the plug's source."""
    return SourceContext("", "", "none", meter=meter(source, device.address, credentials_file, **options))


def shelly(device: FakeDevice, credentials_file: str = "", **options: str | int | bool) -> ShellyPlug:
    """Return a Shelly source for a device."""
    return ShellyPlug(context_of_plug("shelly_plug", device, credentials_file, **options))


def tasmota(device: FakeDevice, credentials_file: str = "", **options: str | int | bool) -> TasmotaPlug:
    """Return a Tasmota source for a device."""
    return TasmotaPlug(context_of_plug("tasmota_plug", device, credentials_file, **options))


def table(documents: dict[str, Any]) -> Handler:
    """Return a handler that answers from a table of paths, else with 404."""

    def handler(asked: Asked) -> bytes:
        found = documents.get(asked.path)
        return reply(404, {"code": 404}) if found is None else reply(200, found)

    return handler


def gen1(status: Any = None, known: Any = None) -> Handler:
    """Return the handler of a first-generation plug."""
    return table({"/shelly": known or saved("gen1_shelly"), "/status": status or saved("gen1_status")})


def gen2(status: Any = None) -> Handler:
    """Return the handler of a second-generation plug."""
    return table(
        {
            "/shelly": saved("gen2_shelly"),
            "/rpc/Switch.GetStatus?id=0": saved("gen2_switch") if status is None else status,
        }
    )


def the_reading(source: ShellyPlug | TasmotaPlug) -> Reading:
    """Open the source and return its only reading."""
    (point,) = source.open()
    (reading,) = source.read()
    assert isinstance(reading, (EnergyCounter, PowerGauge))
    assert reading.point == point
    return reading


@pytest.fixture
def credentials_file(tmp_path):
    """Return a file with a name and a secret that contains a colon."""
    path = tmp_path / "credentials"
    path.write_text(f"{NAME}:{SECRET}\n")
    path.chmod(0o600)
    return str(path)


# ------------------------------------------------------------------------------------------ figures


def test_gen1_counts_watt_minutes():
    """123,456 W·min are 7,407.36 kJ; the counter has no range and the meter's ceiling."""
    with FakeDevice(gen1()) as device:
        reading = the_reading(shelly(device))
    assert reading == EnergyCounter(
        point_of(PointKind.PLUG, meter("shelly_plug", "")), 123_456 * 60 * 1_000_000, None, 3680.0
    )


def test_gen2_counts_watt_hours():
    """12,345.678 Wh are read exactly, without a binary fraction."""
    with FakeDevice(gen2()) as device:
        reading = the_reading(shelly(device))
    assert isinstance(reading, EnergyCounter)
    assert reading.energy_microjoules == 12_345_678 * 3_600_000


def test_tasmota_counts_kilowatt_hours():
    """436.786 kWh are read exactly."""
    with FakeDevice(page(json.dumps(saved("tasmota_status8")).encode())) as device:
        reading = the_reading(tasmota(device))
        assert device.asked[0].path == "/cm?cmnd=Status%208"
    assert isinstance(reading, EnergyCounter)
    assert reading.energy_microjoules == 436_786 * 3_600_000_000


@pytest.mark.parametrize(
    ("document", "options", "expected"),
    [
        ("tasmota_three_channels", {}, EnergyCounter),  # Total is the sum of all channels
        (
            "tasmota_three_channels",
            {"channel": 0},
            298_000,
        ),  # Total is not its own: its power is read
        ("tasmota_three_channels", {"channel": 1}, 7_000),
        ("tasmota_three_channels", {"channel": 2}, 0),
        ("tasmota_three_channels_split", {}, 436_785),
        ("tasmota_three_channels_split", {"channel": 1}, 243_196),
    ],
)
def test_tasmota_channels(document, options, expected):
    """The sum of all channels never counts as one channel's, nor the reverse."""
    with FakeDevice(page(json.dumps(saved(document)).encode())) as device:
        reading = the_reading(tasmota(device, **options))
    if isinstance(reading, PowerGauge):
        assert reading.power_milliwatts == expected
    elif isinstance(expected, int) and isinstance(reading, EnergyCounter):
        assert reading.energy_microjoules == expected * 3_600_000_000
    else:
        assert isinstance(reading, expected)


def test_a_second_channel():
    """channel = 1 is the second relay of a strip, in both generations."""
    two = saved("gen1_status")
    two["meters"].append({"power": 3.0, "is_valid": True, "total": 60})
    with FakeDevice(gen1(two)) as device:
        assert the_reading(shelly(device, channel=1)) == EnergyCounter(
            point_of(PointKind.PLUG, meter("", "")), 60 * 60 * 1_000_000, None, 3680.0
        )
        with pytest.raises(ReadFailed, match="no meter 7"):
            the_reading(shelly(device, channel=7))
    documents = {"/shelly": saved("gen2_shelly"), "/rpc/PM1.GetStatus?id=1": saved("gen2_switch")}
    with FakeDevice(table(documents)) as device:
        assert isinstance(the_reading(shelly(device, channel=1, component="pm1")), EnergyCounter)


def test_without_a_counter_the_power_serves():
    """A plug without a counter gives its power; 0 W of an empty plug is a value."""
    for watts, milliwatts in ((42.5, 42_500), (0.0, 0), (0.1234, 123)):
        with FakeDevice(gen2({"id": 0, "apower": watts})) as device:
            reading = the_reading(shelly(device))
        assert isinstance(reading, PowerGauge)
        assert reading.power_milliwatts == milliwatts


def test_counter_and_gauge_never_take_turns():
    """A missing counter raises ReadFailed, also after reopening: power would count the time twice."""
    with FakeDevice(gen2()) as device:
        source = shelly(device)
        the_reading(source)
        device.handler = gen2({"id": 0, "apower": 42.5})
        for _ in range(2):
            with pytest.raises(ReadFailed, match="counter is missing"):
                source.read()
            source.close()
            source.open()
        device.handler = gen2()
        assert isinstance(source.read()[0], EnergyCounter)


def test_a_coarse_counter_gives_way_to_the_gauge():
    """With EnergyRes 0, a step of 1 kWh in 10 s would be a jump of 360 kW, so power is read instead."""
    coarse = saved("tasmota_status8")
    coarse["StatusSNS"]["ENERGY"]["Total"] = 436
    with FakeDevice(page(json.dumps(coarse).encode())) as device:
        source = tasmota(device)
        reading = the_reading(source)
        assert isinstance(reading, PowerGauge)
        assert reading.power_milliwatts == 61_000
        del coarse["StatusSNS"]["ENERGY"]["Power"]
        device.handler = page(json.dumps(coarse).encode())
        with pytest.raises(ReadFailed, match="too coarse"):
            source.read()


@given(st.decimals(min_value=0, max_value=10**6, places=3), st.decimals(0, 4000, places=2))
def test_what_a_device_says_is_what_is_read(energy: Decimal, power: Decimal):
    """Any counter is read exactly and any power to the mW; power above the ceiling raises ReadFailed."""
    spec = meter("tasmota_plug", "")
    point = point_of(PointKind.PLUG, spec)
    counted = OneQuantity(point, spec).reading(energy, 3_600_000_000_000, None)
    assert isinstance(counted, EnergyCounter)
    assert counted.energy_microjoules == energy * 3_600_000_000_000
    quantity = OneQuantity(point, spec)
    if power > 3680:
        with pytest.raises(ReadFailed, match="above"):
            quantity.reading(None, 1, power)
    else:
        gauge = quantity.reading(None, 1, power)
        assert isinstance(gauge, PowerGauge)
        assert gauge.power_milliwatts == power * 1000


# --------------------------------------------------------------------------------------------- lies


LIES = [
    "-1",
    '"12345"',
    "NaN",
    "Infinity",
    "true",
    "1e30",
    "1e999999999",
    "9" * 5000,
    "-0.5",
    "[]",
    "{}",
]


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("field", ["total", "apower"])
def test_a_lie_is_a_gap(field, lie):
    """Negative values, text, non-numbers and too large numbers raise ReadFailed, as counter or power."""
    text = json.dumps({"id": 0, "aenergy": {"total": "LIE"}} if field == "total" else {"apower": "LIE"})
    status = text.replace('"LIE"', lie).encode()
    with FakeDevice(gen2()) as device:
        source = shelly(device)
        source.open()
        device.handler = page(status)
        with pytest.raises(ReadFailed):
            source.read()


def test_a_power_above_the_ceiling_is_a_gap():
    """A power above the plug's ceiling raises ReadFailed."""
    with FakeDevice(gen2({"apower": 1e9})) as device, pytest.raises(ReadFailed, match="ceiling of 3680 W"):
        the_reading(shelly(device))


NONSENSE = [
    (page(b"<html><body>Login</body></html>"), "not JSON"),
    (page(b""), "without a JSON object"),
    (page(b"[1, 2]"), "without a JSON object"),
    (page(b"{}"), "."),
    (page(b'{"StatusSNS": {"ENERGY": [1]}}'), "."),
    (page(b'{"StatusSNS": {"Time": "2023"}}'), "."),
    (page(b'{"id": 0, "aenergy": {"tot'), "not JSON"),
    (page(b"[" * 200_000), "not JSON"),
    (page(b"\xff\xfe\xfd"), "not JSON"),
    (page(b" " * (LARGEST_ANSWER_BYTES + 1)), "more than"),
    (endless, "more than"),
    (dripping, "within"),
    (lambda asked: None, "within"),
    (lambda asked: b"", "without an answer"),
    (lambda asked: b"SSH-2.0-OpenSSH_9.2\r\n", "HTTP"),
    (lambda asked: b"HTTP/1.1 200 Said\r\nContent-Length: 500\r\n\r\n{", "not JSON"),
    (lambda asked: b"HTTP/1.1 200 Said\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP"),
    (lambda asked: b"HTTP/1.1 200 Said\r\n" + b"X: y\r\n" * 500 + b"\r\n", "HTTP"),
    (lambda asked: b"HTTP/1.1 100 Continue\r\n\r\n" * 100, "."),
    (lambda asked: reply(500, {"code": -105}), "status 500"),
    (lambda asked: reply(204), "without a JSON object"),
    (lambda asked: reply(401), "credentials"),
    (lambda asked: reply(302, headers={"Location": "http://192.0.2.1/status"}), "another host"),
    (lambda asked: reply(302, headers={"Location": "https://127.0.0.1/status"}), "https|another"),
    (lambda asked: reply(302, headers={"Location": asked.path}), "circles"),
    (lambda asked: reply(302, headers={"Location": "ftp"}), "without a valid path"),
]


@pytest.mark.parametrize("make", [ShellyPlug, TasmotaPlug])
@pytest.mark.parametrize(("handler", "reason"), NONSENSE)
def test_nonsense_is_a_gap(make, handler, reason):
    """Any invalid answer raises ReadFailed, as the timeout does, and the next valid one is read."""
    good = gen2() if make is ShellyPlug else page(json.dumps(saved("tasmota_status8")).encode())
    with FakeDevice(good) as device:
        source = make(context_of_plug(make.name, device))
        source.open()
        device.handler = handler
        hurry = in_a_hurry(source) if reason == "within" else nullcontext()
        with hurry, pytest.raises(ReadFailed, match=reason):
            source.read()
        device.handler = good
        assert len(source.read()) == 1


def test_fifty_megabytes_are_not_read(monkeypatch):
    """The bound holds for received bytes: of a body of 50 MB no byte beyond the bound is received."""
    received: list[int] = []
    real = socket.socket.recv_into

    def counted(*given: Any) -> int:
        received.append(real(*given))
        return received[-1]

    monkeypatch.setattr(socket.socket, "recv_into", counted)

    def flood(asked: Asked):
        yield b"HTTP/1.1 200 Said\r\nContent-Length: 52428800\r\n\r\n"
        for _ in range(800):
            yield b" " * 65536

    with FakeDevice(flood) as device, pytest.raises(ReadFailed, match="more than"):
        the_reading(tasmota(device))
    assert sum(received) == LARGEST_ANSWER_BYTES


def test_a_device_that_goes_and_comes_back():
    """A refused connection raises ReadFailed; later reads work without another open."""
    with FakeDevice(gen2()) as device:
        source = shelly(device)
        source.open()
        device.refuse()
        with pytest.raises(ReadFailed):
            source.read()
        with pytest.raises(ReadFailed):
            source.open()
        device.answer()
        assert source.read()
    with pytest.raises(ReadFailed, match="cannot be reached"):
        source.read()


def test_a_redirection_inside_the_device_is_followed():
    """Firmware redirects `/cm?…` to `/cm/?…`, for example."""
    good = page(json.dumps(saved("tasmota_status8")).encode())

    def moved(asked: Asked) -> Any:
        return good(asked) if asked.path == "/here" else reply(307, headers={"Location": "/here"})

    with FakeDevice(moved) as device:
        assert isinstance(the_reading(tasmota(device)), EnergyCounter)


def test_gen1_says_when_it_does_not_know():
    """A value with is_valid false is a failed read; a Shelly without a meter is unavailable."""
    status = saved("gen1_status")
    status["meters"][0]["is_valid"] = False
    with FakeDevice(gen1(status)) as device, pytest.raises(ReadFailed, match="not valid"):
        the_reading(shelly(device))
    without = saved("gen1_shelly") | {"num_meters": 0}
    with FakeDevice(gen1(known=without)) as device, pytest.raises(SourceUnavailable) as caught:
        shelly(device).open()
    assert caught.value.word == "no_device"


# ------------------------------------------------------------------------------------- credentials


def test_gen1_behind_a_password(credentials_file):
    """The first generation has only Basic; the password is sent only when the plug asks for it."""
    with FakeDevice(gen1()) as device:
        plain = device.handler
        device.handler = lambda asked: (
            plain(asked) if asked.path == "/shelly" else behind_basic(plain, NAME, SECRET)(asked)
        )
        assert isinstance(the_reading(shelly(device, credentials_file)), EnergyCounter)
        assert "authorization" not in device.asked[0].headers
        with pytest.raises(ReadFailed, match="credentials"):
            the_reading(shelly(device))


def test_gen2_behind_a_password(credentials_file):
    """The second generation uses Digest with SHA-256; the password itself is never sent."""
    with FakeDevice(gen2()) as device:
        plain = device.handler
        guarded = behind_digest(plain, NAME, SECRET, "shellyplusplugs-e465b8000000")
        device.handler = lambda asked: plain(asked) if asked.path == "/shelly" else guarded(asked)
        source = shelly(device, credentials_file)
        assert isinstance(the_reading(source), EnergyCounter)
        assert isinstance(source.read()[0], EnergyCounter)
        sent = " ".join(asked.headers.get("authorization", "") for asked in device.asked)
        assert "Digest" in sent
        assert "Basic" not in sent
        device.handler = lambda asked: plain(asked) if asked.path == "/shelly" else reply(401)
        with pytest.raises(ReadFailed, match="authentication"):
            source.read()


def test_gen2_never_answers_a_weaker_question(credentials_file):
    """A second-generation plug that asks for Basic is an impostor and gets no credentials."""
    with FakeDevice(gen2()) as device:
        plain = device.handler
        guarded = behind_basic(plain, NAME, SECRET)
        device.handler = lambda asked: plain(asked) if asked.path == "/shelly" else guarded(asked)
        with pytest.raises(ReadFailed, match="authentication"):
            the_reading(shelly(device, credentials_file))
        assert all("authorization" not in asked.headers for asked in device.asked)


def test_tasmota_behind_a_password(credentials_file):
    """The password is in a header, not in the logged address; a firmware's WARNING raises ReadFailed."""
    good = page(json.dumps(saved("tasmota_status8")).encode())
    with FakeDevice(behind_basic(good, NAME, SECRET)) as device:
        assert isinstance(the_reading(tasmota(device, credentials_file)), EnergyCounter)
        assert SECRET not in device.asked[0].path
        device.handler = page(b'{"WARNING":"Need user=<username>&password=<password>"}')
        with pytest.raises(ReadFailed, match="credentials"):
            the_reading(tasmota(device, credentials_file))


# ----------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize("factory", [ShellyPlug, TasmotaPlug])
@pytest.mark.parametrize("address", ["", "-oProxy", "host:99999", "a b", "http://plug/", "[::1", "x:0"])
def test_what_cannot_be_an_address(factory, address):
    """An invalid or missing address is unavailable with a remedy."""
    for context in (
        SourceContext("", "", "none", meter=meter("x", address)),
        SourceContext("", "", "none"),
    ):
        with pytest.raises(SourceUnavailable) as caught:
            factory(context).open()
        assert caught.value.word == "no_device"
        assert caught.value.remedy


def test_addresses():
    """Names, IPv4 and IPv6 addresses are split, with and without a port."""
    assert split_address("plug.lan", 80) == ("plug.lan", 80)
    assert split_address("192.0.2.1:8080", 80) == ("192.0.2.1", 8080)
    assert split_address("[2001:db8::1]:443", 80) == ("2001:db8::1", 443)
    assert split_address("[2001:db8::1]", 80) == ("2001:db8::1", 80)


def test_a_name_that_leads_nowhere():
    """An unresolvable name raises ReadFailed."""
    with (
        Exchange(Endpoint("nowhere.invalid", 80), 0.5) as exchange,
        pytest.raises(ReadFailed, match="cannot be reached"),
    ):
        exchange.get("/")


def test_no_component_of_that_name():
    """A misspelt component is refused at open."""
    with FakeDevice(gen2()) as device, pytest.raises(SourceUnavailable, match="component"):
        shelly(device, component="swich").open()
