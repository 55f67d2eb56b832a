# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Inject faults into real collectors, and measure when a real Alertmanager notifies: alert × fault × seconds.

`make bench-alerts`. Rules wait for nothing here (`for` and group_wait); Prometheus scrapes and evaluates each
second: the last column is what an installation adds. Needs root, for a small disk. `--silence` waits for the
silence of a server too: half an hour.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import psutil

from tests.promises.support.disks import tmpfs
from tests.support.alerting import AlertScene, alert_scene
from tests.support.faults import FAULTS, SETTINGS, fill
from tests.support.filled import Filled, month_of_workstations, reporting_day
from tests.support.publishing import publish_months
from tests.support.stack import Stack
from tests.support.waiting import until
from veilleuse.collector.exposition.conditions import TABLE
from veilleuse.collector.months.worker import ended_by

SILENT_SECONDS: Final = 2_400.0
"""More than two contact intervals of a server."""
MIB: Final = 2**20
AGENT: Final = {
    "VEILLEUSE_AGENT__MEASURE__TICK_SECONDS": "10",
    "VEILLEUSE_AGENT__MEASURE__PERIOD_SECONDS": "10",
}
"""An agent that sends a record every ten seconds."""
_WAITS: Final = {condition.alert: condition.lasts for condition in TABLE}


def told(alert: str, severity: str, fault: str, seconds: float) -> None:
    """Print one line of the table."""
    minutes = _WAITS[alert].total_seconds() / 60
    print(f"{alert:34} {severity:9} {fault:68} {seconds:6.1f} s   + {minutes:.0f} min", flush=True)


def wait(scene: AlertScene, alert: str, severity: str, fault: str, seconds: float = 60) -> None:
    """Wait until the alert of a fault that was just injected arrives, and print it."""
    told(alert, severity, fault, scene.watch.wait_for(alert, severity, seconds))


def stored(folder: Path) -> None:
    """Faults that are in the store when the collector starts: seconds since the first scrape."""
    with alert_scene(folder, fill, SETTINGS) as scene:
        began = time.monotonic()
        until(lambda: {(one.alert, one.severity) for one in FAULTS} <= set(scene.watch.firing()), seconds=120)
        for fault in FAULTS:
            first = next(
                one
                for one in scene.watch.notices
                if (one.name, one.severity, one.firing) == (fault.alert, fault.severity, True)
            )
            told(fault.alert, fault.severity, fault.text, max(0.0, first.at - began))
        with frozen(scene.pid):
            wait(scene, "VeilleuseCollectorDown", "critical", "SIGSTOP of the receiving process")
        scene.watch.wait_for("VeilleuseCollectorDown", "critical", fires=False)
        web = next(one for one in psutil.Process(scene.pid).children() if "web" in " ".join(one.cmdline()))
        with frozen(web.pid):
            wait(scene, "VeilleuseWebDown", "critical", "SIGSTOP of the web process")
        scene.watch.wait_for("VeilleuseWebDown", "critical", fires=False)
        dirty(scene)
        wait(scene, "VeilleuseDerivationLate", "warning", "a million periods are marked to be derived again")


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process for the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def dirty(scene: AlertScene) -> None:
    """Mark a million hours of one machine, long before its first record."""
    with closing(sqlite3.connect(scene.stack.data / "data.db", timeout=30)) as database, database:
        database.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)"
            " INSERT OR IGNORE INTO dirty SELECT (SELECT min(host_id) FROM hosts), 1, i * 3600000, 0 FROM n"
        )


def disk(folder: Path) -> None:
    """A small disk fills up, under an agent; then the store is replaced."""
    settings = AGENT | {"VEILLEUSE__STORE__FREE_BYTES_MINIMUM": str(32 * MIB)}
    settings |= {"VEILLEUSE__STORE__FREE_RATIO_MINIMUM": "0.5"}
    with (
        tmpfs(folder / "disk", 256) as mounted,
        alert_scene(folder, settings=settings, data=mounted / "data") as scene,
    ):
        wait(scene, "VeilleuseBackupMissing", "warning", "a new collector")
        scene.stack.run("veilleuse", "backup", str(folder / "backup"))  # ends with 3: not sealed
        scene.watch.wait_for("VeilleuseBackupMissing", "warning", fires=False)
        scene.stack.enrol()
        scene.stack.start("veilleuse-agent", "run")
        until(lambda: records(scene.stack) > 0, "the agent delivers", 90, every=1)
        leave(mounted, 50 * MIB)
        wait(scene, "VeilleuseDiskLow", "warning", "50 MiB free, reserve 32 MiB")
        leave(mounted, 10 * MIB)
        wait(scene, "VeilleuseDiskLow", "critical", "10 MiB free, reserve 32 MiB")
        wait(scene, "VeilleuseStoreErrors", "critical", "the agent sends meanwhile", 120)
        (mounted / "ballast").unlink()
        data = scene.stack.data / "data.db"
        shutil.copy(data, data.with_suffix(".copy"))
        data.with_suffix(".copy").replace(data)
        until(
            lambda: not psutil.pid_exists(scene.pid) or psutil.Process(scene.pid).status() == "zombie",
            seconds=120,
        )
        put_back(scene.stack)
        wait(
            scene,
            "VeilleuseStoreReplaced",
            "critical",
            "data.db replaced under the service; rescued copy put back, started",
            120,
        )


def put_back(stack: Stack) -> None:
    """Do as the collector's last line says: put the rescued copy into place, and start again."""
    for rescued in stack.data.glob("*.rescued-*"):
        database = rescued.with_name(rescued.name.partition(".rescued-")[0])
        for suffix in ("-wal", "-shm"):
            database.with_name(database.name + suffix).unlink(missing_ok=True)
        rescued.replace(database)
    stack.start_collector()


def leave(disk_folder: Path, free_bytes: int) -> None:
    """Fill the disk but for so many bytes."""
    with (disk_folder / "ballast").open("ab") as file:
        file.write(bytes(shutil.disk_usage(disk_folder).free - free_bytes))


def records(stack: Stack) -> int:
    """Return the number of stored records."""
    with closing(sqlite3.connect(f"file:{stack.data / 'data.db'}?mode=ro", uri=True)) as database:
        (number,) = database.execute("SELECT count(*) FROM records").fetchone()
        return int(number)


def months(folder: Path) -> None:
    """A damaged row keeps months from being released; then the last one is of another rule."""
    today = reporting_day()
    due = (ended_by(today) - timedelta(days=1)).replace(day=1)
    last = (due - timedelta(days=40)).replace(day=1)

    def damaged(directory: Path) -> None:
        with Filled(directory) as data:
            hosts = month_of_workstations(data, last, [(600, 1200)] * 12, 12)
            data.derive()
            publish_months(data, (last + timedelta(days=36)).replace(day=5))
            month_of_workstations(data, due, [(600, 1200)] * 12, 12, known=hosts)
            data.derive()
        with closing(sqlite3.connect(directory / "data.db")) as database, database:
            database.execute("DROP TRIGGER published_periods_are_kept")
            database.execute("UPDATE published_periods SET content = '{' WHERE kind = 'release'")

    with alert_scene(folder / "late", damaged) as scene:
        wait(scene, "VeilleusePublicationFailing", "warning", "the row of a released month is damaged", 120)
        wait(scene, "VeilleuseMonthLate", "critical", "the same: two months are not released", 120)

    def of_ten(directory: Path) -> None:
        with Filled(directory) as data:
            month_of_workstations(data, due, [(600, 1200)] * 12, 12)
            data.derive()
            publish_months(data, today)

    with alert_scene(folder / "rule", of_ten, {"VEILLEUSE__REPORTING__K_ANONYMITY": "14"}) as scene:
        wait(
            scene, "VeilleuseMonthOfOlderRule", "warning", "k raised from 10 to 14 after the publication", 120
        )


def certificates(folder: Path) -> None:
    """The authority was made 4 years and 10 months ago."""
    (folder / "authority").mkdir()
    with Stack(folder / "authority") as stack:
        command = shutil.which("faketime") or "faketime"
        init = [command, "-f", "-1770d", stack._program("veilleuse"), "init"]
        stack.programs["old-init"] = Path(command)
        stack.must("old-init", *init[1:])
        shutil.copytree(stack.data, folder / "old")

    def put(directory: Path) -> None:
        shutil.rmtree(directory)
        shutil.copytree(folder / "old", directory)

    with alert_scene(folder, put) as scene:
        wait(scene, "VeilleuseIntermediateCertificate", "critical", "an authority made 1,770 days ago")


@contextmanager
def silence(folder: Path) -> Iterator[Callable[[], None]]:
    """The only agent of a collector ends; the block goes on meanwhile."""
    with alert_scene(folder, settings=AGENT) as scene:
        stack = scene.stack
        stack.enrol()
        agent = stack.start("veilleuse-agent", "run")
        until(lambda: records(stack) > 0, "the agent delivers", 90, every=1)
        stack.stop(agent)
        ended = time.monotonic()

        def end() -> None:
            scene.watch.wait_for("VeilleuseServersSilent", "critical", SILENT_SECONDS)
            seconds = time.monotonic() - ended
            told(
                "VeilleuseServersSilent",
                "critical",
                "the only agent was ended; servers call each 15 minutes",
                seconds,
            )

        yield end


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--silence", action="store_true", help="wait for the silence of a server too")
    waits = parser.parse_args().silence
    print(f"{'alert':34} {'severity':9} {'injected fault':68} {'notified after':>8}   + its own wait")
    with tempfile.TemporaryDirectory(prefix="veilleuse-alerts-") as name:
        folder = Path(name)
        parts = {part.__name__: part for part in (stored, disk, months, certificates)}
        for one in ("silence", *parts, "months/late", "months/rule"):
            (folder / one).mkdir(parents=True)
        with ExitStack() as stack:
            end = stack.enter_context(silence(folder / "silence")) if waits else None
            for one, part in parts.items():
                part(folder / one)
            if end is not None:
                end()
