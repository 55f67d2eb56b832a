# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Starts, watches and ends the polling process for the measuring process.

The child's standard input is a pipe that nobody writes to. When this process ends, for any reason, the pipe
closes and the child ends. No process number or clock is compared, so it works on every system.
docs/decisions/0023.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from veilleuse.agent.model import Instant
from veilleuse.agent.resident.child import Child
from veilleuse.agent.settings import AgentSettings
from veilleuse.agent.sources import SELF_DETECTING, polls
from veilleuse.agent.sources.snapshot import EXIT_NOTHING, PUBLISHED_FILE, Outcome, read_publication
from veilleuse.wire.units import MILLISECONDS_PER_HOUR, MILLISECONDS_PER_MINUTE

log = logging.getLogger(__name__)

_CHECK_MILLISECONDS: Final = MILLISECONDS_PER_MINUTE
"""Time between two checks for meters or devices while there are none, in ms."""
_STOP_SECONDS: Final = 5


def something_to_poll(settings: AgentSettings, devfs: str) -> bool:
    """Tell whether a meters file or a device to poll exists.

    Only file names are checked, nothing is opened.
    """
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
        """Take `wanted`, called while no process runs, and the process's `command` without its options."""
        self._published = str(state / PUBLISHED_FILE)
        self._wanted = wanted
        self._child = Child(
            "polling process",
            "poll",
            config_file,
            stop_seconds=_STOP_SECONDS,
            command=command,
        )

    @property
    def running(self) -> bool:
        """True while a polling process runs."""
        return self._child.running

    def step(self, now: Instant) -> None:
        """Watch the child, or start one when it is wanted. Called once per tick."""
        if self._child.running:
            self._watch(now)
        elif not self._child.is_waiting(now):
            if self._wanted():
                self._child.start(now, attached=True)
            else:
                self._child.wait(now, _CHECK_MILLISECONDS)

    def stop(self) -> None:
        """End the child."""
        self._child.stop()

    def health(self) -> list[dict[str, Any]]:
        """Return the outcomes of each polled source, its meters summed, for `ControlKey.SOURCES`.

        Empty when nothing is published.
        """
        try:
            outcomes = read_publication(self._published).outcomes
        except (OSError, ValueError):
            return []
        return health_rows(outcomes)

    def _watch(self, now: Instant) -> None:
        code = self._child.take_exit_code()
        if code is None:
            return
        if code == EXIT_NOTHING:
            log.debug("nothing to poll")
            self._child.count_success(now, MILLISECONDS_PER_HOUR)
            return
        log.warning("polling process ended", extra={"code": code})
        self._child.count_failure(now)


def health_rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Return one row for each source, without the names of meters: they are private to this machine.

    The points are in the row of `polled`, the source that gives them.
    """
    rows: dict[str, dict[str, Any]] = {}
    for outcome in outcomes:
        name = outcome.name.partition(" ")[0]
        row = rows.setdefault(
            name,
            {"name": name, "successes": 0, "failures": 0, "unavailable": outcome.word},
        )
        row["successes"] += outcome.successes
        row["failures"] += outcome.failures
        if outcome.word in ("ok", "failed"):
            row["unavailable"] = None
        row["reason"], row["remedy"] = outcome.reason, outcome.remedy
    return list(rows.values())
