# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the end of a process, for both programs: one line for each error, and the exit code."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from veilleuse.wire.interrupt import EXIT_INTERRUPTED, end_on_interrupt
from veilleuse.wire.process import finish, lower_priority
from veilleuse.wire.settings_file import ConfigurationError, load

FULL = Path("/dev/full")


@pytest.fixture(autouse=True)
def own_handler() -> Iterator[None]:
    """Set Python's own handler of SIGINT, and restore it after the test."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted() -> int:
    """Raise SIGINT as Ctrl-C does."""
    signal.raise_signal(signal.SIGINT)
    return 0


def raising(error: BaseException) -> Callable[[], int]:
    """Return a process body that raises an error."""

    def body() -> int:
        raise error

    return body


def test_a_process_that_does_its_work_says_nothing(capsys):
    """`finish` keeps the exit code and the output."""

    def body() -> int:
        print("é")
        return 3

    assert finish("p", body) == 3
    assert capsys.readouterr() == ("é\n", "")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ConfigurationError("no file\n/x"), 2, "p: no file /x"),
        (OSError(errno.ENOSPC, "No space left", "/x"), 1, "p: /x: No space left; free some space"),
        (OSError(errno.EIO, "Input/output error"), 1, "p: Input/output error; check the disk"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/x"),
            1,
            "p: /x: Permission denied; run the command as root or as the service's user",
        ),
        (OSError("odd"), 1, "p: odd"),
        (MemoryError(), 1, "p: there is not enough memory for this: ask for less at once"),
        (KeyboardInterrupt(), EXIT_INTERRUPTED, ""),
        (BrokenPipeError(), 0, ""),
    ],
)
def test_an_error_that_can_be_foreseen(capsys, error, code, line):
    """The error gives one line without a traceback."""
    assert finish("p", raising(error)) == code
    assert capsys.readouterr().err.rstrip("\n") == line


def test_bytes_of_the_command_line_that_are_no_text(capsys):
    """The message shows the word with escapes, and the code is 2."""
    with pytest.raises(UnicodeEncodeError) as met:
        "caf\udce9".encode()
    assert finish("p", raising(met.value)) == 2
    assert capsys.readouterr().err == r"p: 'caf\udce9' is not UTF-8: type or rename it in UTF-8" + "\n"


def test_an_error_that_nobody_foresaw(capsys, monkeypatch):
    """The line gives kind, message and place; the traceback appears only in Python's development mode."""

    def body() -> int:
        load(ConfigurationError, file=None, environment={}, prefix="P")  # type: ignore[type-var]
        return 0

    assert finish("p", body) == 1
    said = capsys.readouterr().err
    assert said.startswith("p: unforeseen AttributeError at settings_file.py:")
    assert said.count("\n") == 1
    assert "Traceback" not in said
    assert "PYTHONDEVMODE=1" in said
    assert finish("p", raising(ValueError("x" * 5_000))) == 1
    assert len(capsys.readouterr().err) < 400

    flags = {name: getattr(sys.flags, name) for name in dir(sys.flags) if name[0] != "_"}
    monkeypatch.setattr(sys, "flags", SimpleNamespace(**{**flags, "dev_mode": True}))
    assert finish("p", body) == 1
    said = capsys.readouterr().err
    assert said.startswith("Traceback")
    assert said.splitlines()[-1].startswith("p: unforeseen AttributeError at settings_file.py:")


def test_an_output_that_takes_nothing(monkeypatch, capsys):
    """A full output gives one line instead of a traceback at exit; a full standard error changes nothing."""

    def body() -> int:
        print("much")
        return 0

    with FULL.open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert finish("p", body) == 1
        assert Path(f"/proc/self/fd/{full.fileno()}").readlink() == Path(os.devnull)
    assert capsys.readouterr().err == "p: No space left on device; free some space\n"
    with FULL.open("w", buffering=1) as full, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", full)
        patched.setattr(sys, "stdout", sys.__stdout__)
        assert finish("p", raising(ConfigurationError("x"))) == 2
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


def test_closed_streams(tmp_path):
    """A file that a command opens does not get a closed standard stream's number."""
    program = (
        "import os, sys; from veilleuse.wire.process import finish\n"
        f"sys.exit(finish('p', lambda: int(print('x') or os.open({str(tmp_path)!r}, os.O_RDONLY) < 3)))"
    )
    for closing in ("1>&-", "2>&-", "1>&- 2>&-"):
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {closing}', "sh", sys.executable, "-c", program], check=False
        )
        assert done.returncode == 0, closing


def test_closed_and_replaced_streams_here(monkeypatch):
    """The same holds in this process; a stream that is no file stays."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert finish("p", lambda: 0) == 0
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert finish("p", raising(ConfigurationError("x"))) == 2
    sys.stdout.close()
    sys.stderr.close()


def test_an_interrupt_before_and_after_ends_in_silence(monkeypatch):
    """Python's handler is set only for the body, in which a command can clean up."""
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    end_on_interrupt()
    signal.raise_signal(signal.SIGINT)
    assert ended == [EXIT_INTERRUPTED]
    assert finish("p", interrupted) == EXIT_INTERRUPTED
    assert ended == [EXIT_INTERRUPTED]
    signal.raise_signal(signal.SIGINT)
    assert ended == [EXIT_INTERRUPTED] * 2


def test_an_interrupt_that_is_ignored_stays_so():
    """The signal stays ignored, as for a background command of a shell."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_on_interrupt()
    assert finish("p", interrupted) == 0
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_priority_that_may_not_be_lowered_stops_nothing(monkeypatch):
    """The units of deploy/systemd forbid setpriority(2) with EPERM: the process goes on."""
    tried = []

    def refuse(nice):
        tried.append(nice)
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "nice", refuse)
    lower_priority(10)
    assert tried == [10]
