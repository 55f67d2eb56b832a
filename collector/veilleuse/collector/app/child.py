# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A child process kept alive: the pages and the door, apart so that neither ever delays an acknowledgement."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

log = logging.getLogger(__name__)

BACKOFF_SECONDS: Final = (0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
"""Wait before each restart in a row; the last one from then on."""
STABLE_SECONDS: Final = 60.0
"""A child that lived this long starts the row again."""
STOP_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 0.2
"""How often it is looked whether the service stops."""


def leashed(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours, which ends with this process whatever ends it."""
    return [sys.executable, "-m", "veilleuse.collector.app.leash", str(os.getpid()), module, *arguments]


def output_of(
    command: Sequence[str], environment: Mapping[str, str], stop: threading.Event, longest_seconds: float
) -> bytes:
    """What a command writes until its end, while `stop` is not set. Raises OSError when it cannot be started, fails, is stopped or takes
    too long; it runs no more then.
    """
    process = subprocess.Popen(
        command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, process_group=0
    )
    until = time.monotonic() + longest_seconds
    try:
        while not stop.is_set() and time.monotonic() < until:
            with suppress(subprocess.TimeoutExpired):
                output, _ = process.communicate(timeout=LOOK_SECONDS)
                if process.returncode:
                    raise OSError(f"its process ended with code {process.returncode}: the log says why")
                return output
        raise OSError("it was stopped" if stop.is_set() else f"it took more than {longest_seconds:g} s")
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


class Child:
    """Starts a command, restarts it with growing delays when it dies, ends it with us."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
    ) -> None:
        """Nothing is started yet."""
        self._name = name
        self._command = list(command)
        self._environment = dict(environment)
        self._stop = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        # The thread that starts the child lives as long as the service: a parent-death signal follows the thread.
        self._thread = threading.Thread(target=self._watch, name=name, daemon=True)

    def start(self) -> None:
        """Start it and watch over it."""
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def stop(self) -> None:
        """End it: SIGTERM, and SIGKILL after 2 s."""
        with self._lock:
            self._stop.set()
            process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        if self._thread.ident is not None:
            self._thread.join(STOP_SECONDS)

    def _watch(self) -> None:
        failures = 0
        while not self._stop.is_set():
            began = time.monotonic()
            code = self._run_once()
            if self._stop.is_set():
                return
            failures = 0 if time.monotonic() - began > STABLE_SECONDS else failures
            delay_seconds = BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)]
            failures += 1
            log.error(
                "child process ended, will restart",
                extra={"child": self._name, "exit_code": code, "delay_seconds": delay_seconds},
            )
            self._stop.wait(delay_seconds)

    def _run_once(self) -> int | None:
        """Run it to its end; its exit code, None when it could not be started."""
        with self._lock:
            if self._stop.is_set():
                return None
            try:
                self._process = subprocess.Popen(
                    self._command,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    process_group=0,  # Ctrl-C is for us; we end it in our own order
                )
            except OSError as error:
                log.error("child process not started", extra={"child": self._name, "error": str(error)})
                return None
        return self._process.wait()
