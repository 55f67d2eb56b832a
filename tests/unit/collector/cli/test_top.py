# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse top` prints lines without a terminal and a live view with one, and ends with exit code 0."""

from __future__ import annotations

import io
import os
import pty
import select
import signal
import subprocess
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.filled import METER, Filled, cell, clock, minutes_of_server, start_of_minute
from tests.support.processes import ran
from tests.support.stack import program
from tests.support.waiting import PATIENCE_SECONDS, at_its_best
from veilleuse.collector.cli.main import run
from veilleuse.collector.cli.top import _render, screen
from veilleuse.collector.documents.text import words
from veilleuse.collector.settings import CollectorSettings
from veilleuse.collector.store.sqlite.reader import SqliteReader
from veilleuse.collector.web.metrics.snapshot import SnapshotCache
from veilleuse.wire.vocabulary import DeviceClass, Population, State


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Make a metered server, a virtual machine, a server without contact, and 12 workstations."""
    with Filled(tmp_path / "data") as filled:
        filled.push(filled.add_host(), minutes_of_server(10, 8, 120.0), METER)
        virtual = filled.add_host(device_class=DeviceClass.VIRTUAL_MACHINE)
        period = clock(start_of_minute(5), 60_000)
        filled.push(virtual, [(period, [cell(State.ON_IDLE, 60_000, busy_ratio=0.01)])])
        filled.add_host(contact=False)
        for _ in range(12):
            filled.add_host(Population.WORKSTATION, DeviceClass.LAPTOP, entity="Secret")
        filled.derive()
    return tmp_path / "data"


def environment(data: Path) -> dict[str, str]:
    """Return the environment of a command that reads the directory."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VEILLEUSE")}
    return kept | {"VEILLEUSE__DATA_DIR": str(data), "TERM": "xterm", "COLUMNS": "120"}


def test_screen_says_what_is_known(data):
    """Servers have watts, CPU, state and today's kWh, or a dash without contact; workstations are only
    counted."""
    settings = CollectorSettings(data_dir=data)
    reader = SqliteReader(data)
    shown = screen(SnapshotCache(reader, settings), settings, words("en"))
    known = [host.agent_id.hex()[:12] for host in reader.hosts()]
    reader.close()
    heard, virtual, unheard = shown.rows
    assert [row.host for row in shown.rows] == known[:3], "as `veilleuse hosts` takes them, not by their row"
    assert heard.power == "120\u00a0W"
    assert heard.cpu == "30.0%"
    assert heard.state == "active 100%"
    assert virtual.state == "idle 100%"
    assert (unheard.power, unheard.cpu, unheard.state, unheard.today) == ("–", "–", "–", "–")
    assert unheard.contact == "never"
    assert len(shown.others) == 1
    assert "12 workstations" in shown.others[0]
    assert "Secret" not in repr(shown)
    assert dict(shown.headline)["servers"].startswith("120\u00a0W, today ")
    assert any("provisional" in line for line in shown.warnings)
    assert shown.page_url == "http://127.0.0.1:8640/"


@pytest.mark.parametrize(("width", "height"), [(40, 12), (80, 24), (120, 40)])
def test_a_screen_fits_its_terminal(data, width, height):
    """The screen has the terminal's lines, none wrapped, with addresses last; hidden hosts are counted."""
    with Filled(data.with_name("many")) as filled:
        for number in range(50):
            filled.add_host(entity=f"A long name of an entity {number}")
    settings = CollectorSettings(data_dir=data.with_name("many"))
    reader = SqliteReader(settings.data_dir)
    shown = screen(SnapshotCache(reader, settings), settings, words("en"))
    reader.close()
    out = io.StringIO()
    Console(file=out, width=width, height=height).print(_render(shown, height))
    lines = out.getvalue().splitlines()
    assert len(lines) == height
    assert all(len(line) <= width for line in lines)
    assert lines[-1].startswith(shown.page_url)
    hosts = sum(line.rstrip().split()[1:3] == ["–", "–"] for line in lines)
    assert f"and {50 - hosts} more" in lines


def test_plain_lines(data):
    """Without a terminal lines are printed once or at each look; --seconds ends with exit code 0."""

    def looks() -> subprocess.CompletedProcess[str]:
        return ran(
            [program("veilleuse"), "top", "--seconds", "1", "--interval", "0.5"],
            env=environment(data),
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE_SECONDS,
        )

    with closing(SqliteReader(data)) as reader:
        server = f" host {reader.hosts()[0].agent_id.hex()[:12]} "
    # On a machine that stalls, the first look takes the whole second.
    done = at_its_best(looks, lambda found: found.stdout.count(server) >= 2)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("page http://") == 1
    assert done.stdout.count(server) >= 2
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("option", ["--seconds", "--interval"])
@pytest.mark.parametrize("value", ["inf", "nan", "1e999"])
def test_a_time_that_never_comes_is_refused(data, monkeypatch, capsys, option, value):
    """`--seconds inf` ran for ever; `--interval inf` ended with a traceback."""
    monkeypatch.setenv("VEILLEUSE__DATA_DIR", str(data))
    assert run(["top", "--seconds", "0", option, value]) == 2
    said = capsys.readouterr()
    assert option in said.err
    assert said.err.count("\n") == 1


def rest(terminal: int) -> bytes:
    """Return the rest of the terminal's output until the writer closes it, within a minute."""
    seen, until = b"", time.monotonic() + PATIENCE_SECONDS
    with suppress(OSError):  # EIO: the other side is closed
        while time.monotonic() < until:
            if select.select([terminal], [], [], 0.1)[0]:
                seen += os.read(terminal, 65536)
    return seen


def test_live_view_ends_on_ctrl_c(data):
    """A live view on a terminal ends on SIGINT with exit code 0."""
    main, child = pty.openpty()
    process = subprocess.Popen(
        [program("veilleuse"), "top"],
        env=environment(data),
        stdin=child,
        stdout=child,
        stderr=child,
        start_new_session=True,
        # A shell's background job, which these tests may be, ignores SIGINT, and so would its children;
        # a command from a terminal does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(child)
    seen, until = b"", time.monotonic() + PATIENCE_SECONDS
    while b"Ctrl-C" not in seen and time.monotonic() < until:
        if select.select([main], [], [], 0.1)[0]:
            seen += os.read(main, 65536)
    process.send_signal(signal.SIGINT)
    seen += rest(main)  # a terminal continues to read: a process that writes to a full one waits for ever
    assert process.wait(PATIENCE_SECONDS) == 0, seen.decode(errors="replace")
    os.close(main)
    assert b"Veilleuse" in seen
    assert b"Traceback" not in seen


def test_no_data_directory(tmp_path):
    """The error is one line with exit code 1."""
    done = ran([program("veilleuse"), "top"], env=environment(tmp_path / "nowhere"), timeout=PATIENCE_SECONDS)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "veilleuse init" in done.stderr
