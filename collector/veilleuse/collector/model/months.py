# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines the monthly sums of one machine by day type and band.
They are additive, and every yearly figure is based on them.

The columns are a table, so that the store, the closing and the estimator use the same names. All are integers
≥ 0; milliseconds, millijoules.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from operator import add
from typing import Final, NamedTuple, TypeAlias

from veilleuse.collector.model.records import HostId
from veilleuse.wire.ladder import Method
from veilleuse.wire.limits import BUCKETS, DISPLAY_BUCKETS
from veilleuse.wire.units import MILLISECONDS_PER_HOUR
from veilleuse.wire.vocabulary import Band, State, Supply, Word


class DayType(Word):
    """Type of one civil day of a site. docs/methodology.md §4."""

    OPEN = "open"
    SCHOOL_HOLIDAY = "school_holiday"
    """Open, and pupils of the site's zone are on holiday."""
    CLOSED = "closed"
    """Nothing is open: a weekend, a public holiday, a closure; in the school holidays too."""


STATE_COLUMNS: Final = tuple(f"{state}_{supply}_milliseconds" for state in State for supply in Supply)
WAIT_DAYS: Final = 3
"""Days from the end of a month until it is stored: most delayed records have arrived by then.
Later ones recompute it.
"""
OWN_KEPT_DAYS: Final = 62
"""Days for which the days of what the collector used are kept: by then their month is mostly published."""
OWN_WAIT_DAYS: Final = 31
"""Days more for those of a month that is not published yet: a collector that was off publishes it late."""
IDLE_COLUMNS: Final = tuple(f"idle_beyond_{minutes}_minutes_milliseconds" for minutes in (15, 30, 60))
CPU_COLUMNS: Final = tuple(
    f"cpu_bucket_{n:02}_milliseconds" for n in range(BUCKETS["cpu_bucket_milliseconds"])
)
COUNTER_COLUMNS: Final = (
    "counters_energy_millijoules",
    "counters_covered_milliseconds",
    "battery_out_energy_millijoules",
)
"""Input of the wall model, its time, and the battery's discharge.

In each cell it is one signal, as derive selected it. That is psys where it is trusted, else package + dram +
discrete GPU, never both. It covers the time derived by a counter method, so none where a meter was used.
"""
METHOD_COLUMNS: Final = tuple(
    f"{method}_{what}"
    for method in Method
    for what in ("milliseconds", "energy_millijoules", "uncertainty_millijoules")
)
"""Derived wall energy; uncertainties are k = 1, added up linearly."""
STATE_ENERGY_COLUMNS: Final = tuple(f"{state}_energy_millijoules" for state in State)
"""The same energy by state."""
UNKNOWN_DERIVED: Final = "unknown_derived_milliseconds"
"""Time of unknown state with an energy: only a meter covers such time. Nothing is imputed for it."""
SCREEN_COLUMNS: Final = (
    *(f"display_{n}_milliseconds" for n in range(BUCKETS[DISPLAY_BUCKETS])),
    "screens_milliseconds",
    "screens_energy_millijoules",
    "screens_uncertainty_millijoules",
)
IMPUTED_COLUMNS: Final = (
    "imputed_milliseconds",
    "imputed_energy_millijoules",
    "unobserved_milliseconds",
)
"""docs/methodology.md §4: imputed time, imputed energy, and unobserved time between the machine's first and
last day.

Imputed time has no known state and uses this machine's own history. Imputed energy includes that of time on
without any energy.
"""
NIGHT_COLUMNS: Final = ("nights_on", "update_window_energy_millijoules")
"""Nights on for more than 4 h (in the row of band `night`; none of servers), I1;
wall energy in declared update windows.
"""
NIGHT_ON_MILLISECONDS: Final = 4 * MILLISECONDS_PER_HOUR
"""docs/methodology.md §12, I1."""
OWN_CPU: Final = "own_cpu_milliseconds"
"""CPU time of the agent's own processes; in no statistics of a closed year."""

COLUMNS: Final = (
    *STATE_COLUMNS,
    *IDLE_COLUMNS,
    *CPU_COLUMNS,
    *COUNTER_COLUMNS,
    *METHOD_COLUMNS,
    *STATE_ENERGY_COLUMNS,
    UNKNOWN_DERIVED,
    *SCREEN_COLUMNS,
    *IMPUTED_COLUMNS,
    *NIGHT_COLUMNS,
    OWN_CPU,
)
PLACE: Final = {name: place for place, name in enumerate(COLUMNS)}

Vector: TypeAlias = tuple[int, ...]
"""Values of COLUMNS, in their order. A value that a machine never measures is 0:
its facts say what it measures.
"""
NOTHING: Final[Vector] = (0,) * len(COLUMNS)


def add_vectors(one: Sequence[int], more: Sequence[int]) -> Vector:
    """Add column by column."""
    return tuple(map(add, one, more))


def without_imputed(values: Sequence[int]) -> Vector:
    """Return only the measured values: they are the sum of a machine's days."""
    return tuple(0 if place in _IMPUTED_PLACES else value for place, value in enumerate(values))


_IMPUTED_PLACES: Final = frozenset(PLACE[name] for name in IMPUTED_COLUMNS)


class HostPeriod(NamedTuple):
    """One machine over whole civil days of one day type, in one band.
    A tuple: a year over 10,000 machines has 80,000.
    """

    host_id: HostId
    period_from: date
    """First day of the month or of the stretch."""
    day_type: DayType
    band: Band
    values: Vector
    apportioned: bool = False
    """True when a week was shared between several day types, months or periods."""

    def value(self, name: str) -> int:
        """Return the value of one of COLUMNS. Raises KeyError."""
        return self.values[PLACE[name]]
