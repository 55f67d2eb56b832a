# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The indicators I1, I2 and I13 per population: of servers for the current day and the last closed one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from veilleuse.collector.account.observed_days import Question, gather
from veilleuse.collector.indicators import load
from veilleuse.collector.model.figures import (
    EnergyKey,
    EnergySums,
    GroupKey,
    GroupSums,
    IndicatorFigure,
    StateSums,
)
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.records import HostId
from veilleuse.collector.ports import Reader
from veilleuse.collector.web.metrics.fleet import is_virtual
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import Band, Population, State

TODAY: Final = "today"
DAY: Final = "day"


@dataclass(frozen=True, slots=True)
class DailyIndicators:
    """The indicators of one population over one period. None = not known, or not to be shown: never zero."""

    population: Population
    virtual: bool
    """Of its virtual machines: the memo line."""
    period: str
    """today, day or month."""
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
) -> tuple[DailyIndicators, ...]:
    """The indicators of `members` over one day, physical machines and virtual ones apart. Servers: no rule is applied."""
    found: list[DailyIndicators] = []
    for virtual in (False, True):
        chosen = [host for host in members.values() if is_virtual(host.facts.device_class) is virtual]
        if not chosen:
            continue
        question = Question(first, first + timedelta(days=1), (), 1, now_unix_milliseconds)
        groups = gather(reader, question, chosen).groups
        if groups:
            found.append(of_sums(groups[0].key, merge([group.sums for group in groups]), period, first))
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


def of_sums(key: GroupKey, sums: GroupSums, period: str, first: date) -> DailyIndicators:
    """The indicators of these sums; `key` says whose they are."""
    outside, idle, coverage = (load(name).figure(key, sums) for name in ("I1", "I2", "I13"))
    return DailyIndicators(
        key.population,
        key.memo,
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


def millijoules(kwh: float) -> float:
    """kWh of an indicator's detail as mJ."""
    return kwh * MILLIJOULES_PER_KWH
