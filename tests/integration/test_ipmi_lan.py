# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Read IPMI over the network with the real `ipmitool`, from a controller with pyghmi's session layer
(tests/support/fakes/bmc.py)."""

from __future__ import annotations

import importlib.util
import subprocess
from contextlib import nullcontext

import pytest

from tests.support.fakes import bmc
from tests.support.metering import context_of, in_a_hurry
from tests.support.peers import peer
from tests.support.waiting import PATIENCE_SECONDS
from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import PowerGauge
from veilleuse.agent.sources.ipmi_dcmi import IpmiDcmi, power_watts
from veilleuse.agent.sources.run_program import ProgramResult


@pytest.fixture
def controller(tmp_path):
    """Give a controller that answers 214 W."""
    if importlib.util.find_spec("pyghmi") is None:
        pytest.skip("needs pyghmi: install the dev group")
    with bmc.running(tmp_path) as running:
        yield running


@pytest.fixture
def source(tmp_path, controller, monkeypatch):
    """Return the source with the real program and no pause between two reads."""
    monkeypatch.setattr(IpmiDcmi, "TOOL_FOLDERS", (str(peer("ipmitool").parent),))
    monkeypatch.setattr(IpmiDcmi, "PAUSE_SECONDS", 0.0)
    return IpmiDcmi(context(tmp_path, controller.port))


def context(folder, port, secret=bmc.SECRET):
    """Return the context of a meter with credentials."""
    credentials = folder / "credentials"
    credentials.write_text(f"{bmc.NAME}:{secret}\n")
    credentials.chmod(0o600)
    address = f"127.0.0.1:{port}"
    return context_of(
        "ipmi_dcmi", address, meter="bmc-3", every_seconds=30, credentials_file=str(credentials)
    )


def test_power_over_the_network(source, controller):
    """The source reads exactly the controller's watts, through foreign encryption and authentication."""
    (point,) = source.open()
    for watts in (214, 1, 3999):
        controller.says(f"{watts} active")
        assert source.read() == (PowerGauge(point, watts * 1000),)


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ("214 inactive", "not active"),
        ("0 active", "0 W"),
        ("65535 active", "ceiling"),
        ("code d5", "present state"),
        ("code c0", "busy"),
        ("code c1", "DCMI"),
        ("silent", "within 0\\.4 s|no power reading"),
    ],
)
def test_what_is_not_a_reading(source, controller, says, reason):
    """Each bad answer is a failed read with its reason, and the next good answer is read."""
    source.open()
    controller.says(says)
    hurry = in_a_hurry(source) if says == "silent" else nullcontext()
    with hurry, pytest.raises(ReadFailed, match=f"(?i){reason}"):
        source.read()
    controller.says("214 active")
    assert source.read()


def test_a_controller_without_dcmi_is_said(source, controller):
    """A controller without DCMI makes `open` raise SourceUnavailable."""
    controller.says("code c1")
    with pytest.raises(SourceUnavailable, match="DCMI"):
        source.open()


def test_a_wrong_password(source, controller, tmp_path):
    """A wrong password raises ReadFailed, whose message does not contain it."""
    context(tmp_path, controller.port, "wrong-one")
    with pytest.raises(ReadFailed, match="session") as caught:
        source.open()
    assert "wrong-one" not in str(caught.value)


def test_what_the_real_freeipmi_prints_is_understood(controller, tmp_path):
    """Real output of ipmi-dcmi is parsed as for this machine's own controller, which no test machine has."""
    command = [str(peer("ipmi-dcmi")), "-D", "LAN_2_0", "-h", f"127.0.0.1:{controller.port}", "-u", bmc.NAME]
    command += ["-p", bmc.SECRET, "-l", "USER", "-I", "3", "--get-system-power-statistics"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_SECONDS)
    assert power_watts("ipmi-dcmi", ProgramResult(0, ended.stdout, ended.stderr)) == 214
