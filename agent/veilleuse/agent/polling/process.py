# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Composition root of the polling process: meters, detected sources, snapshot. docs/decisions/0023.

Each source has its own thread: a BMC may take seconds, and an unplugged plug never answers. The resident
process starts this one only where there is something to poll, and reads its snapshot (sources/polled.py).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Final

from veilleuse.agent.errors import ConfigurationError, SourceUnavailable
from veilleuse.agent.host.machine import detect_here
from veilleuse.agent.platforms import SystemClock, here
from veilleuse.agent.platforms.locks import POLL_LOCK, ProcessLock
from veilleuse.agent.polling.worker import OWN_TIMEOUT_SECONDS, Job, SourceStatus, Worker
from veilleuse.agent.ports import MeterSpec, Source, SourceContext
from veilleuse.agent.settings import AgentSettings
from veilleuse.agent.sources import CONTROLLER, CONTROLLERS, SELF_DETECTING, polled_factory, polls
from veilleuse.agent.sources.meters_file import read_meters
from veilleuse.agent.sources.snapshot import EXIT_NOTHING, PUBLISHED_FILE, Outcome, Publication, publish
from veilleuse.wire.process import call_at_input_end
from veilleuse.wire.vocabulary import POLLED_SOURCES

log = logging.getLogger(__name__)

GATHER_SECONDS: Final = 0.5
"""Readings that end within this time of each other are published together.

All sources read at the same moments.
"""
BEGINNING_MILLISECONDS: Final = 1_000
LOOK_MILLISECONDS: Final = 15_000
"""Check for hung threads this often when nothing changed."""
FIRST_ROUND_SECONDS: Final = 20.0
"""Longest wait for the first turn of all sources before publishing.

Points that are only late would look new.
"""
_STACK_BYTES: Final = 512 * 1024
_HERE: Final = {"ok", "failed"}


def poll(settings: AgentSettings, *, attached: bool) -> int:
    """Poll and publish until asked to stop, or with `attached` until standard input ends.

    Our parent keeps standard input open while it lives. Returns 0, or EXIT_NOTHING when this machine has
    nothing to poll. Raises ConfigurationError or AgentError.
    """
    state = settings.paths.state
    with ProcessLock(state, POLL_LOCK, what="veilleuse-agent poll"):
        clock = SystemClock(str(settings.paths.procfs))
        published = state / PUBLISHED_FILE
        try:
            jobs = jobs_of(settings)
        except ConfigurationError as error:
            outcome = Outcome("meters", "failed", str(error))
            publish(published, Publication((), (), (outcome,), clock.boot_id()))
            raise
        threading.stack_size(_STACK_BYTES)
        polling = PollingProcess(jobs, published, clock)
        here.on_stop(polling.stop)
        if attached:
            call_at_input_end(polling.stop)
        return polling.run()


class PollingProcess:
    """Runs the workers and publishes their snapshot."""

    def __init__(self, jobs: Iterable[Job], published: Path, clock: SystemClock) -> None:
        self._stopped = False
        self._published = published
        self._clock = clock
        self._boot_id = clock.boot_id()
        self._workers = tuple(Worker(job, clock.wake) for job in jobs)
        self._last: Publication | None = None
        self._failing = False

    def run(self) -> int:
        """Run until stopped.

        Return EXIT_NOTHING as soon as every source reported that it is not on this machine.
        """
        for worker in self._workers:
            worker.start()
        first_round = time.monotonic() + FIRST_ROUND_SECONDS
        nothing = not self._workers
        while not (self._stopped or nothing):
            self._clock.sleep(LOOK_MILLISECONDS if self._last is not None else BEGINNING_MILLISECONDS)
            time.sleep(GATHER_SECONDS)
            tried = all(worker.has_tried for worker in self._workers)
            if tried or time.monotonic() >= first_round:
                seen = self._publish()
                nothing = tried and all(one.outcome.word not in _HERE for one in seen)
        for worker in self._workers:
            worker.stop()
        if nothing:
            log.info("nothing to poll on this machine")
        return EXIT_NOTHING if nothing else 0

    def stop(self) -> None:
        """End `run` soon; callable from a thread or a signal handler."""
        self._stopped = True
        self._clock.wake()

    def _publish(self) -> tuple[SourceStatus, ...]:
        seen = tuple(worker.status() for worker in self._workers)
        publication = compose(seen, self._boot_id)
        if publication == self._last:
            return seen
        try:
            publish(self._published, publication)
        except OSError as error:
            if not self._failing:
                log.warning("cannot publish", extra={"reason": f"{self._published}: {error.strerror}"})
            self._failing = True
            return seen
        self._last, self._failing = publication, False
        return seen


def compose(seen: Iterable[SourceStatus], boot_id: str) -> Publication:
    """Combine the status of all sources.

    A point that two sources offer belongs to the first: no double counting.
    """
    owner: dict[object, str] = {}
    outcomes: list[Outcome] = []
    readings = []
    for one in seen:
        taken = [point for point in one.points if owner.setdefault(point, one.job.name) != one.job.name]
        outcome = one.outcome
        if taken:
            reason = f"it offers {taken[0].domain}, as {owner[taken[0]]} does already"
            outcome = outcome._replace(
                word="failed", reason=reason, remedy="give the meters names of their own"
            )
        outcomes.append(outcome)
        readings += [each for each in one.readings if getattr(each.reading, "point", None) not in taken]
    points = tuple(dict.fromkeys(point for one in seen for point in one.points))
    return Publication(tuple(readings), points, tuple(outcomes), boot_id)


def poll_once(settings: AgentSettings, seconds: float = 60.0) -> tuple[SourceStatus, ...]:
    """Try all sources of this machine once, in parallel, for at most `seconds`. Raises ConfigurationError."""
    workers = tuple(Worker(job) for job in jobs_of(settings))
    threads = [threading.Thread(target=worker.attempt, daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    for worker, thread in zip(workers, threads, strict=True):
        end = began + min(seconds, 2 * worker.job.timeout_seconds + 0.5)
        thread.join(max(0.0, end - time.monotonic()))
    seen = tuple(worker.status() for worker in workers)
    for worker, thread in zip(workers, threads, strict=True):
        if not thread.is_alive():
            worker.close()
    return seen


def jobs_of(settings: AgentSettings) -> tuple[Job, ...]:
    """List the self-detecting sources and the configured meters that measure.sources allows.

    Raises ConfigurationError.
    """
    chosen = polls(settings.measure.sources)
    if not chosen:
        return ()
    sysfs, procfs = str(settings.paths.sysfs), str(settings.paths.procfs)
    machine = detect_here(sysfs, procfs, device_class=settings.measure.device_class)
    context = SourceContext(sysfs, procfs, machine.virtualisation)
    meters = [
        meter
        for meter in read_meters(settings.paths.meters, options_of)
        if meter.source in chosen
        or (meter.source not in POLLED_SOURCES and set(chosen) == set(POLLED_SOURCES))
    ]
    configured = _own_controller(settings.paths.meters, meters)
    own = [
        Job(name, name, "", partial(_create_source, name, context), 0, OWN_TIMEOUT_SECONDS)
        for name in chosen
        if name in SELF_DETECTING and not (configured and name == CONTROLLER)
    ]
    return (*own, *(_meter_job(context, meter) for meter in meters))


def _own_controller(path: Path, meters: Iterable[MeterSpec]) -> bool:
    """Return True when the meters file names this machine's controller; no controller is then searched for.

    The entry is preferred to a detected controller: its address, ceiling and subject (machine or enclosure)
    were chosen. Raises ConfigurationError when two entries read the device of this machine.
    """
    local = [meter.meter for meter in meters if meter.source == CONTROLLER and not meter.address]
    if len(local) > 1:
        raise ConfigurationError(
            f"{path} has {len(local)} meters of this machine's own controller ({', '.join(local)}): keep one "
            "of them"
        )
    return bool(local) or any(meter.source in CONTROLLERS and meter.subject == "machine" for meter in meters)


def options_of(source: str) -> dict[str, type] | None:
    """Return the own keys of a source in the meters file; None when its library is missing.

    Raises ConfigurationError on an unknown source.
    """
    try:
        return dict(getattr(polled_factory(source), "OPTIONS", {}))
    except SourceUnavailable:
        return None


def _meter_job(context: SourceContext, meter: MeterSpec) -> Job:
    make = partial(_create_source, meter.source, context._replace(meter=meter))
    name = f"{meter.source} {meter.meter}"
    return Job(name, meter.source, meter.meter, make, meter.every_seconds, meter.timeout_seconds)


def _create_source(name: str, context: SourceContext) -> Source:
    return polled_factory(name)(context)
