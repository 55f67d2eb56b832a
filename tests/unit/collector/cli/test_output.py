# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`-o FILE` writes a whole file or nothing, and no binary to a terminal."""

from __future__ import annotations

import errno
import io
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from veilleuse.collector.cli.output import refuse_terminal, write_output
from veilleuse.collector.cli.shared import plural
from veilleuse.collector.errors import CollectorError, UsageError


def test_a_file_is_written_with_the_usual_rights(tmp_path: Path):
    """A new file has the umask's rights; an existing one keeps its own."""
    os.umask(0o027)
    write_output(b"one", str(tmp_path / "report.csv"), binary=False)
    assert (tmp_path / "report.csv").read_bytes() == b"one"
    assert stat.S_IMODE((tmp_path / "report.csv").stat().st_mode) == 0o640
    (tmp_path / "report.csv").chmod(0o600)
    write_output(b"two", str(tmp_path / "report.csv"), binary=True)
    assert (tmp_path / "report.csv").read_bytes() == b"two"
    assert stat.S_IMODE((tmp_path / "report.csv").stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["report.csv"]


def test_what_was_there_stays_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """When the disk is full as the new file is synced, the old file stays, without a left-over."""
    (tmp_path / "report.csv").write_bytes(b"old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CollectorError, match=r"cannot write .*report\.csv': No space left on device"):
        write_output(b"new", str(tmp_path / "report.csv"), binary=False)
    assert (tmp_path / "report.csv").read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["report.csv"]


def test_a_directory_is_refused(tmp_path: Path):
    """A directory is wrong use, not a failure."""
    with pytest.raises(UsageError, match="is a directory"):
        write_output(b"x", str(tmp_path), binary=False)


def test_a_directory_that_is_not_there_is_told(tmp_path: Path):
    """The error gives reason and remedy."""
    with pytest.raises(CollectorError, match="No such file or directory; give another path"):
        write_output(b"x", str(tmp_path / "missing" / "report.csv"), binary=False)


def test_a_link_stays_a_link(tmp_path: Path):
    """The file behind the link is replaced."""
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_output(b"new", str(tmp_path / "link"), binary=False)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_a_device_is_written_to_not_replaced():
    """/dev/null stays a device."""
    write_output(b"x", "/dev/null", binary=True)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_standard_output_has_the_bytes(monkeypatch: pytest.MonkeyPatch):
    """Bytes are written unchanged whatever the stream's encoding."""
    bytes_ = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_, encoding="ascii"))
    write_output("é\r\n".encode(), "-", binary=False)
    write_output(b"\x00\xff", "-", binary=True)
    assert bytes_.getvalue() == b"\xc3\xa9\r\n\x00\xff"


@pytest.mark.parametrize("binary", [False, True])
def test_a_terminal_gets_text_only(binary: bool):
    """A real pseudo-terminal gets text; a binary format is refused before anything is computed."""
    leader, follower = pty.openpty()
    program = (
        "from veilleuse.collector.cli.output import refuse_terminal, write_output\n"
        f"refuse_terminal('-', binary={binary}); write_output(b'text', '-', binary={binary})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=follower, stderr=subprocess.PIPE, check=False
    )
    os.close(follower)
    try:
        said = os.read(leader, 100)
    except OSError:  # nothing was written, and the other side is closed
        said = b""
    os.close(leader)
    assert (done.returncode != 0) == binary
    assert said == (b"" if binary else b"text")
    assert (b"not for a terminal" in done.stderr) == binary


def test_a_file_may_be_binary_whatever_the_terminal(monkeypatch: pytest.MonkeyPatch):
    """Only standard output is checked."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    refuse_terminal("report.pdf", binary=True)
    with pytest.raises(UsageError):
        refuse_terminal("-", binary=True)


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 rows wait"), (1, "1 row waits"), (2, "2 rows wait"), (10, "10 rows wait")]
)
def test_a_number_and_its_noun(number, said):
    """One takes the singular, 0 and others the plural."""
    assert f"{number} {plural(number, 'row', 'wait')}" == said
    assert f"{number} {plural(number, 'row')}" == said.rpartition(" ")[0]
