# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse-agent rapl-helper`: the root service that reads the energy counters for the agent.

See deploy/systemd/veilleuse-rapl.service.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from veilleuse.agent.settings import AgentSettings

if TYPE_CHECKING:
    import argparse  # not in the resident process


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: neither the interval nor the resolution can be set."""


def run(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    """Publish until SIGTERM."""
    from veilleuse.agent.helpers.rapl import run as publish
    from veilleuse.agent.ports import SourceContext
    from veilleuse.agent.service.systemd import SystemdNotifier

    # Root reads the counters of the machine it runs on: also in a hypervisor's privileged domain or on a
    # container host.
    context = SourceContext(str(settings.paths.sysfs), str(settings.paths.procfs), "none")
    return publish(context, settings.paths.rapl_helper, SystemdNotifier())
