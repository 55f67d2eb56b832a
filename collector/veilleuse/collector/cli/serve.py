# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse serve`."""

from __future__ import annotations

from functools import partial

import typer

from veilleuse.collector.cli.shared import APP, ConfigOption
from veilleuse.collector.settings import read_settings
from veilleuse.wire.process import say

app = typer.Typer(**APP)


@app.command()
def serve(config: ConfigOption = None) -> None:
    """Run the collector until SIGTERM or Ctrl-C."""
    settings = read_settings(config, tell=partial(say, "veilleuse", code=0))
    from veilleuse.collector import app as service

    raise typer.Exit(service.serve(settings))
