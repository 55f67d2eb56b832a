# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse-agent selftest`: measures a real machine in known states, and writes what each source read.

It needs neither an enrolment nor the service. Nothing is sent: the person reads the file, and sends it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from veilleuse.agent.clock import utc_date
from veilleuse.agent.commands.language import print_lines, translate
from veilleuse.agent.commands.poll import RESIDENT_SOURCE
from veilleuse.agent.commands.selftest_report import (
    CounterHistory,
    PhaseResult,
    PolledValue,
    build_document,
    row,
    summary_lines,
)
from veilleuse.agent.errors import AgentError, ConfigurationError
from veilleuse.agent.model import (
    CounterWrap,
    Delta,
    EnergyCounter,
    Point,
    PowerGauge,
    Reset,
    difference,
)
from veilleuse.agent.platforms import SystemClock, here
from veilleuse.agent.polling.process import poll_once
from veilleuse.agent.polling.worker import SourceStatus
from veilleuse.agent.ports import Clock
from veilleuse.agent.resident import ticker as ticker_module
from veilleuse.agent.resident.open_sources import make_ticker, open_sources
from veilleuse.agent.resident.ticker import Ticker
from veilleuse.agent.settings import AgentSettings
from veilleuse.agent.sources import Sources
from veilleuse.wire.interrupt import EXIT_INTERRUPTED
from veilleuse.wire.units import MILLISECONDS_PER_SECOND, SECONDS_PER_MINUTE

LOAD_SECONDS: Final = 120
BATTERY_SECONDS: Final = 180
SHORT_SECONDS: Final = 120
_SCREENS_SECONDS: Final = 20
"""Time that the person has to switch the screens off."""


class Phase(NamedTuple):
    """A state of the machine that is measured."""

    name: str
    seconds: int
    ask: str = ""
    """What the person is asked to do before; empty = nothing."""
    wait_seconds: int = 0
    """Shortest time between the answer and the start."""


ASLEEP: Final = Phase("asleep", 0, "put the machine to sleep for about a minute, wake it, and press Enter")
"""Measured over the time until the answer."""


def plan_phases(seconds: int, *, attended: bool, has_battery: bool) -> tuple[Phase, ...]:
    """Divide the time: each state has a fifth at most, and the idle machine the rest."""
    part = max(1, seconds // 5)
    phases = [
        Phase("load", min(LOAD_SECONDS, part)),
        Phase("rest", min(SHORT_SECONDS, part)),
    ]
    if attended:
        ask = f"press Enter, then let the screens go off within {_SCREENS_SECONDS} s (lock the session, or close the lid)"
        phases.append(Phase("screens_off", min(SHORT_SECONDS, part), ask, _SCREENS_SECONDS))
        if has_battery:
            phases.append(
                Phase("battery", min(BATTERY_SECONDS, part), "unplug the power supply, and press Enter")
            )
    left = max(1, seconds - sum(phase.seconds for phase in phases))
    return (Phase("idle", left), *phases, *((ASLEEP,) if attended else ()))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --minutes, --unattended, --output, --json."""
    parser.add_argument(
        "--minutes", type=_minutes, default=15.0, metavar="N", help="how long to measure (0.1 to 120; 15)"
    )
    parser.add_argument(
        "--unattended",
        action="store_true",
        help="ask for nothing: only the idle machine, and a load that this command makes",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="new file (default: veilleuse-selftest-DATE-RANDOM.json in this folder)",
    )
    parser.add_argument("--json", action="store_true", help="print the result, and write no file")


def run(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    """Return 0, or 130 when it was interrupted and the result is of the time before. Raises AgentError."""
    if parsed.json and parsed.output:
        raise ConfigurationError("--json writes no file: leave --output away")
    attended = not parsed.unattended and sys.stdin.isatty()
    clock = SystemClock(str(settings.paths.procfs))
    try:
        if parsed.json:
            document, ended = measure(settings, parsed.minutes, clock, attended=attended)
            print(json.dumps(document, ensure_ascii=False, indent=1))
        else:
            path = parsed.output or Path(f"veilleuse-selftest-{utc_date()}-{secrets.token_hex(4)}.json")
            with new_file(path) as file:  # before the measurement: a folder that refuses it costs no time
                document, ended = measure(settings, parsed.minutes, clock, attended=attended)
                json.dump(document, file, ensure_ascii=False, indent=1)
                file.write("\n")
            print_lines(summary_lines(document, str(path)))
    finally:
        clock.close()
    return EXIT_INTERRUPTED if ended else 0


def measure(
    settings: AgentSettings, minutes: float, clock: Clock, *, attended: bool
) -> tuple[dict[str, Any], bool]:
    """Walk through the phases; return (document, interrupted). Raises AgentError when nothing can be read."""
    # Units and meters have names that may be people's: no units, and meters as the polled sources show them.
    settings = settings._replace(measure=settings.measure._replace(units=False))
    machine, sources = open_sources(settings)
    sources = without_polled(sources)
    walk = Walk(settings, clock, make_ticker(clock, machine, sources, _tick_milliseconds(settings)))
    interrupted = False
    try:
        if not sources.opened and sources.load is None:
            raise AgentError("nothing can be measured on this machine: `veilleuse-agent doctor` says why")
        names = (
            ", ".join(one.source.name for one in sources.opened if one.points)
            or "none: `veilleuse-agent doctor` says why"
        )
        _say(f"{minutes:g} minutes; Ctrl-C ends the test and keeps its result. Sources of power: {names}")
        phases = plan_phases(
            round(minutes * SECONDS_PER_MINUTE), attended=attended, has_battery=machine.has_battery
        )
        with collected_failures(walk):
            for phase in phases:
                walk.through(phase)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        sources.close()
    document = build_document(settings, machine, sources, walk.results, walk.counters, walk.polled)
    document |= {"attended": attended, "ended_early": interrupted}
    return document | {"row": row(document)}, interrupted


def without_polled(sources: Sources) -> Sources:
    """Leave out the source that repeats what the polling process publishes: `poll_once` asks the devices."""
    for one in sources.opened:
        if one.source.name == RESIDENT_SOURCE:
            one.source.close()
    return sources._replace(
        opened=tuple(one for one in sources.opened if one.source.name != RESIDENT_SOURCE),
        unavailable=tuple(one for one in sources.unavailable if one.name != RESIDENT_SOURCE),
    )


def _tick_milliseconds(settings: AgentSettings) -> int:
    return round(settings.measure.tick_seconds * MILLISECONDS_PER_SECOND)


@contextmanager
def new_file(path: Path) -> Iterator[IO[str]]:
    """Open a file that does not exist yet; an error in the block removes it again. Raises OSError.

    Others may read it: root runs the test, and a person sends the file.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        if hasattr(os, "fchmod"):  # missing on Windows before 3.13
            os.fchmod(descriptor, 0o644)  # the command's umask is for secrets
        try:
            yield file
        except BaseException:
            file.close()  # Windows removes no open file
            path.unlink()
            raise


# ---------------------------------------------------------------------------------------- the walk


class Walk:
    """Ticks through the phases, and keeps what each source read."""

    def __init__(self, settings: AgentSettings, clock: Clock, ticker: Ticker) -> None:
        self._settings = settings
        self._clock = clock
        self._ticker = ticker
        self._tick = _tick_milliseconds(settings)
        self._previous: dict[Point, tuple[EnergyCounter, int]] = {}
        self._last_polled: dict[str, tuple[EnergyCounter, int]] = {}
        self._cpu_before = 0
        self.polled: tuple[SourceStatus, ...] = ()
        """The slow sources, as they were at the end of the last phase."""
        self.results: list[PhaseResult] = []
        self.counters: dict[Point, CounterHistory] = {}

    def through(self, phase: Phase) -> None:
        """Measure one phase; a phase that the person skips has no result."""
        if phase is ASLEEP:
            self._begin(phase)
            if _answered(phase.ask):
                self._take(self.results[-1], last=True)
                self._finish()
            else:
                self.results.pop()
            return
        if phase.ask and not _answered(phase.ask):
            return
        _say(f"{phase.name}: {phase.seconds} s; leave the machine alone")
        # At least a tick: a counter that shows the last phase's value again has stood still for the ticker.
        self._clock.sleep(max(phase.wait_seconds * MILLISECONDS_PER_SECOND, self._tick))
        self._begin(phase)
        if phase.name == "load":
            with processor_load(phase.seconds + 2 * self._tick // MILLISECONDS_PER_SECOND):
                self._ticks(phase)
        else:
            self._ticks(phase)
        self._finish()
        if phase.name == "battery":
            _say("You may plug the power supply in again")

    def note_failure(self, source: str, reason: str) -> None:
        """Count a failed read of a source in the present phase."""
        if self.results:
            self.results[-1].failures[source, reason] += 1

    def _begin(self, phase: Phase) -> None:
        """Read the first values of the phase: what came before does not count."""
        self._ticker.tick(last=True)
        self._previous = {}
        result = PhaseResult(phase.name)
        self.results.append(result)
        self._cpu_before = _own_usage()[0]
        self._note_counters()

    def _ticks(self, phase: Phase) -> None:
        due = self._clock.now().boottime_milliseconds
        count = max(1, phase.seconds * MILLISECONDS_PER_SECOND // self._tick)
        for number in range(count):
            due += self._tick
            now = self._clock.now().boottime_milliseconds
            while now < due:
                self._clock.sleep(due - now)
                now = self._clock.now().boottime_milliseconds
            self.results[-1].late_milliseconds.append(now - due)
            due = max(due, now - self._tick)  # after a sleep the ticks are not made up
            self._take(self.results[-1], last=number == count - 1)

    def _take(self, result: PhaseResult, *, last: bool) -> None:
        _, ticks = self._ticker.tick(last=last)
        result.ticks += ticks
        self._note_counters()
        cpu, result.rss_bytes = _own_usage()
        result.cpu_milliseconds = cpu - self._cpu_before

    def _note_counters(self) -> None:
        """Compare each counter with its last value."""
        now = self._clock.now().boottime_milliseconds
        for polled in self._ticker.polled:
            for reading in polled.readings:
                if not isinstance(reading, EnergyCounter):
                    continue
                history = self.counters.setdefault(reading.point, CounterHistory())
                before, at = self._previous.get(reading.point, (None, now))
                outcome = difference(before, reading, now - at)
                history.reads += 1
                history.resets += isinstance(outcome, Reset)
                history.wraps += isinstance(outcome, CounterWrap)
                if isinstance(outcome, (Delta, CounterWrap)):
                    history.note_step(outcome.energy_microjoules)
                self._previous[reading.point] = reading, now

    def _finish(self) -> None:
        """Ask the slow sources."""
        result = self.results[-1]
        try:
            self.polled = poll_once(self._settings)
        except ConfigurationError:
            return  # a broken meters file: `veilleuse-agent doctor` explains it
        now = self._clock.now().boottime_milliseconds
        for number, one in enumerate(self.polled):
            for each in one.readings:
                reading = each.reading
                if isinstance(reading, PowerGauge):
                    milliwatts: float | None = reading.power_milliwatts
                elif isinstance(reading, EnergyCounter):
                    milliwatts = self._mean_milliwatts(f"{number} {reading.point.domain}", reading, now)
                else:
                    continue
                result.polled.append(PolledValue(one.job.source, reading.point, milliwatts))

    def _mean_milliwatts(self, key: str, reading: EnergyCounter, now: int) -> float | None:
        """Return the mean power since the end of the last phase; None for the first value."""
        before, at = self._last_polled.get(key, (None, now))
        self._last_polled[key] = reading, now
        outcome = difference(before, reading, now - at)
        if not isinstance(outcome, (Delta, CounterWrap)) or now <= at:
            return None
        return outcome.energy_microjoules / (now - at)


class FailureHandler(logging.Handler):
    """Passes the ticker's reports of failed reads to the walk: they have no other outlet."""

    def __init__(self, walk: Walk) -> None:
        super().__init__()
        self._walk = walk

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        source, reason = getattr(record, "source", None), getattr(record, "reason", None)
        if isinstance(source, str) and isinstance(reason, str):
            self._walk.note_failure(source, reason)


@contextmanager
def collected_failures(walk: Walk) -> Iterator[None]:
    """Give the walk each failed read, until the end of the block; the terminal stays quiet."""
    log, handler = ticker_module.log, FailureHandler(walk)
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]


@contextmanager
def processor_load(seconds: int) -> Iterator[None]:
    """Keep every logical processor busy until the end of the block, and for `seconds` at most."""
    program = f"import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
    children = [
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(os.cpu_count() or 1)
    ]
    try:
        yield
    finally:
        for child in children:
            child.kill()
        for child in children:
            child.wait()


def _own_usage() -> tuple[int, int]:
    """Return (CPU time in ms, resident bytes) of this process, without the children that make the load."""
    return round(time.process_time() * MILLISECONDS_PER_SECOND), here.usage()[1]


def _answered(ask: str) -> bool:
    """Ask the person to do something; return False for `s` (skip), or at the end of the input."""
    _say(f"Please {ask}. s and Enter: skip this")
    answer = sys.stdin.readline()
    return bool(answer) and answer.strip().lower() != "s"


def _say(text: str) -> None:
    print(translate(text), file=sys.stderr, flush=True)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes") from error
    if not 0.1 <= minutes <= 120:
        raise argparse.ArgumentTypeError("0.1 to 120 minutes")
    return minutes
