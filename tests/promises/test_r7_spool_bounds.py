# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R7: the disk space that an agent takes, on a real file system that is full: a tmpfs of 40 MiB."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.promises.support.disks import fill, free_bytes, tmpfs
from tests.promises.support.killed_agent import KilledAgent, held
from tests.promises.support.steps import whole_step
from tests.support import clock
from tests.support.fakes.agent import record
from tests.support.fakes.metered import Metered
from tests.support.records import clock_record, count_pending
from tests.support.stack import Stack
from tests.support.waiting import PATIENCE_SECONDS
from veilleuse.agent.model import Gap, Record, body_from_json
from veilleuse.agent.sending.encode import WireEncoder
from veilleuse.agent.settings import Spool
from veilleuse.agent.spool.database import DISK_SHARE, FILE_NAME, Bounds, connect
from veilleuse.agent.spool.outbox import Outbox, Ring
from veilleuse.agent.spool.recovery import open_spool

MIB = 1024 * 1024
DISK = 40 * MIB
BOUND = 8 * MIB


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a file system of its own."""
    with tmpfs(tmp_path / "disk", DISK // MIB) as where:
        yield where


class Watch:
    """Notes the largest total size of the spool's files."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self.most = 0

    def look(self, *_: object) -> int:
        """Measure, as an SQLite progress handler: in the middle of a transaction too."""
        size = 0
        for path in self._state.glob(f"{FILE_NAME}*"):
            with suppress(FileNotFoundError):
                size += path.stat().st_size
        self.most = max(self.most, size)
        return 0


def accounted(state: Path) -> int:
    """Count the spool's records, and those that a gap replaces; a gap must be the oldest row."""
    with closing(connect(state / FILE_NAME)) as db:
        bodies = [body_from_json(row[0]) for row in db.execute("SELECT body FROM pending ORDER BY id")]
        (numbered,) = db.execute("SELECT count(*) FROM outbox").fetchone()
    gaps = [body for body in bodies if isinstance(body, Gap)]
    assert len(gaps) <= 1
    assert not gaps or bodies[0] is gaps[0]
    assert not gaps or sum(lost for _, lost in gaps[0].spans) == gaps[0].records * 60_000
    return int(numbered) + sum(isinstance(body, Record) for body in bodies) + sum(gap.records for gap in gaps)


@pytest.mark.promise("R7")
def test_all_files_together_stay_below_the_bound(tmp_path, figure):
    """Journal, ring, quarantine and a damaged file sum to at most 8 MiB; produced = kept + declared gap."""
    path, bounds = tmp_path / FILE_NAME, Bounds(BOUND, 0)
    watch, made = Watch(tmp_path), 0
    path.write_bytes(b"damaged" * 300_000)
    ring = Ring(max_bytes=bounds.ring_bytes, quarantine_bytes=bounds.quarantine_bytes)
    with closing(open_spool(path, bounds, 1)) as spool, closing(connect(path)) as db:
        outbox = Outbox(db, path, WireEncoder(), ring)
        for connection in (db, spool._connection):
            connection.set_progress_handler(watch.look, 5_000)
        delivered = 0
        for round_number in range(20):
            spool.append([record(made + n).to_json() for n in range(2_500)], {})
            made += 2_500
            watch.look()
            if round_number < 5:
                while outbox.number_pending(256):
                    outbox.replace_with_gap(outbox.last_seq(), "x")
                    outbox.acknowledge(outbox.last_seq(), 1)
                    delivered = outbox.last_seq()
            if round_number == 8:
                outbox.new_epoch()
                outbox.acknowledge(outbox.last_seq(), 1)
            watch.look()
        assert count_pending(spool) > 5_000
    with closing(connect(path)) as db:
        bodies = [body_from_json(row[0]) for row in db.execute("SELECT body FROM pending ORDER BY id")]
    records = [body for body in bodies if isinstance(body, Record)]
    dropped = sum(gap.records for gap in bodies if isinstance(gap, Gap) and gap.reason == "spool_cap")
    figure(
        f"{watch.most / MIB:.1f} of {BOUND / MIB:.0f} MiB used at most, {dropped:,} of {made:,} records dropped and declared"
    )
    assert watch.most <= BOUND
    assert len(records) + dropped + delivered == made + 1  # one for the damaged spool's own gap
    assert records[-1] == record(made - 1)


@pytest.mark.promise("R7")
def test_the_last_of_the_disk_is_not_touched(disk, figure):
    """5 % of a small disk stay free: the spool stops growing, drops its oldest records, keeps the newest."""
    state, reserve, made, least = disk / "state", int(DISK * DISK_SHARE), 0, DISK
    state.mkdir()
    with closing(open_spool(state / FILE_NAME, Bounds(64 * MIB, 500_000_000), 1)) as spool:
        fill(disk, 6 * MIB)
        for _ in range(40):
            spool.append([record(made + n).to_json() for n in range(500)], {})
            made += 500
            least = min(least, free_bytes(disk))
    figure(
        f"{least / MIB:.2f} MiB of the disk free at least ({reserve / MIB:.2f} MiB promised), after {made:,} records"
    )
    assert least >= reserve
    assert accounted(state) == made


@pytest.mark.promise("R7")
def test_measuring_goes_on_while_the_disk_is_full_and_over_a_restart(disk, figure):
    """On a full disk rows wait in memory, and the service starts again; later no time is missing."""
    machine = Metered(disk, period_seconds=60)
    machine.settings = machine.settings._replace(spool=Spool(max_bytes=BOUND))
    machine.on(120)
    fill(disk, 0)
    assert free_bytes(disk) == 0
    machine.on(60)
    waited = len(machine.resident._queue)
    machine.resident.end()  # rows in memory cannot be kept: the log has an error
    machine.clock.advance(60_000)
    machine.begin()
    machine.on(60)
    (disk / "filler").unlink()
    machine.on(30)
    bodies = machine.bodies()
    told = sum(
        cell.milliseconds for body in bodies if isinstance(body, Record) for cell in body.cells.values()
    )
    passed = (120 + 60 + 60 + 30) * 10_000 + 60_000
    figure(f"{waited} rows kept in memory, {passed - told} ms unexplained")
    assert waited >= 8
    assert told == passed  # time that the full disk lost is `unknown`, from the last sign of life on
    machine.resident.end()


@pytest.mark.promise("R7")
def test_the_real_process_starts_on_a_full_disk(disk, figure):
    """The process reports READY and ends with 0 on a full disk, with a spool at its bound."""
    state = disk / "state"
    state.mkdir()
    path = state / FILE_NAME
    with closing(open_spool(path, Bounds(BOUND, 0), 1)) as spool:
        for start in range(0, 9_000, 500):
            spool.append([record(start + n).to_json() for n in range(500)], {})
    before = accounted(state)
    fill(disk, 0)
    config = disk.parent / "agent.toml"
    config.write_text(
        f'[paths]\nstate = "{state}"\n[spool]\nmax_bytes = {BOUND}\n[measure]\npopulation = "server"\n'
        'tick_seconds = 1.0\nperiod_seconds = 10\nsources = ["fake"]\nfake_watts = 5.0\n'
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(disk.parent / "notify"))
        manager.settimeout(PATIENCE_SECONDS)
        process = subprocess.Popen(
            [sys.executable, "-m", "veilleuse.agent", "run", "--config", str(config)],
            env={**os.environ, "NOTIFY_SOCKET": str(disk.parent / "notify")},
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            heard = [manager.recv(100) for _ in range(3)]
        finally:
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=PATIENCE_SECONDS)
    figure(f"1 agent process started and stopped with {free_bytes(disk)} bytes free")
    assert heard[0] == b"READY=1"
    assert process.returncode == 0, said
    assert "rows kept in memory" in said
    assert "Traceback" not in said
    assert accounted(state) == before


# --------------------------------------------------------------- the whole agent, its collector away

SMALL_DISK_MIB = 64
SMALL_RESERVE = SMALL_DISK_MIB * MIB // 20
"""5 % of the disk: less than the default 500 MB."""
PERIOD, RECORDS, AT_ONCE = 10_000, 13_500, 250
ACTIVE, IDLE = 1, 2
SMALL = {
    "VEILLEUSE_AGENT__SPOOL__MAX_BYTES": str(BOUND),
    "VEILLEUSE_AGENT__MEASURE__SOURCES": "fake",
    "VEILLEUSE_AGENT__MEASURE__TICK_SECONDS": "1",
    "VEILLEUSE_AGENT__MEASURE__PERIOD_SECONDS": "10",
    "VEILLEUSE_AGENT__MEASURE__CHECKPOINT_SECONDS": "1",
    "VEILLEUSE__STORE__FREE_BYTES_MINIMUM": "0",
}


@pytest.mark.promise("R7", "R18")
def test_full_spool_on_a_full_disk(tmp_path, figure):
    """The spool never exceeds its bound or takes the reserve, and dropped records are a gap. The agent
    measures on, restarts, and delivers afterwards."""
    (tmp_path / "agent").mkdir(mode=0o700)
    notify = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    with (
        tmpfs(tmp_path / "agent", SMALL_DISK_MIB),
        Stack(tmp_path, SMALL | notify) as stack,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        manager.bind(notify["NOTIFY_SOCKET"])
        stack.must("veilleuse", "init", "--simulated")
        collector = stack.start_collector()
        stack.enrol()
        stack.stop(collector)
        produced, largest = overfill(stack.state)
        agent = KilledAgent(stack, seed=1)
        agent.start()
        agent.kill_resident()  # once more, while the spool is full
        filler = fill(stack.state, SMALL_RESERVE - 100_000)
        before = free_bytes(stack.state)
        agent.kill_resident()  # the disk is full at the start
        while_full = period_to_its_end(manager)
        taken = before - free_bytes(stack.state)
        largest = max(largest, size_of(stack.state))
        filler.unlink()
        whole_step(manager)
        stack.start_collector()
        agent.stop()
        largest = max(largest, size_of(stack.state))
        found = held(stack.data)
    stored = sum(sum(found.periods[start].values()) for start in produced)
    measured = found.periods[while_full][ACTIVE] + found.periods[while_full][IDLE]
    lost = sum(produced.values()) - stored
    figure(
        f"{largest:,} of {BOUND:,} bytes used at most, {max(0, taken):,} bytes of the reserve used, {lost // PERIOD:,} of "
        f"{RECORDS:,} records dropped, {found.gap_milliseconds - lost} ms unexplained, {measured:,} ms measured in a period "
        "that ended while the disk was full"
    )
    assert largest <= BOUND
    assert taken <= 0
    assert lost > 0
    assert lost == found.gap_milliseconds
    assert found.duplicates == 0
    assert sorted(produced)[-1000:] == [s for s in sorted(found.periods) if s in produced][-1000:], (
        "the newest"
    )
    assert measured >= 1_000
    assert sum(found.periods[while_full].values()) <= PERIOD


def period_to_its_end(manager: socket.socket) -> int:
    """Return the start of a period, after the agent has measured 3 s of it at least and closed it."""
    whole_step(manager)
    start = (clock.unix_milliseconds() + 3_000) // PERIOD * PERIOD
    while clock.unix_milliseconds() < start + PERIOD:
        whole_step(manager)
    whole_step(manager)
    return start


def overfill(state: Path) -> tuple[dict[int, int], int]:
    """Append too many records; return start → ms of each, and the largest size of the spool."""
    first = clock.unix_milliseconds() // PERIOD * PERIOD - (RECORDS + 360) * PERIOD
    starts = [first + number * PERIOD for number in range(RECORDS)]
    spool = open_spool(state / FILE_NAME, Bounds(BOUND, SMALL_RESERVE), clock.unix_milliseconds())
    largest = 0
    for begin in range(0, RECORDS, AT_ONCE):
        several = starts[begin : begin + AT_ONCE]
        spool.append([clock_record(s, PERIOD, metered_millijoules=s % 9_973).to_json() for s in several], {})
        largest = max(largest, size_of(state))
    spool.close()
    return dict.fromkeys(starts, PERIOD), largest


def size_of(state: Path) -> int:
    """Return the bytes of all files of the spool."""
    return sum(file.stat().st_size for file in state.glob("spool*"))


def test_the_bound_leaves_room_for_what_the_sender_writes() -> None:
    """The shares of the bound sum to less than the bound."""
    bounds = Bounds(64 * MIB, 0)
    assert bounds.rows_bytes + bounds.ring_bytes + bounds.quarantine_bytes < bounds.max_bytes
