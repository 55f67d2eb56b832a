# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse-agent run`: the resident process. Imports nothing of the sender."""

from __future__ import annotations

from typing import TYPE_CHECKING

from veilleuse.agent.settings import AgentSettings

if TYPE_CHECKING:
    import argparse  # not in the process that stays


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    """Measure until SIGTERM."""
    from veilleuse.agent.resident import run as measure
    from veilleuse.agent.service.systemd import SystemdNotifier

    return measure(settings, parsed.config, SystemdNotifier())
