# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Any command line and any file give a documented exit code, one line of error, an end, no traceback."""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.support.closed_years import filled_year
from tests.support.command_words import Typist, commands_of_agent, commands_of_collector
from tests.support.hostile_files import TABLES, write_all
from tests.support.machines import settings_in
from tests.support.waiting import PATIENCE_SECONDS
from veilleuse.agent.commands.main import main
from veilleuse.collector.app.gateway.messages import GatewayCertificate, GatewaySetup, as_head, decode, encode
from veilleuse.collector.cli.main import run
from veilleuse.collector.ipc import GATEWAY_FILE, GATEWAY_INNER_FILE, PrivateServer
from veilleuse.collector.settings import settings_environment

CODES = {0, 1, 2, 3}
"""Exit codes of docs/commands.md, without 130: nobody presses Ctrl-C here."""
FAILED = ("Traceback", "unforeseen", "its log says why")
"""Words of a program's message about its own defect."""
MOST_LINES = 4
"""Lines of an error; a note about factors that cannot be read may precede it."""
LINES_EACH = 400
SEED = 20260101


READERS: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "calendar import FILE --site new --create --zone FR --time-zone Europe/Paris": (run, "closures"),
    "calendar school-holidays FILE": (run, "holidays"),
    "meters import FILE": (run, "meters"),
    "intensity import FILE --series mine --zone FR --kind consumption": (run, "intensity"),
    "calibrate readings FILE --meter a --accuracy 1 --unit a=00000000": (run, "readings"),
    "plugs plan -o to --among FILE": (run, ""),
    "plugs report FILE": (run, ""),
    "inventory import FILE": (run, "assets"),
    "inventory import FILE --dry-run": (run, "headcounts"),
    "inventory import FILE --mapping FILE": (run, ""),
    "inventory pull --credentials FILE": (run, ""),
    "reen import FILE": (run, "actions"),
    "factors import FILE --why x": (run, "factors"),
    "close 2025 --sign-off FILE": (run, ""),
    "verify FILE": (run, ""),
    "restore FILE": (run, ""),
    "backup to --key-file FILE": (run, ""),
    "ca import --certificate FILE --key FILE --root FILE": (run, ""),
    "ca rotate --root-key FILE": (run, ""),
    "token list --config FILE": (run, ""),
    "show --config FILE": (main, ""),
    "enrol FILE": (main, ""),
    "prepare-image --join FILE": (main, ""),
}
"""Command line → program, and the table that it reads, of tests.support.hostile_files.TABLES."""


class TooSlowError(BaseException):
    """A BaseException, so that no command catches it."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose data directory `data` contains some weeks of a year."""
    folder = tmp_path_factory.mktemp("prepared")
    filled_year(settings_in(folder / "data"))
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return the hostile files."""
    return write_all(tmp_path_factory.mktemp("files"))


class Desk:
    """Runs command lines of both programs in this process, on copies of the prepared folder."""

    def __init__(self, prepared: Path, folder: Path) -> None:
        self._prepared, self._folder = prepared, folder
        self.failures: list[str] = []

    def renew(self) -> None:
        """Restore the prepared folder."""
        for path in self._folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        shutil.copytree(self._prepared, self._folder, dirs_exist_ok=True)
        (self._folder / "state").mkdir(mode=0o700)

    def try_line(self, program: Callable[[Sequence[str]], int], words: Sequence[str]) -> None:
        """Run a command line; record a wrong exit code, too many lines, or a traceback in `failures`."""
        out, err = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO(), errors="backslashreplace")
        code: object = None
        with with_an_end(), redirect_stdout(out), redirect_stderr(err):
            try:
                code = program(words)
            except SystemExit as ended:
                code = ended.code
            except TooSlowError:
                code = f"more than {PATIENCE_SECONDS:g} s"
            except BaseException as error:  # noqa: BLE001  # no exception may leave a command
                code = repr(error)[:200]
        err.seek(0)
        said = err.read()
        if code not in CODES or said.count("\n") > MOST_LINES or any(word in said for word in FAILED):
            shown = " ".join(repr(word[:60]) for word in words)
            self.failures.append(f"{program.__module__} {shown}: {code}: {said[:300]}")


@contextmanager
def with_an_end() -> Iterator[None]:
    """Raise TooSlowError in the block after PATIENCE_SECONDS: a command that takes minutes blocks no test."""

    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def desk(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """Give a desk in its own folder: no keyboard, and no network except refused calls to this machine."""
    folder = tmp_path / "here"
    folder.mkdir()
    environment = settings_environment(settings_in(folder / "data"))
    environment |= {
        "VEILLEUSE_AGENT__PATHS__STATE": str(folder / "state"),
        "VEILLEUSE_AGENT__PATHS__METERS": str(folder / "meters.toml"),
        "HOME": str(folder),
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    monkeypatch.setattr(socket, "getaddrinfo", only_here(socket.getaddrinfo))
    before = os.umask(0o077)
    made = Desk(prepared, folder)
    made.renew()
    yield made
    os.umask(before)


def only_here(resolve: Callable[..., Any]) -> Callable[..., Any]:
    """Return a resolver that knows no name of another machine."""

    def looked_up(host: Any, *rest: Any, **more: Any) -> Any:
        if host not in (None, "", "localhost", "127.0.0.1", "::1"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *rest, **more)

    return looked_up


@pytest.mark.parametrize("line", READERS)
def test_hostile_files(desk, files, line):
    """Each command that reads a file fails properly on files of its own table and of no table."""
    program, table = READERS[line]
    tables = tuple(f"{name}_" for name in TABLES)
    tried = [path for path in files if path.name.startswith(f"{table}_") or not path.name.startswith(tables)]
    for path in tried:
        desk.try_line(program, [str(path) if word == "FILE" else word for word in line.split()])
    assert not desk.failures, "\n".join(desk.failures)


NAMED: dict[str, tuple[Callable[[Sequence[str]], int], str]] = {
    "token list --config deep.toml": (run, "nested too deeply"),
    "show --config deep.toml": (main, "nested too deeply"),
    "token list --config number.toml": (run, "more than 4,300 digits"),
    "meters import deep.toml": (run, "nested too deeply"),
    "calendar school-holidays holidays_long_field.csv": (run, "field larger than field limit"),
    "intensity import number.json": (run, "neither JSON nor CSV"),
    "factors list --on 9999-12-31": (run, "its year must be 1980 to 2999"),
    "factors show electricity/FR --on 2999-12-31": (run, "between the years 2000 and 2200"),
    "convert 1 --on 9999-12-31": (run, "its year must be 1980 to 2999"),
    "calibrate meters --model x --to 0001-01-01": (run, "its year must be 1980 to 2999"),
    "close 99999999999999999999 --list": (run, "name one year, 2000 to 2200"),
    "intensity show --from 0001-01-01 --to 2026-01-01": (run, "its year must be 1980 to 2999"),
    "intensity show --from 2000-01-01 --to 2200-12-31": (run, "more than 366 days"),
}
"""Command line → program, and its message: each once gave a traceback, or took minutes."""


@pytest.mark.parametrize("line", NAMED)
def test_what_was_a_traceback(desk, files, line, capsys):
    """The command reports wrong usage in one line."""
    program, told = NAMED[line]
    named = {path.name: str(path) for path in files}
    with with_an_end():
        assert program([named.get(word, word) for word in line.split()]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1


def test_a_bare_carriage_return_ends_a_line(desk, files, capsys):
    """A file of an old spreadsheet is read by lines: the error is in the row after the carriage return."""
    named = {path.name: str(path) for path in files}
    new = ("--site", "new", "--create", "--zone", "FR", "--time-zone", "Europe/Paris")
    assert run(["calendar", "import", named["closures_carriage_return.csv"], *new]) == 2
    assert "line 2, first: 'a' is no date" in capsys.readouterr().err


INTERRUPTED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background has it ignored
wanted = sys.argv[1]
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
from {package}.__main__ import main
sys.argv[1:] = ["version"]
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("package", "module"),
    [
        ("veilleuse.collector", "veilleuse.collector.cli.main"),
        ("veilleuse.collector", "typer"),
        ("veilleuse.collector", "veilleuse.collector.logs"),
        ("veilleuse.agent", "veilleuse.agent.commands.main"),
        ("veilleuse.agent", "veilleuse.agent.settings"),
        ("veilleuse.agent", "argparse"),
    ],
)
def test_an_interrupt_while_modules_are_imported(package, module):
    """Ctrl-C in the first 0.2 s gives exit code 130 and no output."""
    program = [sys.executable, "-c", INTERRUPTED.format(package=package), module]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(("output", "code", "lines"), [("/dev/full", 1, 1), ("&-", 0, 0)])
@pytest.mark.parametrize("program", ["veilleuse.collector", "veilleuse.agent"])
def test_an_output_that_takes_nothing(program, output, code, lines):
    """A full disk gives one line, not Python's own traceback at the end; a closed output is no error."""
    words = ["sh", "-c", f'exec "$@" >{output}', "sh", sys.executable, "-m", program, "version"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(words, env=buffered, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (code, lines), done.stderr
    assert "Traceback" not in done.stderr


def test_a_disk_error_in_the_door(tmp_path):
    """If the path of its socket is a directory, the gateway ends with one line and exit code 1."""
    (tmp_path / GATEWAY_INNER_FILE).mkdir()
    opening = GatewaySetup("127.0.0.1:0", (), GatewayCertificate("", ""), str(tmp_path))

    def answer(reading: Any, writing: Any) -> None:
        decode(reading)
        writing.write(encode(as_head(opening)))

    environment = {**os.environ, "VEILLEUSE__DATA_DIR": str(tmp_path)}
    words = [sys.executable, "-m", "veilleuse.collector.app.gateway"]
    with closing(PrivateServer(tmp_path, GATEWAY_FILE, answer, places=4)):
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr == f"veilleuse gateway: {tmp_path / GATEWAY_INNER_FILE}: Is a directory\n"


def fuzz(desk: Desk, files: list[Path], seed: int, lines: int) -> None:
    """Run `lines` random command lines, or as many as give 20 failures."""
    typist = Typist(seed, files, Path.cwd())
    programs = ((run, commands_of_collector()), (main, commands_of_agent()))
    for number in range(lines):
        if len(desk.failures) >= 20:
            return
        program, commands = programs[number % 4 == 3]
        desk.try_line(program, typist.line(commands))
        if number % 10 == 9:
            desk.renew()


def test_command_lines_by_chance(desk, files):
    """Random command lines fail properly: the same in each run."""
    fuzz(desk, files, SEED, LINES_EACH)
    assert not desk.failures, "\n".join(desk.failures)


@pytest.mark.long
@pytest.mark.parametrize("part", range(4))
def test_many_command_lines_by_chance(desk, files, part):
    """Other random command lines in each run fail properly; a failure names the seed."""
    seed = random.SystemRandom().randrange(2**32)
    fuzz(desk, files, seed, 5_000)
    assert not desk.failures, f"seed {seed}, part {part}\n" + "\n".join(desk.failures)
