# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the texts of `veilleuse top` at one moment: chooses, sorts and writes the servers."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from veilleuse.collector.cli.shared import names_of
from veilleuse.collector.documents.text import DASH, Words
from veilleuse.collector.model.records import AgentId
from veilleuse.collector.model.sums import ServerGroup, ServerUse
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.silence import SilenceLevel, sentence_of
from veilleuse.collector.web.metrics.fleet_emissions import CLOSED
from veilleuse.collector.web.metrics.released_month import energy_of
from veilleuse.collector.web.metrics.samples import energy_today, grams_of_month, short_id
from veilleuse.collector.web.metrics.servers import is_virtual
from veilleuse.collector.web.metrics.snapshot import Snapshot, SnapshotCache, local_time
from veilleuse.wire.units import MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Population, State

MAXIMUM_ROWS: Final = 40
"""Most servers printed as plain lines; one line counts the others."""


class SortKey(StrEnum):
    """Order of the servers. Servers without a known value are last."""

    POWER = "power"
    """Highest first."""
    CPU = "cpu"
    """Busiest today first."""
    ENERGY = "energy"
    """Most of today first."""
    CONTACT = "contact"
    """The longest silent first."""
    ENTITY = "entity"
    """By the alphabet: entity, site, class."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A Choice says which servers are shown, and in which order."""

    sort: SortKey = SortKey.POWER
    is_reversed: bool = False
    text: str = ""
    """Part of the entity, site or class, or the begin of an id; without regard to case and accents."""
    first: int = 0
    """Number of servers above the first one shown."""


@dataclass(frozen=True, slots=True)
class ServerRow:
    """Texts of one server."""

    host: str
    power: str
    cpu: str
    state: str
    energy: str
    contact: str
    place: str
    """Entity, site, class."""
    short_place: str
    """The same without the entities above."""
    is_silent: bool


@dataclass(frozen=True, slots=True)
class Screen:
    """Texts of the whole screen at one moment."""

    time: str
    headline: tuple[tuple[str, str], ...]
    rows: tuple[ServerRow, ...]
    first: int
    """Number of servers above the first row."""
    servers: int
    """Number of servers that the filter lets through, shown or not."""
    others: tuple[str, ...]
    """Lines on the populations that are never shown live."""
    page_url: str
    warnings: tuple[str, ...]
    more: str
    """Says how many servers are not in the rows."""


def take_screen(
    snapshots: SnapshotCache, settings: CollectorSettings, w: Words, choice: Choice, rows: int
) -> Screen:
    """Take a snapshot and return its texts, with at most `rows` servers."""
    snapshot = snapshots.take_snapshot()
    shown, first, servers = _choose(snapshots, snapshot, choice, rows)
    silent = {host.agent_id for one in snapshot.silence for host in one.hosts}
    return Screen(
        f"{local_time(snapshot):%H:%M:%S}",
        tuple(_headline(snapshot, w)),
        tuple(_row(snapshot, one, silent, w) for one in shown),
        first,
        servers,
        tuple(_other_lines(snapshot, w)),
        f"http://{settings.http.address}/",
        tuple(_warnings(snapshot, w)),
        w("top.more", number=w.number(servers - len(shown))),
    )


def _choose(
    snapshots: SnapshotCache, snapshot: Snapshot, choice: Choice, rows: int
) -> tuple[Sequence[ServerUse], int, int]:
    """Return (servers to show, number of servers above them, number of servers that fit the filter)."""
    whole = len(snapshot.fleet.servers.members)
    if choice == Choice(first=choice.first):  # the store sorts by power, and reads today's sums of these only
        first = min(choice.first, max(0, whole - rows))
        return snapshots.fleet.read_busiest(snapshot.fleet, first + rows)[first:], first, whole
    text = fold(choice.text)
    found = [
        one
        for one in snapshots.fleet.read_busiest(snapshot.fleet, whole)
        if text in fold(_place(one.group)) or one.agent_id.hex().startswith(text)
    ]
    if choice.sort is SortKey.ENTITY:
        found.sort(key=lambda one: fold(_place(one.group)), reverse=choice.is_reversed)
    else:
        value_of, sign = _VALUES[choice.sort], 1 if choice.is_reversed else -1
        values = {one.agent_id: value_of(one) for one in found}
        found.sort(key=lambda one: _last_if_unknown(values[one.agent_id], sign))
    first = min(choice.first, max(0, len(found) - rows))
    return found[first : first + rows], first, len(found)


def _last_if_unknown(value: float | None, sign: int) -> tuple[bool, float]:
    return value is None, sign * (value or 0)


_VALUES: Final[Mapping[SortKey, Callable[[ServerUse], float | None]]] = {
    SortKey.POWER: lambda one: one.watts,
    SortKey.CPU: lambda one: (
        one.cpu_busy_milliseconds / one.cpu_covered_milliseconds if one.cpu_covered_milliseconds else None
    ),
    SortKey.ENERGY: lambda one: one.energy_millijoules,
    SortKey.CONTACT: lambda one: -(one.last_contact_unix_milliseconds or 0),
}


@lru_cache(maxsize=1 << 14)
def fold(text: str) -> str:
    """Return the text without case and accents, for comparisons."""
    letters = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _place(group: ServerGroup) -> str:
    return f"{group.entity} / {group.site} / {group.device_class}"


def _row(snapshot: Snapshot, one: ServerUse, silent: set[AgentId], w: Words) -> ServerRow:
    watts, group, energy = one.watts, one.group, one.energy_millijoules
    busy = _VALUES[SortKey.CPU](one)
    is_silent = one.agent_id in silent
    contact = _contact(snapshot, one.last_contact_unix_milliseconds, w)
    return ServerRow(
        short_id(one.agent_id),
        DASH if watts is None else w.watts(watts),
        DASH if busy is None else w.percent(busy),
        _states(one.states, w),
        DASH if energy is None else w.energy(energy),
        f"! {contact}" if is_silent else contact,
        _place(group),
        f"{group.entity.rpartition(' > ')[2]} / {group.site} / {group.device_class}",
        is_silent,
    )


def _states(times: Mapping[State, int], w: Words) -> str:
    """Return the shares of today's states, largest first."""
    whole = sum(times.values())
    ordered = sorted(times.items(), key=lambda item: -item[1])
    return (
        " ".join(f"{w(f'top.states.{state.value}')} {ms / whole:.0%}" for state, ms in ordered if ms) or DASH
    )


def _contact(snapshot: Snapshot, unix_milliseconds: int | None, w: Words) -> str:
    if unix_milliseconds is None:
        return w("top.never")
    zone = ZoneInfo(snapshot.fleet.time_zone)
    moment = datetime.fromtimestamp(unix_milliseconds / MILLISECONDS_PER_SECOND, zone)
    return f"{moment:%H:%M:%S}" if moment.date() == snapshot.today else f"{moment.date()}"


def _headline(snapshot: Snapshot, w: Words) -> Iterator[tuple[str, str]]:
    for virtual, name in ((False, "servers"), (True, "virtual")):
        energy, grams = energy_today(snapshot, virtual=virtual)
        power = snapshot.fleet.power_of(virtual=virtual)
        if energy is None and not power and virtual:
            continue
        unknown = w("none.unknown")
        text = w(
            "top.today",
            watts=w.watts(power.watts) if power else unknown,
            energy=unknown if energy is None else w.energy(energy),
        )
        text += w("top.grams", grams=w.grams(grams)) if grams is not None else ""
        missing, whole = snapshot.fleet.without_power(virtual=virtual)
        text += w("top.missing", missing=missing, whole=whole) if power and missing else ""
        yield w(f"top.{name}"), text + (w("top.outside") if virtual else "")
    for one in snapshot.sobriety:
        if one.period == "today" and one.coverage_states is not None:
            energy_part = DASH if one.coverage_energy is None else w.percent(one.coverage_energy)
            name = "coverage_virtual" if one.virtual else "coverage"
            states = w.percent(one.coverage_states)
            yield w(f"top.{name}"), w("top.coverage_today", states=states, energy=energy_part)


def _other_lines(snapshot: Snapshot, w: Words) -> Iterable[str]:
    kinds, pcs = (Population.WORKSTATION, Population.CLASSROOM), snapshot.day_start.pcs
    told = [w.count(f"count.{kind.value}", pcs.active(kind)) for kind in kinds if pcs.active(kind)]
    if told:
        yield w("top.never_live", counts=", ".join(told))
    for kind in kinds if snapshot.month else ():
        yield from _month_lines(snapshot, kind, w)
    for year in snapshot.fleet_emissions.years[:1]:
        *perimeters, whole = year.perimeters
        parts = ", ".join(
            f"{w.word('perimeter', one.perimeter)} {w.grams(one.amounts.grams)}" for one in perimeters
        )
        until = w("top.until", day=year.until - timedelta(days=1))
        state = w("top.closed") if year.state == CLOSED else until
        yield w("top.year", year=year.year, state=state, grams=w.grams(whole.amounts.grams), parts=parts)


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
        text = (
            f"{w(f'group.{kind.value}')}, {w.month(snapshot.month.first)}{w('page.colon')}{w.energy(energy)}"
        )
        yield text if missing else text + w("top.grams", grams=w.grams(grams))


def _warnings(snapshot: Snapshot, w: Words) -> Iterable[str]:
    if snapshot.fleet.kind.simulated:
        yield w("top.simulated")
    if snapshot.health is None:
        yield w("top.no_collector")
    if not snapshot.fleet.places:
        yield w("top.nobody")
    for one in snapshot.silence:
        if one.level in (SilenceLevel.WARNING, SilenceLevel.FAILED):
            yield sentence_of(one, w) + (f" {names_of(one.hosts)}." if one.hosts else "")
    for _, chosen in snapshot.factors_now():
        if chosen.provisional:
            yield w("top.provisional", factor=chosen.factor.factor_id, year=chosen.year)
