# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Runs one program with fixed arguments, without a shell, for a bounded time and a bounded output.

The program gets its own session, so that it is killed with all its children. The kernel may not let a process
end: one that waits for a hung management controller cannot be killed. Such a process is remembered, and no
second one is started beside it.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Final, NamedTuple

from veilleuse.agent.errors import ReadFailed

LARGEST_OUTPUT_BYTES: Final = 64 * 1024
_GRACE_SECONDS: Final = 0.2
_PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"


class ProgramResult(NamedTuple):
    """Exit status and output of a program."""

    status: int
    output: str
    errors: str


class Program:
    """Runs one program at a time."""

    def __init__(self) -> None:
        self._stuck: subprocess.Popen[bytes] | None = None

    def run(self, arguments: Sequence[str], environment: Mapping[str, str], seconds: float) -> ProgramResult:
        """Start the program and wait.

        Raises ReadFailed when it cannot be started, takes too long or prints too much.
        """
        name = os.path.basename(arguments[0])
        if self._stuck is not None:
            if self._stuck.poll() is None:
                raise ReadFailed(f"the {name} started before cannot be killed: no other one is started")
            self._stuck = None
        try:
            started = subprocess.Popen(
                list(arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"PATH": _PATH, "LC_ALL": "C", **environment},
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise ReadFailed(f"cannot start {arguments[0]}: {error.strerror or error}") from error
        try:
            return self._collect_output(started, name, time.monotonic() + seconds, seconds)
        except BaseException:
            self._kill(started)
            raise
        finally:
            for pipe in (started.stdout, started.stderr):
                if pipe is not None:
                    pipe.close()

    def _collect_output(
        self, started: subprocess.Popen[bytes], name: str, deadline: float, seconds: float
    ) -> ProgramResult:
        assert started.stdout is not None  # both are pipes
        assert started.stderr is not None
        outputs: dict[IO[bytes], bytearray] = {started.stdout: bytearray(), started.stderr: bytearray()}
        with selectors.DefaultSelector() as selector:
            for pipe in outputs:
                selector.register(pipe, selectors.EVENT_READ)
            while selector.get_map():
                left = deadline - time.monotonic()
                ready = selector.select(left) if left > 0 else []
                if not ready and time.monotonic() >= deadline:
                    raise ReadFailed(f"{name} has not ended within {seconds:g} s")
                for key, _ in ready:
                    part = os.read(key.fd, 8192)
                    outputs[key.fileobj] += part  # type: ignore[index]
                    if not part:
                        selector.unregister(key.fileobj)
                if sum(map(len, outputs.values())) > LARGEST_OUTPUT_BYTES:
                    raise ReadFailed(f"{name} prints more than {LARGEST_OUTPUT_BYTES} bytes")
        try:  # raises before the process's number is free again
            status = started.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired as error:
            raise ReadFailed(f"{name} has not ended within {seconds:g} s") from error
        output, errors = (bytes(text).decode("utf-8", "replace") for text in outputs.values())
        return ProgramResult(status, output, errors)

    def _kill(self, started: subprocess.Popen[bytes]) -> None:
        """Kill the program and all its children, or remember it.

        Not waited for before the kill, so that the process number is still the program's.
        """
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        try:
            started.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._stuck = started
