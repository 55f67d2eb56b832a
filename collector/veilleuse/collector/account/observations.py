# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Turns observed groups into the rows of a statement, without extrapolation (pure). docs/methodology.md §10.

Errors are common (linear) within one device class, for all energy based on its priors, and within one
measuring method. They are independent between these. A sum of rows with withheld methods adds them linearly.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from veilleuse.collector.account.row import FigureRow, PeriodFigures
from veilleuse.collector.fleet.estimate import DataType, Estimate, EstimateBasis, Representativeness
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.sums import Detail, EnergyClass, Group
from veilleuse.collector.quantiles import Z95
from veilleuse.wire.ladder import MEASURED, Method
from veilleuse.wire.vocabulary import DeviceClass


@dataclass(frozen=True, slots=True)
class ObservedGroups:
    """Groups, small ones merged, and the keys (dimensions blank) of populations withheld entirely."""

    groups: tuple[Group, ...]
    withheld: tuple[GroupKey, ...] = ()


def observed_periods(observed: ObservedGroups, whole: Sequence[Group] | None = None) -> list[PeriodFigures]:
    """Return the rows and the total of each period; no total where all groups are virtual machines.

    `whole`: the same groups over the periods of the totals; None: a period's rows are its total.
    """
    groups = observed.groups if whole is None else whole
    dates = {(key.period_from, key.period_to) for key in (*(one.key for one in groups), *observed.withheld)}
    return [_period(first, end, observed, groups) for first, end in sorted(dates)]


def _period(first: date, end: date, observed: ObservedGroups, whole: Iterable[Group]) -> PeriodFigures:
    def is_inside(key: GroupKey) -> bool:
        return first <= key.period_from and key.period_to <= end

    rows = [one for one in observed.groups if is_inside(one.key)]
    fleet = [one for one in whole if is_inside(one.key) and not one.key.memo]
    zones = {one.key.zone for one in fleet}
    total = GroupKey(first, end, zones.pop() if len(zones) == 1 else "")
    return PeriodFigures(
        first,
        end,
        tuple(_row(one.key, [one]) for one in rows if not one.key.memo),
        tuple(_row(one.key, [one]) for one in rows if one.key.memo),
        _row(total, fleet) if fleet else None,
        tuple(filter(is_inside, observed.withheld)),
    )


def _row(key: GroupKey, groups: Sequence[Group]) -> FigureRow:
    monitors = [one for one in groups if one.key.device_class == EnergyClass.MONITOR.value]
    machines = [one for one in groups if one not in monitors] or monitors
    withheld = frozenset[Detail]().union(*(one.sums.withheld for one in groups))
    methods: defaultdict[Method, int] = defaultdict(int)
    for one in groups:
        for (_, method, _, _), sums in one.sums.energies.items():
            methods[method] += sums.energy_millijoules
    measured = sum(energy for method, energy in methods.items() if method in MEASURED)
    u = u_model(groups)
    estimate = Estimate(
        energy_millijoules=sum(methods.values()),
        measured_millijoules=measured,
        modelled_millijoules=sum(methods.values()) - measured,
        imputed_millijoules=0,
        extrapolated_millijoules=0,
        default_millijoules=0,
        methods={method: methods[method] for method in Method if method in methods},
        machines_fleet=0,
        machines_sampled=0,
        fleet_milliseconds=0
        if Detail.COVERAGE in withheld
        else sum(one.sums.enrolled_milliseconds for one in groups),
        observed_milliseconds=sum(one.sums.observed_milliseconds for one in groups),
        derived_milliseconds=sum(one.sums.derived_milliseconds for one in groups),
        sampling_variance=0.0,
        degrees_of_freedom=math.inf,
        u_sampling=0.0,
        u_model=u,
        low_log=Z95 * u,
        high_log=Z95 * u,
        representativeness=Representativeness.CENSUS,
        basis=EstimateBasis.OBSERVED,
        data_type=DataType.REAL,
        unestimated=(),
    )
    return FigureRow(
        key,
        estimate,
        sum(one.sums.hosts for one in machines),
        any(one.sums.apportioned for one in groups),
        withheld,
        {},
        {},
        incomplete=any(one.sums.incomplete for one in groups),
        of_screens=machines is monitors,
    )


def u_model(groups: Iterable[Group]) -> float:
    """Return the relative standard uncertainty of the energy of groups.

    Errors add linearly within a class for energy based on its priors, and within a measuring method;
    otherwise in quadrature. For groups with withheld methods they add linearly over all. `autres` has no
    classes, and a sum must not look more certain because one of its classes is separate.
    """
    total = 0
    errors: defaultdict[tuple[DeviceClass | EnergyClass, Method | None] | None, int] = defaultdict(int)
    for group in groups:
        for (device_class, method, _, _), sums in group.sums.energies.items():
            total += sums.energy_millijoules
            error_key = (device_class, method if method in MEASURED else None)
            errors[None if Detail.METHODS in group.sums.withheld else error_key] += (
                sums.uncertainty_millijoules
            )
    return math.sqrt(sum(u**2 for u in errors.values())) / total if total else 0.0
