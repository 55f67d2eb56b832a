# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Decides which machines are silent, and how bad that is. One table for the page, `doctor`, `top`, /metrics and the alerts.

A server is silent after two contact intervals without a contact. A PC is silent after two whole open days of its site:
one that is used calls at least once in them, whatever the moment of its daily contact. Its population is told when the
share heard of falls below a part of its usual share, the median of the last four open days on which all was well; days
on which a site is closed, and school holidays for classrooms, do not count. Everything told of a PC population follows
from a count floored to a multiple of k, which `serve` takes once a day and notes for every reader.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cache
from statistics import median
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from veilleuse.collector.model.hosts import Host, HostStatus, Site
from veilleuse.collector.model.months import DayType
from veilleuse.collector.model.records import DataKind
from veilleuse.collector.model.remote_config import Rollout
from veilleuse.collector.months.site_days import SiteCalendars
from veilleuse.wire.units import MILLISECONDS_PER_DAY, MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Population

if TYPE_CHECKING:
    from veilleuse.collector.documents.text import Words

MISSED: Final = 2
"""Contact intervals of a server, open days of a PC: a PC may leave out one of them, its daily contact has no fixed hour."""
USUAL_DAYS: Final = 4
"""Open days whose shares make the usual one."""
PRESENCE: Final = "presence"
"""Key of what `serve` notes in the data directory once a day: `Past.to_json`."""
_LONGEST_CLOSURE_DAYS: Final = 60
"""A site that was closed for longer has no open days to judge by."""


class SilenceLevel(StrEnum):
    """How bad the silence of a population is."""

    GOOD = "good"
    WAITING = "waiting"
    """It would be told, but this collector has not listened for long enough, or does not run."""
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the table: a level holds from this part of the share usually heard of down."""

    warning: float
    failed: float
    usual_unknown: float
    """Warning, where no usual share is known yet: this part of all machines."""


_PCS: Final = Rule(warning=2 / 3, failed=0.1, usual_unknown=0.5)
RULES: Final[Mapping[Population, Rule]] = {
    Population.SERVER: Rule(warning=1.0, failed=0.5, usual_unknown=1.0),
    Population.WORKSTATION: _PCS,
    Population.CLASSROOM: _PCS,
}
"""Servers are always on: one that is silent is told. Of PCs, a third is on leave, at home or switched off on some days."""


class Window(NamedTuple):
    """The newest whole open days of a site, both included."""

    first: date
    last: date


@dataclass(frozen=True, slots=True)
class Condition:
    """What is told of the silence of a population."""

    population: Population
    level: SilenceLevel
    silent: int
    """Servers: exactly; PCs: at least so many, a multiple of k, of `machines`."""
    machines: int
    since: date
    """PCs: the first of the days without news; servers: the UTC day of the oldest last contact."""
    hosts: tuple[Host, ...] = ()
    """Servers: those that are silent, the longest first."""


def sentence_of(one: Condition, w: Words) -> str:
    """Say a condition in words, for the pages and the terminal."""
    values = {"whole": w.number(one.machines), "since": w.long_day(one.since)}
    if one.population is Population.SERVER:
        return w.count("silence.server", one.silent, **values)
    return w(f"silence.{one.population.value}", n=w.number(one.silent), **values)


@dataclass(frozen=True, slots=True)
class Past:
    """What `serve` noted: the days it ran on without a break, and which share of each PC population was heard of."""

    since: date | None = None
    day: date | None = None
    """The last one."""
    shares: Mapping[Population, Mapping[date, float]] = field(default_factory=dict)
    """By the last day of the window; the newest four."""
    told: tuple[Condition, ...] | None = None
    """What the first look of `day` found of PCs, for all who tell it; None: nobody has looked."""

    def to_json(self) -> str:
        """One line."""
        return json.dumps(
            {
                "since": self.since and self.since.isoformat(),
                "day": self.day and self.day.isoformat(),
                "shares": {
                    population.value: {
                        day.isoformat(): round(share, 2) for day, share in sorted(days.items())
                    }
                    for population, days in self.shares.items()
                },
                "told": self.told
                and [
                    (one.population, one.level, one.silent, one.machines, one.since.isoformat())
                    for one in self.told
                ],
            }
        )

    @classmethod
    def from_json(cls, text: str | None) -> Past:
        """Inverse of `to_json`; nothing known where it cannot be read: days alone bring it back."""
        try:
            raw: Any = json.loads(text or "")
            shares = {
                Population(name): {date.fromisoformat(day): float(share) for day, share in days.items()}
                for name, days in raw["shares"].items()
            }
            since, day = (date.fromisoformat(raw[name]) if raw[name] else None for name in ("since", "day"))
            told = raw.get("told")
            return cls(since, day, shares, None if told is None else tuple(map(_condition_of, told)))
        except (AttributeError, KeyError, TypeError, ValueError):
            return cls()

    def listening_since(self, started_unix_milliseconds: int, heard: date | None = None) -> date:
        """The UTC day from which a collector that started then has run without a day's break; `heard`: `heard_before`."""
        started = _day(started_unix_milliseconds)
        if self.since is None or self.day is None:
            return started
        if max(self.day, heard or self.day) < started - timedelta(days=1):
            return started
        return min(self.since, started)

    def usual(self, population: Population) -> float | None:
        """The share usually heard of; None where fewer than four days are known."""
        known = self.shares.get(population, {})
        return median(known.values()) if len(known) >= USUAL_DAYS else None


class PopulationCount(NamedTuple):
    """PCs of one population that can be judged, exactly: never told as they are."""

    silent: int
    machines: int
    window: Window

    @property
    def heard_share(self) -> float:
        """Part of them that was heard of since the window began."""
        return (self.machines - self.silent) / self.machines


OpenDays: TypeAlias = Callable[[str, Population], Window | None]
"""(site, population) → its window; None where there is none."""


def open_days(sites: Iterable[Site], site_calendars: SiteCalendars, today: date) -> OpenDays:
    """The newest whole open days before `today`. Reading may raise StoreDamaged."""
    known = {site.site: site for site in sites}

    @cache
    def window(name: str, population: Population) -> Window | None:
        if name not in known:
            return None
        days = site_calendars.days(known[name], population)
        uncounted = {DayType.CLOSED}
        if population is Population.CLASSROOM:
            uncounted.add(DayType.SCHOOL_HOLIDAY)
        found: list[date] = []
        for back in range(1, _LONGEST_CLOSURE_DAYS + 1):
            day = today - timedelta(days=back)
            if days.kind(day) not in uncounted:
                found.append(day)
            if len(found) == MISSED:
                return Window(found[-1], found[0])
        return None

    return window


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges populations at one moment."""

    now_unix_milliseconds: int
    started_unix_milliseconds: int | None
    """Start of the collector that listens, or the end of its last pause; None: none does."""
    past: Past
    k: int

    def conditions(
        self, hosts: Iterable[Host], rollouts: Mapping[Population, Rollout]
    ) -> tuple[Condition, ...]:
        """Of each population that can be judged: servers as they are now, PCs as the first look of the day found them."""
        servers = self.server_condition(hosts, rollouts.get(Population.SERVER) or Rollout(Population.SERVER))
        pcs = (self._awaited(one) for one in self.past.told or () if one.machines >= self.k)
        return (*((servers,) if servers else ()), *pcs)

    def server_condition(self, hosts: Iterable[Host], rollout: Rollout) -> Condition | None:
        """None where there is no server."""
        members = sorted(
            (h for h in hosts if h.population is Population.SERVER and h.status is HostStatus.ACTIVE),
            key=last_sign,
        )
        if not members:
            return None
        bound = self.now_unix_milliseconds - MISSED * rollout.longest_contact_milliseconds
        late = tuple(host for host in members if last_sign(host) < bound)
        level = _level(Population.SERVER, len(late), len(members), None)
        started = self.started_unix_milliseconds
        if level is not SilenceLevel.GOOD and (started is None or started > bound):
            level = SilenceLevel.WAITING
        since = _day(last_sign(members[0]))
        return Condition(Population.SERVER, level, len(late), len(members), since, late)

    def pc_condition(self, population: Population, count: PopulationCount | None) -> Condition | None:
        """None where fewer than k machines can be judged."""
        if count is None or count.machines < self.k:
            return None
        told = count.silent - count.silent % self.k
        level = _level(population, told, count.machines, self.past.usual(population))
        machines = count.machines - count.machines % self.k
        return self._awaited(Condition(population, level, told, machines, count.window.first))

    def _awaited(self, one: Condition) -> Condition:
        """Of PCs; not told where this collector has not listened since before these days."""
        started = self.started_unix_milliseconds
        if one.level is SilenceLevel.GOOD or (
            started is not None and self.past.listening_since(started) < one.since
        ):
            return one
        return replace(one, level=SilenceLevel.WAITING)

    def noted(
        self, pcs: Mapping[Population, PopulationCount], today: date, heard: date | None = None
    ) -> Past:
        """The past with this UTC day, whose first look stays. No share is noted of days without news, so that a silence
        never becomes usual. `pcs`: `counted`, `heard`: `heard_before` of now."""
        since = self.past.listening_since(self.started_unix_milliseconds or self.now_unix_milliseconds, heard)
        past = replace(self.past, since=since, day=today)
        if self.past.day == today and self.past.told is not None:
            return past
        judge = replace(self, past=past)
        shares, told = dict(self.past.shares), []
        for population in RULES:
            count = pcs.get(population)
            condition = judge.pc_condition(population, count)
            if condition is None or count is None:
                continue
            told.append(condition)
            if since >= count.window.first:
                continue
            is_known = self.past.usual(population) is not None
            if count.heard_share >= RULES[population].failed and not (
                is_known and condition.level is not SilenceLevel.GOOD
            ):
                days = {count.window.last: count.heard_share} | dict(shares.get(population, {}))
                shares[population] = dict(sorted(days.items())[-USUAL_DAYS:])
        return replace(past, shares=shares, told=tuple(told))


def judge_of(kind: DataKind, health: Mapping[str, Any] | None, now_unix_milliseconds: int, k: int) -> Judge:
    """From what the data directory and the running collector say; `health` None: no collector runs."""
    past = Past.from_json(kind.extra.get(PRESENCE))
    started: int | None = (health or {}).get("listening_unix_milliseconds")
    return Judge(now_unix_milliseconds, started, past, k)


def last_sign(host: Host) -> int:
    """Unix milliseconds of the last contact; of a machine that never called, the end of the day it enrolled on."""
    if host.last_contact_unix_milliseconds is not None:
        return host.last_contact_unix_milliseconds
    end = datetime.combine(host.enrolled_on + timedelta(days=1), datetime.min.time(), UTC)
    return round(end.timestamp() * MILLISECONDS_PER_SECOND)


def heard_before(hosts: Iterable[Host], unix_milliseconds: int) -> date | None:
    """The UTC day of the newest contact of any machine before then: this collector ran on it."""
    contacts = (host.last_contact_unix_milliseconds for host in hosts)
    earlier = [contact for contact in contacts if contact is not None and contact < unix_milliseconds]
    return _day(max(earlier)) if earlier else None


def _condition_of(raw: Any) -> Condition:
    population, level, silent, machines, since = raw
    return Condition(
        Population(population), SilenceLevel(level), int(silent), int(machines), date.fromisoformat(since)
    )


def _day(unix_milliseconds: int) -> date:
    return date(1970, 1, 1) + timedelta(days=unix_milliseconds // MILLISECONDS_PER_DAY)


def counted(hosts: Iterable[Host], windows: OpenDays) -> dict[Population, PopulationCount]:
    """PCs that had enrolled before the window of their site, by population; populations without any are absent."""
    numbers: Counter[tuple[Population, bool]] = Counter()
    spans: defaultdict[Population, set[Window]] = defaultdict(set)
    for host in hosts:
        if host.population is Population.SERVER or host.status is not HostStatus.ACTIVE:
            continue
        window = windows(host.site, host.population)
        if window is None or host.enrolled_on >= window.first:
            continue
        contact = host.last_contact_unix_milliseconds
        numbers[host.population, contact is None or _day(contact) < window.first] += 1
        spans[host.population].add(window)
    return {
        population: PopulationCount(
            numbers[population, True],
            numbers[population, True] + numbers[population, False],
            Window(min(one.first for one in found), max(one.last for one in found)),
        )
        for population, found in spans.items()
    }


def _level(population: Population, silent: int, machines: int, usual: float | None) -> SilenceLevel:
    """By the table; `silent` as it is told."""
    rule, heard = RULES[population], (machines - silent) / machines
    if not silent:
        return SilenceLevel.GOOD
    if heard <= rule.failed * (1.0 if usual is None else usual):
        return SilenceLevel.FAILED
    if heard <= (rule.usual_unknown if usual is None else rule.warning * usual):
        return SilenceLevel.WARNING
    return SilenceLevel.GOOD
