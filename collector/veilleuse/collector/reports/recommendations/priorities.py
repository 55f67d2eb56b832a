# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Ranks groups of machines and single servers by their avoidable energy a year (pure).

The groups are the rows of I4 by entity, class and month, as the answers give them: of PCs, released months.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from typing import Final

from veilleuse.collector.calendars.periods import slices
from veilleuse.collector.disclosure.rule import MIXED
from veilleuse.collector.documents.document import Row
from veilleuse.collector.indicators.avoidable_energy import CAUSES, AvoidableEnergy, kwh_by_cause
from veilleuse.collector.indicators.comatose_server import ComatoseServer, is_judged, verdict
from veilleuse.collector.indicators.out_of_hours import OutOfHours
from veilleuse.collector.indicators.oversized_server import is_oversized
from veilleuse.collector.indicators.underused_server import is_underused
from veilleuse.collector.model.indicators import (
    Figure,
    IndicatorGroup,
    IndicatorMachine,
    ServerVerdict,
    Targets,
)
from veilleuse.collector.model.query import AUTRES, GroupKey
from veilleuse.collector.reports.indicators_document import figure_of, key_of
from veilleuse.collector.reports.recommendations.facts import DeclaredAction, FleetFacts
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import Population

DIMENSIONS: Final = ("entity", "population", "device_class", "month")
"""Grouping of the rows that `rank` takes: the partition of released months."""
SUSPECT: Final = "suspect"
UNDER_USED: Final = "under_used"
OVERSIZED: Final = "oversized"
REASONS: Final = (*CAUSES, MIXED, SUSPECT, UNDER_USED, OVERSIZED)
"""Causes of avoidable energy, then verdicts on servers whose saving is not known in kWh."""
MONTHS_OF_YEAR: Final = 12
_MONTH_MILLISECONDS: Final = 365 * 24 * 3_600_000 / MONTHS_OF_YEAR
_AVOIDABLE: Final = AvoidableEnergy()
_NEEDED: Final = frozenset(
    {_AVOIDABLE.meta.indicator, OutOfHours.meta.indicator, ComatoseServer.meta.indicator}
)


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What would save energy in one group of machines, or on one server."""

    key: GroupKey
    """Entity, population and class, over any period."""
    machines: int
    months: int
    """Months in the figure; of a server, months of observed time."""
    figure: Figure
    """I4, its months together; without a value where the saving is not known in kWh."""
    yearly: Figure
    """The same ÷ months × 12, so that groups of different months compare; of merged groups, ÷ the months of
    the period. A machine may be in both: never add rows.
    """
    reason: str
    """One of REASONS: the largest cause that is told."""
    comatose: tuple[int, int] | None = None
    """Comatose servers of those that could be judged, in the newest month that tells it."""
    nights: int | None = None
    """Machine-nights on, over the months that tell it."""
    nights_each: Fraction | None = None
    """Nights per machine over these months."""
    closing: int | None = None
    """Minute of the day at which its sites close."""
    server: str = ""
    site: str = ""
    kwh: float | None = None
    """Energy of the server, over the same months."""
    actions: tuple[DeclaredAction, ...] = ()
    """Actions at its sites."""

    @property
    def yearly_kwh(self) -> float | None:
        """Energy of the server in twelve months like these."""
        return None if self.kwh is None else self.kwh * MONTHS_OF_YEAR / self.months


def rank(rows: Iterable[Row], facts: FleetFacts, targets: Targets, months: int) -> tuple[Recommendation, ...]:
    """Return the recommendations: the most avoidable energy a year first, then those of unknown saving.

    `rows`: of the indicators, by DIMENSIONS. Single servers replace the rows of servers where they may be
    seen. `months`: number of months of the period.
    """
    found = [
        one
        for one in _groups(rows, facts, months)
        if facts.servers is None or one.key.population is not Population.SERVER
    ]
    found += [one for server in facts.servers or () if (one := _server(server, facts, targets, months))]
    found.sort(
        key=lambda one: (-(one.yearly.value or 0.0), -(one.yearly_kwh or 0.0), one.key.order, one.server)
    )
    return tuple(found)


def gather_servers(
    ranked: Iterable[Recommendation], facts: FleetFacts, targets: Targets
) -> tuple[Recommendation, ...]:
    """Return the recommendations with the comatose servers of each entity as one, for a short list."""
    found: list[Recommendation] = []
    comatose = defaultdict[GroupKey, list[Recommendation]](list)
    for one in ranked:
        if not one.server:
            found.append(one)
        elif one.figure.value:
            comatose[one.key].append(one)
    for key, servers in comatose.items():
        judged = sum(one.entity == key.entity and is_judged(one, targets) for one in facts.servers or ())
        figure, yearly = (
            _AVOIDABLE.add(each, same_time=True)
            for each in zip(*((one.figure, one.yearly) for one in servers), strict=True)
        )
        found.append(
            replace(
                servers[0],
                machines=len(servers),
                months=max(one.months for one in servers),
                figure=figure,
                yearly=yearly,
                comatose=(len(servers), judged),
                server="",
            )
        )
    return tuple(sorted(found, key=lambda one: -(one.yearly.value or 0.0)))


def _groups(rows: Iterable[Row], facts: FleetFacts, period_months: int) -> Iterator[Recommendation]:
    told = defaultdict[GroupKey, defaultdict[str, list[Figure]]](lambda: defaultdict(list))
    months = Counter[GroupKey]()
    for row in sorted(rows, key=lambda row: str(row["period_from"])):
        if row["indicator"] in _NEEDED and not row.get("withheld"):
            key = key_of(row)
            told[key][str(row["indicator"])].append(figure_of(row))
            months[key] += _months_of(row) * (row["indicator"] == _AVOIDABLE.meta.indicator)
    for key, figures in told.items():
        energies = figures[_AVOIDABLE.meta.indicator]
        if energies and (whole := _AVOIDABLE.add(energies, same_time=False)).value:
            one = _group(key, whole, months[key], figures, facts)
            # merged groups hold other machines each month, which have rows of their own in the other months
            yield replace(one, yearly=_per_year(whole, period_months)) if key.autres else one


def _group(
    key: GroupKey,
    whole: Figure,
    months: int,
    figures: Mapping[str, Sequence[Figure]],
    facts: FleetFacts,
) -> Recommendation:
    assert key.population is not None  # a row by population has one
    sites = facts.sites_of(() if key.entity in (None, AUTRES) else (str(key.entity),), key.population)
    nights = [one for one in figures.get(OutOfHours.meta.indicator, ()) if "nights_on" in one.details]
    judged = [one for one in figures.get(ComatoseServer.meta.indicator, ()) if one.denominator]
    return Recommendation(
        key,
        whole.n,
        months,
        whole,
        _per_year(whole, months),
        _largest_cause(whole),
        (round(judged[-1].numerator or 0), round(judged[-1].denominator or 0)) if judged else None,
        sum(int(one.details["nights_on"]) for one in nights) if nights else None,
        sum((Fraction(int(one.details["nights_on"]), one.n) for one in nights if one.n), Fraction(0))
        if nights
        else None,
        facts.closing_of(sites, key.population),
        actions=tuple(one for one in facts.actions if sites & set(one.action.sites)),
    )


def _largest_cause(figure: Figure) -> str:
    """Return the largest of the causes that are told; MIXED where none is."""
    causes: Mapping[str, float] = kwh_by_cause(figure)
    told = {cause: kwh for cause, kwh in causes.items() if cause != MIXED and kwh}
    return max(told, key=lambda cause: told[cause]) if told else MIXED


def _per_year(figure: Figure, months: int) -> Figure:
    """Return the value and interval of twelve months like these; seasons are not corrected."""
    if figure.value is None:
        return figure
    low, high = figure.interval or (0.0, 0.0)
    times = MONTHS_OF_YEAR / months
    return replace(
        figure, value=figure.value * times, interval=(low * times, high * times) if figure.interval else None
    )


def _months_of(row: Row) -> int:
    first, end = (date.fromisoformat(str(row[name])) for name in ("period_from", "period_to"))
    return len(slices(first, end, by_month=True))


def _server(one: IndicatorMachine, facts: FleetFacts, targets: Targets, months: int) -> Recommendation | None:
    """Return the recommendation of a server; None where nothing is found about it."""
    judged = verdict(one, targets)
    if judged is ServerVerdict.COMATOSE:
        reason = CAUSES[-1]
    elif judged is ServerVerdict.EXCLUDED:
        return None
    elif judged is ServerVerdict.SUSPECT:
        reason = SUSPECT
    elif is_underused(one, targets):
        reason = UNDER_USED
    elif is_oversized(one, targets):
        reason = OVERSIZED
    else:
        return None
    place = GroupKey(population=one.population, entity=one.entity, device_class=one.device_class.value)
    figures = _AVOIDABLE.figures(IndicatorGroup(place, (one,)), targets)
    nothing = Figure(None, 1)
    figure = next(iter(figures), nothing) if reason == CAUSES[-1] else nothing
    use = one.use()
    observed = min(months, max(1, round(use.known_milliseconds / _MONTH_MILLISECONDS)))
    return Recommendation(
        place,
        1,
        observed,
        figure,
        _per_year(figure, observed),
        reason,
        server=one.label,
        site=one.site,
        kwh=use.derived_millijoules / MILLIJOULES_PER_KWH if use.derived_milliseconds else None,
        actions=tuple(action for action in facts.actions if one.site in action.action.sites),
    )
