# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse version`."""

from __future__ import annotations

import platform
import sqlite3
from importlib.metadata import version

import typer

from veilleuse.collector.cli.shared import APP, JsonOption, print_json
from veilleuse.collector.logs import product_version
from veilleuse.wire.limits import PROTOCOL_MINOR_MAXIMUM, PROTOCOL_MINOR_MINIMUM

app = typer.Typer(**APP)


@app.command()
def show_version(as_json: JsonOption = False) -> None:
    """Print the version of the program. With --json: also of the protocol, Python, SQLite and gRPC."""
    own = product_version()
    facts = {
        "version": own,
        "protocol": f"v1.{PROTOCOL_MINOR_MINIMUM}-{PROTOCOL_MINOR_MAXIMUM}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "grpcio": version("grpcio"),
    }
    if as_json:
        print_json(facts)
    else:
        print(f"veilleuse {own}")
