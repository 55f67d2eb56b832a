# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Detects a Linux machine and its parts: implements the `facts` module of platforms/__init__.py.

The files are read by host/machine.py, host/components.py and host/power_plan.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from veilleuse.agent.host.machine import Machine, detect, root_of

if TYPE_CHECKING:  # used by other processes than the resident one
    from veilleuse.agent.host.components import Parts
    from veilleuse.agent.host.graphics import GraphicsAdapter


def detect_here(sysfs: str, procfs: str, *, device_class: str = "") -> Machine:
    """Implement `machine.detect_here`."""
    return detect(sysfs, procfs, device_class=device_class)


def parts_here(machine: Machine, sysfs: str) -> Parts:
    """Read the parts. A virtual machine has none: its hypervisor's values say nothing about hardware."""
    from veilleuse.agent.host.components import Parts, memory_modules
    from veilleuse.agent.host.power_plan import power_plan

    root = root_of(sysfs)
    plan = power_plan(root or "/")
    if machine.virtualisation != "none":
        return Parts(plan=plan)
    return Parts(memory_modules(sysfs, root), plan)


def graphics_here(sysfs: str) -> tuple[GraphicsAdapter, ...]:
    """Implement `graphics.graphics_here`."""
    from veilleuse.agent.host.graphics import adapters_of_sysfs

    return adapters_of_sysfs(sysfs)
