# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse top`: the fleet live, on a terminal with rich, as plain lines elsewhere. Reads the data directory, never writes.

Servers show watts and state; workstations and classroom PCs only that they are in touch (PROMISES.md §3.2).
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Final
from zoneinfo import ZoneInfo

import typer

from veilleuse.collector.cli.shared import APP, ConfigOption, settings_of
from veilleuse.collector.model import Host, SumRow
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store.sqlite import SqliteReader
from veilleuse.collector.web.look import Look, Outlook, local_time
from veilleuse.collector.web.metrics import energies
from veilleuse.collector.web.period import group_of
from veilleuse.collector.web.words import Words, words
from veilleuse.wire.vocabulary import DeviceClass, Population, State

if TYPE_CHECKING:
    from rich.console import RenderableType

app = typer.Typer(**APP)

MINIMUM_INTERVAL_SECONDS: Final = 0.5
MAXIMUM_ROWS: Final = 40
"""Hosts shown on a terminal; the rest are counted in one line."""
DASH: Final = "–"


@dataclass(frozen=True, slots=True)
class Row:
    """One server as shown."""

    host: str
    group: str
    power: str
    cpu: str
    state: str
    today: str
    contact: str


@dataclass(frozen=True, slots=True)
class Screen:
    """One moment."""

    time: str
    headline: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    others: tuple[str, ...]
    """One line per population that is shown by its health only."""
    page_url: str
    metrics_url: str
    warnings: tuple[str, ...]


@app.command()
def top(
    config: ConfigOption = None,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="stop by itself after this many seconds")
    ] = None,
    interval: Annotated[
        float, typer.Option(min=MINIMUM_INTERVAL_SECONDS, help="seconds between two looks")
    ] = 2.0,
    plain: Annotated[bool, typer.Option("--plain", help="plain lines, also on a terminal")] = False,
) -> None:
    """Watch the collector live. Ctrl-C stops."""
    settings = settings_of(config)
    reader = SqliteReader(settings.data_dir)
    until = None if seconds is None else time.monotonic() + seconds
    screens = _screens(Outlook(reader, settings), settings, interval, until)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            if plain or not sys.stdout.isatty():
                _plain(screens)
            else:
                _live(screens)
    finally:
        reader.close()


def _screens(
    outlook: Outlook, settings: CollectorSettings, interval_seconds: float, until: float | None
) -> Iterator[Screen]:
    """Now, and again every interval, until the end. The last one is at the end itself."""
    w = words("en")
    while True:
        yield screen(outlook.look(), settings, w)
        left = None if until is None else until - time.monotonic()
        if left is not None and left <= 0:
            return
        time.sleep(interval_seconds if left is None else min(interval_seconds, left))


def screen(look: Look, settings: CollectorSettings, w: Words) -> Screen:
    """A look as text (pure)."""
    base = f"http://{settings.http.address}/"
    servers = [host for host in look.fleet.active if host.population is Population.SERVER]
    rows = tuple(_row(look, host, w) for host in servers[:MAXIMUM_ROWS])
    others = list(_others(look, w))
    if len(servers) > MAXIMUM_ROWS:
        others.insert(0, f"and {w.count('count.server', len(servers) - MAXIMUM_ROWS)} more")
    return Screen(
        f"{local_time(look):%H:%M:%S}",
        tuple(_headline(look, w)),
        rows,
        tuple(others),
        base,
        base + "metrics",
        tuple(_warnings(look)),
    )


def _headline(look: Look, w: Words) -> Iterable[tuple[str, str]]:
    for virtual, name in ((False, "servers"), (True, "virtual machines (memo)")):
        energy, grams = _today(look, virtual)
        power = [p.watts for p in look.fleet.power if _virtual(p.host) is virtual]
        if energy is None and not power and virtual:
            continue
        watts = w.watts(sum(power)) if power else w("none.unknown")
        text = f"{watts}, today {w.energy(energy) if energy is not None else w('none.unknown')}"
        yield name, text + (f" = {w.grams(grams)}" if grams is not None else "")
    for one in look.sobriety:
        if one.period == "today" and one.coverage_states is not None:
            energy_part = DASH if one.coverage_energy is None else w.percent(one.coverage_energy)
            name = "coverage today" + (" (memo)" if one.virtual else "")
            yield name, f"states {w.percent(one.coverage_states)}, energy {energy_part}"


def _today(look: Look, virtual: bool) -> tuple[int | None, Fraction | None]:
    energy: int | None = None
    grams: Fraction | None = None
    found = energies(look.fleet.today.derived, look.fleet.hosts, look, look.today.year)
    for (group, _, _), (millijoules, emitted) in found.items():
        if (group.device_class == DeviceClass.VIRTUAL_MACHINE) is virtual:
            energy = (energy or 0) + millijoules
            grams = grams if emitted is None else (grams or 0) + emitted
    return energy, grams


def _row(look: Look, host: Host, w: Words) -> Row:
    power = next((p.watts for p in look.fleet.power if p.host.host_id == host.host_id), None)
    today = [row.cell.energy_millijoules for row in look.fleet.today.derived if row.host_id == host.host_id]
    sums = [row for row in look.fleet.today.sums if row.host_id == host.host_id]
    group = group_of(host)
    return Row(
        str(host.host_id),
        f"{group.entity} / {group.site} / {group.device_class}",
        DASH if power is None else w.watts(power),
        _cpu(sums, w),
        _states(sums, w),
        w.energy(sum(today)) if today else DASH,
        _contact(look, host),
    )


def _cpu(sums: Iterable[SumRow], w: Words) -> str:
    """Mean CPU over what was covered today."""
    covered = [row.cell for row in sums if row.cell.cpu_covered_milliseconds]
    whole = sum(cell.cpu_covered_milliseconds or 0 for cell in covered)
    return w.percent(sum(c.cpu_busy_milliseconds or 0 for c in covered) / whole) if whole else DASH


def _states(sums: Iterable[SumRow], w: Words) -> str:
    """Shares of today's states, largest first."""
    times: defaultdict[State, int] = defaultdict(int)
    for row in sums:
        times[row.cell.state] += row.cell.milliseconds
    whole = sum(times.values())
    ordered = sorted(times.items(), key=lambda item: -item[1])
    return ", ".join(f"{state.value} {w.percent(ms / whole)}" for state, ms in ordered if ms) or DASH


def _contact(look: Look, host: Host) -> str:
    if host.last_contact_unix_milliseconds is None:
        return "never"
    zone = ZoneInfo(look.fleet.time_zone)
    return f"{datetime.fromtimestamp(host.last_contact_unix_milliseconds / 1000, zone):%d %b %H:%M:%S}"


def _others(look: Look, w: Words) -> Iterable[str]:
    for population in (Population.WORKSTATION, Population.CLASSROOM):
        members = [h for h in look.fleet.active if h.population is population]
        if members:
            yield f"{w.count(f'count.{population.value}', len(members))} enrolled: health only, figures by closed period on the page"


def _warnings(look: Look) -> Iterable[str]:
    if look.fleet.kind.simulated:
        yield "simulated data: no figure comes from a real machine"
    if look.health is None:
        yield "the collector does not answer: these are the last figures stored"
    if not look.fleet.hosts:
        yield "no machine is enrolled yet: 'veilleuse token create', then 'veilleuse-agent enrol'"
    for _, chosen in look.factors_now():
        if chosen.provisional:
            yield (
                f"emission factor {chosen.factor.factor_id} is provisional for {chosen.year}: "
                "the year's own is not published yet"
            )


def _virtual(host: Host) -> bool:
    return host.facts.device_class is DeviceClass.VIRTUAL_MACHINE


def _plain(screens: Iterator[Screen]) -> None:
    """One line per look and server; what does not change is said once."""
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


def _live(screens: Iterator[Screen]) -> None:
    from rich.console import Console
    from rich.live import Live

    first = next(screens)
    with Live(_drawn(first), console=Console(highlight=False), auto_refresh=False) as live:
        for one in screens:
            live.update(_drawn(one), refresh=True)


def _drawn(one: Screen) -> RenderableType:
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = Table.grid(padding=(0, 2))
    head.add_row(Text("Veilleuse", style="bold"), Text(one.time))
    for name, text in one.headline:
        head.add_row(Text(name, style="bold"), Text(text))
    table = Table(
        "host",
        "entity / site / class",
        "power",
        "cpu today",
        "state today",
        "today",
        "last contact",
        box=box.SIMPLE_HEAD,
    )
    for row in one.rows:
        cells = (row.host, row.group, row.power, row.cpu, row.state, row.today, row.contact)
        table.add_row(*map(Text, cells))
    notes = [Text(line) for line in one.others]
    notes += [Text(line, style="yellow") for line in one.warnings]
    links = Text(f"page {one.page_url}   metrics {one.metrics_url}   Ctrl-C stops")
    return Group(head, table, *notes, links)
