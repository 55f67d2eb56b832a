# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse-agent rapl-helper`: root reads the energy counters, the agent's group reads the snapshot.

It is a root service of its own: deploy/systemd/veilleuse-rapl.service.

Since CVE-2020-8694 (PLATYPUS), the kernel gives the counters to root only. Read thousands of times a second,
to the microjoule, they reveal what other processes compute. This process gives one value every 10 s, to the
millijoule: no setting makes it faster or finer. It has no network, no capability and no settings, and reads
through `sources/linux_rapl.py`.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from veilleuse.agent.errors import AgentError, ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Instant, Point
from veilleuse.agent.platforms import SystemClock
from veilleuse.agent.ports import ServiceManager, SourceContext
from veilleuse.agent.service.systemd import SystemdNotifier
from veilleuse.agent.settings import AgentSettings
from veilleuse.agent.sources.linux_rapl import LinuxRapl
from veilleuse.agent.sources.snapshot import Outcome, Publication, SnapshotReading, publish
from veilleuse.wire.units import MICROJOULES_PER_MILLIJOULE, MILLISECONDS_PER_SECOND

if TYPE_CHECKING:
    import argparse  # would cost the root service memory

log = logging.getLogger(__name__)

EVERY_MILLISECONDS: Final = 10 * MILLISECONDS_PER_SECOND
"""docs/guarantees.md P11: nothing is read or served more often than every 10 s."""
MODE: Final = 0o640
"""Root writes the file, the group of the process (veilleuse-rapl in the unit) reads it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: neither the interval nor the resolution can be set."""


def run(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    """Publish until SIGTERM."""
    # Root reads the counters of the machine it runs on: also in a hypervisor's privileged domain or on a
    # container host.
    context = SourceContext(str(settings.paths.sysfs), str(settings.paths.procfs), "none")
    return run_helper(context, settings.paths.rapl_helper, SystemdNotifier())


class RaplHelper:
    """Reads and publishes once a step. A source that cannot be opened yet is tried again at each step."""

    def __init__(self, context: SourceContext, path: Path, now: Callable[[], Instant]) -> None:
        """`context`: roots of the counter files; `path`: the file to publish in."""
        self._source = LinuxRapl(context._replace(helper=""))
        self._path = path
        self._now = now
        self._points: tuple[Point, ...] = ()
        self._not_counted: tuple[tuple[str, str], ...] = ()
        self._successes = self._failures = 0
        self._said = ""

    def step(self) -> None:
        """Read every counter once and replace the file. Raises AgentError when it cannot be written."""
        publication = self._publication()
        try:
            publish(self._path, publication, mode=MODE)
        except OSError as error:
            raise AgentError(
                f"cannot write {self._path}: {error.strerror}; veilleuse-rapl.service creates its folder"
            ) from error

    def _publication(self) -> Publication:
        try:
            if not self._points:
                self._points = self._source.open()
                self._not_counted = self._source.not_counted()
            readings = self._readings()
        except SourceUnavailable as error:
            self._log_once(error.reason)
            outcome = Outcome(self._source.name, error.word, error.reason, error.remedy)
            return Publication((), (), (outcome,))
        except ReadFailed as error:
            self._failures += 1
            self._log_once(str(error))
            return Publication((), self._points, (self._outcome("failed", str(error)),))
        self._successes += 1
        self._log_once("")
        outcomes = (self._outcome("ok"),)
        return Publication(readings, self._points, outcomes, not_counted=self._not_counted)

    def _readings(self) -> tuple[SnapshotReading, ...]:
        made_at = self._now().boottime_milliseconds
        return tuple(
            SnapshotReading(_round_down(reading), made_at, EVERY_MILLISECONDS)
            for reading in self._source.read()
            if isinstance(reading, EnergyCounter)
        )

    def _outcome(self, word: str, reason: str = "") -> Outcome:
        return Outcome(self._source.name, word, reason, "", self._successes, self._failures)

    def _log_once(self, reason: str) -> None:
        """Log each fault once, not every 10 s."""
        if reason and reason != self._said:
            log.warning("energy counters not read", extra={"reason": reason})
        self._said = reason


def run_helper(context: SourceContext, path: Path, manager: ServiceManager) -> int:
    """Publish every 10 s until SIGTERM or SIGINT; return 0.

    Raises AgentError when the file cannot be written.
    """
    clock = SystemClock(context.procfs)
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True
        clock.wake()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    helper = RaplHelper(context, path, clock.now)
    helper.step()
    manager.ready()
    while not stopped:
        clock.sleep(EVERY_MILLISECONDS)
        if not stopped:  # a stop must not cause a reading less than 10 s after the last
            helper.step()
            manager.alive()
    manager.stopping()
    return 0


def _round_down(reading: EnergyCounter) -> EnergyCounter:
    """Round down to the millijoule: differences are off by less than one, and do not drift."""
    whole = reading.energy_microjoules // MICROJOULES_PER_MILLIJOULE * MICROJOULES_PER_MILLIJOULE
    return reading._replace(energy_microjoules=whole)
