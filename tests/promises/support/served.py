# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A real collector with one enrolled machine, and a well-behaved client whose waiting times are measured."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psutil

from tests.support.machines import Machine, hello_request
from tests.support.stack import Stack, get
from tests.support.waiting import PATIENCE_SECONDS

_PAUSE_SECONDS: Final = 0.05


@contextmanager
def served(folder: Path, **settings: str) -> Iterator[tuple[Stack, Machine, psutil.Process]]:
    """Yield `veilleuse serve` on free ports, a machine enrolled with a token, and the collector's process."""
    with Stack(folder, settings) as stack:
        started = stack.start_collector()
        join = folder / "join"
        where_to = ("--entity", "test", "--site", "test", "--population", "server")
        stack.must("veilleuse", "token", "create", *where_to, "--output", str(join))
        machine = Machine(json.loads(join.read_text()))
        machine.enrol()
        yield stack, machine, psutil.Process(started.pid)


def where(stack: Stack, setting: str) -> tuple[str, int]:
    """Return (host, port) of GRPC__ADDRESS, GRPC__ENROLMENT_ADDRESS or HTTP__ADDRESS."""
    host, _, port = stack.environment[f"VEILLEUSE__{setting}"].rpartition(":")
    return host, int(port)


def peak_bytes(pid: int) -> int:
    """Return the largest resident set of a process so far, as its kernel keeps it."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


class Heartbeat:
    """Calls in a thread: Hello on one connection for a Machine, a URL's page. Raises an error at the end."""

    def __init__(self, target: Machine | str) -> None:
        self._target = target
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._error: Exception | None = None
        self.seconds: list[float] = []
        """Duration of each call."""

    @property
    def p99(self) -> float:
        """99th percentile, seconds; infinite when a call failed or none was made."""
        if self._error is not None or not self.seconds:
            return float("inf")
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        try:
            if isinstance(self._target, str):
                self._beat(lambda: get(str(self._target), PATIENCE_SECONDS))
                return
            machine = self._target
            with machine.telemetry() as stub:

                def hello() -> None:
                    request = hello_request()
                    request.instance_id = machine.nonce
                    machine.nonce = stub.Hello(request, timeout=PATIENCE_SECONDS).next_instance_id

                self._beat(hello)
        except Exception as error:  # noqa: BLE001  # for the thread that joins
            self._error = error

    def _beat(self, call: Any) -> None:
        while not self._stop.wait(_PAUSE_SECONDS):
            began = time.perf_counter()
            call()
            self.seconds.append(time.perf_counter() - began)
