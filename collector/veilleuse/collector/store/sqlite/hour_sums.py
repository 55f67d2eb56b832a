# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Sums derived energy of machines by a label that the caller gives each hour: a year of hours has some
hundred labels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from veilleuse.collector.model.figures import EnergySums
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.wire_codec import number
from veilleuse.wire.vocabulary import Population

Ask: TypeAlias = Callable[..., list[Any]]
"""Runs (sql, *values) and returns the rows."""

PAGE_HOURS: Final = 31 * 24
"""Hours in one statement, which is one snapshot: at most a month of a fleet's rows."""
_LABELS: Final = (
    "WITH labels(hour, label) AS MATERIALIZED"
    " (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))"
    " SELECT t.host_id, l.label, sum(t.milliseconds), sum(t.energy_millijoules), sum(t.uncertainty_millijoules)"
)
_HOUR: Final = f"derived t ON t.grain = {Grain.HOUR:d} AND t.start = l.hour"
_SUMS: Final = f"{_LABELS} FROM labels l CROSS JOIN {_HOUR} GROUP BY t.host_id, l.label"
# For some of many machines: one key lookup for each of their hours, not a scan of all machines' hours.
_SUMS_OF: Final = (
    f"{_LABELS} FROM hosts h CROSS JOIN labels l CROSS JOIN {_HOUR} AND t.host_id = h.host_id"
    " WHERE h.population = ? GROUP BY t.host_id, l.label"
)
_OLDEST: Final = (
    f"SELECT host_id, (SELECT min(start) FROM derived d WHERE d.host_id = h.host_id AND d.grain = {Grain.HOUR:d})"
    " FROM hosts h"
)


def hour_sums(
    ask: Ask, labels: Mapping[int, int], population: Population | None = None
) -> Iterator[tuple[HostId, int, EnergySums]]:
    """Yield (host, label, energy) of one population or all; a pair comes once for each page of hours that has
    it.
    """
    hours = sorted(labels)
    for first in range(0, len(hours), PAGE_HOURS):
        page = json.dumps([[hour, labels[hour]] for hour in hours[first : first + PAGE_HOURS]])
        rows = ask(_SUMS, page) if population is None else ask(_SUMS_OF, page, number(population))
        for host_id, label, *sums in rows:
            yield HostId(host_id), label, EnergySums(*sums)


def oldest_hours(ask: Ask) -> dict[HostId, int]:
    """Return host → its oldest hour with energy, where there is one; one index lookup a host."""
    return {HostId(host_id): start for host_id, start in ask(_OLDEST) if start is not None}
