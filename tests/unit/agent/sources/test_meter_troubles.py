# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the messages about a broken meter in the log and in `doctor`: one line with its remedy."""

from __future__ import annotations

import errno
import json
import logging
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.fakes.authority import TestAuthority
from tests.support.fakes.devices import FakeDevice, page, reply
from tests.support.fakes.polled import ScriptedSource, job
from tests.support.fakes.redfish import Service as FakeService
from tests.support.fakes.redfish import context as redfish_context
from tests.support.fakes.redfish import credentials_file, saved, tls
from tests.support.metering import context_of, secret_file
from tests.support.trees import TREES
from tests.support.waiting import until
from veilleuse.agent.commands.doctor import MACHINE, _no_meter, _source_lines, ladder
from veilleuse.agent.commands.poll import PollResult, rows
from veilleuse.agent.errors import ConfigurationError, ReadFailed, SourceUnavailable
from veilleuse.agent.host.machine import detect
from veilleuse.agent.model import Point
from veilleuse.agent.polling.worker import Job, Worker
from veilleuse.agent.ports import Source
from veilleuse.agent.sources import OpenedSource, Sources, polled_factory
from veilleuse.agent.sources.meters_file import read_meters
from veilleuse.agent.sources.nut_ups import NutUps
from veilleuse.agent.sources.readings import explain_network_error
from veilleuse.agent.sources.redfish import Redfish
from veilleuse.agent.sources.shelly_plug import ShellyPlug
from veilleuse.agent.sources.snmp_meter import SnmpMeter
from veilleuse.agent.sources.tasmota_plug import TasmotaPlug
from veilleuse.wire.vocabulary import POLLED_SOURCES, Boundary, PointKind

METER = '[[meter]]\nname = "ups-1"\nsource = "nut_ups"\naddress = "192.0.2.7"\n'
STATUS_8 = Path(__file__).parents[3] / "fixtures" / "plugs" / "tasmota_status8.json"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            "name is not known here; correct it",
        ),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "is the service up, is the port"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "(No route to host); check its address"),
        (OSError(errno.EPIPE, "Broken pipe"), "Broken pipe"),
        (OSError("something"), "something"),
    ],
)
def test_the_network_s_errors_are_words_with_a_remedy(error, told):
    """The message explains the error and its remedy, without `[Errno 111]`."""
    assert told in explain_network_error(error)
    assert "Errno" not in explain_network_error(error)


def opened(source: Source) -> Source:
    """Open a source and return it: some meters fail at `open`, others at `read`."""
    source.open()
    return source


@pytest.mark.parametrize("source", [NutUps, SnmpMeter, ShellyPlug, TasmotaPlug])
@pytest.mark.parametrize("address", ["rack:http", "http://rack/", "rack:", "rack:99999"])
def test_an_address_that_is_none_is_said_as_such(source, address):
    """Each kind of meter reports an invalid address in the same way, as unavailable."""
    name = source.name
    with pytest.raises(SourceUnavailable, match=r"rack.* (is not an address|has no possible port)") as caught:
        source(context_of(name, address, profile="apc_ups")).open()
    assert (caught.value.word, caught.value.remedy) == ("no_device", "correct address in meters.toml")


@pytest.mark.parametrize("factory", [ShellyPlug, TasmotaPlug])
@pytest.mark.parametrize(
    ("secret", "told"),
    [("", "needs credentials; set credentials_file"), ("a:b", "refuses the credentials; check")],
)
def test_wrong_credentials_and_none_are_told_apart(tmp_path, factory, secret, told):
    """Missing credentials and wrong ones have different remedies."""
    file = secret_file(tmp_path / "secret", secret) if secret else ""
    with FakeDevice(lambda asked: reply(401)) as device, pytest.raises(ReadFailed, match=told):
        opened(factory(context_of(factory.name, device.address, credentials_file=file))).read()


@pytest.mark.parametrize("channel", [1, 5, -1])
def test_a_channel_that_the_plug_has_not(channel):
    """The message names the channel that the plug has."""
    with FakeDevice(page(STATUS_8.read_bytes())) as device:
        one = TasmotaPlug(context_of("tasmota_plug", device.address, channel=channel))
        one.open()
        with pytest.raises(ReadFailed, match=f"no channel {channel}; .* one channel, 0"):
            one.read()


def test_an_unknown_source_without_a_near_one():
    """An unknown source without a similar name gets the list of all sources."""
    with pytest.raises(ConfigurationError, match=r"unknown source 'wattmetre' .*it knows .*shelly_plug"):
        polled_factory("wattmetre")


# ---------------------------------------------------------------------------------------- meters.toml


@pytest.mark.parametrize(("mode", "good"), [(0o644, True), (0o660, True), (0o646, False), (0o666, False)])
def test_a_meters_file_that_everybody_may_write(tmp_path, mode, good):
    """A meters file that everybody may write is refused: its author could send secrets to any machine."""
    file = tmp_path / "meters.toml"
    file.write_text(METER)
    file.chmod(mode)
    options: Callable[[str], dict[str, type]] = lambda source: {}  # noqa: E731
    if good:
        assert len(read_meters(file, options)) == 1
    else:
        with pytest.raises(ConfigurationError, match=f"chmod o-w {file}"):
            read_meters(file, options)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", bytes(range(256))])
def test_a_meters_file_of_rubbish(tmp_path, content):
    """The message is one line with the file's name, without the codec's."""
    file = tmp_path / "meters.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"{file} is not (text|TOML)") as caught:
        read_meters(file, lambda source: {})
    assert "codec" not in str(caught.value)


# -------------------------------------------------------------------------------------------- the log


def test_a_meter_that_fails_is_logged_once_and_its_return_too(caplog):
    """Failure and recovery of a meter are each logged once, so that the log is enough."""
    caplog.set_level(logging.INFO)
    source = ScriptedSource()
    source.opening = ReadFailed("no route")
    worker = Worker(job(source)._replace(every_seconds=1))
    worker.wait_seconds = lambda unix_seconds: 0.01  # type: ignore[method-assign]
    worker.start()
    until(lambda: worker.status().outcome.failures > 5)
    source.opening = SourceUnavailable("no_permission", "cannot read it", "chmod it")
    until(lambda: worker.status().outcome.word == "no_permission")
    source.opening = None
    until(lambda: worker.status().outcome.successes > 5)
    worker.stop(5)
    told = [(one.levelname, one.message, vars(one).get("reason")) for one in caplog.records]
    assert told == [
        ("WARNING", "source failed", "no route"),
        ("WARNING", "source failed", "cannot read it"),
        ("INFO", "source reads again", None),
    ]


def test_what_is_not_on_this_machine_is_no_warning(caplog):
    """Missing hardware is no warning; an attempt outside the polling thread logs nothing."""
    caplog.set_level(logging.INFO)
    source = ScriptedSource()
    source.opening = SourceUnavailable("no_device", "no driver is loaded")
    mine = job(source)._replace(meter="")
    Worker(mine).attempt()
    assert not caplog.records
    worker = Worker(mine)
    worker.start()
    until(lambda: worker.has_tried)
    worker.stop()
    assert [(one.levelname, one.message) for one in caplog.records] == [("INFO", "source not available here")]


# ------------------------------------------------------------------------------------- over and over


def test_a_source_is_made_once():
    """A source is made once and opened often, so that it remembers its device."""
    made: list[ScriptedSource] = []

    def make() -> ScriptedSource:
        made.append(ScriptedSource())
        made[-1].opening = ReadFailed("refused")
        return made[-1]

    worker = Worker(Job("scripted desk", "scripted", "desk", make, 10, 5.0))
    for _ in range(4):
        worker.attempt()
    assert len(made) == 1
    assert (made[0].opened, made[0].closed) == (4, 4)


def test_the_polling_process_does_not_lock_an_account(tmp_path):
    """After a BMC's refusal there is no login for 5 minutes, unless the credentials file changes."""
    authority = TestAuthority()
    service = FakeService(saved("environment"))
    with FakeDevice(service, tls(tmp_path, authority, authority.server)) as device:
        file = credentials_file(tmp_path, "wrong")
        options: dict[str, str | int | bool] = {"ca_file": str(tmp_path / "root.pem")}
        made = redfish_context(device, file, options)
        worker = Worker(Job("redfish bmc-3", "redfish", "bmc-3", lambda: Redfish(made), 30, 5.0))
        for _ in range(5):
            worker.attempt()
        assert service.logins == 1
        assert "not tried again for 5 minutes" in worker.status().outcome.reason
        credentials_file(tmp_path)
        worker.attempt()
        assert (worker.status().outcome.word, service.logins) == ("ok", 2)
        worker.close()


# --------------------------------------------------------------------------------------------- doctor


def test_a_shared_meter_does_not_see_this_machine_whole():
    """A shared meter gives one machine no step of the ladder: only the collector knows who shares it."""
    room = Point(PointKind.PLUG, "room", Boundary.WALL, "meter:room")
    assert _no_meter([room]).startswith("shared with others: room; the collector")
    assert _no_meter([]) == "no meter sees this machine at the wall"
    tower = detect(f"{TREES}/tower/sys", f"{TREES}/tower/proc")
    for subject, whole in (("meter:room", False), (MACHINE, True)):
        meter = OpenedSource(ScriptedSource(), (room._replace(subject=subject),))
        metered = ladder(Sources((meter,), None, ()), tower)[0]
        assert (metered["method"], metered["available"], metered["place"]) == ("metered", whole, whole)


def test_doctor_says_the_same_reason_once():
    """Five sources without configuration share one line, which names the meters file."""
    slow = PollResult((), tuple(POLLED_SOURCES), "", "/etc/veilleuse/meters.toml")
    lines = list(_source_lines(rows(slow)))
    (line,) = (line for line in lines if "snmp_meter" in line)
    assert line == (
        "  - redfish, nut_ups, snmp_meter, shelly_plug, tasmota_plug: no meter in /etc/veilleuse/meters.toml names it"
    )


@pytest.mark.parametrize("available", [True, False])
def test_doctor_says_what_it_does_not_count(available):
    """Points that do not count are listed under their source, one line per reason."""
    row = {"name": "linux_rapl", "available": available, "points": [], "reason": "none", "remedy": ""}
    told = [("intel-rapl:0:0 core", "nested in package-0"), ("intel-rapl:0:1 uncore", "nested in package-0")]
    told += [("dtpm:0 soc", "unknown")]
    row["not_counted"] = [{"name": name, "why": why} for name, why in told]
    assert list(_source_lines([row]))[1:] == [
        "      not counted: intel-rapl:0:0 core, intel-rapl:0:1 uncore: nested in package-0",
        "      not counted: dtpm:0 soc: unknown",
    ]


def test_doctor_says_what_a_meter_reads_now():
    """`doctor` shows the present power of a meter, to check the outlet, and whether it is shared."""
    point = {"kind": "pdu", "domain": "rack", "boundary": "wall", "subject": "meter:rack"}
    row = {"name": "snmp_meter rack", "available": True, "points": [point], "reason": "", "remedy": ""}
    row["readings"] = [{"domain": "rack", "power_milliwatts": 96_040}]
    assert list(_source_lines([row])) == ["  + snmp_meter rack: pdu rack (wall, shared), 96.0 W now"]
    row["readings"] = [{"domain": "rack", "energy_millijoules": 5}]
    row["points"] = [point | {"subject": MACHINE}]
    assert list(_source_lines([json.loads(json.dumps(row))])) == ["  + snmp_meter rack: pdu rack (wall)"]
