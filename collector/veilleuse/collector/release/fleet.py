# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Estimates the fleet's energy of released months from their published cells (pure). DRAFT"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from veilleuse.collector.account.release_tables import Hidden
from veilleuse.collector.fleet.errors import DEFAULT_U
from veilleuse.collector.fleet.pool import PRIOR_STRATA
from veilleuse.collector.fleet.samples import DAY_TYPES, Days
from veilleuse.collector.model.figures import AUTRES, Group, GroupKey
from veilleuse.collector.model.months import DayType
from veilleuse.collector.quantiles import Z95, quantile95
from veilleuse.wire.sums import apportion

OPEN_PLACE = DAY_TYPES.index(DayType.OPEN)


class Counts(NamedTuple):
    machines: int
    milliseconds: Days


@dataclass(frozen=True)
class Tuning:
    s0: float = 1.0
    between_cells: bool = True
    season: bool = True
    fill: bool = True
    given: Mapping[str, float] = field(default_factory=dict)


class Pool(NamedTuple):
    n: float
    rate: float
    concentration: float
    open_share: float
    milliseconds: float
    u_ppm: int = 0


@dataclass(frozen=True, slots=True)
class FleetRow:
    key: GroupKey
    source: str
    machines: int
    fleet_milliseconds: int
    known_milliseconds: int
    known_millijoules: int
    extrapolated: float
    default: float
    own: float
    common: float
    pool: str
    model: float

    @property
    def energy(self) -> float:
        return self.known_millijoules + self.extrapolated


def _family(key: GroupKey) -> tuple:
    return key.zone, key.population, key.memo


def estimate(months, defaults: Mapping[str, Days], k: int, tuning: Tuning = Tuning()):
    """months: sequence of (cells, hidden, fleet)."""
    pools = [dict(_pools(cells, fleet)) for cells, _, fleet in months]
    year: dict = defaultdict(list)
    for one in pools:
        for name, pool in one.items():
            year[name].append(pool)
    rows = []
    for (cells, hidden, fleet), here in zip(months, pools, strict=True):
        rows.append(_Month(cells, hidden, fleet, here, year, defaults, k, tuning).rows())
    return rows


def _pools(cells, fleet):
    by = defaultdict(list)
    for one in cells:
        if one.key.device_class != AUTRES:
            by[_family(one.key), one.key.device_class].append(one)
    for name, members in by.items():
        y, m = sum(map(energy_of, members)), sum(map(time_of, members))
        n = sum(one.sums.hosts for one in members)
        if m:
            days = [0] * len(DAY_TYPES)
            for key, counts in fleet.items():
                if (_family(key), key.device_class) == name:
                    days = [a + b for a, b in zip(days, counts.milliseconds, strict=True)]
            share = days[OPEN_PLACE] / sum(days) if sum(days) else 0.0
            u = sum(energy_of(one) * u_of(one) for one in members) / y if y else 0.0
            yield name, Pool(n, y / m, sum((one.sums.hosts / n) ** 2 for one in members), share, m, u)


def energy_of(one: Group) -> int:
    return sum(e.energy_millijoules for e in one.sums.energies.values())


def time_of(one: Group) -> int:
    return sum(s.milliseconds for s in one.sums.states.values())


def u_of(one: Group) -> float:
    e = energy_of(one)
    return sum(x.uncertainty_millijoules for x in one.sums.energies.values()) / e if e else 0.0


def fill(points: Sequence[Pool], share: float, season: bool) -> Pool:
    whole = sum(p.milliseconds for p in points)
    mean = sum(p.milliseconds * p.rate for p in points) / whole
    n = sum(p.milliseconds * p.n for p in points) / whole
    c = max(p.concentration for p in points)
    u = max(p.u_ppm for p in points)
    rate = mean
    if season:
        o = sum(p.milliseconds * p.open_share for p in points) / whole
        sxx = sum(p.milliseconds * (p.open_share - o) ** 2 for p in points)
        sxy = sum(p.milliseconds * (p.open_share - o) * (p.rate - mean) for p in points)
        slope = sxy / sxx if sxx > 1e-4 * whole else 0.0
        slope = min(max(0.0, slope), mean / o if o else 0.0)
        rate = mean + slope * (share - o)
    return Pool(n, rate, c, share, whole, u)


class _Month:
    def __init__(self, cells, hidden, fleet, pools, year, defaults, k, tuning):
        self.cells, self.hidden, self.fleet = cells, hidden, fleet
        self.pools, self.year, self.defaults, self.k, self.tuning = pools, year, defaults, k, tuning
        self.spreads = {}
        for name in pools:
            self.spreads[name] = self._spread(name)

    def _spread(self, name):
        t = self.tuning
        if name[1] in t.given:
            return t.given[name[1]] ** 2
        members = [c for c in self.cells if (_family(c.key), c.key.device_class) == name and time_of(c)]
        rate = self.pools[name].rate
        if not t.between_cells or not rate:
            return t.s0**2
        nu = len(members) - 1
        lack = max(0, 10 - nu)
        squares = sum(c.sums.hosts * (energy_of(c) / time_of(c) / rate - 1) ** 2 for c in members)
        v = (squares + lack * t.s0**2) / (nu + lack)
        return v * (quantile95(nu + lack) / Z95) ** 2

    def pool(self, key: GroupKey):
        """(pool, spread) or None."""
        name = (_family(key), key.device_class)
        found = self.pools.get(name)
        if found is not None:
            return found, self.spreads[name]
        points = self.year.get(name)
        if points and self.tuning.fill:
            days = [0] * len(DAY_TYPES)
            for other, counts in self.fleet.items():
                if (_family(other), other.device_class) == name:
                    days = [a + b for a, b in zip(days, counts.milliseconds, strict=True)]
            share = days[OPEN_PLACE] / sum(days) if sum(days) else 0.0
            given = self.tuning.given.get(name[1], self.tuning.s0) ** 2
            return fill(points, share, self.tuning.season), given
        return None

    def rows(self):
        by_key = {(_family(c.key), c.key.entity, c.key.device_class): c for c in self.cells}
        members = defaultdict(list)
        alone = []
        for key, counts in sorted(self.fleet.items(), key=lambda i: str(i[0])):
            at = self._atom(key, by_key)
            if at is None:
                alone.append((key, counts))
            else:
                members[at].append((key, counts))
        found = []
        for at, cell in by_key.items():
            found += self._of_atom(cell, members.get(at, []))
        for key, counts in alone:
            found.append(self._unseen(key, counts, sum(counts.milliseconds), counts.milliseconds))
        return found

    def _atom(self, key, by_key):
        family = _family(key)
        for at in ((family, key.entity, key.device_class), (family, AUTRES, key.device_class)):
            if at in by_key:
                return at
        at = (family, AUTRES, AUTRES)
        if at in by_key and any(
            _family(h.family) == family and h.family.device_class is None
            and key.device_class in h.device_classes and key.entity in h.entities
            for h in self.hidden
        ):
            return at
        return None

    def _of_atom(self, cell, members):
        y, m, n = energy_of(cell), time_of(cell), cell.sums.hosts
        whole = sum(sum(c.milliseconds) for _, c in members)
        if not members:
            return [FleetRow(cell.key, "own", n, m, m, y, 0.0, 0.0, 0.0, 0.0, "", u_of(cell) * y)]
        rate = y / m if m else 0.0
        weights = [sum(c.milliseconds) for _, c in members]
        times = apportion(m, weights)
        energies = apportion(y, weights)
        found = []
        for (key, counts), mine, known in zip(members, times, energies, strict=True):
            fleet = max(sum(counts.milliseconds), mine)
            left = fleet - mine
            if cell.key.device_class != AUTRES:
                name = (_family(key), key.device_class)
                s2 = self.spreads[name]
                u = left * rate
                # the atom's own mean: its error is common to its members
                missing = max(whole, m) - m
                error = math.sqrt(s2 * missing * max(whole, m) / n) * rate * (left / missing if missing else 0.0)
                single = len(members) == 1
                found.append(FleetRow(key, "own" if single else "branch", counts.machines, fleet, mine, known, u, 0.0,
                                      error if single else 0.0, 0.0 if single else error,
                                      "atom " + str(cell.key), u_of(cell) * (known + u)))
                continue
            of_class = self.pool(key)
            share = left / fleet if fleet else 0.0
            days = tuple(round(d * share) for d in counts.milliseconds)
            if of_class is not None:
                row = self._unseen(key, counts, left, days)
            else:
                among = sum(c.machines for k_, c in members if k_.device_class == key.device_class)
                part = min(1.0, self.k / among) if among else 0.0
                row = self._unseen(key, counts, left, days, part, rate)
                s2 = self.tuning.s0**2
                var = s2 * rate**2 * (part * left) ** 2 / n
                row = replace(row, own=math.hypot(row.own, math.sqrt(var)), model=row.model + u_of(cell) * rate * part * left)
            found.append(replace(row, fleet_milliseconds=fleet, known_milliseconds=mine, known_millijoules=known,
                                 model=row.model + u_of(cell) * known))
        return found

    def _unseen(self, key, counts, left, days, part=0.0, rate=0.0):
        of_class = self.pool(key)
        if of_class is not None:
            pool, s2 = of_class
            e = pool.rate * left
            own = pool.rate * math.sqrt(s2 * left * sum(counts.milliseconds) / max(1, counts.machines) + PRIOR_STRATA**2 * left**2)
            common = e * math.sqrt(s2 / pool.n + PRIOR_STRATA**2 * pool.concentration)
            return FleetRow(key, "class", counts.machines, left, 0, 0, e, 0.0, own, common,
                            str((_family(key), key.device_class)), pool.u_ppm * e)
        watts = self.defaults.get(key.device_class)
        default = sum(d * w for d, w in zip(days, watts, strict=True)) / 1e6 * (1 - part) if watts else 0.0
        return FleetRow(key, "default", counts.machines, left, 0, 0, default + part * rate * left, default, 0.0,
                        default * DEFAULT_U, "default " + str(key.device_class), 0.0)


@dataclass
class Sum:
    energy: float = 0.0
    known: int = 0
    default: float = 0.0
    own: dict = field(default_factory=lambda: defaultdict(float))
    common: dict = field(default_factory=lambda: defaultdict(float))
    model: dict = field(default_factory=lambda: defaultdict(float))

    def add(self, rows):
        for r in rows:
            self.energy += r.energy
            self.known += r.known_millijoules
            self.default += r.default
            self.own[_family(r.key), r.key.entity, r.key.device_class] += r.own
            self.common[r.pool] += r.common
            self.model[r.key.device_class] += r.model
        return self

    def parts(self):
        return [math.sqrt(sum(v * v for v in d.values())) for d in (self.own, self.common, self.model)]

    def bounds(self):
        own, common, model = self.parts()
        u = math.sqrt(own**2 + common**2 + model**2) / self.energy
        low = self.energy * math.exp(-Z95 * u)
        floor = self.known * math.exp(-Z95 * model / self.energy)
        return max(low, floor), self.energy * math.exp(Z95 * u)
