# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse serve`."""

from __future__ import annotations

import typer

from veilleuse.collector.cli.shared import APP, ConfigOption, settings_of

app = typer.Typer(**APP)


@app.command()
def serve(config: ConfigOption = None) -> None:
    """Run the collector until SIGTERM or Ctrl-C."""
    settings = settings_of(config)
    from veilleuse.collector import app as service

    raise typer.Exit(service.serve(settings))
