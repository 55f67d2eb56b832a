# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the wire's Facts about the machine. They never hold a serial number, a name or a user."""

from __future__ import annotations

from typing import Final, cast

from veilleuse.agent.host.components import Parts
from veilleuse.agent.host.machine import Machine, detect_here
from veilleuse.agent.platforms import load_module
from veilleuse.agent.settings import AgentSettings
from veilleuse.wire.limits import fact_text
from veilleuse.wire.v1 import telemetry_pb2 as pb

_PLAIN: Final = (
    "vendor",
    "model",
    "cpu_model",
    "cpu_count",
    "memory_bytes",
    "hard_disks",
    "solid_state_disks",
    "virtualisation",
)
"""Fields that Machine and Facts share by name and unit. None stays unset."""


def own_facts(settings: AgentSettings) -> pb.Facts:
    """Return the facts of this machine."""
    sysfs, procfs = str(settings.paths.sysfs), str(settings.paths.procfs)
    machine = detect_here(sysfs, procfs, device_class=settings.measure.device_class)
    return host_facts(machine, parts_here(machine, sysfs))


def parts_here(machine: Machine, sysfs: str) -> Parts:
    """Read the parts of this machine from its operating system; `sysfs` is used on Linux only."""
    return cast("Parts", load_module("facts").parts_here(machine, sysfs))


_NOTHING: Final = Parts()


def host_facts(machine: Machine, parts: Parts = _NOTHING) -> pb.Facts:
    """Return the current facts; a fact that is not known is not set."""
    facts = pb.Facts(device_class=f"DEVICE_CLASS_{machine.device_class.upper()}")
    for name in _PLAIN:
        value = getattr(machine, name)
        if isinstance(value, str):
            value = fact_text(value)
        if value is not None:
            setattr(facts, name, value)
    for name, number in (
        ("memory_modules", parts.memory_modules),
        ("display_off_ac_seconds", parts.plan.display_off_ac_seconds),
        ("sleep_ac_seconds", parts.plan.sleep_ac_seconds),
    ):
        if number is not None:
            setattr(facts, name, number)
    return facts
