# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The Debian packages on two machines with a running systemd: from the installation to the purge, 0 lost."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.install.machines import (
    DEBIAN_12,
    DEBIAN_13,
    UBUNTU_24,
    Machine,
    System,
    require_root,
    two_machines,
)
from tests.install.packages import PREVIOUS, one, packages
from tests.install.steps import step
from tests.install.story import (
    AGENT,
    COLLECTOR,
    DATA,
    JOIN,
    RAPL,
    STATE,
    Load,
    Story,
    answer,
    install,
    scraping,
    settle,
    wait_for,
)
from tests.promises.support import previous
from tests.promises.support.killed_agent import OFF
from veilleuse.wire.version import VERSION

UNITS: Final = {AGENT: 1.1, COLLECTOR: 1.1, "veilleuse-agent-sleep": 1.1, "veilleuse-backup": 1.1}
"""Unit → the exposure that S21 promises."""

OF_OTHERS: Final = (
    "/var/cache/apt/",
    "/var/cache/debconf/",
    "/var/lib/apt/",
    "/var/lib/ucf/",
    "/var/tmp/systemd-",
)
"""Files that apt, debconf, ucf and systemd make for themselves."""
TOLD: Final = ("/etc", "/var/lib", "/usr/lib/systemd", "/run/systemd", "/var/cache/debconf")
"""Folders in which no file may tell of us after a purge."""
NO_COPIES: Final = ("--exclude=*-old", "--exclude-dir=ucf")
"""debconf keeps a copy of the state before, ucf several."""
ACCOUNTS: Final = {
    f"/etc/{name}{old}" for name in ("passwd", "group", "shadow", "gshadow") for old in ("", "-")
}

ALARMING: Final = re.compile(r"\b(warning|error|critical)\b|not permitted|Traceback", re.IGNORECASE)
EXPECTED: Final = re.compile(
    "not enrolled: measured and kept, not sent"  # before the join file came
    "|nothing delivered reason='the collector at collector.test:8641 cannot be reached"  # while it was down
)


@pytest.fixture(params=[DEBIAN_13, DEBIAN_12, UBUNTU_24], ids=lambda system: system.suite)
def system(request: pytest.FixtureRequest) -> System:
    """Return each system that packages are tested on."""
    require_root()
    assert isinstance(request.param, System)
    return request.param


@pytest.fixture
def built(system: System) -> Path:
    """Return this checkout's packages for the system."""
    with step(system.name, "build packages") as taken:
        folder = packages(system)
        taken.result = ", ".join(sorted(file.name for file in folder.iterdir()))
    return folder


@pytest.fixture
def story(system: System, built: Path) -> Iterator[Story]:
    """Yield two machines, booted."""
    with two_machines(system) as (collector, agent):
        yield Story(collector, agent)


@pytest.mark.long
@pytest.mark.promise("install")
def test_from_the_installation_to_the_purge(
    system: System, built: Path, story: Story, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """Agent and collector are installed, enrolled, killed, rebooted, removed, installed again and purged.

    On other systems than Debian 13 they are not killed, rebooted and installed again.
    """
    names = {machine: files_of(machine) for machine in (story.collector, story.agent)}
    install_collector(system, story, built)
    with scraping(story.collector, tmp_path) as prometheus:
        install_agent(system, story, built)
        with step(system.name, "Prometheus scrapes") as taken:
            (power,) = prometheus.waits_for("veilleuse_host_power_watts > 0")
            (energy,) = prometheus.waits_for(
                "sum by (population, method) (veilleuse_energy_joules_total) > 0"
            )
            assert energy["population"] == power["population"] == "server"
            assert prometheus.query("veilleuse_agents_silent{population='server'} == 0")
            taken.result = f"{float(power['value']):.0f} W, {energy['method']}"
        units(system, story, built)
        if system is DEBIAN_13:
            kill(system, story)
            reboot(system, story)
        with step(system.name, "Prometheus saw no refusal"):
            assert prometheus.query("max_over_time(veilleuse_collector_up[10m]) == 1")
            assert not prometheus.query("max_over_time(veilleuse_collector_refused_records_total[10m]) > 0")
            assert not prometheus.query("veilleuse_agent_quarantine_records > 0")
    journals(system, story)
    if system is DEBIAN_13:
        remove_and_install_again(system, story, built)
    with step(system.name, "balance") as taken:
        taken.result = story.balance()
        figure(f"{system.name}: {taken.result}")
    purge(system, story, names)


@pytest.mark.long
@pytest.mark.promise("install")
def test_upgraded_under_load(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """The previous release is installed and enrolled; both services are upgraded while records flow."""
    require_root()
    system = DEBIAN_13
    with step(system.name, f"build packages, {PREVIOUS} too"):
        before, now = packages(system, previous=True), packages(system)
    with two_machines(system) as machines:
        story = Story(*machines)
        with step(system.name, f"install and enrol {PREVIOUS}"):
            install(story.collector, one(before, COLLECTOR))
            story.veilleuse("init")
            story.configure_collector()
            story.start_collector()
            story.quicken_agent()
            with story.interrupted():
                install(story.agent, one(before, AGENT), answers={"veilleuse-agent/population": "server"})
                settle(story.agent, AGENT)
            story.enrol_by_hand(story.token("server"))
            story.delivers()
            assert story.veilleuse("version").startswith(f"veilleuse {previous.VERSION}")
        with scraping(story.collector, tmp_path) as prometheus:
            load = Load(story.agent)
            for machine, unit in ((story.collector, COLLECTOR), (story.agent, AGENT)):
                story.receives(500)
                with step(system.name, f"upgrade {unit} under load"), story.interrupted(unit):
                    install(machine, one(now, unit))
                    settle(machine, unit)
            story.receives(500)
            fed = load.end()
            with step(system.name, "balance after both upgrades") as taken:
                rest = ("pending", "outbox")
                wait_for(lambda: sum(map(story.spooled, rest)) == 0, "all is delivered")
                taken.result = story.balance(fed)
                rate = f"{len(fed) / load.seconds:.0f} records/s"
                figure(f"{taken.result} by an upgrade from {PREVIOUS} under {rate}")
            (series,) = prometheus.waits_for("veilleuse_agent_version_hosts == 1")
            assert series["version"] == story.agent.out("veilleuse-agent", "version").split()[1]
            assert series["version"] == VERSION


def install_collector(system: System, story: Story, built: Path) -> None:
    """Install it, and make its data directory, twice."""
    collector = story.collector
    with step(system.name, "install collector"):
        install(collector, one(built, COLLECTOR))
        assert collector.property_of(COLLECTOR, "ActiveState") == "inactive", "there is no data directory yet"
        assert "veilleuse init" in remedies(collector)
    with step(system.name, "init --if-missing, twice") as taken:
        assert "ca_sha256" in story.veilleuse("init", "--if-missing")
        taken.result = story.veilleuse("init", "--if-missing")
        assert "is initialised already" in taken.result
        said = remedies(collector)
        assert f"systemctl start {COLLECTOR}" in said
        assert "systemctl enable --now veilleuse-backup.timer" in said
    with step(system.name, "start collector"):
        story.configure_collector()
        story.start_collector()
        assert collector.out(
            "stat", "--format=%U %a", DATA, "/etc/veilleuse/collector.toml"
        ).splitlines() == [
            "veilleuse 700",
            "root 640",
        ]


def remedies(collector: Machine) -> str:
    """Return what the collector's `doctor` says; it names nothing that only a checkout has."""
    said = collector.run("veilleuse", "doctor", check=False).stdout
    assert not re.search(r"\bmake\b|deploy/", said), said
    return said


def install_agent(system: System, story: Story, built: Path) -> None:
    """Install it as a server, let it measure, then enrol it by a join file alone."""
    agent = story.agent
    story.quicken_agent()
    with step(system.name, "install agent"), story.interrupted():
        install(agent, one(built, AGENT), answers={"veilleuse-agent/population": "server"})
        settle(agent, AGENT)
        assert 'population = "server"' in agent.path("/etc/veilleuse/agent.toml").read_text(encoding="utf-8")
        modes = agent.out("stat", "--format=%U %a", STATE, "/etc/veilleuse/agent.toml").splitlines()
        assert modes == [f"{AGENT} 700", "root 640"]
    with step(system.name, "measure before enrolment") as taken:
        wait_for(lambda: story.spooled("pending") >= 2, "two records wait", (agent, AGENT))
        taken.result = f"{story.spooled('pending')} records wait"
    with step(system.name, "enrol by the join file"):
        story.carry(story.token("server"))
        wait_for(lambda: not agent.path(JOIN).exists(), "the join file is used", (agent, AGENT))
        wait_for(agent.path(f"{STATE}/id/certificate.pem").exists, "there is a certificate", (agent, AGENT))
    with step(system.name, "deliver") as taken:
        story.delivers()
        taken.result = story.balance()


def units(system: System, story: Story, built: Path) -> None:
    """What systemd itself says of the units while they run."""
    with step(system.name, "exposure of the units") as taken:
        scores = {}
        for unit, most in UNITS.items():
            machine = story.collector if unit in (COLLECTOR, "veilleuse-backup") else story.agent
            *_, said = machine.out(
                "systemd-analyze", "security", "--no-pager", f"{unit}.service"
            ).splitlines()
            found = re.search(r"exposure level for \S+: ([\d.]+)", said)
            assert found, said
            scores[unit] = float(found[1])
            assert scores[unit] <= most, said
        taken.result = ", ".join(f"{unit} {score}" for unit, score in scores.items())
    with step(system.name, "install the RAPL helper") as taken, story.interrupted():
        install(story.agent, one(built, RAPL))
        settle(story.agent, AGENT)
        taken.result = story.agent.property_of(RAPL, "ActiveState")
        counters = story.agent.out("sh", "-c", "ls /sys/class/powercap | grep :  || true")
        assert (taken.result == "active") == bool(counters), story.agent.journal(RAPL)
        assert RAPL in story.agent.out("id", "--groups", "--name", AGENT).split()
    with step(system.name, "sign before sleep, backup"):
        story.agent.run("systemctl", "start", "veilleuse-agent-sleep")
        story.collector.run("systemctl", "start", "veilleuse-backup")
        assert list(story.collector.path("/var/backups/veilleuse").iterdir())


def kill(system: System, story: Story) -> None:
    """Kill both services; systemd starts them again."""
    with story.interrupted(killed=True):
        kill_one(system, story.agent, AGENT)
    kill_one(system, story.collector, COLLECTOR)
    story.delivers()
    with story.interrupted(killed=True):
        kill_one(system, story.agent, AGENT, "STOP")
    assert "Watchdog timeout" in story.agent.journal(AGENT)
    story.delivers()


def kill_one(system: System, machine: Machine, unit: str, signal: str = "KILL") -> None:
    """Send a signal to the main process of a service, and wait until systemd has started it again."""
    with step(system.name, f"kill -{signal} {unit}") as taken:
        before, restarts = machine.main_pid(unit), int(machine.property_of(unit, "NRestarts"))
        machine.run("sh", "-c", f"kill -{signal} {before}")
        wait_for(lambda: machine.main_pid(unit) not in (0, before), f"{unit} starts again", (machine, unit))
        settle(machine, unit)
        assert int(machine.property_of(unit, "NRestarts")) == restarts + 1
        taken.result = "started again by systemd"


def reboot(system: System, story: Story) -> None:
    """Reboot both machines; nobody does anything else. The agent knows that its machine was off."""
    for machine, unit in ((story.agent, AGENT), (story.collector, COLLECTOR)):
        with step(system.name, f"reboot the {machine.name}'s machine"), story.interrupted(unit):
            machine.reboot()
            settle(machine, unit)
    story.delivers()
    with step(system.name, "the reboot is time off") as taken:
        off = sum(states[OFF] for states in story.held().periods.values())
        assert off > 0, story.agent.journal(AGENT)
        taken.result = f"{off / 1000:.1f} s off"


def journals(system: System, story: Story) -> None:
    """Both services say nothing alarming but what was done to them."""
    with step(system.name, "journals") as taken:
        lines = []
        for machine, unit in ((story.agent, AGENT), (story.collector, COLLECTOR)):
            lines += [
                line for line in machine.journal(unit, 10_000).splitlines() if " systemd[1]: " not in line
            ]
        alarming = [line for line in lines if ALARMING.search(line) and not EXPECTED.search(line)]
        assert not alarming, "\n".join(alarming)
        taken.result = f"0 of {len(lines)} lines alarming"


def remove_and_install_again(system: System, story: Story, built: Path) -> None:
    """Remove both and install them again: identity and data stay."""
    for machine, unit in ((story.agent, AGENT), (story.collector, COLLECTOR)):
        with story.interrupted(unit):
            with step(system.name, f"remove {unit}"):
                machine.run("apt-get", "remove", "--yes", unit, *helper(unit))
                assert machine.property_of(unit, "LoadState") in ("not-found", "masked")
                account = unit.removesuffix("-collector")
                assert not machine.out("find", "/proc", "-maxdepth", "1", "-user", account)
            with step(system.name, f"install {unit} again"):
                install(machine, *(one(built, package) for package in (unit, *helper(unit))))
                settle(machine, unit)
    story.delivers()


def purge(system: System, story: Story, names: dict[Machine, set[str]]) -> None:
    """Purge both: no file, no answer and no unit of theirs stays. The accounts do, as Debian advises."""
    story.forget_quickness()
    for machine, unit in ((story.agent, AGENT), (story.collector, COLLECTOR)):
        with step(system.name, f"purge {unit}"):
            if unit == COLLECTOR:
                answer(machine, {"veilleuse-collector/purge-data": "true"})
            machine.run("apt-get", "purge", "--yes", unit, *helper(unit))
            left = {name for name in files_of(machine) - names[machine] if not name.startswith(OF_OTHERS)}
            assert not left, "\n".join(sorted(left))
            search = ("grep", "--recursive", "--files-with-matches", *NO_COPIES, "veilleuse", *TOLD)
            told = machine.run(*search, check=False).stdout
            assert set(told.split()) <= ACCOUNTS, told
            assert "veilleuse" not in machine.out(
                "systemctl", "list-units", "--all", "--plain", "--no-legend"
            )


def helper(unit: str) -> list[str]:
    """Return what is installed beside a unit's package."""
    return [RAPL] if unit == AGENT else []


def files_of(machine: Machine) -> set[str]:
    """Return the names of all files of a machine, but for logs."""
    return set(machine.out("find", "/", "-xdev", "-path", "/var/log", "-prune", "-o", "-print").splitlines())
