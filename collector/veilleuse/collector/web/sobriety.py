# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The indicators I1, I2 and I13 per population, for the current day, the last closed day and the last closed week."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final

from veilleuse.collector.account.gather import Question, gather
from veilleuse.collector.figures import (
    ON_STATES,
    EnergyKey,
    EnergySums,
    GroupKey,
    GroupSums,
    IndicatorFigure,
    StateSums,
)
from veilleuse.collector.indicators import load
from veilleuse.collector.model import Grain, Host, HostId, SumRow
from veilleuse.collector.ports import Reader
from veilleuse.collector.privacy import EXEMPT, is_safe
from veilleuse.collector.web.fleet import is_virtual
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import Band, Population, State

TODAY: Final = "today"
DAY: Final = "day"
WEEK: Final = "week"


@dataclass(frozen=True, slots=True)
class Sobriety:
    """The indicators of one population over one period. None = not known, or not to be shown: never zero."""

    population: Population
    virtual: bool
    """Of its virtual machines: the memo line."""
    period: str
    """today, day or week."""
    first: date
    coverage_states: float | None
    coverage_energy: float | None
    outside_opening: float | None
    outside_opening_kwh: float | None
    idle_while_on: float | None
    idle_while_on_kwh: float | None


def sobriety(
    reader: Reader,
    members: Mapping[HostId, Host],
    period: str,
    first: date,
    now_unix_milliseconds: int,
    k: int,
) -> tuple[Sobriety, ...]:
    """The indicators of `members` per population, physical machines and virtual ones apart."""
    found: list[Sobriety] = []
    kinds = sorted({(h.population, is_virtual(h.facts.device_class)) for h in members.values()})
    for population, virtual in kinds:
        chosen = {
            key: host
            for key, host in members.items()
            if (host.population, is_virtual(host.facts.device_class)) == (population, virtual)
        }
        end = first + timedelta(days=7 if period == WEEK else 1)
        question = Question(first, end, (), 1, now_unix_milliseconds)
        groups = gather(reader, question, chosen.values()).groups
        if not groups:
            continue
        key, whole = groups[0].key, merge([group.sums for group in groups])
        figures = {name: load(name).figure(key, whole) for name in ("I1", "I2", "I13")}
        one = _sobriety(key, figures, virtual, period, first)
        if population not in EXEMPT:
            one = _shown(one, tuple(_rows(reader, chosen, (first, end))), k)
        found.append(one)
    return tuple(found)


def merge(parts: Sequence[GroupSums]) -> GroupSums:
    """Groups that differ by grid zone or year, as one; `hosts` is the largest, since one machine may be in several."""
    states: dict[tuple[Band, State], StateSums] = {}
    energies: dict[EnergyKey, EnergySums] = {}
    for part in parts:
        for key, more in part.states.items():
            states[key] = states.get(key, StateSums()) + more
        for energy_key, extra in part.energies.items():
            energies[energy_key] = energies.get(energy_key, EnergySums()) + extra
    return GroupSums(
        max((part.hosts for part in parts), default=0),
        sum(part.enrolled_milliseconds for part in parts),
        states,
        energies,
    )


def _sobriety(
    key: GroupKey,
    figures: Mapping[str, IndicatorFigure | None],
    virtual: bool,
    period: str,
    first: date,
) -> Sobriety:
    outside, idle, coverage = figures["I1"], figures["I2"], figures["I13"]
    return Sobriety(
        key.population,
        virtual,
        period,
        first,
        coverage.value if coverage else None,
        _detail(coverage, "coverage_energy"),
        outside.value if outside else None,
        _detail(outside, "kwh"),
        idle.value if idle else None,
        _detail(idle, "kwh"),
    )


def _detail(figure: IndicatorFigure | None, name: str) -> float | None:
    value = figure.details.get(name) if figure else None
    return float(value) if value is not None else None


def _shown(one: Sobriety, rows: Sequence[SumRow], k: int) -> Sobriety:
    """What k machines stand behind: the population, and each numerator unless nobody is in it."""
    known = _contributions(r for r in rows if r.cell.state is not State.UNKNOWN)
    idle = _contributions(r for r in rows if r.cell.state is State.ON_IDLE)
    outside = _contributions(r for r in rows if r.cell.state in ON_STATES and r.cell.band is not Band.OPEN)
    if not is_safe(known, k):
        return replace(
            one,
            coverage_states=None,
            coverage_energy=None,
            outside_opening=None,
            outside_opening_kwh=None,
            idle_while_on=None,
            idle_while_on_kwh=None,
        )
    if idle and not is_safe(idle, k):
        one = replace(one, idle_while_on=None, idle_while_on_kwh=None)
    if outside and not is_safe(outside, k):
        one = replace(one, outside_opening=None, outside_opening_kwh=None)
    return one


def _rows(reader: Reader, members: Mapping[HostId, Host], days: tuple[date, date]) -> Iterator[SumRow]:
    first, end = days[0].toordinal(), days[1].toordinal()
    for grain in (Grain.DAY, Grain.WEEK):
        yield from (row for row in reader.sums(grain, first, end) if row.host_id in members)


def _contributions(rows: Iterable[SumRow]) -> dict[HostId, int]:
    total: defaultdict[HostId, int] = defaultdict(int)
    for row in rows:
        if row.cell.milliseconds > 0:
            total[row.host_id] += row.cell.milliseconds
    return total


def millijoules(kwh: float) -> float:
    """kWh of an indicator's detail as mJ."""
    return kwh * MILLIJOULES_PER_KWH
