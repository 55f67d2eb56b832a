# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A file without end, or a pipe without a writer, gives one line: what, where, how much was read, what to do.
Memory is bounded."""

from __future__ import annotations

import json
import os
import resource
import sys

import pytest

from tests.support.processes import ran
from tests.support.stack import Stack, program
from tests.support.waiting import PATIENCE_SECONDS

MEMORY_BYTES = 1 << 30
"""Bound of the address space, not of used memory: the libraries alone map half of it."""
ENDLESS = "/dev/zero"
BOUND = ("the most that are read", "it is a device, no regular file")
COMMANDS = {
    "reen": "reen import {}",
    "intensity": "intensity import {}",
    "factors": "factors import {}",
    "inventory": "inventory import {}",
    "mapping": "inventory import {good} --mapping {}",
    "glpi": "inventory pull --credentials {}",
    "glpi-ca": "inventory pull --credentials {glpi}",
    "meters": "meters import {}",
    "calendar": "calendar import {} --site test",
    "school holidays": "calendar school-holidays {}",
    "calibration": "calibrate readings {} --meter any",
    "plan of plugs": "plugs report {}",
    "machines for plugs": "plugs plan -o {new} --among {}",
    "closed year": "verify {}",
    "sign-off": "close 2025 --sign-off {}",
    "signature": "verify {year}",
    "public key": "verify {year} --key {}",
    "configuration": "close --list --config {}",
    "backup key": "backup {new} --key-file {}",
    "backup": "restore {}",
    "chain": "ca import --certificate {} --key {} --root {}",
    "root key": "ca renew-intermediate --root-key {}",
}
IN_ONE = """
import contextlib, io, json, sys
from veilleuse.collector.cli.main import run
said = {}
for name, words in json.load(sys.stdin).items():
    with contextlib.redirect_stderr(io.StringIO()) as error:
        try:
            code = run(words)
        except BaseException as trouble:
            code = repr(trouble)
    said[name] = (code, error.getvalue())
print(json.dumps(said))
"""


def bounded() -> None:
    """Set the memory bound in the child, before its program starts."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Give an initialised collector."""
    with Stack(tmp_path_factory.mktemp("endless")) as stack:
        stack.must("veilleuse", "init", "--site", "test", "--zone", "FR")
        yield stack


def words_of(stack: Stack, line: str, file: str) -> list[str]:
    """Return the words of a command line, with the paths of its files."""
    folder = stack.data.parent
    for name, text in (
        ("good", "key\n"),
        ("year", "{}"),
        ("glpi", f'url = "https://127.0.0.1:9/x"\nuser_token = "x"\nca_file = "{file}"\n'),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    if not (folder / "year.sig").is_symlink():
        (folder / "year.sig").symlink_to(ENDLESS)
    names = {name: str(folder / name) for name in ("good", "year", "glpi", "new")}
    return [word.format(file, **names) for word in line.split()]


@pytest.fixture(scope="module")
def said(place):
    """Return command → (exit code, errors); all commands run in one process of bounded memory."""
    asked = {name: words_of(place, line, ENDLESS) for name, line in COMMANDS.items()}
    done = ran(
        [sys.executable, "-c", IN_ONE],
        input=json.dumps(asked),
        env=place.environment,
        preexec_fn=bounded,
        check=True,
        timeout=120,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_of_the_collector_reads_no_endless_file(said, name):
    """`reen`, `intensity`, `factors`, `verify` and `--config` once read /dev/zero until memory ran out."""
    code, text = said[name]
    assert (code, text.count("\n")) in ((2, 1), (1, 1)), text
    assert ENDLESS in text or "year.sig" in text
    assert any(bound in text for bound in BOUND)


@pytest.mark.parametrize(
    "words",
    [
        ("enrol", ENDLESS),
        ("prepare-image", "--join", ENDLESS),
        ("show", "--config", ENDLESS),
        ("poll", "--once", "--config", "{}"),
    ],
)
def test_a_command_of_the_agent_reads_no_endless_file(place, tmp_path, words):
    """`--config` and paths.meters once read /dev/zero until memory ran out."""
    settings = tmp_path / "agent.toml"
    settings.write_text(f'[paths]\nmeters = "{ENDLESS}"\n')
    done = ran(
        [program("veilleuse-agent"), *(word.format(settings) for word in words)],
        env=place.environment,
        preexec_fn=bounded,
        timeout=60,
    )
    assert (done.returncode, done.stderr.count("\n")) in ((1, 1), (2, 1)), done.stderr
    assert ENDLESS in done.stderr
    assert any(bound in done.stderr for bound in BOUND)


def test_a_service_reads_no_endless_token(place):
    """Each start once read http.metrics_token_file until memory ran out."""
    done = ran(
        [program("veilleuse"), "serve"],
        env={**place.environment, "VEILLEUSE__HTTP__METRICS_TOKEN_FILE": ENDLESS},
        preexec_fn=bounded,
        timeout=60,
    )
    assert done.returncode == 2
    assert "/dev/zero: it goes on after 4,096 bytes, the most that are read" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("line", ["reen import {}", "verify {}", "close --list --config {}", "restore {}"])
def test_a_pipe_that_nobody_writes_to_is_said(place, tmp_path, line):
    """Each of these commands once waited for ever without a message."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    code = (
        "import sys; from veilleuse.wire import files; files.PIPE_WAIT_SECONDS = 0.2\n"
        "from veilleuse.collector.cli.main import run; sys.exit(run(sys.argv[1:]))"
    )
    done = ran(
        [sys.executable, "-c", code, *words_of(place, line, str(pipe))],
        env=place.environment,
        timeout=PATIENCE_SECONDS,
    )
    assert (done.returncode, done.stderr.count("\n")) in ((1, 1), (2, 1)), done.stderr
    assert f"{pipe}: it is a pipe" in done.stderr


def test_what_a_shell_pipes_is_read_as_before(place, tmp_path):
    """`<(command)` and /dev/stdin are read, for an import and for the settings."""
    script = (
        'V="$1"; "$V" close --list --config <(sleep 0.3; echo "[log]") 2>&1; '
        'cat "$2" | "$V" reen import --dry-run /dev/stdin 2>&1; "$V" reen import --dry-run <(cat "$2") 2>&1'
    )
    template = tmp_path / "objectives.csv"
    template.write_text(place.must("veilleuse", "reen", "template", "objectives"))
    done = ran(
        ["bash", "-c", script, "bash", program("veilleuse"), str(template)], env=place.environment, timeout=60
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "no year is closed"
    assert [line for line in lines[1:] if line.startswith("objectives: 0 lines")] == lines[1:3], lines
