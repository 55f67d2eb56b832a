# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""One polled source in a thread of its own: opens it, reads it at its interval, opens it again when it fails.

What it last read and how it fares can be asked at any time, also while its device does not answer: a thread that hangs
is reported, not waited for. There is never a second one for the same source, so their number is bounded.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from veilleuse.agent.errors import ConfigurationError, ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Instant, Point, PowerGauge
from veilleuse.agent.platforms.clock import instant_now
from veilleuse.agent.ports import Source
from veilleuse.agent.sources.snapshot import Outcome, SnapshotReading, is_publishable
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

log = logging.getLogger(__name__)

COUNTER_SECONDS: Final = 20
"""Counters are read this often at least: the ticker waits 30 s for the next value of one, then a gap stays."""
OWN_SECONDS: Final = 30
"""Interval of a self-detecting source that names none in EVERY_SECONDS."""
OWN_TIMEOUT_SECONDS: Final = 10.0
LEAD_SECONDS: Final = 4
"""Read so long before the ticks that end at whole multiples of the interval: they see the values of that very moment."""
READS_BEFORE_OPENING: Final = 3
"""Failed reads in a row, after which the device is closed and opened again."""
INCOMPLETE_READS: Final = 30
"""Reads in a row without some point, after which it is looked for again: one GPU of eight was reset."""
PATIENT_ATTEMPTS: Final = 15
"""What does not answer is opened again at its interval so often: a plug that is moved to another socket. Then ever more rarely."""
_FIRST_WAIT_SECONDS: Final = 60
_LONGEST_WAIT_SECONDS: Final = 300
"""Between two attempts to open what is not available: a driver that is loaded later, a file whose mode is corrected."""


class Job(NamedTuple):
    """One source to poll."""

    name: str
    """The source's, followed by the meter's where there is one: `snmp_meter rack-a`."""
    source: str
    meter: str
    """Empty for a self-detecting source."""
    make: Callable[[], Source]
    """Raises SourceUnavailable."""
    every_seconds: int
    """0 = as the source says."""
    timeout_seconds: float


class SourceStatus(NamedTuple):
    """What is known of a source by now."""

    job: Job
    points: tuple[Point, ...]
    readings: tuple[SnapshotReading, ...]
    outcome: Outcome


class Worker:
    """Polls one source. `attempt` is one turn; `start` does it over and over in a thread until `stop`."""

    def __init__(
        self,
        job: Job,
        changed: Callable[[], None] = lambda: None,
        now: Callable[[], Instant] = instant_now,
    ) -> None:
        """`changed` is called, from the thread, after every turn."""
        self.job = job
        self._changed = changed
        self._now = now
        self._every = job.every_seconds or OWN_SECONDS
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._made: Source | None = None
        self._source: Source | None = None
        """The same while it is open."""
        self._lock = threading.Lock()  # holds what is below together
        self._points: tuple[Point, ...] = ()
        self._readings: dict[Point, SnapshotReading] = {}
        self._word, self._reason, self._remedy = "failed", "not read yet", ""
        self._said = ""
        self._successes = self._failures = 0
        self._failed_reads = self._incomplete_reads = self._closed_attempts = 0
        self._busy_since: float | None = None

    # ------------------------------------------------------------------------------------ asked

    @property
    def tried(self) -> bool:
        """Whether its first turn is over, or takes too long."""
        return self._successes + self._failures > 0 or self._overdue_seconds() > 0

    def seen(self) -> SourceStatus:
        """What it last read and how it fares, at once."""
        with self._lock:
            word, reason, remedy = self._word, self._reason, self._remedy
            if overdue := self._overdue_seconds():
                word, reason, remedy = "failed", f"no answer for {int(overdue)} s", ""
            outcome = Outcome(self.job.name, word, reason, remedy, self._successes, self._failures)
            return SourceStatus(self.job, self._points, tuple(self._readings.values()), outcome)

    def _overdue_seconds(self) -> float:
        """How long its device has not answered; 0 unless that is more than twice its timeout."""
        since = self._busy_since
        waits = 0.0 if since is None else time.monotonic() - since
        return waits if waits > 2 * self.job.timeout_seconds else 0.0

    # ----------------------------------------------------------------------------------- turning

    def start(self) -> None:
        """Turn in a thread of its own. It ends with the process: a device that never answers holds nothing up."""
        self._thread = threading.Thread(target=self._turn, name=self.job.name, daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 0) -> None:
        """Ask the thread to end and its source to close; wait for it so long at most."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def attempt(self) -> None:
        """Open if need be, and read once."""
        with self._lock:
            self._busy_since = time.monotonic()
        try:
            self._poll()
        except SourceUnavailable as error:
            self._failed(error.word, error.reason, error.remedy)
        except ReadFailed as error:
            self._failed("failed", str(error))
        except ConfigurationError as error:
            self._failed("failed", str(error))
        except Exception as error:  # a source with a defect costs its own readings, nothing else
            self._failed("failed", f"a defect of the source: {type(error).__name__}: {error}")
        finally:
            with self._lock:
                self._busy_since = None
        self._changed()

    def wait_seconds(self, unix_seconds: float) -> float:
        """Until the next turn."""
        if self._source is None:
            failed = self._word == "failed"
            first, patient = (self._every, PATIENT_ATTEMPTS) if failed else (_FIRST_WAIT_SECONDS, 1)
            doublings = min(max(0, self._closed_attempts - patient), 10)
            return float(min(_LONGEST_WAIT_SECONDS, first << doublings))
        left = self._every - (unix_seconds + LEAD_SECONDS) % self._every
        return left if left > self._every / 5 else left + self._every

    def _turn(self) -> None:
        while not self._stopped.is_set():
            self.attempt()
            self._stopped.wait(self.wait_seconds(time.time()))
        self.close()

    def _poll(self) -> None:
        if self._source is None:
            self._open()
        source = self._source
        assert source is not None  # `_open` raises otherwise
        made = self._now().boottime_milliseconds  # before: a suspend meanwhile makes it old, not new
        readings = tuple(
            one
            for one in source.read()
            if isinstance(one, (EnergyCounter, PowerGauge))
            and one.point in self._points
            and is_publishable(one)
        )
        if not readings:
            raise ReadFailed("it gave nothing that can be believed")
        if any(isinstance(one, EnergyCounter) for one in readings):
            self._every = min(self._every, COUNTER_SECONDS)
        every = self._every * MILLISECONDS_PER_SECOND
        with self._lock:
            self._readings |= {one.point: SnapshotReading(one, made, every) for one in readings}
            self._word, self._reason, self._remedy = "ok", "", ""
            self._successes += 1
        if self._said not in ("", "ok") and self._thread is not None:
            log.info("source reads again", extra={"source": self.job.name})
        self._said = "ok"
        self._failed_reads = 0
        self._incomplete_reads = 0 if self._has_all(readings) else self._incomplete_reads + 1
        if self._incomplete_reads >= INCOMPLETE_READS:
            self.close()

    def _open(self) -> None:
        # One for good: it remembers who refused it, a program that cannot be killed, and whether it reads a counter or a gauge.
        source = self._made = self._made or self.job.make()
        try:
            points = source.open()
        except BaseException:
            source.close()
            raise
        with self._lock:
            # What was offered and has gone is missing now, not forgotten.
            self._points = (*self._points, *(point for point in points if point not in self._points))
        self._every = self.job.every_seconds or int(getattr(source, "EVERY_SECONDS", OWN_SECONDS))
        self._source = source
        self._failed_reads = self._incomplete_reads = self._closed_attempts = 0

    def _failed(self, word: str, reason: str, remedy: str = "") -> None:
        self._failed_reads += 1
        if self._source is None:
            self._closed_attempts += 1
        elif self._failed_reads >= READS_BEFORE_OPENING or word != "failed":
            self.close()
        self._say(word, reason, remedy)
        with self._lock:
            self._word, self._reason, self._remedy = word, reason, remedy
            self._failures += 1

    def _say(self, word: str, reason: str, remedy: str) -> None:
        """Once each time that it begins to fail: an administrator reads the log first. One look tells by itself."""
        facts = {"source": self.job.name, "reason": reason, "remedy": remedy}
        if word == self._said or self._thread is None:
            log.debug("source failed", extra=facts)
        elif word == "failed" or self.job.meter:
            log.warning("source failed", extra=facts)
        else:  # a GPU or BMC that is not there is no trouble
            log.info("source not available here", extra=facts)
        self._said = word

    def close(self) -> None:
        """Give the device back; only while no turn is going on."""
        source, self._source = self._source, None
        if source is not None:
            source.close()

    def _has_all(self, readings: tuple[EnergyCounter | PowerGauge, ...]) -> bool:
        seen = {one.point for one in readings}
        return all(point in seen for point in self._points)
