# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse-agent version`: prints the versions to quote in a report."""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys

from veilleuse.agent.settings import AgentSettings
from veilleuse.wire.limits import PROTOCOL_MINOR_MAXIMUM, PROTOCOL_MINOR_MINIMUM
from veilleuse.wire.version import VERSION


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="for a machine")


def run(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    """Print the versions of the agent, protocol, Python and SQLite."""
    versions = {
        "version": VERSION,
        "protocol": f"v1.{PROTOCOL_MINOR_MINIMUM}-{PROTOCOL_MINOR_MAXIMUM}",
        "python": ".".join(map(str, sys.version_info[:3])),
        "sqlite": sqlite3.sqlite_version,
    }
    if parsed.json:
        print(json.dumps(versions))
    else:
        print(
            f"veilleuse-agent {VERSION} (protocol {versions['protocol']}, Python {versions['python']}, "
            f"SQLite {versions['sqlite']})"
        )
    return 0
