# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse top` prints lines without a terminal and a live view with one, and ends with exit code 0."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.cells import cell_len
from rich.console import Console

from tests.support.clock import unix_seconds
from tests.support.filled import METER, Filled, cell, clock, minutes_of_server, start_of_minute
from tests.support.processes import ran
from tests.support.stack import program
from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.collector.cli import top
from veilleuse.collector.cli.fleet_screen import MAXIMUM_ROWS, Choice, Screen, SortKey, take_screen
from veilleuse.collector.cli.live_view import SORT_KEYS, View, render
from veilleuse.collector.cli.main import run
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
    shown = looked(reader, settings)
    known = [host.agent_id.hex()[:12] for host in reader.hosts()]
    reader.close()
    heard, virtual, unheard = shown.rows
    assert [row.host for row in shown.rows] == known[:3], "as `veilleuse hosts` takes them, not by their row"
    assert heard.power == "120\u00a0W"
    assert heard.cpu == "30.0%"
    assert heard.state == "active 100%"
    assert virtual.state == "idle 100%"
    assert (unheard.power, unheard.cpu, unheard.state, unheard.energy) == ("–", "–", "–", "–")
    assert unheard.contact == "! never"
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
    shown = looked(reader, settings)
    reader.close()
    lines = drawn(shown, View(Choice()), width, height)
    assert len(lines) == height
    assert all(cell_len(line) <= width for line in lines)
    assert lines[0].startswith("Veilleuse")
    assert lines[-1].startswith("p power  c cpu")
    hosts = sum(line.rstrip().split()[1:3] == ["–", "–"] for line in lines)
    assert hosts >= 1
    assert f"1 to {hosts} of 50" in lines


def drawn(shown: Screen, view: View, width: int, height: int) -> list[str]:
    """Return the lines of a screen."""
    out = io.StringIO()
    console = Console(file=out, width=width, height=height)
    console.print(render(shown, view, words("en"), width, height))
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Make five servers of three entities: power, load, energy and contact differ in their order."""
    path = tmp_path_factory.mktemp("top") / "data"
    with Filled(path) as filled:
        for number, (entity, watts) in enumerate(
            (("Métropole > Collège", 90.0), ("Métropole > DSI", 120.0), ("Métropole > Voirie", None))
        ):
            host = filled.add_host(entity=entity)
            if watts is not None:
                filled.push(host, minutes_of_server(10, 8 - 4 * number, watts), METER)
        virtual = filled.add_host(device_class=DeviceClass.VIRTUAL_MACHINE, entity="Métropole > DSI")
        period = clock(start_of_minute(5), 60_000)
        filled.push(virtual, [(period, [cell(State.ON_IDLE, 60_000, busy_ratio=0.9)])])
        filled.add_host(contact=False, entity="Métropole > Archives")
        filled.derive()
    return path


def looked(
    reader: SqliteReader, settings: CollectorSettings, choice: Choice | None = None, rows: int = MAXIMUM_ROWS
) -> Screen:
    """Return the screen of a data directory."""
    return take_screen(SnapshotCache(reader, settings), settings, words("en"), choice or Choice(), rows)


@pytest.mark.parametrize(
    ("sort", "column", "expected"),
    [
        (SortKey.POWER, "power", ["120\u00a0W", "90.0\u00a0W"]),
        (SortKey.CPU, "cpu", ["90.0%", "30.0%", "30.0%", "–", "–"]),
        (SortKey.CONTACT, "contact", ["! never"]),
        (SortKey.ENTITY, "short_place", ["Archives / lyon / server", "Collège / lyon / server"]),
    ],
)
def test_servers_are_sorted(many, sort, column, expected):
    """Each key sorts all servers; those without a value are last; reversed, they still are."""
    settings = CollectorSettings(data_dir=many)
    with closing(SqliteReader(many)) as reader:
        rows = looked(reader, settings, Choice(sort)).rows
        turned = looked(reader, settings, Choice(sort, is_reversed=True)).rows
    found = [getattr(row, column) for row in rows]
    assert found[: len(expected)] == expected
    assert {row.host for row in rows} == {row.host for row in turned}
    known = [cell for cell in found if cell != "–"]
    if sort is not SortKey.CONTACT:
        assert [getattr(row, column) for row in turned][: len(known)] == known[::-1]


def test_energy_sorts_too(many):
    """The energy of today, whatever it is at this hour, falls from row to row."""
    with closing(SqliteReader(many)) as reader:
        rows = looked(reader, CollectorSettings(data_dir=many), Choice(SortKey.ENERGY)).rows
    known = [row.energy != "–" for row in rows]
    assert known == sorted(known, reverse=True)
    assert len(rows) == 5


def test_a_filter_knows_no_case_and_no_accent(many):
    """Entity, site and class are searched, and the begin of an id; the number says how many fit."""
    settings = CollectorSettings(data_dir=many)
    with closing(SqliteReader(many)) as reader:
        assert looked(reader, settings, Choice(text="COLLEGE")).servers == 1
        assert looked(reader, settings, Choice(text="dsi")).servers == 2
        assert looked(reader, settings, Choice(text="virtual_machine")).servers == 1
        host = looked(reader, settings).rows[0].host
        assert [row.host for row in looked(reader, settings, Choice(text=host[:8])).rows] == [host]
        none = looked(reader, settings, Choice(text="nowhere"))
    assert (none.servers, none.rows) == (0, ())
    assert "no server fits the filter   filter: nowhere" in drawn(none, View(Choice(text="nowhere")), 80, 24)


def test_rows_scroll_and_end_at_the_last(many):
    """The first row is never so far that fewer rows than fit are shown."""
    settings = CollectorSettings(data_dir=many)
    with closing(SqliteReader(many)) as reader:
        whole = [row.host for row in looked(reader, settings).rows]
        for choice in (Choice(first=2), Choice(first=99), Choice(SortKey.ENTITY, first=99)):
            shown = looked(reader, settings, choice, rows=2)
            assert (len(shown.rows), shown.first) == (2, min(choice.first, 3))
            if choice.sort is SortKey.POWER:
                assert [row.host for row in shown.rows] == whole[shown.first : shown.first + 2]


def test_silent_servers_are_marked(many):
    """A server without a contact for two intervals has a mark and a colour; the others have neither."""
    settings = CollectorSettings(data_dir=many)
    later = unix_seconds() + 86_400
    with closing(SqliteReader(many)) as reader:
        fresh = looked(reader, settings)
        cache = SnapshotCache(reader, settings, clock=lambda: later)
        stale = take_screen(cache, settings, words("en"), Choice(), MAXIMUM_ROWS)
    assert [row.contact for row in fresh.rows if row.is_silent] == ["! never"]
    heard = [row for row in stale.rows if "never" not in row.contact]
    assert len(heard) == 4
    assert all(row.is_silent and row.contact.startswith("! ") for row in heard)
    out = io.StringIO()
    console = Console(file=out, width=80, height=24, force_terminal=True, color_system="standard")
    console.print(render(stale, View(Choice()), words("en"), 80, 24))
    assert all(
        any(row.host in line and "\x1b[33m" in line for line in out.getvalue().split("\n")) for row in heard
    )


def test_keys():
    """Each letter sorts, and turns the order when pressed again; / filters; arrows scroll; q quits."""
    view: View | None = View(Choice(first=7))
    for key, sort in SORT_KEYS.items():
        assert view is not None
        view = view.press(key, 10)
        assert view == View(Choice(sort, is_reversed=sort is SortKey.POWER))  # it was sorted by power
        view = View(Choice(sort)).press(key, 10)
        assert view == View(Choice(sort, is_reversed=True))
        assert view.press(key, 10) == View(Choice(sort))
    typed: View | None = View(Choice(first=7))
    for key in ("/", "D", "S", "x", "backspace", "up", "I"):
        assert typed is not None
        typed = typed.press(key, 10)
    assert typed == View(Choice(text="DSI"), is_typing=True)
    assert typed.press("enter", 10) == View(Choice(text="DSI"))
    assert typed.press("escape", 10) == View(Choice())
    assert typed.press("q", 10) == View(Choice(text="DSIq"), is_typing=True)
    moved = View(Choice(first=30))
    for key, first in (("up", 29), ("down", 31), ("page up", 20), ("page down", 40), (" ", 40), ("home", 0)):
        assert moved.press(key, 10) == View(Choice(first=first))
    assert View(Choice()).press("up", 10) == View(Choice())
    assert moved.press("x", 10) == moved
    assert moved.press("q", 10) is None


def test_plain_lines(data, monkeypatch, capsys):
    """Without a terminal lines are printed once or at each look; --seconds ends with exit code 0."""
    monkeypatch.setenv("VEILLEUSE__DATA_DIR", str(data))
    moment = 0.0

    def sleep(seconds: float) -> None:
        nonlocal moment
        moment += seconds

    monkeypatch.setattr(top, "time", SimpleNamespace(monotonic=lambda: moment, sleep=sleep))
    with closing(SqliteReader(data)) as reader:
        server = f" host {reader.hosts()[0].agent_id.hex()[:12]} "
    assert run(["top", "--seconds", "1", "--interval", "0.5"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.count("page http://") == 1
    assert said.out.count(server) == 3
    assert "\x1b" not in said.out


@pytest.mark.parametrize("option", ["--seconds", "--interval"])
@pytest.mark.parametrize("value", ["inf", "nan", "1e999"])
def test_a_time_that_never_comes_is_refused(data, monkeypatch, capsys, option, value):
    """`--seconds inf` ran for ever; `--interval inf` ended with a traceback."""
    monkeypatch.setenv("VEILLEUSE__DATA_DIR", str(data))
    assert run(["top", "--seconds", "0", option, value]) == 2
    said = capsys.readouterr()
    assert option in said.err
    assert said.err.count("\n") == 1


def _as_from_a_shell() -> None:
    # A shell's background job, which these tests may be, ignores SIGINT, and so would its children.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # its terminal tells a process of another size


class Terminal:
    """A pseudo-terminal with `veilleuse top` on it."""

    def __init__(self, data: Path, command: Sequence[str], **variables: str) -> None:
        self.main, self.child = pty.openpty()
        self.resize(24, 80)
        self.before = termios.tcgetattr(self.child)
        known = {name: value for name, value in environment(data).items() if name != "COLUMNS"}
        self.process = subprocess.Popen(
            command,
            env=known | variables,
            stdin=self.child,
            stdout=self.child,
            stderr=self.child,
            start_new_session=True,
            preexec_fn=_as_from_a_shell,
        )
        self.seen = b""

    def resize(self, lines: int, columns: int) -> None:
        """Give the terminal another size."""
        fcntl.ioctl(self.main, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def until(self, text: str) -> None:
        """Read until the text is seen; forget what was read."""
        until(lambda: text.encode() in self._read(), text)
        self.seen = b""

    def _read(self) -> bytes:
        """Return what was written since the last text. Without this, a process that fills its terminal waits
        for ever."""
        while select.select([self.main], [], [], 0)[0]:
            self.seen += os.read(self.main, 65536)
        return self.seen

    def press(self, keys: str) -> None:
        """Type keys."""
        os.write(self.main, keys.encode())

    def ended(self) -> int:
        """Wait for the end, and return the exit code; the terminal must be as it was before."""
        until(lambda: self._read() is not None and self.process.poll() is not None)
        self._read()
        code = self.process.returncode
        assert termios.tcgetattr(self.child) == self.before
        assert b"Traceback" not in self.seen
        os.close(self.child)
        os.close(self.main)
        return code


@pytest.fixture
def terminals(data) -> Iterator[Callable[..., Terminal]]:
    """Start views on pseudo-terminals; those that still run after the test are killed."""
    started: list[Terminal] = []

    def start(*words: str, **variables: str) -> Terminal:
        command = [program("veilleuse"), "top", *words]
        started.append(Terminal(data, command, **variables))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def test_live_view_ends_on_ctrl_c(terminals):
    """A live view on a terminal ends on Ctrl-C with exit code 0, and gives the terminal back."""
    terminal = terminals()
    terminal.until("q quit")
    during = termios.tcgetattr(terminal.child)[3]
    assert not during & (termios.ICANON | termios.ECHO)
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.ended() == 0
    assert b"Veilleuse" in terminal.seen, "the last screen stays"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_gives_the_terminal_back(terminals, number):
    """SIGTERM and SIGHUP end the view; the terminal is as before, with the code that a shell gives."""
    terminal = terminals()
    terminal.until("q quit")
    terminal.process.send_signal(number)
    assert terminal.ended() == 128 + number


def test_an_error_gives_the_terminal_back(data):
    """An error while the view runs: the terminal is as before, and the error is told after the view."""
    program_text = (
        "from pathlib import Path\n"
        "from veilleuse.collector.cli import top\n"
        "from veilleuse.collector.cli.main import run\n"
        "whole = top.take_screen\n"
        "def once(*arguments):\n"
        "    top.take_screen = lambda *arguments: Path('/nowhere/at/all').read_text()\n"
        "    return whole(*arguments)\n"
        "top.take_screen = once\n"
        "raise SystemExit(run(['top', '--interval', '0.5']))\n"
    )
    terminal = Terminal(data, [sys.executable, "-c", program_text])
    terminal.until("q quit")
    assert terminal.ended() == 1
    assert b"veilleuse: /nowhere/at/all: No such file or directory" in terminal.seen


def test_keys_on_a_terminal(terminals):
    """Keys act without Enter and without echo: sort, filter, all again, quit."""
    terminal = terminals("--interval", "60")
    terminal.until("power▾")
    terminal.press("t")
    terminal.until("contact▴")
    terminal.press("/virt")
    terminal.until("filter: virt_")
    terminal.press("\r")
    terminal.until("filter: virt")
    terminal.press("\x1b")
    terminal.until("p power")
    terminal.press("q")
    assert terminal.ended() == 0


def test_another_size_is_drawn_at_once(terminals):
    """After a resize the screen has the new size, long before the next update."""
    terminal = terminals("--interval", "600")
    terminal.until("q quit")
    terminal.resize(30, 130)
    terminal.until("states today")
    terminal.press("q")
    assert terminal.ended() == 0


def test_options_choose_as_the_keys_do(data, monkeypatch, capsys):
    """`--sort` and `--filter` also in plain lines; a French locale changes no plain line."""
    monkeypatch.setenv("VEILLEUSE__DATA_DIR", str(data))
    monkeypatch.setenv("LC_ALL", "fr_FR.UTF-8")
    assert run(["top", "--seconds", "0", "--sort", "cpu", "--filter", "VIRTUAL"]) == 0
    hosts = [line for line in capsys.readouterr().out.splitlines() if " host " in line]
    assert len(hosts) == 1
    assert "virtual_machine): " in hosts[0]
    assert "idle 100%, today " in hosts[0]
    assert run(["top", "--seconds", "0", "--sort", "size"]) == 2
    assert capsys.readouterr().err.startswith("veilleuse: valeur refusée pour")


def test_the_live_view_is_french_in_a_french_locale(terminals):
    """On a terminal, words and keys are French."""
    terminal = terminals(LC_ALL="fr_FR.UTF-8", PYTHONUTF8="1")
    terminal.until("défiler")
    terminal.press("q")
    assert terminal.ended() == 0


def test_no_data_directory(tmp_path):
    """The error is one line with exit code 1."""
    done = ran([program("veilleuse"), "top"], env=environment(tmp_path / "nowhere"), timeout=PATIENCE_SECONDS)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "veilleuse init" in done.stderr
