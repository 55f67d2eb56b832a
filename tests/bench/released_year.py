# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Compare the released year with the year's own estimate, over fleets of known energy. DRAFT"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from statistics import fmean, median

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench import independent_fleets as independent
from tests.bench.independent_fleets import CLASSES, DAY, DEFAULT_U, World, moments, unit_of
from tests.support.memory_store import host, site
from tests.support.stored_year import StoredYear
from tests.support.year import vector
from veilleuse.collector.account import group_sums, release_tables
from veilleuse.collector.account.group_sums import families, merge_into_autres, sum_tallies
from veilleuse.collector.account.observed_days import ObservedQuery
from veilleuse.collector.account.observed_months import tally_periods
from veilleuse.collector.account.parts import rates_of
from veilleuse.collector.account.release_tables import build_release_tables
from veilleuse.collector.calendars.periods import Slice, slices
from veilleuse.collector.disclosure import publish
from veilleuse.collector.fleet.estimator import Assumptions
from veilleuse.collector.model.calendars import SchoolPeriod, SchoolZone
from veilleuse.collector.model.figures import AUTRES, GroupKey
from veilleuse.collector.model.inventory import Asset, Placement
from veilleuse.collector.model.months import DayType, HostPeriod
from veilleuse.collector.release import fleet as released
from veilleuse.collector.release.fleet import Counts, Tuning
from veilleuse.collector.reports.fleet_year import YearQuery, year_figures
from veilleuse.wire.ladder import Method
from veilleuse.wire.vocabulary import Band, DeviceClass, Population

FIRST, END, TODAY = date(2025, 1, 1), date(2026, 1, 1), date(2026, 6, 1)
HOLIDAYS = tuple(
    SchoolPeriod(SchoolZone.A, date(*first), date(*last), "away")
    for first, last in (
        ((2024, 12, 21), (2025, 1, 5)), ((2025, 2, 22), (2025, 3, 9)), ((2025, 4, 19), (2025, 5, 4)),
        ((2025, 7, 5), (2025, 8, 31)), ((2025, 10, 18), (2025, 11, 2)), ((2025, 12, 20), (2026, 1, 4)),
    )
)  # fmt: skip
MONTHS = slices(FIRST, END, by_month=True)
K = 10
PCS = ("laptop", "sff", "tower")


def kind(day: date) -> int:
    if day.weekday() >= 5:
        return 2
    return 1 if any(one.first <= day <= one.last for one in HOLIDAYS) else 0


KINDS = [kind(FIRST + timedelta(days=n)) for n in range(365)]


def days_of(first: int, end: int) -> tuple[int, int, int]:
    some = KINDS[first:end]
    return some.count(0), some.count(1), some.count(2)


STARTS = [(part.first - FIRST).days for part in MONTHS] + [365]


class Stored(StoredYear):
    """Months by month."""

    def host_periods(self, first, end):
        if not hasattr(self, "_by"):
            self._by = defaultdict(list)
            for row in self.months:
                self._by[row.period_from].append(row)
        if (end - first).days < 32:
            return iter(sorted(self._by[first], key=lambda r: (r.host_id, r.day_type, r.band)))
        return super().host_periods(first, end)


@dataclass(frozen=True)
class Shape:
    world: World
    start: int = 0
    """First day of the year with agents."""
    silent: float = 0.0
    """Share of the measured machines that go silent for ever on a random day."""


def drawn(shape: Shape, chance: random.Random):
    world = shape.world
    defaults = {}
    for name in world.classes:
        u = chance.gauss(0, DEFAULT_U)
        defaults[name] = (round(1e6 * moments(world, name).mean * math.exp(u)),) * 3
    error = {name: math.exp(chance.gauss(0, world.model_u)) for name in world.classes}
    units = [
        (independent.Stratum(name, f"entity {number}"), unit)
        for number in range(chance.randint(*world.entities))
        for name, unit in independent._entity(world, chance)
    ]
    chosen = independent._chosen(world, units, chance)
    hosts, assets, months, truth = [], [], [], 0.0
    by = defaultdict(float)
    for place, (stratum, unit) in enumerate(units):
        first = round(365 * unit.first)
        agent, until = 366, 365
        if place in chosen:
            agent = max(first, shape.start)
            if chance.random() < world.late:
                agent += round(chance.random() * 0.9 * (365 - agent))
            if chance.random() < shape.silent:
                until = chance.randint(min(364, agent), 365)
        number = place + 1
        name = DeviceClass(stratum.device_class)
        host_id = None
        if agent < until:
            one = host(number, name, entity=stratum.entity, enrolled=FIRST + timedelta(days=agent))
            hosts.append(one)
            host_id = one.host_id
        for at, (start, end) in enumerate(zip(STARTS, STARTS[1:])):
            start = max(start, first)
            if start >= end:
                continue
            low, high = (max(start, min(agent, end)), min(end, max(until, start))) if host_id else (end, end)
            if low >= high:
                low = high = end
            seen = days_of(low, high)
            unseen = tuple(a + b for a, b in zip(days_of(start, low), days_of(high, end)))
            spent = sum(independent._energies(unit, unseen, chance)[0])
            if any(seen):
                energies, off = independent._energies(unit, seen, chance)
                spent += sum(energies)
                months += rows_of(
                    world,
                    host_id,
                    MONTHS[at].first,
                    unit,
                    seen,
                    energies,
                    off,
                    error[stratum.device_class],
                    chance,
                )
            truth += spent
            by[stratum.device_class] += spent
        assets.append(
            Asset(number, stratum.device_class, (Placement(date(2020, 1, 1), stratum.entity, "hq"),),
                  Population.WORKSTATION, host_id=host_id, in_service_on=FIRST + timedelta(days=first) if first else None)
        )  # fmt: skip
    stored = Stored(
        (replace(site("hq"), time_zone="UTC"),),
        tuple(hosts),
        tuple(assets),
        tuple(months),
        HOLIDAYS,
        frozenset({"hq"}),
    )
    return stored, truth, defaults


def rows_of(world, host_id, month, unit, days, energies, off, error, chance):
    method = Method.LOAD_MODELLED if world.model_u else Method.METERED
    for g, type_ in enumerate(DayType):
        if not days[g]:
            continue
        lost = sum(chance.random() < world.lost_off_days for _ in range(off[g]))
        time_ = DAY * (days[g] - lost)
        rest = 24 * independent.HOUR_MILLIJOULES * unit.off_watts
        energy = round(error * (energies[g] - lost * rest))
        on_days = days[g] - off[g]
        on = min(time_, round(on_days * unit.hours * 3_600_000))
        on_energy = min(energy, round(error * on * unit.watts))
        yield HostPeriod(
            host_id, month, type_, Band.OPEN,
            vector(
                on_active_ac_milliseconds=on, off_ac_milliseconds=time_ - on,
                on_active_energy_millijoules=on_energy, off_energy_millijoules=energy - on_energy,
                unobserved_milliseconds=DAY * lost,
                **{f"{method}_milliseconds": time_, f"{method}_energy_millijoules": energy,
                   f"{method}_uncertainty_millijoules": round(energy * world.model_u)},
            ),
        )  # fmt: skip


def fleet_of(stored: Stored, part: Slice):
    found = {}
    low, high = (part.first - FIRST).days, (part.end - FIRST).days
    for asset in stored.asset_list:
        first = max(low, (asset.in_service_on - FIRST).days if asset.in_service_on else 0)
        days = days_of(first, high) if first < high else (0, 0, 0)
        if not any(days):
            continue
        key = GroupKey(
            part.first,
            part.end,
            "FR",
            Population.WORKSTATION,
            False,
            asset.placements[0].entity,
            None,
            asset.device_class,
        )
        n, ms = found.get(key, Counts(0, (0, 0, 0)))
        found[key] = Counts(n + 1, tuple(a + DAY * b for a, b in zip(ms, days)))
    return found


def class_first(tallies, k):
    """Merge siblings of a class first, then classes."""
    cells, hidden = [], []
    for family in families(tallies):
        heard = {key: tally for key, tally in family.members.items() if tally.hosts}
        rates = rates_of(heard.values())
        by_class = defaultdict(list)
        for item in heard.items():
            by_class[item[0].device_class].append(item)
        units, unsafe = [], []
        for name, members in by_class.items():
            level = publish([t.cell(key, rates) for key, t in members], k)
            if level.withheld_keys:
                unsafe += members
                continue
            of = dict(members)
            units += [(c.key, of[c.key]) for c in level.kept]
            if level.others:
                merged = [(key, of[key]) for key in level.merged_keys]
                key = replace(merged[0][0], entity=AUTRES, autres=True)
                units.append((key, sum_tallies(t for _, t in merged)))
        if unsafe:
            rest = (
                replace(unsafe[0][0], entity=AUTRES, device_class=AUTRES, autres=True),
                sum_tallies(t for _, t in unsafe),
            )
            level = publish([t.cell(key, rates) for key, t in [*units, rest]], k)
            if level.withheld_keys:
                continue
            of = dict([*units, rest])
            joined = {*level.merged_keys, rest[0]}
            units = [(key, t) for key, t in units if key not in joined]
            units.append((rest[0], sum_tallies(of[key] for key in joined)))
            names = [key for key, _ in unsafe] + [key for key in joined]
            hidden.append(
                release_tables.Hidden(
                    family.key,
                    frozenset(key.entity for key, _ in unsafe) | frozenset(a.entity for a in joined),
                    frozenset(key.device_class for key in names),
                )
            )
        for key, tally in units:
            tally = release_tables.round_to_machine_days(tally, k)
            cells.append(release_tables._cell(key, tally, [tally]))
    return cells, hidden


def months_of(stored: Stored, partition: str):
    found = []
    for part in MONTHS:
        query = ObservedQuery(
            part.first, part.end, ("entity", "device_class", "month"), K, 2**45, screens=True
        )
        tallies = tally_periods(stored, stored, query, stored.host_list)
        if partition == "today":
            tables = build_release_tables(tallies, K)
            cells, hidden = tables.cells, tables.hidden_cells
        else:
            cells, hidden = class_first(tallies, K)
        found.append((cells, hidden, fleet_of(stored, part)))
    return found


class Found:
    def __init__(self):
        self.bias, self.held, self.width, self.below = [], [], [], 0

    def add(self, energy, low, high, truth):
        self.bias.append(energy / truth - 1)
        self.held.append(low * (1 - 1e-9) <= truth <= high * (1 + 1e-9))
        self.below += truth < low * (1 - 1e-9)
        self.width.append((high - low) / 2 / energy)

    def text(self):
        return f"{fmean(self.bias):+7.1%} {100 * (sum((b - fmean(self.bias)) ** 2 for b in self.bias) / len(self.bias)) ** 0.5:5.1f} {fmean(self.held):6.1%} {self.below / len(self.held):6.1%} {median(self.width):6.1%}"


def own(stored, known):
    sources = stored.sources()
    (year,) = year_figures(sources, YearQuery(FIRST, END, (), K, TODAY), known)
    one = year.total.estimate
    yield "a year", one.energy_millijoules, *one.bounds_millijoules
    months = [
        m.total.estimate
        for m in year_figures(sources, YearQuery(FIRST, END, ("month",), K, TODAY), known)
        if m.total
    ]
    yield ("b months", sum(m.energy_millijoules for m in months), sum(m.bounds_millijoules[0] for m in months),
           sum(m.bounds_millijoules[1] for m in months))  # fmt: skip


TUNINGS = {
    "c s1.0": Tuning(between_cells=False),
    "c s.6+cells": Tuning(s0=0.6),
    "c s1+cells": Tuning(),
    "c no season": Tuning(season=False),
    "c no fill": Tuning(fill=False),
}


def measure(shape, fleets, seed, quick=False):
    chance = random.Random(seed)
    found = defaultdict(Found)
    for _ in range(fleets):
        stored, truth, defaults = drawn(shape, chance)
        known = Assumptions(True, defaults)
        for name, *figure in own(stored, known):
            found[name].add(*figure, truth)
        for partition in ("today", "class"):
            months = months_of(stored, partition)
            for name, tuning in TUNINGS.items():
                total = released.Sum()
                for rows in released.estimate(months, defaults, K, tuning):
                    total.add(rows)
                found[name + " " + partition].add(total.energy, *total.bounds(), truth)
    return found


BASE = World(classes=PCS)
SHAPES = {
    "12 machines, all measured": Shape(
        World(entities=(1, 1), size=(12, 12.01), reach=(1, 1), late=0.0, classes=PCS)
    ),
    "12 of 40 in one entity": Shape(
        World(entities=(1, 1), size=(40, 40.01), reach=(0.3, 0.3), late=0.0, classes=PCS)
    ),
    "12 of 40, one class": Shape(
        World(entities=(1, 1), size=(40, 40.01), reach=(0.3, 0.3), late=0.0, classes=("sff",))
    ),
    "2-24 entities, 8-30 %": Shape(BASE),
    "2-24 entities, 8-30 %, models u .15": Shape(World(classes=PCS, model_u=0.15)),
    "hundreds, all measured": Shape(World(classes=PCS, reach=(1, 1), entities=(10, 24))),
    "hundreds, 90 %": Shape(World(classes=PCS, reach=(0.9, 0.9), entities=(10, 24), late=0.0)),
    "hundreds, 90 %, July": Shape(
        World(classes=PCS, reach=(0.9, 0.9), entities=(10, 24), late=0.0), start=181
    ),
    "hundreds, 30 %, July": Shape(
        World(classes=PCS, reach=(0.3, 0.3), entities=(10, 24), late=0.0), start=181
    ),
    "hundreds, 50 %, silent tenth": Shape(
        World(classes=PCS, reach=(0.5, 0.5), entities=(10, 24), late=0.0), silent=0.1
    ),
    "hundreds, 90 %, a tenth of days off lost": Shape(
        World(classes=PCS, reach=(0.9, 0.9), entities=(10, 24), late=0.0, lost_off_days=0.1)
    ),
    "thin: 2-6 entities of 3-12, half": Shape(
        World(classes=PCS, reach=(0.5, 0.5), entities=(4, 8), size=(3, 12), late=0.0)
    ),
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--fleets", type=int, default=100)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--only", default="")
    asked = parser.parse_args()
    for name, shape in SHAPES.items():
        if asked.only not in name:
            continue
        began = time.process_time()
        found = measure(shape, asked.fleets, asked.seed)
        print(f"\n{name}: bias, sd, held, below, half-width ({time.process_time() - began:.0f} s)")
        for who, one in found.items():
            print(f"  {who:20} {one.text()}", flush=True)


if __name__ == "__main__":
    main()
