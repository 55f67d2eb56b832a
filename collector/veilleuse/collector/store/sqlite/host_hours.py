# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the hours of one machine for attribution.

The tables lie in the order of time, so each hour is one key lookup.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from veilleuse.collector.model.attribution import HostHour
from veilleuse.collector.model.figures import EnergySums
from veilleuse.collector.model.records import Grain, HostId
from veilleuse.collector.wire_codec import STATES, number
from veilleuse.wire.ladder import Method
from veilleuse.wire.limits import HOUR_MILLISECONDS
from veilleuse.wire.vocabulary import State

Ask: TypeAlias = Callable[..., list[Any]]
"""Runs (sql, *values) and returns the rows."""

PAGE_HOURS: Final = 31 * 24
_HOURS: Final = (
    "WITH RECURSIVE hours(hour) AS (SELECT ? UNION ALL"
    f" SELECT hour + {HOUR_MILLISECONDS} FROM hours WHERE hour + {HOUR_MILLISECONDS} < ?)"
)
_OF: Final = f"t.grain = {Grain.HOUR:d} AND t.start = hours.hour AND t.host_id = ?"
_ON: Final = f"t.state IN ({number(State.ON_ACTIVE)}, {number(State.ON_IDLE)})"
_LOADS: Final = (
    f"{_HOURS} SELECT hour, sum(t.milliseconds), sum(t.cpu_covered_milliseconds), sum(t.cpu_busy_milliseconds)"
    f" FROM hours CROSS JOIN sums t ON {_OF} AND {_ON} GROUP BY hour"
)
_ENERGIES: Final = (
    f"{_HOURS} SELECT hour, t.state, t.method, sum(t.milliseconds), sum(t.energy_millijoules), sum(t.uncertainty_millijoules)"
    f" FROM hours CROSS JOIN derived t ON {_OF} GROUP BY hour, t.state, t.method"
)
_UNITS: Final = (
    f"{_HOURS} SELECT hour, n.name, t.cpu_milliseconds FROM hours CROSS JOIN unit_sums t ON {_OF}"
    " JOIN units n ON n.unit_id = t.unit_id"
)


def host_hours(ask: Ask, host_id: HostId, start: int, end: int) -> Iterator[HostHour]:
    """Yield the hours with any stored value that begin in [start, end), Unix milliseconds, in the order of
    time.
    """
    first = -(-start // HOUR_MILLISECONDS) * HOUR_MILLISECONDS
    step = PAGE_HOURS * HOUR_MILLISECONDS
    for page in range(first, end, step):
        yield from _page(ask, host_id, page, min(end, page + step))


def _page(ask: Ask, host_id: HostId, start: int, end: int) -> Iterator[HostHour]:
    loads = {hour: values for hour, *values in ask(_LOADS, start, end, host_id)}
    energies: defaultdict[int, dict[tuple[State, Method], EnergySums]] = defaultdict(dict)
    for hour, state, method, *sums in ask(_ENERGIES, start, end, host_id):
        energies[hour][STATES[state], Method(method)] = EnergySums(*sums)
    units: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for hour, name, spent in ask(_UNITS, start, end, host_id):
        units[hour][name] = spent
    for hour in sorted({*loads, *energies, *units}):
        on, covered, busy = loads.get(hour, (0, None, None))
        yield HostHour(hour, energies.get(hour, {}), on, covered or 0, busy or 0, units.get(hour, {}))
