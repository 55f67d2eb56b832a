# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines the data between the stages of the collector. No I/O, no protobuf.

Parts of each record are NamedTuples: making a frozen dataclass takes four times as long.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from enum import IntEnum, StrEnum
from typing import NamedTuple, NewType, TypeAlias

from veilleuse.wire.vocabulary import (
    Band,
    Boundary,
    GapReason,
    PointKind,
    State,
    Supply,
)

HostId = NewType("HostId", int)
"""Row id of a host; never leaves the collector."""
AgentId = NewType("AgentId", bytes)
"""16 random bytes, in the certificate."""


class Grain(IntEnum):
    """Grain of a sum's key; the value is stored."""

    HOUR = 1
    """`start` is Unix milliseconds of the UTC hour."""
    DAY = 2
    """`start` is the day number (date.toordinal()) of the site's civil day."""
    WEEK = 3
    """`start` is the day number of the Monday of the ISO week."""


class Point(NamedTuple):
    """One place where energy is measured."""

    kind: PointKind
    domain: str
    boundary: Boundary
    subject: str


CellKey: TypeAlias = tuple[Band, State, Supply]


class Cell(NamedTuple):
    """Sums of one (band, state, supply); None = not measured, never zero."""

    band: Band
    state: State
    supply: Supply
    milliseconds: int
    energies: tuple[tuple[Point, int, int], ...] = ()
    """(point, millijoules, covered milliseconds)."""
    cpu_covered_milliseconds: int | None = None
    cpu_busy_milliseconds: int | None = None
    cpu_bucket_milliseconds: tuple[int, ...] = ()
    """13 values (edges: veilleuse.wire.limits) or none."""
    memory_bucket_milliseconds: tuple[int, ...] = ()
    any_core_busy_milliseconds: int | None = None
    idle_beyond_15_minutes_milliseconds: int | None = None
    idle_beyond_30_minutes_milliseconds: int | None = None
    idle_beyond_60_minutes_milliseconds: int | None = None
    network_rate_milliseconds: tuple[int, ...] = ()
    update_window_milliseconds: int | None = None
    """Time inside declared update windows; None = the calendar declares none, or this grain does not report
    them.
    """
    display_milliseconds: tuple[int, ...] = ()
    """Display-milliseconds in the order of veilleuse.wire.limits.DISPLAY_SIZES: four values, or none."""
    update_window_energies: tuple[tuple[Point, int, int], ...] = ()
    """(point, millijoules, covered milliseconds): the part of `energies` inside update windows."""
    units: tuple[tuple[str, int], ...] = ()
    """(`unit:<name>` or `guest:<id>`, CPU milliseconds); servers only, opt-in."""
    own_cpu_milliseconds: int | None = None
    """CPU time of the agent's own processes, summed over logical CPUs."""


class RecordPeriod(NamedTuple):
    """Period of a record. Clock records: `grain` HOUR,
    `start` Unix ms of the record itself, not of the hour.
    """

    grain: Grain
    start: int
    milliseconds: int
    """Clock: the period's length. Date and week: the sum of the cells."""


class DecodedRecord(NamedTuple):
    """One record after validation, with its original bytes."""

    seq: int
    wire: bytes
    hash: bytes
    """veilleuse.wire.chain.record_hash(wire); 8 bytes."""
    chain: bytes
    """Chain at this record; 32 bytes."""
    period: RecordPeriod | None
    """None for a Gap."""
    cells: tuple[Cell, ...] = ()
    sensor_gaps: tuple[tuple[GapReason, str, int], ...] = ()
    """(reason, source, milliseconds) inside a measurement."""
    gap: GapReason | None = None
    """Set when the record is a Gap."""
    gap_milliseconds: int = 0
    gap_records: int = 0
    gap_spans: tuple[tuple[RecordPeriod, int], ...] = ()
    """(period, milliseconds) of the spans of a Gap that have a period; a clock span may be longer than a day.
    """
    gap_told_apart: bool = False
    """True when a Gap has an id, or at least (0.1) a period for every span:
    only then is it recognised in a new epoch.
    """


@dataclass(frozen=True, slots=True)
class ValidPush:
    """A Push that passed validation. `records` is not empty and contiguous."""

    host_id: HostId
    epoch: bytes
    first_seq: int
    chain_before: bytes
    records: tuple[DecodedRecord, ...]


class AppendResult(StrEnum):
    """Result of a push in the store."""

    STORED = "stored"
    EXPECTED_EARLIER = "expected_earlier"
    CONFLICT = "conflict"
    REFUSED = "refused"
    """Some records can never be stored; nothing of the push was stored."""
    TOO_MANY_EPOCHS = "too_many_epochs"
    """The host has reached today's limit of new streams; nothing was stored."""
    FAILED = "failed"
    """The database refused this push alone; nothing of it was stored, the rest of its group was."""


@dataclass(frozen=True, slots=True)
class AppendOutcome:
    """Answer of the store to one push."""

    result: AppendResult
    mark: int
    chain: bytes
    stored_records: int = 0
    duplicate_records: int = 0
    """Records at or below the mark already."""
    replayed_records: int = 0
    """Records acknowledged in a new epoch without being summed again."""
    refusals: tuple[tuple[int, str], ...] = ()
    """(seq, reason) of each record that can never be stored; the reasons are in docs/wire.md."""


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """Position of a stream; mark 0 and the start of the chain for an unknown epoch."""

    mark: int
    chain: bytes


@dataclass(frozen=True, slots=True)
class DataKind:
    """Kind of a data directory: real or simulated, never both."""

    simulated: bool = False
    created_unix_milliseconds: int = 0
    schema_version: int = 0
    extra: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DaySize:
    """The databases on one day."""

    day: date
    data_bytes: int
    records: int


class Reason(StrEnum):
    """Names the rule by which a record is refused: a closed list, labels of a counter.

    A test checks that docs/wire.md explains each.
    """

    NOT_A_RECORD = "not_a_record"
    RECORD_TOO_LARGE = "record_too_large"
    PERIOD_MISSING = "period_missing"
    PERIOD_KIND_NOT_ALLOWED = "period_kind_not_allowed"
    PERIOD_OUT_OF_RANGE = "period_out_of_range"
    PERIOD_TOO_OLD = "period_too_old"
    PERIOD_IN_FUTURE = "period_in_future"
    PERIOD_NOT_ALIGNED = "period_not_aligned"
    PERIOD_FULL = "period_full"
    """Checked by the store, which knows the earlier records of the machine."""
    TOO_MANY_POINTS_OF_HOST = "too_many_points_of_host"
    """Checked by the store: 256 points in all, over the years."""
    NOT_STORABLE = "not_storable"
    """The database itself rejects the record."""
    DURATION_OUT_OF_RANGE = "duration_out_of_range"
    GRAIN_TOO_FINE = "grain_too_fine"
    CALENDAR_HASH_LENGTH = "calendar_hash_length"
    IDLE_RULE_OUT_OF_RANGE = "idle_rule_out_of_range"
    TOO_MANY_POINTS = "too_many_points"
    POINT_UNKNOWN = "point_unknown"
    POINT_TEXT = "point_text"
    POINT_REPEATED = "point_repeated"
    POINT_FAKE = "point_fake"
    CELLS_MISSING = "cells_missing"
    TOO_MANY_CELLS = "too_many_cells"
    CELL_UNKNOWN = "cell_unknown"
    CELL_REPEATED = "cell_repeated"
    CELL_EMPTY = "cell_empty"
    CELLS_EXCEED_PERIOD = "cells_exceed_period"
    BAND_NOT_OF_PERIOD = "band_not_of_period"
    NOT_ON_WORKSTATIONS = "not_on_workstations"
    SERVERS_ONLY = "servers_only"
    LOAD_WHILE_NOT_ON = "load_while_not_on"
    ENERGY_WHILE_NOT_ON = "energy_while_not_on"
    POINT_INDEX = "point_index"
    ENERGY_REPEATED = "energy_repeated"
    ENERGY_EXCEEDS_CELL = "energy_exceeds_cell"
    ENERGY_ABOVE_CEILING = "energy_above_ceiling"
    CPU_EXCEEDS = "cpu_exceeds"
    BUCKETS_LENGTH = "buckets_length"
    BUCKETS_SUM = "buckets_sum"
    IDLE_RUNS = "idle_runs"
    UPDATE_WINDOW = "update_window"
    DISPLAYS = "displays"
    UNITS = "units"
    SENSOR_GAPS = "sensor_gaps"
    GAP_UNKNOWN = "gap_unknown"
    GAP_OUT_OF_RANGE = "gap_out_of_range"
