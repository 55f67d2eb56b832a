# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes what Veilleuse itself used in a month, as it is published (pure).

docs/methodology.md §12, *What Veilleuse itself uses*; docs/privacy.md §4. Of PCs there is one row for each
population, over all machines in the month's rows. No other outlet has this energy, so nothing can be
subtracted from it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, NamedTuple

from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.derive.loadmodel import UNKNOWN_SERVER, thread_slope_microwatts
from veilleuse.collector.derive.priors import MILLION
from veilleuse.collector.disclosure.rule import EXEMPT, is_nobodys_or_enough, is_safe
from veilleuse.collector.indicators import AVOIDABLE
from veilleuse.collector.model.indicators import IndicatorMachine
from veilleuse.collector.model.months import OWN_CPU
from veilleuse.collector.model.publications import FigureFormat, PublicationKind
from veilleuse.collector.release.indicator_rows import IndicatorMonth
from veilleuse.collector.release.indicators import MonthContext, is_observed
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import Population

OWN_GSD2: Final = 2.0
"""GSD² of these energies: the slope of a prior, at one point of its curve."""
REPORTING_PERCENT: Final = 90
"""Fewest machines of a population that report their own CPU time; else its energy is not known."""


class AgentsUse(NamedTuple):
    """What the agents of one population used."""

    population: Population
    machines: int
    """Machines in the month's rows; of servers, those observed."""
    energy_millijoules: int | None
    """None: fewer than REPORTING_PERCENT of them report it, or the rule of disclosure withholds it."""
    cpu_milliseconds: int | None
    """None also where energy and time together would give the time of fewer than k PCs."""
    received_bytes: int | None
    """Bytes that the collector received of servers' agents; None for PCs, whose bytes are not counted."""
    sent_bytes: int | None


@dataclass(frozen=True, slots=True)
class OwnMonth:
    """What Veilleuse used in a month, and the avoidable energy that the same month shows."""

    part: Slice
    agents: tuple[AgentsUse, ...]
    collector_cpu_milliseconds: int | None
    """None where the collector did not count on all days."""
    collector_energy_millijoules: int | None
    avoidable_kwh: float | None
    """Sum of the published I4; None without any."""

    @property
    def energy_millijoules(self) -> int | None:
        """Return all energy; None where a part of it is not known."""
        parts = [one.energy_millijoules for one in self.agents] + [self.collector_energy_millijoules]
        known = [one for one in parts if one is not None]
        return sum(known) if len(known) == len(parts) else None


def build_own_use(
    machines: Sequence[IndicatorMachine],
    context: MonthContext,
    indicators: IndicatorMonth | None,
    collector: Mapping[str, int] | None,
) -> OwnMonth:
    """Build a month from its machines and published indicators; `collector`: what it counted, where known."""
    by_population: defaultdict[Population, list[IndicatorMachine]] = defaultdict(list)
    for one in machines:
        if context.row_in_month(one) is not None and (one.population in EXEMPT or is_observed(one)):
            by_population[one.population].append(one)
    pcs = [one for one in machines if one.population not in EXEMPT and context.row_in_month(one) is not None]
    counted = context.counted(pcs)
    now = Counter(one.population for one in pcs if one.host_id in counted)
    spent = None if collector is None else collector.get(OWN_CPU, 0)
    return OwnMonth(
        context.month.part,
        tuple(_agents(of, found, now[of], collector, context) for of, found in sorted(by_population.items())),
        spent,
        None if spent is None else collector_millijoules(spent),
        _avoidable(indicators),
    )


def collector_millijoules(cpu_milliseconds: int) -> int:
    """Return the energy of the collector's CPU time: its host is a server of unknown processor."""
    slope = thread_slope_microwatts(UNKNOWN_SERVER)
    assert slope is not None, "this server has threads"
    return _millijoules(slope, cpu_milliseconds)


def _millijoules(microwatts: int, milliseconds: int) -> int:
    return (microwatts * milliseconds + MILLION // 2) // MILLION


def _agents(
    population: Population,
    machines: Sequence[IndicatorMachine],
    counted: int,
    collector: Mapping[str, int] | None,
    context: MonthContext,
) -> AgentsUse:
    is_exempt, k = population in EXEMPT, context.k
    released = sum(
        sums.hosts for row, sums in context.uses.items() if row.population is population and not row.memo
    )
    reporting = [one for one in machines if _reports(one)]
    energies = {
        one.host_id: _millijoules(one.thread_slope_microwatts or 0, one.own_cpu_milliseconds)
        for one in reporting
    }
    is_known = len(reporting) * 100 >= REPORTING_PERCENT * len(machines)
    # Machines that came, moved or were forgotten since the month was released: no second count of them.
    shows_energy = is_known and (is_exempt or (released == counted and is_safe(energies, k)))
    shows_time = shows_energy and (is_exempt or _time_is_safe(reporting, k))
    received, sent = (
        collector.get(f"{population.value}_{name}_bytes", 0) if collector is not None and is_exempt else None
        for name in ("received", "sent")
    )
    return AgentsUse(
        population,
        len(machines) if is_exempt else released,
        sum(energies.values()) if shows_energy else None,
        sum(one.own_cpu_milliseconds for one in reporting) if shows_time else None,
        received,
        sent,
    )


def _reports(one: IndicatorMachine) -> bool:
    """Tell whether a machine's own CPU time is known: an agent that runs uses some."""
    if not one.use().on_milliseconds:
        return True
    return bool(one.own_cpu_milliseconds) and one.thread_slope_microwatts is not None


def _time_is_safe(machines: Sequence[IndicatorMachine], k: int) -> bool:
    """Tell whether the sums of energy and of time, together, leave no time of fewer than k machines.

    The watts are public: less those of one kind of machine, the energy is of the others.
    """
    times = {one.host_id: one.own_cpu_milliseconds for one in machines}
    kinds = Counter(one.thread_slope_microwatts for one in machines)
    others = (
        {one.host_id: times[one.host_id] for one in machines if one.thread_slope_microwatts != kind}
        for kind in kinds
    )
    return is_safe(times, k) and all(is_nobodys_or_enough(left, k) for left in others)


def _avoidable(indicators: IndicatorMonth | None) -> float | None:
    found = [
        row.figure.value
        for row in (indicators.rows if indicators else ())
        if row.indicator == AVOIDABLE and row.figure.value is not None
    ]
    return sum(found) if found else None


def encode_own_use(month: OwnMonth) -> dict[str, Any]:
    """Encode a month for JSON: words and integers."""
    avoidable = month.avoidable_kwh
    return {
        "agents": [[one.population.value, *one[1:]] for one in month.agents],
        "collector": [month.collector_cpu_milliseconds, month.collector_energy_millijoules],
        "avoidable_millijoules": None if avoidable is None else round(avoidable * MILLIJOULES_PER_KWH),
    }


def decode_own_use(content: Mapping[str, Any], first: date, end: date) -> OwnMonth:
    """Decode what `encode_own_use` returned. Raises ValueError, KeyError, TypeError."""
    avoidable = content["avoidable_millijoules"]
    cpu, energy = content["collector"]
    return OwnMonth(
        Slice(first, end),
        tuple(AgentsUse(Population(population), *rest) for population, *rest in content["agents"]),
        cpu,
        energy,
        None if avoidable is None else avoidable / MILLIJOULES_PER_KWH,
    )


OWN_USE: Final = FigureFormat(
    PublicationKind.OWN_USE,
    1,
    encode_own_use,
    decode_own_use,
    lambda month: (
        month.collector_energy_millijoules is None
        and all(one.energy_millijoules is None for one in month.agents)
    ),
)
