# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the units and rules of deploy/systemd/ (docs/guarantees.md S20 to S22, deploy/systemd/README.md)."""

from __future__ import annotations

import grp
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT
from tests.support.peers import peer
from tests.support.processes import ran

SYSTEMD = ROOT / "deploy/systemd"
UNITS = (
    "veilleuse-agent.service",
    "veilleuse-collector.service",
    "veilleuse-backup.service",
    "veilleuse-agent-sleep.service",
)
SERVICES = UNITS[:2]
"""The services that stay running."""
RULE = SYSTEMD / "60-veilleuse-rapl.rules"


def settings(unit: str) -> dict[str, list[str]]:
    """Return each `Name=value` of a unit: name → values, in order."""
    found: dict[str, list[str]] = {}
    for line in (SYSTEMD / unit).read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.promise("S21")
@pytest.mark.parametrize("unit", UNITS)
def test_exposure_is_at_most_1_1(unit, figure):
    """S21: systemd's exposure score is 1.1 or less; its threshold option takes tenths."""
    figure(exposure(unit, most_tenths=11))


def exposure(unit: str, most_tenths: int) -> str:
    """Return the unit's name and systemd's score, which must be this many tenths at most."""
    command: list[str | Path] = [peer("systemd-analyze"), "security", "--offline=true", "--no-pager"]
    done = ran([*command, f"--threshold={most_tenths}", SYSTEMD / unit])
    assert done.returncode == 0, done.stdout[-200:] + done.stderr
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    return f"exposure {found[1] if found else 'unknown'} of {unit}"


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_understands_every_line(unit, tmp_path):
    """`systemd-analyze verify` reports nothing if the command exists."""
    text = (SYSTEMD / unit).read_text(encoding="utf-8")
    copy = tmp_path / unit
    copy.write_text(re.sub(r"^ExecStart=/opt/veilleuse/bin/\S+", "ExecStart=/bin/true", text, flags=re.M))
    done = ran([peer("systemd-analyze"), "verify", "--man=no", copy])
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("unit", SERVICES)
def test_a_unit_starts_an_installed_command(unit):
    """ExecStart is an installed command, run as its own user, and restarts have a growing delay."""
    told = settings(unit)
    command, word = {"veilleuse-agent.service": ("veilleuse-agent", "run")}.get(unit, ("veilleuse", "serve"))
    assert told["ExecStart"] == [f"/opt/veilleuse/bin/{command} {word}"]
    assert told["User"] == told["Group"] == [command]
    assert told["StateDirectoryMode"] == ["0700"]
    assert told["UMask"] == ["0077"]
    assert int(told["RestartSteps"][0]) >= 3
    assert told["RestartPreventExitStatus"] == ["2"]


def test_the_backup_runs_every_night_without_a_network(tmp_path):
    """The nightly timer starts the service of its name, which may write backups and has no network."""
    told = settings("veilleuse-backup.service")
    assert told["ExecStart"] == ["/opt/veilleuse/bin/veilleuse backup /var/backups/veilleuse --keep 14"]
    assert told["User"] == told["Group"] == ["veilleuse"]
    assert told["SuccessExitStatus"] == ["3"]
    assert told["ReadWritePaths"] == ["-/var/backups/veilleuse"]
    assert told["PrivateNetwork"] == ["yes"]
    assert told["IOSchedulingClass"] == ["idle"]
    timer = settings("veilleuse-backup.timer")
    done = ran([peer("systemd-analyze"), "calendar", *timer["OnCalendar"]])
    assert done.returncode == 0, done.stderr
    assert "Unit" not in timer  # systemd.timer(5): the default is the service of the same name
    assert timer["Persistent"] == ["yes"]


def test_the_sign_before_sleep_holds_nothing_up():
    """Every kind of sleep starts the unit first and waits for at most 10 s; the unit has no network."""
    told = settings("veilleuse-agent-sleep.service")
    assert told["ExecStart"] == ["/opt/veilleuse/bin/veilleuse-agent before-sleep --timeout 3"]
    assert told["Before"] == told["WantedBy"] == ["sleep.target"]
    assert "RequiredBy" not in told
    assert told["Type"] == ["oneshot"]
    assert 3 < int(told["TimeoutStartSec"][0]) <= 10
    assert told["User"] == told["Group"] == ["veilleuse-agent"]
    assert told["PrivateNetwork"] == ["yes"]
    assert told["StateDirectory"] == ["veilleuse-agent"]


def test_the_agent_ends_before_the_bus():
    """At a shutdown the agent still asks systemd whether the machine is going down."""
    assert settings("veilleuse-agent.service")["After"] == ["dbus.service"]


def test_the_agent_weighs_little():
    """The unit has the bounds of deploy/systemd/README.md, a watchdog, no capability and no core file."""
    told = settings("veilleuse-agent.service")
    assert told["MemoryMax"] == ["128M"]
    assert told["CPUQuota"] == ["5%"]
    assert told["TasksMax"] == ["64"]
    assert told["IOSchedulingClass"] == ["idle"]
    assert "WatchdogSec" in told
    assert told["LimitCORE"] == ["0"]
    assert told["CapabilityBoundingSet"] == told["AmbientCapabilities"] == [""]


def test_accounts_and_folders(tmp_path):
    """On an empty system the accounts exist, state folders are 0700, and configuration is root's, 0640."""
    if os.geteuid() != 0:
        pytest.skip("needs root: accounts and owners")
    for kind in ("sysusers.d", "tmpfiles.d"):
        folder = tmp_path / "usr/lib" / kind
        folder.mkdir(parents=True)
        for file in (SYSTEMD / kind).iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
    (tmp_path / "etc/veilleuse").mkdir(parents=True)
    for name in ("agent.toml", "collector.toml"):
        (tmp_path / "etc/veilleuse" / name).touch(0o666)
    for command in (["systemd-sysusers"], ["systemd-tmpfiles", "--create"]):
        subprocess.run(
            [peer(command[0]), *command[1:], f"--root={tmp_path}"], check=True, capture_output=True
        )

    groups = dict(line.split(":", 1) for line in (tmp_path / "etc/group").read_text().splitlines())
    assert groups["veilleuse-rapl"].endswith(":veilleuse-agent")
    users = (tmp_path / "etc/passwd").read_text()
    assert re.search(r"^veilleuse:.*/usr/sbin/nologin$", users, re.M)
    assert re.search(r"^veilleuse-agent:.*/usr/sbin/nologin$", users, re.M)
    for folder in ("var/lib/veilleuse", "var/lib/veilleuse-agent", "var/backups/veilleuse"):
        assert (tmp_path / folder).stat().st_mode & 0o777 == 0o700
    for name, group in (("agent.toml", "veilleuse-agent"), ("collector.toml", "veilleuse")):
        status = (tmp_path / "etc/veilleuse" / name).stat()
        assert status.st_mode & 0o777 == 0o640
        assert status.st_uid == 0
        assert str(status.st_gid) == groups[group].split(":")[1]


def test_udev_understands_the_rule():
    """`udevadm verify` accepts the rule, with its style."""
    done = subprocess.run([peer("udevadm"), "verify", RULE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.promise("S22")
def test_nobody_else_reads_the_energy_counters(tmp_path, figure):
    """S22: on a tree with world-readable files, the rule's commands leave 0440."""
    zone = tmp_path / "devices/virtual/powercap/intel-rapl/intel-rapl:0"
    zone.mkdir(parents=True)
    files = [zone / "energy_uj", zone / "max_energy_range_uj"]
    for file in files:
        file.write_text("1\n")
        file.chmod(0o444)
    text = RULE.read_text(encoding="utf-8").replace("\\\n", " ")
    commands = re.findall(r'RUN\+="([^"]+)"', text)
    assert len(commands) == 2, "first the group, then the mode"
    us = grp.getgrgid(os.getgid()).gr_name
    for command in commands:
        here = command.replace("%S%p", str(zone)).replace(" veilleuse-rapl ", f" {us} ")
        subprocess.run(shlex.split(here), check=True)
    found = subprocess.run(
        ["find", tmp_path, "-name", "*_uj", "-perm", "/o+rwx"], capture_output=True, check=True
    )
    figure("0 of 2 files readable by others after the udev rule's commands, on a simulated tree")
    assert found.stdout == b""
    assert {file.stat().st_mode & 0o777 for file in files} == {0o440}


def test_no_file_here_opens_them_to_all():
    """No mode in the rule, tmpfiles.d or the units gives others a right, except on the folder
    /etc/veilleuse."""
    for file in [RULE, *(SYSTEMD / "tmpfiles.d").iterdir()]:
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith("#"):
                continue
            for mode in re.findall(r"\b0?[0-7]{3}\b", line):
                assert mode[-1] == "0" or "/etc/veilleuse " in line, f"{file.name}: {line}"
    for file in SYSTEMD.glob("*.service"):
        told = settings(file.name)
        modes = [value for name in told if name.endswith("DirectoryMode") for value in told[name]]
        assert {mode[-1] for mode in modes} <= {"0"}, file.name
        assert [mask[-1] for mask in told["UMask"]] == ["7"], file.name


def test_purge_removes_what_the_units_make():
    """S20: the README's `rm -rf` lines remove each folder that a unit or tmpfiles.d makes, and the program;
    the README names each file."""
    text = Path(SYSTEMD / "README.md").read_text(encoding="utf-8")
    way_out = text[text.index("## Uninstall") :]
    removed = {path for line in way_out.splitlines() if line.startswith("rm -rf ") for path in line.split()}
    made = {"/opt/veilleuse"}
    for file in SYSTEMD.glob("*.service"):  # systemd itself removes a RuntimeDirectory
        for kind, above in (("State", "/var/lib"), ("Cache", "/var/cache"), ("Logs", "/var/log")):
            for names in settings(file.name).get(f"{kind}Directory", []):
                made |= {f"{above}/{name}" for name in names.split()}
    for file in (SYSTEMD / "tmpfiles.d").iterdir():
        lines = file.read_text(encoding="utf-8").splitlines()
        made |= {line.split()[1] for line in lines if line.startswith("d ")}
    assert {"/var/lib/veilleuse", "/var/lib/veilleuse-agent", "/var/backups/veilleuse"} < made
    assert made <= removed
    for file in SYSTEMD.rglob("*"):
        if file.is_file() and file.name != "README.md":
            assert file.name in text, f"{file.name} is not in the README"
