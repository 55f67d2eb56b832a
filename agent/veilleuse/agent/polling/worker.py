# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Polls one source in its own thread: opens it, reads it at its interval, and opens it again after failures.

The last readings and the state can be read at any time, also while the device does not answer. A hung thread
is reported, not waited for. There is never a second thread for one source, so their number is bounded.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from veilleuse.agent import clock
from veilleuse.agent.errors import ConfigurationError, ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Instant, Point, PowerGauge
from veilleuse.agent.platforms import instant_now
from veilleuse.agent.ports import Source
from veilleuse.agent.sources.snapshot import Outcome, SnapshotReading, is_publishable
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

log = logging.getLogger(__name__)

COUNTER_SECONDS: Final = 20
"""Longest interval of a counter: the ticker waits 30 s for the next value, then leaves a gap."""
OWN_SECONDS: Final = 30
"""Interval of a self-detecting source without EVERY_SECONDS."""
OWN_TIMEOUT_SECONDS: Final = 10.0
LEAD_SECONDS: Final = 4
"""Lead of a read before whole multiples of the interval, when ticks end: they see values of that moment."""
READS_BEFORE_OPENING: Final = 3
"""Number of failed reads in a row after which the device is closed and opened again."""
INCOMPLETE_READS: Final = 30
"""Number of reads in a row without some point after which it is searched for again.

One GPU of eight was reset.
"""
PATIENT_ATTEMPTS: Final = 15
"""Number of attempts to open a silent device at its interval, for a plug that is moved to another socket.

Later attempts become ever rarer.
"""
_FIRST_WAIT_SECONDS: Final = 60
_LONGEST_WAIT_SECONDS: Final = 300
"""Longest wait between attempts to open: a driver may be loaded later, a file mode corrected."""


class Job(NamedTuple):
    """One source to poll."""

    name: str
    """Name of the source, followed by its meter if any: `snmp_meter rack-a`."""
    source: str
    meter: str
    """Empty for a self-detecting source."""
    make: Callable[[], Source]
    """Creates the source. Raises SourceUnavailable."""
    every_seconds: int
    """0 = as the source says."""
    timeout_seconds: float


class SourceStatus(NamedTuple):
    """Present state of a source."""

    job: Job
    points: tuple[Point, ...]
    readings: tuple[SnapshotReading, ...]
    outcome: Outcome


class Worker:
    """Polls one source. `attempt` is one turn; `start` repeats it in a thread until `stop`."""

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
        """Equal to `_made` while the source is open."""
        self._lock = threading.Lock()  # keeps the fields below consistent
        self._points: tuple[Point, ...] = ()
        self._readings: dict[Point, SnapshotReading] = {}
        self._word, self._reason, self._remedy = "failed", "not read yet", ""
        self._said = ""
        self._successes = self._failures = 0
        self._failed_reads = self._incomplete_reads = self._closed_attempts = 0
        self._busy_since: float | None = None

    # ------------------------------------------------------------------------------------- state

    @property
    def has_tried(self) -> bool:
        """Return True when the first turn is over, or takes too long."""
        return self._successes + self._failures > 0 or self._overdue_seconds() > 0

    def status(self) -> SourceStatus:
        """Return the last readings and the state, without waiting."""
        with self._lock:
            word, reason, remedy = self._word, self._reason, self._remedy
            if overdue := self._overdue_seconds():
                word, reason, remedy = "failed", f"no answer for {int(overdue)} s", ""
            outcome = Outcome(self.job.name, word, reason, remedy, self._successes, self._failures)
            return SourceStatus(self.job, self._points, tuple(self._readings.values()), outcome)

    def _overdue_seconds(self) -> float:
        """Return how long the device has not answered; 0 up to twice its timeout."""
        since = self._busy_since
        waits = 0.0 if since is None else time.monotonic() - since
        return waits if waits > 2 * self.job.timeout_seconds else 0.0

    # ------------------------------------------------------------------------------------- turns

    def start(self) -> None:
        """Poll in a daemon thread, which ends with the process.

        A device that never answers delays nothing.
        """
        self._thread = threading.Thread(target=self._run, name=self.job.name, daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 0) -> None:
        """Ask the thread to end and its source to close; wait at most `seconds`."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def attempt(self) -> None:
        """Open the source if needed, and read once."""
        with self._lock:
            self._busy_since = time.monotonic()
        try:
            self._poll()
        except SourceUnavailable as error:
            self._record_failure(error.word, error.reason, error.remedy)
        except ReadFailed as error:
            self._record_failure("failed", str(error))
        except ConfigurationError as error:
            self._record_failure("failed", str(error))
        except Exception as error:  # a source with a defect loses its own readings, nothing else
            self._record_failure("failed", f"a defect of the source: {type(error).__name__}: {error}")
        finally:
            with self._lock:
                self._busy_since = None
        self._changed()

    def wait_seconds(self, unix_seconds: float) -> float:
        """Return the time until the next turn."""
        if self._source is None:
            failed = self._word == "failed"
            first, patient = (self._every, PATIENT_ATTEMPTS) if failed else (_FIRST_WAIT_SECONDS, 1)
            doublings = min(max(0, self._closed_attempts - patient), 10)
            return float(min(_LONGEST_WAIT_SECONDS, first << doublings))
        left = self._every - (unix_seconds + LEAD_SECONDS) % self._every
        return left if left > self._every / 5 else left + self._every

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.attempt()
            self._stopped.wait(self.wait_seconds(clock.unix_seconds()))
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
            raise ReadFailed("it gave no plausible value")
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
        self._incomplete_reads = 0 if self._is_complete(readings) else self._incomplete_reads + 1
        if self._incomplete_reads >= INCOMPLETE_READS:
            self.close()

    def _open(self) -> None:
        # Created once for good: it remembers who refused it, a program that cannot be killed, and the kind of
        # its readings.
        source = self._made = self._made or self.job.make()
        try:
            points = source.open()
        except BaseException:
            source.close()
            raise
        with self._lock:
            # A point that was offered before and is gone now is missing, not forgotten.
            self._points = (*self._points, *(point for point in points if point not in self._points))
        self._every = self.job.every_seconds or int(getattr(source, "EVERY_SECONDS", OWN_SECONDS))
        self._source = source
        self._failed_reads = self._incomplete_reads = self._closed_attempts = 0

    def _record_failure(self, word: str, reason: str, remedy: str = "") -> None:
        self._failed_reads += 1
        if self._source is None:
            self._closed_attempts += 1
        elif self._failed_reads >= READS_BEFORE_OPENING or word != "failed":
            self.close()
        self._log_failure(word, reason, remedy)
        with self._lock:
            self._word, self._reason, self._remedy = word, reason, remedy
            self._failures += 1

    def _log_failure(self, word: str, reason: str, remedy: str) -> None:
        """Log each start of a failure once, for an administrator. A single attempt logs at debug level."""
        facts = {"source": self.job.name, "reason": reason, "remedy": remedy}
        if word == self._said or self._thread is None:
            log.debug("source failed", extra=facts)
        elif word == "failed" or self.job.meter:
            log.warning("source failed", extra=facts)
        else:  # an absent GPU or BMC is not a fault
            log.info("source not available here", extra=facts)
        self._said = word

    def close(self) -> None:
        """Close the device; only between turns."""
        source, self._source = self._source, None
        if source is not None:
            source.close()

    def _is_complete(self, readings: tuple[EnergyCounter | PowerGauge, ...]) -> bool:
        seen = {one.point for one in readings}
        return all(point in seen for point in self._points)
