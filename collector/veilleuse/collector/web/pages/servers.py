# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Builds the pages of servers, live: the list of them with search, sort and verdicts, and one server's page.

They are for administrators, and for owners: these see the servers of their entities.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from veilleuse.collector.calendars.periods import day_start_unix_milliseconds
from veilleuse.collector.documents.charts import Series, columns
from veilleuse.collector.documents.text import DASH, Words, energy_unit
from veilleuse.collector.errors import AdminError
from veilleuse.collector.model.hosts import Host, HostStatus
from veilleuse.collector.model.indicators import ServerVerdict
from veilleuse.collector.model.query import Query, is_within
from veilleuse.collector.ports.directory import ReadStore
from veilleuse.collector.reports.attribution import attribution_document
from veilleuse.collector.reports.machines import machines_of, server_rows, stretch_of
from veilleuse.collector.reports.readers import sobriety_sources_of, sources_of, targets_of
from veilleuse.collector.silence import SilenceLevel
from veilleuse.collector.web.access import Guard
from veilleuse.collector.web.metrics.fleet import longest_contact_milliseconds
from veilleuse.collector.web.metrics.servers import is_virtual
from veilleuse.collector.web.metrics.snapshot import Snapshot
from veilleuse.collector.web.pages.frame import Look
from veilleuse.collector.web.pages.parts import PAGE_ROWS, Grid, Head, PageCell, cells, paginate
from veilleuse.collector.web.problems import Problem
from veilleuse.wire.limits import AGENT_ID_DIGITS
from veilleuse.wire.units import MILLISECONDS_PER_DAY, MILLISECONDS_PER_HOUR, MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Population

LIST: Final = "/serveurs"
ONE: Final = "/serveur"
SORTS: Final = ("energy", "power", "server", "entity", "contact", "verdict")
SHOW: Final = ("all", "silent", "comatose", "under_used", "oversized")
_SERVICE_DAYS: Final = 7
"""Days of the energy by service, yesterday included."""


@dataclass(frozen=True, slots=True)
class ServerLine:
    """What the list knows of one server."""

    host: Host
    watts: float | None
    energy_millijoules: int | None
    """Of today."""
    is_silent: bool
    is_waiting: bool
    """Without a contact, and not judged yet."""
    verdicts: tuple[str, ...]
    """Of ServerVerdict, or `under_used`, `oversized`; empty when there is nothing to do."""


async def servers(look: Look) -> Mapping[str, object]:
    """Build the list."""
    sort, show = look.choice("sort", SORTS), look.choice("show", SHOW)
    asked, page = look.parameter("q").casefold(), look.whole_number("page", 1, 1, 10_000)
    verdicts, snapshot = await _verdicts(look), await look.snapshot()
    lines = await look.read(lambda store: _lines(store, look, verdicts, _late(snapshot)))
    found = [one for one in lines if _matches(one, asked) and _is_shown(one, show)]
    found.sort(key=_ORDERS[sort])
    here = {"sort": sort, "show": show, "q": look.parameter("q") or None}
    grid = paginate(_grid(look, found, here), page, look.w, lambda other: look.link(LIST, **here, page=other))
    drawing, hours = _hours_of_all(snapshot, look) if look.caller.may(Guard.FLEET) else (None, None)
    return {
        "hours": drawing,
        "hours_table": hours,
        "table": grid if found else None,
        "counts": tuple((one, sum(_is_shown(line, one) for line in lines)) for one in SHOW),
        "here": here,
        "sorts": SORTS,
        "whole": len(lines),
        "waiting": sum(one.is_waiting for one in lines),
        "zone": look.settings.reporting.time_zone,
    }


def _hours_of_all(snapshot: Snapshot, look: Look) -> tuple[object, Grid | None]:
    """Draw the energy of all physical servers in each hour of today."""
    energies: defaultdict[int, int] = defaultdict(int)
    for (device_class, _), hours in snapshot.fleet.hours.items():
        if not is_virtual(device_class):
            for start, energy in hours.items():
                energies[start] += energy
    zone = snapshot.fleet.time_zone
    first, end = (day_start_unix_milliseconds(snapshot.today + timedelta(days=days), zone) for days in (0, 1))
    starts = range(first - first % MILLISECONDS_PER_HOUR, end, MILLISECONDS_PER_HOUR)
    return _hours(energies, starts, "servers.hours_of_all", look)


async def _verdicts(look: Look) -> Mapping[str, tuple[str, ...]]:
    """Return agent id → verdicts with something to do, of the last days; computed once a day."""
    today = look.today

    def read(store: ReadStore) -> Mapping[str, tuple[str, ...]]:
        settings = look.settings
        query = Query(today - timedelta(days=1), today, (), settings.reporting.k_anonymity, today)
        sources, stretch = sobriety_sources_of(store, settings.reporting), stretch_of(query)
        hosts = [one for one in sources.base.hosts if one.population is Population.SERVER]
        machines = machines_of(sources, stretch, hosts, sources.base.assets)
        return {
            str(row["server"]): _verdict_words(row)
            for row in server_rows(machines, targets_of(settings.indicators), data="")
        }

    return await look.kept("verdicts", today, lambda: look.read(read))


def _verdict_words(row: Mapping[str, object]) -> tuple[str, ...]:
    found = (
        [str(row["comatose"])] if row["comatose"] in (ServerVerdict.COMATOSE, ServerVerdict.SUSPECT) else []
    )
    return (*found, *(name for name in ("under_used", "oversized") if row.get(name) is True))


class LateServers(NamedTuple):
    """Servers without a contact for two intervals, as all pages and `doctor` judge them."""

    agents: frozenset[bytes] = frozenset()
    judged: bool = False
    """False: the service has not listened for long enough, or does not run."""


def _late(snapshot: Snapshot) -> LateServers:
    for one in snapshot.silence:
        if one.population is Population.SERVER:
            agents = frozenset(bytes(host.agent_id) for host in one.hosts)
            return LateServers(agents, one.level is not SilenceLevel.WAITING)
    return LateServers()


def _lines(
    store: ReadStore, look: Look, verdicts: Mapping[str, tuple[str, ...]], late: LateServers
) -> list[ServerLine]:
    now, sums = round(look.context.clock() * MILLISECONDS_PER_SECOND), store.data.server_sums()
    contact = longest_contact_milliseconds({one.population: one for one in store.data.rollouts()})
    watts = {agent_id: power for agent_id, _, power in sums.powers(now, contact)}
    energies: defaultdict[bytes, int] = defaultdict(int)
    for agent_id, _, _, energy in sums.day_energies(look.today):
        energies[agent_id] += energy
    return [
        ServerLine(
            host,
            watts.get(host.agent_id),
            energies.get(host.agent_id),
            late.judged and host.agent_id in late.agents,
            not late.judged and host.agent_id in late.agents,
            verdicts.get(_short(host), ()),
        )
        for host in visible(store, look)
    ]


def visible(store: ReadStore, look: Look) -> list[Host]:
    """Return the servers that the reader may see: enrolled, of the account's entities, and no person's."""
    ended = (HostStatus.REVOKED, HostStatus.PENDING)
    return [
        one
        for one in sources_of(store, look.settings.reporting).exempt_hosts
        if one.status not in ended and is_within(one.org_entity, look.account.entities)
    ]


def _short(host: Host) -> str:
    return host.agent_id.hex()[:AGENT_ID_DIGITS]


def _matches(one: ServerLine, asked: str) -> bool:
    facts = one.host.facts
    told = (_short(one.host), one.host.org_entity, one.host.site, facts.vendor, facts.model, facts.cpu_model)
    return all(word in " ".join(filter(None, told)).casefold() for word in asked.split())


def _is_shown(one: ServerLine, show: str) -> bool:
    if show == "comatose":
        return any(kind in one.verdicts for kind in (ServerVerdict.COMATOSE, ServerVerdict.SUSPECT))
    return show == "all" or (one.is_silent if show == "silent" else show in one.verdicts)


_ORDERS: Final = {
    "energy": lambda one: (-(one.energy_millijoules or -1), one.host.agent_id),
    "power": lambda one: (-(one.watts if one.watts is not None else -1.0), one.host.agent_id),
    "server": lambda one: one.host.agent_id,
    "entity": lambda one: (one.host.org_entity, one.host.site, one.host.agent_id),
    "contact": lambda one: (one.host.last_contact_unix_milliseconds or 0, one.host.agent_id),
    "verdict": lambda one: (not one.is_silent, not one.verdicts, one.verdicts, one.host.agent_id),
}


def _grid(look: Look, lines: Sequence[ServerLine], here: Mapping[str, object]) -> Grid:
    w = look.w
    heads = tuple(
        Head(
            w(f"servers.{key}"),
            is_number=key in ("power", "energy"),
            link=look.link(LIST, **{**here, "sort": key}),
            sorts="" if here["sort"] != key else "descending" if key in ("power", "energy") else "ascending",
        )
        for key in ("server", "entity", "power", "energy", "contact", "verdict")
    )
    return Grid(w("servers.caption"), heads, tuple(_row(look, one) for one in lines))


def _row(look: Look, one: ServerLine) -> tuple[PageCell, ...]:
    w, host = look.w, one.host
    return cells(
        PageCell(_short(host), link=look.link(ONE, id=_short(host)), note=_model(host, w)),
        PageCell(host.org_entity, note=host.site),
        DASH if one.watts is None else w.watts(one.watts),
        DASH if one.energy_millijoules is None else w.energy(one.energy_millijoules),
        _contact(host, look, is_silent=one.is_silent),
        ", ".join(w(f"servers.is_{verdict}") for verdict in one.verdicts) or DASH,
    )


def _contact(host: Host, look: Look, *, is_silent: bool) -> str:
    """Write the moment of the last contact, and that the server is silent."""
    w, last = look.w, host.last_contact_unix_milliseconds
    if last is None:
        return w("servers.never")
    time = w.time(last, _zone(look))
    return w("servers.silent_since", time=time) if is_silent else time


def _zone(look: Look) -> ZoneInfo:
    return ZoneInfo(look.settings.reporting.time_zone)


def _model(host: Host, w: Words) -> str:
    facts = host.facts
    known = " ".join(filter(None, (facts.vendor, facts.model)))
    return known or w.word("device_class", facts.device_class.value)


# --- one server


@dataclass(frozen=True, slots=True)
class ServerPage:
    """Values of the template."""

    title: str
    facts: tuple[tuple[str, str], ...]
    hours: object
    """Drawing of the last 24 h; None without energy."""
    hours_table: Grid | None
    sources: Grid | None
    services: Grid | None
    notices: tuple[str, ...]
    """What somebody should do about it."""
    zone: str
    """Of the times on the page."""


async def server(look: Look) -> Mapping[str, object]:
    """Build the page of one server."""
    beginning, verdicts, late = look.parameter("id"), await _verdicts(look), _late(await look.snapshot())
    if not beginning:
        raise Problem(404, "not_found", look.w("servers.none_chosen"), remedy=look.w("servers.choose"))
    return await look.read(lambda store: {"page": _one(store, look, beginning, verdicts, late)})


def _one(
    store: ReadStore,
    look: Look,
    beginning: str,
    verdicts: Mapping[str, tuple[str, ...]],
    late: LateServers,
) -> ServerPage:
    w = look.w
    found = [one for one in visible(store, look) if _short(one) == beginning]
    if len(found) != 1:
        raise Problem(404, "not_found", w("servers.unknown"), remedy=w("servers.choose"))
    host = found[0]
    now = round(look.context.clock() * MILLISECONDS_PER_SECOND)
    end = now // MILLISECONDS_PER_HOUR * MILLISECONDS_PER_HOUR
    start = end - MILLISECONDS_PER_DAY
    energies = {
        one.start: sum(sums.energy_millijoules for sums in one.energies.values())
        for one in store.data.host_hours(host.host_id, start, end)
        if one.energies
    }
    is_late = host.agent_id in late.agents
    drawing, table = _hours(energies, range(start, end, MILLISECONDS_PER_HOUR), "servers.hours", look)
    silence = w(f"servers.{'silent' if late.judged else 'waiting'}_text", server=_short(host))
    return ServerPage(
        w("servers.one", server=_short(host)),
        tuple(_facts(host, look, is_silent=is_late and late.judged)),
        drawing,
        table,
        _sources(host, w),
        _services(store, look, host, now),
        (
            *((silence,) if is_late else ()),
            *(w(f"servers.is_{one}_text") for one in verdicts.get(_short(host), ())),
        ),
        look.settings.reporting.time_zone,
    )


def _facts(host: Host, look: Look, *, is_silent: bool) -> Iterable[tuple[str, str]]:
    w, facts, health = look.w, host.facts, host.health
    yield w("servers.entity"), f"{host.org_entity} · {host.site}"
    yield w("servers.contact"), _contact(host, look, is_silent=is_silent)
    yield w("servers.class"), w.word("device_class", facts.device_class.value)
    known = " ".join(filter(None, (facts.vendor, facts.model)))
    for key, value in (("model", known), ("processor", facts.cpu_model or "")):
        if value:
            yield w(f"servers.{key}"), value
    if facts.memory_bytes:
        yield w("servers.memory"), f"{w.number(round(facts.memory_bytes / 2**30))} Gio"
    yield w("servers.enrolled"), w.day(host.enrolled_on.isoformat())
    if health is not None:
        yield w("servers.version"), health.agent_version
        yield w("servers.waiting"), w.number(health.spool_records)


def _hours(
    energies: Mapping[int, int], starts: Sequence[int], key: str, look: Look
) -> tuple[object, Grid | None]:
    """Draw the energy of hours, mJ by their start; an hour without energy has no column."""
    if not energies:
        return None, None
    w = look.w
    scale, unit = energy_unit(max(energies.values()))
    moments = [datetime.fromtimestamp(one / MILLISECONDS_PER_SECOND, _zone(look)) for one in starts]
    labels = [f"{one:%H}" for one in moments]
    values = tuple(energies[one] / scale if one in energies else None for one in starts)
    title = w(key, unit=unit)
    drawing = columns("hours", title, labels, [Series(title, values, 0)], w.tick, unit=unit, every=3)
    rows = tuple(
        cells(f"{moment:%H:%M}", w.energy(energies[one]))
        for moment, one in zip(moments, starts, strict=True)
        if one in energies
    )
    return drawing, Grid(title, (Head(w("servers.hour")), Head(w("servers.energy_of"), is_number=True)), rows)


def _sources(host: Host, w: Words) -> Grid | None:
    if host.health is None or not host.health.sources:
        return None
    rows = tuple(
        cells(
            one.name,
            one.unavailable or w("servers.reads", good=w.number(one.successes), bad=w.number(one.failures)),
        )
        for one in sorted(host.health.sources, key=lambda one: (one.unavailable is not None, one.name))
    )
    return Grid(w("servers.sources"), (Head(w("servers.source")), Head(w("servers.state"))), rows)


def _services(store: ReadStore, look: Look, host: Host, now: int) -> Grid | None:
    """Return the energy of the last days by service; None where the server reports no services."""
    w, end = look.w, look.today
    first: date = end - timedelta(days=_SERVICE_DAYS)
    try:
        found = attribution_document(store.data, host.agent_id.hex(), first, end, now)
    except AdminError:
        return None
    sums: defaultdict[str, float] = defaultdict(float)
    for row in found.tables["rows"]:
        kwh = row.get("kwh")
        if isinstance(kwh, int | float) and kwh > 0:
            sums[str(row.get("name") or w.word("part", str(row["part"])))] += kwh
    whole = sum(sums.values())
    if not whole:
        return None
    rows = tuple(
        cells(name, f"{w.number(kwh)}\u00a0kWh", w.percent(kwh / whole))
        for name, kwh in sorted(sums.items(), key=lambda one: -one[1])[:PAGE_ROWS]
    )
    heads = (
        Head(w("servers.service")),
        *(Head(w(f"servers.{key}"), is_number=True) for key in ("energy_of", "share")),
    )
    return Grid(w("servers.services", days=_SERVICE_DAYS), heads, rows)
