# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The polling process, as the measuring process sees it: whether one is wanted, started, watched, ended.

Its standard input is a pipe that nobody writes to: it ends when we do, however we end, because the pipe does. No process
number is compared and no clock is asked, so it works on every system. docs/decisions/0023.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from veilleuse.agent.model import Instant
from veilleuse.agent.platforms import here
from veilleuse.agent.settings import AgentSettings
from veilleuse.agent.sources import SELF_DETECTING, polls
from veilleuse.agent.sources.snapshot import EXIT_NOTHING, PUBLISHED_FILE, Outcome, read_publication
from veilleuse.wire.units import MILLISECONDS_PER_HOUR, MILLISECONDS_PER_MINUTE

log = logging.getLogger(__name__)


_LOOK_MILLISECONDS: Final = MILLISECONDS_PER_MINUTE
"""Between two looks for meters or devices while there are none."""
_FIRST_RETRY_MILLISECONDS: Final = 5_000
_LAST_RETRY_MILLISECONDS: Final = 15 * MILLISECONDS_PER_MINUTE
_STEADY_MILLISECONDS: Final = 15 * MILLISECONDS_PER_MINUTE
"""One that ran so long begins its back-off anew."""
_STOP_SECONDS: Final = 5


def something_to_poll(settings: AgentSettings, devfs: str) -> bool:
    """Whether a meters file or a device that may be polled is there: a few looks at names, nothing is opened."""
    chosen = polls(settings.measure.sources)
    if not chosen:
        return False
    files = (name for source in chosen for name in SELF_DETECTING.get(source, ()))
    return os.path.exists(settings.paths.meters) or any(
        os.path.exists(os.path.join(devfs, name)) for name in files
    )


class Poller:
    """Keeps one polling process running while there is something to poll."""

    def __init__(
        self,
        state: Path,
        config_file: Path | None,
        wanted: Callable[[], bool],
        *,
        command: Sequence[str] | None = None,
    ) -> None:
        """`wanted` is asked while none runs. `command` is the polling process's without its options."""
        self._published = str(state / PUBLISHED_FILE)
        self._wanted = wanted
        self._command = [*(command or (sys.executable, "-P", "-m", "veilleuse.agent", "poll"))]
        if config_file is not None:
            self._command += ["--config", str(config_file)]
        self._command.append("--attached")
        self._child: subprocess.Popen[bytes] | None = None
        self._started = 0  # boot-time, ms
        self._not_before = 0  # boot-time, ms
        self._failures = 0

    @property
    def running(self) -> bool:
        """Whether a polling process runs now."""
        return self._child is not None

    def step(self, now: Instant) -> None:
        """Look after the child, or start one when it is wanted. Called once per tick."""
        if self._child is not None:
            self._watch(self._child, now)
        elif now.boottime_milliseconds >= self._not_before:
            if self._wanted():
                self._start(now)
            else:
                self._not_before = now.boottime_milliseconds + _LOOK_MILLISECONDS

    def stop(self) -> None:
        """End the child; one that cannot be ended, waiting for a driver in the kernel, is left to end with its pipe."""
        child, self._child = self._child, None
        if child is None:
            return
        assert child.stdin is not None
        child.stdin.close()
        here.ask_to_end(child)
        try:
            child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            try:
                child.wait(1)
            except subprocess.TimeoutExpired:
                log.warning("polling process does not end", extra={"pid": child.pid})

    def health(self) -> list[dict[str, Any]]:
        """How each polled source fares, its meters together, as `ControlKey.SOURCES` keeps it. None when nothing is published."""
        try:
            outcomes = read_publication(self._published).outcomes
        except (OSError, ValueError):
            return []
        return health_rows(outcomes)

    def _start(self, now: Instant) -> None:
        try:
            self._child = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, creationflags=here.CHILD_FLAGS
            )
        except OSError as error:
            log.error("polling process not started", extra={"reason": str(error)})
            self._failed(now)
            return
        here.keep_child(self._child)
        self._started = now.boottime_milliseconds
        log.debug("polling process started", extra={"pid": self._child.pid})

    def _watch(self, child: subprocess.Popen[bytes], now: Instant) -> None:
        code = child.poll()
        if code is None:
            return
        self._child = None
        assert child.stdin is not None
        child.stdin.close()
        if code == EXIT_NOTHING:
            log.debug("nothing to poll", extra={"pid": child.pid})
            self._failures = 0
            self._not_before = now.boottime_milliseconds + MILLISECONDS_PER_HOUR
            return
        log.warning("polling process ended", extra={"pid": child.pid, "code": code})
        if now.boottime_milliseconds - self._started >= _STEADY_MILLISECONDS:
            self._failures = 0
        self._failed(now)

    def _failed(self, now: Instant) -> None:
        wait = min(_LAST_RETRY_MILLISECONDS, _FIRST_RETRY_MILLISECONDS << min(self._failures, 10))
        self._failures += 1
        self._not_before = now.boottime_milliseconds + wait


def health_rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One row for each source: the names of meters are nobody's business but this machine's.

    Points are in the row of `polled`, which gives them.
    """
    rows: dict[str, dict[str, Any]] = {}
    for outcome in outcomes:
        name = outcome.name.partition(" ")[0]
        row = rows.setdefault(
            name,
            {"name": name, "successes": 0, "failures": 0, "unavailable": outcome.word, "points": []},
        )
        row["successes"] += outcome.successes
        row["failures"] += outcome.failures
        if outcome.word in ("ok", "failed"):
            row["unavailable"] = None
        row["reason"], row["remedy"] = outcome.reason, outcome.remedy
    return list(rows.values())
