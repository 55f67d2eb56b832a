# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Implements `veilleuse top`: shows the fleet live, on a terminal with rich, as plain lines elsewhere.

It reads the data directory and never writes. Servers have power and state. Workstations and classroom PCs
have only their last published month, never anything live.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Final
from zoneinfo import ZoneInfo

import typer

from veilleuse.collector.cli.shared import APP, ConfigOption, load_settings, names_of
from veilleuse.collector.documents.text import DASH, Words, words
from veilleuse.collector.model.sums import ServerUse
from veilleuse.collector.ports.months import PublicationReader
from veilleuse.collector.release.format import FORM
from veilleuse.collector.release.publications import PublicationCache, publish_nothing
from veilleuse.collector.release.tables import Month
from veilleuse.collector.reports.readers import sources_of
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.silence import SilenceLevel, sentence_of
from veilleuse.collector.store import open_reader
from veilleuse.collector.web.metrics.fleet_emissions import CLOSED, FleetEmissions, FleetEmissionsReader
from veilleuse.collector.web.metrics.released_month import MonthView, build_month_view, energy_of, last_month
from veilleuse.collector.web.metrics.samples import energy_today, grams_of_month, short_id
from veilleuse.collector.web.metrics.servers import is_virtual
from veilleuse.collector.web.metrics.snapshot import Snapshot, SnapshotCache, local_time
from veilleuse.wire.units import MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Population, State

if TYPE_CHECKING:
    from rich.console import RenderableType

app = typer.Typer(**APP)

MINIMUM_INTERVAL_SECONDS: Final = 0.5
MAXIMUM_INTERVAL_SECONDS: Final = 86_400
MAXIMUM_ROWS: Final = 40
"""Most servers shown, highest power first; one line counts the others."""
OTHER_LINES: Final = 4
"""Lines of a terminal without servers: clock, blank line above the table, its head, addresses."""
STATE_WORDS: Final = {
    State.ON_ACTIVE: "active",
    State.ON_IDLE: "idle",
    State.ASLEEP: "asleep",
    State.OFF: "off",
    State.UNKNOWN: "unknown",
}


@dataclass(frozen=True, slots=True)
class ServerRow:
    """Texts of one server."""

    host: str
    group: str
    power: str
    cpu: str
    state: str
    today: str
    contact: str


@dataclass(frozen=True, slots=True)
class Screen:
    """Texts of the whole screen at one moment."""

    time: str
    headline: tuple[tuple[str, str], ...]
    rows: tuple[ServerRow, ...]
    servers: int
    """Number of servers, shown or not."""
    others: tuple[str, ...]
    """Lines on the populations that are never shown live."""
    page_url: str
    metrics_url: str
    warnings: tuple[str, ...]


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
    plain: Annotated[bool, typer.Option("--plain", help="print plain lines, also on a terminal")] = False,
) -> None:
    """Watch the collector live. Ctrl-C stops."""
    settings = load_settings(config)
    until = None if seconds is None else time.monotonic() + seconds
    zone = ZoneInfo(settings.reporting.time_zone)
    with open_reader(settings.data_dir) as store:
        month = _published_month(settings, store.publications, lambda: datetime.now(zone).date())
        reader = FleetEmissionsReader()

        def emissions() -> FleetEmissions:
            return reader.read(sources_of(store, settings.reporting), datetime.now(zone).date())

        snapshots = SnapshotCache(store.data, settings, month=month, fleet_emissions=emissions)
        screens = _screens(snapshots, settings, interval, until)
        with contextlib.suppress(KeyboardInterrupt):
            if plain or not sys.stdout.isatty():
                _print_plain(screens)
            else:
                _show_live(screens)


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
    snapshots: SnapshotCache, settings: CollectorSettings, interval_seconds: float, until: float | None
) -> Iterator[Screen]:
    """Yield a screen now and after every interval, until the end. The last screen is at the end itself."""
    w = words("en")
    while True:
        yield screen(snapshots, settings, w)
        left = None if until is None else until - time.monotonic()
        if left is not None and left <= 0:
            return
        time.sleep(interval_seconds if left is None else min(interval_seconds, left))


def screen(snapshots: SnapshotCache, settings: CollectorSettings, w: Words) -> Screen:
    """Take a snapshot and return its texts."""
    snapshot = snapshots.take_snapshot()
    base = f"http://{settings.http.address}/"
    busiest = snapshots.fleet.read_busiest(snapshot.fleet, MAXIMUM_ROWS)
    return Screen(
        f"{local_time(snapshot):%H:%M:%S}",
        tuple(_headline(snapshot, w)),
        tuple(_row(snapshot, one, w) for one in busiest),
        len(snapshot.fleet.servers.members),
        tuple(_other_lines(snapshot, w)),
        base,
        base + "metrics",
        tuple(_warnings(snapshot, w)),
    )


def _headline(snapshot: Snapshot, w: Words) -> Iterable[tuple[str, str]]:
    for virtual, name in ((False, "servers"), (True, "virtual machines")):
        energy, grams = energy_today(snapshot, virtual=virtual)
        power = snapshot.fleet.power_of(virtual=virtual)
        if energy is None and not power and virtual:
            continue
        watts = w.watts(power.watts) if power else w("none.unknown")
        text = f"{watts}, today {w.energy(energy) if energy is not None else w('none.unknown')}"
        text += f" = {w.grams(grams)}" if grams is not None else ""
        missing, whole = snapshot.fleet.without_power(virtual=virtual)
        text += f"; {missing} of {whole} not in the power" if power and missing else ""
        yield name, text + (" (outside the total)" if virtual else "")
    for one in snapshot.sobriety:
        if one.period == "today" and one.coverage_states is not None:
            energy_part = DASH if one.coverage_energy is None else w.percent(one.coverage_energy)
            name = "VM coverage" if one.virtual else "coverage"
            yield name, f"today: states {w.percent(one.coverage_states)}, energy {energy_part}"


def _row(snapshot: Snapshot, one: ServerUse, w: Words) -> ServerRow:
    watts, group = one.watts, one.group
    busy, covered, energy = one.cpu_busy_milliseconds, one.cpu_covered_milliseconds, one.energy_millijoules
    return ServerRow(
        short_id(one.agent_id),
        f"{group.entity} / {group.site} / {group.device_class}",
        DASH if watts is None else w.watts(watts),
        w.percent(busy / covered) if covered else DASH,
        _states(one.states),
        DASH if energy is None else w.energy(energy),
        _contact(snapshot, one.last_contact_unix_milliseconds),
    )


def _states(times: Mapping[State, int]) -> str:
    """Return the shares of today's states, largest first."""
    whole = sum(times.values())
    ordered = sorted(times.items(), key=lambda item: -item[1])
    return " ".join(f"{STATE_WORDS[state]} {ms / whole:.0%}" for state, ms in ordered if ms) or DASH


def _contact(snapshot: Snapshot, unix_milliseconds: int | None) -> str:
    if unix_milliseconds is None:
        return "never"
    zone = ZoneInfo(snapshot.fleet.time_zone)
    moment = datetime.fromtimestamp(unix_milliseconds / MILLISECONDS_PER_SECOND, zone)
    return f"{moment:%H:%M:%S}" if moment.date() == snapshot.today else f"{moment.date()}"


def _other_lines(snapshot: Snapshot, w: Words) -> Iterable[str]:
    kinds, pcs = (Population.WORKSTATION, Population.CLASSROOM), snapshot.day_start.pcs
    told = [w.count(f"count.{kind.value}", pcs.active(kind)) for kind in kinds if pcs.active(kind)]
    if told:
        yield f"{', '.join(told)}: by published month, never live"
    for kind in kinds if snapshot.month else ():
        yield from _month_lines(snapshot, kind, w)
    for year in snapshot.fleet_emissions.years[:1]:
        *perimeters, whole = year.perimeters
        parts = ", ".join(
            f"{w.word('perimeter', one.perimeter)} {w.grams(one.amounts.grams)}" for one in perimeters
        )
        state = "closed" if year.state == CLOSED else f"until {year.until - timedelta(days=1)}"
        yield f"whole fleet, {year.year} {state}: {w.grams(whole.amounts.grams)} ({parts})"


def _month_lines(snapshot: Snapshot, kind: Population, w: Words) -> Iterable[str]:
    """Sum the month of a population's physical machines into one line."""
    if snapshot.month is None:
        return
    energy, grams, missing = 0, Fraction(0), False
    mine = [(row, sums) for row, sums in snapshot.month.cells.items() if row.population == kind.value]
    for row, sums in mine:
        if is_virtual(row.device_class):
            continue
        of_row = energy_of(sums) or 0
        emitted = grams_of_month(snapshot, row.zone, of_row)
        energy, missing = energy + of_row, missing or emitted is None
        grams += emitted or 0
    if energy:
        text = f"{w(f'group.{kind.value}')}, {w.month(snapshot.month.first)}: {w.energy(energy)}"
        yield text if missing else f"{text} = {w.grams(grams)}"


def _warnings(snapshot: Snapshot, w: Words) -> Iterable[str]:
    if snapshot.fleet.kind.simulated:
        yield "simulated data: no figure comes from a real machine"
    if snapshot.health is None:
        yield "the collector does not answer: these are the last figures stored"
    if not snapshot.fleet.places:
        yield "no machine is enrolled yet: 'veilleuse token create', then 'veilleuse-agent enrol'"
    for one in snapshot.silence:
        if one.level in (SilenceLevel.WARNING, SilenceLevel.FAILED):
            yield sentence_of(one, w) + (f" {names_of(one.hosts)}." if one.hosts else "")
    for _, chosen in snapshot.factors_now():
        if chosen.provisional:
            yield f"emission factor {chosen.factor.factor_id} is provisional for {chosen.year}"


def _print_plain(screens: Iterator[Screen]) -> None:
    """Print one line per update and server; lines that do not change are printed once."""
    said: set[str] = set()
    for one in screens:
        once = (f"page {one.page_url}", f"metrics {one.metrics_url}", *one.warnings, *one.others)
        for line in once:
            if line not in said:
                said.add(line)
                print(f"veilleuse: {line}", flush=True)
        for name, text in one.headline:
            print(f"{one.time} {name}: {text}", flush=True)
        for row in one.rows:
            print(
                f"{one.time} host {row.host} ({row.group}): {row.power}, cpu {row.cpu}, {row.state}, "
                f"today {row.today}, contact {row.contact}",
                flush=True,
            )
        if one.servers > len(one.rows):
            print(f"{one.time} {_more_text(one, len(one.rows))}", flush=True)


def _more_text(one: Screen, shown: int) -> str:
    return f"and {one.servers - shown} more"


def _show_live(screens: Iterator[Screen]) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    with Live(console=console, auto_refresh=False) as live:
        for one in screens:
            live.update(_render(one, console.height), refresh=True)


def _render(one: Screen, height: int) -> RenderableType:
    """Render at most `height` lines, none wrapped: servers that do not fit are counted."""
    from rich.console import Group
    from rich.text import Text

    room = max(1, height - OTHER_LINES - len(one.headline) - len(one.others) - len(one.warnings))
    rows = one.rows if one.servers <= room else one.rows[: room - 1]
    pairs = (("Veilleuse", one.time), *one.headline)
    left = max(len(name) for name, _ in pairs)
    lines = [Text.assemble((f"{name:<{left}}", "bold"), f"  {text}") for name, text in pairs]
    head, *body = _columns(rows)
    lines += [Text(), Text(head, style="bold"), *map(Text, body)]
    if one.servers > len(rows):
        lines.append(Text(_more_text(one, len(rows))))
    lines += [Text(line) for line in one.others]
    lines += [Text(line, style="yellow") for line in one.warnings]
    lines.append(Text(f"{one.page_url}  {one.metrics_url}  Ctrl-C stops"))
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(*lines)


def _columns(rows: Sequence[ServerRow]) -> list[str]:
    """Return a head and one line per server; the column that a terminal may cut off is the last."""
    heads = ("host", "power", "cpu", "states today", "energy", "contact", "entity / site / class")
    cells = [(r.host, r.power, r.cpu, r.state, r.today, r.contact, r.group) for r in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    to_the_left = {3, 6}
    return [
        "  ".join(
            f"{cell:{'<' if i in to_the_left else '>'}{widths[i]}}" for i, cell in enumerate(line)
        ).rstrip()
        for line in (heads, *cells)
    ]
