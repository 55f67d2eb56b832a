# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""What is declared and read of meters that several machines share. No I/O. docs/decisions/0026."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final

from veilleuse.collector.model import HostId
from veilleuse.wire.vocabulary import PointKind

WHOLE_PPM: Final = 1_000_000
SUBJECT_PREFIX: Final = "meter:"
"""Of a point that sees a shared meter; the rest of its subject is the meter's name."""
FOR_EVER: Final = date.max
"""`valid_to` of a declaration without an end."""


class MeterBoundary(StrEnum):
    """What a meter is put before: how much of a room it sees. Declared, never guessed."""

    FACILITY = "facility"
    """The room's machines and their cooling: what no child sees is overhead."""
    ROOM = "room"
    """The supply of the room's machines, UPS included."""
    UPS_INPUT = "ups_input"
    UPS_OUTPUT = "ups_output"
    """What a UPS says of itself unless declared otherwise."""
    OUTLET = "outlet"
    """A PDU, one of its outlets, or a plug."""
    OVERHEAD = "overhead"
    """Cooling and lighting alone."""


class SharePart(StrEnum):
    """Which of a machine's devices a share is of."""

    MACHINE = "machine"
    MONITOR = "monitor"
    """Its external screens: they are then not modelled."""


@dataclass(frozen=True, slots=True)
class DeclaredMeter:
    """One shared meter and its place in the tree."""

    meter: str
    site: str
    """Its time zone dates the shares."""
    room: str
    boundary: MeterBoundary
    parent: str | None = None
    """The meter it hangs below; None = it is the highest."""
    efficiency_ppm: int | None = None
    """Output ÷ input of a UPS, declared; None = not known."""


@dataclass(frozen=True, slots=True)
class MeterShare:
    """How much of a meter's energy is one machine's."""

    meter: str
    host_id: HostId
    part: SharePart
    share_ppm: int
    """1 to 1,000,000; over all of a meter at most 1,000,000 on any day."""
    valid_from: date
    valid_to: date
    """Inclusive."""


@dataclass(frozen=True, slots=True)
class Pue:
    """Power usage effectiveness of a room over a period, as its operator declares it."""

    room: str
    valid_from: date
    valid_to: date
    """Inclusive."""
    pue_ppm: int
    """≥ 1,000,000."""
    point: MeterBoundary
    """Where the energy of the machines is taken: ups_input, ups_output or outlet."""


@dataclass(frozen=True, slots=True)
class MeterReading:
    """What one agent read of one meter over one UTC hour."""

    meter: str
    kind: PointKind
    energy_millijoules: int
    covered_milliseconds: int


@dataclass(frozen=True, slots=True)
class SharedEnergy:
    """What is one machine's (or its screens') of the meters it shares, over one UTC hour."""

    kind: PointKind
    energy_millijoules: int
    covered_milliseconds: int
    """Of the hour."""
    whole: bool
    """True when it is the only one on its meters: no declared share is in the figure."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What shared meters say of one machine over one hour; None = nothing."""

    machine: SharedEnergy | None = None
    monitor: SharedEnergy | None = None
    monitor_declared: bool = False
    """True when its screens are on a meter: they are not modelled, read or not."""


NOT_SHARED: Final = Shared()


@dataclass(frozen=True, slots=True)
class PsysCheck:
    """psys against the battery's discharge, over the same milliseconds on battery."""

    psys_millijoules: int = 0
    discharge_millijoules: int = 0
    milliseconds: int = 0
    base_millijoules: int = 0
    """What the machine drew beyond its other counters as the wall model multiplies them, told as at the wall; < 0 where less."""
    base_milliseconds: int = 0


@dataclass(frozen=True, slots=True)
class Metering:
    """All that is declared."""

    meters: tuple[DeclaredMeter, ...] = ()
    shares: tuple[MeterShare, ...] = ()
    pues: tuple[Pue, ...] = ()
