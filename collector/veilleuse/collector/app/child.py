# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Supervises a child process, and binds it to the collector.

The web pages and the gateway run in one, so that they never delay an acknowledgement. As `python -m
veilleuse.collector.app.child PID MODULE …`, this module runs a module that dies with its parent PID. A
collector that is killed must not leave its web process on the port: the next start would find it in use.

Only the standard library is imported here: the child then runs any module.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

BACKOFF_SECONDS: Final = (0.5, 1.0, 2.0, 5.0, 15.0, 60.0)
"""Waits before successive restarts; the last one repeats."""
STABLE_SECONDS: Final = 60.0
"""A child that lived this long resets the waits."""
STOP_SECONDS: Final = 2.0
CHECK_SECONDS: Final = 0.2
"""Interval between two checks for a stop of the service."""
_PR_SET_PDEATHSIG: Final = 1
"""Source: linux/prctl.h. The signal comes when the *thread* that started us ends.

The thread of Supervisor lasts as long as the service.
"""


def leashed_command(module: str, *arguments: str) -> list[str]:
    """Return the command for a module of ours that ends with this process, however this process ends."""
    return [sys.executable, "-m", "veilleuse.collector.app.child", str(os.getpid()), module, *arguments]


class ChildKilled(OSError):
    """A signal ended a command; `facts` says which, during which step of what, with how much memory."""

    def __init__(self, number: int, output: bytes, memory_bytes: int) -> None:
        """Take the signal's number, the lines of `tell_step`, and the most memory that was seen in use."""
        step, at = "starting", "–"
        for line in output.splitlines():
            with suppress(ValueError, TypeError, KeyError):
                step, at = json.loads(line)[_STEP]
        name = signal.Signals(number).name
        self.facts = {"signal": name, "step": step, "at": at, "memory_bytes": memory_bytes}
        mebibytes = f"{memory_bytes / 2**20:.0f} MiB"
        where = f"{step} {at}".replace("_", " ")
        super().__init__(f"its process was ended by {name} during '{where}', with {mebibytes} of memory")


_STEP: Final = "step"


def tell_step(step: str, at: str) -> None:
    """Tell the parent what this process begins, and of which month or year, as a line of its output."""
    print(json.dumps({_STEP: [step, at]}), flush=True)  # noqa: T201  # the parent reads it


def run_command(
    command: Sequence[str], environment: Mapping[str, str], stop: threading.Event, longest_seconds: float
) -> bytes:
    """Return the last line of a command's output, unless `stop` is set; `tell_step` writes lines before it.

    Raises OSError when the command cannot start, fails, is stopped or takes too long. It has then ended.
    """
    until, memory_bytes = time.monotonic() + longest_seconds, 0
    with subprocess.Popen(
        command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, process_group=0
    ) as process:
        try:
            while not stop.is_set() and time.monotonic() < until:
                memory_bytes = max(memory_bytes, _peak_bytes(process.pid))
                with suppress(subprocess.TimeoutExpired):
                    output, _ = process.communicate(timeout=CHECK_SECONDS)
                    if process.returncode < 0:
                        raise ChildKilled(-process.returncode, output, memory_bytes)
                    if process.returncode:
                        raise OSError(
                            f"its process ended with code {process.returncode}: its line in the log says why"
                        )
                    return output.splitlines()[-1] if output else b""
            raise OSError("it was stopped" if stop.is_set() else f"it took more than {longest_seconds:g} s")
        finally:
            process.kill()


def _peak_bytes(pid: int) -> int:
    """Return the most memory that a process has had resident; 0 where the system does not tell."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    return 0


class Supervisor(ABC):
    """Starts a command in a thread, and ends it with this process."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Take the command; nothing is started yet."""
        self._name = name
        self._command = list(command)
        self._environment = dict(environment)
        self._stop = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        # The thread that starts the child lives as long as the service: a parent-death signal follows the
        # thread.
        self._thread = threading.Thread(target=self._supervise, name=name, daemon=True)

    @abstractmethod
    def _supervise(self) -> None:
        """Run the command, as often as needed, until `_stop` is set."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the child, and start no more: SIGTERM, and SIGKILL after 2 s."""
        with self._lock:
            self._stop.set()
            process = self._process
        if process is not None:
            end(process)
        if self._thread.ident is not None:
            self._thread.join(STOP_SECONDS)

    def _start_child(self) -> subprocess.Popen[bytes] | None:
        """Return the started child; None after `stop`. Raises OSError when it cannot start."""
        with self._lock:
            if not self._stop.is_set():
                # Ctrl-C is for this process, which ends the child in its own order
                self._process = subprocess.Popen(
                    self._command, env=self._environment, stdin=subprocess.DEVNULL, process_group=0
                )
            return None if self._stop.is_set() else self._process


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process: SIGTERM, and SIGKILL after 2 s."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)


class Child(Supervisor):
    """Starts a command, restarts it with growing waits when it dies, and ends it with this process."""

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def _supervise(self) -> None:
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
        """Run the child to its end and return its exit code; None when it could not be started."""
        try:
            process = self._start_child()
        except OSError as error:
            log.error("child process not started", extra={"child": self._name, "error": str(error)})
            return None
        return None if process is None else process.wait()


def main() -> None:
    """Bind this process to its parent, then run the module."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    # Linux only; elsewhere the service manager ends the group
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:  # the parent died before the call
        sys.exit(1)
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
