# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The Debian packages on two machines with a running systemd: from the installation to the purge, 0 lost."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.install.machines import DEBIAN_12, DEBIAN_13, UBUNTU_24, Machine, System, require_root, two_machines
from tests.install.packages import one, packages
from tests.install.steps import step
from tests.install.story import (
    AGENT,
    COLLECTOR,
    DATA,
    JOIN,
    STATE,
    Story,
    install,
    scraping,
    settle,
)
from tests.support.waiting import until

UNITS = {AGENT: 1.1, COLLECTOR: 1.1, "veilleuse-agent-sleep": 1.1, "veilleuse-backup": 1.1}
"""Unit → the exposure that S21 promises."""


@pytest.fixture(params=[DEBIAN_13, DEBIAN_12, UBUNTU_24], ids=lambda system: system.suite)
def system(request: pytest.FixtureRequest) -> System:
    """Return each system that packages are tested on."""
    require_root()
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
    """Agent and collector are installed, enrolled, killed, rebooted, removed, installed again and purged."""
    names = {machine: files_of(machine) for machine in (story.collector, story.agent)}
    install_collector(system, story, built)
    with scraping(story.collector, tmp_path) as prometheus:
        install_agent(system, story, built)
        with step(system.name, "Prometheus scrapes") as taken:
            (power,) = prometheus.waits_for("veilleuse_host_power_watts > 0")
            (energy,) = prometheus.waits_for("sum by (population, method) (veilleuse_energy_joules_total) > 0")
            assert energy["population"] == power["population"] == "server"
            assert prometheus.query("veilleuse_agents_silent{population='server'} == 0")
            taken.result = f"{float(power['value']):.0f} W, {energy['method']}"
        units(system, story)
        kill(system, story)
        reboot(system, story)
        with step(system.name, "Prometheus saw no refusal"):
            assert prometheus.query("max_over_time(veilleuse_collector_up[10m]) == 1")
            assert not prometheus.query("max_over_time(veilleuse_collector_refused_records_total[10m]) > 0")
            assert not prometheus.query("veilleuse_agent_quarantine_records > 0")
    remove_and_install_again(system, story, built)
    with step(system.name, "balance") as taken:
        taken.result = story.balance()
        figure(f"{system.name}: {taken.result}")
    purge(system, story, names)


def install_collector(system: System, story: Story, built: Path) -> None:
    """Install it, and make its data directory, twice."""
    collector = story.collector
    with step(system.name, "install collector"):
        install(collector, one(built, COLLECTOR))
        assert collector.property_of(COLLECTOR, "ActiveState") == "inactive", "there is no data directory yet"
    with step(system.name, "init --if-missing, twice") as taken:
        assert "ca_sha256" in story.veilleuse("init", "--if-missing")
        taken.result = story.veilleuse("init", "--if-missing")
        assert "is initialised already" in taken.result
    with step(system.name, "start collector"):
        story.configure_collector()
        story.start_collector()
        assert collector.out("stat", "--format=%U %a", DATA, "/etc/veilleuse/collector.toml").splitlines() == [
            "veilleuse 700",
            "root 640",
        ]


def install_agent(system: System, story: Story, built: Path) -> None:
    """Install it as a server, let it measure, then enrol it by a join file alone."""
    agent = story.agent
    story.quicken_agent()
    with step(system.name, "install agent"):
        install(agent, one(built, AGENT), answers={"veilleuse-agent/population": "server"})
        settle(agent, AGENT)
        assert 'population = "server"' in agent.path("/etc/veilleuse/agent.toml").read_text(encoding="utf-8")
        modes = agent.out("stat", "--format=%U %a", STATE, "/etc/veilleuse/agent.toml").splitlines()
        assert modes == [f"{AGENT} 700", "root 640"]
    with step(system.name, "measure before enrolment") as taken:
        until(lambda: story.spooled("pending") >= 2, f"nothing is measured\n{agent.journal(AGENT)}", every=0.5)
        taken.result = f"{story.spooled('pending')} records wait"
    with step(system.name, "enrol by the join file"):
        story.carry(story.token("server"))
        until(lambda: not agent.path(JOIN).exists(), f"it does not enrol\n{agent.journal(AGENT)}", 90, every=0.5)
        until(lambda: agent.path(f"{STATE}/id/certificate.pem").exists(), "it has no certificate")
    with step(system.name, "deliver") as taken:
        story.delivers()
        taken.result = story.balance()


def units(system: System, story: Story) -> None:
    """What systemd itself says of the units while they run."""
    with step(system.name, "exposure of the units") as taken:
        scores = {}
        for unit, most in UNITS.items():
            machine = story.collector if unit in (COLLECTOR, "veilleuse-backup") else story.agent
            said = machine.out("systemd-analyze", "security", "--no-pager", f"{unit}.service").splitlines()[-1]
            found = re.search(r"exposure level for \S+: ([\d.]+)", said)
            assert found, said
            scores[unit] = float(found[1])
            assert scores[unit] <= most, said
        taken.result = ", ".join(f"{unit} {score}" for unit, score in scores.items())
    with step(system.name, "sign before sleep, backup"):
        story.agent.run("systemctl", "start", "veilleuse-agent-sleep")
        story.collector.run("systemctl", "start", "veilleuse-backup")
        assert list(story.collector.path("/var/backups/veilleuse").iterdir())


def kill(system: System, story: Story) -> None:
    """Kill both services; systemd starts them again."""
    for machine, unit in ((story.agent, AGENT), (story.collector, COLLECTOR)):
        with step(system.name, f"kill -9 {unit}") as taken, story.interrupted(killed=True):
            before = machine.main_pid(unit)
            machine.run("kill", "-9", str(before))
            until(lambda: machine.main_pid(unit) not in (0, before), f"{unit} is not started again")
            settle(machine, unit)
            restarts = machine.property_of(unit, "NRestarts")
            taken.result = f"started again by systemd, {restarts} restart"
            assert restarts == "1"
        story.delivers()


def reboot(system: System, story: Story) -> None:
    """Reboot both machines; nobody does anything else."""
    for machine, unit in ((story.agent, AGENT), (story.collector, COLLECTOR)):
        with step(system.name, f"reboot the {machine.name}'s machine"), story.interrupted():
            machine.reboot()
            settle(machine, unit)
        story.delivers()


def remove_and_install_again(system: System, story: Story, built: Path) -> None:
    """Remove both and install them again: identity and data stay."""
    for machine, unit in ((story.agent, AGENT), (story.collector, COLLECTOR)):
        with story.interrupted():
            with step(system.name, f"remove {unit}"):
                machine.run("apt-get", "remove", "--yes", unit)
                assert machine.property_of(unit, "LoadState") in ("not-found", "masked")
                assert not machine.run("pgrep", "-u", unit.removesuffix("-collector"), check=False).stdout
            with step(system.name, f"install {unit} again"):
                install(machine, one(built, unit))
                settle(machine, unit)
        story.delivers()


def purge(system: System, story: Story, names: dict[Machine, set[str]]) -> None:
    """Purge both: no file, no account, no unit, no process of theirs stays."""
    for machine, unit in ((story.agent, AGENT), (story.collector, COLLECTOR)):
        with step(system.name, f"purge {unit}"):
            machine.run("apt-get", "purge", "--yes", unit)
            left = files_of(machine) - names[machine]
            assert not left, "\n".join(sorted(left))


def files_of(machine: Machine) -> set[str]:
    """Return the names of all files of a machine, but for logs."""
    return set(machine.out("find", "/", "-xdev", "-path", "/var/log", "-prune", "-o", "-print").splitlines())
