# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Decides which machines are silent, and how serious the silence is.

The page, `doctor`, `top`, /metrics and the alerts all use this one table.

A server is silent after two contact intervals without a contact. A PC is silent after two whole open days of
its site. A PC in use calls at least once in these days, at any time of day.

A PC population is reported when its share with contact falls below a part of the usual share. The usual share
is the median of the last four open days without a problem. Days on which a site is closed do not count, nor
do school holidays for classrooms. All reported PC numbers follow from a count rounded down to a multiple of
k, which `serve` takes once a day and stores for every reader.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
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
"""Contact intervals of a server, open days of a PC. A PC may miss one day: its daily contact has no fixed
hour."""
USUAL_DAYS: Final = 4
"""Number of open days whose shares give the usual share."""
PRESENCE: Final = "presence"
"""Key of `Past.to_json`, which `serve` stores in the data directory once a day."""
_LONGEST_CLOSURE_DAYS: Final = 60
"""A site closed for longer has no open days to judge by."""


class SilenceLevel(StrEnum):
    """A SilenceLevel says how serious the silence of a population is."""

    GOOD = "good"
    WAITING = "waiting"
    """A silence that is not reported yet: this collector has not listened for long enough, or does not run.
    """
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Rule:
    """A Rule is a row of the table: a level holds at or below this part of the usual share."""

    warning: float
    failed: float
    usual_unknown: float
    """Warning without a known usual share: at or below this part of all machines."""


_PCS: Final = Rule(warning=2 / 3, failed=0.1, usual_unknown=0.5)
RULES: Final[Mapping[Population, Rule]] = {
    Population.SERVER: Rule(warning=1.0, failed=0.5, usual_unknown=1.0),
    Population.WORKSTATION: _PCS,
    Population.CLASSROOM: _PCS,
}
"""Servers are always on: any silent server is reported. On some days a third of PCs is on leave, at home or
switched off."""


class Window(NamedTuple):
    """A Window holds the newest whole open days of a site, both included."""

    first: date
    last: date


@dataclass(frozen=True, slots=True)
class Silence:
    """A Silence is the reported silence of a population."""

    population: Population
    level: SilenceLevel
    silent: int
    """Silent machines of `machines`. Servers: exact; PCs: a lower bound, a multiple of k."""
    machines: int
    since: date
    """PCs: the first of the days without contact; servers: the UTC day of the oldest last contact."""
    hosts: tuple[Host, ...] = ()
    """Silent servers, the longest silent first; empty for PCs."""


def sentence_of(one: Silence, w: Words) -> str:
    """Write a condition in words, for the pages and the terminal."""
    values = {"whole": w.number(one.machines), "since": w.long_day(one.since)}
    key = f"silence.{'waiting_' if one.level is SilenceLevel.WAITING else ''}{one.population.value}"
    if one.population is Population.SERVER:
        return w.count(key, one.silent, **values)
    return w(key, n=w.number(one.silent), **values)


@dataclass(frozen=True, slots=True)
class Past:
    """Past is the stored history: days on which `serve` ran without a break, and shares of PCs."""

    since: date | None = None
    day: date | None = None
    """Last such day."""
    shares: Mapping[Population, Mapping[date, float]] = field(default_factory=dict)
    """Share by the last day of the window; the newest four."""
    told: tuple[Silence, ...] | None = None
    """Conditions of PCs from the first count of `day`, for every reader; None: not counted yet."""

    def to_json(self) -> str:
        """Return one line of JSON."""
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
        """Read the text of `to_json`.

        An unreadable text gives an empty history, which the next days fill again.
        """
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
        """Return the UTC day since which a collector with this start has run without a day's break.

        `heard`: result of `heard_before`.
        """
        started = _day(started_unix_milliseconds)
        if self.since is None or self.day is None:
            return started
        if max(self.day, heard or self.day) < started - timedelta(days=1):
            return started
        return min(self.since, started)

    def usual(self, population: Population) -> float | None:
        """Return the usual share with contact; None with fewer than four known days."""
        known = self.shares.get(population, {})
        return median(known.values()) if len(known) >= USUAL_DAYS else None


class PopulationCount(NamedTuple):
    """A PopulationCount counts the PCs of a population that can be judged. Exact, so never shown."""

    silent: int
    machines: int
    window: Window

    @property
    def heard_share(self) -> float:
        """Return the share with a contact since the window began."""
        return (self.machines - self.silent) / self.machines


OpenDays: TypeAlias = Callable[[str, Population], Window | None]
"""(site, population) → its window; None without one."""


def open_days(sites: Iterable[Site], site_calendars: SiteCalendars, today: date) -> OpenDays:
    """Return the newest whole open days before `today`. Reading may raise StoreDamaged."""
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
    """Judge decides on populations at one moment."""

    now_unix_milliseconds: int
    started_unix_milliseconds: int | None
    """Start of the running collector, or the end of its last pause; None: none runs."""
    past: Past
    k: int

    def conditions(
        self, hosts: Iterable[Host], rollouts: Mapping[Population, Rollout]
    ) -> tuple[Silence, ...]:
        """Return the condition of each population that can be judged: servers now, PCs at the first count of
        the day.
        """
        servers = (h for h in hosts if h.population is Population.SERVER and h.status is HostStatus.ACTIVE)
        return self.conditions_in_order(sorted(servers, key=last_sign), rollouts)

    def conditions_in_order(
        self, members: Sequence[Host], rollouts: Mapping[Population, Rollout]
    ) -> tuple[Silence, ...]:
        """Return the same; `members`: the active servers, the longest silent first."""
        rollout = rollouts.get(Population.SERVER) or Rollout(Population.SERVER)
        servers = self.server_condition(members, rollout)
        pcs = (self._mark_waiting(one) for one in self.past.told or () if one.machines >= self.k)
        return (*((servers,) if servers else ()), *pcs)

    def server_condition(self, members: Sequence[Host], rollout: Rollout) -> Silence | None:
        """Return the condition of servers, the longest silent first; None without any server."""
        if not members:
            return None
        bound = self.now_unix_milliseconds - MISSED * rollout.longest_contact_milliseconds
        late = tuple(members[: bisect_left(members, bound, key=last_sign)])
        level = _level(Population.SERVER, len(late), len(members), None)
        started = self.started_unix_milliseconds
        if level is not SilenceLevel.GOOD and (started is None or started > bound):
            level = SilenceLevel.WAITING
        since = _day(last_sign(members[0]))
        return Silence(Population.SERVER, level, len(late), len(members), since, late)

    def pc_condition(self, population: Population, count: PopulationCount | None) -> Silence | None:
        """Return the condition of PCs; None with fewer than k machines to judge."""
        if count is None or count.machines < self.k:
            return None
        told = count.silent - count.silent % self.k
        level = _level(population, told, count.machines, self.past.usual(population))
        machines = count.machines - count.machines % self.k
        return self._mark_waiting(Silence(population, level, told, machines, count.window.first))

    def _mark_waiting(self, one: Silence) -> Silence:
        """Replace a PC's level by WAITING where this collector has not listened since before the window."""
        started = self.started_unix_milliseconds
        if one.level is SilenceLevel.GOOD or (
            started is not None and self.past.listening_since(started) < one.since
        ):
            return one
        return replace(one, level=SilenceLevel.WAITING)

    def add_day(
        self, pcs: Mapping[Population, PopulationCount], today: date, heard: date | None = None
    ) -> Past:
        """Return the history with this UTC day; its first count stays.

        The share of a day without contacts is not stored, so that a silence never becomes usual. `pcs`:
        result of `count_pcs`; `heard`: result of `heard_before` for now.
        """
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
    """Build a Judge from the data directory and the running collector; `health` None: no collector runs."""
    past = Past.from_json(kind.extra.get(PRESENCE))
    started: int | None = (health or {}).get("listening_unix_milliseconds")
    return Judge(now_unix_milliseconds, started, past, k)


def last_sign(host: Host) -> int:
    """Return the last contact, Unix milliseconds; for a machine that never called, the end of its day of
    enrolment.
    """
    if host.last_contact_unix_milliseconds is not None:
        return host.last_contact_unix_milliseconds
    end = datetime.combine(host.enrolled_on + timedelta(days=1), datetime.min.time(), UTC)
    return round(end.timestamp() * MILLISECONDS_PER_SECOND)


def heard_before(hosts: Iterable[Host], unix_milliseconds: int) -> date | None:
    """Return the UTC day of the newest contact of any machine before then: this collector ran on that day."""
    contacts = (host.last_contact_unix_milliseconds for host in hosts)
    earlier = [contact for contact in contacts if contact is not None and contact < unix_milliseconds]
    return _day(max(earlier)) if earlier else None


def _condition_of(raw: Any) -> Silence:
    population, level, silent, machines, since = raw
    return Silence(
        Population(population), SilenceLevel(level), int(silent), int(machines), date.fromisoformat(since)
    )


def _day(unix_milliseconds: int) -> date:
    return date(1970, 1, 1) + timedelta(days=unix_milliseconds // MILLISECONDS_PER_DAY)


def count_pcs(hosts: Iterable[Host], windows: OpenDays) -> dict[Population, PopulationCount]:
    """Count PCs that enrolled before the window of their site, by population; populations without any are
    absent.
    """
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
    """Apply the table; `silent` as reported, rounded down."""
    rule, heard = RULES[population], (machines - silent) / machines
    if not silent:
        return SilenceLevel.GOOD
    if heard <= rule.failed * (1.0 if usual is None else usual):
        return SilenceLevel.FAILED
    if heard <= (rule.usual_unknown if usual is None else rule.warning * usual):
        return SilenceLevel.WARNING
    return SilenceLevel.GOOD
