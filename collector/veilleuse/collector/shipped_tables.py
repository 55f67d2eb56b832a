# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the shipped data tables, and holds the watts that the models assign by class, state and load.

A table is CSV with a schema of units, source, year, licence and attribution. One without them is refused: no
figure without its origin. Watts are integers, microwatts and parts per million. Their source is
docs/methodology.md §1 to §3, marked [P] there (our own choice) unless a line says otherwise.
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import combinations_with_replacement, pairwise
from statistics import median
from typing import Any, Final

from veilleuse.wire.limits import CPU_BUCKET_EDGES_PERCENT
from veilleuse.wire.settings_file import ConfigurationError
from veilleuse.wire.vocabulary import DeviceClass

_REQUIRED: Final = ("title", "source", "licence", "attribution")


@dataclass(frozen=True, slots=True)
class Table:
    """A Table holds its rows and their origin."""

    name: str
    rows: tuple[Mapping[str, str], ...]
    """Column → text, as written."""
    source: str
    year: int
    licence: str
    attribution: str
    edition: str
    """Edition of the source, an ISO month or date; empty: the rows hold it."""
    accessed: str
    """ISO date on which the source was read; empty: the rows hold it."""


@cache
def load_table(name: str) -> Table:
    """Return a shipped table by file name, without extension. Raises ConfigurationError, as `read_table`."""
    return read_table(files("veilleuse.collector").joinpath("data"), name)


def read_table(folder: Traversable, name: str) -> Table:
    """Return the table `<name>.csv` of a folder.

    Raises ConfigurationError when file or schema is missing, when the schema lacks source, year, licence,
    attribution or a column's unit, or when the header is not the schema's columns.
    """
    schema = _schema(folder, name)
    rows = _rows(folder, name, list(schema["columns"]))
    return Table(
        name,
        rows,
        schema["source"],
        schema["year"],
        schema["licence"],
        schema["attribution"],
        schema.get("edition", ""),
        schema.get("accessed", ""),
    )


def _schema(folder: Traversable, name: str) -> dict[str, Any]:
    file = folder.joinpath(f"{name}.schema.toml")
    try:
        schema = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"table {name}: no readable {name}.schema.toml: {error}") from error
    missing = [key for key in _REQUIRED if not _is_text(schema.get(key))]
    if not isinstance(schema.get("year"), int):
        missing.append("year")
    columns = schema.get("columns")
    if not isinstance(columns, dict) or not columns:
        missing.append("columns")
    else:
        missing += [
            f"columns.{column}.unit"
            for column, meaning in columns.items()
            if not (isinstance(meaning, dict) and _is_text(meaning.get("unit")))
        ]
    if missing:
        raise ConfigurationError(
            f"table {name}: {name}.schema.toml lacks {', '.join(missing)}: add it, a table without origin is not loaded"
        )
    return schema


def _rows(folder: Traversable, name: str, columns: list[str]) -> tuple[Mapping[str, str], ...]:
    try:
        text = folder.joinpath(f"{name}.csv").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"table {name}: cannot read {name}.csv: {error}") from error
    header, *lines = list(csv.reader(text.splitlines())) or [[]]
    if header != columns:
        raise ConfigurationError(f"table {name}: {name}.csv has columns {header}, its schema says {columns}")
    ragged = next((number for number, line in enumerate(lines, start=2) if len(line) != len(columns)), None)
    if ragged is not None:
        raise ConfigurationError(f"table {name}: line {ragged} of {name}.csv has not {len(columns)} values")
    return tuple(dict(zip(columns, line, strict=True)) for line in lines)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


# --- watts

_MILLION: Final = 1_000_000


def microwatts(watts: Decimal | float) -> int:
    """Convert watts to whole microwatts."""
    return round(Decimal(str(watts)) * _MILLION)


@dataclass(frozen=True, slots=True)
class StatePowers:
    """Wall power per state of one device class, microwatts; None = the class has no such state."""

    off_microwatts: int
    sleep_microwatts: int | None
    idle_microwatts: int
    """On, screen off, CPU at rest."""
    light_microwatts: int
    """On, screen on, CPU at rest."""
    active_microwatts: int
    """On, CPU full."""


def _powers(off: float, sleep: float | None, idle: float, light: float, active: float) -> StatePowers:
    return StatePowers(
        microwatts(off),
        None if sleep is None else microwatts(sleep),
        microwatts(idle),
        microwatts(light),
        microwatts(active),
    )


STATE_POWERS: Final = {
    DeviceClass.LAPTOP: _powers(0.4, 0.8, 3, 5, 17),
    DeviceClass.MINI_PC: _powers(0.5, 1.2, 5, 7, 25),
    DeviceClass.SFF: _powers(0.5, 1.5, 10, 13, 45),
    DeviceClass.TOWER: _powers(0.8, 2.0, 20, 26, 72),
    DeviceClass.ALL_IN_ONE: _powers(0.5, 1.5, 12, 30, 55),
    DeviceClass.THIN_CLIENT: _powers(0.6, 0.8, 7, 9.5, 12),
    # No screen, so one rest power. 475 W is full load (idle/max 0.21). 175 and 300 W of
    # docs/methodology.md §2 are levels of service, which the curve reaches at 13 % and 41 % of load.
    DeviceClass.SERVER: _powers(8, None, 100, 100, 475),
    # Desktop TEC median (56.5 kWh/year), equal to the SFF row.
    DeviceClass.UNKNOWN: _powers(0.5, 1.5, 10, 13, 45),
}
"""docs/methodology.md §2, table of state powers. A virtual machine has none: its host has the energy."""

DEFAULT_ACTIVE_LOAD_PPM: Final = 100_000
"""CPU load assumed while on-active without a measurement: 10 %, our choice."""
DEFAULT_IDLE_LOAD_PPM: Final = 20_000
"""CPU load assumed while on-idle (< 5 % by the idle rule): 2 %, our choice."""

MODULE_MICROWATTS: Final = microwatts(2.5)
"""Power of a memory module: middle of 2-3 W."""
MODULES_INCLUDED: Final = 2
"""Modules within the state powers (TEC is declared with the usual one or two); our choice."""
MODULE_CLASSES: Final = frozenset(
    {DeviceClass.MINI_PC, DeviceClass.SFF, DeviceClass.TOWER, DeviceClass.ALL_IN_ONE}
)

SCREEN_MICROWATTS: Final = (microwatts(11), microwatts(12.5), microwatts(17), microwatts(12.5))
"""External screen that is on, in the order of wire.limits.DISPLAY_SIZES.

22-27 inches: docs/methodology.md §3. Other sizes: p25 and p75 of device_tec_percentiles.csv (35.5 and 54.1
kWh a year), at 35 % on and 0.3 W otherwise. An unknown size uses the middle value.
"""

CURVE_EXPONENT: Final = 1.4
"""f(u) = 2u − u^1.4: Fan, Weber, Barroso, Power provisioning for a warehouse-sized computer, ISCA 2007.

It is quoted by others (the models of OpenDC and DSLab); the paper itself was not read.
"""


CURVE_SLOPE_AT_REST: Final = 2
"""f′(0): the largest slope, because the curve is concave."""


def curve_ppm(load_ppm: int) -> int:
    """Return the share of the range from idle to active power at a CPU load of 0 to 1,000,000 ppm.

    The curve is concave, 0 at 0 and 1 at 1.
    """
    load = load_ppm / _MILLION
    share: float = 2 * load - load**CURVE_EXPONENT
    return round(share * _MILLION)


def _bucket_loads_ppm() -> tuple[int, ...]:
    edges = (0, *CPU_BUCKET_EDGES_PERCENT, 100)
    return tuple((low + high) * 5_000 for low, high in pairwise(edges))


BUCKET_CURVE_PPM: Final = tuple(curve_ppm(load) for load in _bucket_loads_ppm())
"""The curve at the middle of each of the 13 CPU buckets."""


@cache
def thread_microwatts() -> tuple[int, int]:
    """Return the (idle, full load) power of one hardware thread, microwatts: medians over architectures.

    Source: server_cpu_minmax_ccf.csv (Cloud Carbon Footprint; EPYC 5th Gen excluded). Raises
    ConfigurationError.
    """
    rows = load_table("server_cpu_minmax_ccf").rows
    return (
        microwatts(median(Decimal(row["min_watts_per_thread"]) for row in rows)),
        microwatts(median(Decimal(row["max_watts_per_thread"]) for row in rows)),
    )


_MOST_MODULES: Final = 8
_MOST_THREADS: Final = 64


@cache
def watts_on(device_class: DeviceClass, *, idle: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the watts of machines of a class that are on: (load not reported, all load in one step).

    The first of each is of the usual memory modules, others are of more; of virtual machines, by threads.
    """
    unreported = DEFAULT_IDLE_LOAD_PPM if idle else DEFAULT_ACTIVE_LOAD_PPM
    if device_class is DeviceClass.VIRTUAL_MACHINE:
        low, high = thread_microwatts()
        thread = low + (high - low) * unreported / _MILLION
        return tuple(number * thread / _MILLION for number in range(1, _MOST_THREADS + 1)), ()
    powers = STATE_POWERS.get(device_class)
    if powers is None:
        return (), ()
    rest = powers.idle_microwatts if idle else powers.light_microwatts
    more = range(_MOST_MODULES - MODULES_INCLUDED + 1 if device_class in MODULE_CLASSES else 1)

    def watts(*shares: int) -> tuple[float, ...]:
        span = powers.active_microwatts - rest
        return tuple(
            (rest + number * MODULE_MICROWATTS + span * share / _MILLION) / _MILLION
            for number in more
            for share in shares
        )

    return watts(curve_ppm(unreported)), watts(*BUCKET_CURVE_PPM)


@cache
def watts_of_screens(most: int) -> tuple[float, ...]:
    """Return the watts of 1 to `most` screens that are on, of any sizes."""
    sizes = sorted(set(SCREEN_MICROWATTS))
    mixes = (mix for number in range(1, most + 1) for mix in combinations_with_replacement(sizes, number))
    return tuple(sorted({sum(mix) / _MILLION for mix in mixes}))
