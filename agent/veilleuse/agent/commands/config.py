# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse-agent config`: prints the full default configuration with comments."""

from __future__ import annotations

import argparse

from veilleuse.agent.settings import AgentSettings
from veilleuse.wire.settings_file import render_default


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing."""


def run(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    """Print the default configuration; a file with only this content changes nothing."""
    print(render_default(AgentSettings), end="")
    return 0
