# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Run `make run`: this machine is measured, delivered over mTLS, stored, derived, shown and reported."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from tests.architecture.tree import ROOT
from tests.support import clock
from tests.support.stack import Stack, get, orphans
from tests.support.waiting import PATIENCE_SECONDS, comes, until
from veilleuse.collector.derive.wall import wall_energy
from veilleuse.collector.wire_codec import cells_from_wire, facts_from_wire
from veilleuse.wire.vocabulary import DeviceClass

RUN = ROOT / "deploy/local/run.py"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Give the settings of a run with a temporary ./var; the commands use the same data."""
    folder = tmp_path_factory.mktemp("run")
    with Stack(folder) as stack:
        stack.environment["VEILLEUSE_AGENT__MEASURE__TICK_SECONDS"] = "2"
        yield stack


def launch(place: Stack, *words: str, **environment: str) -> subprocess.Popen[str]:
    """Start the launcher without a terminal."""
    return subprocess.Popen(
        [sys.executable, RUN, "--var", place.folder, *words],
        env=place.environment | {"PYTHONDONTWRITEBYTECODE": "1"} | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = 2 * PATIENCE_SECONDS) -> tuple[str, str]:
    """Return the launcher's two outputs; it is killed after `seconds`."""
    try:
        return process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise


def total(metrics: str, name: str) -> float | None:
    """Return the sum of a family's samples, or None if it has none."""
    values = [float(value) for value in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", metrics, re.M)]
    return sum(values) if values else None


@pytest.fixture(scope="module")
def first_run(place: Stack) -> tuple[str, str, int, list[tuple[float, float]]]:
    """Run the launcher until its figures have risen, then stop it.

    Return (stdout, stderr, exit code, [(joules, grams) of each scrape]).
    """
    process = launch(place)
    seen: list[tuple[float, float]] = []

    def has_risen() -> bool:
        look_at_agent(process.pid)
        with suppress(OSError):
            text = get(place.url + "metrics")
            joules = total(text, "veilleuse_energy_joules_total")
            grams = total(text, "veilleuse_emissions_grams_total")
            if joules is not None and grams is not None:
                seen.append((joules, grams))
        return len({joules for joules, _ in seen}) > 1 or process.poll() is not None

    def has_ended() -> bool:
        look_at_agent(process.pid)
        return process.poll() is not None

    try:
        comes(has_risen, 2 * PATIENCE_SECONDS, every=1)
    finally:
        process.terminate()
        comes(has_ended)
        out, err = finish(process)
    return out, err, process.returncode, seen


AGENT_SECONDS: dict[int, float] = {}
"""Pid of each agent that ran → its CPU time and that of its ended children, as the kernel last told it."""


def look_at_agent(launcher: int) -> None:
    """Note the CPU time of the launcher's agent."""
    with suppress(psutil.Error):
        for child in psutil.Process(launcher).children():
            if "veilleuse-agent" in " ".join(child.cmdline()):
                AGENT_SECONDS[child.pid] = sum(child.cpu_times()[:4])


def test_the_agent_tells_the_cpu_time_that_the_kernel_counts(first_run, place):
    """Own CPU time stored by the collector, and that of rows that still wait, is the kernel's within a tick's
    work; the collector's own day has its processes' time and the bytes of its calls."""
    with closing(database(place)) as db:
        (sent,) = db.execute("SELECT SUM(own_cpu_milliseconds) FROM sums WHERE grain = 1").fetchone()
        used = dict(db.execute("SELECT name, SUM(value) FROM own_days GROUP BY name"))
    with closing(sqlite3.connect(f"file:{place.folder / 'agent/spool.db'}?mode=ro", uri=True)) as db:
        bodies = " ".join(body for (body,) in db.execute("SELECT body FROM pending"))
    waiting = sum(map(int, re.findall(r'"own_cpu_milliseconds":(\d+)', bodies)))
    kernel = 1_000 * sum(AGENT_SECONDS.values())
    assert sent > 0
    assert kernel * 0.8 - 100 <= sent + waiting <= kernel * 1.1 + 400, (sent, waiting, AGENT_SECONDS)
    assert used["own_cpu_milliseconds"] > 500
    assert used["server_received_bytes"] > used["server_sent_bytes"] > 0


def test_it_ends_with_exit_code_0(first_run):
    """Asked to stop, it ends with 0; the addresses are plain lines without a control sequence."""
    out, err, code, _ = first_run
    assert code == 0, out + err
    assert re.search(r"http://127\.0\.0\.1:\d+/$", out, re.M)
    assert re.search(r"http://127\.0\.0\.1:\d+/metrics$", out, re.M)
    assert "\x1b" not in out
    assert "Traceback" not in out + err


def test_no_process_is_left(first_run, place):
    """No process with the run's settings is left."""
    assert orphans(str(place.folder)) == []


def test_nothing_is_readable_by_others(first_run, place):
    """S20: keys, spool, databases and logs below ./var have no permission for group or others."""
    open_to_others = [
        f"{path.stat().st_mode & 0o777:o} {path}"
        for name in ("collector", "agent", "log")
        for path in (place.folder / name, *(place.folder / name).rglob("*"))
        if path.stat().st_mode & 0o077
    ]
    assert open_to_others == []


def test_counters_rise(first_run):
    """During the run, joules and grams appear, rise, and never fall."""
    _, _, _, seen = first_run
    assert len(seen) >= 2, "no figure appeared on /metrics"
    for column in (0, 1):
        values = [row[column] for row in seen]
        assert values == sorted(values)
        assert values[-1] > values[0] > 0 or values[-1] > 0 == values[0]


def report(place: Stack) -> dict[str, list[dict[str, object]]]:
    """Return `report emissions` of yesterday, today and tomorrow."""
    today = clock.today()
    file = place.folder / "report.json"
    place.must(
        "veilleuse", "report", "emissions", "--from", str(today - timedelta(days=1)),
        "--to", str(today + timedelta(days=2)), "--format", "json", "-o", str(file),
    )  # fmt: skip
    document: dict[str, list[dict[str, object]]] = json.loads(file.read_text(encoding="utf-8"))
    return document


def database(place: Stack) -> sqlite3.Connection:
    """Open the collector's database, read-only."""
    (file,) = place.data.glob("data.db")
    return sqlite3.connect(f"file:{file}?mode=ro", uri=True)


def test_the_report_is_the_exact_sum_of_the_records(first_run, place):
    """The report equals the sum of derived integer millijoules over the records' cells. A virtual machine is
    a memo and in no total."""
    with closing(database(place)) as db:
        # A record that came just before the stop is derived at the next start.
        derived = "SELECT wire FROM records WHERE derived_energy_millijoules IS NOT NULL"
        wires = [wire for (wire,) in db.execute(derived)]
        (kept,) = db.execute("SELECT SUM(MAX(derived_energy_millijoules, 0)) FROM records").fetchone()
        (ledger,) = db.execute("SELECT SUM(energy_millijoules) FROM ledger").fetchone()
        ((facts_wire,),) = db.execute("SELECT facts FROM hosts").fetchall()
    facts = facts_from_wire(facts_wire)
    parts = [wall_energy(cell, facts) for wire in wires for cell in cells_from_wire(wire)]
    energy = sum(part.energy_millijoules for cell in parts for part in cell)
    assert len(wires) >= 2
    assert energy > 0
    assert kept == ledger == energy

    document = report(place)
    virtual = facts.device_class is DeviceClass.VIRTUAL_MACHINE
    level, empty = ("memo", "totals") if virtual else ("totals", "memo")
    (row,) = document[level]
    assert row["energy_millijoules"] == energy
    assert document[empty] == []
    assert document["rows"] == [] or not virtual


def test_a_second_run_goes_on(first_run, place):
    """A second run continues with the same machine, identity and stream; counts are kept. Ctrl-C ends it with
    exit code 0."""
    before = _state(place)
    process = launch(place)
    try:
        place.wait_for(
            lambda: _state(place)["records"] > before["records"], "another record is stored", seconds=120
        )
    finally:
        process.send_signal(signal.SIGINT)
        out, err = finish(process)
    assert process.returncode == 0, out + err
    after = _state(place)
    assert after["hosts"] == before["hosts"] == 1
    assert after["epochs"] == before["epochs"] == 1
    assert after["energy"] > before["energy"]
    assert orphans(str(place.folder)) == []


def _state(place: Stack) -> dict[str, int]:
    with closing(database(place)) as db:
        return {
            name: int(db.execute(query).fetchone()[0] or 0)
            for name, query in {
                "hosts": "SELECT COUNT(*) FROM hosts",
                "epochs": "SELECT COUNT(*) FROM streams",
                "records": "SELECT COUNT(*) FROM records WHERE derived_energy_millijoules IS NOT NULL",
                "energy": "SELECT SUM(energy_millijoules) FROM ledger",
            }.items()
        }


def test_a_new_collector_gets_a_new_agent(tmp_path):
    """Without the collector's data an agent's identity is useless: it is set aside and replaced. After
    SECONDS the second run ends by itself with exit code 0."""
    with Stack(tmp_path) as stack:
        said = ""
        for words in ((), ("--seconds", "3")):
            process = launch(stack, *words)
            if not words:
                until((tmp_path / "agent/spool.db").exists, "the agent does not start", 2 * PATIENCE_SECONDS)
                process.terminate()
            said, err = finish(process)
            assert process.returncode == 0, said + err
            shutil.rmtree(stack.data)
        assert "the old agent's state is kept in" in said
        (aside,) = tmp_path.glob("agent.*")
        assert (aside / "id/certificate.pem").exists()
        assert (aside / "spool.db").exists()


def test_a_port_in_use_is_one_clear_line(tmp_path):
    """Before anything is started it ends with exit code 1; the line names the address and the setting."""
    with Stack(tmp_path) as stack:
        host, _, port = stack.environment["VEILLEUSE__HTTP__ADDRESS"].rpartition(":")
        with socket.create_server((host, int(port))):
            process = launch(stack)
            out, err = finish(process)
    assert process.returncode == 1
    assert out == ""
    (line,) = err.splitlines()
    assert f"cannot listen at {host}:{port}" in line
    assert "VEILLEUSE__HTTP__ADDRESS" in line


def test_a_child_that_dies_is_one_clear_line_and_the_end_of_its_log(tmp_path):
    """After a kill of the collector it ends with exit code 1 and names it; the agent is stopped too."""
    with Stack(tmp_path) as stack:
        process = launch(stack)
        try:
            stack.wait_for(lambda: (tmp_path / "log/agent.log").exists(), "the agent is started")
            (serve,) = _groups("veilleuse serve", str(tmp_path))
            os.kill(serve, signal.SIGKILL)
        finally:
            out, err = finish(process)
        assert process.returncode == 1, out + err
        assert "make run: the collector ended by itself" in err
        # An agent that was just starting had begun its own check, a child of a moment.
        stack.wait_for(lambda: orphans(str(tmp_path)) == [], "every process has ended")


def test_a_killed_launcher_leaves_nothing(tmp_path):
    """The kernel signals the children of a killed launcher (SIGKILL), and they stop."""
    with Stack(tmp_path) as stack:
        process = launch(stack)
        try:
            stack.wait_for(lambda: (tmp_path / "log/agent.log").exists(), "the agent is started")
        finally:
            process.kill()
            process.communicate()
        stack.wait_for(lambda: orphans(str(tmp_path)) == [], "every process has ended")


def _groups(words: str, marker: str) -> list[int]:
    """Return the leaders of process groups whose command contains `words`, of the run marked by `marker`."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError):
            if folder.name.isdigit() and marker.encode() in (folder / "environ").read_bytes():
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                if words in command and os.getpgid(int(folder.name)) == int(folder.name):
                    found.append(int(folder.name))
    return found
