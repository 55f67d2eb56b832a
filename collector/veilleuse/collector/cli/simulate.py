# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse simulate`: fills a data directory with a simulated fleet; writes its true energy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from veilleuse.collector import clock
from veilleuse.collector.cli.progress import shown_progress
from veilleuse.collector.cli.shared import (
    APP,
    ConfigOption,
    JsonOption,
    load_settings,
    parse_date,
    print_facts,
    print_result,
)
from veilleuse.collector.errors import UsageError
from veilleuse.collector.simulate.fill import simulate as fill
from veilleuse.collector.simulate.presets import order_of
from veilleuse.collector.simulate.small import SMALL

app = typer.Typer(**APP)


@app.command()
def simulate(
    preset: Annotated[
        str, typer.Option(metavar="NAME", help="kind of fleet: small, or metropole, a large body until now")
    ] = SMALL.name,
    first: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="first day, e.g. 2025-09-01")
    ] = None,
    hosts: Annotated[
        int | None, typer.Option(help="machines with an agent; the fleet has more  [small: 60]")
    ] = None,
    days: Annotated[
        int | None, typer.Option(help="number of days; all of them in the past  [small: 365]")
    ] = None,
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

    The small fleet has three colleges, two directions and a server room. The preset metropole has 110
    colleges, 30 directions, three server rooms and 12,000 assets; its months are published, and its last year
    is closed. 'veilleuse init --simulated' makes the directory.
    """
    settings = load_settings(config)
    begun = None if first is None else parse_date("--from", first)
    order = order_of(preset, clock.today(), hosts=hosts, first=begun, days=days, seed=seed)
    path = truth or settings.data_dir.with_name(f"{settings.data_dir.name}-truth.json")
    _require_new(path)
    with shown_progress(is_shown=not as_json) as progress:
        known = fill(settings, order, progress)
    _write(path, known.text())
    told = known.document()
    facts = {
        "data_dir": str(settings.data_dir),
        "truth": str(path),
        **{name: told[name] for name in ("data", "seed", "from", "to", "hosts", "machines", "kwh_total")},
    }
    shown = {name: str(value) for name, value in facts.items()}
    print_result(facts, lambda: print_facts(shown, 10), as_json)


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
