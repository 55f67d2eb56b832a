# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the unit of the RAPL helper, root with the fewest rights (docs/guarantees.md S21, S22, P11)."""

from __future__ import annotations

import re

import pytest

from tests.support.peers import peer
from tests.support.processes import ran
from tests.unit.deploy.test_systemd import SYSTEMD, exposure, settings
from veilleuse.agent.commands.rapl_helper import EVERY_MILLISECONDS
from veilleuse.agent.settings import Paths

UNIT = "veilleuse-rapl.service"


@pytest.mark.promise("S21")
def test_exposure_is_at_most_0_7(figure):
    """systemd's exposure score is at most 0.7 (its threshold option takes tenths); root alone is 0.4."""
    figure(exposure(UNIT, most_tenths=7))


def test_systemd_understands_every_line(tmp_path):
    """`systemd-analyze verify` reports nothing if the command exists."""
    text = (SYSTEMD / UNIT).read_text(encoding="utf-8")
    (tmp_path / UNIT).write_text(re.sub(r"^ExecStart=\S+.*", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    done = ran([peer("systemd-analyze"), "verify", "--man=no", tmp_path / UNIT])
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.promise("P11")
def test_root_with_nothing_of_roots():
    """The helper has no capability, network or device, and may write only its folder."""
    told = settings(UNIT)
    assert told["ExecStart"] == ["/opt/veilleuse/bin/veilleuse-agent rapl-helper"]
    assert (told["User"], told["Group"]) == (["root"], ["veilleuse-rapl"])
    assert told["CapabilityBoundingSet"] == told["AmbientCapabilities"] == [""]
    for name in (
        "NoNewPrivileges",
        "PrivateNetwork",
        "PrivateDevices",
        "PrivateUsers",
        "ProtectKernelTunables",
    ):
        assert told[name] == ["yes"], name
    assert told["RestrictAddressFamilies"] == ["AF_UNIX"]
    assert told["ProtectSystem"] == ["strict"]
    assert "ReadWritePaths" not in told


@pytest.mark.promise("P11")
def test_the_group_reads_what_the_agent_looks_for():
    """The folder is the default of paths.rapl_helper, with 0750 and a group that contains the agent."""
    told = settings(UNIT)
    assert Paths().rapl_helper.parent.as_posix() == f"/run/{told['RuntimeDirectory'][0]}"
    assert told["RuntimeDirectoryMode"] == ["0750"]
    members = (SYSTEMD / "sysusers.d/veilleuse-rapl.conf").read_text(encoding="utf-8")
    assert re.search(rf"^m\s+veilleuse-agent\s+{told['Group'][0]}$", members, re.MULTILINE)


def test_the_agent_finds_it_at_boot():
    """The helper starts before the agent, only if there is a counter; its watchdog allows six intervals."""
    told = settings(UNIT)
    assert told["Before"] == ["veilleuse-agent.service"]
    assert told["Type"] == ["notify"]
    assert told["ConditionPathExistsGlob"] == ["/sys/class/powercap/intel-rapl*:*"]
    (watchdog,) = told["WatchdogSec"]
    assert int(watchdog.removesuffix("min")) * 60_000 >= 6 * EVERY_MILLISECONDS
