# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Make released figures of observed groups: each group is a row of the fleet that was measured whole."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from veilleuse.collector.account.observations import ObservedGroups, u_model
from veilleuse.collector.account.row import PeriodFigures
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.disclosure.rule import EXEMPT
from veilleuse.collector.fleet.census import at_default_context
from veilleuse.collector.fleet.estimate import Representativeness
from veilleuse.collector.model.query import Query
from veilleuse.collector.model.sums import Group
from veilleuse.collector.release.figures import sum_fleet
from veilleuse.collector.release.rows import MILLION, FleetRow, MeasuredParts, Source
from veilleuse.wire.ladder import Method


def fleet_row(group: Group) -> FleetRow:
    """Return the row of a group of which nothing was missed; its methods where no rule hides them."""
    key, sums = at_default_context(group.key).over(), group.sums
    methods: Counter[Method] = Counter()
    for (_, method, _, _), energy in sums.energies.items():
        methods[method] += energy.energy_millijoules
    parts = MeasuredParts(
        methods, 0, sums.derived_milliseconds, Representativeness.CENSUS.value, sums.apportioned
    )
    return FleetRow(
        key,
        Source.OWN,
        key.entity or "",
        key.device_class or "",
        sums.hosts,
        sums.hosts,
        sums.enrolled_milliseconds,
        sums.observed_milliseconds,
        methods.total(),
        0,
        0,
        0,
        MILLION,
        0,
        0,
        round(MILLION * u_model([group])),
        measured=parts if key.population in EXEMPT else None,
    )


def released_periods(found: ObservedGroups) -> list[PeriodFigures]:
    """Return the figures of each period of the groups, in their own grouping."""
    parts = sorted({(group.key.period_from, group.key.period_to) for group in found.groups})
    made = []
    for part in (Slice(*dates) for dates in parts):
        inside = [group for group in found.groups if group.key.period_from == part.first]
        months = [(part, [fleet_row(group) for group in inside])]
        query = Query(part.first, part.end, ("entity", "site", "device_class"))
        figures = sum_fleet(part, months, query, random_roll_out=False)
        made.append(replace(figures, withheld=found.withheld))
    return made
