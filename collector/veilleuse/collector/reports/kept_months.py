# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Whether all months of a period are still kept: retention takes the oldest ones, those of PCs before servers'. Decision 0031."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from veilleuse.collector.model.records import Host, HostStatus
from veilleuse.collector.ports import PeriodReader
from veilleuse.collector.reports.savings import moved
from veilleuse.wire.vocabulary import Population


def cut_populations(
    periods: PeriodReader, months: tuple[date, date], hosts: Iterable[Host]
) -> frozenset[Population]:
    """Populations of which nothing is kept of the period's first months, though such machines were enrolled: what is summed over the
    period would be of the months that are left. `months`: the 1st of two months, end exclusive.
    """
    known = {host.host_id: host for host in hosts}
    at, end = months
    last = moved(end, -1)
    waiting = {host.population for host in known.values() if is_enrolled(host, last) and at < end}
    found: set[Population] = set()
    while waiting and at < end:
        first_enrolled: dict[Population, date] = {}
        for row in periods.host_months(at, moved(at, 1)):
            host = known.get(row.host_id)
            if host is not None and host.population in waiting:
                before = first_enrolled.get(host.population, host.enrolled_on)
                first_enrolled[host.population] = min(before, host.enrolled_on)
                if at == months[0] and first_enrolled.keys() == waiting:
                    break  # nothing of the period is older
        cut = {one for one, day in first_enrolled.items() if at > months[0] and day <= moved(at, -1)}
        found |= cut
        waiting -= first_enrolled.keys()
        at = moved(at, 1)
    return frozenset(found | waiting)


def is_enrolled(host: Host, until: date) -> bool:
    """Of the fleet, and enrolled before that day."""
    return host.status in (HostStatus.ACTIVE, HostStatus.SUSPENDED) and host.enrolled_on < until


def is_cut(periods: PeriodReader, first: date, end: date, hosts: Iterable[Host]) -> bool:
    """Of a whole calendar year: whether its first months are gone of any population of which later ones are kept, or all of them."""
    whole = (first.month, first.day) == (1, 1) == (end.month, end.day) and first < end
    return whole and bool(cut_populations(periods, (first, end), hosts))
