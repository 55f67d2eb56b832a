# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse-agent powermetrics-helper`.

The root job that reads the processor's power on macOS for the agent.
"""

from __future__ import annotations

import argparse

from veilleuse.agent.settings import AgentSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: neither the interval nor the values that are read can be set."""


def run(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    """Publish until SIGTERM."""
    from veilleuse.agent.helpers.powermetrics import run as publish

    return publish(settings.paths.rapl_helper)
