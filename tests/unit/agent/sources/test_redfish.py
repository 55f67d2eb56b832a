# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test Redfish (sources/redfish*.py): which power is read and added up, sessions, TLS, broken services."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.fakes.authority import TestAuthority
from tests.support.fakes.devices import FakeDevice, dripping, endless, page, reply
from tests.support.fakes.redfish import Service, context, credentials_file, saved, tls
from tests.support.metering import PATIENT_SECONDS, in_a_hurry
from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Point, PowerGauge
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources.redfish import Redfish
from veilleuse.agent.sources.redfish_client import choose, read_power
from veilleuse.wire.vocabulary import Boundary, PointKind

ONE = "/redfish/v1/Chassis/1"
ONE_U = "/redfish/v1/Chassis/1U"


def exact(name: str) -> dict[str, Any]:
    """Return a recorded service with Decimal numbers, as the client gives them."""
    loaded: dict[str, Any] = json.loads(json.dumps(saved(name)), parse_float=Decimal)
    return loaded


def watts(
    resources: dict[str, Any], wanted: str = "", controls: str = "", *, one_machine: bool = True
) -> Any:
    """Return the power of the chosen resources, in W."""

    def fetch(path: str) -> Any:
        return resources.get(path)

    power = read_power(fetch, choose(fetch, wanted, controls, one_machine=one_machine))[0]
    return None if power is None else float(power)


# ------------------------------------------------------------------------------- what is added up


@pytest.mark.parametrize(
    ("service", "wanted", "controls", "expected"),
    [
        ("power", "", "", 344),
        ("environment", "", "", 374.2),  # not the 400 W of the deprecated Power
        ("whole_and_parts", "", "", 226),  # not 329: it includes CPU and memory
        ("parts_by_relation", "", "", 226),
        ("whole_and_parts", "", "1,2", 103),  # the configured parts
        ("enclosure", "Node1", "", 396),
        ("enclosure", "Node1,Node2", "", 801),
        ("enclosure", "Enclosure", "", 812),
        ("flat", "", "", 232),  # the chassis that holds the system, not its accelerator
        ("flat", "gpu0", "", 61.9),
        ("unexplained", "", "0", 180),
        ("supplies", "", "", 371.5),  # the empty bay does not count
        ("energy_only", "", "", None),
    ],
)
def test_the_power_of_a_service(service, wanted, controls, expected):
    """The whole counts once: parts, contained chassis and deprecated values are not added."""
    assert watts(exact(service), wanted, controls) == (None if expected is None else pytest.approx(expected))


def test_parts_by_what_they_are():
    """PhysicalContext alone separates CPU and memory from the whole."""
    resources = exact("whole_and_parts")
    for entry in resources[f"{ONE}/Power"]["PowerControl"]:
        del entry["RelatedItem"]
    assert watts(resources) == 226


def test_sleds_that_are_said_to_be_apart_are_added():
    """If each PowerControl is about another system, a shared meter is their sum."""
    assert watts(exact("two_sleds"), one_machine=False) == pytest.approx(400.5)


@pytest.mark.parametrize(
    ("service", "wanted", "reason"),
    [
        ("two_sleds", "", "holds 2 machines"),
        ("enclosure", "", "holds 2 machines"),
        ("unexplained", "", "does not show how they relate"),
        ("enclosure", "Enclosure,Node1", "would count twice"),
        ("enclosure", "Node9", "no chassis 'Node9'"),
        ("flat", "motherboard", "shows no power"),
    ],
)
def test_what_is_not_said_is_not_guessed(service, wanted, reason):
    """An ambiguous service is unavailable, with the reason and an option as remedy."""
    with pytest.raises(SourceUnavailable, match=reason) as caught:
        watts(exact(service), wanted)
    assert caught.value.word == "no_device"
    assert "ch" in caught.value.remedy or "power_control" in caught.value.remedy


def test_two_chassis_side_by_side():
    """Two chassis with a system each, neither in the other, need a choice; the message names both."""
    resources = exact("flat")
    resources["/redfish/v1/Chassis/gpu0"]["Links"]["ComputerSystems"] = [
        {"@odata.id": "/redfish/v1/Systems/x"}
    ]
    with pytest.raises(SourceUnavailable, match="chassis, gpu0"):
        watts(resources)
    assert watts(resources, "chassis,gpu0") == pytest.approx(293.9)


@pytest.mark.parametrize(
    ("service", "path", "keys"),
    [
        ("power", f"{ONE_U}/Power", ("PowerControl", 0, "PowerConsumedWatts")),
        ("environment", f"{ONE_U}/EnvironmentMetrics", ("PowerWatts", "Reading")),
        ("supplies", f"{ONE}/PowerSubsystem/PowerSupplies/Bay2/Metrics", ("InputPowerWatts", "Reading")),
    ],
)
@pytest.mark.parametrize("value", [None, "344", -1, True, [], {"x": 1}])
def test_null_and_lies_are_missing(service, path, keys, value):
    """Null is missing, and so is a sum with a missing part; text, negatives and others raise ReadFailed."""
    resources = exact(service)
    chosen = choose(resources.get, "", "", one_machine=True)
    place = resources[path]
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    if value is None:
        assert read_power(resources.get, chosen)[0] is None
    else:
        with pytest.raises(ReadFailed, match=r"not a number|negative"):
            read_power(resources.get, chosen)


def test_a_null_gauge_leads_to_the_other_resource():
    """An empty EnvironmentMetrics (seen in early firmware) does not hide a Power with a value."""
    resources = exact("environment")
    resources[f"{ONE_U}/EnvironmentMetrics"]["PowerWatts"]["Reading"] = None
    assert watts(resources) == 400


def test_a_supply_that_does_not_tell():
    """A supply without metrics makes the sum unavailable: it would be too small."""
    resources = exact("supplies")
    del resources[f"{ONE}/PowerSubsystem/PowerSupplies/Bay2"]["Metrics"]
    with pytest.raises(SourceUnavailable, match="shows power for no chassis"):
        watts(resources)


def test_links_that_lie():
    """Circular containment, foreign links and invalid collections cause no loop and no foreign request."""
    resources = exact("enclosure")
    for node, other in (("Node1", "Node2"), ("Node2", "Node1")):
        links = resources[f"/redfish/v1/Chassis/{node}"]["Links"]
        links["ContainedBy"] = {"@odata.id": f"/redfish/v1/Chassis/{other}"}
    assert watts(resources) == 812
    resources["/redfish/v1/Chassis"]["Members"] = [
        "x",
        1,
        None,
        {"@odata.id": "http://192.0.2.1/"},
        {"@odata.id": 7},
    ]
    with pytest.raises(SourceUnavailable, match="no chassis"):
        watts(resources)
    resources["/redfish/v1/Chassis"] = {"Members@odata.nextLink": "/redfish/v1/Chassis"}
    with pytest.raises(SourceUnavailable, match="no chassis"):
        watts(resources)


# ---------------------------------------------------------------------------------- over the wire


@pytest.fixture(scope="module")
def authority() -> TestAuthority:
    """Return an authority, made once because keys take time."""
    return TestAuthority()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the pause between two requests."""
    monkeypatch.setattr(Redfish, "PAUSE_SECONDS", 0.0)


@contextmanager
def serving(
    folder: Path, authority: TestAuthority, name: str = "environment", *, sessions: bool = True
) -> Iterator[tuple[FakeDevice, Service]]:
    """Run a fake service over TLS."""
    service = Service(saved(name), sessions=sessions)
    with FakeDevice(service, tls(folder, authority, authority.server)) as device:
        yield device, service


def source_of(
    device: FakeDevice, folder: Path, seconds: float = PATIENT_SECONDS, **options: str | int | bool
) -> Redfish:
    """Return a source that trusts the test's authority; `seconds` is its timeout."""
    settings: dict[str, str | int | bool] = {"ca_file": str(folder / "root.pem"), **options}
    made = context(device, credentials_file(folder), settings)
    assert made.meter is not None
    return Redfish(made._replace(meter=made.meter._replace(timeout_seconds=seconds)))


def test_a_reading(tmp_path, authority, at_once):
    """A source has one point, one login and one request a read, and ends its session at `close`."""
    with serving(tmp_path, authority) as (device, service):
        source = source_of(device, tmp_path)
        (point,) = source.open()
        assert point == Point(PointKind.BMC, "bmc-3", Boundary.WALL, "machine")
        before = len(device.asked)
        for _ in range(3):
            assert source.read() == (PowerGauge(point, 374_200),)
        assert [asked.path for asked in device.asked[before:]] == [f"{ONE_U}/EnvironmentMetrics"] * 3
        assert service.logins == 1
        assert all("if-none-match" not in asked.headers for asked in device.asked)
        source.close()
        assert not service.tokens
        source.close()


def test_at_most_every_thirty_seconds(tmp_path, authority):
    """Between two requests, 30 s apart, the last reading holds."""
    with serving(tmp_path, authority) as (device, _):
        source = source_of(device, tmp_path)
        source.open()
        first = source.read()
        asked = len(device.asked)
        device.refuse()
        assert source.read() == first
        assert len(device.asked) == asked


def test_a_session_that_runs_out(tmp_path, authority, at_once):
    """A 401 with a token gives one new login within the same read."""
    with serving(tmp_path, authority) as (device, service):
        source = source_of(device, tmp_path)
        source.open()
        service.expire()
        assert source.read()
        assert service.logins == 2


@pytest.mark.parametrize("options", [{"auth": "basic"}, {}])
def test_without_sessions(tmp_path, authority, at_once, options):
    """auth = basic opens no session; neither does a service without sessions."""
    with serving(tmp_path, authority, sessions=False) as (device, service):
        source = source_of(device, tmp_path, **options)
        source.open()
        assert source.read()
        assert service.logins == 0
        assert any(asked.headers.get("authorization", "").startswith("Basic") for asked in device.asked)


def test_wrong_credentials_are_not_insisted_on(tmp_path, authority, at_once):
    """There is one login in five minutes, since a controller locks the account after several."""
    with serving(tmp_path, authority) as (device, service):
        source = source_of(device, tmp_path)
        credentials_file(tmp_path, "wrong")
        for _ in range(4):
            with pytest.raises(ReadFailed, match="refuses the credentials"):
                source.open()
        assert service.logins == 1


@pytest.mark.parametrize(
    ("status", "after"), [(503, "7"), (429, "Wed, 21 Oct 2026 07:28:00 GMT"), (503, "9" * 30)]
)
def test_a_busy_service_is_left_in_peace(tmp_path, authority, at_once, status, after):
    """Until Retry-After, or a bound, no request is made."""
    with serving(tmp_path, authority) as (device, _):
        source = source_of(device, tmp_path)
        source.open()
        device.handler = lambda asked: reply(status, headers={"Retry-After": after})
        with pytest.raises(ReadFailed, match="busy"):
            source.read()
        asked = len(device.asked)
        with pytest.raises(ReadFailed, match="asked for a pause"):
            source.read()
        assert len(device.asked) == asked


def test_zero_watts_is_not_known(tmp_path, authority, at_once):
    """0 W from an answering controller means an unknown power: ReadFailed, as above the ceiling."""
    with serving(tmp_path, authority) as (device, service):
        source = source_of(device, tmp_path)
        source.open()
        service.resources[f"{ONE_U}/EnvironmentMetrics"]["PowerWatts"]["Reading"] = 0
        with pytest.raises(ReadFailed, match="0 W"):
            source.read()
        service.resources[f"{ONE_U}/EnvironmentMetrics"]["PowerWatts"]["Reading"] = 4001
        with pytest.raises(ReadFailed, match="ceiling"):
            source.read()


def test_gauge_and_energy_never_take_turns(tmp_path, authority, at_once):
    """If both exist, power is read; without it the read fails, instead of a switch to the counter."""
    with serving(tmp_path, authority) as (device, service):
        service.resources[f"{ONE_U}/EnvironmentMetrics"]["EnergykWh"]["Reading"] = 325_675.123
        source = source_of(device, tmp_path)
        source.open()
        assert isinstance(source.read()[0], PowerGauge)
        service.resources[f"{ONE_U}/EnvironmentMetrics"]["PowerWatts"]["Reading"] = None
        with pytest.raises(ReadFailed):
            source.read()


def test_energy_alone(tmp_path, authority, at_once):
    """A fine counter is read; a counter of whole kWh is too coarse for 30 s."""
    with serving(tmp_path, authority, "energy_only") as (device, service):
        source = source_of(device, tmp_path)
        (point,) = source.open()
        assert source.read() == (EnergyCounter(point, 325_675 * 3_600_000_000, None, 4000.0),)
    with serving(tmp_path, authority, "energy_only") as (device, service):
        service.resources[f"{ONE}/EnvironmentMetrics"]["EnergykWh"]["Reading"] = 325
        source = source_of(device, tmp_path)
        source.open()
        with pytest.raises(ReadFailed, match="too coarse"):
            source.read()


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (page(b"<html>iDRAC</html>"), "not JSON"),
        (page(b"{"), "not JSON"),
        (page(b"{}"), "neither"),
        (page(b'{"PowerWatts": {"Reading": NaN}}'), "not JSON"),
        (page(b" " * 2_000_000), "more than"),
        (endless, "more than"),
        (dripping, "within"),
        (lambda asked: None, "within"),
        (lambda asked: reply(304), "304"),
        (lambda asked: reply(404), "lost"),
        (lambda asked: reply(302, headers={"Location": "https://192.0.2.9/"}), "another host"),
        (lambda asked: reply(302, headers={"Location": "http://127.0.0.1/"}), "http: not followed"),
    ],
)
def test_a_broken_service_is_a_gap(tmp_path, authority, at_once, handler, reason):
    """ReadFailed gives the reason, or the timeout; the next valid answer is read."""
    with serving(tmp_path, authority) as (device, service):
        source = source_of(device, tmp_path)
        source.open()
        device.handler = handler
        hurry = in_a_hurry(source) if reason == "within" else nullcontext()
        with hurry, pytest.raises(ReadFailed, match=reason):
            source.read()
        device.handler = service
        assert source.read()


def test_a_slow_service_is_looked_through_in_several_goes(tmp_path, authority, at_once, monkeypatch):
    """Resources found before the timeout are not requested again, so a slow controller is read in the end."""
    now = [0.0]
    monkeypatch.setattr("veilleuse.agent.sources.http_json.time", SimpleNamespace(monotonic=lambda: now[0]))
    with serving(tmp_path, authority) as (device, service):

        def slow(asked: Any) -> Any:
            now[0] += PATIENT_SECONDS / 4
            return service(asked)

        device.handler = slow
        source = source_of(device, tmp_path)
        with pytest.raises(ReadFailed, match="within"):
            source.open()
        source.open()
        device.handler = service
        assert source.read()


# --------------------------------------------------------------------------------------------- TLS


@pytest.mark.parametrize("wrong", ["name", "expired", "authority", "plain"])
def test_tls_is_verified(tmp_path, authority, wrong):
    """With another name, an expired certificate, an unknown authority or no TLS, no password is sent."""
    leaf = authority.server
    if wrong == "name":
        leaf = authority.new_server(name="other.example")
    if wrong == "expired":
        leaf = authority.new_server(timedelta(days=-9), timedelta(days=-2))
    service = Service(saved("environment"))
    secured = tls(tmp_path, authority, leaf)
    with FakeDevice(service, None if wrong == "plain" else secured) as device:
        options = {"ca_file": ""} if wrong == "authority" else {}
        source = source_of(device, tmp_path, 1.0 if wrong == "plain" else PATIENT_SECONDS, **options)
        with pytest.raises(ReadFailed, match=r"within" if wrong == "plain" else "not trusted"):
            source.open()
        assert service.logins == 0
        if wrong != "plain":
            unverified = source_of(device, tmp_path, tls_verify=False)
            unverified.open()
            assert unverified.read()


def test_configuration_that_cannot_be(tmp_path):
    """Each invalid setting is unavailable with its word and a remedy."""
    good = credentials_file(tmp_path)
    for made, word in (
        (SourceContext("", "", "none"), "no_device"),
        (context("", good), "no_device"),
        (context("127.0.0.1:1", good, {"auth": "kerberos"}), "no_device"),
        (context("127.0.0.1:1", good, {"ca_file": "/nowhere.pem"}), "no_permission"),
        (context("127.0.0.1:1", good, {"ca_file": good}), "no_permission"),
        (context("127.0.0.1:1", "/nowhere"), "no_permission"),
    ):
        with pytest.raises(SourceUnavailable) as caught:
            Redfish(made).open()
        assert caught.value.word == word
        assert caught.value.remedy
