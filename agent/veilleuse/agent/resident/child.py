# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Supervise one child process: start it, watch it, stop it, and wait longer after each failure."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from veilleuse.agent.model import Instant
from veilleuse.agent.platforms import here
from veilleuse.wire.units import MILLISECONDS_PER_MINUTE

log = logging.getLogger(__name__)

FIRST_RETRY_MILLISECONDS: Final = 5_000
_LAST_RETRY_MILLISECONDS: Final = 15 * MILLISECONDS_PER_MINUTE
_STEADY_MILLISECONDS: Final = 15 * MILLISECONDS_PER_MINUTE
"""A child that ran for this long starts its back-off again at the shortest wait."""


class Child:
    """At most one process that runs a command of the agent."""

    def __init__(
        self,
        name: str,
        subcommand: str,
        config_file: Path | None,
        *,
        stop_seconds: int,
        command: Sequence[str] | None = None,
    ) -> None:
        """Take a `name` for the log, and a `command` that replaces `veilleuse-agent SUBCOMMAND`."""
        self._name = name
        self._command = [*(command or (sys.executable, "-P", "-m", "veilleuse.agent", subcommand))]
        if config_file is not None:
            self._command += ["--config", str(config_file)]
        self._stop_seconds = stop_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0  # boot-time, ms
        self._not_before = 0  # boot-time, ms
        self._failures = 0

    @property
    def running(self) -> bool:
        """True from the start of the child until its exit code is taken."""
        return self._process is not None

    def is_waiting(self, now: Instant) -> bool:
        """True while no start is allowed yet."""
        return now.boottime_milliseconds < self._not_before

    def running_milliseconds(self, now: Instant) -> int:
        """Return the time since the last start of the child, in ms."""
        return now.boottime_milliseconds - self._started

    def start(self, now: Instant, *options: str, attached: bool) -> None:
        """Start the child; a program that cannot be started counts as a failure.

        `attached`: it gets a pipe and the option --attached. It ends in order when the pipe is closed, by
        `stop` or by the death of this process.
        """
        self._started = now.boottime_milliseconds
        if attached:
            options = (*options, "--attached")
        try:
            self._process = subprocess.Popen(
                [*self._command, *options],
                stdin=subprocess.PIPE if attached else subprocess.DEVNULL,
                creationflags=here.CHILD_FLAGS,
            )
        except OSError as error:
            log.error("%s not started", self._name, extra={"reason": str(error)})
            self.count_failure(now)
            return
        here.keep_child(self._process)
        log.debug("%s started", self._name, extra={"pid": self._process.pid})

    def take_exit_code(self) -> int | None:
        """Return the exit code once, when the child has ended; None while it runs."""
        process = self._process
        if process is None or (code := process.poll()) is None:
            return None
        self._process = None
        if process.stdin is not None:
            process.stdin.close()
        return code

    def wait(self, now: Instant, milliseconds: int) -> None:
        """Allow no start for this many milliseconds."""
        self._not_before = now.boottime_milliseconds + milliseconds

    def count_success(self, now: Instant, wait_milliseconds: int) -> None:
        """Allow no start for `wait_milliseconds`, and reset the back-off."""
        self._failures = 0
        self.wait(now, wait_milliseconds)

    def count_failure(self, now: Instant) -> None:
        """Allow no start for 5 s, then for twice as long after each failure, at most 15 min."""
        if self.running_milliseconds(now) >= _STEADY_MILLISECONDS:
            self._failures = 0
        self.wait(now, min(_LAST_RETRY_MILLISECONDS, FIRST_RETRY_MILLISECONDS << min(self._failures, 10)))
        self._failures += 1

    def stop(self) -> None:
        """End the child and wait for its exit.

        A child that is blocked in the kernel ignores every signal: it is left running.
        """
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        here.ask_to_end(process)
        try:
            process.wait(self._stop_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            try:
                process.wait(1)
            except subprocess.TimeoutExpired:
                log.warning("%s does not end", self._name, extra={"pid": process.pid})
