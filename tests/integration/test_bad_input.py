# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Bad input gives one clear line (what, where, what to do), the right exit code, and loses no measurement."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support import clock
from tests.support.processes import ran
from tests.support.records import clock_record, spool_of
from tests.support.stack import COMMAND_SECONDS, Stack, program
from veilleuse.wire.units import MILLISECONDS_PER_HOUR

FAILED, USAGE = 1, 2


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Give a stack without a started process."""
    with Stack(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data directory as `veilleuse init` makes it."""
    with Stack(tmp_path_factory.mktemp("made")) as made:
        made.must("veilleuse", "init")
        return made.data


@pytest.fixture
def initialised(stack: Stack, made_once: Path) -> Stack:
    """Return a stack with its own copy of an initialised data directory."""
    shutil.copytree(made_once, stack.data)
    return stack


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Give a running collector, for tests that do not harm it."""
    with Stack(tmp_path_factory.mktemp("serving")) as made:
        made.start_collector()
        yield made


@pytest.fixture
def newcomer(serving: Stack, tmp_path: Path) -> Stack:
    """Return the running collector, with an agent of this test that has no identity."""
    serving.state = tmp_path / "agent"
    serving.environment["VEILLEUSE_AGENT__PATHS__STATE"] = str(serving.state)
    return serving


def one_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    """Return the only line of errors; fails for another exit code, more lines, or a traceback."""
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def last_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    """Return the last line of errors of a service, which logs before it fails."""
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


# ------------------------------------------------------------------------------ configuration


@pytest.mark.parametrize(
    "command", [("veilleuse", "serve"), ("veilleuse-agent", "run")], ids=lambda words: words[0]
)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[log\nlevel = 1\n", "is not valid TOML"),
        ('[log]\nlevl = "info"\n', "the nearest known key is 'log.level'"),
        ('[log]\nlevel = "loud"\n', "use one of debug, info, warning, error"),
        ("[log]\nlevel = 3\n", "must be text"),
    ],
    ids=["malformed", "unknown-key", "not-a-choice", "wrong-type"],
)
def test_a_configuration_that_cannot_be_used(stack, tmp_path, command, text, expected):
    """The exit code is 2; the line names the file, the key, and the nearest known key."""
    file = tmp_path / "settings.toml"
    file.write_text(text)
    line = one_line(stack.run(*command, "--config", str(file)), USAGE)
    assert str(file) in line
    assert expected in line


@pytest.mark.parametrize(
    "command", [("veilleuse", "serve"), ("veilleuse-agent", "run")], ids=lambda words: words[0]
)
def test_an_unknown_setting_in_the_environment(stack, command):
    """An unknown setting is refused by its name in the environment, like one in the file."""
    name = {"veilleuse": "VEILLEUSE__DATA_DIRR", "veilleuse-agent": "VEILLEUSE_AGENT__SPOOL__MAX_BITES"}[
        command[0]
    ]
    line = one_line(stack.run(*command, **{name: "1"}), USAGE)
    assert name in line
    assert "nearest known key" in line


@pytest.mark.parametrize(
    "words", [("veilleuse", "brew"), ("veilleuse-agent", "brew"), ("veilleuse", "serve", "--no")]
)
def test_wrong_usage(stack, words):
    """Wrong usage gives exit code 2 and no traceback."""
    done = stack.run(*words)
    assert done.returncode == USAGE
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------------------- data directory


def test_a_port_in_use(initialised):
    """`serve` names the address in use, for each of its ports, and ends with 1."""
    stack = initialised
    for setting in ("HTTP__ADDRESS", "GRPC__ADDRESS", "GRPC__ENROLMENT_ADDRESS"):
        address = stack.environment[f"VEILLEUSE__{setting}"]
        host, _, port = address.rpartition(":")
        with socket.create_server((host, int(port))):
            line = last_line(stack.run("veilleuse", "serve"), FAILED)
        assert address in line
        assert "use" in line


def test_serve_without_a_data_directory(stack):
    """The line says to run `veilleuse init`."""
    assert "veilleuse init" in last_line(stack.run("veilleuse", "serve"), FAILED)


def test_init_twice(initialised):
    """`init` never replaces a data directory; --if-missing accepts one."""
    stack = initialised
    assert str(stack.data) in one_line(stack.run("veilleuse", "init"), FAILED)
    stack.must("veilleuse", "init", "--if-missing")


@pytest.mark.parametrize(
    "command", [("veilleuse", "init"), ("veilleuse-agent", "run")], ids=lambda words: words[0]
)
def test_an_unwritable_directory(stack, tmp_path, command):
    """The line names the directory."""
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    stack.data, stack.state = locked / "collector", locked / "agent"
    stack.environment["VEILLEUSE__DATA_DIR"] = str(stack.data)
    stack.environment["VEILLEUSE_AGENT__PATHS__STATE"] = str(stack.state)
    line = last_line(_without_privilege(stack, *command), FAILED)
    assert str(locked) in line


def _without_privilege(stack: Stack, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command; root drops the capability to write anywhere."""
    setpriv = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    return ran(
        [*setpriv, program(command[0]), *command[1:]],
        env=stack.environment,
        timeout=COMMAND_SECONDS,
        stdin=subprocess.DEVNULL,
    )


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """Mount a small file system while the block runs; skips without the right to mount."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("needs root and the right to mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_data_directory(stack, tmp_path):
    """On a full disk `init` fails in one line. On a nearly full disk records are refused; the agent keeps
    them and delivers them when there is room."""
    with small_disk(tmp_path / "disk", 24) as disk:
        filler = disk / "filler"
        stack.data = disk / "collector"
        stack.environment["VEILLEUSE__DATA_DIR"] = str(stack.data)
        _fill(filler, leave_bytes=0)
        assert str(disk) in last_line(stack.run("veilleuse", "init"), FAILED)
        filler.unlink()
        if stack.data.exists():
            subprocess.run(["rm", "-r", stack.data], check=True)

        stack.environment["VEILLEUSE__STORE__FREE_BYTES_MINIMUM"] = str(8 * 1024 * 1024)
        stack.environment["VEILLEUSE__STORE__FREE_RATIO_MINIMUM"] = "0.5"
        stack.start_collector()
        stack.enrol()
        _append(stack, 6)
        _fill(filler, leave_bytes=4 * 1024 * 1024)
        refused = stack.run("veilleuse-agent", "send")
        assert refused.returncode == FAILED, refused.stderr
        assert "Traceback" not in refused.stderr
        assert _waiting(stack) == 6
        assert "veilleuse_" in _metrics(stack)
        filler.unlink()

        def delivered() -> bool:
            stack.run("veilleuse-agent", "send")
            return _waiting(stack) == 0

        stack.wait_for(delivered, "the records are taken after space returned")
        for process in stack.processes:
            stack.stop(process)


def _fill(file: Path, leave_bytes: int) -> None:
    block = b"\0" * 65536
    try:
        with file.open("wb", buffering=0) as out:
            while True:
                free = os.statvfs(file.parent)
                if free.f_bavail * free.f_frsize <= leave_bytes + len(block):
                    if leave_bytes == 0:
                        while out.write(block[:4096]):
                            pass
                    return
                out.write(block)
    except OSError:
        return


def _metrics(stack: Stack) -> str:
    from tests.support.stack import get

    return get(stack.url + "metrics")


@pytest.mark.parametrize("database", ["data.db", "identity.db"])
def test_a_damaged_database(initialised, database):
    """The collector stops with one line that names the file and a remedy; it does not change the file."""
    stack = initialised
    file = stack.data / database
    content = bytearray(file.read_bytes())
    content[:64] = b"\xff" * 64
    file.write_bytes(content)
    line = last_line(stack.run("veilleuse", "serve"), FAILED)
    assert str(file) in line
    assert re.search(r"repair|restore|backup", line)
    assert file.read_bytes() == bytes(content)


def test_a_damaged_spool_is_set_aside(stack):
    """The agent starts with a new spool; the damaged file is kept."""
    stack.state.mkdir(mode=0o700)
    damaged = b"this is not a database, and it was one" * 500
    (stack.state / "spool.db").write_bytes(damaged)
    agent = stack.start("veilleuse-agent", "run", VEILLEUSE_AGENT__MEASURE__TICK_SECONDS="1")
    stack.wait_for(lambda: "measuring" in stack.log("veilleuse-agent"), "it measures", process=agent)
    assert stack.stop(agent) == 0
    assert _is_database(stack.state / "spool.db")
    kept = [file for file in stack.state.iterdir() if file.is_file() and file.read_bytes() == damaged]
    assert len(kept) == 1


def _is_database(file: Path) -> bool:
    return file.exists() and file.read_bytes()[:15] == b"SQLite format 3"


# ---------------------------------------------------------------------------------- enrolment


def test_a_wrong_fingerprint(newcomer, tmp_path):
    """Another pinned CA gives exit code 1 and no identity; the join file stays usable."""
    stack = newcomer
    join = _join_file(stack, tmp_path)
    line = one_line(
        stack.run("veilleuse-agent", "enrol", str(join), VEILLEUSE_AGENT__COLLECTOR__CA_SHA256="00" * 32),
        FAILED,
    )
    assert "fingerprint" in line or "ca_sha256" in line
    assert not (stack.state / "id/certificate.pem").exists()
    assert join.exists(), "a join file that was not used is kept"
    stack.must("veilleuse-agent", "enrol", str(join))


def test_a_used_token(newcomer, tmp_path):
    """A one-time token enrols one machine; the second is refused with a line about the token."""
    stack = newcomer
    join = _join_file(stack, tmp_path)
    copy = tmp_path / "copy"
    copy.write_bytes(join.read_bytes())
    copy.chmod(0o600)
    stack.must("veilleuse-agent", "enrol", str(join))
    assert not join.exists(), "deleted after success"
    other = {"VEILLEUSE_AGENT__PATHS__STATE": str(tmp_path / "other")}
    line = one_line(stack.run("veilleuse-agent", "enrol", str(copy), **other), FAILED)
    assert "token" in line


def test_an_expired_token(newcomer, tmp_path):
    """An expired token is refused with a line that says so."""
    stack = newcomer
    join = _join_file(stack, tmp_path, "--hours", "1e-9")  # it has expired when its file is written
    line = one_line(stack.run("veilleuse-agent", "enrol", str(join)), FAILED)
    assert "token" in line
    assert "expired" in line


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b"not a join file"])
def test_not_a_join_file(stack, tmp_path, content):
    """The line names the file."""
    file = tmp_path / "join"
    file.write_bytes(content)
    file.chmod(0o600)
    assert str(file) in one_line(stack.run("veilleuse-agent", "enrol", str(file)), FAILED)


def test_sending_before_enrolment(stack):
    """The line says to enrol."""
    assert "enrol" in one_line(stack.run("veilleuse-agent", "send"), FAILED)


def _join_file(stack: Stack, tmp_path: Path, *more: str) -> Path:
    join = tmp_path / "join"
    where = ("--entity", "test", "--site", "test", "--population", "server", *more)
    stack.must("veilleuse", "token", "create", *where, "--output", str(join))
    assert join.stat().st_mode & 0o777 == 0o600
    return join


# ---------------------------------------------------------------------------- two copies, away


def test_a_second_agent_on_the_same_state(stack):
    """R21: the second agent exits with one clear line; the first continues."""
    first = stack.start("veilleuse-agent", "run")
    stack.wait_for(lambda: (stack.state / "spool.db").exists(), "the first runs", process=first)
    line = last_line(stack.run("veilleuse-agent", "run"), FAILED)
    assert "already" in line
    assert first.poll() is None


def test_a_second_collector_on_the_same_data(serving):
    """The data directory is locked: the second collector exits with one clear line."""
    stack = serving
    (first,) = stack.processes
    ports = dict.fromkeys(
        ("VEILLEUSE__HTTP__ADDRESS", "VEILLEUSE__GRPC__ADDRESS", "VEILLEUSE__GRPC__ENROLMENT_ADDRESS"),
        "127.0.0.1:0",
    )
    line = last_line(stack.run("veilleuse", "serve", **ports), FAILED)
    assert str(stack.data) in line
    assert first.poll() is None


def test_a_collector_that_is_away(stack):
    """`send` fails in one line and keeps every record."""
    collector = stack.start_collector()
    stack.enrol()
    stack.stop(collector)
    _append(stack, 6)
    done = stack.run("veilleuse-agent", "send")
    assert stack.environment["VEILLEUSE__GRPC__ADDRESS"] in last_line(done, FAILED)
    assert _waiting(stack) == 6


def _append(stack: Stack, count: int) -> None:
    start = (clock.unix_milliseconds() // MILLISECONDS_PER_HOUR - 2) * MILLISECONDS_PER_HOUR
    spool = spool_of(stack.state)
    try:
        spool.append([clock_record(start + step * 300_000, 300_000).to_json() for step in range(count)], {})
    finally:
        spool.close()


def _waiting(stack: Stack) -> int:
    with closing(sqlite3.connect(f"file:{stack.state / 'spool.db'}?mode=ro", uri=True)) as db:
        (count,) = db.execute(
            "SELECT (SELECT COUNT(*) FROM pending)"
            " + (SELECT COUNT(*) FROM outbox WHERE acknowledged_unix_milliseconds IS NULL)"
        ).fetchone()
    return int(count)


# ------------------------------------------------------------------------------------- figures


def test_a_zone_without_factor(stack):
    """An unknown zone is an error; the world's mean is never used."""
    assert "ATLANTIS" in one_line(
        stack.run("veilleuse", "convert", "10", "--unit", "kWh", "--zone", "ATLANTIS", "--year", "2024"),
        FAILED,
    )


def test_a_known_answer(stack):
    """docs/methodology.md §13: 12,500 kWh in France in 2021 are 711.25 kg."""
    told = json.loads(
        stack.must(
            "veilleuse", "convert", "12500", "--unit", "kWh", "--zone", "FR", "--year", "2021", "--json"
        )
    )
    assert float(told["kgco2e_total"]) == 711.25
    assert told["provisional"] is False
