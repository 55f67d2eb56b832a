# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Adds the values of one tick to a cell, and splits a tick between cells. Pure; splitting loses nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from veilleuse.agent.model import Cell, LoadDelta, Point, Tick
from veilleuse.wire.limits import (
    BUSY_CORE_RATIO,
    CPU_BUCKET_EDGES_PERCENT,
    DISPLAY_BUCKETS,
    IDLE_RUN_EDGES_MINUTES,
    MAX_UNITS_PER_CELL,
    MEMORY_BUCKET_EDGES_PERCENT,
    NETWORK_RATE_EDGES_BYTES_PER_SECOND,
    OTHER_UNITS,
    bucket_index,
)
from veilleuse.wire.sums import apportion, merge_smallest
from veilleuse.wire.units import MILLISECONDS_PER_MINUTE, MILLISECONDS_PER_SECOND
from veilleuse.wire.vocabulary import Population, State

ON: Final = (State.ON_ACTIVE, State.ON_IDLE)
UNITS_WHILE_GROWING: Final = 4 * MAX_UNITS_PER_CELL
"""Number of units above which the smallest are merged before the record is encoded.

The limit is higher than in a record, because a unit that is small at first may grow.
"""


class Share(NamedTuple):
    """The part of a tick's additive values that falls on one piece of its time."""

    energies: tuple[tuple[Point, int, int], ...] = ()
    """Tuples (point, millijoules, covered milliseconds)."""
    cpu_busy_milliseconds: int | None = None
    gaps: tuple[tuple[str, int], ...] = ()
    """Tuples (source, milliseconds)."""
    units: tuple[tuple[str, int], ...] = ()
    """Tuples (unit, CPU milliseconds)."""
    own_cpu_milliseconds: int | None = None


EMPTY: Final = Share()


def split_tick(tick: Tick, pieces_milliseconds: Sequence[int]) -> list[Share]:
    """Return one share per piece; each value summed over the pieces equals the tick's value exactly."""
    whole = _whole_share(tick)
    if len(pieces_milliseconds) == 1:
        return [whole]

    def split(total: int) -> list[int]:
        return apportion(total, pieces_milliseconds)

    count = range(len(pieces_milliseconds))
    energies = [(point, split(energy), split(covered)) for point, energy, covered in whole.energies]
    busy = None if whole.cpu_busy_milliseconds is None else split(whole.cpu_busy_milliseconds)
    gaps = [(source, split(total)) for source, total in whole.gaps]
    units = [(name, split(total)) for name, total in whole.units]
    own = None if whole.own_cpu_milliseconds is None else split(whole.own_cpu_milliseconds)
    return [
        Share(
            energies=tuple((point, energy[i], covered[i]) for point, energy, covered in energies),
            cpu_busy_milliseconds=None if busy is None else busy[i],
            gaps=tuple((source, parts[i]) for source, parts in gaps),
            units=tuple((name, parts[i]) for name, parts in units),
            own_cpu_milliseconds=None if own is None else own[i],
        )
        for i in count
    ]


def _whole_share(tick: Tick) -> Share:
    load = tick.load
    return Share(
        energies=tuple((e.point, e.energy_millijoules, e.covered_milliseconds) for e in tick.energies),
        cpu_busy_milliseconds=None
        if load is None
        else round(load.cpu_busy_ratio * tick.duration_milliseconds),
        gaps=tick.gaps,
        units=tick.units,
        own_cpu_milliseconds=tick.own_cpu_milliseconds,
    )


def add_share(
    cell: Cell,
    share: Share,
    tick: Tick,
    offset: int,
    milliseconds: int,
    *,
    population: Population,
    in_window: bool | None,
) -> None:
    """Add a share to a cell. Workstations keep no network rate; only servers keep units.

    The piece lasts `milliseconds` and starts `offset` ms after the tick's start. `in_window` tells whether it
    lies inside an update window; None = not reported.
    """
    cell.milliseconds += milliseconds
    for point, energy, covered in share.energies:
        cell.add_energy(point, energy, covered)
    if tick.state not in ON:
        return
    if tick.state is State.ON_IDLE:
        _add_idle_run(cell, tick, offset, milliseconds)
    if in_window is not None:
        _add_window(cell, share, milliseconds, in_window=in_window)
    if tick.displays_on is not None:
        for size, count in enumerate(tick.displays_on):
            cell.add_bucket(DISPLAY_BUCKETS, size, count * milliseconds)
    if share.own_cpu_milliseconds is not None:
        cell.add_sum("own_cpu_milliseconds", share.own_cpu_milliseconds)
    if share.units and population is Population.SERVER:
        _add_units(cell, share.units)
    if tick.load is None or share.cpu_busy_milliseconds is None:
        return
    _add_load(cell, tick.load, share.cpu_busy_milliseconds, milliseconds)
    if population is not Population.WORKSTATION and tick.load.network_bytes is not None:
        rate = tick.load.network_bytes * MILLISECONDS_PER_SECOND / tick.duration_milliseconds
        index = bucket_index(rate, NETWORK_RATE_EDGES_BYTES_PER_SECOND)
        cell.add_bucket("network_rate_milliseconds", index, milliseconds)


def _add_window(cell: Cell, share: Share, milliseconds: int, *, in_window: bool) -> None:
    cell.add_sum("update_window_milliseconds", milliseconds if in_window else 0)
    if in_window:
        for point, energy, covered in share.energies:
            cell.add_window_energy(point, energy, covered)


def _add_units(cell: Cell, units: tuple[tuple[str, int], ...]) -> None:
    for name, cpu_milliseconds in units:
        cell.add_unit(name, cpu_milliseconds)
    if len(cell.units) > UNITS_WHILE_GROWING:
        cell.units = merge_smallest(cell.units, MAX_UNITS_PER_CELL, OTHER_UNITS)


def _add_load(cell: Cell, load: LoadDelta, busy_milliseconds: int, milliseconds: int) -> None:
    cell.add_sum("cpu_covered_milliseconds", milliseconds)
    cell.add_sum("cpu_busy_milliseconds", busy_milliseconds)
    cell.add_sum(
        "any_core_busy_milliseconds", milliseconds if load.busiest_core_ratio >= BUSY_CORE_RATIO else 0
    )
    index = bucket_index(load.cpu_busy_ratio * 100, CPU_BUCKET_EDGES_PERCENT)
    cell.add_bucket("cpu_bucket_milliseconds", index, milliseconds)
    if load.memory_used_ratio is not None:
        index = bucket_index(load.memory_used_ratio * 100, MEMORY_BUCKET_EDGES_PERCENT)
        cell.add_bucket("memory_bucket_milliseconds", index, milliseconds)


def _add_idle_run(cell: Cell, tick: Tick, offset: int, milliseconds: int) -> None:
    """Add the part of the piece that lies beyond the first 15, 30 and 60 minutes of the idle run."""
    run_at_end = tick.idle_run_milliseconds - (tick.duration_milliseconds - offset - milliseconds)
    for minutes in IDLE_RUN_EDGES_MINUTES:
        beyond = run_at_end - minutes * MILLISECONDS_PER_MINUTE
        cell.add_sum(f"idle_beyond_{minutes}_minutes_milliseconds", min(milliseconds, max(0, beyond)))
