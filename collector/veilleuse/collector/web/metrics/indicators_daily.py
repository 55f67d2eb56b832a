# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes indicators from sums, per population: servers, for the current day and the last closed day."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.metric import Metric
from veilleuse.collector.exposition.prometheus import Exposition
from veilleuse.collector.indicators import NIGHTS, TABLE, IndicatorInput, load_indicator, made_of
from veilleuse.collector.indicators.coverage import ENERGY, STATES
from veilleuse.collector.model.indicators import IndicatorGroup, Targets
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.sums import EnergyKey, EnergySums, GroupSums, StateSums
from veilleuse.collector.web.metrics.fleet import Day
from veilleuse.collector.web.metrics.servers import is_virtual
from veilleuse.wire.units import MILLIJOULES_PER_KWH, joules_from_millijoules
from veilleuse.wire.vocabulary import Band, DeviceClass, Population, State

TODAY: Final = "today"
DAY: Final = "day"
OF_SUMS: Final = tuple(one for one in made_of(IndicatorInput.SUMS) if one != NIGHTS)
"""Indicators of a day or a released month; NIGHTS is published beside the month."""
_ANY_BAND: Final = Band.OPEN
"""Bands are not kept apart: no indicator of servers asks for them."""


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


def indicators_of_day(day: Day, period: str) -> Iterator[DailyIndicators]:
    """Yield the indicators of servers over one day, of physical and virtual machines apart."""
    for virtual in (False, True):
        servers, enrolled = day.enrolled[virtual]
        states: dict[tuple[Band, State], StateSums] = {}
        for (group, state), milliseconds in day.states.items():
            if is_virtual(group.device_class) is virtual:
                key = (_ANY_BAND, state)
                states[key] = states.get(key, StateSums()) + StateSums(milliseconds)
        energies: dict[EnergyKey, EnergySums] = {}
        for (group, method, state), sums in day.energies.items():
            if is_virtual(group.device_class) is virtual:
                energy_key = (DeviceClass(group.device_class), method, _ANY_BAND, state)
                energies[energy_key] = energies.get(energy_key, EnergySums()) + sums
        if enrolled or states or energies:
            family = GroupKey(day.day, day.day + timedelta(days=1), "", Population.SERVER, virtual)
            yield indicators_of_sums(family, GroupSums(servers, enrolled, states, energies), period, day.day)


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
