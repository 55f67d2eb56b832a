# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse simulate`: fills a data directory with a simulated fleet; writes its true energy."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from veilleuse.collector.cli.shared import (
    APP,
    ConfigOption,
    JsonOption,
    load_settings,
    parse_date,
    print_result,
)
from veilleuse.collector.errors import UsageError
from veilleuse.collector.simulate.fill import simulate as fill
from veilleuse.collector.simulate.fleet import SimulationOrder

app = typer.Typer(**APP)


@app.command()
def simulate(
    first: Annotated[str, typer.Option("--from", metavar="DATE", help="first day, e.g. 2025-09-01")],
    hosts: Annotated[int, typer.Option(help="machines with an agent; the fleet has more machines")] = 60,
    days: Annotated[int, typer.Option(help="number of days; all of them in the past")] = 365,
    seed: Annotated[int, typer.Option(help="the same seed makes the same figures")] = 1,
    truth: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="file for the true energy of the whole fleet (default: <data_dir>-truth.json)",
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fill an empty simulated data directory with a fleet.

    The fleet has three colleges, two directions and a server room. 'veilleuse init --simulated' makes the
    directory.
    """
    settings = load_settings(config)
    order = SimulationOrder(hosts, parse_date("--from", first), days, seed)
    path = truth or settings.data_dir.with_name(f"{settings.data_dir.name}-truth.json")
    _require_new(path)
    known = fill(settings, order, _print_progress)
    _write(path, known.text())
    told = known.document()
    facts = {
        "data_dir": str(settings.data_dir),
        "truth": str(path),
        **{name: told[name] for name in ("data", "seed", "from", "to", "hosts", "machines", "kwh_total")},
    }
    print_result(facts, "\n".join(f"{name:<10} {value}" for name, value in facts.items()), as_json)


def _require_new(path: Path) -> None:
    """Check, before minutes of work, that the file can be made. Raises UsageError."""
    if path.exists():
        raise UsageError(f"{path} exists: remove it, or choose another file with --truth")
    if not path.parent.is_dir():
        raise UsageError(f"there is no directory {path.parent}: make it, or choose another file with --truth")


def _write(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}; choose another file with --truth"
        ) from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _print_progress(what: str, done: int, whole: int) -> None:
    """Print the progress, on a terminal only."""
    if sys.stderr.isatty():
        end = "\n" if what == "done" else ""
        print(f"\r{what} {done}/{whole}        ", end=end, file=sys.stderr, flush=True)
