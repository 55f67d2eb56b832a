# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse derive [--all]`: derive what waits, or everything again with the present models."""

from __future__ import annotations

import sys
import time
from datetime import date
from typing import Annotated, Final

import typer

from veilleuse.collector.cli.shared import APP, ConfigOption, JsonOption, plural, print_json, settings_of
from veilleuse.collector.ipc.unix_socket import CollectorNotRunning, ask
from veilleuse.collector.ports import DataReader
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader

app = typer.Typer(**APP)

_LOOK_SECONDS: Final = 0.5
_MONTH_LOOKS: Final = 20
"""Without one month more."""
_ROUNDS: Final = 2
"""Records mark periods, and deriving these may mark others; those mark none."""


@app.command()
def derive(
    everything: Annotated[
        bool, typer.Option("--all", help="derive every stored record again, not only what waits")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Derive wall energy, keep the months that have ended, and wait until it is done.

    The exposed counters stay as first derived; reports follow.
    """
    settings = settings_of(config)
    try:
        periods = _in_the_collector(settings, everything)
    except CollectorNotRunning:
        periods = _here(settings, everything)
    if as_json:
        print_json({"periods": periods})
    else:
        print(f"{periods} {plural(periods, 'period')} derived")


def _in_the_collector(settings: CollectorSettings, everything: bool) -> int:
    """Ask the running collector, then watch today's marks go, and those that their derivation made: a meter's hour marks the
    machines on it. What comes in later is not waited for. How many there were at first."""
    answer = ask(settings.data_dir, "derive_all" if everything else "ping")
    with open_reader(settings.data_dir) as store:
        periods = int(answer["periods"]) if everything else store.data.dirty_count()
        for _ in range(_ROUNDS):
            _watch(settings, store.data)
        _progress(0)
        _watch_months(settings, store.data)
        return periods


def _watch(settings: CollectorSettings, reader: DataReader) -> None:
    """Until the marks that are there now have gone."""
    newest = (reader.dirty_span() or (0, 0))[1]
    before = 0
    # Marks are taken oldest first, and numbers begin again when none is left.
    while (span := reader.dirty_span()) and before <= span[0] <= newest:
        before = span[0]
        _progress(reader.dirty_count())
        time.sleep(_LOOK_SECONDS)
        ask(settings.data_dir, "ping")  # raises when the collector has gone: nobody derives any more


def _watch_months(settings: CollectorSettings, reader: DataReader) -> None:
    """Until the months that may be kept are, or none more will be: one that derive holds up waits for the next time."""
    before = date.fromisoformat(ask(settings.data_dir, "roll")["before"])
    left, looks = reader.months_due(before), 0
    while left and looks < _MONTH_LOOKS:
        time.sleep(_LOOK_SECONDS)
        ask(settings.data_dir, "roll")
        now = reader.months_due(before)
        left, looks = now, looks + 1 if now >= left else 0


def _here(settings: CollectorSettings, everything: bool) -> int:
    """No collector runs: under the directory's lock, in this process."""
    from veilleuse.collector.app.data_directory import (
        open_collector,  # only now: it brings the whole store along
    )

    with open_collector(settings) as collector:
        if everything:
            collector.writer.submit(collector.store.derive.mark_all_dirty).result()
        periods = collector.derive.drain()
        collector.rolls.drain()
        return periods


def _progress(waiting: int) -> None:
    """On a terminal only."""
    if sys.stderr.isatty():
        print(
            f"\r{waiting} {plural(waiting, 'period', 'wait')} to be derived ",
            end="" if waiting else "\n",
            file=sys.stderr,
            flush=True,
        )
