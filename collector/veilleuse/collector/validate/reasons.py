# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reasons for refusing a record: a closed list, labels of a counter.

A test checks that docs/wire.md explains each.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """One word per rule."""

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
