# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse top`: shows the fleet live, on a terminal with rich, as plain lines elsewhere.

It reads the data directory and never writes. Servers have power and state. Workstations and classroom PCs
have only their last published month, never anything live. Plain lines are English, also in a French locale.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from veilleuse.collector import clock
from veilleuse.collector.cli.fleet_screen import MAXIMUM_ROWS, Choice, Screen, SortKey, take_screen
from veilleuse.collector.cli.live_view import show_live
from veilleuse.collector.cli.shared import APP, ConfigOption, load_settings
from veilleuse.collector.documents.text import words
from veilleuse.collector.ports.directory import ReadStore
from veilleuse.collector.ports.months import PublicationReader
from veilleuse.collector.release.format import FORM
from veilleuse.collector.release.publications import PublicationCache, publish_nothing
from veilleuse.collector.release.tables import Month
from veilleuse.collector.reports.readers import sources_of
from veilleuse.collector.settings import CollectorSettings, is_french
from veilleuse.collector.store import open_reader
from veilleuse.collector.web.metrics.fleet_emissions import FleetEmissions, FleetEmissionsReader
from veilleuse.collector.web.metrics.released_month import MonthView, build_month_view, last_month
from veilleuse.collector.web.metrics.snapshot import SnapshotCache

app = typer.Typer(**APP)

MINIMUM_INTERVAL_SECONDS = 0.5
MAXIMUM_INTERVAL_SECONDS = 86_400


def _require_finite(seconds: float | None) -> float | None:
    """Refuse infinity and NaN: these pass every bound, and such a time never ends. Raises BadParameter."""
    if seconds is not None and not math.isfinite(seconds):
        raise typer.BadParameter("it is not a number of seconds: leave it out to go on until Ctrl-C")
    return seconds


@app.command()
def top(
    config: ConfigOption = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=0, callback=_require_finite, help="stop after this many seconds"),
    ] = None,
    interval: Annotated[
        float,
        typer.Option(
            min=MINIMUM_INTERVAL_SECONDS,
            max=MAXIMUM_INTERVAL_SECONDS,
            callback=_require_finite,
            help="seconds between two updates",
        ),
    ] = 2.0,
    sort: Annotated[SortKey, typer.Option(help="order of the servers")] = SortKey.POWER,
    text: Annotated[
        str,
        typer.Option(
            "--filter",
            metavar="TEXT",
            help="only servers with this text in entity, site or class, or whose id begins so",
        ),
    ] = "",
    plain: Annotated[bool, typer.Option("--plain", help="print plain lines, also on a terminal")] = False,
) -> None:
    """Watch the collector live. Ctrl-C stops.

    On a terminal, keys sort, filter and scroll the servers: the last line names them. Servers without a
    contact for two intervals are marked with "!".
    """
    settings = load_settings(config)
    until = None if seconds is None else time.monotonic() + seconds
    choice = Choice(sort, text=text)
    is_live = not plain and sys.stdout.isatty()
    w = words("fr" if is_live and is_french() else "en")
    with open_reader(settings.data_dir) as store:
        snapshots = _snapshots(store, settings)

        def take(choice: Choice, rows: int) -> Screen:
            return take_screen(snapshots, settings, w, choice, rows)

        with contextlib.suppress(KeyboardInterrupt):
            if is_live:
                show_live(take, w, choice, interval, until)
            else:
                _print_plain(_screens(take, choice, interval, until))


def _snapshots(store: ReadStore, settings: CollectorSettings) -> SnapshotCache:
    zone = ZoneInfo(settings.reporting.time_zone)
    month = _published_month(settings, store.publications, lambda: clock.today(zone))
    reader = FleetEmissionsReader()

    def emissions() -> FleetEmissions:
        return reader.read(sources_of(store, settings.reporting), clock.today(zone))

    return SnapshotCache(store.data, settings, month=month, fleet_emissions=emissions)


def _published_month(
    settings: CollectorSettings,
    published: PublicationReader,
    today: Callable[[], date],
) -> Callable[[], MonthView | None]:
    """Return a function that reads the newest month as published. It publishes nothing."""
    months = PublicationCache(FORM, published, publish_nothing, settings.reporting.k_anonymity)
    kept: list[tuple[Month, MonthView]] = []

    def newest() -> MonthView | None:
        month = months.read(*last_month(today()))
        if month and not (kept and kept[0][0] is month):
            kept[:] = [(month, build_month_view(month))]
        return kept[0][1] if month else None

    return newest


def _screens(
    take: Callable[[Choice, int], Screen], choice: Choice, interval_seconds: float, until: float | None
) -> Iterator[Screen]:
    """Yield a screen now and after every interval, until the end. The last screen is at the end itself."""
    while True:
        yield take(choice, MAXIMUM_ROWS)
        left = None if until is None else until - time.monotonic()
        if left is not None and left <= 0:
            return
        time.sleep(interval_seconds if left is None else min(interval_seconds, left))


def _print_plain(screens: Iterator[Screen]) -> None:
    """Print one line per update and server; lines that do not change are printed once."""
    said: set[str] = set()
    for one in screens:
        once = (f"page {one.page_url}", f"metrics {one.page_url}metrics", *one.warnings, *one.others)
        for line in once:
            if line not in said:
                said.add(line)
                print(f"veilleuse: {line}", flush=True)
        for name, text in one.headline:
            print(f"{one.time} {name}: {text}", flush=True)
        for row in one.rows:
            print(
                f"{one.time} host {row.host} ({row.place}): {row.power}, cpu {row.cpu}, {row.state}, "
                f"today {row.energy}, contact {row.contact}" + (", silent" if row.is_silent else ""),
                flush=True,
            )
        if one.servers > len(one.rows):
            print(f"{one.time} {one.more}", flush=True)
