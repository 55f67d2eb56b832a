# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Finds the machine's state: from its load while the agent runs, from the clocks when it did not run.

No I/O. Keyboard and pointer are never used.
"""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from veilleuse.agent.model import Instant, LoadDelta, Tick, asleep_milliseconds
from veilleuse.wire.limits import IDLE_BYTES_PER_SECOND, IDLE_CPU_RATIO
from veilleuse.wire.units import (
    MILLISECONDS_PER_DAY,
    MILLISECONDS_PER_HOUR,
    MILLISECONDS_PER_MINUTE,
    MILLISECONDS_PER_SECOND,
)
from veilleuse.wire.vocabulary import State, Supply

SLEWED_MILLISECONDS: Final = 2_000
"""Largest drift between the wall clock and the boot-time clock; a larger one is a clock set back.

Both clocks are read in whole milliseconds, and one of them may be slewed. They stay within this before the
timeline follows the wall clock (ticker.CLOCK_STEP_MILLISECONDS), and over a restart.
"""
_SILENT: Final = (State.ASLEEP, State.OFF, State.UNKNOWN)
EARLIEST_UNIX_MILLISECONDS: Final = 1_704_067_200_000
"""2024-01-01. The agent dates from 2026: an earlier clock is not set (empty battery, no network time yet)."""
LATEST_UNIX_MILLISECONDS: Final = 4_102_444_800_000
"""2100-01-01."""
CLOCK_TOLERANCE_MILLISECONDS: Final = 5 * MILLISECONDS_PER_MINUTE
"""Clock error that the collector accepts without correction. docs/wire.md §2."""
CLOCK_PATIENCE_MILLISECONDS: Final = MILLISECONDS_PER_HOUR
"""A clock behind the last sign of life is trusted only after this time: then the sign was wrong."""
FAR_JUMP_MILLISECONDS: Final = 36 * MILLISECONDS_PER_HOUR
"""A larger jump of a running clock is trusted after CLOCK_PATIENCE: collectors refuse dates 2 days ahead."""
ABSURD_JUMP_MILLISECONDS: Final = 400 * MILLISECONDS_PER_DAY
"""A larger jump ahead is trusted only after a day."""
ABSURD_PATIENCE_MILLISECONDS: Final = MILLISECONDS_PER_DAY
HELD_TICKS: Final = 720
"""Undated ticks kept in memory: 2 h at 10 s."""
LONGEST_RECONSTRUCTION_MILLISECONDS: Final = 400 * MILLISECONDS_PER_DAY
"""A longer silence is not cut into records: it becomes one undated gap."""

SUSPEND_PATIENCE_MILLISECONDS: Final = MILLISECONDS_PER_MINUTE
"""A suspend counts as cancelled after this time awake. Drivers may take tens of seconds to get ready."""

WHY_TICK: Final = "tick"
WHY_STOP: Final = "stop"
"""The service was stopped while the machine stayed on: the time after it is unknown."""
WHY_SHUTDOWN: Final = "shutdown"
"""The machine was shutting down: off until the next boot."""
WHY_SUSPEND: Final = "suspend"
"""The machine was about to sleep: asleep until seen awake, or until the next boot. docs/states.md."""


def state_of(load: LoadDelta | None, duration_milliseconds: int) -> State:
    """Return on_idle or on_active by the idle rule (wire/limits, version 1), while the agent runs.

    A load that cannot be read gives on_active: nobody is reported to leave a machine idle without evidence.
    The cell's missing cpu_covered_milliseconds shows that there is no evidence of work either. Bytes that
    cannot be read are left out of the rule.
    """
    if load is None or load.cpu_busy_ratio >= IDLE_CPU_RATIO:
        return State.ON_ACTIVE
    moved = (load.disk_bytes or 0) + (load.network_bytes or 0)
    idle = moved * MILLISECONDS_PER_SECOND < IDLE_BYTES_PER_SECOND * duration_milliseconds
    return State.ON_IDLE if idle else State.ON_ACTIVE


class SleepWatch:
    """Chooses the reason stored in the sign of life while the machine goes to sleep. docs/states.md."""

    def __init__(self) -> None:
        self._announced: Instant | None = None

    @property
    def why(self) -> str:
        """WHY_SUSPEND from the announcement until the machine has slept or stayed awake, else WHY_TICK."""
        return WHY_TICK if self._announced is None else WHY_SUSPEND

    def update(self, now: Instant, *, announced: bool) -> bool:
        """Update the reason; True when it has changed, so that the sign of life must be written now.

        `announced`: since the last call the system announced that the machine is about to sleep.
        """
        before = self._announced
        if announced:
            self._announced = now
            return True
        if before is None:
            return False
        awake = now.monotonic_milliseconds - before.monotonic_milliseconds
        if asleep_milliseconds(before, now) or awake >= SUSPEND_PATIENCE_MILLISECONDS:
            self._announced = None
            return True
        return False


# ---------------------------------------------------------------------------- before the start


class LastSign(NamedTuple):
    """The last time when the agent is known to have run."""

    instant: Instant
    boot_id: str
    why: str
    """One of tick, stop, shutdown, suspend."""

    def to_json(self) -> str:
        """Return one line for the control table."""
        return json.dumps(
            {
                "unix": self.instant.unix_milliseconds,
                "boottime": self.instant.boottime_milliseconds,
                "monotonic": self.instant.monotonic_milliseconds,
                "boot": self.boot_id,
                "why": self.why,
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> LastSign:
        """Inverse of `to_json`. Raises ValueError."""
        try:
            raw = json.loads(text)
            instant = Instant(int(raw["unix"]), int(raw["boottime"]), int(raw["monotonic"]))
            return cls(instant, str(raw["boot"]), str(raw["why"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a sign of life: {error}") from error


class Silence(NamedTuple):
    """The known states of the time before the start."""

    ticks: tuple[Tick, ...] = ()
    """Stretches asleep, off and unknown, in order, without energies."""
    undated_milliseconds: int = 0
    """Time too long ago to be cut into records."""


def reconstruct(last: LastSign | None, start: Instant, boot_id: str, supply: Supply) -> Silence:
    """Return the states between the last sign of life and the start of the agent. docs/methodology.md §4.

    Same boot: `asleep` is the excess of boot-time over monotonic time. The rest is `unknown`, because the
    agent did not run. Another boot: the time before the boot is `off` after a clean shutdown. It is `asleep`
    after an announced suspend without a known end (a battery that ran out asleep), else `unknown`. From the
    boot to the start it is `unknown`. `start` must hold a trusted Unix time. A sign made under a wrong clock
    says nothing about another boot.
    """
    if last is None:
        return Silence()
    if boot_id and last.boot_id == boot_id:
        return _within_boot(last, start, supply)
    booted = start.unix_milliseconds - start.boottime_milliseconds
    since = last.instant.unix_milliseconds
    if not is_plausible(since) or since > start.unix_milliseconds:
        return Silence()
    if start.unix_milliseconds - since > LONGEST_RECONSTRUCTION_MILLISECONDS:
        return Silence(undated_milliseconds=start.unix_milliseconds - since)
    before = _UNTIL_THE_BOOT.get(last.why, State.UNKNOWN)
    pieces = (
        (since, booted - since, before),
        (max(since, booted), start.unix_milliseconds - max(since, booted), State.UNKNOWN),
    )
    return Silence(_ticks(pieces, supply))


_UNTIL_THE_BOOT: Final = {WHY_SHUTDOWN: State.OFF, WHY_SUSPEND: State.ASLEEP}
"""State until the boot, whatever the duration: docs/methodology.md §4.

In both cases the machine was not on.
"""


def _within_boot(last: LastSign, start: Instant, supply: Supply) -> Silence:
    silent = start.boottime_milliseconds - last.instant.boottime_milliseconds
    if silent <= 0:
        return Silence()
    if silent > LONGEST_RECONSTRUCTION_MILLISECONDS:
        return Silence(undated_milliseconds=silent)
    asleep = asleep_milliseconds(last.instant, start)
    begin = start.unix_milliseconds - silent
    awake = silent - asleep
    if last.why == WHY_SUSPEND:
        pieces = ((begin, asleep, State.ASLEEP), (begin + asleep, awake, State.UNKNOWN))
    else:
        pieces = ((begin, awake, State.UNKNOWN), (begin + awake, asleep, State.ASLEEP))
    return Silence(_ticks(pieces, supply))


def _ticks(pieces: tuple[tuple[int, int, State], ...], supply: Supply) -> tuple[Tick, ...]:
    return tuple(Tick(begin, length, state, supply) for begin, length, state in pieces if length > 0)


class Timeline:
    """Fills the holes that a clock set forward leaves between ticks, so that each day is reported whole."""

    def __init__(self, end_unix_milliseconds: int | None = None) -> None:
        """Take the end of the reported time; None when there is none, or the clock was wrong then."""
        known = end_unix_milliseconds is not None and is_plausible(end_unix_milliseconds)
        self._end = end_unix_milliseconds if known else None

    def fill_hole(self, tick: Tick) -> tuple[tuple[Tick, ...], int]:
        """Return (an unknown tick over the hole if any, then the tick; ms of a hole too long for records).

        A tick may start before the end of the reported time, because one of two clocks was slewed. It loses
        that much time, but nothing of its measured values. Otherwise a period would hold more than its
        length.
        """
        end = self._end
        tick_end = tick.start_unix_milliseconds + tick.duration_milliseconds
        overlap = 0 if end is None else end - tick.start_unix_milliseconds
        if 0 < overlap <= SLEWED_MILLISECONDS:
            if overlap < tick.duration_milliseconds:
                tick = _cut_start(tick, overlap)
            elif tick.state in _SILENT:
                return (), 0
        self._end = tick_end
        hole = 0 if end is None else tick.start_unix_milliseconds - end
        if end is None or hole <= 0:
            return (tick,), 0
        if hole > LONGEST_RECONSTRUCTION_MILLISECONDS:
            return (tick,), hole
        return (Tick(end, hole, State.UNKNOWN, Supply.UNKNOWN), tick), 0


def _cut_start(tick: Tick, milliseconds: int) -> Tick:
    """Return the tick without its first milliseconds; its measured values stay whole."""
    return tick._replace(
        start_unix_milliseconds=tick.start_unix_milliseconds + milliseconds,
        duration_milliseconds=tick.duration_milliseconds - milliseconds,
        energies=tuple(
            one._replace(covered_milliseconds=max(0, one.covered_milliseconds - milliseconds))
            for one in tick.energies
        ),
        gaps=tuple((source, lost - milliseconds) for source, lost in tick.gaps if lost > milliseconds),
    )


# ----------------------------------------------------------------------------- untrusted clocks


def is_plausible(unix_milliseconds: int) -> bool:
    """Tell whether the agent can run at this Unix time."""
    return EARLIEST_UNIX_MILLISECONDS <= unix_milliseconds < LATEST_UNIX_MILLISECONDS


class ClockGuard:
    """Keeps ticks undated while the clock cannot be right; dates them by boot-time once it is trusted.

    Once a clock was trusted in this boot, boot-time replaces a clock that cannot be right. A small jump is
    followed at once, a large one when it lasts.
    """

    def __init__(
        self, last_unix_milliseconds: int | None, start: Instant, offset_milliseconds: int | None = None
    ) -> None:
        """Take the last sign's Unix time, and its offset (Unix − boot-time) when it is of this boot."""
        known = last_unix_milliseconds is not None and is_plausible(last_unix_milliseconds)
        self._floor = last_unix_milliseconds if known else None
        self._start = start
        self._held: list[tuple[int, Tick]] = []  # (boot-time at the tick's start, tick)
        self._offset = offset_milliseconds if known else None  # Unix − boot-time, when last trusted
        self._far_since: int | None = None  # boot-time when a clock far off was first seen

    def date(self, now: Instant, ticks: tuple[Tick, ...]) -> tuple[tuple[Tick, ...], int]:
        """Return (ticks that can be folded now, milliseconds lost because too many ticks were held)."""
        self._note_jump(now)
        trusted = self._is_trusted(now)
        if trusted:
            self._floor = self._far_since = None
            self._offset = now.unix_milliseconds - now.boottime_milliseconds
            if not self._held:
                return ticks, 0
        begin = now.boottime_milliseconds - sum(tick.duration_milliseconds for tick in ticks)
        for tick in ticks:
            self._held.append((begin, tick))
            begin += tick.duration_milliseconds
        if self._offset is not None:
            return self._release(self._offset), 0
        lost = self._held[:-HELD_TICKS]
        del self._held[:-HELD_TICKS]
        return (), sum(tick.duration_milliseconds for _, tick in lost)

    def unix_at(self, now: Instant) -> int:
        """Return the best known Unix time of `now`: from boot-time while the clock is not trusted."""
        if self._offset is None or self._is_trusted(now):
            return now.unix_milliseconds
        return now.boottime_milliseconds + self._offset

    def start(self, now: Instant) -> Instant:
        """Return the instant of the start, with the Unix time given by the trusted clock."""
        since = now.boottime_milliseconds - self._start.boottime_milliseconds
        return self._start._replace(unix_milliseconds=self.unix_at(now) - since)

    @property
    def trusted(self) -> bool:
        """True once the clock was trusted."""
        return self._offset is not None

    def held_milliseconds(self) -> int:
        """Return the duration of the undated ticks."""
        return sum(tick.duration_milliseconds for _, tick in self._held)

    def _is_trusted(self, now: Instant) -> bool:
        if not is_plausible(now.unix_milliseconds):
            return False
        if self._offset is not None:
            jump = now.unix_milliseconds - now.boottime_milliseconds - self._offset
            if abs(jump) <= FAR_JUMP_MILLISECONDS:
                return True
            absurd = jump > ABSURD_JUMP_MILLISECONDS
            patience = ABSURD_PATIENCE_MILLISECONDS if absurd else CLOCK_PATIENCE_MILLISECONDS
            since = now.boottime_milliseconds if self._far_since is None else self._far_since
            return now.boottime_milliseconds - since >= patience
        if self._floor is None:
            return True
        ahead = now.unix_milliseconds - self._floor
        if -CLOCK_TOLERANCE_MILLISECONDS <= ahead <= ABSURD_JUMP_MILLISECONDS:
            return True
        waited = now.boottime_milliseconds - self._start.boottime_milliseconds
        return waited >= CLOCK_PATIENCE_MILLISECONDS

    def _note_jump(self, now: Instant) -> None:
        """Store since when the clock is far from the time that boot-time gives."""
        if self._offset is None:
            return
        jump = now.unix_milliseconds - now.boottime_milliseconds - self._offset
        if abs(jump) <= FAR_JUMP_MILLISECONDS or not is_plausible(now.unix_milliseconds):
            self._far_since = None
        elif self._far_since is None:
            self._far_since = now.boottime_milliseconds

    def _release(self, offset: int) -> tuple[Tick, ...]:
        dated = tuple(tick._replace(start_unix_milliseconds=begin + offset) for begin, tick in self._held)
        self._held.clear()
        return dated
