# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse derive [--all]`: derives waiting periods, or all again with the present models."""

from __future__ import annotations

import time
from datetime import date
from typing import Annotated, Final

import typer

from veilleuse.collector.cli.progress import ShowStep, shown_progress
from veilleuse.collector.cli.shared import APP, ConfigOption, JsonOption, load_settings, plural, print_result
from veilleuse.collector.ipc import CollectorNotRunning, ask
from veilleuse.collector.ports.store import DataReader
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store import open_reader

app = typer.Typer(**APP)

_CHECK_SECONDS: Final = 0.5
_MONTH_CHECKS: Final = 20
"""Checks without one more month kept, after which the wait ends."""
_PERIODS: Final = "deriving periods"
_MONTHS: Final = "keeping months"
_ROUNDS: Final = 2
"""Records mark periods dirty; deriving these may mark others, and those mark none."""


@app.command()
def derive(
    everything: Annotated[
        bool, typer.Option("--all", help="derive every stored record again, not only waiting ones")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Derive wall energy and keep the months that have ended. The command waits until this is done.

    Exposed counters keep their first values; reports use the new ones.
    """
    settings = load_settings(config)
    try:
        with shown_progress(is_shown=not as_json) as progress:
            periods = _derive_in_collector(settings, everything, progress)
    except CollectorNotRunning:
        with shown_progress(is_shown=not as_json) as progress:
            periods = _derive_here(settings, everything, progress)
    print_result({"periods": periods}, f"{periods} {plural(periods, 'period')} derived", as_json)


def _derive_in_collector(settings: CollectorSettings, everything: bool, progress: ShowStep) -> int:
    """Ask the running collector, and wait for the periods that wait now. Returns the number of these periods.

    Their derivation marks others, which are waited for too: an hour of a meter marks the machines on it.
    Later records are not waited for.
    """
    answer = ask(settings.data_dir, "derive_all" if everything else "ping")
    with open_reader(settings.data_dir) as store:
        periods = int(answer["periods"]) if everything else store.data.dirty_count()
        for _ in range(_ROUNDS):
            _wait_for_periods(settings, store.data, progress)
        _wait_for_months(settings, store.data, progress)
        return periods


def _wait_for_periods(settings: CollectorSettings, reader: DataReader, progress: ShowStep) -> None:
    """Wait until the present marks are gone."""
    newest = (reader.dirty_span() or (0, 0))[1]
    before, most = 0, reader.dirty_count()
    # Marks are taken oldest first, and numbers begin again when none is left.
    while (span := reader.dirty_span()) and before <= span[0] <= newest:
        before = span[0]
        waiting = reader.dirty_count()
        most = max(most, waiting)  # later records wait too
        progress(_PERIODS, most - waiting, most)
        time.sleep(_CHECK_SECONDS)
        ask(settings.data_dir, "ping")  # raises when the collector has stopped: then nothing derives


def _wait_for_months(settings: CollectorSettings, reader: DataReader, progress: ShowStep) -> None:
    """Wait until all ended months are kept, or no more are.

    A month with periods to derive is kept by a later run.
    """
    before = date.fromisoformat(ask(settings.data_dir, "roll")["before"])
    left, checks = reader.months_due(before), 0
    most = left
    while left and checks < _MONTH_CHECKS:
        time.sleep(_CHECK_SECONDS)
        ask(settings.data_dir, "roll")
        now = reader.months_due(before)
        progress(_MONTHS, max(0, most - now), most)
        left, checks = now, checks + 1 if now >= left else 0


def _derive_here(settings: CollectorSettings, everything: bool, progress: ShowStep) -> int:
    """Derive in this process, under the directory's lock, because no collector runs."""
    from veilleuse.collector.app.data_directory import open_collector  # late: it imports the whole store

    with open_collector(settings) as collector:
        if everything:
            collector.writer.submit(collector.store.derive.mark_all_dirty).result()
        with open_reader(settings.data_dir) as store:
            waiting = store.data.dirty_count()
        periods = collector.derive.drain(lambda done: progress(_PERIODS, done, max(done, waiting)))
        progress(_MONTHS, 0, 0)
        collector.rolls.drain()
        return periods
