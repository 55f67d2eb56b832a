# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Values that flow through the agent: readings, differences, ticks, records. No I/O.

The resident process imports this: standard library and the light half of `veilleuse.wire` only. Its values
are named tuples: docs/decisions/0010. Two tuples of different classes with equal fields compare equal: check
the class to distinguish them.
"""

from __future__ import annotations

import json
from datetime import date
from typing import Any, Final, NamedTuple, TypeAlias

from veilleuse.wire.limits import BUCKETS, GAP_ID_BYTES
from veilleuse.wire.units import MICROJOULES_PER_MILLIJOULE
from veilleuse.wire.vocabulary import Band, Boundary, GapReason, PointKind, State, Supply

SHORTEST_SLEEP_MILLISECONDS: Final = 1_000
"""Smaller clock differences come from the time between the two clock readings, not from a suspend."""

# ------------------------------------------------------------------------------------- readings


class Point(NamedTuple):
    """One place where energy is measured."""

    kind: PointKind
    domain: str
    """Letters, digits, space . _ - ; 1 to 64 characters; e.g. `package-0`."""
    boundary: Boundary
    subject: str = "machine"
    """`machine`, or `meter:<id>`."""


class EnergyCounter(NamedTuple):
    """One value of a cumulative counter."""

    point: Point
    energy_microjoules: int
    range_microjoules: int | None
    """The counter starts again at 0 after this value; None when it never wraps in practice."""
    ceiling_watts: float
    """Power that no machine of the class exceeds at this point; it distinguishes a wrap from a reset."""


class PowerGauge(NamedTuple):
    """One instantaneous reading, for hardware without a counter."""

    point: Point
    power_milliwatts: int


class SupplyReading(NamedTuple):
    """Present supply of the machine."""

    supply: Supply


class DisplaysReading(NamedTuple):
    """External displays that are on now."""

    on_by_size: tuple[int, ...]
    """Number of displays per size, in the order of wire.limits.DISPLAY_SIZES: four numbers."""


class UnitReading(NamedTuple):
    """Cumulative CPU time of one systemd service or guest. Servers only, opt-in.

    There is one reading per name. The source adds up instances that share a name. Their sum never falls while
    one of them lives: the ticker takes a smaller value for a restarted unit.
    """

    name: str
    """`unit:<name>` without instance, or `guest:<id>`; wire.limits.UNIT_PATTERN."""
    cpu_milliseconds: int


Reading: TypeAlias = EnergyCounter | PowerGauge | SupplyReading | DisplaysReading | UnitReading


class LoadCounters(NamedTuple):
    """Cumulative utilisation; each field but the memory ratio only grows within a boot.

    None = not readable here.
    """

    cpu_total_milliseconds: tuple[int, ...]
    """Per logical CPU, busy + idle."""
    cpu_busy_milliseconds: tuple[int, ...]
    """Per logical CPU, guest already inside user; iowait is idle."""
    memory_used_ratio: float | None
    disk_bytes: int | None
    """Read and written."""
    network_bytes: int | None
    """Received and sent, all interfaces but loopback."""


# ---------------------------------------------------------------------------- counter differences


class First:
    """There is no previous value."""

    __slots__ = ()


class Delta(NamedTuple):
    """The counter advanced."""

    energy_microjoules: int


class CounterWrap(NamedTuple):
    """The counter wrapped once."""

    energy_microjoules: int


class Reset:
    """The counter was reset: the time between is a gap."""

    __slots__ = ()


CounterState: TypeAlias = First | Delta | CounterWrap | Reset


def difference(
    previous: EnergyCounter | None, current: EnergyCounter, elapsed_milliseconds: int
) -> CounterState:
    """Return the energy between two values of a counter. Only this function subtracts energy counters.

    A smaller value is a wrap or a reset. It is a wrap if two conditions hold. The time between is too short
    for a second wrap at the point's ceiling power. The implied energy is below that ceiling. An advance above
    the ceiling is a reset too: the counter jumped. Source: kernel powercap documentation; docs/sources.md,
    linux_rapl.
    """
    if previous is None:
        return First()
    ceiling_millijoules = current.ceiling_watts * elapsed_milliseconds  # 1 W · 1 ms = 1 mJ
    ceiling_microjoules = ceiling_millijoules * MICROJOULES_PER_MILLIJOULE
    advance = current.energy_microjoules - previous.energy_microjoules
    if advance >= 0:
        return Delta(advance) if advance <= ceiling_microjoules else Reset()
    if current.range_microjoules is None or ceiling_microjoules >= current.range_microjoules:
        return Reset()
    around = advance + current.range_microjoules
    return CounterWrap(around) if 0 <= around <= ceiling_microjoules else Reset()


# ------------------------------------------------------------------------------------------ ticks


class Instant(NamedTuple):
    """Three clocks read together, in milliseconds."""

    unix_milliseconds: int
    boottime_milliseconds: int
    """Continues during a suspend; 0 at boot."""
    monotonic_milliseconds: int
    """Stops during a suspend."""


class PointEnergy(NamedTuple):
    """Energy at one point over a span of time."""

    point: Point
    energy_millijoules: int
    covered_milliseconds: int


class LoadDelta(NamedTuple):
    """Utilisation over one tick."""

    cpu_busy_ratio: float
    """Mean of all logical CPUs, 0 to 1."""
    busiest_core_ratio: float
    memory_used_ratio: float | None
    disk_bytes: int | None
    network_bytes: int | None


class Tick(NamedTuple):
    """Result of one poll of all sources: a span of time in one state, ending now.

    After a suspend the ticker gives two ticks: the `asleep` span, without energies, then the awake rest.
    """

    start_unix_milliseconds: int
    duration_milliseconds: int
    """Duration by the boot-time clock, > 0."""
    state: State
    supply: Supply
    energies: tuple[PointEnergy, ...] = ()
    load: LoadDelta | None = None
    gaps: tuple[tuple[str, int], ...] = ()
    """(source name, milliseconds) of sources that offer points but gave none over this tick."""
    idle_run_milliseconds: int = 0
    """Length of the unbroken on_idle span that ends with this tick; 0 unless on_idle."""
    displays_on: tuple[int, ...] | None = None
    """External displays on, in the order of wire.limits.DISPLAY_SIZES; None = not known."""
    units: tuple[tuple[str, int], ...] = ()
    """(unit, CPU milliseconds) over this tick."""
    own_cpu_milliseconds: int | None = None
    """CPU time of the agent's processes over this tick; None = not known."""


# ---------------------------------------------------------------------------------------- records


class ClockPeriod(NamedTuple):
    """Span of the UTC clock, inside one UTC hour."""

    start_unix_milliseconds: int
    duration_milliseconds: int


class DatePeriod(NamedTuple):
    """Civil day of the site."""

    day: date


class WeekPeriod(NamedTuple):
    """ISO week of the site."""

    iso_year: int
    iso_week: int


Period: TypeAlias = ClockPeriod | DatePeriod | WeekPeriod
CellKey: TypeAlias = tuple[Band, State, Supply]


class Cell:
    """Sums of one (band, state, supply), while they grow and when they are sent."""

    __slots__ = ("buckets", "energies", "milliseconds", "sums", "units", "window_energies")

    def __init__(
        self,
        milliseconds: int = 0,
        energies: dict[Point, tuple[int, int]] | None = None,
        sums: dict[str, int] | None = None,
        buckets: dict[str, list[int]] | None = None,
        window_energies: dict[Point, tuple[int, int]] | None = None,
        units: dict[str, int] | None = None,
    ) -> None:
        self.milliseconds = milliseconds
        self.energies: dict[Point, tuple[int, int]] = {} if energies is None else energies
        """Point → (millijoules, covered milliseconds)."""
        self.sums: dict[str, int] = {} if sums is None else sums
        """CELL_SUMS that were measured; a missing name is absent, never zero."""
        self.buckets: dict[str, list[int]] = {} if buckets is None else buckets
        """BUCKETS that were measured."""
        self.window_energies: dict[Point, tuple[int, int]] = (
            {} if window_energies is None else window_energies
        )
        """Part of `energies` inside declared update windows; a point without such energy is missing."""
        self.units: dict[str, int] = {} if units is None else units
        """Unit → CPU milliseconds; servers only, opt-in."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cell) and self._parts() == other._parts()

    __hash__ = None  # type: ignore[assignment]  # it grows

    def __repr__(self) -> str:
        return f"Cell{self._parts()!r}"

    def _parts(self) -> tuple[object, ...]:
        return self.milliseconds, self.energies, self.sums, self.buckets, self.window_energies, self.units

    def add_sum(self, name: str, value: int) -> None:
        """Add a measured value ≥ 0 to one of CELL_SUMS."""
        self.sums[name] = self.sums.get(name, 0) + value

    def add_bucket(self, name: str, index: int, milliseconds: int) -> None:
        """Add milliseconds to one bucket of one of BUCKETS."""
        self.buckets.setdefault(name, [0] * BUCKETS[name])[index] += milliseconds

    def add_energy(self, point: Point, energy_millijoules: int, covered_milliseconds: int) -> None:
        """Add energy measured at one point."""
        energy, covered = self.energies.get(point, (0, 0))
        self.energies[point] = (energy + energy_millijoules, covered + covered_milliseconds)

    def add_window_energy(self, point: Point, energy_millijoules: int, covered_milliseconds: int) -> None:
        """Mark energy, already given to `add_energy`, as being inside an update window."""
        energy, covered = self.window_energies.get(point, (0, 0))
        self.window_energies[point] = (energy + energy_millijoules, covered + covered_milliseconds)

    def add_unit(self, name: str, cpu_milliseconds: int) -> None:
        """Add CPU time of one unit."""
        self.units[name] = self.units.get(name, 0) + cpu_milliseconds


class Record(NamedTuple):
    """Additive sums of one period: the wire's Measurement before encoding."""

    period: Period
    calendar_sha256: str
    """Hexadecimal; empty = the built-in default calendar, which the sender hashes."""
    idle_rule_version: int
    cells: dict[CellKey, Cell]
    gaps: dict[tuple[GapReason, str], int]
    """(reason, source name or empty) → milliseconds."""

    def to_json(self) -> str:
        """Return one line of text, the form of a record in the spool."""
        return json.dumps(_record_to_plain(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Parse the result of `to_json`. Raises ValueError on anything else."""
        try:
            return _record_from_plain(json.loads(text))
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError(f"not a record: {error}") from error


class Gap(NamedTuple):
    """Replaces records that no longer exist: the wire's Gap before encoding."""

    reason: GapReason
    spans: tuple[tuple[Period | None, int], ...]
    """(period or None, milliseconds lost)."""
    records: int
    gap_id: str = ""
    """16 random hexadecimal digits, set with its row (`spool.database.gap_row`); empty in rows of 0.1."""

    def to_json(self) -> str:
        """Return one line of text."""
        plain: dict[str, Any] = {
            "gap": self.reason,
            "spans": [[None if p is None else _period_to_plain(p), ms] for p, ms in self.spans],
            "records": self.records,
        }
        if self.gap_id:
            plain["id"] = self.gap_id
        return json.dumps(plain, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Gap:
        """Parse the result of `to_json`. Raises ValueError on anything else."""
        try:
            raw = json.loads(text)
            spans = tuple((None if p is None else _period_from_plain(p), int(ms)) for p, ms in raw["spans"])
            gap_id = str(raw.get("id", ""))
            if len(bytes.fromhex(gap_id)) not in (0, GAP_ID_BYTES):
                raise ValueError(f"not a gap: its id has not {GAP_ID_BYTES} bytes")
            return cls(GapReason(raw["gap"]), spans, int(raw["records"]), gap_id)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a gap: {error}") from error


def body_from_json(text: str) -> Record | Gap:
    """Parse a spool row: a record or a gap. Raises ValueError on anything else."""
    return Gap.from_json(text) if text.startswith('{"gap"') else Record.from_json(text)


CLOCK: Final = '["clock",'
"""Part of every spool row that has a clock period; no other row has it."""


def _period_to_plain(period: Period) -> list[Any]:
    if isinstance(period, ClockPeriod):
        return ["clock", *period, 0]  # 0.1 takes no row without an offset from UTC
    if isinstance(period, DatePeriod):
        return ["date", period.day.isoformat()]
    return ["week", *period]


def _period_from_plain(raw: list[Any]) -> Period:
    match raw:
        case ["clock", int(start), int(duration), *_]:
            return ClockPeriod(start, duration)
        case ["date", str(day)]:
            return DatePeriod(date.fromisoformat(day))
        case ["week", int(year), int(week)]:
            return WeekPeriod(year, week)
    raise ValueError(f"not a period: {raw!r}")


def _record_to_plain(record: Record) -> dict[str, Any]:
    points = sorted(
        {point for cell in record.cells.values() for point in cell.energies},
        key=lambda p: (p.kind, p.domain, p.boundary, p.subject),
    )
    index = {point: position for position, point in enumerate(points)}
    plain = {
        "period": _period_to_plain(record.period),
        "calendar": record.calendar_sha256,
        "rule": record.idle_rule_version,
        "points": [[p.kind, p.domain, p.boundary, p.subject] for p in points],
        "cells": [
            [
                *key,
                cell.milliseconds,
                [[index[point], *energy] for point, energy in cell.energies.items()],
                cell.sums,
                cell.buckets,
            ]
            for key, cell in record.cells.items()
        ],
        "gaps": [[*key, ms] for key, ms in record.gaps.items()],
        "rss": 0,  # 0.1 takes no row without it
    }
    # These lie beside the cells, by position, and only if present: a program that does not know them reads
    # the rest.
    windows = [
        [place, index[point], *energy]
        for place, cell in enumerate(record.cells.values())
        for point, energy in cell.window_energies.items()
    ]
    units = [[place, cell.units] for place, cell in enumerate(record.cells.values()) if cell.units]
    if windows:
        plain["windows"] = windows
    if units:
        plain["units"] = units
    return plain


_FORMER_SUMS: Final = frozenset(
    {
        "disk_read_bytes",
        "disk_written_bytes",
        "network_received_bytes",
        "network_sent_bytes",
        "gpu_busy_milliseconds",
        "agent_cpu_milliseconds",
    }
)
"""In rows of 0.1 that wait in the spool over an upgrade; nothing reads them any more."""


def _record_from_plain(raw: dict[str, Any]) -> Record:
    points = [Point(PointKind(k), d, Boundary(b), s) for k, d, b, s in raw["points"]]
    record = Record(
        period=_period_from_plain(raw["period"]),
        calendar_sha256=raw["calendar"],
        idle_rule_version=raw["rule"],
        cells={
            (Band(band), State(state), Supply(supply)): Cell(
                milliseconds,
                {points[i]: (mj, ms) for i, mj, ms in energies},
                {name: value for name, value in sums.items() if name not in _FORMER_SUMS},
                buckets,
            )
            for band, state, supply, milliseconds, energies, sums, buckets in raw["cells"]
        },
        gaps={(GapReason(reason), source): ms for reason, source, ms in raw["gaps"]},
    )
    cells = list(record.cells.values())
    for place, i, mj, ms in raw.get("windows", ()):
        cells[place].window_energies[points[i]] = (mj, ms)
    for place, units in raw.get("units", ()):
        cells[place].units = units
    return record


def asleep_milliseconds(previous: Instant, now: Instant) -> int:
    """Return the time suspended between two instants of one boot, 0 to the elapsed boot-time."""
    elapsed = now.boottime_milliseconds - previous.boottime_milliseconds
    asleep = elapsed - (now.monotonic_milliseconds - previous.monotonic_milliseconds)
    return min(asleep, elapsed) if asleep >= SHORTEST_SLEEP_MILLISECONDS else 0
