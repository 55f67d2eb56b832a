# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test what stays broken for weeks, such as a removed meter or a foreign folder: it must cost little."""

from __future__ import annotations

import gc
import os
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.clock import unix_seconds
from tests.support.fakes.measuring import FakeClock
from tests.support.fakes.polled import ScriptedSource, job
from tests.support.records import count_pending
from veilleuse.agent.errors import ReadFailed, SpoolFull
from veilleuse.agent.platforms import here
from veilleuse.agent.polling.worker import PATIENT_ATTEMPTS, Worker
from veilleuse.agent.resident.sender_child import Contacts
from veilleuse.agent.sources.http_json import Endpoint, Exchange
from veilleuse.agent.sources.nut_ups import NutConnection
from veilleuse.agent.spool.database import Bounds
from veilleuse.agent.spool.recovery import open_spool
from veilleuse.wire.vocabulary import Population


def test_a_device_that_stays_away_is_asked_ever_more_rarely():
    """A removed plug is tried ever more rarely, since 4,000 tries a day cost up to 60 ms of CPU time each."""
    source = ScriptedSource()
    source.opening = ReadFailed("no route")
    worker = Worker(job(source))
    waits = []
    for _ in range(PATIENT_ATTEMPTS + 8):
        worker.attempt()
        waits.append(worker.wait_seconds(unix_seconds()))
    assert waits[:PATIENT_ATTEMPTS] == [10] * PATIENT_ATTEMPTS
    assert waits[PATIENT_ATTEMPTS:] == [20, 40, 80, 160, 300, 300, 300, 300]
    source.opening = None
    worker.attempt()
    assert worker.wait_seconds(unix_seconds()) <= 12, "once it is there, at its interval again"


def refusals() -> int:
    """Return the number of such errors in memory."""
    return sum(isinstance(one, ConnectionRefusedError) for one in gc.get_objects())


def _by_http() -> None:
    with Exchange(Endpoint("127.0.0.1", 9), 1.0) as exchange:
        exchange.get("/")


def _by_nut() -> None:
    NutConnection("127.0.0.1", 9, 1.0)


@pytest.mark.parametrize("reach", [_by_http, _by_nut])
def test_what_cannot_be_reached_leaves_nothing_behind(reach: Callable[[], None]) -> None:
    """An error that refers to itself would keep its TLS context (0.7 MB) until a garbage collection."""
    gc.collect()
    before = refusals()  # errors that other tests keep
    gc.disable()
    try:
        for _ in range(3):
            with pytest.raises((ReadFailed, OSError)):
                reach()
        left = refusals()
    finally:
        gc.enable()
    assert left <= before


def test_a_folder_that_is_not_ours_does_not_end_the_measuring(tmp_path, monkeypatch):
    """Files that may not be read count as no enrolment and no copy, and raise nothing."""

    def refused(path: object, *_: object, **__: object) -> os.stat_result:
        if str(path).endswith((".pem", ".json", "copied")):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path)  # type: ignore[arg-type]

    stat, clock = os.stat, FakeClock()
    contacts = Contacts(tmp_path, None, 0, join_file=Path("/root/join.json"), command=["false"])
    with closing(open_spool(tmp_path / "spool.db", Bounds(1 << 26, 0), clock.unix)) as spool:
        monkeypatch.setattr(os, "stat", refused)
        assert contacts.step(clock.now(), clock.unix, spool, Population.SERVER, 300_000) is False
    assert not contacts.copy_found
    assert not contacts.running


class Stuck:
    """Replaces a child blocked in the kernel, which no signal ends."""

    pid = 4_711
    stdin = None

    def __init__(self) -> None:
        self.waits: list[float | None] = []

    def poll(self) -> None:
        return None

    def terminate(self) -> None:
        """Ignore the signal."""

    kill = terminate

    def wait(self, timeout: float | None = None) -> int:
        self.waits.append(timeout)
        if timeout is None:
            raise AssertionError("the measuring process would wait for ever")
        raise subprocess.TimeoutExpired("send", timeout)


def test_a_sender_that_nothing_ends_does_not_hold_up_the_measuring(tmp_path, caplog):
    """The sender is left after 11 s at most, and logged; its lock still prevents a second sender."""
    contacts, child = Contacts(tmp_path, None, 0), Stuck()
    contacts._child._process = child  # type: ignore[assignment]  # what Popen would have given
    contacts.stop()
    assert not contacts.running
    assert sum(wait or 0 for wait in child.waits) <= 11
    assert "does not end" in caplog.text


def test_a_disk_that_does_not_tell_its_room_keeps_the_rows_with_the_caller(tmp_path, monkeypatch):
    """A failing statvfs raises SpoolFull, so that the resident keeps the row."""
    row = '{"gap":"spool_cap","spans":[],"records":1}'

    def failing(folder: Path) -> tuple[int, int]:
        raise OSError(5, "Input/output error", str(folder))

    with closing(open_spool(tmp_path / "spool.db", Bounds(1 << 26, 0), 0)) as spool:
        with monkeypatch.context() as patched:
            patched.setattr(here, "disk_room", failing)
            with pytest.raises(SpoolFull, match="Input/output error"):
                spool.append([row], {})
        spool.append([row], {})
        assert count_pending(spool) == 1
