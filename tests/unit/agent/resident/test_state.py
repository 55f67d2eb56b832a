# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test states from the load and from the clocks."""

from __future__ import annotations

import pytest

from tests.support.fakes.measuring import NOON, PACKAGE, FakeClock, FakeLoad, GaugeSource, ticker_over
from veilleuse.agent.model import (
    ClockPeriod,
    Instant,
    LoadDelta,
    PointEnergy,
    Record,
    Tick,
    asleep_milliseconds,
)
from veilleuse.agent.resident.fold import Fold
from veilleuse.agent.resident.state import (
    CLOCK_PATIENCE_MILLISECONDS,
    HELD_TICKS,
    LONGEST_RECONSTRUCTION_MILLISECONDS,
    SUSPEND_PATIENCE_MILLISECONDS,
    WHY_SHUTDOWN,
    WHY_STOP,
    WHY_SUSPEND,
    WHY_TICK,
    ClockGuard,
    LastSign,
    SleepWatch,
    Timeline,
    reconstruct,
    state_of,
)
from veilleuse.wire.vocabulary import Population, State, Supply

HOUR = 3_600_000
DAY = 24 * HOUR


def load(cpu: float, moved: int | None = 0) -> LoadDelta:
    """Return the load of two equally busy processors, with the same bytes for disk and network."""
    return LoadDelta(cpu, cpu, 0.3, moved, moved)


@pytest.mark.parametrize(
    ("delta", "state"),
    [
        (load(0.049), State.ON_IDLE),
        (load(0.05), State.ON_ACTIVE),
        (load(0.0, 499_999), State.ON_IDLE),
        (load(0.0, 500_000), State.ON_ACTIVE),  # disk and network: twice 500 kB in 10 s is 100 kB/s
        (load(0.0, None), State.ON_IDLE),
        (None, State.ON_ACTIVE),
    ],
)
def test_the_idle_rule(delta, state):
    """Below 5 % and 100 kB/s is idle; an unknown load is never idle."""
    assert state_of(delta, 10_000) is state


def test_sleep_is_the_difference_of_two_clocks():
    """Sleep is boot-time minus monotonic time; a few milliseconds between two readings are not."""
    before = Instant(0, 1_000, 1_000)
    assert asleep_milliseconds(before, Instant(0, 11_000, 11_000)) == 0
    assert asleep_milliseconds(before, Instant(0, 11_005, 11_000)) == 0
    assert asleep_milliseconds(before, Instant(0, 36_001_000 + 10_000, 11_000)) == 36_000_000


def sign(clock: FakeClock, why: str) -> LastSign:
    """Return a sign of life now."""
    return LastSign(clock.now(), clock.boot_id(), why)


@pytest.mark.parametrize(
    ("why", "state"),
    [
        (WHY_SHUTDOWN, State.OFF),
        (WHY_TICK, State.UNKNOWN),
        (WHY_STOP, State.UNKNOWN),
        (WHY_SUSPEND, State.ASLEEP),
    ],
)
def test_over_a_boot(why, state):
    """Before the boot the state follows the last sign: off, asleep or unknown; after it it is unknown."""
    clock = FakeClock()
    last = sign(clock, why)
    clock.reboot(14 * HOUR, 20_000)
    silence = reconstruct(last, clock.now(), clock.boot_id(), Supply.AC)
    off, boot = silence.ticks
    assert (off.start_unix_milliseconds, off.duration_milliseconds, off.state) == (NOON, 14 * HOUR, state)
    assert (boot.duration_milliseconds, boot.state) == (20_000, State.UNKNOWN)


def test_within_a_boot():
    """Within a boot the clocks give the sleep, the rest is unknown, and a set wall clock changes nothing."""
    clock = FakeClock()
    last = sign(clock, WHY_TICK)
    clock.advance(HOUR)
    clock.advance(9 * HOUR, asleep=True)
    clock.set_wall(clock.unix + 5 * DAY)
    silence = reconstruct(last, clock.now(), clock.boot_id(), Supply.AC)
    assert [(t.state, t.duration_milliseconds) for t in silence.ticks] == [
        (State.UNKNOWN, HOUR),
        (State.ASLEEP, 9 * HOUR),
    ]
    assert silence.ticks[0].start_unix_milliseconds == clock.unix - 10 * HOUR


def test_within_a_boot_after_an_announced_suspend():
    """After an announced suspend the sleep comes first, then unknown. Hibernation keeps the boot id."""
    clock = FakeClock()
    last = sign(clock, WHY_SUSPEND)
    clock.advance(9 * HOUR, asleep=True)
    clock.advance(HOUR)
    silence = reconstruct(last, clock.now(), clock.boot_id(), Supply.UNKNOWN)
    assert [(t.state, t.duration_milliseconds, t.supply) for t in silence.ticks] == [
        (State.ASLEEP, 9 * HOUR, Supply.UNKNOWN),
        (State.UNKNOWN, HOUR, Supply.UNKNOWN),
    ]


def test_a_shutdown_within_a_boot_is_not_off():
    """`systemctl soft-reboot` keeps the kernel running, so the state is unknown, not off."""
    clock = FakeClock()
    last = sign(clock, WHY_SHUTDOWN)
    clock.advance(30_000)
    (tick,) = reconstruct(last, clock.now(), clock.boot_id(), Supply.AC).ticks
    assert (tick.state, tick.duration_milliseconds) == (State.UNKNOWN, 30_000)


class Watched:
    """Holds a sleep watch and its clock."""

    def __init__(self) -> None:
        self.clock, self.watch = FakeClock(), SleepWatch()

    def look(self, milliseconds: int = 0, *, asleep: int = 0, announced: bool = False) -> tuple[bool, str]:
        """Return (sign is due now, its reason) after this time."""
        self.clock.advance(milliseconds)
        self.clock.advance(asleep, asleep=True)
        return self.watch.update(self.clock.now(), announced=announced), self.watch.why


def test_a_suspend_is_announced_slept_and_over():
    """The sign is due at the announcement, keeps `suspend` until the sleep, and is due again after it."""
    watched = Watched()
    assert watched.look(10_000) == (False, WHY_TICK)
    assert watched.look(3_000, announced=True) == (True, WHY_SUSPEND)
    assert watched.look(10_000) == (False, WHY_SUSPEND)
    assert watched.look(4_000, asleep=9 * HOUR) == (True, WHY_TICK)
    assert watched.look(10_000) == (False, WHY_TICK)


def test_a_suspend_that_does_not_come_about_is_taken_back():
    """After a minute awake the sign is `tick` again, so that a later power cut is not counted as sleep."""
    watched = Watched()
    watched.look(announced=True)
    assert watched.look(SUSPEND_PATIENCE_MILLISECONDS - 1) == (False, WHY_SUSPEND)
    assert watched.look(1) == (True, WHY_TICK)


def test_suspend_then_hibernate_may_announce_twice():
    """Each announcement starts its own wait."""
    watched = Watched()
    watched.look(announced=True)
    assert watched.look(2_000, asleep=HOUR, announced=True) == (True, WHY_SUSPEND)
    assert watched.look(1_000) == (False, WHY_SUSPEND)
    assert watched.look(asleep=DAY) == (True, WHY_TICK)


def test_nothing_is_made_up():
    """A missing, future or 1970 sign gives nothing; a silence of years is undated."""
    clock = FakeClock()
    assert reconstruct(None, clock.now(), "b", Supply.AC).ticks == ()
    late = LastSign(Instant(NOON + DAY, 5, 5), "other", WHY_SHUTDOWN)
    assert reconstruct(late, clock.now(), "b", Supply.AC).ticks == ()
    early = LastSign(Instant(1_000, 5, 5), "other", WHY_SHUTDOWN)
    assert reconstruct(early, clock.now(), "b", Supply.AC).ticks == ()
    old = LastSign(Instant(NOON - 500 * DAY, 5, 5), "other", WHY_SHUTDOWN)
    assert reconstruct(old, clock.now(), "b", Supply.AC).undated_milliseconds == 500 * DAY


def test_a_sign_survives_its_text():
    """A sign is read back from its JSON; invalid text raises ValueError."""
    last = sign(FakeClock(), WHY_SHUTDOWN)
    assert LastSign.from_json(last.to_json()) == last
    for text in ("", "{}", "[]", '{"unix":"x"}', "null"):
        with pytest.raises(ValueError, match=r"."):
            LastSign.from_json(text)


def pass_tick(guard: ClockGuard, clock: FakeClock) -> tuple[tuple[Tick, ...], int]:
    """Advance ten seconds and pass one tick to the guard."""
    clock.advance(10_000)
    return guard.date(clock.now(), (Tick(clock.unix - 10_000, 10_000, State.ON_IDLE, Supply.AC),))


def test_ticks_of_1970_are_dated_once_the_time_is_known():
    """Ticks are held without a date, then dated by boot-time; none is lost."""
    clock = FakeClock(unix=5_000)
    guard = ClockGuard(None, clock.now())
    for _ in range(3):
        assert pass_tick(guard, clock)[0] == ()
    assert not guard.trusted
    assert guard.held_milliseconds() == 30_000
    clock.set_wall(NOON)
    ticks, lost = guard.date(clock.now(), ())
    assert [t.start_unix_milliseconds for t in ticks] == [NOON - 30_000, NOON - 20_000, NOON - 10_000]
    assert lost == 0
    assert guard.trusted


def test_held_ticks_are_bounded():
    """An uncorrected clock costs lost time, not memory."""
    clock = FakeClock(unix=5_000)
    guard = ClockGuard(None, clock.now())
    lost = sum(pass_tick(guard, clock)[1] for _ in range(HELD_TICKS + 5))
    assert lost == 50_000
    assert guard.held_milliseconds() == HELD_TICKS * 10_000


@pytest.mark.parametrize("years", [10, -2])
def test_a_clock_far_from_the_last_sign_is_waited_for_but_not_for_ever(years):
    """A clock before the last sign, or years after that of another boot, waits for a correction; after an
    hour it is trusted.
    """
    clock = FakeClock()
    guard = ClockGuard(NOON + years * 365 * DAY, clock.now())
    assert pass_tick(guard, clock)[0] == ()
    clock.advance(CLOCK_PATIENCE_MILLISECONDS)
    assert len(pass_tick(guard, clock)[0]) == 2


def test_a_jump_while_running_is_followed():
    """Small jumps are followed at once; with the clock at 1970, boot-time gives the dates."""
    clock = FakeClock()
    guard = ClockGuard(None, clock.now())
    assert pass_tick(guard, clock)[0]
    clock.set_wall(NOON - DAY)
    assert pass_tick(guard, clock)[0]
    clock.set_wall(0)
    (tick,), lost = pass_tick(guard, clock)
    assert tick.start_unix_milliseconds == NOON - DAY + 10_000
    assert lost == 0
    assert guard.unix_at(clock.now()) == NOON - DAY + 20_000


@pytest.mark.parametrize(("years", "hours"), [(10, 24), (0.5, 1), (-0.5, 1)])
def test_a_jump_far_off_is_believed_when_it_stays(years, hours):
    """Boot-time dates the ticks at first; the new clock is trusted after an hour, or a day if absurd."""
    clock = FakeClock()
    guard = ClockGuard(None, clock.now())
    assert pass_tick(guard, clock)[0]
    clock.set_wall(clock.unix + round(years * 365 * DAY))
    (tick,), _ = pass_tick(guard, clock)
    assert tick.start_unix_milliseconds == NOON + 10_000
    clock.advance(hours * 3_600_000 - 20_000)
    (tick,), _ = pass_tick(guard, clock)
    assert tick.start_unix_milliseconds < NOON + 2 * DAY
    clock.advance(10_000)
    (tick,), _ = pass_tick(guard, clock)
    assert abs(tick.start_unix_milliseconds - NOON - years * 365 * DAY) < 2 * DAY


def test_the_last_sign_of_this_boot_dates_a_start_under_a_wrong_clock():
    """The last sign's offset from boot-time dates a restart while the clock is ten years ahead."""
    clock = FakeClock()
    last = clock.now()
    offset = last.unix_milliseconds - last.boottime_milliseconds
    clock.advance(60_000)
    clock.set_wall(clock.unix + 10 * 365 * DAY)
    guard = ClockGuard(last.unix_milliseconds, clock.now(), offset)
    assert guard.trusted
    assert guard.start(clock.now()).unix_milliseconds == NOON + 60_000
    (tick,), _ = pass_tick(guard, clock)
    assert tick.start_unix_milliseconds == NOON + 60_000


def test_a_clock_set_forward_leaves_no_hole():
    """A skipped time is unknown; a clock set back changes nothing, and years are undated."""
    now = 1_772_445_600_000
    line = Timeline()
    first = Tick(now, 10_000, State.ON_IDLE, Supply.AC)
    assert line.fill_hole(first) == ((first,), 0)
    later = Tick(now + 10_000 + 7_200_000, 10_000, State.ON_IDLE, Supply.AC)
    assert line.fill_hole(later) == (
        (Tick(now + 10_000, 7_200_000, State.UNKNOWN, Supply.UNKNOWN), later),
        0,
    )
    back = Tick(now + 20_000, 10_000, State.ON_IDLE, Supply.AC)
    assert line.fill_hole(back) == ((back,), 0)
    far = Tick(now + 30_000 + LONGEST_RECONSTRUCTION_MILLISECONDS + 1, 10_000, State.ON_IDLE, Supply.AC)
    assert line.fill_hole(far) == ((far,), LONGEST_RECONSTRUCTION_MILLISECONDS + 1)
    assert Timeline(5_000).fill_hole(first) == ((first,), 0)
    assert Timeline(now - 60_000).fill_hole(first)[0][0].duration_milliseconds == 60_000


def test_a_silence_that_begins_in_what_was_told_loses_the_rounding():
    """An overlap of a few ms from rounding is cut at the start; a longer one is a clock set back."""
    now = 1_750_000_000_000
    silence = Tick(now - 2, 1_500, State.UNKNOWN, Supply.AC)
    line = Timeline(now)
    assert line.fill_hole(silence) == (
        (silence._replace(start_unix_milliseconds=now, duration_milliseconds=1_498),),
        0,
    )
    measured = Tick(now + 1_498, 1_000, State.ON_IDLE, Supply.AC)
    assert line.fill_hole(measured) == ((measured,), 0)
    assert Timeline(now).fill_hole(Tick(now - 2, 2, State.UNKNOWN, Supply.AC)) == ((), 0)
    back = Tick(now - 3_600_000, 1_500, State.UNKNOWN, Supply.AC)
    assert Timeline(now).fill_hole(back) == ((back,), 0)


def test_measured_time_that_begins_in_what_was_told_keeps_all_but_its_length():
    """A measured tick that overlaps by a clock's slew is shortened; its energy stays whole."""
    now = 1_750_000_000_000
    active = Tick(
        now - 1_001,
        10_000,
        State.ON_ACTIVE,
        Supply.AC,
        energies=(PointEnergy(PACKAGE, 77, 10_000),),
        gaps=(("nut_ups", 10_000), ("polled", 1_001)),
    )
    ((shorter,), undated) = Timeline(now).fill_hole(active)
    assert (shorter.start_unix_milliseconds, shorter.duration_milliseconds, undated) == (now, 8_999, 0)
    assert shorter.energies == (PointEnergy(PACKAGE, 77, 8_999),)
    assert shorter.gaps == (("nut_ups", 8_999),)
    inside = active._replace(duration_milliseconds=1_000, gaps=(), energies=())
    assert Timeline(now).fill_hole(inside) == ((inside,), 0), "nothing that was measured goes"
    far = active._replace(start_unix_milliseconds=now - 2_001)
    assert Timeline(now).fill_hole(far) == ((far,), 0), "a clock set back is not mended"


@pytest.mark.parametrize("ppm", [-50, -7, 30])
@pytest.mark.parametrize("population", [Population.CLASSROOM, Population.WORKSTATION])
def test_clocks_that_drift_apart_cut_no_record_in_two(ppm, population):
    """Windows and macOS slew only the wall clock (50 ppm are 4 s a day): each period has one whole record."""
    clock, load, gauge = FakeClock(), FakeLoad(), GaugeSource(40_000)
    (point,) = gauge.open()
    ticker = ticker_over(clock, gauge, load=load, milliseconds=60_000)
    ticker.tick()
    fold, line = Fold(population, HOUR), Timeline()
    wall, days = float(NOON), 8
    told: list[Record] = []
    for _ in range(days * 1_440):
        clock.advance(60_000)
        wall += 60_000 * (1 + ppm / 1e6)
        clock.set_wall(round(wall))
        load.use(60_000, (0.0, 0.0))
        for tick in ticker.tick()[1]:
            for piece in line.fill_hole(tick)[0]:
                told += fold.add(piece)
    told += fold.flush()
    assert len({record.period for record in told}) == len(told)
    cells = [cell for record in told for cell in record.cells.values()]
    assert sum(cell.energies[point][0] for cell in cells if cell.energies) == 40_000 * 60 * days * 1_440
    for record in told[1:-2]:
        if isinstance(record.period, ClockPeriod):
            assert sum(cell.milliseconds for cell in record.cells.values()) == HOUR
