# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Starts a poll of the grid's intensity now and then, if that is wanted: a short-lived process, so that nothing waits for it."""

from __future__ import annotations

import logging
import random
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from veilleuse.collector.app.child import leashed
from veilleuse.collector.settings import CollectorSettings, child_environment

log = logging.getLogger(__name__)

FIRST_SECONDS: Final = (10.0, 90.0)
"""Before the first one: a collector that restarts in a loop would else ask each time."""
LONGEST_SECONDS: Final = 15 * 60.0
"""Of one poll, all of it: then it is ended."""
POLL_STOP_SECONDS: Final = 2.0
_SPREAD: Final = 0.1


class Polling:
    """A thread that starts the command at each interval, and waits for its end. What it says is in the log."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        interval_seconds: float,
        first_seconds: float,
        longest_seconds: float = LONGEST_SECONDS,
    ) -> None:
        """Nothing is started yet."""
        self._command = list(command)
        self._environment = dict(environment)
        self._interval = interval_seconds
        self._first = first_seconds
        self._longest = longest_seconds
        self._stop = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        # The thread that starts the child lives as long as the service: a parent-death signal follows the thread.
        self._thread = threading.Thread(target=self._run, name="intensity", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End what runs, and start no more."""
        with self._lock:
            self._stop.set()
            process = self._process
        if process is not None:
            _end(process)
        if self._thread.ident is not None:
            self._thread.join(POLL_STOP_SECONDS)

    def _run(self) -> None:
        wait = self._first
        while not self._stop.wait(wait):
            self._once()
            wait = self._interval * random.uniform(
                1 - _SPREAD, 1 + _SPREAD
            )  # no secret: it spreads collectors

    def _once(self) -> None:
        with self._lock:
            if self._stop.is_set():
                return
            try:
                self._process = subprocess.Popen(
                    self._command, env=self._environment, stdin=subprocess.DEVNULL, process_group=0
                )
            except OSError as error:
                log.error("intensity poll not started", extra={"error": str(error)})
                return
        try:
            code = self._process.wait(self._longest)
        except subprocess.TimeoutExpired:
            _end(self._process)
            log.warning("intensity poll ended, it took too long", extra={"seconds": self._longest})
            return
        if code and not self._stop.is_set():
            log.warning("intensity poll failed", extra={"exit_code": code})


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(POLL_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL_STOP_SECONDS)


@contextmanager
def polling(settings: CollectorSettings) -> Iterator[None]:
    """While the block runs; nothing at all unless a connector is on."""
    if not settings.intensity.polled:
        yield
        return
    found = Polling(
        leashed("veilleuse.collector.grid"),
        child_environment(settings),
        settings.intensity.poll_minutes * 60.0,
        random.uniform(*FIRST_SECONDS),
    )
    found.start()
    try:
        yield
    finally:
        found.stop()
