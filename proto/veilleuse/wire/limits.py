# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Limits that both sides enforce: docs/wire.md §3 and the shape of a record."""

from __future__ import annotations

import re
from typing import Final

MAX_RECORDS_PER_PUSH: Final = 1024
MAX_RECORD_BYTES: Final = 64 * 1024
MAX_PUSH_BYTES: Final = 512 * 1024
MAX_MESSAGE_BYTES: Final = 1024 * 1024
MAX_HELLO_BYTES: Final = 64 * 1024
MAX_METADATA_BYTES: Final = 16 * 1024
MAX_CELLS_PER_RECORD: Final = 32
MAX_POINTS_PER_RECORD: Final = 64
MAX_CERTIFICATE_REQUEST_BYTES: Final = 4096

EPOCH_BYTES: Final = 8
GAP_ID_BYTES: Final = 8
AGENT_ID_BYTES: Final = 16
AGENT_ID_DIGITS: Final = 12
"""Number of leading hexadecimal digits of an agent id with which messages name a machine."""
AGENT_ID_DIGITS_MINIMUM: Final = 8
"""Fewest digits that a command accepts for a machine: fewer may be a number meant for something else."""
CHAIN_BYTES: Final = 32

PROTOCOL_MINOR_MINIMUM: Final = 1
PROTOCOL_MINOR_MAXIMUM: Final = 1

IDLE_RULE_VERSION: Final = 1
"""1 = CPU < 5 % and disk + network < 100 kB/s over a tick."""
IDLE_CPU_RATIO: Final = 0.05
IDLE_BYTES_PER_SECOND: Final = 100_000

CPU_BUCKET_EDGES_PERCENT: Final = (1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90)
MEMORY_BUCKET_EDGES_PERCENT: Final = (20, 40, 60, 80)
NETWORK_RATE_EDGES_BYTES_PER_SECOND: Final = (1_000, 10_000, 100_000)
BUSY_CORE_RATIO: Final = 0.80
IDLE_RUN_EDGES_MINUTES: Final = (15, 30, 60)

CELL_SUMS: Final = (
    "cpu_covered_milliseconds",
    "cpu_busy_milliseconds",
    "any_core_busy_milliseconds",
    "idle_beyond_15_minutes_milliseconds",
    "idle_beyond_30_minutes_milliseconds",
    "idle_beyond_60_minutes_milliseconds",
    "update_window_milliseconds",
    "own_cpu_milliseconds",
)
"""Sums of a cell that may be absent: fields of telemetry.proto's Cell, and columns of the store's `sums`."""
CELL_BUCKETS: Final = {
    "cpu_bucket_milliseconds": len(CPU_BUCKET_EDGES_PERCENT) + 1,
    "memory_bucket_milliseconds": len(MEMORY_BUCKET_EDGES_PERCENT) + 1,
    "network_rate_milliseconds": len(NETWORK_RATE_EDGES_BYTES_PER_SECOND) + 1,
}
"""Repeated field of Cell → its number of buckets."""

DISPLAY_SIZES: Final = ("under_22", "22_to_27", "over_27", "unknown")
"""Size classes of external displays, by diagonal in inches; position + 1 is the number of DisplaySize."""
DISPLAY_BUCKETS: Final = "display_milliseconds"
"""Display-milliseconds by size class: a bucket list on both sides, `displays` on the wire."""
BUCKETS: Final = {**CELL_BUCKETS, DISPLAY_BUCKETS: len(DISPLAY_SIZES)}
"""All bucket lists of a cell on both sides: columns of the store's `sums`."""
MAX_DISPLAYS_PER_SIZE: Final = 32

MAX_UNITS_PER_CELL: Final = 64
MAX_UNITS_PER_RECORD: Final = 512
"""Units over all cells of a record: at most 72 bytes each, so that a record stays below MAX_RECORD_BYTES."""
MAX_CPUS: Final = 4_096
"""Largest CPU time of a unit in a cell, as a multiple of the cell's time."""
UNIT_PATTERN: Final = re.compile(r"(unit|guest):[A-Za-z0-9 ._-]{1,58}")
OTHER_UNITS: Final = "unit:other"
"""Sum of units that are too many, too small, or may have a person's name."""
CONTAINERS: Final = "unit:containers"
"""Sum of all containers of a server, which are not told apart."""

HOUR_MILLISECONDS: Final = 3_600_000

FACT_PATTERN: Final = re.compile(r"[A-Za-z0-9 ._-]{1,64}")
"""Letters, digits, space . _ - : no fact can contain markup, a formula or a path."""
_NOT_FACT = re.compile(r"[^A-Za-z0-9 ._-]+")


def fact_text(text: str) -> str | None:
    """Replace each run of characters outside the fact alphabet by one `_`; None when nothing is left."""
    cleaned = _NOT_FACT.sub("_", text.strip())[:64].strip(" _")
    return cleaned or None


def bucket_index(value: float, edges: tuple[int, ...]) -> int:
    """Return the index of the bucket that holds `value`: the number of edges ≤ value, 0 to len(edges)."""
    return sum(1 for edge in edges if value >= edge)
