# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""S9: slow readers block nobody, not even clients of the same address, as behind a reverse proxy."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Self

import psutil
import pytest

from tests.promises.support.served import served, where
from tests.support.waiting import PATIENCE_SECONDS, comes, until

READERS = 300
TURNS, ROUNDS_A_TURN = 20, 8
"""Seconds of the attack, and how often good clients ask for each path in one."""
READ_SECONDS = 1.0
REQUESTS_EACH = 40
"""Requests sent one after another: their answers exceed the kernel's buffers."""
PATHS = ("/metrics", "/", "/healthz", "/api")
GROWTH_BYTES = 64 * 1024 * 1024
MOST_LEFT = 4
"""Descriptors."""


class Reader:
    """A connection that asks for much and reads little."""

    def __init__(self, address: tuple[str, int], number: int, *, bytes_a_second: int, whole: bool) -> None:
        """`whole`: it sends whole requests; otherwise half of one."""
        self._bytes = bytes_a_second
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self._socket.settimeout(PATIENCE_SECONDS)
        self._socket.connect(address)
        self._socket.setblocking(False)
        request = f"GET {PATHS[number % len(PATHS)]} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        with contextlib.suppress(OSError):
            self._socket.send(request * REQUESTS_EACH if whole else request[:30])

    def read(self) -> None:
        """Read the bytes of one second."""
        with contextlib.suppress(OSError):
            if self._bytes:
                self._socket.recv(self._bytes)

    def close(self) -> None:
        self._socket.close()


class Readers:
    """300 readers of a kind at any time; each is replaced after 10 s."""

    def __init__(self, make: Callable[[int], Reader]) -> None:
        self._make = make
        self.turns = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(PATIENCE_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait_for_turn(self, number: int) -> None:
        """Return once the readers have read more often than so many times."""
        until(lambda: self.turns > number, "the readers stand still")

    def _run(self) -> None:
        readers = [self._make(number) for number in range(READERS)]
        self._ready.set()
        while not self._stop.wait(READ_SECONDS):
            for reader in readers:
                reader.read()
            self.turns += 1
            for number in range(self.turns % 10, READERS, 10):
                readers[number].close()
                with contextlib.suppress(OSError):
                    readers[number] = self._make(number)
        for reader in readers:
            reader.close()


def asked(address: tuple[str, int], path: str) -> tuple[int, float]:
    """Return (status of an answer read whole, or 0; seconds)."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        status = answer.status
    except (OSError, http.client.HTTPException):
        status = 0
    finally:
        connection.close()
    return status, time.perf_counter() - began


@pytest.mark.promise("S9")
@pytest.mark.parametrize(
    ("name", "bytes_a_second", "whole"),
    [
        ("that read nothing", 0, True),
        pytest.param("of 1 byte/s", 1, True, marks=pytest.mark.long),
        pytest.param("with half a request", 0, False, marks=pytest.mark.long),
    ],
)
def test_slow_readers_lock_nobody_out(
    tmp_path: Path,
    name: str,
    bytes_a_second: int,
    whole: bool,
    figure: Callable[[str], None],
    time_bound: Callable[[float, float, str], None],
) -> None:
    """300 readers from the address of a reverse proxy, on four paths for 20 s, delay no good client over 1 s.

    Memory stays bounded, and no descriptor is left.
    """
    with served(tmp_path) as (stack, _, process):
        address = where(stack, "HTTP__ADDRESS")
        with ThreadPoolExecutor(24) as at_once:
            assert {status for status, _ in at_once.map(partial(asked, address), PATHS * 120)} == {200}
        web = next(
            child
            for child in process.children(recursive=True)
            if "veilleuse.collector.web" in child.cmdline()
        )
        descriptors, resident = _descriptors(web), web.memory_info().rss
        answers: list[tuple[int, float]] = []
        most = 0
        with Readers(
            lambda number: Reader(address, number, bytes_a_second=bytes_a_second, whole=whole)
        ) as readers:
            for turn in range(TURNS):
                for _ in range(ROUNDS_A_TURN):
                    answers += [asked(address, path) for path in PATHS]
                    most = max(most, web.memory_info().rss - resident)
                readers.wait_for_turn(turn)
        comes(lambda: _descriptors(web) <= descriptors + MOST_LEFT)
        left = _descriptors(web) - descriptors
        refused = sum(status != 200 for status, _ in answers)
        p99 = sorted(seconds for _, seconds in answers)[int(len(answers) * 0.99)]
        figure(
            f"{refused} of {len(answers):,} legitimate requests refused beside {READERS} readers {name}, p99 "
            f"{p99 * 1000:.0f} ms, {most / 1024**2:+.0f} MiB, {left:+d} descriptors"
        )
        assert refused == 0
        time_bound(p99, 1.0, "p99")
        assert most < GROWTH_BYTES
        assert left <= MOST_LEFT


def _descriptors(web: psutil.Process) -> int:
    """Return how many are open, without those of the database.

    SQLite keeps these of closed connections for the next ones. A connection that is left counts by its WAL.
    """
    return web.num_fds() - sum(Path(file.path).name == "data.db" for file in web.open_files())
