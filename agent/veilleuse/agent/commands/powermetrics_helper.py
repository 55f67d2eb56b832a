# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse-agent powermetrics-helper`: root runs `powermetrics`, the agent's group reads the snapshot.

It is a root job of its own, on macOS.

Its arguments are fixed: no setting makes it faster or finer than 10 s, and it never uses a sampler that names
processes. It has no network and no settings. It publishes the same snapshot as `rapl-helper` on Linux.
"""

from __future__ import annotations

import argparse
import logging
import os
import plistlib
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from xml.parsers.expat import ExpatError

from veilleuse.agent.errors import AgentError
from veilleuse.agent.model import EnergyCounter, Instant, Point
from veilleuse.agent.platforms import instant_now
from veilleuse.agent.settings import AgentSettings
from veilleuse.agent.sources.snapshot import Outcome, Publication, SnapshotReading, publish
from veilleuse.wire.units import MICROJOULES_PER_MILLIJOULE
from veilleuse.wire.vocabulary import Boundary, PointKind

log = logging.getLogger(__name__)

INTERVAL_MILLISECONDS: Final = 10_000
"""docs/guarantees.md P11: nothing is read or served more often than every 10 s."""
PACKAGE_CEILING_WATTS: Final = 1_000.0
"""Upper limit of a processor package, as for RAPL."""
LARGEST_SAMPLE_BYTES: Final = 1 << 20
_END: Final = b"</plist>"
_LONGEST_NANOSECONDS: Final = 3 * INTERVAL_MILLISECONDS * 1_000_000
"""Longest accepted sample. A longer one contains a sleep or a stopped process, of unknown length."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: neither the interval nor the values that are read can be set."""


def run(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    """Publish until SIGTERM."""
    return run_helper(settings.paths.rapl_helper)


class Stream:
    """Splits the output of powermetrics into property lists and parses them."""

    def __init__(self) -> None:
        self._waiting = b""

    def feed(self, data: bytes) -> list[int | None]:
        """Return the energy of each sample completed by `data`.

        Raises ValueError for a bad or endless property list.
        """
        *whole, self._waiting = (self._waiting + data).split(_END)
        if len(self._waiting) > LARGEST_SAMPLE_BYTES:
            raise ValueError(f"more than {LARGEST_SAMPLE_BYTES} bytes and no end of a sample")
        return [sample_microjoules(parse_plist(part.strip(b"\0 \r\n\t") + _END)) for part in whole]


def parse_plist(text: bytes) -> object:
    """Parse one property list. Raises ValueError."""
    try:
        return plistlib.loads(text, fmt=plistlib.FMT_XML)
    except (ExpatError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise ValueError(f"not a property list: {error or type(error).__name__}") from error


def sample_microjoules(values: object) -> int | None:
    """Return the energy of the processor package in one sample, with a GPU inside it; None = absent or
    implausible.
    """
    values = values if isinstance(values, dict) else {}
    elapsed = _number(values, "elapsed_ns")
    processor = values.get("processor")
    if not isinstance(processor, dict) or elapsed is None or not 0 < elapsed <= _LONGEST_NANOSECONDS:
        return None
    return _package_microjoules(processor, elapsed)


def _package_microjoules(processor: Mapping[Any, Any], elapsed_nanoseconds: float) -> int | None:
    """Return the first value present: joules (Intel), milliwatts (Apple silicon), watts (Intel), millijoules.

    Millijoules come from macOS 11 on Apple silicon.
    """
    seconds = elapsed_nanoseconds / 1e9
    for name, microjoules in (
        ("package_joules", 1e6),
        ("combined_power", 1e3 * seconds),
        ("package_watts", 1e6 * seconds),
        ("package_energy", 1e3),
    ):
        value = _number(processor, name)
        if value is not None:
            energy = value * microjoules
            # A running package always draws power: 0 means that it was not read.
            return int(energy) if 0 < energy <= PACKAGE_CEILING_WATTS * 1e6 * seconds else None
    return None


def _number(told: Mapping[Any, Any], name: str) -> float | None:
    """Return a finite number ≥ 0, or None."""
    value = told.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**63:
        return None
    return float(value)


COMMAND: Final = (
    "/usr/bin/powermetrics",
    *("--samplers", "cpu_power,gpu_power"),
    *("-i", str(INTERVAL_MILLISECONDS)),
    *("-f", "plist"),
)
MODE: Final = 0o640
"""Root writes the file, the group of the process reads it."""
SOURCE: Final = "macos_power"
PACKAGE: Final = Point(PointKind.POWERMETRICS, "package", Boundary.COMPONENT)
RESTART_SECONDS: Final = 60.0
"""Wait after the program has ended by itself, so that a failing program is not started all the time."""
_APART: Final = 16
"""Start value of the counter, in multiples of the ceiling energy since boot.

It is enough while a reader misses at most the first 15 values of a run; the ticker forgets a counter after 40
s, four ticks.
"""
_GRACE_SECONDS: Final = 2.0
_LARGEST_ERROR_BYTES: Final = 4_096
_ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C"}


class Accumulator:
    """Adds samples up to a counter that only grows, and starts above any counter of a former run.

    It starts at _APART times the ceiling energy since the machine started. The first values after a restart
    are then further above the last one than the ceiling allows for the time between. The ticker therefore
    treats the counter as reset.
    """

    def __init__(self, now: Instant) -> None:
        self._microjoules = int(
            now.boottime_milliseconds * _APART * PACKAGE_CEILING_WATTS * MICROJOULES_PER_MILLIJOULE
        )
        self._successes = self._failures = 0

    def publication(self, energy_microjoules: int | None, now: Instant) -> Publication:
        """What there is to say after one sample."""
        if energy_microjoules is None:
            return self.failure("powermetrics tells no power of the processor")
        self._successes += 1
        self._microjoules += energy_microjoules
        whole = self._microjoules // MICROJOULES_PER_MILLIJOULE * MICROJOULES_PER_MILLIJOULE
        counter = EnergyCounter(PACKAGE, whole, None, PACKAGE_CEILING_WATTS)
        reading = SnapshotReading(counter, now.boottime_milliseconds, INTERVAL_MILLISECONDS)
        return Publication((reading,), (PACKAGE,), (self._outcome("ok", ""),))

    def failure(self, reason: str) -> Publication:
        """Build the snapshot when there is no sample."""
        self._failures += 1
        return Publication((), (PACKAGE,), (self._outcome("failed", reason),))

    def _outcome(self, word: str, reason: str) -> Outcome:
        return Outcome(SOURCE, word, reason, "", self._successes, self._failures)


class PowermetricsHelper:
    """Runs the program and publishes each of its samples."""

    def __init__(
        self,
        path: Path,
        command: Sequence[str] = COMMAND,
        now: Callable[[], Instant] = instant_now,
    ) -> None:
        """`path`: the file to publish in; `command`: fixed outside tests."""
        self._path = path
        self._command = tuple(command)
        self._now = now
        self._accumulator = Accumulator(now())
        self._running: subprocess.Popen[bytes] | None = None
        self.stopped = False

    def stop(self, *_: object) -> None:
        """End; may be called from a signal handler."""
        self.stopped = True
        if self._running is not None:
            with suppress(ProcessLookupError):
                self._running.terminate()

    def run_program(self) -> None:
        """Run the program once; publish its samples and its end.

        Raises AgentError when the file cannot be written.
        """
        try:
            self._running = started = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_ENVIRONMENT,
                cwd="/",
            )
        except OSError as error:
            self._report_failure(f"cannot start {self._command[0]}: {error.strerror or error}")
            return
        try:
            if self.stopped:
                return
            reason = self._samples(started)
            if not self.stopped:
                self._report_failure(reason)
        finally:
            self._running = None
            _end_program(started)

    def _samples(self, started: subprocess.Popen[bytes]) -> str:
        """Publish samples until the output ends, and return the reason of the end."""
        assert started.stdout is not None  # both streams are pipes
        assert started.stderr is not None
        stream, errors = Stream(), b""
        with selectors.DefaultSelector() as selector:
            for pipe in (started.stdout, started.stderr):
                selector.register(pipe, selectors.EVENT_READ)
            while selector.get_map() and not self.stopped:
                for key, _ in selector.select():
                    data = os.read(key.fd, 64 * 1024)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is started.stderr:
                        errors = (errors + data)[-_LARGEST_ERROR_BYTES:]
                    else:
                        try:
                            samples = stream.feed(data)
                        except ValueError as error:
                            return f"the output of powermetrics cannot be read: {error}"
                        for sample in samples:
                            self._publish(self._accumulator.publication(sample, self._now()))
        lines = errors.decode("utf-8", "replace").strip().splitlines()
        return f"powermetrics has ended: {lines[-1][:200]}" if lines else "powermetrics has ended"

    def _report_failure(self, reason: str) -> None:
        log.warning("processor not measured", extra={"reason": reason})
        self._publish(self._accumulator.failure(reason))

    def _publish(self, publication: Publication) -> None:
        try:
            publish(self._path, publication, mode=MODE)
        except OSError as error:
            raise AgentError(
                f"cannot write {self._path}: {error.strerror}; the helper's launchd job creates its folder"
            ) from error


def run_helper(path: Path) -> int:
    """Publish every 10 s until SIGTERM or SIGINT; return 0.

    Raises AgentError when the file cannot be written.
    """
    helper = PowermetricsHelper(path)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, helper.stop)
    while not helper.stopped:
        helper.run_program()
        _rest(helper)
    return 0


def _rest(helper: PowermetricsHelper) -> None:
    until = time.monotonic() + RESTART_SECONDS
    while not helper.stopped and time.monotonic() < until:
        time.sleep(1)


def _end_program(started: subprocess.Popen[bytes]) -> None:
    """End the program and close its pipes."""
    with suppress(ProcessLookupError):
        started.terminate()
    try:
        started.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        started.kill()
        started.wait()
    for pipe in (started.stdout, started.stderr):
        if pipe is not None:
            pipe.close()
