# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes indicators from sums, per population: servers, for the current day and the last closed day."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from veilleuse.collector.account.observed_days import gather
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.metric import Metric
from veilleuse.collector.exposition.prometheus import Exposition
from veilleuse.collector.indicators import TABLE, IndicatorInput, load_indicator, made_of
from veilleuse.collector.indicators.coverage import ENERGY, STATES
from veilleuse.collector.model.hosts import Host
from veilleuse.collector.model.indicators import IndicatorGroup, Targets
from veilleuse.collector.model.query import GroupKey, Query
from veilleuse.collector.model.records import HostId
from veilleuse.collector.model.sums import EnergyKey, EnergySums, GroupSums, StateSums
from veilleuse.collector.ports import Reader
from veilleuse.collector.web.metrics.fleet import is_virtual
from veilleuse.wire.units import MILLIJOULES_PER_KWH, joules_from_millijoules
from veilleuse.wire.vocabulary import Band, Population, State

TODAY: Final = "today"
DAY: Final = "day"
OF_SUMS: Final = made_of(IndicatorInput.SUMS)


@dataclass(frozen=True, slots=True)
class DailyIndicators:
    """Indicators of one population over one period.

    Values that are unknown or may not be disclosed are absent: never zero.
    """

    population: Population
    virtual: bool
    """True for the memo line of the population's virtual machines."""
    period: str
    """`today`, `day` or `month`."""
    first: date
    parts: Mapping[str, Mapping[str, float]]
    """Gauge → its parts (see `Indicator.parts`)."""

    def value(self, gauge: Metric, part: str = "") -> float | None:
        """Return the value of one part of a gauge; None if absent."""
        return self.parts.get(gauge.name, {}).get(part)

    @property
    def coverage_states(self) -> float | None:
        """Return the observed share of the enrolled time, 0 to 1."""
        return self.value(c.COVERAGE, STATES)

    @property
    def coverage_energy(self) -> float | None:
        """Return the share of the enrolled time with known energy, 0 to 1."""
        return self.value(c.COVERAGE, ENERGY)


def compute_indicators(
    reader: Reader,
    members: Mapping[HostId, Host],
    period: str,
    first: date,
    now_unix_milliseconds: int,
) -> tuple[DailyIndicators, ...]:
    """Compute the indicators of `members` over one day, physical and virtual machines separately.

    `members` are servers, so no disclosure rule applies.
    """
    found: list[DailyIndicators] = []
    for virtual in (False, True):
        chosen = [host for host in members.values() if is_virtual(host.facts.device_class) is virtual]
        if not chosen:
            continue
        query = Query(first, first + timedelta(days=1), (), 1, now_unix_milliseconds=now_unix_milliseconds)
        groups = gather(reader, query, chosen).groups
        if groups:
            found.append(
                indicators_of_sums(groups[0].key, merge([group.sums for group in groups]), period, first)
            )
    return tuple(found)


def merge(parts: Sequence[GroupSums]) -> GroupSums:
    """Merge groups that differ by grid zone or year.

    `hosts` becomes the largest count, since one machine may be in several groups.
    """
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


def indicators_of_sums(
    key: GroupKey, sums: GroupSums, period: str, first: date, identifiers: Iterable[str] = OF_SUMS
) -> DailyIndicators:
    """Compute the indicators of these sums; `key` names their population."""
    parts: dict[str, Mapping[str, float]] = {}
    for identifier in identifiers:
        indicator = load_indicator(identifier)
        for figure in indicator.figures(IndicatorGroup(key, sums=sums), Targets()):
            parts.update(zip(TABLE[identifier].gauges, indicator.parts(figure), strict=True))
    assert key.population is not None, "sums of machines are of a population"
    return DailyIndicators(key.population, key.memo, period, first, parts)


def add_parts(out: Exposition, gauge: str, labels: Mapping[str, str], parts: Mapping[str, float]) -> None:
    """Add the samples of one gauge; a label missing from `labels` takes the part's name."""
    metric = c.BY_NAME[gauge]
    for part, amount in parts.items():
        is_energy = metric.unit == "joules"
        value = joules_from_millijoules(round(millijoules(amount))) if is_energy else amount
        out.add(metric, tuple(labels.get(label, part) for label in metric.labels), value)


def millijoules(kwh: float) -> float:
    """Convert kWh of an indicator's detail to mJ."""
    return kwh * MILLIJOULES_PER_KWH
