# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Read Redfish from the real `sushy-static` (OpenStack's sushy-tools) over TLS, with trees in DMTF's mock-up
layout."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests.support.fakes.authority import TestAuthority
from tests.support.fakes.redfish import context, credentials_file, saved, tls, write_tree
from tests.support.ports import free_port
from tests.support.waiting import until
from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, PowerGauge
from veilleuse.agent.sources.redfish import Redfish


@pytest.fixture(scope="module")
def authority():
    """Return one authority for all tests, because keys take time."""
    return TestAuthority()


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Remove the pause between two requests."""
    monkeypatch.setattr(Redfish, "PAUSE_SECONDS", 0.0)


@contextmanager
def sushy_static(folder, authority, resources):
    """Serve a tree while the block runs; gives the address."""
    if importlib.util.find_spec("sushy_tools") is None:
        pytest.skip("needs sushy-tools: install the dev group")
    tls(folder, authority, authority.server)
    write_tree(folder / "tree", resources)
    port = free_port()
    command = [sys.executable, "-m", "sushy_tools.static.main", "-i", "127.0.0.1", "-p", str(port)]
    command += ["-m", str(folder / "tree"), "-c", str(folder / "chain.pem"), "-k", str(folder / "key.pem")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: _listens(port), "sushy-static does not listen")
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()


def _listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def source_of(address, folder, subject="machine", **options):
    """Return a source that trusts the test's authority, with credentials that are not required."""
    made = context(
        address, credentials_file(folder), {"ca_file": str(folder / "root.pem"), **options}, subject
    )
    assert made.meter is not None
    return Redfish(made._replace(meter=made.meter._replace(timeout_seconds=5.0)))


@pytest.mark.parametrize(
    ("service", "options", "milliwatts"),
    [
        ("power", {}, 344_000),
        ("environment", {}, 374_200),
        ("whole_and_parts", {}, 226_000),
        ("enclosure", {"chassis": "Node2"}, 405_000),
        ("flat", {}, 232_000),
        ("supplies", {}, 371_500),
    ],
)
def test_power(tmp_path, authority, service, options, milliwatts):
    """Each form in which Redfish gives power is found and read, through a foreign server."""
    with sushy_static(tmp_path, authority, saved(service)) as address:
        source = source_of(address, tmp_path, **options)
        (point,) = source.open()
        assert source.read() == (PowerGauge(point, milliwatts),)
        source.close()


def test_energy(tmp_path, authority):
    """EnergykWh is read where there is no power."""
    with sushy_static(tmp_path, authority, saved("energy_only")) as address:
        source = source_of(address, tmp_path)
        source.open()
        (reading,) = source.read()
    assert isinstance(reading, EnergyCounter)
    assert reading.energy_microjoules == 325_675 * 3_600_000_000


def test_a_service_that_changes_and_goes(tmp_path, authority):
    """A new value is read; null, a deleted resource and a stopped server are failed reads."""
    resources = saved("environment")
    path = "/redfish/v1/Chassis/1U/EnvironmentMetrics"
    place = tmp_path / "tree" / "Chassis" / "1U" / "EnvironmentMetrics" / "index.json"
    with sushy_static(tmp_path, authority, resources) as address:
        source = source_of(address, tmp_path)
        (point,) = source.open()
        resources[path]["PowerWatts"]["Reading"] = 401
        place.write_text(json.dumps(resources[path]))
        assert source.read() == (PowerGauge(point, 401_000),)
        resources[path]["PowerWatts"]["Reading"] = None
        place.write_text(json.dumps(resources[path]))
        with pytest.raises(ReadFailed):
            source.read()
        place.unlink()
        with pytest.raises(ReadFailed, match="lost"):
            source.read()
    with pytest.raises(ReadFailed, match="cannot be reached"):
        source.read()


def test_an_enclosure_is_not_this_machine(tmp_path, authority):
    """A figure of two nodes is refused for one machine, and accepted for a meter."""
    with sushy_static(tmp_path, authority, saved("enclosure")) as address:
        with pytest.raises(SourceUnavailable, match="2 machines"):
            source_of(address, tmp_path).open()
        whole = source_of(address, tmp_path, subject="meter:bmc-3")
        whole.open()
        (reading,) = whole.read()
    assert isinstance(reading, PowerGauge)
    assert reading.power_milliwatts == 812_000
