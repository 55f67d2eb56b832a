# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Writes the commands that enrol machines, quoted for the shell that runs them (pure).

They are those of docs/install-debian.md and docs/install-windows.md.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Final

from veilleuse.collector.enrolment.tokens import TokenOrder
from veilleuse.wire.vocabulary import Population

DEBIAN: Final = "debian"
WINDOWS: Final = "windows"
MACOS: Final = "macos"
SYSTEMS: Final = (DEBIAN, WINDOWS, MACOS)
JOIN_FILE: Final = "join.json"
_ON_DEBIAN: Final = "/root/join"


@dataclass(frozen=True, slots=True)
class DeployStep:
    """One step: the key of its text, and what to type."""

    key: str
    command: str


def token_command(order: TokenOrder) -> str:
    """Return the command that makes the token and its join file, for a POSIX shell."""
    return " \\\n  ".join(
        (
            "veilleuse token create",
            f"--entity={shlex.quote(order.org_entity)}",
            f"--site={shlex.quote(order.site)}",
            f"--population={order.population.value}",
            f"--uses={order.uses}",
            f"--hours={order.hours:g}",
            f"--output={JOIN_FILE}",
        )
    )


def machine_steps(system: str, population: Population, version: str) -> tuple[DeployStep, ...]:
    """Return what to do on each machine. Nothing that a reader typed is in these commands."""
    if system == DEBIAN:
        return _debian(population)
    if system == WINDOWS:
        return _windows(population, version)
    return (
        DeployStep("macos_enrol", f"sudo veilleuse-agent enrol {JOIN_FILE}"),
        DeployStep("check", "sudo veilleuse-agent doctor"),
    )


def _debian(population: Population) -> tuple[DeployStep, ...]:
    answers = (
        "debconf-set-selections <<'END'\n"
        f"veilleuse-agent veilleuse-agent/population select {population.value}\n"
        f"veilleuse-agent veilleuse-agent/join-file string {_ON_DEBIAN}\n"
        "END"
    )
    return (
        DeployStep("copy", f"scp {JOIN_FILE} root@MACHINE:{_ON_DEBIAN}"),
        DeployStep("answers", answers),
        DeployStep("install", "DEBIAN_FRONTEND=noninteractive apt-get install -y veilleuse-agent"),
        DeployStep("counters", "apt-get install -y veilleuse-rapl"),
        DeployStep("check", "runuser -u veilleuse-agent -- veilleuse-agent doctor"),
        DeployStep("remove", f"rm {_ON_DEBIAN}"),
    )


def _windows(population: Population, version: str) -> tuple[DeployStep, ...]:
    install = (
        f"msiexec /i veilleuse-agent_{version}_x64.msi /qn /norestart "
        f'JOINFILE="C:\\chemin\\{JOIN_FILE}" POPULATION={population.value}'
    )
    return (
        DeployStep("windows_install", install),
        DeployStep("windows_service", "sc query veilleuse-agent"),
        DeployStep("check", '"C:\\Program Files\\Veilleuse\\veilleuse-agent.cmd" doctor'),
    )
