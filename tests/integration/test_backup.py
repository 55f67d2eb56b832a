# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Back up a collector while agents push, restore it, let real agents continue: nothing is lost or doubled."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from tests.promises.support.restored_months import MACHINES, SECONDS, LostHost, measure
from tests.support.fleet import PERIOD_MILLISECONDS, Fleet, compared, now_unix_milliseconds, statuses, summed
from tests.support.stack import Stack
from tests.support.waiting import PATIENCE_SECONDS, until

AGENTS = 4


@contextmanager
def pushing(fleet: Fleet, begin: int) -> Iterator[None]:
    """Let every agent make and deliver records repeatedly while the block runs; fails if one fails."""
    started, stop = threading.Event(), threading.Event()
    failures: list[int] = []

    def push() -> None:
        for number in range(200):
            if stop.is_set():
                return
            fleet.measure([begin + number * PERIOD_MILLISECONDS])
            failures.append(AGENTS - fleet.contact())
            if number == 1:
                started.set()

    thread = threading.Thread(target=push, daemon=True)
    thread.start()
    try:
        assert started.wait(PATIENCE_SECONDS)
        yield
    finally:
        stop.set()
        thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    assert not any(failures)


def doctor(stack: Stack, *checks: str) -> str:
    """Return the findings of `veilleuse doctor` for these checks."""
    findings = json.loads(stack.run("veilleuse", "doctor", "--json").stdout)
    return " ".join(finding["text"] for finding in findings if finding["check"] in checks)


def test_backed_up_at_work_killed_restored(tmp_path):
    """After backups while agents push, kill -9, and a restore of the first backup, every agent continues. All
    records are stored once; sums and statuses are right."""
    with Stack(tmp_path) as stack:
        stack.must("veilleuse", "backup", "--new-key", str(tmp_path / "key"))
        stack.environment["VEILLEUSE__BACKUP__KEY_FILE"] = str(tmp_path / "key")
        collector = stack.start_collector()
        fleet = Fleet(stack)
        fleet.enrol(AGENTS)
        begin = now_unix_milliseconds() // 3_600_000 * 3_600_000 - 20 * 3_600_000
        backups = [tmp_path / "first.backup", tmp_path / "second.backup"]
        with pushing(fleet, begin):
            made = [json.loads(stack.must("veilleuse", "backup", str(path), "--json")) for path in backups]
        counts = [backup["rows"]["data.db"]["records"] for backup in made]
        assert 0 < counts[0] <= counts[1]
        assert not (stack.data / "backup.work").exists()
        late, revoked = fleet.enrol(2)
        fleet.measure([begin], [late, revoked])
        assert fleet.contact([late, revoked]) == 2
        stack.must("veilleuse", "hosts", "revoke", revoked.agent_id.hex(), "--yes")
        os.killpg(collector.pid, signal.SIGKILL)
        collector.wait()

        restored = json.loads(stack.must("veilleuse", "restore", str(backups[0]), "--json"))
        assert restored["hosts"] == {"active": AGENTS + 1, "revoked": 1}
        stack.start_collector()
        others = [agent for agent in fleet.agents if agent is not revoked]
        fleet.measure([begin + 300 * PERIOD_MILLISECONDS])
        assert fleet.contact(others) == len(others)
        assert fleet.contact([revoked]) == 0
        assert "revoked" in revoked.standing
        lost, twice, expected = compared(others, stack.data)
        assert (lost, twice) == (0, 0), expected
        assert summed(stack.data) == sum(sum(agent.made) for agent in others)
        known = statuses(stack)
        assert {known[agent.agent_id.hex()] for agent in others} == {"active"}
        assert known[revoked.agent_id.hex()] == "revoked"
        assert "restored 1 time(s)" in doctor(stack, "backup")
        assert "replaced-" in doctor(stack, "leftovers")


def test_without_a_collector_and_by_timer(tmp_path):
    """Without a running collector the command locks the directory. --keep leaves that many backups; a backup
    without a key says so, with exit code 3."""
    with Stack(tmp_path) as stack:
        stack.must("veilleuse", "init")
        backups = tmp_path / "backups"
        backups.mkdir()
        for _ in range(2):
            done = stack.run("veilleuse", "backup", str(backups), "--keep", "1")
            assert done.returncode == 3, done.stderr
            assert "not sealed" in done.stderr
            (left,) = backups.iterdir()
            older = re.sub(r"\d{8}T\d{6}", "20200101T000000", left.name)
            assert older != left.name, "the one before is removed, not this one"
            left.rename(backups / older)
        (left,) = backups.iterdir()
        assert left.stat().st_mode & 0o777 == 0o600
        with tarfile.open(left) as tar:
            assert tar.getnames()[0] == "manifest.json"
        assert not (stack.data / "backup.work").exists()
        with closing(sqlite3.connect(stack.data / "data.db")) as database:
            query = "SELECT value FROM meta WHERE key = 'last_backup_unix_milliseconds'"
            assert database.execute(query).fetchone()
        done = stack.run("veilleuse", "backup", str(left))
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1


def test_a_full_disk_is_one_line(tmp_path, request):
    """On a full disk the backup ends with exit code 1 and one line, and leaves no file."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", small], check=False)
    if mounted.returncode:
        pytest.skip("needs root: a small disk")
    request.addfinalizer(lambda: subprocess.run(["umount", small], check=True))
    with Stack(tmp_path) as stack:
        stack.must("veilleuse", "init")
        done = stack.run("veilleuse", "backup", str(small))
        assert done.returncode == 1
        assert "MiB are free" in done.stderr
        assert done.stderr.count("\n") == 1
        assert list(small.iterdir()) == []
        assert not (stack.data / "backup.work").exists()


@pytest.mark.promise("P15")
def test_a_lost_host_publishes_no_month_twice(tmp_path, figure):
    """A month is published, a machine forgotten, the host lost and restored with the register beside which
    the month lies: the reader's account gets the same month again, and subtracts nothing."""
    told = measure(tmp_path)
    figure(f"{told} after a restore of a backup from before the publication")
    assert told == "0 machines by subtraction"


@pytest.mark.promise("P15")
def test_a_lost_host_without_the_file_waits_for_the_operator(tmp_path):
    """Where the file of publications is lost too, the restore, `doctor` and the first page name the month,
    which stays unpublished until an operator allows it. The restore names what else is gone, and the replaced
    files."""
    with LostHost(tmp_path) as host:
        host.start()
        host.wait_until_published()
        host.forget_one()
        host.lose()
        host.publications.unlink()
        month = f"{host.first:%Y-%m}"
        told = host.restore(code=3)
        assert told["publications"]["unpublished"] == [month]
        assert told["publications"]["trouble"] == "it is missing"
        assert (told["gone"]["actions"], told["gone"]["revoked"]) == (None, 1)
        host.start()
        until(lambda: month in host.page(), "the first page names the month", SECONDS)
        assert month in host.doctor()
        assert host.rows() == []
        assert host.published() == []
        host.stack.must("veilleuse", "published", "allow", str(host.first), str(host.end), "--why", "known")
        host.wait_until_published()
        assert [row["n"] for row in host.rows()] == [MACHINES - 1]
        assert month not in host.doctor()
        told = host.restore_again()
        assert told["replaced"]
        assert told["gone"]["lines of the access journal"] > 0
