# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What a Linux machine is and what is built into it (platforms/__init__.py): host/machine.py, host/components.py and host/power_plan.py read the files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from veilleuse.agent.host.machine import Machine, detect, root_of

if TYPE_CHECKING:
    from veilleuse.agent.host.components import Parts  # the sender's: not in the process that stays


def detect_here(sysfs: str, procfs: str, *, device_class: str = "") -> Machine:
    """As `machine.detect_here`."""
    return detect(sysfs, procfs, device_class=device_class)


def parts_here(machine: Machine, sysfs: str) -> Parts:
    """Read them. A virtual machine has no parts of its own: what its hypervisor shows says nothing about hardware."""
    from veilleuse.agent.host.components import Parts, memory_modules
    from veilleuse.agent.host.power_plan import power_plan

    root = root_of(sysfs)
    plan = power_plan(root or "/")
    if machine.virtualisation != "none":
        return Parts(plan=plan)
    return Parts(memory_modules(sysfs, root), plan)
