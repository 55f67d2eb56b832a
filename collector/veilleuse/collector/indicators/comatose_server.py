# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes I6: comatose servers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from veilleuse.collector.indicators.server_loads import (
    COMATOSE_DAYS,
    SUSPECT_DAYS,
    by_verdict,
    cpu_p95_below,
    find_load,
    is_measured,
    network_p95_below,
)
from veilleuse.collector.model.indicators import (
    Detail,
    Figure,
    GaugeParts,
    IndicatorGroup,
    IndicatorMachine,
    IndicatorMeta,
    Pair,
    ServerVerdict,
    Targets,
    judged,
)
from veilleuse.collector.ports.stages import Indicator
from veilleuse.wire.units import MILLIJOULES_PER_KWH
from veilleuse.wire.vocabulary import Population


class ComatoseServer(Indicator):
    """I6, comatose servers: no useful service for six months.

    Formula: comatose servers ÷ servers that could be judged. Comatose: over the last 180 days, at least 95 %
    of the time on is below 5 % CPU, and at least 95 % below 1 kB/s of traffic of others (by buckets). A
    server that fails the same test over the last 30 days was put to use since, and is not comatose. A server
    that passes over 30 days only is a suspect, "owner to confirm". A suspect without 180 observed days is not
    judged yet: it may be comatose. One that was busy in its 180 days is judged, and is not.
    Roles that may be idle (standby, batch, licence, backup, in the inventory) are excluded. A server is
    judged if it was observed for 90 % of the days asked, with CPU and network measured for 90 % of its time
    on; one that was never on is not.
    Period: the 180 and 30 days before the end of the period asked. Unit: ratio, 0 to 1.
    Threshold: none for the share; the test's own are `indicators.comatose_cpu_percent`,
    `indicators.comatose_network_bytes_per_second` (edges of buckets) and `indicators.server_observed_ratio`.
    Direction: lower is better. Owner: operations, with the service's owner. Koomey and Taylor found some 30 %
    of servers comatose.

    Worked example: four servers observed for 180 days: one at < 1 % CPU and < 1 kB/s all the time; one the
    same for the last 30 days only; one busy; one idle in the role backup: 1 comatose of 3 judged =
    0.3333333333333333, 1 suspect, 1 excluded.
    """

    meta = IndicatorMeta("I6", "comatose servers", "ratio", "lower", "operations")

    def figures(self, group: IndicatorGroup, targets: Targets) -> Iterable[Figure]:
        """Yield the figures of servers, with virtual machines in their own groups."""
        servers = [one for one in group.machines if one.population is Population.SERVER]
        if not servers:
            return
        verdicts = {one.host_id: verdict(one, targets) for one in servers}
        counts = Counter(verdicts.values())
        known = sum(is_judged(one, targets) for one in servers)
        apart = len(servers) - known - counts[ServerVerdict.EXCLUDED]
        details: dict[str, Detail] = {
            "suspects": counts[ServerVerdict.SUSPECT],
            "excluded": counts[ServerVerdict.EXCLUDED],
            "not_judged": apart,
            "suspects_not_judged": apart - counts[ServerVerdict.NOT_JUDGED],
        }
        drawn = [
            one.use().derived_millijoules
            for one in servers
            if verdicts[one.host_id] is ServerVerdict.COMATOSE
        ]
        if any(one.bands for one in servers):
            details["kwh"] = sum(drawn) / MILLIJOULES_PER_KWH
        yield Figure(
            counts[ServerVerdict.COMATOSE] / known if known else None,
            len(servers),
            counts[ServerVerdict.COMATOSE],
            known,
            details=details,
        )

    def parts(self, figure: Figure) -> GaugeParts:
        """Return servers by verdict."""
        names = ServerVerdict.COMATOSE.value, ServerVerdict.IN_SERVICE.value
        return (by_verdict(figure, *names, suspects=ServerVerdict.SUSPECT.value),)

    def pair(self, machine: IndicatorMachine, targets: Targets) -> Pair:
        """Return (numerator, denominator) of one machine: is it comatose?"""
        is_comatose = verdict(machine, targets) is ServerVerdict.COMATOSE
        return judged(is_comatose if is_judged(machine, targets) else None)


def verdict(machine: IndicatorMachine, targets: Targets) -> ServerVerdict:
    """Return the verdict on one server."""
    if machine.role is not None:
        return ServerVerdict.EXCLUDED
    short = _is_unused(machine, SUSPECT_DAYS, targets)
    long = _is_unused(machine, COMATOSE_DAYS, targets)
    if long and short is not False:
        return ServerVerdict.COMATOSE
    if short:
        return ServerVerdict.SUSPECT
    return ServerVerdict.NOT_JUDGED if long is None and short is None else ServerVerdict.IN_SERVICE


def is_judged(machine: IndicatorMachine, targets: Targets) -> bool:
    """Tell if it is known whether the server is comatose: not of a suspect without 180 observed days."""
    found = verdict(machine, targets)
    if found is ServerVerdict.SUSPECT:
        return _is_unused(machine, COMATOSE_DAYS, targets) is not None
    return found in (ServerVerdict.COMATOSE, ServerVerdict.IN_SERVICE)


def _is_unused(machine: IndicatorMachine, days: int, targets: Targets) -> bool | None:
    """Tell if the server did nothing for others over so many days; None when it cannot be judged."""
    load = find_load(machine, days, targets.observed_ratio)
    if load is None or not is_measured(load.network_buckets, load, targets.observed_ratio):
        return None
    return cpu_p95_below(load, targets.comatose_cpu_percent) and network_p95_below(
        load, targets.comatose_network_bytes_per_second
    )
